import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st

from skeeg.networks.fast.toeplitz import depthwise_conv, fast_length, filter_bank, lagged_covariance

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


@given(**shapes, offset=st.sampled_from([0.0, 1e4]))
@settings(max_examples=40, deadline=None)
def test_lagged_covariance_gives_the_statistics_of_any_filter(n_times, length, left, right, offset):
    if not usable(n_times, length, left, right):
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
    monkeypatch.setattr("skeeg.networks.fast.toeplitz._CACHED", 130)
    parts = lagged_covariance(x, 9, (4, 4))
    torch.testing.assert_close(whole, parts)


def test_double_backward():
    x = torch.randn(1, 2, 1, 12, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(depthwise_conv, (x, weight))


@pytest.mark.parametrize("minimum, length", [(1, 1), (7, 8), (97, 100), (1064, 1080)])
def test_fast_length(minimum, length):
    assert fast_length(minimum) == length
