"""The one training loop and what belongs to it: batches, recipes, validation splits, strategies, checkpoints."""

import lazy_loader

_PUBLIC = {
    "base": ["NetworkEstimator"],
    "checkpoints": ["CheckpointReport", "load_checkpoint", "read_weights"],
    "estimators": ["FineTunedClassifier", "NetworkClassifier", "NetworkRegressor"],
    "net": ["TrainingNet", "train"],
    "recipe": ["PRESETS", "Recipe", "default_recipe", "get_recipe"],
    "state": ["NetworkState"],
    "strategies": ["STRATEGIES"],
    "validation": ["split_validation"],
}

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=_PUBLIC)
