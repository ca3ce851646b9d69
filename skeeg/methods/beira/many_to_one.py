"""The ancestor of BEIRA, whose LSTM gives one value for a window."""

import torch.nn.functional as F
from torch import nn

from ...networks.heads import ReplaceableHead
from .layers import check_n_times, depthwise_conv1d, front_weights
from .network import EEGModuleMixin


class Absolute(nn.LeakyReLU):
    """Full-wave rectifier as published: a leaky ReLU of slope -1, which is the absolute value."""

    def __init__(self):
        super().__init__(-1.0)


class BEIRAManyToOne(ReplaceableHead, EEGModuleMixin, nn.Module):
    """Ancestor of BEIRA: the same front end with a full-wave rectifier, then an LSTM; one value for a window.

    :bdg-success:`Recurrent` :bdg-warning:`Interpretability`

    Parameters
    ----------
    n_branches : int
        Branches.
    filter_length, envelope_length : int
        Taps of the band-pass and of the low-pass filter.
    downsampling : int
        Samples of an envelope of which the maximum is taken.
    hidden_size : int
        Units of the LSTM, for each direction.
    bidirectional : bool
        Whether the LSTM also runs backwards.
    unused_layers : bool
        Keep the two layers of the published class that its forward pass never reads, so that its state dict loads
        whole.
    activation : type of torch.nn.Module
        Rectifier.
    drop_prob : float
        Dropout between the layers of the LSTM; the published value is 0.

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
        unused_layers: bool = False,
        activation: type[nn.Module] = Absolute,
        drop_prob: float = 0.0,
        chs_info=None,
        input_window_seconds=None,
        sfreq=None,
    ):
        super().__init__(
            n_outputs=n_outputs,
            n_chans=n_chans,
            chs_info=chs_info,
            n_times=n_times,
            input_window_seconds=input_window_seconds,
            sfreq=sfreq,
        )
        self.mapping = {"fc_last.weight": "final_layer.weight", "fc_last.bias": "final_layer.bias"}
        self.decimation = downsampling
        self.ignorable_parts = () if unused_layers else ("features_batchnorm", "fc_layer")
        check_n_times(n_times, downsampling)
        self.unmixing_layer = nn.Conv1d(self.n_chans, n_branches, 1)
        self.unmixed_channels_batchnorm = nn.BatchNorm1d(n_branches, affine=False)
        self.detector = nn.Sequential(
            nn.Conv1d(n_branches, n_branches, filter_length, groups=n_branches, bias=False, padding="same"),
            nn.BatchNorm1d(n_branches, affine=False),
            activation(),
            nn.Conv1d(n_branches, n_branches, envelope_length, groups=n_branches, padding="same"),
        )
        if unused_layers:
            self.features_batchnorm = nn.BatchNorm1d(self.n_times, affine=False)
        self.lstm = nn.LSTM(
            n_branches, hidden_size, 2, batch_first=True, bidirectional=bidirectional, dropout=drop_prob
        )
        width = hidden_size * (2 if bidirectional else 1)
        self.bn_last = nn.BatchNorm1d(width, affine=False)
        self.final_layer = nn.Linear(width, self.n_outputs)
        if unused_layers:
            self.fc_layer = nn.Linear(self.n_times, self.n_outputs)

    def envelopes(self, x):
        """Run the front end alone: (batch, n_chans, times) to (batch, 1, n_branches, times)."""
        first, norm, rectifier, last = self.detector
        x = self.unmixed_channels_batchnorm(self.unmixing_layer(x))
        x = rectifier(norm(depthwise_conv1d(x, first.weight)))
        return (depthwise_conv1d(x, last.weight) + last.bias[:, None]).unsqueeze(1)

    def front_layers(self):
        """List the layers that unmix, filter and smooth, of the one front end."""
        return [(self.unmixing_layer, self.detector[0], self.detector[3])]

    def front_weights(self):
        """Spatial and temporal filters, (1, n_branches, n_chans) and (1, n_branches, filter_length)."""
        return front_weights(self.front_layers())

    def decode(self, envelopes):
        """Run the LSTM alone, on what `envelopes` gives: to (batch, n_outputs)."""
        x = F.max_pool1d(envelopes[:, 0], self.decimation)
        return self.final_layer(self.bn_last(self.lstm(x.mT)[0][:, -1]))

    def forward(self, x):
        """Map (batch, n_chans, times) to the values at the last sample, (batch, n_outputs)."""
        check_n_times(x.shape[-1], self.decimation)
        return self.decode(self.envelopes(x))
