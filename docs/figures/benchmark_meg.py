"""Correlation of virtual with true MEG on five simulated populations."""

import matplotlib.pyplot as plt
import numpy as np
from results import rows

MODELS = ["minimum norm", "ridge", "ridge, 17 lags", "U-Net", "transformer", "shuffled pairs"]
figure, axes = plt.subplots(1, 2, figsize=(8.5, 3), sharey=True, layout="constrained")
for ax, condition in zip(axes, ("gaussian", "bursting"), strict=True):
    table = [row for row in rows("eeg2meg.csv") if row["part"] == "map" and row["condition"] == condition]
    for shift, kind in ((-0.2, "mag"), (0.2, "grad")):
        values = [[float(r["r"]) for r in table if r["model"] == model and r["type"] == kind] for model in MODELS]
        place = np.arange(len(MODELS)) + shift
        error = [np.std(one, ddof=1) for one in values]
        ax.bar(place, [np.mean(one) for one in values], 0.38, yerr=error, ecolor="0.4")
    ax.set(title=f"{condition} sources", xticks=range(len(MODELS)))
    ax.set_xticklabels(MODELS, rotation=30, ha="right", fontsize=8)
axes[0].set_ylabel("correlation r")
axes[0].legend(["magnetometers", "gradiometers"], frameon=False, fontsize=8)
