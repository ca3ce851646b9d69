"""BEIRA: the BOLD signal of deep structures from scalp EEG, with interpretable weights."""

from .baselines import BandPowerPLS, BandPowerRidge, RankOneRidge
from .bold import BOLDAligner, canonical_hrf, cut_volumes, match_volumes, volume_onsets
from .datasets import EEGfMRI, SimulatedBOLD, read_cwl, read_noddi, region_signals, simulate_bold
from .estimator import BEIRARegressor
from .network import BEIRA, BEIRAManyToOne, SharedBEIRA
from .plots import (
    plot_branches,
    plot_frequency_patterns,
    plot_region_scores,
    plot_spatial_patterns,
    plot_traces,
    top_branches,
)
from .strategies import RECIPES, BEIRARecipe

__all__ = [
    "BEIRA",
    "BEIRAManyToOne",
    "BEIRARecipe",
    "BEIRARegressor",
    "BOLDAligner",
    "BandPowerPLS",
    "BandPowerRidge",
    "EEGfMRI",
    "RECIPES",
    "RankOneRidge",
    "SharedBEIRA",
    "SimulatedBOLD",
    "canonical_hrf",
    "cut_volumes",
    "match_volumes",
    "plot_branches",
    "plot_frequency_patterns",
    "plot_region_scores",
    "plot_spatial_patterns",
    "plot_traces",
    "read_cwl",
    "read_noddi",
    "region_signals",
    "simulate_bold",
    "top_branches",
    "volume_onsets",
]
