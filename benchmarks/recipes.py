"""The search behind the recipes of the networks: one change at a time, on subjects that nothing is confirmed on.

- BNCI2014004, subject 1, sessions 3-5, 30 % / 70 % (48 training trials, three channels), 8-30 Hz, 125 Hz;
- ds003810, subjects 02-05, leave one run out (120 training trials), 4-38 Hz, 128 Hz;
- simulated recordings of seed 101 (the bench has seed 0), session 0, five folds of 80 trials, 8-32 Hz, 128 Hz.

Every pipeline starts with Euclidean alignment. Run ``python benchmarks/recipes.py bnci --only shift``; scores go to
``benchmarks/results/recipes.csv``, which a second run completes, and the table to ``recipes.md``.
"""

import argparse
import os
import pathlib
import warnings

import numpy as np
import pandas as pd

KEYS = ["data", "network", "change", "fold"]
# Network: change: settings of the recipe, and of the network under "network_params".
CHANGES = {
    "none": {},
    "no shift": {"time_shift": 0.0},
    "shift .1": {"time_shift": 0.1},
    "dropout .25": {"network_params": {"drop_prob": 0.25}},
    "unit RMS a trial": {"scale": "trial"},
    "half the rate": {"factor": 0.5},
    "twice the rate": {"factor": 2.0},
    "100 updates": {"n_updates": 100},
    "300 updates": {"n_updates": 300},
    "300 updates, unit RMS a trial": {"n_updates": 300, "scale": "trial"},
    "600 updates": {"n_updates": 600},
    "batches of 32": {"batch_size": 32},
    "weight decay .3": {"weight_decay": 0.3},
    "former recipe": {"name": "mirepnet-fork"},
}


def load(data):
    """Trials, labels, and the folds as (name, training, test)."""
    from sklearn.model_selection import StratifiedKFold, train_test_split

    from skeeg.datasets import GraspImagery, LocalDataset, SimulatedMotorImagery, load_arrays

    root = pathlib.Path(os.environ.get("SKEEG_DATA", "../shared/data"))
    if data == "bnci":
        dataset = LocalDataset(root / "bciciv2b", subjects=[1], sessions=["2ses3", "3ses4", "4ses5"])
        X, y = load_arrays(dataset, 8, 30, resample=125)
        by = X.domains["session"]
        rows = [np.flatnonzero(by == one) for one in np.unique(by)]
        folds = [
            (f"session {i + 3}", *train_test_split(own, test_size=0.7, random_state=0)) for i, own in enumerate(rows)
        ]
    elif data == "grasp":
        X, y = load_arrays(GraspImagery(subjects=(2, 3, 4, 5)), 4, 38, tmin=0.5, tmax=4.0, resample=128)
        who, run = X.domains["subject"], X.domains["run"]
        folds = [
            (
                f"subject {one}, run {r}",
                np.flatnonzero((who == one) & (run != r)),
                np.flatnonzero((who == one) & (run == r)),
            )
            for one in np.unique(who)
            for r in np.unique(run[who == one])
        ]
    else:
        dataset = SimulatedMotorImagery(seed=101)
        X, y = load_arrays(dataset, 8, 32)
        who, session, folds = X.domains["subject"], X.domains["session"], []
        for one in np.unique(who):
            own = np.flatnonzero((who == one) & (session == session[0]))
            split = StratifiedKFold(5, shuffle=True, random_state=0).split(own, y[own])
            folds += [(f"subject {one}, fold {k}", own[train], own[test]) for k, (train, test) in enumerate(split)]
    return X.astype(np.float32), y, folds


def build(name, change):
    """Baseline with one change of its recipe."""
    from skeeg import baseline
    from skeeg.baselines import baseline_recipe

    change = dict(change)
    params = change.pop("network_params", {})
    if "factor" in change:
        change["learning_rate"] = change.pop("factor") * baseline_recipe(name).learning_rate
    pipeline = baseline(name, recipe={"name": "imagery"} | change, random_state=0)
    known = pipeline[-1].network_params or {}
    return pipeline.set_params(networkclassifier__network_params=(known | params) or None)


def report(scores):
    """Markdown table of accuracy and AUC, a row for each network and change."""
    rows = ["| data | network | change | accuracy | AUC | folds |", "|---" * 6 + "|"]
    for (data, name, change), part in scores.groupby(["data", "network", "change"], sort=False):
        rows.append(
            f"| {data} | {name} | {change} | {part.accuracy.mean():.3f} | {part.auc.mean():.3f} | {len(part)} |"
        )
    return "\n".join(rows) + "\n"


def main():
    """Score what is missing and write the table."""
    from sklearn.metrics import roc_auc_score

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", choices=["bnci", "grasp", "simulated"])
    parser.add_argument("--networks", nargs="+", default=["ShallowConv", "EEGNet", "FBCNet", "Conformer"])
    parser.add_argument("--only", nargs="+", default=list(CHANGES), help="some of the changes")
    parser.add_argument("--folds", type=int, default=None, help="every so many folds only")
    parser.add_argument("--out", default=str(pathlib.Path(__file__).parent / "results"))
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    out = pathlib.Path(args.out)
    out.mkdir(exist_ok=True)
    table = out / "recipes.csv"
    X, y, folds = load(args.data)
    for change in args.only:
        for name in args.networks:
            for fold, train, test in folds[:: args.folds or 1]:
                scores = pd.read_csv(table) if table.is_file() else pd.DataFrame(columns=KEYS)
                if (scores[KEYS] == [args.data, name, change, fold]).all(axis=1).any():
                    continue
                fitted = build(name, CHANGES[change]).fit(X[train], y[train])
                found = fitted.predict_proba(X[test])
                row = dict(zip(KEYS, [args.data, name, change, fold], strict=True))
                row["accuracy"] = (fitted.classes_[found.argmax(1)] == y[test]).mean()
                row["auc"] = roc_auc_score(y[test] == fitted.classes_[1], found[:, 1])
                scores = pd.concat([scores, pd.DataFrame([row])]) if len(scores) else pd.DataFrame([row])
                scores.to_csv(table, index=False, float_format="%.4f")
                (out / "recipes.md").write_text(report(scores))
            print(report(scores).splitlines()[-1] if len(scores) else "", flush=True)


if __name__ == "__main__":
    main()
