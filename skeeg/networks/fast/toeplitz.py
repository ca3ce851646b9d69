"""Long one-dimensional filters as matrix products, and the batch statistics of their output without computing it."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "cut_windows",
    "depthwise_conv",
    "fast_length",
    "filter_bank",
    "filter_one_trial",
    "filter_windows",
    "lagged_covariance",
]


def depthwise_conv(x: Tensor, weight: Tensor, padding: tuple[int, int] = (0, 0)) -> Tensor:
    """Filter every plane with its own kernel, by blocks of Toeplitz matrices.

    ``y[b, f, d, t] = sum_k weight[f, k] x[b, f, d, t + k - padding[0]]`` of x (batch, planes, rows, T) and weight
    (planes, K). The signals are cut into overlapping windows, and one matrix product a plane filters all of them. On a
    CPU this is several times faster than ``conv2d`` with groups, in both directions, for tens to hundreds of samples.
    """
    return _DepthwiseConv.apply(x, weight, *padding)


class _DepthwiseConv(torch.autograd.Function):
    """Forward and backward of :func:`depthwise_conv`; only the input and the kernels are kept between them."""

    @staticmethod
    def forward(ctx, x, weight, left, right):
        n_out = x.shape[3] + left + right - weight.shape[1] + 1
        ctx.save_for_backward(x, weight)
        ctx.left = left
        windows = cut_windows(x, weight.shape[1], left, n_out)
        return filter_windows(windows, _matrix_for(windows, weight), x, n_out)

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        length, n_times = weight.shape[1], x.shape[3]
        windows = cut_windows(grad, length, length - 1 - ctx.left, n_times)
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_x = filter_windows(windows, _matrix_for(windows, weight.flip(1)), x, n_times)
        if ctx.needs_input_grad[1]:
            block = windows.shape[2] - length + 1
            n_blocks = -(-n_times // block)
            blocks = F.pad(x, (0, n_blocks * block - n_times)).unflatten(3, (n_blocks, block))
            blocks = blocks.transpose(0, 1).reshape(x.shape[1], -1, block)
            grad_weight = _sum_diagonals(windows.transpose(1, 2) @ blocks, length)
        return grad_x, grad_weight, None, None


def filter_one_trial(x: Tensor, weight: Tensor, padding: tuple[int, int] = (0, 0)) -> Tensor:
    """Filter as :func:`depthwise_conv`, window by window.

    All products are laid out and summed, which takes no preparation: for one trial half the time of ``conv2d``.
    """
    windows = F.pad(x, padding).unfold(3, weight.shape[1], 1)
    return (windows * weight[:, None, None]).sum(-1)


def filter_bank(x: Tensor, weight: Tensor, padding: tuple[int, int] = (0, 0)) -> Tensor:
    """Filter every signal with every kernel, by blocks of Toeplitz matrices.

    ``y[b, f, r, t] = sum_k weight[f, k] x[b, r, t + k - padding[0]]`` of x (batch, rows, T) and weight (filters, K).
    """
    n_filters, length = weight.shape
    n_out = x.shape[2] + sum(padding) - length + 1
    block = 32
    windows = cut_windows(x.unsqueeze(1), length, padding[0], n_out, block)[0]
    matrix = toeplitz_matrix(weight, block).transpose(0, 1).flatten(1)
    y = (windows @ matrix).view(*x.shape[:2], -1, n_filters, block)
    return y.permute(0, 3, 1, 2, 4).flatten(3)[..., :n_out].contiguous()


def block_length(length: int) -> int:
    """Choose the samples that one Toeplitz block gives: enough for the kernel not to waste the overlap."""
    return 64 if length <= 96 else 128


def cut_windows(x: Tensor, length: int, left: int, n_out: int, block: int | None = None) -> Tensor:
    """Cut padded signals into the windows behind the blocks of the output: (planes, batch * rows * blocks, window)."""
    block = block_length(length) if block is None else block
    n_blocks = -(-n_out // block)
    window = block + length - 1
    padded = F.pad(x, (left, n_blocks * block + length - 1 - x.shape[3] - left))
    return padded.unfold(3, window, block).transpose(0, 1).reshape(x.shape[1], -1, window)


def filter_windows(windows: Tensor, matrix: Tensor, like: Tensor, n_out: int) -> Tensor:
    """Filter windows by Toeplitz matrices, and lay the blocks end to end as (batch, planes, rows, n_out)."""
    y = (windows @ matrix).view(like.shape[1], like.shape[0], like.shape[2], -1)
    return y[..., :n_out].transpose(0, 1).contiguous()


def _matrix_for(windows: Tensor, weight: Tensor) -> Tensor:
    return toeplitz_matrix(weight, windows.shape[2] - weight.shape[1] + 1)


def toeplitz_matrix(weight: Tensor, block: int) -> Tensor:
    """Matrices ``M[f, i, t] = weight[f, i - t]`` that turn windows into blocks of output, (filters, window, block)."""
    return F.pad(weight, (block - 1, block - 1)).unfold(1, block, 1).flip(2)


def _sum_diagonals(products: Tensor, length: int) -> Tensor:
    """Sum ``products[f, i, j]`` over ``i - j = length - 1 - k``, as (planes, k)."""
    n_planes, n_rows, n_columns = products.shape
    skewed = _skew(products.transpose(1, 2), n_columns)
    return skewed.sum(1)[:, :length].flip(1)


def _skew(matrices: Tensor, margin: int) -> Tensor:
    """Shift row ``i`` of each (batch, n, m) matrix left by ``i``, so that diagonals become columns.

    What leaves on the left comes in again on the right, behind ``margin`` zeros, which must be at least ``n - 1``.
    """
    n_batch, n_rows, n_columns = matrices.shape
    width = n_columns + margin
    # Read with rows longer by one sample, the memory of a matrix shows each row shifted by one more.
    flat = F.pad(F.pad(matrices, (0, margin)).flatten(1), (0, n_rows))
    return flat.view(n_batch, n_rows, width + 1)


def _unskew(skewed: Tensor, n_columns: int) -> Tensor:
    n_batch, n_rows, width = skewed.shape
    flat = skewed.reshape(n_batch, -1)[:, : n_rows * (width - 1)]
    return flat.view(n_batch, n_rows, width - 1)[:, :, :n_columns]


def lagged_covariance(x: Tensor, length: int, padding: tuple[int, int] = (0, 0)) -> tuple[Tensor, Tensor]:
    """Mean (K,) and covariance (K, K) of all windows of K samples of x (batch, rows, T), in double precision.

    A filter ``w`` applied to every signal gives values of mean ``w @ mean`` and of biased variance ``w @ cov @ w``: the
    batch statistics of a temporal convolution, without the convolution. No gradient flows to x. The second moment
    ``R[k, l] = sum_t x[t + k] x[t + l]`` is the autocorrelation at lag ``l - k``, which one Fourier transform a signal
    gives for all lags, less the products outside the first or behind the last window.
    """
    with torch.no_grad():
        n_times = x.shape[2]
        n_windows = n_times + sum(padding) - length + 1
        total, head, tail, lags = 0.0, 0.0, 0.0, 0.0
        # A few trials at a time stay in the cache.
        for part in x.detach().split(max(1, _CACHED // (x.shape[1] * n_times))):
            rows = part.reshape(-1, n_times).double()
            total = total + rows.sum(0)
            lags = lags + _power(rows, fast_length(n_times + length - 1))
            first, last = _edges(rows, length, padding, n_windows)
            head, tail = head + first.t() @ first, tail + last.t() @ last
        size = fast_length(n_times + length - 1)
        correlation = torch.fft.irfft(lags, n=size)[:length]
        moment = _toeplitz_moment(correlation, head, tail)
        mean = F.pad(total, padding).unfold(0, n_windows, 1).sum(1)
        count = x.shape[0] * x.shape[1] * n_windows
        mean = mean / count
        return mean, moment / count - torch.outer(mean, mean)


# Samples that lagged_covariance takes at once; as doubles and their spectrum they fill about 2 MB.
_CACHED = 1 << 17


def _power(rows: Tensor, size: int) -> Tensor:
    spectrum = torch.fft.rfft(rows, n=size)
    return (spectrum.real.square() + spectrum.imag.square()).sum(0)


def _edges(rows: Tensor, length: int, padding: tuple[int, int], n_windows: int) -> tuple[Tensor, Tensor]:
    """First and last ``length - 1`` samples of the padded signals."""
    padded_head = F.pad(rows[:, : max(length - 1 - padding[0], 0)], (padding[0], 0))
    head = F.pad(padded_head, (0, max(0, length - 1 - padded_head.shape[1])))[:, : length - 1]
    start = n_windows - padding[0]
    tail = rows[:, start:] if start >= 0 else F.pad(rows, (-start, 0))
    return head, F.pad(tail, (0, length - 1 - tail.shape[1]))


def _toeplitz_moment(correlation: Tensor, head: Tensor, tail: Tensor) -> Tensor:
    """Second moment of the windows from the autocorrelation and the products of the samples at both edges."""
    length = correlation.shape[0]
    lag = torch.arange(length, device=correlation.device)
    moment = correlation[(lag[:, None] - lag).abs()]
    if length == 1:
        return moment
    # Down a diagonal, each step leaves out one more sample of the head, and one less of the tail.
    before = _unskew(_skew(head[None], length).cumsum(1), length - 1)[0]
    after = _unskew(_skew(tail.flip(0, 1)[None], length).cumsum(1), length - 1)[0].flip(0, 1)
    moment[1:, 1:] -= before
    moment[:-1, :-1] -= after
    return moment


@functools.cache
def fast_length(minimum: int) -> int:
    """Smallest length from ``minimum`` on whose only prime factors are 2, 3 and 5."""
    length = minimum
    while True:
        rest = length
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return length
        length += 1
