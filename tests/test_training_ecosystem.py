"""Networks beside scikit-learn and skorch: callbacks, searches, class weights, instances, warnings and errors."""

import pickle
import sys

import numpy as np
import pytest
import skorch.callbacks
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from torch import nn

from skeeg import NetworkClassifier, NetworkRegressor
from skeeg.networks import build_network
from skeeg.training import Recipe
from skeeg.training.net import class_probabilities

EEGNET = {"F1": 2, "D": 1, "kernel_length": 8}


def data(n_trials=40, n_times=64):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((n_trials, 3, n_times)).astype(np.float32), np.arange(n_trials) % 2
    X[y == 1, 0] *= 3
    return X, np.array(["left", "right"])[y]


def classifier(network="EEGNet", **settings):
    settings = {"network_params": EEGNET, "max_epochs": 3, "device": "cpu", "random_state": 0} | settings
    return NetworkClassifier(network, **settings)


def test_own_frames_between_fit_and_the_step(monkeypatch):
    frames = []

    def step(self, closure):
        frame, own = sys._getframe(), []
        while frame is not None:
            if "/skeeg/" in frame.f_code.co_filename.replace("\\", "/") and "/tests/" not in frame.f_code.co_filename:
                own.append(frame.f_code.co_name)
            frame = frame.f_back
        frames.append(own)
        return closure()

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    X, y = data()
    classifier(max_epochs=1).fit(X, y)
    assert frames and all(len(own) <= 3 for own in frames), frames[0]


def test_epoch_scoring_of_training_and_validation_trials():
    def scoring(name, metric, **settings):
        return skorch.callbacks.EpochScoring(metric, name=name, lower_is_better=False, **settings)

    callbacks = [
        scoring("train_accuracy", "accuracy", on_train=True),
        scoring("accuracy", "accuracy"),
        scoring("fresh_accuracy", "accuracy", use_caching=False),
        scoring("auc", "roc_auc"),
        scoring("balanced", "balanced_accuracy", on_train=True),
    ]
    clf = classifier(validation="trial", skorch_callbacks=callbacks, max_epochs=6, learning_rate=0.01).fit(*data())
    last = clf.history_[-1]
    assert last["accuracy"] == last["fresh_accuracy"] == last["valid_acc"]
    assert all(0 <= last[name] <= 1 for name in ("train_accuracy", "auc", "balanced"))
    assert last["train_accuracy"] > 0.6


def test_scores_of_networks_with_outputs_for_several_windows():
    logits = torch.randn(5, 3, 7)
    torch.testing.assert_close(class_probabilities(logits), logits.mean(-1).softmax(1))
    assert class_probabilities(logits.bfloat16()).dtype is torch.float32
    clf = classifier(validation="trial", precision="bf16").fit(*data())
    assert all(0 <= row["valid_acc"] <= 1 for row in clf.history_)


def test_epoch_scoring_of_regressors():
    X, _ = data()
    scoring = skorch.callbacks.EpochScoring("r2", lower_is_better=False, on_train=True)
    settings = {"network_params": EEGNET, "max_epochs": 2, "device": "cpu", "random_state": 0}
    model = NetworkRegressor("EEGNet", skorch_callbacks=[scoring], **settings).fit(X, X[:, 0].std(1))
    assert np.isfinite(model.history_[-1]["r2"])


def test_checkpoints_and_loggers(tmp_path, capsys):
    class Table(skorch.callbacks.Callback):
        def on_epoch_end(self, net, **kwargs):
            with open(tmp_path / "log.csv", "a") as file:
                file.write(f"{net.history[-1, 'epoch']},{net.history[-1, 'train_loss']}\n")

    kept = skorch.callbacks.Checkpoint(dirname=str(tmp_path), monitor="valid_loss_best", load_best=True)
    callbacks = [kept, Table(), skorch.callbacks.PrintLog(), skorch.callbacks.ProgressBar()]
    clf = classifier(validation="trial", skorch_callbacks=callbacks, verbose=1).fit(*data())
    stored = torch.load(tmp_path / "params.pt", weights_only=True)
    for name, parameter in clf.module_.named_parameters():
        assert torch.equal(parameter, stored[name]), name
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 3
    assert "valid_loss" in capsys.readouterr().out


def test_class_weights_are_those_of_scikit_learn():
    X, y = data()
    few = np.flatnonzero((y == "left") | (np.arange(len(y)) < 8))
    X, y = X[few], y[few]
    settings = {"batch_size": 64, "max_epochs": 4}
    share = {"left": len(y) / (2 * np.sum(y == "left")), "right": len(y) / (2 * np.sum(y == "right"))}

    def fitted(weight):
        return classifier(**settings, recipe={"name": "convolutional", "class_weight": weight}).fit(X, y)

    balanced, by_hand, plain = fitted("balanced"), fitted(share), fitted(None)
    np.testing.assert_allclose(balanced.predict_proba(X), by_hand.predict_proba(X), rtol=1e-5)
    assert not np.allclose(balanced.predict_proba(X), plain.predict_proba(X))
    np.testing.assert_array_equal(fitted({"left": 1}).predict_proba(X), plain.predict_proba(X))
    with pytest.raises(ValueError, match=r"class_weight: \['up'\] are not among the classes \['left', 'right'\]"):
        fitted({"left": 1.0, "up": 2.0})
    with pytest.raises(ValueError, match="class_weight: got .* needs the loss 'cross_entropy'"):
        classifier(recipe={"class_weight": {"left": 2.0}}, loss=nn.CrossEntropyLoss()).fit(X, y)


def test_grid_search_over_sizes_and_recipe():
    X, y = data()
    grid = {"network_params__F1": [2, 3], "recipe__weight_decay": [0.0, 0.5]}
    search = GridSearchCV(classifier(max_epochs=1), grid, cv=2, error_score="raise").fit(X, y)
    assert {one["network_params__F1"] for one in search.cv_results_["params"]} == {2, 3}
    best = search.best_estimator_
    assert best.network_params == EEGNET | {"F1": search.best_params_["network_params__F1"]}
    assert best.recipe == {"name": "default", "weight_decay": search.best_params_["recipe__weight_decay"]}
    double = classifier(recipe={"precision": "float64"}).fit(X, y)
    assert all(parameter.dtype is torch.float64 for parameter in double.module_.parameters())
    changed = classifier(recipe=Recipe(solver="sgd")).set_params(recipe__solver="adam", recipe__momentum=0.5)
    assert (changed.recipe["solver"], changed.recipe["momentum"]) == ("adam", 0.5)


def test_an_instance_is_trained_from_its_weights_and_left_as_it_is():
    X, y = data()
    module = build_network("EEGNet", n_chans=3, n_times=64, n_outputs=2, parameters=EEGNET)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    still = clone(classifier(module, network_params=None, learning_rate=0.0, recipe={"weight_decay": 0.0})).fit(X, y)
    for name, parameter in still.module_.named_parameters():
        torch.testing.assert_close(parameter, before[name])
    moved = classifier(module, network_params=None).fit(X, y)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert not torch.equal(next(moved.module_.parameters()), next(module.parameters()))
    scores = GridSearchCV(classifier(module, network_params=None), {"max_epochs": [1, 2]}, cv=2, error_score="raise")
    assert np.isfinite(scores.fit(X, y).best_score_)


def test_plain_modules_as_instances_pickle():
    X, y = data()
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 2))
    clf = classifier(module, network_params=None, strategy="full").fit(X, y)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(clf)).predict_proba(X), clf.predict_proba(X))


def test_an_instance_that_does_not_suit_the_trials_is_refused():
    X, y = data()
    module = build_network("EEGNet", n_chans=3, n_times=64, n_outputs=3, parameters=EEGNET)
    with pytest.raises(ValueError, match="network: the EEGNet does not suit.* it has 3 outputs for 2 classes"):
        classifier(module, network_params=None).fit(X, y)
    with pytest.raises(ValueError, match="network: the EEGNet does not suit trials of 2 channels"):
        classifier(module, network_params=None).fit(X[:, :2], y)
    with pytest.raises(ValueError, match="network_params: got .*instance"):
        classifier(module).fit(X, y)


class Mine(NetworkClassifier):
    pass


class WithRate(NetworkClassifier):
    def __init__(self, network="EEGNet", *, rate=0.1):
        super().__init__(network, learning_rate=rate)
        self.rate = rate


class SameRate(WithRate):
    pass


@pytest.mark.parametrize("cls", [NetworkClassifier, NetworkRegressor, Mine])
def test_a_constructor_is_inherited_with_its_parameters(cls):
    with pytest.raises(TypeError, match="got an unexpected keyword argument 'lr'"):
        cls(lr=0.1)
    assert cls("EEGNet", max_epochs=3).get_params()["max_epochs"] == 3
    assert cls()._get_param_names() == NetworkClassifier._get_param_names()
    assert SameRate(rate=0.5).learning_rate == 0.5 and SameRate().get_params() == WithRate().get_params()


def test_warnings_point_at_the_line_that_called(recwarn):
    X, y = data(20)
    classifier(max_epochs=1).fit(X, y)
    make_pipeline(classifier(max_epochs=1)).fit(X, y)
    own, other = (one.filename for one in recwarn if "are few" in str(one.message))
    assert own == __file__ and other.endswith("pipeline.py")
