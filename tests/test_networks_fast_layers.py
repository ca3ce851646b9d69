import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from skeeg.networks import accelerate
from skeeg.networks.fast.layers import (
    average_pool,
    convolve,
    depthwise_conv,
    filter_bank,
    fourier_conv,
    has_average_form,
    has_convolution_form,
    margins,
)

# A layer, the shape of its input, and whether its fast form is to be used.
CONVOLUTIONS = {
    "spans the width": (nn.Conv2d(1, 5, (4, 16)), (2, 1, 30, 16), True),
    "spans height and width": (nn.Conv2d(3, 5, (1, 31)), (2, 3, 1, 31), True),
    "spans height and width of many planes": (nn.Conv2d(4, 5, (1, 31)), (2, 4, 1, 31), False),
    "spans the height, each plane by itself": (nn.Conv2d(3, 6, (7, 1), groups=3, bias=False), (2, 3, 7, 20), True),
    "spans the height of several planes": (nn.Conv2d(3, 5, (7, 1)), (2, 3, 7, 20), True),
    "spans the width, each plane by itself": (nn.Conv2d(3, 6, (1, 7), groups=3), (2, 3, 20, 7), True),
    "long, each plane by itself": (nn.Conv2d(3, 3, (1, 17), groups=3, padding=(0, 8)), (2, 3, 2, 40), True),
    "long down the height": (nn.Conv2d(4, 4, (64, 1), padding="same"), (8, 4, 100, 5), True),
    "long from one plane": (nn.Conv2d(1, 4, (1, 50), padding=(0, 25)), (2, 1, 3, 80), True),
    "long between planes": (nn.Conv2d(4, 4, (1, 64), padding="same"), (8, 4, 5, 100), True),
    "long, each plane by itself, of one short trial": (nn.Conv2d(3, 3, (1, 17), groups=3), (1, 3, 1, 40), False),
    "long from one plane, of one short trial": (nn.Conv2d(1, 4, (1, 50)), (1, 1, 3, 80), False),
    "short between planes": (nn.Conv2d(4, 4, (1, 3)), (2, 4, 5, 40), False),
    "short from one plane": (nn.Conv2d(1, 4, (1, 5)), (2, 1, 5, 40), False),
    "strided": (nn.Conv2d(1, 4, (1, 50), stride=(1, 2)), (2, 1, 3, 80), False),
    "dilated": (nn.Conv2d(1, 4, (1, 50), dilation=(1, 2)), (2, 1, 3, 180), False),
    "padded across": (nn.Conv2d(1, 4, (1, 50), padding=(1, 0)), (2, 1, 3, 80), False),
    "square": (nn.Conv2d(4, 4, 3), (2, 4, 9, 9), False),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_give_the_same_numbers_and_gradients(name):
    layer, shape, used = CONVOLUTIONS[name]
    layer = copy.deepcopy(layer).double()
    assert has_convolution_form(layer)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    y, plain = convolve(layer, x), layer(x)
    assert (y is not None) == used
    if used:
        torch.testing.assert_close(y, plain)
        parameters = [x, *layer.parameters()]
        grads = (torch.autograd.grad(out.square().sum(), parameters) for out in (y, plain))
        for a, b in zip(*grads, strict=True):
            torch.testing.assert_close(a, b)


class Own(nn.Conv2d):
    """A convolution that does something of its own."""

    def forward(self, x):
        return 2 * super().forward(x)


@pytest.mark.parametrize(
    "layer",
    [nn.Conv2d(1, 1, 1), Own(1, 1, 5), nn.Conv1d(1, 1, 5), nn.Conv2d(1, 1, 5, padding=2, padding_mode="circular")],
)
def test_other_layers_have_no_form(layer):
    assert not has_convolution_form(layer)


def test_transforms_and_lower_precision_go_to_torch():
    layer, shape, _ = CONVOLUTIONS["long between planes"]
    assert convolve(layer.to(torch.bfloat16), torch.zeros(shape, dtype=torch.bfloat16)) is None
    layer = layer.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert convolve(layer, torch.zeros(shape)) is None
    seen = []
    torch.func.vmap(lambda x: seen.append(convolve(layer, x[None])) or x)(torch.zeros(shape))
    assert seen == [None]


@pytest.mark.parametrize(
    "kernel, stride, fits", [((1, 75), (1, 15), True), (6, 2, True), ((1, 75), (1, 10), False), (4, 4, False)]
)
def test_averages(kernel, stride, fits):
    layer = nn.AvgPool2d(kernel, stride)
    assert has_average_form(layer) == fits
    if fits:
        for n_times in (75, 76, 89, 90, 131):
            x = torch.randn(2, 3, 8, n_times, dtype=torch.float64)
            torch.testing.assert_close(average_pool(layer, x), layer(x))


@pytest.mark.parametrize("changed", [{"padding": 1}, {"ceil_mode": True}, {"divisor_override": 3}])
def test_other_averages_have_no_form(changed):
    assert not has_average_form(nn.AvgPool2d(6, 2, **changed))


def test_margins_are_torchs():
    assert margins(nn.Conv2d(1, 1, (1, 8), padding="same"), 3) == (3, 4)
    assert margins(nn.Conv2d(1, 1, (1, 8), padding="valid"), 3) == (0, 0)
    assert margins(nn.Conv2d(1, 1, (3, 8), padding=(1, 4)), 2) == (1, 1)


REFUSED = {
    "empty batch": (nn.Conv2d(4, 4, (1, 64), padding="same"), (0, 4, 5, 100)),
    "no samples": (nn.Conv2d(3, 5, (7, 1)), (2, 3, 7, 0)),
    "no electrodes": (nn.Conv2d(3, 5, (1, 8)), (2, 3, 0, 20)),
    "too many planes": (nn.Conv2d(1, 4, (1, 50)), (2, 3, 3, 80)),
    "too few planes": (nn.Conv2d(3, 6, (7, 1), groups=3), (2, 1, 7, 20)),
    "dilated beyond the input": (nn.Conv2d(1, 2, (1, 8), dilation=(1, 2)), (2, 1, 1, 8)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_torch_refuses_or_has_nothing_to_compute_of_is_left_to_it(name):
    layer, shape = REFUSED[name]
    assert convolve(layer, torch.randn(shape)) is None


def test_a_network_takes_an_empty_batch():
    front = nn.Sequential(nn.Conv2d(1, 8, (1, 64)), nn.BatchNorm2d(8), nn.Conv2d(8, 16, (22, 1), groups=8)).eval()
    assert accelerate(copy.deepcopy(front))(torch.randn(0, 1, 22, 200)).shape == front(torch.randn(0, 1, 22, 200)).shape
    for x in (torch.randn(4, 2, 22, 200), torch.randn(4, 1, 0, 200)):
        with pytest.raises(RuntimeError):
            accelerate(copy.deepcopy(front))(x)


@pytest.mark.parametrize("layer", [nn.Conv2d(3, 5, (7, 1)), nn.Conv2d(3, 6, (7, 1), groups=3)], ids=["all", "each"])
def test_mixed_precision_gives_the_type_of_torch(layer):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        x = torch.randn(2, 3, 7, 20)
        y = convolve(layer, x)
        assert y.dtype == layer(x).dtype == torch.bfloat16
        torch.testing.assert_close(y, layer(x), atol=0.02, rtol=0.02)


@pytest.mark.parametrize("padding", [(0, 8), "same"])
def test_one_trial_online_is_filtered_window_by_window(padding):
    layer, x = nn.Conv2d(3, 3, (1, 17), groups=3, padding=padding), torch.randn(1, 3, 1, 40)
    assert convolve(layer, x) is None  # not where a gradient may be wanted
    with torch.no_grad():
        torch.testing.assert_close(convolve(layer, x), layer(x))


# Long filters as Toeplitz matrices, and as products of spectra


shapes = {
    "n_times": st.integers(1, 150),
    "length": st.integers(1, 110),
    "left": st.integers(0, 60),
    "right": st.integers(0, 60),
}


def usable(n_times, length, left, right):
    return n_times + left + right >= length


@given(**shapes)
@example(n_times=5, length=3, left=40, right=0)
@example(n_times=5, length=40, left=39, right=39)
@settings(max_examples=40, deadline=None)
def test_depthwise_conv_and_its_gradients(n_times, length, left, right):
    if not usable(n_times, length, left, right):
        return
    torch.manual_seed(0)
    x = torch.randn(2, 3, 2, n_times, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, length, dtype=torch.float64, requires_grad=True)
    plain = F.conv2d(F.pad(x, (left, right)), weight[:, None, None], groups=3)
    ours = depthwise_conv(x, weight, (left, right))
    torch.testing.assert_close(ours, plain)
    grad = torch.randn_like(plain)
    for a, b in zip(
        torch.autograd.grad(ours, (x, weight), grad), torch.autograd.grad(plain, (x, weight), grad), strict=True
    ):
        torch.testing.assert_close(a, b)


@given(**shapes)
@settings(max_examples=20, deadline=None)
def test_filter_bank(n_times, length, left, right):
    if not usable(n_times, length, left, right):
        return
    torch.manual_seed(0)
    x = torch.randn(2, 3, n_times, dtype=torch.float64)
    weight = torch.randn(4, length, dtype=torch.float64, requires_grad=True)
    plain = F.conv2d(F.pad(x, (left, right))[:, None], weight[:, None, None])
    ours = filter_bank(x, weight, (left, right))
    torch.testing.assert_close(ours, plain)
    (a,), (b,) = (torch.autograd.grad(y.square().sum(), weight) for y in (ours, plain))
    torch.testing.assert_close(a, b)


def test_double_backward():
    x = torch.randn(1, 2, 1, 12, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(depthwise_conv, (x, weight))


@given(n_times=st.integers(1, 60), length=st.integers(1, 40), left=st.integers(0, 30), right=st.integers(0, 30))
@example(n_times=5, length=3, left=10, right=0)
@settings(max_examples=40, deadline=None)
def test_fourier_conv_and_its_gradients(n_times, length, left, right):
    if n_times + left + right < length:
        return
    torch.manual_seed(0)
    x = torch.randn(2, 3, 2, n_times, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 3, length, dtype=torch.float64, requires_grad=True)
    plain = F.conv2d(F.pad(x, (left, right)), weight[:, :, None])
    ours = fourier_conv(x, weight, (left, right))
    torch.testing.assert_close(ours, plain)
    grad = torch.randn_like(plain)
    for a, b in zip(
        torch.autograd.grad(ours, (x, weight), grad), torch.autograd.grad(plain, (x, weight), grad), strict=True
    ):
        torch.testing.assert_close(a, b)


def test_fourier_conv_in_float32_on_an_offset():
    x, weight = torch.randn(2, 8, 1, 500) + 100, torch.randn(8, 8, 65)
    truth = F.conv2d(x.double(), weight[:, :, None].double())
    plain = F.conv2d(x, weight[:, :, None])
    assert (fourier_conv(x, weight) - truth).abs().max() < 5 * (plain - truth).abs().max() + 1e-3
