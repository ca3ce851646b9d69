"""Input: a corpus of bad trials, targets and parameters, and checks with these and with input of any kind."""

import re
import warnings
from typing import NamedTuple

import numpy as np
from scipy import sparse

from ..array import EEGArray, make_domains
from ..base import EEGEstimator
from .recordings import (
    assert_same_outputs,
    data_for,
    fitted_on,
    fresh,
    has,
    methods_of,
    outputs,
    reads_eeg_array,
    takes_any_montage,
)

ANSWER, CLEAR = "right answer", "clear error"
WRONG = ("unclear error", "wrong type", "undetected", "changed state")


class BadInput(NamedTuple):
    """Input that is wrong in one way, which its name in `bad_inputs` tells.

    Attributes
    ----------
    make : callable
        From good trials and targets (X, y) to bad ones.
    stage : {"both", "fit", "apply"}
        Where it is wrong: a trial is shorter only after the fit.
    refused : callable
        Whether an estimator must refuse it, at fit or, with the stage "apply", after it, so that no answer is right.
    """

    make: callable
    stage: str = "both"
    refused: callable = lambda estimator: False


def bad_inputs():
    """Corpus of bad trials and targets, dict of str to `BadInput`.

    An estimator answers each correctly (an imputer fills NaN, a spatial filter takes trials of another length), or
    refuses it by a ValueError or TypeError that names the argument, and is then as it was before.

    Examples
    --------
    >>> from skeeg.testing import bad_inputs
    >>> len(bad_inputs()) > 40, bad_inputs()["other rate"].stage
    (True, 'apply')
    """
    return {**_values(), **_shapes(), **_recordings(), **_targets()}


def bad_parameters():
    """Values, by parameter, that no estimator which has the parameter may accept, dict of str to tuple."""
    names = ("device", "domain", "method", "metric", "network", "on_unseen", "solver", "strategy", "validation")
    return {
        **dict.fromkeys(names, ("x", 5)),
        **dict.fromkeys(("batch_size", "order"), (0, -1, 2.5, "x")),
        **dict.fromkeys(("max_epochs", "npad", "patience"), (-1, 2.5, "x")),
        **dict.fromkeys(("sfreq", "sfreq_out"), (0, -1.0, np.nan, np.inf, "x")),
        "device": ("cuda:99", "x", 5),
        "resample": (-1.0, np.nan, np.inf, "x"),
        "ch_names": ("C3", 5),
        "n_components": (0, -1, np.nan, "x"),
        "learning_rate": (-1.0, np.nan, "x"),
        "validation_size": (-1.0, 2.0, np.nan, "x"),
        "random_state": (-1, "x"),
        "phase": ("linear", 5),
        "log": ("yes", 5),
        "notch_widths": (-1.0, np.nan, "x"),
        "freqs": (0, -1.0, np.nan, "x"),
        "bands": ((), ((8,),), (8, 12), "x", 5),
        "l_freq": (0, np.nan, "x"),
        "template": ("x", (), 5),
        "checkpoint": (5,),
    }


def _with_value(value, place):
    def make(X, y):
        X = X.copy()
        with np.errstate(over="ignore"):  # what float32 cannot hold is infinite
            X[place] = value
        return X, y

    return make


def _predicts(estimator):
    return has(estimator, "predict")


def _values():
    """Trials of the right shape with wrong values."""
    one, channel, trial = (1, 0, 3), (slice(None), 1), (1,)
    return {
        "NaN": BadInput(_with_value(np.nan, one)),
        "bad channel": BadInput(_with_value(np.nan, channel)),
        "all NaN": BadInput(_with_value(np.nan, (...,))),
        "infinity": BadInput(_with_value(np.inf, one)),
        "minus infinity": BadInput(_with_value(-np.inf, one)),
        "huge": BadInput(_with_value(1e200, one)),
        "flat channel": BadInput(_with_value(0.0, channel), refused=_predicts),
        "flat trial": BadInput(_with_value(0.0, trial)),
        "all zero": BadInput(_with_value(0.0, (...,))),
        "masked": BadInput(lambda X, y: (np.ma.masked_greater(np.asarray(X), 10.0), y)),
        "complex": BadInput(lambda X, y: (np.asarray(X) + 1j, y)),
        "text": BadInput(lambda X, y: (np.asarray(X).astype(str).astype(object), y)),
        "dates": BadInput(lambda X, y: (np.asarray(X).astype("datetime64[s]"), y)),
        "objects": BadInput(lambda X, y: (np.full(X.shape, {}, dtype=object), y)),
    }


def _shapes():
    """Trials of another shape or type."""
    return {
        "no trial": BadInput(lambda X, y: (X[:0], y[:0])),
        "no channel": BadInput(lambda X, y: (X[:, :0], y)),
        "no sample": BadInput(lambda X, y: (X[..., :0], y)),
        "one number": BadInput(lambda X, y: (5.0, y)),
        "nothing": BadInput(lambda X, y: (None, y)),
        "a word": BadInput(lambda X, y: ("trials", y)),
        "a dictionary": BadInput(lambda X, y: ({"X": X}, y)),
        "a set": BadInput(lambda X, y: ({1, 2}, y)),
        "ragged": BadInput(lambda X, y: ([[1.0], [1.0, 2.0]], y)),
        "sparse": BadInput(lambda X, y: (sparse.csr_array(np.asarray(X)[:, 0]), y)),
        "one axis": BadInput(lambda X, y: (np.asarray(X)[:, 0, 0], y)),
        "one trial": BadInput(lambda X, y: (np.asarray(X)[0], y), "apply"),
        "four axes": BadInput(lambda X, y: (np.asarray(X)[:, None], y)),
    }


def _recordings():
    """Trials of another recording than at fit."""

    def like(changes):  # plain trials have no identity
        return lambda X, y: (X.like(X, **changes(X)) if isinstance(X, EEGArray) else X, y)

    other, rate = like(lambda X: {"ch_names": X.ch_names[::-1]}), like(lambda X: {"sfreq": 50.0})
    unknown = like(lambda X: {"ch_names": [f"?{i}" for i in range(X.shape[1])]})

    def by_number(estimator):
        return not takes_any_montage(estimator)

    def by_name(estimator):
        return reads_eeg_array(estimator) and by_number(estimator)

    def by_rate(estimator):
        return reads_eeg_array(estimator) and not (isinstance(estimator, EEGEstimator) and estimator._any_rate)

    return {
        "fewer channels": BadInput(lambda X, y: (X[:, :-1], y), "apply", by_number),
        "other order": BadInput(other, "apply", by_name),
        "other rate": BadInput(rate, "apply", by_rate),
        "shorter": BadInput(lambda X, y: (X[..., :-5], y), "apply"),
        "one sample": BadInput(lambda X, y: (X[..., :1], y), "apply"),
        "unknown electrodes": BadInput(unknown),
    }


def _targets():
    """Targets that belong to no trials."""

    def number(value):
        return lambda X, y: (X, np.where(np.arange(len(y)) == 1, value, np.asarray(y, dtype=float)))

    return {
        "fewer targets": BadInput(lambda X, y: (X, y[:-1]), "fit", _predicts),
        "no targets": BadInput(lambda X, y: (X, None), "fit"),
        "one target": BadInput(lambda X, y: (X, 1), "fit"),
        "NaN target": BadInput(number(np.nan), "fit"),
        "infinite target": BadInput(number(np.inf), "fit"),
        "dictionary targets": BadInput(lambda X, y: (X, [{}] * len(X)), "fit"),
        "ragged targets": BadInput(lambda X, y: (X, [[1]] * (len(X) - 1) + [[1, 2]]), "fit"),
        "complex targets": BadInput(lambda X, y: (X, np.asarray(y) + 1j), "fit"),
    }


def judge(call, names, n_trials=None):
    """Make a call, which gives None or a list of results, and classify its outcome; give it and the error."""
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            found = call()
    except (ValueError, TypeError) as error:
        named = re.search(rf"(?<!\w)({'|'.join(map(re.escape, names))})(?!\w)", str(error))
        return (CLEAR if named else "unclear error"), f"{type(error).__name__}: {error}"
    except Exception as error:  # what an attack is for
        return "wrong type", f"{type(error).__name__}: {error}"
    for name, value in enumerate(found or []):
        value = np.asarray(value)
        if value.dtype.kind in "fc" and not np.isfinite(value).all():
            return "undetected", f"{name} is not finite"
        if n_trials is not None and (value.ndim == 0 or len(value) != n_trials):
            return "undetected", f"{name} has shape {value.shape} for {n_trials} trials"
    return ANSWER, ""


def argument_names(estimator):
    """Names that an error may give: those of the data and of the parameters."""
    return ["X", "y", "data", "subjects", "mask", *estimator.get_params()]


def same_attributes(estimator, before):
    """Whether an estimator holds the same objects under the same names as before."""
    after = vars(estimator)
    return after.keys() == before.keys() and all(after[name] is before[name] for name in before)


def attack(estimator, fitted, X, y, bad):
    """Give one bad input to every method of an estimator; yields the method, the outcome and the error."""
    Z, targets = bad.make(X, y)
    names, n_trials = argument_names(estimator), len(Z) if isinstance(Z, np.ndarray) and Z.ndim else None
    answered = "undetected" if bad.refused(estimator) else ANSWER
    if bad.stage != "apply":
        outcome, message = _attack_fit(estimator, fitted, Z, targets, X[:3], names, n_trials)
        yield "fit", answered if outcome == ANSWER else outcome, message
    for method, call in methods_of(fitted).items() if bad.stage != "fit" else ():
        before = dict(vars(fitted))
        outcome, message = judge(lambda call=call: [call(Z)], names, n_trials)
        outcome = answered if outcome == ANSWER and bad.stage == "apply" else outcome
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


def _attack_fit(estimator, fitted, Z, targets, X, names, n_trials):
    """Fit to bad input: a first time, and, where that is refused, once more."""
    one = fresh(estimator)
    first = dict(vars(one))
    outcome, message = judge(lambda: one.fit(Z, targets) and None, names)
    if outcome == ANSWER:
        return judge(lambda: [method(Z) for method in methods_of(one).values()], names, n_trials)
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


def check_epochs_equal_array(estimator, recording):
    """Check that Epochs, which are in volts, give what the same trials in microvolts give."""
    X, y, _, wanted = fitted_on(estimator, recording)
    epochs = recording.epochs(X)
    found = outputs(fresh(estimator).fit(epochs, y), epochs)
    assert_same_outputs(found, wanted, "Epochs against an array in microvolts", rtol=1e-5)


def check_float32_and_float64(estimator, recording):
    """Check that trials in float32 give what the same trials in float64 give, but for rounding."""
    X, y, _, wanted = fitted_on(estimator, recording)
    single = X.astype(np.float32)
    found = outputs(fresh(estimator).fit(single, y), single)
    assert_same_outputs(found, wanted, "float32 against float64", rtol=1e-3)


def check_memory_layout(estimator, recording):
    """Check that read-only trials, and those in Fortran order, with gaps or big-endian, give what others give.

    So no method writes into the trials or targets.
    """
    X, y, fitted, wanted = fitted_on(estimator, recording)
    plain = np.asarray(X)
    for what, other in (
        ("Fortran order", np.asfortranarray(plain)),
        ("every second of twice as many trials", np.repeat(plain, 2, axis=0)[::2]),
        ("big-endian trials", plain.astype(">f8")),
    ):
        like = X.like(other) if isinstance(X, EEGArray) else other
        assert_same_outputs(outputs(fitted, like), wanted, what, rtol=1e-5)
    for array in (plain, y):
        array.setflags(write=False)
    X = X.like(plain) if isinstance(X, EEGArray) else plain
    assert_same_outputs(outputs(fresh(estimator).fit(X, y), X), wanted, "read-only trials and targets", rtol=1e-5)


def check_identity_kept(estimator, recording):
    """Check that trials which a transformer gives back as trials keep their rate and their domains."""
    X, y = data_for(estimator, recording)
    X = EEGArray(X, recording.ch_names, recording.sfreq, make_domains(len(X), subject=["a", "b"] * (len(X) // 2)))
    result = fresh(estimator).fit(X, y).transform(X)
    if np.ndim(result) != 3 or np.asarray(result).dtype.kind not in "fc":  # codes are no trials
        return
    if not isinstance(result, EEGArray) or result.sfreq is None:
        raise AssertionError(f"transform turns an EEGArray into a {type(result).__name__} without a sampling rate.")
    if result.domains is None or not np.array_equal(result.domains, X.domains):
        raise AssertionError("transform loses the domains of the trials.")


def check_bad_inputs(estimator, recording):
    """Check that all of `bad_inputs` is answered correctly or refused by a clear error, and changes nothing."""
    X, y = data_for(estimator, recording)
    fitted = fresh(estimator).fit(X, y)
    _raise_failures(
        (f"{method}, {name}", outcome, error)
        for name, bad in bad_inputs().items()
        for method, outcome, error in attack(estimator, fitted, X, y, bad)
    )


def check_bad_parameters(estimator, recording):
    """Check that each of `bad_parameters` is refused by name, where it is used in the chosen mode and where not."""
    _raise_failures(attack_parameters(estimator, *data_for(estimator, recording)))


def _raise_failures(outcomes):
    failures = [f"{what}: {outcome}: {error}" for what, outcome, error in outcomes if outcome in WRONG]
    if failures:
        raise AssertionError("\n".join(failures))


def check_labels(estimator, recording):
    """Check that strings, objects and numbers such as {0, 5} as labels give the predictions that 0 and 1 give."""
    X, y = data_for(estimator, recording)
    wanted = fresh(estimator).fit(X, y)
    names = ["left", "right"]
    for classes in (np.array(names), np.array(names, dtype=object), *map(np.array, ([1, 2], [0, 5], [-1, 1]))):
        found = fresh(estimator).fit(X, classes[y])
        if list(found.classes_) != list(classes):
            raise AssertionError(f"classes_ is {found.classes_!r} after a fit on the labels {classes.tolist()}.")
        if not np.array_equal(np.asarray(found.predict(X)), classes[np.asarray(wanted.predict(X))]):
            raise AssertionError(f"the labels {classes.tolist()} are predicted otherwise than [0, 1].")
        if has(found, "predict_proba"):
            np.testing.assert_allclose(found.predict_proba(X), wanted.predict_proba(X), rtol=1e-6, atol=1e-9)


def check_target_shapes(estimator, recording):
    """Check that targets of one, two and three axes come back in their own shape; a list is as good as an array."""
    X, y = data_for(estimator, recording)
    rows = np.stack([y, -2 * y, y + 1], axis=1)
    signals = y[:, None, None] + np.asarray(X)[:, :2]
    for targets in (y, rows[:, :1], rows, signals):
        predicted = np.asarray(fresh(estimator).fit(X, targets).predict(X))
        if predicted.shape != targets.shape:
            raise AssertionError(f"targets of shape {targets.shape} give predictions of shape {predicted.shape}.")
        if not np.isfinite(predicted).all():
            raise AssertionError(f"targets of shape {targets.shape} give predictions that are not finite.")
    from_list = fresh(estimator).fit(X, y.tolist()).predict(X)
    np.testing.assert_allclose(from_list, fresh(estimator).fit(X, y).predict(X), rtol=1e-6)
