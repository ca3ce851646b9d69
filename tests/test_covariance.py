"""Covariances: against numpy and pyRiemann, in both precisions, and where they are singular."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.covariance import OAS

from skeeg import covariance
from skeeg.covariance import (
    TrialCovariances,
    inverse_sqrt,
    mean_covariances,
    metric_mean,
    shrink,
    trial_covariances,
)


def random_spd(n, size=4, seed=0):
    factors = np.random.default_rng(seed).standard_normal((n, size, size))
    return factors @ factors.transpose(0, 2, 1) + 0.1 * np.eye(size)


@pytest.mark.parametrize("values", [1, 30, 100, 10**6])
@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_numpy_whatever_the_chunks(values, center, dtype, monkeypatch):
    monkeypatch.setattr(covariance, "_CHUNK_VALUES", values)
    X = (np.random.default_rng(0).standard_normal((11, 3, 40)) + 2).astype(dtype)
    exact = X.astype(np.float64)
    exact = exact - exact.mean(axis=2, keepdims=True) if center else exact
    expected = exact @ exact.transpose(0, 2, 1) / 39
    np.testing.assert_allclose(trial_covariances(X, center=center), expected, rtol=1e-12)
    groups = np.array([0, 2, 2, 0, 0, 2, 0, 2, 0, 0, 2])
    means = mean_covariances(X, groups, 4, center=center)
    np.testing.assert_allclose(means[0], expected[groups == 0].mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(means[2], expected[groups == 2].mean(axis=0), rtol=1e-12)
    assert not means[[1, 3]].any()
    np.testing.assert_allclose(
        mean_covariances(X, np.zeros(len(X), int), 1, center)[0], expected.mean(axis=0), rtol=1e-12
    )


@pytest.mark.parametrize("shape", [(4, 3, 100), (4, 1, 50), (4, 8, 5), (4, 8, 2), (4, 3, 1), (1, 22, 750)])
@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e4])
def test_shrunk_covariances_are_those_of_scikit_learn(shape, scale):
    rng = np.random.default_rng(0)
    X = scale * (rng.standard_normal((shape[1], shape[1])) @ rng.standard_normal(shape) + 3)
    X[0, 0] = 2 * scale  # a flat channel
    wanted = np.stack([OAS().fit(trial.T).covariance_ for trial in X])
    np.testing.assert_allclose(
        shrink(trial_covariances(X, ddof=0), X.shape[2]), wanted, rtol=1e-8, atol=1e-10 * scale**2
    )


def test_shrinkage_of_a_multiple_of_the_identity_leaves_it():
    X = np.array([[[2.0, -2, 2, -2], [2, 2, -2, -2]]])
    np.testing.assert_allclose(shrink(trial_covariances(X, ddof=0), X.shape[2]), [[[4, 0], [0, 4]]])


def test_large_offset_costs_no_precision():
    X = np.random.default_rng(0).standard_normal((3, 2, 100))
    np.testing.assert_allclose(trial_covariances(X + 1e6), trial_covariances(X), rtol=1e-8)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6))
def test_inverse_sqrt_whitens(seed, size):
    matrix = random_spd(1, size, seed)[0]
    root = inverse_sqrt(matrix)
    np.testing.assert_allclose(root @ matrix @ root, np.eye(size), atol=1e-8)
    np.testing.assert_allclose(root, root.T, atol=1e-10)


def test_inverse_sqrt_of_singular_matrices():
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))[0]
    singular = basis @ np.diag([9.0, 4.0, 1e-14, 0]) @ basis.T
    gains = np.diag(basis.T @ inverse_sqrt(singular) @ basis)
    np.testing.assert_allclose(gains, [1 / 3, 1 / 2, 6.5**-0.5, 6.5**-0.5], rtol=1e-6)
    np.testing.assert_array_equal(inverse_sqrt(np.zeros((2, 3, 3))), np.broadcast_to(np.eye(3), (2, 3, 3)))
    low, high = inverse_sqrt(np.diag([1.0, 1e-6]), floor=1e-3), inverse_sqrt(np.diag([1.0, 1e-6]), floor=1e-9)
    np.testing.assert_allclose([low[1, 1], high[1, 1]], [1, 1000])


@pytest.mark.parametrize("metric", ["euclid", "riemann", "logeuclid", "wasserstein", "logchol"])
def test_metric_mean_is_that_of_pyriemann(metric):
    from pyriemann.geometry.mean import gmean

    matrices, weights = random_spd(5), np.array([1.0, 2, 0, 3, 1])
    np.testing.assert_allclose(metric_mean(matrices, metric), gmean(matrices, metric=metric))
    expected = gmean(matrices[weights > 0], metric=metric, sample_weight=weights[weights > 0])
    np.testing.assert_allclose(metric_mean(matrices, metric, weights), expected)


def test_metric_mean_where_all_are_singular_alike():
    small = random_spd(5, 3)
    basis = np.linalg.qr(np.random.default_rng(1).standard_normal((5, 5)))[0][:, :3]
    mean = metric_mean(basis @ small @ basis.T)
    np.testing.assert_allclose(mean, basis @ metric_mean(small) @ basis.T, atol=1e-8)


def test_metric_mean_of_silence():
    assert not metric_mean(np.zeros((3, 2, 2))).any()
    some = random_spd(4, 2)
    some[:3] = 0
    assert np.isfinite(metric_mean(some)).all()


def test_covariances_are_those_of_pyriemann():
    from pyriemann.estimation import Covariances

    X = np.random.default_rng(0).standard_normal((5, 3, 100))
    np.testing.assert_allclose(TrialCovariances().fit_transform(X), Covariances("oas").transform(X))
    assert TrialCovariances().fit_transform(X.astype(np.float32)).dtype == np.float32
