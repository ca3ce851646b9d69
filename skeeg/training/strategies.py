"""Strategies: training everything, the last layer, a closed-form probe, or low-rank changes."""

import contextlib

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize

STRATEGIES = ("full", "head", "probe", "lora")


@contextlib.contextmanager
def trainable_part(module, strategy, head="final_layer", rank=4):
    """Freeze the network, or give it low-rank changes, while a strategy trains it; merge the changes at the end.

    Yields the submodule that goes into training mode where the rest stays in evaluation mode, or None.
    """
    required = {name: p.requires_grad for name, p in module.named_parameters()}
    if strategy != "full":
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(name.startswith(f"{head}."))
    changed = add_lora(module, rank, head) if strategy == "lora" else []
    try:
        yield head if strategy == "head" else None
    finally:
        for layer, name in changed:
            parametrize.remove_parametrizations(layer, name, leave_parametrized=True)
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(required.get(name, True))


class LowRank(nn.Module):
    r"""Low-rank change of a frozen weight.

    .. math:: W' = W + B A, \quad A \in \mathbb{R}^{r \times k}, B \in \mathbb{R}^{o \times r}

    B starts at zero, so training starts from the frozen network [1]_.

    Shapes: ``weight`` (o, ...).

    References
    ----------
    .. [1] Hu, E. et al. (2022). LoRA: Low-rank adaptation of large language models. ICLR.
    """

    def __init__(self, weight, rank):
        super().__init__()
        rows, columns = weight.shape[0], weight[0].numel()
        rank = min(rank, rows, columns)
        self.A = nn.Parameter(torch.randn(rank, columns) / columns**0.5)
        self.B = nn.Parameter(torch.zeros(rows, rank))

    def forward(self, weight):
        """Change the weight."""
        return weight + (self.B @ self.A).view_as(weight)


def add_lora(module, rank, head="final_layer"):
    """Give every weight matrix outside the head a trainable low-rank change; list (layer, name) of the weights."""
    changed = []
    for path, layer in list(module.named_modules()):
        if path == head or path.startswith(f"{head}."):
            continue
        for name, weight in list(layer.named_parameters(recurse=False)):
            is_matrix = name.endswith("weight") and weight.ndim > 1 and min(weight.shape[0], weight[0].numel()) > 1
            if is_matrix and not parametrize.is_parametrized(layer):
                parametrize.register_parametrization(layer, name, LowRank(weight, rank))
                changed.append((layer, name))
    if not changed:
        raise ValueError(f"strategy: {type(module).__name__} has no weight outside {head!r} that LoRA could change.")
    return changed


def fit_probe(features, targets):
    """Linear layer on frozen features (n_trials, n_features), in closed form.

    Class indices are fitted by linear discriminant analysis with Ledoit-Wolf shrinkage in the span of the features,
    other targets by ridge regression with a leave-one-out choice of its penalty.
    """
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.linear_model import RidgeCV

    mean, scale = features.mean(0), features.std(0) + 1e-6
    standard = ((features - mean) / scale).astype(np.float64)
    _, singular, basis = np.linalg.svd(standard, full_matrices=False)
    basis = basis[singular > singular[0] * 1e-6] if singular[0] > 0 else basis[:1]
    inside = standard @ basis.T
    if targets.dtype.kind in "iu":
        model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(inside, targets)
        coef, intercept = model.coef_, model.intercept_
        if len(coef) == 1:  # two classes: one score; half of it for one class, minus half for the other
            coef, intercept = np.vstack([-coef, coef]) / 2, np.concatenate([-intercept, intercept]) / 2
    else:
        model = RidgeCV(alphas=np.logspace(-3, 5, 17)).fit(inside, targets)
        coef, intercept = np.atleast_2d(model.coef_), np.atleast_1d(model.intercept_)
    weight = coef @ basis / scale
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        layer.weight.copy_(torch.as_tensor(weight))
        layer.bias.copy_(torch.as_tensor(intercept - weight @ mean))
    return layer


def replace_head(module, layer, head="final_layer"):
    """Put a linear layer on the flattened features in place of the last layer."""
    module.set_submodule(head, nn.Sequential(nn.Flatten(), layer))
