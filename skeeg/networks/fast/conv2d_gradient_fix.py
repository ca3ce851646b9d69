"""Right weight gradients where PyTorch's convolution on CPUs computes wrong ones.

With the oneDNN that PyTorch uses on x86-64 processors with AVX-512, the float32 weight gradient of ``conv2d`` is wrong
(relative error about 1, no warning) if the kernel is as wide as the input, the input has 14 to 19 columns and at most
three planes. Seen with torch 2.11.0, 2.13.0 and 2.14.1; right with ``ONEDNN_MAX_CPU_ISA=AVX2``, and in float64. The
same sum as ``conv1d``, with electrodes as input channels, has right gradients at every width.

``docs/upstream/conv2d_weight_gradient.md`` holds the report for PyTorch with a minimal reproduction.
"""

import contextlib
import copy
import functools

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

_MAX_PLANES = 3  # of inputs whose gradients are wrong


class exact_convolutions(TorchFunctionMode):  # noqa: N801 - used as a context manager, named like torch's own
    """Compute convolutions that span the whole width of their input as one-dimensional ones.

    Inside the context a ``conv2d`` on the CPU whose kernel is as wide as its input becomes a ``conv1d`` over columns as
    input channels: the same numbers, with right weight gradients where PyTorch's are wrong (torch 2.11 to 2.14 on CPUs
    with AVX-512, 14 to 19 columns). Only the forward pass needs to run inside.

    Examples
    --------
    >>> import torch
    >>> layer, x = torch.nn.Conv2d(1, 4, (10, 16)), torch.randn(2, 1, 50, 16)
    >>> with exact_convolutions():
    ...     guarded = layer(x)
    >>> torch.allclose(guarded, layer(x), atol=1e-5)
    True
    """

    def __init__(self):
        super().__init__()
        self.kernels = set()  # sizes of those replaced

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Replace a convolution that spans the width; call anything else."""
        y = conv2d_as_conv1d(*args, **(kwargs or {})) if func is torch.conv2d else None
        if y is None:
            return func(*args, **(kwargs or {}))
        self.kernels.add(_kernel_size(*args, **(kwargs or {})))
        return y


def guard(module, x):
    """Context to train a module in: :func:`exact_convolutions` where the module needs it, else an empty one.

    ``x`` is input like that in training, on the module's device; a few trials are enough. On a GPU, in float64, and on
    processors whose gradients are right (tested once a process, in a few milliseconds) nothing is needed. Elsewhere one
    forward pass of a copy shows whether the module contains a convolution with wrong gradients; layers in their fast
    form do not. The random state is left as it was.

    Examples
    --------
    >>> import torch
    >>> type(guard(torch.nn.Flatten(), torch.randn(2, 1, 50, 16))).__name__
    'nullcontext'
    """
    first = next(iter(x.values())) if isinstance(x, dict) else x
    if first.device.type != "cpu" or first.dtype is torch.float64 or not gradient_is_wrong(1, 10, 16):
        return contextlib.nullcontext()
    fix = exact_convolutions()
    try:
        twin = copy.deepcopy(module).train()
        with torch.no_grad(), torch.random.fork_rng(devices=[]), fix:
            twin(**x) if isinstance(x, dict) else twin(x)
    except Exception:  # noqa: BLE001 - the error will be raised by the training itself
        return fix
    is_needed = any(size[0] <= _MAX_PLANES and gradient_is_wrong(*size) for size in fix.kernels)
    return fix if is_needed else contextlib.nullcontext()


def _kernel_size(input, weight, *others, **named):
    return tuple(weight.shape[1:])


@functools.cache
def gradient_is_wrong(n_planes, height, width):
    """Whether float32 weight gradients of kernels of this size, which span the width, are wrong on this processor."""
    generator = torch.Generator("cpu").manual_seed(0)
    x = torch.randn(8, n_planes, height + 90, width, generator=generator, device="cpu")
    weight = torch.randn(16, n_planes, height, width, generator=generator, device="cpu")
    grads = []
    with torch.enable_grad():
        for dtype in (torch.float32, torch.float64):
            kernel = weight.to(dtype, copy=True).requires_grad_()
            y = F.conv2d(x.to(dtype), kernel)
            grads.append(torch.autograd.grad(y.square().sum(), kernel)[0].double())
    return bool((grads[0] - grads[1]).norm() > 1e-3 * grads[1].norm())


def conv2d_as_conv1d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """Compute ``conv2d`` by ``conv1d`` where the kernel spans the width: (batch, filters, height', 1).

    None where it does not, or where PyTorch's own form is right and as fast: where the kernel spans the height too and
    there are more than three planes, as in the last layer of an EEGNet.
    """
    if groups != 1 or input.ndim != 4 or input.device.type != "cpu" or weight.shape[3] != input.shape[3]:
        return None
    if input.shape[3] == 1 or padding == "same":
        return None
    dilation = pair(dilation)
    padding = pair(0 if padding == "valid" else padding)
    if padding[1] != 0 or dilation[1] != 1:
        return None
    if weight.shape[2] == input.shape[2] and weight.shape[1] > _MAX_PLANES:
        return None
    x, kernel = (one.transpose(2, 3).flatten(1, 2) for one in (input, weight))
    return F.conv1d(x, kernel, bias, pair(stride)[0], padding[0], dilation[0]).unsqueeze(-1)


def pair(value):
    """Two numbers, for height and width, of a setting that may be one."""
    if isinstance(value, int):
        return value, value
    return (value[0], value[0]) if len(value) == 1 else tuple(value)
