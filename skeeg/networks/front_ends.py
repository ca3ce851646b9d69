"""Front ends computed together: temporal convolution, batch norm, spatial convolution.

A run of layers inside a ``torch.nn.Sequential`` is found once, when the module is accelerated, and computed in the
cheaper order. What the run needs is read from the layers at every call, so parametrizations, loaded weights and changed
modes count. Where a layer of the run carries hooks, or the input has another shape, the layers run one by one.
"""

from __future__ import annotations

import dataclasses

from torch import Tensor, nn

from skeeg.networks.convolutions import merged_conv

__all__ = ["find_runs", "run_sequential"]


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
    """

    start: int
    stop: int
    time_axis: int
    normed: bool
    depthwise: bool


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
    if _padding(time, 5 - time_axis) != (0, 0):
        return None
    normed = type(layers[start + 1]) is nn.BatchNorm2d
    end = start + 1 + normed
    if end >= len(layers) or not _is_conv(layers[end]):
        return None
    space = layers[end]
    depthwise = space.groups == time.out_channels == space.in_channels and space.groups > 1
    if space.kernel_size[time_axis - 2] != 1 or space.in_channels != time.out_channels:
        return None
    if not (depthwise or space.groups == 1) or _padding(space, 2) != (0, 0) or _padding(space, 3) != (0, 0):
        return None
    return Run(start, end + 1, time_axis, normed, depthwise)


def _is_conv(layer: nn.Module) -> bool:
    plain = isinstance(layer, nn.Conv2d) and type(layer).forward is nn.Conv2d.forward
    return plain and layer.stride == (1, 1) and layer.dilation == (1, 1) and layer.padding_mode == "zeros"


def _padding(conv: nn.Conv2d, axis: int) -> tuple[int, int]:
    """Zeros that a convolution adds before and after an axis (2 or 3) of its input."""
    if conv.padding == "valid":
        return 0, 0
    if conv.padding == "same":
        extra = conv.kernel_size[axis - 2] - 1
        return extra // 2, extra - extra // 2
    return conv.padding[axis - 2], conv.padding[axis - 2]


def run_sequential(sequence: nn.Sequential, x: Tensor, kernels: str) -> Tensor:
    """Forward pass of a ``Sequential``, its runs computed together."""
    layers = list(sequence)
    runs = {run.start: run for run in find_runs(sequence)}
    position = 0
    while position < len(layers):
        run = runs.get(position)
        if run is not None:
            out = _compute(layers[run.start : run.stop], run, x, kernels)
            if out is not None:
                x, position = out, run.stop
                continue
        x = layers[position](x)
        position += 1
    return x


def _compute(layers, run, x, kernels):
    if run.normed or run.depthwise:
        return None
    time, space = layers
    x = x[:, 0] if run.time_axis == 3 else x[:, 0].transpose(1, 2)
    if x.shape[1] != space.kernel_size[3 - run.time_axis]:
        return None
    y = merged_conv(x, time.weight, time.bias, space.weight, space.bias, padding=_padding(time, run.time_axis))
    return y.unsqueeze(run.time_axis ^ 1)
