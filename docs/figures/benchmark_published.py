"""The table of the MIRepNet paper on BNCI2014004 against the same protocol here, subjects 1 to 5."""

import sys

import matplotlib.pyplot as plt
from results import BENCHMARKS, means, rows

sys.path.insert(0, str(BENCHMARKS))
from downstream import PAPER  # noqa: E402, a module of benchmarks

own = {name: value for (name,), value in means(rows("downstream.csv"), "score", "pipeline").items()}
pretrained = means(rows("pretraining_bnci.csv"), "score", "pipeline")
fine_tuned = [(f"MIRepNet, pre-trained, fine-tuned{end}",) for end in (", both", "")]
mirepnet = next(pretrained[name] for name in fine_tuned if name in pretrained)
published = {name: sum(scores) / 500 for name, scores in PAPER.items()}
own["MIRepNet"], published["MIRepNet"] = mirepnet, 0.793
names = sorted(own, key=published.get)
figure, ax = plt.subplots(figsize=(6.5, 3.6), layout="constrained")
for i, name in enumerate(names):
    ax.plot((published[name], own[name][0]), (i, i), color="0.8", lw=2, zorder=0)
ax.plot([published[name] for name in names], range(len(names)), "o", mfc="none", color="C3", label="published")
ax.plot([own[name][0] for name in names], range(len(names)), "o", color="C0", label="skeeg")
ax.set_yticks(range(len(names)), names, fontsize=8)
ax.set(xlabel="accuracy, mean of subjects 1 to 5", xlim=(0.7, 0.82))
ax.legend(frameon=False, loc="lower right")
