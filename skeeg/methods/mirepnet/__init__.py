"""MIRepNet: a pre-trained network for motor imagery with any montage, its pre-training included."""

import lazy_loader

_PUBLIC = {
    "estimator": ["MIRepNetClassifier", "mirepnet_pipeline"],
    "network": ["MIRepNet"],
    "preprocessing": ["mirepnet_preprocessing"],
    "pretraining": ["MIRepNetPretrainer", "pretrain_weights"],
}

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=_PUBLIC)
