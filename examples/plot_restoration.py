"""
Lost electrodes and lost seconds
================================

A bad electrode is usually interpolated from its neighbours, a bad stretch is cut out. Gram guesses both: a masked
autoencoder names the kind of second that is missing, and a tokenizer's decoder draws one of that kind. How far does
that carry, beside splines, lines in time and low-rank completion?

The recording is simulated, and the network is trained here, in half a minute on one core, on 60 trials of 4 s; the
published one had 7000 hours. So much teaches it how strong a lost second was, but not its wave: take this for how to
restore, and how to see what a restoration is worth.
"""

import matplotlib.pyplot as plt
import numpy as np

from skeeg import GramPretrainer, GramRestorer
from skeeg.datasets import SimulatedMotorImagery
from skeeg.restoration import (
    LowRankCompletion,
    SplineInterpolation,
    TimeInterpolation,
    band_power_error,
    draw_mask,
    normalised_error,
)

###############################################################################
# Trials to learn from, others to restore
# ---------------------------------------

dataset = SimulatedMotorImagery(n_subjects=1, n_sessions=1, n_runs=2, n_trials=40, sfreq=200)
X, _ = dataset.arrays(fmin=1, fmax=40)
training, test = X[:60].astype(np.float32), X[60:].astype(np.float32)
print(training.shape, "trials, electrodes, samples to learn from;", len(test), "trials to restore")

###############################################################################
# Four ways to restore
# --------------------
# All are transformers in the manner of scikit-learn's imputers: NaN, or a mask, says what is lost; everything else
# comes back to the bit. For Gram, ``amplitude="power"`` keeps the size of the spectrum, ``"least_squares"`` shrinks
# towards zero what cannot be known.

pretrainer = GramPretrainer(size="tiny", max_epochs=10, tokenizer_epochs=5, batch_size=4, random_state=0, device="cpu")
pretrainer.fit(training)
ways = {
    "Gram": GramRestorer(pretrainer=pretrainer),
    "Gram, least squares": GramRestorer(pretrainer=pretrainer, amplitude="least_squares"),
    "splines": SplineInterpolation(),
    "lines in time": TimeInterpolation(),
    "low rank": LowRankCompletion(n_components=0.99),
}
for way in ways.values():
    way.fit(training)

###############################################################################
# One trial
# ---------
# Two electrodes are lost as a whole, and a third one for a second.

gaps, time = np.array(test[0]), np.arange(test.shape[2]) / test.sfreq
lost = [test.ch_names.index(name) for name in ("C3", "C4")]
gaps[lost] = np.nan
gaps[test.ch_names.index("Cz"), 300:500] = np.nan
gaps = test.like(gaps[None], domains=None)
restored = {name: ways[name].transform(gaps)[0] for name in ("Gram", "splines", "low rank")}

fig, axes = plt.subplots(3, 1, figsize=(8, 5), sharex=True, layout="constrained")
for ax, electrode in zip(axes, ("C3", "C4", "Cz"), strict=True):
    row = test.ch_names.index(electrode)
    hidden = np.isnan(gaps[0, row])
    ax.plot(time, test[0, row], color="0.7", lw=2.5, label="true")
    for color, (name, one) in zip(("C3", "C0", "C2"), restored.items(), strict=True):
        ax.plot(time, np.where(hidden, one[row], np.nan), color=color, lw=1, label=name)
    ax.set(ylabel=f"{electrode} (µV)", xlim=(0, 4))
    ax.spines[["top", "right"]].set_visible(False)
axes[-1].set(xlabel="time (s)")
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)

###############################################################################
# How much may be lost?
# ---------------------
# Error of the wave, and error of the power in five bands; 1 is what silence gets. Where electrodes are lost, their
# neighbours tell nearly all, and low-rank completion, which has seen other trials, makes the most of them. Where
# seconds of all electrodes are lost, there is nothing to interpolate from: only a model of what such seconds look like
# gives any power back.

shares, losses = (0.1, 0.25, 0.5, 0.75), ("electrodes", "patches", "seconds")
scores = {"error of the wave": normalised_error, "error of band power": lambda *a: band_power_error(*a, 200.0).mean()}
table = {}
fig, axes = plt.subplots(2, 3, figsize=(9, 5), sharex=True, sharey="row", layout="constrained")
for column, loss in enumerate(losses):
    masks = [draw_mask(test.shape, test.sfreq, loss, share, random_state=0) for share in shares]
    for color, (name, way) in zip(("C3", "C1", "C0", "C4", "C2"), ways.items(), strict=True):
        found = [way.transform(test, mask=mask) for mask in masks]
        for row, score in enumerate(scores.values()):
            values = [score(test, one, mask) for one, mask in zip(found, masks, strict=True)]
            axes[row, column].plot(shares, values, "o-", color=color, ms=4, label=name)
            table[loss, name, row] = values
            if row == 0:
                print(f"{loss:10}  {name:20}", *(f"{value:.2f}" for value in values))
    axes[0, column].set(title=f"{loss} lost")
    axes[1, column].set(xlabel="share lost", xticks=shares)
for row, name in enumerate(scores):
    axes[row, 0].set(ylabel=name)
for ax in axes.ravel():
    ax.axhline(1, color="0.6", ls=":", lw=1)
    ax.spines[["top", "right"]].set_visible(False)
fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
plt.show()
