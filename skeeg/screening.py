"""Screening of subjects before a pre-training: exclude those whose classes cannot be decoded above chance."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import binom
from sklearn.base import clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import check_cv, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.utils.validation import column_or_1d

from .array import as_eeg
from .base import check_class_labels
from .spatial import CSP


@dataclass(frozen=True, eq=False)
class Screening:
    """Outcome of `screen_subjects`: accuracy of each subject and what it had to reach; `mask` is one of trials."""

    subjects: np.ndarray
    scores: np.ndarray
    thresholds: np.ndarray
    kept: np.ndarray
    mask: np.ndarray

    def __repr__(self):
        """List the subjects with their scores."""
        kept = set(self.kept.tolist())
        rows = [
            f"{subject} {score:.2f}{'' if subject in kept else ' dropped'}"
            for subject, score in zip(self.subjects.tolist(), self.scores, strict=True)
        ]
        return f"Screening({len(kept)} of {len(rows)} subjects kept: {', '.join(rows)})"


def screen_subjects(X, y, subjects=None, threshold="significant", cv=5, estimator=None, alpha=0.05, n_jobs=None):
    r"""Select the subjects whose classes can be decoded above chance.

    Each subject's trials are decoded by cross-validation within that subject. Those whose accuracy reaches the
    threshold are kept. The step is part of MIRepNet's pre-training [1]_, which names neither the decoder, the
    validation nor the threshold; the defaults here are our choice.

    Parameters
    ----------
    X : anything `as_eeg` accepts, shape (n_trials, n_channels, n_times)
        Trials of all subjects, filtered to the band of interest.
    y, subjects : array-like, shape (n_trials,)
        Label and subject of each trial; None reads the subjects from X's domains.
    threshold : "significant" or float
        Smallest accuracy that keeps a subject. ``"significant"`` is above chance at level `alpha` [2]_: the smallest
        :math:`k / n` with :math:`P(B \ge k) \le \alpha`, where :math:`B` is binomial with :math:`n` trials and the
        share of the largest class.
    cv : int or scikit-learn splitter
        A number gives stratified folds without shuffling, because neighbouring trials are similar.
    estimator : scikit-learn classifier or None
        Decoder; None is `CSP` with four components and linear discriminant analysis.
    alpha, n_jobs
        See `threshold`; jobs over the folds.

    Returns
    -------
    screening : Screening
        Scores, thresholds, subjects kept and the mask of their trials.

    References
    ----------
    .. [1] Liu, D., et al. (2026). MIRepNet: a pipeline and pre-trained model for EEG-based motor imagery
       classification. Knowledge-Based Systems, 343, 115966.
    .. [2] Combrisson, E., & Jerbi, K. (2015). Exceeding chance level by chance. Journal of Neuroscience Methods, 250,
       126-136.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.screening import screen_subjects
    >>> X, y = np.random.default_rng(0).standard_normal((80, 3, 60)), np.tile([0, 1], 40)
    >>> X[:40][y[:40] == 1, 0] *= 2
    >>> screen_subjects(X, y, subjects=["able"] * 40 + ["unable"] * 40).kept.tolist()
    ['able']
    """
    X = as_eeg(X)
    y = column_or_1d(y)
    check_class_labels(y)
    subjects = _subjects(X, subjects)
    if len(y) != len(X):
        raise ValueError(f"y: got {len(y)} labels for {len(X)} trials in X.")
    if threshold != "significant" and (isinstance(threshold, str) or not 0 <= threshold <= 1):
        raise ValueError(f"threshold: got {threshold!r}, expected 'significant' or an accuracy from 0 to 1.")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha: got {alpha!r}, expected a probability between 0 and 1.")
    estimator = make_pipeline(CSP(n_components=4), LinearDiscriminantAnalysis()) if estimator is None else estimator
    names = np.array(list(dict.fromkeys(subjects.tolist())))
    _check_labels(y, subjects, names, cv)
    scores = np.empty(len(names))
    thresholds = np.full(len(names), 0.0 if threshold == "significant" else threshold, dtype=float)
    for i, name in enumerate(names):
        rows = subjects == name
        folds = check_cv(cv, y[rows], classifier=True)
        predicted = cross_val_predict(clone(estimator), X[rows], y[rows], cv=folds, n_jobs=n_jobs)
        scores[i] = np.mean(predicted == y[rows])
        if threshold == "significant":  # least accuracy that chance, at the rate of the largest class, rarely reaches
            share = np.unique(y[rows], return_counts=True)[1].max() / rows.sum()
            thresholds[i] = (binom.isf(alpha, rows.sum(), share) + 1) / rows.sum()
    kept = names[scores >= thresholds]
    return Screening(names, scores, thresholds, kept, np.isin(subjects, kept))


def _subjects(X, subjects):
    if subjects is None:
        if X.domains is None:
            raise ValueError("subjects: X has no domains; pass the subject of each trial.")
        return np.array(X.domains["subject"].tolist())
    subjects = column_or_1d(subjects)
    if len(subjects) != len(X):
        raise ValueError(f"subjects: got {len(subjects)} entries for {len(X)} trials in X.")
    return subjects


def _check_labels(y, subjects, names, cv):
    """Name the subjects that cannot be cross-validated."""
    least = cv if isinstance(cv, int) else 2
    bad = []
    for name in names:
        classes, counts = np.unique(y[subjects == name], return_counts=True)
        classes = classes.tolist()
        if len(classes) < 2:
            bad.append(f"{name} has one class, {classes[0]!r}")
        elif counts.min() < least:
            rarest = classes[counts.argmin()]
            bad.append(f"{name} has {counts.min()} trials of class {rarest!r}, cv={cv!r} needs {least}")
    if bad:
        raise ValueError(f"y: some subjects cannot be screened: {'; '.join(bad)}.")
