"""Protocols that MOABB lacks, as MOABB evaluations, and `PooledTarget`, with which any pipeline can be evaluated.

Names are imported lazily, so that `PooledTarget` does not load MOABB.
"""

from .._lazy import attach

_PUBLIC = {
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
