"""Corpora of labelled windows, with the subject-wise split of the published results."""

import dataclasses

import numpy as np

from ..array import make_domains, make_eeg
from .base import data_folder

PARTS = ("train", "valid", "test")


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Preprocessing of the recordings of a corpus.

    Attributes
    ----------
    ch_names : tuple of str
        Channels, in this order.
    average : bool
        Whether to apply the average reference.
    band : tuple of float or None
        Edges of the band-pass in hertz; None does not filter.
    notch : float or None
        Line frequency to remove, in hertz; None removes none.
    sfreq : float
        Sampling rate in hertz.
    """

    ch_names: tuple
    average: bool = True
    band: tuple | None = (0.1, 75.0)
    notch: float | None = 50.0
    sfreq: float = 200.0


class Corpus:
    """Base class of the corpora: labelled windows in three parts with disjoint subjects.

    Parameters
    ----------
    folder : path or None
        Folder of the corpus; None is its folder under the environment variable ``SKEEG_DATA``. Nothing is downloaded.

    Attributes
    ----------
    classes : tuple of str
        Names of the classes; labels are these names.
    preprocessing : Preprocessing
        Preprocessing of the recordings.

    Notes
    -----
    A subclass lists its files (``_find``), splits the subjects (``_split``) and reads one file (``_read``).
    Continuous recordings are referenced, resampled and filtered, in this order, before they are cut into windows.
    """

    name = source = ""
    inner = ()  # subfolders of `folder` that may contain the files
    classes = ()
    preprocessing = Preprocessing(())

    def __init__(self, folder=None):
        self.folder = folder

    def __repr__(self):
        """Name, and the folder if it was given."""
        return f"{type(self).__name__}({'' if self.folder is None else repr(str(self.folder))})"

    def subjects(self, part="train"):
        """Names of the subjects of one part.

        Parameters
        ----------
        part : {"train", "valid", "test"}
            Part of the published split.

        Returns
        -------
        subjects : list of str
            Names, in the order in which they are read.
        """
        return list(self._files_of(part))

    def arrays(self, part="train", subjects=None):
        """Read the windows of one part.

        Parameters
        ----------
        part : {"train", "valid", "test"}
            Part of the published split.
        subjects : sequence of str or None
            Some of its subjects only; read large corpora subject by subject.

        Returns
        -------
        X : EEGArray of float32, shape (n_windows, n_channels, n_times)
            Microvolts with channel names, sampling rate and domains (subject, session, run).
        y : ndarray of str, shape (n_windows,)
            Class of each window.
        """
        files = self._files_of(part)
        unknown = [one for one in (subjects or ()) if one not in files]
        if unknown:
            raise ValueError(f"subjects: {', '.join(unknown)} not in part {part!r}; it has {', '.join(files)}.")
        blocks, labels = [], []
        for subject in files if subjects is None else subjects:
            for session, file in files[subject]:
                windows, names = self._read(file)
                if len(windows):
                    domains = make_domains(len(windows), subject, session, file.stem)
                    blocks.append(make_eeg(windows, self.preprocessing.ch_names, self.preprocessing.sfreq, domains))
                    labels.append(np.array(names))
        if not blocks:
            raise ValueError(f"{self._root()}: no window of {', '.join(self.classes)} in part {part!r}.")
        return np.concatenate(blocks), np.concatenate(labels)

    def _files_of(self, part):
        """Files of each subject of one part, as (session, file)."""
        if part not in PARTS:
            raise ValueError(f"part: got {part!r}, expected one of {', '.join(PARTS)}.")
        found = self._find(self._root())
        if not found:
            raise FileNotFoundError(f"{self._root()}: no recording of {self.name}. {self.source}")
        return {subject: found[subject] for subject in self._split(list(found))[part]}

    def _root(self):
        """Folder with the files."""
        folder = data_folder(self.folder, type(self).__name__)
        if folder is None:
            raise ValueError("folder: not given, and the environment variable SKEEG_DATA is not set either.")
        if not folder.is_dir():
            raise FileNotFoundError(f"folder: there is no folder {folder}. {self.source}")
        return next((folder / name for name in self.inner if (folder / name).is_dir()), folder)


def preprocess(raw, file, preprocessing, rename):
    """Preprocess a recording.

    Parameters
    ----------
    raw : mne.io.Raw
        Recording in volts.
    file : Path
        For the errors.
    preprocessing : Preprocessing
        Channels, reference, sampling rate and filters.
    rename : callable
        Maps the channel name of the file to the electrode name.

    Returns
    -------
    data : ndarray of float64, shape (n_channels, n_times)
        Microvolts.
    """
    channels = {rename(name): name for name in reversed(raw.ch_names)}
    missing = [name for name in preprocessing.ch_names if name not in channels]
    if missing:
        raise ValueError(f"{file}: electrodes {', '.join(missing)} are missing; it has {', '.join(raw.ch_names)}.")
    raw = (
        raw.copy().pick([channels[name] for name in preprocessing.ch_names], verbose="error").load_data(verbose="error")
    )
    raw.set_channel_types(dict.fromkeys(raw.ch_names, "eeg"), on_unit_change="ignore", verbose="error")
    if preprocessing.average:
        raw.apply_function(lambda data: data - data.mean(axis=0), picks="all", channel_wise=False, verbose="error")
    if raw.info["sfreq"] != preprocessing.sfreq:
        raw.resample(preprocessing.sfreq, verbose="error")
    if preprocessing.band is not None:
        raw.filter(*preprocessing.band, verbose="error")
    if preprocessing.notch is not None:
        raw.notch_filter(preprocessing.notch, verbose="error")
    return raw.get_data(verbose="error") * 1e6


def cut_windows(data, starts, n_times):
    """Cut windows out of a recording.

    Parameters
    ----------
    data : ndarray, shape (n_channels, n_samples)
        Recording.
    starts : sequence of int
        First sample of each window.
    n_times : int
        Samples of a window.

    Returns
    -------
    windows : ndarray of float32, shape (n_windows, n_channels, n_times)
        Windows.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.datasets.corpus import cut_windows
    >>> cut_windows(np.arange(6.0)[None], [0, 3], 2).tolist()
    [[[0.0, 1.0]], [[3.0, 4.0]]]
    """
    windows = [data[:, start : start + n_times] for start in starts]
    return np.array(windows, dtype=np.float32).reshape(-1, len(data), n_times)


def open_recording(file, reader):
    """Open a recording with one of MNE's readers; an error names the file.

    Parameters
    ----------
    file : Path
        Recording.
    reader : str
        Name of a function of `mne.io`.

    Returns
    -------
    raw : mne.io.Raw
        Recording in volts.
    """
    import mne

    try:
        return getattr(mne.io, reader)(file, verbose="error")
    except Exception as error:  # whichever error a reader raises, name the file
        raise ValueError(f"{file}: cannot be read: {error}") from error


def split_fractions(names, *fractions):
    """Split a list by cumulative fractions, rounded down.

    Parameters
    ----------
    names : list
        The list.
    *fractions : float
        End of each part; the last part takes the rest.

    Returns
    -------
    parts : list of list
        One more than fractions.

    Examples
    --------
    >>> from skeeg.datasets.corpus import split_fractions
    >>> split_fractions(list("abcdefg"), 0.2, 0.4)
    [['a'], ['b'], ['c', 'd', 'e', 'f', 'g']]
    """
    ends = [0, *(int(len(names) * fraction + 1e-9) for fraction in fractions), len(names)]
    return [names[start:stop] for start, stop in zip(ends[:-1], ends[1:], strict=True)]
