"""Protocols that MOABB lacks, as MOABB evaluations, and two wrappers by which any pipeline uses target trials.

Names are imported lazily, so that `PooledTarget` and `BalancedTarget` do not load MOABB.
"""

import lazy_loader

_PUBLIC = {
    "protocols": [
        "CrossTaskDataset",
        "CrossTaskEvaluation",
        "CrossTaskSplitter",
        "FewshotEvaluation",
        "FewshotSplitter",
        "plot_fewshot",
    ],
    "published": [
        "DownstreamEvaluation",
        "DownstreamSplitter",
        "classification_scores",
        "run_corpus",
    ],
    "adaptation": ["BalancedTarget", "PooledTarget"],
}

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=_PUBLIC)
