"""Imagined and executed movements of PhysioNet's EEG Motor Movement/Imagery Database."""

import re

from ..electrodes import standard_montage
from .base import SkeegDataset, arrange_runs, code_with, data_folder

# Runs by task and by what their annotations T1 and T2 mean.
_RUNS = {
    "execution": {(3, 7, 11): ("left_hand", "right_hand"), (5, 9, 13): ("hands", "feet")},
    "imagery": {(4, 8, 12): ("left_hand", "right_hand"), (6, 10, 14): ("hands", "feet")},
}
_EVENTS = {"left_hand": 2, "right_hand": 3, "feet": 5, "hands": 4, "rest": 1}  # MOABB's numbers
_N_SUBJECTS = 109


class PhysionetMotor(SkeegDataset):
    """Fists and feet, imagined or executed, of PhysioNet's EEG Motor Movement/Imagery Database [1]_, [2]_.

    109 subjects, 64 electrodes at 160 Hz, one session; for each task and each pair of classes three runs of 15 trials.
    Subjects are the same for both tasks, so one task can be trained on and the other decoded.

    Parameters
    ----------
    folder : path or None
        Folder that holds S001, S002, ...; None is ``$SKEEG_DATA/eegmmidb`` where it exists. Otherwise MOABB's
        `PhysionetMI` finds the files, or downloads them when data are read.
    task : {"imagery", "execution"}
        Imagined or real movement.
    classes : tuple of str
        Some of ``left_hand``, ``right_hand``, ``hands`` (both), ``feet`` (both), ``rest``. Runs without any of the
        first four among them are left out.
    runs_as_sessions : bool
        Whether each run becomes a session, so that MOABB's cross-session evaluation leaves one run out. Otherwise there
        is one session.
    subjects, sessions : list or None
        Select some of them; None takes all. Subject 88 was recorded at 128 Hz: resample in the paradigm to combine it
        with others.

    References
    ----------
    .. [1] Schalk, G., McFarland, D. J., Hinterberger, T., Birbaumer, N., & Wolpaw, J. R. (2004). BCI2000: a
       general-purpose brain-computer interface system. IEEE Transactions on Biomedical Engineering, 51(6), 1034-1043.
    .. [2] Goldberger, A. L., et al. (2000). PhysioBank, PhysioToolkit, and PhysioNet. Circulation, 101(23), e215-e220.

    Examples
    --------
    >>> from skeeg.datasets import PhysionetMotor
    >>> PhysionetMotor(task="execution", classes=("hands", "feet")).event_id
    {'hands': 4, 'feet': 5}
    """

    def __init__(
        self,
        folder=None,
        task="imagery",
        classes=("left_hand", "right_hand"),
        runs_as_sessions=False,
        subjects=None,
        sessions=None,
    ):
        if task not in _RUNS:
            raise ValueError(f"task: got {task!r}, expected one of {', '.join(_RUNS)}.")
        unknown = [name for name in classes if name not in _EVENTS]
        if unknown or len(set(classes)) < 2 or set(classes) <= {"rest"}:
            raise ValueError(f"classes: got {classes!r}, expected two or more of {', '.join(_EVENTS)}.")
        self.folder, self.task, self.classes = _find(folder), task, tuple(classes)
        self.runs_as_sessions = runs_as_sessions
        self._runs = {run: pair for runs, pair in _RUNS[task].items() if set(pair) & set(classes) for run in runs}
        shape = {"classes": sorted(classes), "runs_as_sessions": runs_as_sessions}
        super().__init__(
            subjects=self._find_subjects(),
            sessions_per_subject=len(self._runs) if runs_as_sessions else 1,
            events={name: _EVENTS[name] for name in classes},
            code=code_with(
                f"PhysionetMotor-{task}", shape, {"classes": ["left_hand", "right_hand"], "runs_as_sessions": False}
            ),
            interval=[0, 4],
            paradigm="imagery",
            doi="10.1109/TBME.2004.827072",
            selected_subjects=subjects,
            selected_sessions=sessions,
        )

    def _find_subjects(self):
        """Numbers of the subjects in the folder; all published ones where MOABB finds the files."""
        if self.folder is None:
            return list(range(1, _N_SUBJECTS + 1))
        found = sorted(int(path.name[1:]) for path in self.folder.glob("S*") if re.fullmatch(r"S\d{3}", path.name))
        if not found:
            raise ValueError(f"folder: {self.folder} holds no subject; expected folders S001, S002, ...")
        return found

    def _files(self, subject):
        """Files of one subject, in the order of the runs."""
        runs = sorted(self._runs)
        if self.folder is not None:
            return [self.folder / f"S{subject:03d}" / f"S{subject:03d}R{run:02d}.edf" for run in runs]
        from pathlib import Path

        from moabb.datasets import PhysionetMI

        moabb = PhysionetMI(imagined=self.task == "imagery", executed=self.task == "execution")
        paths = {int(Path(path).stem[-2:]): Path(path) for path in moabb.data_path(subject)}
        return [paths[run] for run in runs]

    def _get_single_subject_data(self, subject):
        """Read the recordings of one subject."""
        files = zip(sorted(self._runs), self._files(subject), strict=True)
        return arrange_runs({run: self._read(file, self._runs[run]) for run, file in files}, self.runs_as_sessions)

    def _read(self, file, pair):
        """Read one run, with its annotations turned into classes."""
        import mne

        if not file.is_file():
            raise FileNotFoundError(f"{file}: there is no such file.")
        raw = mne.io.read_raw_edf(file, preload=True, verbose="error")
        mne.datasets.eegbci.standardize(raw)
        raw.set_montage(standard_montage(), verbose="error")
        meaning = {"T0": "rest", "T1": pair[0], "T2": pair[1]}
        return self._mark_trials(raw, meaning, set(meaning.values()) & set(self.classes), file)


def _find(folder):
    """Folder with the recordings, or None if MOABB provides them."""
    path = data_folder(folder, "eegmmidb")
    if folder is not None and not path.is_dir():
        raise FileNotFoundError(f"folder: there is no folder {path}.")
    return path if path is not None and path.is_dir() else None
