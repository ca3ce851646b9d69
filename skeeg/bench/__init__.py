"""Compare pipelines on datasets with MOABB, and report scores and statistics.

`run` evaluates named pipelines with MOABB's evaluations and returns a table; `write_report` makes a web page and a
Markdown table of what a folder holds; `dask_cluster` spreads a run over a cluster. The command ``skeeg bench`` does all
three.
"""

from .._lazy import attach

_PUBLIC = {"dask_cluster": "compute", "run": "runner", "write_figures": "figures", "write_report": "report"}

__all__, __getattr__, __dir__ = attach(__name__, _PUBLIC)
