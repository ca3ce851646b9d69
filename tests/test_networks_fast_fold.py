import pickle

import pytest
import torch
from torch import nn

from skeeg.networks import build_network, fold

NAMES = [
    "EEGNet",
    "ShallowFBCSPNet",
    "Deep4Net",
    "EEGConformer",
    "ADFCNN",
    "FBCNet",
    "ATCNet",
    "CTNet",
    "EEGNeX",
    "TIDNet",
]


def trained(name, n_chans=4, n_times=500):
    """A network whose batch norms and constraints are away from where they start."""
    torch.manual_seed(0)
    module = build_network(name, n_chans=n_chans, n_times=n_times, n_outputs=3, sfreq=100.0)
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
            if layer.weight is not None:
                nn.init.uniform_(layer.weight, 0.5, 2)
                nn.init.normal_(layer.bias)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(1.5)
    return module


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_those_in_evaluation(name):
    module = trained(name).double()
    state = {key: value.clone() for key, value in module.state_dict().items()}
    folded = fold(module)
    assert module.training and all(torch.equal(value, state[key]) for key, value in module.state_dict().items())
    module.eval()
    for n_trials in (1, 5):
        x = torch.randn(n_trials, 4, 500, dtype=torch.float64)
        torch.testing.assert_close(folded(x), module(x), atol=1e-9, rtol=1e-9)
    module(x).sum().backward()  # the original still trains: nothing of it was shared


def test_folding_leaves_nothing_to_train_and_can_be_pickled():
    module = trained("EEGNet")
    folded = fold(module)
    assert not any(isinstance(layer, (nn.BatchNorm2d, nn.Dropout)) for layer in folded.modules())
    assert not any(parameter.requires_grad for parameter in folded.parameters())
    x = torch.randn(1, 4, 500)
    assert not folded(x).requires_grad
    assert torch.equal(pickle.loads(pickle.dumps(folded))(x), folded(x))


def test_one_trial_equals_the_trial_in_a_batch():
    folded = fold(trained("EEGNet"))
    x = torch.randn(6, 4, 500)
    torch.testing.assert_close(torch.cat([folded(trial[None]) for trial in x]), folded(x), atol=1e-5, rtol=1e-5)
