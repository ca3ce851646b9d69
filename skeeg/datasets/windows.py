"""Windows of a store, numbered through, read a batch at a time."""

import numpy as np


class StoredWindows:
    """Windows of equal length of the recordings of a `RecordingStore`, read when they are asked for.

    `RecordingStore.windows` makes one. It goes where trials go that are too many for the memory: into ``fit`` of a
    pre-trainer that learns without labels.

    Parameters
    ----------
    store : RecordingStore
        The store.
    seconds, stride : float
        Length of a window, and seconds from one to the next.

    Attributes
    ----------
    groups : dict of tuple to StoredGroup
        Windows of equal electrodes and rate, by (ch_names, sfreq).

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> from skeeg.datasets import RecordingStore, SimulatedMotorImagery
    >>> store = RecordingStore(mkdtemp())
    >>> _ = store.add(SimulatedMotorImagery(n_subjects=1, n_sessions=1, n_runs=1, n_trials=4), progress=False)
    >>> (group,) = store.windows(2.0).groups.values()
    >>> group.take([0, 2]).shape
    (2, 22, 256)
    """

    def __init__(self, store, seconds, stride):
        self.store, self.seconds, self.stride = store, seconds, stride
        by_form = {}
        for recording in store.recordings:
            by_form.setdefault((recording.ch_names, recording.sfreq), []).append(recording)
        groups = {form: StoredGroup(store, found, seconds, stride) for form, found in by_form.items()}
        self.groups = {form: group for form, group in groups.items() if len(group)}
        if not self.groups:
            raise ValueError(f"seconds: none of {len(store)} recordings lasts {seconds} s.")

    def __len__(self):
        """Count the windows."""
        return sum(map(len, self.groups.values()))

    def __iter__(self):
        """Give the groups one after the other."""
        return iter(self.groups.values())


class StoredGroup:
    """Windows of recordings with the same electrodes and rate.

    Parameters
    ----------
    store : RecordingStore
        The store.
    recordings : list of Recording
        Its recordings of this kind.
    seconds, stride : float
        See `StoredWindows`.

    Attributes
    ----------
    ch_names : tuple of str
        Electrodes.
    sfreq : float
        Samples a second.
    shape : tuple of int
        n_windows, n_channels, n_times.
    subjects : ndarray of str, shape (n_windows,)
        Whose window it is.
    """

    def __init__(self, store, recordings, seconds, stride):
        self.store, self.recordings = store, recordings
        self.ch_names, self.sfreq = recordings[0].ch_names, recordings[0].sfreq
        n_times, self.step = (max(1, round(length * self.sfreq)) for length in (seconds, stride))
        counts = [max(0, (one.n_times - n_times) // self.step + 1) for one in recordings]
        self.starts = np.concatenate([[0], np.cumsum(counts)])
        self.shape = (int(self.starts[-1]), len(self.ch_names), n_times)
        self.subjects = np.repeat([one.subject for one in recordings], counts)

    def __len__(self):
        """Count the windows."""
        return self.shape[0]

    @property
    def identity(self):
        """What tells these windows from others, as far as the store knows: recordings, length and step."""
        return [recording.key for recording in self.recordings], self.shape, self.step

    def take(self, rows):
        """Read some windows.

        Parameters
        ----------
        rows : array-like of int
            Which.

        Returns
        -------
        data : ndarray of float32, shape (n_rows, n_channels, n_times)
            Microvolts.
        """
        rows = np.asarray(rows, dtype=np.intp)
        if len(rows) and not (0 <= rows.min() and rows.max() < len(self)):
            raise IndexError(f"rows: expected 0 to {len(self) - 1}, got {rows.min()} to {rows.max()}.")
        data = np.empty((len(rows), *self.shape[1:]), dtype=np.float32)
        whose = np.searchsorted(self.starts, rows, side="right") - 1
        for i in np.lexsort((rows, whose)):  # in the order of the disk
            recording = self.recordings[whose[i]]
            start = int(rows[i] - self.starts[whose[i]]) * self.step
            data[i] = self.store.read(recording, start, self.shape[2])
        return data
