"""U-Nets from EEG to MEG: the published ones, tensor for tensor, and one for any sensors and any length."""

import torch
from torch import nn
from torch.nn import functional

SHORTEST = 4  # samples that two poolings by two leave one of


class UNet(nn.Module):
    """U-Net over time with an LSTM at its bottom; channels are mixed by the first convolution.

    Parameters
    ----------
    n_chans, n_outputs : int
        EEG channels and MEG sensors.
    n_filters : int
        Filters of the upper level; the lower one has twice as many.
    lstm_hidden : int
        Units of the LSTM.
    dropout : float
        Share of features left out in training.
    n_times_out : int or None
        Samples to which the output is stretched, whatever the length of the input; None keeps its length.
    planes : bool
        Whether the inputs are planes of an image one sensor high, as in the wavelet U-Net, in place of its rows.
    bidirectional : bool
        Whether the LSTM reads the signal in both directions; published is one.

    Notes
    -----
    ``UNet(74, 102, n_times_out=275)`` and ``UNet(3, 3, planes=True)`` are the published networks.

    Examples
    --------
    >>> import torch
    >>> from skeeg.methods.eeg2meg import UNet
    >>> UNet(74, 306)(torch.randn(2, 74, 101)).shape
    torch.Size([2, 306, 101])
    """

    def __init__(
        self,
        n_chans=74,
        n_outputs=102,
        n_filters=32,
        lstm_hidden=32,
        dropout=0.3,
        n_times_out=None,
        planes=False,
        bidirectional=False,
    ):
        super().__init__()
        self.planes, self.n_times_out = planes, n_times_out
        upper, lower = n_filters, 2 * n_filters
        rows, depth = (1, n_chans) if planes else (n_chans, 1)
        self.e11 = nn.Conv2d(depth, upper, (rows, 3), padding=(0, 1))
        self.e12 = nn.Conv2d(upper, upper, (1, 3), padding=(0, 1))
        self.e21 = nn.Conv2d(upper, lower, (1, 3), padding=(0, 1))
        self.e22 = nn.Conv2d(lower, lower, (1, 3), padding=(0, 1))
        self.lstm = nn.LSTM(lower, lstm_hidden, batch_first=True, bidirectional=bidirectional)
        self.lstm_out_projection = nn.Conv1d((1 + bidirectional) * lstm_hidden, lower, 1)
        self.upconv1 = nn.ConvTranspose2d(lower, lower, (1, 2), stride=(1, 2))
        self.d11 = nn.Conv2d(2 * lower, lower, (1, 3), padding=(0, 1))
        self.d12 = nn.Conv2d(lower, lower, (1, 3), padding=(0, 1))
        self.upconv2 = nn.ConvTranspose2d(lower, upper, (1, 2), stride=(1, 2))
        self.d21 = nn.Conv2d(2 * upper, upper, (1, 3), padding=(0, 1))
        self.d22 = nn.Conv2d(upper, upper, (1, 3), padding=(0, 1))
        self.outconv = nn.Conv2d(upper, n_outputs, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        """Map EEG (n, n_chans, n_times) to sensors (n, n_outputs, n_times or n_times_out)."""
        n_times = x.shape[-1]
        if n_times < SHORTEST:  # the last sample is held: there must be something to pool
            x = functional.pad(x, (0, SHORTEST - n_times), mode="replicate")
        x = x[:, :, None] if self.planes else x[:, None]
        upper = self._twice(x, self.e11, self.e12)
        lower = self._twice(self._pool(upper), self.e21, self.e22)
        x = self._remember(self._pool(lower))
        x = self.dropout(self._twice(_join(self.upconv1(x), lower), self.d11, self.d12))
        x = self._twice(_join(self.upconv2(x), upper), self.d21, self.d22)
        x = self.outconv(x)
        if self.n_times_out is not None:
            x = functional.interpolate(x, (1, self.n_times_out), mode="bilinear", align_corners=False)
        return x[:, :, 0] if self.n_times_out is not None else x[:, :, 0, :n_times]

    def _twice(self, x, first, second):
        return functional.relu(second(functional.relu(first(x))))

    def _pool(self, x):
        return self.dropout(functional.max_pool2d(x, (1, 2)))

    def _remember(self, x):
        """LSTM over the pooled samples, shape (n, lower, 1, n_times)."""
        sequence, _ = self.lstm(x[:, :, 0].transpose(1, 2))
        return self.dropout(self.lstm_out_projection(sequence.transpose(1, 2)))[:, :, None]


class SensorUNet(UNet):
    """`UNet` for any sensors at any length: no stretching, an LSTM that reads both ways, and a last layer at zero.

    Parameters
    ----------
    n_chans, n_outputs : int
        EEG channels and MEG sensors (or bands of them).
    n_filters, lstm_hidden, dropout
        As in `UNet`.

    Examples
    --------
    >>> import torch
    >>> from skeeg.methods.eeg2meg import SensorUNet
    >>> SensorUNet(8, 306)(torch.randn(1, 8, 3)).shape
    torch.Size([1, 306, 3])
    """

    def __init__(self, n_chans, n_outputs, n_filters=32, lstm_hidden=32, dropout=0.3):
        super().__init__(n_chans, n_outputs, n_filters, lstm_hidden, dropout, bidirectional=True)
        nn.init.zeros_(self.outconv.weight)
        nn.init.zeros_(self.outconv.bias)

    @staticmethod
    def sizes_of(state):
        """Arguments that the shapes of a state dict tell."""
        return {"n_filters": state["e11.weight"].shape[0], "lstm_hidden": state["lstm.weight_hh_l0"].shape[1]}


def _join(x, skip):
    """Put what comes from below, padded to its length, beside what comes from the side."""
    return torch.cat([functional.pad(x, (0, skip.shape[-1] - x.shape[-1])), skip], dim=1)
