"""Where electrodes sit, by name, as MNE knows it."""


def standard_montage(name="standard_1005"):
    """Get one of MNE's montages by name."""
    import mne

    known = mne.channels.get_builtin_montages()
    found = next((one for one in (name.replace("standard_", "colin27_"), name) if one in known), None)
    if found is None:
        raise ValueError(f"montage: MNE has no montage {name!r}; it has {', '.join(known)}.")
    return mne.channels.make_standard_montage(found)
