"""Recordings of MNE: read as trials, and predicted as MEG."""

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ...array import EEGArray, make_domains
from .sensors import build_info, describe


class GeometryUnknownError(ValueError, AttributeError):
    """The sensors are unknown: a wrong call of a method, and an attribute that does not exist."""


class RecordingMethods:
    """Mixin of an estimator that predicts MEG: fit and predict with MNE's objects."""

    def fit_raw(self, raws, subjects=None):
        """Learn from continuous recordings that hold EEG and MEG.

        Parameters
        ----------
        raws : mne.io.Raw or list of them
            Each is a run. They are cut into windows of ``window`` seconds, without those that overlap an annotation
            called bad.
        subjects : sequence of str, length n_raws, or None
            Subject of each.
        """
        X, Y, geometry = read_recordings(raws, subjects, self._kind, self.window)
        return self.fit(X, Y, geometry=geometry)

    def fit_epochs(self, epochs, subjects=None):
        """Learn from epochs that hold EEG and MEG; `mne.Epochs` or a list of them, as in `fit_raw`."""
        return self.fit_raw(epochs, subjects)

    @property
    def _kind(self):
        """MEG sensors to take from recordings, as `describe` names them."""
        return "meg" if self.meg is True else self.meg

    @property
    def _fitted_kind(self):
        """The same of the sensors at fit."""
        types = set(self._first_geometry("meg")["types"])
        return types.pop() if len(types) == 1 else "meg"

    @property
    def info_eeg_(self):
        """Sensors of the EEG at fit."""
        return build_info(self._first_geometry("eeg"), sfreq=self.sfreq_in_ or 1.0)

    @property
    def info_meg_(self):
        """Sensors of predictions."""
        return build_info(self._first_geometry("meg"), sfreq=self.sfreq_in_ or 1.0)

    def _first_geometry(self, kind):
        check_is_fitted(self)
        if not self.geometries_:
            raise GeometryUnknownError("geometry: not known; fit with fit_raw, fit_epochs or fit(..., geometry=info).")
        return self.geometries_[0][kind]

    def predict_raw(self, raw):
        """Predict the MEG of the EEG of an `mne.io.Raw`, as an `mne.io.RawArray` of the same times and annotations.

        Windows of the length at fit overlap by half and are cross-faded.
        """
        import mne

        X, geometry, info = self._read(raw)
        signals = predict_overlapping(lambda x: self.predict(x, geometry), X, min(self.n_times_in_, X.shape[2]))
        out = mne.io.RawArray(signals, info, first_samp=raw.first_samp, verbose="error")
        out.set_meas_date(raw.info["meas_date"])
        return out.set_annotations(raw.annotations, verbose="error")

    def predict_epochs(self, epochs):
        """Predict the MEG of epochs, as an `mne.EpochsArray` of the same events, times and metadata."""
        import mne

        X, geometry, info = self._read(epochs)
        return mne.EpochsArray(
            self.predict(X, geometry), info, events=epochs.events, tmin=epochs.tmin, event_id=epochs.event_id,
            metadata=epochs.metadata, baseline=None, verbose="error",
        )  # fmt: skip

    def predict_evoked(self, evoked):
        """Predict the MEG of an average, as an `mne.EvokedArray` of the same times and comment.

        Networks are not linear: the MEG of an average is not the average MEG.
        """
        import mne

        X, geometry, info = self._read(evoked)
        return mne.EvokedArray(
            self.predict(X, geometry)[0], info, tmin=evoked.times[0], comment=evoked.comment, nave=evoked.nave,
            kind=evoked.kind, baseline=None, verbose="error",
        )  # fmt: skip

    def _read(self, recording):
        """EEG of a recording, its geometry for `predict`, and the Info of predictions."""
        check_is_fitted(self)
        if self.codes_.has_bands:
            raise ValueError("model: 'wavelet_unet' predicts envelopes, not MEG signals; use predict.")
        if not self._is_signal:
            raise ValueError("y: fit has seen one value a trial; signals need targets (n_trials, n_meg, n_times).")
        X, rate = read_eeg(recording, None if self._any_montage else self.ch_names_in_), recording.info["sfreq"]
        self.info_meg_  # noqa: B018, refuses unknown sensors
        meg, geometry = self.geometries_[0]["meg"], None
        if self.codes_.takes_geometry:
            if set(recording.get_channel_types()) & {"mag", "grad"}:
                meg = describe(recording.info, self._fitted_kind)
            geometry = build_info(describe(recording.info, "eeg"), meg, sfreq=rate)
        return X, geometry, build_info(meg, sfreq=rate)


def read_recordings(recordings, subjects, kind, window):
    """EEG (n_trials, n_channels, n_times), MEG and geometry of several recordings of the same sensors."""
    recordings = recordings if isinstance(recordings, list | tuple) else [recordings]
    if not len(recordings):
        raise ValueError("recordings: at least one is needed, got 0.")
    if subjects is not None and len(subjects) != len(recordings):
        raise ValueError(f"subjects: got {len(subjects)} for {len(recordings)} recordings.")
    parts, geometry, first = [], [], None
    for run, one in enumerate(recordings):
        names = [describe(one.info, what)["names"] for what in ("eeg", kind)]
        rate = one.info["sfreq"]
        first = (names, rate) if first is None else first
        if (names, rate) != first:
            raise ValueError(f"recordings: number {run} has other channels or another rate than the first.")
        X, Y = (read_trials(one, list(part), window) for part in names)
        if not len(X):
            raise ValueError(f"recordings: number {run} has no good window.")
        domains = make_domains(len(X), subject="" if subjects is None else subjects[run], run=run)
        parts.append((EEGArray(X * 1e6, names[0], rate, domains), Y))
        geometry += [one.info] * len(X)
    X, Y = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    return X, Y, geometry


def read_trials(recording, names, window):
    """Channels of epochs, or of the good windows of a continuous recording, (n_trials, n_channels, n_times)."""
    import mne

    if not isinstance(recording, mne.io.BaseRaw):
        return recording.get_data(picks=names)
    n_times, rate = max(1, round(window * recording.info["sfreq"])), recording.info["sfreq"]
    if n_times > recording.n_times:
        raise ValueError(f"window: {window} s, but the recording lasts {recording.times[-1]:.2f} s.")
    epochs = mne.make_fixed_length_epochs(recording, n_times / rate, proj=False, verbose="error")
    return epochs.get_data(picks=names, verbose="error")


def read_eeg(recording, ch_names):
    """EEG of a recording as trials in microvolts; of these channels, or of all where None."""
    names = describe(recording.info, "eeg")["names"]
    if ch_names is not None:
        missing = [name for name in ch_names if name not in names]
        if missing:
            raise ValueError(f"recording: no EEG channel {', '.join(missing[:5])}, which fit has seen.")
        names = ch_names
    data = recording.get_data(picks=list(names)) * 1e6
    return EEGArray(data if data.ndim == 3 else data[None], names, recording.info["sfreq"])


def predict_overlapping(predict, X, n_times):
    """Predict one long trial in windows that overlap by half and are cross-faded, shape (n_outputs, n_times of X)."""
    length = X.shape[2]
    starts = np.unique(np.append(np.arange(0, length - n_times, max(1, n_times // 2)), length - n_times))
    fade = np.minimum(np.arange(1, n_times + 1), np.arange(n_times, 0, -1)).astype(float)
    total, weight = 0.0, np.zeros(length)
    for chunk in np.array_split(starts, -(-len(starts) // 64)):
        windows = np.stack([np.asarray(X[0, :, start : start + n_times]) for start in chunk])
        signals = predict(EEGArray(windows, X.ch_names, X.sfreq))
        total = np.zeros((signals.shape[1], length)) if weight[0] == 0 else total
        for start, signal in zip(chunk, signals, strict=True):
            total[:, start : start + n_times] += fade * signal
            weight[start : start + n_times] += fade
    return total / weight
