import numpy as np
import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from skeeg.methods.beira import BandPowerPLS, BandPowerRidge, RankOneRidge, simulate_bold
from skeeg.methods.beira.baselines import band_powers
from skeeg.model_selection import surrogate

SHORT = {"bands": ((0.0, 20.0), (20.0, 51.0)), "lags": (0.0, 0.02), "step": 0.02, "sfreq": 100.0}


def test_band_powers_find_the_rhythm_when_it_is_there():
    t = np.arange(2000) / 100
    x = np.where(t < 10, np.sin(2 * np.pi * 6 * t), np.sin(2 * np.pi * 20 * t))
    powers, samples = band_powers(x[None, None], 100.0, step=1.0)
    assert samples.tolist() == list(range(0, 2000, 100))
    assert powers[0, 0].argmax(axis=0)[2:9].tolist() == [1] * 7
    assert powers[0, 0].argmax(axis=0)[12:19].tolist() == [3] * 7


@pytest.mark.parametrize(
    "regressor", [BandPowerRidge(), BandPowerPLS(), RankOneRidge(random_state=0)], ids=lambda one: type(one).__name__
)
def test_baselines_learn_what_is_there(regressor):
    simulated = simulate_bold(2, duration=400, bold_noise=0.2, random_state=0)
    training = simulated.eeg[..., :28_000], simulated.bold[..., :28_000]
    test = simulated.eeg[..., 30_000:], simulated.bold[..., 30_000:]
    regressor.fit(*training)
    assert regressor.score(*test) > 0.4
    assert regressor.predict(test[0]).shape == test[1].shape
    random = regressor.fit(training[0], surrogate(training[1], random_state=3)).score(*test)
    assert random < 0.4


def test_ridge_equals_scikit_learn():
    from sklearn.linear_model import Ridge

    simulated = simulate_bold(2, duration=60, random_state=0)
    ridge = BandPowerRidge(alpha=30.0).fit(simulated.eeg, simulated.bold)
    powers, samples = ridge._features(simulated.eeg)
    targets = simulated.bold[0][:, samples].T
    features = ridge.scaler_.transform(powers[0])
    standard = (targets - targets.mean(axis=0)) / targets.std(axis=0)
    expected = Ridge(30.0, fit_intercept=False).fit(features, standard).coef_
    np.testing.assert_allclose(ridge.coef_.reshape(2, -1), expected, atol=1e-8)


def test_rank_one_finds_a_rank_one_answer():
    random = np.random.default_rng(0)
    regressor = RankOneRidge(tol=1e-6, random_state=0)
    regressor.feature_shape_ = (3, 4, 2)
    features = random.normal(size=(400, 24))
    space, time = random.normal(size=4), random.normal(size=(3, 2))
    weights = np.einsum("lb,c->lcb", time, space).ravel()
    regressor._fit_linear(features, (features @ weights)[:, None])
    assert abs(np.corrcoef(regressor.spatial_[0], space)[0, 1]) > 0.999
    assert abs(np.corrcoef(regressor.temporal_[0].ravel(), time.ravel())[0, 1]) > 0.999
    assert regressor.n_iter_ < 50


@parametrize_with_checks([BandPowerRidge(**SHORT), BandPowerPLS(2, **SHORT), RankOneRidge(**SHORT, random_state=0)])
def test_scikit_learn_checks(estimator, check):
    check(estimator)
