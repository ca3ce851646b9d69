"""What electromagnetism knows of EEG and MEG without any training: forward models, inverses, harmonics, multipoles."""

import math

import numpy as np
from scipy.special import lpmv

from .sensors import build_info, check_places

_SHELLS = ((0.45, 40), (0.6, 80), (0.75, 140), (0.87, 220))  # fractions of the head's radius, and places on each


def head_sphere(eeg):
    """Sphere through the electrodes.

    Parameters
    ----------
    eeg : dict
        Sensors as `describe` gives; four or more, not in one plane.

    Returns
    -------
    centre : ndarray, shape (3,)
        Metres, in the frame of the head.
    radius : float
        Metres.

    Examples
    --------
    >>> from skeeg.methods.eeg2meg.physics import head_sphere
    >>> from skeeg.methods.eeg2meg.simulation import MEGSimulation
    >>> from skeeg.methods.eeg2meg.sensors import describe
    >>> round(head_sphere(describe(MEGSimulation().info(), "eeg"))[1], 3)
    0.095
    """
    check_places(eeg, "The sphere of the head")
    places = eeg["loc"][:, :3]
    # |p|^2 = 2 p c + (r^2 - |c|^2) is linear in the centre c and the last term
    system = np.column_stack([2 * places, np.ones(len(places))])
    solution, _, rank, _ = np.linalg.lstsq(system, (places**2).sum(axis=1), rcond=1e-6)
    if rank < 4:
        raise ValueError(f"eeg: a sphere needs four electrodes that lie in no plane, got {len(places)}.")
    return solution[:3], float(np.sqrt(solution[3] + solution[:3] @ solution[:3]))


def leadfields(eeg, meg):
    """EEG and MEG of unit dipoles in three orientations all over a spherical head.

    Parameters
    ----------
    eeg, meg : dict
        Sensors as `describe` gives.

    Returns
    -------
    eeg_gain : ndarray, shape (n_eeg, n_dipoles)
        Volts for one ampere-metre, against the average.
    meg_gain : ndarray, shape (n_meg, n_dipoles)
        Tesla, or tesla per metre.
    """
    import mne

    check_places(meg, "The field of a dipole")
    centre, radius = head_sphere(eeg)
    places = np.vstack([fraction * radius * sphere_points(n) for fraction, n in _SHELLS]) + centre
    places, moments = np.repeat(places, 3, axis=0), np.tile(np.eye(3), (len(places), 1))
    ones = np.ones(len(places))
    dipoles = mne.Dipole(0 * ones, places, ones, moments, ones, verbose="error")
    sphere = mne.make_sphere_model(centre, radius, verbose="error")
    gains = []
    for sensors in (eeg, meg):
        forward, _ = mne.make_forward_dipole(dipoles, sphere, build_info(sensors), verbose="error")
        gains.append(forward["sol"]["data"].astype(np.float64))
    return gains[0] - gains[0].mean(axis=0), gains[1]


def minimum_norm(eeg, meg, snr=3.0):
    r"""Matrix from EEG to MEG through the sources of least power that explain the EEG.

    .. math:: M = G_m G_e^\top \left(G_e G_e^\top + \lambda^2 \tfrac{\mathrm{tr}(G_e G_e^\top)}{n} I\right)^{-1}

    Parameters
    ----------
    eeg, meg : dict
        Sensors as `describe` gives.
    snr : float
        Assumed ratio of amplitudes of signal and noise; :math:`\lambda` is one over it.

    Returns
    -------
    matrix : ndarray, shape (n_meg, n_eeg)
        Tesla (per metre) for one volt against the average.

    References
    ----------
    .. [1] Hämäläinen, M., & Ilmoniemi, R. (1994). Interpreting magnetic fields of the brain: minimum norm estimates.
       Medical & Biological Engineering & Computing, 32(1), 35-42.

    Examples
    --------
    >>> from skeeg.methods.eeg2meg.physics import minimum_norm
    >>> from skeeg.methods.eeg2meg.sensors import describe
    >>> from skeeg.methods.eeg2meg.simulation import MEGSimulation
    >>> info = MEGSimulation().info()
    >>> minimum_norm(describe(info, "eeg"), describe(info, "mag")).shape
    (102, 32)
    """
    if not snr > 0:
        raise ValueError(f"snr: got {snr}, expected a positive number.")
    eeg_gain, meg_gain = leadfields(eeg, meg)
    gram = eeg_gain @ eeg_gain.T
    noise = np.trace(gram) / len(gram) / snr**2
    matrix = np.linalg.solve(gram + noise * np.eye(len(gram)), eeg_gain @ meg_gain.T).T
    return matrix - matrix.mean(axis=1, keepdims=True)  # takes the average off whatever it is given


def harmonic_encoder(eeg, order=5, penalty=1e-3):
    r"""Matrix from a cap to spherical harmonics, which every cap has in common.

    .. math:: B = (Y^\top Y + \lambda n D)^{-1} Y^\top, \qquad D = \mathrm{diag}\bigl((l (l + 1))^2 / 4\bigr)

    Parameters
    ----------
    eeg : dict
        Sensors as `describe` gives.
    order : int
        Highest degree l; there are :math:`(L + 1)^2 - 1` harmonics, the constant is the reference.
    penalty : float
        :math:`\lambda`, on rough maps.

    Returns
    -------
    matrix : ndarray, shape ((order + 1) ** 2 - 1, n_eeg)
        Harmonics of one microvolt at each electrode.

    Examples
    --------
    >>> from skeeg.methods.eeg2meg.physics import harmonic_encoder
    >>> from skeeg.methods.eeg2meg.sensors import describe
    >>> from skeeg.methods.eeg2meg.simulation import MEGSimulation
    >>> harmonic_encoder(describe(MEGSimulation().info(), "eeg"), order=3).shape
    (15, 32)
    """
    centre, _ = head_sphere(eeg)
    basis, degrees = harmonics(eeg["loc"][:, :3] - centre, order)
    rough = (degrees * (degrees + 1.0)) ** 2 / 4
    gram = basis.T @ basis + penalty * len(basis) * np.diag(np.where(degrees, rough, 1e-6))
    return np.linalg.solve(gram, basis.T)[1:]


def harmonics(directions, order):
    """Real spherical harmonics.

    Parameters
    ----------
    directions : ndarray, shape (n, 3)
        Of any length but zero.
    order : int
        Highest degree.

    Returns
    -------
    values : ndarray, shape (n, (order + 1) ** 2)
        Orthonormal on the sphere.
    degrees : ndarray of int, shape ((order + 1) ** 2,)
        Degree of each.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.methods.eeg2meg.physics import harmonics
    >>> values, degrees = harmonics(np.eye(3), 1)
    >>> values.shape, degrees.tolist()
    ((3, 4), [0, 1, 1, 1])
    """
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
    """Fields at the sensors of the multipole moments of a head: what the same brain gives at any place of the head.

    Parameters
    ----------
    meg : dict
        Sensors as `describe` gives.
    centre : ndarray, shape (3,)
        Origin of the expansion in the frame of the head.
    order : int
        Highest order; there are :math:`(L + 1)^2 - 1` moments.

    Returns
    -------
    basis : ndarray, shape (n_meg, n_moments)
        Tesla, or tesla per metre, for one unit of each moment.

    References
    ----------
    .. [1] Taulu, S., & Kajola, M. (2005). Presentation of electromagnetic multichannel data: the signal space
       separation method. Journal of Applied Physics, 97(12), 124905.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.methods.eeg2meg.physics import multipoles
    >>> from skeeg.methods.eeg2meg.sensors import describe
    >>> from skeeg.methods.eeg2meg.simulation import neuromag_info
    >>> multipoles(describe(neuromag_info(), "meg"), np.zeros(3), order=3).shape
    (306, 15)
    """
    import mne

    check_places(meg, "A model of the head's place")
    basis, _, _, n_inside = mne.preprocessing.compute_maxwell_basis(
        build_info(meg), origin=tuple(centre), int_order=order, ext_order=0, regularize=None, bad_condition="ignore",
        coord_frame="head", verbose="error",
    )  # fmt: skip
    return basis[:, :n_inside]


def sphere_points(n):
    """Spread points evenly over the part of a sphere that holds the brain.

    Parameters
    ----------
    n : int
        Points on the whole sphere; those far below are left out.

    Returns
    -------
    points : ndarray, shape (at most n, 3)
        Unit vectors.

    Examples
    --------
    >>> from skeeg.methods.eeg2meg.physics import sphere_points
    >>> sphere_points(10).shape
    (7, 3)
    """
    z = 1 - (2 * np.arange(n) + 1) / n
    turn = np.pi * (3 - np.sqrt(5)) * np.arange(n)
    points = np.column_stack([np.sqrt(1 - z**2) * np.cos(turn), np.sqrt(1 - z**2) * np.sin(turn), z])
    return points[z > -0.4]
