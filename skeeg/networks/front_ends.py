"""Front ends computed together: temporal convolution, batch norm, spatial convolution.

A run of layers inside a ``torch.nn.Sequential`` is found once, when the module is accelerated, and computed in the
cheaper order. What the run needs is read from the layers at every call, so parametrizations, loaded weights and changed
modes count. Where a layer of the run carries hooks, or the input has another shape, the layers run one by one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skeeg.networks.convolutions import merged_conv
from skeeg.networks.layer_forms import in_transform, is_plain_conv, margins, watched
from skeeg.networks.toeplitz import depthwise_conv, lagged_covariance

__all__ = ["find_runs", "front_end", "run_sequential", "usable"]


@dataclasses.dataclass(frozen=True)
class Run:
    """Neighbouring layers of a ``Sequential`` that are computed together.

    Attributes
    ----------
    start, stop : int
        Positions of the first layer and after the last.
    time_axis : int
        Axis of the input, 2 or 3, along which the temporal kernel lies.
    normed : bool
        Whether a batch norm stands between the two convolutions.
    depthwise : bool
        Whether the spatial convolution treats each plane by itself.
    length : int
        Samples of a temporal kernel.
    n_planes, n_out : int
        Temporal kernels, and outputs of the spatial convolution.
    """

    start: int
    stop: int
    time_axis: int
    normed: bool
    depthwise: bool
    length: int
    n_planes: int
    n_out: int


def find_runs(sequence: nn.Sequential) -> tuple[Run, ...]:
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


def _run_at(layers: list[nn.Module], start: int) -> Run | None:
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
    return Run(start, end + 1, time_axis, normed, depthwise, length, n_planes, space.out_channels)


def _is_conv(layer: nn.Module) -> bool:
    return is_plain_conv(layer) and layer.stride == (1, 1) and layer.dilation == (1, 1)


def run_sequential(sequence: nn.Sequential, runs: tuple[Run, ...], x: Tensor, kernels: str) -> Tensor:
    """Forward pass of a ``Sequential``, its runs computed together.

    Parameters
    ----------
    sequence : torch.nn.Sequential
        The layers.
    runs : tuple of Run
        Its runs when it was accelerated. One whose layers have been replaced since is not computed together.
    x : Tensor
        Input of the layers.
    kernels : {"auto", "fast"}
        Whether runs are computed together where it pays, or wherever possible.

    Returns
    -------
    Tensor
        What the layers give one after the other.
    """
    layers = list(sequence)
    position = 0
    for run in runs:
        for layer in layers[position : run.start]:
            x = layer(x)
        position, y = run.start, None
        # Asked in the order of what an answer costs: one online trial takes a millisecond in all.
        if x.ndim == 4 and x.numel() and (kernels == "fast" or _pays(run, layers[run.start + 1], x)):
            y = _compute(layers[run.start : run.stop], run, x) if _run_at(layers, run.start) == run else None
        if y is not None:
            x, position = y, run.stop
    for layer in layers[position:]:
        x = layer(x)
    return x


def _compute(layers: list[nn.Module], run: Run, x: Tensor) -> Tensor | None:
    """Output of a run, or None where its layers must run one by one."""
    if not _applies(layers, run, x):
        return None
    time, norm, space = layers[0], layers[1] if run.normed else None, layers[-1]
    x = x[:, 0] if run.time_axis == 3 else x[:, 0].transpose(1, 2)
    padding = margins(time, run.time_axis)
    y = front_end(x, (time.weight, time.bias), norm, (space.weight, space.bias), run.depthwise, padding)
    return y.unsqueeze(run.time_axis ^ 1)


def front_end(
    x: Tensor,
    time: tuple[Tensor, Tensor | None],
    norm: nn.BatchNorm2d | None,
    space: tuple[Tensor, Tensor | None],
    depthwise: bool,
    padding: tuple[int, int] = (0, 0),
) -> Tensor:
    """Temporal convolution, batch norm and spatial convolution over all electrodes, computed together.

    Parameters
    ----------
    x : Tensor, shape (batch, C, T)
        The recording. In training with a batch norm no gradient flows to it.
    time : tuple of Tensor
        Weight and bias (or None) of the temporal convolution, one input plane, F filters of K samples.
    norm : torch.nn.BatchNorm2d or None
        Batch norm of the F planes between the two; its running statistics are updated in training.
    space : tuple of Tensor
        Weight and bias (or None) of the spatial convolution, F planes in and S out.
    depthwise : bool
        Whether the spatial convolution treats each plane by itself (F groups), or mixes them (one group).
    padding : tuple of int
        Zeros before and after the time axis.

    Returns
    -------
    Tensor, shape (batch, S, T')
        What the layers give one after the other.

    Examples
    --------
    >>> import torch
    >>> time, norm = torch.nn.Conv2d(1, 4, (1, 5), bias=False), torch.nn.BatchNorm2d(4)
    >>> space = torch.nn.Conv2d(4, 8, (3, 1), groups=4)
    >>> x = torch.randn(2, 3, 50)
    >>> together = front_end(x, (time.weight, None), norm, (space.weight, space.bias), depthwise=True)
    >>> torch.allclose(together, space(norm(time(x[:, None])))[:, :, 0], atol=1e-5)
    True
    """
    weight, bias = time[0].flatten(1), time[1]
    if norm is not None:
        scale, bias = _normalise(norm, x, weight, bias, padding)
        weight = weight * scale[:, None]
    if depthwise:
        return _depthwise(x, weight, bias, space, padding)
    return merged_conv(x, weight, bias, *space, padding=padding)


def _applies(layers: list[nn.Module], run: Run, x: Tensor) -> bool:
    """Whether the fast form gives what the layers give, for this input and in this state."""
    if x.shape[1] != 1 or x.shape[5 - run.time_axis] != layers[-1].kernel_size[3 - run.time_axis]:
        return False
    if x.shape[run.time_axis] + sum(margins(layers[0], run.time_axis)) < max(layers[0].kernel_size):
        return False
    return usable(layers, layers[1] if run.normed else None, x, linear=not (run.normed or run.depthwise))


def usable(layers: Sequence[nn.Module], norm: nn.BatchNorm2d | None, x: Tensor, linear: bool) -> bool:
    """Whether layers can be computed together in their state.

    Parameters
    ----------
    layers : sequence of torch.nn.Module
        The layers. None of them runs by itself, so nobody may listen to one with a hook.
    norm : torch.nn.BatchNorm2d or None
        The batch norm among them. Its batch statistics are computed without a gradient for the input.
    x : Tensor
        Input of the first layer.
    linear : bool
        Whether the fast form is one plain convolution, which autocast knows how to treat.

    Returns
    -------
    bool
        True where the fast form gives what the layers give.
    """
    if watched(*layers) or in_transform():
        return False
    if x.dtype not in (torch.float32, torch.float64) or any(p.dtype != x.dtype for p in layers[0].parameters()):
        return False
    if torch.is_autocast_enabled(x.device.type):
        return linear
    return not (norm is not None and _batch_statistics(norm) and x.requires_grad and torch.is_grad_enabled())


def _pays(run: Run, second: nn.Module, x: Tensor) -> bool:
    """Whether a run, of which this is the second layer, is sooner done together, by what both ways cost on one core."""
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


def _batch_statistics(norm: nn.Module) -> bool:
    return norm.training or getattr(norm, "running_mean", None) is None


def _normalise(norm: nn.BatchNorm2d, x: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple[int, int]):
    """Batch norm after a temporal convolution as a factor and a shift of each filter's output.

    Parameters
    ----------
    norm : torch.nn.BatchNorm2d
        The layer; its running statistics are updated in training.
    x : Tensor, shape (batch, C, T)
        Input of the convolution.
    weight : Tensor, shape (F, K)
        Filters.
    bias : Tensor, shape (F,), or None
        Their bias.
    padding : tuple of int
        Zeros around the time axis.

    Returns
    -------
    scale, shift : Tensor, shape (F,)
        The normalised output is ``scale * conv(x, weight) + shift``.
    """
    if _batch_statistics(norm):
        length = weight.shape[1]
        window_mean, covariance = lagged_covariance(x, length, padding)
        filters = weight.double()
        mean = filters @ window_mean
        if bias is not None:
            mean = mean + bias
        variance = torch.einsum("fk,kl,fl->f", filters, covariance, filters)
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


def _update_running(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor, count: int) -> None:
    """Update the running statistics as ``torch.nn.BatchNorm2d`` does, with the unbiased variance."""
    if count < 2:
        raise ValueError("Expected more than 1 value per channel when training")
    if not norm.training or norm.running_mean is None:
        return
    norm.num_batches_tracked.add_(1)
    momentum = 1.0 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean.to(norm.running_mean), momentum)
    norm.running_var.lerp_((variance * (count / (count - 1))).to(norm.running_var), momentum)


def _depthwise(x: Tensor, weight: Tensor, bias: Tensor | None, space: tuple, padding: tuple[int, int]) -> Tensor:
    """Temporal filters and a spatial convolution of each plane by itself, in the other order."""
    n_planes, n_electrodes = weight.shape[0], x.shape[1]
    mixing, offset = space[0].reshape(-1, n_electrodes), space[1]
    mixed = F.conv1d(x, mixing[:, :, None]).unflatten(1, (n_planes, -1))
    y = depthwise_conv(mixed, weight, padding).flatten(1, 2)
    if bias is not None:
        through = mixing.sum(1) * bias.repeat_interleave(mixed.shape[2])
        offset = through if offset is None else through + offset
    return y if offset is None else y + offset[:, None]
