"""The published methods: one package each, with its network, its training and its estimator."""
