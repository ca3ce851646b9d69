"""shap's own explainers, on the whole pipeline as one module, with the operations that they lack."""

import contextlib
import copy
import warnings

import numpy as np
import torch
from torch import nn

# Modules of torch and of braindecode that act on every number by itself, and modules that are linear.
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


class Column(nn.Module):
    """One explained output of a pipeline whose steps are linear, as a module on the pipeline's input.

    Parameters
    ----------
    score : Score
        Of the network.
    step : LinearMap
        From the pipeline's input to the network's.
    which : int
        Spatial matrix.
    column : int
        Output.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from skeeg.explain.linear_maps import LinearMap
    >>> from skeeg.explain.explained import Score
    >>> from skeeg.explain.shap_explainers import Column
    >>> network = Score(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(6, 2)).double())
    >>> step = LinearMap(np.eye(2)[None], np.zeros(4, int), None)
    >>> Column(network, step, 0, 1)(torch.zeros(4, 2, 3, dtype=torch.float64)).shape
    torch.Size([4, 1])
    """

    def __init__(self, score, step, which, column):
        super().__init__()
        self.steps, self.score, self.column = _LinearSteps(step.spatial[which], step.temporal), score, column

    def forward(self, x):
        """Explained output, shape (batch, 1)."""
        return self.score(self.steps(x))[:, self.column : self.column + 1]


def by_shap(case, method, n_samples, batch_size, seed):
    """Attributions by shap's DeepExplainer or GradientExplainer.

    Parameters
    ----------
    case : object
        Trials, background and columns, as `skeeg.explain.attribute` puts them together.
    method : {"deep_shap", "gradient_shap"}
        Which of the two.
    n_samples : int
        Draws of the second.
    batch_size : int
        Of the second.
    seed : int
        Of the second.

    Returns
    -------
    values : ndarray, shape (n_trials, n_channels, n_times)
        Attributions.
    count : int
        Gradients that it took.
    """
    values, count, step = np.empty(case.data.shape), 0, case.explained.map
    keys = list(zip(step.index.tolist(), case.columns.tolist(), map(tuple, case.chosen), strict=True))
    for key in dict.fromkeys(keys):
        rows = np.array([one == key for one in keys])
        which, column, chosen = key
        module = Column(case.explained.score, step, which, column)
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
    """Let shap know the operations of EEG networks, as long as it is at work here."""
    from shap.explainers._deep.deep_pytorch import linear_1d, nonlinear_1d, op_handler

    added = {name: nonlinear_1d for name in _ELEMENTWISE} | {name: linear_1d for name in _LINEAR}
    added = {name: handler for name, handler in added.items() if name not in op_handler}
    op_handler.update(added)
    try:
        yield
    finally:
        for name in added:
            del op_handler[name]
