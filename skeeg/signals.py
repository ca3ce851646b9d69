"""Filtering and resampling of many trials and channels at a time: the numerics under `skeeg.filtering`."""

from fractions import Fraction
from functools import partial

import numpy as np
from scipy import fft, signal

BANDS = ((1.0, 4.0), (4.0, 8.0), (8.0, 13.0), (13.0, 30.0), (30.0, 45.0))
"""Delta, theta, alpha, beta and low gamma, in hertz."""
_BLOCK = 2**16  # samples worked on at a time: the padded signals and their spectra then stay in a core's cache


def filter_trials(data, filters, n_edges, causal=False):
    """Filter trials by each filter of a bank; gives (n_trials, n_filters, n_channels, n_times)."""
    n_trials, n_channels, n_times = data.shape
    out = np.empty((n_trials, len(filters), n_channels, n_times), dtype=data.dtype)
    if filters[0].ndim == 1:
        _filter_fir(data, filters, causal, out)
    else:
        for k, (sections, n_edge) in enumerate(zip(filters, n_edges, strict=True)):
            _filter_iir(data, sections, n_edge, causal, out[:, k])
    return out


def _filter_fir(data, kernels, causal, out):
    """Convolve trials with kernels (n_taps,), in the Fourier domain."""
    n_times, dtype = data.shape[-1], data.dtype
    longest = max(len(kernel) for kernel in kernels)
    left, right = (longest - 1, 0) if causal else (longest // 2, longest // 2)
    n_fft = fft.next_fast_len(n_times + left + right, real=True)
    responses = [_response(kernel, n_fft, causal, dtype) for kernel in kernels]
    centre = max(left, right) < n_times
    for trials, channels, padded, offset in _blocks(data, left, right, n_fft, centre):
        spectrum = fft.rfft(padded, axis=-1)
        for k, (kernel, response) in enumerate(zip(kernels, responses, strict=True)):
            product = spectrum if k == len(kernels) - 1 else spectrum.copy()
            numbers = product if causal else product.view(dtype)
            numbers *= response
            y = fft.irfft(product, n_fft, axis=-1, overwrite_x=True)[..., left : left + n_times]
            np.add(y, offset * dtype.type(kernel.sum()), out=out[trials, k, channels])


def _response(kernel, n_fft, causal, dtype):
    """Frequency response of a kernel; for a symmetric one, which has no phase, a factor for each real number."""
    padded = np.zeros(n_fft)
    padded[: len(kernel)] = kernel
    if causal:
        return fft.rfft(padded).astype(np.result_type(dtype, np.complex64))
    centred = np.roll(padded, -(len(kernel) // 2))
    return np.repeat(fft.rfft(centred).real, 2).astype(dtype)


def _filter_iir(data, sections, n_edge, causal, out):
    """Second-order sections forward and backward, or only forward; in float64, which recursion needs."""
    n_times = data.shape[-1]
    n_edge = min(n_edge, n_times - 1)
    sections = sections.copy()  # scipy wants to write to what joblib may have mapped read-only
    run = signal.sosfilt if causal else partial(signal.sosfiltfilt, padlen=0)
    for trials, channels, padded, _ in _blocks(data, n_edge, n_edge, n_times + 2 * n_edge, False, np.float64):
        out[trials, channels] = run(sections, padded, axis=-1)[..., n_edge : n_edge + n_times]


def resample_trials(data, ratio, npad):
    """Resample trials: the spectrum of the continued signal, cut or filled up with zeros."""
    n_times, dtype = data.shape[-1], data.dtype
    n_out = max(int(round(ratio * n_times)), 1)
    exact = max(Fraction(ratio).limit_denominator(10_000), Fraction(1, 10_000))
    step, new_step = exact.denominator, exact.numerator
    if new_step == step:
        return data.copy()
    npad_left = -(-npad // step) * step
    n_old = -(-(npad_left + n_times + npad) // step) * step
    n_new, first = n_old // step * new_step, npad_left // step * new_step
    n_shared = min(n_old, n_new)
    out = np.empty((*data.shape[:2], n_out), dtype)
    for trials, channels, padded, offset in _blocks(
        data, npad_left, n_old - npad_left - n_times, n_old, npad < n_times
    ):
        spectrum = fft.rfft(padded, axis=-1)[..., : n_shared // 2 + 1]
        if n_shared % 2 == 0:  # the Nyquist line stands for two lines of the longer spectrum
            spectrum[..., n_shared // 2] *= 2 if n_new < n_old else 0.5
        y = fft.irfft(spectrum, n_new, axis=-1)[..., first : first + n_out]
        y *= dtype.type(n_new / n_old)
        np.add(y, offset, out=out[trials, channels])
    return out


def _reflect(padded, left, n_times, right):
    """Continue the signal in ``padded[..., left:left + n_times]`` by odd reflection, over at most its own length."""
    end, before, after = left + n_times, min(left, n_times - 1), min(right, n_times - 1)
    first, last = padded[..., left : left + 1], padded[..., end - 1 : end]
    np.subtract(2 * first, padded[..., left + before : left : -1], out=padded[..., left - before : left])
    np.subtract(2 * last, padded[..., end - 1 - after : end - 1][..., ::-1], out=padded[..., end : end + after])


def _blocks(data, left, right, n_samples, centre, dtype=None):
    """Cut the data into blocks of about `_BLOCK` samples, each continued by odd reflection over ``left`` and ``right``.

    Gives slices of trials and of channels, the continued signals, zero up to ``n_samples``, and what was taken off
    them: with ``centre`` the first value of each channel. A constant passes through a linear filter unchanged but for
    its gain, so without it the last digits of float32 are for the signal, not for the offset of the amplifier.

    The signals are in the same memory each time: what one round leaves there, the next overwrites at the same places.
    """
    n_trials, n_channels, n_times = data.shape
    channels = min(n_channels, max(1, _BLOCK // n_samples))
    trials = min(n_trials, max(1, _BLOCK // (n_samples * channels)))
    buffer = np.zeros((trials, channels, n_samples), dtype or data.dtype)
    for first in range(0, n_trials, trials):
        for channel in range(0, n_channels, channels):
            at = slice(first, first + trials), slice(channel, channel + channels)
            padded = buffer[: n_trials - first, : n_channels - channel]
            offset = data[at][..., :1] * data.dtype.type(centre)
            np.subtract(data[at], offset, out=padded[..., left : left + n_times])
            _reflect(padded, left, n_times, right)
            yield *at, padded, offset
