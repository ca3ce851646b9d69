"""Integrals of gradients along straight lines, by quadrature that knows its own error.

Along the line from a background trial to the trial, the values of the explained function at both ends of a stretch are
known. The integral of its derivative over the stretch must be their difference, so Gauss-Legendre quadrature can be
held against the truth, stretch by stretch, and only those are halved that miss it. Everything is in float64.
"""

import numpy as np
import torch

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(5)
_NODES, _WEIGHTS = (_NODES + 1) / 2, _WEIGHTS / 2


def integrate(score, starts, ends, owner, tolerance, batch_size=64, max_evaluations=4000):
    r"""Mean gradient along lines.

    .. math:: \bar g = \int_0^1 \nabla f(x' + \alpha (x - x')) \, d\alpha

    Parameters
    ----------
    score : callable
        From a Tensor (batch, n_channels, n_times) and the owners (batch,) of the points to values (batch,).
    starts, ends : ndarray of float64, shape (n_pairs, n_channels, n_times)
        Ends of each line.
    owner : ndarray of int, shape (n_pairs,)
        Trial that each line belongs to. Lines of one trial are averaged, so they share its tolerance.
    tolerance : float
        Error allowed in the mean over a trial's lines, in units of the function.
    batch_size : int
        Points at which gradients are computed together.
    max_evaluations : int
        Gradients a line at most; what has not converged by then is kept as it is.

    Returns
    -------
    gradients : ndarray, shape (n_pairs, n_channels, n_times)
        Mean gradient along each line.
    n_evaluations : int
        Gradients that were computed.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.explain.quadrature import integrate
    >>> ends = np.ones((1, 1, 2))
    >>> integrate(lambda x, owner: (x**3).sum((1, 2)), 0 * ends, ends, np.zeros(1, int), 1e-6)[0]
    array([[[1., 1.]]])
    """
    counts = np.bincount(owner)
    values = [_values(score, points, owner, batch_size) for points in (starts, ends)]
    gradients, spent = np.zeros(starts.shape), 0
    todo, factor = np.arange(len(starts)), 1.0
    for _ in range(4):  # again, more strictly, for trials whose errors add up instead of cancelling
        limit = factor * tolerance * counts[owner[todo]] / 3
        gradients[todo], used = _adapt(
            score,
            starts[todo],
            ends[todo],
            owner[todo],
            [part[todo] for part in values],
            limit,
            batch_size,
            max_evaluations,
        )
        spent += used
        gaps = (gradients * (ends - starts)).sum(axis=(1, 2)) - (values[1] - values[0])
        errors = np.abs(np.bincount(owner, gaps, minlength=len(counts))) / np.maximum(counts, 1)
        todo, factor = np.flatnonzero(errors[owner] > tolerance), factor / 8
        if not len(todo) or spent > max_evaluations * len(starts):
            break
    return gradients, spent


def _adapt(score, starts, ends, owner, values, limit, batch_size, max_evaluations):
    """Halve the stretches of all lines until their errors are small enough; give mean gradients and the cost."""
    stretches = np.bincount(owner)  # of each trial
    pairs = np.arange(len(starts))
    lows, highs, f_lows, f_highs = np.zeros(len(pairs)), np.ones(len(pairs)), *values
    gradients, spent = np.zeros(starts.shape), 0
    size = max(1, batch_size // len(_NODES))
    while len(pairs):
        allowed = limit[pairs] / np.sqrt(stretches[owner[pairs]])
        done = np.empty(len(pairs), dtype=bool)
        for first in range(0, len(pairs), size):
            rows = slice(first, first + size)
            totals, rises = _stretch(score, starts, ends, owner, pairs[rows], lows[rows], highs[rows])
            errors = np.abs(rises - (f_highs - f_lows)[rows])
            done[rows] = kept = (errors <= allowed[rows]) | (spent > max_evaluations * len(starts))
            np.add.at(gradients, pairs[rows][kept], totals[kept])
            spent += len(errors) * len(_NODES)
        rest = ~done
        if not rest.any():
            break
        np.add.at(stretches, owner[pairs[rest]], 1)
        pairs, lows, highs, f_lows, f_highs = (part[rest] for part in (pairs, lows, highs, f_lows, f_highs))
        middles = (lows + highs) / 2
        points = starts[pairs] + middles[:, None, None] * (ends[pairs] - starts[pairs])
        f_middles = _values(score, points, owner[pairs], batch_size)
        pairs = np.concatenate([pairs, pairs])
        lows, highs = np.concatenate([lows, middles]), np.concatenate([middles, highs])
        f_lows, f_highs = np.concatenate([f_lows, f_middles]), np.concatenate([f_middles, f_highs])
    return gradients, spent


def _stretch(score, starts, ends, owner, pairs, lows, highs):
    """Integral of the gradient, and of the derivative along the line, over each stretch."""
    along, width = ends[pairs] - starts[pairs], highs - lows
    at = lows[:, None] + width[:, None] * _NODES
    points = (starts[pairs][:, None] + at[:, :, None, None] * along[:, None]).reshape(-1, *starts.shape[1:])
    slopes = _gradients(score, points, np.repeat(owner[pairs], len(_NODES))).reshape(len(pairs), len(_NODES), -1)
    totals = np.einsum("pk,pkv->pv", width[:, None] * _WEIGHTS, slopes).reshape(along.shape)
    return totals, (totals * along).sum(axis=(1, 2))


def _gradients(score, points, owner):
    x = torch.from_numpy(np.ascontiguousarray(points)).requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(score(x, owner).sum(), x)
    return gradient.numpy()


def _values(score, points, owner, batch_size):
    """Values of the function at points, without gradients."""
    with torch.no_grad():
        parts = [
            score(torch.from_numpy(np.ascontiguousarray(points[i : i + batch_size])), owner[i : i + batch_size])
            for i in range(0, len(points), batch_size)
        ]
    return torch.cat(parts).numpy()
