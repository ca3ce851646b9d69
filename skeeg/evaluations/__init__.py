"""Protocols that MOABB lacks, as ordinary MOABB evaluations, and what lets any pipeline take part in them.

Names are imported when they are asked for, so that `PooledTarget` can be used without loading MOABB.
"""

import importlib

_PUBLIC = {
    "CrossTaskDataset": "crosstask",
    "CrossTaskEvaluation": "crosstask",
    "CrossTaskSplitter": "crosstask",
    "DownstreamEvaluation": "downstream",
    "FewshotEvaluation": "fewshot",
    "FewshotSplitter": "fewshot",
    "PooledTarget": "pooling",
    "classification_scores": "corpora",
    "compare_with_paper": "downstream",
    "plot_fewshot": "fewshot",
    "run_corpus": "corpora",
    "run_downstream": "downstream",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name):
    """Import a public name the first time it is used."""
    if name in _PUBLIC:
        value = getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    """List the public names."""
    return sorted({*globals(), *_PUBLIC})
