"""MIRepNet: a pre-trained network for motor imagery with any montage, its pre-training included."""

from .checkpoint import load_weights, save_weights
from .estimator import MIRepNetClassifier, mirepnet_pipeline
from .network import MIRepNet
from .preprocessing import mirepnet_preprocessing
from .pretraining import MIRepNetPretrainer

__all__ = [
    "MIRepNet",
    "MIRepNetClassifier",
    "MIRepNetPretrainer",
    "load_weights",
    "mirepnet_pipeline",
    "mirepnet_preprocessing",
    "save_weights",
]
