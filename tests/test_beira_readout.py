import copy
import pickle

import numpy as np
import pytest

from skeeg.methods.beira import BEIRARegressor, canonical_hrf
from skeeg.methods.beira.bold import convolve
from skeeg.methods.beira.readout import LaggedReadout, step_means

TINY = {"max_epochs": 1, "random_state": 0, "window": 256, "validation_gap": 1.0, "recipe": "published"}
FRONT = {"n_branches": 2, "filter_length": 11, "envelope_length": 11}
SIZES = FRONT | {"channels": (8, 8), "kernel_sizes": (3,), "strides": (8,)}


def tiny(network="independent", **settings):
    """Give a small regressor with the readout, of the recipe, that is asked for."""
    recipe = {"windows_per_epoch": 16, "readout": settings.pop("readout")}
    sizes = FRONT if network == "lstm" else SIZES
    return BEIRARegressor(network, network_params=sizes, recipe_params=recipe, **TINY, **settings)


RATE = 10


def slow(n_signals, seconds, seed=0):
    """Signals that wander, shape (1, n_signals, n_times)."""
    steps = np.random.default_rng(seed).normal(size=(n_signals, seconds))
    grid = np.arange(seconds * RATE) / RATE
    return np.stack([np.interp(grid, np.arange(seconds) + 0.5, one) for one in steps])[None]


def data(n_times=2000, n_regions=2):
    random = np.random.default_rng(0)
    return random.normal(size=(2, 4, n_times)), random.normal(size=(2, n_regions, n_times))


def test_a_haemodynamic_response_is_learnt():
    envelopes = slow(3, 1500)[:, None]
    response = canonical_hrf(RATE)
    bold = convolve(2.0 * envelopes[:, :, 1] - envelopes[:, :, 2], response) + 7.0
    cut = 1200 * RATE
    readout = LaggedReadout.fit([envelopes[..., :cut]], [bold[..., :cut]], RATE)
    predicted, measured = readout.predict(envelopes[..., cut:])[0, 0, 30 * RATE :], bold[0, 0, cut + 30 * RATE :]
    assert np.corrcoef(predicted, measured)[0, 1] > 0.99
    assert abs(predicted.mean() - measured.mean()) < 0.05
    first, second, third = readout.weights[0].T
    assert np.abs(first).max() < 0.05 * second.max()
    assert np.corrcoef(second, third)[0, 1] < -0.95  # the same response, the other sign
    assert abs(int(second.argmax()) - 6 - 5) <= 1  # lags begin at -6 s; the response has its maximum at 5 s


def test_artefacts_do_not_carry_a_prediction_away():
    envelopes = slow(2, 600)[:, None]
    readout = LaggedReadout.fit([envelopes], [envelopes[:, :, 0]], RATE)
    touched = envelopes.copy()
    touched[..., 3000:3020] += 1e4
    assert np.abs(readout.predict(touched)).max() < 2 * np.abs(envelopes).max()


def test_trials_and_regions_keep_to_themselves():
    envelopes = np.concatenate([slow(4, 300, seed).reshape(1, 2, 2, -1) for seed in (1, 2)])
    bold = np.stack([envelopes[:, 0, 1], -envelopes[:, 1, 0]], axis=1)
    readout = LaggedReadout.fit([envelopes], [bold], RATE)
    predicted = readout.predict(envelopes)
    for region in range(2):
        assert np.corrcoef(predicted[:, region].ravel(), bold[:, region].ravel())[0, 1] > 0.95
    np.testing.assert_array_equal(readout.predict(envelopes[1:]), predicted[1:])
    one_by_one = LaggedReadout.fit([envelopes[:1], envelopes[1:]], [bold[:1], bold[1:]], RATE)
    np.testing.assert_allclose(one_by_one.predict(envelopes), predicted, atol=1e-9)


def test_steps_are_means_of_seconds():
    np.testing.assert_allclose(step_means(np.arange(7.0)[None], 3), [[1.0, 4.0, 6.0]])


@pytest.mark.parametrize("network", ["independent", "shared", "lstm"])
def test_both_is_the_mean_of_decoder_and_lagged(network, tmp_path):
    X, Y = data()
    names = ("decoder", "lagged", "both")
    fitted = {name: tiny(network, n_restarts=2, readout=name).fit(X, Y) for name in names}
    decoder, alone, both = (one.predict(X) for one in fitted.values())
    assert np.abs(decoder - alone).max() > 1e-2
    np.testing.assert_allclose(both, (decoder + alone) / 2, atol=1e-6)
    fitted["both"].set_params(recipe_params={"readout": "lagged"})  # tells of the next fit, not of this one
    np.testing.assert_array_equal(fitted["both"].predict(X), both)
    fitted["both"].save(tmp_path / "beira.safetensors")
    loaded = BEIRARegressor.load(tmp_path / "beira.safetensors")
    for other in (pickle.loads(pickle.dumps(fitted["both"])), copy.deepcopy(fitted["both"]), loaded):
        np.testing.assert_array_equal(other.predict(X), both)


@pytest.mark.parametrize("network", ["independent", "lstm"])
def test_long_recordings_are_read_out_piece_by_piece(network, monkeypatch):
    X, Y = data(3001)
    regressor = tiny(network, precision="float64", readout="lagged").fit(X, Y)
    whole = regressor.predict(X)
    assert whole.shape == Y.shape
    monkeypatch.setattr("skeeg.methods.beira.readout._SAMPLES_AT_ONCE", 100)
    np.testing.assert_allclose(regressor.predict(X), whole, atol=1e-9)


def test_values_without_time_are_read_out_by_the_decoder():
    X, Y = data()
    regressor = tiny(readout="both", validation=None).fit(X, Y[:, :, 0])
    assert regressor.readout_ == "decoder" and not regressor.readouts_


def test_envelopes_of_a_diverged_network_are_refused():
    with pytest.raises(ValueError, match="learning_rate: .* diverged"):
        LaggedReadout.fit([np.full((1, 1, 2, 500), np.nan)], [np.zeros((1, 1, 500))], RATE)
