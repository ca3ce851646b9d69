"""Corpora of labelled windows, with the subject-wise split of the published results: HMC, SEED-V, SHU, TUEV."""

import csv
import dataclasses
import random
import re

import numpy as np

from ..array import EEGArray, make_domains
from .base import OLD_NAMES, data_folder

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

    def _root(self):
        """Folder with the files."""
        name = type(self).__name__
        folder = data_folder(self.folder, name)
        if folder is None:
            raise ValueError(f"folder=None: set the environment variable SKEEG_DATA to the folder that holds {name}.")
        if not folder.is_dir():
            raise FileNotFoundError(f"folder: there is no folder {folder}. {self.source}")
        return next((folder / name for name in self.inner if (folder / name).is_dir()), folder)


def _preprocess(raw, file, preprocessing, rename):
    """Preprocess a recording; give microvolts (n_channels, n_times). `rename` maps channel names to electrodes."""
    channels = {rename(name): name for name in reversed(raw.ch_names)}
    missing = [name for name in preprocessing.ch_names if name not in channels]
    if missing:
        raise ValueError(f"{file}: electrodes {', '.join(missing)} are missing; it has {', '.join(raw.ch_names)}.")
    raw = raw.copy().pick([channels[name] for name in preprocessing.ch_names], verbose="error")
    raw.load_data(verbose="error")
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


def _cut_windows(data, starts, n_times):
    """Cut windows of `n_times` samples out of a recording, from the given first samples on."""
    windows = [data[:, start : start + n_times] for start in starts]
    return np.array(windows, dtype=np.float32).reshape(-1, len(data), n_times)


def _open_recording(file):
    """Open a recording; an error names the file."""
    import mne

    try:
        return mne.io.read_raw(file, verbose="error")
    except Exception as error:  # whichever error a reader raises, name the file
        raise ValueError(f"{file}: cannot be read: {error}") from error


def _split_fractions(names, *fractions):
    """Split a list by cumulative fractions, rounded down; the last part takes the rest."""
    ends = [0, *(int(len(names) * fraction + 1e-9) for fraction in fractions), len(names)]
    return [names[start:stop] for start, stop in zip(ends[:-1], ends[1:], strict=True)]


_TUH_NAMES = tuple("FP1 FP2 F3 F4 C3 C4 P3 P4 O1 O2 F7 F8 T7 T8 P7 P8 FZ CZ PZ".split())
_EVENTS = ("spsw", "gped", "pled", "eyem", "artf", "bckg")  # codes 1 to 6
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
    inner, classes = ("edf",), _EVENTS
    preprocessing = Preprocessing(_TUH_NAMES, notch=60.0)

    def _find(self, root):
        found = {}
        for part in ("train", "eval"):
            for file in sorted((root / part).glob("*/*.edf")):
                found.setdefault(f"{part}/{file.parent.name}", []).append(("0", file))
        return found

    def _split(self, subjects):
        training = sorted((one for one in subjects if one.startswith("train/")), reverse=True)
        train, valid = _split_fractions(training, 0.8)
        return {"train": train, "valid": valid, "test": [one for one in subjects if one.startswith("eval/")]}

    def _read(self, file):
        def rename(channel):  # "EEG T3-REF" is T7
            name = channel.upper().removeprefix("EEG ").removesuffix("-REF").removesuffix("-LE")
            return OLD_NAMES.get(name, name)

        raw = _open_recording(file)
        data = _preprocess(raw, file, self.preprocessing, rename)
        events = _read_events(file.with_suffix(".rec"))
        rate, n_times = self.preprocessing.sfreq, int(2 * _AROUND * self.preprocessing.sfreq)
        if data.shape[1] < n_times:
            raise ValueError(f"{file}: {data.shape[1] / rate:g} s, shorter than one window of {2 * _AROUND:g} s.")
        last = data.shape[1] - n_times
        starts = [min(max(int(round((middle - _AROUND) * rate)), 0), last) for middle, _ in events]
        return _cut_windows(data, starts, n_times), [label for _, label in events]


def _read_events(file):
    """Middle in seconds and class of each event of a .rec file: channel, start, stop, code."""
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file; each recording needs a .rec file with its events.")
    events = []
    with open(file, newline="") as text:
        for number, row in enumerate(csv.reader(text), start=1):
            if not row:
                continue
            try:
                _, start, stop, code = (float(value) for value in row)
                if code < 1:
                    raise IndexError
                events.append(((start + stop) / 2, _EVENTS[int(code) - 1]))
            except (ValueError, IndexError) as error:
                expected = f"expected channel, start, stop and a code from 1 to 6, got {','.join(row)!r}"
                raise ValueError(f"{file}, line {number}: {expected}.") from error
    return events


_STAGES = ("W", "N1", "N2", "N3", "R")
_SLEEP_WINDOW, _EPOCH = 15, 30  # seconds


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
        valid, test, train = _split_fractions(sorted(subjects), 0.2, 0.4)
        return {"train": train, "valid": valid, "test": test}

    def _read(self, file):
        def rename(channel):  # "EEG F4-M1" is F4
            return channel.removeprefix("EEG ").split("-")[0]

        epochs = _read_stages(file)
        data = _preprocess(_open_recording(file), file, self.preprocessing, rename)
        rate, n_times = self.preprocessing.sfreq, int(_SLEEP_WINDOW * self.preprocessing.sfreq)
        starts = [int(round((onset + half) * rate)) for onset, _ in epochs for half in range(0, _EPOCH, _SLEEP_WINDOW)]
        labels = [stage for _, stage in epochs for _ in range(0, _EPOCH, _SLEEP_WINDOW)]
        keep = [i for i, start in enumerate(starts) if start + n_times <= data.shape[1]]
        return _cut_windows(data, [starts[i] for i in keep], n_times), [labels[i] for i in keep]


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
    marks = [(float(onset), note.strip().lower()) for onset, _, note in found]  # the night, if the scoring tells
    start = min((onset for onset, note in marks if note.startswith("lights off")), default=-np.inf)
    stop = max((onset for onset, note in marks if note.startswith("lights on")), default=np.inf)
    stages = [(onset, length, note.strip().removeprefix("Sleep stage ")) for onset, length, note in found]
    stages = [(float(onset), float(length), stage) for onset, length, stage in stages if stage in _STAGES]
    odd = [length for _, length, _ in stages if length != _EPOCH]
    if odd:
        raise ValueError(f"{file.stem}_sleepscoring: an epoch of {odd[0]:g} s, expected {_EPOCH} s.")
    return [(onset, stage) for onset, length, stage in stages if start <= onset and onset + length <= stop]


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


_SEED_NAMES = tuple(
    "FP1 FPZ FP2 AF3 AF4 F7 F5 F3 F1 FZ F2 F4 F6 F8 FT7 FC5 FC3 FC1 FCZ FC2 FC4 FC6 FT8 T7 C5 C3 C1 CZ C2 C4 C6 "
    "T8 TP7 CP5 CP3 CP1 CPZ CP2 CP4 CP6 TP8 P7 P5 P3 P1 PZ P2 P4 P6 P8 PO7 PO5 PO3 POZ PO4 PO6 PO8 CB1 O1 OZ "
    "O2 CB2".split()
)
# First and last second of the fifteen clips of each session, and the emotion to induce: Happiness, Fear,
# Neutral, Sadness, Disgust. The same for all subjects (notes of the corpus).
_CLIPS = {
    "1": (
        "30 132 287 555 773 982 1271 1628 1730 2025 2227 2435 2667 2932 3204",
        "102 228 524 742 920 1240 1568 1697 1994 2166 2401 2607 2901 3172 3359",
        "HFNSDHFNSDHFNSD",
    ),
    "2": (
        "30 299 548 646 836 1000 1091 1392 1657 1809 1966 2186 2333 2490 2741",
        "267 488 614 773 967 1059 1331 1622 1777 1908 2153 2302 2428 2709 2817",
        "SFNDHHDNSFNHFSD",
    ),
    "3": (
        "30 353 478 674 825 908 1200 1346 1451 1711 2055 2307 2457 2726 2888",
        "321 418 643 764 877 1147 1284 1418 1679 1996 2275 2425 2664 2857 3066",
        "SFNDHHDNSFNHFSD",
    ),
}
_EMOTIONS = {"H": "happy", "F": "fear", "N": "neutral", "S": "sad", "D": "disgust"}
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
    inner, classes = ("EEG_raw",), tuple(_EMOTIONS.values())
    preprocessing = Preprocessing(_SEED_NAMES)

    def _find(self, root):
        found = {}
        for file in sorted(root.glob("*.cnt")):
            parts = re.fullmatch(r"(\d+)_(\d+)_.*", file.stem)
            if parts is None or parts[2] not in _CLIPS:
                raise ValueError(f"{file}: expected a name with subject, session (1 to 3) and date, as 1_1_20180804.")
            found.setdefault(parts[1], []).append((parts[2], file))
        return dict(sorted(found.items(), key=lambda item: int(item[0])))

    def _split(self, subjects):
        test, valid, train = _split_fractions(subjects, 0.2, 0.4)
        return {"train": train, "valid": valid, "test": test}

    def _read(self, file):
        starts, stops, labels = _CLIPS[file.stem.split("_")[1]]
        raw = _open_recording(file)
        clips = list(zip(map(int, starts.split()), map(int, stops.split()), labels, strict=True))
        seconds = len(raw.times) / raw.info["sfreq"]
        if seconds < clips[-1][1]:
            raise ValueError(f"{file}: it lasts {seconds:.0f} s, but its last clip ends at {clips[-1][1]} s.")
        data = _preprocess(raw, file, self.preprocessing, str.upper)
        rate = int(self.preprocessing.sfreq)
        found = [
            (second * rate, _EMOTIONS[label])
            for start, stop, label in clips
            for second in range(start, min(stop + 1, int(seconds)) - _CLIP_WINDOW + 1, _CLIP_WINDOW)  # inclusive end
        ]
        return _cut_windows(data, [start for start, _ in found], _CLIP_WINDOW * rate), [label for _, label in found]


_SHU_NAMES = tuple(
    "FP1 FP2 FZ F3 F4 F7 F8 FC1 FC2 FC5 FC6 CZ C3 C4 T3 T4 A1 A2 CP1 CP2 CP5 CP6 PZ P3 P4 T5 T6 PO3 PO4 "
    "OZ O1 O2".split()
)
_RATE, _N_TIMES = 250.0, 1000
_HANDS = ("left_hand", "right_hand")  # codes 1 and 2


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
    inner, classes = ("mat",), _HANDS
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
        train, test, valid = _split_fractions(shuffled, 0.6, 0.8)
        return {"train": train, "valid": valid, "test": test}

    def _read(self, file):
        from mne.filter import resample
        from scipy.io import loadmat

        try:
            held = loadmat(file)
        except Exception as error:  # whichever error a reader raises, name the file
            raise ValueError(f"{file}: cannot be read: {error}") from error
        missing = [name for name in ("data", "labels") if name not in held]
        if missing:
            raise ValueError(f"{file}: the variable {' and '.join(missing)} is missing.")
        data, codes = np.asarray(held["data"], dtype=np.float64), np.ravel(held["labels"])
        if data.ndim != 3 or data.shape[1:] != (len(_SHU_NAMES), _N_TIMES) or len(data) != len(codes):
            wanted = (len(codes), len(_SHU_NAMES), _N_TIMES)
            raise ValueError(f"{file}: data of shape {data.shape} for {len(codes)} labels, expected {wanted}.")
        odd = sorted(set(codes.tolist()) - {1, 2})
        if odd:
            raise ValueError(f"{file}: a label {odd[0]}, expected 1 (left hand) or 2 (right hand).")
        data = resample(data, self.preprocessing.sfreq, _RATE, verbose="error")
        return data.astype(np.float32), [_HANDS[int(code) - 1] for code in codes]
