"""BEIRA: from electrodes to one rhythm, its envelope, and the signal of the scanner, on a simulated recording."""

import matplotlib.pyplot as plt
import numpy as np
from flow import flow
from scipy.signal import butter, hilbert, sosfiltfilt

from skeeg.methods.beira import simulate_bold

simulated = simulate_bold(n_regions=1, duration=240, random_state=0)
eeg, rate = np.asarray(simulated.eeg[0]), simulated.eeg.sfreq
times = np.arange(eeg.shape[1]) / rate
weights = np.linalg.pinv(np.cov(eeg) + 0.05 * np.eye(len(eeg))) @ simulated.patterns[0]
source = weights @ eeg
band = sosfiltfilt(butter(3, simulated.rates[0] + np.array([-2, 2]), "bandpass", fs=rate, output="sos"), source)
envelope = sosfiltfilt(butter(2, 0.2, fs=rate, output="sos"), np.abs(hilbert(band)))

figure = plt.figure(figsize=(7.5, 5.6), layout="constrained")
grid = figure.add_gridspec(4, 1, height_ratios=(1.5, 1, 1, 1))
flow(
    figure.add_subplot(grid[0]),
    [
        ("electrodes", "weights over\nthe cap", "C0"),
        ("one rhythm", "a filter of\nhalf a second", "C0"),
        ("envelope", "rectified\nand smoothed", "C1"),
        ("encoder, decoder", "envelopes of all\nbranches", "C1"),
        ("BOLD", "6 s later", "C3"),
    ],
)
signals = {
    "Oz, µV": (eeg[simulated.eeg.ch_names.index("Oz")], "0.5"),
    "one branch": (band, "C0"),
    "envelope, BOLD": (envelope, "C1"),
}
for row, (name, (signal, color)) in enumerate(signals.items(), start=1):
    ax = figure.add_subplot(grid[row])
    shown = signal if row < 3 else (signal - signal.mean()) / signal.std()
    ax.plot(times, shown, color=color, lw=0.6 if row < 3 else 1.2)
    ax.set(xlim=(60, 180), ylabel=name, yticks=[], xticks=[])
bold = simulated.bold[0, 0]
ax.plot(times, (bold - bold.mean()) / bold.std(), color="C3", lw=1.4)
ax.set(xticks=range(60, 181, 20), xlabel="seconds (red: what the scanner measures)")
