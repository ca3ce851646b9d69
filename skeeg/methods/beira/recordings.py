"""What the regressors of BOLD share: trials or recordings in, BOLD of the same shape out, scores by region."""

import sys

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ...array import EEGArray, make_eeg
from ...base import BaseEEGRegressor
from ...model_selection import region_correlations

DEFAULT_RATE = 100.0
"""Sampling rate in hertz where nobody says it: the published filters are made for it."""


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
        arrays = [
            self._check_eeg(_as_trials(item), reset=reset and i == 0, dtype=np.float32) for i, item in enumerate(X)
        ]
        if reset:
            self.n_times_in_ = max(array.shape[2] for array in arrays)
        return arrays

    def _read_pairs(self, X, y, same_length=True):
        """Check EEG and targets of fit.

        Parameters
        ----------
        X : array-like or list
            Trials or recordings.
        y : array-like or list
            Targets.
        same_length : bool
            Whether signals must be as long as the EEG.

        Returns
        -------
        eeg : list of EEGArray, shape (n_trials, n_channels, n_times)
            One array, or one for each recording.
        targets : list of ndarray, shape (n_trials, n_regions, n_times) or (n_trials, n_regions)
            Targets of each.
        """
        if is_recording_list(X):
            eeg = self._read(X, reset=True)
            targets = _read_target_list(eeg, y, same_length)
            self.target_shape_ = (targets[0].shape[1], -1)
        else:
            array, flat = self._check_eeg_and_targets(X, y)
            shape = self.target_shape_
            eeg, targets = [array], [flat.reshape(len(array), *shape) if len(shape) == 2 else flat]
            if same_length and len(shape) == 2 and shape[1] != array.shape[2]:
                raise ValueError(_lengths_differ(array.shape[2], shape[1]))
        self.n_regions_ = targets[0].shape[1]
        self._check_regions(targets)
        return eeg, targets

    def _check_regions(self, targets):
        """Names of the regions; a region that never changes cannot be learnt."""
        names = self.region_names
        if names is not None and len(names) != self.n_regions_:
            raise ValueError(f"region_names: got {len(names)} names for {self.n_regions_} regions.")
        self.region_names_ = tuple(names or (f"region {i + 1}" for i in range(self.n_regions_)))
        low = np.min([_over_all_but_regions(np.min, array) for array in targets], axis=0)
        high = np.max([_over_all_but_regions(np.max, array) for array in targets], axis=0)
        constant = [name for name, same in zip(self.region_names_, low == high, strict=True) if same]
        if constant:
            n_values = sum(array.size // self.n_regions_ for array in targets)
            raise ValueError(f"y: {', '.join(constant)} never changes over {n_values} sample{'s' * (n_values > 1)}.")

    @property
    def _is_signal(self):
        """Whether the targets of fit had an axis of time."""
        return len(self.target_shape_) == 2

    def _rate(self):
        """Tell the sampling rate of the data, the published one where unknown."""
        return DEFAULT_RATE if self.sfreq_in_ is None else self.sfreq_in_

    def _give_back(self, outputs, X):
        """Predictions, a list of (n_trials, n_regions, n_times) or (n_trials, n_regions), in the form of X and y."""
        outputs = [np.asarray(output, dtype=np.float64) for output in outputs]
        if not is_recording_list(X):
            return outputs[0] if self._is_signal else self._shape_like_targets(outputs[0])
        return [out if _has_trials(item) or out.ndim == 2 else out[0] for out, item in zip(outputs, X, strict=True)]

    def score_per_region(self, X, y):
        """Pearson correlation of prediction and target for each region.

        Parameters
        ----------
        X : anything `fit` accepts
            Trials or recordings.
        y : array-like
            Targets in the form they had at fit.

        Returns
        -------
        r : ndarray, shape (n_regions,)
            Trials of an array are laid end to end; recordings of a list are correlated one by one and averaged.
        """
        check_is_fitted(self)
        return region_correlations(y, self.predict(X))

    def score(self, X, y):
        """Mean over regions of `score_per_region`.

        Parameters
        ----------
        X : anything `fit` accepts
            Trials or recordings.
        y : array-like
            Targets in the form they had at fit.

        Returns
        -------
        r : float
            Mean Pearson correlation.
        """
        return float(self.score_per_region(X, y).mean())


def is_recording_list(X):
    """Whether X is a list of recordings rather than an array of trials.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.methods.beira.recordings import is_recording_list
    >>> is_recording_list([np.zeros((4, 500)), np.zeros((4, 700))]), is_recording_list([[1.0, 2.0]])
    (True, False)
    """
    return isinstance(X, list | tuple) and len(X) > 0 and all(_is_raw(one) or _is_matrix(one) for one in X)


def _is_raw(item):
    """Whether this is an `mne.io.Raw`; nothing is where mne has not been imported."""
    mne = sys.modules.get("mne")
    return mne is not None and isinstance(item, mne.io.BaseRaw)


def _is_matrix(item):
    return isinstance(item, np.ndarray) and item.ndim in (2, 3)


def _has_trials(item):
    return isinstance(item, np.ndarray) and item.ndim == 3


def _as_trials(item):
    """One recording as an array of trials."""
    if _is_raw(item):
        data = item.get_data(picks="eeg") * 1e6
        names = [name for name, kind in zip(item.ch_names, item.get_channel_types(), strict=True) if kind == "eeg"]
        return make_eeg(data[None], names, item.info["sfreq"])
    return item if isinstance(item, EEGArray) or item.ndim == 3 else item[None]


def _read_target_list(eeg, y, same_length):
    """Targets of a list of recordings."""
    if not isinstance(y, list | tuple) or len(y) != len(eeg):
        given = f"a list of {len(y)}" if isinstance(y, list | tuple) else type(y).__name__
        raise ValueError(f"y: expected a list with the BOLD of each of the {len(eeg)} recordings, got {given}.")
    targets = []
    for i, (recording, target) in enumerate(zip(eeg, y, strict=True)):
        target = np.asarray(target, dtype=np.float64)
        target = target[None] if target.ndim == 2 else target
        if target.ndim != 3 or len(target) != len(recording):
            raise ValueError(f"y: recording {i} has shape {target.shape}, expected (n_regions, n_times).")
        if same_length and target.shape[2] != recording.shape[2]:
            raise ValueError(f"recording {i}: {_lengths_differ(recording.shape[2], target.shape[2])}")
        if not np.isfinite(target).all():
            raise ValueError(f"y: recording {i} contains NaN or infinity.")
        targets.append(target)
    counts = {target.shape[1] for target in targets}
    if len(counts) > 1:
        raise ValueError(f"y: the recordings have different numbers of regions: {sorted(counts)}.")
    return targets


def _lengths_differ(n_eeg, n_bold):
    return (
        f"X has {n_eeg} samples and y {n_bold}: EEG and BOLD must have the same length and rate. "
        "BOLDAligner takes volumes of any repetition time."
    )


def _over_all_but_regions(function, array):
    return function(array, axis=tuple(axis for axis in range(array.ndim) if axis != 1))
