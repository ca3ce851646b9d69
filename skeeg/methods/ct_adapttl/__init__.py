"""CT-adaptTL: learn from executed movements, adapt to imagined ones with few trials."""

from .estimator import CTAdaptTLClassifier
from .harmonise import Harmonise, causal_highpass
from .network import CTAdaptTLNet

__all__ = ["CTAdaptTLClassifier", "CTAdaptTLNet", "Harmonise", "causal_highpass"]
