"""Sensors as plain arrays that can be stored, and back as an `mne.Info`; units; channels that are not what they say."""

import re
import warnings

import numpy as np

UNITS = {"mag": "T", "grad": "T/m"}
_TYPICAL = {"mag": 1e-12, "grad": 1e-11}  # what a head gives, within a factor of a few hundred
_TESLA = {1e3: "millitesla", 1e6: "microtesla", 1e9: "nanotesla", 1e12: "picotesla"}
_OTHER_UNITS = {
    "mag": _TESLA | {1e15: "femtotesla"},
    "grad": {k: f"{v} per metre" for k, v in _TESLA.items()} | {1e13: "femtotesla per centimetre"},
}
_CHANGED_UNIT = 1e4  # standard deviations so many times larger or smaller than at fit are another unit, no other head
_NOT_EEG = re.compile(r"\b(EOG|HEOG|VEOG|ECG|EKG|EMG|MISC|TRIG|STATUS)|(EOG|ECG|EKG|EMG)", re.IGNORECASE)


def describe(info, kind):
    """Sensors of an Info as arrays.

    Parameters
    ----------
    info : mne.Info
        With the sensors.
    kind : {"eeg", "meg", "mag", "grad"}
        Which of them; those marked bad are left out.

    Returns
    -------
    sensors : dict
        ``names``, ``types`` (tuples), ``loc`` (n, 12), ``coil_type`` and ``coord_frame`` (n,), ``dev_head`` (4, 4).

    Examples
    --------
    >>> from skeeg.methods.eeg2meg.sensors import describe
    >>> from skeeg.methods.eeg2meg.simulation import neuromag_info
    >>> describe(neuromag_info(), "mag")["names"][:2]
    ('MEG 0111', 'MEG 0121')
    """
    import mne

    if kind == "eeg":
        picks = eeg_picks(info)
    else:
        picks = mne.pick_types(info, meg={"meg": True}.get(kind, kind), ref_meg=False)
    if not len(picks):
        held = sorted(set(info.get_channel_types())) if len(info["chs"]) else ["nothing"]
        raise ValueError(f"info: no {kind} channel that is not marked bad; the recording holds {', '.join(held)}.")
    channels, transform = [info["chs"][i] for i in picks], info["dev_head_t"]
    return {
        "names": tuple(info["ch_names"][i] for i in picks),
        "types": tuple(mne.channel_type(info, i) for i in picks),
        "loc": np.array([channel["loc"] for channel in channels], dtype=np.float64),
        "coil_type": np.array([int(channel["coil_type"]) for channel in channels]),
        "coord_frame": np.array([int(channel["coord_frame"]) for channel in channels]),
        "dev_head": np.eye(4) if transform is None else np.array(transform["trans"]),
    }


def build_info(*groups, sfreq=1.0):
    """Info of sensors that `describe` gave.

    Parameters
    ----------
    *groups : dict
        Sensors, in this order.
    sfreq : float
        Sampling rate in hertz.

    Returns
    -------
    info : mne.Info
        With places, coils and the place of the head in the helmet.

    Examples
    --------
    >>> from skeeg.methods.eeg2meg.sensors import build_info, describe
    >>> from skeeg.methods.eeg2meg.simulation import neuromag_info
    >>> build_info(describe(neuromag_info(), "grad"))["nchan"]
    204
    """
    import mne

    names = [name for group in groups for name in group["names"]]
    types = [kind for group in groups for kind in group["types"]]
    info = mne.create_info(names, sfreq, types, verbose="error")
    places = (part for group in groups for part in zip(*(group[k] for k in _CHANNEL_FIELDS), strict=True))
    for channel, (loc, coil, frame) in zip(info["chs"], places, strict=True):
        channel["loc"][:] = loc
        channel["coil_type"], channel["coord_frame"] = int(coil), int(frame)
    info["dev_head_t"] = mne.transforms.Transform("meg", "head", groups[-1]["dev_head"])
    return info


_CHANNEL_FIELDS = ("loc", "coil_type", "coord_frame")


def eeg_picks(info):
    """Channels that are EEG: typed so, not bad, not named after another organ, and placed like the others.

    Parameters
    ----------
    info : mne.Info
        Recording.

    Returns
    -------
    picks : ndarray of int
        What is left out although typed EEG is named in a warning.

    Examples
    --------
    >>> import mne
    >>> from skeeg.methods.eeg2meg.sensors import eeg_picks
    >>> eeg_picks(mne.create_info(["Cz", "Pz", "stim"], 100.0, ["eeg", "eeg", "stim"])).tolist()
    [0, 1]
    """
    import mne

    picks = mne.pick_types(info, eeg=True)
    placed = np.array([_has_place(info["chs"][i]) for i in picks], dtype=bool)
    named = np.array([bool(_NOT_EEG.search(info["ch_names"][i])) for i in picks], dtype=bool)
    odd = named | (~placed & bool(placed.any()))
    if odd.any():
        names = ", ".join(info["ch_names"][i] for i in picks[odd])
        warnings.warn(
            f"{names}: typed as EEG, but named or placed like something else; left out. Set their types "
            "(raw.set_channel_types) or places (raw.set_montage) to decide yourself.",
            stacklevel=2,
        )
    return picks[~odd]


def _has_place(channel):
    place = channel["loc"][:3]
    return bool(np.isfinite(place).all() and np.any(place != 0))


def check_places(sensors, what):
    """Raise a ValueError where sensors have no place.

    Parameters
    ----------
    sensors : dict
        As `describe` gives.
    what : str
        What needs the places.
    """
    lost = [n for n, loc in zip(sensors["names"], sensors["loc"], strict=True) if not _has_place({"loc": loc})]
    if lost:
        raise ValueError(
            f"{what} needs the places of the sensors; {', '.join(lost[:5])}{', ...' * (len(lost) > 5)} have none."
        )


def check_si(Y_scale, types):
    """Raise a ValueError where MEG is clearly not in tesla and tesla per metre.

    Parameters
    ----------
    Y_scale : ndarray, shape (n_sensors,)
        Standard deviation of each sensor.
    types : tuple of str
        Type of each sensor.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.methods.eeg2meg.sensors import check_si
    >>> check_si(np.array([2e-13]), ("mag",))
    """
    for kind, typical in _TYPICAL.items():
        mine = Y_scale[np.array(types) == kind]
        if not len(mine) or not np.median(mine) > 0:
            continue
        ratio = np.median(mine) / typical
        if 1e-3 < ratio < 1e3:
            continue
        others = _OTHER_UNITS[kind]
        factor = min(others, key=lambda one: abs(np.log10(ratio / one)))
        hint = f"; {others[factor]}? Divide them by {factor:.0e}" if ratio > 1 else ""
        raise ValueError(
            f"Y: the {kind} channels have a standard deviation of {np.median(mine):.1e}, expected about {typical:.0e} "
            f"{UNITS[kind]} (SI units){hint}."
        )


def check_microvolts(X_scale):
    """Raise a ValueError where EEG is clearly in volts.

    Parameters
    ----------
    X_scale : ndarray, shape (n_channels,)
        Standard deviation of each channel.
    """
    level = np.median(X_scale)
    if 1e-9 < level < 1e-3:
        raise ValueError(
            f"X: the EEG has a standard deviation of {level:.1e}, expected microvolts (about 10); volts? Multiply it "
            "by 1e6, or hand over Epochs or Raw, which are converted."
        )


def check_same_unit(X_scale, fitted_scale):
    """Raise a ValueError where EEG has another unit than at fit.

    Parameters
    ----------
    X_scale, fitted_scale : ndarray, shape (n_channels,)
        Standard deviation of each channel now and at fit.
    """
    known = (X_scale > 0) & (fitted_scale > 0)
    ratio = np.median(X_scale[known] / fitted_scale[known]) if known.any() else 1.0
    if not 1 / _CHANGED_UNIT < ratio < _CHANGED_UNIT:
        raise ValueError(
            f"X: the EEG is {ratio:.0e} times as strong as at fit: another unit? Multiply it by "
            f"{10.0 ** -(3 * round(np.log10(ratio) / 3)):.0e}."
        )


def retype_wakeman_henson(raw):
    """Give the channels of dataset ds000117 that are typed EEG but are none their true types.

    Parameters
    ----------
    raw : mne.io.Raw
        Recording with EEG061 to EEG064; changed in place.

    Returns
    -------
    raw : mne.io.Raw
        The same, with two EOG, one ECG and one unused channel.

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
