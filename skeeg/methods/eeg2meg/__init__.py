"""EEG to MEG: virtual magnetometers and gradiometers from a cap."""

from .estimator import EEGToMEG
from .scores import sensor_correlations, sensor_r2, topography_correlation
from .sensors import retype_wakeman_henson
from .simulation import MEGSimulation
from .transformer import SensorTransformer, SequenceTransformer
from .unet import SensorUNet, UNet

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
