import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.utils.estimator_checks import parametrize_with_checks

from skeeg.array import EEGArray
from skeeg.regression import (
    ChannelScaler,
    CrossProducts,
    choose_alpha,
    lagged,
    moments,
    ridge_from_products,
    ridge_weights,
)


@pytest.mark.parametrize("shape", [(40, 5), (5, 40)])
def test_weights_are_those_of_scikit_learn(shape):
    random = np.random.default_rng(0)
    features, targets = random.normal(size=shape), random.normal(size=(shape[0], 2))
    for alpha, weights in zip((0.5, 30.0), ridge_weights(features, targets, (0.5, 30.0)), strict=True):
        expected = Ridge(alpha, fit_intercept=False).fit(features, targets).coef_.T
        np.testing.assert_allclose(weights, expected, atol=1e-10)


def test_noise_is_penalised_and_signal_is_not():
    features = np.random.default_rng(0).normal(size=(300, 60))
    signal, noise = features[:, :1], np.random.default_rng(1).normal(size=(300, 1))
    assert choose_alpha(features, signal, gap=5) == 1.0
    assert choose_alpha(features, noise, gap=5) >= 1e4


def test_moments_of_chunks_are_those_of_the_whole():
    x, y = (np.random.default_rng(seed).normal(1e4, 1.0, size=(7, n, 30)) for seed, n in enumerate((3, 2)))
    chunks = [(x[:2], y[:2]), (x[2:3], y[2:3]), (x[3:], y[3:])]
    for (mean, scale), whole in zip(moments(chunks), (x, y), strict=True):
        np.testing.assert_allclose(mean, whole.mean(axis=(0, 2)), rtol=1e-12)
        np.testing.assert_allclose(scale, whole.std(axis=(0, 2)), rtol=1e-9)


@pytest.mark.parametrize("edge", ["hold", "zero"])
def test_lags_look_back_and_ahead_within_a_trial(edge):
    x = np.arange(1.0, 21.0).reshape(2, 1, 10)
    values = lagged(x, (2, 0, -1), edge)
    assert values.shape == (2, 3, 1, 10)
    np.testing.assert_array_equal(values[1, :, 0, 5], [14.0, 16.0, 17.0])
    hold = edge == "hold"
    np.testing.assert_array_equal(values[1, :, 0, 0], [11.0 if hold else 0.0, 11.0, 12.0])
    np.testing.assert_array_equal(values[0, :, 0, 9], [8.0, 10.0, 10.0 if hold else 0.0])


def test_ridge_from_chunks_is_that_of_scikit_learn():
    random = np.random.default_rng(0)
    x, y = random.normal(size=(6, 4, 50)), random.normal(size=(6, 2, 50))
    products = CrossProducts([(x[:2], y[:2])]) + CrossProducts([(x[2:], y[2:])])
    coef, alpha = ridge_from_products(products, CrossProducts(), 0.3)
    rows, targets = (one.transpose(0, 2, 1).reshape(300, -1) for one in (x, y))
    expected = Ridge(0.3 * np.sum(rows**2) / 4, fit_intercept=False).fit(rows, targets).coef_
    np.testing.assert_allclose(coef, expected, atol=1e-10)
    assert alpha == 0.3


def test_the_penalty_is_chosen_by_held_out_samples():
    random = np.random.default_rng(0)
    x, noise = random.normal(size=(4, 3, 60)), random.normal(size=(4, 1, 60))
    for y, low in ((x[:, :1], True), (noise, False)):
        training, held = CrossProducts([(x[:2], y[:2])]), CrossProducts([(x[2:], y[2:])])
        assert (ridge_from_products(training, held)[1] < 1) == low
    assert ridge_from_products(training, CrossProducts())[1] == 0.01
    with pytest.raises(ValueError, match="alpha: got -1"):
        ridge_from_products(training, held, -1)


@parametrize_with_checks([ChannelScaler(), ChannelScaler("whiten")])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def test_channels_are_centred_and_scaled_or_whitened():
    random = np.random.default_rng(0)
    X = np.array([[1.0], [2.0], [5.0]]) * random.normal(3.0, 1.0, size=(5, 3, 200))
    X = EEGArray(random.normal(size=(3, 3)) @ X, ["C3", "Cz", "C4"], 100.0)
    scaled, whole, white = (ChannelScaler(method).fit_transform(X) for method in ("channel", "global", "whiten"))
    np.testing.assert_allclose(scaled.std(axis=(0, 2)), 1.0)
    np.testing.assert_allclose(scaled.mean(axis=(0, 2)), 0.0, atol=1e-9)
    np.testing.assert_allclose(whole, np.asarray(X) / X.std())
    np.testing.assert_allclose(np.cov(white.transpose(1, 0, 2).reshape(3, -1), ddof=0), np.eye(3), atol=1e-9)
    assert white.ch_names == X.ch_names and white.sfreq == 100.0
    assert ChannelScaler().fit(X.astype(np.float32)).transform(X[:, :, :7].astype(np.float32)).dtype == np.float32


def test_whitening_leaves_out_what_an_average_reference_empties():
    X = np.random.default_rng(0).normal(size=(1, 4, 3000))
    white = ChannelScaler("whiten").fit_transform(X - X.mean(axis=1, keepdims=True))
    assert np.linalg.matrix_rank(np.cov(white[0]), tol=1e-4) == 3
