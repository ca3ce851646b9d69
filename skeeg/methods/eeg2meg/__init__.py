"""EEG to MEG: virtual magnetometers and gradiometers from a cap."""

from .estimator import EEGToMEG
from .recordings import cut_windows
from .scores import sensor_correlations, sensor_r2, topography_correlation
from .sensors import retype_wakeman_henson
from .simulation import MEGSimulation
from .stores import WindowStore
from .transformer import SensorTransformer, SequenceTransformer
from .unet import SensorUNet, UNet
from .wavelets import WaveletBands

__all__ = [
    "EEGToMEG",
    "MEGSimulation",
    "SensorTransformer",
    "SensorUNet",
    "SequenceTransformer",
    "UNet",
    "WaveletBands",
    "WindowStore",
    "cut_windows",
    "retype_wakeman_henson",
    "sensor_correlations",
    "sensor_r2",
    "topography_correlation",
]
