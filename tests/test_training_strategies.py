"""What a fine-tuning strategy changes, and what a checkpoint brings."""

import os

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import RidgeCV
from torch import nn

from skeeg import NetworkClassifier, NetworkRegressor
from skeeg.training import CheckpointReport, default_recipe, get_recipe, load_checkpoint, read_weights
from skeeg.training.checkpoints import rename_keys
from skeeg.training.inference import head_features
from skeeg.training.strategies import LowRank, add_lora, fit_probe, trainable_part

EEGNET = {"F1": 4, "D": 2, "kernel_length": 8}


class Net(nn.Module):
    def __init__(self, n_chans, n_times, n_outputs, n_hidden=6):
        super().__init__()
        self.conv = nn.Conv1d(n_chans, n_hidden, 5)
        self.norm = nn.BatchNorm1d(n_hidden)
        self.final_layer = nn.Linear(n_hidden, n_outputs)

    def forward(self, x):
        return self.final_layer(self.norm(self.conv(x)).square().mean(-1))


class Renamed(Net):
    mapping = {"encoder": "conv", "bn": "norm", "head.weight": "final_layer.weight"}


def data(n=60, n_classes=2):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((n, 3, 40)).astype(np.float32), np.arange(n) % n_classes
    for label in range(n_classes):
        X[y == label, label] *= 2
    return X, y


def classifier(network=Net, **settings):
    fixed = {"max_epochs": 4, "batch_size": 16, "learning_rate": 0.02, "device": "cpu", "random_state": 0}
    return NetworkClassifier(network, **{**fixed, **settings})


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Weights to start from, and the file that holds them."""
    torch.manual_seed(5)
    network = Net(3, 40, 2)
    network.norm.running_mean += 0.3
    path = tmp_path_factory.mktemp("weights") / "start.safetensors"
    save_file(network.state_dict(), path)
    return {name: value.clone() for name, value in network.state_dict().items()}, str(path)


def changed(fitted, before):
    after = fitted.module_.state_dict()
    return {name for name in before if name in after and not torch.equal(after[name], before[name])}


# What is trained


def test_full_changes_everything(start):
    before, path = start
    assert changed(classifier(checkpoint=path).fit(*data()), before) == set(before)


def test_head_changes_the_last_layer_only_and_no_statistics(start):
    before, path = start
    clf = classifier(strategy="head", checkpoint=path, max_epochs=60).fit(*data())
    assert changed(clf, before) == {"final_layer.weight", "final_layer.bias"}
    assert clf.score(*data()) > 0.7
    assert all(parameter.requires_grad for parameter in clf.module_.parameters())


def test_probe_changes_the_last_layer_only(start):
    before, path = start
    clf = classifier(strategy="probe", checkpoint=path).fit(*data())
    assert changed(clf, before) == set()
    after = clf.module_.state_dict()
    assert {name for name in after if name not in before} == {"final_layer.1.weight", "final_layer.1.bias"}
    assert clf.score(*data()) > 0.8 and clf.n_iter_ == 1


@pytest.mark.parametrize("rank", [1, 2])
def test_lora_changes_matrices_by_a_low_rank_and_the_last_layer(start, rank):
    before, path = start
    clf = classifier(strategy="lora", recipe={"lora_rank": rank}, checkpoint=path).fit(*data())
    after = clf.module_.state_dict()
    assert after.keys() == before.keys()
    assert {"conv.bias", "norm.weight", "norm.bias"} & changed(clf, before) == set()
    assert {"conv.weight", "final_layer.weight", "final_layer.bias"} <= changed(clf, before)
    change = (after["conv.weight"] - before["conv.weight"]).flatten(1)
    singular = torch.linalg.svdvals(change)
    assert singular[rank - 1] > 1e-3 and singular[rank:].max() < 1e-5 * singular[0]


@pytest.mark.parametrize("strategy", ["full", "head", "probe", "lora"])
def test_every_strategy_works_on_a_network_of_braindecode_and_can_be_copied(strategy):
    import pickle

    X, y = data(n_classes=3)
    clf = classifier("EEGNet", network_params=EEGNET, strategy=strategy).fit(X, np.array(["a", "b", "c"])[y])
    again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(again.predict_proba(X), clf.predict_proba(X))
    again = pickle.loads(pickle.dumps(clf.fit(X[:40], y[:40] % 2)))
    assert again.predict_proba(X).shape == (60, 2)


def test_lora_starts_from_the_frozen_network_and_leaves_it_plain():
    torch.manual_seed(0)
    network, x = Net(3, 40, 2).eval(), torch.randn(4, 3, 40)
    keys, outputs = set(network.state_dict()), network(x)
    with trainable_part(network, "lora", rank=2):
        torch.testing.assert_close(network(x), outputs)
        trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
        assert trained == {
            "final_layer.weight",
            "final_layer.bias",
            "conv.parametrizations.weight.0.A",
            "conv.parametrizations.weight.0.B",
        }
    assert set(network.state_dict()) == keys
    torch.testing.assert_close(network(x), outputs)


def test_a_low_rank_change_is_the_product_of_its_factors():
    layer = LowRank(torch.zeros(5, 2, 3), rank=2)
    with torch.no_grad():
        layer.B.normal_()
    torch.testing.assert_close(layer(torch.ones(5, 2, 3)), 1 + (layer.B @ layer.A).reshape(5, 2, 3))
    assert LowRank(torch.zeros(5, 2, 3), rank=99).A.shape == (5, 6)


def test_lora_without_anything_to_change_is_an_error():
    class OnlyHead(nn.Module):
        def __init__(self):
            super().__init__()
            self.final_layer = nn.Linear(3, 2)

    with pytest.raises(ValueError, match="OnlyHead has no weight outside 'final_layer'"):
        add_lora(OnlyHead(), 2)
    with pytest.raises(ValueError, match="lora_rank: got 0"):
        get_recipe({"lora_rank": 0}).check()


def test_frozen_parts_are_thawed_again_when_training_fails():
    network = Net(3, 40, 2)
    network.conv.bias.requires_grad_(False)
    with pytest.raises(KeyError), trainable_part(network, "head"):
        assert not network.conv.weight.requires_grad
        raise KeyError
    assert network.conv.weight.requires_grad and not network.conv.bias.requires_grad


# The probe


@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_probe_is_linear_discriminant_analysis_of_the_principal_features(n_classes):
    X, y = data(90, n_classes)
    clf = classifier(strategy="probe").fit(X[:60], y[:60])
    network = Net(3, 40, n_classes)
    network.load_state_dict({k: v for k, v in clf.module_.state_dict().items() if "final" not in k}, strict=False)
    features = head_features(network.eval(), X / np.float32(clf.scale_))
    features = ((features - features[:60].mean(0)) / features[:60].std(0)).astype(float)
    features = features @ np.linalg.svd(features[:60], full_matrices=False)[2].T  # the axes that the shrinkage is along
    lda = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(features[:60], y[:60])
    np.testing.assert_array_equal(clf.predict(X), lda.predict(features))
    np.testing.assert_allclose(clf.predict_proba(X), lda.predict_proba(features), atol=1e-4)


def test_the_probe_of_a_regressor_is_ridge_regression_of_the_features():
    X, _ = data()
    y = np.stack([X[:, 0].std(axis=1), 10 * X[:, 1].std(axis=1)], axis=1)
    reg = NetworkRegressor(Net, strategy="probe", device="cpu", random_state=0).fit(X, y)
    assert reg.score(X, y) > 0.6
    features = reg.transform(X)
    standard = ((features - features.mean(0)) / features.std(0)).astype(float)
    ridge = RidgeCV(alphas=np.logspace(-3, 5, 17)).fit(standard, (y - y.mean(0)) / y.std(0))
    wanted = ridge.predict(standard) * y.std(0) + y.mean(0)
    np.testing.assert_allclose(reg.predict(X), wanted, rtol=1e-3)


def test_a_probe_stands_more_features_than_trials_and_dead_features():
    rng = np.random.default_rng(0)
    features, y = rng.standard_normal((20, 100)).astype(np.float32), np.arange(20) % 2
    features[:, 3] = 0
    layer = fit_probe(features, y)
    assert (
        torch.isfinite(layer.weight).all() and (layer(torch.from_numpy(features)).argmax(1).numpy() == y).mean() > 0.9
    )
    assert torch.isfinite(fit_probe(np.zeros((20, 5), np.float32), y).weight).all()


# Checkpoints


def test_a_checkpoint_is_loaded_whole_but_for_the_last_layer_or_not_at_all(start):
    before, _ = start
    network = Net(3, 40, 2)
    report = load_checkpoint(network, before)
    assert isinstance(report, CheckpointReport)
    assert set(report.matched) == set(before) - {"final_layer.weight", "final_layer.bias"}
    assert report.missing == ("final_layer.weight", "final_layer.bias")
    assert str(report).startswith("7 tensors matched; 2 missing: final_layer")
    assert torch.equal(network.norm.running_mean, before["norm.running_mean"])
    assert not torch.equal(network.final_layer.weight, before["final_layer.weight"])
    state = {**before, "conv.weight": torch.zeros(6, 9, 5), "extra": torch.zeros(2)}
    del state["norm.bias"]
    kept = {name: value.clone() for name, value in network.state_dict().items()}
    message = (
        r"does not fit Net \(5 tensors matched; 1 missing: norm.bias; 1 unexpected: extra; 1 reshaped: conv.weight; "
    )
    with pytest.raises(ValueError, match=message + r"conv.weight has \(6, 9, 5\) for \(6, 3, 5\)"):
        load_checkpoint(network, state)
    assert all(torch.equal(value, kept[name]) for name, value in network.state_dict().items())


def test_the_last_layer_is_loaded_where_asked_for(start):
    before, _ = start
    network = Net(3, 40, 2)
    report = load_checkpoint(network, before, keep_head=True)
    assert len(report.matched) == len(before) and not report.missing
    assert str(report) == f"{len(before)} tensors matched"
    assert torch.equal(network.final_layer.weight, before["final_layer.weight"])


def test_names_of_other_people_are_translated(start):
    before, _ = start
    state = rename_keys(before, {new: old for old, new in Renamed.mapping.items()})
    assert "encoder.weight" in state and "conv.weight" not in state
    network = Renamed(3, 40, 2)
    assert len(load_checkpoint(network, state, keep_head=True).matched) == len(before)
    assert torch.equal(network.conv.weight, before["conv.weight"])
    assert rename_keys({"bnx.weight": 1, "bn": 2}, Renamed.mapping) == {"bnx.weight": 1, "norm": 2}


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])
@pytest.mark.parametrize("nest", [None, "state_dict", "model"])
def test_files_of_every_kind_are_read(tmp_path, start, suffix, nest):
    before, _ = start
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(before, path)
    else:
        torch.save(before if nest is None else {nest: before, "epoch": 3}, path)
    state = read_weights(path)[0]
    assert state.keys() == before.keys() and all(torch.equal(state[name], before[name]) for name in before)
    clf = classifier(checkpoint=str(path), strategy="head", max_epochs=1).fit(*data())
    assert torch.equal(clf.module_.conv.weight, before["conv.weight"])
    assert clf.checkpoint_report_.startswith("7 tensors matched; 2 missing: final_layer")


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_pickle_that_is_more_than_tensors_is_refused_and_not_executed(tmp_path, start):
    fuse = tmp_path / "executed"
    torch.save({**start[0], "bomb": Bomb(fuse)}, tmp_path / "bomb.pt")
    with pytest.raises(ValueError, match="bomb.pt could not be read as plain tensors"):
        classifier(checkpoint=str(tmp_path / "bomb.pt")).fit(*data())
    assert not fuse.exists()


@pytest.mark.parametrize("name", ["junk.pt", "junk.safetensors"])
def test_a_broken_file_is_a_clear_error(tmp_path, name):
    (tmp_path / name).write_bytes(b"not at all what the ending says, though long enough")
    with pytest.raises(ValueError, match=name):
        read_weights(tmp_path / name)


def test_what_holds_no_fitting_tensor_is_refused(tmp_path):
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ValueError, match="holds no tensors by name"):
        read_weights(tmp_path / "list.pt")
    with pytest.raises(ValueError, match="it does not fit Net .*1 unexpected: other"):
        load_checkpoint(Net(3, 40, 2), {"other": torch.zeros(2)})
    with pytest.raises(FileNotFoundError, match="checkpoint: there is no file"):
        read_weights(tmp_path / "absent.pt")
    with pytest.raises(ValueError, match="expected 'hub:owner/repository/file'"):
        read_weights("hub:nobody")


def test_networks_that_come_with_weights_say_so_when_they_start_without():
    class BIOT(Net):
        pass

    assert default_recipe(BIOT) == default_recipe("InterpolatedBIOT") == "pretrained" != default_recipe(Net)
    with pytest.warns(UserWarning, match="BIOT starts from scratch, without its published weights"):
        classifier(BIOT, max_epochs=1).fit(*data())
