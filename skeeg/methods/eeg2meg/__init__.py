"""EEG to MEG: virtual magnetometers and gradiometers from a cap."""

from .transformer import SensorTransformer, SequenceTransformer
from .unet import SensorUNet, UNet

__all__ = ["SensorTransformer", "SensorUNet", "SequenceTransformer", "UNet"]
