"""Batch normalisation over the trials of all processes."""

import contextlib
import functools

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from . import ranks


@contextlib.contextmanager
def synced_norms(model):
    """Let batch normalisations see the trials of all processes.

    Parameters
    ----------
    model : torch.nn.Module
        Its layers change their class meanwhile and nothing else, so that their tensors, names and hooks stay.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, _BatchNorm)] if ranks.size() > 1 else []
    classes = [type(layer) for layer in layers]
    for layer in layers:
        layer.__class__, layer.process_group = _synced(type(layer)), None
    try:
        yield
    finally:
        for layer, own in zip(layers, classes, strict=True):
            layer.__class__ = own
            del layer.process_group


@functools.cache
def _synced(kind):
    """Class of a layer of this kind that sees the trials of all processes."""
    return type(f"Synced{kind.__name__}", (SyncedNorm, kind), {})


class SyncedNorm(_BatchNorm):
    """Torch's own on a GPU; on a CPU, where that refuses, the same from sums over the processes."""

    _check_non_zero_input_channels = nn.SyncBatchNorm._check_non_zero_input_channels

    def forward(self, x):
        """Normalise by mean and variance of all processes' trials.

        Parameters
        ----------
        x : Tensor, shape (batch, n_features, ...)
            Trials of this process.

        Returns
        -------
        y : Tensor
            Same shape.
        """
        if not self.training:
            return super().forward(x)
        if ranks.is_idle():  # its trial counts for nothing, but the others wait for its sums
            return x + self._normalised(x[:0]).sum()
        return self._normalised(x)

    def _normalised(self, x):
        if x.is_cuda:
            return nn.SyncBatchNorm.forward(self, x)
        from torch.distributed.nn.functional import all_reduce  # not every build of torch has it

        axes, shape = [0, *range(2, x.ndim)], [-1] + [1] * (x.ndim - 2)
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        n_here = wide.new_tensor([x.numel() // x.shape[1]])
        sums = all_reduce(torch.cat([wide.sum(axes), n_here]))
        mean, n = sums[:-1] / sums[-1], sums[-1].detach()
        centred = wide - mean.view(shape)
        var = all_reduce(centred.square().sum(axes)) / n  # a second sum: squares of large means would cancel
        self._follow(mean.detach(), var.detach() * n / (n - 1))
        y = centred * (var + self.eps).rsqrt().view(shape)
        if self.affine:
            y = y * self.weight.view(shape) + self.bias.view(shape)
        return y.to(x.dtype)

    @torch.no_grad()
    def _follow(self, mean, var):
        """Move the running statistics as torch does."""
        if self.track_running_stats:
            self.num_batches_tracked.add_(1)
            share = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean, share)
            self.running_var.lerp_(var, share)
