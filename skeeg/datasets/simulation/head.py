"""Spherical head model: electrode positions and the leadfield of dipoles.

All positions are directions from the centre of the head: a unit vector (x to the right, y to the nose, z up) times the
fraction of the radius. The potentials come from MNE's three-layer sphere (brain, skull, scalp).
"""

from functools import cache

import numpy as np

from ...positions import standard_montage

RADIUS = 0.095
"""Radius of the head in metres."""
_GRID = ("Fp1", "Fp2", "F7", "F3", "Fz", "F4", "F8", "FC5", "FC1", "FC2", "FC6", "T7", "C3", "Cz", "C4", "T8", "CP5",
         "CP1", "CP2", "CP6", "P7", "P3", "Pz", "P4", "P8", "PO3", "PO4", "O1", "Oz", "O2", "FC3", "FC4", "CP3",
         "CP4", "C1", "C2", "C5", "C6", "FCz", "CPz")  # fmt: skip


@cache
def standard_directions():
    """Give the unit vector of every electrode of MNE's standard montage, seen from the centre of the head."""
    import mne

    digitised = standard_montage()
    info = mne.create_info(digitised.ch_names, 100.0, "eeg", verbose="error")
    info.set_montage(digitised, verbose="error")
    _, centre, _ = mne.bem.fit_sphere_to_headshape(info, dig_kinds="eeg", units="m", verbose="error")
    positions = np.array([channel["loc"][:3] for channel in info["chs"]]) - centre
    positions /= np.linalg.norm(positions, axis=1, keepdims=True)
    positions.setflags(write=False)
    return dict(zip(digitised.ch_names, positions, strict=True))


def electrode_directions(ch_names):
    """Give the unit vectors (n_channels, 3) of the named electrodes, any case."""
    known = {name.upper(): position for name, position in standard_directions().items()}
    missing = [name for name in ch_names if name.upper() not in known]
    if missing:
        raise ValueError(f"ch_names: MNE's standard montage has no electrode {', '.join(missing)}.")
    return np.array([known[name.upper()] for name in ch_names])


def leadfield(electrodes, positions, moments):
    """Potentials of current dipoles at the electrodes.

    Shapes: ``electrodes`` (n_channels, 3), ``positions`` (n_sources, 3), ``moments`` (n_sources, 3); gives
    (n_channels, n_sources).

    References
    ----------
    .. [1] Berg, P., & Scherg, M. (1994). A fast method for forward computation of multiple-shell spherical head
       models. Electroencephalography and Clinical Neurophysiology, 90(1), 58-64.
    """
    info = electrode_info([f"E{i}" for i in range(len(electrodes))], electrodes)
    (gains,) = dipole_gains([info], RADIUS * positions, moments)
    return gains * 1e-9 * 1e6


def electrode_info(ch_names, electrodes):
    """Info of electrodes in these directions (n_channels, 3), at one hertz."""
    import mne

    info = mne.create_info(list(ch_names), 1.0, "eeg", verbose="error")
    # A DigMontage in the head frame is used as it is; without fiducials MNE would only warn.
    places = dict(zip(ch_names, RADIUS * electrodes, strict=True))
    info.set_montage(mne.channels.make_dig_montage(places, coord_frame="head"), verbose="error")
    return info


def dipole_gains(infos, positions, moments, centre=(0.0, 0.0, 0.0), radius=RADIUS):
    """Signals (n_sensors, n_dipoles), in SI units, at the sensors of each Info of dipoles of 1 Am in a spherical head.

    They have single precision, as MNE computes them.

    Shapes: ``positions`` in metres and ``moments`` (n_dipoles, 3).
    """
    import mne

    ones = np.ones(len(positions))
    dipoles = mne.Dipole(0 * ones, positions, ones, moments, ones, verbose="error")
    sphere = mne.make_sphere_model(centre, radius, verbose="error")
    forwards = (mne.make_forward_dipole(dipoles, sphere, info, verbose="error")[0] for info in infos)
    return [forward["sol"]["data"] for forward in forwards]


def random_directions(rng, n, lowest=-0.3):
    """Directions over the upper part of the head, shape (n, 3)."""
    up = rng.uniform(lowest, 1.0, n)
    round_ = rng.uniform(0, 2 * np.pi, n)
    wide = np.sqrt(1 - up**2)
    return np.column_stack([wide * np.cos(round_), wide * np.sin(round_), up])


def grid_potentials(positions, moments):
    """Potentials at forty electrodes: the amplitude of a source is defined independently of the montage."""
    return leadfield(electrode_directions(_GRID), positions, moments)
