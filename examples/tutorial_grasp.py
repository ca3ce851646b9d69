"""
Tutorial: decode a recorded dataset
===================================

From a BIDS folder to scores and a topography: six subjects of OpenNeuro ds003810 imagine grasping with the right hand,
or rest. The recordings have 15 channels at 125 Hz and four runs of 40 trials. The tutorial compares seven decoders by
three protocols: within subject, cross-subject, and with 30 labelled trials of the target subject.

The dataset is at https://openneuro.org/datasets/ds003810 (CC0). Download it into a folder and set the environment
variable ``SKEEG_DATA`` to the parent of that folder, or change ``folder`` below. The tutorial takes three minutes on
one core.
"""

import os
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import mne
import numpy as np
import pandas as pd
import torch
from scipy.signal import welch
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from skeeg import EuclideanAlignment, MIRepNetClassifier, baseline
from skeeg.datasets import LocalDataset
from skeeg.explain import attribute, plot_topomap, spatial_patterns

folder = Path(os.environ.get("SKEEG_DATA", "."), "ds003810")
warnings.simplefilter("ignore")
mne.set_log_level("error")
torch.set_num_threads(1)

###############################################################################
# Load the folder
# ---------------
# `LocalDataset` reads BIDS folders and folders of any files that MNE reads; it is also a dataset of MOABB. Three facts
# about these files have to be stated: the annotations "Right" and "Tongue" mean grasp and rest, the files have no unit,
# and runs 1 to 4 are imagined (run 0 is executed). The notch filter removes the line frequency, and a tone at a quarter
# of the sampling rate.

dataset = LocalDataset(
    folder,
    classes={"OVTK_GDF_Right": "grasp", "OVTK_GDF_Tongue": "rest"},
    interval=(0.5, 4.0),
    unit="uV",
    notch=(31.25, 50),
    pattern=r"sub-(?P<subject>\d+)/eeg/.*run-(?P<run>[1-4])_eeg\.edf",
)
broad, y = dataset.arrays(fmin=4, fmax=40)  # whole runs are filtered, then cut into trials
X, _ = dataset.arrays(fmin=8, fmax=30)
subject, run = X.domains["subject"], X.domains["run"]
print(f"{len(X)} trials, {len(X.ch_names)} channels, {X.shape[2]} samples at {X.sfreq:g} Hz")
print(pd.crosstab(subject, y, rownames=["subject"], colnames=["class"]))

###############################################################################
# Look at the data
# ----------------
# Imagined movement decreases mu and beta power over the sensorimotor cortex. The spectra at C3, over the hand area
# opposite to the right hand, and their difference for each subject:

c3, names = X.ch_names.index("C3"), np.unique(subject)
frequency, power = welch(np.asarray(broad), X.sfreq, nperseg=125)  # trials, channels, frequencies
decibel = {
    label: 10 * np.log10([power[(subject == s) & (y == label)].mean(0) for s in names]) for label in np.unique(y)
}
change = decibel["grasp"] - decibel["rest"]  # subjects, channels, frequencies
shown = (frequency >= 6) & (frequency <= 35)

fig, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
for label, values in decibel.items():
    axes[0].plot(frequency[shown], values[list(names).index("5"), c3, shown], label=label)
axes[0].set(title="subject 5, C3", xlabel="Hz", ylabel="power (dB)")
axes[0].legend(frameon=False)
for name, values in zip(names, change, strict=True):
    axes[1].plot(frequency[shown], values[c3, shown], label=f"subject {name}")
axes[1].axhline(0, color="0.4", ls=":")
axes[1].set(title="grasp - rest, C3", xlabel="Hz", ylabel="change of power (dB)")
axes[1].legend(frameon=False, fontsize=7, ncols=2)

###############################################################################
# The change at each channel, median over subjects. Negative values are desynchronisation.

bands = {"8-13 Hz": (8, 13), "14-24 Hz": (14, 24)}
maps = {
    name: np.median(change[..., (frequency >= low) & (frequency <= high)].mean(-1), axis=0)
    for name, (low, high) in bands.items()
}
plot_topomap(maps, X.ch_names, unit="grasp - rest (dB)")

###############################################################################
# Within subject
# --------------
# Leave one run out: trials of one run share slow drifts, so a random split would give higher scores than a new run.
# `EuclideanAlignment` whitens the trials of each run, also of the test run, by their mean covariance, without labels.
# The baseline ``FBTS+LR`` classifies the covariances of six bands in the tangent space; it recentres each run itself.

within = {
    "CSP+LDA": (baseline("CSP+LDA"), X),
    "EA+CSP+LDA": (make_pipeline(EuclideanAlignment(domain="run"), baseline("CSP+LDA")), X),
    "FBTS+LR": (baseline("FBTS+LR").set_params(filterbanktangentspace__domain="run"), broad),
}


def score(pipeline, X, train, test):
    """Accuracy of a fresh copy."""
    return clone(pipeline).fit(X[train], y[train]).score(X[test], y[test])


rows = [
    {"subject": s, "decoder": name, "accuracy": score(pipeline, trials, own & (run != r), own & (run == r))}
    for s in names
    for name, (pipeline, trials) in within.items()
    for own in [subject == s]
    for r in np.unique(run[own])
]
scores = {"within subject": pd.DataFrame(rows).groupby(["subject", "decoder"]).accuracy.mean().unstack()}
print(scores["within subject"].round(2))

###############################################################################
# Cross-subject
# -------------
# Train on five subjects, test on the sixth. Alignment gives each subject a reference of its own; that of the target
# comes from its unlabelled test trials (transductive, see :doc:`/guide/protocols`). Without alignment, subjects differ
# too much in their covariances.

cross = {
    "TS+LR": (baseline("TS+LR"), X),
    "EA+TS+LR": (make_pipeline(EuclideanAlignment(), baseline("TS+LR")), X),
    "FBTS+LR": (baseline("FBTS+LR"), broad),
}
rows = [
    {"subject": s, "decoder": name, "accuracy": score(pipeline, trials, subject != s, subject == s)}
    for s in names
    for name, (pipeline, trials) in cross.items()
]
scores["cross-subject"] = pd.DataFrame(rows).set_index(["subject", "decoder"]).accuracy.unstack()
print(scores["cross-subject"].round(2))

###############################################################################
# Thirty labelled trials
# ----------------------
# The first 30 trials of a subject are labelled; runs 2 to 4 are scored. MIRepNet starts from weights that ship with the
# package, trained on left hand, right hand and rest of another dataset, and is fine-tuned on the 30 trials. By default
# its logits before and after are added to those of a tangent-space regression on the same trials;
# ``readout="network"`` is the fine-tuned network alone. The linear decoder is trained on the 30 trials, and on these
# pooled with the trials of the source subjects.

weights = "skeeg:mirepnet-small"
few = {
    "FBTS+LR": (baseline("FBTS+LR"), broad, False),
    "network": (MIRepNetClassifier(weights, readout="network", random_state=0), X, False),
    "MIRepNet": (MIRepNetClassifier(weights, random_state=0), X, False),
    "FBTS+LR, pooled": (baseline("FBTS+LR"), broad, True),
}
rows, decoders = [], {}
for s in names:
    own = np.flatnonzero(subject == s)
    shots, test = own[:30], own[run[own] != "1"]
    for name, (pipeline, trials, pooled) in few.items():
        train = np.r_[np.flatnonzero(subject != s), shots] if pooled else shots
        decoder = clone(pipeline).fit(trials[train], y[train])
        decoders[s, name] = decoder
        rows.append({"subject": s, "decoder": name, "accuracy": decoder.score(trials[test], y[test])})
scores["30 labelled trials"] = pd.DataFrame(rows).set_index(["subject", "decoder"]).accuracy.unstack()[list(few)]
print(scores["30 labelled trials"].round(2))

###############################################################################
# Compare
# -------
# One point per subject, bars are means. :doc:`/guide/protocols` says what a paper should report with such scores, and
# :doc:`/benchmarks` has more decoders and seeds on the same dataset.

fig, axes = plt.subplots(1, 3, figsize=(10, 3), sharex=True, layout="constrained")
for ax, (protocol, table) in zip(axes, scores.items(), strict=True):
    ax.barh(table.columns, table.mean(), color="C0", alpha=0.4)
    for i, name in enumerate(table.columns):
        ax.plot(table[name], [i] * len(table), "o", color="C0", ms=4)
        ax.text(0.99, i, f"{table[name].mean():.2f}", va="center", ha="right")
    ax.axvline(0.5, color="0.4", ls=":")
    ax.set(title=protocol, xlabel="accuracy", xlim=(0.4, 1))
    ax.invert_yaxis()
    ax.spines[["top", "right"]].set_visible(False)

###############################################################################
# Explain a decoder
# -----------------
# Which channels does the fine-tuned network use for subject 5? Feature attributions sum to the prediction of each
# trial; the topographies are means over trials, by class.

target = subject == "5"
test = np.flatnonzero(target & (run == "2"))[:20]
background = X[np.flatnonzero(target)[:30]]
found = attribute(decoders["5", "network"], X[test], background, n_background=8, tolerance=1e-3)
print(f"largest error of the sums: {found.error.max():.1e}")
print("most important channels:", ", ".join(found.ch_names[i] for i in found.importance().argsort()[::-1][:5]))
plot_topomap(found)

###############################################################################
# CSP is the linear reference. Its patterns are the topographies of the sources that its filters extract.

patterns = spatial_patterns(baseline("CSP+LDA").fit(X[target], y[target]), X[target])
plot_topomap({f"pattern {i + 1}": patterns.spatial[i] for i in range(4)}, patterns.ch_names, unit="pattern")
plt.show()

# sphinx_gallery_thumbnail_path = "recorded/tutorial_grasp/8-0.png"
