"""The front end of BEIRA, and exact fast forms of its layers from the parameters of the plain ones.

Three things cost most in the plain network on a CPU: the copies between channel-major convolutions and time-major layer
normalisation, the depth-wise filters, for which there is no fast kernel, and the random numbers of dropout. Here the
activations stay time-major (batch, times, channels), a depth-wise filter is computed in phases, and a dropout mask
costs 16 random bits a value.
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from ...networks.fast.dropout import keep_by_16_bits

RECTIFIERS = {"relu": F.relu, "abs": torch.abs}


class FrontEnd(nn.Module):
    """Layers of `joint_front_end`: branches that each unmix, filter, rectify and smooth, by their published names."""

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

    def layers(self):
        """Layers that unmix, filter and smooth."""
        return self.unmixing_layer, self.band_pass, self.low_pass


def joint_front_end(fronts, x):
    """Envelopes (batch, n_fronts, n_branches, times) of several front ends, computed in one pass."""

    def stack(layer, parameter):
        return torch.cat([front.get_parameter(f"{layer}.{parameter}") for front in fronts])

    x = F.conv1d(x, stack("unmixing_layer", "weight"), stack("unmixing_layer", "bias"))
    x = _joint_norm([front.unmixed_channels_batchnorm for front in fronts], x)
    x = _joint_norm([front.norm for front in fronts], depthwise_conv1d(x, stack("band_pass", "weight")))
    x = depthwise_conv1d(RECTIFIERS[fronts[0].rectifier](x), stack("low_pass", "weight"))
    return (x + stack("low_pass", "bias")[:, None]).unflatten(1, (len(fronts), -1))


def _joint_norm(norms, x):
    """Batch normalisation of the channels of several layers at once, which updates their running statistics."""
    first = norms[0]
    mean, variance = (torch.cat([norm.get_buffer(name) for norm in norms]) for name in ("running_mean", "running_var"))
    weight, bias = (
        torch.cat([norm.get_parameter(name) for norm in norms]) if first.affine else None for name in ("weight", "bias")
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


def same_padding(kernel_size):
    """Zeros before and after a signal that keep its length, as ``padding="same"`` of torch places them."""
    return (kernel_size - 1) // 2, kernel_size // 2


def depthwise_conv1d(x, weight, n_phases=16):
    """Convolve each channel with its own filter, as ``conv1d(x, weight, groups=channels, padding="same")``.

    With P phases, sample P i + p of the output is ``sum_q sum_j W[p, q, j] x[P (i + j) + q]`` where ``W[p, q, j] =
    weight[P j + q - p]``: a convolution with P channels in, P out, and a kernel of (K + P - 1) / P taps. It multiplies
    by a few zeros more, but as dense blocks, which is many times faster than tap by tap. Shapes: ``x`` (batch,
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
    """Convolve time-major signals (batch, times, n_in), as ``conv1d(x.mT, weight, padding="same").mT``."""
    if x.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        return _convolve(x, weight)
    return _TimeMajorConv.apply(x, weight) if torch.is_grad_enabled() else _convolve(x, weight)


def _convolve(x, weight):
    """Convolve as a one-row image in channels-last memory, which needs no copy of x or of the result."""
    left, right = same_padding(weight.shape[-1])
    if left != right:
        x, left = F.pad(x, (0, 0, left, right)), 0
    image, kernel = x.mT.unsqueeze(2), weight.unsqueeze(2)
    return F.conv2d(image, kernel.contiguous(memory_format=torch.channels_last), padding=(0, left)).squeeze(2).mT


class _TimeMajorConv(torch.autograd.Function):
    """`_convolve` with a weight gradient by matrix products: oneDNN's own is 2 to 3 times slower in this layout."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return _convolve(x, weight)

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        n_taps = weight.shape[-1]
        left, right = same_padding(n_taps)
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            # The adjoint pads in reverse, which matters for even kernels only.
            spare = F.pad(grad, (0, 0, right - left, 0))
            grad_x = _convolve(spare, weight.flip(2).transpose(0, 1))[:, : x.shape[1]]
        if ctx.needs_input_grad[1]:
            # The zeros after each trial's gradient meet the samples where the next trial begins.
            rows = F.pad(x, (0, 0, left, right)).flatten(0, 1)
            columns = F.pad(grad, (0, 0, 0, n_taps - 1)).flatten(0, 1)
            n_rows = len(rows) - n_taps + 1
            taps = [columns[:n_rows].T @ rows[tap : tap + n_rows] for tap in range(n_taps)]
            grad_weight = torch.stack(taps, dim=2)
        return grad_x, grad_weight


def norm_gelu(x, norm):
    """``gelu(norm(x))`` that keeps only x for the gradient and computes the rest again: a tenth less memory."""
    if not torch.is_grad_enabled():
        return F.gelu(norm(x))
    return checkpoint(lambda x: F.gelu(norm(x)), x, use_reentrant=False, preserve_rng_state=False)


def gelu_max(x, size):
    """Maximum of ``gelu(x)`` over `size` samples of (batch, times, n).

    GELU falls and then rises, so its largest value is at one of the two ends: two values are computed, not `size`.
    """
    n_steps = x.shape[1] // size
    groups = x[:, : n_steps * size].unflatten(1, (n_steps, size))
    return torch.maximum(F.gelu(groups.amax(2)), F.gelu(groups.amin(2)))


def cheap_dropout(x, p, training=True):
    """Dropout, on a CPU by 16 random bits a value, which is several times cheaper than torch's."""
    if not training or p == 0:
        return x
    if x.device.type != "cpu" or p >= 1:
        return F.dropout(x, p)
    return x * keep_by_16_bits(x, p) * (1 / (1 - p))  # for the gradient a byte a value is kept
