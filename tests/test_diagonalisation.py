"""Joint diagonalisation: pyRiemann's numbers, and the vectors of matrices that can be diagonalised together."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skeeg.diagonalisation import joint_diagonaliser


def covariances(n_matrices, n, seed=0):
    """Covariances of sources mixed alike, whose variances differ, and of a little noise."""
    rng = np.random.default_rng(seed)
    sources = rng.standard_normal((n_matrices, n, 50 * n)) * rng.uniform(0.5, 2, (n_matrices, n, 1))
    signals = rng.standard_normal((n, n)) @ sources + 0.1 * rng.standard_normal(sources.shape)
    return signals @ signals.mT / sources.shape[2]


@pytest.mark.parametrize("n_matrices, n", [(2, 2), (3, 3), (4, 7), (5, 12), (2, 1)])
@pytest.mark.parametrize("sweeps", [1, 3, 15])
def test_equals_one_pair_after_the_other(n_matrices, n, sweeps):
    from pyriemann.geometry.ajd import ajd_pham

    matrices = covariances(n_matrices, n)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Convergence not reached")
        plain, _ = ajd_pham(matrices, eps=1e-6, n_iter_max=sweeps)
    np.testing.assert_allclose(joint_diagonaliser(matrices, 1e-6, sweeps), plain, rtol=1e-7, atol=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 9), st.integers(2, 5))
def test_diagonalises_what_can_be(seed, n, n_matrices):
    rng = np.random.default_rng(seed)
    mixing = np.linalg.qr(rng.standard_normal((n, n)))[0] + 0.2 * np.eye(n)
    matrices = np.stack([mixing @ np.diag(rng.uniform(0.2, 5, n)) @ mixing.T for _ in range(n_matrices)])
    rows = joint_diagonaliser(matrices, tol=1e-12, max_sweeps=50)
    found = rows @ matrices @ rows.T
    variances = np.sqrt(np.einsum("kii->ki", found))
    correlations = found / variances[:, :, None] / variances[:, None]
    np.testing.assert_allclose(correlations, np.broadcast_to(np.eye(n), found.shape), atol=1e-4)


def test_leaves_its_input_alone():
    matrices = covariances(3, 4)
    before = matrices.copy()
    joint_diagonaliser(matrices)
    np.testing.assert_array_equal(matrices, before)
