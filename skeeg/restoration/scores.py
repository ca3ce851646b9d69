"""Scores of imputation."""

import numpy as np
from scipy.signal import periodogram

from ..signals import BANDS


def normalised_error(X, restored, mask):
    r"""Error :math:`\lVert \hat x - x \rVert / \lVert x \rVert` over the missing samples, where ``mask`` is True.

    0 is perfect, 1 is that of zeros; NaN if nothing is missing. All have the shape (n_trials, n_channels, n_times).

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.restoration import normalised_error
    >>> normalised_error(np.full((1, 1, 4), 2.0), np.ones((1, 1, 4)), np.ones((1, 1, 4), bool))
    0.5
    """
    truth, found = (np.asarray(one, dtype=np.float64)[mask] for one in (X, restored))
    if not truth.size:
        return float("nan")
    return float(np.linalg.norm(found - truth) / max(np.linalg.norm(truth), np.finfo(float).tiny))


def correlation(X, restored, mask):
    """Mean over trials and electrodes of Pearson's correlation over the missing samples, where ``mask`` is True.

    0 for a constant, NaN if nothing is missing. All have the shape (n_trials, n_channels, n_times).

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.restoration import correlation
    >>> X = np.random.default_rng(0).standard_normal((2, 3, 50))
    >>> round(correlation(X, 0.1 * X + 3, np.ones(X.shape, bool)), 6)
    1.0
    """
    mask = np.asarray(mask)
    count = np.maximum(mask.sum(axis=2), 1)
    a, b = (np.where(mask, np.asarray(one, dtype=np.float64), 0) for one in (X, restored))
    a, b = (np.where(mask, one - (one.sum(axis=2) / count)[..., None], 0) for one in (a, b))
    norms = np.linalg.norm(a, axis=2) * np.linalg.norm(b, axis=2)
    sound = norms > 1e-12 * max(np.abs(a).max(), 1e-300) ** 2
    values = np.divide((a * b).sum(axis=2), norms, out=np.zeros_like(norms), where=sound)
    return float(values[mask.any(axis=2)].mean()) if mask.any() else float("nan")


def band_power_error(X, restored, mask, sfreq, bands=BANDS, seconds=1.0):
    r"""Error in the power of each band, :math:`\sum |\hat P - P| / \sum P`, over the completely missing segments.

    Segments last ``seconds``. 0 is perfect, 1 is that of zeros; NaN if none is missing completely. Bands above half the
    rate are left out.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.restoration import band_power_error
    >>> X = np.random.default_rng(0).standard_normal((2, 3, 400))
    >>> band_power_error(X, X / 2, np.ones(X.shape, bool), sfreq=200).round(6).tolist()
    [0.75, 0.75, 0.75, 0.75, 0.75]
    """
    length = int(round(seconds * sfreq))
    n_segments = mask.shape[2] // length
    if not n_segments:
        raise ValueError(f"seconds: trials of {mask.shape[2]} samples hold no segment of {length} samples.")

    def cut(values):
        return np.asarray(values)[..., : n_segments * length].reshape(*mask.shape[:2], n_segments, length)

    bands, whole = [band for band in bands if band[1] <= sfreq / 2], cut(mask).all(axis=3)
    if not whole.any():
        return np.full(len(bands), np.nan)
    parts = (np.asarray(cut(one)[whole], dtype=np.float64) for one in (X, restored))
    (frequencies, truth), (_, found) = (periodogram(part, sfreq, np.hanning(length)) for part in parts)
    errors = []
    for low, high in bands:
        rows = (frequencies >= low) & (frequencies < high)
        if rows.any():
            one, other = truth[:, rows].sum(axis=1), found[:, rows].sum(axis=1)
            errors.append(np.abs(other - one).sum() / max(one.sum(), np.finfo(float).tiny))
    return np.array(errors)


def restoration_scores(X, restored, mask, sfreq):
    """All three scores: ``error``, ``correlation`` and ``band_power_error``, the last one as the mean over bands.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.restoration import restoration_scores
    >>> X = np.random.default_rng(0).standard_normal((2, 3, 400))
    >>> restoration_scores(X, 0 * X, np.ones(X.shape, bool), sfreq=200)
    {'error': 1.0, 'correlation': 0.0, 'band_power_error': 1.0}
    """
    return {
        "error": normalised_error(X, restored, mask),
        "correlation": correlation(X, restored, mask),
        "band_power_error": float(np.mean(band_power_error(X, restored, mask, sfreq))),
    }
