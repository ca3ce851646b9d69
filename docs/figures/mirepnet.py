"""MIRepNet: any montage on 45 electrodes, half of the tokens masked, and accuracies of eight simulated subjects."""

import csv
import pathlib

import matplotlib.pyplot as plt
import numpy as np
from flow import flow

from skeeg.montage import TEMPLATES, ChannelTemplate
from skeeg.networks import channel_info

RESULTS = pathlib.Path("../../benchmarks/results/mirepnet_simulated.csv")
RECORDED = ("F3", "F4", "C3", "Cz", "C4", "P3", "P4")

figure = plt.figure(figsize=(7.5, 4.6))
flow(
    figure.add_axes((0, 0.68, 1, 0.32)),
    [
        ("any montage", "whitened\nper subject", "C0"),
        ("45 channels", "inverse distances", "C0"),
        ("tokens", "one every 60 ms,\nhalf are masked", "C1"),
        ("transformer", "token reconstruction,\nclassification loss", "C1"),
        ("fine-tuning", "few trials of the\ntarget subject", "C3"),
    ],
)

step = ChannelTemplate("mirepnet45", "inverse_distance", ch_names=RECORDED)
step.fit(np.random.default_rng(0).standard_normal((2, len(RECORDED), 50)))
places = np.array([channel["loc"][:2] for channel in channel_info(TEMPLATES["mirepnet45"])])
here = np.array([channel["loc"][:2] for channel in channel_info(RECORDED)])
ax = figure.add_axes((0, 0.02, 0.35, 0.56), aspect="equal")
ax.scatter(*places.T, c=step.matrix_[:, RECORDED.index("C3")], cmap="Blues", s=55, edgecolors="0.7", vmin=-0.1)
ax.scatter(*here.T, s=110, facecolors="none", edgecolors="C3", linewidths=1.4)
ax.set_title("weight of C3\n(circles: recorded)", fontsize=9)
ax.axis("off")

ax = figure.add_axes((0.4, 0.11, 0.2, 0.48))
hidden = np.random.default_rng(3).permutation(20) < 10
times = np.linspace(0, 1.2, 1001)
wave = np.sin(2 * np.pi * 10 * times) * (0.4 + np.exp(-(((times - 0.6) / 0.3) ** 2)))
for i, is_hidden in enumerate(hidden):
    part = slice(i * 50, (i + 1) * 50 + 1)
    ax.plot(times[part], wave[part], color="0.8" if is_hidden else "C0", lw=1)
    if is_hidden:
        ax.axvspan(i * 0.06, (i + 1) * 0.06, color="C1", alpha=0.18, lw=0)
ax.set(xlabel="seconds", yticks=[], title="half of the tokens are masked")
ax.title.set_fontsize(9)

ax = figure.add_axes((0.8, 0.11, 0.19, 0.48))
scores = {}
with RESULTS.open() as file:
    for row in csv.DictReader(file):
        scores.setdefault(row["pipeline"], []).append(float(row["score"]))
names = sorted(scores, key=lambda name: np.mean(scores[name]))
ax.barh(names, [np.mean(scores[name]) for name in names], color=["C3" if "MIRep" in name else "0.7" for name in names])
ax.axvline(0.5, color="0.4", ls=":", lw=1)
ax.set(xlim=(0.4, 0.85), xlabel="accuracy, 30 trials")
ax.tick_params(axis="y", labelsize=7)
