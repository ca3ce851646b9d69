"""Callbacks of the training: learning rate, early stopping, accuracy, progress, averaged weights."""

import torch
from skorch.callbacks import Callback, EarlyStopping, EpochScoring, LRScheduler
from skorch.utils import noop
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from .augmentation import TimeShift


def recipe_callbacks(recipe, n_steps=1, validates=False, classifies=False, verbose=0):
    """List the callbacks that follow a recipe, with their names; ``n_steps`` are the updates of an epoch.

    The learning rate moves by `Recipe.rate`, at every epoch or, with ``by_step``, at every update.
    """
    n_steps, every = (n_steps, "batch") if recipe.by_step else (1, "epoch")
    policy = torch.optim.lr_scheduler.LambdaLR
    found = [("schedule", LRScheduler(policy, step_every=every, lr_lambda=lambda step: recipe.rate(step, n_steps)))]
    if recipe.time_shift:
        found.append(("time_shift", TimeShift(recipe.time_shift)))
    if validates and classifies:
        found.append(("valid_acc", EpochScoring("accuracy", name="valid_acc", lower_is_better=False)))
    if validates and recipe.patience is not None:
        least = {"threshold": recipe.min_delta, "threshold_mode": "abs"}
        found.append(("early_stopping", EarlyStopping(patience=recipe.patience, load_best=True, sink=noop, **least)))
    if verbose:
        found.append(("progress", ProgressBar()))
    return found


def was_interrupted(net):
    """Whether Ctrl-C ended a training, which skorch does not separate from an early stop."""
    stops = [one for _, one in net.callbacks_ if isinstance(one, EarlyStopping)]
    if any(one.misses_ >= one.patience for one in stops):
        return False
    return len(net.history) < net.max_epochs or "dur" not in net.history[-1]


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
