"""Processes that train one network together: who each of them is, and what they tell each other.

``torchrun`` and ``accelerate launch`` start the processes and say in environment variables who each is; the talking is
torch.distributed's, by gloo between CPUs and by NCCL between GPUs. To a process that was started alone all of this does
nothing.
"""

import atexit
import contextlib
import os

import torch
import torch.distributed as dist

_SAID_BY_LAUNCHERS = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def start():
    """Join the other processes, where a launcher started this one together with others.

    A group that the calling script has started is taken as it is; one that is started here ends with the process.
    """
    if not dist.is_available() or dist.is_initialized() or any(name not in os.environ for name in _SAID_BY_LAUNCHERS):
        return
    if int(os.environ["WORLD_SIZE"]) == 1:
        return
    if torch.cuda.is_available():
        # "cuda" means the GPU that is current; launchers that show each process one GPU alone leave nothing to choose
        own = int(os.environ.get("LOCAL_RANK", 0))
        torch.cuda.set_device(own if own < torch.cuda.device_count() else 0)
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    atexit.register(_end)


def _end():
    if dist.is_initialized():
        dist.destroy_process_group()


def size():
    """Count the processes.

    Returns
    -------
    n : int
        1 for a process on its own.

    Examples
    --------
    >>> from skeeg.training.pretraining import ranks
    >>> ranks.size(), ranks.rank(), ranks.is_first()
    (1, 0, True)
    """
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank():
    """Tell the number of this process, counted from 0."""
    return dist.get_rank() if size() > 1 else 0


def is_first():
    """Whether this is the process that writes files, prints and shows progress."""
    return rank() == 0


def update_size(batch_size, accumulate=1):
    """Count the trials of an update, those of all processes together."""
    return batch_size * accumulate * size()


def part(n):
    """Tell which of ``n`` rows are this process's; the first processes have one more where they cannot be equal.

    Parameters
    ----------
    n : int
        Rows.

    Returns
    -------
    rows : slice
        Maybe none of them.
    """
    each, more = divmod(n, size())
    first = rank() * each + min(rank(), more)
    return slice(first, first + each + (rank() < more))


def add_up(*tensors):
    """Add tensors up over the processes.

    Parameters
    ----------
    *tensors : Tensor
        Changed in place, and on each process the same then.
    """
    if size() > 1:
        for tensor in tensors:
            dist.all_reduce(tensor)


def total(tensor):
    """Sum of a tensor over the processes, without its gradient.

    Parameters
    ----------
    tensor : Tensor
        Left as it is.

    Returns
    -------
    total : Tensor
        The same on each process.
    """
    summed = tensor.detach().clone()
    add_up(summed)
    return summed


def of_first(make):
    """Call a function on the first process alone, and give its result, or its error, to all.

    Parameters
    ----------
    make : callable
        Takes nothing; what it gives is pickled.

    Returns
    -------
    value : object
        What it gave.
    """
    if size() == 1:
        return make()
    answer = [None]
    if is_first():
        try:
            answer = [(make(), None)]
        except Exception as error:  # all have to hear of it, whatever it is, or they would wait
            answer = [(None, error)]
    dist.broadcast_object_list(answer, 0)
    value, error = answer[0]
    if error is not None:
        raise error
    return value


def gather(value):
    """Collect a value from each process.

    Parameters
    ----------
    value : object
        Anything that can be pickled.

    Returns
    -------
    values : list
        By number of the process.
    """
    values = [value]
    if size() > 1:
        values = [None] * size()
        dist.all_gather_object(values, value)
    return values


def barrier():
    """Wait until all processes are here."""
    if size() > 1:
        dist.barrier()


# Random numbers: some are drawn for a batch as a whole and have to be the same everywhere, others are each one's own.


class _Drawing:
    """Where drawing stands: the state of the common stream while it is apart, and the rows that are being computed."""

    def __init__(self):
        self.stream = self.rows = None


_drawing = _Drawing()


@contextlib.contextmanager
def split_random():
    """Tell the common stream of random numbers from each process's own.

    The common one begins as torch's generator stands on the first process, and torch's goes on from it in the end.
    """
    _drawing.stream = of_first(torch.get_rng_state)
    try:
        yield
    finally:
        torch.set_rng_state(_drawing.stream)
        _drawing.stream = _drawing.rows = None


@contextlib.contextmanager
def together():
    """Draw from the common stream; on every process the same has to be drawn."""
    if _drawing.stream is None:
        yield
        return
    own = torch.get_rng_state()
    torch.set_rng_state(_drawing.stream)
    try:
        yield
    finally:
        _drawing.stream = torch.get_rng_state()
        torch.set_rng_state(own)


def random_state():
    """State of the common stream; of torch's generator where there is none."""
    return torch.get_rng_state() if _drawing.stream is None else _drawing.stream


def set_random_state(state):
    """Put the common stream, or torch's generator where there is none, into a state."""
    if _drawing.stream is None:
        torch.set_rng_state(state)
    else:
        _drawing.stream = state


@contextlib.contextmanager
def computing(rows, n_trials):
    """Say which rows of a batch are being computed.

    Parameters
    ----------
    rows : slice
        Rows of this process.
    n_trials : int
        Trials of the whole batch.
    """
    before, _drawing.rows = _drawing.rows, (rows, n_trials)
    try:
        yield
    finally:
        _drawing.rows = before


def is_idle():
    """Whether the batch being computed has less trials than there are processes, and none for this one.

    Such a process computes what nobody wants, one trial, because not every network and not every kernel takes none.
    """
    return _drawing.rows is not None and _drawing.rows[0].stop == _drawing.rows[0].start


def draw_rows(n, draw):
    """Draw something for each trial: the same for a trial whatever process computes it.

    Parameters
    ----------
    n : int
        Trials at hand.
    draw : callable
        Gives a tensor with as many rows as it is told.

    Returns
    -------
    drawn : Tensor, shape (n, ...)
        Rows of what was drawn for the whole batch.
    """
    if _drawing.rows is None:
        return draw(n)
    rows, n_trials = _drawing.rows
    with together():
        drawn = draw(n_trials)
    return drawn[:n] if is_idle() else drawn[rows]
