"""Recordings of many laboratories, whatever their montage, rate, window and classes, as one block of trials."""

import dataclasses

import numpy as np

from ...filtering import at_rate
from ...screening import screen_subjects
from ...training.pretraining import list_recordings, name_people, read_labels
from .form import fit_alignment, on_template, padded
from .objective import UNLABELLED

__all__ = ["Pool", "list_recordings", "pool_recordings", "read_labels"]


@dataclasses.dataclass
class Pool:
    """Trials of all recordings, in the form of the network.

    Attributes
    ----------
    data : ndarray of float32, shape (n_trials, n_template, n_times)
        Trials.
    y : ndarray of int, shape (n_trials,)
        Class indices; -1 where there is no label.
    subjects : ndarray of str, shape (n_trials,)
        Who it is; people of different recordings are different people.
    classes : ndarray, shape (n_classes,)
        Labels of all recordings, united by name; empty without any.
    aligners : list of EuclideanAlignment or None
        References of each recording's people.
    scores : dict of str to float
        Screening score of each subject.
    """

    data: np.ndarray
    y: np.ndarray
    subjects: np.ndarray
    classes: np.ndarray
    aligners: list
    scores: dict


def pool_recordings(recordings, estimator):
    """Bring recordings to the form of the network, each by itself, and together.

    Each is resampled, screened where wanted, aligned by person, and interpolated to the template. Trials that are
    longer than the others may be are cut, shorter ones go on backwards from their end.

    Parameters
    ----------
    recordings : list of tuple (X, y, subjects)
        As `list_recordings` gives them, the trials as `EEGArray`, labels as arrays or None.
    estimator : MIRepNetPretrainer
        Its settings ``resample``, ``screen``, ``align``, ``domain``, ``template`` and ``n_times``.

    Returns
    -------
    pool : Pool
        All trials.
    """
    parts, labels, people, aligners, scores = [], [], [], [], {}
    for number, (X, y, subjects) in enumerate(recordings):
        names, whose = name_people(X, subjects, number if len(recordings) > 1 else None)
        X = at_rate(X, estimator.resample)
        if estimator.screen is not None:
            kept, found = _screen(X, y, names, estimator.screen, number)
            X, y, names, scores = X[kept], y[kept], names[kept], scores | found
            whose = None if whose is None else whose[kept]
        if len(X):
            aligner, X = fit_alignment(X, estimator.align, estimator.domain, whose)
            parts.append(np.asarray(on_template(X, estimator.template), dtype=np.float32))
            aligners, people = [*aligners, aligner], [*people, names]
            labels.append([None] * len(X) if y is None else list(y))
    if not parts:
        raise ValueError(f"screen: nobody of {len(scores)} reaches the accuracy wanted: {scores}.")
    data = _same_length(parts, estimator.n_times)
    y, classes = _unite(labels)
    return Pool(data, y, np.concatenate(people), classes, aligners, scores)


def _screen(X, y, names, threshold, number):
    """Choose the trials of those who can be decoded; give the accuracies too."""
    if y is None:
        raise ValueError(f"screen: recording {number} has no labels, which screening needs.")
    found = screen_subjects(X, y, names.astype(str), threshold=threshold)
    return found.mask, dict(zip(found.subjects.tolist(), found.scores.tolist(), strict=True))


def _same_length(parts, n_times):
    """Join trials of any length: to ``n_times``, or to the longest."""
    wanted = max(part.shape[2] for part in parts) if n_times is None else int(n_times)
    if wanted < 1:
        raise ValueError(f"n_times: got {n_times}, expected 1 or more samples, or None.")
    if len({part.shape[1] for part in parts}) > 1:
        raise ValueError("template: None keeps the electrodes of each recording, and these differ in their number.")
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
