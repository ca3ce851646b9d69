"""Networks for EEG decoding: the registry, exact fast forms, and networks that braindecode lacks.

Only torch is used, not scikit-learn. Names are imported on first use, so that a fast form does not load braindecode.
"""

from .._lazy import attach

_PUBLIC = {
    "ADFCNN": "adfcnn",
    "BASELINE_NETWORKS": "baseline_table",
    "baseline_network": "baseline_table",
    "accelerate": "fast.accelerate",
    "fold": "fast.fold",
    "exact_convolutions": "fast.conv2d_gradient_fix",
    "guard": "fast.conv2d_gradient_fix",
    "merge_kernels": "fast.convolutions",
    "merged_conv": "fast.convolutions",
    "build_network": "registry",
    "channel_info": "registry",
    "get_network": "registry",
    "minimum_times": "registry",
    "network_names": "registry",
    "register_with_braindecode": "registry",
    "required_signals": "registry",
    "signal_kwargs": "registry",
}

__all__, __getattr__, __dir__ = attach(__name__, _PUBLIC)
