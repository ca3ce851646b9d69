"""Recordings in a local folder."""

import re
from pathlib import Path

import numpy as np

from ..positions import standard_montage
from .base import SkeegDataset, code_with
from .readers import UNITS, arrange_recordings, class_names, find_recordings, read_recording, scale_to_volts


class LocalDataset(SkeegDataset):
    r"""Recordings in a folder: BIDS, or any .fif, .edf, .bdf, .gdf, .set, .vhdr files, continuous or cut into epochs.

    Subjects are read from the paths: BIDS names, or one folder per subject with a file per run (and folders for
    sessions between them), or one file per subject. The events are the files' annotations, triggers or, for BIDS,
    event tables.

    Parameters
    ----------
    folder : path
        Folder of the recordings.
    classes : dict of str to str, tuple of str, or None
        Class of each event, ``{"769": "left_hand", "770": "right_hand"}`` (the names of MOABB's `LeftRightImagery`); a
        tuple takes events by their own names, None all events of the first file.
    interval : tuple of float or None
        Start and end of a trial around its event, in seconds. None takes the whole epoch, or the duration of the
        events in continuous recordings.
    channels : tuple of str or None
        Channels, which every file must have; None: those of the first file.
    unit : {"V", "mV", "uV"}
        Unit of the data as MNE reads it; other than volts only for files that state no unit.
    notch : tuple of float or None
        Frequencies in hertz to remove, such as line noise.
    pattern : str or None
        Regular expression for other paths, ``r"A(?P<subject>\\d+)(?P<session>[TE])\\.gdf"``; ``run`` is a group too.
    task : str or None
        Task of the BIDS names to read, if there is more than one.
    runs_as_sessions : bool
        Whether each run becomes a session, so that MOABB's cross-session evaluation leaves one run out.
    subjects, sessions : list or None
        Select some of them; None takes all.

    Attributes
    ----------
    subject_names : dict of int to str
        Label of each subject in the paths; a numeric label is the number of the subject.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> from skeeg.datasets import LocalDataset, SimulatedMotorImagery
    >>> folder, simulated = mkdtemp(), SimulatedMotorImagery(n_subjects=1, n_sessions=1, n_trials=4)
    >>> raw = simulated.get_data([1])[1]["0"]["0"].save(f"{folder}/s1_raw.fif", verbose="error")
    >>> dataset = LocalDataset(folder)
    >>> dataset.subject_names, dataset.arrays()[0].shape
    ({1: 's1_raw'}, (4, 22, 512))
    """

    def __init__(
        self,
        folder,
        classes=None,
        interval=None,
        channels=None,
        unit="V",
        notch=None,
        pattern=None,
        task=None,
        runs_as_sessions=False,
        subjects=None,
        sessions=None,
    ):
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise FileNotFoundError(f"folder: there is no folder {self.folder}.")
        if unit not in UNITS:
            raise ValueError(f"unit: got {unit!r}, expected one of {', '.join(UNITS)}.")
        self.notch = None if notch is None else tuple(map(float, notch))
        self.unit, self.runs_as_sessions = unit, runs_as_sessions
        self._bids_root = self.folder if (self.folder / "dataset_description.json").is_file() else None
        paths = find_recordings(self.folder, pattern, task)
        self._recordings, self.subject_names = arrange_recordings(paths, runs_as_sessions)
        self._read_defaults(classes, interval, channels)
        shape = {"folder": str(self.folder.resolve()), "classes": self._class_of, "interval": self._window}
        shape |= {"channels": self.channels, "unit": unit, "notch": self.notch, "pattern": pattern, "task": task}
        shape["runs"] = runs_as_sessions
        readable = re.sub("[^a-z0-9]+", "-", self.folder.resolve().name.lower()).strip("-")
        super().__init__(
            subjects=list(self._recordings),
            sessions_per_subject=min(len(sessions) for sessions in self._recordings.values()),
            events={name: i for i, name in enumerate(dict.fromkeys(self._class_of.values()), start=1)},
            code=code_with(f"LocalDataset-{readable}", shape, None),
            interval=list(self._window),
            paradigm="imagery",
            selected_subjects=subjects,
            selected_sessions=sessions,
        )

    def _read_defaults(self, classes, interval, channels):
        """Take classes, interval and channels that are not given from the first file."""
        first = self._files(next(iter(self._recordings)))[0]
        raw, span = read_recording(first, self._bids_root)
        self._strict = classes is None
        if isinstance(classes, dict):
            self._class_of = {str(event): name for event, name in classes.items()}
        else:
            names = class_names(raw) if classes is None else classes
            self._class_of = {str(name): str(name) for name in names}
        self._check_events(raw, first)
        eeg = [name for name, kind in zip(raw.ch_names, raw.get_channel_types(), strict=True) if kind == "eeg"]
        if channels is None and not eeg:
            raise ValueError(f"{first}: there is no EEG channel among {', '.join(raw.ch_names)}.")
        self.channels = tuple(eeg if channels is None else channels)
        if interval is None:
            shortest = min(event["duration"] for event in raw.annotations if event["description"] in self._class_of)
            if span is None and shortest <= 0:
                raise ValueError(
                    f"interval: the events of {first} have no duration; pass interval=(start, end) in seconds."
                )
            interval = span or (0.0, shortest)
        if not interval[0] < interval[1]:
            raise ValueError(f"interval: got {interval}, expected a start before its end.")
        self._window = tuple(round(float(second), 6) for second in interval)

    def _files(self, subject):
        """Files of one subject."""
        return [file for runs in self._recordings[subject].values() for file in runs.values()]

    def _get_single_subject_data(self, subject):
        """Read the recordings of one subject."""
        return {
            session: {run: self._read(file) for run, file in runs.items()}
            for session, runs in self._recordings[subject].items()
        }

    def _read(self, file):
        """Read one recording: volts, the wanted channels, the wanted events under the names of their classes."""
        raw, _ = read_recording(file, self._bids_root)
        self._check_events(raw, file)
        missing = [name for name in self.channels if name not in raw.ch_names]
        if missing:
            raise ValueError(f"{file}: channels {', '.join(missing)} are missing; it has {', '.join(raw.ch_names)}.")
        raw.load_data(verbose="error").pick(list(self.channels), verbose="error")
        raw.set_channel_types({name: "eeg" for name in raw.ch_names}, on_unit_change="ignore", verbose="error")
        scale_to_volts(raw, self.unit, file)
        if self.notch:
            raw.notch_filter(self.notch, verbose="error")
        if raw.get_montage() is None:
            raw.set_montage(standard_montage(), match_case=False, on_missing="ignore", verbose="error")
        # Keep trials, named by their class, and annotations of bad data.
        names = [str(name) for name in raw.annotations.description]
        keep = [i for i, name in enumerate(names) if name in self._class_of or name.lower().startswith(("bad", "edge"))]
        trials = raw.annotations[keep]
        trials.description = np.array([self._class_of.get(names[i], names[i]) for i in keep])
        return raw.set_annotations(trials)

    def _check_events(self, raw, file):
        """Refuse a file without events, or with unexpected ones."""
        names = class_names(raw)
        if not names:
            raise ValueError(f"{file}: there are no events, neither annotations nor triggers.")
        wanted = set(self._class_of)
        if not wanted & set(names) or (self._strict and wanted != set(names)):
            found, wanted = ", ".join(names), ", ".join(sorted(wanted))
            raise ValueError(f"{file}: its events are {found}, expected {wanted}; see classes= and pattern=.")
