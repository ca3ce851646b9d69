"""Ridge regression whose penalty is chosen over blocks of time."""

import numpy as np

ALPHAS = tuple(10.0**power for power in range(7))
GAP = 10.0  # seconds left out on either side of a block that the penalty is tried on
_N_BLOCKS = 5


def ridge_path(features, targets, alphas):
    """Weights of ridge regression without an intercept, for each penalty.

    Parameters
    ----------
    features : ndarray, shape (n_rows, n_features)
        Standardised features.
    targets : ndarray, shape (n_rows, n_targets)
        Centred targets.
    alphas : sequence of float
        Penalties.

    Returns
    -------
    weights : list of ndarray, shape (n_features, n_targets)
        One for each penalty.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.methods.beira.ridge import ridge_path
    >>> [weight.item() for weight in ridge_path(np.ones((3, 1)), np.ones((3, 1)), [0.0, 3.0])]
    [1.0, 0.5]
    """
    wide = features.shape[1] > features.shape[0]  # the smaller of the two products tells all
    values, vectors = np.linalg.eigh(features @ features.T if wide else features.T @ features)
    projected = vectors.T @ (targets if wide else features.T @ targets)
    solutions = [vectors @ (projected / (np.maximum(values, 0) + alpha)[:, None]) for alpha in alphas]
    return [features.T @ one for one in solutions] if wide else solutions


def choose_alpha(features, targets, gap):
    """Penalty of least squared error over five blocks of time; the middle one where there is too little to tell.

    Parameters
    ----------
    features : ndarray, shape (n_rows, n_features)
        Standardised features, in the order of time.
    targets : ndarray, shape (n_rows, n_targets)
        Centred targets.
    gap : int
        Rows on either side of a block that are not used.

    Returns
    -------
    alpha : float
        One of ``ALPHAS``.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.methods.beira.ridge import choose_alpha
    >>> x = np.random.default_rng(0).normal(size=(200, 2))
    >>> choose_alpha(x, x @ np.array([[1.0], [2.0]]), gap=5)
    1.0
    """
    n_rows = len(features)
    if n_rows < _N_BLOCKS * (gap + 2):
        return ALPHAS[len(ALPHAS) // 2]
    errors = np.zeros(len(ALPHAS))
    for test in np.array_split(np.arange(n_rows), _N_BLOCKS):
        train = np.r_[0 : max(test[0] - gap, 0), min(test[-1] + 1 + gap, n_rows) : n_rows]
        weights = ridge_path(features[train], targets[train], ALPHAS)
        errors += [np.sum((features[test] @ weight - targets[test]) ** 2) for weight in weights]
    return ALPHAS[int(errors.argmin())]
