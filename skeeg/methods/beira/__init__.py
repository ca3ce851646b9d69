"""BEIRA: the BOLD signal of deep structures from scalp EEG, with weights that can be read."""

from .network import BEIRA, BEIRAManyToOne, SharedBEIRA

__all__ = ["BEIRA", "BEIRAManyToOne", "SharedBEIRA"]
