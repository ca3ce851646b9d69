"""Gram: one general model of EEG, for classification and for the restoration of missing samples."""

from .checkpoint import load_weights, read_pretrained, read_tokenizer, save_weights
from .estimator import GramClassifier
from .network import Gram, GramPretrainingNetwork
from .preprocessing import COLLECTION, channel_indices, gram_preprocessing
from .pretrainer import GramPretrainer
from .restorer import GramRestorer
from .tokenizer import GramTokenizer
from .tokenizer_network import GramTokenizerNetwork

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
