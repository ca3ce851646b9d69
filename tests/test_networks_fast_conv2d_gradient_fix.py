import pytest
import torch
import torch.nn.functional as F
from torch import nn

from skeeg.networks import accelerate, build_network, exact_convolutions, guard
from skeeg.networks.fast.conv2d_gradient_fix import conv2d_as_conv1d, gradient_is_wrong


@pytest.mark.parametrize("width", [2, 3, 16])
@pytest.mark.parametrize("planes", [1, 2])
@pytest.mark.parametrize("geometry", [{}, {"stride": 2}, {"padding": (3, 0), "dilation": (2, 1)}, {"padding": "valid"}])
def test_rewritten_convolutions_give_the_same_numbers(width, planes, geometry):
    x = torch.randn(2, planes, 30, width, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(5, planes, 4, width, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(5, dtype=torch.float64, requires_grad=True)
    plain = F.conv2d(x, weight, bias, **geometry)
    rewritten = conv2d_as_conv1d(x, weight, bias, **geometry)
    torch.testing.assert_close(rewritten, plain)
    grads = (torch.autograd.grad(y.square().sum(), (x, weight, bias)) for y in (rewritten, plain))
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    "x, weight, geometry",
    [
        ((2, 1, 30, 16), (5, 1, 4, 15), {}),
        ((2, 1, 30, 1), (5, 1, 4, 1), {}),
        ((2, 1, 30, 16), (5, 1, 4, 16), {"padding": 1}),
        ((2, 1, 30, 31), (5, 1, 4, 31), {"padding": "same"}),
        ((2, 2, 30, 16), (4, 1, 4, 16), {"groups": 2}),
        ((2, 4, 1, 16), (4, 4, 1, 16), {}),
    ],
)
def test_other_convolutions_are_left_alone(x, weight, geometry):
    assert conv2d_as_conv1d(torch.zeros(x), torch.zeros(weight), **geometry) is None
    with exact_convolutions():
        guarded = F.conv2d(torch.ones(x), torch.ones(weight), **geometry)
    assert torch.equal(guarded, F.conv2d(torch.ones(x), torch.ones(weight), **geometry))


class Counter(torch.overrides.TorchFunctionMode):
    """Count the convolutions that come through."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.seen.append(func)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("planes", [1, 3, 4, 16])
@pytest.mark.parametrize("width", [15, 31])
def test_gradients_of_dense_kernels_are_right(planes, width):
    x, weight = torch.randn(8, planes, 1, width), torch.randn(5, planes, 1, width)
    grads = []
    for dtype in (torch.float32, torch.float64):
        parameter = weight.to(dtype, copy=True).requires_grad_()
        with exact_convolutions():
            F.conv2d(x.to(dtype), parameter).square().sum().backward()
        grads.append(parameter.grad.double())
    torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-3)


def test_the_guard_sees_layers_functions_and_keywords_alike():
    x, layer = torch.randn(2, 1, 30, 16), nn.Conv2d(1, 5, (4, 16))
    with Counter() as counter, exact_convolutions():
        results = [
            layer(x),
            F.conv2d(x, layer.weight, layer.bias),
            F.conv2d(input=x, weight=layer.weight, bias=layer.bias),
        ]
    assert counter.seen.count(torch.conv2d) == 0 and counter.seen.count(torch.conv1d) == 3
    for result in results:
        torch.testing.assert_close(result, layer(x), atol=1e-5, rtol=1e-5)


def test_backward_may_run_outside_and_bfloat16_works():
    x, layer = torch.randn(2, 1, 30, 16), nn.Conv2d(1, 5, (4, 16))
    with exact_convolutions():
        y = layer(x)
    y.sum().backward()
    assert layer.weight.grad is not None
    with exact_convolutions(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(x).dtype is torch.bfloat16


class Branch(nn.Module):
    """Calls a convolution over all columns in training only, keeps count, and drops out."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 1, 5, 16))
        self.norm, self.drop = nn.BatchNorm2d(1), nn.Dropout()

    def forward(self, x):
        x = self.drop(self.norm(x))
        return F.conv2d(x, self.weight) if self.training else x


@pytest.fixture
def faulty(monkeypatch):
    """A processor whose gradients are wrong at 14 to 19 columns."""
    monkeypatch.setattr(
        "skeeg.networks.fast.conv2d_gradient_fix.gradient_is_wrong", lambda planes, height, width: 14 <= width <= 19
    )


def test_the_guard_is_chosen_by_a_trial_pass_that_changes_nothing(faulty):
    module, x = Branch().eval(), torch.randn(2, 1, 30, 16)
    module.norm.train()
    state, buffers = torch.random.get_rng_state(), {k: v.clone() for k, v in module.state_dict().items()}
    assert isinstance(guard(module, x), exact_convolutions)
    assert not module.training and module.norm.training and not module.drop.training
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(value, buffers[key]) for key, value in module.state_dict().items())
    assert isinstance(guard(module, torch.randn(3)), exact_convolutions)


@pytest.mark.parametrize("n_chans", [16, 22])
@pytest.mark.parametrize("name", ["EEGNet", "ShallowFBCSPNet", "Deep4Net", "SCCNet"])
def test_accelerated_networks_and_right_gradients_need_no_guard(faulty, name, n_chans):
    module, x = (
        build_network(name, n_chans=n_chans, n_times=500, n_outputs=2, sfreq=100.0),
        torch.randn(2, n_chans, 500),
    )
    wrong = n_chans == 16 and name in ("ShallowFBCSPNet", "Deep4Net")
    assert isinstance(guard(module, x), exact_convolutions) == wrong
    assert not isinstance(guard(accelerate(module), x), exact_convolutions)


def test_the_guard_runs_nothing_where_gradients_are_right(monkeypatch):
    module, x = Branch(), torch.randn(2, 1, 30, 16)
    monkeypatch.setattr(module, "forward", lambda x: pytest.fail("the module ran"))
    guard(module, x.double())
    monkeypatch.setattr("skeeg.networks.fast.conv2d_gradient_fix.gradient_is_wrong", lambda *sizes: False)
    guard(module, x)


def test_the_test_of_the_processor_agrees_with_its_gradients():
    x, kernel, grads = torch.randn(8, 1, 100, 16), torch.randn(16, 1, 10, 16), []
    for dtype in (torch.float32, torch.float64):
        parameter = kernel.to(dtype, copy=True).requires_grad_()
        F.conv2d(x.to(dtype), parameter).square().sum().backward()
        grads.append(parameter.grad.double())
    assert gradient_is_wrong(1, 10, 16) == (not torch.allclose(*grads, rtol=1e-2, atol=1.0))
    assert not gradient_is_wrong(1, 10, 30)
