"""Gram: seconds of single channels as patches, half of them masked, one token each."""

import matplotlib.pyplot as plt
import numpy as np
from flow import flow

from skeeg.datasets import MotorSimulation

NAMES = ("F3", "F4", "C3", "Cz", "C4", "P3", "P4", "Oz")
simulation = MotorSimulation(n_trials=2, ch_names=NAMES, sfreq=200.0, line_freq=0.0)
data = simulation.run(1, 0, 0)[0][:, :1000]
data = data - data.mean(axis=1, keepdims=True)
hidden = np.random.default_rng(1).permutation(40).reshape(8, 5) < 20

figure = plt.figure(figsize=(7.5, 5.4), layout="constrained")
grid = figure.add_gridspec(2, 1, height_ratios=(1, 2.4))
flow(
    figure.add_subplot(grid[0]),
    [
        ("patches", "one second of\none channel", "C0"),
        ("tokens", "8196 entries of a\nlearned codebook", "C1"),
        ("transformer", "half of the\npatches masked", "C1"),
        ("prediction", "spectra (observed),\ntokens (masked)", "C1"),
        ("output", "classes, or\nmissing samples", "C3"),
    ],
)
ax = figure.add_subplot(grid[1])
scale = 3.5 * data.std()
for row, signal in enumerate(data):
    for second in range(5):
        part = slice(200 * second, 200 * second + 200)
        shown = hidden[row, second]
        ax.plot(np.arange(200) / 200 + second, signal[part] / scale - row, color="0.75" if shown else "C0", lw=0.8)
        if shown:
            ax.axhspan(-row - 0.48, -row + 0.48, second / 5 + 0.002, second / 5 + 0.198, color="C1", alpha=0.15, lw=0)
ax.set(xlim=(0, 5), ylim=(-7.6, 0.6), yticks=-np.arange(8), yticklabels=NAMES, xlabel="seconds (shaded: masked)")
