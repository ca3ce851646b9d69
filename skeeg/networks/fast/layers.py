"""Fast forms of single layers: convolutions and averages for which torch's own kernels are slow on a CPU.

Each form inspects the layer and its input at every call and returns None where torch's kernel is faster, or the only
correct one. The limits were measured on one core against oneDNN. Long filters are computed as products with Toeplitz
matrices, or, between many planes, as products of spectra.
"""

import torch
import torch.nn.functional as F
from scipy.fft import next_fast_len
from torch import nn

from .conv2d_gradient_fix import conv2d_as_conv1d, pair
from .private_names import computes_conv2d, in_transform

BLOCK = 32  # samples of a Toeplitz block: larger ones waste more products on zeros, smaller ones copy more windows


def margins(conv, axis):
    """Count the zeros that a convolution adds before and after an axis (2 or 3) of its input."""
    if conv.padding == "valid":
        return 0, 0
    if conv.padding == "same":
        extra = conv.dilation[axis - 2] * (conv.kernel_size[axis - 2] - 1)
        return extra // 2, extra - extra // 2
    return conv.padding[axis - 2], conv.padding[axis - 2]


def is_plain_conv(layer):
    """Whether a layer computes what `torch.nn.Conv2d` does."""
    return computes_conv2d(type(layer)) and layer.padding_mode == "zeros"


def has_convolution_form(layer):
    """Whether a layer is a convolution that may have a fast form, depending on its input."""
    return is_plain_conv(layer) and max(layer.kernel_size) > 1


def convolve(layer, x):
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


def _along(layer, x, axis):
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
        windows = F.pad(x, padding).unfold(3, length, 1)  # needs no preparation: half the time of conv2d
        y = (windows * layer.weight.flatten(1)[:, None, None]).sum(-1)
    elif depthwise and n_rows >= 4:
        y = depthwise_conv(x, layer.weight.flatten(1), padding)
    elif layer.groups == n_planes == 1 and n_out <= 16 and length >= 48 and (len(x) > 1 or n_products > 5e6):
        y = filter_bank(x[:, 0], layer.weight.flatten(1), padding)
    elif layer.groups == 1 and n_planes > 1 and _fourier_pays(x, n_out, length):
        y = fourier_conv(x, layer.weight.flatten(2), padding)
    else:
        return None
    return y.transpose(2, 3) if axis == 2 else y


def _span_planes(weight, x, axis):
    """Spatial filters of each plane by itself, (planes, filters, electrodes), as one product for each plane."""
    if axis == 2:
        return (weight @ x).flatten(1, 2).unsqueeze(2)
    return (x @ weight.transpose(1, 2)).transpose(2, 3).flatten(1, 2).unsqueeze(3)


def has_average_form(layer):
    """Whether a layer averages over windows that overlap by whole steps."""
    if type(layer) is not nn.AvgPool2d or layer.padding not in (0, (0, 0)) or layer.ceil_mode:
        return False
    if layer.divisor_override is not None:
        return False
    (height, width), (down, right) = pair(layer.kernel_size), pair(layer.stride)
    return height % down == 0 and width % right == 0 and (height // down) * (width // right) > 1


def average_pool(layer, x):
    """Average in two stages, over the steps and then over the steps of a window; None on a GPU."""
    if x.device.type != "cpu":
        return None
    (height, width), (down, right) = pair(layer.kernel_size), pair(layer.stride)
    return F.avg_pool2d(F.avg_pool2d(x, (down, right)), (height // down, width // right), stride=1)


def depthwise_conv(x, weight, padding=(0, 0)):
    """Filter every plane with its own kernel, by blocks of Toeplitz matrices.

    ``y[b, f, d, t] = sum_k weight[f, k] x[b, f, d, t + k - padding[0]]`` of x (batch, planes, rows, T) and weight
    (planes, K). The signals are cut into overlapping windows, and one matrix product for each plane filters all of
    them. On a CPU this is several times faster than ``conv2d`` with groups, in both directions, for tens to hundreds
    of samples.
    """
    return _DepthwiseConv.apply(x, weight, *padding)


class _DepthwiseConv(torch.autograd.Function):
    """Only the input and the kernels are kept between forward and backward."""

    @staticmethod
    def forward(ctx, x, weight, left, right):
        n_out = x.shape[3] + left + right - weight.shape[1] + 1
        ctx.save_for_backward(x, weight)
        ctx.left = left
        windows = cut_windows(x, weight.shape[1], left, n_out)
        return filter_windows(windows, toeplitz_matrix(weight), x, n_out)

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        length, n_times = weight.shape[1], x.shape[3]
        windows = cut_windows(grad, length, length - 1 - ctx.left, n_times)
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_x = filter_windows(windows, toeplitz_matrix(weight.flip(1)), x, n_times)
        if ctx.needs_input_grad[1]:
            n_blocks = -(-n_times // BLOCK)
            blocks = F.pad(x, (0, n_blocks * BLOCK - n_times)).unflatten(3, (n_blocks, BLOCK))
            blocks = blocks.transpose(0, 1).reshape(x.shape[1], -1, BLOCK)
            # Sums of products[f, i, j] over i - j = length - 1 - k.
            products = windows.transpose(1, 2) @ blocks
            grad_weight = skew(products.transpose(1, 2), products.shape[2]).sum(1)[:, :length].flip(1)
        return grad_x, grad_weight, None, None


def filter_bank(x, weight, padding=(0, 0)):
    """Filter every signal with every kernel, by blocks of Toeplitz matrices.

    ``y[b, f, r, t] = sum_k weight[f, k] x[b, r, t + k - padding[0]]`` of x (batch, rows, T) and weight (filters, K).
    """
    n_filters, length = weight.shape
    n_out = x.shape[2] + sum(padding) - length + 1
    windows = cut_windows(x.unsqueeze(1), length, padding[0], n_out)[0]
    matrix = toeplitz_matrix(weight).transpose(0, 1).flatten(1)
    y = (windows @ matrix).view(*x.shape[:2], -1, n_filters, BLOCK)
    return y.permute(0, 3, 1, 2, 4).flatten(3)[..., :n_out].contiguous()


def cut_windows(x, length, left, n_out):
    """Cut padded signals into the windows behind the blocks of the output: (planes, batch * rows * blocks, window)."""
    n_blocks = -(-n_out // BLOCK)
    window = BLOCK + length - 1
    padded = F.pad(x, (left, n_blocks * BLOCK + length - 1 - x.shape[3] - left))
    return padded.unfold(3, window, BLOCK).transpose(0, 1).reshape(x.shape[1], -1, window)


def filter_windows(windows, matrix, like, n_out):
    """Filter windows by Toeplitz matrices, and concatenate the blocks as (batch, planes, rows, n_out)."""
    y = (windows @ matrix).view(like.shape[1], like.shape[0], like.shape[2], -1)
    return y[..., :n_out].transpose(0, 1).contiguous()


def toeplitz_matrix(weight):
    """Matrices ``M[f, i, t] = weight[f, i - t]`` that turn windows into blocks of output, (filters, window, BLOCK)."""
    return F.pad(weight, (BLOCK - 1, BLOCK - 1)).unfold(1, BLOCK, 1).flip(2)


def skew(matrices, margin):
    """Shift row ``i`` of each (batch, n, m) matrix left by ``i``, so that diagonals become columns.

    What leaves on the left comes in again on the right, behind ``margin`` zeros, which must be at least ``n - 1``.
    """
    n_batch, n_rows, n_columns = matrices.shape
    width = n_columns + margin
    # Read with rows longer by one sample, the memory of a matrix shows each row shifted by one more.
    flat = F.pad(F.pad(matrices, (0, margin)).flatten(1), (0, n_rows))
    return flat.view(n_batch, n_rows, width + 1)


def fourier_conv(x, weight, padding=(0, 0)):
    """Convolve over the last axis, all planes into all, through the Fourier transform.

    ``y[b, o, r, t] = sum_i sum_k weight[o, i, k] x[b, i, r, t + k - padding[0]]`` of x (batch, planes, rows, T) and
    weight (filters, planes, K). For kernels of tens of samples between many planes the spectra cost less than the sums.
    """
    # A circle as long as the padded signals keeps what wraps around away from the samples that are kept.
    size = next_fast_len(x.shape[3] + sum(padding), real=True)
    spectra = torch.fft.rfft(F.pad(x, (padding[0], 0)), n=size).permute(3, 1, 0, 2).flatten(2)
    product = torch.fft.rfft(weight, n=size).permute(2, 0, 1).conj() @ spectra  # for each frequency
    filtered = product.unflatten(2, (x.shape[0], x.shape[2])).permute(2, 1, 3, 0)
    n_out = x.shape[3] + sum(padding) - weight.shape[2] + 1
    return torch.fft.irfft(filtered, n=size)[..., :n_out].contiguous()


def _fourier_pays(x, n_out, length):
    n_batch, n_planes, n_rows, _ = x.shape
    if length < 16:  # transforms of short signals are padded to half as long again: 0.3 to 1.2 times as fast
        return False
    # Nanoseconds for each sample: of one multiplication in torch's kernel, and of one signal's transforms and products.
    multiply = 0.9 if n_planes < 8 else 0.25 if n_rows > 1 else 0.15
    return multiply * length * n_planes * n_out > 26 * (n_planes + n_out + n_planes * n_out / (n_batch * n_rows))
