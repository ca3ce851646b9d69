"""Model selection: blocked cross-validation, null distributions, and screening of subjects.

A few minutes of BOLD hold few independent values: overlapping or adjacent windows in training and test set are temporal
leakage, and a correlation means little without its distribution for unrelated signals that are as smooth. Before a
pre-training, subjects whose classes cannot be decoded above chance are left out.
"""

import dataclasses
from numbers import Integral

import numpy as np
from scipy.stats import binom
from sklearn.base import clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import BaseCrossValidator, check_cv, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.utils import check_random_state
from sklearn.utils.validation import column_or_1d

from .array import as_eeg
from .base import check_class_labels
from .spatial import CSP


def channel_correlations(y, prediction, skip=0):
    """Pearson correlation of measured and predicted signals for each channel, sensor or region, shape (n_channels,).

    Trials are laid end to end; recordings of a list are correlated one by one and averaged. 0 for constant signals.

    Parameters
    ----------
    y, prediction : array-like, shape (n_trials, n_channels, n_times), (n_trials, n_channels) or (n_trials,), or a list
        Signals; values; or a list of recordings (n_channels, n_times).
    skip : int
        Samples at the start of each trial or recording that do not count.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.model_selection import channel_correlations
    >>> y = np.random.default_rng(0).normal(size=(2, 3, 50))
    >>> channel_correlations(y, -y).round(3).tolist()
    [-1.0, -1.0, -1.0]
    """
    if isinstance(y, list | tuple) and np.ndim(y[0]) >= 2:
        pairs = zip(y, prediction, strict=True)
        return np.mean([_correlate(_series(a, skip), _series(b, skip)) for a, b in pairs], axis=0)
    return _correlate(_series(y, skip, trials=True), _series(prediction, skip, trials=True))


def _series(y, skip, trials=False):
    """Signals (n_regions, n_samples), trials end to end."""
    y = np.asarray(y, dtype=np.float64)
    if y.ndim == 3:
        return y[..., skip:].transpose(1, 0, 2).reshape(y.shape[1], -1)
    if trials:
        return y.reshape(len(y), -1).T
    return y[:, skip:]


def _correlate(a, b):
    if a.shape != b.shape:
        raise ValueError(f"prediction: got signals of shape {b.shape}, expected {a.shape} (regions, samples).")
    sizes = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.divide((a * b).sum(axis=1), norms, out=np.zeros(len(a)), where=norms > 1e-12 * sizes)


class BlockedSplit(BaseCrossValidator):
    """Cross-validation over contiguous blocks of windows: no training window overlaps, or comes near, a test window.

    Window i covers the samples ``[i step, i step + window)``. Fold k tests the k-th block of each recording and
    trains on the windows that lie at least `gap` away from it.

    Parameters
    ----------
    n_splits : int
        Folds.
    gap : float
        Least distance between a training and a test window, in the unit of `window` and `step`.
    window, step : float
        Length of a window and distance between the starts of two; the defaults are windows that touch.

    Examples
    --------
    >>> from skeeg import BlockedSplit
    >>> for train, test in BlockedSplit(3, gap=1).split(range(6)):
    ...     print(train, test)
    [3 4 5] [0 1]
    [0 5] [2 3]
    [0 1 2] [4 5]
    """

    def __init__(self, n_splits=5, gap=0.0, window=1.0, step=1.0):
        self.n_splits = n_splits
        self.gap = gap
        self.window = window
        self.step = step

    def get_n_splits(self, X=None, y=None, groups=None):
        """Count the folds."""
        return self.n_splits

    def split(self, X, y=None, groups=None):
        """Yield training and test indices of windows in the order of time; `groups` names the recording of each."""
        for name, value in (("window", self.window), ("step", self.step)):
            if not value > 0:
                raise ValueError(f"{name}: got {value}, expected a positive length.")
        n_windows = len(X)
        groups = np.zeros(n_windows, dtype=int) if groups is None else np.unique(groups, return_inverse=True)[1]
        rows = [np.flatnonzero(groups == group) for group in range(groups.max(initial=-1) + 1)]
        shortest = min((len(row) for row in rows), default=0)
        if not 2 <= self.n_splits <= shortest:
            raise ValueError(f"n_splits: got {self.n_splits}, expected 2 to {shortest}, the windows of a recording.")
        for fold in range(self.n_splits):
            parts = [self._split_recording(row, fold) for row in rows]
            train, test = (np.sort(np.concatenate(part)) for part in zip(*parts, strict=True))
            if not len(train):
                raise ValueError(f"gap: {self.gap} leaves no window to train on in fold {fold + 1}.")
            yield train, test

    def _split_recording(self, row, fold):
        """Fold of one recording, whose windows these are."""
        test = np.array_split(np.arange(len(row)), self.n_splits)[fold]
        starts = np.arange(len(row)) * self.step
        first, last = starts[test[0]], starts[test[-1]] + self.window
        tolerance = 1e-9 * self.window
        apart = (starts + self.window + self.gap <= first + tolerance) | (starts >= last + self.gap - tolerance)
        return row[apart], row[test]


@dataclasses.dataclass(frozen=True)
class NullScores:
    """A score, and the scores of unrelated signals that are as smooth.

    Attributes
    ----------
    score : float
        Mean correlation with the measured signals.
    scores : ndarray, shape (n,)
        Mean correlations with the surrogates.
    score_per_region : ndarray, shape (n_regions,)
        Correlation of each region.
    scores_per_region : ndarray, shape (n, n_regions)
        Correlations of each region with the surrogates.
    """

    score: float
    scores: np.ndarray
    score_per_region: np.ndarray
    scores_per_region: np.ndarray

    @property
    def p_value(self):
        """Probability of such a score by chance, ``(1 + #{null >= score}) / (1 + n)``."""
        return float((1 + np.sum(self.scores >= self.score)) / (1 + len(self.scores)))


def null_scores(estimator, X, Y, n=1000, method="shift", random_state=None):
    """Compare the score of a fitted regressor with those of unrelated signals.

    Parameters
    ----------
    estimator : object
        Fitted regressor with ``predict``.
    X : anything the regressor accepts
        Test data, which the regressor has not seen; trials in the order of time.
    Y : array-like or list
        Measured signals.
    n, random_state
        Number of surrogates, and the seed that draws them.
    method : {"shift", "phase"}
        Surrogates of the measured signals: shifted in a circle by at least a tenth of their length, or with the phases
        of their Fourier transform drawn anew, by the same amounts for all regions. Both keep how smooth a signal is and
        how the regions go together.

    Returns
    -------
    null : NullScores
        Score, null scores and p values.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg import null_scores
    >>> class Echo:
    ...     def predict(self, X):
    ...         return X
    >>> Y = np.random.default_rng(0).normal(size=(5, 2, 100))
    >>> null_scores(Echo(), Y, Y, n=99, random_state=0).p_value
    0.01
    """
    if n < 1:
        raise ValueError(f"n: got {n} surrogates, expected at least 1.")
    random = check_random_state(random_state)
    prediction = estimator.predict(X)
    skip = int(vars(estimator).get("n_unscored_", 0))
    measured = channel_correlations(Y, prediction, skip)
    drawn = [channel_correlations(surrogate(Y, method, random), prediction, skip) for _ in range(n)]
    null = np.stack(drawn)
    return NullScores(float(measured.mean()), null.mean(axis=1), measured, null)


def surrogate(Y, method="shift", random_state=None):
    """Signals of the same shape that are as smooth as ``Y`` and unrelated to the EEG, by a method of `null_scores`.

    Trials of an array are taken to follow each other.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.model_selection import surrogate
    >>> surrogate(np.arange(20.0), random_state=0)[:4].tolist()
    [14.0, 15.0, 16.0, 17.0]
    """
    if method not in ("shift", "phase"):
        raise ValueError(f"method: got {method!r}, expected 'shift' or 'phase'.")
    random = check_random_state(random_state)
    change = _shift if method == "shift" else _draw_phases
    if isinstance(Y, list | tuple) and np.ndim(Y[0]) >= 2:
        return [_to_shape(change(_series(one, 0), random), np.shape(one), trials=False) for one in Y]
    return _to_shape(change(_series(Y, 0, trials=True), random), np.shape(Y), trials=True)


def _to_shape(series, shape, trials):
    """Undo `_series`: signals (n_regions, n_samples) in the shape they came in."""
    if len(shape) == 3:
        return series.reshape(shape[1], shape[0], shape[2]).transpose(1, 0, 2)
    return series.T.reshape(shape) if trials else series


def _shift(series, random):
    n = series.shape[1]
    if n < 3:
        raise ValueError(f"Y: {n} samples are too few to shift.")
    least = max(n // 10, 1)
    return np.roll(series, -random.randint(least, n - least + 1), axis=1)


def _draw_phases(series, random):
    n = series.shape[1]
    spectrum = np.fft.rfft(series, axis=1)
    phases = random.uniform(0, 2 * np.pi, spectrum.shape[1])
    phases[0] = 0
    if n % 2 == 0:
        phases[-1] = 0  # the highest frequency of an even length is real
    return np.fft.irfft(spectrum * np.exp(1j * phases), n, axis=1)


@dataclasses.dataclass(frozen=True, eq=False)
class Screening:
    """Outcome of `screen_subjects`: accuracy of each subject and what it had to reach; `mask` is one of trials."""

    subjects: np.ndarray
    scores: np.ndarray
    thresholds: np.ndarray
    kept: np.ndarray
    mask: np.ndarray


def screen_subjects(X, y, subjects=None, threshold="significant", cv=5, estimator=None):
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
        Smallest accuracy that keeps a subject. ``"significant"`` is above chance at level .05 [2]_: the smallest
        :math:`k / n` with :math:`P(B \ge k) \le .05`, where :math:`B` is binomial with :math:`n` trials and the
        share of the largest class.
    cv : int or scikit-learn splitter
        A number gives stratified folds without shuffling, because neighbouring trials are similar.
    estimator : scikit-learn classifier or None
        Decoder; None is `CSP` with four components and linear discriminant analysis.

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
    >>> from skeeg.model_selection import screen_subjects
    >>> X, y = np.random.default_rng(0).standard_normal((80, 3, 60)), np.tile([0, 1], 40)
    >>> X[:40][y[:40] == 1, 0] *= 2
    >>> screen_subjects(X, y, subjects=["able"] * 40 + ["unable"] * 40).kept.tolist()
    ['able']
    """
    X = as_eeg(X)
    y = column_or_1d(y)
    check_class_labels(y)
    if subjects is None and X.domains is None:
        raise ValueError("subjects: X has no domains; pass the subject of each trial.")
    subjects = column_or_1d(X.domains["subject"].tolist() if subjects is None else subjects)
    for name, values in (("subjects", subjects), ("y", y)):
        if len(values) != len(X):
            raise ValueError(f"{name}: got {len(values)} entries for {len(X)} trials in X.")
    if threshold != "significant" and (isinstance(threshold, str) or not 0 <= threshold <= 1):
        raise ValueError(f"threshold: got {threshold!r}, expected 'significant' or an accuracy from 0 to 1.")
    estimator = make_pipeline(CSP(n_components=4), LinearDiscriminantAnalysis()) if estimator is None else estimator
    names = np.array(list(dict.fromkeys(subjects.tolist())))
    scores = np.empty(len(names))
    thresholds = np.full(len(names), 0.0 if threshold == "significant" else threshold, dtype=float)
    for i, name in enumerate(names):
        rows = subjects == name
        try:
            fewest = np.unique(y[rows], return_counts=True)[1].min()
            if isinstance(cv, Integral) and fewest < cv:
                raise ValueError(f"a class has {fewest} trials, cv={cv} needs {cv}.")
            folds = check_cv(cv, y[rows], classifier=True)
            predicted = cross_val_predict(clone(estimator), X[rows], y[rows], cv=folds)
        except ValueError as error:
            raise ValueError(f"y: subject {name} cannot be screened: {error}") from error
        scores[i] = np.mean(predicted == y[rows])
        if threshold == "significant":  # least accuracy that chance, at the rate of the largest class, rarely reaches
            share = np.unique(y[rows], return_counts=True)[1].max() / rows.sum()
            thresholds[i] = (binom.isf(0.05, rows.sum(), share) + 1) / rows.sum()
    kept = names[scores >= thresholds]
    return Screening(names, scores, thresholds, kept, np.isin(subjects, kept))
