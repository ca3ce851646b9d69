"""MIRepNet: a pre-trained model for motor imagery on any headset, its pre-training included."""

from .checkpoint import load_weights, save_weights
from .estimator import MIRepNetClassifier
from .form import mirepnet_preprocessing
from .network import MIRepNet
from .pipeline import mirepnet_pipeline
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
