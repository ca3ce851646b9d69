"""Callbacks of the training: progress, averaged weights."""

import torch
from skorch.callbacks import Callback
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm


class ProgressBar(Callback):
    """One bar over the epochs with the losses beside it."""

    def on_train_begin(self, net, **kwargs):
        """Open the bar."""
        self.bar = tqdm(total=net.max_epochs, unit="epoch", leave=True)

    def on_epoch_end(self, net, **kwargs):
        """Move on by one epoch."""
        last = net.history[-1]
        shown = {name: last[name] for name in ("train_loss", "valid_loss", "valid_acc") if name in last}
        self.bar.set_postfix({name: f"{value:.3f}" for name, value in shown.items()})
        self.bar.update()

    def on_train_end(self, net, **kwargs):
        """Close the bar."""
        self.bar.close()
        self.bar = None  # a bar cannot be pickled


class WeightAverage(Callback):
    r"""Exponential mean of the weights, which the network has at the end of the training.

    .. math:: \bar w_t = d_t \bar w_{t - 1} + (1 - d_t) w_t, \quad d_t = \min(d, (1 + t) / (10 + t))

    It begins with the weights that the training begins with, those of a checkpoint where one was loaded.
    """

    def __init__(self, decay=0.9999):
        self.decay = decay

    def on_train_begin(self, net, **kwargs):
        """Start from the weights as they are."""
        self.average = AveragedModel(net.module_, avg_fn=self._mean)
        self.average.n_averaged += 1  # the weights at the start count

    def _mean(self, mean, new, n):
        return mean.lerp(new, 1 - min(self.decay, (1 + n) / (10 + n)))

    def on_batch_end(self, net, training=False, **kwargs):
        """Follow one update."""
        if training:
            self.average.update_parameters(net.module_)

    @torch.no_grad()
    def on_train_end(self, net, **kwargs):
        """Give the network its means."""
        for parameter, mean in zip(net.module_.parameters(), self.average.module.parameters(), strict=True):
            if parameter.requires_grad:
                parameter.copy_(mean)
        self.average = None
