"""Windows to train on, and the held-out end of recordings."""

import numpy as np
import torch

from ...training.data import Trials

_N_EXAMPLES = 16  # windows that the importance of the branches is computed on


def hold_out(pairs, size, gap):
    """Hold out the end of each recording, or the last of many trials."""
    eeg, target = pairs[0]
    is_signal = target.ndim == 3
    if is_signal and (len(pairs) > 1 or len(eeg) * size < 1):
        parts = [_divide(pair, -1, size, gap, "sample") for pair in pairs]
    else:
        parts = [_divide(pairs[0], 0, size, -(-gap // eeg.shape[2]) if is_signal else 0, "trial")]
    return [part[0] for part in parts], [part[1] for part in parts]


def _divide(pair, axis, size, gap, unit):
    """Beginning and end of a pair along an axis."""
    n = pair[0].shape[axis]
    start = n - max(round(size * n), 1)
    if start - gap < (1 if unit == "sample" else 2):
        raise ValueError(f"validation: {n} {unit}s are too few to hold out a share of {size} after a gap of {gap}.")
    parts = [np.split(one, [start - gap, start], axis) for one in pair]
    return tuple(part[0] for part in parts), tuple(part[2] for part in parts)


class Windows(Trials):
    """Windows of recordings (n_channels, n_times) and of their targets (n_regions, n_times).

    A pass takes all windows that overlap by half, or, with ``n_windows``, so many random ones.
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
        x, y = (
            torch.stack([recordings[i][:, start : start + self.window] for i, start in places])
            for recordings in (self.eeg, self.bold)
        )
        return mirror(x, self.n_padded), y[..., -1] if self.last_only else y

    def _place(self, position):
        """Find recording and start of one of all possible windows."""
        i = int(torch.searchsorted(self.ends, position, right=True))
        return i, position - (int(self.ends[i - 1]) if i else 0)

    def to(self, device):
        """Copy the recordings to another device."""
        eeg, bold = ([one.to(device) for one in many] for many in (self.eeg, self.bold))
        return Windows(eeg, bold, self.window, self.n_windows, self.n_padded, self.last_only)


def cut_windows(training, held, window, n_windows, multiple, last_only):
    """Cut pairs of tensors (EEG, targets) into windows; trials with one value each are windows themselves.

    Gives windows to train on and to watch, or None, and examples (n_examples, n_channels, n_padded).
    """
    n_padded = padded(window, multiple)
    if training[0][1].ndim == 2:
        every, *watched = [Trials(mirror(eeg, n_padded), target) for eeg, target in (*training, *held)]
        windows, watched = every, watched[0] if watched else None
    else:

        def cut(pairs, length, n=None):
            eeg, bold = ([one for pair in pairs for one in pair[part]] for part in (0, 1))
            return Windows(eeg, bold, length, n, padded(length, multiple), last_only)

        watched = cut(held, min(window, *(eeg.shape[2] for eeg, _ in held))) if held else None
        windows, every = cut(training, window, n_windows), cut(training, window)
    spread = torch.linspace(0, len(every) - 1, min(len(every), _N_EXAMPLES)).long()
    return windows, watched, every.take(spread)[0]


def choose_window(window, usual, shortest, multiple):
    """Choose the samples of a training window; None takes the usual number, or the shortest recording."""
    if window is None:
        longest = min(usual, shortest)
        return max(longest // multiple * multiple, min(longest, multiple))
    if not 1 <= window <= shortest:
        raise ValueError(f"window: got {window} samples, expected 1 to {shortest}, of the shortest recording.")
    return int(window)


def mirror(x, n_times):
    """Continue signals (..., n) to a length by mirroring them, again and again where they are short."""
    n = x.shape[-1]
    if n == n_times:
        return x
    index = torch.arange(n_times) % (2 * n)
    return x[..., torch.where(index < n, index, 2 * n - 1 - index)]


def padded(n_times, multiple):
    """Round up to a multiple."""
    return -(-n_times // multiple) * multiple
