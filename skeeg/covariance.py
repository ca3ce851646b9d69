"""Covariance matrices of trials, in matrix products and in double precision.

Alignment and spatial filters both start from them. The trials are read in chunks that fit the processor's cache and are
summed in float64 whatever their type, so that the extra memory is one chunk and the matrices themselves.
"""

import numpy as np

from .base import EEGTransformer

_CHUNK_VALUES = 2**17  # one MiB of float64: stays in the cache between the cast, the product and the mean


def trial_covariances(X, center=True, ddof=1):
    """Covariance of each trial, (n_trials, n_channels, n_times) to (n_trials, n_channels, n_channels)."""
    X = np.asarray(X)
    covariances = np.empty((X.shape[0], X.shape[1], X.shape[1]))
    size = max(1, _CHUNK_VALUES // (X.shape[1] * X.shape[2]))
    for start in range(0, len(X), size):
        chunk = X[start : start + size].astype(np.float64, copy=False)
        if center:
            chunk = chunk - chunk[..., :1]  # first: then a constant channel is exactly zero
            chunk -= chunk.mean(axis=2, keepdims=True)
        np.matmul(chunk, chunk.transpose(0, 2, 1), out=covariances[start : start + size])
    covariances /= max(X.shape[2] - ddof, 1)  # the covariance of a single sample is zero, not undefined
    return covariances


def mean_covariances(X, groups, n_groups, center=True, ddof=1):
    """Mean covariance of the trials of each group, shape (n_groups, n_channels, n_channels)."""
    counts = np.bincount(groups, minlength=n_groups)
    member = (groups == np.arange(n_groups)[:, None]) / np.maximum(counts, 1)[:, None]
    return np.tensordot(member, trial_covariances(X, center, ddof), axes=1)


def shrink(covariances, n_times):
    """Shrink covariances of so many samples towards the identity by the oracle approximation, pyRiemann's ``"oas"``.

    Chen, Y., et al. (2010). Shrinkage algorithms for MMSE covariance estimation. IEEE Transactions on Signal
    Processing, 58(10), 5016-5029.
    """
    n_channels = covariances.shape[1]
    variance = np.trace(covariances, axis1=1, axis2=2) / n_channels
    power = np.mean(covariances**2, axis=(1, 2))
    apart = (n_times + 1) * (power - variance**2 / n_channels)
    amount = np.ones(len(covariances))
    np.divide(power + variance**2, apart, out=amount, where=apart > 0)  # else it is a multiple of the identity
    amount = np.minimum(amount, 1.0)[:, None, None]
    return (1 - amount) * covariances + amount * variance[:, None, None] * np.eye(n_channels)


class TrialCovariances(EEGTransformer):
    """Covariance of each trial (n_trials, n_channels, n_channels), pyRiemann's ``Covariances("oas")``."""

    def _run(self, X):
        X = np.asarray(X)
        return shrink(trial_covariances(X, ddof=0), X.shape[2]).astype(X.dtype, copy=False)


def inverse_sqrt(matrices, floor=1e-10):
    """Inverse square root of covariance matrices (..., n_channels, n_channels) that may be singular.

    Eigenvalues below ``floor`` times the largest one belong to directions that hold no signal (a flat or interpolated
    channel, an average reference). They are raised to the mean of the others: such a direction then has an ordinary
    gain, where ``floor ** -0.5`` would amplify it above all others.
    """
    values, vectors = np.linalg.eigh(np.asarray(matrices, dtype=np.float64))
    alive = _trusted(values, floor)
    total = np.where(alive, values, 0.0).sum(axis=-1, keepdims=True)
    count = alive.sum(axis=-1, keepdims=True)
    mean = np.where(count > 0, total / np.maximum(count, 1), 1.0)
    gains = np.where(alive, values, mean) ** -0.5
    return (vectors * gains[..., None, :]) @ np.swapaxes(vectors, -1, -2)


def metric_mean(covariances, metric="riemann", weights=None, floor=1e-10):
    """Mean of covariance matrices (n_matrices, n_channels, n_channels) in a metric, also where they are singular.

    The mean is pyRiemann's, taken in the directions that hold signal on average. There, a matrix without variance where
    the average has some gets its eigenvalues raised to `floor`; one without any (a constant trial) takes no part.
    """
    from pyriemann.geometry.mean import gmean

    weights = np.ones(len(covariances)) if weights is None else np.asarray(weights, dtype=np.float64)
    used = (weights > 0) & (np.trace(covariances, axis1=1, axis2=2) > 0)
    if not used.any():
        return np.zeros_like(covariances[0])
    covariances, weights = covariances[used], weights[used]
    if len(covariances) == 1:
        return covariances[0]
    basis = signal_basis(np.average(covariances, axis=0, weights=weights), floor)
    if not basis.size:
        return np.zeros_like(covariances[0])
    inside = _raise_to_floor(basis.T @ covariances @ basis, floor)
    return basis @ gmean(inside, metric=metric, sample_weight=weights) @ basis.T


def filter_patterns(covariance, filters, apart=True):
    r"""Patterns of linear filters, :math:`\Sigma W (W^T \Sigma W)^{-1}`, or :math:`\Sigma W` if not ``apart``.

    Shapes: ``covariance`` (..., n_features, n_features), ``filters`` (..., n_filters, n_features); gives that of these.
    """
    filters = np.asarray(filters, dtype=np.float64)
    joint = filters @ covariance
    return np.linalg.pinv(joint @ np.swapaxes(filters, -1, -2), hermitian=True) @ joint if apart else joint


def joint_diagonaliser(matrices, tol=1e-6, max_sweeps=15):
    """Vectors that nearly diagonalise all of several covariance matrices, by Pham's algorithm, rows of (n, n).

    Pairs of rows with the same :math:`i + j` have no row in common and depend only on pairs of smaller sums. So a whole
    anti-diagonal is mixed at once, with the results of `pyriemann.geometry.ajd.ajd_pham` and MNE, which mix one pair
    after the other: 5 times faster.

    Pham, D.-T. (2001). Joint approximate diagonalization of positive definite Hermitian matrices. SIAM Journal on
    Matrix Analysis and Applications, 22(4), 1136-1152.
    """
    matrices = np.array(matrices, dtype=np.float64)
    n = matrices.shape[1]
    larger = [np.arange(total // 2 + 1, min(total, n - 1) + 1) for total in range(1, 2 * n - 2)]
    rows, diagonals = np.eye(n), [(i, total - i) for total, i in enumerate(larger, start=1)]  # pairs i > j of one sum
    for _ in range(max_sweeps):
        decrease = 0.0
        with np.errstate(divide="ignore", invalid="ignore"):
            for pairs in diagonals:
                mixing, gain = _mix(matrices, *pairs)
                matrices = mixing @ matrices @ mixing.T
                rows = mixing @ rows
                decrease += gain
        if decrease < n * (n - 1) * tol:
            break
    return rows


def _mix(matrices, i, j):
    """Matrix that mixes rows i with rows j, pair by pair, and what the criterion loses by it."""
    n_matrices, n = matrices.shape[:2]
    own = np.stack([matrices[:, i, i], matrices[:, j, j]])  # variances, two of each pair
    smaller, larger = np.add.reduce(own[::-1] / own, axis=1) / n_matrices
    to_first, to_second = np.add.reduce(matrices[:, i, j] / own, axis=1) / n_matrices
    level, spread = np.sqrt(larger / smaller), np.sqrt(larger * smaller)
    scaled = level * to_first
    same = (scaled + to_second) / (spread + 1)
    apart = (scaled - to_second) / np.maximum(spread - 1, 1e-9)
    first, second = same + apart, (same - apart) / level
    scale = -1 - np.sqrt(1 - first * second)
    mixing = np.eye(n)
    mixing[i, j], mixing[j, i] = first / scale, second / scale
    return mixing, n_matrices / 2 * (to_first @ first + to_second @ second)


def _raise_to_floor(covariances, floor):
    """Make each matrix positive definite, relative to its own largest eigenvalue or, if that is 0, to their mean."""
    values = np.linalg.eigvalsh(covariances)
    least = max(floor, np.finfo(np.float64).eps) * np.maximum(values[:, -1:], values[:, -1].mean())
    if (values >= least).all():
        return covariances
    values, vectors = np.linalg.eigh(covariances)
    return (vectors * np.maximum(values, least)[:, None, :]) @ vectors.transpose(0, 2, 1)


def signal_basis(covariance, floor):
    """Orthonormal columns that span the directions with signal of a covariance matrix; the identity where all have."""
    values, vectors = np.linalg.eigh(covariance)
    alive = _trusted(values, floor)
    return np.eye(len(alive)) if alive.all() else vectors[:, alive]


def _trusted(eigenvalues, floor):
    """Which eigenvalues (..., n_channels) of a covariance matrix are signal."""
    largest = eigenvalues[..., -1:]
    return (eigenvalues > floor * largest) & (largest > np.finfo(np.float64).tiny)
