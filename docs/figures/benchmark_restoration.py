"""Restoration of missing channels, segments and patches of one recorded subject: normalised error against the share."""

import matplotlib.pyplot as plt
from results import rows

COLORS = {"Gram": "C3", "Gram, least squares": "C1", "splines": "C0", "lines in time": "C4", "low rank": "C2"}
NAMES = {"lines in time": "linear in time", "low rank": "low-rank completion"}
PANELS = {"electrodes": "channels", "patches": "patches (1 s, one channel)", "seconds": "segments (1 s, all channels)"}
table = [row for row in rows("gram_restore.csv") if row["data"] == "eegmmidb"]
figure, axes = plt.subplots(1, 3, figsize=(8.5, 3.2), sharey=True, layout="constrained")
for ax, (loss, title) in zip(axes, PANELS.items(), strict=True):
    for method, color in COLORS.items():
        points = sorted(
            (float(r["share"]), float(r["error"])) for r in table if (r["loss"], r["method"]) == (loss, method)
        )
        ax.plot(*zip(*points, strict=True), "o-", ms=4, color=color, label=NAMES.get(method, method))
    ax.axhline(1, color="0.6", ls=":", lw=1)
    ax.set(xlabel="share of missing samples", title=title, ylim=(0, 2))
    ax.title.set_fontsize(9)
axes[0].set_ylabel("normalised error (zero baseline: 1)")
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False, fontsize=8)
