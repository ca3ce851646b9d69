"""BEIRA's networks: an interpretable front end, then an encoder and a decoder, or the LSTM of its predecessor.

Two forms cost less time on a CPU than torch's, with the same parameters: a depth-wise filter is computed in phases, and
the convolutions of encoder and decoder take and give time-major activations (batch, times, channels), as layer
normalisation needs them.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from ...networks.base import EEGModuleMixin, ReplaceableHead
from ...networks.fast.dropout import Dropout
from ...training.sizes import count_blocks

RECTIFIERS = {"relu": F.relu, "abs": torch.abs}


def same_padding(kernel_size):
    """Zeros before and after a signal that keep its length, as ``padding="same"`` of torch places them."""
    return (kernel_size - 1) // 2, kernel_size // 2


def depthwise_conv1d(x, weight, n_phases=16):
    """Convolve each channel with its own filter, as ``conv1d(x, weight, groups=channels, padding="same")``.

    With P phases, sample P i + p of the output is ``sum_q sum_j W[p, q, j] x[P (i + j) + q]`` where ``W[p, q, j] =
    weight[P j + q - p]``: a convolution with P channels in, P out, and a kernel of (K + P - 1) / P taps. It multiplies
    by a few zeros more, but as dense blocks: a training step takes 1.2 to 1.4 times less. Shapes: ``x`` (batch,
    channels, times), ``weight`` (channels, 1, K).
    """
    batch, channels, n_times = x.shape
    n_taps = weight.shape[-1]
    n_steps, n_blocks = -(-n_times // n_phases), -(-(n_phases + n_taps - 1) // n_phases)
    left, _ = same_padding(n_taps)
    n_padded = (n_steps + n_blocks - 1) * n_phases
    x = F.pad(x, (left, n_padded - n_times - left)).view(batch, channels, -1, n_phases)
    x = x.transpose(2, 3).reshape(batch, channels * n_phases, -1)
    span = n_blocks * n_phases
    shifted = F.pad(weight[:, 0], (n_phases - 1, span - n_taps)).unfold(1, span, 1).flip(1)  # (channels, P, span)
    kernel = shifted.reshape(channels, n_phases, n_blocks, n_phases).transpose(2, 3)
    y = F.conv1d(x, kernel.reshape(channels * n_phases, n_phases, n_blocks), groups=channels)
    return y.view(batch, channels, n_phases, n_steps).transpose(2, 3).reshape(batch, channels, -1)[..., :n_times]


def time_major_conv1d(x, weight):
    """Convolve time-major signals (batch, times, n_in), as ``conv1d(x.mT, weight, padding="same").mT``.

    As a one-row image in channels-last memory, which needs no copy of x or of the result.
    """
    left, right = same_padding(weight.shape[-1])
    if left != right:
        x, left = F.pad(x, (0, 0, left, right)), 0
    image, kernel = x.mT.unsqueeze(2), weight.unsqueeze(2)
    return F.conv2d(image, kernel.contiguous(memory_format=torch.channels_last), padding=(0, left)).squeeze(2).mT


def branch_envelopes(x, unmixing, unmixed_norm, band_pass, norm, rectify, low_pass):
    """Unmix, filter, rectify and smooth: (batch, n_chans, times) to (batch, n_branches, times)."""
    x = rectify(norm(depthwise_conv1d(unmixed_norm(unmixing(x)), band_pass.weight)))
    return depthwise_conv1d(x, low_pass.weight) + low_pass.bias[:, None]


class FrontEnd(nn.Module):
    """Branches that each unmix, filter, rectify and smooth; the layers have their published names."""

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
        layers = self.unmixing_layer, self.unmixed_channels_batchnorm, self.band_pass, self.norm
        return branch_envelopes(x, *layers, RECTIFIERS[self.rectifier], self.low_pass)


class ConvBlock(nn.Module):
    """Convolution over time, layer normalisation over channels, activation, dropout, maximum over `stride` samples."""

    def __init__(self, n_in, n_out, kernel_size, stride=1, activation=nn.GELU, drop_prob=0.3):
        super().__init__()
        self.conv1d = nn.Conv1d(n_in, n_out, kernel_size, bias=False)
        self.norm = nn.LayerNorm(n_out)
        self.activation = activation()
        self.drop = Dropout(drop_prob)
        self.stride = stride

    def forward(self, x):
        """Map (batch, times, n_in) to (batch, times // stride, n_out)."""
        x = self.drop(self.activation(self.norm(time_major_conv1d(x, self.conv1d.weight))))
        if self.stride == 1:
            return x
        n_steps = x.shape[1] // self.stride
        return x[:, : n_steps * self.stride].unflatten(1, (n_steps, self.stride)).amax(2)


def interpolate(x, scale):
    """Interpolate (batch, channels, times) linearly in time, with the end values held."""
    return x if scale == 1 else F.interpolate(x, scale_factor=float(scale), mode="linear", align_corners=False)


class _EncoderDecoder(nn.Module):
    """Front end, encoder and decoder without the last layer; the parts are named as in the published state dict."""

    def __init__(self, n_chans, front, sizes, activation, drop_prob):
        super().__init__()
        channels, kernel_sizes, strides, decoder_reduce = sizes
        self.artur_block = FrontEnd(n_chans, *front)
        self.spatial_reduce = ConvBlock(front[0], channels[0], 3, 1, activation, drop_prob)
        self.downsample_blocks = nn.ModuleList(
            ConvBlock(*step, activation, drop_prob)
            for step in zip(channels[:-1], channels[1:], kernel_sizes, strides, strict=True)
        )
        widths = [width // decoder_reduce for width in channels[:-1]] + [channels[-1]]
        steps = list(zip(widths[1:], widths[:-1], kernel_sizes, strict=True))
        blocks = (ConvBlock(*step, 1, activation, drop_prob) for step in reversed(steps))
        self.upsample_blocks = nn.ModuleList(nn.ModuleDict({"conv_block": block}) for block in blocks)
        self.width, self.scales = widths[0], tuple(reversed(strides))

    def run_decoder(self, envelopes, last):
        """Map envelopes (batch, n_branches, times) to (batch, n_outputs, times'), time-major within."""
        x = self.spatial_reduce(envelopes.mT.contiguous())
        for block in self.downsample_blocks:
            x = block(x)
        scale = 1
        for block, next_scale in zip(self.upsample_blocks, self.scales, strict=True):
            x = interpolate(x.mT, scale).mT.contiguous()
            x, scale = block["conv_block"](x), next_scale
        # The last layer acts on single samples, so it may come before the interpolation, on few samples instead of all.
        return interpolate(last(x.mT), scale)


def reach(front_taps, kernel_sizes, strides):
    """Count the samples to either side that an output depends on, at most."""
    scales = [math.prod(strides[:i]) for i in range(len(strides) + 1)]
    steps = list(zip(kernel_sizes, scales[:-1], scales[1:], strict=True))
    encoder = sum(kernel * fine + coarse for kernel, fine, coarse in steps)  # the kernel, then the maximum
    decoder = sum((kernel + 1) * coarse for kernel, _, coarse in steps)  # the kernel, then the neighbour
    return sum(front_taps) + 3 + encoder + decoder


class _BranchNetwork:
    """Networks that compute ``decode(envelopes(x))``; their ``front_layers`` unmix, filter and smooth."""

    def front_weights(self):
        """Spatial (n_fronts, n_branches, n_chans) and temporal filters (n_fronts, n_branches, filter_length)."""
        unmixing, band_pass, _ = zip(*self.front_layers(), strict=True)
        spatial = torch.stack([layer.weight.detach()[..., 0] for layer in unmixing])
        return spatial, torch.stack([layer.weight.detach()[:, 0] for layer in band_pass])

    def forward(self, x):
        """Map (batch, n_chans, times) to (batch, n_outputs, times'), or, with an LSTM, the last sample's values."""
        self.check_n_times(x.shape[-1])
        return self.decode(self.envelopes(x))

    def check_n_times(self, n_times):
        """Refuse a recording that the pooling would reduce to nothing."""
        if n_times is not None and n_times < self.decimation:
            raise ValueError(f"n_times: got {n_times} samples, the network needs at least {self.decimation}.")


class BEIRA(_BranchNetwork, EEGModuleMixin, nn.Module):
    r"""BEIRA: BOLD of deep structures from scalp EEG, from Kovalev et al. (2022) [1]_.

    :bdg-success:`Convolution` :bdg-warning:`Interpretability`

    Branch m of region r computes :math:`s_m(t) = \sum_k h_m[k]\, w_m^\top x(t + k)`, rectifies and smooths it; an
    encoder and a decoder turn the envelopes into the region's BOLD signal at the rate of the EEG. Each region has a
    complete network of its own. Maps (batch, n_chans, n_times) to (batch, n_outputs, n_times), rounded down to a
    multiple of `decimation`.

    Parameters
    ----------
    n_branches : int
        Branches of a region.
    filter_length, envelope_length : int
        Taps of the band-pass and of the low-pass filter; the published 51 are for 100 Hz.
    channels : tuple of int
        Widths of the encoder.
    kernel_sizes, strides : tuple of int
        Kernel and pooling of each encoder block after the first; one value less than `channels`.
    decoder_reduce : int
        How much narrower the decoder is than the encoder.
    rectifier : {"relu", "abs"}
        Half-wave rectification as published, or full-wave.
    unmixing_norm_affine : bool
        Scale and shift after the spatial filters, as in the follow-up's released checkpoints.
    activation : type of torch.nn.Module
        Element-wise nonlinearity of encoder and decoder.
    drop_prob : float
        Dropout probability.

    Notes
    -----
    Published state dicts load as they are; the last layer, there ``models.{region}.conv1x1_one``, is
    ``final_layer.{region}`` here. ``dilation`` and ``n_freqs`` of the published constructor have no effect there.

    References
    ----------
    .. [1] Kovalev, A., Mikheev, I., & Ossadtchi, A. (2022). fMRI from EEG is only deep learning away: the use of
       interpretable DL to unravel EEG-fMRI relationships. arXiv:2211.02024.

    Examples
    --------
    >>> import torch
    >>> from skeeg.methods.beira import BEIRA
    >>> BEIRA(n_chans=4, n_outputs=2, channels=(8, 8), kernel_sizes=(3,), strides=(4,))(torch.zeros(1, 4, 102)).shape
    torch.Size([1, 2, 100])
    """

    _shared = False  # whether one network serves all regions

    def __init__(
        self,
        n_chans=None,
        n_outputs=None,
        n_times=None,
        n_branches: int = 16,
        filter_length: int = 51,
        envelope_length: int = 51,
        channels: tuple = (128, 128, 128, 128),
        kernel_sizes: tuple = (5, 5, 3),
        strides: tuple = (8, 8, 4),
        decoder_reduce: int = 4,
        rectifier: str = "relu",
        unmixing_norm_affine: bool = False,
        activation: type[nn.Module] = nn.GELU,
        drop_prob: float = 0.3,
        chs_info=None,
        input_window_seconds=None,
        sfreq=None,
    ):
        super().__init__(
            n_outputs=n_outputs, n_chans=n_chans, chs_info=chs_info, n_times=n_times,
            input_window_seconds=input_window_seconds, sfreq=sfreq,
        )  # fmt: skip
        front = (n_branches, filter_length, envelope_length, rectifier, unmixing_norm_affine)
        sizes = (tuple(channels), tuple(kernel_sizes), tuple(strides), decoder_reduce)
        self._check_sizes(*sizes)
        self.decimation = math.prod(strides)
        self.reach = reach(front[1:3], *sizes[1:3])
        self.check_n_times(n_times)
        self.models, heads = nn.ModuleList(), nn.ModuleList()
        n_networks = 1 if self._shared else self.n_outputs
        for _ in range(n_networks):
            self.models.append(_EncoderDecoder(self.n_chans, front, sizes, activation, drop_prob))
            heads.append(nn.Conv1d(self.models[-1].width, self.n_outputs // n_networks, 1))
        self.final_layer = heads[0] if self._shared else heads
        self.mapping = self._published_names()

    def _check_sizes(self, channels, kernel_sizes, strides, decoder_reduce):
        n, narrowest = len(channels), min(channels[:-1], default=1)
        for name, given in (("kernel_sizes", kernel_sizes), ("strides", strides)):
            if len(given) != n - 1:
                raise ValueError(f"{name}: got {len(given)} values for {n} channels, expected {n - 1}.")
        if not 1 <= decoder_reduce <= narrowest:
            raise ValueError(f"decoder_reduce: got {decoder_reduce}, expected 1 to {narrowest}.")

    def _published_names(self):
        """Names here by those of one bare network, of the other class, and of the networks of several regions."""
        heads = ["final_layer"] if self._shared else [f"final_layer.{i}" for i in range(self.n_outputs)]
        parts = {part: f"models.0.{part}" for part, _ in self.models[0].named_children()}
        last = {"conv1x1_one": heads[0], "final_layer.0" if self._shared else "final_layer": heads[0]}
        last |= {f"models.{i}.conv1x1_one": head for i, head in enumerate(heads)}
        return parts | {f"{old}.{name}": f"{new}.{name}" for old, new in last.items() for name in ("weight", "bias")}

    @staticmethod
    def sizes_of(state):
        """Arguments that follow from the shapes of a state dict, of one network or of several; strides do not."""
        state = {name.removeprefix("models.0."): value.shape for name, value in state.items()}
        blocks = [f"downsample_blocks.{i}.conv1d.weight" for i in range(count_blocks(state, "downsample_blocks."))]
        channels = (state["spatial_reduce.conv1d.weight"][0], *(state[name][0] for name in blocks))
        heads = ("conv1x1_one.weight", "final_layer.weight", "final_layer.0.weight")
        last = next(state[name] for name in heads if name in state)
        return {
            "n_branches": state["artur_block.unmixing_layer.weight"][0],
            "filter_length": state["artur_block.band_pass.weight"][2],
            "envelope_length": state["artur_block.low_pass.weight"][2],
            "unmixing_norm_affine": "artur_block.unmixed_channels_batchnorm.weight" in state,
            "channels": channels,
            "kernel_sizes": tuple(state[name][2] for name in blocks),
            "decoder_reduce": channels[0] // last[1],
        }

    def front_layers(self):
        """List the layers that unmix, filter and smooth, of each front end."""
        fronts = [model.artur_block for model in self.models]
        return [(front.unmixing_layer, front.band_pass, front.low_pass) for front in fronts]

    def envelopes(self, x):
        """Run the front ends alone: (batch, n_chans, times) to (batch, n_fronts, n_branches, times)."""
        return torch.stack([model.artur_block(x) for model in self.models], dim=1)

    def decode(self, envelopes):
        """Run encoders and decoders alone, on what `envelopes` gives: to (batch, n_outputs, times')."""
        parts = zip(self.pairs(), envelopes.unbind(1), strict=True)
        return torch.cat([model.run_decoder(one, last) for (model, last), one in parts], dim=1)

    def pairs(self):
        """Give each network and its last layer."""
        return list(zip(self.models, [self.final_layer] if self._shared else self.final_layer, strict=True))


class SharedBEIRA(ReplaceableHead, BEIRA):
    """BEIRA with one network, and one output channel a region, from Kovalev et al. (2022); parameters as of `BEIRA`.

    :bdg-success:`Convolution` :bdg-warning:`Interpretability`

    The follow-up's released checkpoints hold the weights of one such network with one output, as the only region of a
    `BEIRA`, and load into either class.

    Examples
    --------
    >>> from skeeg.methods.beira import SharedBEIRA
    >>> sum(p.numel() for p in SharedBEIRA(n_chans=30, n_outputs=21).parameters())
    11251
    """

    _shared = True

    def __init__(
        self,
        n_chans=None,
        n_outputs=None,
        n_times=None,
        n_branches: int = 5,
        filter_length: int = 51,
        envelope_length: int = 51,
        channels: tuple = (8, 16, 32, 32),
        kernel_sizes: tuple = (3, 3, 3),
        strides: tuple = (4, 4, 4),
        decoder_reduce: int = 1,
        rectifier: str = "relu",
        unmixing_norm_affine: bool = False,
        activation: type[nn.Module] = nn.GELU,
        drop_prob: float = 0.3,
        chs_info=None,
        input_window_seconds=None,
        sfreq=None,
    ):
        super().__init__(
            n_chans, n_outputs, n_times, n_branches, filter_length, envelope_length, channels, kernel_sizes, strides,
            decoder_reduce, rectifier, unmixing_norm_affine, activation, drop_prob, chs_info, input_window_seconds,
            sfreq,
        )  # fmt: skip


class Absolute(nn.LeakyReLU):
    """Full-wave rectifier as published: a leaky ReLU of slope -1, which is the absolute value."""

    def __init__(self):
        super().__init__(-1.0)


class BEIRAManyToOne(_BranchNetwork, ReplaceableHead, EEGModuleMixin, nn.Module):
    """Predecessor of BEIRA: the same front end with a full-wave rectifier, then an LSTM; one value for a window.

    :bdg-success:`Recurrent` :bdg-warning:`Interpretability`

    Parameters
    ----------
    n_branches, filter_length, envelope_length
        As in `BEIRA`.
    downsampling : int
        Samples of an envelope of which the maximum is taken.
    hidden_size : int
        Units of the LSTM, for each direction.
    bidirectional : bool
        Whether the LSTM also runs backwards.
    activation : type of torch.nn.Module
        Rectifier.
    drop_prob : float
        Dropout between the layers of the LSTM.

    Examples
    --------
    >>> import torch
    >>> from skeeg.methods.beira import BEIRAManyToOne
    >>> BEIRAManyToOne(n_chans=5, n_outputs=2, n_times=128)(torch.zeros(3, 5, 128)).shape
    torch.Size([3, 2])
    """

    def __init__(
        self,
        n_chans=None,
        n_outputs=None,
        n_times=None,
        n_branches: int = 16,
        filter_length: int = 51,
        envelope_length: int = 51,
        downsampling: int = 32,
        hidden_size: int = 16,
        bidirectional: bool = True,
        activation: type[nn.Module] = Absolute,
        drop_prob: float = 0.0,
        chs_info=None,
        input_window_seconds=None,
        sfreq=None,
    ):
        super().__init__(
            n_outputs=n_outputs, n_chans=n_chans, chs_info=chs_info, n_times=n_times,
            input_window_seconds=input_window_seconds, sfreq=sfreq,
        )  # fmt: skip
        self.mapping = {"fc_last.weight": "final_layer.weight", "fc_last.bias": "final_layer.bias"}
        self.decimation = downsampling
        self.ignorable_parts = ("features_batchnorm", "fc_layer")  # of the published class, which never reads them
        self.check_n_times(n_times)
        self.unmixing_layer = nn.Conv1d(self.n_chans, n_branches, 1)
        self.unmixed_channels_batchnorm = nn.BatchNorm1d(n_branches, affine=False)
        self.detector = nn.Sequential(
            nn.Conv1d(n_branches, n_branches, filter_length, groups=n_branches, bias=False, padding="same"),
            nn.BatchNorm1d(n_branches, affine=False),
            activation(),
            nn.Conv1d(n_branches, n_branches, envelope_length, groups=n_branches, padding="same"),
        )
        self.lstm = nn.LSTM(
            n_branches, hidden_size, 2, batch_first=True, bidirectional=bidirectional, dropout=drop_prob
        )
        width = hidden_size * (2 if bidirectional else 1)
        self.bn_last = nn.BatchNorm1d(width, affine=False)
        self.final_layer = nn.Linear(width, self.n_outputs)

    def envelopes(self, x):
        """Run the front end alone: (batch, n_chans, times) to (batch, 1, n_branches, times)."""
        return branch_envelopes(x, self.unmixing_layer, self.unmixed_channels_batchnorm, *self.detector).unsqueeze(1)

    def front_layers(self):
        """List the layers that unmix, filter and smooth, of the one front end."""
        return [(self.unmixing_layer, self.detector[0], self.detector[3])]

    def decode(self, envelopes):
        """Run the LSTM alone, on what `envelopes` gives: to (batch, n_outputs)."""
        x = F.max_pool1d(envelopes[:, 0], self.decimation)
        return self.final_layer(self.bn_last(self.lstm(x.mT)[0][:, -1]))


NETWORKS = {"independent": BEIRA, "shared": SharedBEIRA, "lstm": BEIRAManyToOne}
"""Networks of `BEIRARegressor` by name."""
