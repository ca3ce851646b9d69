"""
From EEG to the blood-oxygen signal of deep structures
======================================================

BEIRA predicts the BOLD signal of each region from scalp EEG, and its weights give the topography and the rhythm of the
source that drives the region. Here both are known, because the recording is simulated: the signal of a region follows
the amplitude of one cortical rhythm, among unrelated rhythms, background activity, blinks and movements.

``benchmarks/cwl.py`` does the same on the recordings of van der Meer et al. (2016), with the published recipe.
"""

import numpy as np

from skeeg import BEIRARegressor, BOLDAligner, null_scores
from skeeg.methods.beira import (
    BandPowerRidge,
    plot_branches,
    plot_region_scores,
    plot_traces,
    simulate_bold,
    top_branches,
)

# %%
# Data: training and test
# -----------------------
# Volumes have a repetition time of two seconds, the EEG has 100 Hz. `BOLDAligner` resamples both to one rate and shifts
# them by the delay of the haemodynamic response. A gap of half a minute between training and test avoids temporal
# leakage by slow responses.

TR, RATE, GAP = 2.0, 100, 15

simulated = simulate_bold(2, duration=1500, random_state=10)
volumes, _ = simulated.volumes(TR)
step = round(TR * RATE)
cut = 600
train = [simulated.eeg[0, :, : cut * step]], [volumes[:, :cut]]
test = [simulated.eeg[0, :, (cut + GAP) * step :]], [volumes[:, cut + GAP :]]
aligner = {"delay": 5.0, "tr": TR, "sfreq": float(RATE), "ch_names": simulated.eeg.ch_names}
names = ("10 Hz region", "6 Hz region")

# %%
# Two models
# ----------
# Ridge regression on the power in five bands is the baseline. The defaults of `BEIRARegressor` are for recordings of
# half an hour: whitened EEG, six small networks, and a prediction that averages their decoders and ridge regressions
# on their envelopes.

ridge = BOLDAligner(BandPowerRidge(), **aligner).fit(*train)
regressor = BEIRARegressor(region_names=names, random_state=0)
beira = BOLDAligner(regressor, **aligner).fit(*train)

# %%
# Compare with chance
# -------------------
# The null distribution uses circular shifts of the measured signals, which keep their smoothness.

null = null_scores(beira, *test, n=500, random_state=0)
print(f"BEIRA r = {null.score:.2f} (p = {null.p_value:.3f}), ridge r = {ridge.score(*test):.2f}")
figures = {"traces": plot_traces(test[1], beira.predict(test[0]), 1 / TR, names)}
figures["scores"] = plot_region_scores(null, names)

# %%
# What drives each region?
# ------------------------
# Each row is a region, each column one of its branches, the most important on the left. The curve of a branch has the
# colour of its title.

figures["branches"] = plot_branches(beira, n_branches=3, fmax=40)

# %%
# The topography and the rhythm of the most important branch should be those of the source.

for region, branch in enumerate(top_branches(beira, 1)[:, 0]):
    pattern = beira.regressor_.spatial_patterns_[region, branch]
    peak = beira.regressor_.freqs_[beira.regressor_.frequency_patterns_[region, branch].argmax()]
    r = abs(np.corrcoef(pattern, simulated.patterns[region])[0, 1])
    print(f"{names[region]}: correlation of the topographies {r:.2f}, rhythm at {peak:.2f} Hz of "
          f"{simulated.rates[region]:.0f} Hz")  # fmt: skip
