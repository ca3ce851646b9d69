"""
Few-shot decoding: accuracy against calibration trials
======================================================

How does accuracy depend on the number of labelled trials of the target subject, and how much do source subjects add?
This is a MOABB evaluation, here on simulated subjects. The same code runs on any dataset of MOABB and on local
recordings (`skeeg.datasets.LocalDataset`).
"""

import tempfile
import warnings

import matplotlib.pyplot as plt
import torch
from moabb.paradigms import LeftRightImagery
from sklearn.pipeline import make_pipeline

from skeeg import EuclideanAlignment, NetworkClassifier, baseline
from skeeg.datasets import SimulatedMotorImagery
from skeeg.evaluations import FewshotEvaluation, FewshotSplitter, plot_fewshot

warnings.simplefilter("ignore")
torch.set_num_threads(1)

###############################################################################
# Subjects and protocol
# ---------------------
# Training uses the first k trials of each class of a subject. The test trials are the same for every k: those after the
# largest k.

dataset = SimulatedMotorImagery(n_subjects=5, n_sessions=1, n_trials=60)
paradigm = LeftRightImagery(fmin=8, fmax=30, tmin=0.5, tmax=3.5, resample=64, scorer="accuracy")
n_per_class, folder = (3, 6, 12, 24), tempfile.mkdtemp()

###############################################################################
# Decoders
# --------
# Two linear pipelines, and a small network with temporal filters of a quarter of a second.

small = {
    "n_filters_time": 16,
    "n_filters_spat": 16,
    "filter_time_length": 16,
    "pool_time_length": 32,
    "pool_time_stride": 8,
}
network = NetworkClassifier(
    "ShallowFBCSPNet", network_params=small, max_epochs=20, batch_size=16, random_state=0, device="cpu"
)
decoders = {"CSP+LDA": baseline("CSP+LDA"), "TS+LR": baseline("TS+LR"), "small network": network}
pipelines = {name: make_pipeline(EuclideanAlignment(), decoder) for name, decoder in decoders.items()}

###############################################################################
# With and without source subjects
# --------------------------------
# Alignment whitens the trials of each subject by their mean covariance. With ``others=True`` each pipeline is trained
# on the trials of all source subjects and the k trials of the target subject. The network would take minutes for this
# and is left out.

alone = FewshotEvaluation(paradigm, dataset, FewshotSplitter(n_per_class), hdf5_path=folder).process(pipelines)
linear = {name: pipelines[name] for name in ("CSP+LDA", "TS+LR")}
with_others = FewshotSplitter(n_per_class, others=True)
helped = FewshotEvaluation(paradigm, dataset, with_others, hdf5_path=folder).process(linear)

###############################################################################
# Accuracy against trials
# -----------------------
# Lines are means over subjects, bands are standard errors, the dotted line is chance level.

fig, axes = plt.subplots(1, 2, figsize=(8, 3.6), sharey=True, layout="constrained")
for ax, (title, results) in zip(
    axes, {"target subject only": alone, "with source subjects": helped}.items(), strict=True
):
    plot_fewshot(results.sort_values("pipeline"), ax)  # the same order gives the same colours
    ax.set(title=title, ylabel="")
axes[0].set_ylabel("accuracy")
axes[1].get_legend().remove()


def mean_accuracy(results):
    """Mean over subjects: one row per pipeline, one column per number of trials."""
    return results.groupby(["pipeline", "n_per_class"]).score.mean().unstack()


print("target only", mean_accuracy(alone).round(2), "with source subjects", mean_accuracy(helped).round(2), sep="\n")

###############################################################################
# Source subjects add most for the smallest k:

gain = (mean_accuracy(helped) - mean_accuracy(alone)).iloc[:, 0].dropna()
print(gain.round(2))
plt.show()
