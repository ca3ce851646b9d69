import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from skeeg import Calibration, EuclideanAlignment, FineTunedClassifier, NetworkClassifier
from skeeg.array import EEGArray, make_domains
from skeeg.bench.catalogue import get_pipelines
from skeeg.evaluations.adaptation import takes_target
from skeeg.training import Recipe

NETWORK = NetworkClassifier(
    "EEGNet",
    network_params={"F1": 2, "D": 1, "kernel_length": 8},
    recipe={"n_updates": 30},
    device="cpu",
    random_state=0,
)


def trials(seed, flip=False, n_trials=32):
    """Class 1 has more power in the first channel; with `flip`, class 0."""
    rng = np.random.default_rng(seed)
    y = np.arange(n_trials) % 2
    X = rng.standard_normal((n_trials, 3, 128))
    X[(y == 1) != flip, 0] *= 3
    return EEGArray(X, ("C3", "Cz", "C4"), 128.0, make_domains(n_trials, subject=seed)), np.array(["left", "right"])[y]


def test_partial_fit_goes_on_from_the_fitted_network():
    X, y = trials(0)
    network = clone(NETWORK).fit(X, y)
    before, tensors = network.module_, {name: value.clone() for name, value in network.module_.state_dict().items()}
    n_epochs = len(network.history_)
    network.set_params(recipe={"n_updates": 2, "learning_rate": 0.0, "weight_decay": 0.0}).partial_fit(X, y)
    for name, parameter in network.module_.named_parameters():
        torch.testing.assert_close(parameter, tensors[name])
    assert all(torch.equal(value, tensors[name]) for name, value in before.state_dict().items())
    assert len(network.history_) > n_epochs and network.n_iter_ == len(network.history_)


def test_partial_fit_begins_as_fit_and_refuses_new_labels():
    X, y = trials(0)
    one, other = clone(NETWORK).fit(X, y), clone(NETWORK).partial_fit(X, y)
    np.testing.assert_array_equal(one.predict_proba(X), other.predict_proba(X))
    assert clone(NETWORK).partial_fit(X, y, classes=["left", "rest", "right"]).predict_proba(X).shape == (32, 3)
    with pytest.raises(ValueError, match=r"y: \['feet'\] are not among the classes"):
        one.partial_fit(X, np.where(y == "left", "feet", y))


def test_fine_tuning_learns_what_is_different_in_the_target():
    X, y = trials(1)
    target, labels = trials(2, flip=True, n_trials=60)
    source = clone(NETWORK).fit(X, y)
    assert source.score(target, labels) < 0.4
    tuned = FineTunedClassifier(NETWORK, n_updates=150, learning_rate=1.0)
    tuned.fit(X, y, X_target_labeled=target[:30], y_target_labeled=labels[:30])
    assert tuned.score(target[30:], labels[30:]) > 0.8 and tuned.n_target_trials_ == 30
    assert NETWORK.recipe == {"n_updates": 30}


def test_steps_before_the_network_see_the_target():
    X, y = trials(1)
    target, labels = trials(2)
    target = EEGArray(np.asarray(target) * 50, target.ch_names, target.sfreq)
    tuned = FineTunedClassifier(make_pipeline(EuclideanAlignment(), NETWORK))
    tuned.fit(X, y, X_target_labeled=Calibration(target[:16]), y_target_labeled=labels[:16])
    assert [n_trials for *_, n_trials in tuned.estimator_[0].calibration_] == [16]
    assert tuned.predict_proba(target[:1]).shape == (1, 2) and takes_target(tuned)


def test_without_a_target_the_source_network_predicts():
    X, y = trials(1)
    tuned = FineTunedClassifier(NETWORK).fit(X, y)
    np.testing.assert_array_equal(tuned.predict_proba(X), clone(NETWORK).fit(X, y).predict_proba(X))
    with pytest.warns(UserWarning, match="y_target_labeled: 3 trials of 1 class"):
        one = FineTunedClassifier(NETWORK).fit(X, y, X_target_labeled=X[::2][:3], y_target_labeled=y[::2][:3])
    assert one.n_target_trials_ == 0


@pytest.mark.parametrize(
    ("estimator", "settings", "told"),
    [
        (EuclideanAlignment(), {}, "estimator: expected a NetworkClassifier"),
        (NETWORK, {"n_updates": 0}, "n_updates: got 0"),
        (NETWORK, {"learning_rate": -1.0}, "learning_rate: got -1.0"),
    ],
)
def test_what_cannot_be_fine_tuned_is_refused(estimator, settings, told):
    with pytest.raises((TypeError, ValueError), match=told):
        FineTunedClassifier(estimator, **settings).fit(*trials(0))


def test_a_pipeline_file_may_ask_for_fine_tuning():
    estimators, _ = get_pipelines(["EEGNet, fine-tuned"])
    tuned = estimators["EEGNet, fine-tuned"]
    assert isinstance(tuned, FineTunedClassifier) and tuned.estimator[-1].network == "EEGNet"


def test_probabilities_of_several_networks_are_averaged():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(20, 3, 64)).astype(np.float32), np.resize(["a", "b"], 20)
    network = NetworkClassifier("EEGNet", max_epochs=1, random_state=0, device="cpu")
    tuned = FineTunedClassifier(network, n_updates=2, n_networks=2).fit(X, y, None, X[:8], y[:8])
    first, second = (one.predict_proba(X) for one in tuned.estimators_)
    assert np.abs(first - second).max() > 1e-3
    np.testing.assert_allclose(tuned.predict_proba(X), (first + second) / 2)
    assert tuned.score(X, y) == np.mean(tuned.classes_[((first + second) / 2).argmax(1)] == y)
    with pytest.raises(ValueError, match="n_networks: got 0"):
        FineTunedClassifier(network, n_networks=0).fit(X, y)


def test_few_trials_may_lack_the_last_class():
    X, y = trials(0)
    network = clone(NETWORK).set_params(recipe={"n_updates": 2})
    started = clone(network).partial_fit(X, y, classes=["left", "right", "tongue"])
    assert started.predict_proba(X).shape == (32, 3)
    three = np.where(np.arange(len(y)) % 3 == 0, "tongue", y)
    tuned = FineTunedClassifier(network, n_updates=2)
    tuned.fit(X, three, X_target_labeled=X[three != "tongue"], y_target_labeled=three[three != "tongue"])
    assert tuned.predict_proba(X).shape == (32, 3)


def test_target_trials_need_labels():
    X, y = trials(0)
    with pytest.raises(ValueError, match="y_target_labeled: got None for 8 trials"):
        FineTunedClassifier(NETWORK).fit(X, y, X_target_labeled=X[:8])


def test_a_recipe_object_is_fine_tuned_too():
    X, y = trials(0)
    tuned = FineTunedClassifier(clone(NETWORK).set_params(recipe=Recipe(n_updates=2)), n_updates=3)
    tuned.fit(X, y, X_target_labeled=X[:8], y_target_labeled=y[:8])
    assert tuned.estimator_.recipe["n_updates"] == 3


def test_the_source_network_comes_from_memory(tmp_path, monkeypatch):
    X, y = trials(0)
    plain = FineTunedClassifier(make_pipeline(EuclideanAlignment(), NETWORK), n_updates=2)
    cached, fits, fit = clone(plain).set_params(memory=str(tmp_path)), [], NetworkClassifier.fit
    monkeypatch.setattr(
        NetworkClassifier, "fit", lambda self, *given, **more: fits.append(1) or fit(self, *given, **more)
    )
    for n in (8, 16):
        target = {"X_target_labeled": X[:n], "y_target_labeled": y[:n]}
        expected = clone(plain).fit(X, y, **target).predict_proba(X)
        np.testing.assert_array_equal(cached.fit(X, y, **target).predict_proba(X), expected)
    assert len(fits) == 3
    cached.fit(X.like(X, ch_names=("F3", "Fz", "F4")), y)
    assert len(fits) == 4  # the same values of other electrodes


def test_memory_keeps_no_network_without_a_random_state(tmp_path):
    X, y = trials(0)
    network = clone(NETWORK).set_params(recipe={"n_updates": 1}, random_state=None)
    cached = FineTunedClassifier(network, memory=str(tmp_path))
    assert not np.array_equal(cached.fit(X, y).predict_proba(X), cached.fit(X, y).predict_proba(X))


def test_memory_knows_other_weights_in_the_file_of_a_checkpoint(tmp_path):
    X, y = trials(0)
    weights = clone(NETWORK).set_params(recipe={"n_updates": 1}).fit(X, y).module_.state_dict()
    network = clone(NETWORK).set_params(recipe={"n_updates": 1}, checkpoint=str(tmp_path / "weights.pt"))
    plain, found = FineTunedClassifier(network), []
    cached = clone(plain).set_params(memory=str(tmp_path / "memory"))
    for factor in (1, 2):
        torch.save({name: factor * value for name, value in weights.items()}, tmp_path / "weights.pt")
        found.append(cached.fit(X, y).predict_proba(X))
        np.testing.assert_array_equal(found[-1], plain.fit(X, y).predict_proba(X))
    assert not np.array_equal(*found)
