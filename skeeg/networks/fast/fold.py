"""A trained network folded for inference: batch norms and linear neighbours become one layer each."""

import copy

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.fusion import fuse_conv_bn_weights

from .accelerate import accelerate
from .front_end import find_runs, merge_kernels
from .layers import cut_windows, filter_windows, is_plain_conv, margins, toeplitz_matrix
from .private_names import fix_parameters, is_braindecode


def fold(module):
    """Fold a copy of a trained network for inference, one trial at a time or many.

    Batch norms are taken into the convolutions before them, temporal and spatial convolutions are merged or exchanged,
    constraints are evaluated once, and dropout goes. Nothing is left to train. The outputs are those of the module in
    evaluation, to rounding.

    Examples
    --------
    >>> import torch
    >>> from skeeg.networks import build_network
    >>> module = build_network("EEGNet", n_chans=8, n_times=300, n_outputs=2).eval()
    >>> x = torch.randn(1, 8, 300)
    >>> torch.allclose(fold(module)(x), module(x), atol=1e-5)
    True
    """
    plain = accelerate(copy.deepcopy(module), "plain").eval().requires_grad_(False)
    for layer in list(plain.modules()):
        if parametrize.is_parametrized(layer):
            fix_parameters(layer)
    for sequence in [layer for layer in plain.modules() if isinstance(layer, nn.Sequential)]:
        if type(sequence).forward is nn.Sequential.forward:
            _fold_sequence(sequence)
    return accelerate(plain)


def _fold_sequence(sequence):
    """Replace the layers of a ``Sequential`` by fewer ones that compute the same in evaluation."""
    layers = list(sequence)
    runs = {run.start: run for run in find_runs(sequence)}
    folded = {}
    position = 0
    while position < len(layers):
        start = position
        if position in runs:
            run = runs[position]
            layer, position = _fold_run(layers[run.start : run.stop], run), run.stop
        else:
            layer, position = layers[position], position + 1
            if is_braindecode(layer, "CombinedConv"):
                layer = _Merged(layer.conv_time, layer.conv_spat, time_axis=2)
        norm = layers[position] if position < len(layers) else None
        is_linear = isinstance(layer, _Merged) or (isinstance(layer, nn.Conv2d) and is_plain_conv(layer))
        if is_linear and type(norm) is nn.BatchNorm2d and norm.running_mean is not None:
            layer, position = _absorb(layer, norm), position + 1
        if not isinstance(layer, (nn.Dropout, nn.Identity)):
            folded[start] = layer
    for position in range(len(layers)):
        sequence[position] = folded.get(position, nn.Identity())


def _fold_run(layers, run):
    time, space = layers[0], layers[-1]
    if run.normed:
        time = _absorb(copy.deepcopy(time), layers[1])
    form = _Exchanged if run.depthwise else _Merged
    return form(time, space, run.time_axis)


def _absorb(layer, norm):
    """Scale and shift the outputs of a linear layer as a batch norm in evaluation does."""
    statistics = norm.running_mean, norm.running_var, norm.eps
    layer.weight, layer.bias = fuse_conv_bn_weights(layer.weight, layer.bias, *statistics, norm.weight, norm.bias)
    return layer


class _Merged(nn.Module):
    """Temporal and spatial convolution as one kernel over electrodes and time."""

    def __init__(self, time, space, time_axis):
        super().__init__()
        self.time_axis, self.padding = time_axis, margins(time, time_axis)
        kernel, bias = merge_kernels(time.weight, time.bias, space.weight, space.bias)
        self.weight = nn.Parameter(kernel, requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)

    def forward(self, x):
        """Map (batch, 1, electrodes, times), or with both exchanged, to (batch, filters, ...)."""
        return self.filtered(x[:, 0] if self.time_axis == 3 else x[:, 0].transpose(1, 2)).unsqueeze(self.time_axis ^ 1)

    def filtered(self, x):
        return F.conv1d(F.pad(x, self.padding) if any(self.padding) else x, self.weight, self.bias)


class _Exchanged(_Merged):
    """Spatial filters of each plane first, then its temporal filter as a Toeplitz matrix."""

    def __init__(self, time, space, time_axis):
        nn.Module.__init__(self)
        self.time_axis, self.padding = time_axis, margins(time, time_axis)
        filters = time.weight.flatten(1)
        self.n_planes, self.length = filters.shape
        mixing = space.weight.flatten(1)
        bias = torch.zeros_like(mixing[:, 0]) if space.bias is None else space.bias
        if time.bias is not None:
            bias = bias + mixing.sum(1) * time.bias.repeat_interleave(len(mixing) // self.n_planes)
        self.weight = nn.Parameter(mixing, requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=False)
        self.register_buffer("matrix", toeplitz_matrix(filters).contiguous())

    def filtered(self, x):
        mixed = (self.weight @ x).unflatten(1, (self.n_planes, -1))
        n_out = x.shape[2] + sum(self.padding) - self.length + 1
        parts = cut_windows(mixed, self.length, self.padding[0], n_out)
        return filter_windows(parts, self.matrix, mixed, n_out).flatten(1, 2) + self.bias[:, None]
