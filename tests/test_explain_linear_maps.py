"""Matrices of linear steps against the steps themselves."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, TransformerMixin

from skeeg import (
    CSP,
    AverageReference,
    BandPass,
    ChannelTemplate,
    EEGArray,
    EuclideanAlignment,
    FilterBank,
    Harmonise,
    Notch,
    Resample,
    RiemannianAlignment,
    as_eeg,
)
from skeeg.array import make_domains
from skeeg.base import AsEEG
from skeeg.covariance import TrialCovariances
from skeeg.explain.linear_maps import linear_map, step_map
from skeeg.filtering import PadToMultiple
from skeeg.restoration import TimeInterpolation

NAMES = ("FC3", "FCz", "FC4", "C3", "Cz", "C4", "CP3", "CPz", "CP4")


def trials(seed, n_trials=12, subjects=("a", "b"), n_times=120):
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(len(NAMES), len(NAMES)))
    data = mixing @ rng.normal(size=(n_trials, len(NAMES), n_times))
    return EEGArray(data, NAMES, 100.0, make_domains(n_trials, np.resize(subjects, n_trials)))


STEPS = (
    AsEEG(),
    AverageReference(),
    BandPass(8, 30, method="iir"),
    BandPass(None, 20),
    BandPass(8, 30, method="iir", phase="forward"),
    Notch(30),
    Resample(64),
    Resample(150),
    PadToMultiple(50),
    ChannelTemplate("ct_adapttl20"),
    Harmonise(sfreq_out=125.0),
    EuclideanAlignment(),
    RiemannianAlignment(),
    TimeInterpolation(),
)


@pytest.mark.parametrize("step", STEPS, ids=repr)
@pytest.mark.filterwarnings("ignore")
def test_matrices_found_on_some_trials_give_what_the_step_gives_for_others(step):
    X, others = trials(0), trials(1)
    step.fit(X)
    found, Y = step_map(step, X, "step")
    for i in range(len(X)):
        np.testing.assert_allclose(found.apply(X[[i]], i)[0], np.asarray(Y)[i], atol=1e-9 * np.abs(Y).max())
    expected = np.asarray(step.transform(others))
    mapped = found.apply(np.asarray(others), range(len(X)))
    np.testing.assert_allclose(mapped, expected, atol=1e-8 * np.abs(expected).max())


def test_adjoint_of_a_chain_of_steps_is_its_transpose():
    X, rng = trials(0, 4), np.random.default_rng(2)
    first, Y = step_map(Resample(64).fit(X), X, "resample")
    second, Z = step_map(EuclideanAlignment().fit(Y), Y, "alignment")
    both = first.then(second)
    for i in range(len(X)):
        x, g = rng.normal(size=X.shape[1:])[None], rng.normal(size=Z.shape[1:])[None]
        assert np.isclose((both.apply(x, i) * g).sum(), (x * both.adjoint(g, i)).sum())
        np.testing.assert_allclose(both.apply(np.asarray(X)[[i]], i)[0], np.asarray(Z)[i], atol=1e-9)


@pytest.mark.parametrize("on_unseen", ["own", "source"])
def test_alignment_of_unseen_subjects_is_held_fixed(on_unseen):
    step = EuclideanAlignment(on_unseen=on_unseen).fit(trials(0))
    new = trials(3, subjects=("c", "d"))
    found, Y = step_map(step, new, "step")
    assert len(np.unique(found.spatial, axis=0)) == {"own": 2, "source": 1}[on_unseen]
    np.testing.assert_allclose(found.apply(np.asarray(new), range(len(new))), np.asarray(Y), atol=1e-8)


class Squares(TransformerMixin, BaseEstimator):
    def transform(self, X):
        return X.like(np.asarray(X) ** 2)


def test_a_step_that_is_not_linear_is_named():
    with pytest.raises(ValueError, match="squares is not linear"):
        step_map(Squares(), trials(0), "squares")  # it declares nothing
    bank = FilterBank(((8, 12), (12, 16)), method="iir").fit(trials(0))
    with pytest.raises(ValueError, match="bank is not linear"):
        step_map(bank, trials(0), "bank")


class Foreign(TransformerMixin, BaseEstimator):
    """Mixes channels and smooths over time, as a step of another library that declares nothing."""

    def transform(self, X):
        data = np.asarray(X)
        return X.like(np.cumsum(data[:, :3] - data[:, 3:6], axis=2)[:, :, ::2], ch_names=None)


def test_linear_steps_of_other_libraries_need_not_declare_it():
    X = trials(0)
    found, Y = step_map(Foreign(), X, "foreign")
    np.testing.assert_allclose(found.apply(np.asarray(X), 0), np.asarray(Y), atol=1e-9 * np.abs(Y).max())


@pytest.mark.parametrize("step", [CSP(2), FilterBank(((8, 12),)), TrialCovariances()], ids=repr)
def test_steps_that_are_not_linear_declare_it(step):
    assert step.linear_map_ is None
    assert CSP(2, transform_into="csp_space").linear_map_ == "space"


def test_a_step_that_gives_features_is_named():
    with pytest.raises(ValueError, match="power does not give trials"):
        linear_map(lambda X: np.asarray(X).var(axis=2), as_eeg(np.ones((2, 3, 8))), name="power")
