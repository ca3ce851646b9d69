"""Bad trials, targets and parameters, and the outcome of a call with them: an answer, an error, or a failure."""

import contextlib
import re
import signal
import threading
import warnings
from typing import NamedTuple

import numpy as np
from scipy import sparse

from ..array import EEGArray
from ..base import EEGEstimator
from .recordings import assert_same_outputs, fresh, methods_of, outputs, params_of

ANSWER, CLEAR = "right answer", "clear error"
WRONG = ("unclear error", "wrong type", "undetected", "changed state", "hang", "executed")
FATAL = ("wrong type", "undetected", "changed state", "hang", "executed")


class BadInput(NamedTuple):
    """Input that is wrong in one way.

    Attributes
    ----------
    make : callable
        From good trials and targets (X, y) to bad ones.
    wrong : str
        What is wrong with it.
    stage : {"both", "fit", "apply"}
        Where it is wrong: a trial is shorter only after the fit.
    """

    make: callable
    wrong: str
    stage: str = "both"


def bad_inputs():
    """Corpus of bad trials and targets, dict of str to `BadInput`.

    An estimator answers each correctly (an imputer fills NaN, a spatial filter takes trials of another length), or
    refuses it by a ValueError or TypeError that names the argument, and is then as it was before.

    Examples
    --------
    >>> from skeeg.testing import bad_inputs
    >>> len(bad_inputs()) > 40, bad_inputs()["NaN"].wrong
    (True, 'one sample is NaN')
    """
    return {**_values(), **_shapes(), **_recordings(), **_targets()}


def bad_parameters():
    """Values, by parameter, that no estimator which has the parameter may accept, dict of str to tuple."""
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
    """Trials of the right shape with wrong values."""
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


def _shapes():
    """Trials of another shape or type."""
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


def judge(call, names, n_trials=None, must_name=None, seconds=60):
    """Make a call and classify its outcome; give it and the error."""
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"), _stopped_after(seconds):
            warnings.simplefilter("ignore")
            found = call()
    except _TookTooLong:
        return "hang", f"more than {seconds} s"
    except (ValueError, TypeError) as error:
        message = f"{type(error).__name__}: {error}"
        named = (
            must_name in message if must_name else re.search(rf"\b({'|'.join(map(re.escape, names))})\b", str(error))
        )
        return (CLEAR if named else "unclear error"), message
    except Exception as error:  # what an attack is for
        return "wrong type", f"{type(error).__name__}: {error}"
    for name, value in (found or {}).items() if not isinstance(found, list) else enumerate(found):
        value = np.asarray(value)
        if value.dtype.kind in "fc" and not np.isfinite(value).all():
            return "undetected", f"{name} is not finite"
        if n_trials is not None and (value.ndim == 0 or len(value) != n_trials):
            return "undetected", f"{name} has shape {value.shape} for {n_trials} trials"
    return ANSWER, ""


def argument_names(estimator):
    """Names that an error may give: those of the data and of the parameters."""
    return ["X", "y", "data", "subjects", "mask", *params_of(estimator)]


def same_attributes(estimator, before):
    """Whether an estimator holds the same objects under the same names as before."""
    after = vars(estimator)
    return after.keys() == before.keys() and all(after[name] is before[name] for name in before)


def attack(estimator, fitted, X, y, bad):
    """Give one bad input to every method of an estimator; yields the method, the outcome and the error."""
    Z, targets = bad.make(X, y)
    names = argument_names(estimator)
    if bad.stage != "apply":
        yield "fit", *_attack_fit(estimator, fitted, Z, targets, X[:3], names)
    for method, call in methods_of(fitted).items() if bad.stage != "fit" else ():
        before = dict(vars(fitted))
        outcome, message = judge(lambda call=call: [call(Z)], names, _length(Z))
        yield method, outcome if same_attributes(fitted, before) else "changed state", message


def attack_parameters(estimator, X, y):
    """Fit with each of `bad_parameters` that an estimator has; yields parameter and value, outcome, and error."""
    params = estimator.get_params(deep=False)
    for name, values in bad_parameters().items():
        for value in values if name in params else ():
            one = fresh(estimator).set_params(**{name: value})
            before = dict(vars(one))
            outcome, message = judge(lambda one=one: one.fit(X, y) and None, [name])
            outcome = "undetected" if outcome == ANSWER else outcome
            atomic = outcome != CLEAR or same_attributes(one, before)
            yield f"{name}={value!r}", outcome if atomic else "changed state", message


def _attack_fit(estimator, fitted, Z, targets, X, names):
    """Fit to bad input: a first time, and, where that is refused, once more."""
    one = fresh(estimator)
    first = dict(vars(one))
    outcome, message = judge(lambda: one.fit(Z, targets) and None, names)
    if outcome == ANSWER:
        return judge(lambda: [method(Z) for method in methods_of(one).values()], names, _length(Z))
    atomic = isinstance(one, EEGEstimator)
    if atomic and not same_attributes(one, first):
        return "changed state", message
    before, wanted = dict(vars(fitted)), outputs(fitted, X)
    again, _ = judge(lambda: fitted.fit(Z, targets) and None, names)
    kept = same_attributes(fitted, before) or not atomic  # others may change attributes if they predict the same
    if again == ANSWER or not kept or not _same_outputs(fitted, X, wanted):
        outcome = "changed state"
    vars(fitted).clear()
    vars(fitted).update(before)
    return outcome, message


def _same_outputs(fitted, X, wanted):
    try:
        assert_same_outputs(outputs(fitted, X), wanted, "as before", rtol=1e-6)
    except Exception:  # it may not even be fitted any more
        return False
    return True


def _length(Z):
    """Count the trials, where what is given has any."""
    return len(Z) if isinstance(Z, np.ndarray) and Z.ndim else None


class _TookTooLong(BaseException):
    """Raised by the alarm; an ``except Exception`` does not catch it."""


@contextlib.contextmanager
def _stopped_after(seconds):
    """Limit the time of a block, where the system has an alarm for it."""
    if "setitimer" not in dir(signal) or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_):
        raise _TookTooLong

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
