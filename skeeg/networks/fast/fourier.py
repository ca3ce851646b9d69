"""Long convolutions over time as products of spectra."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .toeplitz import fast_length

__all__ = ["fourier_conv"]


def fourier_conv(x: Tensor, weight: Tensor, padding: tuple[int, int] = (0, 0)) -> Tensor:
    """Convolve over the last axis, all planes into all, through the Fourier transform.

    ``y[b, o, r, t] = sum_i sum_k weight[o, i, k] x[b, i, r, t + k - padding[0]]`` of x (batch, planes, rows, T) and
    weight (filters, planes, K). For kernels of tens of samples between many planes the spectra cost less than the sums.
    Only the input and the weight are kept for the backward pass.
    """
    return _FourierConv.apply(x, weight, *padding)


class _FourierConv(torch.autograd.Function):
    """Forward and backward of :func:`fourier_conv`."""

    @staticmethod
    def forward(ctx, x, weight, left, right):
        ctx.save_for_backward(x, weight)
        ctx.padding = left, right
        # A circle as long as the padded signals keeps what wraps around away from the samples that are kept.
        size = fast_length(x.shape[3] + left + right)
        product = _kernel_spectra(weight, size).conj() @ _spectra(F.pad(x, (left, 0)), size)
        return _signals(product, x, size)[..., : x.shape[3] + left + right - weight.shape[2] + 1].contiguous()

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        left, right = ctx.padding
        size = fast_length(x.shape[3] + left + right)
        spectra = _spectra(grad, size)
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            product = _kernel_spectra(weight, size).transpose(1, 2) @ spectra
            grad_x = _signals(product, x, size)[..., left : left + x.shape[3]].contiguous()
        if ctx.needs_input_grad[1]:
            cross = spectra.conj() @ _spectra(F.pad(x, (left, 0)), size).transpose(1, 2)
            grad_weight = torch.fft.irfft(cross.permute(1, 2, 0), n=size)[..., : weight.shape[2]].contiguous()
        return grad_x, grad_weight, None, None


def _spectra(x: Tensor, size: int) -> Tensor:
    """Spectra of (batch, planes, rows, T) signals as one matrix a frequency: (frequencies, planes, batch * rows)."""
    return torch.fft.rfft(x, n=size).permute(3, 1, 0, 2).flatten(2)


def _kernel_spectra(weight: Tensor, size: int) -> Tensor:
    return torch.fft.rfft(weight, n=size).permute(2, 0, 1)


def _signals(spectra: Tensor, like: Tensor, size: int) -> Tensor:
    """Signals (batch, planes, rows, size) of the spectra that :func:`_spectra` gives."""
    shaped = spectra.unflatten(2, (like.shape[0], like.shape[2])).permute(2, 1, 3, 0)
    return torch.fft.irfft(shaped, n=size)
