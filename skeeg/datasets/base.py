"""Base of the datasets, and any MOABB dataset as plain arrays."""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
from moabb.datasets.base import BaseDataset

from ..array import as_eeg, make_domains

OLD_NAMES = {"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8"}
"""Current names of electrodes that older recordings name otherwise."""


def code_with(name, options, defaults):
    """Code by which MOABB stores results of a dataset: a name, and a digest of options that are not the default."""
    if options == defaults:
        return name
    text = json.dumps(options, sort_keys=True, default=str)
    return f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def data_folder(folder, name):
    """Folder given by the user, which has to be there, or the one of this name under ``$SKEEG_DATA``, or None."""
    if folder is not None:
        if not Path(folder).is_dir():
            raise FileNotFoundError(f"folder: there is no folder {folder}.")
        return Path(folder)
    return Path(os.environ["SKEEG_DATA"]) / name if os.environ.get("SKEEG_DATA") else None


def load_arrays(dataset, fmin=None, fmax=None, tmin=0.0, tmax=None, resample=None, subjects=None, classes=None):
    """Read the trials of any MOABB dataset as plain arrays.

    Parameters
    ----------
    dataset : moabb.datasets.base.BaseDataset
        Any dataset with events.
    fmin, fmax : float or None
        Edges of a zero-phase FIR band-pass in hertz, applied to the continuous recording; None leaves that side open.
    tmin, tmax : float or None
        Seconds from the start of the dataset's interval; tmax None is the interval's end.
    resample : float or None
        Sampling rate in hertz; None keeps the recording's.
    subjects, classes : list or None
        Some of ``dataset.subject_list`` and of ``dataset.event_id``; None takes all.

    Returns
    -------
    X, y : EEGArray, shape (n_trials, n_channels, n_times), and ndarray of str, shape (n_trials,)
        Microvolts, NaN where a channel is marked bad; n_times is exactly (tmax - tmin) times the rate, one sample less
        than MOABB's paradigms give.

    Examples
    --------
    >>> from skeeg.datasets import SimulatedMotorImagery, load_arrays
    >>> dataset = SimulatedMotorImagery(n_subjects=1, n_trials=4)
    >>> X, y = load_arrays(dataset, fmin=8, fmax=30, tmin=0.5)
    >>> X.shape, X.sfreq, sorted(set(y.tolist()))
    ((16, 22, 448), 128.0, ['left_hand', 'right_hand'])
    """
    wanted = list(dataset.event_id) if classes is None else list(classes)
    unknown = [name for name in wanted if name not in dataset.event_id]
    if unknown:
        raise ValueError(f"classes: {dataset.code} has no {', '.join(unknown)}; it has {', '.join(dataset.event_id)}.")
    length = dataset.interval[1] - dataset.interval[0]
    window = (tmin, length if tmax is None else tmax)
    if not window[0] < window[1]:
        raise ValueError(f"tmin, tmax: got {window[0]} to {window[1]} s, expected a window that ends after its start.")
    subjects = dataset.subject_list if subjects is None else list(subjects)
    blocks, labels = [], []
    for subject in subjects:
        for session, runs in dataset.get_data([subject])[subject].items():
            for run, raw in runs.items():
                name = f"{dataset.code}, subject {subject}, session {session}, run {run}"
                X, classes_of = _read_run(raw, wanted, (fmin, fmax), window, resample, name)
                if len(X):
                    blocks.append(X.like(X, domains=make_domains(len(X), subject, session, run)))
                    labels.append(classes_of)
                    _check_alike(blocks[0], blocks[-1], name)
    if not blocks:
        raise ValueError(f"classes: no trial of {', '.join(wanted)} in {dataset.code}.")
    return np.concatenate(blocks), np.concatenate(labels)


class SkeegDataset(BaseDataset):
    """A MOABB dataset that also gives plain arrays."""

    arrays = load_arrays

    def data_path(self, subject, path=None, force_update=False, update_path=None, verbose=None):
        """List the files of one subject, without any download."""
        return [str(path) for path in self._files(subject)]

    def _files(self, subject):
        """Files of one subject."""
        return []


def _read_run(raw, wanted, band, window, resample, name):
    """Trials of one recording, and their classes."""
    import mne

    raw = raw.copy().load_data(verbose="error").pick("eeg", verbose="error")
    if any(edge is not None for edge in band):
        raw.filter(*band, verbose="error")
    if resample is not None and resample != raw.info["sfreq"]:
        raw.resample(resample, verbose="error")
    numbers = {name: i for i, name in enumerate(wanted) if name in raw.annotations.description}
    if not numbers:
        return [], []
    rate = raw.info["sfreq"]
    events, _ = mne.events_from_annotations(raw, event_id=numbers, verbose="error")
    n_times = int(round((window[1] - window[0]) * rate))
    epochs = mne.Epochs(raw, events, numbers, window[0], window[0] + (n_times - 1) / rate, baseline=None, preload=True,
                        reject_by_annotation=True, event_repeated="drop", verbose="error")  # fmt: skip
    X = as_eeg(epochs)[..., :n_times]
    if len(X) and X.shape[2] < n_times:
        raise ValueError(f"{name}: trials of {X.shape[2]} samples, {n_times} wanted.")
    return X, np.array(wanted)[epochs.events[:, 2]]


def _check_alike(first, other, name):
    """Refuse recordings whose channels or sampling rates differ."""
    if other.ch_names != first.ch_names:
        odd = sorted(set(first.ch_names) ^ set(other.ch_names)) or "the same in another order"
        raise ValueError(f"{name}: its channels differ from those before it: {odd}.")
    if other.sfreq != first.sfreq:
        raise ValueError(f"{name}: {other.sfreq:g} Hz, those before it have {first.sfreq:g} Hz; pass resample=.")
