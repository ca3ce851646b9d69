"""Lost signal: what is drawn, what comes back, and the plain ways of restoring against known truths."""

import mne
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skeeg import EEGArray, GramPretrainer, GramRestorer
from skeeg.restoration import (
    LOSSES,
    LowRankCompletion,
    SplineInterpolation,
    TimeInterpolation,
    WienerInterpolation,
    band_power_error,
    correlation,
    draw_mask,
    find_lost,
    normalised_error,
    restoration_scores,
)
from skeeg.testing import check_eeg_estimator

NAMES = ("Fp1", "Fz", "F4", "C3", "Cz", "C4", "T7", "P3", "Pz", "P4", "O1", "O2")
WAYS = (
    SplineInterpolation(ch_names=NAMES),
    TimeInterpolation(),
    LowRankCompletion(n_components=3),
    WienerInterpolation(n_components=3),
)


def trials(n=3, n_times=400, rank=None, seed=0):
    """Noise, or mixtures of a few sources."""
    rng = np.random.default_rng(seed)
    sources = rng.standard_normal((n, rank or len(NAMES), n_times))
    return EEGArray(10 * rng.standard_normal((len(NAMES), sources.shape[1])) @ sources, NAMES, 200.0)


# What is lost


@given(st.sampled_from(LOSSES), st.floats(0.05, 0.95), st.integers(2, 7), st.integers(400, 1300))
@settings(max_examples=40, deadline=None)
def test_every_trial_loses_the_share_in_whole_units(loss, share, n_channels, n_times):
    mask = draw_mask((4, n_channels, n_times), 200.0, loss, share, random_state=0)
    starts = np.arange(n_times // 200) * 200
    units = {"electrodes": mask[:, :, 0], "seconds": mask[:, 0, starts], "patches": mask[:, :, starts].reshape(4, -1)}
    found = units[loss]
    assert (found.sum(axis=1) == np.clip(round(share * found.shape[1]), 1, found.shape[1] - 1)).all()
    if loss == "electrodes":
        assert (mask == mask[:, :, :1]).all()
    if loss == "seconds":
        assert (mask == mask[:, :1]).all()
    if loss != "electrodes":
        for start, stop in zip(starts, [*starts[1:], n_times], strict=True):
            assert (mask[:, :, start:stop] == mask[:, :, start : start + 1]).all()


def test_the_seed_decides_what_is_lost():
    first, again, other = (draw_mask((5, 12, 800), 200.0, "patches", 0.3, random_state=s) for s in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()
    assert (first[0] != first[1]).any()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"loss": "sensors"}, "loss: got 'sensors'"),
        ({"share": 1.0}, "share: got 1.0"),
        ({"share": 0}, "share: got 0"),
        ({"loss": "seconds", "seconds": 3}, "a single unit of loss='seconds'"),
    ],
)
def test_losses_that_cannot_be_drawn_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        draw_mask((2, 3, 400), 200.0, **arguments)


@pytest.mark.parametrize("shape", [(3, 12), (3, 12, 2), (3, 11, 400), (2, 12, 400)])
def test_masks_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match="mask: got shape"):
        TimeInterpolation().fit(trials()).transform(trials(), mask=np.zeros(shape, bool))


def test_a_mask_that_is_no_boolean_is_refused():
    with pytest.raises(TypeError, match="mask: expected booleans"):
        find_lost(trials(), np.zeros((3, 12, 400)))


# What all of them promise


@pytest.mark.parametrize("way", WAYS, ids=lambda way: type(way).__name__)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_visible_comes_back_to_the_bit_and_what_is_lost_is_not_looked_at(way, loss, dtype):
    X = trials().astype(dtype)
    mask = draw_mask(X.shape, 200.0, loss, 0.3, random_state=1)
    way.fit(X)
    restored = way.transform(X, mask=mask)
    assert restored.dtype == dtype
    assert restored.ch_names == NAMES
    assert np.array_equal(np.asarray(restored)[~mask], np.asarray(X)[~mask])
    assert np.isfinite(restored).all()
    other = X.like(np.where(mask, np.float64(1e6), X).astype(dtype))
    assert np.array_equal(way.transform(other, mask=mask), restored)
    gaps = X.like(np.where(mask, np.nan, X).astype(dtype))
    assert np.array_equal(way.transform(gaps), restored)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: type(way).__name__)
def test_infinity_is_refused(way):
    X = trials()
    X[0, 0, 0] = np.inf
    with pytest.raises(ValueError, match="infinity"):
        way.fit(X)


@pytest.mark.parametrize(
    "way",
    [SplineInterpolation(), TimeInterpolation(), LowRankCompletion(), WienerInterpolation()],
    ids=lambda way: type(way).__name__,
)
def test_the_test_kit(way):
    failures = {"check_save_load": "the class is not among the names of skeeg"}
    check_eeg_estimator(way, groups=("sklearn", "input", "state"), expected_failed_checks=failures)


# Known truths


def test_whole_electrodes_are_restored_as_mne_does():
    X = trials()
    info = mne.create_info(list(NAMES), 200.0, "eeg").set_montage("standard_1005")
    epochs = mne.EpochsArray(np.asarray(X) * 1e-6, info, verbose="error")
    epochs.info["bads"] = ["Fz", "P4", "O1"]
    wanted = epochs.interpolate_bads(verbose="error").get_data() * 1e6
    mask = np.isin(NAMES, ("Fz", "P4", "O1"))[None, :, None] & np.ones(X.shape, bool)
    found = SplineInterpolation().fit(X).transform(X, mask=mask)
    assert np.abs(found - wanted).max() < 1e-6 * np.abs(wanted).max()


def epochs_with_bads(bads):
    epochs = trials().to_epochs()
    epochs.info["bads"] = list(bads)
    return epochs


def test_bad_channels_of_epochs_are_restored_and_none_is_dropped():
    epochs = epochs_with_bads(["Fz", "O1"])
    step = SplineInterpolation().fit(epochs)
    found = step.transform(epochs)
    assert found.ch_names == NAMES and found.bads == ()
    wanted = epochs.interpolate_bads(verbose="error").get_data() * 1e6
    assert np.abs(found - wanted).max() < 1e-6 * np.abs(wanted).max()
    assert step.transform(epochs_with_bads(["Pz"])).ch_names == NAMES  # another recording with other bad channels
    with pytest.raises(ValueError, match="Fz, O1 is lost in all trials of fit"):
        LowRankCompletion().fit(epochs_with_bads(["Fz", "O1"]))


@pytest.mark.parametrize(
    "way",
    [
        SplineInterpolation(),
        TimeInterpolation(),
        GramRestorer(pretrainer=GramPretrainer(size="tiny", max_epochs=0, device="cpu"), device="cpu", random_state=0),
    ],
    ids=lambda way: type(way).__name__,
)
def test_fifteen_channels_with_a_bad_one_come_back_as_fifteen(way):
    names = ("Pz", "Cz", "T6", "T4", "F8", "P4", "C4", "F4", "Fz", "T5", "T3", "F7", "P3", "C3", "F3")  # of ds003810
    epochs = EEGArray(20 * np.random.default_rng(0).standard_normal((3, 15, 500)), names, 125.0).to_epochs()
    epochs.info["bads"] = ["C3"]
    found = way.fit_transform(epochs)
    assert found.ch_names == names and found.bads == () and np.isfinite(found).all()


@pytest.mark.parametrize(("name", "value"), [("device", "cuda:99"), ("device", "x")])
def test_a_parameter_that_a_fitted_pretrainer_leaves_unused_is_checked_too(name, value):
    short = GramPretrainer(size="tiny", max_epochs=0, device="cpu", network_params={"patch_length": 20})
    with pytest.raises(ValueError, match=f"{name}: got '{value}'"):
        GramRestorer(pretrainer=short, random_state=0).set_params(**{name: value}).fit(trials())


def test_splines_take_the_neighbours_of_the_moment():
    X = trials(n=1)
    one, other = (np.isin(NAMES, names)[None, :, None] for names in (("Fz", "Cz"), ("Pz",)))
    first = np.arange(400) < 200
    both = (one & first) | (other & ~first)
    step = SplineInterpolation().fit(X)
    found = step.transform(X, mask=both)
    assert np.allclose(found[..., :200], step.transform(X, mask=one | np.zeros(X.shape, bool))[..., :200])
    assert np.allclose(found[..., 200:], step.transform(X, mask=other | np.zeros(X.shape, bool))[..., 200:])


def test_splines_need_names():
    with pytest.raises(ValueError, match="ch_names: X carries no channel names"):
        SplineInterpolation().fit(np.asarray(trials()))
    with pytest.raises(ValueError, match="same electrode"):
        SplineInterpolation(ch_names=("T3", "T7")).fit(np.asarray(trials())[:, :2])


def test_ramps_are_restored_exactly_in_time():
    X = EEGArray(np.arange(12.0)[:, None] * np.arange(400.0) + np.ones((3, 1, 1)), NAMES, 200.0)
    mask = np.zeros(X.shape, bool)
    mask[:, ::2, 50:170] = mask[:, 1::2, 200:390] = True
    assert np.allclose(TimeInterpolation().fit(X).transform(X, mask=mask), X, atol=1e-9)


def test_time_keeps_the_ends_and_knows_nothing_of_a_lost_electrode():
    X = trials()
    mask = np.zeros(X.shape, bool)
    mask[0, 0], mask[0, 1, :10], mask[0, 2, 390:] = True, True, True
    found = TimeInterpolation().fit(X).transform(X, mask=mask)
    assert (found[0, 0] == 0).all()
    assert (found[0, 1, :10] == X[0, 1, 10]).all()
    assert (found[0, 2, 390:] == X[0, 2, 389]).all()


@pytest.mark.parametrize("loss", ["electrodes", "patches"])
def test_low_rank_data_are_completed_exactly(loss):
    X = trials(rank=3)
    mask = draw_mask(X.shape, 200.0, loss, 0.4, random_state=0)
    assert normalised_error(X, LowRankCompletion(n_components=3).fit(X).transform(X, mask=mask), mask) < 1e-9


def test_low_rank_is_learned_from_trials_with_gaps():
    X = trials(n=6, rank=2)
    mask = draw_mask(X.shape, 200.0, "patches", 0.15, random_state=0)
    step = LowRankCompletion(n_components=2, max_iter=300, tol=1e-9).fit(X.like(np.where(mask, np.nan, X)))
    assert step.n_iter_ > 1
    assert normalised_error(X, step.transform(X, mask=mask), mask) < 1e-5


def test_low_rank_is_the_expectation_of_a_gaussian_with_noise():
    X = trials(n=4)
    step = LowRankCompletion(n_components=4).fit(X)
    V, noise = step.components_.T, step.noise_variance_
    covariance = (V * (step.explained_variance_ - noise)) @ V.T + noise * np.eye(12)
    gone = np.isin(np.arange(12), (2, 5))
    seen = np.asarray(X)[:, ~gone] - step.mean_[~gone][:, None]
    wanted = covariance[np.ix_(gone, ~gone)] @ np.linalg.solve(covariance[np.ix_(~gone, ~gone)], seen)
    found = step.transform(X, mask=gone[None, :, None] & np.ones(X.shape, bool))[:, gone]
    assert np.allclose(found, wanted + step.mean_[gone][:, None])


def test_low_rank_refuses_what_it_cannot_learn():
    X = trials()
    with pytest.raises(ValueError, match="n_components: got 13"):
        LowRankCompletion(n_components=13).fit(X)
    with pytest.raises(ValueError, match="max_iter: got 0, expected"):
        LowRankCompletion(max_iter=0).fit(X)
    X[:, 4] = np.nan
    with pytest.raises(ValueError, match="electrode Cz is lost in all trials"):
        LowRankCompletion().fit(X)


def test_a_share_of_the_variance_chooses_the_components():
    assert len(LowRankCompletion(n_components=0.999).fit(trials(rank=2)).components_) == 2


def rhythms(n=20, n_channels=4, n_times=400, seed=0):
    """Mixtures of three narrow-band sources at 6, 10 and 20 Hz."""
    rng = np.random.default_rng(seed)
    frequencies = np.fft.rfftfreq(n_times, 1 / 100)
    widths = np.exp(-((frequencies - np.array([[6.0], [10.0], [20.0]])) ** 2))
    sources = np.fft.irfft(np.fft.rfft(rng.standard_normal((n, 3, n_times))) * widths, n_times)
    return EEGArray(100 * rng.standard_normal((n_channels, 3)) @ sources, NAMES[:n_channels], 100.0)


def test_wiener_restores_a_gap_in_all_channels_and_lines_do_not():
    X, mask = rhythms(), np.zeros((20, 4, 400), bool)
    mask[::2, :, 180:210], mask[1::2, :, :10] = True, True
    step = WienerInterpolation().fit(X[:10])
    found = step.transform(X[10:], mask=mask[10:])
    assert correlation(X[10:], found, mask[10:]) > 0.9
    assert normalised_error(X[10:], found, mask[10:]) < 0.4
    assert normalised_error(X[10:], TimeInterpolation().fit(X).transform(X[10:], mask=mask[10:]), mask[10:]) > 0.8


def test_wiener_is_the_best_linear_estimate_of_a_stationary_channel():
    X = rhythms(n_channels=1)
    step = WienerInterpolation(context=60, noise=0.1).fit(X)
    r = np.append(step.autocovariance_[0], np.zeros(400))
    covariance = r[np.abs(np.arange(400)[:, None] - np.arange(400))]
    gone, seen = np.arange(200, 240), np.r_[140:200, 240:300]
    inverse = np.linalg.inv(covariance[np.ix_(seen, seen)] + 0.1 * r[0] * np.eye(120))
    wanted = covariance[np.ix_(gone, seen)] @ inverse @ (np.asarray(X)[0, 0, seen] - step.mean_[0]) + step.mean_[0]
    mask = np.isin(np.arange(400), gone) & np.ones(X.shape, bool)
    assert np.allclose(step.transform(X, mask=mask)[0, 0, gone], wanted, atol=1e-6)


def test_wiener_is_low_rank_where_a_channel_is_observed_and_the_mean_where_nothing_is():
    X = rhythms()
    mask = draw_mask(X.shape, 100.0, "patches", 0.3, random_state=0)
    mask[:, 0] = False
    step = WienerInterpolation(n_components=3).fit(X)
    assert np.array_equal(step.transform(X, mask=mask), LowRankCompletion(3).fit(X).transform(X, mask=mask))
    assert np.allclose(step.transform(X[:1], mask=np.ones((1, 4, 400), bool))[0, :, 0], step.mean_)


def test_wiener_learns_from_trials_with_gaps():
    X = rhythms(n=40)
    mask = draw_mask(X.shape, 100.0, "seconds", 0.25, random_state=0)
    found = WienerInterpolation().fit_transform(X.like(np.where(mask, np.nan, X)))
    assert correlation(X, found, mask) > 0.3


# Scores


def test_scores_of_a_rhythm_at_half_its_amplitude():
    X = np.sin(2 * np.pi * 10 * np.arange(800) / 200)[None, None] * np.ones((2, 3, 1))
    mask = np.ones(X.shape, bool)
    scores = restoration_scores(X, X / 2, mask, 200.0)
    assert scores["error"] == pytest.approx(0.5)
    assert scores["correlation"] == pytest.approx(1.0)
    assert band_power_error(X, X / 2, mask, 200.0, bands=((8, 13),)) == pytest.approx(0.75)


def test_scores_look_at_what_was_lost_only():
    X, other = trials(seed=0), trials(seed=1)
    mask = draw_mask(X.shape, 200.0, "patches", 0.3, random_state=0)
    changed = np.where(mask, other, 1e3)
    assert restoration_scores(X, other, mask, 200.0) == restoration_scores(X, changed, mask, 200.0)


def test_correlation_is_numpys():
    X, other = trials(seed=0), trials(seed=1)
    mask = np.zeros(X.shape, bool)
    mask[0, 3, 100:300] = True
    wanted = np.corrcoef(X[0, 3, 100:300], other[0, 3, 100:300])[0, 1]
    assert correlation(X, other, mask) == pytest.approx(wanted)


def test_bands_above_half_the_rate_are_left_out():
    X = trials()
    assert len(band_power_error(X, X, np.ones(X.shape, bool), 50.0)) == 3
    assert len(band_power_error(X, X, np.zeros(X.shape, bool), 50.0)) == 3
    with pytest.raises(ValueError, match="no segment"):
        band_power_error(X, X, np.ones(X.shape, bool), 500.0)


def test_where_nothing_was_lost_there_is_no_score():
    X = trials()
    mask = np.zeros(X.shape, bool)
    assert np.isnan(list(restoration_scores(X, X, mask, 200.0).values())).all()
    mask[:, 0, 50:90] = True  # too short for a spectrum
    scores = restoration_scores(X, X, mask, 200.0)
    assert scores["error"] == 0 and np.isnan(scores["band_power_error"])
