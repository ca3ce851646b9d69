"""Recordings of many laboratories, whatever their montage, rate, window and classes, as one block of trials."""

import dataclasses

import numpy as np
from sklearn.utils.multiclass import check_classification_targets

from ...array import is_epochs, make_domains
from ...screening import screen_subjects
from .form import at_rate, fit_alignment, on_template, padded
from .objective import UNLABELLED


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


def list_recordings(X, y=None, subjects=None):
    """Tell one recording from a list of them.

    Parameters
    ----------
    X : anything `as_eeg` accepts, or list of such
        Trials.
    y : array-like, list with one entry (or None) a recording, or None
        Labels.
    subjects : array-like, list with one entry a recording, or None
        Who it is; an entry names one person, or each trial's.

    Returns
    -------
    recordings : list of tuple (X, y, subjects)
        One for each recording.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.methods.mirepnet.recordings import list_recordings
    >>> len(list_recordings(np.zeros((4, 3, 9)))), len(list_recordings([np.zeros((4, 3, 9)), np.zeros((2, 5, 7))]))
    (1, 2)
    """
    is_list = isinstance(X, list | tuple) and len(X) > 0
    if y is None:
        several = is_list and all(not is_epochs(one) and np.ndim(one) == 3 for one in X)
    else:
        several = is_list and isinstance(y, list | tuple) and all(one is None or np.ndim(one) == 1 for one in y)
    if not several:
        return [(X, y, subjects)]
    ys = [None] * len(X) if y is None else list(y)
    whose = [None] * len(X) if subjects is None else list(subjects)
    for name, given in (("y", ys), ("subjects", whose)):
        if len(given) != len(X):
            raise ValueError(f"{name}: got {len(given)} entries for {len(X)} recordings in X.")
    return list(zip(X, ys, whose, strict=True))


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
        names, whose = _name_people(X, subjects, number if len(recordings) > 1 else None)
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


def _name_people(X, subjects, number):
    """Give the subject of each trial, unique over recordings, and what the alignment is to be told."""
    own = X.domains["subject"] if X.domains is not None else subjects
    prefix = "" if number is None else f"{number}/"
    if own is None:
        return np.full(len(X), prefix + "0", dtype=object), None
    names = make_domains(len(X), subject=own)["subject"]
    told = None if X.domains is not None else names
    return np.array([f"{prefix}{name}" for name in names], dtype=object), told


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


def read_labels(y, n_trials):
    """Labels of one recording, checked, or None.

    Parameters
    ----------
    y : array-like, shape (n_trials,), or None
        Labels.
    n_trials : int
        Trials of the recording.

    Returns
    -------
    y : ndarray, shape (n_trials,), or None
        Labels.
    """
    if y is None:
        return None
    check_classification_targets(y)
    y = np.asarray(y)
    if y.shape != (n_trials,):
        raise ValueError(f"y: got shape {y.shape} for {n_trials} trials in X.")
    return y
