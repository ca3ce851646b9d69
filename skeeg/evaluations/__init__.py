"""Protocols that MOABB lacks, as ordinary MOABB evaluations, and what lets any pipeline take part in them.

Names are imported when they are asked for, so that `PooledTarget` can be used without loading MOABB.
"""

from .._lazy import attach

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

__all__, __getattr__, __dir__ = attach(__name__, _PUBLIC)
