"""Data-parallel training: processes that train one network together, by torch's DistributedDataParallel.

``torchrun`` and ``accelerate launch`` start the processes and name them in environment variables. Processes exchange
by gloo between CPUs and by NCCL between GPUs. In a process that was started alone all of this does nothing.
"""

import atexit
import contextlib
import dataclasses
import gc
import os

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from .data import Batches, computing, draw_common, is_idle, random_state, set_random_state
from .net import TrainingNet


def start():
    """Join the other processes, where a launcher started this one with others; an existing group is used as it is."""
    launched = all(name in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"))
    if not launched or os.environ["WORLD_SIZE"] == "1" or not dist.is_available() or dist.is_initialized():
        return
    if torch.cuda.is_available():  # "cuda" is the current GPU; a launcher may show each process one GPU alone
        own = int(os.environ.get("LOCAL_RANK", 0))
        torch.cuda.set_device(own if own < torch.cuda.device_count() else 0)
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    atexit.register(lambda: dist.is_initialized() and dist.destroy_process_group())


def size():
    """Count the processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank():
    """Give the number of this process, from 0."""
    return dist.get_rank() if size() > 1 else 0


def is_first():
    """Whether this process writes files and shows progress."""
    return rank() == 0


def part(n):
    """Give the slice of ``n`` rows that this process computes; the first ones may have one more."""
    each, more = divmod(n, size())
    first = rank() * each + min(rank(), more)
    return slice(first, first + each + (rank() < more))


def update_size(batch_size, accumulate=1):
    """Count the trials of an update, those of all processes."""
    return batch_size * accumulate * size()


def add_up(*tensors):
    """Add tensors up over the processes, in place."""
    for tensor in tensors if size() > 1 else ():
        dist.all_reduce(tensor)


def total(tensor):
    """Sum of a tensor over the processes, without its gradient."""
    summed = tensor.detach().clone()
    add_up(summed)
    return summed


def gather(value):
    """List a value of each process, by rank."""
    values = [value] * size()
    if size() > 1:
        dist.all_gather_object(values, value)
    return values


def of_first(make):
    """Call a function on the first process, and give its result, or its error, to all."""
    answer = None
    try:
        answer = (make(), None) if is_first() else None
    except Exception as error:  # of any kind: the others would wait for a result
        answer = (None, error)
    value, error = gather(answer)[0]
    if error is not None:
        raise error
    return value


def barrier():
    """Wait until all processes are here."""
    if size() > 1:
        dist.barrier()


@dataclasses.dataclass
class _Part:
    """Inputs and targets of a process, which skorch weighs by the trials of the whole batch."""

    X: torch.Tensor | dict
    y: torch.Tensor
    rows: slice
    n_trials: int

    def __iter__(self):
        return iter((self.X, self.y))

    def __getitem__(self, index):
        return (self.X, self.y)[index]

    def __len__(self):
        return self.n_trials


class SharedBatches(Batches):
    """Batches of which each process takes its part; ``batch_size`` counts the trials of all processes."""

    def __iter__(self):
        """Go once over all trials."""
        chunks = draw_common(lambda: self.dataset.draw(self.batch_size, self.shuffle))
        parts = [part(len(chunk)) for chunk in chunks]
        own = [chunk[rows] if rows.stop > rows.start else chunk[:1] for chunk, rows in zip(chunks, parts, strict=True)]
        for (X, y), chunk, rows in zip(self.take(own), chunks, parts, strict=True):
            with computing(rows, len(chunk)):
                yield _Part(X, y[: rows.stop - rows.start], rows, len(chunk))


class SharedNet(TrainingNet):
    """The net of `pretrain` where several processes compute an update, or one computes it in pieces.

    The criterion has ``counts(y)``, the number of these trials that count in each of its terms, and takes the counts of
    the whole update as a third argument; it then gives the part of the loss that is due to the trials at hand.
    """

    batches = SharedBatches

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        """Wrap the loss, so that torch exchanges gradients."""
        super().on_train_begin(net, X=X, y=y, **kwargs)
        step = _Step(self)
        if size() > 1:  # published state dicts hold tensors that no forward pass uses
            step = DistributedDataParallel(step, find_unused_parameters=True, broadcast_buffers=False)
        vars(self)["_step"] = step  # past skorch, which would take it for a second network

    def on_train_end(self, net, X=None, y=None, **kwargs):
        """Unwrap it: while torch's wrapper lives, it exchanges gradients at any backward pass."""
        super().on_train_end(net, X=X, y=y, **kwargs)
        vars(self)["_step"] = None
        gc.collect()  # it may be part of a cycle

    def train_step_single(self, batch, **fit_params):
        """Gradient of the whole update, from this process's part of it, piece by piece."""
        self._set_training(True)
        counts, losses, outputs = self._counts(batch[1]), [], []
        n_pieces = min(self.count_pieces(batch.n_trials), max(batch.n_trials // size(), 1))  # as many for all
        state = random_state()
        for number, (X, y, first) in enumerate(self.pieces(*batch, n_pieces)):
            set_random_state(state)  # pieces are rows of one draw
            first += batch.rows.start
            last = size() == 1 or number == n_pieces - 1
            with computing(slice(first, first + len(y)), batch.n_trials):
                with contextlib.nullcontext() if last else self._step.no_sync():
                    loss, y_pred = self._step(X, y, counts)
                    (loss * size()).backward()  # torch gives the mean over processes, not the sum
            losses.append(loss.detach())
            outputs.append(y_pred)
        return {"loss": total(sum(losses)), "y_pred": torch.cat(outputs)}

    def infer(self, x, **fit_params):
        """Compute the outputs for the trials of this process, maybe none."""
        y_pred = super().infer(x, **fit_params)
        return y_pred[:0] if is_idle() else y_pred

    def validation_step(self, batch, **fit_params):
        """Loss of a whole validation batch, from this process's part of it."""
        step = super().validation_step(batch, **fit_params)
        return step | {"loss": total(step["loss"])}

    def get_loss(self, y_pred, y_true, X=None, training=False, counts=None):
        """Part of the loss of a whole batch that is due to the trials at hand."""
        return super().get_loss(y_pred, y_true, counts=self._counts(y_true) if counts is None else counts)

    def _counts(self, y):
        return total(self.criterion_.counts(y.to(self.device)))

    def fit_loop(self, X, y=None, epochs=None, **fit_params):
        """Train; a process that is stopped by Ctrl-C cannot end while the others continue."""
        try:
            return super().fit_loop(X, y, epochs, **fit_params)
        except KeyboardInterrupt as error:
            if size() == 1:
                raise
            raise RuntimeError("Training was interrupted; with run_file it resumes after its last epoch.") from error


class _Step(nn.Module):
    """Loss of the trials at hand, the only output with a gradient, as torch's wrapper needs it."""

    def __init__(self, net):
        super().__init__()
        self.module, self.infer, self.get_loss = net.module_, net.infer, net.get_loss

    def forward(self, X, y, counts):
        """Give the loss, and the outputs without gradient."""
        y_pred = self.infer(X)
        return self.get_loss(y_pred, y, training=True, counts=counts), y_pred.detach()


@contextlib.contextmanager
def synced_norms(model, device):
    """Let batch normalisations on GPUs see the trials of all processes; on CPUs each process normalises by its own."""
    is_synced = size() > 1 and torch.device(device).type == "cuda"
    layers = [layer for layer in model.modules() if is_synced and isinstance(layer, _BatchNorm)]
    classes = [type(layer) for layer in layers]
    for layer in layers:  # which keep their tensors, names and hooks
        layer.__class__, layer.process_group = nn.SyncBatchNorm, None
    try:
        yield
    finally:
        for layer, own in zip(layers, classes, strict=True):
            layer.__class__ = own
            del layer.process_group
