"""MIRepNet: a pre-trained model for motor imagery on any headset, its pre-training included."""

from .network import MIRepNet

__all__ = ["MIRepNet"]
