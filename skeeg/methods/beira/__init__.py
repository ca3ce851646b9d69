"""BEIRA: the BOLD signal of deep structures from scalp EEG, with weights that can be read."""

from .estimator import BEIRARegressor
from .evaluation import BlockedSplit, NullScores, null_scores, region_correlations, surrogate
from .network import BEIRA, BEIRAManyToOne, SharedBEIRA

__all__ = [
    "BEIRA",
    "BEIRAManyToOne",
    "BEIRARegressor",
    "BlockedSplit",
    "NullScores",
    "SharedBEIRA",
    "null_scores",
    "region_correlations",
    "surrogate",
]
