"""
Explain a network: feature attribution, sanity checks and patterns
==================================================================

A network classifies left- and right-hand movements of a simulated subject. The ground truth is known: `truth` gives
the channels that observe the class-dependent sources. `attribute` computes the contribution of each channel and sample
of the recorded trial to the prediction, through the filter and the alignment that precede the network, and reports the
error of completeness.
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
# Pipeline
# --------
# Check the accuracy first: attributions of a network at chance level have no meaning.

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
print(f"accuracy on 40 test trials: {pipeline.score(X[test], y[test]):.2f}")
print("informative channels:", ", ".join(dataset.truth(7).electrodes))

###############################################################################
# Attributions
# ------------
# Expected gradients with ten training trials as background. The quadrature is refined until the attributions of each
# trial sum to its prediction within the tolerance, relative to the range of the output; otherwise an error is raised.
# ``bands`` splits the attributions by frequency band.

found = attribute(pipeline, X[test][:20], X[train], n_background=10, tolerance=1e-4, bands=((8, 14), (14, 30)))
print(f"largest error of the sums: {found.error.max():.1e}")
print(
    "mean absolute attribution per band:",
    {name: round(float(abs(part).mean()), 2) for name, part in found.per_band().items()},
)

###############################################################################
# Topography
# ----------
# Importance of a channel: its attributions, summed over the trial. It is compared with the true weight of the
# informative sources at each channel. The two can differ: of two redundant channels the network may use one, and it
# may use others to cancel noise.

importance, seen = found.importance(), dataset.truth(7).weights
plot_topomap(
    {"attribution": importance / importance.max(), "truth": seen}, found.ch_names, unit="relative to the maximum"
)
print("most important:", ", ".join(found.ch_names[i] for i in importance.argsort()[::-1][:6]))

###############################################################################
# Time course
# -----------
# One image per class. Red samples increase its score, blue ones decrease it.

plot_image(found, n_bins=25)

###############################################################################
# Deletion test
# -------------
# If important channels are replaced first, the probability should fall faster than in random order. Here the test is
# inconclusive: replacing a single channel changes the covariance, the alignment amplifies the change, and the network
# predicts one class for any order.

plot_curves(deletion_insertion(pipeline, found, X[train], n_steps=11, by="channel"))

###############################################################################
# Patterns of the first layer
# ---------------------------
# Filter weights also suppress noise, so they do not show the topography of a source. Patterns do (Haufe et al. 2014).
# The figure shows the four filters with the largest output variance; some of them may respond to sources that do not
# depend on the class.

patterns = spatial_patterns(pipeline, X[train])
loudest = (-patterns.strength).argsort()[:4]
shown = {f"filter {i + 1}": patterns.spatial[i] / abs(patterns.spatial[i]).max() for i in loudest}
plot_topomap(shown, patterns.ch_names, unit="pattern")
plt.show()
