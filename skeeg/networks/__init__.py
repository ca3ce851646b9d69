"""Networks for EEG decoding: the registry, exact fast forms, and networks that braindecode lacks.

Only torch is used, not scikit-learn. Names are imported on first use, so that a fast form does not load braindecode.
"""

import lazy_loader

_PUBLIC = {
    "adfcnn": ["ADFCNN"],
    "fast.accelerate": ["accelerate"],
    "fast.conv2d_gradient_fix": ["exact_convolutions", "guard"],
    "fast.fold": ["fold"],
    "registry": [
        "build_network",
        "channel_info",
        "get_network",
        "minimum_times",
        "network_names",
        "register_with_braindecode",
    ],
}

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=_PUBLIC)
