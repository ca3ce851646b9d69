from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F

from skeeg.methods.beira import BEIRA, fast_convolution
from skeeg.methods.beira.fast_convolution import Toom, convolve, transforms
from skeeg.methods.beira.layers import gelu_max, norm_gelu


@pytest.mark.parametrize("n_taps", range(2, 8))
@pytest.mark.parametrize("n_times", [1, 5, 12, 13, 33])
def test_fast_convolution_equals_plain_convolution_with_its_gradients(n_taps, n_times):
    x = torch.randn(2, n_times, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 3, n_taps, dtype=torch.float64, requires_grad=True)
    plain = F.conv1d(F.pad(x.mT, ((n_taps - 1) // 2, n_taps // 2)), weight).mT
    torch.testing.assert_close(Toom.apply(x, weight), plain, rtol=0, atol=1e-12)
    slope = torch.randn(plain.shape, dtype=torch.float64)
    expected = torch.autograd.grad(plain, (x, weight), slope)
    torch.testing.assert_close(torch.autograd.grad(Toom.apply(x, weight), (x, weight), slope), expected)


@pytest.mark.parametrize("n_taps", range(2, 8))
@pytest.mark.parametrize("n_times", [9, 40, 61])
def test_long_signals_go_stretch_by_stretch(n_taps, n_times, monkeypatch):
    x, weight = torch.randn(2, n_times, 3, dtype=torch.float64), torch.randn(4, 3, n_taps, dtype=torch.float64)
    whole = convolve(x, weight)
    monkeypatch.setattr("skeeg.methods.beira.fast_convolution._STRETCH", 3)
    torch.testing.assert_close(convolve(x, weight), whole, rtol=0, atol=1e-12)


def test_kept_buffers_carry_nothing_over_and_serve_prediction_and_training():
    x, weight = torch.randn(1, 70, 3), torch.randn(4, 3, 5)
    with torch.inference_mode():
        expected = convolve(x, weight)
        first = expected.clone()
        convolve(torch.full((1, 90, 3), torch.nan), weight)
    assert torch.equal(expected, first)
    parameter = weight.clone().requires_grad_()
    y = Toom.apply(x, parameter)
    assert torch.equal(y, first)
    y.sum().backward()
    assert torch.isfinite(parameter.grad).all()
    with ThreadPoolExecutor(4) as pool:
        for one in pool.map(lambda i: convolve(x * 2**i, weight) / 2**i, range(50)):
            assert torch.equal(one, first)


class Convolution(torch.nn.Module):
    """One layer."""

    def __init__(self, n_taps):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(4, 3, n_taps))

    def forward(self, x):
        return convolve(x, self.weight)


def test_tracing_leaves_no_tensors_of_its_own_behind():
    vars(fast_convolution._kept).clear()  # else the first call here finds what another left
    fast_convolution._transforms.cache_clear()
    module, x = Convolution(6).double(), torch.randn(1, 500, 3, dtype=torch.float64)
    with torch.no_grad():
        exported = torch.export.export(module, (x,), strict=False)
        plain = F.conv1d(F.pad(x.mT, (2, 3)), module.weight).mT
        torch.testing.assert_close(module(x), plain)
        torch.testing.assert_close(exported.module()(x), plain)
        torch.testing.assert_close(torch.compile(module, backend="aot_eager")(x), plain)


@pytest.mark.parametrize("n_taps", [4, 5])
def test_fast_convolution_rounds_like_plain_convolution_in_float32(n_taps):
    torch.manual_seed(0)
    x, weight = torch.randn(1, 512, 128), torch.randn(128, 128, n_taps) / (128 * n_taps) ** 0.5
    exact = F.conv1d(x.mT.double(), weight.double(), padding="same").mT
    assert (Toom.apply(x, weight) - exact).abs().max() < 5e-6 * exact.abs().max()


def test_the_points_give_all_outputs_of_a_window():
    output, kernel, window = transforms(5, torch.float64)
    assert (output.shape, kernel.shape, window.shape) == ((4, 8), (8, 5), (8, 8))
    assert window.abs().max() == 1


@pytest.mark.parametrize("size", [2, 3, 8])
def test_the_largest_value_after_gelu_needs_two_values_before(size):
    x = 3 * torch.randn(2, 50, 4)
    n_steps = 50 // size
    plain = F.gelu(x)[:, : n_steps * size].unflatten(1, (n_steps, size)).amax(2)
    torch.testing.assert_close(gelu_max(x, size), plain, rtol=0, atol=1e-6)


def test_normalisation_and_gelu_in_one_have_the_same_gradients():
    x, norm = torch.randn(2, 30, 5, dtype=torch.float64, requires_grad=True), torch.nn.LayerNorm(5).double()
    torch.nn.init.normal_(norm.weight), torch.nn.init.normal_(norm.bias)
    slope, inputs = torch.randn(2, 30, 5, dtype=torch.float64), (x, norm.weight, norm.bias)
    results = [norm_gelu(x, norm), F.gelu(norm(x))]
    assert torch.equal(*results)
    gradients = [torch.autograd.grad(y, inputs, slope) for y in results]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = norm_gelu(x.bfloat16(), norm.float())
    y.float().sum().backward()
    assert torch.isfinite(norm.weight.grad).all()


def test_regions_of_the_published_size_together_equal_separate_networks():
    torch.manual_seed(0)
    network, x = BEIRA(n_chans=64, n_outputs=2, drop_prob=0.0).eval(), torch.randn(2, 64, 2048)
    outputs = []
    for network.grouped in (True, False):
        with torch.no_grad():
            outputs.append(network(x))
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-5)


def test_gradients_of_the_published_size_together_equal_those_of_separate_networks():
    torch.manual_seed(0)
    # in float32 rounding may choose another of two nearly equal maxima, whose gradients then differ
    network, x = BEIRA(n_chans=64, n_outputs=1, drop_prob=0.0).double(), torch.randn(2, 64, 512).double()
    gradients = []
    for network.grouped in (True, False):
        network.zero_grad()
        network(x).square().mean().backward()
        gradients.append([p.grad.clone() for p in network.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
