"""Where sensors are, as an input: caps as spherical harmonics, helmets as multipole moments of the head."""

import numpy as np

from .physics import harmonic_encoder, head_sphere, minimum_norm, multipoles
from .sensors import check_places, describe

_RIDGE, _SMALLEST = 1e-2, 1e-3  # of the fit of moments, and of the singular values that are kept


def read_geometry(geometry, n_trials, meg=True):
    """Distinct geometries and the one of each trial.

    Parameters
    ----------
    geometry : mne.Info, sequence of mne.Info, length n_trials, or None
        With EEG and MEG sensors and the place of the head.
    n_trials : int
        Trials.
    meg : {True, "mag", "grad"}
        Which MEG sensors.

    Returns
    -------
    geometries : tuple of dict
        ``"eeg"`` and ``"meg"`` as `describe` gives them; empty where nothing is known.
    places : ndarray of int, shape (n_trials,)
        Index into them.

    Examples
    --------
    >>> from skeeg.methods.eeg2meg import MEGSimulation
    >>> from skeeg.methods.eeg2meg.geometry import read_geometry
    >>> here, there = MEGSimulation().info(), MEGSimulation().info(position=1)
    >>> geometries, places = read_geometry([here, there, here], 3)
    >>> len(geometries), places.tolist()
    (2, [0, 1, 0])
    """
    if geometry is None:
        return (), np.zeros(n_trials, dtype=int)
    if hasattr(geometry, "ch_names"):
        geometry = [geometry] * n_trials
    if len(geometry) != n_trials:
        raise ValueError(f"geometry: got {len(geometry)} Infos for {n_trials} trials.")
    distinct = {id(info): info for info in geometry}
    numbers = {key: i for i, key in enumerate(distinct)}
    kind = "meg" if meg is True else meg
    found = tuple({"eeg": describe(info, "eeg"), "meg": describe(info, kind)} for info in distinct.values())
    return found, np.array([numbers[id(info)] for info in geometry])


class PositionCodes:
    r"""Codes that every cap and every place of the head have in common.

    EEG is coded as spherical harmonics :math:`B x`. MEG is coded as :math:`a` with :math:`y = D S_g N V \Sigma^{-1} a`:
    multipole moments, rotated and scaled so that for the mean place :math:`|a|` is the size of the field in units of
    each type's standard deviation, D. A model of codes then minimises the error at the sensors, and only the last
    matrix, which physics gives, knows where the head is.

    Parameters
    ----------
    geometries : tuple of dict
        Those of the training.
    type_scale : ndarray, shape (n_meg,)
        Standard deviation of the MEG of each sensor's type.
    eeg_order, meg_order : int
        Highest degree of the harmonics and of the moments.
    """

    def __init__(self, geometries, type_scale, eeg_order, meg_order):
        self.scale, self.eeg_order, self.meg_order = type_scale, eeg_order, meg_order
        self.centre = head_sphere(geometries[0]["eeg"])[0]
        mean = np.mean([self._basis(one) for one in geometries], axis=0)
        norm = np.linalg.norm(mean, axis=0)  # in SI units the moments of each order are ten times those of the last
        _, size, turn = np.linalg.svd(mean / norm, full_matrices=False)
        kept = size > _SMALLEST * size[0]
        self.turn = turn[kept].T / size[kept] / norm[:, None]

    def encoder(self, geometry):
        """Matrix from EEG to its codes."""
        return harmonic_encoder(geometry["eeg"], self.eeg_order)

    def decoder(self, geometry):
        """Matrix from codes to MEG."""
        return self.scale[:, None] * (self._basis(geometry) @ self.turn)

    def target_encoder(self, geometry):
        """Matrix from MEG to its codes: regularised least squares."""
        basis = self._basis(geometry) @ self.turn
        gram = basis.T @ basis + _RIDGE * np.eye(basis.shape[1])
        return np.linalg.solve(gram, basis.T) / self.scale

    def _basis(self, geometry):
        if len(geometry["meg"]["names"]) != len(self.scale):
            raise ValueError(
                f"geometry: {len(geometry['meg']['names'])} MEG sensors, but the MEG of fit has {len(self.scale)}."
            )
        return multipoles(geometry["meg"], self.centre, self.meg_order) / self.scale[:, None]


def geometry_matrices(model, geometry, codes=None, snr=3.0):
    """Matrices of one geometry that predictions need.

    Parameters
    ----------
    model : str
        ``"minimum_norm"`` needs the one from EEG to MEG; others the coding.
    geometry : dict
        As `read_geometry` gives.
    codes : PositionCodes or None
        How sensors are coded.
    snr : float
        See `minimum_norm`.

    Returns
    -------
    matrices : dict of str to ndarray
        ``"inverse"`` from microvolts, or ``"encoder"`` and ``"decoder"``.
    """
    if model == "minimum_norm":
        check_places(geometry["eeg"], "model='minimum_norm'")
        check_places(geometry["meg"], "model='minimum_norm'")
        return {"inverse": minimum_norm(geometry["eeg"], geometry["meg"], snr) * 1e-6}
    return {"encoder": codes.encoder(geometry), "decoder": codes.decoder(geometry)}


def apply_by_place(matrices, data, places):
    """Multiply each trial by the matrix of its geometry.

    Parameters
    ----------
    matrices : sequence of ndarray, shape (n_out, n_in)
        One a geometry.
    data : ndarray, shape (n_trials, n_in, n_times)
        Trials.
    places : ndarray of int, shape (n_trials,)
        Geometry of each.

    Returns
    -------
    data : ndarray of float64, shape (n_trials, n_out, n_times)
        Products.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.methods.eeg2meg.geometry import apply_by_place
    >>> apply_by_place([np.eye(2), 2 * np.eye(2)], np.ones((2, 2, 1)), np.array([0, 1]))[:, 0, 0].tolist()
    [1.0, 2.0]
    """
    out = np.empty((len(data), len(matrices[0]), data.shape[2]))
    for place in np.unique(places):
        mine = places == place
        out[mine] = matrices[place] @ np.asarray(data[mine], dtype=np.float64)
    return out
