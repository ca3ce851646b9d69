import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from skeeg.networks import merge_kernels, merged_conv


@given(
    n_chans=st.integers(1, 6),
    n_time=st.integers(1, 4),
    n_space=st.integers(1, 5),
    length=st.integers(1, 9),
    biases=st.tuples(st.booleans(), st.booleans()),
    left=st.integers(0, 9),
    right=st.integers(0, 9),
    stride=st.integers(1, 3),
)
@settings(max_examples=40, deadline=None)
def test_equals_the_two_layers(n_chans, n_time, n_space, length, biases, left, right, stride):
    torch.manual_seed(0)
    time = nn.Conv2d(1, n_time, (1, length), stride=(1, stride), bias=biases[0]).double()
    space = nn.Conv2d(n_time, n_space, (n_chans, 1), bias=biases[1]).double()
    x = torch.randn(2, n_chans, 20).double()
    plain = space(time(nn.functional.pad(x, (left, right))[:, None]))[:, :, 0]
    parameters = (time.weight, time.bias, space.weight, space.bias)
    merged = merged_conv(x, *parameters, padding=(left, right), stride=stride)
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


def test_wrong_shapes_are_named():
    time, space = torch.randn(3, 1, 1, 5), torch.randn(4, 3, 2, 1)
    with pytest.raises(ValueError, match=r"x must have shape \(batch, electrodes, times\), got \(2, 1, 2, 20\)"):
        merged_conv(torch.randn(2, 1, 2, 20), time, None, space, None)
    with pytest.raises(ValueError, match="spatial_weight takes 3 planes but temporal_weight gives 6"):
        merged_conv(torch.randn(2, 2, 20), torch.randn(6, 1, 1, 5), None, space, None)
