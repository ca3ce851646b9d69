import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.utils.estimator_checks import parametrize_with_checks

from skeeg.methods.beira import (
    BandPowerPLS,
    BandPowerRidge,
    BlockedSplit,
    RankOneRidge,
    null_scores,
    region_correlations,
    simulate_bold,
    surrogate,
)
from skeeg.methods.beira.features import band_powers, with_lags

SHORT = {"bands": ((0.0, 20.0), (20.0, 51.0)), "lags": (0.0, 0.02), "step": 0.02, "sfreq": 100.0}


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 40), st.integers(2, 6), st.floats(0, 5), st.integers(1, 8), st.integers(1, 4), st.integers(1, 3))
def test_no_training_window_touches_a_test_window(n_windows, n_splits, gap, window, step, n_recordings):
    assume(n_splits <= n_windows)
    groups = np.repeat(np.arange(n_recordings), n_windows)
    splits = BlockedSplit(n_splits, gap=gap, window=window, step=step)
    seen = []
    try:
        folds = list(splits.split(groups, groups=groups))
    except ValueError as error:
        assert "gap" in str(error)
        return
    for train, test in folds:
        seen.append(test)
        starts = np.tile(np.arange(n_windows) * step, n_recordings)
        same = groups[train][:, None] == groups[test]
        apart = np.maximum(
            starts[train][:, None] - starts[test] - window, starts[test] - starts[train][:, None] - window
        )
        assert np.all(apart[same] >= gap - 1e-9)
        far = np.ones(len(groups), dtype=bool)  # and nothing that could be trained on is left out
        for i in range(len(groups)):
            inside = groups[test] == groups[i]
            far[i] = np.all(np.abs(starts[test][inside] - starts[i]) >= window + gap - 1e-9)
        np.testing.assert_array_equal(np.flatnonzero(far), train)
    np.testing.assert_array_equal(np.sort(np.concatenate(seen)), np.arange(len(groups)))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [({"n_splits": 9}, "n_splits: got 9, expected 2 to 8"), ({"gap": 99.0}, "gap: 99.0 leaves no"),
     ({"step": 0}, "step: got 0")],
)  # fmt: skip
def test_bad_splits_are_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        list(BlockedSplit(**parameters).split(range(8)))


def test_correlations_equal_numpy_in_every_form():
    random = np.random.default_rng(0)
    a, b = random.normal(size=(2, 3, 2, 40))
    by_hand = [np.corrcoef(a[:, region, 5:].ravel(), b[:, region, 5:].ravel())[0, 1] for region in range(2)]
    np.testing.assert_allclose(region_correlations(a, b, skip=5), by_hand)
    values = [np.corrcoef(a[:, region, 0], b[:, region, 0])[0, 1] for region in range(2)]
    np.testing.assert_allclose(region_correlations(a[:, :, 0], b[:, :, 0]), values)
    np.testing.assert_allclose(region_correlations(a[:, 0, 0], b[:, 0, 0]), values[:1])
    recordings = [np.corrcoef(a[i, 0, 5:], b[i, 0, 5:])[0, 1] for i in range(3)]
    np.testing.assert_allclose(region_correlations(list(a), list(b), skip=5)[0], np.mean(recordings))
    assert region_correlations(a, 0 * a).tolist() == [0, 0]


@pytest.mark.parametrize("shape", [(30,), (30, 30), (4, 2, 25), (4, 3, 24)])
def test_a_shift_keeps_the_values_and_their_order(shape):
    Y = np.random.default_rng(0).normal(size=shape)
    shifted = surrogate(Y, "shift", random_state=1)
    assert shifted.shape == Y.shape

    def series(array):
        return array.transpose(1, 0, 2).reshape(shape[1], -1) if array.ndim == 3 else array.reshape(shape[0], -1).T

    before, after = series(Y), series(shifted)
    by = int(np.flatnonzero(before[0] == after[0][0])[0])
    least = before.shape[1] // 10
    assert least <= by <= before.shape[1] - least
    np.testing.assert_array_equal(np.roll(before, -by, axis=1), after)


@pytest.mark.parametrize("n_times", [40, 41])
def test_new_phases_keep_spectra_and_what_the_regions_share(n_times):
    Y = np.random.default_rng(0).normal(size=(1, 3, n_times)).cumsum(axis=2)
    drawn = surrogate(Y, "phase", random_state=1)
    np.testing.assert_allclose(np.abs(np.fft.rfft(drawn)), np.abs(np.fft.rfft(Y)), atol=1e-9)
    np.testing.assert_allclose(np.cov(drawn[0]), np.cov(Y[0]), atol=1e-9)
    assert abs(np.corrcoef(drawn[0, 0], Y[0, 0])[0, 1]) < 0.99


class Answers:
    """Regressor that has learnt nothing, or everything."""

    def __init__(self, answer):
        self.answer = answer

    def predict(self, X):
        return self.answer


@pytest.mark.parametrize("method", ["shift", "phase"])
def test_p_values_are_small_for_what_is_right_and_even_for_what_is_not(method):
    random = np.random.default_rng(0)
    smooth = np.apply_along_axis(np.convolve, -1, random.normal(size=(40, 1, 2, 400)), np.ones(20), "same")
    right = null_scores(Answers(smooth[0]), None, smooth[0], n=99, method=method, random_state=0)
    assert right.p_value == 0.01
    assert right.score == pytest.approx(1.0)
    assert right.p_value_per_region.tolist() == [0.01, 0.01]
    p_values = [
        null_scores(Answers(one), None, other, n=49, method=method, random_state=0).p_value
        for one, other in zip(smooth[:20], smooth[20:], strict=True)
    ]
    assert 0.25 < np.mean(p_values) < 0.75


def test_bad_nulls_are_refused():
    with pytest.raises(ValueError, match="n: got 0"):
        null_scores(Answers(np.ones((1, 1, 9))), None, np.ones((1, 1, 9)), n=0)
    with pytest.raises(ValueError, match="method: got 'shuffle'"):
        surrogate(np.arange(9.0), "shuffle")


def test_band_powers_find_the_rhythm_when_it_is_there():
    t = np.arange(2000) / 100
    x = np.where(t < 10, np.sin(2 * np.pi * 6 * t), np.sin(2 * np.pi * 20 * t))
    powers, samples = band_powers(x[None, None], 100.0, step=1.0)
    assert samples.tolist() == list(range(0, 2000, 100))
    assert powers[0, 0].argmax(axis=0)[2:9].tolist() == [1] * 7
    assert powers[0, 0].argmax(axis=0)[12:19].tolist() == [3] * 7


def test_lags_look_back():
    lagged = with_lags(np.arange(10).reshape(1, 10), (0, 3))
    assert lagged.shape == (10, 2, 1)
    assert lagged[7, :, 0].tolist() == [7, 4]


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
    lagged, samples = ridge._features(simulated.eeg)
    targets = simulated.bold[0][:, samples].T
    features = ridge._scale(lagged[0])
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
