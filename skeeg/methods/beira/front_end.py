"""The front end of BEIRA: branches that each unmix, filter, rectify and smooth."""

import torch
import torch.nn.functional as F
from torch import nn

from .layers import depthwise_conv1d

RECTIFIERS = {"relu": F.relu, "abs": torch.abs}


class FrontEnd(nn.Module):
    """Branches that each unmix, filter, rectify and smooth: an electrode and a frequency pattern can be read off each.

    The names of the parts are those of the published state dict.

    Parameters
    ----------
    n_chans : int
        Electrodes.
    n_branches : int
        Branches.
    filter_length, envelope_length : int
        Taps of the band-pass and of the low-pass filter.
    rectifier : {"relu", "abs"}
        Half-wave as published, or full-wave.
    unmixing_norm_affine : bool
        Scale and shift after the spatial filter.
    """

    def __init__(self, n_chans, n_branches, filter_length, envelope_length, rectifier, unmixing_norm_affine):
        super().__init__()
        if rectifier not in RECTIFIERS:
            raise ValueError(f"rectifier: got {rectifier!r}, expected 'relu' or 'abs'.")
        self.rectifier = rectifier
        self.unmixing_layer = nn.Conv1d(n_chans, n_branches, 1)
        self.unmixed_channels_batchnorm = nn.BatchNorm1d(n_branches, affine=unmixing_norm_affine)
        self.band_pass = nn.Conv1d(n_branches, n_branches, filter_length, groups=n_branches, bias=False, padding="same")
        self.norm = nn.BatchNorm1d(n_branches, affine=False)
        self.low_pass = nn.Conv1d(n_branches, n_branches, envelope_length, groups=n_branches, padding="same")

    def forward(self, x):
        """Map (batch, n_chans, times) to envelopes (batch, n_branches, times)."""
        x = self.unmixed_channels_batchnorm(self.unmixing_layer(x))
        x = RECTIFIERS[self.rectifier](self.norm(self.band_pass(x)))
        return self.low_pass(x)


def start_as_averages(layers):
    """Make smoothing filters moving averages, without an offset.

    A random filter may cancel most of an envelope. From an average, each branch starts with the amplitude of what it
    hears.

    Parameters
    ----------
    layers : sequence of torch.nn.Conv1d
        Depth-wise filters; changed in place.

    Examples
    --------
    >>> import torch
    >>> from skeeg.methods.beira.front_end import start_as_averages
    >>> layer = torch.nn.Conv1d(2, 2, 4, groups=2)
    >>> start_as_averages([layer])
    >>> layer.weight.unique().tolist(), layer.bias.tolist()
    ([0.25], [0.0, 0.0])
    """
    for layer in layers:
        nn.init.constant_(layer.weight, 1 / layer.kernel_size[0])
        nn.init.zeros_(layer.bias)


def front_weights(fronts):
    """Spatial and temporal filters of several front ends.

    Parameters
    ----------
    fronts : sequence of FrontEnd
        One for each region.

    Returns
    -------
    spatial : Tensor, shape (n_regions, n_branches, n_chans)
        Weights of the electrodes.
    temporal : Tensor, shape (n_regions, n_branches, filter_length)
        Band-pass filters, correlated with the data.
    """
    spatial = torch.stack([front.unmixing_layer.weight.detach()[..., 0] for front in fronts])
    return spatial, torch.stack([front.band_pass.weight.detach()[:, 0] for front in fronts])


def joint_front_end(fronts, x):
    """Run several front ends on the same recording in one pass.

    Parameters
    ----------
    fronts : sequence of FrontEnd
        One for each region.
    x : Tensor, shape (batch, n_chans, times)
        Recording.

    Returns
    -------
    envelopes : Tensor, shape (batch, n_regions, n_branches, times)
        What each front end would give.
    """

    def stack(layer, parameter):
        return torch.cat([getattr(getattr(front, layer), parameter) for front in fronts])

    x = F.conv1d(x, stack("unmixing_layer", "weight"), stack("unmixing_layer", "bias"))
    x = _joint_norm([front.unmixed_channels_batchnorm for front in fronts], x)
    x = _joint_norm([front.norm for front in fronts], depthwise_conv1d(x, stack("band_pass", "weight")))
    x = depthwise_conv1d(RECTIFIERS[fronts[0].rectifier](x), stack("low_pass", "weight"))
    return (x + stack("low_pass", "bias")[:, None]).unflatten(1, (len(fronts), -1))


def _joint_norm(norms, x):
    """Batch normalisation of the channels of several layers at once, with their running statistics kept up."""
    first = norms[0]
    mean, variance = (torch.cat([getattr(norm, name) for norm in norms]) for name in ("running_mean", "running_var"))
    weight, bias = (
        torch.cat([getattr(norm, name) for norm in norms]) if first.affine else None for name in ("weight", "bias")
    )
    momentum = first.momentum
    if momentum is None:  # running statistics are plain means over all batches so far
        momentum = 1 / (int(first.num_batches_tracked) + 1)
    x = F.batch_norm(x, mean, variance, weight, bias, first.training, momentum, first.eps)
    if first.training:
        size = first.num_features
        with torch.no_grad():
            for norm, new_mean, new_variance in zip(norms, mean.split(size), variance.split(size), strict=True):
                norm.running_mean.copy_(new_mean)
                norm.running_var.copy_(new_variance)
                norm.num_batches_tracked += 1
    return x


def check_n_times(n_times, decimation):
    """Refuse a recording that the pooling would reduce to nothing."""
    if n_times is not None and n_times < decimation:
        raise ValueError(f"n_times: got {n_times} samples, the network needs at least {decimation}.")
