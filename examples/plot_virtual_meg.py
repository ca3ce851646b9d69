"""
Virtual MEG from EEG
====================

Simultaneous EEG (32 channels) and MEG (306 sensors) of a simulated subject. The map from EEG to MEG is trained on four
short runs and tested on a fifth.
"""

import matplotlib.pyplot as plt
import mne

from skeeg import EEGToMEG
from skeeg.methods.eeg2meg import MEGSimulation

mne.set_log_level("error")

# %%
# The simulation computes both fields of the same sources with MNE's forward models. A recording is an
# ordinary `mne.io.Raw`, in volts, tesla and tesla per metre.

simulation = MEGSimulation(seed=1)
training = [simulation.raw(run=run, n_trials=40) for run in range(4)]
test = simulation.raw(run=9, n_trials=40)
print(test)

# %%
# Ridge regression, the default, is a strong baseline: for Gaussian sources, no map is better than a linear one. The
# minimum-norm estimate is not trained; it uses the positions of the sensors.

for model in ("ridge", "minimum_norm"):
    virtual = EEGToMEG(model, window=1.0).fit_recordings(training)
    X, Y = simulation.trials(run=9, n_trials=40)[:2]
    r, r2 = (virtual.score_per_type(X, Y, metric) for metric in ("r", "r2"))
    print(f"{model}: r {r['mag']:.2f} (mag) {r['grad']:.2f} (grad); R2 {r2['mag']:.2f} and {r2['grad']:.2f}")

# %%
# A network is trained on the residuals of ridge regression. ``network_weight_`` is its weight in the sum, chosen on
# held-out runs. For Gaussian sources the residuals cannot be predicted, and the weight should be close to 0.

network = EEGToMEG("unet", max_epochs=3, window=1.0, device="cpu", random_state=0).fit_recordings(training)
print(f"weight of the network: {network.network_weight_:.2f}; r {network.score(X, Y):.2f}")

# %%
# Predictions are MNE objects with the true sensors, so that they can be plotted, or localised, like a measurement.

virtual = EEGToMEG(window=1.0).fit_recordings(training)
predicted = virtual.predict_recording(test)
figure, axes = plt.subplots(2, 2, layout="constrained")
for row, kind in zip(axes, ("mag", "grad"), strict=True):
    for axis, name, raw in zip(row, ("true", "predicted"), (test.copy().pick("meg"), predicted), strict=True):
        evoked = mne.EvokedArray(raw.get_data()[:, 700:800], raw.info)
        evoked.plot_topomap(0.3, ch_type=kind, axes=axis, colorbar=False, show=False)
        axis.set_title(f"{kind}, {name}")
plt.show()
