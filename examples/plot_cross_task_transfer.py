"""
From executed to imagined movement
==================================

CT-adaptTL is pre-trained on trials of executed movements and fine-tuned on a few trials of a target subject's imagery.
How many does it take, and how does it compare with CSP and tangent space on the same trials? The question is a MOABB
evaluation with a learning curve. The subjects are simulated; `GraspImagery` and `PhysionetMotor` read recordings of
both tasks.
"""

import tempfile
import warnings

import matplotlib.pyplot as plt
import torch
from moabb.paradigms import MotorImagery
from sklearn.pipeline import make_pipeline

from skeeg import CTAdaptTLClassifier, EuclideanAlignment, baseline
from skeeg.datasets import SimulatedMotorExecution, SimulatedMotorImagery
from skeeg.evaluations import CrossTaskDataset, CrossTaskEvaluation, CrossTaskSplitter

warnings.simplefilter("ignore")
torch.set_num_threads(1)

###############################################################################
# Two recordings, one dataset
# ---------------------------
# `CrossTaskDataset` joins a recording of execution and one of imagery; its sessions are named after the task. Here the
# same subjects do both; with ``same_subjects=False`` the source subjects are others.

shape = {"n_subjects": 3, "n_sessions": 1, "n_trials": 40}
dataset = CrossTaskDataset(SimulatedMotorExecution(**shape), SimulatedMotorImagery(**shape), same_subjects=True)
print(len(dataset.subject_list), "subjects, classes", ", ".join(dataset.event_id))

###############################################################################
# The evaluation
# --------------
# For each subject: train on the executed movements of all, adapt on the first k imagined ones, score the rest. The
# trials scored are the same for every k. A pipeline that takes no target trials (CSP, tangent space) is trained on both
# kinds together.

paradigm = MotorImagery(
    events=list(dataset.event_id), n_classes=2, scorer="accuracy", fmin=8, fmax=30, tmin=0.5, tmax=3.5, resample=80
)
evaluation = CrossTaskEvaluation(
    paradigm,
    dataset,
    CrossTaskSplitter((0, 10, 20, 40), source="all"),
    hdf5_path=tempfile.mkdtemp(),
    random_state=0,
)

###############################################################################
# The pipelines
# -------------
# ``memory`` caches the pre-trained network, so that each point of the curve adapts the same one.

pipelines = {
    "CT-adaptTL": CTAdaptTLClassifier(on_unseen="own", memory=tempfile.mkdtemp(), random_state=0),
    "EA + CSP + LDA": make_pipeline(EuclideanAlignment(), baseline("CSP+LDA")),
    "EA + TS + LR": make_pipeline(EuclideanAlignment(), baseline("TS+LR")),
}
results = evaluation.process(pipelines)

###############################################################################
# How many trials of imagery does it take?
# ----------------------------------------
# Thin lines are subjects, thick ones their mean.

curves = results.groupby(["pipeline", "subject", "n_target"]).score.mean().unstack()
fig, ax = plt.subplots(figsize=(6, 4), layout="constrained")
for color, name in zip(("C0", "C1", "C2"), pipelines, strict=True):
    for _, subject in curves.loc[name].iterrows():
        ax.plot(curves.columns, subject, color=color, lw=0.7, alpha=0.5)
    ax.plot(curves.columns, curves.loc[name].mean(), "o-", color=color, lw=2.5, label=name)
ax.axhline(0.5, color="0.6", ls=":", lw=1)
ax.set(xlabel="labelled trials of imagery", ylabel="accuracy", xticks=curves.columns)
ax.spines[["top", "right"]].set_visible(False)
fig.legend(loc="outside lower center", ncols=3, frameon=False)
print(curves.groupby("pipeline").mean().round(3))
plt.show()
