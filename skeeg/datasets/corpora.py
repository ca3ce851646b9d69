"""Corpora of labelled windows, with the subject-wise split of the published results: HMC, SEED-V, SHU, TUEV."""

import csv
import dataclasses
import random
import re
from pathlib import Path

import numpy as np
import pandas as pd

from ..array import EEGArray, make_domains
from .base import OLD_NAMES, data_folder
from .readers import read_recording

PARTS = ("train", "valid", "test")


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Preprocessing of the recordings of a corpus: channels, average reference, band-pass, notch and rate in hertz."""

    ch_names: tuple
    average: bool = True
    band: tuple | None = (0.1, 75.0)
    notch: float | None = 50.0
    sfreq: float = 200.0


class Corpus:
    """Base of the corpora: windows labelled by ``classes``, in three parts with disjoint subjects.

    A subclass lists its files (``_find``), in the order of their subjects, and reads one file (``_read``). Continuous
    recordings are referenced, resampled and filtered, in this order, before they are cut into windows.
    """

    name = source = ""
    inner = ()  # subfolders of `folder` that may contain the files
    classes = ()
    order, shares = ("valid", "test", "train"), (0.2, 0.2)  # of the subjects; the last part takes the rest
    preprocessing = Preprocessing(())

    def __init__(self, folder=None):
        self.folder = folder

    def __repr__(self):
        """Name, and the folder if it was given."""
        return f"{type(self).__name__}({'' if self.folder is None else repr(str(self.folder))})"

    def subjects(self, part="train"):
        """Names of the subjects of one part."""
        return list(self._files_of(part))

    def arrays(self, part="train", subjects=None):
        """Read the windows (n_windows, n_channels, n_times) and labels (n_windows,) of one part."""
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
                    blocks.append(EEGArray(windows, self.preprocessing.ch_names, self.preprocessing.sfreq, domains))
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

    def _split(self, subjects):
        """Subjects of each part; numbers are rounded down."""
        ends = [int(len(subjects) * share + 1e-9) for share in np.cumsum(self.shares)]
        starts, stops = [0, *ends], [*ends, None]
        return {part: subjects[i:j] for part, i, j in zip(self.order, starts, stops, strict=True)}

    def _load(self, raw, file):
        """Preprocess a recording; give microvolts (n_channels, n_times)."""
        wanted = self.preprocessing
        channels = {self._electrode(name): name for name in reversed(raw.ch_names)}
        missing = [name for name in wanted.ch_names if name not in channels]
        if missing:
            raise ValueError(f"{file}: electrodes {', '.join(missing)} are missing; it has {', '.join(raw.ch_names)}.")
        raw = raw.copy().pick([channels[name] for name in wanted.ch_names], verbose="error").load_data(verbose="error")
        raw.set_channel_types(dict.fromkeys(raw.ch_names, "eeg"), on_unit_change="ignore", verbose="error")
        if wanted.average:
            raw.apply_function(lambda data: data - data.mean(axis=0), picks="all", channel_wise=False, verbose="error")
        if raw.info["sfreq"] != wanted.sfreq:
            raw.resample(wanted.sfreq, verbose="error")
        if wanted.band is not None:
            raw.filter(*wanted.band, verbose="error")
        if wanted.notch is not None:
            raw.notch_filter(wanted.notch, verbose="error")
        return raw.get_data(verbose="error") * 1e6

    def _electrode(self, channel):
        """Electrode of a channel by its name in the files."""
        return channel.upper()

    def _root(self):
        """Folder with the files."""
        name = type(self).__name__
        folder = data_folder(self.folder, name)
        if folder is None:
            raise ValueError(f"folder=None: set the environment variable SKEEG_DATA to the folder that holds {name}.")
        if not folder.is_dir():
            raise FileNotFoundError(f"folder: there is no folder {folder}. {self.source}")
        return next((folder / name for name in self.inner if (folder / name).is_dir()), folder)


def _cut_windows(data, found, n_times):
    """Windows of `n_times` samples and their labels, from pairs of first sample and label; all lie within the data."""
    found = [(start, label) for start, label in found if start + n_times <= data.shape[1]]
    windows = [data[:, start : start + n_times] for start, _ in found]
    return np.array(windows, dtype=np.float32).reshape(-1, len(data), n_times), [label for _, label in found]


_TUH_NAMES = tuple("FP1 FP2 F3 F4 C3 C4 P3 P4 O1 O2 F7 F8 T7 T8 P7 P8 FZ CZ PZ".split())
_EVENTS = {1: "spsw", 2: "gped", 3: "pled", 4: "eyem", 5: "artf", 6: "bckg"}  # by code
_AROUND = 2.5  # seconds from the middle of an event to either end of its window


class TUHEvents(Corpus):
    """Six kinds of events in clinical recordings: TUEV [1]_, with the split of LaBraM, BIOT and Gram.

    Each event, a second on one electrode, gives a window of 5 s of all 19 electrodes around it, shifted into the
    recording near its ends; an event marked on several electrodes gives as many windows.

    Parameters
    ----------
    folder : path or None
        Folder that holds ``edf/train`` and ``edf/eval``; None is ``$SKEEG_DATA/TUHEvents``. Ask for access at
        https://isip.piconepress.com/projects/tuh_eeg.

    Notes
    -----
    Training: the first 80 % of the official training subjects, in reverse order; validation: the others; test: the
    official evaluation. Average reference, 200 Hz, 0.1-75 Hz, notch at 60 Hz.

    References
    ----------
    .. [1] Harati et al., Improved EEG event classification using differential energy, IEEE SPMB 2015.

    Examples
    --------
    >>> from skeeg.datasets import TUHEvents
    >>> TUHEvents().classes
    ('spsw', 'gped', 'pled', 'eyem', 'artf', 'bckg')
    """

    name, source = "TUEV", "The corpus is at https://isip.piconepress.com/projects/tuh_eeg."
    inner, classes = ("edf",), tuple(_EVENTS.values())
    order, shares = ("train", "valid"), (0.8,)
    preprocessing = Preprocessing(_TUH_NAMES, notch=60.0)

    def _find(self, root):
        found = {}
        for part in ("train", "eval"):
            for file in sorted((root / part).glob("*/*.edf")):
                found.setdefault(f"{part}/{file.parent.name}", []).append(("0", file))
        return found

    def _split(self, subjects):
        training = sorted((one for one in subjects if one.startswith("train/")), reverse=True)
        return super()._split(training) | {"test": [one for one in subjects if one.startswith("eval/")]}

    def _electrode(self, channel):  # "EEG T3-REF" is T7
        name = channel.upper().removeprefix("EEG ").removesuffix("-REF").removesuffix("-LE")
        return OLD_NAMES.get(name, name)

    def _read(self, file):
        data = self._load(read_recording(file)[0], file)
        events = _read_events(file.with_suffix(".rec"))
        rate, n_times = self.preprocessing.sfreq, int(2 * _AROUND * self.preprocessing.sfreq)
        if data.shape[1] < n_times:
            raise ValueError(f"{file}: {data.shape[1] / rate:g} s, shorter than one window of {2 * _AROUND:g} s.")
        last = data.shape[1] - n_times
        found = [(min(max(int(round((middle - _AROUND) * rate)), 0), last), label) for middle, label in events]
        return _cut_windows(data, found, n_times)


def _read_events(file):
    """Middle in seconds and class of each event of a .rec file: channel, start, stop, code."""
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file; each recording needs a .rec file with its events.")
    with open(file, newline="") as text:
        rows = csv.reader(text)
        try:
            return [
                ((float(start) + float(stop)) / 2, _EVENTS[float(code)]) for _, start, stop, code in filter(None, rows)
            ]
        except (ValueError, KeyError) as error:
            wanted = f"expected channel, start, stop and a code from 1 to {len(_EVENTS)}"
            raise ValueError(f"{file}, line {rows.line_num}: {wanted}, got {error}.") from error


_STAGES = ("W", "N1", "N2", "N3", "R")
_SLEEP_WINDOW, _EPOCH = 15, 30  # seconds


class HMCSleep(Corpus):
    """Five sleep stages of 151 subjects: HMC [1]_, with the split of the Gram paper.

    Each epoch of 30 s that is scored between lights off and lights on gives two windows of 15 s with four electrodes,
    referenced to the mastoids as recorded.

    Parameters
    ----------
    folder : path or None
        Folder that holds ``SN001.edf`` and ``SN001_sleepscoring.edf``, or their folder ``recordings``; None is
        ``$SKEEG_DATA/HMCSleep``. The database is at https://physionet.org/content/hmc-sleep-staging.

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

    def _electrode(self, channel):  # "EEG F4-M1" is F4
        return channel.removeprefix("EEG ").split("-")[0]

    def _read(self, file):
        epochs, rate = _read_stages(file), self.preprocessing.sfreq
        data = self._load(read_recording(file)[0], file)
        halves = range(0, _EPOCH, _SLEEP_WINDOW)
        found = [(int(round((onset + half) * rate)), stage) for onset, stage in epochs for half in halves]
        return _cut_windows(data, found, int(_SLEEP_WINDOW * rate))


def _read_stages(file):
    """Onset in seconds and stage of each epoch that is scored between lights off and on."""
    import mne

    scoring = file.with_name(f"{file.stem}_sleepscoring.edf")
    if not scoring.is_file():
        raise FileNotFoundError(f"{scoring}: no such file; the sleep stages are in it.")
    found = mne.read_annotations(scoring)
    onsets, notes = found.onset, pd.Series(found.description).str.strip().str.removeprefix("Sleep stage ")
    start = min(onsets[notes.str.match("lights off", case=False)], default=-np.inf)
    stop = max(onsets[notes.str.match("lights on", case=False)], default=np.inf)
    kept = notes.isin(_STAGES) & (start <= onsets) & (onsets + _EPOCH <= stop)
    return list(zip(onsets[kept], notes[kept], strict=True))


_SEED_NAMES = tuple(
    "FP1 FPZ FP2 AF3 AF4 F7 F5 F3 F1 FZ F2 F4 F6 F8 FT7 FC5 FC3 FC1 FCZ FC2 FC4 FC6 FT8 T7 C5 C3 C1 CZ C2 C4 C6 "
    "T8 TP7 CP5 CP3 CP1 CPZ CP2 CP4 CP6 TP8 P7 P5 P3 P1 PZ P2 P4 P6 P8 PO7 PO5 PO3 POZ PO4 PO6 PO8 CB1 O1 OZ "
    "O2 CB2".split()
)
_CLIP_WINDOW = 4  # seconds


class SeedVEmotions(Corpus):
    """Five emotions of 16 subjects in three sessions: SEED-V [1]_, with the split of the Gram paper.

    Every clip is cut into windows of 4 s, one after the other.

    Parameters
    ----------
    folder : path or None
        Folder that holds the recordings, such as ``1_1_20180804.cnt`` (subject, session, date), or their folder
        ``EEG_raw``; None is ``$SKEEG_DATA/SeedVEmotions``. Ask for access at https://bcmi.sjtu.edu.cn/home/seed.

    Notes
    -----
    Subjects sorted by number: the first 20 % for test, the next 20 % for validation, the others for training. Average
    reference of the 62 electrodes (without mastoids and EOG), 200 Hz, 0.1-75 Hz, notch at 50 Hz.

    References
    ----------
    .. [1] Liu et al. (2022), Comparing recognition performance and robustness of multimodal deep learning models for
       multimodal emotion recognition, IEEE Transactions on Cognitive and Developmental Systems 14.

    Examples
    --------
    >>> from skeeg.datasets import SeedVEmotions
    >>> SeedVEmotions().classes
    ('happy', 'fear', 'neutral', 'sad', 'disgust')
    """

    name, source = "SEED-V", "The corpus is at https://bcmi.sjtu.edu.cn/home/seed."
    inner, classes = ("EEG_raw",), ("happy", "fear", "neutral", "sad", "disgust")
    order = ("test", "valid", "train")
    preprocessing = Preprocessing(_SEED_NAMES)

    def _find(self, root):
        found = {}
        for file in sorted(root.glob("*.cnt")):
            parts = re.fullmatch(r"(\d+)_([123])_.*", file.stem)
            if parts is None:
                raise ValueError(f"{file}: expected a name with subject, session (1 to 3) and date, as 1_1_20180804.")
            found.setdefault(parts[1], []).append((parts[2], file))
        return dict(sorted(found.items(), key=lambda item: int(item[0])))

    def _read(self, file):
        clips, raw = _read_clips(int(file.stem.split("_")[1])), read_recording(file)[0]
        seconds, end = len(raw.times) / raw.info["sfreq"], clips["stop"].iloc[-1]
        if seconds < end:
            raise ValueError(f"{file}: it lasts {seconds:.0f} s, but its last clip ends at {end} s.")
        rate = int(self.preprocessing.sfreq)
        found = [
            (second * rate, clip.emotion)
            for clip in clips.itertuples()
            for second in range(clip.start, min(clip.stop + 1, int(seconds)) - _CLIP_WINDOW + 1, _CLIP_WINDOW)
        ]
        return _cut_windows(self._load(raw, file), found, _CLIP_WINDOW * rate)


def _read_clips(session):
    """First and last second of the fifteen clips of a session, the same for all subjects, and the emotion to induce."""
    clips = pd.read_csv(Path(__file__).with_name("seed_v_clips.csv"))
    return clips[clips["session"] == session]


_SHU_NAMES = tuple(
    "FP1 FP2 FZ F3 F4 F7 F8 FC1 FC2 FC5 FC6 CZ C3 C4 T3 T4 A1 A2 CP1 CP2 CP5 CP6 PZ P3 P4 T5 T6 PO3 PO4 "
    "OZ O1 O2".split()
)
_RATE, _N_TIMES = 250.0, 1000
_HANDS = {1: "left_hand", 2: "right_hand"}


class SHUMotorImagery(Corpus):
    """Left against right hand, imagined by 25 subjects on five days: SHU [1]_, with the split of the Gram paper.

    Trials of 4 s are resampled only, as for the published scores.

    Parameters
    ----------
    folder : path or None
        Folder that holds ``sub-001_ses-01_task_motorimagery_eeg.mat`` and so on, or their folder ``mat``; None is
        ``$SKEEG_DATA/SHUMotorImagery``. The recordings are at https://doi.org/10.6084/m9.figshare.19228725.

    Notes
    -----
    Subjects sorted by name and shuffled by Python's generator with seed 214: 60 % for training, 20 % for test (2, 8,
    15, 18, 22), 20 % for validation. Values are not rescaled; electrodes keep the old names of the files.

    References
    ----------
    .. [1] Ma et al., A large EEG dataset for studying cross-session variability in motor imagery brain-computer
       interface, Scientific Data 9, 2022.

    Examples
    --------
    >>> from skeeg.datasets import SHUMotorImagery
    >>> len(SHUMotorImagery().preprocessing.ch_names)
    32
    """

    name, source = "SHU", "The recordings are at https://doi.org/10.6084/m9.figshare.19228725."
    inner, classes = ("mat",), tuple(_HANDS.values())
    order, shares = ("train", "test", "valid"), (0.6, 0.2)
    preprocessing = Preprocessing(_SHU_NAMES, average=False, band=None, notch=None)

    def _find(self, root):
        found = {}
        for file in sorted(root.glob("sub-*_ses-*_task_motorimagery_eeg.mat")):
            parts = re.match(r"(sub-\d+)_ses-(\d+)_", file.name)
            if parts is not None:
                found.setdefault(parts[1], []).append((parts[2], file))
        return found

    def _split(self, subjects):
        shuffled = sorted(subjects)
        random.Random(214).shuffle(shuffled)
        return super()._split(shuffled)

    def _read(self, file):
        from mne.filter import resample
        from scipy.io import loadmat

        try:
            held = loadmat(file)
            data, labels = held["data"].astype(np.float64), [_HANDS[code] for code in held["labels"].ravel().tolist()]
        except Exception as error:  # whichever error a reader raises, name the file
            raise ValueError(f"{file}: cannot be read: {type(error).__name__} {error}") from error
        if data.shape != (len(labels), len(_SHU_NAMES), _N_TIMES):
            wanted = (len(labels), len(_SHU_NAMES), _N_TIMES)
            raise ValueError(f"{file}: data of shape {data.shape} for {len(labels)} labels, expected {wanted}.")
        data = resample(data, self.preprocessing.sfreq, _RATE, verbose="error")
        return data.astype(np.float32), labels
