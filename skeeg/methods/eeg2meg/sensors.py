"""Sensors and recordings: as arrays and as MNE's objects, units and types."""

import re

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ...array import EEGArray, make_domains
from ...base import warn

_TYPICAL = {"mag": 1e-12, "grad": 1e-11}  # what a head gives, within a factor of a few hundred
_CHANGED_UNIT = 1e4  # standard deviations so many times larger or smaller than at fit are another unit, no other head
_NOT_EEG = re.compile(r"\b(EOG|HEOG|VEOG|ECG|EKG|EMG|MISC|TRIG|STATUS)|(EOG|ECG|EKG|EMG)", re.IGNORECASE)


def describe(info, kind):
    """Sensors of an `mne.Info` as arrays; those marked bad are left out."""
    import mne

    if kind == "eeg":
        picks = eeg_picks(info)
    else:
        picks = mne.pick_types(info, meg={"meg": True}.get(kind, kind), ref_meg=False)
    if not len(picks):
        held = ", ".join(sorted(set(info.get_channel_types())))
        raise ValueError(f"info: no {kind} channel that is not marked bad; the recording holds: {held}.")
    info = mne.pick_info(info, picks)
    return {
        "names": tuple(info["ch_names"]),
        "types": tuple(info.get_channel_types()),
        "loc": np.array([channel["loc"] for channel in info["chs"]], dtype=np.float64),
        "coil_type": np.array([int(channel["coil_type"]) for channel in info["chs"]]),
        "coord_frame": np.array([int(channel["coord_frame"]) for channel in info["chs"]]),
        "dev_head": np.eye(4) if info["dev_head_t"] is None else np.array(info["dev_head_t"]["trans"]),
    }


def build_info(*groups, sfreq=1.0):
    """Info of sensors that `describe` gave, with their positions, coils and the head position."""
    import mne

    fields = ("names", "types", "loc", "coil_type", "coord_frame")
    names, types, *places = ([one for group in groups for one in group[field]] for field in fields)
    info = mne.create_info(names, sfreq, types, verbose="error")
    for channel, loc, coil, frame in zip(info["chs"], *places, strict=True):
        channel["loc"][:] = loc
        channel["coil_type"], channel["coord_frame"] = int(coil), int(frame)
    info["dev_head_t"] = mne.transforms.Transform("meg", "head", groups[-1]["dev_head"])
    return info


def eeg_picks(info):
    """Channels that are EEG: by type, not bad, not named after another signal, with a position if others have one.

    A warning names the channels of type EEG that are left out.
    """
    import mne

    picks = mne.pick_types(info, eeg=True)
    placed = np.array([_has_place(info["chs"][i]["loc"]) for i in picks], dtype=bool)
    named = np.array([bool(_NOT_EEG.search(info["ch_names"][i])) for i in picks], dtype=bool)
    odd = named | (~placed & bool(placed.any()))
    if odd.any():
        names = ", ".join(info["ch_names"][i] for i in picks[odd])
        warn(
            f"{names}: typed as EEG, but its name or position is not that of an electrode; left out. Set their types "
            "(raw.set_channel_types) or positions (raw.set_montage) to keep them."
        )
    return picks[~odd]


def _has_place(loc):
    return bool(np.isfinite(loc[:3]).all() and np.any(loc[:3] != 0))


def name_sensors(geometries, types, n_eeg, n_meg):
    """Names and types of MEG sensors: of geometries of matching size, or numbered, with the given types or "meg"."""
    names = None
    for one in geometries:
        for what, n in (("eeg", n_eeg), ("meg", n_meg)):
            if len(one[what]["names"]) != n:
                raise ValueError(f"geometry: {len(one[what]['names'])} {what} sensors, but the data have {n}.")
        types, names = one["meg"]["types"], one["meg"]["names"]
    if types is not None and len(types) != n_meg:
        raise ValueError(f"meg_types: got {len(types)} types for {n_meg} sensors.")
    names = tuple(f"MEG {i + 1:03d}" for i in range(n_meg)) if names is None else names
    return names, ("meg",) * n_meg if types is None else tuple(types)


def check_places(sensors, what):
    """Raise a ValueError that names what needs positions where sensors have none."""
    lost = [n for n, loc in zip(sensors["names"], sensors["loc"], strict=True) if not _has_place(loc)]
    if lost:
        raise ValueError(f"{what} needs the positions of the sensors; {', '.join(lost[:5])} have none.")


def check_units(eeg_scale, meg_scale, types):
    """Refuse EEG that is clearly in volts, and MEG that is clearly not in tesla and tesla per metre, by deviations."""
    if 1e-9 < (level := np.median(eeg_scale)) < 1e-3:
        raise ValueError(f"X: the EEG deviates by {level:.1e}, expected microvolts; in volts? Multiply it by 1e6.")
    for kind, typical in _TYPICAL.items():
        own = meg_scale[np.array(types) == kind]
        level = np.median(own) if len(own) else 0.0
        if level and not 1e-3 < level / typical < 1e3:
            raise ValueError(
                f"Y: {kind} channels deviate by {level:.1e}, expected about {typical:.0e}: magnetometers are in tesla, "
                "gradiometers in tesla per metre."
            )


def check_same_unit(X_scale, fitted_scale):
    """Raise a ValueError where standard deviations of EEG are of another unit than at fit."""
    known = (X_scale > 0) & (fitted_scale > 0)
    ratio = np.median(X_scale[known] / fitted_scale[known]) if known.any() else 1.0
    if not 1 / _CHANGED_UNIT < ratio < _CHANGED_UNIT:
        raise ValueError(f"X: {ratio:.0e} times as strong as at fit; expected microvolts, as there.")


# Recordings


class GeometryUnknownError(ValueError, AttributeError):
    """The sensors are unknown: a wrong call of a method, and an attribute that does not exist."""


class RecordingMethods:
    """Mixin of an estimator that predicts MEG: fit and predict with MNE's objects."""

    def fit_recordings(self, recordings, subjects=None):
        """Learn from recordings that hold EEG and MEG.

        Parameters
        ----------
        recordings : mne.io.Raw, mne.Epochs, or list of them
            Each is a run. Continuous ones are cut into windows of ``window`` seconds, without those that overlap an
            annotation called bad.
        subjects : sequence of str, length n_recordings, or None
            Subject of each.
        """
        X, Y, geometry = read_recordings(recordings, subjects, self.meg, self.window)
        return self.fit(X, Y, geometry=geometry)

    @property
    def _fitted_kind(self):
        """MEG sensors of the recordings at fit, as `describe` names them."""
        types = set(self._first_geometry("meg")["types"])
        return types.pop() if len(types) == 1 else "meg"

    @property
    def info_eeg_(self):
        """Sensors of the EEG at fit."""
        return build_info(self._first_geometry("eeg"), sfreq=self.sfreq_in_ or 1.0)

    @property
    def info_meg_(self):
        """Sensors of predictions."""
        return build_info(self._first_geometry("meg"), sfreq=self.sfreq_in_ or 1.0)

    def _first_geometry(self, kind):
        check_is_fitted(self)
        if not self.geometries_:
            raise GeometryUnknownError("geometry: not known; fit with fit_recordings or fit(..., geometry=info).")
        return self.geometries_[0][kind]

    def predict_recording(self, recording):
        """Predict the MEG of the EEG of an `mne.io.Raw`, `mne.Epochs` or `mne.Evoked`, as an object of the same kind.

        Times, annotations, events, metadata and comment are kept. Continuous recordings are predicted in windows of the
        length at fit, which overlap by half and are cross-faded. Networks are not linear: the MEG of an average is not
        the average MEG.
        """
        import mne

        X, geometry, info = self._read(recording)
        if isinstance(recording, mne.io.BaseRaw):
            signals = predict_overlapping(lambda x: self.predict(x, geometry), X, min(self.n_times_in_, X.shape[2]))
            out = mne.io.RawArray(signals, info, first_samp=recording.first_samp, verbose="error")
            out.set_meas_date(recording.info["meas_date"])
            return out.set_annotations(recording.annotations, verbose="error")
        signals, common = self.predict(X, geometry), {"baseline": None, "verbose": "error"}
        if isinstance(recording, mne.Evoked):
            kept = {"comment": recording.comment, "nave": recording.nave, "kind": recording.kind}
            return mne.EvokedArray(signals[0], info, tmin=recording.times[0], **kept, **common)
        events = recording.events, recording.tmin, recording.event_id
        return mne.EpochsArray(signals, info, *events, metadata=recording.metadata, **common)

    def _read(self, recording):
        """EEG of a recording, its geometry for `predict`, and the Info of predictions."""
        check_is_fitted(self)
        if self.codes_.has_bands:
            raise ValueError("model: 'wavelet_unet' predicts envelopes, not MEG signals; use predict.")
        if not self._is_signal:
            raise ValueError("y: fit has seen one value a trial; signals need targets (n_trials, n_meg, n_times).")
        X, rate = read_eeg(recording, None if self._any_montage else self.ch_names_in_), recording.info["sfreq"]
        meg, geometry = self._first_geometry("meg"), None
        if self.codes_.takes_geometry:
            if set(recording.get_channel_types()) & {"mag", "grad"}:
                meg = describe(recording.info, self._fitted_kind)
            geometry = build_info(describe(recording.info, "eeg"), meg, sfreq=rate)
        return X, geometry, build_info(meg, sfreq=rate)


def read_recordings(recordings, subjects, kind, window):
    """EEG (n_trials, n_channels, n_times), MEG and geometry of several recordings of the same sensors."""
    recordings = recordings if isinstance(recordings, list | tuple) else [recordings]
    if not len(recordings):
        raise ValueError("recordings: at least one is needed, got 0.")
    if subjects is not None and len(subjects) != len(recordings):
        raise ValueError(f"subjects: got {len(subjects)} for {len(recordings)} recordings.")
    parts, geometry, first = [], [], None
    for run, one in enumerate(recordings):
        names = [describe(one.info, what)["names"] for what in ("eeg", kind)]
        rate = one.info["sfreq"]
        first = (names, rate) if first is None else first
        if (names, rate) != first:
            raise ValueError(f"recordings: number {run} has other channels or another rate than the first.")
        X, Y = (read_trials(one, list(part), window) for part in names)
        if not len(X):
            raise ValueError(f"recordings: number {run} has no good window.")
        domains = make_domains(len(X), subject="" if subjects is None else subjects[run], run=run)
        parts.append((EEGArray(X * 1e6, names[0], rate, domains), Y))
        geometry += [one.info] * len(X)
    X, Y = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    return X, Y, geometry


def read_trials(recording, names, window):
    """Channels of epochs, or of the good windows of a continuous recording, (n_trials, n_channels, n_times)."""
    import mne

    if not isinstance(recording, mne.io.BaseRaw):
        return recording.get_data(picks=names)
    n_times, rate = max(1, round(window * recording.info["sfreq"])), recording.info["sfreq"]
    if n_times > recording.n_times:
        raise ValueError(f"window: {window} s, but the recording lasts {recording.times[-1]:.2f} s.")
    epochs = mne.make_fixed_length_epochs(recording, n_times / rate, proj=False, verbose="error")
    return epochs.get_data(picks=names, verbose="error")


def read_eeg(recording, ch_names):
    """EEG of a recording as trials in microvolts; of these channels, or of all where None."""
    names = describe(recording.info, "eeg")["names"]
    if ch_names is not None:
        missing = [name for name in ch_names if name not in names]
        if missing:
            raise ValueError(f"recording: no EEG channel {', '.join(missing[:5])}, which fit has seen.")
        names = ch_names
    data = recording.get_data(picks=list(names)) * 1e6
    return EEGArray(data if data.ndim == 3 else data[None], names, recording.info["sfreq"])


def predict_overlapping(predict, X, n_times):
    """Predict one long trial in windows that overlap by half and are cross-faded, shape (n_outputs, n_times of X)."""
    length = X.shape[2]
    starts = np.unique(np.append(np.arange(0, length - n_times, max(1, n_times // 2)), length - n_times))
    fade = np.minimum(np.arange(1, n_times + 1), np.arange(n_times, 0, -1)).astype(float)
    total, weight = 0.0, np.zeros(length)
    for chunk in np.array_split(starts, -(-len(starts) // 64)):
        windows = np.stack([np.asarray(X[0, :, start : start + n_times]) for start in chunk])
        signals = predict(EEGArray(windows, X.ch_names, X.sfreq))
        total = np.zeros((signals.shape[1], length)) if weight[0] == 0 else total
        for start, signal in zip(chunk, signals, strict=True):
            total[:, start : start + n_times] += fade * signal
            weight[start : start + n_times] += fade
    return total / weight


def retype_wakeman_henson(raw):
    """Give channels EEG061 to EEG064 of dataset ds000117, typed EEG, their true types, in place: EOG, EOG, ECG, unused.

    Examples
    --------
    >>> import mne, numpy as np
    >>> from skeeg.methods.eeg2meg import retype_wakeman_henson
    >>> names = ["EEG060", "EEG061", "EEG062", "EEG063", "EEG064"]
    >>> raw = mne.io.RawArray(np.zeros((5, 10)), mne.create_info(names, 100.0, "eeg"), verbose="error")
    >>> retype_wakeman_henson(raw).get_channel_types()
    ['eeg', 'eog', 'eog', 'ecg', 'misc']
    """
    kinds = {"EEG061": "eog", "EEG062": "eog", "EEG063": "ecg", "EEG064": "misc"}
    present = {name: kind for name, kind in kinds.items() if name in raw.ch_names}
    return raw.set_channel_types(present, on_unit_change="ignore", verbose="error")
