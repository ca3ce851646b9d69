"""Learning from pairs of windows that may be on a disk: statistics, validation, ridge regression, batches."""

import numpy as np
import torch

from ...training import split_validation
from ...training.net import Trials

_AT_ONCE = 2**24  # values of one chunk, which bounds the memory
_PENALTIES = tuple(10.0**power for power in np.arange(-6, 2.1, 0.5))
_PENALTY = 1e-2  # where nothing is held out to choose by


class Pairs:
    """EEG and MEG in memory, as a source of windows.

    Parameters
    ----------
    X : ndarray, shape (n_windows, n_inputs, n_times)
        EEG, or what it is coded as.
    Y : ndarray, shape (n_windows, n_outputs, n_times)
        MEG.
    places : ndarray of int, shape (n_windows,), or None
        Which geometry each window was measured in.
    subjects, runs : ndarray, shape (n_windows,), or None
        Who, and which run.
    """

    def __init__(self, X, Y, places=None, subjects=None, runs=None):
        self.X, self.Y, self.subjects, self.runs = X, Y, subjects, runs
        self.places = np.zeros(len(X), dtype=int) if places is None else places

    def __len__(self):
        """Count the windows."""
        return len(self.X)

    def take(self, rows):
        """EEG and MEG of some windows."""
        return self.X[rows], self.Y[rows]


class View:
    """Some windows of a source, as inputs and targets of a model.

    Parameters
    ----------
    source : Pairs or WindowStore
        Where the windows are.
    rows : ndarray of int
        Which.
    code : callable
        Function of (X, Y, rows) that gives inputs and targets.
    """

    def __init__(self, source, rows, code):
        self.source, self.rows, self.code = source, rows, code

    def __len__(self):
        """Count the windows."""
        return len(self.rows)

    def take(self, index):
        """Take inputs and targets at these positions of ``rows``."""
        rows = self.rows[index]
        return self.code(*self.source.take(rows), rows)

    def chunks(self):
        """All inputs and targets, a bounded number at a time."""
        x, y = self.take(np.arange(1))
        step = int(np.clip(_AT_ONCE // (x.size + y.size), 1, len(self)))
        for start in range(0, len(self), step):
            yield self.take(np.arange(start, min(start + step, len(self))))

    def then(self, code):
        """View of the same windows with another coding on top."""
        return View(self.source, self.rows, lambda x, y, rows: code(*self.code(x, y, rows)))


class StreamedTrials(Trials):
    """Trials for the training loop that are read when they are needed.

    Parameters
    ----------
    view : View
        Gives inputs and targets.
    dtype : torch.dtype
        Type of both.
    """

    def __init__(self, view, dtype):
        self.view, self.dtype = view, dtype

    def __len__(self):
        """Count the trials."""
        return len(self.view)

    def __getitem__(self, index):
        """One trial and its target."""
        x, y = self.take(torch.tensor([index]))
        return x[0], y[0]

    @property
    def device(self):
        """Where indices are wanted."""
        return torch.device("cpu")

    def take(self, index):
        """Read inputs and targets at these indices, as one batch."""
        x, y = self.view.take(index.numpy())
        return torch.as_tensor(x, dtype=self.dtype), torch.as_tensor(y, dtype=self.dtype)

    def to(self, device):
        """Stay on the disk: each batch is moved by the training loop."""
        return self


def split_windows(source, validation, size, seed):
    """Rows to train on and rows to watch.

    Parameters
    ----------
    source : Pairs or WindowStore
        With ``subjects`` and ``runs``, which may be None.
    validation : {"auto", "subject", "run", "block", "trial", None}
        "auto" holds out subjects where there are two, else runs where there are two, else the last windows. "trial"
        draws windows, whose neighbours in time are then trained on.
    size : float
        Share to hold out.
    seed : int
        Seed of the draw.

    Returns
    -------
    training, held : ndarray of int
        The second is empty where nothing is held out.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.methods.eeg2meg.learning import Pairs, split_windows
    >>> source = Pairs(np.zeros((4, 1, 1)), np.zeros((4, 1, 1)), runs=np.array(["a", "a", "b", "b"]))
    >>> training, held = split_windows(source, "auto", 0.5, 0)
    >>> set(source.runs[training]) & set(source.runs[held])
    set()
    """
    options = ("auto", "subject", "run", "block", "trial", None)
    if validation not in options:
        raise ValueError(f"validation: got {validation!r}, expected one of {', '.join(map(repr, options))}.")
    if not 0 < size < 1:
        raise ValueError(f"validation_size: got {size}, expected a share between 0 and 1.")
    rows, none = np.arange(len(source)), np.arange(0)
    groups = {"subject": source.subjects, "run": _runs(source)}
    if validation == "auto":
        several = [name for name, one in groups.items() if one is not None and len(np.unique(one)) > 1]
        validation = several[0] if several else "block"
    if validation is None:
        return rows, none
    if validation == "block":
        n_held = int(len(rows) * size)
        return rows[: len(rows) - n_held], rows[len(rows) - n_held :]
    if validation in groups and (groups[validation] is None or len(np.unique(groups[validation])) < 2):
        raise ValueError(
            f"validation={validation!r} needs the {validation} of each window, and two of them at least: pass "
            "fit(..., subjects=...), trials that carry domains, or a list of recordings."
        )
    kind = "trial" if validation == "trial" else "subject"
    return split_validation(np.zeros(len(rows)), kind, size, groups.get(validation), seed)


def _runs(source):
    """Tell runs apart from other subjects' runs of the same name."""
    if source.runs is None or source.subjects is None:
        return source.runs
    return np.array([f"{subject}\0{run}" for subject, run in zip(source.subjects, source.runs, strict=True)])


def moments(view):
    """Mean and standard deviation of each channel of inputs and of targets.

    Parameters
    ----------
    view : View
        Training windows.

    Returns
    -------
    moments : tuple of ndarray
        Mean and standard deviation of the inputs, shape (n_inputs,), and of the targets, shape (n_outputs,).
    """
    sums, shift = None, None
    for parts in view.chunks():
        parts = [np.asarray(part, dtype=np.float64) for part in parts]
        if shift is None:  # sums about a mean, rough as it may be, lose no digits
            shift = [part.mean(axis=(0, 2)) for part in parts]
        new = [_sums(part - mean[:, None]) for part, mean in zip(parts, shift, strict=True)]
        sums = new if sums is None else [a + b for a, b in zip(sums, new, strict=True)]
    result = []
    for (count, first, second), mean in zip(sums, shift, strict=True):
        off = first / count
        result += [mean + off, np.sqrt(np.maximum(second / count - off**2, 0))]
    return tuple(result)


def _sums(part):
    """Count samples, and sum up values and squares of each channel, shape (3, n_channels)."""
    first, second = part.sum(axis=(0, 2)), np.square(part).sum(axis=(0, 2))
    return np.stack([np.full_like(first, part.shape[0] * part.shape[2]), first, second])


def lagged(z, n_lags):
    """Signals beside their own past and future.

    Parameters
    ----------
    z : ndarray, shape (n, n_channels, n_times)
        Signals; zeros before their start and after their end.
    n_lags : int
        Samples on either side.

    Returns
    -------
    z : ndarray, shape (n, (2 * n_lags + 1) * n_channels, n_times)
        All channels of the earliest lag first.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.methods.eeg2meg.learning import lagged
    >>> lagged(np.arange(1.0, 4.0)[None, None], 1)[0].tolist()
    [[0.0, 1.0, 2.0], [1.0, 2.0, 3.0], [2.0, 3.0, 0.0]]
    """
    if not n_lags:
        return z
    padded = np.pad(z, ((0, 0), (0, 0), (n_lags, n_lags)))
    return np.concatenate([padded[..., lag : lag + z.shape[2]] for lag in range(2 * n_lags + 1)], axis=1)


class Covariances:
    """Sums of products of standardised inputs and targets: all that ridge regression needs of the data."""

    def __init__(self, view, prepare):
        self.n = self.xx = self.xy = self.yy = 0
        for x, y in view.chunks() if len(view) else ():
            x = prepare(np.asarray(x, dtype=np.float64)).transpose(1, 0, 2)
            x, y = x.reshape(len(x), -1), np.asarray(y, dtype=np.float64).transpose(1, 0, 2).reshape(y.shape[1], -1)
            self.n += x.shape[1]
            self.xx, self.xy, self.yy = self.xx + x @ x.T, self.xy + x @ y.T, self.yy + np.square(y).sum()


def ridge(training, held, alpha):
    r"""Ridge regression from covariances, with the penalty that predicts the held-out windows best.

    .. math:: W = C_{yx} (C_{xx} + \alpha I)^{-1}

    Parameters
    ----------
    training, held : Covariances
        Of the windows to fit, and to choose the penalty by.
    alpha : "auto" or float
        Penalty, in units of the mean variance of the inputs.

    Returns
    -------
    coef : ndarray, shape (n_outputs, n_inputs)
        Weights.
    alpha : float
        Penalty used.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.methods.eeg2meg.learning import Covariances, Pairs, View, ridge
    >>> x = np.random.default_rng(0).normal(size=(5, 2, 50))
    >>> view = View(Pairs(x, 3 * x[:, :1]), np.arange(5), lambda x, y, rows: (x, y))
    >>> sums = Covariances(view, lambda x: x)
    >>> np.abs(ridge(sums, sums, "auto")[0]).round(3).tolist()
    [[3.0, 0.0]]
    """
    if alpha != "auto" and not (isinstance(alpha, int | float) and alpha >= 0):
        raise ValueError(f"alpha: got {alpha!r}, expected 'auto' or a number from 0.")
    values, vectors = np.linalg.eigh(training.xx / training.n)
    values = np.maximum(values, 0.0)
    cross = vectors.T @ (training.xy / training.n)
    level = max(values.mean(), np.finfo(float).tiny)

    def solve(penalty):
        return cross / (values + penalty * level + 1e-12 * level)[:, None]

    if alpha == "auto" and held.n:
        inside, across = vectors.T @ held.xx @ vectors, vectors.T @ held.xy
        errors = []
        for penalty in _PENALTIES:
            weights = solve(penalty)
            errors.append(np.sum(weights * (inside @ weights)) - 2 * np.sum(weights * across))
        alpha = _PENALTIES[int(np.argmin(errors))]
    elif alpha == "auto":
        alpha = _PENALTY
    return (vectors @ solve(alpha)).T, float(alpha)
