"""Occlusion: decrease of a prediction when a segment of a channel is replaced."""

import numpy as np

from .attribution import Attribution
from .explained import Explained, choose_targets, fitted_network, split_pipeline


def occlude(estimator, X, background, chosen, target=None, output="margin", n_windows=10):
    r"""Decrease of the output when a segment of a channel is replaced by that of background trials.

    .. math:: \phi_{c,w} = f(x) - \frac{1}{m} \sum_{x'} f(x \text{ with } x_{c,w} := x'_{c,w})

    distributed evenly over the samples of the segment.

    Parameters
    ----------
    estimator : estimator, Pipeline or nn.Module
        Fitted.
    X, background : EEGArray, shape (n, n_channels, n_times)
        Trials.
    chosen : list of ndarray of int, length n_trials
        Background trials of each trial.
    target, output
        See `skeeg.explain.attribute`.
    n_windows : int
        Segments of a trial.

    Returns
    -------
    attribution : Attribution
        Its ``error`` tells how far the values are from summing to the prediction less the base value.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg import as_eeg, baseline
    >>> from skeeg.explain.occlusion import occlude
    >>> X, y = as_eeg(np.random.default_rng(0).normal(size=(20, 3, 60))), np.repeat([0, 1], 10)
    >>> X[10:, 1] *= 4
    >>> found = occlude(baseline("CSP+LDA").fit(X, y), X[:4], X, [np.arange(20)] * 4, n_windows=1)
    >>> found.importance().argmax()
    np.int64(1)
    """
    predict, classes = _predictor(estimator, X, output)
    outputs = predict(X, np.arange(len(X)))
    columns = choose_targets(outputs, classes, target)
    prediction = outputs[np.arange(len(X)), columns]
    edges = np.linspace(0, X.shape[2], min(n_windows, X.shape[2]) + 1).round().astype(int)
    values, base, extremes, count = np.empty(X.shape), np.empty(len(X)), list(prediction), 0
    others = np.asarray(background, dtype=np.float64)
    for i, trial in enumerate(np.asarray(X)):
        there = predict(X.like(others[chosen[i]], domains=_same(X, i, len(chosen[i]))), [i] * len(chosen[i]))[
            :, columns[i]
        ]
        base[i] = there.mean()
        extremes += there.tolist()
        for channel in range(X.shape[1]):
            changed = np.repeat(trial[None, None], len(edges) - 1, axis=0).repeat(len(chosen[i]), axis=1)
            for window, (low, high) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
                changed[window, :, channel, low:high] = others[chosen[i], channel, low:high]
            flat = changed.reshape(-1, *trial.shape)
            scores = predict(X.like(flat, domains=_same(X, i, len(flat))), [i] * len(flat))[:, columns[i]]
            falls = prediction[i] - scores.reshape(len(edges) - 1, -1).mean(axis=1)
            values[i, channel] = np.repeat(falls / np.diff(edges), np.diff(edges))
            count += len(flat)
    gap = np.abs(values.sum(axis=(1, 2)) - (prediction - base))
    labels = np.asarray(classes) if classes is not None else np.arange(outputs.shape[1])
    return Attribution(
        values, np.asarray(X), prediction, base, gap / (np.ptp(extremes) or 1.0), labels[columns],
        labels[outputs.argmax(axis=1)], "occlusion", X.ch_names, X.sfreq, X.domains, None, count,
    )  # fmt: skip


def _same(X, i, n):
    return None if X.domains is None else np.repeat(X.domains[i : i + 1], n)


def _predictor(estimator, X, output):
    """Give a function from trials, and the number of the trial whose alignment they share, to outputs."""
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

    return predict, getattr(estimator, "classes_", None)
