"""Decoding of recorded grasp imagery with and without Euclidean alignment, beside reference scores.

OpenNeuro ds003810, subjects 2 to 7: one run left out within each subject, and one subject left out. The recipe of the
references: notch at 31.25 and 50 Hz, zero-phase FIR from 8 to 30 Hz on the whole run, 128 Hz, 0.5 to 4.0 s after the
annotation of the class. Alignment has one reference per subject (EA) or per run (EA_run), that of the held-out data
from all of its unlabelled trials. Nothing is tuned here: every parameter is fixed in this file.

Run: ``python benchmarks/real_recordings.py``. The recordings are looked for in ``$SKEEG_DATA/ds003810``.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import sys
from pathlib import Path

import numpy as np
from pyriemann.estimation import Covariances
from pyriemann.tangentspace import TangentSpace
from sklearn.base import clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from skeeg.alignment import EuclideanAlignment
from skeeg.datasets import GraspImagery
from skeeg.spatial import CSP

PIPELINES = {
    "CSP+LDA": make_pipeline(CSP(n_components=6), LinearDiscriminantAnalysis()),
    "TS+LR": make_pipeline(Covariances(), TangentSpace(), LogisticRegression(max_iter=1000)),
}
ARMS = {"none": None, "EA": "subject", "EA_run": "run"}
REFERENCE = {
    ("leave one run out", "none"): {"CSP+LDA": 0.775, "TS+LR": 0.815},
    ("leave one run out", "EA_run"): {"CSP+LDA": 0.792, "TS+LR": 0.843},
    ("leave one subject out", "none"): {"CSP+LDA": 0.633, "TS+LR": 0.613},
    ("leave one subject out", "EA"): {"CSP+LDA": 0.765, "TS+LR": 0.784},
    ("leave one subject out", "EA_run"): {"CSP+LDA": 0.787, "TS+LR": 0.791},
}
SUBJECTS = (2, 3, 4, 5, 6, 7)
TOLERANCE = 0.02


def find_folder():
    """Folder of the recordings, or None."""
    data = Path(os.environ.get("SKEEG_DATA", Path(__file__).parents[1] / ".." / "shared" / "data"))
    return data / "ds003810" if (data / "ds003810").is_dir() else None


def build(pipeline, arm):
    """Give the pipeline with the arm's alignment before it."""
    if ARMS[arm] is None:
        return clone(pipeline)
    return make_pipeline(
        EuclideanAlignment(domain=ARMS[arm], on_unseen="own"), *(step for _, step in clone(pipeline).steps)
    )


def folds(protocol, X):
    """Give the subject, training trials and test trials of each fold."""
    subjects, runs = X.domains["subject"], X.domains["run"]
    for subject in dict.fromkeys(subjects):
        own = subjects == subject
        if protocol == "leave one subject out":
            yield subject, ~own, own
        else:
            yield from ((subject, own & (runs != run), own & (runs == run)) for run in dict.fromkeys(runs[own]))


def score(protocol, arm, pipeline, X, y):
    """Accuracy of each subject, runs averaged."""
    scores = {}
    for subject, train, test in folds(protocol, X):
        fitted = build(pipeline, arm).fit(X[train], y[train])
        scores.setdefault(subject, []).append(fitted.score(X[test], y[test]))
    return np.array([np.mean(values) for values in scores.values()])


def main():
    """Print the table; the exit status says whether all references were met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", help="folder of ds003810")
    folder = parser.parse_args().folder or find_folder()
    if folder is None:
        sys.exit("ds003810 is not here: set SKEEG_DATA to the folder that holds it, or give --folder.")
    X, y = GraspImagery(folder, subjects=SUBJECTS).arrays(fmin=8, fmax=30, tmin=0.5, tmax=4.0, resample=128)
    print(
        f"{len(X)} trials, {X.shape[1]} electrodes, {len(SUBJECTS)} subjects; chance .5; mean ± spread over subjects\n"
    )
    print("| protocol | arm | pipeline | accuracy | reference | difference |\n|---|---|---|---|---|---|")
    worst = 0.0
    for (protocol, arm), expected in REFERENCE.items():
        for name, reference in expected.items():
            scores = score(protocol, arm, PIPELINES[name], X, y)
            difference = scores.mean() - reference
            worst = max(worst, abs(difference))
            cells = (
                protocol,
                arm,
                name,
                f"{scores.mean():.3f} ± {scores.std():.3f}",
                f"{reference:.3f}",
                f"{difference:+.3f}",
            )
            print(f"| {' | '.join(cells)} |", flush=True)
    print(f"\nLargest difference {worst:.3f}; {TOLERANCE} is allowed.")
    sys.exit(int(worst > TOLERANCE))


if __name__ == "__main__":
    main()
