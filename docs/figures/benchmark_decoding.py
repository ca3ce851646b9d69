"""Accuracy of baselines under six protocols, six subjects of ds003810."""

import matplotlib.pyplot as plt
from results import bars, means, rows

PANELS = {
    ("within", "own other runs"): "within subject, grouped by run",
    ("cross", "others"): "cross-subject",
    ("cross", "others, aligned"): "cross-subject, aligned",
    ("few-shot", "own 30"): "few-shot, 30 trials",
    ("few-shot", "others + own 30"): "few-shot, 30 trials + source subjects",
    ("cross-task", "all executed"): "cross-task: executed to imagined",
}
found = means(rows("decoding.csv"), "accuracy", "protocol", "arm", "pipeline")
figure, axes = plt.subplots(2, 3, figsize=(8.5, 5), sharex=True, layout="constrained")
for ax, (key, title) in zip(axes.ravel(), PANELS.items(), strict=True):
    bars(ax, {name: value for (*part, name), value in found.items() if tuple(part) == key})
    ax.set(xlim=(0.4, 1), title=title)
    ax.title.set_fontsize(9)
    ax.tick_params(axis="y", labelsize=7)
for ax in axes[1]:
    ax.set_xlabel("accuracy")
