"""
From executed to imagined movement
==================================

CT-adaptTL is pre-trained on trials of executed movements and fine-tuned on a few trials of a target subject's imagery.
How many does it take, and how does it compare with CSP and tangent space on the same trials? The question is a MOABB
evaluation with a learning curve.

Run as it is, the example takes simulated subjects. With a name it takes recordings:

- ``python plot_cross_task_transfer.py grasp``: OpenNeuro ds003810, found through ``SKEEG_DATA`` or downloaded;
- ``... hgd-openbmi`` and ``... hgd-gist``: the published pairs, by MOABB's loaders (tens of gigabytes).
"""

import sys
import tempfile
import warnings

import matplotlib.pyplot as plt
import torch
from moabb.paradigms import MotorImagery
from pyriemann.estimation import Covariances
from pyriemann.tangentspace import TangentSpace
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from skeeg import CSP, CTAdaptTLClassifier, EuclideanAlignment
from skeeg.datasets import GraspImagery, SimulatedMotorExecution, SimulatedMotorImagery
from skeeg.evaluations import CrossTaskDataset, CrossTaskEvaluation, CrossTaskSplitter
from skeeg.montage import TEMPLATES

warnings.simplefilter("ignore")
torch.set_num_threads(1)
recordings = sys.argv[1] if len(sys.argv) > 1 else "simulated"

###############################################################################
# Two recordings, one dataset
# ---------------------------
# `CrossTaskDataset` joins a recording of execution and one of imagery; its sessions are named after the task. The
# subjects may be the same (simulated, grasp) or others (the published pairs).

if recordings == "simulated":
    shape = {"n_subjects": 3, "n_sessions": 1, "n_trials": 40}
    source, target = SimulatedMotorExecution(**shape), SimulatedMotorImagery(**shape)
elif recordings == "grasp":
    source, target = GraspImagery(task="execution"), GraspImagery(task="imagery")
elif recordings in ("hgd-openbmi", "hgd-gist"):
    from moabb.datasets import Cho2017, Lee2019_MI, Schirrmeister2017

    source, target = Schirrmeister2017(), Lee2019_MI() if recordings == "hgd-openbmi" else Cho2017()
else:
    raise SystemExit(f"unknown recordings {recordings!r}: simulated, grasp, hgd-openbmi or hgd-gist")
published = recordings.startswith("hgd")
dataset = CrossTaskDataset(source, target, same_subjects=not published)
print(dataset.code, "with", len(dataset.subject_list), "subjects, classes", ", ".join(dataset.event_id))

###############################################################################
# The evaluation
# --------------
# For each subject: train on the executed movements of all, adapt on the first k imagined ones, score the rest. The
# trials scored are the same for every k. A pipeline that takes no target trials (CSP, tangent space) is trained on both
# kinds together.

paradigm = MotorImagery(
    events=list(dataset.event_id)[:2], n_classes=2, scorer="accuracy", fmin=8, fmax=30, tmin=0.5, tmax=3.5, resample=80,
    channels=list(TEMPLATES["ct_adapttl20"]) if published else None,
)  # fmt: skip
evaluation = CrossTaskEvaluation(
    paradigm,
    dataset,
    CrossTaskSplitter((0, 10, 20, 40), source="others" if published else "all"),
    hdf5_path=tempfile.mkdtemp(),
    random_state=0,
)

###############################################################################
# The pipelines
# -------------
# ``memory`` caches the pre-trained network, so that each point of the curve adapts the same one.

pipelines = {
    "CT-adaptTL": CTAdaptTLClassifier(on_unseen="own", memory=tempfile.mkdtemp(), random_state=0),
    "EA + CSP + LDA": make_pipeline(EuclideanAlignment(), CSP(n_components=6), LinearDiscriminantAnalysis()),
    "EA + TS + LR": make_pipeline(
        EuclideanAlignment(), Covariances("oas"), TangentSpace(), LogisticRegression(max_iter=1000)
    ),
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
ax.set(xlabel="labelled trials of imagery", ylabel="accuracy", xticks=curves.columns, title=recordings)
ax.spines[["top", "right"]].set_visible(False)
fig.legend(loc="outside lower center", ncols=3, frameon=False)
print(curves.groupby("pipeline").mean().round(3))
plt.show()
