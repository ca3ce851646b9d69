"""How BEIRA is trained: recipes, losses, and what the default recipe adds to the published training."""

import dataclasses
from numbers import Integral

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions

from ...training import Recipe
from .patterns import branch_importance

_SMALL = {"n_branches": 3, "channels": (16, 32, 32, 32), "decoder_reduce": 2, "rectifier": "abs", "drop_prob": 0.05}
LOSSES = {
    "mse": (1.0, 0.0, 0.0),
    "correlation": (0.0, 1.0, 0.0),
    "mixed": (0.9, 0.1, 0.0),
    "covariance": (1.0, 0.0, 0.1),
}


@dataclasses.dataclass(frozen=True)
class BEIRARecipe(Recipe):
    """How a `BEIRARegressor` is trained and read out; the defaults are those of ``recipe="default"``.

    ``normalize``, ``start``, ``n_restarts``, ``prune`` and ``readout`` are the strategies that this package adds to the
    published training. Further fields are those of `skeeg.training.Recipe`.

    Parameters
    ----------
    network_params : dict
        Arguments of the network that differ from its own defaults, which are the published ones.
    normalize : {"whiten", "channel", "global"}
        Make the channels uncorrelated, which lets weak rhythms be learnt beside strong artefacts; standardise each
        channel; or divide by one standard deviation, as published. Filters and patterns are for the EEG as given.
    loss : {"mse", "correlation", "mixed", "covariance"} or tuple of 3 float
        See `BEIRARegressor`.
    window : int
        Samples of a training window.
    windows_per_epoch : int
        Windows drawn at random for each epoch.
    validation_size : float
        Share of each recording, at its end, that is held out.
    start : {"average", "random"}
        Initial smoothing filters: moving averages, by which each branch starts with its amplitude; or random ones, as
        published, which may cancel most of an envelope.
    n_restarts : int
        Random restarts, whose predictions are averaged.
    prune : bool
        Remove branches after training where the validation loss does not rise by it.
    readout : {"both", "lagged", "decoder"}
        How BOLD is predicted from the envelopes: by the decoder, as published; by ridge regression on the envelopes at
        lags of seconds; or by the mean of the two.

    Examples
    --------
    >>> from skeeg.methods.beira import RECIPES
    >>> RECIPES["default"].readout, RECIPES["published"].readout
    ('both', 'decoder')
    """

    max_epochs: int = 20
    batch_size: int = 8
    learning_rate: float = 3e-3
    weight_decay: float = 3e-4
    schedule: str | None = None
    patience: int | None = 30
    network_params: dict = dataclasses.field(default_factory=_SMALL.copy)
    normalize: str = "whiten"
    loss: str | tuple = (0.5, 0.5, 0.0)
    window: int = 4096
    windows_per_epoch: int = 64
    validation_size: float = 0.15
    start: str = "average"
    n_restarts: int = 6
    prune: bool = True
    readout: str = "both"

    constraints = Recipe.constraints | {
        "normalize": [StrOptions({"whiten", "channel", "global"})],
        "windows_per_epoch": [Interval(Integral, 1, None, closed="left")],
        "start": [StrOptions({"average", "random"})],
        "n_restarts": [Interval(Integral, 1, None, closed="left")],
        "readout": [StrOptions({"both", "lagged", "decoder"})],
    }

    def check(self):
        """Raise a ValueError that names the first setting that makes no sense."""
        make_loss(self.loss)
        return super().check()


RECIPES = {
    "default": BEIRARecipe(),
    "published": BEIRARecipe(
        max_epochs=1500, batch_size=4, accumulate=4, learning_rate=3e-4, patience=1500, network_params={},
        normalize="global", loss="mse", window=2048, windows_per_epoch=512, start="random", n_restarts=1, prune=False,
        readout="decoder",
    ),
}  # fmt: skip
"""Recipes by name. Updates of 16 windows, as published, are computed 4 at a time, in a third of the memory."""


def kept_loss(state, recipe, has_validation):
    """Loss of the weights that a training kept: of the validation where there is one; infinite where it diverged."""
    if state.net.diverged_:
        return np.inf
    name = "valid_loss" if has_validation else "train_loss"
    losses = [row[name] for row in state.history if np.isfinite(row.get(name, np.nan))]
    best = recipe.patience is not None and has_validation
    return float(min(losses) if best else losses[-1]) if losses else np.inf


def start_as_averages(module):
    """Initialise the smoothing filters of a network as moving averages, in place."""
    for _, _, low_pass in module.front_layers():
        torch.nn.init.constant_(low_pass.weight, 1 / low_pass.kernel_size[0])
        torch.nn.init.zeros_(low_pass.bias)


def prune_branches(module, criterion, examples, watched):
    """Replace branches by their mean envelope where the validation loss does not rise by it, least important first.

    The smoothing filter of such a branch becomes zero and its bias the mean. The most important branch of each front
    end is kept. Shapes: ``examples`` (n_windows, n_chans, n_times).
    """
    importance, layers = torch.from_numpy(branch_importance(module, examples)), module.front_layers()
    importance = importance if len(layers) == len(importance) else importance.sum(0, keepdim=True)
    with torch.inference_mode():
        means = sum(module.envelopes(one).mean((0, 3)) for one in examples.split(1)) / len(examples)
    least = _mean_loss(module, criterion, watched)
    for region, (_, _, low_pass) in enumerate(layers):
        for branch in importance[region].argsort()[:-1].tolist():
            before = {name: value.clone() for name, value in low_pass.state_dict().items()}
            with torch.no_grad():
                low_pass.weight[branch], low_pass.bias[branch] = 0.0, means[region, branch]
            loss = _mean_loss(module, criterion, watched)
            if loss <= least:
                least = loss
            else:
                low_pass.load_state_dict(before)


def _mean_loss(module, criterion, watched):
    with torch.inference_mode():
        pairs = (watched[i] for i in range(len(watched)))
        return sum(float(criterion(module(x[None]), y[None])) for x, y in pairs) / len(watched)


class BOLDLoss(torch.nn.Module):
    r"""Weighted sum of squared error, correlation and covariance distance.

    .. math:: w_1 \,\mathrm{MSE} - w_2 \,\bar r + w_3 \min(d(\hat Y, Y), 100)

    The first and the last sample do not count for the squared error, as in the published loss. Terms of weight zero
    are not computed. Outputs that are longer than the targets are cut: the network pads its input.
    """

    def __init__(self, mse=1.0, correlation=0.0, covariance=0.0, sample=-1):
        super().__init__()
        self.mse, self.correlation, self.covariance, self.sample = mse, correlation, covariance, sample

    def forward(self, outputs, targets):
        """Loss of outputs (batch, n_regions, times) or (batch, n_regions) against targets of the same axes."""
        if targets.ndim == 2:  # one value a window: the signals run over the batch
            outputs = outputs[..., self.sample] if outputs.ndim == 3 else outputs
            outputs, targets = outputs.T[None], targets.T[None]
            inner = slice(None)
        else:
            outputs = outputs[..., : targets.shape[-1]]
            inner = slice(1, -1) if targets.shape[-1] > 2 else slice(None)
        total = outputs.new_zeros(())
        if self.mse:
            total = total + self.mse * (outputs[..., inner] - targets[..., inner]).square().mean()
        if self.correlation:
            total = total - self.correlation * pearson(outputs, targets).mean()
        if self.covariance:
            total = total + self.covariance * covariance_distance(outputs, targets).mean().clamp(0, 100)
        return total


def make_loss(loss, sample=-1):
    """Build the `BOLDLoss` of a name or of three weights."""
    weights = LOSSES.get(loss) if isinstance(loss, str) else loss
    good = isinstance(weights, list | tuple) and len(weights) == 3 and all(weight >= 0 for weight in weights)
    if not good or not any(weights):
        names = ", ".join(map(repr, LOSSES))
        raise ValueError(f"loss: got {loss!r}, expected {names}, or three weights of which one is positive.")
    return BOLDLoss(*weights, sample)


def pearson(a, b, dim=-1, eps=1e-8):
    """Pearson correlation of tensors along an axis; 0 where a signal is constant."""
    a, b = a - a.mean(dim, keepdim=True), b - b.mean(dim, keepdim=True)
    return torch.nan_to_num(torch.cosine_similarity(a, b, dim=dim, eps=eps))


def covariance_distance(a, b, shrinkage=1e-3):
    r"""Affine-invariant distance between the covariances of two sets of signals (..., n_regions, n_times).

    .. math:: d(A, B) = \sqrt{\sum_i \log^2 \lambda_i(A^{-1} B)}

    A share `shrinkage` of the mean variance of `b`, the measured signals, is added to both diagonals.
    """
    n_regions = a.shape[-2]
    cov_a, cov_b = _covariance(a), _covariance(b)
    level = cov_b.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None].clamp_min(1e-12)
    ridge = shrinkage * level * torch.eye(n_regions, dtype=a.dtype, device=a.device)
    factor = torch.linalg.cholesky(cov_b + ridge)
    half = torch.linalg.solve_triangular(factor, cov_a + ridge, upper=False)
    whitened = torch.linalg.solve_triangular(factor, half.mT, upper=False)
    logs = torch.linalg.eigvalsh((whitened + whitened.mT) / 2).clamp_min(1e-12).log()
    return (logs.square().sum(-1) + 1e-12).sqrt()  # the root has no gradient at zero


def _covariance(x):
    x = x - x.mean(-1, keepdim=True)
    return x @ x.mT / max(x.shape[-1] - 1, 1)
