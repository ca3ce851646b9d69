"""Readers: recordings of any format or origin, found by their paths, as continuous data with annotated trials."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..array import is_epochs

SUFFIXES = (".fif", ".fif.gz", ".edf", ".bdf", ".gdf", ".set", ".vhdr")
"""Files that `LocalDataset` reads."""

_ENTITY = {part: re.compile(rf"(?:^|_){short}-([A-Za-z0-9]+)") for part, short in
           {"subject": "sub", "session": "ses", "task": "task", "run": "run"}.items()}  # fmt: skip
_EXCLUDED = {"derivatives", "sourcedata", "code", "stimuli"}  # BIDS folders without recordings to decode


UNITS = {"V": 1.0, "mV": 1e-3, "uV": 1e-6}
"""Units of a file, in volts."""

_NO_CLASS = ("bad", "edge", "boundary", "new segment")
_GAP = 8  # samples between two concatenated epochs; the middle half is annotated as bad


@dataclass(frozen=True)
class RecordingPath:
    """One recording file, with the labels found in its path; the task is that of a BIDS name."""

    file: Path
    subject: str
    session: str
    run: str
    task: str = ""


def find_recordings(folder, pattern=None, task=None):
    """List the recordings in a folder, sorted by subject, session and run."""
    found = [
        path for path in sorted(folder.rglob("*")) if path.name.lower().endswith(SUFFIXES) and _is_wanted(path, folder)
    ]
    if not found:
        raise ValueError(f"folder: {folder} holds no recording ({', '.join(SUFFIXES)}).")
    recordings = [_by_pattern(path, folder, pattern) if pattern else _by_path(path, folder) for path in found]
    recordings = [recording for recording in recordings if recording is not None]
    if not recordings:
        raise ValueError(f"pattern: {pattern!r} matches no file, for one not {found[0].relative_to(folder)}.")
    tasks = sorted({recording.task for recording in recordings})
    if task is not None:
        recordings = [recording for recording in recordings if recording.task == task]
        if not recordings:
            known = ", ".join(filter(None, tasks)) or "none"
            raise ValueError(f"task: no file is of task {task!r}; there are {known}.")
    elif len(tasks) > 1:
        raise ValueError(f"task: {folder} holds more than one task; choose one of {', '.join(filter(None, tasks))}.")
    return sorted(recordings, key=lambda one: tuple(map(_natural, (one.subject, one.session, one.run))))


def number_labels(labels):
    """Names that MOABB accepts for sessions and runs: a number, then letters and digits.

    The name of a label is its number where all labels are different numbers, else its rank and the label.
    """
    labels = sorted(set(labels), key=_natural)
    if all(label.isdigit() for label in labels) and len({int(label) for label in labels}) == len(labels):
        return {label: str(int(label)) for label in labels}
    clean = {label: re.sub("[^A-Za-z0-9]", "", label) for label in labels}
    return {label: f"{i}{'x' if clean[label][:1].isdigit() else ''}{clean[label]}" for i, label in enumerate(labels)}


def arrange_recordings(paths, runs_as_sessions=False):
    """Files by subject, session and run, under names that MOABB accepts; and each subject's label by its number."""
    names = number_labels(recording.subject for recording in paths)
    numeric = all(name.isdigit() for name in names.values())
    recordings, subjects = {}, {}
    for rank, (label, name) in enumerate(names.items(), start=1):
        number = int(name) if numeric else rank
        own = [recording for recording in paths if recording.subject == label]
        sessions, runs = [recording.session or "0" for recording in own], [recording.run or "0" for recording in own]
        if runs_as_sessions:
            sessions, runs = [str(i) for i in range(len(own))], ["0"] * len(own)
        elif len(set(zip(sessions, runs, strict=True))) < len(own):  # labels are not unique
            runs = [str(i) for i in range(len(own))]
        session_names, run_names = number_labels(sessions), number_labels(runs)
        subjects[number], recordings[number] = label, {}
        for recording, session, run in zip(own, sessions, runs, strict=True):
            recordings[number].setdefault(session_names[session], {})[run_names[run]] = recording.file
    return recordings, subjects


def _is_wanted(path, folder):
    """Whether a file is a recording and not a continuation file, hidden, or in an excluded folder."""
    parts = path.relative_to(folder).parts
    if any(part.startswith(".") or part in _EXCLUDED for part in parts):
        return False
    first_part = re.sub(r"-\d+(\.fif(\.gz)?)$", r"\1", path.name)  # MNE splits big files: name.fif, name-1.fif, ...
    return first_part == path.name or not path.with_name(first_part).exists()


def _by_pattern(path, folder, pattern):
    """Subject, session and run by the pattern of the user, None where it does not match."""
    match = re.search(pattern, path.relative_to(folder).as_posix())
    groups = match.groupdict("") if match else {}
    if match and "subject" not in groups:
        raise ValueError(f"pattern: {pattern!r} has no group (?P<subject>...).")
    return RecordingPath(path, groups["subject"], groups.get("session", ""), groups.get("run", "")) if match else None


def _by_path(path, folder):
    """Subject, session and run by the BIDS name or the folders."""
    entities = {part: (found := rule.search(path.name)) and found.group(1) or "" for part, rule in _ENTITY.items()}
    if entities["subject"]:
        return RecordingPath(path, entities["subject"], entities["session"], entities["run"], entities["task"])
    stem, folders = path.name.split(".")[0], path.relative_to(folder).parts[:-1]
    if not folders:
        return RecordingPath(path, stem, "", "")
    return RecordingPath(path, folders[0], "_".join(folders[1:]), stem)


def _natural(label):
    """Key that sorts 2 before 10, and 01 before 1."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", label) if part], label


def read_recording(file, bids_root=None):
    """Read a continuous recording, or epochs as one."""
    import mne

    try:
        found = _read(file, bids_root)
    except Exception as error:  # whichever error a reader raises, name the file
        raise ValueError(f"{file}: cannot be read: {error}") from error
    is_cut = isinstance(found, mne.BaseEpochs)
    raw, span = (join_epochs(found), (found.tmin, found.tmax)) if is_cut else (found, None)
    triggers = mne.pick_types(raw.info, meg=False, stim=True)
    if len(triggers):
        if not class_names(raw):  # annotations named by the numbers of the triggers
            events = mne.find_events(raw, shortest_event=1, verbose="error")
            names, start = {number: str(number) for number in np.unique(events[:, 2])}, raw.annotations.orig_time
            at = raw.info["sfreq"], names, raw.first_samp, start
            raw.set_annotations(raw.annotations + mne.annotations_from_events(events, *at, verbose="error"))
        raw.drop_channels([raw.ch_names[i] for i in triggers])
    return raw, span


def class_names(raw):
    """Sorted descriptions of annotations that can be classes, without those that mark bad or missing data."""
    return sorted({str(name) for name in raw.annotations.description if is_class(name)})


def is_class(name):
    """Whether an annotation can be a class and does not mark bad or missing data."""
    return not name.lower().startswith(_NO_CLASS)


def scale_to_volts(raw, unit, file):
    """Scale the EEG of a file that states no unit; refuse what cannot be in volts."""
    if unit != "V":
        raw.apply_function(lambda values: values * UNITS[unit], picks="eeg", verbose="error")
    spread = np.median(raw.get_data(picks="eeg", verbose="error").std(axis=1))
    if spread > 2e-3:
        text = f"{file}: its EEG has a standard deviation of {spread:.3g} V, expected less than 0.002 V"
        raise ValueError(f"{text}; if the file states no unit or a wrong one, pass unit='uV'.")
    return raw


def _read(file, bids_root):
    """Read epochs where the file holds them, else a continuous recording."""
    import mne

    if file.name.lower().endswith((".fif", ".fif.gz")) and mne.what(file) == "epochs":
        return mne.read_epochs(file, verbose="error")
    try:
        if bids_root is None:
            return mne.io.read_raw(file, verbose="error")
        import mne_bids

        path = mne_bids.get_bids_path_from_fname(file, check=False)
        return mne_bids.read_raw_bids(path.update(root=bids_root), verbose="error")
    except TypeError:
        if not file.name.lower().endswith(".set"):
            raise
        return mne.io.read_epochs_eeglab(file, verbose="error")  # MNE's reader of raw .set refuses epochs


def join_epochs(epochs):
    """Concatenate epochs to a continuous recording, with a short annotated gap between two of them."""
    import mne

    data, rate = epochs.get_data(copy=True), epochs.info["sfreq"]
    n, _, length = data.shape
    ends = np.concatenate([data[1:, :, :1], data[-1:, :, -1:]])
    blend = np.clip(np.linspace(-0.5, 1.5, _GAP), 0, 1)  # flat in the unmarked margins, which filters see
    bridges = data[:, :, -1:] * (1 - blend) + ends * blend
    joined = np.concatenate([data, bridges], axis=2).transpose(1, 0, 2).reshape(data.shape[1], -1)
    raw = mne.io.RawArray(joined, epochs.info.copy(), verbose="error")
    starts = np.arange(n) * (length + _GAP) / rate
    names = {number: name for name, number in epochs.event_id.items()}
    trials = mne.Annotations(starts - epochs.tmin, 0, [names[number] for number in epochs.events[:, 2]])
    skips = mne.Annotations(starts + (length + _GAP / 4) / rate, _GAP / 2 / rate, "BAD_ACQ_SKIP")
    return raw.set_annotations(trials + skips)


@dataclass(frozen=True)
class RecordingSource:
    """One recording that can be read."""

    origin: str
    subject: str
    session: str
    run: str
    read: object
    stamp: str = ""

    @property
    def key(self):
        """Name in a store, the same for the same recording."""
        identity = [self.origin, self.subject, self.session, self.run, self.stamp]
        return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]


def list_recordings(source, subject="", session="", run="", unit="V"):
    """List the recordings of a source, without reading their data where possible."""
    import mne

    if unit not in UNITS:
        raise ValueError(f"unit: got {unit!r}, expected one of {', '.join(UNITS)}.")
    domain = str(subject), str(session), str(run)
    if isinstance(source, list | tuple):
        for one in source:
            yield from list_recordings(one, *domain, unit)
    elif isinstance(source, str | Path):
        yield from _of_path(Path(source), domain, unit)
    elif hasattr(source, "subject_list"):  # of MOABB: sessions and runs are known once a subject is read
        for subject in source.subject_list:
            for session, runs in source.get_data([subject])[subject].items():
                for run, raw in runs.items():
                    yield RecordingSource(source.code, f"{source.code}/{subject}", session, run, lambda raw=raw: raw)
    elif is_epochs(source) or isinstance(source, mne.io.BaseRaw):
        yield _of_object(source, domain)
    else:
        kinds = "a MOABB dataset, a folder, a file, mne.io.Raw, mne.Epochs, or a list of such"
        raise TypeError(f"source: got {type(source).__name__}, expected {kinds}.")


def _of_path(path, domain, unit):
    """List the recordings of a folder, or one file."""
    if path.is_dir():
        root = path if (path / "dataset_description.json").is_file() else None
        for found in find_recordings(path):
            name = str(found.file.relative_to(path))
            names = f"{path.name}/{found.subject}", found.session, "_".join(filter(None, (found.task, found.run)))
            yield _source_of(f"{path.name}/{name}", names, found.file, root, unit)
    elif path.is_file():
        yield _source_of(path.name, domain, path, None, unit)
    else:
        raise FileNotFoundError(f"source: there is no file or folder {path} (recordings are {', '.join(SUFFIXES)}).")


def _of_object(source, domain):
    """One MNE object, identified by a checksum of its data."""
    raw = join_epochs(source) if is_epochs(source) else source.copy().load_data(verbose="error")
    files = [] if is_epochs(source) else [file for file in source.filenames if file is not None]
    name = str(files[0] if files else type(source).__name__)
    return RecordingSource(name, *domain, lambda: raw, hashlib.sha256(raw.get_data().tobytes()).hexdigest())


def _source_of(origin, names, file, root, unit):
    """Give a source that reads one file."""

    def read():
        return scale_to_volts(read_recording(file, root)[0].load_data(verbose="error"), unit, file)

    found = file.stat()
    return RecordingSource(origin, *names, read, f"{found.st_size}-{found.st_mtime_ns}")
