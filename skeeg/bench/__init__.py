"""Compare pipelines on datasets with MOABB, and report who wins.

`run` evaluates named pipelines with MOABB's evaluations and returns a table; `write_report` makes a web page and a
Markdown table of what a folder holds; `dask_cluster` spreads a run over a cluster. The command ``skeeg bench`` does all
three.
"""

import importlib

_PUBLIC = {"dask_cluster": "cluster", "run": "runner", "write_report": "report"}

__all__ = sorted(_PUBLIC)


def __getattr__(name):
    """Import a public name the first time it is used."""
    if name in _PUBLIC:
        value = getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
