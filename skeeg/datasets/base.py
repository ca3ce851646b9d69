"""What the datasets of this package share."""

import hashlib
import json
import os
from pathlib import Path

from moabb.datasets.base import BaseDataset

from .arrays import load_arrays


class SkeegDataset(BaseDataset):
    """A MOABB dataset that also gives plain arrays."""

    def arrays(self, fmin=None, fmax=None, tmin=0.0, tmax=None, resample=None, subjects=None, classes=None):
        """Read the trials as arrays; see `skeeg.datasets.load_arrays`.

        Parameters
        ----------
        fmin, fmax : float or None
            Edges of a band-pass in hertz.
        tmin, tmax : float or None
            Seconds from the start of the dataset's interval.
        resample : float or None
            Sampling rate in hertz.
        subjects : list or None
            Some of ``subject_list``.
        classes : sequence of str or None
            Some of ``event_id``.

        Returns
        -------
        X : EEGArray, shape (n_trials, n_channels, n_times)
            Microvolts.
        y : ndarray of str, shape (n_trials,)
            Class of each trial.
        """
        return load_arrays(self, fmin, fmax, tmin, tmax, resample, subjects, classes)

    def data_path(self, subject, path=None, force_update=False, update_path=None, verbose=None):
        """List the files of one subject; nothing is ever downloaded here.

        Parameters
        ----------
        subject : int
            One of ``subject_list``.
        path, force_update, update_path, verbose
            Not used; MOABB's interface has them.

        Returns
        -------
        paths : list of str
            Files on this machine.
        """
        return [str(path) for path in self._files(subject)]

    def _files(self, subject):
        """Files of one subject."""
        return []

    def _mark_trials(self, raw, meaning, wanted, file):
        """Leave only the trials among a recording's annotations, by the name of their class."""
        import mne

        told = [one for one in raw.annotations if one["description"] in meaning]
        labels = [meaning[one["description"]] for one in told]
        missing = sorted(set(wanted) - set(labels))
        if missing:
            raise ValueError(f"{file}: no trial of {', '.join(missing)} among its annotations.")
        onsets, origin = [one["onset"] for one in told], raw.annotations.orig_time
        return raw.set_annotations(mne.Annotations(onsets, self.interval[1], labels, orig_time=origin))


def code_with(name, options, defaults):
    """Name for a dataset in MOABB's results, which are kept by this name alone.

    Parameters
    ----------
    name : str
        Readable part.
    options, defaults : dict
        What shapes the data, and its default.

    Returns
    -------
    code : str
        The name, followed by a digest of the options where they are not the default.

    Examples
    --------
    >>> from skeeg.datasets.base import code_with
    >>> code_with("Some", {"seed": 0}, {"seed": 0}), len(code_with("Some", {"seed": 1}, {"seed": 0}))
    ('Some', 13)
    """
    if options == defaults:
        return name
    text = json.dumps(options, sort_keys=True, default=str)
    return f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def data_folder(folder, name):
    """Where a published dataset lies.

    Parameters
    ----------
    folder : path or None
        What the user said.
    name : str
        Name of the dataset's folder under the environment variable ``SKEEG_DATA``.

    Returns
    -------
    folder : Path or None
        The folder; None where neither the user nor the environment says one.
    """
    if folder is not None:
        return Path(folder)
    return Path(os.environ["SKEEG_DATA"]) / name if os.environ.get("SKEEG_DATA") else None


def arrange(raws, runs_as_sessions):
    """Sort the runs of one visit into MOABB's layout.

    Parameters
    ----------
    raws : dict of int to mne.io.Raw
        Recordings by number of the run.
    runs_as_sessions : bool
        Whether each run becomes a session of its own.

    Returns
    -------
    sessions : dict of str to dict of str to mne.io.Raw
        Runs by session.
    """
    if runs_as_sessions:
        return {str(number): {"0": raw} for number, raw in raws.items()}
    return {"0": {str(number): raw for number, raw in raws.items()}}
