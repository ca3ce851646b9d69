"""Recordings of any format as continuous data whose trials are annotations."""

import numpy as np

UNITS = {"V": 1.0, "mV": 1e-3, "uV": 1e-6}
"""What a file's numbers can mean, in volts."""

_NO_CLASS = ("bad", "edge", "boundary", "new segment")
_GAP = 8  # samples between two epochs put one after the other; the middle half is marked as no data


def read_recording(file, bids_root=None):
    """Read a recording, or epochs put one after the other.

    Parameters
    ----------
    file : Path
        Any format MNE reads by its name; ``.fif`` and ``.set`` may hold epochs.
    bids_root : Path or None
        Root of the BIDS dataset that the file belongs to, whose event and channel tables are then read too.

    Returns
    -------
    raw : mne.io.Raw
        Volts, if the file says its unit. Trials are annotations; without annotations those of the trigger channel,
        named by their numbers. There is no trigger channel left.
    span : tuple of float or None
        First and last second of the epochs around their events, None for a continuous recording.
    """
    import mne

    try:
        found = _read(file, bids_root)
    except Exception as error:  # whatever a reader trips over, the user needs to know in which file
        raise ValueError(f"{file}: cannot be read: {error}") from error
    is_cut = isinstance(found, mne.BaseEpochs)
    raw, span = (join_epochs(found), (found.tmin, found.tmax)) if is_cut else (found, None)
    triggers = mne.pick_types(raw.info, meg=False, stim=True)
    if len(triggers):
        if not class_names(raw):
            _annotate_triggers(raw)
        raw.drop_channels([raw.ch_names[i] for i in triggers])
    return raw, span


def class_names(raw):
    """Descriptions of a recording's annotations that can be classes.

    Parameters
    ----------
    raw : mne.io.Raw
        Recording.

    Returns
    -------
    names : list of str
        Sorted, without those that mark bad or missing data.
    """
    return sorted({str(name) for name in raw.annotations.description if is_class(name)})


def is_class(name):
    """Whether an annotation can be a class, and does not mark bad or missing data.

    Parameters
    ----------
    name : str
        Description of the annotation.

    Returns
    -------
    is_class : bool
        Whether it can.

    Examples
    --------
    >>> from skeeg.datasets.reading import is_class
    >>> is_class("left"), is_class("BAD_ACQ_SKIP"), is_class("New Segment/")
    (True, False, False)
    """
    return not name.lower().startswith(_NO_CLASS)


def check_microvolts(raw, file):
    """Refuse numbers that are no volts.

    Parameters
    ----------
    raw : mne.io.Raw
        Recording.
    file : Path
        For the error.
    """
    spread = np.median(raw.get_data(picks="eeg", verbose="error").std(axis=1))
    if spread > 2e-3:
        raise ValueError(
            f"{file}: its EEG varies by {spread:.3g} V, a thousand times too much. The file does not say its unit, or "
            "says it wrongly: try unit='uV'."
        )


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
    """One continuous recording of epochs, with a short bridge between two of them that no filter crosses.

    Parameters
    ----------
    epochs : mne.Epochs
        Epochs.

    Returns
    -------
    raw : mne.io.RawArray
        Volts; the epochs' events are annotations, and so is what lies between epochs (``BAD_ACQ_SKIP``).
    """
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


def _annotate_triggers(raw):
    """Turn the events of the trigger channel into annotations named by their numbers."""
    import mne

    events = mne.find_events(raw, shortest_event=1, verbose="error")
    names = {number: str(number) for number in np.unique(events[:, 2])}
    found = mne.annotations_from_events(
        events, raw.info["sfreq"], names, raw.first_samp, orig_time=raw.annotations.orig_time, verbose="error"
    )
    raw.set_annotations(raw.annotations + found)
