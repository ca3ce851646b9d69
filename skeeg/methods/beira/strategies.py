"""How BEIRA is trained: the recipes, and what the default one adds to the published training."""

import dataclasses
import difflib

import numpy as np
import torch

from ...training import Recipe
from .patterns import branch_importance

_SMALL = {
    "n_branches": 3,
    "channels": (16, 32, 32, 32),
    "decoder_reduce": 2,
    "rectifier": "abs",
    "drop_prob": 0.05,
}


@dataclasses.dataclass(frozen=True)
class BEIRARecipe(Recipe):
    """How a `BEIRARegressor` is trained and read out; the defaults are those of ``recipe="default"``.

    Parameters
    ----------
    max_epochs, batch_size, learning_rate, weight_decay, solver, schedule, patience, precision, accumulate
        See `skeeg.training.Recipe`.
    network_params : dict
        Arguments of the network that differ from its own defaults, which are the published ones.
    normalize : {"whiten", "channel", "global"}
        Make the channels uncorrelated, which lets weak rhythms be learnt beside strong artefacts; standardise each
        channel; or divide by one standard deviation, as published. Filters and patterns are for the EEG as it came.
    loss : {"mse", "correlation", "mixed", "covariance"} or tuple of 3 float
        See `skeeg.methods.beira.losses.make_loss`.
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
        Trainings from other random weights, whose predictions are averaged.
    prune : bool
        Silence branches after training where the validation loss does not rise by it (`prune_branches`).
    readout : {"both", "lagged", "decoder"}
        What makes BOLD of the envelopes: the decoder, as published; ridge regression on the envelopes at lags of
        seconds (`skeeg.methods.beira.readout.LaggedReadout`); or the mean of the two.

    Examples
    --------
    >>> from skeeg.methods.beira.strategies import RECIPES
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

    def check(self):
        """Raise a ValueError that names the first setting that makes no sense."""
        for name, allowed in (
            ("normalize", ("whiten", "channel", "global")),
            ("start", ("average", "random")),
            ("readout", ("both", "lagged", "decoder")),
        ):
            _check_choice(name, getattr(self, name), allowed)
        for name in ("n_restarts", "windows_per_epoch"):
            if not (isinstance(getattr(self, name), int | np.integer) and getattr(self, name) >= 1):
                raise ValueError(f"{name}: got {getattr(self, name)!r}, expected a whole number, at least 1.")
        if not 0 < self.validation_size < 1:
            raise ValueError(f"validation_size: got {self.validation_size}, expected a share between 0 and 1.")
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


def choose_recipe(name, recipe_params, **overrides):
    """Give a recipe by its name, with some settings changed.

    Parameters
    ----------
    name : {"default", "published"}
        Recipe.
    recipe_params : dict or None
        Settings of `BEIRARecipe` to change.
    **overrides
        Further settings; None keeps the recipe's own.

    Returns
    -------
    recipe : BEIRARecipe
        Checked.

    Examples
    --------
    >>> from skeeg.methods.beira.strategies import choose_recipe
    >>> choose_recipe("default", {"patience": 5}, n_restarts=None).patience
    5
    """
    _check_choice("recipe", name, tuple(RECIPES))
    fields = {field.name for field in dataclasses.fields(BEIRARecipe)} - {"network_params", *overrides}
    for one in recipe_params or {}:
        if one in overrides or one == "network_params":
            raise ValueError(f"recipe_params: {one} is a parameter of the estimator itself.")
        _check_choice("recipe_params", one, tuple(sorted(fields)))
    given = {one: value for one, value in overrides.items() if value is not None}
    return dataclasses.replace(RECIPES[name], **(recipe_params or {}), **given).check()


def _check_choice(name, value, allowed):
    if value in allowed:
        return
    near = difflib.get_close_matches(str(value), allowed, 1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"{name}: got {value!r}, expected one of {', '.join(map(repr, allowed))}.{hint}")


def start_as_averages(module):
    """Initialise the smoothing filters of a network as moving averages.

    Parameters
    ----------
    module : BEIRA, SharedBEIRA or BEIRAManyToOne
        Changed in place.

    Examples
    --------
    >>> from skeeg.methods.beira import BEIRA
    >>> from skeeg.methods.beira.strategies import start_as_averages
    >>> network = BEIRA(4, 1, envelope_length=50)
    >>> start_as_averages(network)
    >>> round(float(network.front_layers()[0][2].weight[0, 0, 0]), 3)
    0.02
    """
    for _, _, low_pass in module.front_layers():
        torch.nn.init.constant_(low_pass.weight, 1 / low_pass.kernel_size[0])
        torch.nn.init.zeros_(low_pass.bias)


def prune_branches(module, criterion, examples, watched):
    """Hold branches at their mean envelope where the validation loss does not rise by it, the least important first.

    The smoothing filter of such a branch becomes zero and its bias the mean, so the network keeps its form. The most
    important branch of each front end is kept.

    Parameters
    ----------
    module : BEIRA, SharedBEIRA or BEIRAManyToOne
        Trained network, in evaluation mode; changed in place.
    criterion : torch.nn.Module
        Loss of (outputs, targets).
    examples : Tensor, shape (n_windows, n_chans, n_times)
        Training data, which give the means and the order.
    watched : Dataset
        Validation windows and targets, by index.

    Returns
    -------
    kept : ndarray of bool, shape (n_fronts, n_branches)
        Whether a branch was left as it was.

    Examples
    --------
    >>> import torch
    >>> from skeeg.methods.beira import BEIRA
    >>> from skeeg.methods.beira.strategies import prune_branches
    >>> network = BEIRA(4, 1, n_branches=3, channels=(8, 8), kernel_sizes=(3,), strides=(4,)).eval()
    >>> watched = torch.utils.data.TensorDataset(torch.randn(2, 4, 64), torch.randn(2, 1, 64))
    >>> prune_branches(network, torch.nn.MSELoss(), torch.randn(2, 4, 64), watched).shape
    (1, 3)
    """
    importance, layers = torch.from_numpy(branch_importance(module, examples)), module.front_layers()
    importance = importance if len(layers) == len(importance) else importance.sum(0, keepdim=True)
    with torch.inference_mode():
        means = sum(module.envelopes(one).mean((0, 3)) for one in examples.split(1)) / len(examples)
    kept = torch.ones(len(layers), means.shape[1], dtype=torch.bool)
    least = _mean_loss(module, criterion, watched)
    for region, (_, _, low_pass) in enumerate(layers):
        for branch in importance[region].argsort()[:-1].tolist():
            before = low_pass.weight[branch].clone(), low_pass.bias[branch].clone()
            _set(low_pass, branch, torch.zeros_like(before[0]), means[region, branch])
            loss = _mean_loss(module, criterion, watched)
            if loss <= least:
                least, kept[region, branch] = loss, False
            else:
                _set(low_pass, branch, *before)
    return kept.numpy()


def _set(layer, branch, weight, bias):
    with torch.no_grad():
        layer.weight[branch] = weight
        layer.bias[branch] = bias


def _mean_loss(module, criterion, watched):
    """Mean loss of the windows."""
    with torch.inference_mode():
        pairs = (watched[i] for i in range(len(watched)))
        return sum(float(criterion(module(x[None]), y[None])) for x, y in pairs) / len(watched)
