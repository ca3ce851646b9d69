"""Recordings of any origin on a disk, read as random windows without holding them in memory."""

import contextlib
import hashlib
import os
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..array import make_domains, make_eeg
from .reading import is_class
from .sources import find_sources

_OPEN_FILES = 64  # kept open while windows are drawn
_BLOCK = 2**22  # bytes read at once for a checksum


@dataclass(frozen=True)
class Recording:
    """What a store knows of one recording.

    Attributes
    ----------
    key : str
        Name of its file in the store.
    origin : str
        Dataset or file it came from.
    subject, session, run : str
        Whose recording it is.
    ch_names : tuple of str
        Electrodes.
    sfreq : float
        Samples a second.
    n_times : int
        Samples.
    onsets, durations : ndarray, shape (n_events,)
        Events, in seconds.
    events : ndarray of str, shape (n_events,)
        What happened.
    """

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


class RecordingStore:
    """A folder of recordings, one HDF5 file each: microvolts in float32 with names, rate, events and domain.

    A file appears under its name only when it is complete, so a build that was broken off goes on where it stood when
    the same sources are added again; those that are there are left alone. Other sources can be added at any time.

    Parameters
    ----------
    folder : path
        Folder of the store; made where there is none.

    Attributes
    ----------
    recordings : tuple of Recording
        What is there, by origin, subject, session and run.

    Notes
    -----
    In a file, the dataset ``eeg`` has the axes (times, channels), so that a window is one stretch on the disk, and the
    attribute ``sha256`` its checksum, which `verify` compares.

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
        self._files = OrderedDict()
        self._look()

    def __len__(self):
        """Count the recordings."""
        return len(self.recordings)

    def __repr__(self):
        """Say how much there is."""
        hours = sum(one.n_times / one.sfreq for one in self.recordings) / 3600
        people = len({one.subject for one in self.recordings})
        return f"RecordingStore({str(self.folder)!r}: {len(self)} recordings of {people} people, {hours:.2f} hours)"

    def __getstate__(self):
        """Leave the open files behind."""
        return self.__dict__ | {"_files": OrderedDict()}

    def add(self, source, prepare=None, subject="", session="", run="", unit="V", progress=True):
        """Add recordings; those that are there already are not written again, and their files not read.

        Parameters
        ----------
        source : moabb.datasets.base.BaseDataset, path, mne.io.Raw, mne.Epochs, or list of such
            A folder is a BIDS dataset, or holds recordings by the rules of `LocalDataset`, events or not.
        prepare : transformer or None
            What every recording goes through, as one trial (1, n_channels, n_times), before it is written, such as
            `skeeg.methods.gram.gram_preprocessing`. It is not remembered: use one for a store.
        subject, session, run : str
            Whose recording a single file or MNE object is.
        unit : {"V", "mV", "uV"}
            What the numbers of files mean once MNE has read them.
        progress : bool
            Show a progress bar.

        Returns
        -------
        n_added : int
            Recordings written.
        """
        from tqdm.auto import tqdm

        added = 0
        with tqdm(find_sources(source, subject, session, run, unit), disable=not progress, unit="recording") as bar:
            for one in bar:
                bar.set_description(one.subject or one.origin)
                if not self._path(one.key).exists():
                    self._write(one, prepare)
                    added += 1
        self._look()
        return added

    def read(self, recording, start=0, n_times=None):
        """Read a stretch of a recording.

        Parameters
        ----------
        recording : Recording
            One of ``recordings``.
        start : int
            First sample.
        n_times : int or None
            Samples; None reads to the end.

        Returns
        -------
        data : ndarray of float32, shape (n_channels, n_times)
            Microvolts.
        """
        stop = recording.n_times if n_times is None else start + n_times
        if not 0 <= start <= stop <= recording.n_times:
            raise ValueError(f"start, n_times: samples {start} to {stop} of a recording of {recording.n_times}.")
        return self._open(recording.key)["eeg"][start:stop].T

    def windows(self, seconds, stride=None):
        """Windows of all recordings, read when they are asked for.

        Parameters
        ----------
        seconds : float
            Length.
        stride : float or None
            Seconds from the start of a window to the start of the next; None is their length.

        Returns
        -------
        windows : StoredWindows
            Recordings shorter than a window have none.
        """
        from .windows import StoredWindows

        if seconds <= 0 or (stride is not None and stride <= 0):
            raise ValueError(f"seconds, stride: got {seconds} and {stride}, expected more than 0.")
        return StoredWindows(self, float(seconds), float(seconds if stride is None else stride))

    def trials(self, interval, classes=None):
        """Trials around the events, one entry a recording, for `fit` of a pre-trainer.

        Parameters
        ----------
        interval : tuple of float
            Seconds around an event from which to which a trial lasts.
        classes : sequence of str or None
            Events to take; None takes all but those that mark bad or missing data.

        Returns
        -------
        X : list of EEGArray, shape (n_trials, n_channels, n_times)
            Trials of each recording that has any.
        y : list of ndarray of str, shape (n_trials,)
            Event of each trial.
        """
        if isinstance(classes, str):  # in which any part of it would be found
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
                whose = make_domains(len(data), recording.subject, recording.session, recording.run)
                X.append(make_eeg(data, recording.ch_names, recording.sfreq, whose))
                y.append(recording.events[rows][inside])
        if not X:
            raise ValueError(f"classes: no recording has events {classes or ''} with {interval} s around them.")
        return X, y

    def verify(self, progress=True):
        """Compare every recording with the checksum it was written with.

        Parameters
        ----------
        progress : bool
            Show a progress bar.

        Returns
        -------
        damaged : list of Recording
            Those whose data are not what was written.
        """
        from tqdm.auto import tqdm

        bar = tqdm(self.recordings, disable=not progress, unit="recording")
        return [one for one in bar if not self._is_sound(one)]

    def _is_sound(self, recording):
        """Whether data and checksum of one recording agree."""
        data = self._open(recording.key)["eeg"]
        found, rows = hashlib.sha256(), max(1, _BLOCK // (4 * data.shape[1]))
        try:
            for start in range(0, len(data), rows):
                found.update(data[start : start + rows].tobytes())
        except OSError:
            return False
        return found.hexdigest() == data.attrs["sha256"]

    def _path(self, key):
        """File of a recording."""
        return self.folder / f"{key}.h5"

    def _write(self, source, prepare):
        """Write one recording to a file of another name, which then takes its own in one step."""
        import h5py

        raw = source.read()
        X, raw = _microvolts(raw, source, prepare)
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

    def _look(self):
        """List what is there."""
        found = [self._describe(path) for path in sorted(self.folder.glob("*.h5"))]
        self.recordings = tuple(sorted(found, key=lambda one: (one.origin, one.subject, one.session, one.run)))

    def _describe(self, path):
        """Read what a file says of itself."""
        import h5py

        try:
            with h5py.File(path, "r") as file:
                data = file["eeg"]
                notes = dict(data.attrs)
                events = np.array([name.decode() for name in file["events"][:]], dtype=str)
                onsets, durations = file["onsets"][:], file["durations"][:]
                n_times = len(data)
        except (OSError, KeyError) as error:
            raise ValueError(f"folder: {path} is no recording of a store ({error}); move it away.") from error
        places = (str(notes[name]) for name in ("origin", "subject", "session", "run"))
        names = tuple(map(str, notes["ch_names"]))
        return Recording(path.stem, *places, names, float(notes["sfreq"]), n_times, onsets, durations, events)

    def _open(self, key):
        """Keep the files used last open."""
        import h5py

        if key not in self._files:
            while len(self._files) >= _OPEN_FILES:
                self._files.popitem(last=False)[1].close()
            # no chunk cache: data are contiguous, and windows are drawn at random
            self._files[key] = h5py.File(self._path(key), "r", rdcc_nbytes=0)
        self._files.move_to_end(key)
        return self._files[key]


def _microvolts(raw, source, prepare):
    """EEG of a recording as one trial, prepared."""
    raw = raw.copy().pick("eeg", exclude=[], verbose="error")
    whose = make_domains(1, source.subject, source.session, source.run)
    X = make_eeg(raw.get_data(verbose="error")[None] * 1e6, raw.ch_names, raw.info["sfreq"], whose)
    return (X if prepare is None else prepare.fit_transform(X)), raw
