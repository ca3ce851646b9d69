"""Fast forms of single layers: convolutions and averages for which torch's own kernels are slow on a CPU.

Each form looks at the layer and its input at every call, and gives None where torch's own kernel is faster, or the only
right one. The limits were measured on one core against oneDNN.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .conv2d_gradient_fix import conv2d_as_conv1d
from .fourier import fourier_conv
from .private_names import computes_conv2d, in_transform
from .toeplitz import filter_bank, filter_one_trial

__all__ = ["average_pool", "convolve", "has_average_form", "has_convolution_form", "is_plain_conv", "margins"]


def margins(conv: nn.Conv2d, axis: int) -> tuple[int, int]:
    """Count the zeros that a convolution adds before and after an axis (2 or 3) of its input."""
    if conv.padding == "valid":
        return 0, 0
    if conv.padding == "same":
        extra = conv.dilation[axis - 2] * (conv.kernel_size[axis - 2] - 1)
        return extra // 2, extra - extra // 2
    return conv.padding[axis - 2], conv.padding[axis - 2]


def is_plain_conv(layer: nn.Module) -> bool:
    """Whether a layer, or the layer it was before its fast form, computes what `torch.nn.Conv2d` does."""
    plain = vars(type(layer)).get("_skeeg_plain", type(layer))
    return computes_conv2d(plain) and layer.padding_mode == "zeros"


def has_convolution_form(layer: nn.Module) -> bool:
    """Whether a layer is a convolution that may have a fast form, depending on its input."""
    return is_plain_conv(layer) and max(layer.kernel_size) > 1


def convolve(layer: nn.Conv2d, x: Tensor) -> Tensor | None:
    """Output of a convolution layer for x (batch, planes, height, width), or None where torch's own is better."""
    if x.device.type != "cpu" or x.ndim != 4 or x.shape[1] != layer.in_channels or not x.numel():
        return None  # torch raises its own errors
    if layer.groups == 1 and layer.kernel_size[1] == x.shape[3]:
        return conv2d_as_conv1d(x, layer.weight, layer.bias, layer.stride, layer.padding, layer.dilation)
    if layer.stride != (1, 1) or layer.dilation != (1, 1) or x.dtype not in (torch.float32, torch.float64):
        return None
    for axis in (2, 3):
        across = 5 - axis
        if layer.kernel_size[across - 2] == 1 and margins(layer, across) == (0, 0):
            y = _along(layer, x, axis)
            return y if y is None or layer.bias is None else y + layer.bias.to(y.dtype)[:, None, None]
    return None


def _along(layer: nn.Conv2d, x: Tensor, axis: int) -> Tensor | None:
    """Convolution without bias whose kernel lies along one axis of the input."""
    length, padding = layer.kernel_size[axis - 2], margins(layer, axis)
    n_planes, n_out = layer.in_channels, layer.out_channels
    if layer.groups == n_planes > 1 and length == x.shape[axis] and padding == (0, 0):
        return _span_planes(layer.weight.flatten(1).view(n_planes, -1, length), x, axis)
    if layer.groups == 1 < n_planes and axis == 2 and length == x.shape[2] and padding == (0, 0):
        return (layer.weight.flatten(1) @ x.flatten(1, 2)).unsqueeze(2)  # one product over all planes and electrodes
    if torch.is_autocast_enabled("cpu") or in_transform() or x.dtype != layer.weight.dtype:
        return None
    if x.shape[axis] + sum(padding) < length:
        return None
    if axis == 2:
        x = x.transpose(2, 3)
    # For one trial torch's kernels are fast, and the forms have fixed costs of about a tenth of a millisecond.
    n_rows, n_products = x.shape[0] * x.shape[2], x.numel() * n_out // layer.groups * length
    depthwise = layer.groups == n_planes == n_out and n_planes > 1 and length >= 16
    if depthwise and n_rows == 1 and n_products <= 2**18 and not torch.is_grad_enabled():
        y = filter_one_trial(x, layer.weight.flatten(1), padding)
    elif layer.groups == n_planes == 1 and n_out <= 16 and length >= 48 and (len(x) > 1 or n_products > 5e6):
        y = filter_bank(x[:, 0], layer.weight.flatten(1), padding)
    elif layer.groups == 1 and n_planes > 1 and _fourier_pays(x, n_out, length):
        y = fourier_conv(x, layer.weight.flatten(2), padding)
    else:
        return None
    return y.transpose(2, 3) if axis == 2 else y


def _span_planes(weight: Tensor, x: Tensor, axis: int) -> Tensor:
    """Spatial filters of each plane by itself, (planes, filters, electrodes), as one product a plane."""
    if axis == 2:
        return (weight @ x).flatten(1, 2).unsqueeze(2)
    return (x @ weight.transpose(1, 2)).transpose(2, 3).flatten(1, 2).unsqueeze(3)


def _fourier_pays(x: Tensor, n_out: int, length: int) -> bool:
    n_batch, n_planes, n_rows, _ = x.shape
    if length < 16:  # transforms of short signals are padded to half as long again: 0.3 to 1.2 times as fast
        return False
    # Nanoseconds a sample: of one multiplication in torch's kernel, and of one signal's transforms and products.
    multiply = 0.9 if n_planes < 8 else 0.25 if n_rows > 1 else 0.15
    return multiply * length * n_planes * n_out > 26 * (n_planes + n_out + n_planes * n_out / (n_batch * n_rows))


def has_average_form(layer: nn.Module) -> bool:
    """Whether a layer averages over windows that overlap by whole steps."""
    if type(layer) is not nn.AvgPool2d or layer.padding not in (0, (0, 0)) or layer.ceil_mode:
        return False
    if layer.divisor_override is not None:
        return False
    (height, width), (down, right) = _pair(layer.kernel_size), _pair(layer.stride)
    return height % down == 0 and width % right == 0 and (height // down) * (width // right) > 1


def average_pool(layer: nn.AvgPool2d, x: Tensor) -> Tensor | None:
    """Average in two stages, over the steps and then over the steps of a window; None on a GPU."""
    if x.device.type != "cpu":
        return None
    (height, width), (down, right) = _pair(layer.kernel_size), _pair(layer.stride)
    return F.avg_pool2d(F.avg_pool2d(x, (down, right)), (height // down, width // right), stride=1)


def _pair(value) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)
