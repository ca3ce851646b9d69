"""Explain fitted estimators: feature attributions of predictions, spatial patterns, and sanity checks of both.

`attribute` attributes a prediction to the channels and samples of the trial, with completeness: attributions sum to the
prediction, up to a reported error.
"""

from .attribute import attribute
from .attribution import Attribution
from .evaluation import Curves, cascading_randomisation, deletion_insertion, stability
from .patterns import Patterns, haufe_patterns, spatial_patterns
from .plots import plot_adaptation, plot_curves, plot_image, plot_time_courses, plot_topomap

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
