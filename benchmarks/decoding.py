"""Decoding imagined grasps from real recordings under four protocols.

The recordings are OpenNeuro ds003810, subjects 02 to 07, found through ``SKEEG_DATA``: runs 1 to 4 are imagined grasp
against rest, run 0 is executed. Every trial is cut from 0.5 to 4.0 s after its cue at 128 Hz.

- within: each run of a person is scored by what was learned from that person's other runs;
- cross: each person is scored by what was learned from the other five, without and with Euclidean alignment (the test
  person's own reference, from that person's unlabelled test trials: transductive);
- few-shot: the first 30 trials of a person are known, runs 2 to 4 are scored; the reference of that person comes from
  the 30 alone. Learned from: the other five, the 30, or both;
- cross-task: learned from executed, scored on imagined grasps, each task of each person aligned by itself. Learned
  from: the person's own 10 executed trials, or those of all people.

Nothing is tuned: every pipeline has its settings from `skeeg.baseline`, in the band written beside it.
Run ``python benchmarks/decoding.py``; the table goes to ``benchmarks/results/decoding.md``.
"""

import argparse
import datetime
import importlib.metadata
import os
import pathlib
import time
import warnings

import numpy as np
from joblib import Parallel, delayed

BANDS = {"CSP+LDA": (8, 30), "FBCSP+LDA": (4, 40), "TS+LR": (8, 30), "MDM": (8, 30)}
NETWORK_BAND = (4, 38)
NETWORKS = ("EEGNet", "ShallowConv", "Conformer")
SUBJECTS = (2, 3, 4, 5, 6, 7)
N_SHOT = 30


def load(task, band):
    """Trials, labels, subjects and runs of one task in one band."""
    from skeeg.datasets import GraspImagery, load_arrays

    dataset = GraspImagery(task=task, subjects=SUBJECTS)
    X, y = load_arrays(dataset, fmin=band[0], fmax=band[1], tmin=0.5, tmax=4.0, resample=128)
    return X.astype(np.float32), y, X.domains["subject"], X.domains["run"]


def align(X, blocks):
    """Align each block of trials by its own reference; blocks are index arrays."""
    from skeeg import EuclideanAlignment

    aligned = np.array(X)
    for rows in blocks:
        aligned[rows] = EuclideanAlignment().fit_transform(X[rows])
    return aligned


def within(X, y, subjects, runs, subject):
    """Yield (arm, X, y, training, test) of leave one run out."""
    own = np.flatnonzero(subjects == subject)
    for run in np.unique(runs[own]):
        yield "own other runs", X, y, own[runs[own] != run], own[runs[own] == run]


def cross(X, y, subjects, runs, subject):
    """Yield the folds of leave one subject out, without and with alignment."""
    own, others = subjects == subject, subjects != subject
    yield "others", X, y, np.flatnonzero(others), np.flatnonzero(own)
    aligned = align(X, [np.flatnonzero(subjects == one) for one in np.unique(subjects)])
    yield "others, aligned", aligned, y, np.flatnonzero(others), np.flatnonzero(own)


def few_shot(X, y, subjects, runs, subject):
    """Yield the folds of the first trials of a person."""
    from skeeg import EuclideanAlignment

    own, others = np.flatnonzero(subjects == subject), np.flatnonzero(subjects != subject)
    shots, test = own[:N_SHOT], own[runs[own] != runs[own[0]]]
    aligned = align(X, [np.flatnonzero(subjects == one) for one in np.unique(subjects)])
    aligned[own] = EuclideanAlignment().fit(X[shots]).transform(X[own])
    yield "others", aligned, y, others, test
    yield f"own {N_SHOT}", aligned, y, shots, test
    yield f"others + own {N_SHOT}", aligned, y, np.r_[others, shots], test


def cross_task(X, y, subjects, tasks, subject):
    """Yield the folds from executed to imagined movement."""
    aligned = align(X, [np.flatnonzero((subjects == s) & (tasks == t)) for s in set(subjects) for t in set(tasks)])
    test = np.flatnonzero((subjects == subject) & (tasks == "imagery"))
    yield "own executed", aligned, y, np.flatnonzero((subjects == subject) & (tasks == "execution")), test
    yield "all executed", aligned, y, np.flatnonzero(tasks == "execution"), test


PROTOCOLS = {"within": within, "cross": cross, "few-shot": few_shot, "cross-task": cross_task}


def trials_of(protocol, band):
    """Trials a protocol works on; the fourth entry tells runs or tasks apart."""
    imagined = load("imagery", band)
    if protocol != "cross-task":
        return imagined
    executed = load("execution", band)
    X, y, subjects = (np.concatenate([one, other]) for one, other in zip(imagined[:3], executed[:3], strict=True))
    return X, y, subjects, np.repeat(["imagery", "execution"], [len(imagined[1]), len(executed[1])])


def score(protocol, name, subject, seed):
    """Accuracy of one pipeline on one person, arm by arm."""
    import torch

    from skeeg import baseline

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    found = {}
    data = trials_of(protocol, BANDS.get(name, NETWORK_BAND))
    for arm, X, y, training, test in PROTOCOLS[protocol](*data, str(subject)):
        pipeline = baseline(name, sfreq=128.0, random_state=seed).fit(X[training], y[training])
        found.setdefault(arm, []).append(pipeline.score(X[test], y[test]))
    return [(protocol, arm, name, subject, seed, float(np.mean(values))) for arm, values in found.items()]


def report(rows, seeds, seconds):
    """Markdown tables: one a protocol, arms by pipelines, mean and spread over people."""
    packages = ("skeeg", "torch", "braindecode", "scikit-learn", "pyriemann", "mne")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    text = [f"Run on {datetime.date.today()} in {seconds / 60:.0f} minutes, one thread a fold; {versions}."]
    text.append(
        f"Accuracy, mean ± standard deviation over the six people, chance .5; networks: mean over seeds {list(seeds)}."
    )
    names = list(dict.fromkeys(row[2] for row in rows))
    for protocol in PROTOCOLS:
        arms = list(dict.fromkeys(row[1] for row in rows if row[0] == protocol))
        if not arms:
            continue
        text += ["", f"| {protocol} | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
        text += [f"| {arm} | " + " | ".join(_cell(rows, protocol, arm, name) for name in names) + " |" for arm in arms]
    return "\n".join(text) + "\n"


def _cell(rows, protocol, arm, name):
    chosen = [row for row in rows if row[:3] == (protocol, arm, name)]
    people = [np.mean([row[5] for row in chosen if row[3] == subject]) for subject in {row[3] for row in chosen}]
    return f"{np.mean(people):.3f} ± {np.std(people, ddof=1):.3f}" if people else "-"


def main():
    """Score everything and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--protocols", nargs="+", default=list(PROTOCOLS))
    parser.add_argument("--pipelines", nargs="+", default=[*BANDS, *NETWORKS])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--out", default=str(pathlib.Path(__file__).parent / "results" / "decoding.md"))
    args = parser.parse_args()
    start = time.perf_counter()
    work = [
        (protocol, name, subject, seed)
        for protocol in args.protocols
        for name in args.pipelines
        for subject in SUBJECTS
        for seed in (args.seeds if name not in BANDS else [0])
    ]
    results = Parallel(n_jobs=args.jobs, verbose=5)(delayed(score)(*one) for one in work)
    text = report([row for rows in results for row in rows], args.seeds, time.perf_counter() - start)
    print(text)
    pathlib.Path(args.out).parent.mkdir(exist_ok=True)
    pathlib.Path(args.out).write_text(text)


if __name__ == "__main__":
    main()
