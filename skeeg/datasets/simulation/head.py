"""Spherical head model: electrode positions and the leadfield of dipoles.

All positions are directions from the centre of the head: a unit vector (x to the right, y to the nose, z up) times the
fraction of the radius. The potentials come from MNE's three-layer sphere (brain, skull, scalp).
"""

from functools import lru_cache

import numpy as np

from ...positions import standard_montage

RADIUS = 0.095
"""Radius of the head in metres."""


@lru_cache(maxsize=16)
def montage_directions(montage="standard_1005"):
    """Give the unit vector of every electrode of one of MNE's montages, seen from the centre of the head."""
    import mne

    digitised = standard_montage(montage)
    info = mne.create_info(digitised.ch_names, 100.0, "eeg", verbose="error")
    info.set_montage(digitised, verbose="error")
    _, centre, _ = mne.bem.fit_sphere_to_headshape(info, dig_kinds="eeg", units="m", verbose="error")
    positions = np.array([channel["loc"][:3] for channel in info["chs"]]) - centre
    positions /= np.linalg.norm(positions, axis=1, keepdims=True)
    positions.setflags(write=False)
    return dict(zip(digitised.ch_names, positions, strict=True))


def electrode_directions(ch_names, montage="standard_1005"):
    """Give the unit vectors (n_channels, 3) of the named electrodes, any case.

    Examples
    --------
    >>> from skeeg.datasets.simulation.head import electrode_directions
    >>> electrode_directions(["C4", "Oz"])[:, 1].round(1).tolist()
    [0.1, -1.0]
    """
    known = {name.upper(): position for name, position in montage_directions(montage).items()}
    missing = [name for name in ch_names if name.upper() not in known]
    if missing:
        raise ValueError(f"ch_names: montage {montage!r} has no electrode {', '.join(missing)}.")
    return np.array([known[name.upper()] for name in ch_names])


def leadfield(electrodes, positions, moments):
    """Potentials of current dipoles at the electrodes.

    Shapes: ``electrodes`` (n_channels, 3), ``positions`` (n_sources, 3), ``moments`` (n_sources, 3); gives
    (n_channels, n_sources).

    Notes
    -----
    The potential of a dipole in three concentric shells, by MNE's approximation with a few equivalent dipoles [1]_.

    References
    ----------
    .. [1] Berg, P., & Scherg, M. (1994). A fast method for forward computation of multiple-shell spherical head
       models. Electroencephalography and Clinical Neurophysiology, 90(1), 58-64.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.datasets.simulation.head import electrode_directions, leadfield
    >>> C3, C4 = electrode_directions(["C3", "C4"])
    >>> gain = leadfield(np.array([C3, C4]), 0.8 * C3[None], C3[None])
    >>> bool(gain[0, 0] > 10 * abs(gain[1, 0]))
    True
    """
    import mne

    names = [f"E{i}" for i in range(len(electrodes))]
    info = mne.create_info(names, 100.0, "eeg", verbose="error")
    # A DigMontage in the head frame is used as it is; without fiducials MNE would only warn.
    montage = mne.channels.make_dig_montage(dict(zip(names, RADIUS * electrodes, strict=True)), coord_frame="head")
    info.set_montage(montage, verbose="error")
    ones = np.ones(len(positions))
    dipoles = mne.Dipole(0 * ones, RADIUS * positions, ones, moments, ones, verbose="error")
    forward, _ = mne.make_forward_dipole(dipoles, _sphere(), info, verbose="error")
    return forward["sol"]["data"] * 1e-9 * 1e6


@lru_cache(maxsize=1)
def _sphere():
    """MNE's three-layer sphere around the origin."""
    import mne

    return mne.make_sphere_model((0.0, 0.0, 0.0), RADIUS, verbose="error")
