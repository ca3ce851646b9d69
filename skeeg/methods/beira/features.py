"""Band powers of EEG with lags: what linear regressions of BOLD are made of."""

import numpy as np

BANDS = ((1.0, 4.0), (4.0, 8.0), (8.0, 13.0), (13.0, 30.0), (30.0, 45.0))
"""Delta, theta, alpha, beta and low gamma, in hertz."""


def band_powers(X, sfreq, bands=BANDS, step=0.5, width=2.0):
    """Logarithm of the power in bands, at even steps of time.

    Parameters
    ----------
    X : ndarray, shape (n_trials, n_channels, n_times)
        EEG.
    sfreq : float
        Sampling rate in hertz.
    bands : sequence of (float, float)
        Lower and upper edge of each band in hertz. Bands above half the sampling rate hold nothing.
    step : float
        Seconds between two values.
    width : float
        Seconds of the Hann window around each; beyond the ends the signal is mirrored.

    Returns
    -------
    powers : ndarray, shape (n_trials, n_channels, n_bands, n_steps)
        Natural logarithms.
    samples : ndarray of int, shape (n_steps,)
        Sample in the middle of each window.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.methods.beira.features import band_powers
    >>> t = np.arange(1000) / 100
    >>> powers, samples = band_powers(np.sin(2 * np.pi * 10 * t)[None, None], 100.0)
    >>> powers.shape, int(powers[0, 0, :, 5].argmax())
    ((1, 1, 5, 20), 2)
    """
    X = np.asarray(X, dtype=np.float64)
    n_times, n_window = X.shape[2], max(int(width * sfreq), 2)
    hop = max(round(step * sfreq), 1)
    samples = np.arange(0, n_times, hop)
    padded = np.pad(X, ((0, 0), (0, 0), (n_window // 2, n_window)), mode="symmetric")
    window = np.hanning(n_window + 2)[1:-1]
    masks = _band_masks(np.fft.rfftfreq(n_window, 1 / sfreq), bands)
    segments = np.lib.stride_tricks.sliding_window_view(padded, n_window, axis=2)[:, :, samples]
    powers = np.empty((*X.shape[:2], len(masks), len(samples)))
    for trial in range(len(X)):  # bounds the memory of the spectra
        for channel in range(X.shape[1]):
            spectra = np.abs(np.fft.rfft(segments[trial, channel] * window, axis=1)) ** 2
            powers[trial, channel] = masks @ spectra.T
    return np.log(powers + 1e-12 * max(powers.mean(), 1e-12)), samples


def _band_masks(freqs, bands):
    """Rows that average the bins of each band."""
    masks = np.array([(freqs >= low) & (freqs < high) for low, high in bands], dtype=float)
    return masks / np.maximum(masks.sum(axis=1, keepdims=True), 1)


def with_lags(features, lags):
    """Lay features of earlier steps beside those of each step.

    Parameters
    ----------
    features : ndarray, shape (..., n_steps)
        Features.
    lags : sequence of int
        Steps back; what lies before the start is taken to be as at the start, after the end as at the end.

    Returns
    -------
    lagged : ndarray, shape (n_steps, n_lags, ...)
        ``lagged[t, l]`` is ``features[..., t - lags[l]]``.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.methods.beira.features import with_lags
    >>> with_lags(np.arange(4), (0, 2)).tolist()
    [[0, 0], [1, 0], [2, 0], [3, 1]]
    """
    n_steps = features.shape[-1]
    index = np.clip(np.arange(n_steps)[:, None] - np.asarray(lags), 0, n_steps - 1)
    return np.moveaxis(features, -1, 0)[index]
