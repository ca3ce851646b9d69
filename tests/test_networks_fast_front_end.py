import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from skeeg.networks import accelerate
from skeeg.networks.fast.front_end import find_runs, front_end, lagged_covariance, merge_kernels, merged_conv


@given(
    n_chans=st.integers(1, 6),
    n_time=st.integers(1, 4),
    n_space=st.integers(1, 5),
    length=st.integers(1, 9),
    biases=st.tuples(st.booleans(), st.booleans()),
    left=st.integers(0, 9),
    right=st.integers(0, 9),
)
@settings(max_examples=40, deadline=None)
def test_equals_the_two_layers(n_chans, n_time, n_space, length, biases, left, right):
    torch.manual_seed(0)
    time = nn.Conv2d(1, n_time, (1, length), bias=biases[0]).double()
    space = nn.Conv2d(n_time, n_space, (n_chans, 1), bias=biases[1]).double()
    x = torch.randn(2, n_chans, 20).double()
    plain = space(time(nn.functional.pad(x, (left, right))[:, None]))[:, :, 0]
    parameters = (time.weight, time.bias, space.weight, space.bias)
    merged = merged_conv(x, *parameters, padding=(left, right))
    torch.testing.assert_close(merged, plain)
    wanted = [p for p in parameters if p is not None]
    for a, b in zip(
        torch.autograd.grad(merged.square().sum(), wanted),
        torch.autograd.grad(plain.square().sum(), wanted),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_both_orientations_of_the_weights_are_one():
    time, space = torch.randn(3, 1, 1, 5), torch.randn(4, 3, 2, 1)
    upright = merge_kernels(time, None, space, None)[0]
    lying = merge_kernels(time.transpose(2, 3), None, space.transpose(2, 3), None)[0]
    assert torch.equal(upright, lying) and upright.shape == (4, 2, 5)


# Batch statistics


@given(
    n_times=st.integers(1, 150),
    length=st.integers(1, 110),
    left=st.integers(0, 60),
    right=st.integers(0, 60),
    offset=st.sampled_from([0.0, 1e4]),
)
@settings(max_examples=40, deadline=None)
def test_lagged_covariance_gives_the_statistics_of_any_filter(n_times, length, left, right, offset):
    if n_times + left + right < length:
        return
    torch.manual_seed(0)
    x = torch.randn(3, 2, n_times, dtype=torch.float64) + offset * torch.randn(3, 2, 1, dtype=torch.float64)
    mean, covariance = lagged_covariance(x, length, (left, right))
    windows = F.pad(x, (left, right)).unfold(2, length, 1).reshape(-1, length)
    scale = windows.abs().max()
    torch.testing.assert_close(mean, windows.mean(0), atol=1e-12 * float(scale), rtol=1e-9)
    expected = (windows - windows.mean(0)).t() @ (windows - windows.mean(0)) / len(windows)
    torch.testing.assert_close(covariance, expected, atol=1e-11 * float(scale) ** 2, rtol=1e-9)


def test_lagged_covariance_of_many_trials_in_parts(monkeypatch):
    x = torch.randn(7, 3, 40)
    whole = lagged_covariance(x, 9, (4, 4))
    monkeypatch.setattr("skeeg.networks.fast.front_end._CACHED", 130)
    parts = lagged_covariance(x, 9, (4, 4))
    torch.testing.assert_close(whole, parts)


# Runs of layers in a Sequential


def chain(n_chans=5, filters=3, depth=2, length=9, *, normed=True, depthwise=True, lying=False, padding=4, **norm):
    """Temporal convolution, batch norm, spatial convolution, and something after them."""
    turn = (lambda size: size[::-1]) if lying else (lambda size: size)
    time = nn.Conv2d(1, filters, turn((1, length)), padding=padding if padding == "same" else turn((0, padding)))
    space = nn.Conv2d(filters, filters * depth, turn((n_chans, 1)), groups=filters if depthwise else 1)
    middle = [nn.BatchNorm2d(filters, **norm)] if normed else []
    return nn.Sequential(time, *middle, space, nn.Tanh()).double()


def data(lying=False, n_chans=5, requires_grad=False):
    x = torch.randn(4, 1, n_chans, 40, dtype=torch.float64) + 3
    return (x.transpose(2, 3) if lying else x).requires_grad_(requires_grad)


OPTIONS = [
    {},
    {"normed": False},
    {"depthwise": False},
    {"depthwise": False, "normed": False},
    {"lying": True},
    {"lying": True, "depthwise": False},
    {"padding": 0},
    {"padding": "same", "length": 8},
    {"affine": False},
    {"track_running_stats": False},
    {"momentum": None},
    {"n_chans": 1, "filters": 2},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("training", [True, False])
def test_a_run_trains_and_predicts_as_its_layers_do(options, training):
    plain = chain(**options)
    for layer in plain:
        if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None:
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
    plain.train(training)
    fast = accelerate(copy.deepcopy(plain), "fast")
    assert len(find_runs(plain)) == 1
    for _ in range(3):
        x = data(options.get("lying", False), options.get("n_chans", 5))
        outputs = plain(x), fast(x)
        torch.testing.assert_close(*outputs)
        grads = (
            torch.autograd.grad(y.square().sum(), m.parameters()) for y, m in zip(outputs, (plain, fast), strict=True)
        )
        for a, b in zip(*grads, strict=True):
            torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-9)
    for (name, a), b in zip(plain.state_dict().items(), fast.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, msg=name)


@pytest.fixture
def calls(monkeypatch):
    """Count the runs that are computed together."""
    seen = []
    monkeypatch.setattr("skeeg.networks.fast.front_end.front_end", lambda *args: seen.append(1) or front_end(*args))
    return seen


def test_layers_run_one_by_one_where_somebody_listens(calls):
    fast, heard = accelerate(chain(), "fast"), []
    fast(data())
    handle = fast[0].register_forward_hook(lambda *args: heard.append(1))
    fast(data())
    assert len(calls) == 1 and heard
    handle.remove()
    fast(data())
    assert len(calls) == 2


@pytest.mark.parametrize(
    "x",
    [data(n_chans=6), data().float(), data(requires_grad=True), data()[:, :, :, :0]],
    ids=["montage", "type", "gradient", "empty"],
)
def test_layers_run_one_by_one_for_other_input(calls, x):
    plain, fast = chain(), accelerate(chain(), "fast")
    for module in (plain, fast):
        try:
            module(x)
        except RuntimeError as error:
            messages = str(error)
            assert messages
    assert not calls


def test_input_gradients_are_right_in_training_and_evaluation():
    plain = chain()
    fast = accelerate(copy.deepcopy(plain), "fast")
    for mode in (True, False):
        x = data(requires_grad=True)
        a, b = (torch.autograd.grad(m.train(mode)(x).square().sum(), x)[0] for m in (plain, fast))
        torch.testing.assert_close(a, b)


def test_replaced_layers_are_noticed(calls):
    fast = accelerate(chain(), "fast")
    fast[0] = nn.Conv2d(1, 3, (1, 9), padding=(0, 4), stride=(1, 2)).double()
    assert fast(data()).shape[-1] == 20 and not calls


@pytest.mark.parametrize(
    "first",
    [
        nn.Conv2d(2, 3, (1, 9)),
        nn.Conv2d(1, 3, (3, 9)),
        nn.Conv2d(1, 3, (1, 9), stride=(1, 2)),
        nn.Conv2d(1, 3, (1, 9), padding=(1, 0)),
        nn.Conv2d(1, 3, (1, 1)),
    ],
)
def test_other_layers_are_no_run(first):
    assert find_runs(nn.Sequential(first, nn.BatchNorm2d(3), nn.Conv2d(3, 6, (5, 1), groups=3))) == ()


def test_nothing_between_but_a_batch_norm():
    time, space = nn.Conv2d(1, 3, (1, 9)), nn.Conv2d(3, 6, (5, 1))
    assert len(find_runs(nn.Sequential(time, space, time, nn.BatchNorm2d(3), space))) == 2
    for between in (nn.ELU(), nn.Dropout(), nn.BatchNorm1d(3)):
        assert find_runs(nn.Sequential(time, between, space)) == ()
    assert find_runs(nn.Sequential(time)) == find_runs(nn.Sequential()) == ()


def test_autocast_uses_the_layers(calls):
    fast = accelerate(chain().float(), "fast")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        fast(data().float()).float().sum().backward()
    assert not calls


def test_one_value_a_plane_cannot_be_normalised():
    fast = accelerate(chain(n_chans=1, length=40, padding=0), "fast")
    with pytest.raises(ValueError, match="more than 1 value"):
        fast(torch.randn(1, 1, 1, 40, dtype=torch.float64))


def test_automatic_choice_depends_on_the_shape(calls):
    small, large = accelerate(chain().float()), accelerate(chain(20, 8, 2, 64, padding=32).float())
    small(data().float())
    assert not calls
    large(torch.randn(16, 1, 20, 500))
    assert calls


def test_float32_statistics_hold_on_a_large_offset():
    torch.manual_seed(0)
    plain = chain().float()
    fast, truth = accelerate(copy.deepcopy(plain), "fast"), copy.deepcopy(plain).double()
    x = torch.randn(8, 1, 5, 200).cumsum(3) + 300
    errors = [float((module(x) - truth(x.double())).detach().abs().max()) for module in (plain, fast)]
    assert errors[1] < 3 * errors[0] + 1e-5
