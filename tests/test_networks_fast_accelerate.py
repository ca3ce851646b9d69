import copy
import pickle

import pytest
import torch
from test_gradients import CASES, build
from torch import nn
from torch.nn.utils import parametrize

from skeeg.networks import accelerate, build_network, get_network


def fast_layers(module):
    return [layer for layer in module.modules() if hasattr(layer, "_skeeg_form")]


@pytest.mark.parametrize("name", sorted(name for name in CASES if not CASES[name].single))
def test_every_network_gives_the_same_numbers_and_gradients(name):
    case = CASES[name]
    n_chans = next(n for n in (9, 16, 32, 1) if case.takes(n))
    module = build(name, n_chans).double().train()
    x = torch.randn(4, n_chans, case.n_times, dtype=torch.float64)
    buffers = copy.deepcopy({key: value for key, value in module.state_dict().items() if "running" in key})
    results = {}
    for kernels in ("plain", "fast"):
        if not buffers.keys() <= module.state_dict().keys():
            raise AssertionError("the state dict has changed")
        module.load_state_dict(buffers, strict=False)
        accelerate(module, kernels).zero_grad()
        torch.manual_seed(0)  # the fast forms draw no numbers, so dropout drops the same values
        out = module(x)
        out = out[0] if isinstance(out, tuple) else out
        out.square().sum().backward()
        grads = {key: p.grad.clone() for key, p in module.named_parameters() if p.grad is not None}
        state = {key: value.clone() for key, value in module.state_dict().items() if "running" in key}
        results[kernels] = {"out": out.detach(), **grads, **state}
    assert results["plain"].keys() == results["fast"].keys()
    for key, value in results["plain"].items():
        scale = float(value.abs().max()) + 1e-3
        torch.testing.assert_close(results["fast"][key], value, atol=1e-8 * scale, rtol=1e-7, msg=key)


@pytest.mark.parametrize("name, off", [("EEGNet", {"drop_prob": 0.0}), ("ShallowFBCSPNet", {"drop_prob": 0.0})])
@pytest.mark.parametrize("n_chans", [3, 22])
def test_twenty_steps_of_adam(name, off, n_chans):
    torch.manual_seed(0)
    plain = build_network(name, n_chans=n_chans, n_times=250, n_outputs=4, parameters=off)
    fast = accelerate(copy.deepcopy(plain), "fast")
    x, y = torch.randn(16, n_chans, 250), torch.arange(16) % 4
    losses = []
    for module in (plain, fast):
        solver = torch.optim.Adam(module.parameters(), 1e-3)
        losses.append([])
        for _ in range(20):
            solver.zero_grad()
            loss = nn.functional.cross_entropy(module(x), y)
            loss.backward()
            solver.step()
            losses[-1].append(float(loss.detach()))
    assert losses[0][-1] < 0.9 * losses[0][0]
    assert losses[1] == pytest.approx(losses[0], rel=2e-5)


@pytest.mark.parametrize("name", ["EEGNet", "ShallowFBCSPNet", "EEGConformer", "CTNet", "MSVTNet"])
def test_dropout_on_the_same_seed_trains_the_same(name):
    torch.manual_seed(0)
    plain = build_network(name, n_chans=3, n_times=500, n_outputs=2)
    fast = accelerate(copy.deepcopy(plain))
    x, y = torch.randn(16, 3, 500), torch.arange(16) % 2
    losses = []
    for module in (plain, fast):
        torch.manual_seed(1)
        solver, row = torch.optim.SGD(module.parameters(), 1e-3), []
        for _ in range(3):
            solver.zero_grad()
            loss = nn.functional.cross_entropy(module(x), y)
            loss.backward()
            solver.step()
            row.append(float(loss.detach()))
        losses.append([*row, float(torch.rand(()))])
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


@pytest.mark.parametrize("name", ["EEGNet", "ShallowFBCSPNet", "Deep4Net", "EEGConformer", "ADFCNN"])
def test_what_stays_and_what_comes_back(name):
    module = build_network(name, n_chans=4, n_times=500, n_outputs=2).eval()
    before, layers = module.state_dict(), list(module.modules())
    classes, parameters = [type(layer) for layer in layers], list(module.parameters())
    x = torch.randn(2, 4, 500)
    plain = module(x)
    assert accelerate(module, "fast") is module and fast_layers(module)
    assert isinstance(module, get_network(name)) and type(module).__name__ == name
    assert list(module.state_dict()) == list(before) and repr(module)
    assert all(a is b for a, b in zip(module.parameters(), parameters, strict=True))
    torch.testing.assert_close(module(x), plain, atol=1e-5, rtol=1e-5)
    accelerate(module, "plain")
    assert [type(layer) for layer in module.modules()] == classes and not fast_layers(module)
    assert torch.equal(module(x), plain)


@pytest.mark.parametrize("name", ["EEGNet", "ShallowFBCSPNet", "EEGConformer", "ADFCNN"])
def test_copies_and_pickles_as_before(name):
    module = build_network(name, n_chans=4, n_times=300, n_outputs=2).eval()
    x = torch.randn(2, 4, 300)
    fast = accelerate(copy.deepcopy(module), "fast")
    twin = copy.deepcopy(fast)
    assert len(fast_layers(twin)) == len(fast_layers(fast)) and torch.equal(twin(x), fast(x))
    for parameter in twin.parameters():
        parameter.data.zero_()
    assert not torch.equal(twin(x), fast(x))
    try:
        pickle.dumps(module)
    except RuntimeError:  # braindecode's own constraint: parametrized layers do not pickle
        with pytest.raises(RuntimeError, match="parametrized"):
            pickle.dumps(fast)
    else:
        loaded = pickle.loads(pickle.dumps(fast))
        assert torch.equal(loaded(x), fast(x)) and len(fast_layers(loaded)) == len(fast_layers(fast))
        assert not fast_layers(accelerate(loaded, "plain"))


def test_parametrizations_can_be_taken_off_afterwards():
    layer = parametrize.register_parametrization(nn.Conv2d(3, 6, (5, 1), groups=3), "weight", nn.Identity())
    x = torch.randn(2, 3, 5, 20)
    plain = layer(x)
    accelerate(layer)
    assert fast_layers(layer) and parametrize.is_parametrized(layer)
    torch.testing.assert_close(layer(x), plain)
    parametrize.remove_parametrizations(layer, "weight")
    assert type(layer) is nn.Conv2d
    torch.testing.assert_close(layer(x), plain)


def test_repeating_changes_the_choice_only():
    module = build_network("EEGNet", n_chans=4, n_times=300, n_outputs=2)
    classes = [type(layer) for layer in accelerate(module).modules()]
    assert [type(layer) for layer in accelerate(module, "fast").modules()][0] is classes[0]
    assert module._skeeg_kernels == "fast"
    with pytest.raises(ValueError, match="kernels must be one of 'auto', 'fast', 'plain', got 'quick'"):
        accelerate(module, "quick")


@pytest.mark.filterwarnings("error:Dynamo")
def test_compiles():
    module = accelerate(build_network("EEGNet", n_chans=4, n_times=300, n_outputs=2).eval(), "fast")
    x = torch.randn(2, 4, 300)
    torch.testing.assert_close(torch.compile(module, backend="eager")(x), module(x))
    torch._dynamo.reset()


def test_functional_transforms_see_the_plain_layers():
    module = accelerate(build_network("EEGNet", n_chans=4, n_times=300, n_outputs=2).eval(), "fast")
    state = dict(module.named_parameters()), dict(module.named_buffers())
    x = torch.randn(3, 4, 300)

    def score(parameters, trial):
        return torch.func.functional_call(module, (parameters, state[1]), (trial[None],)).sum()

    by_trial = torch.func.vmap(torch.func.grad(score), in_dims=(None, 0))(state[0], x)
    module(x).sum().backward()
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(by_trial[name].sum(0), parameter.grad, atol=1e-4, rtol=1e-4)
