"""Bad input for any estimator: trials, targets and parameters that no recording and no user may bring unnoticed."""

from typing import NamedTuple

import numpy as np
from scipy import sparse

from ..array import EEGArray


class BadInput(NamedTuple):
    """Input that is wrong in one way.

    Attributes
    ----------
    make : callable
        From good trials and targets (X, y) to bad ones.
    wrong : str
        What is wrong with it.
    stage : {"both", "fit", "apply"}
        Where it is wrong: a shorter trial, say, is none before the fit.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.testing import bad_inputs
    >>> X, y = bad_inputs()["NaN"].make(np.zeros((4, 2, 9)), np.arange(4))
    >>> int(np.isnan(X).sum())
    1
    """

    make: callable
    wrong: str
    stage: str = "both"


def bad_inputs():
    """Give the corpus of bad trials and targets.

    Returns
    -------
    inputs : dict of str to BadInput
        By name. An estimator answers each rightly (an imputer fills NaN, a spatial filter takes trials of another
        length), or refuses it by a ValueError or TypeError that names the argument, and is then as it was before.

    Examples
    --------
    >>> from skeeg.testing import bad_inputs
    >>> len(bad_inputs()) > 40, bad_inputs()["NaN"].wrong
    (True, 'one sample is NaN')
    """
    return {**_values(), **_forms(), **_recordings(), **_targets()}


def bad_parameters():
    """Give values that no estimator which has the parameter may take.

    Returns
    -------
    parameters : dict of str to tuple
        Values of each parameter.

    Examples
    --------
    >>> from skeeg.testing import bad_parameters
    >>> bad_parameters()["order"]
    (0, -1, 2.5, 'x')
    """
    whole = (0, -1, 2.5, "x")
    return {
        "sfreq": (0, -1.0, np.nan, np.inf, "x"),
        "sfreq_out": (0, -1.0, np.nan, np.inf, "x"),
        "resample": (-1.0, np.nan, np.inf, "x"),
        "ch_names": ("C3", 5),
        "order": whole,
        "n_components": (0, -1, np.nan, "x"),
        "batch_size": whole,
        "max_epochs": (-1, 2.5, "x"),
        "patience": (-1, 2.5, "x"),
        "learning_rate": (-1.0, np.nan, "x"),
        "device": ("cuda:99", "x", 5),
        "validation": ("x", 5),
        "validation_size": (-1.0, 2.0, np.nan, "x"),
        "solver": ("x", 5),
        "random_state": (-1, "x"),
        "phase": ("linear", 5),
        "method": ("x", 5),
        "log": ("yes", 5),
        "notch_widths": (-1.0, np.nan, "x"),
        "freqs": (0, -1.0, np.nan, "x"),
        "bands": ((), ((8,),), (8, 12), "x", 5),
        "l_freq": (0, np.nan, "x"),
        "npad": (-1, 2.5, "x"),
        "metric": ("x", 5),
        "domain": ("x", 5),
        "on_unseen": ("x", 5),
        "template": ("x", (), 5),
        "checkpoint": (5,),
        "strategy": ("x", 5),
        "network": ("x", 5),
    }


def _with_value(value, place):
    def make(X, y):
        X = X.copy()
        with np.errstate(over="ignore"):  # what float32 cannot hold is infinite
            X[place] = value
        return X, y

    return make


def _values():
    """Trials of the right form with wrong values."""
    one, channel, trial = (1, 0, 3), (slice(None), 1), (1,)
    return {
        "NaN": BadInput(_with_value(np.nan, one), "one sample is NaN"),
        "bad channel": BadInput(_with_value(np.nan, channel), "a channel is marked bad (NaN)"),
        "all NaN": BadInput(_with_value(np.nan, (...,)), "every sample is NaN"),
        "infinity": BadInput(_with_value(np.inf, one), "one sample is infinite"),
        "minus infinity": BadInput(_with_value(-np.inf, one), "one sample is infinite"),
        "huge": BadInput(_with_value(1e200, one), "the square of a sample is not finite"),
        "flat channel": BadInput(_with_value(0.0, channel), "a channel never changes"),
        "flat trial": BadInput(_with_value(0.0, trial), "a trial never changes"),
        "all zero": BadInput(_with_value(0.0, (...,)), "nothing ever changes"),
        "masked": BadInput(lambda X, y: (np.ma.masked_greater(np.asarray(X), 10.0), y), "samples are masked"),
        "complex": BadInput(lambda X, y: (np.asarray(X) + 1j, y), "the samples are complex"),
        "text": BadInput(lambda X, y: (np.asarray(X).astype(str).astype(object), y), "the samples are strings"),
        "dates": BadInput(lambda X, y: (np.asarray(X).astype("datetime64[s]"), y), "the samples are dates"),
        "objects": BadInput(lambda X, y: (np.full(X.shape, {}, dtype=object), y), "the samples are dictionaries"),
    }


def _forms():
    """Trials of another form."""
    return {
        "no trial": BadInput(lambda X, y: (X[:0], y[:0]), "there is no trial"),
        "no channel": BadInput(lambda X, y: (X[:, :0], y), "there is no channel"),
        "no sample": BadInput(lambda X, y: (X[..., :0], y), "there is no sample"),
        "one number": BadInput(lambda X, y: (5.0, y), "a number in place of trials"),
        "nothing": BadInput(lambda X, y: (None, y), "None in place of trials"),
        "a word": BadInput(lambda X, y: ("trials", y), "a string in place of trials"),
        "a dictionary": BadInput(lambda X, y: ({"X": X}, y), "a dictionary in place of trials"),
        "a set": BadInput(lambda X, y: ({1, 2}, y), "a set in place of trials"),
        "ragged": BadInput(lambda X, y: ([[1.0], [1.0, 2.0]], y), "rows of different length"),
        "sparse": BadInput(lambda X, y: (sparse.csr_array(np.asarray(X)[:, 0]), y), "a sparse matrix"),
        "one axis": BadInput(lambda X, y: (np.asarray(X)[:, 0, 0], y), "one axis"),
        "one trial": BadInput(lambda X, y: (np.asarray(X)[0], y), "one trial without its axis", "apply"),
        "four axes": BadInput(lambda X, y: (np.asarray(X)[:, None], y), "four axes"),
    }


def _recordings():
    """Trials of another recording than at fit."""

    def like(**changes):
        return lambda X, y: (X.like(X, **changes) if isinstance(X, EEGArray) else X, y)

    def other_names(X, y):
        return (X.like(X, ch_names=X.ch_names[::-1]) if isinstance(X, EEGArray) else X), y

    return {
        "fewer channels": BadInput(lambda X, y: (X[:, :-1], y), "a channel is missing", "apply"),
        "other order": BadInput(other_names, "the channels are in another order", "apply"),
        "other rate": BadInput(like(sfreq=50.0), "another sampling rate", "apply"),
        "shorter": BadInput(lambda X, y: (X[..., :-5], y), "the trials are shorter", "apply"),
        "one sample": BadInput(lambda X, y: (X[..., :1], y), "the trials have one sample", "apply"),
        "unknown electrodes": BadInput(
            lambda X, y: (
                (X.like(X, ch_names=[f"?{i}" for i in range(X.shape[1])]), y) if isinstance(X, EEGArray) else (X, y)
            ),
            "electrodes that no system knows",
        ),
    }


def _targets():
    """Targets that belong to no trials."""

    def number(value):
        return lambda X, y: (X, np.where(np.arange(len(y)) == 1, value, np.asarray(y, dtype=float)))

    changes = {
        "fewer targets": (lambda X, y: (X, y[:-1]), "fewer targets than trials"),
        "no targets": (lambda X, y: (X, None), "no targets"),
        "one target": (lambda X, y: (X, 1), "a number in place of targets"),
        "NaN target": (number(np.nan), "a target is NaN"),
        "infinite target": (number(np.inf), "a target is infinite"),
        "dictionary targets": (lambda X, y: (X, [{}] * len(X)), "the targets are dictionaries"),
        "ragged targets": (lambda X, y: (X, [[1]] * (len(X) - 1) + [[1, 2]]), "rows of different length as targets"),
        "complex targets": (lambda X, y: (X, np.asarray(y) + 1j), "the targets are complex"),
    }
    return {name: BadInput(make, wrong, "fit") for name, (make, wrong) in changes.items()}
