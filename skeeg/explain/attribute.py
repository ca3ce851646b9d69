"""Feature attribution of predictions to channels and samples: integrals of gradients, and occlusion."""

import warnings

import numpy as np
import torch

from ..base import draw_seed
from .attribution import Attribution
from .explained import (
    OUTPUTS,
    Explained,
    choose_background,
    choose_targets,
    fitted_network,
    read_trials,
    split_pipeline,
)

_ON_ERROR = ("raise", "warn", "ignore")
METHODS = ("expected_gradients", "integrated_gradients", "deep_shap", "gradient_shap", "occlusion")
_PAIRS = 128  # lines whose gradients are held together
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(5)
_NODES, _WEIGHTS = (_NODES + 1) / 2, _WEIGHTS / 2


def attribute(
    estimator,
    X,
    background=None,
    method="expected_gradients",
    target=None,
    tolerance=1e-5,
    *,
    output="margin",
    bands=None,
    on_error="raise",
    n_background=20,
    n_windows=10,
    n_samples=200,
    batch_size=64,
    max_evaluations=4000,
    random_state=0,
):
    r"""Attribute predictions of a network, or of a pipeline with one, to channels and samples.

    Expected gradients [1]_ average, over background trials :math:`x'`, the integrated gradients [2]_ along the straight
    line to the trial,

    .. math:: \phi = \frac{1}{m} \sum_{x'} (x - x') \odot A^T \int_0^1 \nabla f(A (x' + \alpha (x - x'))) \, d\alpha

    with f the network and A the linear steps before it: filters, resampling, references, templates, alignment (its
    reference held fixed). So :math:`\phi` belongs to the trials as they enter the pipeline, and sums to the output less
    its mean over the background. The integral is by quadrature that refines itself until that holds to `tolerance`.

    Parameters
    ----------
    estimator : estimator, Pipeline or torch.nn.Module
        Fitted. For ``method="occlusion"`` anything that has ``predict_proba`` or ``decision_function`` is accepted.
    X : anything `as_eeg` accepts, shape (n_trials, n_channels, n_times)
        Trials to explain.
    background : anything `as_eeg` accepts, or None
        Background trials; None takes X itself. For ``"integrated_gradients"`` the baseline is their mean, and None is a
        zero baseline.
    method : str
        ``"expected_gradients"``, ``"integrated_gradients"``; shap's ``"deep_shap"`` (convolutional networks of modules
        that shap knows, activations of braindecode added) and ``"gradient_shap"`` (random sampling: its error is mostly
        far above `tolerance`); ``"occlusion"``, decrease of the output when a segment of a channel is replaced by that
        of the background, distributed evenly over its samples (without completeness).
    target : None, label, or array-like, shape (n_trials,)
        Class to explain, or number of the output of a regressor; None explains what is predicted.
    tolerance : float
        Largest completeness error, relative to the range of the explained outputs over trials and background.
    output : {"margin", "logit", "log_probability", "probability"}
        Explained output of a classifier: the logit less the mean logit of all classes, which does not change where
        probabilities do not; the logit; or what its softmax gives.
    bands : sequence of pairs of float, or None
        Edges in hertz. The attribution is divided into that of the trials' components in each band, and the rest.
    on_error : {"raise", "warn", "ignore"}
        Behaviour above the tolerance.
    n_background : int
        Largest number of background trials per trial; of the same domain if there are any.
    n_windows : int
        Segments of a trial for ``"occlusion"``.
    n_samples : int
        Draws of ``"gradient_shap"``.
    batch_size : int
        Points at which gradients are computed together.
    max_evaluations : int
        Gradients for each pair of trial and background trial at most.
    random_state : int, RandomState or None
        Of ``"gradient_shap"``.

    Returns
    -------
    attribution : Attribution
        Attributed values, and the sums they should have.

    References
    ----------
    .. [1] Erion, G., Janizek, J. D., Sturmfels, P., Lundberg, S. M., & Lee, S.-I. (2021). Improving performance of
       deep learning models with axiomatic attribution priors and expected gradients. Nature Machine Intelligence, 3,
       620-631.
    .. [2] Sundararajan, M., Taly, A., & Yan, Q. (2017). Axiomatic attribution for deep networks. ICML, 3319-3328.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg import NetworkClassifier
    >>> from skeeg.explain import attribute
    >>> X, y = np.random.default_rng(0).normal(size=(20, 3, 128)), np.repeat(["left", "right"], 10)
    >>> found = attribute(NetworkClassifier("EEGNet", max_epochs=2, random_state=0).fit(X, y), X[:2], X[2:6])
    >>> found.values.shape, bool(found.error.max() < 1e-5)
    ((2, 3, 128), True)
    """
    choices = {"method": (method, METHODS), "output": (output, OUTPUTS), "on_error": (on_error, _ON_ERROR)}
    for name, (value, allowed) in choices.items():
        if value not in allowed:
            raise ValueError(f"{name}: got {value!r}, expected one of {', '.join(map(repr, allowed))}.")
    sizes = {"n_background": n_background, "n_windows": n_windows, "n_samples": n_samples, "batch_size": batch_size}
    for name, value in sizes.items():
        if value < 1:
            raise ValueError(f"{name}: got {value}, expected 1 or more.")
    if bands is not None and method not in ("expected_gradients", "integrated_gradients"):
        raise ValueError(f'bands: needs "expected_gradients" or "integrated_gradients", got method={method!r}.')
    X = read_trials(estimator, X)
    zero_baseline = background is None and method == "integrated_gradients"
    background, chosen = choose_background(X, 0 * X[:1] if zero_baseline else background, n_background)
    if method == "integrated_gradients":
        means = np.stack([np.asarray(background)[rows].mean(axis=0) for rows in chosen])
        background, chosen = background.like(means, domains=X.domains), [np.array([i]) for i in range(len(X))]
    if method == "occlusion":
        return _occlude(estimator, X, np.asarray(background), chosen, target, output, n_windows)
    case = _Case(Explained(estimator, X, output), X, np.asarray(background), chosen, target)
    if method.endswith("shap"):
        from .attribution import by_shap

        values, count = by_shap(case, method, n_samples, batch_size, draw_seed(random_state))
        found = case.report(values, None, method, count)
    else:
        found = _by_paths(case, bands, method, tolerance, batch_size, max_evaluations)
    _check_completeness(found, tolerance, on_error)
    return found


class _Case:
    """Trials, background and explained columns, with the outputs of all."""

    def __init__(self, explained, X, background, chosen, target):
        self.explained, self.X, self.chosen = explained, X, chosen
        self.data, self.background = np.asarray(X), background
        index = explained.map.index
        outputs = explained.outputs(index, self.data)
        self.columns = choose_targets(outputs, explained.classes, target)
        rows = np.arange(len(X))
        self.prediction = outputs[rows, self.columns]
        self.predicted = None if explained.classes is None else np.asarray(explained.classes)[outputs.argmax(axis=1)]
        known = {}
        keys = [(index[i], *chosen[i]) for i in rows]
        for key, (which, *some) in dict(zip(keys, keys, strict=True)).items():
            known[key] = explained.outputs([which] * len(some), background[some])
        starts = [known[key][:, column] for key, column in zip(keys, self.columns, strict=True)]
        self.base = np.array([part.mean() for part in starts])
        everything = np.concatenate([self.prediction, *starts])
        self.range = float(np.ptp(everything)) or max(float(np.abs(everything).max()), 1e-300)

    def report(self, values, bands, method, count):
        """Collect the results."""
        gap = values.sum(axis=(1, 2)) - (self.prediction - self.base)
        classes = self.explained.classes
        return Attribution(
            values=values,
            data=self.data,
            prediction=self.prediction,
            base_value=self.base,
            error=np.abs(gap) / self.range,
            target=self.columns if classes is None else np.asarray(classes)[self.columns],
            predicted=self.predicted,
            method=method,
            ch_names=self.X.ch_names,
            sfreq=self.X.sfreq,
            domains=self.X.domains,
            band_values=bands,
            n_evaluations=count,
        )


def _by_paths(case, bands, method, tolerance, batch_size, max_evaluations):
    """Attribution by integrals of gradients, a few trials at a time."""
    masks = None if bands is None else _band_masks(bands, case.X.sfreq, case.data.shape[2])
    values = np.empty(case.data.shape)
    parts = None if masks is None else {name: np.empty(case.data.shape) for name in masks}
    count, step = 0, case.explained.map
    for rows in _blocks(case):
        owner = np.repeat(np.arange(len(rows)), [len(case.chosen[i]) for i in rows])
        which, columns = step.index[rows[0]], case.columns[rows]
        starts = np.concatenate([case.background[case.chosen[i]] for i in rows])
        ends = case.data[rows][owner]

        def score(z, points, columns=columns):
            return case.explained.score(z)[np.arange(len(z)), columns[points]]

        lines = step.apply(starts, which), step.apply(ends, which), owner
        gradients, spent = integrate(score, *lines, tolerance * case.range / 2, batch_size, max_evaluations)
        count += spent
        back = step.adjoint(gradients, which)
        for place, i in enumerate(rows):
            own = owner == place
            change, slope = ends[own] - starts[own], back[own]
            values[i] = (change * slope).mean(axis=0)
            for name, component in _components(change, masks):
                parts[name][i] = (component * slope).mean(axis=0)
    return case.report(values, parts, method, count)


def _blocks(case):
    """Trials of one spatial matrix each, few enough to hold the gradients of all their lines."""
    index = case.explained.map.index
    for which in np.unique(index):
        rows, block, lines = np.flatnonzero(index == which), [], 0
        for row in rows:
            if block and lines + len(case.chosen[row]) > _PAIRS:
                yield np.array(block)
                block, lines = [], 0
            block.append(row)
            lines += len(case.chosen[row])
        yield np.array(block)


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
    if masks is None:
        return
    spectrum = np.fft.rfft(data, axis=-1)
    for name, mask in masks.items():
        yield name, np.fft.irfft(spectrum * mask, data.shape[-1], axis=-1)


def _check_completeness(found, tolerance, on_error):
    """Warn or raise if completeness is violated."""
    worst = found.error.max()
    if worst <= tolerance or on_error == "ignore":
        return
    advice = {
        "gradient_shap": "it draws at random, so more n_samples help little",
        "deep_shap": "shap cannot follow some operation of this network",
    }.get(found.method, "raise max_evaluations, or tolerance")
    message = (
        f'method="{found.method}": the attributions miss the change of the output by up to {worst:.2g} of its range, '
        f'more than tolerance={tolerance:g} ({advice}). "expected_gradients" is exact for any network; on_error="warn" '
        "or \"ignore\" gives the attributions as they are."
    )  # fmt: skip
    if on_error == "raise":
        raise ValueError(message)
    warnings.warn(message, UserWarning, stacklevel=3)


def integrate(score, starts, ends, owner, tolerance, batch_size=64, max_evaluations=4000):
    r"""Mean gradient along lines, by quadrature with a known error, in float64.

    .. math:: \bar g = \int_0^1 \nabla f(x' + \alpha (x - x')) \, d\alpha

    The integral of the derivative over an interval of the line is the difference of the function's values at its ends.
    So the error of Gauss-Legendre quadrature is known for each interval, and only those above the tolerance are halved.

    Shapes: ``starts, ends`` (n_pairs, n_channels, n_times), ``owner`` (n_pairs,); gives (n_pairs, n_channels,
    n_times).

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.explain.attribute import integrate
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


def _occlude(estimator, X, background, chosen, target, output, n_windows):
    """Decrease of the output when a segment of a channel is replaced by that of background trials."""
    predict, classes = _predictor(estimator, X, output)
    outputs = predict(X, range(len(X)))
    columns = choose_targets(outputs, classes, target)
    prediction = outputs[np.arange(len(X)), columns]
    edges = np.linspace(0, X.shape[2], min(n_windows, X.shape[2]) + 1).round().astype(int)
    values, base, extremes, count = np.empty(X.shape), np.empty(len(X)), list(prediction), 0
    for i, trial in enumerate(np.asarray(X)):

        def scores_of(trials, i=i):
            domains = None if X.domains is None else np.repeat(X.domains[i : i + 1], len(trials))
            return predict(X.like(trials, domains=domains), [i] * len(trials))[:, columns[i]]

        others = background[chosen[i]]
        extremes += (starts := scores_of(others)).tolist()
        base[i] = starts.mean()
        for channel in range(X.shape[1]):
            changed = np.tile(trial, (len(edges) - 1, len(others), 1, 1))
            for window, (low, high) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
                changed[window, :, channel, low:high] = others[:, channel, low:high]
            scores = scores_of(changed.reshape(-1, *trial.shape))
            falls = prediction[i] - scores.reshape(len(edges) - 1, -1).mean(axis=1)
            values[i, channel] = np.repeat(falls / np.diff(edges), np.diff(edges))
            count += len(scores)
    gap = np.abs(values.sum(axis=(1, 2)) - (prediction - base))
    labels = np.asarray(classes) if classes is not None else np.arange(outputs.shape[1])
    return Attribution(
        values, np.asarray(X), prediction, base, gap / (np.ptp(extremes) or 1.0), labels[columns],
        labels[outputs.argmax(axis=1)], "occlusion", X.ch_names, X.sfreq, X.domains, None, count,
    )  # fmt: skip


def _predictor(estimator, X, output):
    """Make a function from trials, and the numbers of those whose alignment they share, to outputs; and the classes."""
    final = split_pipeline(estimator)[1]
    if fitted_network(final) is not None:
        explained = Explained(estimator, X, output)
        return (lambda trials, i: explained.outputs(explained.map.index[np.asarray(i)], trials)), explained.classes
    has_probabilities = hasattr(estimator, "predict_proba")
    if not (has_probabilities or hasattr(estimator, "decision_function")):
        raise TypeError(f"estimator: {type(final).__name__} has neither predict_proba nor decision_function.")

    def predict(trials, _):
        if not has_probabilities:
            scores = np.asarray(estimator.decision_function(trials), dtype=np.float64)
            return np.stack([-scores, scores], axis=1) / 2 if scores.ndim == 1 else scores
        chances = np.asarray(estimator.predict_proba(trials), dtype=np.float64)
        if output == "probability":
            return chances
        logs = np.log(np.maximum(chances, np.finfo(float).tiny))
        return logs - logs.mean(axis=1, keepdims=True) if output in ("margin", "logit") else logs

    return predict, estimator.classes_
