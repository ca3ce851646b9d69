"""BEIRA: the BOLD signal of deep structures from scalp EEG, with interpretable weights."""

import lazy_loader

_PUBLIC = {
    "baselines": ["BandPowerPLS", "BandPowerRidge", "RankOneRidge"],
    "bold": ["BOLDAligner", "canonical_hrf", "match_volumes", "volume_onsets"],
    "datasets": ["EEGfMRI", "SimulatedBOLD", "read_cwl", "read_noddi", "region_signals", "simulate_bold"],
    "estimator": ["BEIRARegressor"],
    "network": ["BEIRA", "BEIRAManyToOne", "SharedBEIRA"],
    "plots": ["plot_branches", "plot_region_scores", "plot_traces", "top_branches"],
    "training": ["RECIPES", "BEIRARecipe"],
}  # fmt: skip

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=_PUBLIC)
