"""The sleep staging database of the Haaglanden Medisch Centrum."""

import csv
import re

import numpy as np

from .corpus import Corpus, Preprocessing, cut_windows, open_recording, preprocess, split_fractions

_STAGES = ("W", "N1", "N2", "N3", "R")
_WINDOW, _EPOCH = 15, 30  # seconds


class HMCSleep(Corpus):
    """Five sleep stages of 151 subjects: HMC [1]_, with the split of the Gram paper.

    Each epoch of 30 s that is scored between lights off and lights on gives two windows of 15 s with four electrodes,
    referenced to the mastoids as recorded.

    Parameters
    ----------
    folder : path or None
        Folder that holds ``SN001.edf`` and ``SN001_sleepscoring.txt`` (or ``.edf``), or their folder ``recordings``;
        None is ``$SKEEG_DATA/HMCSleep``. The database is at https://physionet.org/content/hmc-sleep-staging.

    Notes
    -----
    Subjects sorted by name: the first 20 % for validation, the next 20 % for test, the others for training. 200 Hz,
    0.1-75 Hz, notch at 50 Hz.

    References
    ----------
    .. [1] Alvarez-Estevez and Rijsman, Inter-database validation of a deep learning approach for automatic sleep
       scoring, PLoS ONE 16, 2021.

    Examples
    --------
    >>> from skeeg.datasets import HMCSleep
    >>> HMCSleep().preprocessing.ch_names
    ('F4', 'C4', 'O2', 'C3')
    """

    name, source = "HMC", "The database is at https://physionet.org/content/hmc-sleep-staging."
    inner, classes = ("recordings",), _STAGES
    preprocessing = Preprocessing(("F4", "C4", "O2", "C3"), average=False)

    def _find(self, root):
        files = sorted(file for file in root.glob("SN*.edf") if re.fullmatch(r"SN\d+", file.stem))
        return {file.stem: [("0", file)] for file in files}

    def _split(self, subjects):
        valid, test, train = split_fractions(sorted(subjects), 0.2, 0.4)
        return {"train": train, "valid": valid, "test": test}

    def _read(self, file):
        epochs = _read_stages(file)
        data = preprocess(open_recording(file, "read_raw_edf"), file, self.preprocessing, _electrode)
        rate, n_times = self.preprocessing.sfreq, int(_WINDOW * self.preprocessing.sfreq)
        starts = [int(round((onset + half) * rate)) for onset, _ in epochs for half in range(0, _EPOCH, _WINDOW)]
        labels = [stage for _, stage in epochs for _ in range(0, _EPOCH, _WINDOW)]
        keep = [i for i, start in enumerate(starts) if start + n_times <= data.shape[1]]
        return cut_windows(data, [starts[i] for i in keep], n_times), [labels[i] for i in keep]


def _electrode(channel):
    """Name of the electrode: "EEG F4-M1" is F4."""
    return channel.removeprefix("EEG ").split("-")[0]


def _read_stages(file):
    """Onset in seconds and stage of each scored epoch, from the scoring file, text or EDF annotations."""
    text, other = (file.with_name(f"{file.stem}_sleepscoring{suffix}") for suffix in (".txt", ".edf"))
    if text.is_file():
        found = _read_text(text)
    elif other.is_file():
        import mne

        notes = mne.read_annotations(other)
        found = list(zip(notes.onset, notes.duration, notes.description, strict=True))
    else:
        raise FileNotFoundError(f"{text}: no such file, and no {other.name}; the sleep stages are in one of them.")
    start, stop = _night(found)
    stages = [(onset, length, note.strip().removeprefix("Sleep stage ")) for onset, length, note in found]
    stages = [(float(onset), float(length), stage) for onset, length, stage in stages if stage in _STAGES]
    odd = [length for _, length, _ in stages if length != _EPOCH]
    if odd:
        raise ValueError(f"{file.stem}_sleepscoring: an epoch of {odd[0]:g} s, expected {_EPOCH} s.")
    return [(onset, stage) for onset, length, stage in stages if start <= onset and onset + length <= stop]


def _night(found):
    """Seconds from lights off to lights on; the whole recording if the scoring does not give them."""
    marks = [(float(onset), note.strip().lower()) for onset, _, note in found]
    off = [onset for onset, note in marks if note.startswith("lights off")]
    on = [onset for onset, note in marks if note.startswith("lights on")]
    return min(off, default=-np.inf), max(on, default=np.inf)


def _read_text(file):
    """Onset, duration and annotation of each line."""
    with open(file, newline="") as text:
        rows = [[value.strip() for value in row] for row in csv.reader(text) if row]
    wanted = ("Recording onset", "Duration", "Annotation")
    if not rows or any(name not in rows[0] for name in wanted):
        raise ValueError(
            f"{file}: expected a first line with {', '.join(wanted)}, got {rows[0] if rows else 'nothing'}."
        )
    columns = [rows[0].index(name) for name in wanted]
    found = []
    for number, row in enumerate(rows[1:], start=2):
        try:
            onset, length, note = (row[column] for column in columns)
            found.append((float(onset), float(length), note))
        except (IndexError, ValueError) as error:
            raise ValueError(f"{file}, line {number}: cannot be read: {', '.join(row)!r}.") from error
    return found
