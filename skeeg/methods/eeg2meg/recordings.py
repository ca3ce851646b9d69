"""From and to MNE: recordings in, objects with the true sensors out."""

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ...array import make_domains, make_eeg
from .sensors import build_info, describe


class GeometryUnknownError(ValueError, AttributeError):
    """There is no geometry: a bad call of a method, and an attribute that is not there."""


class RecordingBridge:
    """`mne.io.Raw`, `mne.Epochs` and `mne.Evoked` in and out of an estimator of MEG."""

    @property
    def info_eeg_(self):
        """Info of the EEG of the training."""
        return self._first("eeg")

    @property
    def info_meg_(self):
        """Info of the MEG of the training: what predictions look like."""
        return self._first("meg")

    def _first(self, kind):
        check_is_fitted(self)
        if not self.geometries_:
            raise GeometryUnknownError("geometry: not known; fit with fit_raw, fit_epochs or fit(..., geometry=info).")
        return build_info(self.geometries_[0][kind], sfreq=self.sfreq_in_ or 1.0)

    def fit_raw(self, raws, subjects=None):
        """Learn from continuous recordings that hold EEG and MEG.

        Parameters
        ----------
        raws : mne.io.Raw or list of them
            Cut into windows of ``window`` seconds; those that touch an annotation called bad are left out.
        subjects : sequence of str, length n_raws, or None
            Who; each recording is a run of its own.

        Returns
        -------
        self : EEGToMEG
            The fitted estimator.
        """
        raws = raws if isinstance(raws, list | tuple) else [raws]
        return self._fit_recordings(raws, subjects, self._windows)

    def fit_epochs(self, epochs, subjects=None):
        """Learn from epochs that hold EEG and MEG.

        Parameters
        ----------
        epochs : mne.Epochs or list of them
            Each is a run of its own, with a place of the head of its own.
        subjects : sequence of str, length n_epochs, or None
            Who.

        Returns
        -------
        self : EEGToMEG
            The fitted estimator.
        """
        epochs = epochs if isinstance(epochs, list | tuple) else [epochs]
        return self._fit_recordings(epochs, subjects, lambda one, names: one.get_data(picks=names))

    def _fit_recordings(self, recordings, subjects, read):
        """Fit to EEG and MEG of several recordings of the same sensors."""
        if not len(recordings):
            raise ValueError("recordings: at least one is needed, got 0.")
        if subjects is not None and len(subjects) != len(recordings):
            raise ValueError(f"subjects: got {len(subjects)} for {len(recordings)} recordings.")
        parts, geometry, first = [], [], None
        for run, one in enumerate(recordings):
            names = [describe(one.info, kind)["names"] for kind in ("eeg", "meg" if self.meg is True else self.meg)]
            rate = one.info["sfreq"]
            first = (names, rate) if first is None else first
            if (names, rate) != first:
                raise ValueError(f"recordings: number {run} has other channels or another rate than the first.")
            X, Y = (read(one, list(part)) for part in names)
            if not len(X):
                raise ValueError(f"recordings: nothing good is left of number {run}.")
            who = subjects[run] if subjects is not None else ""
            parts.append((make_eeg(X * 1e6, names[0], rate, make_domains(len(X), subject=who, run=run)), Y))
            geometry += [one.info] * len(X)
        X, Y = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
        return self.fit(X, Y, geometry=geometry)

    def _windows(self, raw, names):
        """Good windows of some channels, shape (n_windows, n_channels, n_times)."""
        import mne

        n_times = max(1, round(self.window * raw.info["sfreq"]))
        if n_times > raw.n_times:
            raise ValueError(f"window: {self.window} s, but the recording lasts {raw.times[-1]:.2f} s.")
        epochs = mne.make_fixed_length_epochs(raw, n_times / raw.info["sfreq"], proj=False, verbose="error")
        return epochs.get_data(picks=names, verbose="error")

    def predict_raw(self, raw):
        """Predict the MEG of a continuous recording.

        Parameters
        ----------
        raw : mne.io.Raw
            EEG, with the channels of fit.

        Returns
        -------
        meg : mne.io.RawArray
            Same times and annotations. Windows of the length of fit overlap by half and fade into each other.
        """
        import mne

        X, geometry = self._eeg_of(raw, raw.get_data, False)
        n_times = min(self.n_times_in_, X.shape[2])
        out = mne.io.RawArray(
            self._glide(X, n_times, geometry), self._info(raw, geometry), first_samp=raw.first_samp, verbose="error"
        )
        out.set_meas_date(raw.info["meas_date"])
        return out.set_annotations(raw.annotations, verbose="error")

    def predict_epochs(self, epochs):
        """Predict the MEG of epochs.

        Parameters
        ----------
        epochs : mne.Epochs
            EEG, with the channels of fit.

        Returns
        -------
        meg : mne.EpochsArray
            Same events, times and metadata.
        """
        import mne

        X, geometry = self._eeg_of(epochs, epochs.get_data, True)
        return mne.EpochsArray(
            self._signals(X, geometry), self._info(epochs, geometry), events=epochs.events, tmin=epochs.tmin,
            event_id=epochs.event_id, metadata=epochs.metadata, baseline=None, verbose="error",
        )  # fmt: skip

    def predict_evoked(self, evoked):
        """Predict the MEG of an average.

        Parameters
        ----------
        evoked : mne.Evoked
            EEG, with the channels of fit. Networks are not linear: the MEG of an average is not the average MEG.

        Returns
        -------
        meg : mne.EvokedArray
            Same times and comment.
        """
        import mne

        X, geometry = self._eeg_of(evoked, evoked.get_data, False)
        return mne.EvokedArray(
            self._signals(X, geometry)[0], self._info(evoked, geometry), tmin=evoked.times[0], comment=evoked.comment,
            nave=evoked.nave, kind=evoked.kind, baseline=None, verbose="error",
        )  # fmt: skip

    def _eeg_of(self, recording, read, has_trials):
        """EEG of a recording in microvolts, and its geometry where it has MEG sensors too."""
        check_is_fitted(self)
        if self.model == "wavelet_unet":
            raise ValueError("model: envelopes are no MEG signals; take predict for 'wavelet_unet'.")
        sensors = describe(recording.info, "eeg")
        names = sensors["names"]
        if not self._any_montage and self.ch_names_in_ is not None:
            missing = [name for name in self.ch_names_in_ if name not in names]
            if missing:
                raise ValueError(f"recording: no EEG channel {', '.join(missing[:5])}, which fit has seen.")
            names = self.ch_names_in_
        data = read(picks=list(names)) * 1e6
        types = set(recording.get_channel_types())
        has_meg = bool(types & {"mag", "grad"})
        X = make_eeg(data if has_trials else data[None], names, recording.info["sfreq"])
        return X, self._geometry_of(recording.info, sensors, has_meg)

    def _geometry_of(self, info, eeg, has_meg):
        """Info with the electrodes of this recording, and its helmet or that of the training."""
        if not self.matrices_:
            return None
        kind = "meg" if self.meg is True else self.meg
        meg = describe(info, kind) if has_meg else self.geometries_[0]["meg"]
        return build_info(eeg, meg, sfreq=info["sfreq"])

    def _info(self, recording, geometry):
        """Info of predictions."""
        self._first("meg")  # tells what to do where it is not known
        meg = self.geometries_[0]["meg"] if geometry is None else describe(geometry, "meg")
        return build_info(meg, sfreq=recording.info["sfreq"])

    def _signals(self, X, geometry):
        if not self._is_signal:
            raise ValueError("y: fit has seen one value a trial; signals need targets (n_trials, n_meg, n_times).")
        return self.predict(X, geometry)

    def _glide(self, X, n_times, geometry):
        """Predict a long recording in overlapping windows, shape (n_meg, n_times of the recording)."""
        length = X.shape[2]
        starts = np.unique(np.append(np.arange(0, length - n_times, max(1, n_times // 2)), length - n_times))
        fade = np.minimum(np.arange(1, n_times + 1), np.arange(n_times, 0, -1)).astype(float)
        total, weight = np.zeros((len(self.meg_scale_), length)), np.zeros(length)
        for chunk in np.array_split(starts, -(-len(starts) // 64)):
            windows = np.stack([np.asarray(X[0, :, start : start + n_times]) for start in chunk])
            windows = make_eeg(windows, X.ch_names, X.sfreq)
            for start, signal in zip(chunk, self._signals(windows, geometry), strict=True):
                total[:, start : start + n_times] += fade * signal
                weight[start : start + n_times] += fade
        return total / weight
