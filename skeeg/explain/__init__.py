"""Explain fitted estimators: feature attributions of predictions, spatial patterns, and sanity checks of both.

`attribute` attributes a prediction to the channels and samples of the trial, with completeness: attributions sum to the
prediction, up to a reported error.
"""

import lazy_loader

_PUBLIC = {
    "attribution": ["Attribution", "attribute"],
    "patterns": ["Patterns", "haufe_patterns", "spatial_patterns"],
    "plots": ["plot_adaptation", "plot_curves", "plot_image", "plot_time_courses", "plot_topomap"],
    "sanity_checks": ["Curves", "cascading_randomisation", "deletion_insertion", "stability"],
}

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=_PUBLIC)
