"""A guard against convolutions whose weight gradients PyTorch computes wrongly.

On CPUs with AVX-512 the float32 weight gradient of ``conv2d`` is wrong, without a word, where the kernel is as wide as
the input, the input has 14 to 19 columns and at most three planes: a relative error of about one (PyTorch 2.11 to 2.14,
oneDNN 3.10). braindecode's ``ShallowFBCSPNet`` and ``Deep4Net`` are built on such a convolution, with electrodes as
columns, so both train on garbage at 14 to 19 electrodes. The same sum written as ``conv1d``, with the electrodes as
input channels, has right gradients at every width, and is several times faster.
"""

from __future__ import annotations

import contextlib

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

__all__ = ["conv2d_as_conv1d", "exact_convolutions", "guard"]
_MOST_PLANES = 3  # of the inputs whose gradients are wrong


class exact_convolutions(TorchFunctionMode):  # noqa: N801 - used as a context manager, named like torch's own
    """Compute convolutions that span the whole width of their input as one-dimensional ones.

    Inside the context a ``conv2d`` on the CPU whose kernel is as wide as its input becomes a ``conv1d`` over columns as
    input channels: the same numbers, right weight gradients at 14 to 19 columns, and less time. It holds for any
    module, a user's own too, and changes neither its parameters nor its state dict. Only the forward pass needs to
    run inside.

    Examples
    --------
    >>> import torch
    >>> layer = torch.nn.Conv2d(1, 4, (10, 16))
    >>> x = torch.randn(2, 1, 50, 16)
    >>> with exact_convolutions():
    ...     guarded = layer(x)
    >>> torch.allclose(guarded, layer(x), atol=1e-5)
    True
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Replace a convolution that spans the width; leave everything else alone."""
        if func is torch.conv2d:
            y = conv2d_as_conv1d(*args, **(kwargs or {}))
            if y is not None:
                return y
        return func(*args, **(kwargs or {}))


def guard(module: nn.Module, x: Tensor) -> contextlib.AbstractContextManager:
    """Context to train a module in: :func:`exact_convolutions` where the module needs it, else an empty one.

    Watching every call costs a few microseconds each, which a small network feels. One forward pass tells whether there
    is anything to watch for; layers in their fast form (:func:`skeeg.networks.accelerate`) need no guard.

    Parameters
    ----------
    module : torch.nn.Module
        The module. Its buffers, its mode and torch's random state are left as they were.
    x : Tensor
        Input like that to come, on the module's device; a few trials are enough.

    Returns
    -------
    context manager
        To be entered around training.

    Examples
    --------
    >>> import torch
    >>> x = torch.randn(2, 1, 50, 16)
    >>> type(guard(torch.nn.Conv2d(1, 4, (10, 16)), x)).__name__, type(guard(torch.nn.Flatten(), x)).__name__
    ('exact_convolutions', 'nullcontext')
    """
    buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
    modes = [(layer, layer.training) for layer in module.modules()]
    watch = _Watch()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), watch:
            module.train()(x)
    except Exception:  # noqa: BLE001 - the error belongs to the training that is to come, not to this look ahead
        return exact_convolutions()
    finally:
        for layer, mode in modes:
            layer.training = mode
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)
    return exact_convolutions() if watch.found else contextlib.nullcontext()


class _Watch(TorchFunctionMode):
    """Note whether a convolution comes by that :class:`exact_convolutions` would replace."""

    found = False

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.conv2d and not self.found:
            self.found = conv2d_as_conv1d(*args, **(kwargs or {})) is not None
        return func(*args, **(kwargs or {}))


def conv2d_as_conv1d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride=1, padding=0, dilation=1, groups=1
) -> Tensor | None:
    """Two-dimensional convolution by a one-dimensional one, where the kernel spans the width.

    Parameters
    ----------
    input : Tensor, shape (batch, planes, height, width)
        As in `torch.nn.functional.conv2d`, like all the others.
    weight : Tensor, shape (filters, planes, kernel_height, kernel_width)
        Filters.
    bias : Tensor, shape (filters,), or None
        Bias.
    stride, padding, dilation : int or tuple of int or str
        Geometry.
    groups : int
        Groups of planes.

    Returns
    -------
    Tensor, shape (batch, filters, height', 1), or None
        None where the kernel does not span the width, or where PyTorch's own form is right and as quick, as it is where
        the kernel spans the height too and there are more than three planes: the last layer of an EEGNet.

    Examples
    --------
    >>> import torch
    >>> conv2d_as_conv1d(torch.zeros(2, 1, 50, 16), torch.zeros(4, 1, 10, 16)).shape
    torch.Size([2, 4, 41, 1])
    """
    if groups != 1 or input.ndim != 4 or input.device.type != "cpu" or weight.shape[3] != input.shape[3]:
        return None
    if input.shape[3] == 1:
        return None
    dilation = _pair(dilation)
    if isinstance(padding, str):
        if padding == "same":
            return None
        padding = 0
    padding = _pair(padding)
    if padding[1] != 0 or dilation[1] != 1:
        return None
    if weight.shape[2] == input.shape[2] and weight.shape[1] > _MOST_PLANES:
        return None
    y = F.conv1d(
        input.transpose(2, 3).flatten(1, 2),
        weight.transpose(2, 3).flatten(1, 2),
        bias,
        stride=_pair(stride)[0],
        padding=padding[0],
        dilation=dilation[0],
    )
    return y.unsqueeze(-1)


def _pair(value) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    return (value[0], value[0]) if len(value) == 1 else tuple(value)
