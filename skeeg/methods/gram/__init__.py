"""Gram: one general model of EEG, for classification and for the restoration of missing samples."""

import lazy_loader

_PUBLIC = {
    "checkpoint": ["read_tokenizer", "save_weights"],
    "estimator": ["GramClassifier"],
    "network": ["Gram", "GramPretrainingNetwork"],
    "preprocessing": ["COLLECTION", "channel_indices", "gram_preprocessing"],
    "pretrainer": ["GramPretrainer"],
    "restorer": ["GramRestorer"],
    "tokenizer": ["GramTokenizer"],
    "tokenizer_network": ["GramTokenizerNetwork"],
}

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=_PUBLIC)
