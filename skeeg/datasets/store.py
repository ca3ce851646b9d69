"""Recordings stored on disk, from which windows are read without loading all into memory."""

import contextlib
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..array import EEGArray, make_domains
from .readers import is_class, list_recordings


@dataclass(frozen=True)
class StoredRecording:
    """Metadata of one recording of a store; ``onsets`` and ``durations`` of its events are in seconds."""

    key: str
    origin: str
    subject: str
    session: str
    run: str
    ch_names: tuple
    sfreq: float
    n_times: int
    onsets: np.ndarray
    durations: np.ndarray
    events: np.ndarray
    offset: int  # first byte of the data in the file
    sha256: str


class RecordingStore:
    """A folder of recordings, one HDF5 file each: microvolts in float32 with names, rate, events and domain.

    An interrupted build is resumed by adding the same sources again: a file gets its name only when it is complete.

    Parameters
    ----------
    folder : path
        Folder of the store, created if necessary.

    Attributes
    ----------
    recordings : tuple of StoredRecording
        All recordings, sorted by origin, subject, session and run.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> from skeeg.datasets import RecordingStore, SimulatedMotorImagery
    >>> store = RecordingStore(mkdtemp())
    >>> added = store.add(SimulatedMotorImagery(n_subjects=1, n_sessions=2, n_runs=1, n_trials=4), progress=False)
    >>> added, store.read(store.recordings[0], start=100, n_times=50).shape
    (2, (22, 50))
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._list_files()

    def __len__(self):
        """Count the recordings."""
        return len(self.recordings)

    def __repr__(self):
        """Count recordings and subjects, and give the total duration."""
        hours = sum(one.n_times / one.sfreq for one in self.recordings) / 3600
        n_subjects = len({one.subject for one in self.recordings})
        content = f"{len(self)} recordings of {n_subjects} subjects, {hours:.2f} hours"
        return f"RecordingStore({str(self.folder)!r}: {content})"

    def add(self, source, prepare=None, subject="", session="", run="", unit="V", progress=True):
        """Add recordings; those that are stored already are skipped without reading them. Give the number written.

        ``source`` is a MOABB dataset, an `mne.io.Raw`, an `mne.Epochs`, a file, a folder (a BIDS dataset, or recordings
        by the rules of `LocalDataset`, events or not), or a list of such. ``prepare`` is a transformer of each
        recording, as one trial (1, n_channels, n_times), such as `skeeg.methods.gram.gram_preprocessing`; use one per
        store, which does not record it. ``subject``, ``session``, ``run`` are the domain of a single file or MNE
        object; ``unit``, ``"V"``, ``"mV"`` or ``"uV"``, that of files that state none.
        """
        from tqdm.auto import tqdm

        added = 0
        with tqdm(list_recordings(source, subject, session, run, unit), disable=not progress, unit="recording") as bar:
            for one in bar:
                bar.set_description(one.subject or one.origin)
                if not self._path(one.key).exists():
                    self._write(one, prepare)
                    added += 1
        self._list_files()
        return added

    def read(self, recording, start=0, n_times=None):
        """Read a recording, or `n_times` samples from `start` on; gives microvolts, float32 (n_channels, n_times)."""
        stop = recording.n_times if n_times is None else start + n_times
        if not 0 <= start <= stop <= recording.n_times:
            raise ValueError(f"start, n_times: samples {start} to {stop} of a recording of {recording.n_times}.")
        # As fast from 200 files as from 20, and faster than by HDF5, which is slow to open files: data are contiguous.
        width = len(recording.ch_names)
        place = {"count": (stop - start) * width, "offset": recording.offset + 4 * start * width}
        return np.fromfile(self._path(recording.key), "<f4", **place).reshape(stop - start, width).T

    def windows(self, seconds, stride=None):
        """Give windows of all recordings, read lazily; length and stride (None is the length) in seconds.

        A list of `StoredWindows`, one for equal channels and rate, for ``fit`` of a self-supervised pre-trainer.
        """
        if seconds <= 0 or (stride is not None and stride <= 0):
            raise ValueError(f"seconds, stride: got {seconds} and {stride}, expected more than 0.")
        kinds = {}
        for recording in self.recordings:
            kinds.setdefault((recording.ch_names, recording.sfreq), []).append(recording)
        windows = [StoredWindows(self, found, seconds, stride or seconds) for found in kinds.values()]
        windows = [one for one in windows if len(one)]
        if not windows:
            raise ValueError(f"seconds: none of {len(self)} recordings lasts {seconds} s.")
        return windows

    def trials(self, interval, classes=None):
        """Trials from ``interval[0]`` to ``interval[1]`` seconds around the events, for `fit` of a pre-trainer.

        Give a list of EEGArray (n_trials, n_channels, n_times) and one of labels (n_trials,), an entry for each
        recording that has any. ``classes`` None takes all events but those that mark bad or missing data.
        """
        if isinstance(classes, str):  # `in` would match substrings
            raise ValueError(f"classes: got {classes!r}, expected a sequence of names, such as [{classes!r}].")
        X, y = [], []
        for recording in self.recordings:
            names = enumerate(recording.events)
            rows = [i for i, name in names if (is_class(name) if classes is None else name in classes)]
            first = np.rint((recording.onsets[rows] + interval[0]) * recording.sfreq).astype(int)
            n_times = round((interval[1] - interval[0]) * recording.sfreq)
            inside = (first >= 0) & (first + n_times <= recording.n_times)
            if inside.any():
                data = np.stack([self.read(recording, int(start), n_times) for start in first[inside]])
                domains = make_domains(len(data), recording.subject, recording.session, recording.run)
                X.append(EEGArray(data, recording.ch_names, recording.sfreq, domains))
                y.append(recording.events[rows][inside])
        if not X:
            raise ValueError(f"classes: no recording has events {classes or ''} with {interval} s around them.")
        return X, y

    def verify(self, progress=True):
        """Compare every recording with the checksum it was written with, and list those that are damaged."""
        from tqdm.auto import tqdm

        bar = tqdm(self.recordings, disable=not progress, unit="recording")
        return [one for one in bar if not self._is_sound(one)]

    def _is_sound(self, recording):
        """Whether a recording has its checksum."""
        try:
            return hashlib.sha256(self.read(recording).T).hexdigest() == recording.sha256
        except (OSError, ValueError):  # shorter than it was
            return False

    def _path(self, key):
        return self.folder / f"{key}.h5"

    def _write(self, source, prepare):
        """Write one recording to a temporary file, which is then renamed atomically."""
        import h5py

        raw = source.read().copy().pick("eeg", exclude=[], verbose="error")
        domains = make_domains(1, source.subject, source.session, source.run)
        X = EEGArray(raw.get_data(verbose="error")[None] * 1e6, raw.ch_names, raw.info["sfreq"], domains)
        X = X if prepare is None else prepare.fit_transform(X)  # as one trial
        data = np.ascontiguousarray(np.asarray(X[0]).T, dtype="<f4")
        if not np.isfinite(data).all():
            raise ValueError(f"{source.origin}: {source.subject} {source.session} {source.run} has NaN or infinity.")
        unfinished = self.folder / f"{source.key}.part"
        try:
            with h5py.File(unfinished, "w") as file:
                file["eeg"] = data
                file["eeg"].attrs.update(
                    ch_names=list(X.ch_names), sfreq=float(X.sfreq), unit="uV", subject=source.subject,
                    session=source.session, run=source.run, origin=source.origin,
                    sha256=hashlib.sha256(data.tobytes()).hexdigest(),
                )  # fmt: skip
                file["onsets"], file["durations"] = raw.annotations.onset - raw.first_time, raw.annotations.duration
                file["events"] = np.array(list(raw.annotations.description), dtype=h5py.string_dtype())
            os.replace(unfinished, self._path(source.key))
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.remove(unfinished)

    def _list_files(self):
        """Read the metadata of all files."""
        found = [self._describe(path) for path in sorted(self.folder.glob("*.h5"))]
        self.recordings = tuple(sorted(found, key=lambda one: (one.origin, one.subject, one.session, one.run)))

    def _describe(self, path):
        """Read the metadata of a file."""
        import h5py

        try:
            with h5py.File(path, "r") as file:
                data = file["eeg"]
                notes = dict(data.attrs)
                events = np.array([name.decode() for name in file["events"][:]], dtype=str)
                onsets, durations = file["onsets"][:], file["durations"][:]
                n_times, offset = len(data), data.id.get_offset()
        except (OSError, KeyError) as error:
            raise ValueError(f"folder: {path} is no recording of a store ({error}); remove it.") from error
        origin = (str(notes[name]) for name in ("origin", "subject", "session", "run"))
        names = tuple(map(str, notes["ch_names"]))
        times = float(notes["sfreq"]), n_times, onsets, durations, events
        return StoredRecording(path.stem, *origin, names, *times, offset, str(notes["sha256"]))


class StoredWindows:
    """Windows of equal length of recordings with the same channels and sampling rate, read lazily.

    ``subjects`` names the subject of each.
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
        """Keys of the recordings, shape and step: what distinguishes these windows from others."""
        return [recording.key for recording in self.recordings], self.shape, self.step

    def take(self, rows):
        """Read some windows, shape (n_rows, n_channels, n_times)."""
        rows = np.asarray(rows, dtype=np.intp)
        if len(rows) and not (0 <= rows.min() and rows.max() < len(self)):
            raise IndexError(f"rows: expected 0 to {len(self) - 1}, got {rows.min()} to {rows.max()}.")
        data = np.empty((len(rows), *self.shape[1:]), dtype=np.float32)
        owners = np.searchsorted(self.starts, rows, side="right") - 1
        for i in np.lexsort((rows, owners)):  # in the order on disk
            recording = self.recordings[owners[i]]
            start = int(rows[i] - self.starts[owners[i]]) * self.step
            data[i] = self.store.read(recording, start, self.shape[2])
        return data
