"""Attributions of the default methods lie where the truth is known to be; of networks that learnt noise they do not."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.metrics import average_precision_score
from sklearn.pipeline import make_pipeline

from skeeg import CTAdaptTLClassifier, EEGArray, EuclideanAlignment, MIRepNetClassifier, NetworkClassifier
from skeeg.explain import attribute

NAMES = tuple("FC3 FC1 FCz FC2 FC4 C3 C1 Cz C2 C4 CP3 CP1 CPz CP2 CP4 Pz".split())
TELLING = np.isin(NAMES, ("FC1", "C3", "CP2", "CP4"))
COMMON = {"batch_size": 16, "random_state": 0, "device": "cpu"}
POOLS = {"filter_length": 13, "pool_length": 50, "pool_stride": 10}
SMALL = {"embed_dim": 16, "n_layers": 1, "n_heads": 2, "n_filters_time": 8, "n_filters": 12, **POOLS}


def bursts(seed, n_trials=96, n_times=200):
    """Bursts of 10 Hz in the second half of a trial: by class at the telling electrodes, at random at the others."""
    rng = np.random.default_rng(seed)
    y = np.tile([0, 1], n_trials // 2)
    present = rng.integers(0, 2, size=(n_trials, len(NAMES)))
    present[:, TELLING] = y[:, None]
    wave = np.sin(2 * np.pi * 10 * np.arange(n_times) / 100 + rng.uniform(0, 6.3, size=(n_trials, len(NAMES), 1)))
    late = np.arange(n_times) >= n_times // 2
    return EEGArray(
        rng.normal(size=(n_trials, len(NAMES), n_times)) + 2 * present[..., None] * wave * late, NAMES, 100.0
    ), y


def aligned(name, parameters, n_epochs, learning_rate):
    network = NetworkClassifier(name, parameters, max_epochs=n_epochs, learning_rate=learning_rate, **COMMON)
    return make_pipeline(EuclideanAlignment(), network)


METHODS = {
    "ShallowConv": aligned("ShallowFBCSPNet", {"n_filters_time": 8, "n_filters_spat": 8}, 20, 5e-3),
    "EEGNet": aligned("EEGNet", {"kernel_length": 32}, 12, 5e-3),
    "Conformer": aligned("EEGConformer", {"num_layers": 1, "n_filters_time": 8, "num_heads": 2}, 15, 4e-3),
    "CT-adaptTL": CTAdaptTLClassifier("specific", network_params={"n_filters": 12, "n_hidden": 16, **POOLS},
                                      specific_params={"max_epochs": 30, "learning_rate": 3e-3, "batch_size": 16},
                                      random_state=0, device="cpu"),
    "MIRepNet": MIRepNetClassifier(template=None, resample=None, max_epochs=20, learning_rate=3e-3, **COMMON,
                                   network_params=SMALL),
}  # fmt: skip


def explained(estimator, X, y, **settings):
    new, labels = bursts(1, 40)
    fitted = clone(estimator).fit(X, y)
    return np.mean(fitted.predict(new) == labels), attribute(fitted, new[:12], X[:6], tolerance=1e-2, **settings)


@pytest.mark.parametrize("name", METHODS)
def test_attributions_find_the_telling_electrodes_band_and_time(name):
    accuracy, found = explained(METHODS[name], *bursts(0), bands=((7, 13), (13, 45)))
    assert accuracy > 0.9
    assert average_precision_score(TELLING, found.importance()) > 0.9
    early, late = found.bins(2).importance("time")
    assert late > 2 * early
    size = {band: np.abs(values).mean() for band, values in found.per_band().items()}
    assert size["7-13 Hz"] > 2 * max(size["13-45 Hz"], size["rest"])
    np.testing.assert_allclose(sum(found.band_values.values()), found.values, atol=1e-12)


@pytest.mark.parametrize("name", ["ShallowConv", "CT-adaptTL"])
def test_random_labels_do_not_pass_for_truth(name):
    X, y = bursts(0)
    shuffled = np.where(np.arange(len(y)) // 2 % 2, y, 1 - y)  # half of each class is relabelled
    accuracy, found = explained(METHODS[name], X, shuffled)
    assert abs(accuracy - 0.5) < 0.25
    assert average_precision_score(TELLING, found.importance()) < 0.7
