"""The CT-adaptTL network."""

import torch
from torch import nn

from ...networks.base import EEGModuleMixin, ReplaceableHead
from ...networks.fast.front_end import merged_conv
from ...training.checkpoints import rename_keys

UPSTREAM_KEYS = {
    "conv1.weight": "temporal.weight",
    "conv1.bias": "temporal.bias",
    "conv1_1.weight": "spatial.weight",
    "bn1.weight": "norm.weight",
    "bn1.bias": "norm.bias",
    "bn1.running_mean": "norm.running_mean",
    "bn1.running_var": "norm.running_var",
    "bn1.num_batches_tracked": "norm.num_batches_tracked",
    "fc.0.weight": "hidden.weight",
    "fc.0.bias": "hidden.bias",
    "conv_classifier.0.weight": "final_layer.weight",
    "conv_classifier.0.bias": "final_layer.bias",
}


class CTAdaptTLNet(ReplaceableHead, EEGModuleMixin, nn.Module):
    r"""Network of cross-task adaptive transfer learning [1]_.

    Temporal filters, spatial filters over all electrodes, batch normalisation, an exponential linear unit, mean
    pooling, dropout, one hidden layer, class scores. With :math:`L = \lfloor (T - K - P + 1) / S \rfloor + 1` pooled
    steps from ``T`` samples, filters of ``K`` samples and pools of ``P`` samples every ``S``:

    .. math::
        (B, C, T) \to (B, F, T - K + 1) \to (B, F, L) \to (B, F L) \to (B, H) \to (B, n_{outputs})

    Parameters
    ----------
    n_filters, filter_length : int
        Temporal and spatial filters, ``F``, and samples of a temporal one, ``K``.
    pool_length, pool_stride : int
        Samples of a pool, ``P``, and between pools, ``S``. With ``pool_length=None`` one pool holds the whole trial.
    n_hidden : int
        Units of the hidden layer, ``H``.
    drop_prob, activation : float, type of nn.Module
        Dropout after pooling, and nonlinearity after batch normalisation.

    Notes
    -----
    Scores are logits; the published code gives their log-softmax. Published state dicts load as they are. The two
    linear front layers are computed as one convolution over electrodes, with the same numbers about ten times faster.

    References
    ----------
    .. [1] Miao, M., Yang, Z., Zeng, H., Zhang, W., Xu, B., & Hu, W. (2023). Explainable cross-task adaptive transfer
       learning for motor imagery EEG classification. Journal of Neural Engineering, 20, 066021.
       https://doi.org/10.1088/1741-2552/ad0c61

    Examples
    --------
    >>> import torch
    >>> from skeeg.methods.ct_adapttl import CTAdaptTLNet
    >>> net = CTAdaptTLNet(n_outputs=2, n_chans=20, n_times=1500)
    >>> net(torch.zeros(4, 20, 1500)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([4, 2]), 785722)
    """

    @staticmethod
    def sizes_of(state):
        """Arguments that follow from the shapes of a state dict; pools do not."""
        state = rename_keys(state, UPSTREAM_KEYS)
        n_filters, _, filter_length, _ = state["temporal.weight"].shape
        return {"n_filters": n_filters, "filter_length": filter_length, "n_hidden": len(state["hidden.bias"])}

    def __init__(
        self,
        n_outputs=None,
        n_chans=None,
        chs_info=None,
        n_times=None,
        input_window_seconds=None,
        sfreq=None,
        n_filters=40,
        filter_length=25,
        pool_length=75,
        pool_stride=15,
        n_hidden=200,
        drop_prob=0.5,
        activation: type[nn.Module] = nn.ELU,
    ):
        super().__init__(
            n_outputs=n_outputs, n_chans=n_chans, chs_info=chs_info, n_times=n_times,
            input_window_seconds=input_window_seconds, sfreq=sfreq,
        )  # fmt: skip
        del n_outputs, n_chans, chs_info, n_times, input_window_seconds, sfreq
        self.mapping = dict(UPSTREAM_KEYS)
        self.freeze_norm = False
        if pool_length is None:
            pool_length = max(self.n_times - filter_length + 1, 1)
        shortest = filter_length + pool_length - 1
        if self.n_times < shortest:
            raise ValueError(f"n_times: CTAdaptTLNet needs at least {shortest} samples a trial, got {self.n_times}.")
        n_pooled = (self.n_times - shortest) // pool_stride + 1
        self.temporal = nn.Conv2d(1, n_filters, (filter_length, 1))
        self.spatial = nn.Conv2d(n_filters, n_filters, (1, self.n_chans), bias=False)
        self.norm = nn.BatchNorm1d(n_filters)
        self.activation = activation()
        self.pool = nn.AvgPool1d(pool_length, pool_stride)
        self.drop = nn.Dropout(drop_prob)
        self.hidden = nn.Linear(n_filters * n_pooled, n_hidden)
        self.final_layer = nn.Linear(n_hidden, self.n_outputs)

    def forward(self, x):
        """Score the classes of each trial: (batch, n_chans, n_times) to (batch, n_outputs)."""
        return self.final_layer(torch.relu(self.hidden(self.features(x))))

    def features(self, x):
        """Pooled activity of the filters: (batch, n_chans, n_times) to (batch, n_filters * n_pooled), filter-major."""
        pooled = self.pool(self.activation(self.norm(self.front(x))))
        return self.drop(pooled).flatten(1)

    def front(self, x):
        """Temporal and spatial filters: (batch, n_chans, n_times) to (batch, n_filters, n_filtered)."""
        return merged_conv(x, self.temporal.weight, self.temporal.bias, self.spatial.weight, self.spatial.bias)

    def train(self, mode=True):
        """Switch between training and evaluation; with ``freeze_norm`` the normalisation stays in evaluation."""
        super().train(mode)
        if self.freeze_norm:
            self.norm.eval()
        return self
