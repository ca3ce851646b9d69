import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skeeg.array import EEGArray, make_domains
from skeeg.evaluations import BalancedTarget, PooledTarget


@pytest.mark.parametrize(("use", "n_trained"), [("both", 10), ("source", 8), ("target", 2), ("prefer_target", 2)])
def test_pooled_target_trains_on(use, n_trained):
    X, y = np.arange(8.0)[:, None], np.array(["a", "b"] * 4)
    model = PooledTarget(CountTrials(), use).fit(X, y, None, X[:2], y[:2])
    assert model.estimator_.n_trials_ == n_trained


class CountTrials(ClassifierMixin, BaseEstimator):
    __metadata_request__fit = {"subjects": True, "X_target_unlabeled": True}

    def fit(self, X, y, subjects=None, X_target_unlabeled=None):
        self.n_trials_, self.subjects_, self.unlabeled_ = len(X), subjects, X_target_unlabeled
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.repeat(self.classes_[0], len(X))


def test_pooled_target_names_the_target_as_a_subject_of_its_own():
    X, y = np.arange(4.0)[:, None], np.array([0, 1, 0, 1])
    inner = PooledTarget(CountTrials()).fit(X, y, [7, 7, 8, 8], X[:2], y[:2]).estimator_
    assert list(inner.subjects_) == ["7", "7", "8", "8", "target", "target"]
    np.testing.assert_array_equal(inner.unlabeled_, X[:2])


@pytest.mark.parametrize("n_target", [0, 1])
def test_too_few_target_trials_leave_the_source_trials(n_target):
    X, y = np.arange(8.0)[:, None], np.array(["a", "b"] * 4)
    model = PooledTarget(CountTrials(), "prefer_target").fit(X, y, None, X[:n_target], y[:n_target])
    assert model.estimator_.n_trials_ == 8


def test_pooled_target_errors():
    X, y = np.arange(4.0)[:, None], np.array([0, 1, 0, 1])
    with pytest.raises(ValueError, match="X_target_labeled: got no trials, but use='target'"):
        PooledTarget(DummyClassifier(), use="target").fit(X, y)
    with pytest.raises(ValueError, match="use: got 'none'"):
        PooledTarget(DummyClassifier(), use="none").fit(X, y)


def test_pooled_target_keeps_the_identity_of_recordings():
    X, y = EEGArray(np.random.default_rng(0).normal(size=(6, 2, 5)), ("C3", "C4"), 100), np.resize([0, 1], 6)

    class Names(CountTrials):
        def fit(self, X, y, subjects=None, X_target_unlabeled=None):
            self.names_ = X.ch_names
            return self

    assert PooledTarget(Names()).fit(X[:4], y[:4], None, X[4:], y[4:]).estimator_.names_ == ("C3", "C4")


def test_pooled_target_offers_what_its_classifier_offers():
    X, y = np.arange(4.0)[:, None], np.array([0, 1, 0, 1])
    assert PooledTarget(LogisticRegression()).fit(X, y).predict_proba(X).shape == (4, 2)
    assert not hasattr(PooledTarget(CountTrials()), "predict_proba")


def test_balanced_target_gives_the_classes_their_shares():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(80, 4)), np.repeat(["a", "b", "b", "c"], 20)
    X[np.arange(80), np.repeat([0, 1, 1, 2], 20)] += 2
    target = np.repeat(X, 2, axis=0) + [1.5, 0, 0, 0]
    plain = LogisticRegression().fit(X, y)
    model = BalancedTarget(LogisticRegression()).fit(X, y, X_target_unlabeled=target)
    np.testing.assert_allclose(model.predict_proba(target).mean(0), [0.25, 0.5, 0.25], atol=1e-6)
    assert model.score(target, np.repeat(y, 2)) > plain.score(target, np.repeat(y, 2)) + 0.1
    moved = np.log(model.predict_proba(X)) - np.log(plain.predict_proba(X))
    np.testing.assert_allclose(np.diff(moved, axis=1), np.tile(np.diff(model.offset_), (80, 1)), atol=1e-6)


def test_balanced_target_without_target_trials_is_its_classifier():
    X, y = np.arange(4.0)[:, None], np.array([0, 1, 0, 1])
    for target in (None, X[:0]):
        model = BalancedTarget(LogisticRegression()).fit(X, y, X_target_unlabeled=target)
        np.testing.assert_allclose(model.predict_proba(X), LogisticRegression().fit(X, y).predict_proba(X), atol=1e-9)


def test_balanced_target_hands_subjects_and_target_to_the_steps_that_ask():
    class Certain(CountTrials):
        def predict_proba(self, X):
            return np.tile([1.0, 0.0], (len(X), 1))

    X, y = np.arange(4.0)[:, None], np.array([0, 1, 0, 1])
    model = BalancedTarget(Certain()).fit(X, y, [7, 7, 8, 8], X[:2])
    assert model.estimator_.subjects_ == [7, 7, 8, 8] and len(model.estimator_.unlabeled_) == 2
    assert np.isfinite(model.predict_proba(X)).all()


def test_balanced_target_has_offsets_of_each_run():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(80, 2, 5)), np.tile([0, 1], 40)
    X[y == 1] += 2
    shifted = X + np.repeat([-1.5, 1.5], 40)[:, None, None]
    target = EEGArray(shifted, domains=make_domains(80, subject="t", run=np.repeat(["1", "2"], 40)))
    plain = make_pipeline(FunctionTransformer(lambda X: np.asarray(X).mean(-1)), LogisticRegression())
    scores = {
        domain: BalancedTarget(plain, domain=domain).fit(X, y, X_target_unlabeled=target).score(target, y)
        for domain in ("subject", "run")
    }
    assert scores["run"] > scores["subject"] + 0.05
    model = BalancedTarget(plain, domain="run").fit(X, y, X_target_unlabeled=target)
    assert set(model.offsets_) == {("t", "", "1"), ("t", "", "2")}
    np.testing.assert_allclose(model.predict_proba(target[:40]).mean(0), [0.5, 0.5], atol=1e-6)
    unknown = model.predict_proba(np.asarray(target)[:1])  # without domains: the offset of all
    expected = np.log(model.estimator_.predict_proba(target[:1])) + model.offset_
    np.testing.assert_allclose(np.diff(np.log(unknown)), np.diff(expected), atol=1e-9)


def test_balanced_target_names_an_unknown_domain():
    with pytest.raises(ValueError, match="domain: got 'block'"):
        BalancedTarget(LogisticRegression(), domain="block").fit(
            np.arange(4.0)[:, None], [0, 1, 0, 1], X_target_unlabeled=np.ones((2, 1))
        )
