"""EEG to MEG: virtual magnetometers and gradiometers."""

from .estimator import EEGToMEG
from .networks import SensorTransformer, SensorUNet, SequenceTransformer, UNet
from .sensors import retype_wakeman_henson, sensor_correlations, sensor_r2, topography_correlation
from .simulation import MEGSimulation

__all__ = [
    "EEGToMEG",
    "MEGSimulation",
    "SensorTransformer",
    "SensorUNet",
    "SequenceTransformer",
    "UNet",
    "retype_wakeman_henson",
    "sensor_correlations",
    "sensor_r2",
    "topography_correlation",
]
