"""Scores on a corpus with a published split: fitted on its training subjects, scored on all its test subjects.

A corpus is anything with ``arrays(part)``, such as `skeeg.datasets.TUHEvents`. Scores are those of all test windows at
once; averages over batches, as published for Gram, depend on batch size and order.
"""

import numpy as np
import pandas as pd
from sklearn import metrics

from .base import with_seed

__all__ = ["classification_scores", "run_corpus"]

SEEDS = (0, 10, 20, 30, 40)  # of the published scores


def classification_scores(y, probabilities, classes):
    """Scores of predicted probabilities, as published for EEG foundation models.

    Parameters
    ----------
    y : array-like, shape (n_windows,)
        True classes.
    probabilities : ndarray, shape (n_windows, n_classes)
        Predicted probabilities.
    classes : sequence, length n_classes
        Class of each column.

    Returns
    -------
    scores : dict of str to float
        Accuracy and balanced accuracy; for two classes, of which the second one is positive, F1, precision,
        recall and the areas under both curves; for more, Cohen's kappa and F1 weighted by class.

    Examples
    --------
    >>> from skeeg.evaluations import classification_scores
    >>> probabilities = [[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]]
    >>> scores = classification_scores(["a", "a", "b", "b"], probabilities, ["a", "b"])
    >>> scores["accuracy"], scores["roc_auc"]
    (0.75, 1.0)
    """
    y, probabilities, classes = np.asarray(y), np.asarray(probabilities, dtype=float), np.asarray(classes)
    if probabilities.shape != (len(y), len(classes)):
        raise ValueError(
            f"probabilities: got shape {probabilities.shape} for {len(y)} windows and {len(classes)} classes."
        )
    if not np.isfinite(probabilities).all():
        raise ValueError("probabilities: got NaN or infinity, expected finite numbers.")
    if len(classes) < 2:
        raise ValueError(f"classes: expected two or more, got {', '.join(map(str, classes))}.")
    unknown = sorted(set(y.tolist()) - set(classes.tolist()))
    if unknown:
        raise ValueError(f"y: class {unknown[0]!r} is not among {', '.join(map(str, classes))}.")
    predicted = classes[probabilities.argmax(axis=1)]
    there = np.unique(y)  # scikit-learn's balanced accuracy warns where other classes are predicted
    scores = {
        "accuracy": metrics.accuracy_score(y, predicted),
        "balanced_accuracy": metrics.recall_score(y, predicted, labels=there, average="macro"),
    }
    if len(classes) > 2:
        scores["kappa"] = metrics.cohen_kappa_score(y, predicted, labels=classes)
        scores["weighted_f1"] = metrics.f1_score(y, predicted, average="weighted", zero_division=0)
    else:
        positive, predicted_positive = y == classes[1], predicted == classes[1]
        scores["f1"] = metrics.f1_score(positive, predicted_positive, zero_division=0)
        scores["precision"] = metrics.precision_score(positive, predicted_positive, zero_division=0)
        scores["recall"] = metrics.recall_score(positive, predicted_positive, zero_division=0)
        both = 0 < positive.sum() < len(positive)
        scores["roc_auc"] = metrics.roc_auc_score(positive, probabilities[:, 1]) if both else np.nan
        scores["pr_auc"] = metrics.average_precision_score(positive, probabilities[:, 1]) if both else np.nan
    return {name: float(value) for name, value in scores.items()}


def run_corpus(pipelines, corpus, seeds=SEEDS, parts=("train",), validation=None):
    """Fit pipelines on the training subjects of a corpus and score them on all windows of its test subjects.

    Parameters
    ----------
    pipelines : dict of str to estimator
        Any classifiers with ``predict_proba``; every ``random_state`` in them that is None is set to the seed.
    corpus : Corpus
        Such as `skeeg.datasets.HMCSleep`.
    seeds : sequence of int
        Seeds; published scores use five.
    parts : tuple of str
        Training parts. With ``("train", "valid")`` the estimator splits both for its own validation, such as
        ``validation="subject"`` of skeeg's networks; test subjects are never used for training.
    validation : {None, "valid"}
        ``"valid"`` uses the published validation subjects for early stopping, as the published scores: that part is
        read as well, and each ``validation`` parameter that is not None is set to its subjects. A pipeline without
        such a parameter trains on `parts` alone.

    Returns
    -------
    results : DataFrame
        One row for each pipeline and seed, with all scores.

    Examples
    --------
    >>> from skeeg import baseline
    >>> from skeeg.datasets import SHUMotorImagery
    >>> from skeeg.evaluations import run_corpus
    >>> run_corpus({"EEGNet": baseline("EEGNet")}, SHUMotorImagery("shu"))  # doctest: +SKIP
    """
    if validation not in (None, "valid") or (validation and validation in parts):
        raise ValueError(
            f"validation: got {validation!r}, expected None, or 'valid' if it is not one of parts={parts}."
        )
    X, y, is_trained = _join(corpus, parts, validation)
    X_test, y_test = corpus.arrays("test")
    rows = []
    for name, pipeline in pipelines.items():
        choices = _validation_params(pipeline) if validation else []
        trials, labels = (X, y) if choices or not validation else (X[is_trained], y[is_trained])
        for seed in seeds:
            model = with_seed(pipeline, seed).set_params(
                **dict.fromkeys(choices, _validation_subjects(corpus, validation))
            )
            model.fit(trials, labels)
            scores = classification_scores(y_test, model.predict_proba(X_test), model.classes_)
            rows.append(
                {"pipeline": name, "seed": seed, "n_train": int(is_trained.sum()), "n_test": len(y_test)} | scores
            )
    return pd.DataFrame(rows)


def _join(corpus, parts, validation):
    """Trials and labels of the training and validation parts, and the mask of the training trials."""
    names = [*parts, *([validation] if validation else [])]
    read = [corpus.arrays(part) for part in names]
    is_trained = np.concatenate([np.full(len(y), name != validation) for name, (_, y) in zip(names, read, strict=True)])
    X, y = read[0] if len(read) == 1 else map(np.concatenate, zip(*read, strict=True))
    return X, y, is_trained


def _validation_params(pipeline):
    """Names of the ``validation`` parameters of a pipeline that are set."""
    params = pipeline.get_params()
    return [name for name in params if name.rsplit("__", 1)[-1] == "validation" and params[name] is not None]


def _validation_subjects(corpus, validation):
    """Subjects of the validation part, as ``validation`` takes them."""
    return tuple(corpus.subjects(validation)) if validation else None
