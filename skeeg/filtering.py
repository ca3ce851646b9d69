"""Filters, resampling and padding: steps from trials to trials of any length.

The designs of the filters and the treatment of the edges are mne's; all trials and channels are filtered together
(`skeeg.signals`), which gives equal results many times faster.
"""

from itertools import pairwise
from numbers import Integral, Real

import numpy as np
from sklearn.base import clone
from sklearn.utils import get_tags
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

from .base import EEGTransformer, warn
from .signals import filter_trials, resample_trials

_METHOD = [StrOptions({"fir", "iir"})]
_ABOVE_0 = Interval(Real, 0, None, closed="neither")


class _OneFilter(EEGTransformer):
    """Base of `BandPass` and `Notch`: one filter, designed by `_design` for the rate of the data."""

    linear_map_ = "time"
    phase = "zero"

    def _prepare(self, X, y):
        self.coefficients_, self.n_edge_ = self._design(_sampling_rate(self, X))
        _warn_if_short(self, [self.coefficients_], X.shape[2])

    def _run(self, X):
        if X.shape[2] != self.n_times_in_:
            _warn_if_short(self, [self.coefficients_], X.shape[2])
        is_causal = self.phase != "zero"
        return X.like(filter_trials(np.asarray(X), [self.coefficients_], [self.n_edge_], is_causal)[:, 0])


class BandPass(_OneFilter):
    """Band-pass, low-pass or high-pass filter, equal to `mne.filter.filter_data`.

    Parameters
    ----------
    l_freq, h_freq : float or None
        Edges of the pass band in hertz; None leaves one open (low-pass, high-pass).
    method : "fir" | "iir"
        "fir": windowed-sinc filter (Hamming, ``firwin``). "iir": Butterworth filter in second-order sections.
    phase : str
        "zero" (default), for "fir" also "minimum", for "iir" also "forward": these are causal, as an online decoder
        must be.
    order : int
        Order of the Butterworth filter ("iir" only); with ``phase="zero"`` it is applied twice.
    l_trans_bandwidth, h_trans_bandwidth
        Transitions in hertz ("fir" only), as in mne; the length of the kernel follows from them.
    sfreq : float or None
        Sampling rate in hertz, needed where X does not carry its own.

    Attributes
    ----------
    coefficients_ : ndarray, shape (n_taps,) or (n_sections, 6)
        Kernel of the "fir" filter, or second-order sections of the "iir" filter.
    n_edge_ : int
        Samples by which each end of a trial is continued ("iir" only).

    Notes
    -----
    The ends of a trial are continued by odd reflection, :math:`x_{-k} = 2 x_0 - x_k`, and by zeros beyond one length of
    the signal (mne's ``reflect_limited``). A filter longer than the trial distorts it, with a warning.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.filtering import BandPass
    >>> t = np.arange(1000) / 250
    >>> X = np.stack([np.sin(2 * np.pi * 10 * t), np.sin(2 * np.pi * 60 * t)])[None]
    >>> BandPass(8, 30, sfreq=250).fit_transform(X)[0, :, 200:800].std(axis=1).round(2).tolist()
    [0.71, 0.0]
    """

    _parameter_constraints = {
        "l_freq": [Real, None],
        "h_freq": [Real, None],
        "method": _METHOD,
        "phase": [StrOptions({"zero", "minimum", "forward"})],
        "l_trans_bandwidth": [_ABOVE_0, StrOptions({"auto"})],
        "h_trans_bandwidth": [_ABOVE_0, StrOptions({"auto"})],
    }

    def __init__(
        self,
        l_freq=8.0,
        h_freq=30.0,
        method="fir",
        phase="zero",
        order=4,
        l_trans_bandwidth="auto",
        h_trans_bandwidth="auto",
        sfreq=None,
    ):
        self.l_freq = l_freq
        self.h_freq = h_freq
        self.method = method
        self.phase = phase
        self.order = order
        self.l_trans_bandwidth = l_trans_bandwidth
        self.h_trans_bandwidth = h_trans_bandwidth
        self.sfreq = sfreq

    def _design(self, sfreq):
        _check_band(self.l_freq, self.h_freq, sfreq)
        widths = self.l_trans_bandwidth, self.h_trans_bandwidth
        return _design(sfreq, self.l_freq, self.h_freq, self.method, self.phase, self.order, *widths)


class Notch(_OneFilter):
    """Remove narrow bands, such as the mains hum, equal to `mne.filter.notch_filter`.

    Parameters
    ----------
    freqs : float or tuple of float
        Frequencies to remove, in hertz.
    notch_widths : float, tuple of float or None
        Width of each stop band in hertz; None means a 200th of its frequency.
    trans_bandwidth : float
        Width of the transition around each stop band in hertz. At the default a "fir" kernel lasts 6.6 s: widen it for
        shorter trials, or use "iir".
    method : "fir" | "iir"
        "fir": windowed-sinc filter. "iir": Butterworth filters of order 4, one for each frequency.
    sfreq : float or None
        Sampling rate in hertz, needed where X does not carry its own.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.filtering import Notch
    >>> t = np.arange(2000) / 250
    >>> X = np.stack([np.sin(2 * np.pi * 10 * t), np.sin(2 * np.pi * 50 * t)])[None]
    >>> Notch(50, method="iir", sfreq=250).fit_transform(X)[0, :, 500:1500].std(axis=1).round(2).tolist()
    [0.71, 0.0]
    """

    _parameter_constraints = {
        "freqs": [_ABOVE_0, tuple, list, np.ndarray],
        "notch_widths": [_ABOVE_0, tuple, list, np.ndarray, None],
        "trans_bandwidth": [_ABOVE_0],
        "method": _METHOD,
    }

    def __init__(self, freqs=50.0, notch_widths=None, trans_bandwidth=1.0, method="fir", sfreq=None):
        self.freqs = freqs
        self.notch_widths = notch_widths
        self.trans_bandwidth = trans_bandwidth
        self.method = method
        self.sfreq = sfreq

    def _design(self, sfreq):
        """One kernel with all stop bands, or the second-order sections of all of them."""
        freqs = _positive("freqs", self.freqs)
        widths = freqs / 200 if self.notch_widths is None else _positive("notch_widths", self.notch_widths)
        if len(widths) not in (1, len(freqs)):
            raise ValueError(f"notch_widths: {len(widths)} widths for {len(freqs)} frequencies.")
        half = self.trans_bandwidth / 2
        lows, highs = freqs - widths / 2 - half, freqs + widths / 2 + half
        if lows.min() <= 0 or highs.max() >= sfreq / 2:
            raise ValueError(
                f"freqs: the stop bands must lie between 0 and {sfreq / 2:g} Hz, half the sampling rate; with their "
                f"transitions they reach from {lows.min():g} to {highs.max():g} Hz."
            )
        if self.method == "fir":
            return _design(sfreq, highs, lows, "fir", "zero", 4, half, half)
        parts = [_design(sfreq, [high], [low], self.method, "zero", 4) for low, high in zip(lows, highs, strict=True)]
        return np.concatenate([sections for sections, _ in parts]), max(n_edge for _, n_edge in parts)


class FilterBank(EEGTransformer):
    """Several band-pass filters in parallel, and optionally one estimator on each band.

    Parameters
    ----------
    bands : tuple of (float, float)
        Pass bands in hertz.
    estimator : transformer or None
        Fitted to each band separately; features of all bands are concatenated (FBCSP with a CSP [1]_). None gives the
        filtered signals.
    method, order
        As in `BandPass`.
    sfreq : float or None
        Sampling rate in hertz, needed where X does not carry its own.

    Attributes
    ----------
    coefficients_, n_edges_ : tuple of ndarray and tuple of int, length n_bands
        As `BandPass.coefficients_` and `BandPass.n_edge_`, for each band.
    estimators_ : list, length n_bands, or None
        The estimator fitted to each band.

    Notes
    -----
    Without an estimator the output has shape (n_trials, n_bands * n_channels, n_times): all channels of the first
    band, named "C3 8-12 Hz", then all of the second; MOABB's filter-bank paradigms add a fourth axis instead. Each band
    equals `BandPass` exactly, but the forward Fourier transform is shared.

    References
    ----------
    .. [1] Ang et al., Filter Bank Common Spatial Pattern (FBCSP) in brain-computer interface, IJCNN 2008.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.filtering import FilterBank
    >>> from skeeg.spatial import CSP
    >>> X, y = np.random.default_rng(0).standard_normal((20, 3, 500)), np.arange(20) % 2
    >>> bank = FilterBank(((8, 12), (12, 16)), CSP(2), sfreq=250)
    >>> bank.fit_transform(X, y).shape  # FBCSP continues with SelectKBest(mutual_info_classif) and LDA
    (20, 4)
    """

    _parameter_constraints = {"estimator": [HasMethods(["fit", "transform"]), None], "method": _METHOD}

    def __init__(
        self,
        bands=((4, 8), (8, 12), (12, 16), (16, 20), (20, 24), (24, 28), (28, 32), (32, 36), (36, 40)),
        estimator=None,
        method="fir",
        order=4,
        sfreq=None,
    ):
        self.bands = bands
        self.estimator = estimator
        self.method = method
        self.order = order
        self.sfreq = sfreq

    @property
    def _feature_names(self):
        """Names of the features of all bands; filtered trials are none."""
        if self.estimator is None:
            return None
        return lambda: _band_names(self.estimators_[0].get_feature_names_out(), self.bands)

    def __sklearn_tags__(self):
        """Pass on the requirements of the inner estimator."""
        tags = super().__sklearn_tags__()
        if self.estimator is not None:
            tags.target_tags.required = get_tags(self.estimator).target_tags.required
            tags.transformer_tags.preserves_dtype = []
        return tags

    def _prepare(self, X, y):
        sfreq = _sampling_rate(self, X)
        designs = []
        for l_freq, h_freq in _as_bands(self.bands):
            _check_band(l_freq, h_freq, sfreq, "bands")
            designs.append(_design(sfreq, l_freq, h_freq, self.method, "zero", self.order))
        self.coefficients_, self.n_edges_ = map(tuple, zip(*designs, strict=True))
        _warn_if_short(self, self.coefficients_, X.shape[2])
        self.estimators_ = None
        if self.estimator is not None:
            self.estimators_ = [clone(self.estimator).fit(band, y) for band in self._each_band(X)]

    def _run(self, X):
        if X.shape[2] != self.n_times_in_:
            _warn_if_short(self, self.coefficients_, X.shape[2])
        if self.estimators_ is not None:
            pairs = zip(self.estimators_, self._each_band(X), strict=True)
            return np.concatenate([estimator.transform(band) for estimator, band in pairs], axis=1)
        data = filter_trials(np.asarray(X), self.coefficients_, self.n_edges_)
        return X.like(data.reshape(len(X), -1, X.shape[2]), ch_names=_band_names(X.ch_names, self.bands))

    def _each_band(self, X):
        """Trials in one band after the other: all at once would take n_bands times the memory."""
        for coefficients, n_edge in zip(self.coefficients_, self.n_edges_, strict=True):
            yield X.like(filter_trials(np.asarray(X), [coefficients], [n_edge])[:, 0])


class Resample(EEGTransformer):
    r"""Change the sampling rate in the Fourier domain, in the manner of `mne.filter.resample`.

    Parameters
    ----------
    sfreq_out : float
        Wanted sampling rate in hertz.
    npad : int
        Samples by which each end of a trial is continued before the transform, at least.
    sfreq : float or None
        Sampling rate in hertz, needed where X does not carry its own.

    Notes
    -----
    A trial of n samples gets :math:`\max(1, \mathrm{round}(n \cdot f_{out} / f_{in}))`; frequencies above the new
    Nyquist rate are cut off. Results equal mne's where ``npad * sfreq_out / sfreq`` and the number of new samples are
    whole; elsewhere mne's are up to half a new sample late or early, because it rounds both.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.filtering import Resample
    >>> X = Resample(128, sfreq=250).fit_transform(np.random.default_rng(0).standard_normal((2, 3, 1000)))
    >>> X.shape, X.sfreq
    ((2, 3, 512), 128.0)
    """

    _any_rate = True
    linear_map_ = "time"
    _parameter_constraints = {
        "sfreq_out": [Interval(Real, 0, 1e6, closed="right")],  # required
        "npad": [Interval(Integral, 0, 10**6, closed="both")],
    }

    def __init__(self, sfreq_out=128.0, npad=100, sfreq=None):
        self.sfreq_out = sfreq_out
        self.npad = npad
        self.sfreq = sfreq

    def _prepare(self, X, y):
        _sampling_rate(self, X)

    def _run(self, X):
        rate = self.sfreq_in_ if X.sfreq is None else X.sfreq
        if rate == self.sfreq_out:
            return X.like(X, sfreq=rate)
        return X.like(resample_trials(np.asarray(X), float(self.sfreq_out) / rate, self.npad), sfreq=self.sfreq_out)


class PadToMultiple(EEGTransformer):
    """Zero-pad trials to a multiple of `multiple` samples, for networks that split a trial into patches.

    A remainder of less than a tenth of a patch is cut off instead.
    """

    linear_map_ = "space"
    _parameter_constraints = {"multiple": [Interval(Integral, 1, None, closed="left")]}

    def __init__(self, multiple=200):
        self.multiple = multiple

    def _run(self, X):
        n_times = X.shape[2]
        rest = n_times % self.multiple
        if rest == 0:
            return X
        if n_times > self.multiple and rest < self.multiple / 10:  # rather than a patch of zeros
            return X.like(np.asarray(X)[:, :, : n_times - rest])
        return X.like(np.pad(np.asarray(X), ((0, 0), (0, 0), (0, self.multiple - rest))))


def at_rate(X, rate):
    """Resample an EEGArray to a rate in hertz; unchanged where either rate is unknown."""
    if rate is None or X.sfreq is None or X.sfreq == rate:
        return X
    return Resample(rate).fit(X).transform(X)


def _sampling_rate(estimator, X):
    """Rate of the trials, which must be known and that of the constructor."""
    name = type(estimator).__name__
    if X.sfreq is None:
        how = f"pass {name}(sfreq=...), or trials that carry theirs (in MOABB: return_epochs=True)"
        raise ValueError(f"sfreq: X carries no sampling rate; {how}.")
    if estimator.sfreq is not None and X.sfreq != estimator.sfreq:
        raise ValueError(f"sfreq: {name}(sfreq={estimator.sfreq:g}), but X was sampled at {X.sfreq:g} Hz.")
    return X.sfreq


def _positive(name, values):
    """Numbers above 0 as a vector."""
    try:
        values = np.atleast_1d(np.asarray(values, dtype=float))
    except (TypeError, ValueError):
        raise ValueError(f"{name}: expected hertz, got {values!r}.") from None
    if values.ndim != 1 or not len(values) or not ((values > 0) & np.isfinite(values)).all():
        raise ValueError(f"{name}: expected one or more numbers of hertz above 0, got {values.tolist()!r}.")
    return values


def _as_bands(bands):
    """Pass bands as pairs."""
    sequence = tuple | list | np.ndarray
    pairs = [tuple(one) if isinstance(one, sequence) else () for one in bands] if isinstance(bands, sequence) else []
    if not pairs or any(len(pair) != 2 or not all(e is None or isinstance(e, Real) for e in pair) for pair in pairs):
        raise ValueError(f"bands: expected pairs of frequencies such as ((8, 12), (12, 16)), got {bands!r}.")
    return pairs


def _band_names(ch_names, bands):
    """Names of the channels of each band, such as "C3 8-12 Hz"."""
    labels = [
        f"below {high:g} Hz" if low is None else f"above {low:g} Hz" if high is None else f"{low:g}-{high:g} Hz"
        for low, high in bands
    ]
    return None if ch_names is None else [f"{name} {label}" for label in labels for name in ch_names]


def _check_band(l_freq, h_freq, sfreq, argument="l_freq, h_freq"):
    """Refuse edges that are no band at this rate."""
    edges = [freq for freq in (l_freq, h_freq) if freq is not None]
    if not edges or not all(low < high for low, high in pairwise([0, *edges, sfreq / 2])):
        raise ValueError(
            f"{argument}: got {l_freq} and {h_freq}, expected one or two ascending edges above 0 Hz and below "
            f"{sfreq / 2:g} Hz, half the sampling rate of {sfreq:g} Hz (None leaves an edge open)."
        )


def _design(sfreq, l_freq, h_freq, method, phase, order, l_trans="auto", h_trans="auto"):
    """Coefficients of mne's filter, and the samples by which an IIR filter continues each end."""
    from mne.filter import create_filter

    iir_params = None if method == "fir" else {"order": order, "ftype": "butter", "output": "sos"}
    try:
        made = create_filter(
            None, sfreq, l_freq, h_freq, "auto", l_trans, h_trans, method, iir_params, phase, verbose="error"
        )
    except (RuntimeError, TypeError, ValueError) as error:  # mne's message may name none of the parameters
        given = f"method={method!r}, phase={phase!r}, order={order}"
        raise ValueError(f"{given}: no such filter can be designed: {error}") from error
    if method == "iir":
        return made["sos"], int(made["padlen"]) if phase != "forward" else 0
    return made, 0


def _warn_if_short(estimator, filters, n_times):
    """Warn where a kernel is longer than the trials, as mne does."""
    n_taps = max([len(one) for one in filters if one.ndim == 1], default=0)
    if n_taps > n_times:
        warn(
            f"{type(estimator).__name__}: the filter has {n_taps} taps but the trials only {n_times} samples, so they "
            'will be distorted. Filter longer signals, allow wider transitions, or use method="iir".'
        )
