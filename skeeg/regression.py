"""Ridge regression with lags: from arrays, or from moments of data that are read chunk by chunk."""

import numpy as np

ALPHAS = tuple(10.0**power for power in range(7))
"""Penalties that `choose_alpha` tries, for standardised features."""
_N_BLOCKS = 5
_PENALTIES = tuple(10.0**power for power in np.arange(-6, 2.1, 0.5))  # in units of the mean variance
_PENALTY = 1e-2  # where nothing is held out to choose by


def lagged(signals, lags, edge="hold"):
    """Signals beside their own past and future.

    Parameters
    ----------
    signals : ndarray, shape (n_trials, ..., n_times)
        Signals; nothing of one trial goes into another.
    lags : sequence of int
        Samples back; negative ones look ahead.
    edge : {"hold", "zero"}
        What lies before the start and after the end: the first and the last value, or zeros.

    Returns
    -------
    lagged : ndarray, shape (n_trials, n_lags, ..., n_times)
        ``lagged[:, l, ..., t]`` is ``signals[..., t - lags[l]]``.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.regression import lagged
    >>> lagged(np.arange(1, 4)[None], (0, 1, -1)).tolist()
    [[[1, 2, 3], [1, 1, 2], [2, 3, 3]]]
    >>> lagged(np.arange(1, 4)[None], (1,), edge="zero").tolist()
    [[[0, 1, 2]]]
    """
    n_times = signals.shape[-1]
    index = np.arange(n_times) - np.asarray(lags)[:, None]
    values = np.moveaxis(signals[..., np.clip(index, 0, n_times - 1)], -2, 1)
    if edge == "hold":
        return values
    inside = (index >= 0) & (index < n_times)
    return values * inside.reshape(1, len(index), *[1] * (signals.ndim - 2), n_times)


def moments(chunks):
    """Mean and standard deviation of each channel, of data that are read once.

    Parameters
    ----------
    chunks : iterable of tuple of ndarray, shape (n_trials, n_channels, ...)
        Parts of one or several arrays.

    Returns
    -------
    moments : list of tuple of ndarray, shape (n_channels,)
        Mean and standard deviation of each array, in float64.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.regression import moments
    >>> (mean, scale), = moments([(np.array([[[1.0, 3.0]]]),), (np.array([[[5.0, 7.0]]]),)])
    >>> mean.tolist(), scale.round(3).tolist()
    ([4.0], [2.236])
    """
    sums = shift = None
    for parts in chunks:
        parts = [np.asarray(part).reshape(*part.shape[:2], -1) for part in parts]
        if shift is None:  # sums about a mean, rough as it may be, lose no digits
            shift = [part.mean(axis=(0, 2), dtype=np.float64) for part in parts]
        new = [_sums(part - mean[:, None]) for part, mean in zip(parts, shift, strict=True)]
        sums = new if sums is None else [a + b for a, b in zip(sums, new, strict=True)]
    result = []
    for (count, first, second), mean in zip(sums, shift, strict=True):
        off = first / count
        result.append((mean + off, np.sqrt(np.maximum(second / count - off**2, 0))))
    return result


def _sums(part):
    """Count samples, and sum up values and squares of each channel, shape (3, n_channels)."""
    first, second = part.sum(axis=(0, 2)), np.square(part).sum(axis=(0, 2))
    return np.stack([np.full_like(first, part.shape[0] * part.shape[2]), first, second])


def solve_ridge(gram, cross, alphas):
    r"""Solve :math:`(G + \alpha I)\, W = C` for several penalties, from one decomposition.

    Parameters
    ----------
    gram : ndarray, shape (n, n)
        Symmetric, positive semi-definite.
    cross : ndarray, shape (n, n_targets)
        Right-hand side.
    alphas : sequence of float
        Penalties.

    Returns
    -------
    solutions : list of ndarray, shape (n, n_targets)
        One for each penalty.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.regression import solve_ridge
    >>> [w.round(2).item() for w in solve_ridge(np.array([[3.0]]), np.array([[3.0]]), (0.0, 3.0))]
    [1.0, 0.5]
    """
    values, vectors = np.linalg.eigh(gram)
    projected, values = vectors.T @ cross, np.maximum(values, 0.0)
    least = np.finfo(np.float64).tiny
    return [vectors @ (projected / np.maximum(values + alpha, least)[:, None]) for alpha in alphas]


def ridge_weights(features, targets, alphas):
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
    >>> from skeeg.regression import ridge_weights
    >>> [weight.round(2).item() for weight in ridge_weights(np.ones((3, 1)), np.ones((3, 1)), [0.0, 3.0])]
    [1.0, 0.5]
    """
    if features.shape[1] > features.shape[0]:  # the smaller of the two products tells all
        return [features.T @ one for one in solve_ridge(features @ features.T, targets, alphas)]
    return solve_ridge(features.T @ features, features.T @ targets, alphas)


def choose_alpha(features, targets, gap, alphas=ALPHAS):
    """Penalty of least squared error over five blocks of time; the middle one where there is too little to tell.

    Parameters
    ----------
    features : ndarray, shape (n_rows, n_features)
        Standardised features, in the order of time.
    targets : ndarray, shape (n_rows, n_targets)
        Centred targets.
    gap : int
        Rows on either side of a block that are not used.
    alphas : sequence of float
        Penalties to choose from.

    Returns
    -------
    alpha : float
        One of ``alphas``.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.regression import choose_alpha
    >>> x = np.random.default_rng(0).normal(size=(200, 2))
    >>> choose_alpha(x, x @ np.array([[1.0], [2.0]]), gap=5)
    1.0
    """
    n_rows = len(features)
    if n_rows < _N_BLOCKS * (gap + 2):
        return alphas[len(alphas) // 2]
    errors = np.zeros(len(alphas))
    for test in np.array_split(np.arange(n_rows), _N_BLOCKS):
        train = np.r_[0 : max(test[0] - gap, 0), min(test[-1] + 1 + gap, n_rows) : n_rows]
        weights = ridge_weights(features[train], targets[train], alphas)
        errors += [np.sum((features[test] @ weight - targets[test]) ** 2) for weight in weights]
    return alphas[int(errors.argmin())]


class CrossProducts:
    """Second moments of inputs and targets: all that ridge regression needs of data that are read chunk by chunk.

    Parameters
    ----------
    chunks : iterable of tuple of ndarray, shape (n_trials, n_inputs, n_times) and (n_trials, n_targets, n_times)
        Standardised inputs and targets.

    Attributes
    ----------
    n : int
        Samples.
    xx : ndarray, shape (n_inputs, n_inputs)
        Sum over samples of the products of inputs.
    xy : ndarray, shape (n_inputs, n_targets)
        Of inputs and targets.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.regression import CrossProducts
    >>> products = CrossProducts([(np.ones((2, 1, 3)), np.ones((2, 2, 3)))])
    >>> products.n, products.xy.tolist(), (products + products).n
    (6, [[6.0, 6.0]], 12)
    """

    def __init__(self, chunks=()):
        self.n = self.xx = self.xy = 0
        for chunk in chunks:
            x, y = (np.asarray(one, dtype=np.float64).transpose(1, 0, 2).reshape(one.shape[1], -1) for one in chunk)
            self.n, self.xx, self.xy = self.n + x.shape[1], self.xx + x @ x.T, self.xy + x @ y.T

    def __add__(self, other):
        """Give the products of both sets of samples."""
        total = CrossProducts()
        total.n, total.xx, total.xy = self.n + other.n, self.xx + other.xx, self.xy + other.xy
        return total


def ridge_from_products(training, held, alpha="auto"):
    r"""Ridge regression from cross-products, with the penalty that predicts the held-out samples best.

    .. math:: W = C_{yx} (C_{xx} + \alpha \bar\sigma^2 I)^{-1}

    with :math:`\bar\sigma^2` the mean variance of the inputs.

    Parameters
    ----------
    training, held : CrossProducts
        Of the samples to fit, and to choose the penalty by.
    alpha : "auto" or float
        Penalty, in units of the mean variance of the inputs. "auto" without held-out samples is 0.01.

    Returns
    -------
    coef : ndarray, shape (n_targets, n_inputs)
        Weights.
    alpha : float
        Penalty used.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.regression import CrossProducts, ridge_from_products
    >>> x = np.random.default_rng(0).normal(size=(5, 2, 50))
    >>> products = CrossProducts([(x, 3 * x[:, :1])])
    >>> np.abs(ridge_from_products(products, products)[0]).round(3).tolist()
    [[3.0, 0.0]]
    """
    if alpha != "auto" and not (isinstance(alpha, int | float) and alpha >= 0):
        raise ValueError(f"alpha: got {alpha!r}, expected 'auto' or a number from 0.")
    level = max(np.trace(training.xx) / len(training.xx), np.finfo(float).tiny)
    penalties = (_PENALTIES if held.n else (_PENALTY,)) if alpha == "auto" else (alpha,)
    weights = solve_ridge(training.xx, training.xy, [(penalty + 1e-12) * level for penalty in penalties])
    best = 0
    if len(penalties) > 1:
        best = int(np.argmin([np.sum(w * (held.xx @ w)) - 2 * np.sum(w * held.xy) for w in weights]))
    return weights[best].T, float(penalties[best])
