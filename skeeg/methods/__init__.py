"""The published methods: one room each, with its network, its training and its estimator."""
