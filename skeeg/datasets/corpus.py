"""Corpora of recordings cut into windows, with the split by people that results are published for."""

import dataclasses

import numpy as np

from ..array import make_domains, make_eeg
from .base import data_folder

PARTS = ("train", "valid", "test")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a recording is made ready.

    Attributes
    ----------
    ch_names : tuple of str
        Electrodes, in this order.
    average : bool
        Whether to reference to their average.
    band : tuple of float or None
        Edges of the band-pass in hertz; None does not filter.
    notch : float or None
        Mains frequency to remove, in hertz; None removes none.
    sfreq : float
        Sampling rate in hertz.
    """

    ch_names: tuple
    average: bool = True
    band: tuple | None = (0.1, 75.0)
    notch: float | None = 50.0
    sfreq: float = 200.0


class Corpus:
    """Base of the corpora: files of people, windows with labels, three parts that share no person.

    Parameters
    ----------
    folder : path or None
        Where the corpus lies; None is its folder under the environment variable ``SKEEG_DATA``. Nothing is downloaded.

    Attributes
    ----------
    classes : tuple of str
        Names of the classes; labels are these names.
    recipe : Recipe
        How the recordings are made ready.

    Notes
    -----
    A subclass says where its files are (``_find``), how people are split (``_split``) and how one file is read
    (``_read``). Recordings are referenced, resampled and filtered as a whole, in this order, before they are cut.
    """

    name = source = ""
    inner = ()  # folders below `folder` in which the files may lie
    classes = ()
    recipe = Recipe(())

    def __init__(self, folder=None):
        self.folder = folder

    def __repr__(self):
        """Name, and the folder if it was said."""
        return f"{type(self).__name__}({'' if self.folder is None else repr(str(self.folder))})"

    def subjects(self, part="train"):
        """Names of the people of one part.

        Parameters
        ----------
        part : {"train", "valid", "test"}
            Part of the published split.

        Returns
        -------
        subjects : list of str
            Names, sorted as they are read.
        """
        return list(self._files_of(part))

    def arrays(self, part="train", subjects=None):
        """Read the windows of one part.

        Parameters
        ----------
        part : {"train", "valid", "test"}
            Part of the published split.
        subjects : sequence of str or None
            Some of its people only; large corpora are best read person by person.

        Returns
        -------
        X : EEGArray of float32, shape (n_windows, n_channels, n_times)
            Microvolts with electrodes, rate and domains (subject, session, run).
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
                    blocks.append(make_eeg(windows, self.recipe.ch_names, self.recipe.sfreq, domains))
                    labels.append(np.array(names))
        if not blocks:
            raise ValueError(f"{self._root()}: no window of {', '.join(self.classes)} in part {part!r}.")
        return np.concatenate(blocks), np.concatenate(labels)

    def _files_of(self, part):
        """Files of each person of one part, as (session, file)."""
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


def prepare(raw, file, recipe, rename):
    """Bring a recording to the form of a recipe.

    Parameters
    ----------
    raw : mne.io.Raw
        Recording in volts.
    file : Path
        For the errors.
    recipe : Recipe
        Electrodes, reference, rate and filters.
    rename : callable
        Gives the name of the electrode for the name of a channel.

    Returns
    -------
    data : ndarray of float64, shape (n_channels, n_times)
        Microvolts.
    """
    channels = {rename(name): name for name in reversed(raw.ch_names)}
    missing = [name for name in recipe.ch_names if name not in channels]
    if missing:
        raise ValueError(f"{file}: electrodes {', '.join(missing)} are missing; it has {', '.join(raw.ch_names)}.")
    raw = raw.copy().pick([channels[name] for name in recipe.ch_names], verbose="error").load_data(verbose="error")
    raw.set_channel_types(dict.fromkeys(raw.ch_names, "eeg"), on_unit_change="ignore", verbose="error")
    if recipe.average:
        raw.apply_function(lambda data: data - data.mean(axis=0), picks="all", channel_wise=False, verbose="error")
    if raw.info["sfreq"] != recipe.sfreq:
        raw.resample(recipe.sfreq, verbose="error")
    if recipe.band is not None:
        raw.filter(*recipe.band, verbose="error")
    if recipe.notch is not None:
        raw.notch_filter(recipe.notch, verbose="error")
    return raw.get_data(verbose="error") * 1e6


def cut(data, starts, n_times):
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
    >>> from skeeg.datasets.corpus import cut
    >>> cut(np.arange(6.0)[None], [0, 3], 2).tolist()
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
    except Exception as error:  # whatever a reader trips over, the user needs to know in which file
        raise ValueError(f"{file}: cannot be read: {error}") from error


def share_out(names, *shares):
    """Cut a list into parts by cumulative shares, rounded down.

    Parameters
    ----------
    names : list
        What is shared out.
    *shares : float
        Where each part ends; the last part takes the rest.

    Returns
    -------
    parts : list of list
        One more than shares.

    Examples
    --------
    >>> from skeeg.datasets.corpus import share_out
    >>> share_out(list("abcdefg"), 0.2, 0.4)
    [['a'], ['b'], ['c', 'd', 'e', 'f', 'g']]
    """
    ends = [0, *(int(len(names) * share + 1e-9) for share in shares), len(names)]
    return [names[start:stop] for start, stop in zip(ends[:-1], ends[1:], strict=True)]
