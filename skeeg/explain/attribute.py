"""Feature attribution of predictions to channels and samples."""

import warnings

import numpy as np

from ..base import draw_seed
from .attribution import Attribution
from .explained import OUTPUTS, Explained, choose_background, choose_targets, read_trials
from .quadrature import integrate

_ON_ERROR = ("raise", "warn", "ignore")
METHODS = ("expected_gradients", "integrated_gradients", "deep_shap", "gradient_shap", "occlusion")
_PAIRS = 128  # lines whose gradients are held together


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
        of the background (without completeness).
    target : None, label, or array-like, shape (n_trials,)
        Class to explain, or number of the output of a regressor; None explains what is predicted.
    tolerance : float
        Largest completeness error, relative to the range of the explained outputs over trials and background.
    output : {"margin", "logit", "log_probability", "probability"}
        Explained output of a classifier: the logit less the mean logit of all classes, which does not change where
        probabilities do not; the logit; or what its softmax gives.
    bands : sequence of pairs of float, or None
        Edges in hertz. The attribution is parted into those of the components of the trials in each band, and the rest.
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
        from .occlusion import occlude

        return occlude(estimator, X, background, chosen, target, output, n_windows)
    explained = Explained(estimator, X, output)
    case = _Case(explained, X, np.asarray(background, dtype=np.float64), chosen, target)
    if method.endswith("shap"):
        from .shap_explainers import by_shap

        values, count = by_shap(case, method, n_samples, batch_size, draw_seed(random_state))
        found = case.report(values, None, method, count)
    else:
        found = _by_paths(case, bands, method, tolerance, batch_size, max_evaluations)
    _judge(found, tolerance, on_error)
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
        for i in rows:
            key = index[i], tuple(chosen[i])
            if key not in known:
                known[key] = explained.outputs([index[i]] * len(chosen[i]), background[chosen[i]])
        starts = [known[index[i], tuple(chosen[i])][:, self.columns[i]] for i in rows]
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

        gradients, spent = integrate(
            score,
            step.apply(starts, which),
            step.apply(ends, which),
            owner,
            tolerance * case.range / 2,
            batch_size,
            max_evaluations,
        )
        count += spent
        back = step.adjoint(gradients, which)
        for place, i in enumerate(rows):
            mine = owner == place
            change, slope = ends[mine] - starts[mine], back[mine]
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
        raise ValueError("bands: the trials carry no sampling rate; pass trials that do, such as as_eeg(X, sfreq=...).")
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


def _judge(found, tolerance, on_error):
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
