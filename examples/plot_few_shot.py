"""
How few trials of a new person are enough?
==========================================

Somebody sits down with a new cap. After three trials of each hand, after six, after two dozen: what can be decoded, and
is it worth having recordings of other people? The question is an ordinary MOABB evaluation, here on simulated people;
the same lines run on any dataset of MOABB, or on a folder of your own (`skeeg.datasets.LocalDataset`).
"""

import tempfile
import warnings

import matplotlib.pyplot as plt
import torch
from moabb.paradigms import LeftRightImagery
from sklearn.pipeline import make_pipeline

from skeeg import EuclideanAlignment, NetworkClassifier, baseline
from skeeg.datasets import SimulatedMotorImagery
from skeeg.evaluations import FewshotEvaluation, plot_fewshot

warnings.simplefilter("ignore")
torch.set_num_threads(1)

###############################################################################
# People and protocol
# -------------------
# Each person's first k trials of each class are there to learn from. The trials that are scored are the same for every
# k: those that the largest k leaves.

dataset = SimulatedMotorImagery(n_subjects=5, n_sessions=1, n_trials=60)
paradigm = LeftRightImagery(fmin=8, fmax=30, tmin=0.5, tmax=3.5, resample=64, scorer="accuracy")
protocol = {"n_per_class": (3, 6, 12, 24), "hdf5_path": tempfile.mkdtemp()}

###############################################################################
# Three decoders
# --------------
# Two linear ones, and a small network whose temporal filters are a quarter of a second long at this rate.

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
# Alone, and with the help of others
# ----------------------------------
# Alignment whitens every person by their own mean covariance, so that people look alike. With ``others=True`` each
# pipeline is trained on everybody else's trials and the person's few together. The network would take minutes for that
# and is left out here.

alone = FewshotEvaluation(paradigm, dataset, **protocol).process(pipelines)
linear = {name: pipelines[name] for name in ("CSP+LDA", "TS+LR")}
helped = FewshotEvaluation(paradigm, dataset, others=True, **protocol).process(linear)

###############################################################################
# Accuracy against trials
# -----------------------
# Lines are means over people, bands their standard error, the dotted line is chance.

fig, axes = plt.subplots(1, 2, figsize=(8, 3.6), sharey=True, layout="constrained")
for ax, (title, results) in zip(axes, {"alone": alone, "with other people": helped}.items(), strict=True):
    plot_fewshot(results.sort_values("pipeline"), ax)  # in this order both sides have the same colours
    ax.set(title=title, ylabel="")
axes[0].set_ylabel("accuracy")
axes[1].get_legend().remove()


def mean_accuracy(results):
    """Mean over people: a row a pipeline, a column a number of trials."""
    return results.groupby(["pipeline", "n_per_class"]).score.mean().unstack()


print("alone", mean_accuracy(alone).round(2), "with others", mean_accuracy(helped).round(2), sep="\n")

###############################################################################
# Other people are worth most where one's own trials are fewest: by how much, at the smallest k?

gain = (mean_accuracy(helped) - mean_accuracy(alone)).iloc[:, 0].dropna()
print(gain.round(2))
plt.show()
