"""BEIRA: the BOLD signal of deep structures from scalp EEG, with weights that can be read."""

from .baselines import BandPowerPLS, BandPowerRidge, RankOneRidge
from .bold import BOLDAligner, canonical_hrf, cut_volumes, match_volumes, volume_onsets
from .estimator import BEIRARegressor
from .evaluation import BlockedSplit, NullScores, null_scores, region_correlations, surrogate
from .many_to_one import BEIRAManyToOne
from .network import BEIRA, SharedBEIRA
from .simulation import SimulatedBOLD, simulate_bold

__all__ = [
    "BEIRA",
    "BEIRAManyToOne",
    "BEIRARegressor",
    "BOLDAligner",
    "BandPowerPLS",
    "BandPowerRidge",
    "BlockedSplit",
    "NullScores",
    "RankOneRidge",
    "SharedBEIRA",
    "SimulatedBOLD",
    "canonical_hrf",
    "cut_volumes",
    "match_volumes",
    "null_scores",
    "region_correlations",
    "simulate_bold",
    "surrogate",
    "volume_onsets",
]
