"""BEIRA against ridge regression on simulated recordings."""

import json

import matplotlib.pyplot as plt
from results import BENCHMARKS

lines = (BENCHMARKS / "results" / "beira" / "simulation.jsonl").read_text().splitlines()
latest = {
    row["seed"]: row for row in map(json.loads, lines) if "beira" in row and "ridge" in row
}  # repeated runs append
table = list(latest.values())
figure, ax = plt.subplots(figsize=(4.2, 3.6), layout="constrained")
ax.plot([row["ridge"] for row in table], [row["beira"] for row in table], "o", color="C0", alpha=0.7)
if not table:
    ax.text(0.7, 0.7, "no recorded results in this version", ha="center")
ax.plot((0.4, 1), (0.4, 1), color="0.6", lw=1, ls=":")
ax.set(xlim=(0.4, 1), ylim=(0.4, 1), aspect="equal", xlabel="ridge regression, r", ylabel="BEIRA, r")
