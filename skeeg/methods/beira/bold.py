"""Alignment of EEG and fMRI volumes: repetition times, triggers, and the haemodynamic delay."""

import numpy as np
from scipy.interpolate import make_interp_spline
from scipy.signal import fftconvolve
from scipy.stats import gamma
from sklearn.base import MetaEstimatorMixin, clone
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

from ...base import warn
from ...filtering import at_rate
from ...model_selection import channel_correlations
from .base import RecordingRegressor, is_raw, is_recording_list
from .estimator import BEIRARegressor


def canonical_hrf(sfreq, delay=6.0):
    """Canonical haemodynamic response [1]_, (n_times,): a gamma function minus a sixth of a later one; sums to 1.

    The usual ``delay`` of 6 seconds has its maximum at 5 s and lasts 32 s; others stretch the time. ``sfreq`` is in
    hertz.

    References
    ----------
    .. [1] Friston, K. J., Fletcher, P., Josephs, O., Holmes, A., Rugg, M. D., & Turner, R. (1998). Event-related fMRI:
       characterizing differential responses. NeuroImage, 7(1), 30-40.

    Examples
    --------
    >>> from skeeg.methods.beira import canonical_hrf
    >>> float(canonical_hrf(10.0).argmax() / 10)
    5.0
    """
    if not delay > 0:
        raise ValueError(f"delay: got {delay} s, expected a positive number for the canonical response.")
    stretch = delay / 6.0
    times = np.arange(max(round(32.0 * stretch * sfreq), 2)) / sfreq / stretch
    response = gamma.pdf(times, 6.0) - gamma.pdf(times, 16.0) / 6.0
    return response / response.sum()


def deconvolve(bold, response, noise=0.1):
    r"""Wiener deconvolution: the slow activity that would give these signals (..., n_times) through a response.

    .. math:: N(f) = \frac{\overline{H(f)} B(f)}{|H(f)|^2 + \lambda}

    with :math:`\lambda` the power of the noise relative to the signal (``noise``). The mean is kept.
    """
    bold = np.asarray(bold, dtype=np.float64)
    mean, n_times, n_pad = bold.mean(axis=-1, keepdims=True), bold.shape[-1], len(response)
    padded = np.pad(bold - mean, [(0, 0)] * (bold.ndim - 1) + [(n_pad, n_pad)], mode="symmetric")
    n = padded.shape[-1]
    gain = np.fft.rfft(response, n)
    spectrum = np.fft.rfft(padded) * gain.conj() / (np.abs(gain) ** 2 + noise)
    return mean + np.fft.irfft(spectrum, n)[..., n_pad : n_pad + n_times]


def convolve(activity, response):
    """Signals of activity (..., n_times) through a response; before its start it has its first value."""
    activity = np.asarray(activity, dtype=np.float64)
    history = np.repeat(activity[..., :1], len(response), axis=-1)
    kernel = response.reshape((1,) * (activity.ndim - 1) + (-1,))
    full = fftconvolve(np.concatenate([history, activity], axis=-1), kernel, axes=-1)
    return full[..., len(response) : len(response) + activity.shape[-1]]


def volume_onsets(raw, description="mri"):
    """Onset of each volume in seconds from the first sample, (n_volumes,), by the annotations of an `mne.io.Raw`.

    ``description`` is the text of the annotations that mark the volumes, such as ``"mri"`` or ``"Scanner/Scan Start"``.

    Examples
    --------
    >>> import mne, numpy as np
    >>> from skeeg.methods.beira import volume_onsets
    >>> raw = mne.io.RawArray(np.zeros((1, 900)), mne.create_info(["Cz"], 100.0, "eeg"), verbose="error")
    >>> raw = raw.set_annotations(mne.Annotations([1.0, 3.0, 5.0], 0.0, "mri"))
    >>> volume_onsets(raw).tolist()
    [1.0, 3.0, 5.0]
    """
    annotations = raw.annotations
    chosen = annotations.description == description
    if not chosen.any():
        known = ", ".join(map(repr, sorted(set(annotations.description))[:8])) or "none at all"
        raise ValueError(f"description: no annotation is called {description!r}; there are: {known}.")
    return np.sort(annotations.onset[chosen]) - raw.first_time  # which MNE adds, whether it knows the date or not


def match_volumes(onsets, bold):
    """Pair triggers and volumes: where their numbers differ, the first of both are kept, with a warning.

    Shapes: ``onsets`` (n_triggers,), ``bold`` (n_regions, n_volumes); gives both with the smaller of the two numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.methods.beira import match_volumes
    >>> match_volumes(np.arange(3), np.zeros((2, 3)))[1].shape
    (2, 3)
    """
    onsets, bold = np.asarray(onsets), np.asarray(bold)
    n_triggers, n_volumes = len(onsets), bold.shape[-1]
    n = min(n_triggers, n_volumes)
    if n_triggers != n_volumes:
        warn(
            f"bold: {n_volumes} volumes for {n_triggers} triggers; the first {n} of both are paired, the last are left "
            "out. Give the onsets of the right ones if volumes were lost elsewhere."
        )
    return onsets[:n], bold[..., :n]


class BOLDAligner(MetaEstimatorMixin, RecordingRegressor):
    """Regressor of BOLD volumes: resamples EEG and volumes to one rate and allows for the haemodynamic response.

    Each trial or recording is aligned by itself, so nothing is resampled across a split. The inner regressor is fitted
    to aligned signals at one rate; predictions are at the times of the volumes.

    Parameters
    ----------
    regressor : estimator or None
        Regressor of signals (n_trials, n_regions, n_times); None is a `BEIRARegressor`.
    delay : float
        Seconds by which BOLD follows the EEG.
    response : {"delay", "canonical"}
        The regressor learns BOLD advanced by `delay`, or BOLD deconvolved with the canonical response of that delay.
    tr : float, str or None
        Repetition time in seconds, from the start of a trial on; the description of the annotations that mark the
        volumes, for recordings that are `mne.io.Raw`; or None where the BOLD signal already has the rate of the EEG.
    rate : float or None
        Common sampling rate in hertz; None keeps that of the EEG.
    ch_names, sfreq
        As in `BEIRARegressor`, of the EEG.

    Attributes
    ----------
    regressor_ : estimator
        The fitted regressor.
    rate_ : float
        Common rate.
    n_unscored_ : int
        Values at the start of each trial whose EEG was not recorded; `score` leaves them out.

    Examples
    --------
    >>> from skeeg.methods.beira import BandPowerRidge, BOLDAligner, simulate_bold
    >>> simulated = simulate_bold(2, duration=200, random_state=0)
    >>> volumes, _ = simulated.volumes(tr=2.0)
    >>> aligner = BOLDAligner(BandPowerRidge(), delay=5.0, tr=2.0).fit(simulated.eeg, volumes[None])
    >>> aligner.predict(simulated.eeg).shape
    (1, 2, 100)
    """

    def __init__(self, regressor=None, delay=6.0, response="delay", tr=None, rate=None, ch_names=None, sfreq=None):
        self.regressor = regressor
        self.delay = delay
        self.response = response
        self.tr = tr
        self.rate = rate
        self.ch_names = ch_names
        self.sfreq = sfreq

    def __sklearn_tags__(self):
        """Pass on what the inner regressor declares of its scores."""
        tags = super().__sklearn_tags__()
        if self.regressor is not None:
            tags.regressor_tags.poor_score = get_tags(self.regressor).regressor_tags.poor_score
        return tags

    def fit(self, X, y):
        """Align EEG, trials or recordings, and BOLD (n_trials, n_regions, n_volumes), and fit the regressor.

        BOLD values without an axis of time, (n_trials,) or (n_trials, n_regions), are not aligned.
        """
        X, y = self.align(X, y)
        self.regressor_ = clone(BEIRARegressor() if self.regressor is None else self.regressor).fit(X, y)
        return self

    def align(self, X, y):
        """Resample EEG and BOLD to one rate and undo the haemodynamic response: the data of the inner regressor.

        Gives lists of (n_trials, n_channels, n_samples) and (n_trials, n_regions, n_samples), one entry for an array of
        trials, or one for each recording of a list.
        """
        if self.response not in ("delay", "canonical"):
            raise ValueError(f"response: got {self.response!r}, expected 'delay' or 'canonical'.")
        if not self.delay >= 0:
            raise ValueError(f"delay: got {self.delay} s, expected 0 or more.")
        eeg, targets = self._read_pairs(X, y, same_length=self.tr is None)
        self.rate_ = float(self.rate or self._rate())
        self.n_unscored_ = 0
        if not self._is_signal:
            return self._resample(eeg[0]), y
        items = X if is_recording_list(X) else [X]
        pairs = [self._align_one(*parts) for parts in zip(items, eeg, targets, strict=True)]
        return tuple(map(list, zip(*pairs, strict=True)))

    def predict(self, X):
        """Predict BOLD volumes, (n_trials, n_regions, n_volumes) or a list of (n_regions, n_volumes).

        Without an axis of time in the targets of fit, values in the shape of these.
        """
        check_is_fitted(self)
        eeg = self._read(X, reset=False)
        resampled = [self._resample(array) for array in eeg]
        if not self._is_signal:
            return self.regressor_.predict(resampled[0])
        items = X if is_recording_list(X) else [X]
        activity = self.regressor_.predict(resampled)
        parts = zip(items, eeg, activity, strict=True)
        outputs = [self._sample(signals, self._times(item, array.shape[2])) for item, array, signals in parts]
        return self._like_input(outputs, X)

    def score_per_region(self, X, y):
        """Pearson correlation of predicted and measured volumes, (n_regions,).

        Volumes before ``delay`` do not count: their EEG was not recorded. Trials of an array are laid end to end;
        recordings of a list are correlated one by one and averaged.
        """
        prediction = self.predict(X)
        if is_recording_list(X):  # there may be more triggers than volumes
            n_volumes = [min(np.shape(one)[-1], np.shape(other)[-1]) for one, other in zip(y, prediction, strict=True)]
            y = [np.asarray(one)[..., :n] for one, n in zip(y, n_volumes, strict=True)]
            prediction = [one[..., :n] for one, n in zip(prediction, n_volumes, strict=True)]
        return channel_correlations(y, prediction, self.n_unscored_)

    def _resample(self, X):
        """EEG at the common rate."""
        return at_rate(X.like(X, sfreq=self._rate()), self.rate_)

    def _times(self, item, n_times):
        """Give the times of the values of the BOLD signal, in seconds from the start of the EEG."""
        if self.tr is None:
            return np.arange(n_times) / self._rate()
        if isinstance(self.tr, str):
            if not is_raw(item):
                raise ValueError(f"tr: {self.tr!r} names annotations, which only recordings that are mne.io.Raw have.")
            return volume_onsets(item, self.tr)
        if not self.tr > 0:
            raise ValueError(f"tr: got {self.tr}, expected seconds, the description of annotations, or None.")
        seconds = (n_times + 0.5) / self._rate()  # half a sample: lengths are rounded to samples
        return self.tr * np.arange(int(seconds / self.tr))

    def _align_one(self, item, eeg, bold):
        """Cut matching stretches of EEG and BOLD, (n_trials, ..., n_samples) at the common rate."""
        times, seconds = self._times(item, eeg.shape[2]), eeg.shape[2] / self._rate()
        if isinstance(self.tr, str):
            times, bold = match_volumes(times, bold)
        elif len(times) != bold.shape[2]:
            raise ValueError(
                f"y: {bold.shape[2]} volumes, but {seconds:.2f} s of EEG hold {len(times)} of {self.tr} s."
            )
        self.n_unscored_ = max(self.n_unscored_, int(np.sum(times < self.delay - 1e-9)))
        eeg = self._resample(eeg)
        grid = np.arange(eeg.shape[2]) / self.rate_
        shift = self.delay if self.response == "delay" else 0.0
        first, last = (times[0], times[-1]) if len(times) > 1 else (np.inf, -np.inf)
        inside = np.flatnonzero((grid + shift >= first - 1e-9) & (grid + shift <= last + 1e-9))
        if len(inside) < 2 or self.n_unscored_ >= len(times):
            raise ValueError(f"delay: {self.delay} s is too long for {len(times)} volumes in {seconds:.1f} s.")
        spline = make_interp_spline(times, bold, k=min(3, len(times) - 1), axis=2)
        target = spline(np.clip(grid[inside] + shift, times[0], times[-1]))
        if self.response == "canonical":
            target = deconvolve(target, canonical_hrf(self.rate_, self.delay))
        return eeg[:, :, inside[0] : inside[-1] + 1], target

    def _sample(self, activity, times):
        """BOLD at these times, of the regressor's output (n_trials, n_regions, n_samples)."""
        activity = np.asarray(activity)
        if self.response == "canonical":
            activity = convolve(activity, canonical_hrf(self.rate_, self.delay))
        else:
            times = times - self.delay
        last = activity.shape[2] - 1
        line = make_interp_spline(np.arange(last + 1), activity, k=min(1, last), axis=2)
        return line(np.clip(times * self.rate_, 0, last))
