"""Cheap and exact forms of BEIRA's layers, all from the parameters of the plain ones.

Three things cost most in the plain network on a CPU: the copies between channel-major convolutions and time-major layer
normalisation, the depth-wise filters, for which there is no fast kernel, and the random numbers of dropout. Here the
activations stay time-major (batch, times, channels), a depth-wise filter is computed in phases, and a dropout mask
costs 16 random bits a value.
"""

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from ...networks.fast.dropout import keep_by_16_bits
from . import fast_convolution


def same_padding(kernel_size):
    """Zeros before and after a signal that keep its length, as ``padding="same"`` of torch places them.

    Examples
    --------
    >>> from skeeg.methods.beira.layers import same_padding
    >>> same_padding(51), same_padding(4)
    ((25, 25), (1, 2))
    """
    return (kernel_size - 1) // 2, kernel_size // 2


def depthwise_conv1d(x, weight, n_phases=16):
    """Filter each channel with its own filter, keeping the length.

    With P phases, sample P i + p of the output is ``sum_q sum_j W[p, q, j] x[P (i + j) + q]`` where
    ``W[p, q, j] = weight[P j + q - p]``: a convolution with P channels in, P out, and a kernel of (K + P - 1) / P
    taps. It multiplies by a few zeros more, but as dense blocks, which is many times faster than tap by tap.

    Parameters
    ----------
    x : Tensor, shape (batch, channels, times)
        Signals.
    weight : Tensor, shape (channels, 1, K)
        One filter a channel, correlated with the signal as torch does.
    n_phases : int
        Phases P.

    Returns
    -------
    y : Tensor, shape (batch, channels, times)
        Equal to ``conv1d(x, weight, groups=channels, padding="same")``.

    Examples
    --------
    >>> import torch
    >>> from skeeg.methods.beira.layers import depthwise_conv1d
    >>> x, weight = torch.randn(2, 3, 70), torch.randn(3, 1, 51)
    >>> plain = torch.nn.functional.conv1d(x, weight, groups=3, padding="same")
    >>> torch.allclose(depthwise_conv1d(x, weight), plain, atol=1e-4)
    True
    """
    batch, channels, n_times = x.shape
    n_taps = weight.shape[-1]
    n_steps, n_blocks = -(-n_times // n_phases), -(-(n_phases + n_taps - 1) // n_phases)
    left, _ = same_padding(n_taps)
    n_padded = (n_steps + n_blocks - 1) * n_phases
    x = F.pad(x, (left, n_padded - n_times - left)).view(batch, channels, -1, n_phases)
    x = x.transpose(2, 3).reshape(batch, channels * n_phases, -1)
    span = n_blocks * n_phases
    shifted = F.pad(weight[:, 0], (n_phases - 1, span - n_taps)).unfold(1, span, 1).flip(1)  # (channels, P, span)
    kernel = shifted.reshape(channels, n_phases, n_blocks, n_phases).transpose(2, 3)
    y = F.conv1d(x, kernel.reshape(channels * n_phases, n_phases, n_blocks), groups=channels)
    return y.view(batch, channels, n_phases, n_steps).transpose(2, 3).reshape(batch, channels, -1)[..., :n_times]


def time_major_conv1d(x, weight):
    """Convolve time-major signals, keeping the length.

    Parameters
    ----------
    x : Tensor, shape (batch, times, n_in)
        Signals, channels last.
    weight : Tensor, shape (n_out, n_in, K)
        Kernel of `torch.nn.Conv1d`.

    Returns
    -------
    y : Tensor, shape (batch, times, n_out)
        Equal to ``conv1d(x.mT, weight, padding="same").mT``.

    Examples
    --------
    >>> import torch
    >>> from skeeg.methods.beira.layers import time_major_conv1d
    >>> time_major_conv1d(torch.zeros(2, 30, 4), torch.zeros(8, 4, 3)).shape
    torch.Size([2, 30, 8])
    """
    if x.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        return _convolve(x, weight)
    n_out, n_in, n_taps = weight.shape
    if fast_convolution.is_worth_it(n_in, n_out, n_taps, x.shape[1]):
        return (fast_convolution.Toom.apply if torch.is_grad_enabled() else fast_convolution.convolve)(x, weight)
    return _TimeMajorConv.apply(x, weight) if torch.is_grad_enabled() else _convolve(x, weight)


def _convolve(x, weight):
    """Convolve as a one-row image in channels-last memory, which needs no copy of x or of the result."""
    left, right = same_padding(weight.shape[-1])
    if left != right:
        x, left = F.pad(x, (0, 0, left, right)), 0
    image, kernel = x.mT.unsqueeze(2), weight.unsqueeze(2)
    return F.conv2d(image, kernel.contiguous(memory_format=torch.channels_last), padding=(0, left)).squeeze(2).mT


class _TimeMajorConv(torch.autograd.Function):
    """`_convolve` with a weight gradient by matrix products: oneDNN's own is 2 to 3 times slower in this layout."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return _convolve(x, weight)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        n_taps = weight.shape[-1]
        left, right = same_padding(n_taps)
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            # The adjoint pads the other way round, which matters for even kernels only.
            spare = F.pad(grad, (0, 0, right - left, 0))
            grad_x = _convolve(spare, weight.flip(2).transpose(0, 1))[:, : x.shape[1]]
        if ctx.needs_input_grad[1]:
            # The zeros after each trial's gradient meet the samples where the next trial begins.
            rows = F.pad(x, (0, 0, left, right)).flatten(0, 1)
            columns = F.pad(grad, (0, 0, 0, n_taps - 1)).flatten(0, 1)
            n_rows = len(rows) - n_taps + 1
            taps = [columns[:n_rows].T @ rows[tap : tap + n_rows] for tap in range(n_taps)]
            grad_weight = torch.stack(taps, dim=2)
        return grad_x, grad_weight


def norm_gelu(x, norm):
    """Layer normalisation and GELU that keep nothing but their input for the gradient.

    What lies between them is computed again on the way back, which takes some hundredths of the time of an update and
    spares a tenth of its memory.

    Parameters
    ----------
    x : Tensor, shape (..., n)
        Signals, channels last.
    norm : torch.nn.LayerNorm
        Over the channels.

    Returns
    -------
    y : Tensor, shape (..., n)
        ``gelu(norm(x))``.

    Examples
    --------
    >>> import torch
    >>> from skeeg.methods.beira.layers import norm_gelu
    >>> x, norm = torch.randn(2, 8, 3), torch.nn.LayerNorm(3)
    >>> torch.equal(norm_gelu(x, norm), torch.nn.functional.gelu(norm(x)))
    True
    """
    if not torch.is_grad_enabled():  # where its bookkeeping is for nothing
        return F.gelu(norm(x))
    return checkpoint(lambda x: F.gelu(norm(x)), x, use_reentrant=False, preserve_rng_state=False)


def gelu_max(x, size):
    """Largest of `size` neighbouring values after GELU, from the largest and the smallest before it.

    GELU falls and then rises, so its largest value is at one of the two ends: two values are computed, not `size`.

    Parameters
    ----------
    x : Tensor, shape (batch, times, n)
        Signals, channels last.
    size : int
        Samples of which the maximum is taken; the rest at the end is left out.

    Returns
    -------
    y : Tensor, shape (batch, times // size, n)
        Equal to the maximum of ``gelu(x)``.

    Examples
    --------
    >>> import torch
    >>> from skeeg.methods.beira.layers import gelu_max
    >>> x = torch.randn(1, 8, 3)
    >>> torch.equal(gelu_max(x, 4), torch.nn.functional.gelu(x).view(1, 2, 4, 3).amax(2))
    True
    """
    n_steps = x.shape[1] // size
    groups = x[:, : n_steps * size].unflatten(1, (n_steps, size))
    return torch.maximum(F.gelu(groups.amax(2)), F.gelu(groups.amin(2)))


def cheap_dropout(x, p, training=True):
    """Drop values with probability p, rounded to 1 / 65536.

    Four values share one 64-bit random number, which makes the mask several times cheaper than torch's on a CPU. On
    other devices this is `torch.nn.functional.dropout`.

    Parameters
    ----------
    x : Tensor
        Values.
    p : float
        Probability of a zero.
    training : bool
        Whether to drop at all.

    Returns
    -------
    y : Tensor
        Kept values divided by 1 - p.

    Examples
    --------
    >>> import torch
    >>> from skeeg.methods.beira.layers import cheap_dropout
    >>> cheap_dropout(torch.ones(8), 0.5).unique().tolist()
    [0.0, 2.0]
    """
    if not training or p == 0:
        return x
    if x.device.type != "cpu" or p >= 1:
        return F.dropout(x, p)
    return x * keep_by_16_bits(x, p) * (1 / (1 - p))  # for the gradient a byte a value is kept
