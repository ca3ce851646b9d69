"""CT-adaptTL: learn from executed movements, adapt to imagined ones with few trials."""

from .estimator import CTAdaptTLClassifier
from .network import CTAdaptTLNet
from .preprocessing import Harmonise, causal_highpass

__all__ = ["CTAdaptTLClassifier", "CTAdaptTLNet", "Harmonise", "causal_highpass"]
