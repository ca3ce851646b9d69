"""Imagined and executed grasping, OpenNeuro ds003810."""

import re

import numpy as np

from ..electrodes import standard_montage
from .base import SkeegDataset, arrange_runs, code_with, data_folder

_TASKS = {"imagery": (1, 2, 3, 4), "execution": (0,)}
_PUBLISHED = (2, 3, 4, 5, 6, 7, 8, 9, 10, 12)
_CLASSES = {
    "OVTK_GDF_Right": "right_hand",
    "OVTK_GDF_Tongue": "rest",
}  # names by the software
_NEW_NAMES = {"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8"}


class GraspImagery(SkeegDataset):
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
        Frequencies in hertz to remove. By default the line frequency and an artefact of some recordings at a quarter of
        the sampling rate.
    runs_as_sessions : bool
        Whether each run becomes a session, so that MOABB's cross-session evaluation leaves one run out. Otherwise there
        is one session.
    subjects, sessions : list or None
        Select some of them; None takes all.

    Notes
    -----
    Corrections: the files state no unit, so that MNE reads microvolts as volts; the annotation "Right" is grasping and
    "Tongue" is rest; electrodes get their current names (T3 is T7, T4 is T8,
    T5 is P7, T6 is P8). The recordings were band-passed from 0.5 to 45 Hz when they were made.

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

    def __init__(
        self,
        folder=None,
        task="imagery",
        notch=(31.25, 50.0),
        runs_as_sessions=False,
        subjects=None,
        sessions=None,
    ):
        if task not in _TASKS:
            raise ValueError(f"task: got {task!r}, expected one of {', '.join(_TASKS)}.")
        self.folder, self.task, self.notch = data_folder(folder, "ds003810"), task, notch
        self.runs_as_sessions = runs_as_sessions
        if folder is not None and not self.folder.is_dir():
            raise FileNotFoundError(f"folder: there is no folder {self.folder}.")
        shape = {"notch": None if notch is None else list(notch), "runs_as_sessions": runs_as_sessions}
        super().__init__(
            subjects=self._find_subjects(),
            sessions_per_subject=len(_TASKS[task]) if runs_as_sessions else 1,
            events={"right_hand": 1, "rest": 2},
            code=code_with(f"GraspImagery-{task}", shape, {"notch": [31.25, 50.0], "runs_as_sessions": False}),
            interval=[0, 4],
            paradigm="imagery",
            doi="10.1016/j.heliyon.2020.e03425",
            selected_subjects=subjects,
            selected_sessions=sessions,
        )

    def _find_subjects(self):
        """Numbers of the subjects in the folder; all published ones if there is no folder."""
        names = [path.name for path in self.folder.glob("sub-*")] if self.folder is not None else []
        return sorted(int(name[4:]) for name in names if re.fullmatch(r"sub-\d+", name)) or list(_PUBLISHED)

    def _files(self, subject):
        """Files of one subject."""
        if self.folder is None:
            raise ValueError("folder: not given, and the environment variable SKEEG_DATA is not set either.")
        name = f"sub-{subject:02d}"
        stem = f"{name}/eeg/{name}_task-MIvsRest_run-"
        return [self.folder / f"{stem}{run}_eeg.edf" for run in _TASKS[self.task]]

    def _get_single_subject_data(self, subject):
        """Read the recordings of one subject."""
        raws = {run: self._read(file) for run, file in zip(_TASKS[self.task], self._files(subject), strict=True)}
        return arrange_runs(raws, self.runs_as_sessions)

    def _read(self, file):
        """Read one run, with corrected units, labels, channel names and positions."""
        import mne

        if not file.is_file():
            raise FileNotFoundError(
                f"{file}: there is no such file. The dataset is at openneuro.org/datasets/ds003810."
            )
        raw = mne.io.read_raw_edf(file, preload=True, verbose="error")
        if np.median(np.abs(raw.get_data(verbose="error"))) > 1e-3:  # no EEG has a median of a millivolt
            raw.apply_function(lambda values: values * 1e-6, picks="all", verbose="error")
        raw.rename_channels({old: new for old, new in _NEW_NAMES.items() if old in raw.ch_names})
        raw.set_montage(standard_montage(), verbose="error")
        self._mark_trials(raw, _CLASSES, self.event_id, file)
        if self.notch:
            raw.notch_filter(self.notch, verbose="error")
        return raw
