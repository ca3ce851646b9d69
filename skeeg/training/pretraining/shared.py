"""A net whose updates are shared among processes, or computed piece by piece, or both."""

import contextlib
import dataclasses
import gc

import numpy as np
import torch
from skorch.callbacks import Callback
from skorch.dataset import unpack_data
from torch.nn.parallel import DistributedDataParallel

from ..net import Batches, TrainingNet, joined, without_gradient
from . import ranks


@dataclasses.dataclass
class Part:
    """A process's inputs and targets of a batch, which skorch weighs by the trials of the whole batch.

    Attributes
    ----------
    X : Tensor or dict of str to Tensor, shape (n_here, ...)
        Inputs; where there are none, those of one trial all the same.
    y : Tensor, shape (n_here, ...)
        Targets.
    rows : slice
        Rows of the batch.
    n_trials : int
        Trials of the whole batch.
    """

    X: torch.Tensor | dict
    y: torch.Tensor
    rows: slice
    n_trials: int

    def __iter__(self):
        """Give inputs and targets."""
        return iter((self.X, self.y))

    def __getitem__(self, index):
        """Give inputs or targets."""
        return (self.X, self.y)[index]

    def __len__(self):
        """Count the trials of the whole batch."""
        return self.n_trials


class SharedBatches(Batches):
    """Batches of which each process takes its part.

    ``batch_size`` counts the trials of all processes; each draws the same batches.
    """

    def __iter__(self):
        """Go once over all trials."""
        with ranks.together():
            chunks = self.dataset.draw(self.batch_size, self.shuffle)
        parts = [ranks.part(len(chunk)) for chunk in chunks]
        own = [chunk[rows] for chunk, rows in zip(chunks, parts, strict=True)]
        batches = self.take([few if len(few) else chunk[:1] for few, chunk in zip(own, chunks, strict=True)])
        for (X, y), few, chunk, rows in zip(batches, own, chunks, parts, strict=True):
            with ranks.computing(rows, len(chunk)):
                yield Part(X, y[: len(few)], rows, len(chunk))


class SharedNet(TrainingNet):
    """The net of `pretrain` where several processes compute an update, or one does so piece by piece.

    ``batch_size`` counts the trials of all processes. The criterion has ``counts(y)``, how many of these trials count
    in each of its terms, and takes the counts of the whole update as a third argument; what it then gives is the part
    of the loss that is due to the trials at hand. Losses in the history are those of the whole update.
    """

    batches = SharedBatches

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        """Let torch exchange gradients."""
        super().on_train_begin(net, X=X, y=y, **kwargs)
        step = _Step(self)
        if ranks.size() > 1:
            # Published state dicts hold tensors that no forward pass uses. Statistics agree by themselves.
            step = DistributedDataParallel(step, find_unused_parameters=True, broadcast_buffers=False)
        vars(self)["_step"] = step  # past skorch, which would take it for a second network of its own

    def on_train_end(self, net, X=None, y=None, **kwargs):
        """Let the network alone: as long as torch's wrapper lives, it exchanges gradients at any backward pass."""
        super().on_train_end(net, X=X, y=y, **kwargs)
        vars(self)["_step"] = None
        gc.collect()  # it may be part of a cycle

    def train_step_single(self, batch, **fit_params):
        """Gradient of the whole update, from this process's part of it, piece by piece."""
        self._set_training(True)
        counts, losses, outputs = self._counts(batch[1]), [], []
        n_pieces = min(self.count_pieces(batch.n_trials), max(batch.n_trials // ranks.size(), 1))  # as many for all
        state = ranks.random_state()
        for number, (X, y, start) in enumerate(self.pieces(*batch, n_pieces)):
            ranks.set_random_state(state)  # pieces are rows of one draw
            start += batch.rows.start
            with ranks.computing(slice(start, start + len(y)), batch.n_trials):
                loss, y_pred = self._backward(X, y, counts, exchange=number == n_pieces - 1)
            losses.append(loss)
            outputs.append(y_pred)
        return {"loss": ranks.total(sum(losses)), "y_pred": joined(outputs)}

    def infer(self, x, **fit_params):
        """Compute the outputs for the trials that are this process's, maybe none."""
        y_pred = super().infer(x, **fit_params)
        if ranks.is_idle():
            is_one = isinstance(y_pred, torch.Tensor)
            y_pred = y_pred[:0] if is_one else tuple(None if one is None else one[:0] for one in y_pred)
        return y_pred

    def _backward(self, X, y, counts, exchange):
        """Add the gradient of one piece; exchange those of all pieces at the last."""
        with contextlib.nullcontext() if exchange or ranks.size() == 1 else self._step.no_sync():
            loss, y_pred = self._step(X, y, counts)
            (loss * ranks.size()).backward()  # torch gives the mean over processes, not the sum
        return loss.detach(), y_pred

    def validation_step(self, batch, **fit_params):
        """Loss of a whole validation batch, from this process's part of it."""
        self._set_training(False)
        X, y = unpack_data(batch)
        with torch.no_grad():
            y_pred = self.infer(X, **fit_params)
            loss = self.get_loss(y_pred, y, counts=self._counts(y))
        return {"loss": ranks.total(loss), "y_pred": y_pred}

    def _counts(self, y):
        return ranks.total(self.criterion_.counts(y.to(self.device)))

    def fit_loop(self, X, y=None, epochs=None, **fit_params):
        """Train; a process that is stopped by Ctrl-C cannot end well while the others go on."""
        try:
            return super().fit_loop(X, y, epochs, **fit_params)
        except KeyboardInterrupt as error:
            if ranks.size() == 1:
                raise
            raise RuntimeError(
                "A training of several processes was interrupted; with run_file it goes on from its last epoch."
            ) from error


class _Step(torch.nn.Module):
    """Loss of the trials at hand: as torch's wrapper wants it, nothing else has a gradient.

    What outputs that no loss depends on (a term of weight 0) would get is then never waited for.
    """

    def __init__(self, net):
        super().__init__()
        self.module, self.infer, self.get_loss = net.module_, net.infer, net.get_loss

    def forward(self, X, y, counts):
        """Give the loss, and the outputs without gradient."""
        y_pred = self.infer(X)
        return self.get_loss(y_pred, y, training=True, counts=counts), without_gradient(y_pred)


class OwnRandom(Callback):
    """Give each process random numbers of its own (dropout), the same however often the training was broken off.

    Parameters
    ----------
    seed : int
        Seed of the run.
    done : int
        Epochs done before.
    """

    def __init__(self, seed, done):
        self.seed, self.done = seed, done

    def on_epoch_begin(self, net, **kwargs):
        """Begin anew."""
        numbers = np.random.SeedSequence([self.seed, self.done + len(net.history), ranks.rank()])
        torch.manual_seed(int(numbers.generate_state(1)[0]))
