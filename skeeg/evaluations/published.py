"""Protocols of papers: five datasets of the MIRepNet paper, and corpora with a published split.

`DownstreamEvaluation` takes 30 % of a session for training and 70 % for testing; ``skeeg bench --evaluation
downstream`` runs it with three seeds and shows the published scores with its own. `run_corpus` fits on the training
subjects of a corpus, anything with ``arrays(part)`` such as `skeeg.datasets.TUHEvents`, and scores all its test windows
at once; averages over batches, as published for Gram, depend on batch size and order.
"""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from sklearn import metrics
from sklearn.model_selection import train_test_split

from ..base import params_named
from .base import ProtocolEvaluation, with_seed

CORPUS_SEEDS = (0, 10, 20, 30, 40)  # of the scores published for corpora


_PAPER = yaml.safe_load(Path(__file__).with_suffix(".yml").read_text(encoding="utf-8"))
DOWNSTREAM, PUBLISHED = _PAPER["datasets"], _PAPER["accuracies"]


def find_task(name, classes=None):
    """Name in `DOWNSTREAM` of a dataset, known by its name, and its classes; None where the paper does not have it."""
    plain = re.sub("[^a-z0-9]", "", name.lower())
    found = [key for key in DOWNSTREAM if key.lower().partition("-")[0] == plain]
    return next((key for key in found if classes is None or set(DOWNSTREAM[key]["events"]) == set(classes)), None)


class DownstreamSplitter:
    """Draw 30 % of one session of each subject for training; as published, not stratified.

    Parameters
    ----------
    session : str or None
        Session, as MOABB names it; None takes the first of each subject.
    random_state : int
        Seed of the draw; published scores are means over 666, 667 and 668.
    train_size : float
        Share of the trials to train on.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from skeeg.evaluations import DownstreamSplitter
    >>> metadata = pd.DataFrame({"subject": 1, "session": ["0train"] * 144 + ["1test"] * 144})
    >>> ((train, test),) = DownstreamSplitter("0train").split(np.zeros(288), metadata)
    >>> len(train), len(test), max(*train, *test)
    (43, 101, np.int64(143))
    """

    metadata_columns = ("split_seed",)

    def __init__(self, session=None, random_state=666, train_size=0.3):
        self.session = session
        self.random_state = random_state
        self.train_size = train_size

    def split(self, y, metadata):
        """Yield training and test trials of each subject, of labels and MOABB's metadata."""
        sessions = metadata["session"].astype(str).to_numpy()
        for subject in dict.fromkeys(metadata["subject"]):
            own = metadata["subject"].to_numpy() == subject
            wanted = sessions[own][0] if self.session is None else self.session
            rows = np.flatnonzero(own & (sessions == wanted))
            if not len(rows):
                there = ", ".join(dict.fromkeys(sessions[own]))
                raise ValueError(f"session: subject {subject} has no session {wanted!r}; there are {there}.")
            yield train_test_split(rows, test_size=1 - self.train_size, random_state=self.random_state)

    def get_metadata(self):
        """Give the seed of the draw."""
        return {"split_seed": self.random_state}


class DownstreamEvaluation(ProtocolEvaluation):
    """MOABB evaluation: 30 % of one session of each subject for training, the rest for testing; one seed.

    Parameters
    ----------
    paradigm : moabb.paradigms.base.BaseParadigm
        Data to load and score to use.
    datasets : moabb.datasets.base.BaseDataset or list of them
        Recordings.
    splitter : DownstreamSplitter or None
        The protocol; None takes the first session of each subject and the first published seed.
    random_state, n_jobs, overwrite, error_score, suffix, hdf5_path, return_epochs, cache_config
        As in `FewshotEvaluation`.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> from moabb.paradigms import LeftRightImagery
    >>> from skeeg import baseline
    >>> from skeeg.datasets import SimulatedMotorImagery
    >>> from skeeg.evaluations import DownstreamEvaluation
    >>> dataset = SimulatedMotorImagery(n_subjects=1, n_sessions=1, ch_names=("C3", "Cz", "C4"))
    >>> evaluation = DownstreamEvaluation(LeftRightImagery(scorer="accuracy"), dataset, hdf5_path=mkdtemp())
    >>> len(evaluation.process({"MDM": baseline("MDM")}))
    1
    """

    _eval_type = "Downstream"
    _splitter = DownstreamSplitter


def classification_scores(y, probabilities, classes):
    """Scores of probabilities (n_windows, n_classes) of true classes ``y``, as published for EEG foundation models.

    A dict: accuracy and balanced accuracy; for two classes, of which the second one is positive, F1, precision, recall
    and the areas under both curves; for more, Cohen's kappa and F1 weighted by class. ``classes`` are those of the
    columns.

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


def run_corpus(pipelines, corpus, seeds=CORPUS_SEEDS, parts=("train",), validation=None):
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
        choices = params_named(pipeline, "validation") if validation else {}
        choices = [key for key, value in choices.items() if value is not None]
        trials, labels = (X, y) if choices or not validation else (X[is_trained], y[is_trained])
        for seed in seeds:
            model = with_seed(pipeline, seed)
            if choices:
                model.set_params(**dict.fromkeys(choices, tuple(corpus.subjects(validation))))
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
