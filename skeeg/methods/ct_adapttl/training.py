"""Training of CT-adaptTL: recipes of the three phases, folds, weights to start from, fine-tuning."""

import contextlib
import dataclasses
import pathlib
from numbers import Integral, Real

import joblib
import numpy as np
import torch
from sklearn.model_selection import GroupKFold, StratifiedKFold
from sklearn.utils._param_validation import Interval, StrOptions

from ... import __version__
from ...array import as_eeg, make_domains
from ...base import refuse_unknown
from ...training import Recipe, train
from ...training.checkpoints import read_weights, write_weights
from ...training.pretraining import list_recordings
from ...training.validation import split_validation
from .preprocessing import add_mirrored


@dataclasses.dataclass(frozen=True)
class Start:
    """Weights to start from, and the label of each output, None where unknown."""

    state: dict
    classes: tuple | None

    def has(self, classes):
        """Whether each of these labels has an output."""
        return self.classes is not None and set(classes) <= set(self.classes)


@dataclasses.dataclass
class Folds:
    """Result of a pre-training: index, loss (NaN where nothing was held out) and history of the folds, best weights."""

    best: int
    losses: np.ndarray
    histories: list
    state: dict
    complete: bool = True


def split_folds(y, subjects, n_folds, validation, seed):
    """Folds of the source trials, by subject or by trial, as pairs of indices (training, validation or None).

    By subject, no subject is in both parts of a fold; a single subject, or trials of unknown subjects, are split by
    trial. There are at most as many folds as subjects, or as trials of the rarest class; if less than two, nothing is
    held out. One fold holds out a fifth, none nothing. By trial, as published, validation subjects are trained on too.
    """
    n_subjects = 1 if subjects is None else len(np.unique(subjects))
    by_subject = validation == "subject" and n_subjects > 1
    most = n_subjects if by_subject else int(np.bincount(y).min())
    if n_folds == 0 or most < 2:
        return [(np.arange(len(y)), None)]
    if n_folds == 1:
        return [split_validation(y, "subject" if by_subject else "trial", 0.2, subjects, seed)]
    if by_subject:
        return list(GroupKFold(min(n_folds, most), shuffle=True, random_state=seed).split(y, y, subjects))
    return list(StratifiedKFold(min(n_folds, most), shuffle=True, random_state=seed).split(y, y))


def train_folds(build, data, y, folds, recipe, mirror=None, **settings):
    """Train one network a fold; keep the one with the lowest validation loss. Ctrl-C ends it with those so far."""
    losses, histories, best, least = [], [], None, np.inf
    for training, held in folds:
        watched = None if held is None else (data[held], y[held])
        trials = add_mirrored(data[training], y[training], mirror)
        net = train(build(), *trials, recipe, validation=watched, **settings)
        watched = [row["valid_loss"] for row in net.history if "valid_loss" in row]
        losses.append(np.nan if net.diverged_ else min(watched, default=np.nan))
        histories.append([{k: v for k, v in row.items() if k != "batches"} for row in net.history])
        if best is None or losses[-1] < least:
            best, least = (len(losses) - 1, net.module_), np.fmin(losses[-1], np.inf)
        if net.interrupted_:
            break
    state = {name: value.detach().clone() for name, value in best[1].state_dict().items()}
    return Folds(best[0], np.array(losses), histories, state, complete=not net.interrupted_)


def remember(folder, what, compute):
    """Read this version's result of ``what`` from a folder, else compute it and, unless Ctrl-C ended it, write it."""
    if folder is None:
        return compute()
    file = pathlib.Path(folder) / f"ct-adapttl-{joblib.hash((__version__, what))}.safetensors"
    with contextlib.suppress(FileNotFoundError, ValueError, KeyError):  # a damaged file is computed again
        state, header = read_weights(file, "memory")
        return Folds(header["best"], np.array(header["losses"], dtype=float), header["histories"], state)
    found = compute()
    if found.complete:
        file.parent.mkdir(parents=True, exist_ok=True)
        header = {"best": found.best, "losses": found.losses.tolist(), "histories": found.histories}
        write_weights(file, found.state, header)
    return found


def pool_sources(Xs, ys, subjects=None):
    """Concatenate recordings, with the subject of each trial: that of its domain, of ``subjects``, or its recording."""
    listed, recordings = list_recordings(Xs, ys, subjects), []
    if listed[0][0] is Xs:
        return Xs, ys, subjects
    for number, (X, _, own) in enumerate(listed):
        X = as_eeg(X)
        domains = make_domains(len(X), subject=number if own is None else own) if X.domains is None else X.domains
        recordings.append(X.like(X, domains=domains))
    if len({(X.shape[1:], X.ch_names, X.sfreq) for X in recordings}) > 1:
        raise ValueError("Xs: the recordings differ in channels, length or rate; see Harmonise.")
    return np.concatenate(recordings), np.concatenate([np.asarray(y) for y in ys]), None


LAYERS = ("temporal", "spatial", "norm", "hidden", "final_layer")


@dataclasses.dataclass(frozen=True)
class PhaseRecipe(Recipe):
    """How a phase is trained; `CTAdaptTLClassifier` describes the fields that `skeeg.training.Recipe` does not have."""

    n_updates: int = 0
    mirror: bool = True
    n_folds: int = 0
    validation: str = "subject"
    layers: str | tuple = "all"
    layer_decay: float = 1.0
    norm: str = "train"
    validation_size: float | None = None
    share: float = 1.0
    regression: bool = True

    constraints = Recipe.constraints | {
        "n_updates": [Interval(Integral, 0, None, closed="left"), None],
        "n_folds": [Interval(Integral, 0, None, closed="left")],
        **dict.fromkeys(("mirror", "regression"), ["boolean"]),
        "validation": [StrOptions({"subject", "trial"})],
        "layer_decay": [Interval(Real, 0, None, closed="neither")],
        "norm": [StrOptions({"train", "source", "target"})],
        "validation_size": [*Recipe.constraints["validation_size"], None],
        "share": [Interval(Real, 0, 1, closed="both")],
    }

    def check(self):
        """Raise a ValueError for a value out of range."""
        check_layers(self.layers)
        return super().check()


PRESETS = {
    "default": {
        "network": {"pool_length": None},
        "pretrain": PhaseRecipe(max_epochs=15, weight_decay=1e-2, n_updates=80, patience=20),
        "adapt": PhaseRecipe(max_epochs=50, learning_rate=1e-3, norm="source"),
        "specific": PhaseRecipe(max_epochs=15, weight_decay=1e-2, n_updates=100),
    },
    "published": {
        "network": {"filter_length": 25},
        "pretrain": PhaseRecipe(
            max_epochs=600, batch_size=32, weight_decay=5e-4, solver="sgd", n_folds=6, mirror=False, schedule=None,
            patience=20, min_delta=1e-4,
        ),
        "adapt": PhaseRecipe(
            max_epochs=200, batch_size=40, learning_rate=1e-2, solver="sgd", momentum=0.4, mirror=False, schedule=None,
            patience=20, min_delta=1e-4, regression=False,
        ),
        "specific": PhaseRecipe(
            max_epochs=60, batch_size=40, learning_rate=1e-4, weight_decay=5e-4, mirror=False, schedule=None,
        ),
    },
}  # fmt: skip
PHASES = {  # settings that one phase has alone
    "pretrain": {"n_folds", "validation"},
    "adapt": {"layers", "layer_decay", "norm", "validation_size", "share", "regression"},
    "specific": set(),
}
_FILTER_SECONDS = 0.1
_DEFAULT_RATE = 100.0  # hertz, for trials of unknown rate


def network_settings(recipe, sfreq):
    """Arguments of `CTAdaptTLNet`; the filters of ``"default"`` last a tenth of a second."""
    return {"filter_length": max(round(_FILTER_SECONDS * (sfreq or _DEFAULT_RATE)), 1)} | _preset(recipe)["network"]


def phase_recipe(recipe, phase, changes=None, precision="float32"):
    """`PhaseRecipe` of a phase, "pretrain", "adapt" or "specific", with what differs from the recipe."""
    elsewhere = set().union(*PHASES.values()) - PHASES[phase]
    refuse_unknown(f"{phase}_params", changes, PhaseRecipe.__dataclass_fields__.keys() - elsewhere - {"precision"})
    return dataclasses.replace(_preset(recipe)[phase], precision=precision, **(changes or {})).check()


def count_epochs(recipe, n_trials, limit=None):
    """Recipe with enough epochs for its updates, at most ``limit``."""
    epochs = max(recipe.max_epochs, -(-(recipe.n_updates or 0) // -(-n_trials // recipe.batch_size)))
    return dataclasses.replace(recipe, n_updates=None, max_epochs=epochs if limit is None else min(epochs, limit))


def _preset(recipe):
    if recipe not in PRESETS:
        raise ValueError(f"recipe: got {recipe!r}, expected one of {', '.join(map(repr, PRESETS))}.")
    return PRESETS[recipe]


def check_layers(layers):
    """Names of the layers that adapt, from the input to the output: ``"all"``, one of `LAYERS`, or some of them."""
    wanted = LAYERS if layers == "all" else (layers,) if isinstance(layers, str) else tuple(layers)
    unknown = [layer for layer in wanted if layer not in LAYERS]
    if unknown or not wanted:
        raise ValueError(f"layers: got {layers!r}, expected 'all' or some of {', '.join(map(repr, LAYERS))}.")
    return tuple(layer for layer in LAYERS if layer in wanted)


def layer_rates(layers, learning_rate, decay):
    r"""Optimiser's parameter groups with discriminative learning rates [1]_, as a function of a `CTAdaptTLNet`.

    .. math:: \eta_l = \eta \, d^{\,n_l}

    with ``n_l`` layers between layer ``l`` and the output, and :math:`d` the ``decay`` from a layer to the one before.

    References
    ----------
    .. [1] Howard, J., & Ruder, S. (2018). Universal language model fine-tuning for text classification. ACL, 328-339.
       https://doi.org/10.18653/v1/P18-1031
    """
    rates = {layer: learning_rate * decay**n for n, layer in enumerate(reversed(LAYERS))}

    def make_groups(module):
        return [{"params": list(module.get_submodule(layer).parameters()), "lr": rates[layer]} for layer in layers]

    return make_groups


@contextlib.contextmanager
def only_trainable(module, layers, freeze_norm):
    """Within the block, only these layers have gradients; ``freeze_norm`` keeps the statistics of the normalisation."""
    frozen = [p for layer in LAYERS if layer not in layers for p in module.get_submodule(layer).parameters()]
    for parameter in frozen:
        parameter.requires_grad_(False)
    module.freeze_norm = freeze_norm
    try:
        yield
    finally:
        module.freeze_norm = False
        for parameter in frozen:
            parameter.requires_grad_(True)


@torch.no_grad()
def reestimate_norm(module, data):
    """Replace the statistics of the normalisation by those of target trials (n_trials, n_channels, n_times) [1]_.

    References
    ----------
    .. [1] Li, Y., Wang, N., Shi, J., Liu, J., & Hou, X. (2017). Revisiting batch normalization for practical domain
       adaptation. ICLR Workshop. https://arxiv.org/abs/1603.04779
    """
    total, squares, count = 0.0, 0.0, 0
    for batch in torch.as_tensor(data).split(64):
        filtered = module.front(batch).double()
        total = total + filtered.sum(dim=(0, 2))
        squares = squares + filtered.square().sum(dim=(0, 2))
        count += filtered[:, 0].numel()
    mean = total / count
    module.norm.running_mean.copy_(mean)
    module.norm.running_var.copy_((squares - count * mean.square()).clamp_min(0) / max(count - 1, 1))


def interpolate_weights(module, before, share):
    r"""Interpolate in place between the weights before and after fine-tuning: :math:`w = w_0 + s \, (w_1 - w_0)`."""
    if share == 1:
        return
    after = module.state_dict()
    mixed = {name: torch.lerp(before[name], value, share) for name, value in after.items() if value.is_floating_point()}
    torch.nn.Module.load_state_dict(module, after | mixed)
