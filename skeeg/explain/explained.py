"""Explained models: the network at the end of a pipeline, in float64, and the linear steps before it as matrices."""

import copy
import warnings

import numpy as np
import torch
from sklearn.pipeline import Pipeline
from torch import nn
from torch.overrides import TorchFunctionMode

from ..array import as_eeg, make_eeg
from .linear_maps import LinearMap, linear_map

OUTPUTS = ("margin", "logit", "log_probability", "probability")
_FACTORIES = {torch.arange, torch.empty, torch.eye, torch.full, torch.hamming_window, torch.hann_window, torch.linspace,
              torch.logspace, torch.ones, torch.rand, torch.randn, torch.tensor, torch.zeros}  # fmt: skip


class Score(nn.Module):
    """Explained outputs of a network, one for each class or target.

    Parameters
    ----------
    module : nn.Module
        Network in evaluation mode.
    output : {"margin", "logit", "log_probability", "probability"}
        See `skeeg.explain.attribute`.
    inputs : sequence of Tensor
        Further inputs of the network.

    Examples
    --------
    >>> import torch
    >>> from skeeg.explain.explained import Score
    >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(6, 2))
    >>> Score(network, "probability")(torch.zeros(4, 2, 3)).sum(1).round(decimals=3).tolist()
    [1.0, 1.0, 1.0, 1.0]
    """

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


class Explained:
    """A fitted estimator, or a pipeline that ends in one: its linear steps as matrices, and its network.

    Parameters
    ----------
    estimator : estimator, Pipeline or nn.Module
        Fitted model.
    X : EEGArray, shape (n_trials, n_channels, n_times)
        Trials to explain.
    output : str
        See `Score`.

    Attributes
    ----------
    classes : ndarray or None
        Labels, in the order of the outputs.
    map : LinearMap
        From the pipeline's input to the network's.
    score : Score
        In float64.

    Examples
    --------
    >>> import torch
    >>> from skeeg import as_eeg
    >>> from skeeg.explain.explained import Explained
    >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(6, 2))
    >>> Explained(network, as_eeg([[[1, 2, 3], [4, 5, 6]]]), "logit").outputs([0], [[[1, 2, 3], [4, 5, 6]]]).shape
    (1, 2)
    """

    def __init__(self, estimator, X, output="margin"):
        steps, final = split_pipeline(estimator)
        module = fitted_network(final)
        if module is None:
            raise TypeError(
                f"estimator: {type(final).__name__} has no fitted network (module_), and so no gradients; "
                'method="occlusion" explains any classifier.'
            )
        self.classes = getattr(final, "classes_", None)
        self.map = LinearMap(np.eye(X.shape[1])[None], np.zeros(len(X), dtype=np.intp), None)
        for name, step in steps:
            found, Y = linear_map(step.transform, X, name)
            self.map, X = self.map.then(found), as_eeg(Y)
        inputs = _prepared(final, X)[1:] if _has_input_map(final) else ()
        found, X = input_map(final, X)
        self.map = self.map.then(found)
        module = copy.deepcopy(module).cpu().eval().double().requires_grad_(False)
        self.score = Score(module, output, inputs)
        self._check_dtype(X)

    def _check_dtype(self, X):
        """Refuse networks that cannot compute in double precision, by name."""
        try:
            with torch.no_grad():
                self.score(torch.from_numpy(np.array(X[:1], dtype=np.float64)))
        except RuntimeError as error:
            name = type(self.score.module).__name__
            raise ValueError(f"estimator: {name} does not run in double precision: {error}") from error

    def outputs(self, index, X):
        """Explained outputs of trials, each through its own map.

        Parameters
        ----------
        index : array-like of int, shape (n,)
            Spatial matrix for each trial.
        X : array-like, shape (n, n_channels, n_times)
            Trials as they enter the pipeline.

        Returns
        -------
        outputs : ndarray, shape (n, n_outputs)
            In float64.
        """
        index, X = np.asarray(index), np.asarray(X, dtype=np.float64)
        found = [None] * len(X)
        for which in np.unique(index):
            rows = np.flatnonzero(index == which)
            for first in range(0, len(rows), 64):
                some = rows[first : first + 64]
                with torch.no_grad():
                    outputs = self.score(torch.from_numpy(self.map.apply(X[some], which))).numpy()
                for row, output in zip(some, outputs, strict=True):
                    found[row] = output
        return np.stack(found)


def input_map(final, X):
    """Linear preprocessing inside a fitted estimator, such as scaling.

    Parameters
    ----------
    final : estimator
        Estimator with a network; only those of skeeg preprocess.
    X : EEGArray, shape (n_trials, n_channels, n_times)
        Trials.

    Returns
    -------
    step : LinearMap
        Matrices.
    Y : ndarray, shape (n_trials, n_channels_out, n_times_out)
        Inputs of the network.
    """
    if not _has_input_map(final):
        return LinearMap(np.eye(X.shape[1])[None], np.zeros(len(X), dtype=np.intp), None), X

    def transform(Z):
        return _prepared(final, Z)[0]

    return linear_map(transform, X, type(final).__name__, tolerance=1e-5)  # networks take single precision


def fitted_network(estimator):
    """Network of a fitted estimator, itself if it is one, None if there is none.

    Parameters
    ----------
    estimator : estimator or nn.Module
        Estimator of skeeg, skorch or braindecode, or another.

    Returns
    -------
    module : nn.Module or None
        Network.
    """
    return estimator if isinstance(estimator, nn.Module) else getattr(estimator, "module_", None)


def _prepared(final, X):
    """Give what the network of an estimator takes: trials, and further inputs."""
    found = final._prepare(final._check_eeg(X, reset=False, dtype=np.float32))
    return found if isinstance(found, tuple) else (found,)


def _has_input_map(final):
    return hasattr(final, "_prepare")


def split_pipeline(estimator):
    """Split a fitted pipeline into its steps and its last estimator.

    Parameters
    ----------
    estimator : estimator, Pipeline or nn.Module
        Nested pipelines are split too.

    Returns
    -------
    steps : list of (str, transformer)
        Transformers before the last estimator, with names for messages.
    final : estimator or nn.Module
        Fitted model.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from skeeg import AverageReference, NetworkClassifier
    >>> from skeeg.explain.explained import split_pipeline
    >>> [name for name, _ in split_pipeline(make_pipeline(AverageReference(), NetworkClassifier()))[0]]
    ['averagereference (AverageReference)']
    """
    if isinstance(estimator, Pipeline):
        *first, (_, last) = estimator.steps
        more, final = split_pipeline(last)
        return [*_flattened(first), *more], final
    for inner in ("best_estimator_", "estimator_"):
        if hasattr(estimator, inner) and fitted_network(estimator) is None:
            return split_pipeline(getattr(estimator, inner))
    return [], estimator


def _flattened(steps):
    """Iterate over steps, including those of nested pipelines."""
    for name, step in steps:
        if isinstance(step, Pipeline):
            yield from _flattened(step.steps)
        elif step not in (None, "passthrough"):
            yield f"{name} ({type(step).__name__})", step


def choose_targets(outputs, classes, target):
    """Column of the output that is explained in each trial.

    Parameters
    ----------
    outputs : ndarray, shape (n_trials, n_outputs)
        Outputs.
    classes : ndarray or None
        Labels in the order of the outputs.
    target : None, label, or array-like, shape (n_trials,)
        None takes the largest output of each trial.

    Returns
    -------
    columns : ndarray of int, shape (n_trials,)
        Outputs.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.explain.explained import choose_targets
    >>> choose_targets(np.array([[1.0, 2.0], [4.0, 3.0]]), np.array(["left", "right"]), None).tolist()
    [1, 0]
    """
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


def choose_background(X, background, n_background):
    """Background trials, and the selection for each trial.

    Parameters
    ----------
    X : EEGArray, shape (n_trials, n_channels, n_times)
        Trials to explain.
    background : anything `as_eeg` accepts, or None
        None takes the trials themselves.
    n_background : int
        At most so many for each trial, evenly spread.

    Returns
    -------
    background : EEGArray, shape (n_background_trials, n_channels, n_times)
        Trials.
    chosen : list of ndarray of int, length n_trials
        Background trials of the same domain if there are any, since they share the alignment.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg import as_eeg
    >>> from skeeg.explain.explained import choose_background
    >>> [one.tolist() for one in choose_background(as_eeg(np.ones((2, 1, 3)), subjects=[1, 2]), None, 5)[1]]
    [[0], [1]]
    """
    background = X if background is None else as_eeg(background, X.ch_names, X.sfreq)
    if background.shape[1:] != X.shape[1:]:
        raise ValueError(f"background: trials of shape {background.shape[1:]}, those to explain have {X.shape[1:]}.")
    if background.ch_names != X.ch_names and None not in (background.ch_names, X.ch_names):
        raise ValueError("background: another montage than the trials to explain.")
    if not len(background) or not np.isfinite(background).all():
        raise ValueError("background: expected one trial or more, without NaN and infinity.")
    everything, chosen = np.arange(len(background)), []
    known = X.domains is not None and background.domains is not None
    for record in X.domains.tolist() if known else [None] * len(X):
        rows = np.flatnonzero([one == record for one in background.domains.tolist()]) if known else everything
        rows = rows if len(rows) else everything
        picks = np.linspace(0, len(rows) - 1, min(n_background, len(rows))).round().astype(int)
        chosen.append(rows[picks])
    return background, chosen


def read_trials(estimator, X):
    """Trials as `EEGArray`, with names and sampling rate of the estimator where the trials carry none.

    Parameters
    ----------
    estimator : estimator, Pipeline or nn.Module
        Fitted model.
    X : anything `as_eeg` accepts
        Trials.

    Returns
    -------
    X : EEGArray of float64, shape (n_trials, n_channels, n_times)
        Trials.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg import BandPass
    >>> from skeeg.explain.explained import read_trials
    >>> read_trials(BandPass(sfreq=250), np.ones((1, 2, 3))).sfreq
    250.0
    """
    first = estimator
    while isinstance(first, Pipeline):
        first = first.steps[0][1]
    X = as_eeg(X, getattr(first, "ch_names", None), getattr(first, "sfreq", None))
    return make_eeg(np.asarray(X, dtype=np.float64), X.ch_names, X.sfreq, X.domains)
