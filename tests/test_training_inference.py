import copy
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from skeeg import NetworkClassifier
from skeeg.networks import accelerate, build_network
from skeeg.training.inference import head_features, on_device, run_batches

NAMES = ["Fp1", "Fp2", "F3", "F4", "C3", "C4", "P3", "P4", "O1", "O2", "Fz", "Cz", "Pz"]


class Nested(nn.Module):
    """Its last layer lies within another."""

    def __init__(self):
        super().__init__()
        self.body = nn.LSTM(3, 4, batch_first=True)
        self.top = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 2))

    def forward(self, x):
        return self.top(self.body(x.mT)[0][:, -1])


def contents(module):
    """Everything that the parts of a network hold, by identity."""
    return [(path, key, id(value)) for path, layer in module.named_modules() for key, value in vars(layer).items()] + [
        (path, part, id(value))
        for path, layer in module.named_modules()
        for held in (layer._modules, layer._parameters, layer._buffers, layer._forward_pre_hooks)
        for part, value in held.items()
    ]


def test_a_network_is_copied_to_a_device_and_stays_where_it_is():
    module = Nested().eval()
    module.body.weight_ih_l0.requires_grad_(False)
    before = contents(module)
    there = on_device(module, "meta")
    assert {one.device.type for one in (*there.parameters(), *there.buffers())} == {"meta"}
    assert {one.device.type for one in (*module.parameters(), *module.buffers())} == {"cpu"}
    assert [p.requires_grad for p in there.parameters()] == [p.requires_grad for p in module.parameters()]
    assert there(torch.zeros(5, 3, 7, device="meta")).shape == (5, 2)
    assert on_device(module, "cpu") is module
    assert contents(module) == before


def test_batches_are_those_of_the_whole():
    module, X = Nested().double().eval(), np.random.default_rng(0).normal(size=(7, 3, 9))
    wanted = module(torch.from_numpy(X)).detach()
    for size in (1, 3, 7, 50):
        torch.testing.assert_close(run_batches(module, X, size, "cpu"), wanted)
    doubled = run_batches(module, X, 3, "cpu", [torch.tensor(2.0)], lambda net, x, factor: net(x) * factor)
    torch.testing.assert_close(doubled, 2 * wanted)


def test_features_are_the_input_of_a_last_layer_wherever_it_is():
    module, x = Nested().eval(), torch.randn(5, 3, 9)
    before = contents(module)
    with torch.no_grad():
        wanted = module.top[0](module.body(x.mT)[0][:, -1])
    np.testing.assert_allclose(head_features(module, x, 2, "top.1"), wanted, rtol=1e-5)
    assert contents(module) == before


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name",
    ["ADFCNN", "BIOT", "DeepSleepNet", "EEGConformer", "EEGNet", "InterpolatedBIOT", "ShallowFBCSPNet"],
)
def test_features_of_networks_are_taken_without_a_change(name):
    module = build_network(name, n_chans=13, n_times=1000, n_outputs=2, sfreq=200.0, ch_names=NAMES)
    module, x, seen = accelerate(module.eval()), torch.randn(2, 13, 1000), []
    twin = copy.deepcopy(module)
    twin.final_layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        module(x), twin(x)
    before = contents(module)
    np.testing.assert_array_equal(head_features(module, x), seen[0].flatten(1))
    assert contents(module) == before


def test_networks_with_several_last_layers_have_no_features_of_one():
    X, y = np.random.default_rng(0).normal(size=(8, 3, 512)), np.arange(8) % 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        clf = NetworkClassifier("ATCNet", max_epochs=1, sfreq=128, device="cpu").fit(X, y)
    with pytest.raises(ValueError, match="network: ATCNet has 4 last layers"):
        clf.transform(X)
