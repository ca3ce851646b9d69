"""Subject, session and run of a recording, from its path."""

import re
from dataclasses import dataclass
from pathlib import Path

SUFFIXES = (".fif", ".fif.gz", ".edf", ".bdf", ".gdf", ".set", ".vhdr")
"""Files that `LocalDataset` reads."""

_ENTITY = {part: re.compile(rf"(?:^|_){short}-([A-Za-z0-9]+)") for part, short in
           {"subject": "sub", "session": "ses", "task": "task", "run": "run"}.items()}  # fmt: skip
_EXCLUDED = {"derivatives", "sourcedata", "code", "stimuli"}  # BIDS folders without recordings to decode


@dataclass(frozen=True)
class RecordingPath:
    """One recording file.

    Attributes
    ----------
    file : Path
        Path of the file.
    subject, session, run : str
        Labels found in the path.
    task : str
        Task of a BIDS name, empty elsewhere.
    """

    file: Path
    subject: str
    session: str
    run: str
    task: str = ""


def find_recordings(folder, pattern=None, task=None):
    """List the recordings in a folder.

    Parameters
    ----------
    folder : Path
        BIDS dataset, or any folder.
    pattern : str or None
        Regular expression with the named group ``subject`` and, if there are any, ``session`` and ``run``, searched in
        each file's path relative to the folder; files it does not match are left out. By default BIDS names are read
        (``sub-01_ses-02_task-grasp_run-3_eeg.edf``); other files take subject and session from the names of their
        folders; files directly in the folder are one subject each.
    task : str or None
        Task of the BIDS names to read.

    Returns
    -------
    recordings : list of RecordingPath
        Sorted by subject, session and run.
    """
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
            raise ValueError(
                f"task: no file is of task {task!r}; there are {', '.join(filter(None, tasks)) or 'none'}."
            )
    elif len(tasks) > 1:
        raise ValueError(f"task: {folder} holds more than one task; choose one of {', '.join(filter(None, tasks))}.")
    return sorted(recordings, key=lambda one: tuple(map(_natural, (one.subject, one.session, one.run))))


def number_labels(labels):
    """Names that MOABB accepts for sessions and runs: a number, then letters and digits.

    Parameters
    ----------
    labels : iterable of str
        Labels found in the paths.

    Returns
    -------
    names : dict of str to str
        Name of each label: its number where all labels are different numbers, else its rank and the label.

    Examples
    --------
    >>> from skeeg.datasets.paths import number_labels
    >>> number_labels(["02", "01"]), number_labels(["T", "E"])
    ({'01': '1', '02': '2'}, {'E': '0E', 'T': '1T'})
    """
    labels = sorted(set(labels), key=_natural)
    if all(label.isdigit() for label in labels) and len({int(label) for label in labels}) == len(labels):
        return {label: str(int(label)) for label in labels}
    clean = {label: re.sub("[^A-Za-z0-9]", "", label) for label in labels}
    return {label: f"{i}{'x' if clean[label][:1].isdigit() else ''}{clean[label]}" for i, label in enumerate(labels)}


def arrange_recordings(paths, runs_as_sessions=False):
    """Arrange recordings in MOABB's layout, under names that MOABB accepts.

    Parameters
    ----------
    paths : list of RecordingPath
        Recordings.
    runs_as_sessions : bool
        Whether each recording becomes a session, numbered in order.

    Returns
    -------
    recordings : dict of int to dict of str to dict of str to Path
        Files by subject, session and run.
    subjects : dict of int to str
        Label of each subject.
    """
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
