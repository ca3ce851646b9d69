"""MIRepNet from the weights that ship, from scratch, and two baselines on three recorded datasets."""

import matplotlib.pyplot as plt
from results import means, rows

PANELS = {
    "bnci": "BNCI2014004, 5 subjects,\n48 trials (3 channels)",
    "grasp": "ds003810, 6 subjects,\n30 trials (15 channels)",
    "hands": "EEGMMIDB, 16 subjects,\n20 trials (45 channels)",
}
FINE_TUNED = "MIRepNet, pre-trained, fine-tuned"
NAMES = {
    "CSP+LDA": "CSP+LDA",
    "TS+LR": "TS+LR",
    "MIRepNet, from scratch": "from scratch",
    "MIRepNet, pre-trained, no labels": "pre-trained,\nno labels",
    FINE_TUNED: "fine-tuned",
    f"{FINE_TUNED}, both": "fine-tuned,\nwith tangent space",
}
tables = {part: means(rows(f"pretraining_{part}.csv"), "score", "pipeline") for part in PANELS}
shown = [name for name in NAMES if any((name,) in table for table in tables.values())]
figure, axes = plt.subplots(1, 3, figsize=(8.5, 3.2), sharey=True, layout="constrained")
for ax, (part, title) in zip(axes, PANELS.items(), strict=True):
    for i, name in enumerate(shown):
        if (name,) not in tables[part]:
            continue
        mean, deviation = tables[part][(name,)]
        ax.barh(i, mean, xerr=deviation, color="C1" if name.startswith("MIRepNet") else "C0", ecolor="0.6")
        ax.text(0.41, i, f"{mean:.3f}", va="center", fontsize=8, color="w")
    ax.axvline(0.5, color="0.4", ls=":", lw=1)
    ax.set(xlim=(0.4, 1), xlabel="accuracy", title=title, yticks=range(len(shown)))
    ax.title.set_fontsize(9)
axes[0].set_yticklabels([NAMES[name] for name in shown], fontsize=8)
axes[0].invert_yaxis()
