"""What braindecode's tests ask of each of its networks, asked of skeeg's after `register_with_braindecode`.

The tests are not in braindecode's package, so they are written again here, over the tables that are. Where one makes no
sense for a network, `EXCUSED` says why.
"""

import copy
import inspect
import json
import pickle
import warnings

import mne
import numpy as np
import pytest
import torch
from braindecode import EEGClassifier
from braindecode.models import util
from skorch.dataset import ValidSplit
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from skeeg.networks import get_network, register_with_braindecode

# Signal parameters that each network cannot be built without.
REQUIRED = {
    "ADFCNN": ["n_chans", "n_outputs", "n_times"],
    "BEIRA": ["n_chans", "n_outputs"],
    "BEIRAManyToOne": ["n_chans", "n_outputs"],
    "CTAdaptTLNet": ["n_chans", "n_outputs", "n_times"],
    "Gram": ["chs_info", "n_outputs"],
    "MIRepNet": ["n_chans", "n_outputs", "n_times"],
    "SharedBEIRA": ["n_chans", "n_outputs"],
}
_SIGNALS = "gives the signals of its regions, as long as the EEG, not one score for each class"
SMALL = {"Gram": {"size": "tiny"}}  # two blocks of twelve, where each is traced
EXCUSED = {
    # torch gives TorchScript up for torch.export, which takes them all; their forward passes are not annotated for it.
    "script": dict.fromkeys(REQUIRED, "is exported, not scripted"),
    # The table is a file within braindecode's package.
    "summary_table": dict.fromkeys(REQUIRED, "is no network of braindecode's own"),
    "classifies": {"BEIRA": _SIGNALS, "SharedBEIRA": _SIGNALS},
    "reset_head": {
        "BEIRA": "a region is a network of its own, so other regions have no last layer alone to be learned",
    },
    "all_trained": {"MIRepNet": ("embedding.chan_embed.weight", "is in the published state dict, and never used")},
}


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setattr(util, "models_dict", dict(util.models_dict))
    register_with_braindecode()


def networks(test=None):
    """Parameters of a test: every network, those that are excused marked as such."""
    cases = []
    for name in REQUIRED:
        reason = EXCUSED.get(test, {}).get(name)
        marks = [] if reason is None else [pytest.mark.skip(reason=f"{name} {reason}")]
        cases.append(pytest.param(name, id=name, marks=marks))
    return cases


every_network = pytest.mark.parametrize("name", networks())


def build(name, **parameters):
    """Network by braindecode's own test signals, and two trials."""
    torch.manual_seed(0)
    signals = util._get_signal_params(None)
    needed = util._get_signal_params({}, REQUIRED[name])
    network = util._get_model_class(name)(**needed, **parameters).eval()
    return network, torch.randn(2, signals["n_chans"], signals["n_times"])


def test_the_seven_are_registered():
    assert set(register_with_braindecode()) == set(REQUIRED) <= set(util.models_dict)
    assert all(util._get_model_class(name) is get_network(name) for name in REQUIRED)


@every_network
def test_signal_parameters_in_every_combination(name):
    signals = util._get_signal_params(None)
    x = torch.randn(3, signals["n_chans"], signals["n_times"])
    for arguments in util._get_possible_signal_params(signals, REQUIRED[name]):
        with torch.no_grad():
            assert get_network(name)(**arguments).eval()(x).shape[:2] == (3, signals["n_outputs"])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", networks("classifies"))
def test_a_classifier_finds_and_trains_it_by_its_name(name):
    signals, rng = util._get_signal_params(None), np.random.default_rng(0)
    info = mne.create_info([channel["ch_name"] for channel in signals["chs_info"]], signals["sfreq"], "eeg")
    epochs = mne.EpochsArray(rng.normal(size=(10, signals["n_chans"], signals["n_times"])), info)
    clf = EEGClassifier(
        name, optimizer=torch.optim.Adam, optimizer__lr=0.0625 * 0.01, batch_size=2, max_epochs=1, classes=[0, 1],
        train_split=ValidSplit(0.2, random_state=2409), verbose=0,
    )  # fmt: skip
    clf.fit(epochs, rng.integers(2, size=10))
    assert "final_layer" in [part for part, _ in list(clf.module_.named_children())[-2:]]


@every_network
def test_the_last_layer_is_one_of_the_last_two_parts(name):
    assert "final_layer" in [part for part, _ in list(build(name)[0].named_children())[-2:]]


@every_network
def test_activation_and_dropout_are_parameters(name):
    parameters = inspect.signature(get_network(name).__init__).parameters
    activations = [parameter.default for key, parameter in parameters.items() if "activation" in key.lower()]
    assert activations and all(isinstance(one, type) and issubclass(one, nn.Module) for one in activations)
    assert any("drop_prob" in key for key in parameters)
    network, x = build(name)
    needed = util._get_signal_params({}, REQUIRED[name])
    torch.manual_seed(0)
    other = get_network(name)(**needed, activation=nn.Tanh, drop_prob=0.9).eval()
    with torch.no_grad():
        assert not torch.equal(other(x), network(x))  # they are used
        torch.manual_seed(0)
        assert not torch.equal(other.train()(x), get_network(name)(**needed, drop_prob=0.0).train()(x))


@every_network
def test_it_can_be_exported(name):
    network, x = build(name, **SMALL.get(name, {}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = torch.export.export(network, (x[:1],), strict=False)
    with torch.no_grad():
        torch.testing.assert_close(exported.module()(x[:1]), network(x[:1]))


@every_network
@pytest.mark.filterwarnings("ignore")
def test_it_can_be_compiled(name):
    network, x = build(name, **SMALL.get(name, {}))
    compiled = torch.compile(
        network, backend="aot_eager", dynamic=False
    )  # the graph, without minutes of a C++ compiler
    with torch.no_grad():
        torch.testing.assert_close(compiled(x[:1]), network(x[:1]), atol=1e-4, rtol=1e-4)


@every_network
def test_it_is_a_function_of_each_trial_alone(name):
    network, x = build(name)
    given, state = x.clone(), copy.deepcopy(network.state_dict())
    changed = torch.stack([x[0], 1 - 3 * x[1]])
    with torch.no_grad():
        outputs, swapped, other = network(x), network(x.flip(0)), network(changed)
    assert torch.equal(x, given) and torch.isfinite(outputs).all()
    torch.testing.assert_close(swapped.flip(0), outputs)
    torch.testing.assert_close(other[0], outputs[0])
    for key, value in network.state_dict().items():
        assert torch.equal(value, state[key])


@every_network
@pytest.mark.filterwarnings("ignore:Modifying chs_info")
def test_it_is_rebuilt_copied_and_pickled(name):
    network, x = build(name)
    rebuilt = type(network).from_config(json.loads(json.dumps(network.get_config()))).eval()
    rebuilt.load_state_dict(network.state_dict(), strict=True)
    with torch.no_grad():
        expected = network(x)
        for twin in (rebuilt, copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
            torch.testing.assert_close(twin(x), expected)


@every_network
def test_it_trains_after_it_was_used(name):
    network, x = build(name)
    with torch.inference_mode():
        expected = network(x)
    network.train()(x).square().mean().backward()
    unused, _ = EXCUSED["all_trained"].get(name, (None, None))
    trained = {key: p for key, p in network.named_parameters() if p.requires_grad and key != unused}
    assert [key for key, p in trained.items() if p.grad is None or not torch.isfinite(p.grad).all()] == []
    torch.optim.SGD(trained.values(), lr=1e-3).step()
    with torch.no_grad():
        after = copy.deepcopy(network).eval()(x)
    assert after.shape == expected.shape and torch.isfinite(after).all()


class _OnCPU(TorchDispatchMode):
    """Note what makes tensors on the CPU."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.ndim and not result.is_meta:
            self.found.append(str(func))
        return result


@every_network
def test_all_of_it_follows_to_a_device(name):
    network, x = build(name)
    network.to("meta")
    with torch.no_grad(), _OnCPU() as watch:
        outputs = network(x.to("meta"))
    stray = [key for part in network.modules() for key, value in vars(part).items() if torch.is_tensor(value)]
    assert outputs.is_meta and stray == [] and watch.found == []


@pytest.mark.parametrize("name", networks("reset_head"))
def test_the_last_layer_is_replaced_for_other_classes(name):
    network, x = build(name)
    network.reset_head(5)
    assert network.n_outputs == network.get_config()["n_outputs"] == 5 == network.eval()(x).shape[1]
