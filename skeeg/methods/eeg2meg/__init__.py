"""EEG to MEG: virtual magnetometers and gradiometers."""

import lazy_loader

_PUBLIC = {
    "estimator": ["EEGToMEG"],
    "networks": ["SensorTransformer", "SensorUNet", "SequenceTransformer", "UNet"],
    "scores": ["topography_correlation"],
    "sensors": ["retype_wakeman_henson"],
    "simulation": ["MEGSimulation"],
}

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=_PUBLIC)
