"""Checks of input: labels and targets of any kind, trials of any type and layout, and the response to bad input."""

import dataclasses
import functools
import re

import numpy as np

from ..array import EEGArray, make_domains
from .bad_input import WRONG, attack, attack_parameters, bad_inputs
from .recordings import assert_same_outputs, data_for, fresh, has, methods_of, outputs

LABELS = ("string_labels", "number_labels", "three_classes", "target_shapes")
"""Checks of the group ``"labels"``; the others belong to the group ``"input"``."""


def check_epochs_equal_array(estimator, recording):
    """Check that Epochs, which are in volts, give what the same trials in microvolts give."""
    X, y = data_for(estimator, recording)
    epochs = recording.epochs(X)
    wanted = outputs(fresh(estimator).fit(X, y), X)
    found = outputs(fresh(estimator).fit(epochs, y), epochs)
    assert_same_outputs(found, wanted, "Epochs against an array in microvolts", rtol=1e-5)


def check_list_of_epochs(estimator, recording):
    """Check that a list of one-trial Epochs, which scikit-learn makes of Epochs, gives what the Epochs give."""
    X, y = data_for(estimator, recording)
    epochs = recording.epochs(X)
    listed = [epochs[i] for i in range(len(epochs))]
    wanted = outputs(fresh(estimator).fit(epochs, y), epochs)
    assert_same_outputs(outputs(fresh(estimator).fit(listed, y), listed), wanted, "a list of Epochs", rtol=1e-5)


def check_float32_and_float64(estimator, recording):
    """Check that trials in float32 give what the same trials in float64 give, but for rounding."""
    X, y = data_for(estimator, recording)
    wanted = outputs(fresh(estimator).fit(X, y), X)
    single = X.astype(np.float32)
    found = outputs(fresh(estimator).fit(single, y), single)
    assert_same_outputs(found, wanted, "float32 against float64", rtol=1e-3)


def check_input_unchanged(estimator, recording):
    """Check that neither fit nor any other method writes into the trials or the targets."""
    X, y = data_for(estimator, recording)
    before, targets = np.array(X), y.copy()
    outputs(fresh(estimator).fit(X, y), X)
    if not (np.array_equal(np.asarray(X), before) and np.array_equal(y, targets)):
        raise AssertionError("the trials or targets given to the estimator were changed.")


def check_memory_layout(estimator, recording):
    """Check that trials in Fortran order, with gaps, read-only or big-endian give what contiguous ones give."""
    X, y = data_for(estimator, recording)
    plain = np.asarray(X)
    readonly = plain.copy()
    readonly.setflags(write=False)
    fitted = fresh(estimator).fit(X, y)
    wanted = outputs(fitted, X)
    for what, other in (
        ("Fortran order", np.asfortranarray(plain)),
        ("every second of twice as many trials", np.repeat(plain, 2, axis=0)[::2]),
        ("read-only trials", readonly),
        ("big-endian trials", plain.astype(">f8")),
    ):
        like = X.like(other) if isinstance(X, EEGArray) else other
        assert_same_outputs(outputs(fitted, like), wanted, what, rtol=1e-5)


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


def _refused(names, words, about, fit_only=False):
    """Check that some of `bad_inputs` are refused by fit and by every other method, with an error of these words."""

    def check(estimator, recording):
        X, y = data_for(estimator, recording)
        methods = {} if fit_only else methods_of(fresh(estimator).fit(X, y))
        for bad in (bad_inputs()[name] for name in names):
            Z, targets = bad.make(X, y)
            if Z is X and targets is y:  # plain trials have no names
                continue
            calls = {name: functools.partial(method, Z) for name, method in methods.items() if bad.stage != "fit"}
            if bad.stage != "apply":
                calls["fit"] = functools.partial(fresh(estimator).fit, Z, targets)
            for name, call in calls.items():
                _expect_refusal(call, words, f"{name} where {bad.wrong}")

    check.__doc__ = about
    return check


_VALUES = r"nan|inf|finite|missing"
check_nan = _refused(["NaN"], _VALUES, "Check that NaN in the trials is refused, by fit and by every other method.")
check_infinite = _refused(["infinity"], _VALUES, "Check that infinity is refused, by fit and by every other method.")
check_empty = _refused(
    ["no trial"],
    r"sample|trial|empty|\b0\b",
    "Check that no trial at all is refused, by fit and by every other method.",
)
check_other_montage = _refused(
    ["fewer channels", "other order"],
    r"channel|montage|electrode|feature|shape",
    "Check that trials of other electrodes than at fit are refused.",
)
check_other_rate = _refused(
    ["other rate"], r"rate|sfreq|hz", "Check that trials of another sampling rate than at fit are refused."
)
check_flat_channel = _refused(
    ["flat channel"], r"channel|flat|constant", "Check that fit refuses a channel that never changes.", fit_only=True
)
check_lengths_differ = _refused(
    ["fewer targets"],
    r"sample|length|trial|inconsistent|shape",
    "Check that fewer targets than trials are refused.",
    fit_only=True,
)


def check_one_class(estimator, recording):
    """Check that trials of one class are refused with an error that says so."""
    X, y = data_for(estimator, recording)
    _expect_refusal(lambda: fresh(estimator).fit(X, np.zeros_like(y)), r"class", "fit on one class")


def check_refit_after_failure(estimator, recording):
    """Check that a fit that was refused does not spoil the next one, on another montage."""
    X, y = data_for(estimator, recording)
    one = fresh(estimator).fit(X, y)
    bad = X.copy()
    bad[0, 0, 0] = np.inf  # not NaN, which an imputer takes
    _expect_refusal(lambda: one.fit(bad, y), r"infinit|finite", "fit on trials with infinity")
    other, targets = data_for(estimator, dataclasses.replace(recording, n_times=recording.n_times + 8))
    wanted = outputs(fresh(estimator).fit(other, targets), other)
    assert_same_outputs(outputs(one.fit(other, targets), other), wanted, "a fit after a refused one", rtol=1e-6)


def check_bad_inputs(estimator, recording):
    """Check that all of `bad_inputs` is answered correctly or refused by a clear error, and changes nothing."""
    X, y = data_for(estimator, recording)
    fitted = fresh(estimator).fit(X, y)
    failures = [
        f"{method}, {bad.wrong} ({name}): {outcome}: {error}"
        for name, bad in bad_inputs().items()
        for method, outcome, error in attack(estimator, fitted, X, y, bad)
        if outcome in WRONG
    ]
    if failures:
        raise AssertionError("\n".join(failures))


def check_bad_parameters(estimator, recording):
    """Check that each of `bad_parameters` is refused by name, where it is used in the chosen mode and where not."""
    X, y = data_for(estimator, recording)
    failures = [
        f"{what}: {outcome}: {error}" for what, outcome, error in attack_parameters(estimator, X, y) if outcome in WRONG
    ]
    if failures:
        raise AssertionError("\n".join(failures))


def _expect_refusal(call, words, what):
    """Ask for a ValueError or TypeError whose message has one of the words."""
    try:
        call()
    except (ValueError, TypeError) as error:
        if not re.search(words, str(error), flags=re.IGNORECASE):
            raise AssertionError(f"{what}: the error does not name the problem: {error}") from error
    except Exception as error:
        raise AssertionError(f"{what}: {type(error).__name__} in place of a ValueError or TypeError.") from error
    else:
        raise AssertionError(f"{what} is accepted without an error.")


def check_string_labels(estimator, recording):
    """Check that string labels, as strings and as objects, give the predictions that 0 and 1 give."""
    _check_labels(estimator, recording, np.array(["left", "right"]))
    _check_labels(estimator, recording, np.array(["left", "right"], dtype=object))


def check_number_labels(estimator, recording):
    """Check that labels {1, 2}, {0, 5} and {-1, 1} give the predictions that 0 and 1 give."""
    for pair in ([1, 2], [0, 5], [-1, 1]):
        _check_labels(estimator, recording, np.array(pair))


def _check_labels(estimator, recording, classes):
    X, y = data_for(estimator, recording)
    wanted = fresh(estimator).fit(X, y)
    found = fresh(estimator).fit(X, classes[y])
    if list(found.classes_) != list(classes):
        raise AssertionError(f"classes_ is {found.classes_!r} after a fit on the labels {classes.tolist()}.")
    predicted = np.asarray(found.predict(X))
    if not np.array_equal(predicted, classes[np.asarray(wanted.predict(X))]):
        raise AssertionError(f"the labels {classes.tolist()} are predicted otherwise than [0, 1].")
    if has(found, "predict_proba"):
        np.testing.assert_allclose(found.predict_proba(X), wanted.predict_proba(X), rtol=1e-6, atol=1e-9)


def check_three_classes(estimator, recording):
    """Check that three classes are classified, with one column of probabilities each."""
    X, y = data_for(estimator, recording, n_classes=3)
    fitted = fresh(estimator).fit(X, np.array(["feet", "left", "right"])[y])
    if has(fitted, "predict_proba"):
        odds = np.asarray(fitted.predict_proba(X))
        if odds.shape != (len(y), 3):
            raise AssertionError(f"predict_proba: shape {odds.shape} for {len(y)} trials of 3 classes.")
        np.testing.assert_allclose(odds.sum(axis=1), 1, rtol=1e-5)
    if not set(fitted.predict(X)) <= {"feet", "left", "right"}:
        raise AssertionError("predict gives labels that fit has not seen.")


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
