"""What is noted of a pre-training, epoch by epoch."""

import time

import numpy as np
import torch
from skorch.callbacks import Callback

_PARTS = ("rec_loss", "cls_loss", "acc")


class Watch(Callback):
    """Note the parts of the loss, the validation curve of every subject, and trials a second.

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
        y = batch[1].to(y_pred[0].device)
        self.parts[training].append(net.criterion_.per_trial([_detached(one) for one in y_pred], y))
        if training:
            self.n_trained += len(y)
            self.trained = time.perf_counter()

    def on_epoch_end(self, net, **kwargs):
        """Write the means into the history."""
        self.parts = {training: torch.cat(parts).cpu().numpy() for training, parts in self.parts.items() if parts}
        net.history.record("trials_per_s", self.n_trained / max(self.trained - self.start, 1e-9))
        for training, name in ((True, "train"), (False, "valid")):
            if training in self.parts:
                for part, values in zip(_PARTS, self.parts[training].T, strict=True):
                    if not np.isnan(values).all():
                        net.history.record(f"{name}_{part}", float(np.nanmean(values)))
        if False in self.parts and self.subjects is not None:
            net.history.record("valid_by_subject", self._by_subject(self.parts[False]))

    def _by_subject(self, table):
        """Mean of each part over the trials of each subject."""
        found = {}
        for subject in dict.fromkeys(self.subjects.tolist()):
            rows = table[self.subjects == subject]
            kept = [i for i in range(len(_PARTS)) if not np.isnan(rows[:, i]).all()]
            found[str(subject)] = {_PARTS[i]: float(np.nanmean(rows[:, i])) for i in kept}
        return found


def _detached(value):
    return None if value is None else value.detach()
