"""Speed ratios against the reference implementations, with the required ratio."""

import re

import matplotlib.pyplot as plt
from results import ratios

table = ratios()[::-1]
figure, ax = plt.subplots(figsize=(8.5, 0.42 * len(table) + 0.8), layout="constrained")
for i, (_, _, low, high, aim) in enumerate(table):
    ax.barh(i, high, color="C0", alpha=0.35)
    ax.barh(i, low, color="C0")
    ax.plot((aim, aim), (i - 0.4, i + 0.4), color="C3", lw=1.5)
ax.axvline(1, color="0.4", ls=":", lw=1)
ax.set(xscale="log", xticks=(1, 2, 5, 10, 20, 50))
ax.set_xlabel("speed ratio (dark: slowest run, light: fastest, red: required)")
ax.set_xticklabels(["1", "2", "5", "10", "20", "50"])
labels = [re.sub(r" \(.*?\)|`", "", name) + (f"\n{shape}" if shape else "") for name, shape, *_ in table]
ax.set_yticks(range(len(table)), labels, fontsize=7)
