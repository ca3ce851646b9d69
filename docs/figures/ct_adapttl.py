"""CT-adaptTL: the three phases, and what was measured on sixty simulated subjects."""

import csv
import pathlib

import matplotlib.pyplot as plt
import numpy as np
from flow import flow

RESULTS = pathlib.Path("../../benchmarks/results/ct_adapttl/strangers.csv")
SHOWN = {
    "CT-adaptTL, adaptive": ("C3", "-"),
    "CT-adaptTL, adaptive, interpolated": ("C3", "-."),
    "CT-adaptTL, independent": ("C3", "--"),
    "CT-adaptTL, specific": ("C3", ":"),
    "TS+LR, both": ("C0", "-"),
    "CSP+LDA, both": ("C1", "-"),
}

figure = plt.figure(figsize=(7.5, 5.2), layout="constrained")
top, bottom = figure.subplots(2, 1, height_ratios=(1, 2.3))
flow(
    top,
    [
        ("executed movements", "many trials,\nmany subjects", "C0"),
        ("pre-training", "mirrored trials,\naligned by subject", "C0"),
        ("fine-tuning", "k imagined trials\nof one subject", "C3"),
        ("decoding", "imagined\nmovements", "C2"),
    ],
)
scores = {}
with RESULTS.open() as file:
    for row in csv.DictReader(file):
        scores.setdefault(row["pipeline"], {}).setdefault(float(row["n_target"]), []).append(float(row["score"]))
for name, (color, line) in SHOWN.items():
    counts = sorted(scores[name])
    bottom.plot(counts, [np.mean(scores[name][k]) for k in counts], line, marker="o", color=color, label=name)
bottom.axhline(0.5, color="0.6", ls=":", lw=1)
bottom.set(xlabel="labelled trials of imagery", ylabel="accuracy, mean of sixty subjects", xticks=(10, 20, 40))
figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
