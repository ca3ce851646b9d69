import copy
import inspect
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from skorch.callbacks import Callback
from test_benchmarks import load_script

from skeeg.array import EEGArray
from skeeg.explain import attribute
from skeeg.methods.beira import BEIRARegressor, BOLDAligner, simulate_bold
from skeeg.methods.beira.patterns import branch_importance, branch_patterns, cross_spectrum
from skeeg.methods.beira.windows import Windows, hold_out, mirror
from skeeg.model_selection import BlockedSplit
from skeeg.spatial import AverageReference

filtered_covariance_pattern = load_script("beira").filtered_covariance_pattern  # of the data actually filtered

TINY = {"n_branches": 2, "channels": (8, 8), "kernel_sizes": (3,), "strides": (8,), "max_epochs": 1, "random_state": 0,
        "filter_length": 11, "envelope_length": 11, "windows_per_epoch": 16}  # fmt: skip

FRONT = ("n_branches", "filter_length", "envelope_length", "drop_prob")
SIZES = (*FRONT, "channels", "kernel_sizes", "strides", "decoder_reduce", "rectifier", "unmixing_norm_affine")
OWN = set(inspect.signature(BEIRARegressor).parameters)


TINY_SIZES = {name: value for name, value in TINY.items() if name in SIZES}


def tiny(network="independent", **settings):
    """Give a small regressor: settings go to the network, to the recipe, or to the estimator itself."""
    names = FRONT if network == "lstm" else SIZES
    return BEIRARegressor(
        network,
        recipe=settings.pop("recipe", "published"),
        network_params={name: value for name, value in settings.items() if name in names},
        recipe_params={name: value for name, value in settings.items() if name not in (*SIZES, *OWN)},
        **{name: value for name, value in settings.items() if name in OWN},
    )


def data(n_trials=2, n_times=2000, n_channels=4, n_regions=2, seed=0):
    random = np.random.default_rng(seed)
    return random.normal(size=(n_trials, n_channels, n_times)), random.normal(size=(n_trials, n_regions, n_times))


@pytest.mark.parametrize("network", ["independent", "shared", "lstm"])
@pytest.mark.parametrize("shape", [(), (1,), (3,), (1, 300), (2, 300)])
def test_targets_come_back_in_their_shape(shape, network):
    X = np.random.default_rng(0).normal(size=(9, 4, 300))
    y = np.random.default_rng(1).normal(size=(9, *shape))
    regressor = tiny(**TINY, network=network, validation_gap=0.0).fit(X, y)
    assert regressor.predict(X).shape == y.shape
    assert regressor.predict(X).dtype == np.float64
    assert regressor.score_per_region(X, y).shape == ((shape or (1,))[0],)


@pytest.mark.parametrize("network", ["independent", "shared", "lstm"])
@pytest.mark.parametrize("n_times", [1, 7, 8, 333, 2001])
def test_predictions_are_as_long_as_the_recording(network, n_times):
    X, Y = data(1, 2001)
    regressor = tiny(**TINY, network=network, window=256, validation=None).fit(X[..., :500], Y[..., :500])
    assert regressor.predict(X[..., :n_times]).shape == (1, 2, n_times)


@pytest.mark.parametrize("sizes", [((3,), (8,)), ((4, 3), (3, 5)), ((7, 2), (4, 4))])
def test_long_recordings_are_predicted_piece_by_piece_with_what_is_around(sizes, monkeypatch):
    X, Y = data(1, 3001)
    settings = TINY | {"channels": (8,) * (len(sizes[0]) + 1), "kernel_sizes": sizes[0], "strides": sizes[1]}
    regressor = tiny(**settings, precision="float64", window=256, validation=None).fit(X, Y)
    whole = regressor.predict(X)
    monkeypatch.setattr("skeeg.methods.beira.readout._SAMPLES_AT_ONCE", 100)
    np.testing.assert_allclose(regressor.predict(X), whole, atol=1e-9)


def test_recordings_of_any_length_go_in_as_a_list():
    X, Y = data(3)
    recordings = [X[0], X[1][:, :1500], X[2][:, :1700]]
    targets = [Y[0], Y[1][:, :1500], Y[2][:, :1700]]
    regressor = tiny(**TINY, window=256, validation_gap=1.0).fit(recordings, targets)
    predicted = regressor.predict(recordings)
    assert [one.shape for one in predicted] == [one.shape for one in targets]
    np.testing.assert_allclose(predicted[1], regressor.predict(X[1:2, :, :1500])[0], atol=1e-6)
    one_by_one = [np.corrcoef(a[0], b[0])[0, 1] for a, b in zip(predicted, targets, strict=True)]
    assert regressor.score_per_region(recordings, targets)[0] == pytest.approx(np.mean(one_by_one))


def test_raw_recordings_carry_names_rate_and_unit():
    import mne

    X, Y = data(1)
    raw = mne.io.RawArray(X[0] * 1e-6, mne.create_info(["Fz", "Cz", "Pz", "Oz"], 100.0, "eeg"), verbose="error")
    from_raw = tiny(**TINY, window=256, validation=None).fit([raw], [Y[0]])
    assert from_raw.ch_names_in_ == ("Fz", "Cz", "Pz", "Oz")
    assert from_raw.sfreq_in_ == 100.0
    from_array = tiny(**TINY, window=256, validation=None).fit(X, Y)
    np.testing.assert_allclose(from_raw.predict([raw])[0], from_array.predict(X)[0], atol=1e-4)


def test_one_trial_alone_and_within_a_batch():
    X, Y = data(12, 300)
    regressor = tiny(**TINY, validation=None).fit(X, Y)
    np.testing.assert_array_equal(regressor.predict(X[5:6])[0], regressor.predict(X)[5])


def test_fit_is_reproducible_and_leaves_the_random_state_alone():
    X, Y = data()
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    first, second = (tiny(**TINY, window=256, validation_gap=1.0).fit(X, Y).predict(X) for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state())
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("network", ["independent", "lstm"])
def test_fitted_state_pickles_copies_clones_and_saves(tmp_path, network):
    X, Y = data()
    fitted = tiny(**TINY, network=network, window=256, validation_gap=1.0).fit(X, Y)
    expected = fitted.predict(X)
    fitted.save(tmp_path / "beira.safetensors")
    loaded = BEIRARegressor.load(tmp_path / "beira.safetensors")
    for other in (pickle.loads(pickle.dumps(fitted)), copy.deepcopy(fitted), loaded):
        np.testing.assert_array_equal(other.predict(X), expected)
        np.testing.assert_array_equal(other.spatial_patterns_, fitted.spatial_patterns_)
    assert not hasattr(clone(fitted), "module_")


def test_statistics_come_from_the_training_part_alone():
    X, Y = data(1, 4000)
    Y[..., 3400:] += 100
    X[..., 3400:] *= 50
    regressor = tiny(**TINY, window=256, validation_size=0.15, validation_gap=1.0).fit(X, Y)
    training = X[..., : 3400 - 100], Y[..., : 3400 - 100]
    np.testing.assert_allclose(regressor.steps_[0].matrix_, np.eye(4) / training[0].std(), rtol=1e-5)
    np.testing.assert_allclose(regressor.target_mean_, training[1].mean(axis=(0, 2)))
    np.testing.assert_allclose(regressor.target_scale_, training[1].std(axis=(0, 2)))
    per_channel = tiny(**TINY, window=256, normalize="channel", validation=None).fit(X, Y)
    np.testing.assert_allclose(np.diag(per_channel.steps_[0].matrix_), 1 / X.std(axis=(0, 2)), rtol=1e-5)


def test_whitened_patterns_and_filters_are_those_of_the_eeg_as_it_came():
    X, Y = data(1, 3000)
    X = np.random.default_rng(5).normal(size=(4, 4)) @ X
    regressor = tiny(**TINY, window=256, normalize="whiten", validation=None).fit(X, Y)
    np.testing.assert_allclose(np.cov(np.asarray(regressor.steps_.transform(X))[0]), np.eye(4), atol=1e-2)
    expected = filtered_covariance_pattern(X[0], regressor.spatial_filters_[0], regressor.temporal_filters_[0])
    np.testing.assert_allclose(
        regressor.spatial_patterns_[0], expected, rtol=0.2, atol=0.05 * np.abs(expected).max(axis=1).min()
    )
    filtered = regressor.module_.front_weights()[0][0].numpy() @ np.asarray(regressor.steps_.transform(X))[0]
    np.testing.assert_allclose(
        regressor.spatial_filters_[0] @ (X[0] - X[0].mean(axis=1, keepdims=True)), filtered, atol=1e-3
    )


def test_the_best_of_several_starts_is_kept():
    X, Y = data(1, 3000)
    settings = TINY | {"max_epochs": 2, "validation_gap": 1.0, "window": 256}
    regressor = tiny(**settings, n_restarts=3).fit(X, Y)
    assert len(set(regressor.restart_losses_)) == 3
    kept = min(row["valid_loss"] for row in regressor.history_)
    assert kept == pytest.approx(regressor.restart_losses_.min())


def test_restarts_can_be_averaged(tmp_path):
    X, Y = data(1, 3000)
    settings = TINY | {"max_epochs": 2, "validation_gap": 1.0, "window": 256, "n_restarts": 3, "prune": True}
    regressor = tiny(**settings).fit(X, Y)
    best = copy.deepcopy(regressor)
    singles = []
    for network in regressor.networks_:
        best.networks_ = [network]
        singles.append(best.predict(X))
    assert len(singles) == 3 and min(np.abs(singles[0] - one).max() for one in singles[1:]) > 1e-3
    predicted = regressor.predict(X)
    np.testing.assert_allclose(predicted, np.mean(singles, axis=0), atol=1e-6)
    regressor.save(tmp_path / "beira.safetensors")
    for other in (pickle.loads(pickle.dumps(regressor)), BEIRARegressor.load(tmp_path / "beira.safetensors")):
        np.testing.assert_array_equal(other.predict(X), predicted)


class InSecondTraining(Callback):
    """Do something before each update of the second of several trainings."""

    def __init__(self, do):
        self.do, self.n_trainings = do, 0

    def on_train_begin(self, net, **kwargs):
        self.n_trainings += 1

    def on_batch_begin(self, net, **kwargs):
        if self.n_trainings == 2:
            self.do(net)


def diverge(net):
    with torch.no_grad():
        next(net.module_.parameters()).fill_(np.nan)


class LateInSecondTraining(InSecondTraining):
    """The same, in its last epoch only."""

    def on_batch_begin(self, net, **kwargs):
        if len(net.history) == net.max_epochs:
            super().on_batch_begin(net, **kwargs)


def press_ctrl_c(net):
    raise KeyboardInterrupt


@pytest.mark.parametrize("readout", ["decoder", "both"])
@pytest.mark.parametrize("when", [InSecondTraining, LateInSecondTraining])
def test_a_restart_that_diverged_has_no_part_in_the_mean(when, readout):
    X, Y = data(1, 2000)
    settings = TINY | {"validation_gap": 1.0, "window": 256, "n_restarts": 3, "readout": readout}
    settings |= {"max_epochs": 2, "patience": None}
    with pytest.warns(ConvergenceWarning, match="learning_rate: the training diverged"):
        regressor = tiny(**settings, skorch_callbacks=[when(diverge)]).fit(X, Y)
    assert np.isinf(regressor.restart_losses_).tolist() == [False, True, False] and len(regressor.networks_) == 2
    assert np.isfinite(regressor.predict(X)).all()


def test_ctrl_c_ends_all_restarts():
    X, Y = data(1, 2000)
    settings, key = TINY | {"validation_gap": 1.0, "window": 256}, InSecondTraining(press_ctrl_c)
    regressor = tiny(**settings, n_restarts=4, skorch_callbacks=[key]).fit(X, Y)
    assert key.n_trainings == 2 and np.isinf(regressor.restart_losses_).tolist() == [False, True]
    np.testing.assert_array_equal(regressor.predict(X), tiny(**settings).fit(X, Y).predict(X))


def test_branches_that_do_not_help_are_silenced():
    X, Y = data(1, 3000, n_regions=1)
    settings = TINY | {"validation_gap": 1.0, "window": 256, "n_branches": 4}
    regressor = tiny(**settings, prune=True).fit(X, Y)
    silent = (regressor.module_.models[0].artur_block.low_pass.weight == 0).all(dim=(1, 2))
    assert silent.any() and not silent.all()
    np.testing.assert_array_equal(regressor.branch_importance_[0] < 1e-5, silent.numpy())
    plain = tiny(**settings).fit(X, Y)
    held = X[..., 2550:], Y[..., 2550:]
    errors = [np.mean((one.predict(held[0]) - held[1]) ** 2) for one in (regressor, plain)]
    assert errors[0] < errors[1] + 0.02  # the validation weighs samples where its windows overlap twice


@pytest.mark.parametrize("network", ["independent", "shared", "lstm"])
def test_smoothing_may_start_as_an_average(network):
    X, Y = data(1, 1000)
    settings = TINY | {"network": network, "learning_rate": 0.0, "window": 256, "validation": None}
    regressor, plain = (tiny(**settings, start=start).fit(X, Y) for start in ("average", "random"))
    with torch.no_grad():
        for _, _, layer in plain.module_.front_layers():  # the rest of it started alike
            layer.weight.zero_(), layer.weight[:, :, 5].fill_(1), layer.bias.zero_()
    mean = plain.transform(X)[..., 495:506].mean(axis=-1)
    np.testing.assert_allclose(regressor.transform(X)[..., 500], mean, rtol=1e-4)


def test_sizes_of_another_network_are_refused():
    X, Y = data(1, 1000)
    with pytest.raises(ValueError, match="network_params: got 'strides'; nearest: 'hidden_size'"):
        BEIRARegressor("lstm", network_params={"strides": (8,)}).fit(X, Y)
    with pytest.raises(ValueError, match="recipe_params: got 'n_restarts'"):
        BEIRARegressor(recipe_params={"n_restarts": 1}).fit(X, Y)


def test_few_minutes_are_warned_of():
    X, Y = data(1, 2000)
    with pytest.warns(UserWarning, match="X: 0.3 minutes of EEG may be too few for a network .* BandPowerRidge"):
        tiny(**TINY, window=256, validation=None).fit(X, Y)


def test_attributions_are_refused_by_name():
    X, Y = data(1, 1000)
    regressor = tiny(**TINY, window=256, validation=None).fit(X, Y)
    assert not hasattr(regressor, "compile_inference")  # none of its layers can be folded into another
    with pytest.raises(TypeError, match="predicts signals; its spatial_patterns_, .* explain them"):
        attribute(regressor, X)


def test_many_trials_are_held_out_whole_and_long_recordings_by_their_end():
    ((training, _),), ((held, _),) = hold_out([data(10, 150)], 0.2, gap=200)
    assert len(held) == 2
    assert len(training) == 10 - 2 - 2  # 200 samples are two trials of 150
    ((training, _),), ((held, _),) = hold_out([data(1, 2000)], 0.2, gap=200)
    assert training.shape[2] == 1400
    assert held.shape[2] == 400


def test_windows_are_views_within_one_recording_and_drawn_evenly():
    torch.manual_seed(0)
    eeg = [torch.arange(100.0)[None], 1000 + torch.arange(60.0)[None]]
    windows = Windows(eeg, [-one for one in eeg], 50, n_windows=4000)
    x, y = windows.take(torch.arange(4000))
    assert torch.equal(x, -y)
    assert torch.equal(x.diff(dim=2), torch.ones(4000, 1, 49))
    starts, counts = x[:, 0, 0].unique(return_counts=True)
    assert starts.tolist() == [*range(51), *range(1000, 1011)]
    assert counts.min() > 30
    fixed = Windows(eeg, eeg, 50)
    starts = [fixed[i][0][0, 0].item() for i in range(len(fixed))]
    assert starts == [0, 25, 50, 1000, 1010]
    last = Windows(eeg, eeg, 50, last_only=True)[0]
    assert last[1].item() == last[0][0, -1].item()


def test_mirror_repeats_short_signals():
    assert mirror(torch.arange(4), 6).tolist() == [0, 1, 2, 3, 3, 2]
    assert mirror(torch.tensor([7]), 3).tolist() == [7, 7, 7]


def test_training_lowers_the_loss_and_keeps_the_best_weights():
    simulated = simulate_bold(duration=120, n_distractors=0, artefacts=False, bold_noise=0.1, random_state=0)
    settings = TINY | {"max_epochs": 8, "windows_per_epoch": 32, "drop_prob": 0.0}
    regressor = tiny(
        **settings, window=512, learning_rate=3e-3, validation_gap=1.0, patience=3, batch_size=4, accumulate=1
    )
    regressor.fit(simulated.eeg, simulated.bold)
    losses = [row["train_loss"] for row in regressor.history_]
    assert min(losses[1:]) < 0.9 * losses[0]
    assert {"train_loss", "valid_loss"} <= set(regressor.history_[0])
    assert regressor.n_iter_ == len(losses) <= 8


def test_patterns_of_the_spectrum_equal_those_of_filtered_data():
    random = np.random.default_rng(0)
    x = random.normal(size=(5, 5)) @ random.normal(size=(5, 20_000))
    w, h = random.normal(size=(3, 5)), random.normal(size=(3, 21))
    density, freqs = cross_spectrum([x], 100.0, 400)
    spatial, frequency = branch_patterns(density, freqs, w, h, 100.0)
    np.testing.assert_allclose(
        spatial, filtered_covariance_pattern(x, w, h), rtol=0.1, atol=0.05 * np.abs(spatial).max()
    )
    np.testing.assert_allclose(density.sum(axis=0).real, np.cov(x), rtol=0.05, atol=0.05 * np.cov(x).max())
    assert frequency.shape == (3, len(freqs))


def test_patterns_name_the_source_that_a_branch_is_tuned_to():
    """Filters made by hand for a source among interference: weights differ from the topography, patterns do not."""
    random = np.random.default_rng(0)
    t = np.arange(30_000) / 100
    mixing = random.normal(size=(6, 2))
    sources = np.stack([np.sin(2 * np.pi * 10 * t), 3 * np.sin(2 * np.pi * 11 * t + 1)])
    x = mixing @ sources + 0.1 * random.normal(size=(6, 30_000))
    w = np.linalg.pinv(mixing)[0]
    h = np.cos(2 * np.pi * 10 * (np.arange(51) - 25) / 100) * np.hanning(51)
    density, freqs = cross_spectrum([x], 100.0, 400)
    spatial, frequency = branch_patterns(density, freqs, w[None], h[None], 100.0)
    assert abs(np.corrcoef(spatial[0], mixing[:, 0])[0, 1]) > 0.99
    assert abs(np.corrcoef(w, mixing[:, 0])[0, 1]) < 0.95
    assert freqs[frequency[0].argmax()] == 10.0


def test_patterns_are_in_the_units_of_the_data():
    X, Y = data(1, 3000)
    X *= np.array([1.0, 10.0, 100.0, 5.0])[:, None]
    regressor = tiny(**TINY, window=256, normalize="channel", validation=None).fit(X, Y)
    w, h = regressor.spatial_filters_[0], regressor.temporal_filters_[0]
    expected = filtered_covariance_pattern(X[0], w, h)
    got = regressor.spatial_patterns_[0]
    np.testing.assert_allclose(got, expected, rtol=0.2, atol=0.05 * np.abs(expected).max(axis=1).min())


def test_importance_is_zero_for_a_branch_that_is_cut_off():
    X, Y = data(1, 1000)
    regressor = tiny(**TINY, window=256, validation=None).fit(X, Y)
    with torch.no_grad():
        regressor.module_.models[0].spatial_reduce.conv1d.weight[:, 1] = 0
    windows = torch.tensor(np.asarray(regressor.steps_.transform(X.astype(np.float32))))
    importance = branch_importance(regressor.module_, windows)
    assert importance[0, 1] == 0
    assert (importance > 0).sum() == 3


def test_grid_search_over_delay_and_branches_within_a_pipeline():
    X, Y = data(6, 400, n_regions=1)
    pipeline = Pipeline([("reference", AverageReference()), ("bold", BOLDAligner(tiny(**TINY, window=64)))])
    pipeline.set_params(bold__regressor__validation=None)
    sizes = [TINY_SIZES | {"n_branches": n} for n in (1, 2)]
    grid = {"bold__delay": [0.0, 1.0], "bold__regressor__network_params": sizes}
    search = GridSearchCV(pipeline, grid, cv=BlockedSplit(2), error_score="raise").fit(EEGArray(X, sfreq=100.0), Y)
    assert set(search.best_params_) == set(grid)
    assert search.predict(EEGArray(X, sfreq=100.0)).shape == Y.shape


def test_envelopes_are_the_transform():
    X, Y = data(2, 400)
    regressor = tiny(**TINY, window=256, validation=None).fit(X, Y)
    envelopes = regressor.transform(X)
    assert envelopes.shape == (2, 4, 400)
    assert envelopes.dtype == np.float32


@pytest.mark.parametrize(
    ("changes", "parameters", "message"),
    [
        ({"Y": lambda Y: Y[..., :-5]}, {}, "X has 2000 samples and y 1995: EEG and BOLD must have the same length"),
        ({}, {"window": 5000}, "window: got 5000 samples, expected 1 to"),
        ({"Y": lambda Y: Y * 0 + 3}, {}, "y: region 1, region 2 never changes over 4000 sample"),
        ({"Y": lambda Y: Y * np.array([[1], [0]])}, {"region_names": ("a", "b")}, "y: b never changes"),
        ({}, {"region_names": ("a",)}, "region_names: got 1 names for 2 regions"),
        ({"X": lambda X: np.where(np.arange(4)[:, None] == 2, 0, X)}, {}, "X: channel 2 never changes"),
        ({"Y": lambda Y: np.where(Y == Y.max(), np.nan, Y)}, {}, "NaN"),
        ({}, {"network": "resnet"}, "network: got 'resnet'"),
        ({}, {"validation": "subject"}, "validation: got 'subject'"),
        ({}, {"validation_size": 1.5}, "validation_size: got 1.5"),
        ({}, {"validation_gap": 50.0}, "validation: 2000 samples are too few"),
        ({}, {"normalize": "trial"}, "normalize: got 'trial'"),
        ({}, {"loss": "r2"}, "loss: got 'r2'"),
        ({}, {"batch_size": 0}, "batch_size: got 0"),
        ({}, {"n_restarts": 0}, "n_restarts: got 0"),
        ({}, {"start": "zero"}, "start: got 'zero'"),
        ({}, {"readout": "linear"}, "readout: got 'linear', expected a str among"),
        ({}, {"recipe": "publish"}, "recipe: got 'publish', expected a str among"),
        ({}, {"patiens": 3}, "recipe_params: got 'patiens'; nearest: 'patience'"),
    ],
)
def test_bad_input_is_named(changes, parameters, message):
    X, Y = data()
    X, Y = changes.get("X", lambda X: X)(X), changes.get("Y", lambda Y: Y)(Y)
    settings = TINY | {"window": 256, "validation_gap": 1.0} | parameters
    with pytest.raises(ValueError, match=message):
        tiny(**settings).fit(X, Y)


def test_bad_lists_are_named():
    X, Y = data(2)
    regressor = tiny(**TINY, window=256, validation=None)
    with pytest.raises(ValueError, match="expected a list with the BOLD of each of the 2 recordings"):
        regressor.fit(list(X), Y[:1])
    with pytest.raises(ValueError, match="recording 1: X has 2000 samples and y 1999"):
        regressor.fit(list(X), [Y[0], Y[1][:, 1:]])
    with pytest.raises(ValueError, match="different numbers of regions"):
        regressor.fit(list(X), [Y[0], Y[1][:1]])
    regressor.fit([EEGArray(X[:1], sfreq=100.0)], [Y[0]])
    with pytest.raises(ValueError, match="sampling rate 250.0 Hz, but BEIRARegressor was fitted on 100.0 Hz"):
        regressor.predict([EEGArray(X[:1], sfreq=250.0)])


def test_a_precision_that_is_set_after_fit_waits_for_the_next_fit():
    X, Y = np.random.default_rng(0).normal(size=(2, 2, 3, 600))
    beira = BEIRARegressor(max_epochs=1, n_restarts=1, window=128, network_params={"n_branches": 2}, validation=None)
    before = beira.fit(X, Y).predict(X)
    np.testing.assert_allclose(beira.set_params(precision="float64").predict(X), before, rtol=1e-4, atol=1e-6)
    assert beira.transform(X).shape == (2, 6, 600)
