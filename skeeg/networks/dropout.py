"""Dropout that costs a CPU less."""

import torch
from torch import nn


class Dropout(nn.Dropout):
    """Dropout that draws 16 random bits a value, where torch's draws a number: on a CPU it is sooner.

    The share dropped is ``p`` to within 1/131072. On a GPU, and in evaluation, it is torch's own.

    Examples
    --------
    >>> import torch
    >>> from skeeg.networks.dropout import Dropout
    >>> sorted(Dropout(0.75)(torch.ones(1000)).unique().tolist())
    [0.0, 4.0]
    """

    def forward(self, x):
        """Drop values and scale the others up.

        Parameters
        ----------
        x : Tensor
            Any shape.

        Returns
        -------
        y : Tensor
            Same shape.
        """
        if not self.training or not 0 < self.p < 1 or x.device.type != "cpu":
            return super().forward(x)
        words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        bits = words.view(torch.int16)[: x.numel()].view(x.shape)  # uniform from -2**15 to 2**15 - 1
        kept = bits >= round(self.p * 2**16) - 2**15
        return x * kept.to(x.dtype).mul_(1 / (1 - self.p))
