"""Imputation of missing samples and bad channels: masks, baseline imputers and scores.

The imputers are transformers like those of scikit-learn: NaN, or a mask, marks missing samples, and observed samples
are unchanged. They are the baselines of learned restoration: interpolation over channels (`SplineInterpolation`),
interpolation over time (`TimeInterpolation`), a low-rank model of the channels (`LowRankCompletion`), and one that
restores gaps in all channels too (`WienerInterpolation`).
"""

import lazy_loader

_PUBLIC = {
    "imputers": ["LOSSES", "Imputer", "LowRankCompletion", "SplineInterpolation", "TimeInterpolation",
                 "WienerInterpolation", "draw_mask", "find_lost"],
    "scores": ["band_power_error", "correlation", "normalised_error", "restoration_scores"],
}  # fmt: skip

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=_PUBLIC)
