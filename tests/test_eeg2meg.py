import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import skeeg
from skeeg import EEGToMEG
from skeeg.array import EEGArray, make_domains
from skeeg.explain import attribute
from skeeg.methods.eeg2meg import MEGSimulation, topography_correlation
from skeeg.methods.eeg2meg.residual import split_windows, windows_of
from skeeg.testing import check_eeg_estimator

TINY = {"max_epochs": 2, "device": "cpu", "random_state": 0, "lags": 0}
UNET = {"n_filters": 4, "lstm_hidden": 4}
SIZES = {"transformer": {"embed_size": 8, "n_layers": 1, "n_heads": 2}, "unet": UNET, "wavelet_unet": UNET, "ridge": {}}
TYPES = ("mag", "grad", "grad")
SI = np.array([2e-13, 3e-12, 1e-12])[:, None]


def tiny(model, sizes=None, **settings):
    """Give a small estimator."""
    return EEGToMEG(model, SIZES[model] | (sizes or {}), **TINY | settings)


def linear_data(n_trials=12, n_times=60, seed=0):
    """EEG in microvolts and three sensors in SI units that are its exact linear image."""
    random = np.random.default_rng(seed)
    X = 10 * random.normal(size=(n_trials, 4, n_times))
    mixing = np.random.default_rng(99).normal(size=(3, 4)) / 20
    return X, SI * (mixing @ X + np.array([[1.0], [-2.0], [0.5]]))


def eeg(X, subjects=None, runs=None):
    domains = make_domains(len(X), subject="" if subjects is None else subjects, run="" if runs is None else runs)
    return EEGArray(X, ["C3", "Cz", "C4", "Pz"], 100.0, domains)


@pytest.mark.parametrize("scale", ["channel", "type"])
def test_si_units_come_back_exactly(scale):
    X, Y = linear_data()
    virtual = EEGToMEG("ridge", scale=scale, alpha=0.0, lags=0, meg_types=TYPES, validation=None).fit(X, Y)
    assert np.abs(virtual.predict(X) / Y - 1).max() < 1e-6
    assert virtual.score(X, Y) == pytest.approx(1)
    assert virtual.score_per_sensor(X, Y, "r2") == pytest.approx(1)
    np.testing.assert_allclose(virtual.meg_mean_, Y.mean(axis=(0, 2)), rtol=1e-9)


@pytest.mark.parametrize("model", ["ridge", "unet"])
def test_units_of_a_sensor_do_not_matter_to_the_map(model):
    X, Y = linear_data()
    factors = np.array([1e15, 1.0, 1e3])[:, None]
    here = tiny(model).fit(X, Y).predict(X)
    there = tiny(model).fit(X, Y * factors).predict(X)
    np.testing.assert_allclose(there / factors, here, rtol=1e-3, atol=1e-3 * here.std())


@pytest.mark.parametrize("model", ["ridge", "unet", "transformer"])
def test_the_order_of_windows_does_not_matter(model):
    X, Y = linear_data()
    virtual = tiny(model, validation=None).fit(X, Y)
    order = np.random.default_rng(0).permutation(len(X))
    np.testing.assert_allclose(virtual.predict(X[order]), virtual.predict(X)[order], rtol=1e-5, atol=1e-5 * Y.std())
    if model == "ridge":
        again = tiny(model, validation=None).fit(X[order], Y[order])
        np.testing.assert_allclose(again.coef_, virtual.coef_, atol=1e-9)


def test_network_learns_what_ridge_leaves_over():
    random = np.random.default_rng(0)
    X = random.normal(size=(60, 4, 80))
    Y = X[:, :2] + 2 * np.abs(X[:, 1:3])
    linear = EEGToMEG("ridge").fit(X[:48], Y[:48])
    sizes, recipe = {"n_filters": 16, "dropout": 0.0}, {"learning_rate": 5e-3}
    virtual = tiny("unet", sizes, max_epochs=25, recipe_params=recipe).fit(X[:48], Y[:48])
    assert virtual.network_weight_ > 0.5
    assert virtual.score(X[48:], Y[48:]) > linear.score(X[48:], Y[48:]) + 0.1


def test_a_network_that_finds_nothing_is_left_out():
    X, Y = linear_data(30)
    Y = Y + SI * np.random.default_rng(1).normal(size=Y.shape)
    linear = EEGToMEG("ridge").fit(X, Y)
    virtual = tiny("unet", max_epochs=5).fit(X, Y)
    assert virtual.score(*linear_data(10, seed=5)) > linear.score(*linear_data(10, seed=5)) - 0.02


def test_a_network_that_adds_nothing_is_warned_of():
    with pytest.warns(UserWarning, match="model: 'unet' adds nothing to ridge regression"):
        virtual = tiny("unet").fit(*linear_data())
    assert virtual.network_weight_ < 0.02


def test_networks_without_a_linear_start():
    X, Y = linear_data(30)
    sizes, recipe = {"n_filters": 8, "dropout": 0.0}, {"learning_rate": 1e-2}
    virtual = tiny("unet", sizes, max_epochs=40, recipe_params=recipe, lags=None).fit(X, Y)
    assert virtual.coef_ is None and virtual.network_weight_ == 1.0
    assert virtual.score(X, Y) > 0.5


def test_lags_are_needed_where_meg_comes_later():
    X, _ = linear_data(20)
    Y = np.roll(X[:, :2], 3, axis=2)
    assert EEGToMEG("ridge", lags=0).fit(X, Y).score(X, Y) < 0.3
    assert EEGToMEG("ridge", lags=3).fit(X, Y).score(X, Y) > 0.9


def test_ridge_is_that_of_scikit_learn():
    from sklearn.linear_model import Ridge

    X, Y = linear_data(6)
    Y = (Y + SI * np.random.default_rng(1).normal(size=Y.shape)) / SI
    rows = [one.transpose(0, 2, 1).reshape(-1, one.shape[1]) for one in (X, Y)]
    standard = (rows[0] - rows[0].mean(axis=0)) / rows[0].std(axis=0)
    expected = Ridge(alpha=0.3 * len(standard)).fit(standard, rows[1]).predict(standard)
    found = EEGToMEG("ridge", alpha=0.3, lags=0, validation=None).fit(X, Y).predict(X)
    np.testing.assert_allclose(found.transpose(0, 2, 1).reshape(-1, 3), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("subjects", "runs", "kept_apart"),
    [(list("aabbccdd"), list("12121212"), "subjects"), (None, list("11112222"), "runs"), (None, None, None)],
)
def test_validation_respects_who_and_when(subjects, runs, kept_apart):
    groups = [None if one is None else np.array(one) for one in (subjects, runs)]
    training, held = split_windows(8, "auto", 0.25, *groups, seed=0)
    assert len(held) and sorted([*training, *held]) == list(range(8))
    if kept_apart is None:
        assert training.max() < held.min()
    else:
        names = groups[kept_apart == "runs"]
        assert not set(names[training]) & set(names[held])


def test_runs_of_different_subjects_are_different_runs():
    subjects, runs = np.repeat(["a", "b"], 4), np.array(list("11221122"))
    training, held = split_windows(8, "run", 0.25, subjects, runs, seed=0)
    assert len(held) == 2 and len({subjects[i] for i in held}) == 1


def test_subjects_reach_the_validation():
    X, Y = linear_data()
    with pytest.raises(ValueError, match="validation='subject' needs the subject"):
        EEGToMEG("ridge", validation="subject").fit(X, Y)
    EEGToMEG("ridge", validation="subject").fit(X, Y, subjects=np.repeat([1, 2], 6))
    EEGToMEG("ridge", validation="run").fit(eeg(X, runs=np.repeat([1, 2], 6)), Y)


@pytest.mark.parametrize("model", ["ridge", "unet", "transformer", "wavelet_unet"])
def test_fitted_state_pickles_copies_and_saves(tmp_path, model):
    X, Y = linear_data()
    virtual = tiny(model).fit(eeg(X), Y)
    wanted = virtual.predict(eeg(X))
    virtual.save(tmp_path / "virtual")
    for again in (skeeg.load(tmp_path / "virtual"), copy.deepcopy(virtual), pickle.loads(pickle.dumps(virtual))):
        np.testing.assert_array_equal(again.predict(eeg(X)), wanted)


@pytest.mark.parametrize("model", ["unet", "transformer"])
def test_signals_of_any_length(model):
    X, Y = linear_data()
    virtual = tiny(model).fit(X, Y)
    assert virtual.predict(X[..., :7]).shape == (12, 3, 7)
    assert virtual.predict(np.concatenate([X, X], axis=2)).shape == (12, 3, 120)


def test_envelopes_are_predicted_and_compared():
    X, Y = linear_data(8, 128)
    virtual = tiny("wavelet_unet", joined=True).fit(eeg(X), Y)
    prediction, truth = virtual.predict(eeg(X)), virtual.targets(Y)
    assert prediction.shape == truth.shape == (8, 9, 128)
    assert truth.min() >= 0 and virtual.score(eeg(X), Y) > 0.2


@pytest.mark.parametrize("model", ["unet", "transformer"])
def test_networks_pass_the_checks(model):
    virtual = tiny(model, max_epochs=1, recipe_params={"precision": "float64"})
    results = check_eeg_estimator(virtual, only="check_target_shapes", on_fail=None)
    assert {result["check_name"]: str(result["exception"]) for result in results if result["status"] == "failed"} == {}


def test_virtual_meg_is_a_step_of_a_pipeline():
    X, Y = linear_data(24)
    labels = np.arange(24) % 2
    X[labels == 1, 0] *= 3
    virtual = EEGToMEG("ridge", meg_types=TYPES, alpha=0.0, lags=0).fit(eeg(X), Y)
    Z = virtual.transform(eeg(X))
    assert Z.dtype == np.float32 and Z.ch_names == virtual.meg_names_ and Z.sfreq == 100.0
    np.testing.assert_allclose(np.asarray(Z).std(axis=(0, 2)), 1, rtol=0.3)
    power = FunctionTransformer(lambda Z: np.log(np.asarray(Z).var(axis=2)))
    pipeline = make_pipeline(FrozenEstimator(virtual), power, RidgeClassifier())
    assert cross_val_score(pipeline, eeg(X), labels, cv=3).mean() > 0.8


def test_training_from_a_disk_is_training_from_memory(tmp_path):
    X, Y = linear_data(20)
    X, Y = X.astype(np.float32), Y.astype(np.float32)
    maps = {}
    for name, data in (("eeg", X), ("meg", Y)):
        for run, part in enumerate((data[:12], data[12:])):
            np.save(tmp_path / f"{name}{run}.npy", part)
        maps[name] = [np.load(tmp_path / f"{name}{run}.npy", mmap_mode="r") for run in range(2)]
    subjects = ["a", "b"]
    memory = EEGArray(X, None, 100.0, make_domains(20, subject=np.repeat(subjects, (12, 8)), run=1))
    for model in ("ridge", "unet"):
        here = tiny(model, meg_types=TYPES).fit(memory, Y)
        there = tiny(model, meg_types=TYPES).fit_runs(maps["eeg"], maps["meg"], subjects)
        np.testing.assert_allclose(there.predict(X), here.predict(X), rtol=1e-3, atol=1e-3 * Y.std())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X, Y: ([], []), "X: at least one window"),
        (lambda X, Y: (X, Y[:1]), "expected one entry for each of the 2 runs"),
        (lambda X, Y: (X, [Y[0], Y[1][:, :2]]), r"y: run 1 has shape \(6, 2, 60\), expected \(6, 3, 60\)"),
        (lambda X, Y: ([X[0], X[1] * np.nan], Y), "X: contains NaN"),
    ],
)
def test_bad_runs_are_named(change, message):
    X, Y = (np.split(one, 2) for one in linear_data())
    with pytest.raises(ValueError, match=message):
        EEGToMEG("ridge", validation=None).fit_runs(*change(X, Y))


def test_windows_are_read_in_the_requested_order():
    X, Y = linear_data(9)
    windows, rows = windows_of([X[:4], X[4:]], [Y[:4], Y[4:]]), np.array([7, 0, 3, 3])
    np.testing.assert_array_equal(windows.read(rows)[0], X[rows])
    np.testing.assert_array_equal(windows.read(rows)[1], Y[rows])


def test_scores_by_hand():
    X, Y = linear_data()
    Y = Y + SI * np.random.default_rng(0).normal(size=Y.shape)
    virtual = EEGToMEG("ridge").fit(X, Y)
    prediction = virtual.predict(X)
    flat = [one.transpose(1, 0, 2).reshape(3, -1) for one in (Y, prediction)]
    expected = [np.corrcoef(a, b)[0, 1] for a, b in zip(*flat, strict=True)]
    np.testing.assert_allclose(virtual.score_per_sensor(X, Y), expected)
    r2 = [1 - np.mean((a - b) ** 2) / a.var() for a, b in zip(*flat, strict=True)]
    np.testing.assert_allclose(virtual.score_per_sensor(X, Y, "r2"), r2)
    assert virtual.score_per_sensor(X, 0 * Y).tolist() == [0] * 3
    assert topography_correlation(Y, Y + SI[0]) == pytest.approx(1)  # an offset is no topography
    assert topography_correlation(Y, 0 * Y) == 0


def test_scores_by_type_band_and_map():
    X, Y = linear_data(10, 200)
    virtual = EEGToMEG("ridge", meg_types=TYPES, lags=0).fit(eeg(X), Y)
    assert virtual.score_per_type(eeg(X), Y) == {"mag": pytest.approx(1, abs=1e-3), "grad": pytest.approx(1, abs=1e-3)}
    assert set(virtual.score_per_band(eeg(X), Y)) == {"delta", "theta", "alpha", "beta", "gamma"}
    assert virtual.score_topography(eeg(X), Y)["grad"] == pytest.approx(1, abs=1e-3)
    plain = EEGToMEG("ridge").fit(X, Y)
    assert set(plain.score_per_type(X, Y)) == {"meg"}
    with pytest.raises(ValueError, match="sampling rate"):
        plain.score_per_band(X, Y)
    with pytest.raises(ValueError, match="metric"):
        plain.score_per_sensor(X, Y, "mse")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "lstm"}, "model: got 'lstm', expected a str among "),
        ({"scale": "window"}, "scale: got 'window'"),
        ({"meg": "magnetometers"}, "meg: got"),
        ({"lags": -1}, "lags: got -1"),
        ({"model": "ridge", "positions": True}, "geometry: positions=True needs the positions"),
        ({"model": "minimum_norm"}, "geometry: model='minimum_norm' needs the positions"),
        ({"model": "wavelet_unet", "positions": True}, "positions: envelopes"),
        ({"validation": "session"}, "validation: got 'session'"),
        ({"recipe_params": {"validation_size": 2}}, "validation_size: got 2"),
        ({"model": "unet", "recipe_params": {"patiens": 2}}, "recipe_params: got 'patiens'; nearest: 'patience'"),
        (
            {"model": "unet", "network_params": {"embed_size": 2}},
            "got 'embed_size'; there are: 'dropout'",
        ),
        ({"meg_types": ("mag",)}, "meg_types: got 1 types for 3 sensors"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        EEGToMEG(**TINY | settings).fit(*linear_data())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X, Y: (X, Y[:-1]), "inconsistent numbers of samples"),
        (lambda X, Y: (X, Y[..., :-1]), "X has 60 samples a trial and y 59"),
        (lambda X, Y: (X, 1e15 * Y), "mag channels deviate by .* expected about 1e-12"),
        (lambda X, Y: (X, 1e-9 * Y), "magnetometers are in tesla"),
        (lambda X, Y: (1e-6 * X, Y), "in volts. Multiply it by 1e6"),
        (lambda X, Y: (X * [[1], [0], [1], [1]], Y), "never changes"),
    ],
)
def test_bad_data_are_named(change, message):
    X, Y = change(*linear_data())
    with pytest.raises(ValueError, match=message):
        EEGToMEG("ridge", meg_types=TYPES).fit(X, Y)


def test_attributions_are_refused():
    X, Y = linear_data()
    with pytest.raises(TypeError, match="EEGToMEG predicts signals"):
        attribute(tiny("unet", max_epochs=1).fit(X, Y), X)


def test_another_unit_at_predict_is_noticed():
    X, Y = linear_data()
    virtual = EEGToMEG("ridge").fit(X, Y)
    with pytest.raises(ValueError, match="1e-06 times as strong as at fit; expected microvolts"):
        virtual.predict(1e-6 * X)


def test_fit_is_reproducible_and_leaves_the_random_state_alone():
    X, Y = linear_data()
    before = torch.random.get_rng_state()
    first, second = (tiny("unet").fit(X, Y).predict(X) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert torch.equal(before, torch.random.get_rng_state())


def test_simulation_is_the_same_for_the_same_seed_and_scaled_as_heads_are():
    X, Y, labels = MEGSimulation(n_times=50, noise=0.1).trials(n_trials=6)
    again = MEGSimulation(n_times=50, noise=0.1).trials(n_trials=6)
    np.testing.assert_array_equal(X, again[0])
    np.testing.assert_array_equal(Y, again[1])
    assert sorted(labels) == [0, 0, 0, 1, 1, 1]
    assert 1 < np.asarray(X).std() < 100 and 1e-14 < Y[:, 2].std() < 1e-11 and 1e-13 < Y[:, 0].std() < 1e-10
    with pytest.raises(ValueError, match="sources: got 'alpha'"):
        MEGSimulation(sources="alpha")
