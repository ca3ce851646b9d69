"""The holder of trials that networks train on, and the mini-batches drawn from it."""

import bisect
import contextlib
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import skorch.dataset
import torch


class Trials(skorch.dataset.Dataset):
    """Trials and targets: in memory or streamed from a disk, of one shape or grouped by shape.

    ``X`` is an array-like or `StreamedTensor` (n_trials, ...), or a list with a group an entry, a dict of inputs by
    name; ``y`` (n_trials, ...), where None means zeros; ``shared`` the inputs that all trials of a group have in
    common, which get a batch axis. A batch comes from one group, and nothing is padded; ``mixed`` mixes the batches of
    the groups. Trials are numbered group after group. A subclass that draws its trials in another way overrides
    ``take``, ``draw``, ``to``.

    Examples
    --------
    >>> import torch
    >>> from skeeg.training.data import Trials
    >>> groups = [{"x": torch.zeros(3, 2)}, {"x": torch.ones(2, 5)}]
    >>> trials = Trials(groups, shared=[{"place": torch.tensor([4])}, {"place": torch.tensor([7, 8])}])
    >>> x, y = trials.take(torch.tensor([4, 3]))
    >>> x["x"].shape, x["place"].tolist(), len(y)
    (torch.Size([2, 5]), [[7, 8], [7, 8]], 2)
    """

    grouped = False

    def __init__(self, X, y=None, shared=None, mixed=True):
        self.y = None if y is None else _as_tensor(y)
        if isinstance(X, list) and X and isinstance(X[0], dict):
            self.grouped, self.groups, self.mixed = True, X, mixed
            self.shared = [{} for _ in X] if shared is None else shared
        else:
            self.X = _as_tensor(X)

    def __len__(self):
        """Count the trials."""
        return sum(self._sizes()) if self.grouped else len(self.X)

    def __getitem__(self, index):
        """One trial and its target; of grouped trials in a batch of its own."""
        X, y = self.take(torch.tensor([index], device=self.device))
        return (X, y) if self.grouped else (X[0], y[0])

    @property
    def device(self):
        """Where the trials are."""
        return next(iter(self.groups[0].values())).device if self.grouped else self.X.device

    def _sizes(self):
        """Trials of each group; the number of the first one is the sum of those before."""
        return [len(next(iter(group.values()))) for group in self.groups] if self.grouped else [len(self)]

    def take(self, index):
        """Give inputs and targets of the trials at these indices, all of one group, as one batch."""
        y = torch.zeros(len(index), device=self.device) if self.y is None else self.y.index_select(0, index)
        if not self.grouped:
            return self.X.index_select(0, index), y
        ends = np.cumsum(self._sizes()).tolist()
        number = bisect.bisect_right(ends, int(index[0]))
        rows = (index - (ends[number - 1] if number else 0)).to(self.device)
        inputs = {name: value.index_select(0, rows) for name, value in self.groups[number].items()}
        common = {name: value.expand(len(rows), *value.shape) for name, value in self.shared[number].items()}
        return inputs | common, y

    def draw(self, batch_size, shuffle=False):
        """Draw the batches of one pass, list of indices for `take`; ``shuffle`` in another order at every pass.

        A last batch of one ungrouped trial then joins the one before: batch normalisation cannot train on a single
        trial.
        """
        batches, start = [], 0
        for size in self._sizes():
            # drawn on the CPU, so that a seed means the same on every device
            order = torch.randperm(size) if shuffle else torch.arange(size)
            batches += (start + order).to(self.device).split(batch_size)
            start += size
        if not shuffle:
            return batches
        if not self.grouped and len(batches) > 1 and len(batches[-1]) == 1:
            batches[-2:] = [torch.cat(batches[-2:])]
        if self.grouped and self.mixed:
            batches = [batches[i] for i in torch.randperm(len(batches)).tolist()]
        return batches

    def to(self, device):
        """Copy the trials to another device; streamed ones stay, and their batches are copied one by one."""
        parts = self.groups if self.grouped else [{"x": self.X}]
        if any(isinstance(value, StreamedTensor) for group in parts for value in group.values()):
            return self
        y = None if self.y is None else self.y.to(device)
        if not self.grouped:
            return Trials(self.X.to(device), y)
        groups, shared = (
            [{name: value.to(device) for name, value in group.items()} for group in part]
            for part in (self.groups, self.shared)
        )
        return Trials(groups, y, shared, self.mixed)

    def subset(self, index):
        """Select grouped trials without targets by index; groups of which nothing is left are dropped."""
        index = torch.as_tensor(index)
        groups, shared, start = [], [], 0
        for size, group, common in zip(self._sizes(), self.groups, self.shared, strict=True):
            rows = index[(index >= start) & (index < start + size)] - start
            if len(rows):
                groups.append({name: value[rows] for name, value in group.items()})
                shared.append(common)
            start += size
        return Trials(groups, None, shared, self.mixed)


def _as_tensor(values):
    if isinstance(values, StreamedTensor):
        return values
    return torch.as_tensor(np.asarray(values) if isinstance(values, np.ndarray) else values)  # a plain array


class StreamedTensor:
    """The first axis of a tensor that stays on a disk, ``rows`` (n_rows,); ``read(rows)`` reads what a batch needs."""

    device = torch.device("cpu")

    def __init__(self, read, rows, row_shape, identity=None):
        self.read, self.rows, self.row_shape, self.identity = read, rows, row_shape, identity

    def __len__(self):
        """Count the rows."""
        return len(self.rows)

    def __getitem__(self, index):
        """Keep some rows, without reading them; `index_select` reads."""
        return StreamedTensor(self.read, self.rows[np.asarray(index)], self.row_shape, self.identity)

    def index_select(self, dim, index):
        """Read rows, Tensor of shape (n_index, ...); ``dim`` is 0."""
        return torch.from_numpy(self.read(self.rows[index.cpu().numpy()]))

    def split(self, size):
        """Read all rows, some at a time."""
        for index in torch.arange(len(self)).split(size):
            yield self.index_select(0, index)

    def numel(self):
        """Count the values of all rows."""
        return len(self) * math.prod(self.row_shape)


class Batches:
    """Mini-batches gathered by index, in place of a DataLoader that stacks one trial after the other.

    Those for a GPU (``device``) that the trials do not fit on are gathered while the one before is in use.
    """

    def __init__(self, dataset, batch_size, shuffle=False, device="cpu"):
        self.dataset, self.batch_size, self.shuffle, self.device = dataset, batch_size, shuffle, device

    def __iter__(self):
        """Go once over all trials."""
        yield from self.take(self.dataset.draw(self.batch_size, self.shuffle))

    def take(self, chunks):
        """Give inputs and targets of the trials at the indices of each chunk."""
        if torch.device(self.device).type != "cuda" or self.dataset.device.type == "cuda":
            return map(self.dataset.take, chunks)
        return prefetch(self.dataset.take, chunks)


def prefetch(make, items):
    """Make something of each item by a thread, the next one while the one before is in use; yield it in order."""
    with ThreadPoolExecutor(1) as thread:
        coming = []
        for item in items:
            coming.append(thread.submit(make, item))
            if len(coming) == 2:
                yield coming.pop(0).result()
        for last in coming:
            yield last.result()


# Random numbers where processes, or pieces of an update, compute parts of a batch: what is drawn for its trials comes
# from a common stream, the rest (dropout) from torch's, each process's own.

_common = None  # state of the common stream, while there are two
_rows = None  # rows of the batch that are being computed, and trials of the whole batch


@contextlib.contextmanager
def common_stream(state):
    """Keep a common stream, from a state on, beside torch's; at the end torch's continues from the common one."""
    global _common
    _common = state
    try:
        yield
    finally:
        torch.set_rng_state(_common)
        _common = None


def draw_common(draw):
    """Call a function that draws from the common stream, the same on every process."""
    global _common
    if _common is None:
        return draw()
    own = torch.get_rng_state()
    torch.set_rng_state(_common)
    drawn, _common = draw(), torch.get_rng_state()
    torch.set_rng_state(own)
    return drawn


def random_state():
    """State of the common stream, or of torch's generator where there is none."""
    return torch.get_rng_state() if _common is None else _common


def set_random_state(state):
    """Put the common stream, or torch's generator where there is none, into a state."""
    global _common
    if _common is None:
        torch.set_rng_state(state)
    else:
        _common = state


@contextlib.contextmanager
def computing(rows, n_trials):
    """Declare which rows of a batch of ``n_trials`` this process computes."""
    global _rows
    before, _rows = _rows, (rows, n_trials)
    try:
        yield
    finally:
        _rows = before


def is_idle():
    """Whether this process has none of a small batch's trials: it then computes an unused one, as kernels need."""
    return _rows is not None and _rows[0].stop == _rows[0].start


def draw_rows(n, draw):
    """Draw something for each of ``n`` trials by ``draw(n)``: the same for a trial whatever process computes it."""
    if _rows is None:
        return draw(n)
    rows, n_trials = _rows
    drawn = draw_common(lambda: draw(n_trials))
    return drawn[:n] if is_idle() else drawn[rows]
