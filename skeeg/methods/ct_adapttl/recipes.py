"""Recipes: the settings of network and training by name, and what a user changes of them."""

import dataclasses

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
PHASES = ("pretrain", "adapt", "specific")
_OWN = {  # settings of a phase beside those of `skeeg.training.Recipe`
    "pretrain": {"n_folds": 0, "validation": "subject", "mirror": True, "n_updates": 0},
    "adapt": {
        "layers": "all",
        "layer_decay": 1.0,
        "norm": "train",
        "share": 1.0,
        "validation_size": None,
        "mirror": True,
        "n_updates": 0,
    },
    "specific": {"mirror": True, "n_updates": 0},
}  # fmt: skip
_FILTER = 0.1  # seconds
_RATE = 100.0  # hertz, for trials that do not tell theirs


def network_settings(recipe, changes, sfreq):
    """Arguments of `CTAdaptTLNet`.

    Parameters
    ----------
    recipe : {"default", "published"}
        Name of the recipe.
    changes : dict or None
        What is set otherwise.
    sfreq : float or None
        Sampling rate in hertz: the filters of ``"default"`` last a tenth of a second.

    Returns
    -------
    settings : dict
        Arguments.

    Examples
    --------
    >>> from skeeg.methods.ct_adapttl.recipes import network_settings
    >>> network_settings("default", {"n_filters": 8}, 250.0)["filter_length"]
    25
    """
    lengths = {"filter_length": max(round(_FILTER * (sfreq or _RATE)), 1)}
    return lengths | _preset(recipe)["network"] | dict(changes or {})


def phase_settings(recipe, phase, changes=None, precision="float32"):
    """Collect the settings of a phase.

    Parameters
    ----------
    recipe : {"default", "published"}
        Name of the recipe.
    phase : {"pretrain", "adapt", "specific"}
        Learning the source, fine-tuning on a target subject, or training on the target subject alone.
    changes : dict or None
        What is set otherwise.
    precision : str
        See `skeeg.training.Recipe`.

    Returns
    -------
    training : skeeg.training.Recipe
        How the network is trained.
    own : dict
        The other settings of the phase.

    Examples
    --------
    >>> from skeeg.methods.ct_adapttl.recipes import phase_settings
    >>> training, own = phase_settings("published", "adapt", {"share": 0.5})
    >>> training.solver, training.momentum, training.max_epochs, own["share"]
    ('sgd', 0.4, 200, 0.5)
    """
    fields = {field.name for field in dataclasses.fields(Recipe)} - {"precision"}
    own, changes = _OWN[phase], dict(changes or {})
    unknown = [name for name in changes if name not in own and name not in fields]
    if unknown:
        options = ", ".join(map(repr, sorted({*own, *fields})))
        raise ValueError(f"{phase}_params: got {unknown[0]!r}, expected some of {options}.")
    settings = own | _preset(recipe)[phase] | changes
    training = Recipe(precision=precision, **{name: value for name, value in settings.items() if name not in own})
    return training.check(), {name: settings[name] for name in own}


def count_epochs(training, n_updates, n_trials, limit=None):
    """Lengthen a training until it has enough updates, within a limit.

    Parameters
    ----------
    training : skeeg.training.Recipe
        Its ``max_epochs`` are the fewest.
    n_updates : int
        Fewest updates.
    n_trials : int
        Training trials.
    limit : int or None
        Most epochs.

    Returns
    -------
    training : skeeg.training.Recipe
        The same with other ``max_epochs``.

    Examples
    --------
    >>> from skeeg.methods.ct_adapttl.recipes import count_epochs
    >>> from skeeg.training import Recipe
    >>> count_epochs(Recipe(max_epochs=10, batch_size=64), 100, 256).max_epochs
    25
    """
    epochs = max(training.max_epochs, -(-n_updates // -(-n_trials // training.batch_size)))
    return dataclasses.replace(training, max_epochs=epochs if limit is None else min(epochs, limit))


def _preset(recipe):
    """Give the settings of this name, or an error that lists the names."""
    if recipe not in PRESETS:
        raise ValueError(f"recipe: got {recipe!r}, expected one of {', '.join(map(repr, PRESETS))}.")
    return PRESETS[recipe]
