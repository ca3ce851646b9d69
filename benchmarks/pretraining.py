"""Weights of MIRepNet, pre-trained on EEGMMIDB: made, and compared with the same network from scratch.

Parts, each of which can be run alone:

- ``train``: pre-train on subjects 1-64 (three seeds) and 1-80 (the weights that ship), in the background over hours;
- ``ablation``: the same on subjects 1-80 by masked tokens, and by masked tokens and classes; the parts below then
  score these weights too;
- ``hands``: EEGMMIDB, imagined left or right fist, subjects 65-80, weights of subjects 1-64: without a label of the
  target, and with 20; ``wide``: the same in 4-38 Hz;
- ``bnci``: BNCI2014004, subjects 1-5, session 4, 30 % to learn from, three seeds, as in the MIRepNet paper;
- ``grasp``: OpenNeuro ds003810, subjects 2-7, 30 labelled trials, the later runs scored;
- ``others``: the same, with the other five subjects as sources, the network fine-tuned or as pre-trained;
- ``simulated``: eight subjects of `SimulatedMotorImagery`, split as ``grasp``;
- ``times``: CPU seconds of one fit with the weights that ship, on 3 to 64 electrodes.

For every pipeline, trials to learn from and trials to score are each whitened by their own mean covariance, as
published (transductive); those of ``grasp``, ``others`` and ``simulated`` by that of the 30. The same holds for the
recentring of the tangent space, in each band. A fit of ``readout="both"`` also gives the scores of its parts: network
alone (mirrored, where classes are left and right hand), tangent space alone, both without the fine-tuned network; and,
"balanced", the score with the threshold at which both classes are equally frequent among the scored trials, in
``others`` also among those of each run (transductive; `skeeg.evaluations.BalancedTarget`).

Settings were chosen on EEGMMIDB 49-64 (trained on 1-48), on BNCI2014004 1-2, on ds003810 2-5, and on simulated
subjects of another seed.

Run: ``python benchmarks/pretraining.py [PART ...] --folder FOLDER``; recordings are looked for in ``$SKEEG_DATA``.
Scores are added to ``benchmarks/results/pretraining_<part>.csv`` as they come, and what is there is not computed again.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import functools
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

RESULTS = Path(__file__).parent / "results"
RATE, BAND, BANDS = 100.0, (8.0, 30.0), ((8.0, 30.0), (4.0, 38.0))


def load_hands(subjects, classes=("left_hand", "right_hand"), band=BAND):
    """Imagined movements of some subjects of EEGMMIDB."""
    from skeeg.datasets import PhysionetMotor, load_arrays

    dataset = PhysionetMotor(classes=classes)
    return load_arrays(dataset, fmin=band[0], fmax=band[1], tmax=4.0, resample=RATE, subjects=list(subjects))


OBJECTIVES = {
    "supervised": {},
    "hybrid": {"rec_weight": 0.05},
    "masked": {"rec_weight": 1.0, "cls_weight": 0.0},
}
"""Settings of the pre-training for the ablation; the first is what ships."""


def name_file(folder, last, seed, objective="supervised"):
    """File of weights, or pattern of the files of all seeds."""
    size = "small" if objective == "supervised" else f"small-{objective}"
    return folder / f"mirepnet-{size}-1-{last}-seed{seed}.safetensors"


def pretrain(last, seed, folder, objective="supervised"):
    """Pre-train on subjects 1 to ``last``, each in two bands; a run that was cut short goes on. Give the file."""
    from skeeg import MIRepNetPretrainer
    from skeeg.methods.mirepnet.pretraining import SIZES

    file = name_file(folder, last, seed, objective)
    if not file.is_file():
        classes = ("left_hand", "right_hand", "rest")
        bands = [load_hands(range(1, last + 1), classes, band) for band in BANDS]
        pretrainer = MIRepNetPretrainer(
            SIZES["small"], recipe={"name": "montages"} | OBJECTIVES[objective], resample=RATE, random_state=seed,
            device="cpu", run_file=str(file.with_suffix(".run")),
        ).fit([X for X, _ in bands], [y for _, y in bands])  # fmt: skip
        pretrainer.save_checkpoint(file)
        print(file.name, pretrainer.history_[-1], flush=True)
    return file


# Comparison

PRETRAINED = "MIRepNet, pre-trained"
BOTH, KEPT = f"{PRETRAINED}, fine-tuned, both", f"{PRETRAINED}, not fine-tuned, both"


def find_file(folder, last, seed, objective="supervised"):
    """Weights of a seed of the pre-training."""
    file = name_file(folder, last, seed, objective)
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing; run the part train, or ablation, first.")
    return str(file)


def make_arms(folder, part, last):
    """Give the pipelines by name: a function of the seed to an unfitted one."""
    from skeeg import FineTunedClassifier, MIRepNetClassifier, baseline
    from skeeg.bench.evaluation import set_seed_and_device
    from skeeg.methods.mirepnet.pretraining import FINETUNING, SIZES

    few = {"name": "mirepnet-fork"} | FINETUNING
    none = {"strategy": "head", "learning_rate": 0.0, "max_epochs": 1}  # the network stays as it is

    def mirepnet(seed, objective=None, recipe="default", readout="network", **settings):
        file = objective and find_file(folder, last, seed, objective)
        return MIRepNetClassifier(
            file, resample=RATE, network_params=SIZES["small"], recipe=recipe, readout=readout, random_state=seed,
            **{"align": "own" if SPLITS[part] is split_runs else "block"} | settings,
        )  # fmt: skip

    def with_sources(seed, n_updates=120, **settings):
        sources = few | {"n_updates": 150, "learning_rate": 1e-3}
        network = mirepnet(seed, "supervised", sources, "both", **{"align": "calibration"} | settings)
        return set_seed_and_device(FineTunedClassifier(network, n_updates=n_updates), seed, "cpu")

    if part == "others":
        return {KEPT: lambda seed: with_sources(seed, 1, **none), BOTH: with_sources}

    arms = {
        "CSP+LDA": lambda seed: baseline("CSP+LDA", align=False),
        "TS+LR": lambda seed: baseline("TS+LR", align=False),
        "MIRepNet, from scratch": mirepnet,
        "MIRepNet, pre-trained, no labels": lambda seed: mirepnet(seed, "supervised", readout="pretrained"),
        BOTH: lambda seed: mirepnet(seed, "supervised", few, "both"),
        "MIRepNet, from scratch, shifts": lambda seed: mirepnet(seed, recipe=few | {"learning_rate": 1e-3}),
    }
    if part != "grasp":  # there nothing is mirrored, and it is a part of the next
        arms[f"{PRETRAINED}, fine-tuned"] = lambda seed: mirepnet(seed, "supervised", few)
    for objective in ("masked", "hybrid"):
        if name_file(folder, last, 0, objective).is_file():
            arms[f"MIRepNet, pre-trained, {objective}, fine-tuned"] = functools.partial(
                mirepnet, objective=objective, recipe=few
            )
    return {name: (lambda seed, make=make: set_seed_and_device(make(seed), seed, "cpu")) for name, make in arms.items()}


def split_hands(X, seed):
    """First 20 trials to learn from, the others to score."""
    return np.arange(20), np.arange(20, len(X))


def split_bnci(X, seed):
    """Draw 30 % of the session to learn from, as in the paper."""
    from sklearn.model_selection import train_test_split

    return train_test_split(np.arange(len(X)), test_size=0.7, random_state=666 + seed)


def split_runs(X, seed):
    """First 30 trials to learn from, those of later runs to score."""
    runs = X.domains["run"]
    return np.arange(30), np.flatnonzero(runs != runs[0])


def load(part):
    """Trials of a part, and the last subject of EEGMMIDB that its weights may have seen."""
    from skeeg.datasets import GraspImagery, LocalDataset, SimulatedMotorImagery, load_arrays

    filters = {"fmin": BAND[0], "fmax": BAND[1], "resample": RATE}
    if part in ("hands", "wide"):
        return *load_hands(range(65, 81), band=BANDS[part == "wide"]), 64
    if part == "simulated":
        dataset = SimulatedMotorImagery(n_subjects=8, n_sessions=1, n_runs=3, n_trials=40, seed=0)
        return *load_arrays(dataset, tmax=4.0, **filters), 80
    if part in ("grasp", "others"):
        return *load_arrays(GraspImagery(), tmax=4.0, **filters), 80
    folder = Path(os.environ["SKEEG_DATA"]) / "bciciv2b"
    # sessions are counted from 0
    X, y = load_arrays(LocalDataset(folder, classes=("left_hand", "right_hand"), sessions=[3]), tmax=3.5, **filters)
    return X, y, 80


SPLITS = {"hands": split_hands, "wide": split_hands, "bnci": split_bnci}
SPLITS |= dict.fromkeys(("grasp", "others", "simulated"), split_runs)


def align(X, reference=None):
    """Whiten trials by their own mean covariance, as published, or by that of others."""
    from skeeg import EuclideanAlignment

    return EuclideanAlignment().fit(X if reference is None else reference).transform(X)


def fit_and_score(name, model, part, X, y, own, seed):
    """Fit a pipeline for the trials ``own`` of a subject; give its accuracy, and those of its parts, by name."""
    train, test = SPLITS[part](X[own], seed)
    trials, labels = X[own], y[own]
    if part == "others":
        model.fit(X[~own], y[~own], X_target_labeled=trials[train], y_target_labeled=labels[train])
        model = model.estimator_
    elif name.startswith("MIRepNet"):  # it aligns by itself
        model.fit(trials[train], labels[train])
    else:
        model.fit(align(trials[train]), labels[train])
        trials = align(trials, trials[train] if SPLITS[part] is split_runs else trials[test])
    found = model.predict_proba(trials[test])
    parts = {name: found, f"{name}, balanced": balance(np.log(found + 1e-12))}
    if part == "others":
        parts[f"{name}, balanced by run"] = balance(np.log(found + 1e-12), trials[test].domains["run"])
    if name == BOTH:
        parts |= list_parts(model, part, trials[train], labels[train], trials[test])
    return {one: np.mean(model.classes_[parts[one].argmax(axis=1)] == labels[test]) for one in parts}


def list_parts(model, part, X, y, X_test):
    """Scores of classes, by name, of parts of a fitted ``readout="both"``."""
    from skeeg.tangentspace import TangentReadout

    prepared = model._preprocess(X_test)
    name = f"{PRETRAINED}, fine-tuned" + ("" if model.mirror_ is None else ", mirrored")
    parts = {name: model._logits(model.network_, prepared)}
    if part != "others":
        parts[KEPT] = model._start_logits(prepared) + model.readout_.logits(X_test)
        tangent = TangentReadout(model.align, model.domain, model.readout_.mirror)
        tangent.fit(X, np.searchsorted(model.classes_, y), np.zeros((len(X), len(model.classes_))))
        parts["MIRepNet, tangent space alone"] = tangent.logits(X_test)
    return parts


def balance(logits, runs=None):
    """Move the threshold of two classes until both have the same mean probability, as `BalancedTarget` does.

    With ``runs`` (n_trials,), each run has a threshold of its own.
    """
    from scipy.optimize import brentq
    from scipy.special import expit

    moved, runs = logits[:, 1] - logits[:, 0], np.zeros(len(logits)) if runs is None else runs
    for run in np.unique(runs):
        rows = runs == run
        moved[rows] -= brentq(lambda shift, own=moved[rows]: expit(own - shift).mean() - 0.5, -99, 99)
    return np.stack([-moved, moved], axis=1)


def compare(part, folder, pipelines="", n_seeds=3):
    """Score the pipelines whose name holds a text on every subject with every seed; write each score down at once."""
    file = RESULTS / f"pretraining_{part}.csv"
    table = pd.read_csv(file, dtype={"subject": str}) if file.is_file() else pd.DataFrame()
    done = set() if table.empty else set(zip(table["pipeline"], table["subject"], table["seed"], strict=True))
    X, y, last = load(part)
    arms = {name: make for name, make in make_arms(folder, part, last).items() if pipelines in name}
    for seed in range(n_seeds):
        for name, make in arms.items():
            for subject in dict.fromkeys(X.domains["subject"].tolist()):
                if (name, subject, seed) in done:
                    continue
                found = fit_and_score(name, make(seed), part, X, y, X.domains["subject"] == subject, seed)
                rows = [
                    {"pipeline": one, "subject": subject, "seed": seed, "score": round(float(score), 4)}
                    for one, score in found.items()
                    if (one, subject, seed) not in done
                ]
                table = pd.concat([one for one in (table, pd.DataFrame(rows)) if len(one)], ignore_index=True)
                table.to_csv(file, index=False)
    return table


def measure_times():
    """CPU seconds of one core to fine-tune the weights that ship on 60 trials of 4 s, by number of electrodes."""
    import time

    from skeeg import EEGArray, MIRepNetClassifier
    from skeeg.montage import MONTAGES, TEMPLATES

    names = {3: ("C3", "Cz", "C4"), 15: TEMPLATES["mirepnet45"][::3], 22: tuple(MONTAGES["BNCI2014001"].split())}
    names[64] = (
        *TEMPLATES["mirepnet45"],
        *"Fp1 Fpz Fp2 AF7 AF3 AFz AF4 AF8 FT9 FT10 T9 T10 PO7 PO3 POz PO4 PO8 O1 Oz".split(),
    )
    rows, rng = [], np.random.default_rng(0)
    for n, montage in names.items():
        X = EEGArray(rng.standard_normal((60, n, 640)).astype("float32"), montage, 160.0)
        start = time.process_time()
        clf = MIRepNetClassifier("skeeg:mirepnet-small", device="cpu", random_state=0)
        clf.fit(X, np.resize(["left_hand", "right_hand"], 60)).predict(X[:1])
        rows.append({"electrodes": n, "CPU seconds": round(time.process_time() - start, 1)})
    return pd.DataFrame(rows)


def summarise(table):
    """Mean accuracy over subjects, and its spread over them and over seeds."""
    means = table.groupby(["pipeline", "seed", "subject"])["score"].mean()
    rows = []
    for name in dict.fromkeys(table["pipeline"]):
        by_subject, by_seed = means[name].groupby("subject").mean(), means[name].groupby("seed").mean()
        spread = {"sd over subjects": f"{by_subject.std():.3f}", "sd over seeds": f"{by_seed.std():.3f}"}
        rows.append({"pipeline": name, "accuracy": f"{by_subject.mean():.3f}", **spread})
    return pd.DataFrame(rows)


def main():
    """Run the parts asked for and print what they found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", default=["train", "hands", "wide", "bnci", "grasp", "simulated", "others"])
    parser.add_argument("--folder", type=Path, required=True, help="where the weights and runs are kept")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--pipelines", default="", metavar="TEXT", help="only those whose name holds this text")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    options.folder.mkdir(parents=True, exist_ok=True)
    for part in options.parts:
        if part == "train":
            for seed in range(options.seeds):
                for last in (64, 80):
                    pretrain(last, seed, options.folder)
        elif part == "ablation":
            for seed in range(options.seeds):
                for objective in OBJECTIVES:
                    pretrain(80, seed, options.folder, objective)
        elif part == "times":
            print(f"{measure_times().to_string(index=False)}\n", flush=True)
        else:
            table = summarise(compare(part, options.folder, options.pipelines, options.seeds))
            print(f"## {part}\n\n{table.to_string(index=False)}\n", flush=True)


if __name__ == "__main__":
    main()
