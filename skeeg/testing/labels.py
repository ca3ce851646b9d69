"""Checks of what an estimator does with labels and targets."""

import numpy as np

from .recordings import data_for, fresh


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
    if hasattr(found, "predict_proba"):
        np.testing.assert_allclose(found.predict_proba(X), wanted.predict_proba(X), rtol=1e-6, atol=1e-9)


def check_three_classes(estimator, recording):
    """Check that three classes are told apart, one column of probabilities each."""
    X, y = data_for(estimator, recording, n_classes=3)
    fitted = fresh(estimator).fit(X, np.array(["feet", "left", "right"])[y])
    if hasattr(fitted, "predict_proba"):
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
