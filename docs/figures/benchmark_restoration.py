"""Restoration of missing channels, patches and segments: Gram from the weights that ship, and linear imputers."""

import matplotlib.pyplot as plt
import numpy as np
from results import means, rows

PANELS = {
    ("electrodes", "0.1"): "10 % of the channels",
    ("electrodes", "0.5"): "50 % of the channels",
    ("patches", "0.5"): "50 % of the patches\n(1 s, one channel)",
    ("seconds", "0.25"): "25 % of the segments\n(1 s, all channels)",
}
NAMES = {
    "lines in time": "linear in time",
    "splines": "splines",
    "low rank, from other subjects": "low-rank completion",
    "Gram, network alone": "Gram",
    "Gram with splines": "Gram with splines",
}
found = means(rows("gram_channels.csv"), "correlation", "loss", "share", "method")
figure, axes = plt.subplots(1, 4, figsize=(8.5, 2.8), sharey=True, layout="constrained")
for ax, (key, title) in zip(axes, PANELS.items(), strict=True):
    mean, deviation = np.array([found[*key, method] for method in NAMES]).T
    ax.barh(range(len(NAMES)), mean, xerr=deviation, color=["C0"] * 3 + ["C1"] * 2, ecolor="0.6")
    ax.axvline(0, color="0.4", lw=1)
    ax.set(xlabel="correlation r", title=title, yticks=range(len(NAMES)), xlim=(-0.15, 1))
    ax.title.set_fontsize(9)
axes[0].set_yticklabels(NAMES.values(), fontsize=8)
axes[0].invert_yaxis()
