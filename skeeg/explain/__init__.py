"""What a fitted estimator looks at: attributions of predictions, patterns of weights, and tests of both.

`attribute` shares a prediction out to the electrodes and samples of the trial; what it gives sums to the prediction,
and says by how much it does not.
"""

from .attributing import attribute
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
