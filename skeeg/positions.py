"""Where electrodes sit, by name, as MNE knows it."""

import numpy as np


def standard_montage(name="standard_1005"):
    """Get one of MNE's montages by name."""
    import mne

    known = mne.channels.get_builtin_montages()
    found = next((one for one in (name.replace("standard_", "colin27_"), name) if one in known), None)
    if found is None:
        raise ValueError(f"montage: MNE has no montage {name!r}; it has {', '.join(known)}.")
    return mne.channels.make_standard_montage(found)


def placed_info(ch_names):
    """MNE's description of the electrodes with a standard position, and their indices in the list."""
    import mne

    info = mne.create_info(list(map(str, ch_names)), 1.0, "eeg", verbose="error")
    info.set_montage(standard_montage(), match_case=False, on_missing="ignore", verbose="error")
    kept = [i for i, channel in enumerate(info["chs"]) if np.isfinite(channel["loc"][:3]).all()]
    if len(kept) < 3:
        raise ValueError(f"ch_names: only {len(kept)} of {len(ch_names)} electrodes have a standard position.")
    return mne.pick_info(info, kept), kept
