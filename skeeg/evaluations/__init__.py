"""Protocols that MOABB lacks, as MOABB evaluations, and two wrappers by which any pipeline uses target trials.

Names are imported lazily, so that `PooledTarget` and `BalancedTarget` do not load MOABB.
"""

from .._lazy import attach

_PUBLIC = {
    "CrossTaskDataset": "crosstask",
    "CrossTaskEvaluation": "crosstask",
    "CrossTaskSplitter": "crosstask",
    "DownstreamEvaluation": "downstream",
    "FewshotEvaluation": "fewshot",
    "FewshotSplitter": "fewshot",
    "BalancedTarget": "pooling",
    "PooledTarget": "pooling",
    "classification_scores": "corpora",
    "compare_with_paper": "downstream",
    "plot_fewshot": "fewshot",
    "run_corpus": "corpora",
    "run_downstream": "downstream",
}

__all__, __getattr__, __dir__ = attach(__name__, _PUBLIC)
