"""Networks for EEG decoding: the registry, exact fast forms, and networks that braindecode lacks.

This room is torch only and knows nothing of scikit-learn. Names are imported when they are asked for, so that a fast
kernel can be used without loading braindecode.
"""

from .._lazy import attach

_PUBLIC = {
    "ADFCNN": "adfcnn",
    "BASELINE_NETWORKS": "baseline_table",
    "baseline_network": "baseline_table",
    "accelerate": "acceleration",
    "fold": "folding",
    "exact_convolutions": "exact",
    "guard": "exact",
    "merge_kernels": "convolutions",
    "merged_conv": "convolutions",
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
