"""Preprocessing: recordings on the electrodes, at the rate and in the band of the network; alignment; mirroring."""

import re

import numpy as np
from scipy import signal
from sklearn.utils.validation import check_is_fitted

from ...alignment import EuclideanAlignment, RiemannianAlignment
from ...base import EEGTransformer
from ...electrodes import standard_montage
from ...montage import ChannelTemplate, find_electrodes

_REFERENCES = ("picked", "all", None)
_FEWEST = 8  # trials from which on_unseen="own" trusts a block to be its own reference
ALIGNMENTS = {"euclidean": EuclideanAlignment, "riemannian": RiemannianAlignment, None: None}


class Harmonise(EEGTransformer):
    """Bring trials of any recording to one form: 20 electrodes, 500 Hz, 8-30 Hz [1]_.

    In this order: window, average reference over all electrodes, electrodes of the template (those that were not
    recorded are interpolated by spherical splines), average reference over these, Fourier resampling, zero-phase
    Butterworth band-pass of each trial.

    Parameters
    ----------
    template : str, tuple of str or None
        Electrodes, see `skeeg.montage.ChannelTemplate`; None keeps those there are.
    sfreq_out : float or None
        Sampling rate of the result in hertz; None keeps it.
    band : tuple of two floats or None
        Edges in hertz of the band-pass; None leaves the trials as they are.
    window : tuple of two floats or None
        Seconds from the first sample of the trial, the end not included; None takes the whole trial.
    reference : {"picked", "all", None}
        Average reference over the electrodes of the template, or over all that were recorded, or none.
    order : int
        Order of the Butterworth design.
    ch_names : tuple of str or None
        Electrode names, where X does not carry them.
    sfreq : float or None
        Sampling rate in hertz, where X does not carry it.

    Notes
    -----
    The three published sources, step for step:

    ============  ==========================================  =================================
    recording     before                                      parameters
    ============  ==========================================  =================================
    HGD           `causal_highpass` of the whole recording    ``window=(0, 3)`` or ``(0, 4)``
    GIST          nothing                                     ``window=(0, 3), reference="all"``
    openBMI       nothing                                     ``window=(0, 4)``
    ============  ==========================================  =================================

    (MOABB: Schirrmeister2017, Cho2017, Lee2019_MI.) Amplitudes are left alone: those of the three differ forty-fold,
    see ``scale`` of `CTAdaptTLClassifier`. Trials that carry their names and rate may differ in both from those at fit.

    References
    ----------
    .. [1] Miao, M., Yang, Z., Zeng, H., Zhang, W., Xu, B., & Hu, W. (2023). Explainable cross-task adaptive transfer
       learning for motor imagery EEG classification. Journal of Neural Engineering, 20, 066021.
       https://doi.org/10.1088/1741-2552/ad0c61

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.array import make_eeg
    >>> from skeeg.methods.ct_adapttl import Harmonise
    >>> names = "F3 Fz F4 FC3 FC4 C3 Cz C4 CP3 CP4 P3 Pz P4".split()
    >>> X = make_eeg(np.random.default_rng(0).normal(size=(4, 13, 480)), names, 160)
    >>> X = Harmonise().fit_transform(X)
    >>> X.shape, X.sfreq, X.ch_names[0]
    ((4, 20, 1500), 500.0, 'FC5')
    """

    _any_length = True
    linear_map_ = "both"

    @property
    def _any_montage(self):
        """Trials of another montage are brought to the template, where there is one."""
        return self.template is not None

    _any_rate = True

    def __init__(
        self,
        template="ct_adapttl20",
        sfreq_out=500.0,
        band=(8.0, 30.0),
        window=None,
        reference="picked",
        order=5,
        ch_names=None,
        sfreq=None,
    ):
        self.template = template
        self.sfreq_out = sfreq_out
        self.band = band
        self.window = window
        self.reference = reference
        self.order = order
        self.ch_names = ch_names
        self.sfreq = sfreq

    def fit(self, X, y=None):
        """Check the settings against the trials; nothing is learned from their values.

        Parameters
        ----------
        X : anything `as_eeg` accepts, shape (n_trials, n_channels, n_times)
            Trials.
        y : None
            Ignored.

        Returns
        -------
        self : Harmonise
            Fitted.
        """
        X = self._check_eeg(X, reset=True)
        if self.reference not in _REFERENCES:
            raise ValueError(f"reference: got {self.reference!r}, expected 'picked', 'all' or None.")
        self._cut(X)
        self._filter_for(self._rate_out(X))
        self.template_ = None if self.template is None else ChannelTemplate(self.template).fit(X.like(X, sfreq=None))
        self.ch_names_out_ = X.ch_names if self.template is None else self.template_.ch_names_out_
        return self

    def transform(self, X):
        """Bring trials to the form.

        Parameters
        ----------
        X : anything `as_eeg` accepts, shape (n_trials, n_channels, n_times)
            Trials, of any length; of any montage and rate if they carry these.

        Returns
        -------
        X : EEGArray, shape (n_trials, n_template, n_times_out)
            Trials of the same type of numbers.
        """
        check_is_fitted(self)
        X = self._check_eeg(X, reset=False)
        data = np.asarray(self._cut(X))
        if self.reference == "all":
            data = data - data.mean(axis=1, keepdims=True)
        if self.template_ is not None:
            data = np.asarray(self.template_.transform(X.like(data, sfreq=None)))
        if self.reference == "picked":
            data = data - data.mean(axis=1, keepdims=True)
        rate = self._rate_out(X)
        if X.sfreq is not None and rate != X.sfreq:
            data = signal.resample(data, max(round(data.shape[2] * rate / X.sfreq), 1), axis=2)
        design = self._filter_for(rate)
        if design is not None:
            data = bandpass_trials(data, *design)
        return X.like(np.ascontiguousarray(data, dtype=X.dtype), ch_names=self.ch_names_out_, sfreq=rate)

    def _cut(self, X):
        """Take the window out of the trials."""
        if self.window is None:
            return X
        rate = _known_rate(X, "window")
        start, stop = (round(second * rate) for second in self.window)
        if not 0 <= start < stop <= X.shape[2]:
            raise ValueError(f"window: {self.window} s is not within trials of {X.shape[2]} samples at {rate:g} Hz.")
        return X[:, :, start:stop]

    def _rate_out(self, X):
        """Tell the sampling rate of the result."""
        if self.sfreq_out is None:
            return X.sfreq
        _known_rate(X, "sfreq_out")
        return float(self.sfreq_out)

    def _filter_for(self, rate):
        """Coefficients of the band-pass at this rate, or None."""
        if self.band is None:
            return None
        if rate is None:
            raise ValueError("sfreq: band needs the sampling rate; pass Harmonise(sfreq=...) or trials that carry it.")
        low, high = self.band
        if not 0 < low < high < rate / 2:
            raise ValueError(f"band: got {self.band}, expected 0 < low < high < {rate / 2:g} Hz, half the rate.")
        return signal.butter(self.order, (low, high), btype="bandpass", fs=rate)


def bandpass_trials(data, numerator, denominator):
    """Filter every trial forwards and backwards, as it stands, with odd reflection at its ends.

    Parameters
    ----------
    data : ndarray, shape (n_trials, n_channels, n_times)
        Trials.
    numerator, denominator : ndarray
        Coefficients of the filter.

    Returns
    -------
    filtered : ndarray, shape (n_trials, n_channels, n_times)
        Filtered in double precision.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.signal import butter
    >>> from skeeg.methods.ct_adapttl.preprocessing import bandpass_trials
    >>> slow = np.sin(2 * np.pi * 2 * np.arange(1000) / 500)[None, None]
    >>> bool(np.abs(bandpass_trials(slow, *butter(5, (8, 30), "bandpass", fs=500)))[..., 300:700].max() < 1e-3)
    True
    """
    padding = min(3 * max(len(numerator), len(denominator)), data.shape[2] - 1)
    return signal.filtfilt(numerator, denominator, np.asarray(data, dtype=np.float64), axis=2, padlen=padding)


def causal_highpass(data, sfreq, cutoff=0.5, order=4):
    """High-pass a continuous recording forwards in time, as was done to HGD before it was cut.

    Parameters
    ----------
    data : ndarray, shape (..., n_times)
        Continuous recording; ``raw.apply_function(causal_highpass, sfreq=raw.info["sfreq"])`` for one of mne.
    sfreq : float
        Sampling rate in hertz.
    cutoff : float
        Hertz.
    order : int
        Order of the Butterworth design.

    Returns
    -------
    filtered : ndarray, shape (..., n_times)
        Filtered recording.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.methods.ct_adapttl.preprocessing import causal_highpass
    >>> bool(abs(causal_highpass(np.ones(5000), 500.0)[-1]) < 1e-4)
    True
    """
    return signal.lfilter(*signal.butter(order, cutoff, btype="highpass", fs=sfreq), data, axis=-1)


def _known_rate(X, what):
    """Tell the sampling rate of the trials, or raise an error that says who needs it."""
    if X.sfreq is None:
        raise ValueError(f"sfreq: {what} needs the sampling rate; pass Harmonise(sfreq=...) or trials that carry it.")
    return X.sfreq


def make_alignment(alignment, on_unseen, calibrated):
    """Make the alignment of trials by subject.

    Parameters
    ----------
    alignment : {"euclidean", "riemannian", None}
        Which mean of the covariances is the reference of a subject.
    on_unseen : {"calibration", "own"}
        Reference of subjects that are not seen at fit.
    calibrated : bool
        Whether calibration trials of the target are given to fit; without any, ``"calibration"`` is the mean reference
        of the subjects seen at fit.

    Returns
    -------
    step : EuclideanAlignment, RiemannianAlignment or None
        Not fitted.

    Examples
    --------
    >>> from skeeg.methods.ct_adapttl.preprocessing import make_alignment
    >>> make_alignment("euclidean", "calibration", calibrated=False)
    EuclideanAlignment(min_trials=8, on_unseen='source')
    """
    if alignment is None:
        return None
    on_unseen = "source" if on_unseen == "calibration" and not calibrated else on_unseen
    return ALIGNMENTS[alignment](on_unseen=on_unseen, min_trials=_FEWEST)


def find_mirror(ch_names, classes, pair):
    """Find what left and right exchange: pairs of electrodes, and a pair of classes.

    Parameters
    ----------
    ch_names : tuple of str or None
        Electrode names.
    classes : sequence
        Labels.
    pair : tuple of two labels or None
        Labels that are each other's mirror image; the other labels are their own.

    Returns
    -------
    mirror : tuple of two ndarrays of int, or None
        Index of the opposite electrode of each electrode, and of the opposite class of each class. None where there is
        no such pair of labels, or an electrode has no opposite among the others or no place in the 10-5 system.

    Examples
    --------
    >>> from skeeg.methods.ct_adapttl.preprocessing import find_mirror
    >>> channels, classes = find_mirror(("C3", "Cz", "C4"), ["feet", "left", "right"], ("left", "right"))
    >>> channels.tolist(), classes.tolist()
    ([2, 1, 0], [0, 2, 1])
    """
    labels = list(classes)
    if ch_names is None or pair is None or any(label not in labels for label in pair):
        return None
    opposite = dict(zip(labels, labels, strict=True)) | dict(zip(pair, reversed(pair), strict=True))
    system = standard_montage().ch_names
    try:
        names = [system[i] for i in find_electrodes(ch_names, system)]
        others = [re.sub(r"\d+", lambda found: str(int(found[0]) - (-1) ** int(found[0])), name) for name in names]
        channels = [names.index(other) for other in others]
    except ValueError:  # an electrode without a place, or without an opposite
        return None
    return np.array(channels), np.array([labels.index(opposite[label]) for label in labels])


def add_mirrored(X, y, mirror):
    """Trials, and after them the same trials with left and right exchanged.

    Parameters
    ----------
    X : ndarray, shape (n_trials, n_channels, n_times)
        Trials.
    y : ndarray of int, shape (n_trials,)
        Class indices.
    mirror : tuple of two ndarrays of int, or None
        As `find_mirror` gives it; None adds nothing.

    Returns
    -------
    X : ndarray, shape (2 * n_trials, n_channels, n_times)
        Trials.
    y : ndarray of int, shape (2 * n_trials,)
        Class indices.
    """
    if mirror is None:
        return X, y
    channels, classes = mirror
    return np.concatenate([X, X[:, channels]]), np.concatenate([y, classes[y]])
