"""Screening: keeps those who can be decoded, by a rule that follows the number of trials."""

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import ShuffleSplit, StratifiedKFold

from skeeg.array import EEGArray, make_domains
from skeeg.model_selection import screen_subjects


def make_subjects(effects, n_trials=40, seed=0):
    """Trials of subjects whose class has the given effect, interleaved."""
    rng = np.random.default_rng(seed)
    y = np.tile([0, 1], n_trials // 2 * len(effects))
    subjects = rng.permutation(np.repeat(np.arange(len(effects)), n_trials))
    for subject in range(len(effects)):
        y[subjects == subject] = np.arange(n_trials) % 2
    X = rng.standard_normal((len(y), 3, 60))
    X[y == 1, 0] *= 1 + np.asarray(effects)[subjects[y == 1], None]
    return X, y, subjects


def test_keeps_those_who_can_be_decoded():
    X, y, subjects = make_subjects([2, 0, 2, 0])
    result = screen_subjects(X, y, subjects)
    assert sorted(result.kept.tolist()) == [0, 2]
    np.testing.assert_array_equal(result.mask, np.isin(subjects, [0, 2]))
    order = result.subjects.argsort()
    assert (result.scores[order][[0, 2]] > 0.9).all() and (result.scores[order][[1, 3]] < 0.7).all()


@pytest.mark.parametrize("shares", [(20, 20), (30, 10), (100, 100), (7, 6)])
def test_significance_limit(shares):
    y = np.repeat([0, 1], shares)
    n = len(y)
    X = np.random.default_rng(0).standard_normal((n, 2, 20))
    limit = screen_subjects(X, y, np.zeros(n), cv=3).thresholds[0]
    hits, chance = round(limit * n), max(shares) / n
    assert binomtest(hits, n, chance, alternative="greater").pvalue <= 0.05
    assert binomtest(hits - 1, n, chance, alternative="greater").pvalue > 0.05


def test_chance_is_kept_as_rarely_as_promised():
    X, y, subjects = make_subjects([0] * 40, n_trials=20)
    assert len(screen_subjects(X, y, subjects, cv=2).kept) <= 6  # 2 expected


def test_threshold_given():
    X, y, subjects = make_subjects([2, 0])
    assert len(screen_subjects(X, y, subjects, threshold=0.0).kept) == 2
    result = screen_subjects(X, y, subjects, threshold=1.0)
    np.testing.assert_array_equal(result.thresholds, 1.0)
    np.testing.assert_array_equal(result.kept, result.subjects[result.scores >= 1.0])


def test_subjects_from_the_data_and_labels_of_any_kind():
    X, y, subjects = make_subjects([2, 0])
    names = np.array(["anna", "bo"])[subjects]
    result = screen_subjects(EEGArray(X, domains=make_domains(len(X), names)), np.array(["left", "right"])[y])
    assert result.kept.tolist() == ["anna"]
    np.testing.assert_array_equal(result.scores, screen_subjects(X, y, names).scores)


def test_own_estimator_and_folds():
    X, y, subjects = make_subjects([2, 0])
    result = screen_subjects(X, y, subjects, estimator=DummyClassifier(), cv=StratifiedKFold(4))
    np.testing.assert_allclose(result.scores, 0.5)


def test_bad_input_is_named():
    X, y, subjects = make_subjects([1, 1])
    with pytest.raises(ValueError, match="^subjects"):
        screen_subjects(X, y)
    with pytest.raises(ValueError, match="^subjects"):
        screen_subjects(X, y, subjects[:-1])
    with pytest.raises(ValueError, match="^y"):
        screen_subjects(X, y[:-1], subjects)
    with pytest.raises(ValueError, match="^y: subject 1 cannot be screened: .*one class"):
        screen_subjects(X, np.where(subjects == 1, 0, y), subjects)
    with pytest.raises(ValueError, match="^y: subject 1 cannot be screened: a class has 20 trials, cv=30 needs 30"):
        screen_subjects(X, y, subjects, cv=30)
    few = (subjects != 1) | (y == 0) | (np.arange(len(y)) == np.flatnonzero((subjects == 1) & (y == 1))[0])
    with pytest.raises(ValueError, match="^y: subject 1 cannot be screened: a class has 1 trials"):  # not "one class"
        screen_subjects(X[few], y[few], subjects[few])
    for threshold in ("good", 1.5, -0.1):
        with pytest.raises(ValueError, match="^threshold"):
            screen_subjects(X, y, subjects, threshold=threshold)
    with pytest.raises(ValueError, match="partition"):
        screen_subjects(X, y, subjects, cv=ShuffleSplit(2))
