"""Preprocessing: electrodes, rate and band of the network; alignment by subject; mirrored trials."""

import numpy as np
from scipy import signal
from sklearn.pipeline import Pipeline
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted

from ...alignment import Calibration, EuclideanAlignment, RiemannianAlignment
from ...array import make_domains
from ...base import EEGTransformer
from ...montage import ChannelTemplate

MIN_TRIALS = 8  # of a block that is its own reference with on_unseen="own"
ALIGNMENTS = {"euclidean": EuclideanAlignment, "riemannian": RiemannianAlignment}


class Harmonise(EEGTransformer):
    """Preprocess trials of any recording alike for `CTAdaptTLClassifier`: 20 electrodes, 500 Hz, 8-30 Hz.

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
        Edges in hertz of the band-pass.
    window : tuple of two floats or None
        Seconds from the first sample of the trial, the end not included; None takes the whole trial.
    reference : {"picked", "all", None}
        Average reference over the electrodes of the template, or over all that were recorded, or none.
    ch_names, sfreq
        As in `skeeg.NetworkClassifier`.

    Notes
    -----
    As published for HGD, after `causal_highpass` of the recording, with ``window=(0, 3)`` or ``(0, 4)``, for GIST with
    ``window=(0, 3), reference="all"``, for openBMI with ``window=(0, 4)``. Amplitudes do not change: those of the three
    differ forty-fold, see ``alignment`` of `CTAdaptTLClassifier`.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.array import EEGArray
    >>> from skeeg.methods.ct_adapttl import Harmonise
    >>> names = "F3 Fz F4 FC3 FC4 C3 Cz C4 CP3 CP4 P3 Pz P4".split()
    >>> X = Harmonise().fit_transform(EEGArray(np.random.default_rng(0).normal(size=(4, 13, 480)), names, 160))
    >>> X.shape, X.sfreq, X.ch_names[0]
    ((4, 20, 1500), 500.0, 'FC5')
    """

    _any_length = True
    linear_map_ = "both"

    @property
    def _any_montage(self):
        return self.template is not None

    _any_rate = True
    _parameter_constraints = {"reference": [StrOptions({"picked", "all"}), None]}

    def __init__(
        self,
        template="ct_adapttl20",
        sfreq_out=500.0,
        band=(8.0, 30.0),
        window=None,
        reference="picked",
        ch_names=None,
        sfreq=None,
    ):
        self.template = template
        self.sfreq_out = sfreq_out
        self.band = band
        self.window = window
        self.reference = reference
        self.ch_names = ch_names
        self.sfreq = sfreq

    def fit(self, X, y=None):
        """Check the settings against the trials; nothing is learned from their values."""
        X = self._check_eeg(X, reset=True)
        self._plan(X)
        self.template_ = None if self.template is None else ChannelTemplate(self.template).fit(X.like(X, sfreq=None))
        self.ch_names_out_ = X.ch_names if self.template is None else self.template_.ch_names_out_
        return self

    def transform(self, X):
        """Preprocess trials (n_trials, n_channels, n_times) of any length, montage and rate.

        The last two where X carries them. Gives an EEGArray (n_trials, n_template, n_times_out) of the dtype of X.
        """
        check_is_fitted(self)
        X = self._check_eeg(X, reset=False)
        window, rate, design = self._plan(X)
        data = np.asarray(X)[:, :, window]
        if self.reference == "all":
            data = data - data.mean(axis=1, keepdims=True)
        if self.template_ is not None:
            data = np.asarray(self.template_.transform(X.like(data, sfreq=None)))
        if self.reference == "picked":
            data = data - data.mean(axis=1, keepdims=True)
        if X.sfreq is not None and rate != X.sfreq:
            data = signal.resample(data, max(round(data.shape[2] * rate / X.sfreq), 1), axis=2)
        if design is not None:
            padlen = min(3 * max(map(len, design)), data.shape[2] - 1)
            data = signal.filtfilt(*design, data.astype(np.float64, copy=False), axis=2, padlen=padlen)
        return X.like(np.ascontiguousarray(data, dtype=X.dtype), ch_names=self.ch_names_out_, sfreq=rate)

    def _plan(self, X):
        """Give the samples of the window, the rate of the result, and the band-pass as coefficients or None."""
        if X.sfreq is None and any(one is not None for one in (self.window, self.sfreq_out, self.band)):
            raise ValueError("sfreq: Harmonise needs the sampling rate; pass sfreq=... or trials that carry it.")
        window, rate, design = slice(None), X.sfreq if self.sfreq_out is None else float(self.sfreq_out), None
        if self.window is not None:
            start, stop = (round(second * X.sfreq) for second in self.window)
            if not 0 <= start < stop <= X.shape[2]:
                raise ValueError(
                    f"window: {self.window} s is not within trials of {X.shape[2]} samples at {X.sfreq:g} Hz."
                )
            window = slice(start, stop)
        if self.band is not None:
            low, high = self.band
            if not 0 < low < high < rate / 2:
                raise ValueError(f"band: got {self.band}, expected 0 < low < high < {rate / 2:g} Hz, half the rate.")
            design = signal.butter(5, (low, high), btype="bandpass", fs=rate)
        return window, rate, design


def causal_highpass(data, sfreq, cutoff=0.5, order=4):
    """High-pass a continuous recording (..., n_times) forwards in time, as was done to HGD before it was cut.

    For one of MNE, ``raw.apply_function(causal_highpass, sfreq=raw.info["sfreq"])``.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.methods.ct_adapttl import causal_highpass
    >>> bool(abs(causal_highpass(np.ones(5000), 500.0)[-1]) < 1e-4)
    True
    """
    return signal.lfilter(*signal.butter(order, cutoff, btype="highpass", fs=sfreq), data, axis=-1)


def as_source(X):
    """Trials whose subjects have names of their own, since the target may be among them."""
    if X.domains is None:
        return X
    return X.like(X, domains=make_domains(len(X), subject=[f"source {name}" for name in X.domains["subject"]]))


def fit_steps(alignment, on_unseen, X, targets=None):
    """Fit the preprocessing to source trials, and to ``targets`` by their names in `fit`; give it and aligned trials.

    ``"calibration"`` without calibration trials is the mean reference of the subjects seen at fit.
    """
    if alignment is None:
        return Pipeline([("alignment", "passthrough")]), X
    on_unseen = "source" if on_unseen == "calibration" and not targets else on_unseen
    step = ALIGNMENTS[alignment](on_unseen=on_unseen, min_trials=MIN_TRIALS)
    X = as_source(X) if targets else X
    targets = {name: Calibration(block) for name, block in (targets or {}).items()}
    return Pipeline([("alignment", step)]), step.fit_transform(X, **targets)


def add_mirrored(X, y, mirror):
    """Trials and class indices, followed by the same after `skeeg.montage.find_mirror`, or as they are without it."""
    if mirror is None:
        return X, y
    channels, classes = mirror
    return np.concatenate([X, X[:, channels]]), np.concatenate([y, classes[y]])
