"""EEG to MEG: measured magnetometers and those predicted from EEG, simulated subject."""

import matplotlib.pyplot as plt
import mne
import numpy as np
from flow import flow

from skeeg import EEGToMEG
from skeeg.methods.eeg2meg import MEGSimulation

simulation = MEGSimulation(seed=1)
X, Y = (np.concatenate(parts) for parts in zip(*(simulation.trials(run=run)[:2] for run in range(3)), strict=True))
virtual = EEGToMEG("ridge").fit(X, Y, geometry=simulation.info())
X_test, Y_test, _ = simulation.trials(run=9, n_trials=10)
found = virtual.predict(X_test)

figure = plt.figure(figsize=(7.5, 4.6), layout="constrained")
grid = figure.add_gridspec(2, 4, height_ratios=(1, 1.7))
flow(
    figure.add_subplot(grid[0, :]),
    [
        ("EEG", "microvolts", "C0"),
        ("linear map", "ridge regression\nwith lags", "C0"),
        ("network", "residual of\nthe linear map", "C1"),
        ("virtual MEG", "306 sensors, tesla\nand tesla per metre", "C3"),
    ],
)
picks = np.flatnonzero(np.array(virtual.meg_types_) == "mag")
info = mne.pick_info(virtual.info_meg_, picks)
for column, (trial, sample) in enumerate([(1, 30), (4, 70)]):
    limit = abs(Y_test[trial, picks, sample]).max()
    for row, (name, data) in enumerate([("measured", Y_test), ("predicted", found)]):
        ax = figure.add_subplot(grid[1, 2 * column + row])
        field = data[trial, picks, sample]
        mne.viz.plot_topomap(field, info, axes=ax, show=False, vlim=(-limit, limit), contours=4, sensors=False)
        ax.set_title(name, fontsize=9)
