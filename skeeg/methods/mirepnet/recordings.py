"""Recordings of many laboratories, whatever their montage, rate, window and classes, as one block of trials."""

import dataclasses

import numpy as np

from ...array import make_eeg
from ...filtering import at_rate
from ...screening import screen_subjects
from ...training.net import Trials
from ...training.pretraining import list_recordings, name_people, read_labels
from .form import fit_alignment, on_template, padded
from .montages import MontageTrials, balanced_weights, montage_matrices
from .objective import UNLABELLED

__all__ = ["Pool", "list_recordings", "pool_recordings", "read_labels"]


@dataclasses.dataclass
class Pool:
    """Trials of all recordings.

    Attributes
    ----------
    data : ndarray of float32, shape (n_trials, n_template, n_times)
        Trials on the template; where they are to be seen in several montages, as recorded, with zeros for the
        electrodes that a recording lacks of the largest.
    y : ndarray of int, shape (n_trials,)
        Class indices; -1 where there is no label.
    subjects : ndarray of str, shape (n_trials,)
        Who it is; subjects of different recordings are different subjects.
    recordings : ndarray of int, shape (n_trials,)
        Number of the recording.
    ch_names : list of tuple of str
        Electrodes of each recording.
    classes : ndarray, shape (n_classes,)
        Labels of all recordings, united by name; empty without any.
    aligners : list of EuclideanAlignment or None
        References of each recording's subjects.
    scores : dict of str to float
        Screening score of each subject.
    """

    data: np.ndarray
    y: np.ndarray
    subjects: np.ndarray
    recordings: np.ndarray
    ch_names: list
    classes: np.ndarray
    aligners: list
    scores: dict

    def training_trials(self, rows, n_times, estimator, seed):
        """Trials to train on, in the montages, crops and balance that the estimator asks for.

        Parameters
        ----------
        rows : ndarray of int
            Some of the trials.
        n_times : int
            Samples of a crop.
        estimator : MIRepNetPretrainer
            Its settings ``montages``, ``balance`` and ``template``.
        seed : int
            Seed of the montages.

        Returns
        -------
        trials : MontageTrials
            They draw a montage and a crop for each trial of each batch.
        """
        groups = np.unique(self.subjects[rows].astype(str), return_inverse=True)[1]
        matrices = self._matrices(rows, groups, estimator.montages, estimator.template, seed)
        weights = balanced_weights(self.y[rows], groups) if estimator.balance else None
        return MontageTrials(self.data[rows], self.y[rows], groups, matrices, n_times, weights)

    def validation_trials(self, rows, n_times, estimator):
        """Trials to watch: all electrodes, the middle of each trial.

        Parameters
        ----------
        rows, n_times, estimator
            As for `training_trials`.

        Returns
        -------
        trials : Trials
            On the template.
        """
        groups = np.unique(self.subjects[rows].astype(str), return_inverse=True)[1]
        matrices = self._matrices(rows, groups, estimator.montages and 1, estimator.template, 0)
        start = (self.data.shape[2] - n_times) // 2
        data = self.data[rows, :, start : start + n_times]
        return Trials(data if matrices is None else np.matmul(matrices[groups, 0], data), self.y[rows])

    def _matrices(self, rows, groups, n_montages, template, seed):
        """Matrices of all subjects, those of recordings with fewer electrodes filled up with zeros."""
        if n_montages is None:
            return None
        rng, made = np.random.default_rng(seed), [None] * (groups.max() + 1)
        for number in np.unique(self.recordings[rows]):
            here, names = self.recordings[rows] == number, self.ch_names[number]
            subjects, own = np.unique(groups[here], return_inverse=True)
            X = make_eeg(self.data[rows[here], : len(names)], names)
            matrices = montage_matrices(X, own, n_montages, template, rng)
            missing = self.data.shape[1] - len(names)
            for subject, of_subject in zip(subjects, matrices, strict=True):
                made[subject] = np.pad(of_subject, ((0, 0), (0, 0), (0, missing)))
        return np.stack(made)


def pool_recordings(recordings, estimator):
    """Bring recordings to the form of the network, each by itself, and together.

    Each is resampled, screened where wanted, aligned by subject, and interpolated to the template; with ``montages``
    the last two are left to the batches. Trials that are longer than the others may be are cut, unless crops are drawn
    of them; shorter ones go on backwards from their end.

    Parameters
    ----------
    recordings : list of tuple (X, y, subjects)
        As `list_recordings` gives them, the trials as `EEGArray`, labels as arrays or None.
    estimator : MIRepNetPretrainer
        Its settings ``resample``, ``screen``, ``align``, ``domain``, ``template``, ``montages``, ``crops`` and
        ``n_times``.

    Returns
    -------
    pool : Pool
        All trials.
    """
    parts, labels, people, aligners, scores, numbers, ch_names = [], [], [], [], {}, [], []
    for number, (X, y, subjects) in enumerate(recordings):
        names, whose = name_people(X, subjects, number if len(recordings) > 1 else None)
        X = at_rate(X, estimator.resample)
        if estimator.screen is not None:
            kept, found = _screen(X, y, names, estimator.screen, number)
            X, y, names, scores = X[kept], y[kept], names[kept], scores | found
            whose = None if whose is None else whose[kept]
        if len(X):
            aligner, aligned = fit_alignment(X, estimator.align, estimator.domain, whose)
            on_place = on_template(aligned, estimator.template)
            parts.append(np.asarray(on_place if estimator.montages is None else X, dtype=np.float32))
            numbers.append(np.full(len(X), len(numbers)))
            ch_names, aligners, people = [*ch_names, X.ch_names], [*aligners, aligner], [*people, names]
            labels.append([None] * len(X) if y is None else list(y))
    if not parts:
        raise ValueError(f"screen: nobody of {len(scores)} reaches the accuracy wanted: {scores}.")
    data = _same_shape(parts, None if estimator.crops else estimator.n_times, estimator.montages is not None)
    y, classes = _unite(labels)
    return Pool(data, y, np.concatenate(people), np.concatenate(numbers), ch_names, classes, aligners, scores)


def _screen(X, y, names, threshold, number):
    """Choose the trials of those who can be decoded; give the accuracies too."""
    if y is None:
        raise ValueError(f"screen: recording {number} has no labels, which screening needs.")
    found = screen_subjects(X, y, names.astype(str), threshold=threshold)
    return found.mask, dict(zip(found.subjects.tolist(), found.scores.tolist(), strict=True))


def _same_shape(parts, n_times, as_recorded):
    """Join trials of any length, to ``n_times`` or to the longest, and as recorded of any number of channels."""
    wanted = max(part.shape[2] for part in parts) if n_times is None else int(n_times)
    if wanted < 1:
        raise ValueError(f"n_times: got {n_times}, expected 1 or more samples, or None.")
    most = max(part.shape[1] for part in parts)
    if not as_recorded and any(part.shape[1] != most for part in parts):
        raise ValueError("template: None keeps the electrodes of each recording, and these differ in their number.")
    parts = [np.pad(part, ((0, 0), (0, most - part.shape[1]), (0, 0))) for part in parts]
    return np.concatenate([padded(part[:, :, :wanted], wanted, "reflect") for part in parts])


def _unite(labels):
    """Class indices over the union of all labels."""
    known = [label for one in labels for label in one if label is not None]
    classes = np.unique(known) if known else np.array([])
    places = {label: i for i, label in enumerate(classes.tolist())}
    flat = [label for one in labels for label in one]
    plain = [label.item() if isinstance(label, np.generic) else label for label in flat]
    return np.array([UNLABELLED if one is None else places[_like(one, classes)] for one in plain]), classes


def _like(label, classes):
    """Write a label as the union does, where recordings name their classes by different types."""
    return str(label) if classes.dtype.kind == "U" else label
