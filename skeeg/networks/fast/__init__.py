"""Exact fast forms of layers behind two functions: ``accelerate`` for training and prediction, ``fold`` for prediction.

The forms give the numbers of the layers they replace, to rounding, from the same parameters and the same state dict.
``benchmarks/SPEED.md`` says what each of them brings alone.
"""
