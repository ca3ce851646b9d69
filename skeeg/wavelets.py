"""Envelopes of frequency bands by Morlet wavelets."""

import numpy as np
from scipy.signal import oaconvolve
from sklearn.utils._param_validation import StrOptions

from .base import EEGTransformer
from .filtering import _as_bands, _band_names

DEFAULT_RATE = 220.0
"""Sampling rate in hertz where it is unknown: that of the published recordings."""

_SUPPORT, _STEPS = 8.0, 2**12  # periods on each side of the wavelet's centre, and points of its integral
_BANDWIDTH = 1.5
_FREQS = np.logspace(0, 2, 60)
_AT_ONCE = 2**22  # samples of one chunk of trials, which bounds the memory


class WaveletBands(EEGTransformer):
    r"""Band envelopes: the mean magnitude of the Morlet wavelet coefficients in each band, at every sample.

    .. math::
        b(t) = \log\Bigl(1 + \frac{1}{|F|} \sum_{f \in F}
            \Bigl|\int x(u)\, \sqrt{f}\, \psi^*(f (u - t))\, du\Bigr|\Bigr), \qquad
        \psi(v) = \frac{e^{-v^2 / B}\, e^{2 \pi i v}}{\sqrt{\pi B}}

    with F the frequencies of the band out of 60 from 1 to 100 Hz, evenly spaced on a logarithmic scale and below half
    the sampling rate, and B = 1.5 as published (the wavelet has a standard deviation of :math:`\sqrt{B / 2}` periods).

    Parameters
    ----------
    bands : tuple of (float, float)
        Hertz, edges included; None leaves an edge open.
    scale : {"minmax", None}
        Scale each channel and band to 0 to 1, by the extremes of the trials given to fit.
    joined : bool
        Whether the trials of each run follow each other without a gap: then envelopes are those of the whole run.
    sfreq : float or None
        Sampling rate in hertz, where X does not carry it; unknown rates are taken to be 220 Hz.

    Attributes
    ----------
    min_, max_ : ndarray, shape (n_bands * n_channels,), or None
        Extremes of the envelopes at fit.

    Notes
    -----
    The output has shape (n_trials, n_bands * n_channels, n_times), all channels of the first band first, named
    "Cz 8-13 Hz". Coefficients are PyWavelets' for ``cmor1.5-1.0``. The published code gave a rate of 275 Hz for
    recordings at 220 Hz, so that its bands lie at four fifths of their names; ``sfreq=275`` repeats that.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg import WaveletBands
    >>> t = np.arange(1000) / 250
    >>> X = np.stack([np.sin(2 * np.pi * 10 * t), np.sin(2 * np.pi * 20 * t)])[None]
    >>> bands = WaveletBands(scale=None, sfreq=250).fit_transform(X)[0, :, 500].reshape(3, 2)
    >>> bands.argmax(axis=0).tolist()  # the first channel is alpha, the second beta
    [0, 1]
    """

    _parameter_constraints = {"scale": [StrOptions({"minmax"}), None]}

    def __init__(self, bands=((8, 13), (13, 30), (30, 100)), scale="minmax", joined=False, sfreq=None):
        self.bands = bands
        self.scale = scale
        self.joined = joined
        self.sfreq = sfreq

    def _prepare(self, X, y):
        self.min_ = self.max_ = None
        if self.scale == "minmax":
            envelopes = self._envelopes(X)
            self.min_, self.max_ = envelopes.min(axis=(0, 2)), envelopes.max(axis=(0, 2))
        else:
            self._frequencies(X)

    def _run(self, X):
        envelopes = self._envelopes(X)
        if self.min_ is not None:
            span = np.where(self.max_ > self.min_, self.max_ - self.min_, 1.0)
            envelopes = (envelopes - self.min_[:, None]) / span[:, None]
        return X.like(envelopes.astype(X.dtype), ch_names=_band_names(X.ch_names, self.bands))

    def _frequencies(self, X):
        """Frequencies of each band in cycles a sample."""
        rate = DEFAULT_RATE if X.sfreq is None else X.sfreq
        chosen = []
        for start, stop in _as_bands(self.bands):
            start, stop = start or _FREQS[0], stop or _FREQS[-1]  # None leaves an edge open
            inside = _FREQS[(_FREQS >= start) & (_FREQS <= stop) & (_FREQS <= rate / 2)]
            if not len(inside):
                span = f"{start:g} to {stop:g} Hz and below {rate / 2:g} Hz"
                raise ValueError(f"bands: none of the {len(_FREQS)} frequencies lies in {span}.")
            chosen.append(tuple(inside / rate))
        return chosen

    def _envelopes(self, X):
        """Envelopes before any scaling, float64."""
        bands = self._frequencies(X)
        data = np.asarray(X, dtype=np.float64)
        if self.joined:
            envelopes = np.empty((len(data), len(bands) * data.shape[1], data.shape[2]))
            for rows in _runs(X):
                whole = self._of(data[rows].transpose(1, 0, 2).reshape(1, data.shape[1], -1), bands)[0]
                envelopes[rows] = whole.reshape(len(whole), len(rows), -1).transpose(1, 0, 2)
        else:
            envelopes = self._of(data, bands)
        return np.log1p(envelopes)

    def _of(self, data, bands):
        """Mean magnitude of the coefficients of each band, shape (n_trials, n_bands * n_channels, n_times)."""
        n_trials, n_channels, n_times = data.shape
        out = np.zeros((n_trials, len(bands), n_channels, n_times))
        step = max(1, _AT_ONCE // (n_channels * n_times))
        for start in range(0, n_trials, step):
            part = slice(start, start + step)
            for band, frequencies in enumerate(bands):
                for frequency in frequencies:
                    kernel = morlet(frequency)[None, None, :]
                    found = oaconvolve(data[part], kernel, mode="same", axes=2)
                    out[part, band] += np.abs(found) / len(frequencies)
        return out.reshape(n_trials, -1, n_times)


def morlet(frequency):
    """Weights (n_weights,) with which a complex Morlet wavelet of a frequency is convolved, equal to PyWavelets'.

    It sums the wavelet up at fixed points and takes differences of the sum at the point before each sample's edge.
    """
    period = 1.0 / frequency
    points = np.linspace(-_SUPPORT, _SUPPORT, _STEPS)
    step = points[1] - points[0]
    wavelet = np.exp(-(points**2) / _BANDWIDTH + 2j * np.pi * points) / np.sqrt(np.pi * _BANDWIDTH)
    total = np.conj(np.cumsum(wavelet) * step)
    edges = (np.arange(period * 2 * _SUPPORT + 1) / (period * step)).astype(int)
    sampled = total[edges[edges < _STEPS]][::-1]
    return -np.sqrt(period) * np.diff(sampled, prepend=0, append=0)


def _runs(X):
    """Trials of each run, in their order."""
    if X.domains is None:
        return [np.arange(len(X))]
    names = np.array(["\0".join(record) for record in X.domains.tolist()])
    return [np.flatnonzero(names == name) for name in dict.fromkeys(names)]
