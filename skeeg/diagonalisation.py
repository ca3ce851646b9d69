"""Joint diagonalisation of a few matrices, many pairs of rows at a time."""

import numpy as np


def joint_diagonaliser(matrices, tol=1e-6, max_sweeps=15):
    r"""Vectors that nearly diagonalise all of several covariance matrices, by Pham's algorithm [1]_.

    A sweep goes over all pairs of rows :math:`i > j` and mixes the two so that they become uncorrelated in all matrices
    as far as possible. Pairs without a row in common do not touch each other, and those with the same :math:`i + j`
    have none: in the usual order, row by row, nothing a pair depends on comes after the pairs of smaller sums. So a
    whole anti-diagonal is mixed at once, with the numbers that `pyriemann.geometry.ajd.ajd_pham` and MNE get one pair
    after the other.

    Parameters
    ----------
    matrices : ndarray, shape (n_matrices, n, n)
        Symmetric positive definite matrices.
    tol : float
        Decrease of the criterion in a sweep, for each pair, below which it is done.
    max_sweeps : int
        Sweeps at most.

    Returns
    -------
    rows : ndarray of float64, shape (n, n)
        B, one vector a row: :math:`B C_k B^\top` is nearly diagonal for each matrix :math:`C_k`. Not finite where a
        matrix is singular.

    References
    ----------
    .. [1] Pham, D.-T. (2001). Joint approximate diagonalization of positive definite Hermitian matrices. SIAM Journal
       on Matrix Analysis and Applications, 22(4), 1136-1152.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.diagonalisation import joint_diagonaliser
    >>> mixing = np.array([[2.0, 1.0], [0.0, 1.0]])
    >>> matrices = mixing @ np.array([np.diag([1.0, 2.0]), np.diag([3.0, 1.0])]) @ mixing.T
    >>> rows = joint_diagonaliser(matrices)
    >>> np.abs((rows @ matrices @ rows.T)[:, 0, 1]).max() < 1e-9
    np.True_
    """
    matrices = np.array(matrices, dtype=np.float64)
    n = matrices.shape[1]
    rows, diagonals = np.eye(n), _antidiagonals(n)
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


def _antidiagonals(n):
    """Pairs of rows i > j of one sum each: lists of i and of j."""
    larger = [np.arange(total // 2 + 1, min(total, n - 1) + 1) for total in range(1, 2 * n - 2)]
    return [(i, total - i) for total, i in enumerate(larger, start=1)]


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
