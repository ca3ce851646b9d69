"""Validation trials that a network does not train on."""

import numpy as np
from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit, StratifiedShuffleSplit


def split_validation(y, validation, size=0.2, subjects=None, seed=0):
    """Hold out validation trials: give indices to train on, and to watch, or None, of trials with targets ``y``.

    ``validation`` None trains on everything; ``"trial"`` draws trials, with the shares of integer class indices;
    ``"block"`` takes the last of each class, recorded apart from the others; ``"subject"`` never validates on a subject
    it trains on; a tuple names the subjects to validate on. ``size`` is the share of the subjects or trials held out.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.training import split_validation
    >>> training, held = split_validation(np.array([0, 1] * 4), "subject", 0.5, np.repeat([1, 2], 4))
    >>> len(training), len(held)
    (4, 4)
    """
    y = np.asarray(y)
    if validation is None:
        return np.arange(len(y)), None
    if isinstance(validation, tuple):
        held = np.isin(np.asarray(_check_subjects(subjects)).astype(str), [str(name) for name in validation])
        if held.all() or not held.any():
            raise ValueError(f"validation: of the subjects {validation!r} either none has trials, or no other has.")
        return np.flatnonzero(~held), np.flatnonzero(held)
    if validation not in ("trial", "block", "subject"):
        known = "None, 'trial', 'block', 'subject' or a tuple of subjects"
        raise ValueError(f"validation: got {validation!r}, expected {known}.")
    if validation == "subject":
        splitter = GroupShuffleSplit(1, test_size=size, random_state=seed)
        return next(splitter.split(y, groups=_check_subjects(subjects)))
    is_class = y.ndim == 1 and y.dtype.kind in "iu"
    if validation == "block":
        return _last_block(y if is_class else np.zeros(len(y), dtype=int), size)
    splitter = (StratifiedShuffleSplit if is_class else ShuffleSplit)(1, test_size=size, random_state=seed)
    try:
        return next(splitter.split(y, y))
    except ValueError as error:
        raise ValueError(f"validation: {len(y)} trials are too few to hold out a share of {size}: {error}") from error


def _last_block(classes, size):
    """Hold out the last trials of each class."""
    rows = [np.flatnonzero(classes == one) for one in np.unique(classes)]
    few = min(map(len, rows))
    if few < 2:
        raise ValueError(f"validation: 'block' needs at least 2 trials a class, got {few}.")
    n_held = [min(max(round(size * len(one)), 1), len(one) - 1) for one in rows]
    held = np.sort(np.concatenate([one[len(one) - n :] for one, n in zip(rows, n_held, strict=True)]))
    return np.setdiff1d(np.arange(len(classes)), held), held


def _check_subjects(subjects):
    """Subjects of the trials, at least two."""
    if subjects is None:
        raise ValueError("validation='subject' needs the subject of each trial: fit(..., subjects=...), or domains.")
    if len(np.unique(subjects)) < 2:
        raise ValueError("validation='subject' needs at least two subjects, got one.")
    return subjects
