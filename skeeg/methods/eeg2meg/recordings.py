"""EEG and MEG of MNE's objects: read for fit and predict."""

import numpy as np

from ...array import make_domains, make_eeg
from .sensors import describe


def read_recordings(recordings, subjects, kind, window):
    """EEG, MEG and geometry of several recordings of the same sensors.

    Parameters
    ----------
    recordings : mne.io.Raw, mne.Epochs, or list of them
        Each is a run of its own.
    subjects : sequence of str, length n_recordings, or None
        Subject of each.
    kind : {"meg", "mag", "grad"}
        Sensors to take.
    window : float
        Seconds of the windows that `mne.io.Raw` is cut into.

    Returns
    -------
    X : EEGArray, shape (n_trials, n_channels, n_times)
        Microvolts.
    Y : ndarray, shape (n_trials, n_meg, n_times)
        Tesla and tesla per metre.
    geometry : list of mne.Info, length n_trials
        Sensors of each trial.
    """
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
        parts.append((make_eeg(X * 1e6, names[0], rate, domains), Y))
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
    return make_eeg(data if data.ndim == 3 else data[None], names, recording.info["sfreq"])


def predict_overlapping(predict, X, n_times):
    """Predict one long trial in windows that overlap by half and are cross-faded, shape (n_outputs, n_times of X)."""
    length = X.shape[2]
    starts = np.unique(np.append(np.arange(0, length - n_times, max(1, n_times // 2)), length - n_times))
    fade = np.minimum(np.arange(1, n_times + 1), np.arange(n_times, 0, -1)).astype(float)
    total, weight = 0.0, np.zeros(length)
    for chunk in np.array_split(starts, -(-len(starts) // 64)):
        windows = np.stack([np.asarray(X[0, :, start : start + n_times]) for start in chunk])
        signals = predict(make_eeg(windows, X.ch_names, X.sfreq))
        total = np.zeros((signals.shape[1], length)) if weight[0] == 0 else total
        for start, signal in zip(chunk, signals, strict=True):
            total[:, start : start + n_times] += fade * signal
            weight[start : start + n_times] += fade
    return total / weight
