"""Protocols that MOABB lacks, as MOABB evaluations, and two wrappers by which any pipeline uses target trials.

Names are imported lazily, so that `PooledTarget` and `BalancedTarget` do not load MOABB.
"""

from .._lazy import attach

_PUBLIC = {
    "BalancedTarget": "pooling",
    "CrossTaskDataset": "protocols",
    "CrossTaskEvaluation": "protocols",
    "CrossTaskSplitter": "protocols",
    "DownstreamEvaluation": "published",
    "FewshotEvaluation": "protocols",
    "FewshotSplitter": "protocols",
    "PooledTarget": "pooling",
    "classification_scores": "published",
    "compare_with_paper": "published",
    "plot_fewshot": "protocols",
    "run_corpus": "published",
    "run_downstream": "published",
}

__all__, __getattr__, __dir__ = attach(__name__, _PUBLIC)
