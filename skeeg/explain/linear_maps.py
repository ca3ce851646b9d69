"""Explained models: the network at the end of a pipeline, in float64, and the linear steps before it as matrices.

A step acts on a trial :math:`x` (channels x times) as :math:`y = S x B^T`, with a spatial matrix S that may differ from
domain to domain (alignment) and a temporal matrix B common to all; ``linear_map_`` declares which of the two it has.
The matrices are identified from outputs for probe signals and verified on the trials. Where a step estimates something
from the trials, as alignment of an unseen subject does, S is solved for from these and held fixed.
"""

import copy
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted
from torch import nn
from torch.overrides import TorchFunctionMode

from ..array import as_eeg
from ..base import EEGEstimator, warn

OUTPUTS = ("margin", "logit", "log_probability", "probability")
_FACTORIES = {torch.arange, torch.empty, torch.eye, torch.full, torch.hamming_window, torch.hann_window, torch.linspace,
              torch.logspace, torch.ones, torch.rand, torch.randn, torch.tensor, torch.zeros}  # fmt: skip
_CHUNK = 2**24  # numbers in one block of probes


class Explained:
    """A fitted estimator, or a pipeline that ends in one: its linear steps as `map`, its network as `score`."""

    def __init__(self, estimator, X, output="margin"):
        steps, final = split_pipeline(estimator)
        module = fitted_network(final)
        if isinstance(final, EEGEstimator):
            check_is_fitted(final)
        if module is None:
            raise TypeError(
                f"estimator: {type(final).__name__} has no fitted network (module_), and so no gradients; "
                'method="occlusion" explains any classifier.'
            )
        if isinstance(final, EEGEstimator) and not final._network_alone:
            warn(f"estimator: explained is the network of {type(final).__name__}, without what is added to it.")
        self.classes = getattr(final, "classes_", None)
        self.map = identity_map(X)
        for name, step in steps:
            found, X = step_map(step, X, name)
            self.map = self.map.then(found)
        found, X, inputs = input_map(final, X)
        self.map = self.map.then(found)
        module = copy.deepcopy(module).cpu().eval().double().requires_grad_(False)
        self.score = Score(module, output, inputs)
        try:
            with torch.no_grad():
                self.score(torch.from_numpy(np.array(X[:1], dtype=np.float64)))
        except RuntimeError as error:
            name = type(module).__name__
            raise ValueError(f"estimator: {name} does not run in double precision: {error}") from error

    def outputs(self, which, X):
        """Explained outputs (n, n_outputs) of trials, each through the map of the explained trial of a number."""
        mapped = torch.from_numpy(self.map.apply(np.asarray(X, dtype=np.float64), np.asarray(which)))
        with torch.no_grad():
            return torch.cat([self.score(some) for some in mapped.split(64)]).numpy()


class Score(nn.Module):
    """Explained outputs of a network, one for each class or target."""

    def __init__(self, module, output="margin", inputs=()):
        super().__init__()
        if output not in OUTPUTS:
            raise ValueError(f"output: got {output!r}, expected one of {', '.join(map(repr, OUTPUTS))}.")
        self.module, self.output, self.inputs = module, output, inputs

    def forward(self, x):
        """Explained outputs of all classes, shape (batch, n_outputs)."""
        with warnings.catch_warnings(), _FloatsLike(x.dtype):
            warnings.simplefilter("ignore")
            logits = self.module(x, *self.inputs)
        logits = logits[0] if isinstance(logits, tuple | list) else logits
        logits = logits.mean(-1) if logits.ndim == 3 else logits.reshape(len(x), -1)
        if self.output == "margin" and logits.shape[1] > 1:
            return logits - logits.mean(dim=1, keepdim=True)
        if self.output == "log_probability":
            return torch.log_softmax(logits, dim=1)
        return torch.softmax(logits, dim=1) if self.output == "probability" else logits


class _FloatsLike(TorchFunctionMode):
    """Convert floats that a network creates in its forward pass to a dtype; unlike torch's default, for one thread."""

    def __init__(self, dtype):
        super().__init__()
        self.dtype = dtype

    def __torch_function__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        is_new = func in _FACTORIES and "dtype" not in (kwargs or {}) and found.dtype == torch.get_default_dtype()
        return found.to(self.dtype) if is_new else found


@dataclass(frozen=True)
class LinearMap:
    """Linear map of trials, :math:`y_i = S_i x_i B^T`."""

    spatial: np.ndarray
    temporal: np.ndarray | None

    def apply(self, X, which):
        """Map trials (n, n_channels, n_times) by one trial's spatial matrix, or by one each, and the temporal one."""
        return self.spatial[which] @ self.filter(X)

    def filter(self, X):
        """Map trials by the temporal matrix alone."""
        return X if self.temporal is None else X @ self.temporal.T

    def adjoint(self, gradients, which):
        """Map gradients :math:`g` with respect to the output back to those with respect to the input, S^T g B."""
        back = gradients if self.temporal is None else gradients @ self.temporal
        return self.spatial[which].swapaxes(-1, -2) @ back

    def then(self, other):
        """Composition of this map with a following one, for the same trials."""
        if self.temporal is None or other.temporal is None:
            temporal = self.temporal if other.temporal is None else other.temporal
        else:
            temporal = other.temporal @ self.temporal
        return LinearMap(other.spatial @ self.spatial, temporal)


def identity_map(X):
    """Map that leaves trials as they are."""
    return LinearMap(np.broadcast_to(np.eye(X.shape[1]), (len(X), X.shape[1], X.shape[1])), None)


def step_map(step, X, name):
    """Map of a fitted transformer, and its output for the trials."""
    return linear_map(step.transform, X, getattr(step, "linear_map_", "both"), name)


def input_map(final, X):
    """Map of the preprocessing inside a fitted estimator of skeeg, its output, and further inputs of its network."""
    axes = getattr(final, "linear_map_", None)
    if axes is None:
        return identity_map(X), X, ()

    def prepare(Z):
        return final._prepare(final._check_eeg(Z, reset=False, dtype=np.float32))

    step = linear_map(lambda Z: prepare(Z)[0], X, axes, type(final).__name__, tolerance=1e-5)  # single precision
    return *step, prepare(X)[1:]


def linear_map(transform, X, axes="both", name="step", tolerance=1e-6):
    """Identify the matrices of a linear step, and verify them on trials (n_trials, n_channels, n_times)."""
    advice = 'Explain what follows it, or use method="occlusion".'
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # already raised when the pipeline ran
        Y = transform(X)
        if np.ndim(Y) != 3 or len(Y) != len(X):
            raise ValueError(f"{name} does not give trials for trials (it gives shape {np.shape(Y)}). {advice}")
        keys = np.zeros(len(X)) if X.domains is None else X.domains
        _, firsts, groups = np.unique(keys, return_index=True, return_inverse=True)
        if axes == "time":
            spatial = [np.eye(X.shape[1])] * len(firsts)
        else:
            spatial = [_probe_space(transform, X[first : first + 1], axes) for first in firsts]
        temporal = _probe_time(transform, X[firsts[0] : firsts[0] + 1], spatial[0], axes, Y.shape[2])
    step = LinearMap(np.stack(spatial)[groups.ravel()], temporal)
    filtered, out = step.filter(np.asarray(X, dtype=np.float64)), np.asarray(Y, dtype=np.float64)
    for group, matrix in enumerate(spatial):
        rows = groups.ravel() == group
        fitting = None if axes is None else _fitting(matrix, filtered[rows], out[rows], tolerance)
        if fitting is None:
            raise ValueError(f"{name} is not linear in the trials of a domain: no two matrices fit. {advice}")
        step.spatial[rows] = fitting
    return step, as_eeg(Y)


def _answers(transform, like, data):
    """Output of a step for signals (n, n_channels, n_times) of the domain of one trial."""
    domains = None if like.domains is None else np.repeat(like.domains, len(data))
    return np.asarray(transform(like.like(data, domains=domains)), dtype=np.float64)


def _probe_space(transform, like, axes):
    """Spatial matrix of a step, from one time course in one channel after the other."""
    n_channels, n_times = like.shape[1:]
    course = np.random.default_rng(0).standard_normal(n_times).astype(np.float32).astype(np.float64)
    answers = _answers(transform, like, np.eye(n_channels)[:, :, None] * course)
    flat = answers.reshape(-1, answers.shape[2])  # all rows are multiples of one time course
    if axes == "space":
        course = np.pad(course, (0, max(0, flat.shape[1] - n_times)))[: flat.shape[1]]
    else:
        course = flat[np.linalg.norm(flat, axis=1).argmax()]
    return (flat @ course / max(course @ course, 1e-300)).reshape(answers.shape[:2]).T


def _probe_time(transform, like, spatial, axes, n_out):
    """Temporal matrix of a step, from an impulse at one sample after the other; None where time stays as it is."""
    n_channels, n_times = like.shape[1:]
    kept = np.eye(n_out, n_times)
    if axes == "space":
        return None if n_out == n_times else kept
    temporal = np.empty((n_out, n_times))
    if axes == "time":  # channels are not mixed: an impulse in each of them at once
        for start in range(0, n_times, n_channels):
            times = np.arange(start, min(start + n_channels, n_times))
            impulses = np.zeros((1, n_channels, n_times))
            impulses[0, np.arange(len(times)), times] = 1.0
            temporal[:, times] = _answers(transform, like, impulses)[0, : len(times)].T
        return temporal
    place = np.random.default_rng(1).standard_normal(n_channels).astype(np.float32).astype(np.float64)
    size = max(1, _CHUNK // (n_channels * n_times))
    for start in range(0, n_times, size):
        times = np.arange(start, min(start + size, n_times))
        answers = _answers(transform, like, place[None, :, None] * np.eye(n_times)[times][:, None, :])
        largest = np.unravel_index(np.abs(answers).argmax(), answers.shape)
        direction = answers[largest[0], :, largest[2]]  # all columns are multiples of one place
        temporal[:, times] = np.einsum("c,nct->tn", direction, answers) / (direction @ spatial @ place)
    return None if n_out == n_times and np.allclose(temporal, kept, rtol=0, atol=1e-7) else temporal


def _fitting(matrix, X, Y, tolerance):
    """Spatial matrix if it gives Y from filtered X, else the one that solves this; None if none does.

    An alignment of an unseen domain estimates its matrix from the trials: it is solved.
    """
    if _misfit(matrix, X, Y) <= tolerance:
        return matrix
    if len(X) * X.shape[2] <= 2 * X.shape[1]:  # too few samples: some matrix gives any output
        return None
    wide, goal = (part.transpose(1, 0, 2).reshape(part.shape[1], -1).T for part in (X, Y))
    matrix = np.linalg.lstsq(wide, goal, rcond=1e-12)[0].T
    return matrix if _misfit(matrix, X, Y) <= tolerance else None


def _misfit(matrix, X, Y):
    return np.abs(matrix @ X - Y).max() / max(np.abs(Y).max(), 1e-300)


def fitted_network(estimator):
    """Network of a fitted estimator of skeeg, skorch or braindecode, itself if it is one, None if there is none."""
    return estimator if isinstance(estimator, nn.Module) else getattr(estimator, "module_", None)


def split_pipeline(estimator):
    """Split a fitted pipeline, nested ones and searches too, into its steps and its last estimator."""
    if isinstance(estimator, Pipeline):
        *first, (_, last) = estimator.steps
        more, final = split_pipeline(last)
        return [*_flattened(first), *more], final
    if fitted_network(estimator) is None:
        for inner in ("best_estimator_", "estimator_"):
            if inner in vars(estimator):
                return split_pipeline(vars(estimator)[inner])
    return [], estimator


def _flattened(steps):
    """Iterate over steps, including those of nested pipelines."""
    for name, step in steps:
        if isinstance(step, Pipeline):
            yield from _flattened(step.steps)
        elif step not in (None, "passthrough"):
            yield f"{name} ({type(step).__name__})", step


def read_trials(estimator, X):
    """Trials as `EEGArray` of float64, with names and rate of the estimator where they carry none."""
    first = estimator
    while isinstance(first, Pipeline):
        first = first.steps[0][1]
    X = as_eeg(X, vars(first).get("ch_names"), vars(first).get("sfreq"))
    return X.like(np.asarray(X, dtype=np.float64))
