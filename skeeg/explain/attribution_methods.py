"""Methods of attribution: expected and integrated gradients, shap's explainers, occlusion.

Each gives the attributed values (n_trials, n_channels, n_times) of a `Case`.
"""

import contextlib
import copy
import warnings

import numpy as np
import torch
from torch import nn

from .linear_maps import split_pipeline

METHODS = ("expected_gradients", "integrated_gradients", "deep_shap", "gradient_shap", "occlusion")
_PAIRS = 128  # lines whose gradients are held together, about
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(5)
_NODES, _WEIGHTS = (_NODES + 1) / 2, _WEIGHTS / 2


class Case:
    """Trials, background and explained columns, with the outputs of a model (`Explained` or `BlackBox`) for all."""

    def __init__(self, model, X, background, chosen, target):
        self.model, self.chosen = model, chosen
        self.data, self.background = np.asarray(X), background
        outputs = model.outputs(range(len(X)), self.data)
        self.columns = choose_targets(outputs, model.classes, target)
        self.prediction = outputs[np.arange(len(X)), self.columns]
        self.labels = np.arange(outputs.shape[1]) if model.classes is None else np.asarray(model.classes)
        self.predicted = None if model.classes is None else self.labels[outputs.argmax(axis=1)]
        cases = enumerate(zip(chosen, self.columns, strict=True))
        starts = [model.outputs([i] * len(rows), background[rows])[:, column] for i, (rows, column) in cases]
        self.base = np.array([part.mean() for part in starts])
        everything = np.concatenate([self.prediction, *starts])
        self.range = float(np.ptp(everything)) or max(float(np.abs(everything).max()), 1e-300)


def choose_targets(outputs, classes, target):
    """Column of the output (n_trials, n_outputs) that is explained in each trial; None takes the largest."""
    if target is None:
        return outputs.argmax(axis=1)
    wanted = np.broadcast_to(np.asarray(target), len(outputs)) if np.ndim(target) == 0 else np.asarray(target)
    if wanted.shape != (len(outputs),):
        raise ValueError(f"target: got shape {wanted.shape} for {len(outputs)} trials.")
    known = np.arange(outputs.shape[1]) if classes is None else np.asarray(classes)
    unknown = [one for one in np.unique(wanted).tolist() if one not in known.tolist()]
    if unknown:
        raise ValueError(f"target: unknown {unknown}; expected one of {known.tolist()}.")
    place = {label: i for i, label in enumerate(known.tolist())}
    return np.array([place[label] for label in wanted.tolist()])


class BlackBox:
    """A fitted estimator of which only the predictions are known, with the interface of `Explained`."""

    def __init__(self, estimator, X, output):
        name = type(split_pipeline(estimator)[1]).__name__
        self.estimator, self.X, self.output = estimator, X, output
        methods = [one for one in ("predict_proba", "decision_function") if hasattr(estimator, one)]
        if not methods:
            raise TypeError(f"estimator: {name} has neither predict_proba nor decision_function.")
        self.has_probabilities = methods[0] == "predict_proba"
        self.classes = estimator.classes_

    def outputs(self, which, X):
        """Predict trials of the domains of the explained trials of these numbers; gives (n, n_outputs)."""
        domains = None if self.X.domains is None else self.X.domains[list(which)]
        X = self.X.like(np.asarray(X), domains=domains)
        if not self.has_probabilities:
            scores = np.asarray(self.estimator.decision_function(X), dtype=np.float64)
            return np.stack([-scores, scores], axis=1) / 2 if scores.ndim == 1 else scores
        chances = np.asarray(self.estimator.predict_proba(X), dtype=np.float64)
        if self.output == "probability":
            return chances
        logs = np.log(np.maximum(chances, np.finfo(float).tiny))
        return logs if self.output == "log_probability" else logs - logs.mean(axis=1, keepdims=True)


def by_occlusion(case, n_windows):
    """Decrease of the output when a segment of a channel is replaced by that of background trials."""
    n_times = case.data.shape[2]
    edges = np.linspace(0, n_times, min(n_windows, n_times) + 1).round().astype(int)
    values = np.empty(case.data.shape)
    for i, trial in enumerate(case.data):
        others = case.background[case.chosen[i]]
        for channel in range(len(trial)):
            changed = np.tile(trial, (len(edges) - 1, len(others), 1, 1))
            for window, (low, high) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
                changed[window, :, channel, low:high] = others[:, channel, low:high]
            changed = changed.reshape(-1, *trial.shape)
            scores = case.model.outputs([i] * len(changed), changed)[:, case.columns[i]]
            falls = case.prediction[i] - scores.reshape(len(edges) - 1, -1).mean(axis=1)
            values[i, channel] = np.repeat(falls / np.diff(edges), np.diff(edges))
    return values


def by_paths(case, bands, sfreq, tolerance, batch_size, max_evaluations):
    """Integrals of gradients along the lines from the background, a few trials at a time; also in each band."""
    masks = {} if bands is None else _band_masks(bands, sfreq, case.data.shape[2])
    values, parts = np.empty(case.data.shape), {name: np.empty(case.data.shape) for name in masks}
    step = case.model.map
    blocks = np.cumsum([len(rows) for rows in case.chosen]) // _PAIRS
    for rows in np.split(np.arange(len(case.data)), np.flatnonzero(np.diff(blocks)) + 1):
        owner = np.repeat(np.arange(len(rows)), [len(case.chosen[i]) for i in rows])
        which, columns = rows[owner], case.columns[rows]
        starts = np.concatenate([case.background[case.chosen[i]] for i in rows])
        ends = case.data[rows][owner]

        def score(z, points, columns=columns):
            return case.model.score(z)[np.arange(len(z)), columns[points]]

        lines = step.apply(starts, which), step.apply(ends, which), owner
        gradients, _ = integrate(score, *lines, tolerance * case.range / 2, batch_size, max_evaluations)
        back = step.adjoint(gradients, which)
        for place, i in enumerate(rows):
            own = owner == place
            change, slope = ends[own] - starts[own], back[own]
            values[i] = (change * slope).mean(axis=0)
            for name, component in _components(change, masks):
                parts[name][i] = (component * slope).mean(axis=0)
    return values, parts or None


def _band_masks(bands, sfreq, n_times):
    """Frequencies of each band, and of the rest, as masks over those of a trial's Fourier transform."""
    if sfreq is None:
        raise ValueError("bands: the trials have no sampling rate; pass as_eeg(X, sfreq=...).")
    freqs = np.fft.rfftfreq(n_times, 1 / sfreq)
    masks = {f"{low:g}-{high:g} Hz": (freqs >= low) & (freqs < high) for low, high in bands}
    taken = np.sum(list(masks.values()), axis=0)
    if taken.max() > 1:
        raise ValueError(f"bands: {bands} overlap, so that their shares would not sum to the whole.")
    return masks | {"rest": taken == 0}


def _components(data, masks):
    """Trials in each band; together they are the trials."""
    spectrum = np.fft.rfft(data, axis=-1)
    for name, mask in masks.items():
        yield name, np.fft.irfft(spectrum * mask, data.shape[-1], axis=-1)


def integrate(score, starts, ends, owner, tolerance, batch_size=64, max_evaluations=4000):
    r"""Mean gradient along lines, shape (n_pairs, n_channels, n_times), by quadrature with a known error, in float64.

    .. math:: \bar g = \int_0^1 \nabla f(x' + \alpha (x - x')) \, d\alpha

    The integral of the derivative over an interval is the difference of the function's values at its ends. So the error
    of Gauss-Legendre quadrature is known for each interval, and only those above the tolerance are halved.
    """
    counts = np.bincount(owner)
    values = [_values(score, points, owner, batch_size) for points in (starts, ends)]
    gradients, spent = np.zeros(starts.shape), 0
    todo, factor = np.arange(len(starts)), 1.0
    for _ in range(4):  # again, more strictly, for trials whose errors add up instead of cancelling
        limit = factor * tolerance * counts[owner[todo]] / 3
        some = starts[todo], ends[todo], owner[todo], [part[todo] for part in values]
        gradients[todo], used = _adapt(score, *some, limit, batch_size, max_evaluations)
        spent += used
        gaps = (gradients * (ends - starts)).sum(axis=(1, 2)) - (values[1] - values[0])
        errors = np.abs(np.bincount(owner, gaps, minlength=len(counts))) / np.maximum(counts, 1)
        todo, factor = np.flatnonzero(errors[owner] > tolerance), factor / 8
        if not len(todo) or spent > max_evaluations * len(starts):
            break
    return gradients, spent


def _adapt(score, starts, ends, owner, values, limit, batch_size, max_evaluations):
    """Halve the intervals of all lines until their errors are small enough; mean gradients and the cost."""
    intervals = np.bincount(owner)  # of each trial
    pairs = np.arange(len(starts))
    lows, highs, f_lows, f_highs = np.zeros(len(pairs)), np.ones(len(pairs)), *values
    gradients, spent = np.zeros(starts.shape), 0
    size = max(1, batch_size // len(_NODES))
    while len(pairs):
        allowed = limit[pairs] / np.sqrt(intervals[owner[pairs]])
        done = np.empty(len(pairs), dtype=bool)
        for first in range(0, len(pairs), size):
            rows = slice(first, first + size)
            totals, rises = _interval(score, starts, ends, owner, pairs[rows], lows[rows], highs[rows])
            errors = np.abs(rises - (f_highs - f_lows)[rows])
            done[rows] = kept = (errors <= allowed[rows]) | (spent > max_evaluations * len(starts))
            np.add.at(gradients, pairs[rows][kept], totals[kept])
            spent += len(errors) * len(_NODES)
        rest = ~done
        if not rest.any():
            break
        np.add.at(intervals, owner[pairs[rest]], 1)
        pairs, lows, highs, f_lows, f_highs = (part[rest] for part in (pairs, lows, highs, f_lows, f_highs))
        middles = (lows + highs) / 2
        points = starts[pairs] + middles[:, None, None] * (ends[pairs] - starts[pairs])
        f_middles = _values(score, points, owner[pairs], batch_size)
        pairs = np.concatenate([pairs, pairs])
        lows, highs = np.concatenate([lows, middles]), np.concatenate([middles, highs])
        f_lows, f_highs = np.concatenate([f_lows, f_middles]), np.concatenate([f_middles, f_highs])
    return gradients, spent


def _interval(score, starts, ends, owner, pairs, lows, highs):
    """Integral of the gradient, and of the derivative along the line, over each interval."""
    along, width = ends[pairs] - starts[pairs], highs - lows
    at = lows[:, None] + width[:, None] * _NODES
    points = (starts[pairs][:, None] + at[:, :, None, None] * along[:, None]).reshape(-1, *starts.shape[1:])
    x = torch.from_numpy(np.ascontiguousarray(points)).requires_grad_()
    with torch.enable_grad():
        (slopes,) = torch.autograd.grad(score(x, np.repeat(owner[pairs], len(_NODES))).sum(), x)
    slopes = slopes.numpy().reshape(len(pairs), len(_NODES), -1)
    totals = np.einsum("pk,pkv->pv", width[:, None] * _WEIGHTS, slopes).reshape(along.shape)
    return totals, (totals * along).sum(axis=(1, 2))


def _values(score, points, owner, batch_size):
    """Values of the function at points, without gradients."""
    with torch.no_grad():
        parts = [
            score(torch.from_numpy(np.ascontiguousarray(points[i : i + batch_size])), owner[i : i + batch_size])
            for i in range(0, len(points), batch_size)
        ]
    return torch.cat(parts).numpy()


# Modules of torch and of braindecode that act elementwise, and modules that are linear.
_ELEMENTWISE = ("Square", "SafeLog", "LogActivation", "SiLU", "Mish", "SELU", "CELU", "ReLU6", "Hardtanh", "Hardswish")
_LINEAR = ("Ensure4d", "Rearrange", "CombinedConv", "Conv2dWithConstraint", "LinearWithConstraint", "ZeroPad2d",
           "MaxNormLinear", "AvgPool2dWithConv", "_LinearSteps")  # fmt: skip


class _LinearSteps(nn.Module):
    """The linear steps of a pipeline, as a layer."""

    def __init__(self, spatial, temporal):
        super().__init__()
        self.register_buffer("spatial", torch.from_numpy(np.ascontiguousarray(spatial)))
        self.register_buffer("temporal", None if temporal is None else torch.from_numpy(temporal.T.copy()))

    def forward(self, x):
        y = self.spatial @ x
        return y if self.temporal is None else y @ self.temporal


class _Column(nn.Module):
    """One explained output of a pipeline whose steps are linear, as a module on the pipeline's input."""

    def __init__(self, score, step, which, column):
        super().__init__()
        self.steps, self.score, self.column = _LinearSteps(step.spatial[which], step.temporal), score, column

    def forward(self, x):
        return self.score(self.steps(x))[:, self.column : self.column + 1]


def by_shap(case, method, n_samples, batch_size, seed):
    """Attributions (n_trials, n_channels, n_times) by shap's DeepExplainer or GradientExplainer."""
    values, step = np.empty(case.data.shape), case.model.map
    matrices = (matrix.tobytes() for matrix in step.spatial)
    keys = list(zip(matrices, case.columns.tolist(), map(tuple, case.chosen), strict=True))
    for key in dict.fromkeys(keys):  # trials that one explainer serves
        rows = np.flatnonzero([one == key for one in keys])
        _, column, chosen = key
        module = _Column(case.model.score, step, rows[0], column)
        trials, background = (
            torch.from_numpy(np.array(part)) for part in (case.data[rows], case.background[list(chosen)])
        )
        try:
            values[rows] = _run(module, trials, background, method, n_samples, batch_size, seed)
        except (RuntimeError, TypeError, AssertionError) as error:
            name = type(module.score.module).__name__
            raise ValueError(f'method="{method}": shap cannot run through {name}: {error}') from error
    return values


def _run(module, trials, background, method, n_samples, batch_size, seed):
    import shap

    with warnings.catch_warnings(), _known_operations():
        warnings.simplefilter("ignore")
        if method == "gradient_shap":
            module = copy.deepcopy(module).float()  # it draws in single precision, whatever it is given
            explainer = shap.GradientExplainer(module, background.float(), batch_size=batch_size)
            found = explainer.shap_values(trials.float(), nsamples=n_samples, rseed=seed)
        else:
            found = shap.DeepExplainer(module, background).shap_values(trials, check_additivity=False)
    return np.asarray(found).reshape(trials.shape)


@contextlib.contextmanager
def _known_operations():
    """Add the operations of EEG networks to those that shap knows."""
    from shap.explainers._deep.deep_pytorch import linear_1d, nonlinear_1d, op_handler

    added = {name: nonlinear_1d for name in _ELEMENTWISE} | {name: linear_1d for name in _LINEAR}
    added = {name: handler for name, handler in added.items() if name not in op_handler}
    op_handler.update(added)
    try:
        yield
    finally:
        for name in added:
            del op_handler[name]
