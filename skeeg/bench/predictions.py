"""Predictions of test trials: kept in MOABB's results files, and what a report shows of them.

MOABB's tables hold numbers alone. `record` is a scorer whose value is a number too, a `Predictions`, which has the
predictions of a fold as its attribute.
"""

import gzip
import io

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from ..array import EEGArray
from .folder import parse_predictions

KEY = "predictions"  # of the scorer, and of the group in the results file
_DOMAINS = {"session": "session", "recording": "run"}  # columns, and the domains they hold


class Predictions(float):
    """Predictions of the test trials of one fold, as a number that passes through tables of scores."""

    def __new__(cls, trials=None):
        """Make the number, which means nothing."""
        made = super().__new__(cls, 0.0)
        made.trials = trials
        return made


def record(estimator, X, y):
    """Scorer of a fold that records the predictions of an estimator.

    ``true`` and ``predicted`` are labels as the estimator has them, ``chosen`` the parameters that a grid search chose.
    The others are the probabilities of the classes, or of two classes the decision function, where there are any.
    """
    y, columns = np.asarray(y), {}
    if hasattr(estimator, "predict_proba") and hasattr(estimator, "classes_"):
        scores = np.asarray(estimator.predict_proba(X))
        predicted = estimator.classes_[scores.argmax(axis=1)]
        columns = {f"p_{label}": column for label, column in zip(estimator.classes_, scores.T, strict=True)}
    else:
        predicted = np.asarray(estimator.predict(X))
        if hasattr(estimator, "decision_function") and np.ndim(scores := estimator.decision_function(X)) == 1:
            columns = {"decision": scores}
    domains = X.domains if isinstance(X, EEGArray) else None
    text = {name: "" if domains is None else domains[domain].astype(str) for name, domain in _DOMAINS.items()}
    chosen = ", ".join(f"{name}={value}" for name, value in getattr(estimator, "best_params_", {}).items())
    trials = pd.DataFrame({**text, "true": y, "predicted": predicted, "chosen": chosen} | columns)
    trials.attrs["n_parameters"] = count_parameters(estimator)
    return Predictions(trials)


def count_parameters(fitted):
    """Count the trained parameters of the network in a fitted pipeline; None without a network."""
    inner = fitted[-1] if isinstance(fitted, Pipeline) else None
    for name in ("best_estimator_", "estimator_"):  # of searches and other meta-estimators
        inner = vars(fitted).get(name, inner)
    inner = vars(fitted).get("estimators_", [inner])[0]  # of several networks, the first
    if inner is not None:
        return count_parameters(inner)
    module = getattr(fitted, "module_", None)
    return None if module is None else sum(one.numel() for one in module.parameters() if one.requires_grad)


def take(rows, classes, extra=()):
    """Take the predictions out of MOABB's rows of folds, with the names of the classes, which are numbered in order.

    `extra` names columns of the rows to repeat for every trial, such as the number of labelled trials.
    """
    tables = []
    for fold, row in enumerate(rows):
        found = row.pop(f"score_{KEY}", None)
        if isinstance(found, Predictions):
            table = found.trials.replace({name: dict(enumerate(classes)) for name in ("true", "predicted")})
            table = table.rename(columns={f"p_{number}": f"p_{name}" for number, name in enumerate(classes)})
            tables.append(table.assign(fold=fold, **{name: row[name] for name in extra if name in row}))
    return tables


def write(group, subject, tables):
    """Write the predictions on one subject into a dataset's group of a results file."""
    if not tables:
        return
    kept = group.require_group(KEY)
    if str(subject) in kept:
        del kept[str(subject)]
    text = pd.concat(tables, ignore_index=True).assign(subject=subject).to_csv(index=False)
    kept.create_dataset(str(subject), data=np.frombuffer(gzip.compress(text.encode()), dtype=np.uint8))


def read(group):
    """Read the predictions from a dataset's group of a results file: a table for each subject.

    Those that an earlier version wrote in another form are left out.
    """
    stored = [data[:].tobytes() for data in group.get(KEY, {}).values()]
    return [parse_predictions(io.BytesIO(gzip.decompress(one))) for one in stored if one[:2] == b"\x1f\x8b"]


def class_scores(predictions, classes):
    """Confusion matrix (shares of each row) and precision, recall, F1 and trials of each class."""
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    true, predicted = predictions["true"], predictions["predicted"]
    counts = confusion_matrix(true, predicted, labels=classes)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    scores = precision_recall_fscore_support(true, predicted, labels=classes, zero_division=0)
    names = ("precision", "recall", "f1", "n_trials")
    return pd.DataFrame(shares, classes, classes), pd.DataFrame(dict(zip(names, scores, strict=True)), classes)


def chosen_parameters(predictions):
    """Count the folds in which a grid search chose each combination of parameters."""
    folds = predictions[["seed", "subject", "session", "fold", "chosen"]].drop_duplicates()
    return folds["chosen"].value_counts().to_dict()


def calibration_error(predictions, classes, n_bins=10):
    """Compute the expected calibration error, the mean gap between confidence and accuracy; None without probabilities.

    Trials are binned by the probability of the predicted class; the gap of each bin is weighted by its trials.
    """
    columns = [f"p_{name}" for name in classes]
    if not set(columns) <= set(predictions) or predictions[columns].isna().any(axis=None):
        return None
    confidence = predictions[columns].to_numpy().max(axis=1)
    right = (predictions["true"] == predictions["predicted"]).to_numpy()
    bins = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    gaps = pd.DataFrame({"gap": right - confidence, "bin": bins}).groupby("bin")["gap"].sum().abs()
    return float(gaps.sum() / len(right))
