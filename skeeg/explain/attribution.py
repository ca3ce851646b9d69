"""Result of an attribution, and its summaries."""

import contextlib
import copy
import warnings
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn


@dataclass(frozen=True)
class Attribution:
    r"""Attribution of each prediction to channels and samples.

    For the methods with a base value, :math:`\sum_{c,t} \phi_{ict} = f(x_i) - b_i` up to ``error``.

    Attributes
    ----------
    values : ndarray, shape (n_trials, n_channels, n_times)
        :math:`\phi`, for the trials as they entered the pipeline.
    data : ndarray, shape (n_trials, n_channels, n_times)
        These trials.
    prediction : ndarray, shape (n_trials,)
        Explained output :math:`f(x_i)`.
    base_value : ndarray, shape (n_trials,)
        Mean output :math:`b_i` over the background.
    error : ndarray, shape (n_trials,)
        :math:`|\sum \phi_i - (f(x_i) - b_i)|` relative to the range of the outputs.
    target : ndarray, shape (n_trials,)
        What is explained: a class label, or the number of an output.
    predicted : ndarray, shape (n_trials,), or None
        Predicted labels.
    method : str
        Of `attribute`.
    ch_names : tuple of str or None
        Electrode names.
    sfreq : float or None
        Sampling rate in hertz.
    domains : ndarray, shape (n_trials,), or None
        Subject, session and run of each trial.
    band_values : dict of str to ndarray, shape (n_trials, n_channels, n_times), or None
        Share of each frequency band, ``"rest"`` included; they sum to ``values``.
    n_evaluations : int
        Gradients, or predictions, that it took.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.explain import Attribution
    >>> one = np.ones((4, 2, 6))
    >>> found = Attribution(one, one, *np.zeros((3, 4)), target=np.array(list("aabb")))
    >>> found.by_class()["a"].shape, found.bins(3).values[0, 0].tolist()
    ((2, 6), [2.0, 2.0, 2.0])
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
    n_evaluations: int = 0

    def by_class(self, y=None):
        """Mean attribution of the trials of each class.

        Parameters
        ----------
        y : array-like, shape (n_trials,), or None
            True labels; None groups by what is explained, by default the predicted class.

        Returns
        -------
        maps : dict of label to ndarray, shape (n_channels, n_times)
            One map for each class that has trials.
        """
        labels = self._labels(y)
        return {label: self.values[labels == label].mean(axis=0) for label in np.unique(labels).tolist()}

    def over_subjects(self, subjects=None, y=None, normalise=True):
        """Mean over the subjects' mean attributions, each subject with equal weight.

        Parameters
        ----------
        subjects : array-like, shape (n_trials,), or None
            Subject of each trial; None takes what the trials carried.
        y : array-like, shape (n_trials,), or None
            See `by_class`.
        normalise : bool
            Divide the maps of each subject by their root mean square over all classes first. Otherwise the subjects
            with the largest outputs dominate.

        Returns
        -------
        maps : dict of label to ndarray, shape (n_channels, n_times)
            One map for each class.
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
        """Sum over bins of time, the trials averaged in them.

        Parameters
        ----------
        n_bins : int
            Bins of equal length, or whose lengths differ by one.

        Returns
        -------
        attribution : Attribution
            With ``n_bins`` samples for each trial, and the same sums.
        """
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
        """Mean absolute contribution of each electrode, or each time, to a prediction.

        The contribution of an electrode is the sum over its samples. The sum of their absolute values would not do:
        noise times a small weight varies about zero and contributes nothing.

        Parameters
        ----------
        axis : "channel", "time" or "both"
            Axis to keep.

        Returns
        -------
        importance : ndarray, shape (n_channels,), (n_times,) or (n_channels, n_times)
            Mean over the trials of the absolute sums over the other axis.
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
        flat = (n_trials, n_channels * n_times)
        return shap.Explanation(
            self.values.reshape(flat),
            base_values=self.base_value,
            data=np.asarray(self.data).reshape(flat),
            feature_names=names,
        )

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
    """Sum values (..., n_times) over bins of time; there are fewer bins where there are fewer samples.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.explain.attribution import binned
    >>> binned(np.ones((1, 6)), 3).tolist()
    [[2.0, 2.0, 2.0]]
    """
    n_times = np.shape(values)[-1]
    n_bins = min(n_bins, n_times)
    return np.add.reduceat(np.asarray(values, dtype=float), np.arange(n_bins) * n_times // n_bins, axis=-1)


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
    """Attributions (n_trials, n_channels, n_times) by shap's DeepExplainer or GradientExplainer, and their cost."""
    values, count, step = np.empty(case.data.shape), 0, case.explained.map
    keys = list(zip(step.index.tolist(), case.columns.tolist(), map(tuple, case.chosen), strict=True))
    for key in dict.fromkeys(keys):
        rows = np.array([one == key for one in keys])
        which, column, chosen = key
        module = _Column(case.explained.score, step, which, column)
        trials, background = (
            torch.from_numpy(np.array(part)) for part in (case.data[rows], case.background[list(chosen)])
        )
        try:
            values[rows] = _run(module, trials, background, method, n_samples, batch_size, seed)
        except (RuntimeError, TypeError, AssertionError) as error:
            name = type(module.score.module).__name__
            raise ValueError(f'method="{method}": shap cannot run through {name}: {error}') from error
        count += rows.sum() * (n_samples if method == "gradient_shap" else len(chosen))
    return values, int(count)


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
