import numpy as np
import pytest
import torch

from skeeg.methods.ct_adapttl.network import CTAdaptTLNet
from skeeg.methods.ct_adapttl.training import (
    LAYERS,
    check_layers,
    layer_rates,
    only_trainable,
    reestimate_norm,
)


@pytest.fixture
def net():
    torch.manual_seed(0)
    return CTAdaptTLNet(2, 3, n_times=120, n_filters=4, n_hidden=5)


def test_layers_are_all_of_the_network(net):
    assert {name.split(".")[0] for name, _ in net.named_parameters()} == set(LAYERS)


@pytest.mark.parametrize("wrong", ["head", ("norm", "x"), ()])
def test_unknown_layers(wrong):
    with pytest.raises(ValueError, match="layers: got"):
        check_layers(wrong)


def test_rates_fall_towards_the_input(net):
    rates = [group["lr"] for group in layer_rates(LAYERS, 1.0, 0.5)(net)]
    assert rates == [1 / 16, 1 / 8, 1 / 4, 1 / 2, 1]
    assert sum(len(group["params"]) for group in layer_rates(LAYERS, 1.0, 0.5)(net)) == len(list(net.parameters()))


def test_only_trainable_leaves_the_network_as_it_was(net):
    with pytest.raises(RuntimeError), only_trainable(net, ("hidden",), freeze_norm=True):
        assert [n for n, p in net.named_parameters() if p.requires_grad] == ["hidden.weight", "hidden.bias"]
        assert net.train().training and not net.norm.training
        raise RuntimeError
    assert all(p.requires_grad for p in net.parameters()) and net.train().norm.training


def test_statistics_are_those_of_all_trials(net):
    data = np.random.default_rng(0).normal(3.0, 7.0, size=(150, 3, 120)).astype("float32")  # several batches, an offset
    reestimate_norm(net, data)
    with torch.no_grad():
        filtered = net.front(torch.from_numpy(data)).double()
    np.testing.assert_allclose(net.norm.running_mean, filtered.mean(dim=(0, 2)), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(net.norm.running_var, filtered.var(dim=(0, 2)), rtol=1e-5)
