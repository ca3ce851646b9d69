"""EEG to MEG: virtual magnetometers and gradiometers."""

import lazy_loader

_PUBLIC = {
    "estimator": ["EEGToMEG"],
    "networks": ["SensorTransformer", "SensorUNet", "SequenceTransformer", "UNet"],
    "sensors": ["retype_wakeman_henson", "topography_correlation"],
    "simulation": ["MEGSimulation"],
}

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=_PUBLIC)
