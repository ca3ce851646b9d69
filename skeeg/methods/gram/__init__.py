"""Gram: one general model of EEG, for classification and for the restoration of what was lost."""

from .collection import COLLECTION, channel_indices
from .network import Gram, GramPretrainingNetwork, GramTokenizerNetwork

__all__ = ["COLLECTION", "Gram", "GramPretrainingNetwork", "GramTokenizerNetwork", "channel_indices"]
