"""shap's own explainers, on the whole pipeline as one module, with the operations that they lack."""

import contextlib
import copy
import warnings

import numpy as np
import torch
from torch import nn

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
