"""Where recordings come from: MOABB datasets, folders, files and MNE objects, one recording at a time."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from ..array import is_epochs
from .places import SUFFIXES, find_places
from .reading import UNITS, check_microvolts, join_epochs, read_recording


@dataclass(frozen=True)
class Source:
    """One recording that can be read.

    Attributes
    ----------
    origin : str
        Dataset or file, for people to read.
    subject, session, run : str
        Whose recording it is.
    read : callable
        Gives the recording as `mne.io.Raw`, in volts, its trials as annotations.
    stamp : str
        What tells another version of the recording apart: size and date of a file, or a checksum of the data.
    """

    origin: str
    subject: str
    session: str
    run: str
    read: object
    stamp: str = ""

    @property
    def key(self):
        """Name in the store: the same for the same recording, whenever it is added."""
        identity = [self.origin, self.subject, self.session, self.run, self.stamp]
        return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]


def find_sources(source, subject="", session="", run="", unit="V"):
    """List the recordings of a source, without reading their data where that can be helped.

    Parameters
    ----------
    source : moabb.datasets.base.BaseDataset, path, mne.io.Raw, mne.Epochs, or list of such
        A folder is a BIDS dataset or holds recordings by the rules of `skeeg.datasets.LocalDataset`.
    subject, session, run : str
        Whose recording a file or an MNE object is.
    unit : {"V", "mV", "uV"}
        What the numbers of files mean once MNE has read them.

    Yields
    ------
    source : Source
        One for each recording.
    """
    if unit not in UNITS:
        raise ValueError(f"unit: got {unit!r}, expected one of {', '.join(UNITS)}.")
    place = str(subject), str(session), str(run)
    if isinstance(source, list | tuple):
        for one in source:
            yield from find_sources(one, *place, unit)
    elif isinstance(source, str | Path):
        yield from _of_path(Path(source), place, unit)
    elif hasattr(source, "subject_list"):
        yield from _of_dataset(source)
    elif hasattr(source, "annotations") or is_epochs(source):
        yield _of_object(source, place)
    else:
        raise TypeError(
            f"source: got {type(source).__name__}, expected a MOABB dataset, a folder, a file, mne.io.Raw, mne.Epochs, "
            "or a list of such."
        )


def _of_path(path, place, unit):
    """List the recordings of a folder, or one file."""
    if path.is_dir():
        root = path if (path / "dataset_description.json").is_file() else None
        for found in find_places(path):
            name = str(found.file.relative_to(path))
            whose = f"{path.name}/{found.subject}", found.session, "_".join(filter(None, (found.task, found.run)))
            yield Source(f"{path.name}/{name}", *whose, _reader(found.file, root, unit), _stamp(found.file))
    elif path.is_file():
        yield Source(path.name, *place, _reader(path, None, unit), _stamp(path))
    else:
        raise FileNotFoundError(f"source: there is no file or folder {path} (recordings are {', '.join(SUFFIXES)}).")


def _of_object(source, place):
    """One MNE object; those that came from no file are told apart by their data."""
    raw = join_epochs(source) if is_epochs(source) else source.copy().load_data(verbose="error")
    name = str((getattr(source, "filenames", None) or [""])[0] or type(source).__name__)
    return Source(name, *place, lambda: raw, hashlib.sha256(raw.get_data().tobytes()).hexdigest())


def _of_dataset(dataset):
    """List the recordings of a MOABB dataset, which reads a subject to know its sessions and runs."""
    for subject in dataset.subject_list:
        for session, runs in dataset.get_data([subject])[subject].items():
            for run, raw in runs.items():
                yield Source(dataset.code, f"{dataset.code}/{subject}", session, run, lambda raw=raw: raw)


def _reader(file, root, unit):
    """Give what reads one file."""

    def read():
        raw = read_recording(file, root)[0].load_data(verbose="error")
        if unit != "V":
            raw.apply_function(lambda values: values * UNITS[unit], picks="eeg", verbose="error")
        check_microvolts(raw, file)
        return raw

    return read


def _stamp(file):
    """Size and date of a file."""
    found = file.stat()
    return f"{found.st_size}-{found.st_mtime_ns}"
