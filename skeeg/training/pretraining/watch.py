"""What is noted of a pre-training, epoch by epoch."""

import time

import numpy as np
import torch
from skorch.callbacks import Callback
from torch import nn

from ..net import without_gradient
from . import ranks


class PartsLoss(nn.Module):
    """Weighted sum of losses that the network itself computes for each trial.

    Parameters
    ----------
    parts : tuple of str
        Name of each column of the network's output.
    weights : tuple of float
        Weight of each; 0 for what is only to be watched.

    Examples
    --------
    >>> import torch
    >>> from skeeg.training.pretraining import PartsLoss
    >>> PartsLoss(("cls_loss", "acc"), (0.5, 0.0))(torch.tensor([[2.0, 1.0], [4.0, 0.0]]), None).item()
    1.5
    """

    def __init__(self, parts, weights):
        super().__init__()
        self.parts, self.weights = tuple(parts), tuple(weights)

    def counts(self, y):
        """Count the trials, as `skeeg.training.pretraining.SharedNet` asks for it."""
        return torch.tensor([len(y)], device=y.device)

    def forward(self, outputs, y, counts=None):
        """Mean over the trials of the weighted sum.

        Parameters
        ----------
        outputs : Tensor, shape (batch, n_parts)
            Losses of each trial.
        y : object
            Ignored.
        counts : Tensor of int, shape (1,), or None
            Trials of the mean, where these are some of them.

        Returns
        -------
        loss : Tensor, shape ()
            Loss.
        """
        means = outputs.mean(dim=0) if counts is None else outputs.sum(dim=0) / counts[0]
        return (means * outputs.new_tensor(self.weights)).sum()

    def per_trial(self, outputs, y):
        """Losses of each trial, as they are."""
        return outputs


class Watch(Callback):
    """Note the parts of the loss, the validation curve of every subject, and trials a second.

    The criterion has ``parts``, the names, and ``per_trial(outputs, y)``, which gives a column for each.

    Parameters
    ----------
    subjects : ndarray, shape (n_valid_trials,), or None
        Subject of each validation trial.
    """

    def __init__(self, subjects=None):
        self.subjects = subjects

    def on_epoch_begin(self, net, **kwargs):
        """Start counting."""
        self.parts = {True: [], False: []}
        self.start = self.trained = time.perf_counter()
        self.n_trained = 0

    def on_batch_end(self, net, batch=None, training=False, y_pred=None, **kwargs):
        """Note one batch."""
        y_pred = without_gradient(y_pred)
        y = batch[1].to((y_pred if isinstance(y_pred, torch.Tensor) else y_pred[0]).device)
        self.parts[training].append(net.criterion_.per_trial(y_pred, y))
        if training:
            self.n_trained += len(y)
            self.trained = time.perf_counter()

    def on_epoch_end(self, net, **kwargs):
        """Write the means into the history."""
        names = net.criterion_.parts
        self.parts = {training: self._table(parts) for training, parts in self.parts.items() if parts}
        found = ranks.gather((self.n_trained, max(self.trained - self.start, 1e-9)))
        net.history.record("trials_per_s", sum(n for n, _ in found) / max(seconds for _, seconds in found))
        for training, name in ((True, "train"), (False, "valid")):
            if training in self.parts:
                for part, values in zip(names, self.parts[training].T, strict=True):
                    if not np.isnan(values).all():
                        net.history.record(f"{name}_{part}", float(np.nanmean(values)))
        if False in self.parts and self.subjects is not None:
            net.history.record("valid_by_subject", self._by_subject(names, self.parts[False]))

    def _table(self, parts):
        """Parts of the loss of each trial, those of all processes, in the order of the batches."""
        if ranks.size() > 1:
            everybody = ranks.gather([part.cpu() for part in parts])
            parts = [part for batch in zip(*everybody, strict=True) for part in batch]
        return torch.cat(parts).cpu().numpy()

    def _by_subject(self, names, table):
        """Mean of each part over the trials of each subject."""
        found = {}
        for subject in dict.fromkeys(self.subjects.tolist()):
            rows = table[self.subjects == subject]
            kept = [i for i in range(len(names)) if not np.isnan(rows[:, i]).all()]
            found[str(subject)] = {names[i]: float(np.nanmean(rows[:, i])) for i in kept}
        return found
