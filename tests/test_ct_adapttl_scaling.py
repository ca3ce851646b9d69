import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skeeg.alignment import EuclideanAlignment
from skeeg.array import make_eeg
from skeeg.methods.ct_adapttl.scaling import scale_by_subject, whitener_of


def make_trials(n=12, n_channels=3, seed=0):
    return np.random.default_rng(seed).normal(size=(n, n_channels, 80)).astype("float32")


@pytest.mark.parametrize("dtype, error", [("float32", 1e-5), ("float64", 1e-12)])
def test_ea_is_that_of_euclidean_alignment(dtype, error):
    X, subjects = make_trials().astype(dtype), np.repeat(["a", "b", "c"], 4)
    expected = EuclideanAlignment().fit_transform(make_eeg(X), subjects=subjects)
    scaled, _ = scale_by_subject(X, subjects, "ea")
    np.testing.assert_allclose(scaled, expected, atol=error)
    assert scaled.dtype == dtype


@settings(max_examples=20, deadline=None)
@given(gain=st.floats(1e-3, 1e3), scale=st.sampled_from(["ea", "zscore"]), seed=st.integers(0, 99))
def test_units_do_not_matter(gain, scale, seed):
    X = make_trials(seed=seed)
    np.testing.assert_allclose(
        scale_by_subject(X * np.float32(gain), None, scale)[0], scale_by_subject(X, None, scale)[0], atol=2e-3
    )


@pytest.mark.parametrize("scale", ["ea", "zscore"])
def test_references_after_scaling(scale):
    scaled, _ = scale_by_subject(make_trials(n=30) * np.array([[[1], [5], [0.1]]]), None, scale)
    covariance = np.mean([np.cov(trial) for trial in scaled], axis=0)
    np.testing.assert_allclose(np.diag(covariance), 1, atol=1e-3)
    if scale == "ea":
        np.testing.assert_allclose(covariance, np.eye(3), atol=1e-3)


def test_nobody_scales_anybody_else():
    X, subjects = make_trials(), np.array(list("ab") * 6)
    loud = X.copy()
    loud[subjects == "b"] *= 50
    one, other = (scale_by_subject(data, subjects, "ea")[0] for data in (X, loud))
    np.testing.assert_array_equal(one[subjects == "a"], other[subjects == "a"])


def test_raw_is_raw():
    X = make_trials()
    scaled, whitener = scale_by_subject(X, None, None)
    np.testing.assert_array_equal(scaled, X)
    assert whitener is None


def test_whitener_for_others_is_that_of_the_mean_reference():
    X = make_trials()
    _, whitener = scale_by_subject(X, None, "ea")
    np.testing.assert_allclose(whitener, whitener_of(X, "ea"), rtol=1e-6)
    np.testing.assert_allclose(whitener @ X, scale_by_subject(X, None, "ea")[0], atol=1e-5)
