"""ADFCNN: two temporal scales, two kinds of spatial filter, and attention over the feature maps."""

import torch
import torch.nn.functional as F
from torch import nn

from .base import EEGModuleMixin, ReplaceableHead, SafeLog, Square
from .fast.front_end import front_end, usable


class MaxNormConv2d(nn.Conv2d):
    """Convolution whose filters never exceed an L2 norm, on wish padded to keep the width (the odd zero on the right).

    In training the stored weight itself is scaled down before each use, as in the published network, so that the
    optimiser goes on from the constrained value. In evaluation a scaled copy is used.
    """

    def __init__(self, n_in, n_out, kernel_size, *, max_norm, groups=1, bias=True, same=False):
        super().__init__(n_in, n_out, kernel_size, groups=groups, bias=bias)
        self.pad = ((kernel_size[1] - 1) // 2, kernel_size[1] // 2) if same else (0, 0)
        self.max_norm = max_norm

    def constrained_weight(self):
        """Weight within the norm, shape as stored."""
        if not self.training:
            return self.weight.renorm(p=2, dim=0, maxnorm=self.max_norm)
        with torch.no_grad():
            self.weight.copy_(self.weight.renorm(p=2, dim=0, maxnorm=self.max_norm))
        return self.weight

    def forward(self, x):
        """Convolve with the constrained filters."""
        return self._conv_forward(F.pad(x, self.pad), self.constrained_weight(), self.bias)


class _Backbone(nn.Module):
    """Both branches and the attention; the names of its parts are those of the published state dict."""

    def __init__(self, n_chans, n_filters, kernels, pools, max_norm, activation, drop_prob, scrambled_attention):
        super().__init__()
        self.scrambled_attention = scrambled_attention
        (long, short), ((pool_1, stride_1), (pool_2, stride_2)) = kernels, pools

        def conv(n_in, size, **options):
            return MaxNormConv2d(n_in, n_filters, size, max_norm=max_norm, **options)

        self.spectral_1 = nn.Sequential(conv(1, (1, long), same=True), nn.BatchNorm2d(n_filters))
        self.spectral_2 = nn.Sequential(conv(1, (1, short), same=True), nn.BatchNorm2d(n_filters))
        self.spatial_1 = nn.Sequential(
            conv(n_filters, (n_chans, 1), groups=n_filters, bias=False),
            nn.BatchNorm2d(n_filters),
            activation(),
            nn.Dropout(drop_prob),
            conv(n_filters, (1, 1)),
            nn.BatchNorm2d(n_filters),
            activation(),
            nn.AvgPool2d((1, pool_1), stride=(1, stride_1)),
            nn.Dropout(drop_prob),
        )
        self.spatial_2 = nn.Sequential(
            conv(n_filters, (n_chans, 1)),
            nn.BatchNorm2d(n_filters),
            Square(),
            nn.AvgPool2d((1, pool_2), stride=(1, stride_2)),
            SafeLog(),
            nn.Dropout(drop_prob),
        )
        self.w_q = nn.Linear(n_filters, n_filters)
        self.w_k = nn.Linear(n_filters, n_filters)
        self.w_v = nn.Linear(n_filters, n_filters)
        self.dropout = nn.Dropout(drop_prob)

    def forward(self, x):
        """Map (batch, 1, n_chans, n_times) to features (batch, n_filters, 1, n_tokens)."""
        return self._attend(self.spatial_1(self.spectral_1(x)), self.spatial_2(self.spectral_2(x)))

    def skeeg_fast_forward(self, x):
        """Compute the same with each branch's convolutions together."""
        first = self._branch(x, self.spectral_1, self.spatial_1, depthwise=True)
        return self._attend(first, self._branch(x, self.spectral_2, self.spatial_2, depthwise=False))

    def _branch(self, x, spectral, spatial, depthwise):
        (time, norm), space = spectral, spatial[0]
        if not usable((spectral, time, norm, spatial, space), norm, x, linear=False):
            return spatial(spectral(x))
        weights = [(conv.constrained_weight(), conv.bias) for conv in (time, space)]
        y = front_end(x[:, 0], weights[0], norm, weights[1], depthwise, time.pad).unsqueeze(2)
        for layer in list(spatial)[1:]:
            y = layer(y)
        return y

    def _attend(self, first, second):
        x = torch.cat([first, second], dim=3)
        tokens = x.squeeze(2).transpose(1, 2)
        q, k, v = (linear(tokens).transpose(1, 2) for linear in (self.w_q, self.w_k, self.w_v))
        scores = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(1, 2) / q.shape[-1] ** 0.5
        attended = scores.softmax(dim=-1) @ v
        # The published code reads the (n_filters, n_tokens) result in memory order as (n_tokens, n_filters).
        attended = attended.reshape(tokens.shape) if self.scrambled_attention else attended.transpose(1, 2)
        return self.dropout((tokens + self.dropout(attended)).transpose(1, 2).unsqueeze(2))


class ADFCNN(ReplaceableHead, EEGModuleMixin, nn.Module):
    """ADFCNN: attention-based dual-scale fusion convolutional network from Tao et al. (2023) [1]_.

    :bdg-success:`Convolution` :bdg-info:`Attention/Transformer`

    One branch filters with a long temporal kernel and one spatial filter for each feature map, and averages; the other
    filters with a short kernel and spatial filters over all feature maps, and takes the logarithm of the power. The
    tokens of both are concatenated, and attention among the feature maps, ``softmax(q k' / sqrt(n_tokens)) v`` with
    ``q`` and ``k`` of unit length over the tokens, is added to them.

    Parameters
    ----------
    n_filters : int
        Feature maps of each branch.
    kernel_length_1, kernel_length_2 : int
        Samples of the long and of the short temporal kernel; the published values are for 250 Hz.
    pool_length_1, pool_length_2 : int
        Samples averaged in each branch.
    pool_stride_1, pool_stride_2 : int
        Steps between averages.
    max_norm : float
        Largest L2 norm of a convolution filter.
    activation : type of torch.nn.Module
        Nonlinearity of the first branch.
    drop_prob : float
        Dropout probability.
    scrambled_attention : bool
        Read the result of the attention in the order of the published code, which exchanges tokens and feature maps
        without transposing. ``False`` transposes.

    References
    ----------
    .. [1] Tao, W., Wang, Z., Wong, C. M., Jia, Z., Li, C., Chen, X., Chen, C. L. P., & Wan, F. (2023). ADFCNN:
       attention-based dual-scale fusion convolutional neural network for motor imagery brain-computer interface. IEEE
       Transactions on Neural Systems and Rehabilitation Engineering, 32, 154-165.

    Examples
    --------
    >>> import torch
    >>> network = ADFCNN(n_chans=16, n_times=1000, n_outputs=2)
    >>> network(torch.zeros(3, 16, 1000)).shape, sum(p.numel() for p in network.parameters())
    (torch.Size([3, 2]), 3890)
    """

    def __init__(
        self,
        n_chans=None,
        n_outputs=None,
        n_times=None,
        n_filters=8,
        kernel_length_1=125,
        kernel_length_2=30,
        pool_length_1=32,
        pool_stride_1=32,
        pool_length_2=75,
        pool_stride_2=25,
        max_norm=2.0,
        activation=nn.ELU,
        drop_prob=0.5,
        scrambled_attention=True,
        chs_info=None,
        input_window_seconds=None,
        sfreq=None,
    ):
        super().__init__(
            n_outputs=n_outputs, n_chans=n_chans, chs_info=chs_info, n_times=n_times, sfreq=sfreq,
            input_window_seconds=input_window_seconds,
        )  # fmt: skip
        self.mapping = {
            "classifier.dense.0.weight": "final_layer.weight",
            "classifier.dense.0.bias": "final_layer.bias",
        }
        longest = max(pool_length_1, pool_length_2)
        if self.n_times < longest:
            raise ValueError(f"ADFCNN averages over {longest} samples, got n_times={self.n_times}")
        kernels = kernel_length_1, kernel_length_2
        pools = (pool_length_1, pool_stride_1), (pool_length_2, pool_stride_2)
        self.backbone = _Backbone(
            self.n_chans, n_filters, kernels, pools, max_norm, activation, drop_prob, scrambled_attention
        )
        n_tokens = (self.n_times - pool_length_1) // pool_stride_1 + (self.n_times - pool_length_2) // pool_stride_2 + 2
        self.final_layer = nn.Conv2d(n_filters, self.n_outputs, (1, n_tokens))

    def forward(self, x):
        """Logits (batch, n_outputs) of trials (batch, n_chans, n_times)."""
        return self.final_layer(self.backbone(x.unsqueeze(1))).flatten(1)
