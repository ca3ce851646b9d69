"""Recipes: how a network is trained, as plain values."""

import dataclasses
import math
from numbers import Integral, Real

import torch
from sklearn.utils._param_validation import Interval, StrOptions

from ..base import check_values, refuse_unknown
from .sizes import class_of

SOLVERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
LOSSES = {
    "cross_entropy": torch.nn.CrossEntropyLoss,
    "mse": torch.nn.MSELoss,
    "mae": torch.nn.L1Loss,
    "huber": torch.nn.HuberLoss,
}


_COUNT, _AMOUNT = Interval(Integral, 1, None, closed="left"), Interval(Real, 0, None, closed="left")
_SHARE = Interval(Real, 0, 1, closed="both")
_CONSTRAINTS = {
    **dict.fromkeys(("max_epochs", "batch_size", "accumulate", "min_epochs", "min_trials", "lora_rank"), [_COUNT]),
    **dict.fromkeys(("patience", "n_updates"), [_COUNT, None]),
    **dict.fromkeys(("learning_rate", "weight_decay", "momentum", "min_delta", "time_shift"), [_AMOUNT]),
    **dict.fromkeys(("lowest", "warmup_share"), [_SHARE]),
    **dict.fromkeys(("by_step", "refit"), ["boolean"]),
    "solver": [StrOptions(set(SOLVERS))],
    "schedule": [StrOptions({"cosine"}), None],
    "precision": [StrOptions({"float32", "bf16", "float64"})],
    "class_weight": [StrOptions({"balanced"}), dict, None],
    "scale": [StrOptions({"std", "trial"}), Interval(Real, 0, None, closed="neither"), None],
    "validation_size": [Interval(Real, 0, 1, closed="neither")],
}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Parameters
    ----------
    max_epochs, batch_size : int
        Passes over the training trials, and trials an update.
    learning_rate, weight_decay : float
        Highest learning rate, and decay of the weights.
    solver : {"adamw", "adam", "sgd"}
        Optimiser.
    momentum : float
        Momentum of ``"sgd"``; the others do not use it.
    schedule : {"cosine", None}
        Learning rate over the epochs: half a cosine down to zero, or constant.
    warmup_share : float
        Share of the training in which the learning rate rises linearly, before the schedule.
    patience : int or None
        Stop after so many epochs without a better validation loss and keep the best weights.
    min_delta : float
        Smallest fall of the validation loss that counts as better.
    precision : {"float32", "bf16", "float64"}
        Arithmetic of the forward and backward pass. In ``"float64"`` a trial's result is the same, to twelve digits, in
        a batch of any size; in the others rounding differs with the batch, as kernels do.
    lowest : float
        Share of the highest learning rate that the cosine ends at.
    by_step : bool
        Move the learning rate at every update, not only at every epoch; the warm-up then rises from zero.
    accumulate : int
        Batches an update: the update of one batch with as many trials more, in the memory of a small one, except for
        batch normalisation and, outside of pre-training, losses that weigh trials.
    n_updates : int or None
        Updates of the whole training, where few trials make an epoch short. It then lasts as many epochs as they need,
        at least ``min_epochs`` and at most ``max_epochs``, of batches of equal size up to ``batch_size``.
    min_epochs : int
        Fewest epochs with ``n_updates``.
    min_trials : int
        Fewest training trials that the recipe is made for.
    class_weight : {"balanced", None} or dict
        Weight of each class in the cross-entropy, as in scikit-learn: inverse to its share of the training trials, one,
        or by label; classes that the dict does not name have one. `train` takes class indices for labels.
    scale : {"std", "trial", None} or float
        What the trials of `NetworkClassifier` are divided by: their standard deviation at fit, each trial by its own
        root mean square over channels and samples, nothing, or a number of microvolts.
    time_shift : float
        Largest random shift in time of a training trial, to either side, as a share of it. For rhythms, as in motor
        imagery; it destroys responses that are locked to a stimulus.
    validation_size : float
        Share of the subjects or trials that a validation holds out.
    refit : bool
        After a validation, train anew on all trials for the updates that were best, the schedule fitted to them.
    lora_rank : int
        Rank of the changes of ``strategy="lora"``.
    epochs_done : int
        Epochs of ``max_epochs`` that an interrupted training has done.

    Examples
    --------
    >>> from skeeg.training import Recipe
    >>> Recipe(n_updates=300, max_epochs=200, batch_size=16).for_trials(48).max_epochs
    100
    """

    max_epochs: int = 100
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    solver: str = "adamw"
    momentum: float = 0.0
    schedule: str | None = "cosine"
    warmup_share: float = 0.0
    patience: int | None = None
    min_delta: float = 0.0
    precision: str = "float32"
    lowest: float = 0.0
    by_step: bool = False
    accumulate: int = 1
    n_updates: int | None = None
    min_epochs: int = 1
    min_trials: int = 1
    class_weight: str | dict | None = None
    scale: str | float | None = "std"
    time_shift: float = 0.0
    validation_size: float = 0.2
    refit: bool = False
    lora_rank: int = 4
    epochs_done: int = 0

    constraints = _CONSTRAINTS  # what settings may be; a subclass adds those of its own

    @property
    def update_size(self):
        """Trials an update."""
        return self.batch_size * self.accumulate

    def check(self):
        """Raise a ValueError that names the first invalid setting; give the recipe."""
        check_values(self.constraints, {name: vars(self)[name] for name in self.constraints})
        weights = self.class_weight.values() if isinstance(self.class_weight, dict) else ()
        if odd := [one for one in weights if not (isinstance(one, Real) and 0 <= one < math.inf)]:
            raise ValueError(f"class_weight: got the weight {odd[0]!r}, expected numbers from 0.")
        return self

    def for_trials(self, n_trials):
        """Recipe with its updates counted out in epochs of so many training trials."""
        if n_trials < self.min_trials:
            raise ValueError(f"recipe: it needs at least {self.min_trials} training trials, got n_samples={n_trials}.")
        if self.n_updates is None:
            return self
        per_epoch = max(math.ceil(n_trials / self.update_size), 1)
        epochs = min(max(math.ceil(self.n_updates / per_epoch), self.min_epochs), self.max_epochs)
        size = math.ceil(n_trials / per_epoch / self.accumulate)  # no batch of the few trials left over
        return dataclasses.replace(self, n_updates=None, max_epochs=epochs, batch_size=size)

    def rate(self, step, n_steps=1):
        """Share of the highest learning rate at a step, from 0 after the epochs done; an epoch has ``n_steps``."""
        epoch = (step + self.epochs_done * n_steps) / n_steps  # to the bit that of one run
        warmup = self.warmup_share * self.max_epochs
        if epoch < warmup:
            return epoch / warmup if self.by_step else (epoch + 1) / (warmup + 1)
        if self.schedule is None:
            return 1.0
        span = max(self.max_epochs - warmup, 1)
        return self.lowest + (1 - self.lowest) * 0.5 * (1 + math.cos(math.pi * min((epoch - warmup) / span, 1.0)))


_UPDATES = Recipe(
    n_updates=200, min_epochs=20, max_epochs=500, batch_size=16, warmup_share=0.1, by_step=True, weight_decay=1e-2,
    class_weight="balanced", min_trials=4, patience=50,
)  # fmt: skip
PRESETS = {
    "compact": dataclasses.replace(_UPDATES, n_updates=600, max_epochs=100, learning_rate=5e-3),
    "convolutional": dataclasses.replace(_UPDATES, learning_rate=2e-3),
    "wide": dataclasses.replace(_UPDATES, learning_rate=6e-4),
    "pretrained": Recipe(max_epochs=10, batch_size=8, learning_rate=1e-4, weight_decay=1e-6, solver="adam"),
    "mirepnet-fork": Recipe(max_epochs=10, batch_size=8, learning_rate=1e-3, weight_decay=1e-6, solver="adam"),
}
"""Recipes by name. ``"default"`` is that of the network's family, see `default_recipe`; ``"imagery"`` is the same with
random shifts in time."""
_IMAGERY = {"time_shift": 0.5}
_FAMILIES = {
    "EEGNet": "compact",
    "ShallowFBCSPNet": "wide",
    "EEGConformer": "wide",
    **dict.fromkeys(("BIOT", "BENDR", "Labram", "LaBraM", "CBraMod", "EEGPT"), "pretrained"),
}


def default_recipe(network):
    """Name of the recipe, a key of `PRESETS`, that ``"default"`` means for a network, a name or a class.

    Examples
    --------
    >>> from skeeg.training import default_recipe
    >>> default_recipe("EEGConformer")
    'wide'
    """
    name = network if isinstance(network, str) else class_of(network).__name__
    return _FAMILIES.get(name.removeprefix("Interpolated"), "convolutional")


def get_recipe(recipe="default", network="", **changes):
    """Recipe of a name, ``"default"``, ``"imagery"`` or one in `PRESETS`, or of a dict of settings.

    A ``"name"`` in the dict is what the others change. ``network`` is what is trained; ``"default"`` and ``"imagery"``
    depend on it. ``changes`` are settings that differ; None leaves the recipe's own, and a ``max_epochs`` replaces its
    ``n_updates``.

    Examples
    --------
    >>> from skeeg.training import get_recipe
    >>> get_recipe({"name": "mirepnet-fork", "solver": "sgd"}, batch_size=16).learning_rate
    0.001
    """
    if isinstance(recipe, Recipe):
        chosen = recipe
    else:
        if not isinstance(recipe, str | dict):
            raise ValueError(f"recipe: got {recipe!r}, expected a name or a dict of settings.")
        settings = {"name": recipe} if isinstance(recipe, str) else dict(recipe)
        name = settings.pop("name", "default")
        refuse_unknown("recipe", settings, Recipe.__dataclass_fields__)
        refuse_unknown("recipe", [name], ["default", "imagery", *PRESETS])
        if name in ("default", "imagery"):
            settings = (_IMAGERY if name == "imagery" else {}) | settings
            name = default_recipe(network)
        if "max_epochs" in settings:
            settings.setdefault("n_updates", None)
        chosen = dataclasses.replace(PRESETS[name], **settings)
    changes = {name: value for name, value in changes.items() if value is not None}
    if "max_epochs" in changes:  # the user counts in epochs
        changes["n_updates"] = None
    return dataclasses.replace(chosen, **changes)


def change_recipe(recipe, recipe_params, **own):
    """Recipe, checked, with the settings ``recipe_params``, and with an estimator's ``own``; None leaves the recipe's.

    What the estimator has itself must not be among ``recipe_params``.
    """
    foreign = {"scale", "refit", "epochs_done"}  # of `NetworkClassifier`, and of runs that resume
    refuse_unknown("recipe_params", recipe_params, recipe.__dataclass_fields__.keys() - own.keys() - foreign)
    own = {name: value for name, value in own.items() if value is not None}
    return dataclasses.replace(recipe, **(recipe_params or {}), **own).check()
