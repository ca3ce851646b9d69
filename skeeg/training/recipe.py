"""How a network is trained: a recipe of plain values, and the one function that follows it."""

import copy
import dataclasses
import difflib
import functools
import math
import warnings

import torch
from sklearn.exceptions import ConvergenceWarning
from skorch.callbacks import EarlyStopping, LRScheduler
from skorch.helper import predefined_split

from ..networks import guard
from .net import ProgressBar, TrainingNet, Trials, ValidationAccuracy
from .norms import count_norm_updates, settle_norms
from .shifting import TimeShift

SOLVERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
LOSSES = {
    "cross_entropy": torch.nn.CrossEntropyLoss,
    "mse": torch.nn.MSELoss,
    "mae": torch.nn.L1Loss,
    "huber": torch.nn.HuberLoss,
}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Parameters
    ----------
    max_epochs : int
        Passes over the training trials.
    batch_size : int
        Trials an update.
    learning_rate : float
        Highest learning rate.
    weight_decay : float
        Decay of the weights.
    solver : {"adamw", "adam", "sgd"}
        Optimiser.
    momentum : float
        Momentum of ``"sgd"``; the others do not use it.
    schedule : {"cosine", None}
        Learning rate over the epochs: half a cosine down to zero, or constant.
    warmup : float
        Epochs of linear rise before the schedule.
    patience : int or None
        Stop after so many epochs without a better validation loss and keep the best weights.
    min_delta : float
        Smallest fall of the validation loss that counts as better.
    precision : {"float32", "bf16", "float64"}
        Arithmetic of the forward and backward pass. In ``"float64"`` a trial's result is the same, to twelve digits,
        in a batch of any size; in the others rounding differs with the batch, as kernels do.
    lowest : float
        Share of the highest learning rate that the cosine ends at.
    by_step : bool
        Move the learning rate at every update, not only at every epoch; the warm-up then rises from zero.
    accumulate : int
        Batches an update. It is the update of one batch with as many trials more, in the memory of a small one, except
        that a batch normalisation sees the small ones, and, outside of pre-training, that they weigh by their trials
        even where the loss weighs trials otherwise.
    n_updates : int or None
        Updates of the whole training, where few trials make an epoch short. It then lasts as many epochs as they need,
        at least ``min_epochs`` and at most ``max_epochs``, of batches of equal size up to ``batch_size``.
    min_epochs : int
        Fewest epochs with ``n_updates``.
    warmup_share : float
        Share of the training in which the rate rises, in place of ``warmup``.
    min_trials : int
        Fewest training trials that the recipe is made for.
    class_weight : {"balanced", None}
        Weight of each class in the cross-entropy: inverse to its share of the training trials, or one.
    scale : {"std", "trial", None} or float
        What the trials of `NetworkClassifier` are divided by: their standard deviation at fit, each trial by its own
        root mean square over channels and samples, nothing, or a number of microvolts.
    time_shift : float
        Largest random shift in time of a training trial, to either side, as a share of it (`TimeShift`). For rhythms,
        as in motor imagery; it destroys responses that are locked to a stimulus.
    validation_size : float
        Share of the subjects or trials that a validation holds out.
    refit : bool
        After a validation, train anew on all trials for the updates that were best, the schedule fitted to them.
    lora_rank : int
        Rank of the changes of ``strategy="lora"``.

    Examples
    --------
    >>> from skeeg.training import Recipe
    >>> Recipe(max_epochs=3).batch_size
    64
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
    warmup: float = 0.0
    patience: int | None = None
    min_delta: float = 0.0
    precision: str = "float32"
    lowest: float = 0.0
    by_step: bool = False
    accumulate: int = 1
    n_updates: int | None = None
    min_epochs: int = 1
    warmup_share: float = 0.0
    min_trials: int = 1
    class_weight: str | None = None
    scale: str | float | None = "std"
    time_shift: float = 0.0
    validation_size: float = 0.2
    refit: bool = False
    lora_rank: int = 4

    @property
    def update_size(self):
        """Trials an update."""
        return self.batch_size * self.accumulate

    def check(self):
        """Raise a ValueError that names the first setting that makes no sense."""
        for name, allowed in (
            ("solver", set(SOLVERS)),
            ("schedule", {"cosine", None}),
            ("precision", {"float32", "bf16", "float64"}),
            ("class_weight", {"balanced", None}),
        ):
            if getattr(self, name) not in allowed:
                options = ", ".join(repr(one) for one in sorted(allowed, key=str))
                raise ValueError(f"{name}: got {getattr(self, name)!r}, expected one of {options}.")
        for name, lowest in (
            ("max_epochs", 1), ("batch_size", 1), ("learning_rate", 0), ("weight_decay", 0), ("accumulate", 1),
            ("min_epochs", 1), ("n_updates", 1), ("time_shift", 0),
        ):  # fmt: skip
            if getattr(self, name) is not None and not getattr(self, name) >= lowest:
                raise ValueError(f"{name}: got {getattr(self, name)}, expected at least {lowest}.")
        return self

    def for_trials(self, n_trials):
        """Recipe with its updates counted out in epochs of so many training trials."""
        if n_trials < self.min_trials:
            raise ValueError(f"recipe: it needs at least {self.min_trials} training trials, got n_samples={n_trials}.")
        if self.n_updates is None:
            warmup = self.warmup_share * self.max_epochs if self.warmup_share else self.warmup
            return dataclasses.replace(self, warmup=warmup)
        per_epoch = max(math.ceil(n_trials / self.update_size), 1)
        epochs = min(max(math.ceil(self.n_updates / per_epoch), self.min_epochs), self.max_epochs)
        size = math.ceil(n_trials / per_epoch / self.accumulate)  # no batch of the few trials left over
        counted = dataclasses.replace(self, n_updates=None, max_epochs=epochs, batch_size=size)
        return counted.for_trials(n_trials)

    def rate(self, epoch):
        """Share of the highest learning rate in this epoch, counted from 0; with ``by_step`` between epochs too."""
        if epoch < self.warmup:
            return epoch / self.warmup if self.by_step else (epoch + 1) / (self.warmup + 1)
        if self.schedule is None:
            return 1.0
        span = max(self.max_epochs - self.warmup, 1)
        return self.lowest + (1 - self.lowest) * 0.5 * (1 + math.cos(math.pi * min((epoch - self.warmup) / span, 1.0)))

    def rate_at(self, step, n_steps):
        """Share of the highest learning rate at an update, counted from 0, of which an epoch has ``n_steps``."""
        return self.rate(step / n_steps)


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
"""Recipes by name. ``"default"`` is that of the network's family, which `default_recipe` tells; ``"imagery"`` is
the same with random shifts in time."""
_IMAGERY = {"time_shift": 0.5}
_FAMILIES = {
    "EEGNet": "compact",
    "ShallowFBCSPNet": "wide",
    "EEGConformer": "wide",
    "BIOT": "pretrained",
    "BENDR": "pretrained",
    "InterpolatedBENDR": "pretrained",
    "Labram": "pretrained",
    "InterpolatedLaBraM": "pretrained",
    "CBraMod": "pretrained",
    "EEGPT": "pretrained",
}


def default_recipe(network):
    """Name of the recipe that ``"default"`` means for a network.

    Parameters
    ----------
    network : str or class
        Network of the registry, or a class.

    Returns
    -------
    name : str
        Key of `PRESETS`.

    Examples
    --------
    >>> from skeeg.training import default_recipe
    >>> default_recipe("EEGConformer")
    'wide'
    """
    return _FAMILIES.get(network if isinstance(network, str) else network.__name__, "convolutional")


def get_recipe(recipe="default", network="", **changes):
    """Recipe of a name, with the settings that are changed.

    Parameters
    ----------
    recipe : str, dict or Recipe
        ``"default"``, ``"imagery"``, a name in `PRESETS`, or settings of `Recipe` by name, of which ``"name"`` is what
        they change.
    network : str or class
        What is trained; ``"default"`` and ``"imagery"`` depend on it.
    **changes
        Settings that differ; None leaves the recipe's own. A ``max_epochs`` replaces the recipe's ``n_updates``.

    Returns
    -------
    recipe : Recipe
        How to train.

    Examples
    --------
    >>> from skeeg.training import get_recipe
    >>> get_recipe("mirepnet-fork", batch_size=16).solver
    'adam'
    >>> get_recipe({"name": "mirepnet-fork", "solver": "sgd"}).learning_rate
    0.001
    """
    if isinstance(recipe, Recipe):
        chosen = recipe
    else:
        settings = {"name": recipe} if isinstance(recipe, str) else dict(recipe)
        name = settings.pop("name", "default")
        unknown = [one for one in settings if one not in Recipe.__dataclass_fields__]
        if unknown:
            raise _unknown("setting", unknown[0], Recipe.__dataclass_fields__)
        if name in ("default", "imagery"):
            settings = (_IMAGERY if name == "imagery" else {}) | settings
            name = default_recipe(network)
        if name not in PRESETS:
            raise _unknown("name", name, ["default", "imagery", *PRESETS])
        if "max_epochs" in settings:
            settings.setdefault("n_updates", None)
        chosen = dataclasses.replace(PRESETS[name], **settings)
    changes = {name: value for name, value in changes.items() if value is not None}
    if "max_epochs" in changes:  # the user counts in epochs
        changes["n_updates"] = None
    return dataclasses.replace(chosen, **changes)


def _unknown(what, given, known):
    """Error for an unknown name, with the nearest known ones."""
    near = difflib.get_close_matches(str(given), known, n=3, cutoff=0.4) or list(known)
    return ValueError(f"recipe: got the {what} {given!r}; nearest: {', '.join(map(repr, near))}.")


def resolve_device(device):
    """Torch device of the parameter ``device``: ``"auto"`` takes CUDA where there is one."""
    if device == "auto":
        return "cuda" if _has_cuda() else "cpu"
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device: got {device!r}, expected 'auto', 'cpu', 'cuda' or 'cuda:1', ...") from error
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device: got {device!r}, but torch sees {torch.cuda.device_count()} CUDA devices.")
    return str(found)


@functools.cache
def _has_cuda():
    """Ask once: the answer takes longer than a look at the input does."""
    return torch.cuda.is_available()


def make_loss(loss, targets=None, dtype=torch.float32):
    """Loss module of a name, or the module itself; ``targets`` are class indices to balance the classes of."""
    if isinstance(loss, torch.nn.Module):
        return loss
    if loss not in LOSSES:
        raise ValueError(f"loss: got {loss!r}, expected one of {', '.join(map(repr, LOSSES))} or a torch module.")
    if targets is None or loss != "cross_entropy":
        return LOSSES[loss]()
    counts = torch.bincount(targets)
    weights = len(targets) / (counts.count_nonzero() * counts.clamp(min=1))
    return torch.nn.CrossEntropyLoss(weight=weights.to(dtype))


def make_net(
    module,
    recipe,
    criterion,
    *,
    validation=None,
    device="cpu",
    callbacks=(),
    verbose=0,
    n_steps=1,
    kind=TrainingNet,
    **parts,
):
    """Build the skorch net that follows a recipe.

    Parameters
    ----------
    module : torch.nn.Module
        Network, used as it is.
    recipe : Recipe
        How to train.
    criterion : torch.nn.Module
        Loss of (outputs, targets).
    validation : Trials or None
        Validation trials.
    device : str
        Training device.
    callbacks : sequence of skorch callbacks
        In addition to the recipe's own.
    verbose : int
        Whether to show a progress bar.
    n_steps : int
        Updates an epoch, for a rate that moves ``by_step``.
    kind : class
        `TrainingNet` or one derived from it.
    **parts
        ``trained``, ``parameter_groups`` and ``augmentation`` of `TrainingNet`.

    Returns
    -------
    net : TrainingNet
        Not initialised yet.
    """
    own = [("schedule", _schedule(recipe, n_steps))]
    if recipe.time_shift:
        own.append(("time_shift", TimeShift(recipe.time_shift)))
    if validation is not None and isinstance(criterion, torch.nn.CrossEntropyLoss):
        own.append(("valid_acc", ValidationAccuracy()))
    if validation is not None and recipe.patience is not None:
        stopping = EarlyStopping(
            patience=recipe.patience, threshold=recipe.min_delta, threshold_mode="abs", load_best=True, sink=_silent
        )
        own.append(("early_stopping", stopping))
    if verbose:
        own.append(("progress", ProgressBar()))
    optimizer = {"weight_decay": recipe.weight_decay}
    if recipe.solver == "sgd":
        optimizer["momentum"] = recipe.momentum
    return kind(
        module,
        criterion,
        optimizer=SOLVERS[recipe.solver],
        lr=recipe.learning_rate,
        max_epochs=recipe.max_epochs,
        batch_size=recipe.batch_size,
        iterator_train=kind.batches,
        iterator_train__shuffle=True,
        iterator_train__batch_size=recipe.update_size,
        iterator_train__device=device,
        iterator_valid=kind.batches,
        iterator_valid__device=device,
        train_split=None if validation is None else predefined_split(validation),
        callbacks=[*own, *callbacks],
        device=device,
        verbose=0,
        precision=recipe.precision,
        accumulate=recipe.accumulate,
        **{f"optimizer__{name}": value for name, value in optimizer.items()},
        **parts,
    )


def _schedule(recipe, n_steps):
    """Make the callback that sets the learning rate."""
    if recipe.by_step:
        rate, every = (lambda step: recipe.rate_at(step, n_steps)), "batch"
    else:
        rate, every = recipe.rate, "epoch"
    return LRScheduler(policy=torch.optim.lr_scheduler.LambdaLR, lr_lambda=rate, step_every=every)


def train(
    module,
    X,
    y,
    recipe,
    *,
    loss="cross_entropy",
    validation=None,
    device="auto",
    callbacks=(),
    verbose=0,
    settle=True,
    kind=TrainingNet,
    **parts,
):
    """Train a network; the only place where that happens.

    Ctrl-C ends the training early and keeps the weights reached so far. Run it within `seeded`.

    Parameters
    ----------
    module : torch.nn.Module
        Network; trained in place and left on the CPU, in evaluation mode.
    X : ndarray or Tensor, shape (n_trials, n_channels, n_times), or Trials
        Inputs; Trials bring their targets along.
    y : ndarray or Tensor, shape (n_trials,) or (n_trials, n_outputs), or None
        Class indices or targets.
    recipe : Recipe
        How to train.
    loss : str or torch.nn.Module
        Name of a loss (``"cross_entropy"``, ``"mse"``, ``"mae"``, ``"huber"``) or a module of (outputs, targets).
    validation : tuple (X, y), tuple (Trials,), or None
        Trials to watch, and to stop early by where the recipe has a ``patience``.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ...
    callbacks : sequence of skorch callbacks
        In addition to the recipe's own.
    verbose : int
        Whether to show a progress bar.
    settle : bool
        Estimate statistics of batch normalisation anew where few updates left them half-way (`skeeg.training.norms`).
    kind : class
        `TrainingNet` or one derived from it.
    **parts
        ``trained``, ``parameter_groups`` and ``augmentation`` of `TrainingNet`.

    Returns
    -------
    net : TrainingNet
        Fitted skorch net; ``diverged_`` tells whether a weight that was trained is not finite.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from skeeg.training import Recipe, train
    >>> X, y = np.random.default_rng(0).normal(size=(8, 2, 4)).astype("float32"), np.arange(8) % 2
    >>> module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(8, 2))
    >>> len(train(module, X, y, Recipe(max_epochs=3)).history)
    3
    """
    held = None if validation is None else _as_trials(*validation)
    settings = {"device": resolve_device(device), "callbacks": callbacks, "verbose": verbose, "kind": kind, **parts}
    trials = _as_trials(X, y)
    recipe = recipe.check().for_trials(len(trials))
    settings["n_steps"] = _count_steps(trials, recipe) if recipe.by_step else 1
    dtype = torch.float64 if recipe.precision == "float64" else torch.float32
    criterion = make_loss(loss, trials.y if recipe.class_weight else None, dtype)
    net = make_net(module, recipe, criterion, validation=held, **settings)
    start = copy.deepcopy(module.state_dict()) if recipe.refit and held is not None else None
    module.eval()  # parts that are not trained stay so
    few, _ = trials.take(trials.draw(4)[0])
    before = count_norm_updates(module)
    with guard(module, few):
        net.fit(trials)
    if start is not None and not net.interrupted_:
        module.load_state_dict(start)
        X, y = torch.cat([trials.X, held.X]), torch.cat([trials.y, held.y])
        settings = {"device": device, "callbacks": callbacks, "verbose": verbose, "kind": kind, **parts}
        return train(module, X, y, _refitting(recipe, net, len(trials)), loss=loss, settle=settle, **settings)
    if settle:
        settle_norms(net.module_, trials, recipe.update_size, before, kind.batches)
    net.module_.to("cpu").eval()
    trained = [parameter for parameter in net.module_.parameters() if parameter.requires_grad]
    net.diverged_ = not all(bool(torch.isfinite(parameter).all()) for parameter in trained)
    if net.diverged_:
        message = "learning_rate: the training diverged, its weights are not finite; a smaller rate may help."
        warnings.warn(message, ConvergenceWarning, stacklevel=2)
    return net


def _refitting(recipe, net, n_trials):
    """Recipe of the updates that were best for the validation trials."""
    best = 1 + min(range(len(net.history)), key=lambda epoch: net.history[epoch, "valid_loss"])
    n_updates = best * math.ceil(n_trials / recipe.update_size)
    share = recipe.warmup / recipe.max_epochs
    counted = {"n_updates": n_updates, "min_epochs": 1, "max_epochs": n_updates, "warmup_share": share, "refit": False}
    return dataclasses.replace(recipe, **counted)


def _count_steps(trials, recipe):
    """Count the updates of an epoch; the random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        return len(trials.draw(recipe.update_size, shuffle=True))


def _as_trials(X, y=None):
    """Trials of arrays; Trials as they are."""
    return X if isinstance(X, Trials) else Trials(X, y)


def _silent(message):
    """Swallow skorch's messages: the history tells the same."""
