"""Recorded movements, executed and imagined: OpenNeuro ds003810 and PhysioNet's EEG Motor Movement/Imagery Database."""

import re
from pathlib import Path

import numpy as np

from ..positions import standard_montage
from .base import OLD_NAMES, SkeegDataset, code_with, data_folder


class _Movements(SkeegDataset):
    """Runs of a task, each read from one EDF file, in one session or as sessions of their own."""

    def __init__(self, task, tasks, events, code, shape, defaults, doi, runs, subjects, sessions):
        if task not in tasks:
            raise ValueError(f"task: got {task!r}, expected one of {', '.join(tasks)}.")
        self.task, self._runs = task, runs
        super().__init__(
            subjects=self._find_subjects(),
            sessions_per_subject=len(runs) if self.runs_as_sessions else 1,
            events=events,
            code=code_with(
                f"{code}-{task}",
                shape | {"runs_as_sessions": self.runs_as_sessions},
                defaults | {"runs_as_sessions": False},
            ),
            interval=[0, 4],
            paradigm="imagery",
            doi=doi,
            selected_subjects=subjects,
            selected_sessions=sessions,
        )

    def _get_single_subject_data(self, subject):
        """Read the recordings of one subject."""
        raws = {run: self._read(file, run) for run, file in zip(self._runs, self._files(subject), strict=True)}
        if self.runs_as_sessions:
            return {str(run): {"0": raw} for run, raw in raws.items()}
        return {"0": {str(run): raw for run, raw in raws.items()}}

    def _read_edf(self, file):
        """Read one file."""
        import mne

        if not file.is_file():
            raise FileNotFoundError(f"{file}: there is no such file. {self.source}")
        return mne.io.read_raw_edf(file, preload=True, verbose="error")

    def _mark_trials(self, raw, meaning, file):
        """Keep the annotations of trials only, under the names of their classes, and set the montage."""
        import mne

        raw.set_montage(standard_montage(), verbose="error")
        trials = [one for one in raw.annotations if one["description"] in meaning]
        labels = [meaning[one["description"]] for one in trials]
        missing = sorted(set(meaning.values()) & set(self.event_id) - set(labels))
        if missing:
            raise ValueError(f"{file}: no trial of {', '.join(missing)} among its annotations.")
        onsets, origin = [one["onset"] for one in trials], raw.annotations.orig_time
        return raw.set_annotations(mne.Annotations(onsets, self.interval[1], labels, orig_time=origin))


_GRASP_RUNS = {"imagery": (1, 2, 3, 4), "execution": (0,)}
_GRASP_SUBJECTS = (2, 3, 4, 5, 6, 7, 8, 9, 10, 12)
_GRASP_CLASSES = {"OVTK_GDF_Right": "right_hand", "OVTK_GDF_Tongue": "rest"}  # annotations by the software
_GRASP_NOTCH = (31.25, 50.0)


class GraspImagery(_Movements):
    """Grasping with the dominant (right) hand against rest, imagined or executed: OpenNeuro ds003810 [1]_.

    Ten naive subjects, a low-cost amplifier with 15 electrodes at 125 Hz, one session. Imagery: four runs of
    20 + 20 trials (15 + 15 in one run of subject 2). Execution: one run of 5 + 5 trials before them.

    Parameters
    ----------
    folder : path or None
        BIDS folder of the dataset; None is ``$SKEEG_DATA/ds003810``. Nothing is downloaded; the
        dataset is at https://openneuro.org/datasets/ds003810.
    task : {"imagery", "execution"}
        Imagined or real grasping.
    notch : tuple of float or None
        Frequencies in hertz to remove; by default the line's, and an artefact at a quarter of the sampling rate.
    runs_as_sessions, subjects, sessions
        As in `LocalDataset`.

    Notes
    -----
    Corrections: the files state no unit, so that MNE reads microvolts as volts; the annotation "Right" is grasping and
    "Tongue" is rest; electrodes get their current names. The recordings are band-passed from 0.5 to 45 Hz.

    References
    ----------
    .. [1] Peterson, V., Galván, C., Hernández, H., & Spies, R. (2020). A feasibility study of a complete low-cost
       consumer-grade brain-computer interface system. Heliyon, 6(3), e03425.

    Examples
    --------
    >>> from skeeg.datasets import GraspImagery
    >>> GraspImagery(task="execution").event_id
    {'right_hand': 1, 'rest': 2}
    """

    source = "The dataset is at openneuro.org/datasets/ds003810."

    def __init__(
        self, folder=None, task="imagery", notch=_GRASP_NOTCH, runs_as_sessions=False, subjects=None, sessions=None
    ):
        self.folder, self.notch, self.runs_as_sessions = data_folder(folder, "ds003810"), notch, runs_as_sessions
        if folder is not None and not self.folder.is_dir():
            raise FileNotFoundError(f"folder: there is no folder {self.folder}.")
        shape, doi = {"notch": None if notch is None else list(notch)}, "10.1016/j.heliyon.2020.e03425"
        super().__init__(
            task, _GRASP_RUNS, {"right_hand": 1, "rest": 2}, "GraspImagery", shape, {"notch": list(_GRASP_NOTCH)}, doi,
            _GRASP_RUNS.get(task), subjects, sessions,
        )  # fmt: skip

    def _find_subjects(self):
        """Numbers of the subjects in the folder; all published ones if there is no folder."""
        names = [path.name for path in self.folder.glob("sub-*")] if self.folder is not None else []
        return sorted(int(name[4:]) for name in names if re.fullmatch(r"sub-\d+", name)) or list(_GRASP_SUBJECTS)

    def _files(self, subject):
        """Files of one subject."""
        if self.folder is None:
            raise ValueError("folder=None: set the environment variable SKEEG_DATA to the folder that holds ds003810.")
        name = f"sub-{subject:02d}"
        return [self.folder / f"{name}/eeg/{name}_task-MIvsRest_run-{run}_eeg.edf" for run in self._runs]

    def _read(self, file, run):
        """Read one run, with corrected units, labels, channel names and positions."""
        raw = self._read_edf(file)
        if np.median(np.abs(raw.get_data(verbose="error"))) > 1e-3:  # no EEG has a median of a millivolt
            raw.apply_function(lambda values: values * 1e-6, picks="all", verbose="error")
        raw.rename_channels({old: new for old, new in OLD_NAMES.items() if old in raw.ch_names})
        self._mark_trials(raw, _GRASP_CLASSES, file)
        return raw.notch_filter(self.notch, verbose="error") if self.notch else raw


# Runs by task and by what their annotations T1 and T2 mean.
_PHYSIONET_RUNS = {
    "execution": {(3, 7, 11): ("left_hand", "right_hand"), (5, 9, 13): ("hands", "feet")},
    "imagery": {(4, 8, 12): ("left_hand", "right_hand"), (6, 10, 14): ("hands", "feet")},
}
_PHYSIONET_EVENTS = {"left_hand": 2, "right_hand": 3, "feet": 5, "hands": 4, "rest": 1}  # MOABB's numbers
_N_SUBJECTS = 109


class PhysionetMotor(_Movements):
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
    runs_as_sessions, subjects, sessions
        As in `LocalDataset`. Subject 88 was recorded at 128 Hz: resample in the paradigm to combine it
        with others.

    References
    ----------
    .. [1] Schalk et al. (2004). BCI2000: a general-purpose brain-computer interface system. IEEE TBME, 51(6).
    .. [2] Goldberger et al. (2000). PhysioBank, PhysioToolkit, and PhysioNet. Circulation, 101(23), e215-e220.

    Examples
    --------
    >>> from skeeg.datasets import PhysionetMotor
    >>> PhysionetMotor(task="execution", classes=("hands", "feet")).event_id
    {'hands': 4, 'feet': 5}
    """

    source = ""

    def __init__(
        self,
        folder=None,
        task="imagery",
        classes=("left_hand", "right_hand"),
        runs_as_sessions=False,
        subjects=None,
        sessions=None,
    ):
        unknown = [name for name in classes if name not in _PHYSIONET_EVENTS]
        if unknown or len(set(classes)) < 2 or set(classes) <= {"rest"}:
            raise ValueError(f"classes: got {classes!r}, expected two or more of {', '.join(_PHYSIONET_EVENTS)}.")
        path = data_folder(folder, "eegmmidb")
        if folder is not None and not path.is_dir():
            raise FileNotFoundError(f"folder: there is no folder {path}.")
        self.folder = path if path is not None and path.is_dir() else None  # None: MOABB has the files
        self.classes, self.runs_as_sessions = tuple(classes), runs_as_sessions
        runs = _PHYSIONET_RUNS.get(task, {}).items()
        self._pairs = dict(sorted((run, pair) for many, pair in runs if set(pair) & set(classes) for run in many))
        events, shape = {name: _PHYSIONET_EVENTS[name] for name in classes}, {"classes": sorted(classes)}
        defaults, doi = {"classes": ["left_hand", "right_hand"]}, "10.1109/TBME.2004.827072"
        super().__init__(
            task, _PHYSIONET_RUNS, events, "PhysionetMotor", shape, defaults, doi, list(self._pairs), subjects, sessions
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
        if self.folder is not None:
            return [self.folder / f"S{subject:03d}" / f"S{subject:03d}R{run:02d}.edf" for run in self._runs]
        from moabb.datasets import PhysionetMI

        moabb = PhysionetMI(imagined=self.task == "imagery", executed=self.task == "execution")
        paths = {int(Path(path).stem[-2:]): Path(path) for path in moabb.data_path(subject)}
        return [paths[run] for run in self._runs]

    def _read(self, file, run):
        """Read one run, with its annotations turned into classes."""
        import mne

        raw = self._read_edf(file)
        mne.datasets.eegbci.standardize(raw)
        left, right = self._pairs[run]
        return self._mark_trials(raw, {"T0": "rest", "T1": left, "T2": right}, file)
