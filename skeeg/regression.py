"""Ridge regression with lags, and the standardisation before it: from arrays, or from data read chunk by chunk."""

import numpy as np
from sklearn.utils._param_validation import StrOptions

from .base import EEGTransformer
from .covariance import inverse_sqrt
from .model_selection import BlockedSplit
from .storage import Storable

ALPHAS = tuple(10.0**power for power in range(7))
"""Penalties that `choose_alpha` tries, for standardised features."""
_N_BLOCKS = 5
_PENALTIES = tuple(10.0**power for power in np.arange(-6, 2.1, 0.5))  # in units of the mean variance
_PENALTY = 1e-2  # without held-out samples
_EIGENVALUE_FLOOR = 1e-6  # an average reference leaves a direction that contains only rounding errors


def lagged(signals, lags, edge="hold"):
    """Signals with lags, (n_trials, ..., n_times) to (n_trials, n_lags, ..., n_times)."""
    n_times = signals.shape[-1]
    index = np.arange(n_times) - np.asarray(lags)[:, None]
    values = np.moveaxis(signals[..., np.clip(index, 0, n_times - 1)], -2, 1)
    if edge == "hold":
        return values
    inside = (index >= 0) & (index < n_times)
    return values * inside.reshape(1, len(index), *[1] * (signals.ndim - 2), n_times)


def moments(chunks):
    """Mean and standard deviation of each channel of chunks (n_trials, n_channels, ...) that are read once."""
    sums = shift = None
    for parts in chunks:
        parts = [np.asarray(part).reshape(*part.shape[:2], -1) for part in parts]
        if shift is None:  # sums about an approximate mean lose no digits
            shift = [part.mean(axis=(0, 2), dtype=np.float64) for part in parts]
        new = [_sums(part - mean[:, None]) for part, mean in zip(parts, shift, strict=True)]
        sums = new if sums is None else [a + b for a, b in zip(sums, new, strict=True)]
    result = []
    for (count, first, second), mean in zip(sums, shift, strict=True):
        off = first / count
        result.append((mean + off, np.sqrt(np.maximum(second / count - off**2, 0))))
    return result


def _sums(part):
    """Count the samples, and sum values and squares of each channel, shape (3, n_channels)."""
    first, second = part.sum(axis=(0, 2)), np.square(part).sum(axis=(0, 2))
    return np.stack([np.full_like(first, part.shape[0] * part.shape[2]), first, second])


class ChannelScaler(Storable, EEGTransformer):
    """Centre the channels and scale or whiten them, :math:`W (x(t) - m)`, by statistics over the trials of fit."""

    _parameter_constraints = {"method": [StrOptions({"channel", "global", "whiten"})]}

    def __init__(self, method="channel"):
        self.method = method

    def _prepare(self, X, y):
        data = np.asarray(X)
        ((mean, deviation),) = moments([(data,)])
        if self.method == "global":
            deviation = np.full_like(deviation, np.sqrt(np.mean(deviation**2) + np.var(mean)))
            mean = np.zeros_like(mean)
        self.mean_, self.matrix_ = mean, np.diag(1 / np.where(deviation > 0, deviation, 1.0))
        if self.method == "whiten":
            centred = data - mean[:, None]
            products = CrossProducts([(centred, centred[:, :1])])
            self.matrix_ = inverse_sqrt(products.xx / products.n, _EIGENVALUE_FLOOR)

    def _run(self, X):
        data = np.asarray(X)
        return X.like(self.matrix_.astype(data.dtype) @ (data - self.mean_.astype(data.dtype)[:, None]))


def solve_ridge(gram, cross, alphas):
    r"""Solve :math:`(G + \alpha I)\, W = C` for several penalties, from one decomposition."""
    values, vectors = np.linalg.eigh(gram)
    projected, values = vectors.T @ cross, np.maximum(values, 0.0)
    least = np.finfo(np.float64).tiny
    return [vectors @ (projected / np.maximum(values + alpha, least)[:, None]) for alpha in alphas]


def ridge_weights(features, targets, alphas):
    """Weights (n_features, n_targets) of ridge regression without an intercept, for each penalty."""
    if features.shape[1] > features.shape[0]:  # by the smaller of the two products
        return [features.T @ one for one in solve_ridge(features @ features.T, targets, alphas)]
    return solve_ridge(features.T @ features, features.T @ targets, alphas)


def choose_alpha(features, targets, gap):
    """Choose the penalty of least squared error over five blocks of time; the middle one for too few rows."""
    n_rows = len(features)
    if n_rows < _N_BLOCKS * (gap + 2):
        return ALPHAS[len(ALPHAS) // 2]
    errors = np.zeros(len(ALPHAS))
    for train, test in BlockedSplit(_N_BLOCKS, gap=gap).split(features):
        weights = ridge_weights(features[train], targets[train], ALPHAS)
        errors += [np.sum((features[test] @ weight - targets[test]) ** 2) for weight in weights]
    return ALPHAS[int(errors.argmin())]


class CrossProducts:
    """Second moments of inputs and targets in chunks (n_trials, n_inputs, n_times), all that ridge regression needs."""

    def __init__(self, chunks=()):
        self.n = self.xx = self.xy = 0
        for chunk in chunks:
            x, y = (np.asarray(one, dtype=np.float64).transpose(1, 0, 2).reshape(one.shape[1], -1) for one in chunk)
            self.n, self.xx, self.xy = self.n + x.shape[1], self.xx + x @ x.T, self.xy + x @ y.T

    def __add__(self, other):
        """Products of both sets of samples."""
        total = CrossProducts()
        total.n, total.xx, total.xy = self.n + other.n, self.xx + other.xx, self.xy + other.xy
        return total


def ridge_from_products(training, held, alpha="auto"):
    r"""Ridge regression (n_targets, n_inputs), with the penalty that predicts the held-out samples best.

    :math:`W = C_{yx} (C_{xx} + \alpha \bar\sigma^2 I)^{-1}` with :math:`\bar\sigma^2` the mean variance of the inputs.
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
