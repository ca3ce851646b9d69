"""Small instances of skeeg's own estimators, for the tests and ``benchmarks/``."""

import inspect
import operator

from sklearn.base import BaseEstimator
from skorch.callbacks import Callback

import skeeg

# scikit-learn's checks feed one channel with as few as two samples, and want an accuracy of 0.83 and an R2 of 0.5 on
# the trials of the fit: kernels of two samples, statistics of the batch normalisation that follow at once, and steps
# wide enough to be there after eight passes. They also compare single trials with batches to seven digits, which
# float32 keeps on some processors only.
_TINY_EEGNET = {
    "F1": 2,
    "D": 2,
    "kernel_length": 2,
    "depthwise_kernel_length": 2,
    "pool1_kernel_size": 1,
    "pool2_kernel_size": 1,
    "drop_prob": 0.0,
    "batch_norm_momentum": 0.5,
    "conv_spatial_max_norm": 100,
}
_TINY_TRAINING = {
    "max_epochs": 8,
    "learning_rate": 0.1,
    "batch_size": 256,
    "precision": "float64",
    "device": "cpu",
    "random_state": 0,
}

_TINY_MIREPNET = {
    "embed_dim": 8,
    "n_layers": 1,
    "n_heads": 2,
    "drop_prob": 0.0,
    "n_filters_time": 2,
    "n_filters": 8,
    "filter_length": 2,
    "pool_length": 1,
    "pool_stride": 1,
}

# A patch of one sample, for checks with as few as two; at 8 Hz the kit's own trials make one window.
_TINY_SIZES = {"n_layers": 1, "n_heads": 1, "drop_prob": 0.0, "patch_length": 1, "sfreq": 8.0, "scale": 1.0}
_TINY_GRAM = {
    "ch_names": ("Cz",),
    "size": "tiny",
    "batch_size": 32,
    "learning_rate": 0.03,
    "precision": "float64",
    "device": "cpu",
    "random_state": 0,
}

_TINY_BEIRA = {
    "network_params": {
        "n_branches": 2,
        "filter_length": 11,
        "envelope_length": 11,
        "channels": (16, 16),
        "kernel_sizes": (9,),
        "strides": (2,),
        "decoder_reduce": 1,
        "drop_prob": 0.0,
    },
    "recipe": "published",
    "recipe_params": {"windows_per_epoch": 32, "batch_size": 64, "accumulate": 1, "patience": None},
    "max_epochs": 5,
    "learning_rate": 0.02,
    "validation": None,
    "device": "cpu",
    "random_state": 0,
}

_INSTANCES = {
    "BandPass": {"l_freq": 8.0, "h_freq": 30.0, "sfreq": 128.0},
    "Notch": {"sfreq": 128.0},
    "Resample": {"sfreq_out": 64.0, "sfreq": 128.0},
    "FilterBank": {"bands": ((4, 8), (8, 12)), "sfreq": 128.0},
    "FilterBankTangentSpace": {"bands": ((4, 8), (8, 12)), "sfreq": 128.0},
    "ChannelTemplate": {"ch_names": ("Cz",)},
    "Harmonise": {"sfreq_out": 64.0, "ch_names": ("Cz",), "sfreq": 128.0},
    "BEIRARegressor": _TINY_BEIRA,
    "BOLDAligner": {"delay": 0.0},  # the checks' trials are shorter than a haemodynamic delay
    "CTAdaptTLClassifier": {
        "network_params": {
            "n_filters": 4,
            "filter_length": 1,
            "pool_length": 1,
            "pool_stride": 1,
            "n_hidden": 8,
            "drop_prob": 0.0,
        },
        "pretrain_params": {"learning_rate": 0.05, "batch_size": 256, "schedule": None},
        "max_epochs": 10,
        "precision": "float64",
        "device": "cpu",
        "random_state": 0,
    },
    "GramClassifier": {
        **_TINY_GRAM,
        "max_epochs": 8,
        "network_params": {**_TINY_SIZES, "n_filters": 16, "n_heads": 4, "drop_path": 0.0},
        "recipe_params": {
            "warmup_share": 0.0,
            "layer_decay": 1.0,
            "label_smoothing": 0.0,
            "weight_decay": 0.0,
            "clip": None,
        },
    },
    "GramPretrainer": {
        **_TINY_GRAM,
        "max_epochs": 1,
        "network_params": {**_TINY_SIZES, "decoder_layers": 1, "n_filters": 8, "decoder_dim": 4},
        "recipe_params": {"warmup_share": 0.0},
    },
    "GramRestorer": {"ch_names": ("Cz",), "device": "cpu", "random_state": 0},
    "GramTokenizer": {
        **_TINY_GRAM,
        "max_epochs": 1,
        "network_params": {**_TINY_SIZES, "decoder_layers": 1, "n_codes": 8},
        "recipe_params": {"warmup_share": 0.0, "warm_epochs": 0},
    },
    "MIRepNetClassifier": {
        **{name: value for name, value in _TINY_TRAINING.items() if name != "precision"},
        "recipe": {"name": "default", "precision": "float64"},
        "ch_names": ("Cz",),
        "resample": None,
        "network_params": _TINY_MIREPNET,
    },
    "MIRepNetPretrainer": {
        **_TINY_TRAINING,
        "ch_names": ("Cz",),
        "resample": None,
        "max_epochs": 2,
        "network_params": {**_TINY_MIREPNET, "decoder_layers": 1},
    },
    "EEGToMEG": {"lags": 0, "max_epochs": 2, "device": "cpu", "random_state": 0},
    "NetworkClassifier": {"network": "EEGNet", "network_params": _TINY_EEGNET, **_TINY_TRAINING},
    "NetworkRegressor": {"network": "EEGNet", "network_params": _TINY_EEGNET, **_TINY_TRAINING},
}

# Parameters that are estimators, small ones too.
_INNER = {
    "BalancedTarget": {"estimator": "NetworkClassifier"},
    "BOLDAligner": {"regressor": "BEIRARegressor"},
    "FineTunedClassifier": {"estimator": "NetworkClassifier"},
    "GramRestorer": {"pretrainer": "GramPretrainer"},
    "PooledTarget": {"estimator": "NetworkClassifier"},
}
_CHANGES = {"GramRestorer": {"pretrainer__max_epochs": 0}}  # it is the restoration that is checked


def public_estimators():
    """Public estimators of skeeg, sorted by name."""
    public = operator.attrgetter(*skeeg.__all__)(skeeg)
    found = [cls for cls in public if inspect.isclass(cls) and issubclass(cls, BaseEstimator)]
    return sorted(found, key=lambda cls: cls.__name__)


def instance(Estimator):  # noqa: N803, a class
    """Give a small, fast instance: tiny kernels, few passes, on the CPU; of another class one with its defaults."""
    settings = dict(_INSTANCES.get(Estimator.__name__, {}))
    for name, inner in _INNER.get(Estimator.__name__, {}).items():
        settings[name] = next(instance(cls) for cls in public_estimators() if cls.__name__ == inner)
    return Estimator(**settings).set_params(**_CHANGES.get(Estimator.__name__, {}))


class CtrlC(Callback):
    """Stop in the middle of an epoch."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_batch_end(self, net, **kwargs):
        if len(net.history) == self.epoch:
            raise KeyboardInterrupt
