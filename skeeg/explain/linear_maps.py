"""Linear steps of a pipeline as matrices.

Filters, resampling, references, templates and alignments act on a trial :math:`x` (channels x times) as
:math:`y = S x B^T`, with a spatial matrix S that may differ from trial to trial (alignment) and a temporal matrix B
common to all. Both are identified from the outputs of the fitted step for probe signals. Where the
step estimates something from the trials themselves, as alignment of an unseen subject does, S is solved for from the
trials and held fixed: the map that was applied to these trials.
"""

import warnings
from dataclasses import dataclass

import numpy as np

from ..array import as_eeg, make_eeg

_CHUNK = 2**24  # numbers in one block of probes


@dataclass(frozen=True)
class LinearMap:
    """Linear map of trials, :math:`y_i = S_{k(i)} x_i B^T`.

    Attributes
    ----------
    spatial : ndarray, shape (n_maps, n_channels_out, n_channels)
        Different spatial matrices.
    index : ndarray of int, shape (n_trials,)
        Spatial matrix of each trial.
    temporal : ndarray, shape (n_times_out, n_times), or None
        Temporal matrix; None is the identity.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.explain.linear_maps import LinearMap
    >>> twice = LinearMap(2 * np.eye(3)[None], np.zeros(4, int), None)
    >>> float(twice.apply(np.ones((1, 3, 5)), 0)[0, 0, 0])
    2.0
    """

    spatial: np.ndarray
    index: np.ndarray
    temporal: np.ndarray | None

    def apply(self, X, which):
        """Map trials by one of the spatial matrices.

        Parameters
        ----------
        X : ndarray, shape (n, n_channels, n_times)
            Trials.
        which : int
            Spatial matrix.

        Returns
        -------
        Y : ndarray, shape (n, n_channels_out, n_times_out)
            Mapped trials.
        """
        Y = np.matmul(self.spatial[which], X)
        return Y if self.temporal is None else np.matmul(Y, self.temporal.T)

    def adjoint(self, gradients, which):
        """Map gradients with respect to the output back to gradients with respect to the input.

        Parameters
        ----------
        gradients : ndarray, shape (n, n_channels_out, n_times_out)
            Gradients.
        which : int
            Spatial matrix.

        Returns
        -------
        gradients : ndarray, shape (n, n_channels, n_times)
            :math:`S^T g B`.
        """
        back = gradients if self.temporal is None else np.matmul(gradients, self.temporal)
        return np.matmul(self.spatial[which].T, back)

    def then(self, other):
        """Composition of this map with a following one.

        Parameters
        ----------
        other : LinearMap
            For the same trials.

        Returns
        -------
        both : LinearMap
            The composition.
        """
        pairs, index = np.unique(np.stack([self.index, other.index], axis=1), axis=0, return_inverse=True)
        spatial = np.stack([other.spatial[second] @ self.spatial[first] for first, second in pairs])
        if self.temporal is None or other.temporal is None:
            temporal = self.temporal if other.temporal is None else other.temporal
        else:
            temporal = other.temporal @ self.temporal
        return LinearMap(spatial, index.ravel(), temporal)


def linear_map(transform, X, name="step", tolerance=1e-6):
    """Identify the matrices of a linear step, and verify them on the trials.

    Parameters
    ----------
    transform : callable
        From trials to trials.
    X : EEGArray, shape (n_trials, n_channels, n_times)
        Trials that are explained.
    name : str
        Name of the step in errors.
    tolerance : float
        Largest difference allowed between the step's output and the matrices', relative to the largest output.

    Returns
    -------
    step : LinearMap
        The matrices.
    Y : ndarray, shape (n_trials, n_channels_out, n_times_out)
        Output of the step.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg import AverageReference, as_eeg
    >>> from skeeg.explain.linear_maps import linear_map
    >>> X = as_eeg(np.random.default_rng(0).normal(size=(4, 2, 9)))
    >>> step, _ = linear_map(AverageReference().fit(X).transform, X)
    >>> step.spatial[0].round(6).tolist(), step.temporal is None
    ([[0.5, -0.5], [-0.5, 0.5]], True)
    """
    X = as_eeg(X)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # already raised when the pipeline ran
        Y = transform(X)
        if np.ndim(Y) != 3 or len(Y) != len(X):
            raise ValueError(f"{name} does not give trials for trials (it gives shape {np.shape(Y)}): explain what is "
                             'behind it, or use method="occlusion".')  # fmt: skip
        plain, out = np.asarray(X, dtype=np.float64), np.asarray(Y, dtype=np.float64)
        groups = _groups(X)
        firsts = [int(np.flatnonzero(groups == group)[0]) for group in range(groups.max() + 1)]
        spatial, follower = zip(*(_probe_space(transform, X, first) for first in firsts), strict=True)
        spatial = np.stack(spatial)
        temporal = _probe_time(transform, X, firsts[0], spatial[0], follower[0], out.shape[2])
    spatial, index = _settle(plain, out, spatial, groups, temporal, name, tolerance)
    return LinearMap(spatial, index, temporal), Y


def _groups(X):
    """Index of each trial's domain."""
    if X.domains is None:
        return np.zeros(len(X), dtype=np.intp)
    keys = list(map(tuple, X.domains))
    place = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    return np.array([place[key] for key in keys])


def _probes(X, data, first):
    """Trials that look like those of the first trial's domain."""
    domains = None if X.domains is None else np.repeat(X.domains[first : first + 1], len(data))
    return make_eeg(data.astype(X.dtype), X.ch_names, X.sfreq, domains)


def _probe_space(transform, X, first):
    """Spatial matrix of a step, from one time course in one channel after the other; None where time stays as it is."""
    n_channels, n_times = X.shape[1:]
    course = np.random.default_rng(0).standard_normal(n_times)
    course = course.astype(X.dtype).astype(np.float64)
    answers = np.asarray(transform(_probes(X, np.eye(n_channels)[:, :, None] * course, first)), dtype=np.float64)
    flat = answers.reshape(-1, answers.shape[2])
    follower = flat[np.linalg.norm(flat, axis=1).argmax()]  # all rows are multiples of one time course
    kept = np.zeros(len(follower))
    kept[: min(n_times, len(follower))] = course[: len(follower)]
    overlap = follower @ kept / max(np.linalg.norm(follower) * np.linalg.norm(kept), 1e-300)
    steady = len(follower) >= n_times and 1 - abs(overlap) < 1e-10
    follower = kept if steady else follower
    matrix = (flat @ follower / max(follower @ follower, 1e-300)).reshape(answers.shape[:2]).T
    return matrix, None if steady else follower


def _probe_time(transform, X, first, spatial, follower, n_out):
    """Temporal matrix of a step, from an impulse at one sample after the other; None where time stays as it is."""
    n_channels, n_times = X.shape[1:]
    if follower is None:
        return None if n_out == n_times else np.eye(n_out, n_times)
    temporal = np.empty((n_out, n_times))
    apart = spatial.shape[0] == n_channels and np.allclose(spatial, np.diag(np.diag(spatial)), atol=1e-12, rtol=0)
    if apart and np.abs(np.diag(spatial)).min() > 0:  # channels do not meet: an impulse in each of them at once
        for start in range(0, n_times, n_channels):
            times = np.arange(start, min(start + n_channels, n_times))
            impulses = np.zeros((1, n_channels, n_times))
            impulses[0, np.arange(len(times)), times] = 1.0
            answer = np.asarray(transform(_probes(X, impulses, first)), dtype=np.float64)[0]
            temporal[:, times] = (answer[: len(times)] / np.diag(spatial)[: len(times), None]).T
        return temporal
    place = np.random.default_rng(1).standard_normal(n_channels).astype(X.dtype).astype(np.float64)
    size = max(1, _CHUNK // (n_channels * n_times))
    for start in range(0, n_times, size):
        times = np.arange(start, min(start + size, n_times))
        impulses = place[None, :, None] * np.eye(n_times)[times][:, None, :]
        answers = np.asarray(transform(_probes(X, impulses, first)), dtype=np.float64)
        largest = np.unravel_index(np.abs(answers).argmax(), answers.shape)
        direction = answers[largest[0], :, largest[2]]  # all columns are multiples of one place
        along = np.einsum("c,nct->tn", direction, answers)
        temporal[:, times] = along / (direction @ spatial @ place)
    return temporal


def _settle(X, Y, spatial, groups, temporal, name, tolerance):
    """Check the matrices against the trials; where they fail, solve for those that the trials went through."""
    filtered = X if temporal is None else X @ temporal.T
    matrices, index = [], np.empty(len(X), dtype=np.intp)
    for group, matrix in enumerate(spatial):
        rows = np.flatnonzero(groups == group)
        known = len(rows) * filtered.shape[2] > 2 * filtered.shape[1]  # else any output could be had by some matrix
        if known and _misfit(matrix, filtered[rows], Y[rows]) > tolerance:
            matrix = _solve(filtered[rows], Y[rows])
        if _misfit(matrix, filtered[rows], Y[rows]) <= tolerance:
            index[rows] = len(matrices)
            matrices.append(matrix)
            continue
        for row in rows:  # a running reference gives each trial a matrix of its own
            matrix = _solve(filtered[row : row + 1], Y[row : row + 1])
            misfit = _misfit(matrix, filtered[row : row + 1], Y[row : row + 1])
            if misfit > tolerance or filtered.shape[2] <= 2 * filtered.shape[1]:
                raise ValueError(
                    f"{name} is not linear in the trials: no spatial and temporal matrix gives its output "
                    f'(relative error {misfit:.1g}). Explain what is behind it, or use method="occlusion".'
                )

            index[row] = len(matrices)
            matrices.append(matrix)
    return np.stack(matrices), index


def _misfit(matrix, X, Y):
    return np.abs(matrix @ X - Y).max() / max(np.abs(Y).max(), 1e-300)


def _solve(X, Y):
    """Matrix S with S x = y for all trials."""
    wide = X.transpose(1, 0, 2).reshape(X.shape[1], -1)
    return np.linalg.lstsq(wide.T, Y.transpose(1, 0, 2).reshape(Y.shape[1], -1).T, rcond=1e-12)[0].T
