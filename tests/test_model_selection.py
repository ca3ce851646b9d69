import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from skeeg.model_selection import BlockedSplit, channel_correlations, null_scores, surrogate


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
    np.testing.assert_allclose(channel_correlations(a, b, skip=5), by_hand)
    values = [np.corrcoef(a[:, region, 0], b[:, region, 0])[0, 1] for region in range(2)]
    np.testing.assert_allclose(channel_correlations(a[:, :, 0], b[:, :, 0]), values)
    np.testing.assert_allclose(channel_correlations(a[:, 0, 0], b[:, 0, 0]), values[:1])
    recordings = [np.corrcoef(a[i, 0, 5:], b[i, 0, 5:])[0, 1] for i in range(3)]
    np.testing.assert_allclose(channel_correlations(list(a), list(b), skip=5)[0], np.mean(recordings))
    assert channel_correlations(a, 0 * a).tolist() == [0, 0]


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
