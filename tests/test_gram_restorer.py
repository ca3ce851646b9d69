"""Gram's restoration: gaps, windows, amplitude, and the estimator around them."""

import mne
import numpy as np
import pytest
import torch

from skeeg import EEGArray, GramClassifier, GramPretrainer, GramRestorer
from skeeg.methods.gram import GramPretrainingNetwork, GramTokenizerNetwork, channel_indices
from skeeg.methods.gram.layers import SIZES, choose_sizes, geometry_table
from skeeg.methods.gram.restorer import (
    cut_patches,
    hide_patches,
    near_electrodes,
    reconstruct,
    restore_trials,
    scale_shapes,
)
from skeeg.restoration import LOSSES, SplineInterpolation, correlation, draw_mask, normalised_error

NAMES = ("Fp1", "Fz", "C3", "Cz", "C4", "Pz", "O1")
CPU = torch.device("cpu")


def trials(n=3, n_times=500, sfreq=200.0, names=NAMES, seed=0):
    """Noise with more of the slow than of the fast, in microvolts."""
    steps = np.random.default_rng(seed).standard_normal((n, len(names), n_times))
    return EEGArray(5 * steps.cumsum(axis=2) - 5 * steps.cumsum(axis=2).mean(axis=2, keepdims=True), names, sfreq)


@pytest.fixture(scope="module")
def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return GramPretrainingNetwork(GramTokenizerNetwork("tiny"), "tiny").eval()


@pytest.fixture(scope="module")
def restorer():
    pretrainer = GramPretrainer(size="tiny", max_epochs=1, batch_size=8, random_state=0, device="cpu").fit(trials(n=8))
    return GramRestorer(pretrainer=pretrainer, random_state=0, device="cpu").fit(trials(n=8))


# Patches


@pytest.mark.parametrize("n_times", [200, 400, 401, 599])
def test_patches_cover_a_trial(n_times):
    starts = cut_patches(n_times, 200)
    covered = np.zeros(n_times, bool)
    for start in starts:
        covered[start : start + 200] = True
    assert covered.all()
    assert starts[-1] + 200 == n_times
    assert (np.diff(starts) > 0).all()


@pytest.mark.parametrize("sfreq", [100.0, 125.0, 160.0, 200.0, 512.0])
def test_a_patch_with_one_lost_sample_is_hidden(sfreq):
    n_in = int(3 * sfreq)
    starts = cut_patches(600, 200)
    for sample in (0, int(sfreq) - 1, int(sfreq), n_in - 1):
        lost = np.zeros((1, 2, n_in), bool)
        lost[0, 1, sample] = True
        hidden = hide_patches(lost, starts, 200, 600)
        assert hidden[0, :, 0].sum() == 0
        assert hidden[0, int(sample / sfreq), 1]
        assert hidden.sum() == 1


# Networks


def test_batches_of_equal_counts_give_what_single_trials_give(network):
    rng = np.random.default_rng(0)
    patches, hidden = rng.standard_normal((6, 5, 3, 200)), rng.random((6, 5, 3)) < 0.4
    hidden[0] = hidden[1] = False
    together = reconstruct(network, patches, hidden, np.array([0, 19, 41]), 4, CPU)
    single = [
        reconstruct(network, patches[i : i + 1], hidden[i : i + 1], np.array([0, 19, 41]), 4, CPU)[0] for i in range(6)
    ]
    assert np.allclose(together, single, atol=1e-4)


def test_what_is_hidden_is_not_read_by_the_networks(network):
    rng = np.random.default_rng(0)
    patches, hidden = rng.standard_normal((4, 5, 3, 200)), rng.random((4, 5, 3)) < 0.4
    other = np.where(hidden[..., None], 1e3, patches)
    first, second = (reconstruct(network, one, hidden, np.array([0, 19, 41]), 4, CPU) for one in (patches, other))
    assert np.array_equal(first, second)


def test_long_trials_are_windowed_and_windows_without_signal_are_left_empty(network):
    rng = np.random.default_rng(0)
    patches, hidden = rng.standard_normal((1, 40, 2, 200)), np.zeros((1, 40, 2), bool)
    hidden[0, :14] = True  # three windows, of 14, 13 and 13 patches
    shapes = reconstruct(network, patches, hidden, np.array([0, 19]), 4, CPU)
    assert not shapes[0, :14].any()
    assert shapes[0, 14:].any(axis=(1, 2)).all()


# Amplitude


def test_amplitude_is_that_of_the_visible_patches():
    rng = np.random.default_rng(0)
    shapes = rng.standard_normal((2, 4, 3, 200))
    patches = np.array([3.0, 7.0, 0.5])[:, None] * shapes + np.arange(4)[:, None, None]
    hidden = np.zeros((2, 4, 3), bool)
    hidden[:, 1] = True
    waves, offsets = scale_shapes(shapes, np.where(hidden[..., None], 99, patches), hidden, np.ones((3, 3)))
    centred = patches - patches.mean(axis=3, keepdims=True)
    assert np.allclose(waves, centred)
    means = patches.mean(axis=3)
    assert np.allclose(offsets[:, 1], (means[:, 0] + means[:, 2]) / 2)


def test_lost_electrodes_take_the_amplitude_of_their_neighbours():
    rng = np.random.default_rng(0)
    shapes = rng.standard_normal((1, 4, 3, 200))
    shapes -= shapes.mean(axis=3, keepdims=True)
    patches = np.array([1.0, 9.0, 2.0])[:, None] * shapes
    hidden = np.zeros((1, 4, 3), bool)
    hidden[:, :, 1] = True
    nearness = np.array([[9, 9, 9], [3, 9, 1], [9, 9, 9]])
    waves, offsets = scale_shapes(shapes, np.where(hidden[..., None], 99, patches), hidden, nearness)
    assert np.allclose(waves[0, :, 1], shapes[0, :, 1] * (3 * 1 + 1 * 2) / 4)
    assert (offsets[0, :, 1] == 0).all()


def test_nearness_knows_places_and_does_without_them():
    near = near_electrodes(channel_indices(["Fz..", "EEG F1-REF", "OZ", "F7-T7", "CFC1"]))
    assert near[0, 1] > 5 * near[0, 2]
    assert near[4, 0] > 2 * near[4, 2]
    assert near[3, 0] == near[3, 2]
    assert np.isfinite(near).all()


def test_trials_without_anything_visible_in_a_window_keep_what_was_interpolated(network):
    X = np.asarray(trials(n=1, n_times=8000, names=("C3", "C4")))
    lost = np.zeros(X.shape, bool)
    lost[:, :, :2800] = True
    at = {"rate": 1.0, "batch_size": 4, "device": CPU}
    waves, offsets = restore_trials(network, X, lost, np.array([39, 43]), **at)
    assert np.allclose(offsets[:, :, :2800], X[:, :, :2800])
    assert (waves[:, :, :2800] == 0).all()
    assert (waves[:, :, 2800:] != 0).any()


# The estimator


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("sfreq", [200.0, 160.0])
def test_visible_samples_come_back_to_the_bit_and_lost_ones_are_never_read(restorer, loss, sfreq):
    X = trials(n_times=int(2.5 * sfreq), sfreq=sfreq)
    mask = draw_mask(X.shape, sfreq, loss, 0.4, random_state=0)
    restored = restorer.transform(X, mask=mask)
    assert np.array_equal(np.asarray(restored)[~mask], np.asarray(X)[~mask])
    assert np.isfinite(restored).all()
    assert restored.ch_names == NAMES
    assert restored.sfreq == sfreq
    for under in (1e6, -3.0, np.nan):
        assert np.array_equal(restorer.transform(X.like(np.where(mask, under, X)), mask=mask), restored)
    assert np.array_equal(restorer.transform(X.like(np.where(mask, np.nan, X))), restored)


def test_single_lost_samples_are_restored(restorer):
    X = trials()
    gaps = X.copy()
    gaps[0, 2, 130] = gaps[1, :, 450] = np.nan
    restored = restorer.transform(gaps)
    assert np.isfinite(restored).all()
    assert (np.asarray(restored) != np.asarray(X)).sum() == 8


def test_electrodes_that_were_never_recorded_are_made(restorer):
    restorer = GramRestorer(**{**restorer.get_params(deep=False), "electrodes": ("Cz", "Oz", "C3")})
    X = trials(n=8)
    made = restorer.fit(X).transform(X)
    assert made.ch_names == ("Cz", "Oz", "C3")
    assert made.shape == (8, 3, 500)
    assert np.array_equal(np.asarray(made)[:, 0], np.asarray(X)[:, 3])
    assert np.isfinite(made).all()
    assert 0.1 < np.asarray(made)[:, 1].std() / np.asarray(X).std() < 10


def test_another_montage_and_rate_at_transform(restorer):
    X = trials(sfreq=128.0, n_times=256, names=("P3", "P4", "Oz"))
    mask = draw_mask(X.shape, 128.0, "electrodes", 0.3, random_state=0)
    restored = restorer.transform(X, mask=mask)
    assert np.array_equal(np.asarray(restored)[~mask], np.asarray(X)[~mask])
    assert (np.asarray(restored)[mask] != np.asarray(X)[mask]).all()


def test_least_squares_amplitude_is_the_smaller_error_on_what_was_learned(restorer):
    X = trials(n=8)
    assert restorer.gain_.tolist() == [[1, 1, 0]] * 2
    other = GramRestorer(**{**restorer.get_params(deep=False), "amplitude": "least_squares"}).fit(X)
    assert (other.gain_ >= 0).all() and other.gain_[0, 0] < 1 and (other.gain_[:, 2] == 0).all()
    mask = draw_mask(X.shape, 200.0, "patches", 0.5, random_state=1)
    errors = [normalised_error(X, one.transform(X, mask=mask), mask) for one in (restorer, other)]
    assert errors[1] < errors[0]


def test_a_prior_is_combined_with_the_network():
    X = trials(n=8)
    X = X.like(np.asarray(X)[:, :1] + 0.3 * np.asarray(X))
    network = GramPretrainingNetwork(GramTokenizerNetwork("tiny"), choose_sizes(SIZES, "tiny", {"wave_head": True}))
    pretrainer = GramPretrainer(size="tiny", network_params={"wave_head": True}, max_epochs=0, device="cpu").fit(X)
    assert set(pretrainer.module_.state_dict()) == set(network.state_dict())
    settings = {"pretrainer": pretrainer, "amplitude": "least_squares", "device": "cpu", "random_state": 0}
    both = GramRestorer(**settings, prior="splines").fit(X)
    assert both.gain_[0, 2] > 0 and both.gain_[1, 2] == 0  # where no channel is observed, splines are zero
    mask = draw_mask(X.shape, 200.0, "patches", 0.5, random_state=1)
    splines = SplineInterpolation().fit(X).transform(X, mask=mask)
    assert normalised_error(X, both.transform(X, mask=mask), mask) < normalised_error(X, splines, mask)
    linear = GramRestorer(**settings, prior="linear").fit(X)
    mask = draw_mask(X.shape, 200.0, "seconds", 0.1, seconds=0.1, random_state=1)
    assert linear.gain_[1, 2] > 0  # where no channel is observed, the prediction from other times
    assert correlation(X, linear.transform(X, mask=mask), mask) > correlation(X, both.transform(X, mask=mask), mask)
    fewer = X[:2, :3]  # other channels than in fit
    assert np.array_equal(
        linear._linear(fewer, mask[:2, :3], NAMES[:3], 200.0)[mask[:2, :3]], np.zeros(mask[:2, :3].sum())
    )
    with pytest.raises(ValueError, match="prior: got 'splines' with amplitude='power'"):
        GramRestorer(pretrainer=pretrainer, prior="splines").fit(X)


def test_weights_that_ship_restore_a_channel_that_was_never_recorded_well():
    names = ("F3", "Fz", "F4", "C3", "Cz", "C4", "P3", "Pz", "P4", "FC1", "FC2", "CP1", "CP2")
    code = geometry_table(400)[0, channel_indices(names)].numpy()
    rng, time = np.random.default_rng(0), np.arange(400) / 100
    sources = np.sin(2 * np.pi * (rng.uniform(6, 14, (6, 13, 1)) * time + rng.random((6, 13, 1))))
    X = EEGArray(20 * np.einsum("cd,ndt->nct", np.linalg.cholesky(code @ code.T / 200), sources), names, 100.0)
    gone = X.copy()
    gone[:, 4] = np.nan
    restorer = GramRestorer("skeeg:gram-channels", device="cpu", random_state=0).fit(gone)
    mask = np.zeros(X.shape, bool)
    mask[:, 4] = True
    assert restorer.pretrainer_.module_.sizes.sfreq == 100 and correlation(X, restorer.transform(gone), mask) > 0.7
    clf = GramClassifier("skeeg:gram-channels", strategy="probe", device="cpu").fit(X, ["a", "b"] * 3)
    assert "missing: final_layer" in clf.checkpoint_report_ and clf.transform(X).shape == (6, 104 + 13 * 8)


def test_bad_channels_of_raw_and_epochs_are_restored(restorer):
    X = trials()
    info = mne.create_info([*NAMES, "EOG"], 200.0, ["eeg"] * 7 + ["eog"])
    data = np.concatenate([np.asarray(X), np.ones((3, 1, 500))], axis=1) * 1e-6
    for inst in (mne.EpochsArray(data, info, verbose="error"), mne.io.RawArray(data[0], info, verbose="error")):
        inst.info["bads"] = ["Cz", "EOG"]
        before = inst.get_data(picks=range(8)).copy()
        restored = restorer.restore(inst)
        after = restored.get_data(picks=range(8))
        assert type(restored) is type(inst)
        assert restored.info["bads"] == ["EOG"]
        assert inst.info["bads"] == ["Cz", "EOG"]
        assert np.array_equal(inst.get_data(picks=range(8)), before)
        others = [i for i in range(8) if i != 3]
        assert np.array_equal(after[..., others, :], before[..., others, :])
        part = X if before.ndim == 3 else X[:1]
        mask = np.zeros(part.shape, bool)
        mask[:, 3] = True
        wanted = np.asarray(restorer.transform(part, mask=mask))[:, 3] * 1e-6
        assert np.allclose(after[..., 3, :], wanted.reshape(after[..., 3, :].shape), rtol=1e-4, atol=1e-9)


def test_gaps_of_good_channels_stay_and_spoil_no_bad_one(restorer):
    raw = mne.io.RawArray(np.asarray(trials())[0] * 1e-6, mne.create_info(list(NAMES), 200.0, "eeg"), verbose="error")
    raw.info["bads"] = ["Cz"]
    raw._data[2, 130] = np.nan
    assert np.argwhere(np.isnan(restorer.restore(raw).get_data())).tolist() == [[2, 130]]


def test_recordings_without_bad_channels_come_back(restorer):
    raw = mne.io.RawArray(np.asarray(trials())[0] * 1e-6, mne.create_info(list(NAMES), 200.0, "eeg"), verbose="error")
    assert np.array_equal(restorer.restore(raw).get_data(), raw.get_data())


def test_what_cannot_be_restored_is_told(restorer):
    X = trials()
    gone = X.copy()
    gone[1] = np.nan
    with pytest.raises(ValueError, match="X: nothing of trial 1 is visible"):
        restorer.transform(gone)
    gone[1] = 0
    with pytest.raises(ValueError, match=r"199 sample\(s\)"):
        restorer.transform(gone[:, :, :199], mask=np.arange(7)[None, :, None] == np.zeros((3, 1, 199)))
    mask = np.arange(7)[None, :, None] == np.zeros((3, 1, 500))
    with pytest.raises(ValueError, match=r"unknown electrode 'CZZ' .nearest: CZ"):
        restorer.transform(X.like(X, ch_names=[*NAMES[:-1], "Czz"]), mask=mask)
    with pytest.raises(ValueError, match="amplitude: got 'loud'"):
        GramRestorer(amplitude="loud").fit(X)
    with pytest.raises(TypeError, match="inst: expected"):
        restorer.restore(X)


def test_fit_takes_what_is_complete_and_tells_where_nothing_is():
    X = trials(n=6)
    X[0, 2, 100] = np.nan
    X[:, 5] = np.nan
    short = GramPretrainer(size="tiny", max_epochs=1, network_params={"n_layers": 1}, random_state=0, device="cpu")
    restorer = GramRestorer(pretrainer=short, random_state=0, device="cpu").fit(X)
    assert restorer.pretrainer_.ch_names_in_ == tuple(name for name in NAMES if name != "Pz")
    assert np.isfinite(restorer.transform(X)).all()
    X[:, 1, 3] = np.nan
    with pytest.raises(ValueError, match="no trial of fit is complete"):
        GramRestorer(pretrainer=short).fit(X)


def test_a_checkpoint_restores_as_the_pretrainer_it_is_of(restorer, tmp_path):
    restorer.pretrainer_.save_checkpoint(tmp_path / "gram.safetensors")
    other = GramRestorer(str(tmp_path / "gram.safetensors"), random_state=0, device="cpu").fit(trials())
    X = trials()
    mask = draw_mask(X.shape, 200.0, "patches", 0.3, random_state=0)
    assert np.array_equal(other.transform(X, mask=mask), restorer.transform(X, mask=mask))
    with pytest.raises(ValueError, match="pretrainer: the checkpoint is trained already"):
        GramRestorer(str(tmp_path / "gram.safetensors"), GramPretrainer()).fit(X)


def test_a_saved_restorer_restores_the_same(restorer, tmp_path):
    restorer.save(tmp_path / "restorer.safetensors")
    X = trials()
    X[0, 1, 100:] = np.nan
    assert np.array_equal(GramRestorer.load(tmp_path / "restorer.safetensors").transform(X), restorer.transform(X))
