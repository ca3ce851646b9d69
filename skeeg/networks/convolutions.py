"""Two linear convolutions in a row, computed as one.

Many EEG networks begin with a temporal convolution (one input plane, ``F`` filters of ``K`` samples) followed by a
spatial one that spans all ``C`` electrodes, with nothing nonlinear between. The pair is one linear map, so

    out[b, s, t] = sum_f sum_c spatial[s, f, c] * (temporal_bias[f] + sum_k temporal[f, k] * x[b, c, t + k])
                   + spatial_bias[s]
                 = bias[s] + sum_c sum_k kernel[s, c, k] * x[b, c, t + k]

is one ``conv1d`` over electrodes as input channels. It gives the same numbers from the same parameters, never holds the
``(batch, F, C, T)`` plane between the two layers, and keeps clear of the wrong weight gradients that PyTorch computes
for some ``conv2d`` shapes (see :mod:`skeeg.networks.exact`).

    merged_conv(x, temporal_weight, temporal_bias, spatial_weight, spatial_bias, *, padding=0, stride=1)
    merge_kernels(temporal_weight, temporal_bias, spatial_weight, spatial_bias)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["merge_kernels", "merged_conv"]


def merge_kernels(
    temporal_weight: Tensor,
    temporal_bias: Tensor | None,
    spatial_weight: Tensor,
    spatial_bias: Tensor | None,
) -> tuple[Tensor, Tensor | None]:
    """Merge a temporal and a spatial convolution into one kernel over electrodes and time.

    Parameters
    ----------
    temporal_weight : Tensor, shape (F, 1, 1, K) or (F, 1, K, 1) or (F, 1, K) or (F, K)
        Weight of the temporal convolution, one input plane.
    temporal_bias : Tensor, shape (F,), or None
        Its bias.
    spatial_weight : Tensor, shape (S, F, C, 1) or (S, F, 1, C) or (S, F, C)
        Weight of the spatial convolution, which spans all C electrodes.
    spatial_bias : Tensor, shape (S,), or None
        Its bias.

    Returns
    -------
    kernel : Tensor, shape (S, C, K)
        ``kernel[s, c, k] = sum_f spatial[s, f, c] * temporal[f, k]``.
    bias : Tensor, shape (S,), or None
        ``bias[s] = spatial_bias[s] + sum_f temporal_bias[f] * sum_c spatial[s, f, c]``.

    Examples
    --------
    >>> import torch
    >>> kernel, bias = merge_kernels(torch.ones(2, 1, 1, 5), None, torch.ones(4, 2, 3, 1), torch.zeros(4))
    >>> tuple(kernel.shape), float(kernel[0, 0, 0])
    ((4, 3, 5), 2.0)
    """
    n_temporal, n_spatial = temporal_weight.shape[0], spatial_weight.shape[0]
    if spatial_weight.shape[1] != n_temporal:
        raise ValueError(
            f"spatial_weight takes {spatial_weight.shape[1]} planes but temporal_weight gives {n_temporal}; "
            "the spatial convolution must use one group and follow the temporal one directly."
        )
    temporal = temporal_weight.reshape(n_temporal, -1)
    spatial = spatial_weight.reshape(n_spatial, n_temporal, -1)
    kernel = torch.einsum("fk,sfc->sck", temporal, spatial)
    if temporal_bias is None:
        return kernel, spatial_bias
    bias = spatial.sum(-1) @ temporal_bias
    return kernel, bias if spatial_bias is None else bias + spatial_bias


def merged_conv(
    x: Tensor,
    temporal_weight: Tensor,
    temporal_bias: Tensor | None,
    spatial_weight: Tensor,
    spatial_bias: Tensor | None,
    *,
    padding: int | tuple[int, int] = 0,
    stride: int = 1,
) -> Tensor:
    """Temporal convolution followed by a spatial one over all electrodes, as one ``conv1d``.

    Parameters
    ----------
    x : Tensor, shape (batch, C, T)
        The recording. A singleton plane axis is dropped by the caller: ``x[:, 0]`` of ``(batch, 1, C, T)``.
    temporal_weight, temporal_bias, spatial_weight, spatial_bias : Tensor
        The parameters of the two layers, as :func:`merge_kernels` takes them.
    padding : int or tuple of int
        Zeros added to the time axis before the temporal convolution, on both sides or as (left, right).
    stride : int
        Step of the temporal convolution.

    Returns
    -------
    Tensor, shape (batch, S, T')
        What ``spatial(temporal(x[:, None]))`` gives, without its singleton electrode axis.

    Examples
    --------
    >>> import torch
    >>> time, space = torch.nn.Conv2d(1, 4, (1, 5)), torch.nn.Conv2d(4, 6, (3, 1))
    >>> x = torch.randn(2, 3, 50)
    >>> merged = merged_conv(x, time.weight, time.bias, space.weight, space.bias)
    >>> torch.allclose(merged, space(time(x[:, None]))[:, :, 0], atol=1e-5)
    True
    """
    if x.ndim != 3:
        raise ValueError(f"x must have shape (batch, electrodes, times), got {tuple(x.shape)}")
    kernel, bias = merge_kernels(temporal_weight, temporal_bias, spatial_weight, spatial_bias)
    if isinstance(padding, tuple):
        left, right = padding
        if left != right:
            x, padding = F.pad(x, (left, right)), 0
        else:
            padding = left
    return F.conv1d(x, kernel, bias, stride=stride, padding=padding)
