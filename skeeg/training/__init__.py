"""The one training loop and what belongs to it: batches, recipes, validation splits, strategies, checkpoints."""

from .base import NetworkEstimator
from .checkpoints import CheckpointReport, load_checkpoint, read_weights
from .estimators import FineTunedClassifier, NetworkClassifier, NetworkRegressor
from .net import TrainingNet, train
from .recipe import PRESETS, Recipe, default_recipe, get_recipe
from .state import NetworkState
from .strategies import STRATEGIES
from .validation import split_validation

__all__ = [
    "PRESETS",
    "STRATEGIES",
    "CheckpointReport",
    "FineTunedClassifier",
    "NetworkClassifier",
    "NetworkEstimator",
    "NetworkRegressor",
    "NetworkState",
    "Recipe",
    "TrainingNet",
    "default_recipe",
    "get_recipe",
    "load_checkpoint",
    "read_weights",
    "split_validation",
    "train",
]
