"""Accuracy against labelled trials of the target subject: transfer from executed to imagined movement."""

import matplotlib.pyplot as plt
import numpy as np
from results import rows

PARTS = {"strangers": "other source subjects (60 simulated)", "simulated": "same subjects execute (10 simulated)"}
SHOWN = {
    "CT-adaptTL, adaptive": ("C3", "-"),
    "CT-adaptTL, independent": ("C3", "--"),
    "CT-adaptTL, specific": ("C3", ":"),
    "TS+LR, both": ("C0", "-"),
    "CSP+LDA, both": ("C1", "-"),
}
figure, axes = plt.subplots(1, 2, figsize=(8.5, 3.4), sharey=True, layout="constrained")
for ax, (part, title) in zip(axes, PARTS.items(), strict=True):
    scores = {}
    for row in rows(f"ct_adapttl/{part}.csv"):
        scores.setdefault(row["pipeline"], {}).setdefault(float(row["n_target"]), []).append(float(row["score"]))
    for name, (color, line) in SHOWN.items():
        counts = sorted(scores[name])
        mean = [np.mean(scores[name][k]) for k in counts]
        error = [np.std(scores[name][k], ddof=1) / len(scores[name][k]) ** 0.5 for k in counts]
        ax.errorbar(counts, mean, error, fmt=line, marker="o", ms=4, color=color, label=name, capsize=2)
    ax.axhline(0.5, color="0.6", ls=":", lw=1)
    ax.set(xlabel="labelled trials of the target subject", title=title)
    ax.title.set_fontsize(9)
axes[0].set_ylabel("accuracy (mean, standard error)")
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=8)
