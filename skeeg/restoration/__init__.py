"""Lost signal: what is lost, three plain ways to restore it, and how well a restoration does.

The three ways are transformers in the manner of scikit-learn's imputers: NaN, or a mask, says what is lost, and all
else comes back as it was, to the bit. They are what any cleverer restoration has to beat: the neighbours on the head at
the same moment (`SplineInterpolation`), the same electrode before and after (`TimeInterpolation`), and what the
electrodes have in common in the recordings of the fit (`LowRankCompletion`).
"""

from .masks import LOSSES, draw_mask, find_lost
from .scores import BANDS, band_power_error, correlation, normalised_error, restoration_scores
from .transformers import Imputer, LowRankCompletion, SplineInterpolation, TimeInterpolation

__all__ = [
    "BANDS",
    "LOSSES",
    "Imputer",
    "LowRankCompletion",
    "SplineInterpolation",
    "TimeInterpolation",
    "band_power_error",
    "correlation",
    "draw_mask",
    "find_lost",
    "normalised_error",
    "restoration_scores",
]
