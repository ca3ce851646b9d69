"""Recordings of any length: windows to train on, pieces to predict."""

import dataclasses

import numpy as np
import torch

from ...training.inference import run_batches
from ...training.net import Trials
from .many_to_one import BEIRAManyToOne

_SAMPLES_AT_ONCE = 2**15  # of all trials of a batch together, which bounds the memory of a forward pass
_SLIDE_STEP = 16  # samples between two values of the many-to-one network, which pools twice as many


class Windows(Trials):
    """Windows of recordings and of their targets; a window is a view until a batch is made of it.

    Parameters
    ----------
    eeg : list of Tensor, shape (n_channels, n_times)
        Recordings, all at least `window` long.
    bold : list of Tensor, shape (n_regions, n_times)
        Targets at the same rate.
    window : int
        Samples of a window.
    n_windows : int or None
        Windows of a pass, drawn anew each time from all positions alike. None goes once through windows that follow
        each other, half overlapping, the same at every pass.
    n_padded : int or None
        Length to which the EEG of a window is padded by `mirror`.
    last_only : bool
        Whether the target is the last sample of a window rather than all of them.

    Examples
    --------
    >>> import torch
    >>> from skeeg.methods.beira.windows import Windows
    >>> windows = Windows([torch.zeros(4, 100), torch.zeros(4, 80)], [torch.zeros(2, 100), torch.zeros(2, 80)], 50, 8)
    >>> x, y = windows.take(torch.arange(3))
    >>> len(windows), tuple(x.shape), tuple(y.shape)
    (8, (3, 4, 50), (3, 2, 50))
    """

    def __init__(self, eeg, bold, window, n_windows=None, n_padded=None, last_only=False):
        self.eeg, self.bold = eeg, bold
        self.window, self.n_windows, self.n_padded, self.last_only = window, n_windows, n_padded or window, last_only
        counts = torch.tensor([recording.shape[1] - window + 1 for recording in eeg])
        self.ends = counts.cumsum(0)
        step = max(window // 2, 1)
        self.fixed = [
            (i, start) for i, count in enumerate(counts.tolist()) for start in [*range(0, count - 1, step), count - 1]
        ]

    def __len__(self):
        """Count the windows of a pass."""
        return len(self.fixed) if self.n_windows is None else self.n_windows

    def __getitem__(self, index):
        """One window and its target."""
        x, y = self.take(torch.tensor([index]))
        return x[0], y[0]

    @property
    def device(self):
        """Where the recordings are."""
        return self.eeg[0].device

    def take(self, index):
        """Cut a batch: of the windows at these indices, or of as many drawn ones."""
        if self.n_windows is None:
            places = [self.fixed[i] for i in index.tolist()]
        else:
            places = [self._place(i) for i in torch.randint(int(self.ends[-1]), (len(index),)).tolist()]
        x = torch.stack([self.eeg[i][:, start : start + self.window] for i, start in places])
        if self.last_only:
            y = torch.stack([self.bold[i][:, start + self.window - 1] for i, start in places])
        else:
            y = torch.stack([self.bold[i][:, start : start + self.window] for i, start in places])
        return mirror(x, self.n_padded), y

    def _place(self, position):
        """Find recording and start of one of all possible windows."""
        i = int(torch.searchsorted(self.ends, position, right=True))
        return i, position - (int(self.ends[i - 1]) if i else 0)

    def to(self, device):
        """Copy the recordings to another device."""
        eeg, bold = ([one.to(device) for one in many] for many in (self.eeg, self.bold))
        return Windows(eeg, bold, self.window, self.n_windows, self.n_padded, self.last_only)


def choose_window(window, usual, shortest, multiple):
    """Length of a training window.

    Parameters
    ----------
    window : int or None
        What was asked for; None takes the usual length where there is as much.
    usual : int
        Samples of a window by the recipe.
    shortest : int
        Samples of the shortest stretch to train on.
    multiple : int
        What None rounds down to.

    Returns
    -------
    n_samples : int
        Length.

    Examples
    --------
    >>> from skeeg.methods.beira.windows import choose_window
    >>> choose_window(None, 2048, 5000, 256), choose_window(None, 2048, 999, 256), choose_window(300, 2048, 999, 256)
    (2048, 768, 300)
    """
    if window is None:
        longest = min(usual, shortest)
        return max(longest // multiple * multiple, min(longest, multiple))
    if not 1 <= window <= shortest:
        raise ValueError(
            f"window: got {window} samples, expected 1 to {shortest}, the shortest recording or part of one that is "
            "left to train on."
        )
    return int(window)


def mirror(x, n_times):
    """Continue signals to a length by mirroring them, again and again where they are short.

    Parameters
    ----------
    x : Tensor, shape (..., n)
        Signals.
    n_times : int
        Wanted length, at least n.

    Returns
    -------
    x : Tensor, shape (..., n_times)
        ``x[..., :n]`` is the input.

    Examples
    --------
    >>> import torch
    >>> from skeeg.methods.beira.windows import mirror
    >>> mirror(torch.arange(3), 8).tolist()
    [0, 1, 2, 2, 1, 0, 0, 1]
    """
    n = x.shape[-1]
    if n == n_times:
        return x
    index = torch.arange(n_times) % (2 * n)
    return x[..., torch.where(index < n, index, 2 * n - 1 - index)]


def divide_time(recordings, size, gap):
    """Hold out the end of recordings.

    Parameters
    ----------
    recordings : list of tuple of ndarray, shape (..., n_times)
        Signals of each recording, which go together.
    size : float
        Share of the time to hold out.
    gap : int
        Samples before it that are left out.

    Returns
    -------
    training, held : list of tuple of ndarray
        Views of the beginnings and of the ends.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.methods.beira.windows import divide_time
    >>> training, held = divide_time([(np.zeros((4, 100)),)], 0.2, 10)
    >>> training[0][0].shape, held[0][0].shape
    ((4, 70), (4, 20))
    """
    training, held = [], []
    for signals in recordings:
        n_times = signals[0].shape[-1]
        start = n_times - max(round(size * n_times), 1)
        if start - gap < 1:
            raise ValueError(
                f"validation: {n_times} samples are too few to hold out a share of {size} after a gap of {gap} samples."
            )
        training.append(tuple(one[..., : start - gap] for one in signals))
        held.append(tuple(one[..., start:] for one in signals))
    return training, held


def divide_trials(arrays, size, gap):
    """Hold out the last trials.

    Parameters
    ----------
    arrays : tuple of ndarray, shape (n_trials, ...)
        Trials in the order of time, and what goes with them.
    size : float
        Share of the trials to hold out.
    gap : int
        Trials before them that are left out.

    Returns
    -------
    training, held : tuple of ndarray
        Views of the first and of the last trials.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.methods.beira.windows import divide_trials
    >>> training, held = divide_trials((np.arange(10),), 0.2, 1)
    >>> training[0].tolist(), held[0].tolist()
    ([0, 1, 2, 3, 4, 5, 6], [8, 9])
    """
    n_trials = len(arrays[0])
    start = n_trials - max(round(size * n_trials), 1)
    if start - gap < 2:
        raise ValueError(
            f"validation: {n_trials} trial{'s' * (n_trials > 1)} are too few to hold out a share of {size} after a gap "
            f"of {gap} trials."
        )
    return tuple(one[: start - gap] for one in arrays), tuple(one[start:] for one in arrays)


def padded(n_times, multiple):
    """Round up to a multiple.

    Examples
    --------
    >>> from skeeg.methods.beira.windows import padded
    >>> padded(9, 8), padded(16, 8)
    (16, 16)
    """
    return -(-n_times // multiple) * multiple


def _envelopes(module, batch):
    return module.envelopes(batch)


@dataclasses.dataclass(frozen=True)
class Prediction:
    """A network with what it takes to run it.

    Attributes
    ----------
    module : BEIRA, SharedBEIRA or BEIRAManyToOne
        Trained network, on the CPU; nothing is written to it.
    window : int
        Samples of a training window: how far the many-to-one network looks back.
    device : str
        Where to compute.

    Examples
    --------
    >>> import torch
    >>> from skeeg.methods.beira import BEIRA
    >>> from skeeg.methods.beira.windows import Prediction
    >>> network = BEIRA(4, 2, n_branches=3, channels=(8, 8), kernel_sizes=(3,), strides=(4,)).eval()
    >>> Prediction(network, 64, "cpu").signals(torch.randn(1, 4, 99)).shape
    (1, 2, 99)
    """

    module: torch.nn.Module
    window: int
    device: str

    def signals(self, data):
        """Give outputs as long as the EEG.

        Parameters
        ----------
        data : Tensor, shape (n_trials, n_channels, n_times)
            Standardised EEG.

        Returns
        -------
        outputs : ndarray, shape (n_trials, n_regions, n_times)
            Standardised BOLD.
        """
        if isinstance(self.module, BEIRAManyToOne):
            return np.stack([self._slide(recording) for recording in data])
        return self._run_pieces(data, self.module.reach)

    def last_values(self, data):
        """Give outputs at the last sample of each trial.

        Parameters
        ----------
        data : Tensor, shape (n_trials, n_channels, n_times)
            Standardised EEG.

        Returns
        -------
        outputs : ndarray, shape (n_trials, n_regions)
            Standardised BOLD.
        """
        if isinstance(self.module, BEIRAManyToOne):
            return self._run(data).numpy()
        return self._run_pieces(data, self.module.reach)[..., -1]

    def envelopes(self, data):
        """Give the envelopes of the branches, as long as the EEG.

        Parameters
        ----------
        data : Tensor, shape (n_trials, n_channels, n_times)
            Standardised EEG.

        Returns
        -------
        envelopes : ndarray, shape (n_trials, n_fronts, n_branches, n_times)
            One front end for each region, or one for all.
        """
        taps = sum(layer.kernel_size[0] for layer in self.module.front_layers()[0][1:])
        return self._run_pieces(data, taps, _envelopes)

    def apply(self, function, data, size=None):
        """Apply a function of the network and of a batch to all trials.

        On a CPU trials go one by one: larger batches are no faster, and rounding would depend on their company.

        Parameters
        ----------
        function : callable
            Of the module and a Tensor, to a Tensor of one row a trial.
        data : Tensor, shape (n_trials, n_channels, n_times)
            Trials.
        size : int or None
            Trials of a batch, where it is not to be chosen here.

        Returns
        -------
        rows : Tensor
            Of all trials, on the CPU.
        """
        if size is None:
            size = 1 if self.device == "cpu" else max(1, _SAMPLES_AT_ONCE // data.shape[2])
        return run_batches(self.module, data, size, self.device, function=function)

    def _run(self, data, size=None, function=torch.nn.Module.__call__):
        """Give outputs of the network as they come, for trials of any length."""
        return self.apply(function, mirror(data, padded(data.shape[2], self.module.decimation)), size)

    def _run_pieces(self, data, reach, function=torch.nn.Module.__call__):
        """Give outputs as long as the EEG; long recordings go piece by piece, each with all that tells around it."""
        n_times, outputs = data.shape[2], []
        step, margin = padded(_SAMPLES_AT_ONCE, self.module.decimation), padded(reach, self.module.decimation)
        for start in range(0, n_times, step):
            first = max(start - margin, 0)
            output = self._run(data[:, :, first : start + step + margin], function=function)
            outputs.append(output[..., start - first : start - first + min(step, n_times - start)])
        return torch.cat(outputs, dim=-1).numpy()

    def _slide(self, recording):
        """Many-to-one network at steps over a recording (n_channels, n_times), interpolated to all samples."""
        n_times = recording.shape[1]
        past = mirror(recording[:, : self.window].flip(1), self.window).flip(1)  # what comes before the start
        signal = torch.cat([past[:, 1:], recording], dim=1)
        ends = np.unique(np.append(np.arange(0, n_times, _SLIDE_STEP), n_times - 1))
        outputs = []
        for chunk in np.array_split(ends, max(1, len(ends) * self.window // _SAMPLES_AT_ONCE)):
            windows = torch.stack([signal[:, end : end + self.window] for end in chunk])
            outputs.append(self._run(windows, len(windows)))
        outputs = torch.cat(outputs).numpy()
        return np.stack([np.interp(np.arange(n_times), ends, one) for one in outputs.T])
