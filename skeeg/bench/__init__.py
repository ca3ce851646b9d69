"""Compare pipelines on datasets with MOABB, and report scores and statistics.

`run` evaluates named pipelines with MOABB's evaluations and returns a table; `write_report` makes a web page and a
Markdown table of what a folder holds; `dask_cluster` spreads a run over a cluster. The command ``skeeg bench`` does all
three.
"""

import lazy_loader

_PUBLIC = {
    "jobs": ["dask_cluster"],
    "report": ["write_figures", "write_report"],
    "runner": ["run"],
}

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=_PUBLIC)
