import pytest
import torch
import torch.nn.functional as F
from torch import nn

from skeeg.networks import exact_convolutions
from skeeg.networks.exact import conv2d_as_conv1d


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
