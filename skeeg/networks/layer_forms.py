"""Fast forms of single layers: convolutions and averages that torch's kernels are slow at, and moves of axes.

Each form looks at the layer and at its input when it is called, and hands back None where torch's own kernel is the
better one, or the only right one. The limits in the rules were measured on one CPU core against oneDNN.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skeeg.networks.exact import conv2d_as_conv1d
from skeeg.networks.fourier import fourier_conv
from skeeg.networks.toeplitz import depthwise_conv, filter_bank, filter_one_trial

__all__ = [
    "average_pool",
    "convolve",
    "followed",
    "has_average_form",
    "has_convolution_form",
    "has_rearrangement_form",
    "in_transform",
    "is_plain_conv",
    "margins",
    "rearrange",
    "watched",
]


def margins(conv: nn.Conv2d, axis: int) -> tuple[int, int]:
    """Count the zeros that a convolution adds before and after an axis (2 or 3) of its input."""
    if conv.padding == "valid":
        return 0, 0
    if conv.padding == "same":
        extra = conv.dilation[axis - 2] * (conv.kernel_size[axis - 2] - 1)
        return extra // 2, extra - extra // 2
    return conv.padding[axis - 2], conv.padding[axis - 2]


def in_transform() -> bool:
    """Whether a transform of ``torch.func`` is at work, which cannot see into the backward passes written here."""
    return torch._C._are_functorch_transforms_active()


def followed(x: Tensor) -> bool:
    """Whether somebody follows what happens to x: a transform, a mode, or x by being no plain tensor."""
    if in_transform() or torch._C._len_torch_dispatch_stack() > 0:
        return True
    return type(x) not in (Tensor, nn.Parameter) or x.layout is not torch.strided


def watched(*layers: nn.Module) -> bool:
    """Whether somebody listens to one of these layers, as summaries do, so that each must run by itself."""
    if torch.nn.modules.module._has_any_global_hook():
        return True
    return any(
        layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks
        for layer in layers
    )


def is_plain_conv(layer: nn.Module) -> bool:
    """Whether a layer, or the layer it was before its fast form, computes what `torch.nn.Conv2d` does."""
    plain = getattr(type(layer), "_skeeg_plain", type(layer))
    if not issubclass(plain, nn.Conv2d) or plain.forward is not nn.Conv2d.forward:
        return False
    return plain._conv_forward is nn.Conv2d._conv_forward and layer.padding_mode == "zeros"


def has_convolution_form(layer: nn.Module) -> bool:
    """Whether a layer is a convolution that may have a fast form, depending on its input."""
    return is_plain_conv(layer) and max(layer.kernel_size) > 1


def convolve(layer: nn.Conv2d, x: Tensor) -> Tensor | None:
    """Output of a convolution layer by its fast form, or None where torch's own is better.

    Parameters
    ----------
    layer : torch.nn.Conv2d
        A layer for which :func:`has_convolution_form` holds.
    x : Tensor, shape (batch, planes, height, width)
        Its input.

    Returns
    -------
    Tensor or None
        What the layer gives.
    """
    if x.device.type != "cpu" or x.ndim != 4 or x.shape[1] != layer.in_channels or not x.numel():
        return None  # what torch refuses, it shall refuse itself
    if (
        layer.groups == 1
        and layer.kernel_size == tuple(x.shape[2:])
        and layer.dilation == (1, 1)
        and margins(layer, 2) == margins(layer, 3) == (0, 0)
    ):
        return F.linear(x.flatten(1), layer.weight.flatten(1), layer.bias)[:, :, None, None]
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
    # Of one trial torch's kernels are quick, and the forms have fixed costs of about a tenth of a millisecond.
    n_rows, n_products = x.shape[0] * x.shape[2], x.numel() * n_out // layer.groups * length
    deep = layer.groups == n_planes == n_out and n_planes > 1 and length >= 16 and x.shape[3] >= length
    if deep and n_rows == 1 and n_products <= 2**18 and not torch.is_grad_enabled():
        y = filter_one_trial(x, layer.weight.flatten(1), padding)
    elif deep and (n_rows > 1 or n_products > 2**18):
        y = depthwise_conv(x, layer.weight.flatten(1), padding)
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
    if length < 16:  # transforms of short signals are padded to half as long again: .3 to 1.2 times as fast
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


def average_pool(layer: nn.AvgPool2d, x: Tensor) -> Tensor:
    """Average in two stages: over the steps, then over the steps of a window.

    Parameters
    ----------
    layer : torch.nn.AvgPool2d
        A layer for which :func:`has_average_form` holds.
    x : Tensor, shape (batch, planes, height, width)
        Its input.

    Returns
    -------
    Tensor
        What the layer gives.
    """
    (height, width), (down, right) = _pair(layer.kernel_size), _pair(layer.stride)
    return F.avg_pool2d(F.avg_pool2d(x, (down, right)), (height // down, width // right), stride=1)


def has_rearrangement_form(layer: nn.Module) -> bool:
    """Whether a layer is einops' ``Rearrange`` (told by name: no need to import it) that only moves axes."""
    cls = type(layer)
    if cls.__name__ != "Rearrange" or not cls.__module__.startswith("einops.") or layer.axes_lengths:
        return False
    return _moves(layer.pattern) is not None


def rearrange(layer: nn.Module, x: Tensor) -> Tensor | None:
    """Move axes, without what einops does to find out how at every call.

    Parameters
    ----------
    layer : einops.layers.torch.Rearrange
        A layer for which :func:`has_rearrangement_form` holds.
    x : Tensor
        Its input.

    Returns
    -------
    Tensor or None
        What the layer gives, as a view; None where x does not fit the pattern, and under ``torch.compile``, which finds
        out only once.

    Examples
    --------
    >>> import torch
    >>> from einops.layers.torch import Rearrange
    >>> rearrange(Rearrange("batch chans times 1 -> batch 1 chans times"), torch.zeros(2, 3, 5, 1)).shape
    torch.Size([2, 1, 3, 5])
    """
    if torch.compiler.is_compiling():
        return None
    order, dropped, places = _moves(layer.pattern)
    if x.ndim != len(order) or any(x.shape[axis] != 1 for axis in dropped):
        return None  # what einops refuses, it shall refuse itself
    return x.permute(order).view([1 if axis is None else x.shape[axis] for axis in places])


@functools.cache
def _moves(pattern: str) -> tuple | None:
    """Read a pattern of names and ones: the order of the axes with the ones last, the ones, and what comes where."""
    before, after = (side.split() for side in pattern.split("->"))
    names = [name for name in before if name != "1"]
    if not all(name.isidentifier() for name in names) or len(set(names)) < len(names):
        return None
    if sorted(names) != sorted(name for name in after if name != "1"):
        return None
    dropped = tuple(axis for axis, name in enumerate(before) if name == "1")
    places = tuple(None if name == "1" else before.index(name) for name in after)
    return (*(axis for axis in places if axis is not None), *dropped), dropped, places


def _pair(value) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)
