"""Base of the regressors from EEG to BOLD: recordings of any length and their targets, scores."""

import sys

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ...array import EEGArray
from ...base import BaseEEGRegressor
from ...model_selection import channel_correlations

DEFAULT_RATE = 100.0
"""Sampling rate in hertz where it is unknown: the published filters are made for it."""


class RecordingRegressor(BaseEEGRegressor):
    """Base of the regressors from EEG to BOLD signals.

    X is an array of trials, or a list of recordings of any length: arrays (n_channels, n_times), EEGArrays or
    `mne.io.Raw`. Targets are signals at the rate of the EEG, (n_trials, n_regions, n_times) or a list of
    (n_regions, n_times); or values, (n_trials,) or (n_trials, n_regions), which then stand for the last sample.
    """

    _any_length = True
    region_names = None

    def _read(self, X, *, reset):
        """Check EEG: a list of EEGArrays of float32, one for an array of trials, or one for each recording."""
        if not is_recording_list(X):
            return [self._check_eeg(X, reset=reset, dtype=np.float32)]
        trials = enumerate(map(_as_trials, X))
        arrays = [self._check_eeg(one, reset=reset and i == 0, dtype=np.float32) for i, one in trials]
        if reset:
            self.n_times_in_ = max(array.shape[2] for array in arrays)
        return arrays

    def _read_pairs(self, X, y, same_length=True):
        """Check EEG and targets of fit: a list of EEGArrays and a list of ndarrays (n_trials, n_regions[, n_times])."""
        if is_recording_list(X):
            eeg = self._read(X, reset=True)
            targets = _read_target_list(eeg, y)
            self.target_shape_ = (targets[0].shape[1], -1)
        else:
            array, flat = self._check_eeg_and_targets(X, y)
            shape = self.target_shape_
            eeg, targets = [array], [flat.reshape(len(array), *shape) if len(shape) == 2 else flat]
        for i, (array, target) in enumerate(zip(eeg, targets, strict=True)):
            if same_length and self._is_signal and target.shape[2] != array.shape[2]:
                which = f"recording {i}: " if len(eeg) > 1 else ""
                raise ValueError(
                    f"{which}X has {array.shape[2]} samples and y {target.shape[2]}: EEG and BOLD must have the same "
                    "length and rate. BOLDAligner takes volumes of any repetition time."
                )
        self.n_regions_ = targets[0].shape[1]
        self._check_regions(targets)
        return eeg, targets

    def _check_regions(self, targets):
        """Set the names of the regions, and refuse a region that never changes."""
        self.region_names_ = name_regions(self.region_names, self.n_regions_)
        rows = np.concatenate([np.moveaxis(array, 1, 0).reshape(self.n_regions_, -1) for array in targets], axis=1)
        constant = [name for name, row in zip(self.region_names_, rows, strict=True) if row.min() == row.max()]
        if constant:
            raise ValueError(f"y: {', '.join(constant)} never changes over {rows.shape[1]} sample(s).")

    @property
    def _is_signal(self):
        """Whether the targets of fit had an axis of time."""
        return len(self.target_shape_) == 2

    def _rate(self):
        return DEFAULT_RATE if self.sfreq_in_ is None else self.sfreq_in_

    def _like_input(self, outputs, X):
        """Predictions, a list of (n_trials, n_regions[, n_times]), as an array or a list as X and y are."""
        outputs = [np.asarray(output, dtype=np.float64) for output in outputs]
        if not is_recording_list(X):
            return outputs[0] if self._is_signal else self._shape_like_targets(outputs[0])
        trials = [isinstance(one, np.ndarray) and one.ndim == 3 for one in X]
        return [out if out.ndim == 2 or many else out[0] for out, many in zip(outputs, trials, strict=True)]

    def score_per_region(self, X, y):
        """Pearson correlation of prediction and target for each region, (n_regions,)."""
        check_is_fitted(self)
        return channel_correlations(y, self.predict(X))

    def score(self, X, y):
        """Mean over regions of `score_per_region`."""
        return float(self.score_per_region(X, y).mean())


def name_regions(region_names, n_regions):
    """Names of the regions, numbered where none are given."""
    names = tuple(region_names or (f"region {i + 1}" for i in range(n_regions)))
    if len(names) != n_regions:
        raise ValueError(f"region_names: got {len(names)} names for {n_regions} regions.")
    return names


def is_recording_list(X):
    """Whether X is a list of recordings rather than an array of trials."""
    if not isinstance(X, list | tuple) or not len(X):
        return False
    return all(is_raw(one) or isinstance(one, np.ndarray) and one.ndim in (2, 3) for one in X)


def is_raw(item):
    """Whether this is an `mne.io.Raw`; nothing is where mne has not been imported."""
    mne = sys.modules.get("mne")
    return mne is not None and isinstance(item, mne.io.BaseRaw)


def _as_trials(item):
    """One recording as an array of trials."""
    if is_raw(item):
        data = item.get_data(picks="eeg") * 1e6
        names = [name for name, kind in zip(item.ch_names, item.get_channel_types(), strict=True) if kind == "eeg"]
        return EEGArray(data[None], names, item.info["sfreq"])
    return item if isinstance(item, EEGArray) or item.ndim == 3 else item[None]


def _read_target_list(eeg, y):
    """Targets of a list of recordings."""
    if not isinstance(y, list | tuple) or len(y) != len(eeg):
        raise ValueError(f"y: expected a list with the BOLD of each of the {len(eeg)} recordings, got a {type(y)}.")
    targets = []
    for i, (recording, target) in enumerate(zip(eeg, y, strict=True)):
        target = np.asarray(target, dtype=np.float64)
        target = target[None] if target.ndim == 2 else target
        if target.ndim != 3 or len(target) != len(recording):
            raise ValueError(f"y: recording {i} has shape {target.shape}, expected (n_regions, n_times).")
        if not np.isfinite(target).all():
            raise ValueError(f"y: recording {i} contains NaN or infinity.")
        targets.append(target)
    counts = {target.shape[1] for target in targets}
    if len(counts) > 1:
        raise ValueError(f"y: the recordings have different numbers of regions: {sorted(counts)}.")
    return targets
