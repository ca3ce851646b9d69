"""Explain fitted estimators: feature attributions of predictions, spatial patterns, and sanity checks of both.

`attribute` attributes a prediction to the channels and samples of the trial, with completeness: attributions sum to the
prediction, up to a reported error.
"""

from .attribution import Attribution, attribute
from .patterns import Patterns, haufe_patterns, spatial_patterns
from .plots import plot_adaptation, plot_curves, plot_image, plot_time_courses, plot_topomap
from .sanity_checks import Curves, cascading_randomisation, deletion_insertion, stability

__all__ = [
    "Attribution",
    "Curves",
    "Patterns",
    "attribute",
    "cascading_randomisation",
    "deletion_insertion",
    "haufe_patterns",
    "plot_adaptation",
    "plot_curves",
    "plot_image",
    "plot_time_courses",
    "plot_topomap",
    "spatial_patterns",
    "stability",
]
