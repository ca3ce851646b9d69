"""EEG to MEG: virtual magnetometers and gradiometers from a cap."""

from .transformer import SensorTransformer, SequenceTransformer
from .unet import SensorUNet, UNet
from .wavelets import WaveletBands

__all__ = ["SensorTransformer", "SensorUNet", "SequenceTransformer", "UNet", "WaveletBands"]
