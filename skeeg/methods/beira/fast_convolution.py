"""Convolution over time with two fifths of the multiplications, for the wide layers of BEIRA on a CPU.

The algorithm is Toom and Cook's, known from Winograd: m neighbouring outputs of a kernel of r taps are polynomials
multiplied and evaluated at m + r - 1 = 8 points. With the windows d of the signal and the kernel g,

    y = A (G g * B d)

where the product at each point is a matrix product over the channels: eight for every m samples, where plain
convolution needs r m. The points are 0, ±1, ±2, ±1/2 and infinity. With them the rounding of float32 stays
near that of plain convolution for 4 and 5 taps; for fewer it grows, and they are left to plain convolution.

Signals go trial by trial and stretch by stretch through buffers that stay in the processor's cache. The buffers are
kept from call to call, some megabytes for each thread: memory that is new at every call costs as much as the products.
"""

import functools
import math
import threading

import numpy as np
import torch

N_POINTS = 8
_POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)
_LEAST_WORK, _LEAST_TIMES = 64 * 64, 256  # channels in times out, and samples, below which the transforms do not pay
_STRETCH = 512  # tiles that go through the buffers at once
_MOST_KEPT = 2**20  # values of a buffer
_kept = threading.local()


def is_worth_it(n_in, n_out, n_taps, n_times):
    """Whether the transforms cost less than what they spare.

    Examples
    --------
    >>> from skeeg.methods.beira.fast_convolution import is_worth_it
    >>> is_worth_it(128, 128, 5, 2048), is_worth_it(16, 128, 3, 2048), is_worth_it(128, 128, 5, 32)
    (True, False, False)
    """
    return n_taps in (4, 5) and n_in * n_out >= _LEAST_WORK and n_times >= _LEAST_TIMES


def transforms(n_taps, dtype=torch.float32):
    """Matrices of the algorithm.

    Parameters
    ----------
    n_taps : int
        Taps r of the kernel, 2 to 7.
    dtype : torch.dtype
        Of the matrices.

    Returns
    -------
    output : Tensor, shape (m, 8)
        A, for m = 9 - r neighbouring samples.
    kernel : Tensor, shape (8, r)
        G.
    window : Tensor, shape (8, 8)
        B.

    Examples
    --------
    >>> import torch
    >>> from skeeg.methods.beira.fast_convolution import transforms
    >>> A, G, B = transforms(3, torch.float64)
    >>> d, g = torch.randn(8, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    >>> torch.allclose(A @ ((G @ g) * (B @ d)), d.unfold(0, 3, 1) @ g)
    True
    """
    return tuple(torch.from_numpy(matrix).to(dtype) for matrix in _transforms(n_taps))


@functools.lru_cache
def _transforms(n_taps):
    """Matrices in float64, as arrays: a tensor that is made while a network is traced is none afterwards."""

    def powers(n):
        rows = [[point**i for i in range(n)] for point in _POINTS]
        return np.array([*rows, [0.0] * (n - 1) + [1.0]])

    window = np.linalg.inv(powers(N_POINTS)).T
    scale = np.abs(window).max(axis=1, keepdims=True)  # evens out the sizes, which keeps rounding small
    output, kernel = powers(N_POINTS + 1 - n_taps).T, powers(n_taps) * scale
    return tuple(np.ascontiguousarray(matrix) for matrix in (output, kernel, window / scale))


class Toom(torch.autograd.Function):
    """Convolution of time-major signals (batch, times, n_in) with a kernel (n_out, n_in, K), keeping the length."""

    @staticmethod
    def forward(ctx, x, weight):
        """Convolve."""
        ctx.save_for_backward(x, weight)
        return convolve(x, weight)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        """Gradients for x and for the weight."""
        return convolve_backward(grad, *ctx.saved_tensors)


def convolve(x, weight):
    """Convolve without keeping anything for a gradient; see `Toom`."""
    n_out, _, n_taps = weight.shape
    step, n_times = N_POINTS + 1 - n_taps, x.shape[1]
    n_tiles, halo = -(-n_times // step), -(-(n_taps // 2) // step)  # tiles around a stretch that tell on it
    kernel, y = _spread_kernel(weight).mT, x.new_empty(len(x), n_tiles, step, n_out)
    for first in range(0, n_tiles, _STRETCH):
        start, stop = max(first - halo, 0), min(first + _STRETCH + halo, n_tiles)
        _convolve_stretch(x[:, start * step : stop * step], kernel, y[:, first : first + _STRETCH], first - start)
    return y.flatten(1, 2)[:, :n_times]


def _convolve_stretch(x, kernel, y, skip):
    """Convolve some tiles of each trial; the first ones that come out are left out, and those after the last of y."""
    plan, n_out = _Plan(x, N_POINTS + 1 - y.shape[2]), y.shape[3]
    products = _buffer("products", x, N_POINTS, plan.n_tiles, n_out)
    samples = _buffer("samples", x, plan.step, plan.n_tiles, n_out)
    for trial, out in zip(x, y, strict=True):
        torch.bmm(plan.spread(trial), kernel, out=products)
        torch.mm(plan.output, products.view(N_POINTS, -1), out=samples.view(plan.step, -1))
        out.copy_(samples[:, skip : skip + len(out)].transpose(0, 1))


def convolve_backward(grad, x, weight):
    """Gradients of `convolve` for x and for the weight: its steps transposed, in reverse order."""
    n_out, n_in, n_taps = weight.shape
    plan, kernel = _Plan(x, n_taps), _spread_kernel(weight)
    grad_x, grad_kernel = torch.empty_like(x), x.new_zeros(N_POINTS, n_out, n_in)
    tiles = _buffer("samples", x, plan.step, plan.n_tiles, n_out).zero_()
    products = _buffer("products", x, N_POINTS, plan.n_tiles, n_out)
    slopes = _buffer("slopes", x, N_POINTS, plan.n_tiles, n_in)
    for trial, slope, out in zip(x, grad, grad_x, strict=True):
        for phase in range(plan.step):
            samples = slope[phase :: plan.step]
            tiles[phase, : len(samples)] = samples
        torch.mm(plan.output.T, tiles.view(plan.step, -1), out=products.view(N_POINTS, -1))
        grad_kernel.baddbmm_(products.mT, plan.spread(trial))
        torch.bmm(products, kernel, out=slopes)
        plan.gather(slopes, out)
    _, spread, _ = transforms(n_taps, x.dtype)
    return grad_x, (spread.T @ grad_kernel.flatten(1)).view(-1, n_out, n_in).permute(1, 2, 0)


def _spread_kernel(weight):
    """Kernel at the points, (8, n_out, n_in)."""
    _, spread, _ = transforms(weight.shape[-1], weight.dtype)
    return (spread @ weight.flatten(0, 1).T).view(N_POINTS, *weight.shape[:2])


def _buffer(name, like, *shape):
    """Memory for values of a type, with whatever is in it; only one of a name may be in use in a thread."""
    size, key = math.prod(shape), f"{name} {like.dtype}"
    if size > _MOST_KEPT or type(like) is not torch.Tensor or torch.compiler.is_compiling():
        return like.new_empty(shape)  # what is made while a network is traced is no memory
    if len(vars(_kept).get(key, ())) < size:
        with torch.inference_mode(False):  # what is made in that mode could not be written to in training
            vars(_kept)[key] = torch.empty(size, dtype=like.dtype)
    return vars(_kept)[key][:size].view(shape)


class _Plan:
    """Sizes and matrices of one convolution of signals (batch, times, n_in), and its two transforms of signals."""

    def __init__(self, x, n_taps):
        self.output, _, self.window = transforms(n_taps, x.dtype)
        self.step, left = N_POINTS + 1 - n_taps, (n_taps - 1) // 2
        n_times, self.n_chans = x.shape[1:]
        self.n_tiles = -(-n_times // self.step)
        n_reach = -(-N_POINTS // self.step)  # tiles of samples that a window touches
        self.phases = _buffer("phases", x, self.step, self.n_tiles + n_reach - 1, self.n_chans)
        self.phases[:, :n_reach] = self.phases[:, self.n_tiles - 1 :] = 0.0  # around the signal; the rest is filled
        self.points = _buffer("points", x, N_POINTS, self.n_tiles * self.n_chans)
        self.parts = []  # of a window, with the samples it falls on; views
        for reach in range(n_reach):
            matrix = self.window[:, reach * self.step : (reach + 1) * self.step]
            start = reach * self.n_chans
            view = self.phases.flatten(1)[: matrix.shape[1], start : start + self.n_tiles * self.n_chans]
            self.parts.append((matrix, view))
        self.places = []  # of each phase: where its samples are in the signal, and among the tiles
        for phase in range(self.step):
            tile = max(-(-(left - phase) // self.step), 0)
            first = phase - left + tile * self.step
            self.places.append(
                (slice(first, None, self.step), slice(tile, tile + len(range(first, n_times, self.step))))
            )

    def spread(self, trial):
        """Windows of a trial (times, n_in) at the points, (8, tiles, n_in)."""
        for phase, (samples, tiles) in enumerate(self.places):
            self.phases[phase, tiles] = trial[samples]
        (matrix, view), *others = self.parts
        torch.mm(matrix, view, out=self.points)
        for matrix, view in others:
            self.points.addmm_(matrix, view)
        return self.points.view(N_POINTS, self.n_tiles, self.n_chans)

    def gather(self, slopes, out):
        """Turn gradients at the points, (8, tiles, n_in), into those of the samples (times, n_in)."""
        slopes = slopes.flatten(1)
        self.phases.zero_()
        for matrix, view in self.parts:
            view.addmm_(matrix.T, slopes)
        for phase, (samples, tiles) in enumerate(self.places):
            out[samples] = self.phases[phase, tiles]
        self.phases.zero_()  # for the zeros around the next trial
