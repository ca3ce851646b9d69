"""Weights of strangers: nothing is executed, nothing is loaded in part, nothing fills the memory."""

import dataclasses
import json
import pathlib
import re
import sys
import types

import numpy as np
import pytest
import torch
from braindecode.models import EEGNet
from hostile import EXECUTED, Script, attack_files, hostile_checkpoints
from instances import instance, public_estimators
from safetensors import safe_open
from safetensors.numpy import save_file as numpy_save
from safetensors.torch import save_file
from sklearn.base import clone

import skeeg
from skeeg import (
    BEIRARegressor,
    CTAdaptTLClassifier,
    EEGArray,
    GramClassifier,
    GramPretrainer,
    GramRestorer,
    GramTokenizer,
    MIRepNetClassifier,
    MIRepNetPretrainer,
    NetworkClassifier,
)
from skeeg.methods.beira import BEIRA, SharedBEIRA
from skeeg.methods.ct_adapttl.network import UPSTREAM_KEYS as CT_KEYS
from skeeg.methods.ct_adapttl.network import CTAdaptTLNet
from skeeg.methods.gram import Gram
from skeeg.methods.gram.layers import SIZES
from skeeg.methods.mirepnet import MIRepNet
from skeeg.training.checkpoints import describe, load_checkpoint, published_state, read_weights, write_weights
from skeeg.training.pretraining import read_run
from skeeg.training.sizes import read_sizes

PACKAGE = pathlib.Path(skeeg.__file__).parent


@pytest.mark.filterwarnings("ignore:.*jit.*:DeprecationWarning")
def test_a_torchscript_archive_is_refused_and_not_executed(tmp_path):
    torch.jit.script(Script(str(tmp_path / "executed"))).save(str(tmp_path / "script.pth"))
    X, y = EEGArray(torch.randn(4, 2, 400).numpy(), ("C3", "C4"), 200), [0, 1, 0, 1]
    for entry in (GramClassifier, GramTokenizer, GramPretrainer, GramRestorer):
        with pytest.raises(ValueError, match="script.pth .*TorchScript"):
            entry(checkpoint=str(tmp_path / "script.pth")).fit(X, y)
    assert not (tmp_path / "executed").exists()


def test_every_hostile_file_is_refused_by_name(tmp_path):
    for name, path in hostile_checkpoints(tmp_path).items():
        file = re.escape(pathlib.Path(path).name)
        network = torch.nn.Linear(2, 2)
        with pytest.raises(ValueError, match=f"checkpoint: .*({file}|does not fit Linear)"):
            load_checkpoint(network, path)
            pytest.fail(f"{name} was loaded")
        with pytest.raises(ValueError, match=f"path: .*{file}"):
            skeeg.load(path)
            pytest.fail(f"{name} was loaded")
    assert not (tmp_path / EXECUTED).exists()


@pytest.mark.parametrize(
    ("Estimator", "name", "message"),
    [
        (CTAdaptTLClassifier, "mirepnet-small", "holds no CTAdaptTLNet .it lacks temporal.weight"),
        (MIRepNetClassifier, "ct-adapttl-executed", "holds no MIRepNet .it lacks embedding.conv1.weight"),
        (NetworkClassifier, "mirepnet-small", "holds no EEGNet .it describes embed_dim"),
    ],
)
def test_weights_of_another_network_are_named(Estimator, name, message):
    X = EEGArray(np.random.default_rng(0).normal(size=(8, 3, 200)), ("C3", "Cz", "C4"), 100.0)
    with pytest.raises(ValueError, match=f"checkpoint: skeeg:{name} {message}"):
        Estimator(checkpoint=f"skeeg:{name}").fit(X, ["left_hand", "right_hand"] * 4)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("Estimator", public_estimators(), ids=lambda cls: cls.__name__)
def test_every_estimator_refuses_hostile_files(Estimator):
    names = ("a script", "a call", "a dict that contains itself", "another network", "nan", "a directory", "text",
             "an estimator of great n_chans", "an estimator of nan", "an estimator of nothing")  # fmt: skip
    table = attack_files([instance(Estimator)], names)
    assert not table.failures, str(table)


def test_no_file_is_unpickled_by_torch_anywhere():
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        assert "weights_only" not in text and "torch.load" not in text, path
    unpickles = {path.name for path in PACKAGE.rglob("*.py") if "Unpickler" in path.read_text()}
    assert unpickles == {"checkpoints.py"}


def test_objects_of_a_file_are_neither_imported_nor_called(tmp_path):
    torch.save({"a": torch.ones(2), "b": torch.zeros(3, 2).T}, tmp_path / "plain.pt")
    state, _ = read_weights(tmp_path / "plain.pt")
    assert state["a"].tolist() == [1, 1] and state["b"].shape == (2, 3)


def test_no_estimator_starts_from_part_of_a_checkpoint(tmp_path):
    random = np.random.default_rng(0)
    X, y = random.normal(size=(8, 3, 200)), np.repeat(["a", "b"], 4)
    sizes = {"n_branches": 2, "channels": (8, 8), "kernel_sizes": (3,), "strides": (8,)}
    small = {"recipe": "published", "network_params": sizes, "window": 160, "max_epochs": 1}
    beira = BEIRARegressor(**small).fit(X, random.normal(size=(8, 2, 200)))
    save_file(beira.module_.state_dict(), tmp_path / "beira.safetensors")
    path = str(tmp_path / "beira.safetensors")
    with pytest.raises(ValueError, match="does not fit SharedBEIRA .*unexpected"):
        BEIRARegressor(**small, network="shared", checkpoint=path).fit(X, random.normal(size=(8, 2, 200)))
    with pytest.raises(ValueError, match=f"checkpoint: {path} holds no CTAdaptTLNet .*temporal.weight"):
        CTAdaptTLClassifier(checkpoint=path).fit(X, y)


# Saved estimators


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    X, y = np.random.default_rng(0).normal(size=(8, 3, 128)), np.repeat(["left", "right"], 4)
    path = tmp_path_factory.mktemp("saved") / "clf.skeeg"
    NetworkClassifier("EEGNet", max_epochs=1, random_state=0).fit(X, y).save(path)
    return path


def changed(path, to, change, edit_tensors=None):
    """Copy of a saved estimator whose JSON or tensors were changed."""
    with safe_open(path, framework="numpy") as file:
        document = json.loads(file.metadata()["skeeg"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(document)
    (edit_tensors or (lambda tensors: None))(tensors)
    numpy_save(tensors, to, metadata={"skeeg": json.dumps(document)})
    return to


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_chans", 60_000_000),
        ("n_outputs", 10**12),
        ("n_times", 60_000_000),
        ("F1", 10**9),
        ("F1", 10**5),
        ("D", 10**6),
    ],
)
def test_sizes_are_compared_before_anything_is_built(saved, tmp_path, name, value):
    def change(document):
        state = dict(document["fitted"]["network_"]["part"][1]["dict"])
        pairs = state["spec"]["dict"]
        if name in dict(pairs):
            next(pair for pair in pairs if pair[0] == name)[1] = value
        else:
            next(pair for pair in pairs if pair[0] == "parameters")[1] = {"dict": [[name, value]]}

    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="bad.skeeg does not hold a fitted estimator"):
        skeeg.load(changed(saved, tmp_path / "bad.skeeg", change))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kilobytes


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda document: document["fitted"].pop("classes_"), "classes_ is missing"),
        (
            lambda document: document["fitted"].update(
                classes_={"strings": ["a" * 10**5] + ["b"] * 10**5, "shape": [-1]}
            ),
            "strings of together more than",
        ),
        (lambda document: document["fitted"].update(classes_={}), "not enough values"),
        (lambda document: document.pop("fitted"), "KeyError: 'fitted'"),
    ],
)
def test_a_damaged_estimator_is_refused_with_its_cause(saved, tmp_path, change, told):
    with pytest.raises(ValueError, match=f"bad.skeeg does not hold a fitted estimator.*{told}"):
        skeeg.load(changed(saved, tmp_path / "bad.skeeg", change))


def test_nested_json_directories_and_weights_that_are_not_finite(saved, tmp_path):
    deep = '{"skeeg": ' + json.dumps("[" * 100_000 + "]" * 100_000) + "}"
    numpy_save({"a": np.zeros(1)}, tmp_path / "deep", metadata=json.loads(deep))
    with pytest.raises(ValueError, match="deep does not hold a fitted estimator .*RecursionError"):
        skeeg.load(tmp_path / "deep")
    with pytest.raises(ValueError, match="is not a safetensors file"):
        skeeg.load(tmp_path)

    def spoil(tensors):
        tensors[next(name for name in tensors if name.endswith("final_layer.conv_classifier.weight"))][:] = np.nan

    with pytest.raises(ValueError, match=r"NetworkState.tensors.*weight is not finite"):
        skeeg.load(changed(saved, tmp_path / "nan", lambda document: None, spoil))


# Runs


def test_a_damaged_run_is_refused(tmp_path):
    net = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    state = optimizer.state_dict()
    tensors = {f"weights.{name}": value for name, value in net.state_dict().items()}
    tensors |= {f"optimizer.{i}.{name}": one for i, found in state["state"].items() for name, one in found.items()}
    header = {"key": "key", "seed": 0, "history": [], "groups": state["param_groups"], "names": sorted(tensors)}
    path = tmp_path / "run"
    write_weights(path, tensors, header)
    assert read_run(path, "key")[1]["groups"][0]["lr"] == state["param_groups"][0]["lr"]
    whole = path.read_bytes()
    path.write_bytes(whole[:-20] + bytes([whole[-20] ^ 1]) + whole[-19:])
    with pytest.raises(ValueError, match="run_file: .*run could not be read .*checksum"):
        read_run(path, "key")
    path.write_bytes(whole.replace(b'\\"seed\\": 0', b'\\"seed\\": 1'))
    with pytest.raises(ValueError, match="run_file: .*run could not be read .*checksum"):
        read_run(path, "key")
    path.write_bytes(whole)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    without = {name: value for name, value in tensors.items() if "optimizer" not in name}
    save_file(without, path, metadata)
    with pytest.raises(ValueError, match="run_file: .*run could not be read .*damaged, its checksum"):
        read_run(path, "key")
    metadata.pop("checksum")
    save_file(tensors, path, metadata)
    with pytest.raises(ValueError, match="run_file: .*run could not be read .*no checksum"):
        read_run(path, "key")
    torch.save({"model": tensors, **header}, path)
    with pytest.raises(ValueError, match="run_file: .*run could not be read"):
        read_run(path, "key")
    write_weights(path, without, header)
    with pytest.raises(ValueError, match="run_file: .*run lacks optimizer.0.exp_avg"):
        read_run(path, "key")
    write_weights(path, tensors | {"weights.bias": torch.tensor([0.0, np.nan])}, header)
    with pytest.raises(ValueError, match="run_file: .*the tensor weights.bias is not finite"):
        read_run(path, "key")


# Sizes


def test_sizes_come_from_the_file_and_contradictions_are_named(tmp_path):
    X, y = EEGArray(np.random.default_rng(0).normal(size=(8, 3, 200)), ("C3", "Cz", "C4"), 250), ["a", "b"] * 4
    sizes = {"embed_dim": 12, "n_layers": 1, "n_heads": 3, "n_filters_time": 4, "n_filters": 6, "pool_length": 50}
    fast = {"max_epochs": 1, "template": None, "device": "cpu"}
    pretrainer = MIRepNetPretrainer(network_params={**sizes, "decoder_layers": 1}, **fast).fit(X, y)
    pretrainer.save_checkpoint(tmp_path / "own.safetensors")
    path = str(tmp_path / "own.safetensors")
    fitted = MIRepNetClassifier(checkpoint=path, **fast).fit(X, y)
    assert {name: fitted.network_spec_["parameters"][name] for name in sizes} == sizes
    again = MIRepNetPretrainer(checkpoint=path, **fast).fit(X, y)
    assert again.network_spec_["parameters"] == pretrainer.network_spec_["parameters"]
    for name, value in {"embed_dim": 24, "n_layers": 2, "n_heads": 2, "pool_length": 75}.items():
        with pytest.raises(ValueError, match=f"{name}: got {value}, the checkpoint has {sizes[name]}"):
            MIRepNetClassifier(checkpoint=path, **fast, network_params={name: value}).fit(X, y)
    description = read_weights(path)[1]
    assert description["sfreq"] == 250 and description["classes"] == ["a", "b"]
    torch.save(published_state(pretrainer.module_), tmp_path / "published.pth")
    with pytest.raises(ValueError, match="n_heads: embed_dim=12 cannot be split into 8"):  # no shape tells the heads
        MIRepNetClassifier(checkpoint=str(tmp_path / "published.pth"), **fast).fit(X, y)
    heads = {"n_heads": 3, "pool_length": 50}
    told = {"checkpoint": str(tmp_path / "published.pth"), "network_params": heads}
    assert MIRepNetClassifier(**told, **fast).fit(X, y).checkpoint_report_.startswith("28 tensors matched")


def test_gram_takes_its_sizes_from_the_file(tmp_path):
    X, y = EEGArray(np.random.default_rng(0).normal(size=(8, 3, 64)), ("C3", "Cz", "C4"), 200), ["a", "b"] * 4
    sizes = {"n_filters": 8, "n_layers": 2, "n_heads": 4, "decoder_dim": 16, "decoder_layers": 1}
    fast = {"max_epochs": 0, "device": "cpu"}
    tokenizer = GramTokenizer("tiny", network_params={"n_codes": 16, "patch_length": 16}, max_epochs=1, device="cpu")
    pretrainer = GramPretrainer(tokenizer, "tiny", network_params=sizes, **fast).fit(X)
    for name in ("own.safetensors", "own.pth"):
        path = str(tmp_path / name)
        pretrainer.save_checkpoint(path)
        clf = GramClassifier(checkpoint=path, **{**fast, "max_epochs": 1}).fit(X, y)
        assert clf.module_.sizes.n_heads == 4 and clf._recipe().learning_rate == 1e-3
        assert GramPretrainer(checkpoint=path, **fast).fit(X).module_.sizes == pretrainer.module_.sizes
        assert GramTokenizer(checkpoint=path, **fast).fit(X).module_.sizes == pretrainer.module_.vqgan.sizes
        for asked in ({"network_params": {"n_heads": 2}}, {"size": "base"}):
            with pytest.raises(ValueError, match=r"n_\w+: got \d.*, the checkpoint has"):
                GramClassifier(checkpoint=path, **{**fast, "max_epochs": 1}, **asked).fit(X, y)


def test_a_description_cannot_ask_for_more_than_its_tensors(tmp_path):
    X, y = EEGArray(np.random.default_rng(0).normal(size=(4, 2, 200)), ("C3", "C4"), 200), ["a", "b"] * 2
    state = published_state(Gram(2, 2, n_times=200, channels=(1, 2), size="tiny"))
    for change in ({"n_layers": 10**9}, {"n_layers": 10**5, "fused": [99_999]}, {"decoder_dim": 10**12}):
        parameters = {"sizes": {**dataclasses.asdict(SIZES["tiny"]), **change}}
        write_weights(tmp_path / "great.safetensors", state, {"network": "Gram", "network_params": parameters})
        with pytest.raises(ValueError, match="account for|mean nothing"):
            GramClassifier(checkpoint=str(tmp_path / "great.safetensors")).fit(X, y)


def test_beira_and_ct_adapttl_take_their_sizes_from_the_file(tmp_path):
    random = np.random.default_rng(0)
    X, targets, y = random.normal(size=(8, 3, 200)), random.normal(size=(8, 2, 200)), np.repeat(["a", "b"], 4)
    sizes = {"n_branches": 2, "channels": (8, 8), "kernel_sizes": (3,), "filter_length": 21}
    strides, fast = {"strides": (8,)}, {"window": 160, "max_epochs": 1, "n_restarts": 1}  # these no shape tells
    state = BEIRARegressor(network_params=sizes | strides, **fast).fit(X, targets).module_.state_dict()
    save_file(state, tmp_path / "beira.safetensors")
    settings = {**fast, "checkpoint": str(tmp_path / "beira.safetensors")}
    fitted = BEIRARegressor(network_params=strides, **settings).fit(X, targets)
    assert fitted.network_spec_["parameters"].items() >= sizes.items()
    with pytest.raises(ValueError, match="n_branches: got 3, the checkpoint has 2"):
        BEIRARegressor(network_params=strides | {"n_branches": 3}, **settings).fit(X, targets)
    fast = {"max_epochs": 1, "pretrain_params": {"n_folds": 0}}
    first = CTAdaptTLClassifier(network_params={"n_filters": 4, "pool_length": 30}, **fast).fit(X, y)
    first.save_checkpoint(tmp_path / "own.safetensors")
    settings = {**fast, "checkpoint": str(tmp_path / "own.safetensors")}
    clf = CTAdaptTLClassifier(**settings).fit(X, y)
    assert clf.network_spec_["parameters"].items() >= first.network_spec_["parameters"].items()
    with pytest.raises(ValueError, match="pool_length: got 50, the checkpoint has 30"):
        CTAdaptTLClassifier(**settings, network_params={"pool_length": 50}).fit(X, y)


@pytest.mark.parametrize("cls", [BEIRA, SharedBEIRA])
def test_shapes_tell_the_sizes_of_beira(cls):
    sizes = {"n_branches": 3, "filter_length": 21, "envelope_length": 11, "channels": (8, 12, 16)}
    sizes |= {"kernel_sizes": (5, 3), "decoder_reduce": 2, "unmixing_norm_affine": True}
    state = cls(n_chans=4, n_outputs=2, strides=(4, 2), **sizes).state_dict()
    assert read_sizes(cls, state, {}) == sizes
    with pytest.raises(ValueError, match=f"checkpoint: it holds no {cls.__name__}"):
        read_sizes(cls, {"weight": torch.ones(2)}, {})


def test_any_network_takes_its_sizes_from_the_file(tmp_path):
    X, y = np.random.default_rng(0).normal(size=(8, 3, 200)), np.repeat(["a", "b"], 4)
    net = CTAdaptTLNet(2, 3, n_times=200, n_filters=4, n_hidden=5)
    torch.save({old: net.state_dict()[new] for old, new in CT_KEYS.items()}, tmp_path / "published.pt")
    first = NetworkClassifier("EEGNet", {"F1": 4, "D": 1}, max_epochs=1).fit(X, y)
    write_weights(tmp_path / "own.safetensors", first.module_.state_dict(), describe(first))
    for network, file, param in ((CTAdaptTLNet, "published.pt", "n_filters"), ("EEGNet", "own.safetensors", "F1")):
        settings = {"network": network, "checkpoint": str(tmp_path / file), "max_epochs": 1}
        clf = NetworkClassifier(**settings).fit(X, y)
        assert clf.network_spec_["parameters"][param] == 4
        with pytest.raises(ValueError, match=f"{param}: got 8, the checkpoint has 4"):
            NetworkClassifier(**settings, network_params={param: 8}).fit(X, y)


def test_weights_are_files_like_any_other(tmp_path):
    write_weights(tmp_path / "net.safetensors", {"weight": torch.ones(2)}, {})
    (tmp_path / "other").write_text("")
    assert (tmp_path / "net.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_folder_in_the_form_of_the_hub_is_a_checkpoint(tmp_path, monkeypatch):
    X, y = (
        EEGArray(np.random.default_rng(0).normal(size=(12, 3, 400)), ("C3", "Cz", "C4"), 100),
        np.resize(["a", "b"], 12),
    )
    clf = skeeg.NetworkClassifier("EEGNet", {"F1": 4}, max_epochs=1, random_state=0).fit(X, y)
    save_file(clf.module_.state_dict(), tmp_path / "model.safetensors")
    again = clone(clf).set_params(checkpoint=str(tmp_path)).fit(X, y)
    assert "matched" in again.checkpoint_report_
    asked = []

    def download(repository, file):
        asked.append((repository, file))
        if file == "config.json":
            raise FileNotFoundError(file)
        return tmp_path / "model.safetensors"

    errors = types.SimpleNamespace(EntryNotFoundError=FileNotFoundError)
    fake = types.SimpleNamespace(hf_hub_download=download, errors=errors)
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
    read_weights("hub:someone/network")
    read_weights("hub:someone/network/other.safetensors")
    files = ["config.json", "model.safetensors", "other.safetensors"]
    assert asked == [("someone/network", file) for file in files]


def test_networks_are_saved_and_loaded_as_those_of_braindecode(tmp_path):
    pytest.importorskip("huggingface_hub")
    X, y = (
        EEGArray(np.random.default_rng(0).normal(size=(12, 3, 300)), ("C3", "Cz", "C4"), 100),
        np.resize(["a", "b"], 12),
    )
    clf = skeeg.MIRepNetClassifier("skeeg:mirepnet-small", max_epochs=1, random_state=0).fit(X, y)
    clf.module_.save_pretrained(tmp_path)
    again, x = MIRepNet.from_pretrained(tmp_path), torch.randn(2, 45, 300)
    torch.testing.assert_close(again.eval()(x), clf.module_.eval()(x), rtol=0, atol=1e-6)  # one pools in its fast form
    from_folder = clone(clf).set_params(checkpoint=str(tmp_path)).fit(X, y)
    assert from_folder.checkpoint_report_.startswith("44 tensors matched")
    assert from_folder.rate_ == 100 and from_folder.network_spec_["parameters"] == clf.network_spec_["parameters"]


def test_another_activation_in_a_config_is_told(tmp_path):
    pytest.importorskip("huggingface_hub")
    X, y = (
        EEGArray(np.random.default_rng(0).normal(size=(30, 3, 300)), ("C3", "Cz", "C4"), 100),
        np.resize(["a", "b"], 30),
    )
    module = EEGNet(n_chans=3, n_outputs=2, n_times=300, activation=torch.nn.ReLU)
    module.save_pretrained(tmp_path)
    clf = skeeg.NetworkClassifier("EEGNet", checkpoint=str(tmp_path), max_epochs=1)
    with pytest.warns(UserWarning, match="its activation is torch.nn.modules.activation.ReLU, which is not imported"):
        clf.fit(X, y)


@pytest.mark.parametrize("config", ["[]", '{"sfreq": -5}', '{"sfreq": NaN}', '{"sfreq": "x"}'])
def test_a_config_that_is_none_is_refused(config, tmp_path):
    save_file({"weight": torch.ones(2)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(ValueError, match=r"its config\.json (is no dict|has the sampling rate)"):
        read_weights(tmp_path)
