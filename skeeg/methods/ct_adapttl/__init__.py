"""CT-adaptTL: learn from executed movements, adapt to imagined ones with few trials."""
