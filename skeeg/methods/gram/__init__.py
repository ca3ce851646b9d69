"""Gram: one general model of EEG, for classification and for the restoration of what was lost."""

from .checkpoint import load_weights, read_pretrained, read_tokenizer, save_weights
from .collection import COLLECTION, channel_indices
from .estimator import GramClassifier
from .form import gram_preprocessing
from .network import Gram, GramPretrainingNetwork, GramTokenizerNetwork
from .pretrainer import GramPretrainer
from .restorer import GramRestorer
from .tokenizer import GramTokenizer

__all__ = [
    "COLLECTION",
    "Gram",
    "GramClassifier",
    "GramPretrainer",
    "GramPretrainingNetwork",
    "GramRestorer",
    "GramTokenizer",
    "GramTokenizerNetwork",
    "channel_indices",
    "gram_preprocessing",
    "load_weights",
    "read_pretrained",
    "read_tokenizer",
    "save_weights",
]
