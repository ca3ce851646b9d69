"""Pre-training of a small MIRepNet against training from scratch and baselines, 30 trials of the target subject."""

import matplotlib.pyplot as plt
from results import bars, means, rows

PANELS = {"mirepnet_simulated.csv": "eight simulated subjects", "mirepnet_grasp.csv": "six subjects of ds003810"}
figure, axes = plt.subplots(1, 2, figsize=(8.5, 3.2), sharex=True, layout="constrained")
for ax, (name, title) in zip(axes, PANELS.items(), strict=True):
    bars(ax, {pipeline: value for (pipeline,), value in means(rows(name), "score", "pipeline").items()})
    ax.set(xlim=(0.4, 1), xlabel="accuracy, 30 trials", title=title)
    ax.title.set_fontsize(9)
    ax.tick_params(axis="y", labelsize=8)
