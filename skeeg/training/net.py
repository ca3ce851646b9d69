"""A skorch net for EEG arrays: whole batches at once, no work per trial in Python."""

import contextlib

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping, EpochTimer, PassthroughScoring
from tqdm import tqdm

from .ahead import batches_to_gpu


class Trials(torch.utils.data.Dataset):
    """Trials and targets as two tensors.

    A subclass that cuts its batches from elsewhere overrides ``__len__``, ``take``, ``to`` and ``device``; one whose
    trials cannot all be in one batch, ``draw`` too.

    Parameters
    ----------
    X : ndarray or Tensor, shape (n_trials, ...)
        Inputs.
    y : ndarray or Tensor, shape (n_trials, ...)
        Targets.
    """

    def __init__(self, X, y):
        self.X = torch.as_tensor(np.asarray(X) if isinstance(X, np.ndarray) else X)
        self.y = torch.as_tensor(y)

    def __len__(self):
        """Count the trials."""
        return len(self.X)

    def __getitem__(self, index):
        """One trial and its target."""
        return self.X[index], self.y[index]

    @property
    def device(self):
        """Where the trials are."""
        return self.X.device

    def take(self, index):
        """Trials and targets at these indices, as one batch."""
        return self.X.index_select(0, index), self.y.index_select(0, index)

    def draw(self, batch_size, shuffle=False):
        """Draw the batches of one pass.

        Parameters
        ----------
        batch_size : int
            Trials a batch.
        shuffle : bool
            Another order at every pass. A last batch of one trial then joins the one before: batch normalisation
            cannot train on a single trial.

        Returns
        -------
        batches : list of Tensor of int64
            What `take` is to be given.
        """
        n = len(self)
        # drawn on the CPU, so that a seed means the same on every device
        order = (torch.randperm(n) if shuffle else torch.arange(n)).to(self.device)
        chunks = list(order.split(batch_size))
        if shuffle and len(chunks) > 1 and len(chunks[-1]) == 1:
            chunks[-2:] = [torch.cat(chunks[-2:])]
        return chunks

    def to(self, device):
        """Copy the trials to another device."""
        return Trials(self.X.to(device), self.y.to(device))


class Batches:
    """Mini-batches gathered by index, in place of a DataLoader that stacks one trial after the other.

    Parameters
    ----------
    dataset : Trials
        What to draw from.
    batch_size : int
        Trials a batch.
    shuffle : bool
        Another order at every pass.
    device : str
        Where they are needed: to a GPU that the trials do not fit on, each goes while the one before is in use.
    """

    def __init__(self, dataset, batch_size, shuffle=False, device="cpu"):
        self.dataset, self.batch_size, self.shuffle, self.device = dataset, batch_size, shuffle, device

    def __iter__(self):
        """Go once over all trials."""
        yield from self.take(self.dataset.draw(self.batch_size, self.shuffle))

    def take(self, chunks):
        """Give the batches of the trials at these indices.

        Parameters
        ----------
        chunks : iterable of Tensor of int64
            Indices of each batch.

        Returns
        -------
        batches : iterable of tuple (X, y)
            Inputs and targets.
        """
        if torch.device(self.device).type != "cuda" or self.dataset.device.type == "cuda":
            return map(self.dataset.take, chunks)
        return batches_to_gpu(self.dataset.take, chunks, self.device)


class TrainingNet(NeuralNet):
    """The skorch net behind every estimator, kept as ``net_``.

    It adds to `skorch.NeuralNet`: batches by index (`Batches`), training mode for the trained part only, parameter
    groups made by a function, and mixed precision.

    Parameters
    ----------
    trained : str or None
        Name of the submodule that is trained where the rest is frozen; None for the whole network.
    parameter_groups : callable or None
        Gives the optimiser's parameter groups for a module; None puts all trainable parameters into one.
    precision : {"float32", "bf16", "float64"}
        Arithmetic of the forward and backward pass; for ``"float64"`` the module and the trials must be so already.
    accumulate : int
        Pieces that a training batch is computed in, one after the other; the iterator gives it whole.
    augmentation : callable or None
        Makes new inputs and targets of those of a training batch.
    """

    batches = Batches

    def __init__(
        self, module, criterion, *args, trained=None, parameter_groups=None, precision="float32", accumulate=1,
        augmentation=None, **kwargs,
    ):  # fmt: skip
        super().__init__(module, criterion, *args, **kwargs)
        self.trained = trained
        self.parameter_groups = parameter_groups
        self.precision = precision
        self.accumulate = accumulate
        self.augmentation = augmentation

    @property
    def _default_callbacks(self):
        return [
            ("epoch_timer", EpochTimer()),
            ("train_loss", PassthroughScoring(name="train_loss", on_train=True)),
            ("valid_loss", PassthroughScoring(name="valid_loss")),
        ]

    def fit_loop(self, X, y=None, epochs=None, **fit_params):
        """Train; ``interrupted_`` tells afterwards whether Ctrl-C ended it. To skorch an early stop is one, too."""
        self.interrupted_ = False
        try:
            return super().fit_loop(X, y, epochs, **fit_params)
        except KeyboardInterrupt:
            stops = [one for _, one in self.callbacks_ if isinstance(one, EarlyStopping)]
            self.interrupted_ = all(one.misses_ < one.patience for one in stops)
            raise

    def get_dataset(self, X, y=None):
        """Tensors of the trials, on the training device where they fit."""
        data = X if isinstance(X, Trials) else Trials(X, y)
        if torch.device(self.device).type == "cuda":
            with contextlib.suppress(torch.cuda.OutOfMemoryError):
                return data.to(self.device)
        return data

    def get_split_datasets(self, X, y=None, **fit_params):
        """Training trials, and the validation trials given as a fixed split."""
        training, validation = super().get_split_datasets(X, y, **fit_params)
        return training, None if validation is None else self.get_dataset(validation)

    def _set_training(self, training=True):
        part = self.module_.get_submodule(self.trained) if self.trained else self.module_
        if part.training != training:  # switching walks through all modules, too dear for every batch
            part.train(training)

    def initialize_optimizer(self, triggered_directly=None):
        """Build the optimiser over the trainable parameters, in groups where asked for."""
        module = self.module_
        if self.parameter_groups is None:
            groups = [{"params": [p for p in module.parameters() if p.requires_grad]}]
        else:
            groups = self.parameter_groups(module)
        kwargs = self.get_params_for("optimizer")
        self.optimizer_ = self.optimizer(groups, lr=self.lr, **kwargs)
        return self

    def _autocast(self):
        if self.precision != "bf16":
            return contextlib.nullcontext()
        return torch.autocast(torch.device(self.device).type, dtype=torch.bfloat16)

    def infer(self, x, **fit_params):
        """Forward pass in the chosen precision."""
        with self._autocast():
            return super().infer(x, **fit_params)

    def get_loss(self, y_pred, y_true, X=None, training=False, counts=None):
        """Loss in full precision, whatever the network computed in; ``counts`` is for criteria that take them."""
        y_pred = y_pred.float() if isinstance(y_pred, torch.Tensor) and self.precision == "bf16" else y_pred
        return self.criterion_(y_pred, y_true.to(self.device), *(() if counts is None else (counts,)))

    def train_step_single(self, batch, **fit_params):
        """Gradient of the loss of one batch, augmented and piece by piece where it is to be so."""
        if self.augmentation is not None:
            batch = self.augmentation(*batch)
        if self.accumulate == 1:
            return super().train_step_single(batch, **fit_params)
        self._set_training(True)
        losses, outputs, n_trials = [], [], len(batch[1])
        for X, y, _ in self.pieces(*batch, self.count_pieces(n_trials)):
            y_pred = self.infer(X, **fit_params)
            loss = self.get_loss(y_pred, y, X=X, training=True) * (len(y) / n_trials)
            loss.backward()
            losses.append(loss.detach())
            outputs.append(without_gradient(y_pred))
        return {"loss": sum(losses), "y_pred": joined(outputs)}

    def count_pieces(self, n_trials):
        """Tell in how many pieces of ``batch_size`` trials a batch is to be computed."""
        return min(self.accumulate, -(-n_trials // self.batch_size))

    def pieces(self, X, y, n_pieces):
        """Cut a batch into pieces.

        Parameters
        ----------
        X : Tensor or dict of str to Tensor, shape (batch, ...)
            Inputs.
        y : Tensor, shape (batch, ...)
            Targets.
        n_pieces : int
            Pieces.

        Returns
        -------
        pieces : list of tuple (X, y, start)
            Inputs, targets, and the row of the batch they begin at.
        """
        if n_pieces == 1:
            return [(X, y, 0)]
        cut = {name: value.tensor_split(n_pieces) for name, value in X.items()} if isinstance(X, dict) else None
        inputs = X.tensor_split(n_pieces) if cut is None else [
            {name: values[i] for name, values in cut.items()} for i in range(n_pieces)
        ]  # fmt: skip
        targets = y.tensor_split(n_pieces)
        starts = [sum(map(len, targets[:i])) for i in range(n_pieces)]
        return list(zip(inputs, targets, starts, strict=True))


def without_gradient(outputs):
    """Give outputs of a network (a tensor, or a tuple of tensors and None) without their gradients."""
    if isinstance(outputs, torch.Tensor):
        return outputs.detach()
    return tuple(None if one is None else one.detach() for one in outputs)


def joined(outputs):
    """Join the outputs of pieces of a batch."""
    if len(outputs) == 1:
        return outputs[0]
    if isinstance(outputs[0], torch.Tensor):
        return torch.cat(outputs)
    return tuple(None if parts[0] is None else torch.cat(parts) for parts in zip(*outputs, strict=True))


class ValidationAccuracy(Callback):
    """Share of right validation trials, from the outputs that the validation loss needs anyway."""

    def on_epoch_begin(self, net, **kwargs):
        """Start counting."""
        self.right = self.total = 0

    def on_batch_end(self, net, batch=None, training=False, y_pred=None, **kwargs):
        """Count one validation batch."""
        if not training:
            logits = y_pred.mean(-1) if y_pred.ndim == 3 else y_pred
            self.right += int((logits.argmax(1) == batch[1].to(logits.device)).sum())
            self.total += len(logits)

    def on_epoch_end(self, net, **kwargs):
        """Write the share into the history."""
        if self.total:
            net.history.record("valid_acc", self.right / self.total)


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
