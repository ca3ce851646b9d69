"""Attribution of predictions to channels and samples: `attribute`, and its result, `Attribution`."""

from dataclasses import dataclass, replace

import numpy as np

from ..array import as_eeg
from ..base import draw_seed, warn
from .attribution_methods import METHODS, BlackBox, Case, by_occlusion, by_paths, by_shap
from .linear_maps import OUTPUTS, Explained, fitted_network, read_trials, split_pipeline

_ON_ERROR = ("raise", "warn", "ignore")


def attribute(
    estimator,
    X,
    background=None,
    method="expected_gradients",
    target=None,
    tolerance=1e-3,
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
    n_samples, random_state
        Draws of ``"gradient_shap"``, and their seed.
    batch_size, max_evaluations : int
        Gradients computed together, and at most for each pair of trial and background trial.

    Returns
    -------
    attribution : Attribution
        Attributed values, and the sums they should have.

    References
    ----------
    .. [1] Erion et al. (2021). Improving performance of deep learning models with axiomatic attribution priors and
       expected gradients. Nature Machine Intelligence, 3, 620-631.
    .. [2] Sundararajan, M., Taly, A., & Yan, Q. (2017). Axiomatic attribution for deep networks. ICML, 3319-3328.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg import NetworkClassifier
    >>> from skeeg.explain import attribute
    >>> X, y = np.random.default_rng(0).normal(size=(20, 3, 128)), np.repeat(["left", "right"], 10)
    >>> found = attribute(NetworkClassifier("EEGNet", max_epochs=2, random_state=0).fit(X, y), X[:2], X[2:6])
    >>> found.values.shape, bool(found.error.max() < 1e-3)
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
        background, chosen = means, [np.array([i]) for i in range(len(X))]
    model = _for_occlusion(estimator, X, output) if method == "occlusion" else Explained(estimator, X, output)
    case, parts = Case(model, X, np.asarray(background), chosen, target), None
    if method == "occlusion":
        values = by_occlusion(case, n_windows)
    elif method.endswith("shap"):
        values = by_shap(case, method, n_samples, batch_size, draw_seed(random_state))
    else:
        values, parts = by_paths(case, bands, X.sfreq, tolerance, batch_size, max_evaluations)
    gap = np.abs(values.sum(axis=(1, 2)) - (case.prediction - case.base))
    found = Attribution(
        values, case.data, case.prediction, case.base, gap / case.range, case.labels[case.columns], case.predicted,
        method, X.ch_names, X.sfreq, X.domains, parts,
    )  # fmt: skip
    if method != "occlusion":
        _check_completeness(found, tolerance, on_error)
    return found


def _for_occlusion(estimator, X, output):
    """Take a network behind linear steps as for the other methods, anything else by its predictions alone."""
    if fitted_network(split_pipeline(estimator)[1]) is None:
        return BlackBox(estimator, X, output)
    try:
        return Explained(estimator, X, output)
    except ValueError:  # a step is not linear
        return BlackBox(estimator, X, output)


def choose_background(X, background, n_background):
    """Background trials (n_background_trials, n_channels, n_times), and the selection for each trial."""
    background = X if background is None else as_eeg(background, X.ch_names, X.sfreq)
    if background.shape[1:] != X.shape[1:]:
        raise ValueError(f"background: trials of shape {background.shape[1:]}, those to explain have {X.shape[1:]}.")
    if background.ch_names != X.ch_names and None not in (background.ch_names, X.ch_names):
        raise ValueError("background: another montage than the trials to explain.")
    if not len(background) or not np.isfinite(background).all():
        raise ValueError("background: expected one trial or more, without NaN and infinity.")
    background = background.like(np.asarray(background, dtype=np.float64))
    everything, chosen = np.arange(len(background)), []
    known = X.domains is not None and background.domains is not None
    for record in X.domains if known else [None] * len(X):
        rows = np.flatnonzero(background.domains == record) if known else everything
        rows = rows if len(rows) else everything
        picks = np.linspace(0, len(rows) - 1, min(n_background, len(rows))).round().astype(int)
        chosen.append(rows[picks])
    return background, chosen


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
    warn(message)


@dataclass(frozen=True)
class Attribution:
    r"""Attribution of each prediction to channels and samples.

    For the methods with a base value, :math:`\sum_{c,t} \phi_{ict} = f(x_i) - b_i` up to ``error``.

    Attributes
    ----------
    values, data : ndarray, shape (n_trials, n_channels, n_times)
        :math:`\phi`, for the trials as they entered the pipeline, and these trials.
    prediction, base_value : ndarray, shape (n_trials,)
        Explained output :math:`f(x_i)`, and its mean :math:`b_i` over the background.
    error : ndarray, shape (n_trials,)
        :math:`|\sum \phi_i - (f(x_i) - b_i)|` relative to the range of the outputs.
    target, predicted : ndarray, shape (n_trials,)
        What is explained, a class label or the number of an output, and the predicted labels of a classifier.
    method : str
        Of `attribute`.
    ch_names, sfreq, domains
        Of the trials, as in `EEGArray`.
    band_values : dict of str to ndarray, shape (n_trials, n_channels, n_times), or None
        Share of each frequency band, ``"rest"`` included; they sum to ``values``.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.explain import Attribution
    >>> Attribution(np.ones((4, 2, 6)), None, *np.zeros((3, 4)), target=np.array(list("aabb"))).by_class()["a"].shape
    (2, 6)
    """

    values: np.ndarray
    data: np.ndarray
    prediction: np.ndarray
    base_value: np.ndarray
    error: np.ndarray
    target: np.ndarray
    predicted: np.ndarray | None = None
    method: str = "expected_gradients"
    ch_names: tuple | None = None
    sfreq: float | None = None
    domains: np.ndarray | None = None
    band_values: dict | None = None

    def __repr__(self):
        """Show counts, not the values."""
        n_trials, n_channels, n_times = self.values.shape
        size = f"{n_trials} trials, {n_channels} channels, {n_times} samples"
        return f"Attribution({self.method}, {size}, error up to {self.error.max(initial=0):.1g})"

    def by_class(self, y=None):
        """Mean attribution of each class that has trials, dict of label to ndarray, shape (n_channels, n_times).

        ``y`` are true labels; None groups by what is explained, by default the predicted class.
        """
        labels = self._labels(y)
        return {label: self.values[labels == label].mean(axis=0) for label in np.unique(labels).tolist()}

    def over_subjects(self, subjects=None, y=None, normalise=True):
        """Mean over the subjects' mean attributions of each class, as `by_class`, each subject with equal weight.

        Parameters
        ----------
        subjects : array-like, shape (n_trials,), or None
            Subject of each trial; None takes what the trials carried.
        y : array-like, shape (n_trials,), or None
            See `by_class`.
        normalise : bool
            Divide the maps of each subject by their root mean square over all classes first. Otherwise the subjects
            with the largest outputs dominate.
        """
        if subjects is None and self.domains is None:
            raise ValueError("subjects: the trials carried no domains; pass the subject of each trial.")
        subjects = self.domains["subject"] if subjects is None else np.asarray(subjects)
        if len(subjects) != len(self.values):
            raise ValueError(f"subjects: got {len(subjects)} for {len(self.values)} trials.")
        labels, found = self._labels(y), {}
        for subject in np.unique(subjects):
            part = self[subjects == subject]
            maps = part.by_class(labels[subjects == subject])
            scale = np.sqrt(np.mean(np.square(list(maps.values())))) if normalise else 1.0
            for label, one in maps.items():
                found.setdefault(label, []).append(one / max(scale, 1e-300))
        return {label: np.mean(maps, axis=0) for label, maps in sorted(found.items())}

    def bins(self, n_bins):
        """Attribution with the same sums over ``n_bins`` bins of time, the trials averaged in them."""
        n_times = self.values.shape[2]
        if not 1 <= n_bins <= n_times:
            raise ValueError(f"n_bins: got {n_bins}, expected 1 to {n_times}, the samples of a trial.")
        return replace(
            self,
            values=binned(self.values, n_bins),
            data=binned(self.data, n_bins) / binned(np.ones(n_times), n_bins),
            sfreq=None if self.sfreq is None else self.sfreq * n_bins / n_times,
            band_values=self.band_values and {name: binned(one, n_bins) for name, one in self.band_values.items()},
        )

    def per_channel(self):
        """Attribution of each electrode, shape (n_trials, n_channels): the sum over its samples."""
        return self.values.sum(axis=2)

    def per_band(self):
        """Attribution of each frequency band, a dict of str to ndarray, shape (n_trials,): the sum over all samples."""
        if self.band_values is None:
            raise ValueError("band_values: pass bands=((8, 13), ...) to attribute.")
        return {name: values.sum(axis=(1, 2)) for name, values in self.band_values.items()}

    def importance(self, axis="channel"):
        """Mean over the trials of the absolute contribution of each ``"channel"``, each ``"time"``, or ``"both"``.

        The contribution of an electrode is the sum over its samples. The sum of their absolute values would not do:
        noise times a small weight varies about zero and contributes nothing.
        """
        summed = {"channel": (2,), "time": (1,), "both": ()}
        if axis not in summed:
            raise ValueError(f"axis: got {axis!r}, expected one of {', '.join(map(repr, summed))}.")
        return np.abs(self.values.sum(axis=summed[axis])).mean(axis=0)

    def to_shap(self):
        """Convert to a `shap.Explanation`, for shap's plots: one feature for each electrode and sample."""
        import shap

        n_trials, n_channels, n_times = self.values.shape
        electrodes = self.ch_names or tuple(f"channel {i}" for i in range(n_channels))
        step = 1.0 if self.sfreq is None else 1 / self.sfreq
        unit = "" if self.sfreq is None else " s"
        names = [f"{name}, {i * step:g}{unit}" for name in electrodes for i in range(n_times)]
        values, data = (np.reshape(one, (n_trials, n_channels * n_times)) for one in (self.values, self.data))
        return shap.Explanation(values, base_values=self.base_value, data=data, feature_names=names)

    def __getitem__(self, rows):
        """Select trials."""
        parts = ("values", "data", "prediction", "base_value", "error", "target", "predicted", "domains")
        chosen = {name: vars(self)[name][rows] for name in parts if vars(self)[name] is not None}
        bands = self.band_values and {name: values[rows] for name, values in self.band_values.items()}
        return replace(self, **chosen, band_values=bands)

    def _labels(self, y):
        labels = self.target if y is None else np.asarray(y)
        if labels.shape != (len(self.values),):
            raise ValueError(f"y: got shape {labels.shape} for {len(self.values)} trials.")
        return labels


def binned(values, n_bins):
    """Sum values (..., n_times) over bins of time; there are fewer bins where there are fewer samples."""
    n_times = np.shape(values)[-1]
    n_bins = min(n_bins, n_times)
    return np.add.reduceat(np.asarray(values, dtype=float), np.arange(n_bins) * n_times // n_bins, axis=-1)
