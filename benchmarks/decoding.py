"""Decoding imagined grasps from real recordings under four protocols.

The recordings are OpenNeuro ds003810, subjects 02 to 07, found through ``SKEEG_DATA``: runs 1 to 4 are imagined grasp
against rest, run 0 is executed. Every trial is cut from 0.5 to 4.0 s after its cue at 128 Hz.

- within: each run of a subject is scored by what was learned from that subject's other runs;
- cross: each subject is scored by what was learned from the other five, without and with Euclidean alignment (the test
  subject's own reference, from that subject's unlabelled test trials: transductive), and with the decision moved by the
  same unlabelled trials (`skeeg.BalancedTarget`: both classes are assumed to be as frequent, in all or in each run);
- few-shot: the first 30 trials of a subject are known, runs 2 to 4 are scored; the reference of that subject comes from
  the 30 alone. Learned from: the other five, the 30, both pooled, or, for networks, the other five and then the 30
  (`skeeg.FineTunedClassifier`). "EEGNet + FBTS+LR" is the mean of the probabilities of EEGNet learned so and of FBTS+LR
  learned from both pooled (`sklearn.ensemble.VotingClassifier`); "EEGNet, 8-30 Hz"
  learns in the band of CSP+LDA;
- cross-task: learned from executed, scored on imagined grasps, each task of each subject aligned by itself. Learned
  from: the subject's own 10 executed trials, or those of all subjects.

Where networks learn from several subjects, three are trained from different seeds: the mean of their scores is
reported, and the score of the mean of their probabilities ("mean of 3"). All pipelines are those of `skeeg.baseline`;
the recipes of the networks were chosen on subjects 02 to 05 (``benchmarks/recipes.py``), so 06 and 07 stand apart.
Within a subject networks align by the training trials; in the other protocols the arm says how trials are aligned.
Run ``python benchmarks/decoding.py``; scores go to ``benchmarks/results/decoding.csv``, which a second run completes,
and the table to ``benchmarks/results/decoding.md``.
"""

import argparse
import datetime
import functools
import importlib.metadata
import multiprocessing
import os
import pathlib
import warnings

import numpy as np
import pandas as pd

BANDS = {"CSP+LDA": (8, 30), "FBCSP+LDA": (4, 40), "TS+LR": (8, 30), "MDM": (8, 30), "FBTS+LR": (4, 40)}
RECENTRED = "FBTS+LR"
NARROW, VOTE = "EEGNet, 8-30 Hz", "EEGNet + FBTS+LR"
NETWORKS = {"EEGNet": (4, 38), "ShallowConv": (4, 38), "Conformer": (4, 38), NARROW: (8, 30), VOTE: (4, 38)}
RATE = 128
COLUMNS = ["protocol", "arm", "pipeline", "subject", "seed", "accuracy"]
SUBJECTS = (2, 3, 4, 5, 6, 7)
CHOSEN_ON = (2, 3, 4, 5)
N_SHOT = 30


@functools.lru_cache(maxsize=2)
def load(task, band):
    """Trials, labels, subjects and runs of one task in one band."""
    from skeeg.datasets import GraspImagery, load_arrays

    dataset = GraspImagery(task=task, subjects=SUBJECTS)
    X, y = load_arrays(dataset, fmin=band[0], fmax=band[1], tmin=0.5, tmax=4.0, resample=RATE)
    return X.astype(np.float32), y, X.domains["subject"], X.domains["run"]


def align(X, blocks):
    """Align each block of trials by its own reference; blocks are index arrays."""
    from skeeg import EuclideanAlignment

    aligned = np.array(X)
    for rows in blocks:
        aligned[rows] = EuclideanAlignment().fit_transform(X[rows])
    return aligned


def build(name, seed, protocol):
    """Unfitted pipeline of a name."""
    from skeeg import baseline

    if name not in NETWORKS:
        return baseline(name, sfreq=RATE)
    name = "EEGNet" if name in (NARROW, VOTE) else name
    return baseline(name, align=protocol == "within", sfreq=RATE, random_state=seed)


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
    blocks = [(one, run) for one in np.unique(subjects) for run in np.unique(runs[subjects == one])]
    by_run = align(X, [np.flatnonzero((subjects == one) & (runs == run)) for one, run in blocks])
    yield "others, aligned by run", by_run, y, np.flatnonzero(others), np.flatnonzero(own)


def few_shot(X, y, subjects, runs, subject):
    """Yield the folds of the first trials of a subject."""
    from skeeg import EuclideanAlignment

    own, others = np.flatnonzero(subjects == subject), np.flatnonzero(subjects != subject)
    shots, test = own[:N_SHOT], own[runs[own] != runs[own[0]]]
    aligned = align(X, [np.flatnonzero(subjects == one) for one in np.unique(subjects)])
    aligned[own] = EuclideanAlignment().fit(X[shots]).transform(X[own])
    yield "others", aligned, y, others, test
    yield f"own {N_SHOT}", aligned, y, shots, test
    yield f"others + own {N_SHOT}", aligned, y, np.r_[others, shots], test
    yield FINE_TUNED, aligned, y, (others, shots), test


def cross_task(X, y, subjects, tasks, subject):
    """Yield the folds from executed to imagined movement."""
    aligned = align(X, [np.flatnonzero((subjects == s) & (tasks == t)) for s in set(subjects) for t in set(tasks)])
    test = np.flatnonzero((subjects == subject) & (tasks == "imagery"))
    yield "own executed", aligned, y, np.flatnonzero((subjects == subject) & (tasks == "execution")), test
    yield "all executed", aligned, y, np.flatnonzero(tasks == "execution"), test


PROTOCOLS = {"within": within, "cross": cross, "few-shot": few_shot, "cross-task": cross_task}
BALANCED = {  # arms whose decision is moved by the unlabelled test trials: arm without it, trials that share an offset
    "others, aligned, balanced": ("others, aligned", "subject"),
    "others, aligned, balanced by run": ("others, aligned", "run"),
    "others, aligned by run, balanced": ("others, aligned by run", "subject"),
    f"others + own {N_SHOT}, balanced by run": (f"others + own {N_SHOT}", "run"),
    f"others, then own {N_SHOT}, balanced by run": (f"others, then own {N_SHOT}", "run"),
}
MEAN = ", mean of 3"
POOLED, FINE_TUNED = f"others + own {N_SHOT}", f"others, then own {N_SHOT}"
SINGLE = {
    "within": ("own other runs",),
    "cross": ("others", "others, aligned", "others, aligned by run", *list(BALANCED)[:3]),
    "few-shot": (
        "others",
        f"own {N_SHOT}",
        POOLED,
        f"{POOLED}, balanced by run",
        FINE_TUNED,
        f"{FINE_TUNED}, balanced by run",
    ),
    "cross-task": ("own executed", "all executed"),
}
SEVERAL = (*BALANCED, FINE_TUNED)  # in these three networks are trained, and their mean is scored too
ARMS = {
    name: [one for arm in arms for one in ([arm, arm + MEAN] if arm in SEVERAL else [arm])]
    for name, arms in SINGLE.items()
}


def trials_of(protocol, band):
    """Trials a protocol works on; the fourth entry tells runs or tasks apart."""
    imagined = load("imagery", band)
    if protocol != "cross-task":
        return imagined
    executed = load("execution", band)
    X, y, subjects = (np.concatenate([one, other]) for one, other in zip(imagined[:3], executed[:3], strict=True))
    return X, y, subjects, np.repeat(["imagery", "execution"], [len(imagined[1]), len(executed[1])])


def fit(pipeline, X, y, training, n_networks):
    """Fit a pipeline to the training trials, or to those of other subjects and then to the subject's own."""
    from skeeg import FineTunedClassifier

    if n_networks == 1:
        return pipeline.fit(X[training], y[training])
    others, own = training if isinstance(training, tuple) else (training, None)
    target = {} if own is None else {"X_target_labeled": X[own], "y_target_labeled": y[own]}
    return FineTunedClassifier(pipeline, n_networks=n_networks).fit(X[others], y[others], **target)


def vote(networks, X, y):
    """Networks, each with FBTS+LR: the mean of the probabilities of the two."""
    from sklearn.ensemble import VotingClassifier
    from sklearn.frozen import FrozenEstimator

    linear = ("linear", FrozenEstimator(build(RECENTRED, 0, "few-shot").fit(X, y)))
    pairs = [[("network", FrozenEstimator(one)), linear] for one in networks]
    return [VotingClassifier(pair, voting="soft").fit(X, y) for pair in pairs]


def score(wanted):
    """Accuracy of one pipeline on one subject, arm by arm; wanted are protocol, pipeline, subject, seed and arms."""
    import torch
    from sklearn.frozen import FrozenEstimator

    from skeeg import BalancedTarget, EEGArray

    protocol, name, subject, seed, arms = wanted
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    found = {}
    data = trials_of(protocol, (BANDS | NETWORKS)[name])
    for arm, X, y, training, test in PROTOCOLS[protocol](*data, str(subject)):
        if name == RECENTRED:  # it aligns each band itself, by the domains of the trials
            X = data[0] if arm != "others" else np.asarray(data[0])
        elif name == VOTE:
            X = data[0].like(X)
        moved = {one: domain for one, (base, domain) in BALANCED.items() if base == arm}
        of_arm = [arm, arm + MEAN, *moved, *(one + MEAN for one in moved)]
        if not set(of_arm) & set(arms):
            continue
        several = name in NETWORKS and bool(set(of_arm[1:]) & set(arms))
        pipeline = build(name, seed, protocol)
        if name == RECENTRED and "by run" in arm:
            pipeline.set_params(filterbanktangentspace__domain="run")
        whole = fit(pipeline, X, y, training, 3 if several else 1)
        single = whole.estimators_ if several else [whole]
        source = np.hstack(training)  # trials of others, or of others and the subject's own
        if name == VOTE:
            *single, whole = vote([*single, whole], X[source], y[source])
        found[arm] = np.mean([one.score(X[test], y[test]) for one in single])
        found[arm + MEAN] = whole.score(X[test], y[test])
        trials = EEGArray(np.asarray(X[test]), sfreq=RATE, domains=data[0].domains[test])
        for balanced, domain in moved.items():
            scores = []
            for one in (*single, whole):
                one = BalancedTarget(FrozenEstimator(one), domain)
                one.fit(X[source], y[source], X_target_unlabeled=trials)
                scores.append(one.score(trials, y[test]))
            found[balanced], found[balanced + MEAN] = np.mean(scores[:-1]), scores[-1]
    return [(protocol, arm, name, subject, seed, float(found[arm])) for arm in arms]


def missing_arms(done, protocol, name, subject, seed, arms):
    """Arms that are asked for, make sense for the pipeline and have no score yet."""
    possible = ARMS[protocol] if name in NETWORKS else SINGLE[protocol]
    if name == RECENTRED and protocol in ("few-shot", "cross-task"):
        possible = [arm for arm in possible if arm.startswith(POOLED)]
    elif name in (NARROW, VOTE):
        possible = [arm for arm in possible if arm.startswith(FINE_TUNED)]
    elif name not in NETWORKS:
        possible = [arm for arm in possible if not arm.startswith(FINE_TUNED)]
    return [arm for arm in possible if arm in arms and (protocol, arm, name, subject, seed) not in done]


def report(scores):
    """Markdown tables: one a protocol, arms by pipelines, mean and spread over subjects."""
    packages = ("skeeg", "torch", "braindecode", "scikit-learn", "pyriemann", "mne")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    complete = scores.groupby(["protocol", "arm", "pipeline", "seed"]).subject.transform("size") == len(SUBJECTS)
    scores = scores[complete]
    names = [name for name in [*BANDS, *NETWORKS] if name in set(scores.pipeline)]
    text = [f"Written {datetime.date.today()}; {versions}; networks by the recipe 'imagery'.", ""]
    text.append(
        "Accuracy, mean ± standard deviation over the six subjects (seeds averaged first), in round brackets the mean "
        "of 06 and 07 alone, on which no recipe was chosen, in square ones the number of seeds where several; chance "
        "is .5."
    )
    for protocol in PROTOCOLS:
        part = (
            scores[scores.protocol == protocol].groupby(["arm", "pipeline", "subject"]).accuracy.agg(["mean", "count"])
        )
        if part.empty:
            continue
        text += ["", f"| {protocol} | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
        for arm in (arm for arm in ARMS[protocol] if arm in part.index):
            cells = [summary(part.loc[arm, name]) if (arm, name) in part.index else "-" for name in names]
            text.append(f"| {arm} | " + " | ".join(cells) + " |")
    return "\n".join(text) + "\n"


def summary(part):
    """Mean and spread over subjects, the mean of those that nothing was chosen on, and the seeds where several."""
    accuracy, n_seeds = part["mean"], part["count"].min()
    apart = accuracy[~accuracy.index.isin(CHOSEN_ON)].mean()
    return f"{accuracy.mean():.3f} ± {accuracy.std():.3f} ({apart:.3f})" + (f" [{n_seeds}]" if n_seeds > 1 else "")


def main():
    """Score what is missing and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--protocols", nargs="+", default=list(PROTOCOLS))
    parser.add_argument("--arms", nargs="+", default=[arm for arms in ARMS.values() for arm in arms])
    parser.add_argument("--pipelines", nargs="+", default=[*BANDS, *NETWORKS])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--out", default=str(pathlib.Path(__file__).parent / "results"))
    args = parser.parse_args()
    out = pathlib.Path(args.out)
    out.mkdir(exist_ok=True)
    table = out / "decoding.csv"
    scores = pd.read_csv(table) if table.is_file() else pd.DataFrame(columns=COLUMNS)
    done = set(scores[COLUMNS[:-1]].itertuples(index=False, name=None))
    wanted = [
        (protocol, name, subject, seed, missing)
        for name in args.pipelines
        for protocol in args.protocols
        for subject in SUBJECTS
        for seed in (args.seeds if name in NETWORKS else [0])
        if (missing := missing_arms(done, protocol, name, subject, seed, args.arms))
    ]
    # forked, not joblib's: its workers do not have this script's functions
    with multiprocessing.get_context("fork").Pool(args.jobs) as pool:
        for rows in pool.imap(score, wanted):
            rows = pd.DataFrame(rows, columns=COLUMNS)
            scores = pd.concat([scores, rows]) if len(scores) else rows
            scores.to_csv(table, index=False)
            (out / "decoding.md").write_text(report(scores))
            print(*rows.iloc[0, :5], flush=True)
    print(report(scores))


if __name__ == "__main__":
    main()
