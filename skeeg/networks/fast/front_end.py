"""Temporal convolution, batch norm and spatial convolution, computed together.

Many EEG networks begin with a temporal convolution (one input plane, ``F`` filters of ``K`` samples) followed by a
spatial one over all ``C`` electrodes, with nothing nonlinear between. The pair is one linear map:

    out[b, s, t] = sum_f sum_c spatial[s, f, c] * (temporal_bias[f] + sum_k temporal[f, k] * x[b, c, t + k])
                   + spatial_bias[s]

If the spatial convolution mixes all planes, both are merged into one ``conv1d`` over electrodes as input channels. If
it is depthwise, the spatial filters come first, so that the temporal ones run over ``S`` signals instead of ``F * C``.
A batch norm between the two is a factor and a shift of each temporal filter; its batch statistics follow from the
covariance of the windows of the input. The ``(batch, F, C, T)`` plane between the layers is never held.
"""

import dataclasses

import torch
import torch.nn.functional as F
from scipy.fft import next_fast_len
from torch import nn

from .layers import depthwise_conv, is_plain_conv, margins, skew
from .private_names import has_hooks, in_transform

_CACHED = 1 << 17  # samples that lagged_covariance takes at once; as doubles and their spectrum they fill about 2 MB


def merge_kernels(temporal_weight, temporal_bias, spatial_weight, spatial_bias):
    """Merge the weights and biases (None: without) of a temporal and a spatial convolution over all C electrodes.

    From weights (F, 1, 1, K), or the like, and (S, F, C, 1), or the like, to the kernel (S, C, K), ``kernel[s, c, k] =
    sum_f spatial[s, f, c] * temporal[f, k]``, and the bias (S,) or None.
    """
    n_temporal, n_spatial = temporal_weight.shape[0], spatial_weight.shape[0]
    temporal = temporal_weight.reshape(n_temporal, -1)
    spatial = spatial_weight.reshape(n_spatial, n_temporal, -1)
    kernel = torch.einsum("fk,sfc->sck", temporal, spatial)
    if temporal_bias is None:
        return kernel, spatial_bias
    bias = spatial.sum(-1) @ temporal_bias
    return kernel, bias if spatial_bias is None else bias + spatial_bias


def merged_conv(x, temporal_weight, temporal_bias, spatial_weight, spatial_bias, padding=(0, 0)):
    """Temporal convolution of x (batch, C, T) followed by a spatial one, as one ``conv1d``; gives (batch, S, T').

    ``padding`` are the zeros before and after the time axis; see `merge_kernels`.
    """
    kernel, bias = merge_kernels(temporal_weight, temporal_bias, spatial_weight, spatial_bias)
    left, right = padding
    if left != right:
        x, left = F.pad(x, padding), 0
    return F.conv1d(x, kernel, bias, padding=left)


@dataclasses.dataclass(frozen=True)
class FrontEnd:
    """Neighbouring layers, ``start`` to ``stop``, of a ``Sequential`` that are computed together.

    The temporal kernels of ``length`` samples lie along ``time_axis`` (2 or 3); ``normed``: a batch norm follows them;
    ``depthwise``: the spatial convolution treats each of the ``n_planes`` by itself.
    """

    start: int
    stop: int
    time_axis: int
    normed: bool
    depthwise: bool
    length: int
    n_planes: int
    n_out: int


def find_runs(sequence):
    """Find the runs of layers in a ``Sequential`` that have a fast form."""
    layers, runs, position = list(sequence), [], 0
    while position < len(layers) - 1:
        run = _run_at(layers, position)
        if run is None:
            position += 1
        else:
            runs.append(run)
            position = run.stop
    return tuple(runs)


def _run_at(layers, start):
    time = layers[start]
    if not _is_conv(time) or time.in_channels != 1 or min(time.kernel_size) != 1 or max(time.kernel_size) == 1:
        return None
    time_axis = 3 if time.kernel_size[0] == 1 else 2
    if margins(time, 5 - time_axis) != (0, 0):
        return None
    normed = type(layers[start + 1]) is nn.BatchNorm2d
    end = start + 1 + normed
    if end >= len(layers) or not _is_conv(layers[end]):
        return None
    space = layers[end]
    depthwise = space.groups == time.out_channels == space.in_channels and space.groups > 1
    if space.kernel_size[time_axis - 2] != 1 or space.in_channels != time.out_channels:
        return None
    if not (depthwise or space.groups == 1) or margins(space, 2) != (0, 0) or margins(space, 3) != (0, 0):
        return None
    length, n_planes = max(time.kernel_size), time.out_channels
    return FrontEnd(start, end + 1, time_axis, normed, depthwise, length, n_planes, space.out_channels)


def _is_conv(layer):
    return is_plain_conv(layer) and layer.stride == (1, 1) and layer.dilation == (1, 1)


def run_sequential(sequence, runs, x, kernels):
    """Forward pass of a ``Sequential``, its runs computed together where it pays (``kernels="fast"``: always).

    A run whose layers were replaced after the module was accelerated is not computed together.
    """
    layers = list(sequence)
    position = 0
    for run in runs:
        for layer in layers[position : run.start]:
            x = layer(x)
        position, y = run.start, None
        # In the order of what a check costs: one online trial takes a millisecond in all.
        if x.ndim == 4 and x.numel() and (kernels == "fast" or _pays(run, layers[run.start + 1], x)):
            y = _compute(layers[run.start : run.stop], run, x) if _run_at(layers, run.start) == run else None
        if y is not None:
            x, position = y, run.stop
    for layer in layers[position:]:
        x = layer(x)
    return x


def _compute(layers, run, x):
    """Output of a run, or None where its layers must run one by one."""
    time, norm, space = layers[0], layers[1] if run.normed else None, layers[-1]
    padding = margins(time, run.time_axis)
    if x.shape[1] != 1 or x.shape[5 - run.time_axis] != space.kernel_size[3 - run.time_axis]:
        return None
    if x.shape[run.time_axis] + sum(padding) < run.length:
        return None
    if not usable(layers, norm, x, linear=not (run.normed or run.depthwise)):
        return None
    x = x[:, 0] if run.time_axis == 3 else x[:, 0].transpose(1, 2)
    y = front_end(x, (time.weight, time.bias), norm, (space.weight, space.bias), run.depthwise, padding)
    return y.unsqueeze(run.time_axis ^ 1)


def front_end(x, time, norm, space, depthwise, padding=(0, 0)):
    """Temporal convolution, batch norm and spatial convolution over all electrodes, computed together.

    From x (batch, C, T), the weight and the bias (or None) of both convolutions, and the batch norm between them (or
    None), whose running statistics are updated in training, to (batch, S, T'). ``depthwise`` says whether the spatial
    convolution treats each plane by itself. In training with a batch norm no gradient flows to x.
    """
    weight, bias = time[0].flatten(1), time[1]
    if norm is not None:
        scale, bias = _normalise(norm, x, weight, bias, padding)
        weight = weight * scale[:, None]
    if depthwise:
        return _depthwise(x, weight, bias, space, padding)
    return merged_conv(x, weight, bias, *space, padding=padding)


def usable(layers, norm, x, linear):
    """Whether layers can be computed together in their state.

    None of them runs by itself, so none may have a hook. The batch statistics of the norm among them are computed
    without a gradient for the input. ``linear`` says that the fast form is one plain convolution, safe for autocast.
    """
    if has_hooks(*layers) or in_transform():
        return False
    if x.dtype not in (torch.float32, torch.float64) or any(p.dtype != x.dtype for p in layers[0].parameters()):
        return False
    if torch.is_autocast_enabled(x.device.type):
        return linear
    return not (norm is not None and _batch_statistics(norm) and x.requires_grad and torch.is_grad_enabled())


def _pays(run, second, x):
    """Whether a run, of which this is the second layer, is faster computed together, by the costs on one core."""
    if x.device.type != "cpu":
        return False
    if not run.depthwise:
        return True
    n_values = x.numel()
    n_mixed = n_values // x.shape[5 - run.time_axis] * run.n_out
    # Nanoseconds: a fixed cost, and costs of each sample before and after the spatial filters, by length of kernel.
    if run.normed and _batch_statistics(second):
        together = 3.2e6 + n_mixed * (12 + 0.24 * run.length) + 8 * n_values
        apart = n_values * run.n_planes * (11 + 0.27 * run.length)
    else:
        together = 0.5e6 + n_mixed * (4 + 0.065 * run.length) + 3 * n_values
        apart = n_values * run.n_planes * (4.5 + 0.14 * run.length)
    return apart > 1.15 * together


def _batch_statistics(norm):
    return norm.training or norm.running_mean is None


def _normalise(norm, x, weight, bias, padding):
    """Factor and shift (F,) of each filter's output that a batch norm after a temporal convolution amounts to."""
    if _batch_statistics(norm):
        length = weight.shape[1]
        window_mean, covariance = lagged_covariance(x, length, padding)
        filters = weight.double()
        mean = filters @ window_mean
        if bias is not None:
            mean = mean + bias
        variance = ((filters @ covariance) * filters).sum(1)
        count = x.shape[0] * x.shape[1] * (x.shape[2] + sum(padding) - length + 1)
        _update_running(norm, mean.detach(), variance.detach(), count)
    else:
        mean, variance = norm.running_mean, norm.running_var
    scale = (variance + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight
    # In training the bias cancels, but its gradient of zero must be there, for weight decay acts on what has one.
    shift = -mean * scale if bias is None else (bias - mean) * scale
    if norm.bias is not None:
        shift = shift + norm.bias
    return scale.to(weight.dtype), shift.to(weight.dtype)


def _update_running(norm, mean, variance, count):
    """Update the running statistics as ``torch.nn.BatchNorm2d`` does, with the unbiased variance."""
    if count < 2:
        raise ValueError("Expected more than 1 value per channel when training")
    if not norm.training or norm.running_mean is None:
        return
    norm.num_batches_tracked.add_(1)
    momentum = 1.0 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean.to(norm.running_mean), momentum)
    norm.running_var.lerp_((variance * (count / (count - 1))).to(norm.running_var), momentum)


def _depthwise(x, weight, bias, space, padding):
    """Temporal filters and a spatial convolution of each plane by itself, in the other order."""
    n_planes, n_electrodes = weight.shape[0], x.shape[1]
    mixing, offset = space[0].reshape(-1, n_electrodes), space[1]
    mixed = F.conv1d(x, mixing[:, :, None]).unflatten(1, (n_planes, -1))
    y = depthwise_conv(mixed, weight, padding).flatten(1, 2)
    if bias is not None:
        through = mixing.sum(1) * bias.repeat_interleave(mixed.shape[2])
        offset = through if offset is None else through + offset
    return y if offset is None else y + offset[:, None]


@torch.no_grad()
def lagged_covariance(x, length, padding=(0, 0)):
    """Mean (K,) and covariance (K, K) of all windows of K samples of x (batch, rows, T), in double precision.

    A filter ``w`` applied to every signal gives values of mean ``w @ mean`` and of biased variance ``w @ cov @ w``: the
    batch statistics of a temporal convolution, without the convolution. No gradient flows to x. The second moment
    ``R[k, l] = sum_t x[t + k] x[t + l]`` is the autocorrelation at lag ``l - k``, which one Fourier transform for each
    signal gives for all lags, less the products outside the first or behind the last window.
    """
    n_times = x.shape[2]
    n_windows, size = n_times + sum(padding) - length + 1, next_fast_len(n_times + length - 1, real=True)
    total, head, tail, power = 0.0, 0.0, 0.0, 0.0
    for part in x.detach().split(max(1, _CACHED // (x.shape[1] * n_times))):
        rows = part.reshape(-1, n_times).double()
        total = total + rows.sum(0)
        spectrum = torch.fft.rfft(rows, n=size)
        power = power + (spectrum.real.square() + spectrum.imag.square()).sum(0)
        start, left = n_windows - padding[0], min(padding[0], length - 1)
        head = head + _products(rows[:, : length - 1 - left], left, length - 1)
        tail = tail + _products(rows[:, max(start, 0) :], max(-start, 0), length - 1)
    moment = _toeplitz_moment(torch.fft.irfft(power, n=size)[:length], head, tail)
    count = x.shape[0] * x.shape[1] * n_windows
    mean = F.pad(total, padding).unfold(0, n_windows, 1).sum(1) / count
    return mean, moment / count - torch.outer(mean, mean)


def _products(rows, before, size):
    """Products (size, size) of signals that so many zeros precede, the others following, summed over the rows."""
    return F.pad(rows.t() @ rows, (before, size - before - rows.shape[1]) * 2)


def _toeplitz_moment(correlation, head, tail):
    """Second moment of the windows from the autocorrelation and the products of the samples at both edges."""
    length = correlation.shape[0]
    lag = torch.arange(length, device=correlation.device)
    moment = correlation[(lag[:, None] - lag).abs()]
    if length == 1:
        return moment
    # Down a diagonal, each step leaves out one more sample of the head, and one less of the tail.
    before = _unskew(skew(head[None], length).cumsum(1), length - 1)[0]
    after = _unskew(skew(tail.flip(0, 1)[None], length).cumsum(1), length - 1)[0].flip(0, 1)
    moment[1:, 1:] -= before
    moment[:-1, :-1] -= after
    return moment


def _unskew(skewed, n_columns):
    n_batch, n_rows, width = skewed.shape
    flat = skewed.reshape(n_batch, -1)[:, : n_rows * (width - 1)]
    return flat.view(n_batch, n_rows, width - 1)[:, :, :n_columns]
