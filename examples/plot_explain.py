"""
What did the network look at?
=============================

A network tells the left hand from the right. Does it listen to the brain, and where? Here the answer is known, for the
person is simulated: `truth` names the electrodes that see the rhythms which follow the hands. `attribute` shares every
prediction out to the electrodes and samples of the trial as it was recorded, back through the filter and the alignment
before the network, and says how far its numbers are from summing to the prediction.
"""

import warnings

import matplotlib.pyplot as plt
import torch
from sklearn.pipeline import make_pipeline

from skeeg import BandPass, EuclideanAlignment, NetworkClassifier
from skeeg.datasets import SimulatedMotorExecution, load_arrays
from skeeg.explain import attribute, deletion_insertion, plot_curves, plot_image, plot_topomap, spatial_patterns

warnings.simplefilter("ignore")
torch.set_num_threads(1)

###############################################################################
# One person, one pipeline
# ------------------------
# Accuracy comes first: there is nothing to explain about a network that guesses.

dataset = SimulatedMotorExecution(n_subjects=8, n_sessions=1, n_runs=4, noise=0.6)
X, y = load_arrays(dataset, tmin=0.5, tmax=3.5, resample=100, subjects=[7])
train, test = slice(0, 120), slice(120, 160)
settings = {
    "max_epochs": 40,
    "batch_size": 16,
    "learning_rate": 2e-3,
    "recipe": {"weight_decay": 0.1},
    "random_state": 0,
}
network = NetworkClassifier("ShallowFBCSPNet", {"n_filters_time": 20, "n_filters_spat": 20}, **settings)
pipeline = make_pipeline(BandPass(8, 30, method="iir"), EuclideanAlignment(), network).fit(X[train], y[train])
print(f"accuracy on 40 other trials: {pipeline.score(X[test], y[test]):.2f}")
print("informative electrodes:", ", ".join(dataset.truth(7).electrodes))

###############################################################################
# Attributions
# ------------
# Expected gradients against ten training trials. The integrals are refined until the attributions of each trial sum to
# its prediction, to the given part of the range of the network's output; where they do not, there is an error. With
# ``bands``, each band of the trial gets its share.

found = attribute(pipeline, X[test][:20], X[train], n_background=10, tolerance=1e-4, bands=((8, 14), (14, 30)))
print(f"largest error of the sums: {found.error.max():.1e}")
print("mean size of each band:", {name: round(float(abs(part).mean()), 2) for name, part in found.per_band().items()})

###############################################################################
# Where
# -----
# What each electrode adds to a prediction: its attributions summed over the trial, so that what swings without adding
# anything is gone. Beside it what each electrode sees of the informative sources, which is known. The two need not be
# alike: where two electrodes tell the same one is enough, and others serve to take noise away.

importance, seen = found.importance(), dataset.truth(7).weights
plot_topomap({"attribution": importance / importance.max(), "truth": seen}, found.ch_names, unit="share of the largest")
print("most important:", ", ".join(found.ch_names[i] for i in importance.argsort()[::-1][:6]))

###############################################################################
# When
# ----
# One image a class: what speaks for it is red, what speaks against it blue.

plot_image(found, n_bins=25)

###############################################################################
# Is it true of the network?
# --------------------------
# Taking away first the electrodes that were said to matter should make the probability fall sooner than taking any.
# Here the test says nothing, and that is worth knowing: one electrode less breaks what all electrodes share, alignment
# enlarges the break, and the network gives one answer to everything, whatever the order.

plot_curves(deletion_insertion(pipeline, found, X[train], n_steps=11, by="channel"))

###############################################################################
# Patterns of the first layer
# ---------------------------
# Weights turn away from noise as much as towards signal, so they are no picture of a source. Haufe's patterns are: here
# of the four filters that hear most. Some of them may hear what has nothing to do with hands.

patterns = spatial_patterns(pipeline, X[train])
loudest = (-patterns.strength).argsort()[:4]
shown = {f"filter {i + 1}": patterns.spatial[i] / abs(patterns.spatial[i]).max() for i in loudest}
plot_topomap(shown, patterns.ch_names, unit="pattern")
plt.show()
