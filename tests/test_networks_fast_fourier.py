import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st

from skeeg.networks.fast.fourier import fourier_conv


@given(n_times=st.integers(1, 60), length=st.integers(1, 40), left=st.integers(0, 30), right=st.integers(0, 30))
@example(n_times=5, length=3, left=10, right=0)
@settings(max_examples=40, deadline=None)
def test_equals_conv2d_with_its_gradients(n_times, length, left, right):
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


def test_float32_on_an_offset():
    x, weight = torch.randn(2, 8, 1, 500) + 100, torch.randn(8, 8, 65)
    truth = F.conv2d(x.double(), weight[:, :, None].double())
    plain = F.conv2d(x, weight[:, :, None])
    assert (fourier_conv(x, weight) - truth).abs().max() < 5 * (plain - truth).abs().max() + 1e-3
