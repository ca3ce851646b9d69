"""Recipes of the three phases, and fine-tuning: layers and their rates, normalisation, weight interpolation."""

import contextlib
import dataclasses

import torch

from ...training import Recipe

PRESETS = {
    "default": {
        "network": {"pool_length": None},
        "pretrain": {"max_epochs": 15, "weight_decay": 1e-2, "n_updates": 80, "patience": 20},
        "adapt": {"max_epochs": 50, "learning_rate": 1e-3, "norm": "source", "share": 0.5},
        "specific": {"max_epochs": 15, "weight_decay": 1e-2, "n_updates": 100},
    },
    "published": {
        "network": {"filter_length": 25},
        "pretrain": {
            "max_epochs": 600, "batch_size": 32, "weight_decay": 5e-4, "solver": "sgd",
            "n_folds": 6, "mirror": False, "schedule": None, "patience": 20, "min_delta": 1e-4,
        },
        "adapt": {
            "max_epochs": 200, "batch_size": 40, "learning_rate": 1e-2, "solver": "sgd", "momentum": 0.4,
            "mirror": False, "schedule": None, "patience": 20, "min_delta": 1e-4,
        },
        "specific": {
            "max_epochs": 60, "batch_size": 40, "learning_rate": 1e-4, "weight_decay": 5e-4,
            "mirror": False, "schedule": None,
        },
    },
}  # fmt: skip
_TARGET = {"layers": "all", "layer_decay": 1.0, "norm": "train", "validation_size": None}
PHASES = {  # settings of each phase beside those of `skeeg.training.Recipe`
    "pretrain": {"n_folds": 0, "validation": "subject", "mirror": True, "n_updates": 0},
    "adapt": {**_TARGET, "share": 1.0, "mirror": True, "n_updates": 0},
    "specific": {"mirror": True, "n_updates": 0},
}
LAYERS = ("temporal", "spatial", "norm", "hidden", "final_layer")
_FILTER_SECONDS = 0.1
_DEFAULT_RATE = 100.0  # hertz, for trials of unknown rate


def network_settings(recipe, sfreq):
    """Arguments of `CTAdaptTLNet`; the filters of ``"default"`` last a tenth of a second.

    Examples
    --------
    >>> from skeeg.methods.ct_adapttl.finetuning import network_settings
    >>> network_settings("default", 250.0)["filter_length"]
    25
    """
    return {"filter_length": max(round(_FILTER_SECONDS * (sfreq or _DEFAULT_RATE)), 1)} | _preset(recipe)["network"]


def phase_settings(recipe, phase, changes=None, precision="float32"):
    """Give the `Recipe` of a phase ("pretrain", "adapt" or "specific"), and the other settings of it.

    Examples
    --------
    >>> from skeeg.methods.ct_adapttl.finetuning import phase_settings
    >>> training, own = phase_settings("published", "adapt", {"share": 0.5})
    >>> training.solver, training.momentum, training.max_epochs, own["share"]
    ('sgd', 0.4, 200, 0.5)
    """
    fields = {field.name for field in dataclasses.fields(Recipe)} - {"precision"}
    own, changes = PHASES[phase], dict(changes or {})
    unknown = [name for name in changes if name not in own and name not in fields]
    if unknown:
        options = ", ".join(map(repr, sorted({*own, *fields})))
        raise ValueError(f"{phase}_params: got {unknown[0]!r}, expected some of {options}.")
    settings = own | _preset(recipe)[phase] | changes
    training = Recipe(precision=precision, **{name: value for name, value in settings.items() if name not in own})
    own = {name: settings[name] for name in own}
    if phase == "adapt":
        _check_adaptation(own)
    return training.check(), own


def count_epochs(training, n_updates, n_trials, limit=None):
    """Recipe with enough epochs for ``n_updates`` updates, at most ``limit``.

    Examples
    --------
    >>> from skeeg.methods.ct_adapttl.finetuning import count_epochs
    >>> from skeeg.training import Recipe
    >>> count_epochs(Recipe(max_epochs=10, batch_size=64), 100, 256).max_epochs
    25
    """
    epochs = max(training.max_epochs, -(-n_updates // -(-n_trials // training.batch_size)))
    return dataclasses.replace(training, max_epochs=epochs if limit is None else min(epochs, limit))


def _preset(recipe):
    if recipe not in PRESETS:
        raise ValueError(f"recipe: got {recipe!r}, expected one of {', '.join(map(repr, PRESETS))}.")
    return PRESETS[recipe]


def _check_adaptation(settings):
    check_layers(settings["layers"])
    if settings["norm"] not in ("train", "source", "target"):
        raise ValueError(f"norm: got {settings['norm']!r}, expected one of 'train', 'source', 'target'.")
    if not 0 <= settings["share"] <= 1:
        raise ValueError(f"share: got {settings['share']}, expected a number from 0 to 1.")
    if settings["layer_decay"] <= 0:
        raise ValueError(f"layer_decay: got {settings['layer_decay']}, expected a positive number.")


def check_layers(layers):
    """Names of the layers that adapt, from the input to the output: ``"all"``, one of `LAYERS`, or some of them.

    Examples
    --------
    >>> from skeeg.methods.ct_adapttl.finetuning import check_layers
    >>> check_layers(("final_layer", "hidden"))
    ('hidden', 'final_layer')
    """
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

    Examples
    --------
    >>> from skeeg.methods.ct_adapttl.finetuning import layer_rates
    >>> from skeeg.methods.ct_adapttl.network import CTAdaptTLNet
    >>> groups = layer_rates(("hidden", "final_layer"), 0.1, 0.5)(CTAdaptTLNet(2, 3, n_times=200))
    >>> [group["lr"] for group in groups]
    [0.05, 0.1]
    """

    def make_groups(module):
        distance = {layer: len(LAYERS) - 1 - i for i, layer in enumerate(LAYERS)}
        return [
            {"params": list(module.get_submodule(layer).parameters()), "lr": learning_rate * decay ** distance[layer]}
            for layer in layers
        ]

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
    """Replace the statistics of the normalisation by those of trials (n_trials, n_channels, n_times) of the target.

    The mean and variance of each filter over all trials and samples [1]_; the weights do not change.

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
    r"""Interpolate in place between the weights before and after fine-tuning: :math:`w = w_0 + s \, (w_1 - w_0)`.

    Examples
    --------
    >>> import torch
    >>> from skeeg.methods.ct_adapttl.finetuning import interpolate_weights
    >>> layer = torch.nn.Linear(1, 1)
    >>> before = {name: torch.zeros_like(value) for name, value in layer.state_dict().items()}
    >>> after = layer.weight.item()
    >>> interpolate_weights(layer, before, 0.5)
    >>> layer.weight.item() == after / 2
    True
    """
    if share == 1:
        return
    after = module.state_dict()
    mixed = {name: torch.lerp(before[name], value, share) for name, value in after.items() if value.is_floating_point()}
    torch.nn.Module.load_state_dict(module, after | mixed)
