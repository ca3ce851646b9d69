"""The one training loop and what belongs to it: batches, recipes, validation splits, strategies, checkpoints."""

from .checkpoints import CheckpointReport, load_checkpoint, read_state_dict
from .estimators import NetworkClassifier, NetworkRegressor
from .net import TrainingNet
from .network import NetworkEstimator
from .recipe import Recipe, train
from .strategies import STRATEGIES
from .validation import split_validation

__all__ = [
    "STRATEGIES",
    "CheckpointReport",
    "NetworkClassifier",
    "NetworkEstimator",
    "NetworkRegressor",
    "Recipe",
    "TrainingNet",
    "load_checkpoint",
    "read_state_dict",
    "split_validation",
    "train",
]
