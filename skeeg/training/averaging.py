"""Weights averaged over the updates of a training."""

import torch
from skorch.callbacks import Callback


class WeightAverage(Callback):
    r"""Exponential mean of the weights, which the network has at the end of the training.

    .. math:: \bar w_t = d_t \bar w_{t - 1} + (1 - d_t) w_t, \quad d_t = \min(d, (1 + t) / (10 + t))

    It begins with the weights that the training begins with, those of a checkpoint where one was loaded.

    Parameters
    ----------
    decay : float
        :math:`d`.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from skeeg.training import Recipe, train
    >>> from skeeg.training.averaging import WeightAverage
    >>> X, y = np.random.default_rng(0).normal(size=(8, 2, 4)).astype("float32"), np.arange(8) % 2
    >>> module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(8, 2))
    >>> net = train(module, X, y, Recipe(max_epochs=3), callbacks=[WeightAverage(0.9)])
    """

    def __init__(self, decay=0.9999):
        self.decay = decay

    def on_train_begin(self, net, **kwargs):
        """Start from the weights as they are."""
        self.n_updates = 0
        self.means = {name: p.detach().clone() for name, p in net.module_.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def on_batch_end(self, net, training=False, **kwargs):
        """Follow one update."""
        if training:
            self.n_updates += 1
            decay = min(self.decay, (1 + self.n_updates) / (10 + self.n_updates))
            for name, parameter in net.module_.named_parameters():
                if name in self.means:
                    self.means[name].lerp_(parameter, 1 - decay)

    @torch.no_grad()
    def on_train_end(self, net, **kwargs):
        """Give the network its means."""
        for name, parameter in net.module_.named_parameters():
            if name in self.means:
                parameter.copy_(self.means[name])
        self.means = {}
