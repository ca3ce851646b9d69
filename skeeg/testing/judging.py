"""What becomes of a call with bad input: an answer, a clear error, or something that must not be."""

import contextlib
import re
import signal
import threading
import warnings
from collections import Counter

import numpy as np

from ..base import EEGEstimator
from .corpus import bad_parameters
from .recordings import METHODS, assert_same_outputs, fresh, outputs

ANSWER, CLEAR = "right answer", "clear error"
WRONG = ("unclear error", "wrong type", "silent", "changed state", "hang", "executed")
FATAL = ("wrong type", "silent", "changed state", "hang", "executed")


def judge(call, names, n_trials=None, must_name=None, seconds=60):
    """Make a call and say what became of it.

    Parameters
    ----------
    call : callable
        Gives arrays (in a dict or a sequence), or None where there is nothing to look at.
    names : sequence of str
        Arguments, of which the message of an error has to name one.
    n_trials : int or None
        Number of rows a right answer has.
    must_name : str or None
        What the message has to name in any case.
    seconds : float
        When to stop it.

    Returns
    -------
    outcome, told : str
        One of ``"right answer"``, ``"clear error"`` and `WRONG`, and what happened.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.testing.judging import judge
    >>> judge(lambda: [np.array([np.nan])], ["X"])[0], judge(lambda: 1 / 0, ["X"])[0]
    ('silent', 'wrong type')
    """
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"), _stopped_after(seconds):
            warnings.simplefilter("ignore")
            found = call()
    except _TookTooLong:
        return "hang", f"more than {seconds} s"
    except (ValueError, TypeError) as error:
        told = f"{type(error).__name__}: {error}"
        named = must_name in told if must_name else re.search(rf"\b({'|'.join(map(re.escape, names))})\b", str(error))
        return (CLEAR if named else "unclear error"), told
    except Exception as error:  # what an attack is for
        return "wrong type", f"{type(error).__name__}: {error}"
    for name, value in (found or {}).items() if not isinstance(found, list) else enumerate(found):
        value = np.asarray(value)
        if value.dtype.kind in "fc" and not np.isfinite(value).all():
            return "silent", f"{name} is not finite"
        if n_trials is not None and (value.ndim == 0 or len(value) != n_trials):
            return "silent", f"{name} has shape {value.shape} for {n_trials} trials"
    return ANSWER, ""


def argument_names(estimator):
    """Names that an error may give: those of the data and of the parameters."""
    params = estimator.get_params(deep=True) if hasattr(estimator, "get_params") else {}
    return ["X", "y", "data", "subjects", "mask", *params]


def same_attributes(estimator, before):
    """Whether an estimator holds what it held before: the same objects under the same names.

    Examples
    --------
    >>> from skeeg import BandPass
    >>> from skeeg.testing.judging import same_attributes
    >>> step = BandPass()
    >>> same_attributes(step, dict(vars(step)))
    True
    """
    after = vars(estimator)
    return after.keys() == before.keys() and all(after[name] is before[name] for name in before)


def attack(estimator, fitted, X, y, bad):
    """Give one bad input to every method of an estimator.

    Parameters
    ----------
    estimator, fitted : estimator
        Not fitted, and fitted to X and y.
    X : EEGArray or ndarray, shape (n_trials, n_channels, n_times)
        Good trials.
    y : ndarray, shape (n_trials,)
        Good targets.
    bad : BadInput
        What to make of them.

    Yields
    ------
    method, outcome, told : str
        What was called, what became of it (see `judge`), and the error.
    """
    Z, targets = bad.make(X, y)
    names = argument_names(estimator)
    if bad.stage != "apply":
        yield "fit", *_attack_fit(estimator, fitted, Z, targets, X[:3], names)
    for method in METHODS if bad.stage != "fit" else ():
        if hasattr(fitted, method):
            before, call = dict(vars(fitted)), getattr(fitted, method)
            outcome, told = judge(lambda call=call: [call(Z)], names, _length(Z))
            yield method, *((outcome, told) if same_attributes(fitted, before) else ("changed state", told))


def attack_parameters(estimator, X, y):
    """Fit with each of `bad_parameters` that an estimator has.

    Parameters
    ----------
    estimator : estimator
        Not fitted.
    X, y
        Good trials and targets.

    Yields
    ------
    what, outcome, told : str
        Parameter and value, what became of it (see `judge`), and the error.
    """
    params = estimator.get_params(deep=False)
    for name, values in bad_parameters().items():
        for value in values if name in params else ():
            one = fresh(estimator).set_params(**{name: value})
            before = dict(vars(one))
            outcome, told = judge(lambda one=one: one.fit(X, y) and None, [name])
            outcome = "silent" if outcome == ANSWER else outcome
            atomic = outcome != CLEAR or same_attributes(one, before)
            yield f"{name}={value!r}", outcome if atomic else "changed state", told


def _attack_fit(estimator, fitted, Z, targets, X, names):
    """Fit to what is bad: a first time, and, where that is refused, once more."""
    one = fresh(estimator)
    first = dict(vars(one))
    outcome, told = judge(lambda: one.fit(Z, targets) and None, names)
    if outcome == ANSWER:
        return judge(lambda: [getattr(one, name)(Z) for name in METHODS if hasattr(one, name)], names, _length(Z))
    atomic = isinstance(one, EEGEstimator)
    if atomic and not same_attributes(one, first):
        return "changed state", told
    before, wanted = dict(vars(fitted)), outputs(fitted, X)
    again, _ = judge(lambda: fitted.fit(Z, targets) and None, names)
    kept = same_attributes(fitted, before) or not atomic  # others may note what they refuse, if they predict the same
    if again == ANSWER or not kept or not _same_outputs(fitted, X, wanted):
        outcome = "changed state"
    vars(fitted).clear()
    vars(fitted).update(before)
    return outcome, told


def _same_outputs(fitted, X, wanted):
    try:
        assert_same_outputs(outputs(fitted, X), wanted, "as before", rtol=1e-6)
    except Exception:  # it may not even be fitted any more
        return False
    return True


def _length(Z):
    """Count the trials, where what is given has any."""
    return len(Z) if isinstance(Z, np.ndarray) and Z.ndim else None


class Table:
    """Counts of outcomes, one row for each thing that was attacked, and what went wrong."""

    def __init__(self, title):
        self.title, self.rows, self.failures = title, {}, []

    def add(self, row, what, outcome, told=""):
        """Count one outcome."""
        self.rows.setdefault(row, Counter())[outcome] += 1
        if outcome in WRONG:
            self.failures.append((outcome, row, what, " ".join(told.split())[:160]))

    def count(self, outcomes):
        """Count the calls that had one of these outcomes."""
        return sum(counter[outcome] for counter in self.rows.values() for outcome in outcomes)

    def __str__(self):
        """Table, and a line for each failure."""
        columns = (ANSWER, CLEAR, *WRONG)
        width = max([len(row) for row in self.rows], default=0)
        lines = [f"{self.title}: {self.count(columns)} calls", " " * width + "".join(f"{one:>15}" for one in columns)]
        for row, counter in {**self.rows, "total": sum(self.rows.values(), Counter())}.items():
            lines.append(f"{row:{width}}" + "".join(f"{counter[one] or '':>15}" for one in columns))
        lines += [f"  {outcome}: {row}, {what}: {told}" for outcome, row, what, told in sorted(set(self.failures))]
        return "\n".join(lines)


class _TookTooLong(BaseException):
    """Raised by the alarm; no ``except Exception`` of what is attacked keeps it."""


@contextlib.contextmanager
def _stopped_after(seconds):
    """Stop what runs inside after a time, where the system has an alarm for it."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
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
