"""The one training loop and what belongs to it: batches, recipes, validation splits, strategies, checkpoints."""

from .checkpoints import CheckpointReport, load_checkpoint, read_state_dict
from .estimators import NetworkClassifier, NetworkRegressor
from .finetuning import FineTunedClassifier
from .net import TrainingNet
from .network import NetworkEstimator
from .recipe import PRESETS, Recipe, default_recipe, get_recipe, train
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
    "read_state_dict",
    "split_validation",
    "train",
]
