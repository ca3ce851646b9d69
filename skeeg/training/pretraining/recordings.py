"""Recordings of many laboratories: one or a list of them, and whose they are."""

import numpy as np

from ...array import is_epochs, make_domains
from ...base import check_class_labels


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
    >>> from skeeg.training.pretraining import list_recordings
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


def name_people(X, subjects, number):
    """Give the subject of each trial, unique over recordings, and what an alignment is to be told.

    Parameters
    ----------
    X : EEGArray, shape (n_trials, n_channels, n_times)
        Trials of one recording.
    subjects : str, array-like of shape (n_trials,), or None
        Who it is, where X carries no domains; None takes the recording for one person.
    number : int or None
        Number of the recording, which the names then begin with; None for the only one.

    Returns
    -------
    names : ndarray of str, shape (n_trials,)
        Subjects.
    told : ndarray of str, shape (n_trials,), or None
        Subjects without number, where X does not carry them and they were given.
    """
    own = X.domains["subject"] if X.domains is not None else subjects
    prefix = "" if number is None else f"{number}/"
    if own is None:
        return np.full(len(X), prefix + "0", dtype=object), None
    names = make_domains(len(X), subject=own)["subject"]
    told = None if X.domains is not None else names
    return np.array([f"{prefix}{name}" for name in names], dtype=object), told


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
    check_class_labels(y)
    y = np.asarray(y)
    if y.shape != (n_trials,):
        raise ValueError(f"y: got shape {y.shape} for {n_trials} trials in X.")
    return y
