"""Forward models of EEG and MEG: leadfields, minimum norm, harmonics, multipole moments, geometries of sensors."""

import math

import numpy as np
from scipy.special import lpmv

from ...datasets.simulation.head import dipole_gains
from .sensors import build_info, check_places, describe

_SHELLS = ((0.45, 40), (0.6, 80), (0.75, 140), (0.87, 220))  # fractions of the head's radius, and places on each


def head_sphere(eeg):
    """Centre (3,) and radius in metres of the sphere through four or more electrodes that are not in one plane."""
    check_places(eeg, "The sphere of the head")
    places = eeg["loc"][:, :3]
    # |p|^2 = 2 p c + (r^2 - |c|^2) is linear in the centre c and the last term
    system = np.column_stack([2 * places, np.ones(len(places))])
    solution, _, rank, _ = np.linalg.lstsq(system, (places**2).sum(axis=1), rcond=1e-6)
    if rank < 4:
        raise ValueError(f"eeg: a sphere needs four electrodes that lie in no plane, got {len(places)}.")
    return solution[:3], float(np.sqrt(solution[3] + solution[:3] @ solution[:3]))


def leadfields(eeg, meg):
    """EEG (n_eeg, n_dipoles), in volts against the average, and MEG of unit dipoles throughout a spherical head."""
    check_places(meg, "The field of a dipole")
    centre, radius = head_sphere(eeg)
    places = np.vstack([fraction * radius * sphere_points(n) for fraction, n in _SHELLS]) + centre
    places, moments = np.repeat(places, 3, axis=0), np.tile(np.eye(3), (len(places), 1))
    gains = dipole_gains(map(build_info, (eeg, meg)), places, moments, centre, radius)
    eeg_gain, meg_gain = (one.astype(np.float64) for one in gains)
    return eeg_gain - eeg_gain.mean(axis=0), meg_gain


def minimum_norm(eeg, meg, alpha=1 / 9):
    r"""Matrix (n_meg, n_eeg) from EEG to MEG through the sources of least power that explain the EEG [1]_.

    .. math:: M = G_m G_e^\top \left(G_e G_e^\top + \alpha \tfrac{\mathrm{tr}(G_e G_e^\top)}{n} I\right)^{-1}

    References
    ----------
    .. [1] Hämäläinen, M., & Ilmoniemi, R. (1994). Interpreting magnetic fields of the brain: minimum norm estimates.
       Medical & Biological Engineering & Computing, 32(1), 35-42.
    """
    if not alpha > 0:
        raise ValueError(f"alpha: got {alpha}, expected a positive number for the minimum norm.")
    eeg_gain, meg_gain = leadfields(eeg, meg)
    gram = eeg_gain @ eeg_gain.T
    noise = alpha * np.trace(gram) / len(gram)
    matrix = np.linalg.solve(gram + noise * np.eye(len(gram)), eeg_gain @ meg_gain.T).T
    return matrix - matrix.mean(axis=1, keepdims=True)  # takes the average off whatever it is given


def harmonic_encoder(eeg, order=5, penalty=1e-3):
    r"""Matrix from EEG to spherical harmonics, which all montages have in common, ((order + 1) ** 2 - 1, n_eeg).

    .. math:: B = (Y^\top Y + \lambda n D)^{-1} Y^\top, \qquad D = \mathrm{diag}\bigl((l (l + 1))^2 / 4\bigr)

    with :math:`\lambda` a penalty on rough maps. The constant is left out: it is the reference.
    """
    centre, _ = head_sphere(eeg)
    basis, degrees = harmonics(eeg["loc"][:, :3] - centre, order)
    rough = (degrees * (degrees + 1.0)) ** 2 / 4
    gram = basis.T @ basis + penalty * len(basis) * np.diag(np.where(degrees, rough, 1e-6))
    return np.linalg.solve(gram, basis.T)[1:]


def harmonics(directions, order):
    """Real spherical harmonics, orthonormal on the sphere, of directions (n, 3): (n, (order + 1) ** 2), and degrees."""
    x, y, z = (directions / np.linalg.norm(directions, axis=1, keepdims=True)).T
    turn, columns, degrees = np.arctan2(y, x), [], []
    for degree in range(order + 1):
        for m in range(-degree, degree + 1):
            k = abs(m)
            norm = (2 * degree + 1) / (4 * np.pi) * math.factorial(degree - k) / math.factorial(degree + k)
            side = 1.0 if m == 0 else np.sqrt(2) * (np.sin(k * turn) if m < 0 else np.cos(k * turn))
            columns.append(np.sqrt(norm) * lpmv(k, degree, z) * side)
            degrees.append(degree)
    return np.stack(columns, axis=1), np.array(degrees)


def multipoles(meg, centre, order=7):
    """Fields at the MEG sensors of the multipole moments of a head, (n_meg, (order + 1) ** 2 - 1) [1]_.

    The moments of the same brain activity do not depend on the head position; `centre` (3,) is the origin of the
    expansion in the head frame.

    References
    ----------
    .. [1] Taulu, S., & Kajola, M. (2005). Presentation of electromagnetic multichannel data: the signal space
       separation method. Journal of Applied Physics, 97(12), 124905.
    """
    import mne

    check_places(meg, "A model of the head position")
    basis, _, _, n_inside = mne.preprocessing.compute_maxwell_basis(
        build_info(meg), origin=tuple(centre), int_order=order, ext_order=0, regularize=None, bad_condition="ignore",
        coord_frame="head", verbose="error",
    )  # fmt: skip
    return basis[:, :n_inside]


def sphere_points(n):
    """Spread unit vectors evenly over a sphere of n points, without those far below the brain."""
    z = 1 - (2 * np.arange(n) + 1) / n
    turn = np.pi * (3 - np.sqrt(5)) * np.arange(n)
    points = np.column_stack([np.sqrt(1 - z**2) * np.cos(turn), np.sqrt(1 - z**2) * np.sin(turn), z])
    return points[z > -0.4]


def read_geometry(geometry, n_trials, kind="meg"):
    """Distinct geometries, as dicts of `describe`, and the number of that of each trial."""
    if geometry is None:
        return (), np.zeros(n_trials, dtype=int)
    import mne

    if isinstance(geometry, mne.Info):
        geometry = [geometry] * n_trials
    if len(geometry) != n_trials:
        raise ValueError(f"geometry: got {len(geometry)} Infos for {n_trials} trials.")
    distinct = {id(info): info for info in geometry}
    numbers = {key: i for i, key in enumerate(distinct)}
    found = tuple({"eeg": describe(info, "eeg"), "meg": describe(info, kind)} for info in distinct.values())
    return found, np.array([numbers[id(info)] for info in geometry])


def apply_by_place(matrices, data, places):
    """Multiply each trial (n_in, n_times) by the matrix (n_out, n_in) of its geometry."""
    out = np.empty((len(data), len(matrices[0]), data.shape[2]))
    for place in np.unique(places):
        own = places == place
        out[own] = matrices[place] @ np.asarray(data[own], dtype=np.float64)
    return out
