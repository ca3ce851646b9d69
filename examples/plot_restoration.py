"""
Restore bad channels and missing segments
=========================================

Bad channels are usually interpolated, bad segments are rejected. Gram reconstructs both: a masked autoencoder predicts
the token of each missing patch, and the decoder of the tokenizer maps tokens to signals. This example compares it with
spherical splines, linear interpolation in time and low-rank completion.

The recording is simulated. The network is trained here for half a minute on 60 trials of 4 s; the published one was
trained on 7000 hours. With this little training it predicts the power of a missing patch, but not its waveform.
"""

import matplotlib.pyplot as plt
import numpy as np

from skeeg import GramPretrainer, GramRestorer, GramTokenizer
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
# Training and test trials
# ------------------------

dataset = SimulatedMotorImagery(n_subjects=1, n_sessions=1, n_runs=2, n_trials=40, sfreq=200)
X, _ = dataset.arrays(fmin=1, fmax=40)
training, test = X[:60].astype(np.float32), X[60:].astype(np.float32)
print(training.shape, "training trials, channels, samples;", len(test), "test trials")

###############################################################################
# Imputers
# --------
# All methods are transformers, like the imputers of scikit-learn. NaN or a mask marks missing samples; all other
# samples stay bit-identical. For Gram, ``amplitude="power"`` keeps the power of the spectrum, ``"least_squares"``
# shrinks uncertain estimates towards zero.

tokenizer = GramTokenizer(size="tiny", max_epochs=5, batch_size=4, random_state=0, device="cpu")
pretrainer = GramPretrainer(tokenizer, "tiny", max_epochs=10, batch_size=4, random_state=0, device="cpu")
pretrainer.fit(training)
ways = {
    "Gram": GramRestorer(pretrainer=pretrainer),
    "Gram, least squares": GramRestorer(pretrainer=pretrainer, amplitude="least_squares"),
    "splines": SplineInterpolation(),
    "linear in time": TimeInterpolation(),
    "low rank": LowRankCompletion(n_components=0.99),
}
for way in ways.values():
    way.fit(training)

###############################################################################
# One trial
# ---------
# Two channels are missing, and one second of a third channel.

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
# Error against the share of missing samples
# ------------------------------------------
# Normalised error of the waveform, and of the power in five bands; a zero baseline has error 1. For missing channels
# the other channels determine most of the signal, and low-rank completion, fitted on other trials, is best. For
# segments that are missing in all channels, interpolation has no information; only a generative model restores power.

shares, losses = (0.1, 0.25, 0.5, 0.75), ("electrodes", "patches", "seconds")
scores = {
    "error of the waveform": normalised_error,
    "error of band power": lambda *a: band_power_error(*a, 200.0).mean(),
}
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
    axes[0, column].set(title=f"missing {loss}")
    axes[1, column].set(xlabel="share of missing samples", xticks=shares)
for row, name in enumerate(scores):
    axes[row, 0].set(ylabel=name)
for ax in axes.ravel():
    ax.axhline(1, color="0.6", ls=":", lw=1)
    ax.spines[["top", "right"]].set_visible(False)
fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
plt.show()
