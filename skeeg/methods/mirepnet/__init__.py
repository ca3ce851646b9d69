"""MIRepNet: a pre-trained network for motor imagery with any montage, its pre-training included."""

from .checkpoint import save_weights
from .estimator import MIRepNetClassifier, mirepnet_pipeline
from .network import MIRepNet
from .preprocessing import mirepnet_preprocessing
from .pretraining import MIRepNetPretrainer, pretrain_weights

__all__ = [
    "MIRepNet",
    "MIRepNetClassifier",
    "MIRepNetPretrainer",
    "mirepnet_pipeline",
    "mirepnet_preprocessing",
    "pretrain_weights",
    "save_weights",
]
