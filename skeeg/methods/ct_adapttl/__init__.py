"""CT-adaptTL: learn from executed movements, adapt to imagined ones with few trials."""

import lazy_loader

_PUBLIC = {
    "estimator": ["CTAdaptTLClassifier"],
    "network": ["CTAdaptTLNet"],
    "preprocessing": ["Harmonise", "causal_highpass"],
}

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=_PUBLIC)
