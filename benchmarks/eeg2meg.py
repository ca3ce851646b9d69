"""Virtual MEG on simulated subjects, and what it is worth to a decoder: ``python benchmarks/eeg2meg.py map``.

Parts: ``map`` (models against each other), ``place`` (a new place of the head), ``decode`` (simulated classes),
``imagery`` (recorded grasps of ds003810, looked for in ``$SKEEG_DATA``), ``memory`` (training from a disk), ``picture``
(true beside predicted topographies), ``report`` (the tables). Results are appended to ``results/eeg2meg.csv``; what is
there already is not computed again, and ``--minutes`` ends a run early. Seeds 0 to 4 are scored; settings were chosen
on seed 1000.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import csv
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.pipeline import make_pipeline

from skeeg import CSP, BandPass, EEGToMEG
from skeeg.methods.eeg2meg import MEGSimulation

RESULTS = Path(__file__).parent / "results" / "eeg2meg.csv"
FIELDS = ("part", "seed", "condition", "model", "type", "r", "r2", "seconds")
SEEDS = range(5)
TRIPLETS = np.arange(306).reshape(102, 3)[::3].ravel()  # a third of the MEG sensors, for envelopes
NETWORK = {"max_epochs": 12, "device": "cpu", "random_state": 0}
MODELS = {
    "ridge": {"lags": 0},
    "ridge, 17 lags": {},
    "minimum norm": {"model": "minimum_norm"},
    "U-Net": {
        "model": "unet",
        "network_params": {"n_filters": 48, "dropout": 0.0},
        "recipe_params": {"learning_rate": 3e-3},
        **NETWORK,
    },
    "transformer": {"model": "transformer", "network_params": {"embed_size": 96}, **NETWORK},
}

MEMORY = {
    "ridge": {"lags": 0},
    "U-Net": {"model": "unet", "lags": None, "network_params": {"n_filters": 4, "lstm_hidden": 4}, "max_epochs": 1},
}


def rows_of(path=RESULTS):
    """Rows that are there already."""
    if not path.exists():
        return []
    with path.open() as file:
        return list(csv.DictReader(file))


class Recorder:
    """Computes what is not there yet, and stops when time is up."""

    def __init__(self, minutes):
        self.end = time.monotonic() + 60 * minutes
        self.done = {(row["part"], row["seed"], row["condition"], row["model"]) for row in rows_of()}

    def run(self, part, seed, condition, model, compute):
        """Compute one row for each sensor type, unless it is there."""
        if (part, str(seed), condition, model) in self.done:
            return
        if time.monotonic() > self.end:
            sys.exit("Time is up; run again to go on.")
        start = time.process_time()
        values = compute()
        seconds = time.process_time() - start
        RESULTS.parent.mkdir(exist_ok=True)
        new = not RESULTS.exists()
        with RESULTS.open("a", newline="") as file:
            writer = csv.DictWriter(file, FIELDS)
            if new:
                writer.writeheader()
            for kind, (r, r2) in values.items():
                cells = (part, seed, condition, model, kind, f"{r:.4f}", f"{r2:.4f}", f"{seconds:.1f}")
                writer.writerow(dict(zip(FIELDS, cells, strict=True)))
                print(*cells, flush=True)


def score(virtual, X, Y, **where):
    """Correlation and explained variance of each sensor type."""
    r, r2 = (virtual.score_per_type(X, Y, metric, **where) for metric in ("r", "r2"))
    return {kind: (r[kind], r2[kind]) for kind in r}


def runs(simulation, which, n_trials, position=0):
    """Several runs of one subject, one after the other."""
    parts = [simulation.trials(0, run, n_trials, position) for run in which]
    return tuple(np.concatenate([part[i] for part in parts]) for i in range(3))


def compare_models(recorder):
    """Learn from four runs of 40 seconds, test on one of a minute; the quick models first."""
    for names in (
        ("ridge", "ridge, 17 lags", "minimum norm", "shuffled pairs"),
        ("U-Net", "transformer", "wavelet U-Net"),
    ):
        for seed in SEEDS:
            for sources in ("bursting", "gaussian"):
                simulation = MEGSimulation(sources=sources, seed=seed)
                X, Y, _ = runs(simulation, range(4), 40)
                Xt, Yt, _ = simulation.trials(0, 9, 60)
                for name in names:
                    data = (X, Y, Xt, Yt, simulation.info(), seed)
                    recorder.run("map", seed, sources, name, lambda n=name, d=data: compare_model(n, *d))


def compare_model(name, X, Y, Xt, Yt, info, seed):
    """Score one model of the map."""
    if name == "wavelet U-Net":
        types = tuple(np.array(["grad", "grad", "mag"])[TRIPLETS % 3])
        virtual = EEGToMEG("wavelet_unet", lags=0, joined=True, meg_types=types, **NETWORK)
        return score(virtual.fit(X, Y[:, TRIPLETS]), Xt, Yt[:, TRIPLETS])
    if name == "shuffled pairs":
        name, Y = "ridge", Y[np.random.default_rng(seed).permutation(len(Y))]
    return score(EEGToMEG(**MODELS[name]).fit(X, Y, geometry=info), Xt, Yt)


def compare_places(recorder):
    """Six places of the head to learn from, three others to test."""
    for seed in SEEDS:
        simulation = MEGSimulation(seed=seed)
        parts = [simulation.trials(0, p, 40, p) for p in range(1, 7)]
        X, Y = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
        infos = [info for p in range(1, 7) for info in [simulation.info(p)] * 40]
        tests = [simulation.trials(0, p, 20, p) for p in range(11, 14)]
        Xt, Yt = (np.concatenate([part[i] for part in tests]) for i in (0, 1))
        there = [info for p in range(11, 14) for info in [simulation.info(p)] * 20]

        def compute(settings, X=X, Y=Y, infos=infos, Xt=Xt, Yt=Yt, there=there):
            return score(EEGToMEG(**settings).fit(X, Y, geometry=infos), Xt, Yt, geometry=there)

        for name in ("ridge", "minimum norm"):
            for knows in (False, True):
                if name == "minimum norm" and not knows:
                    continue  # it always knows
                settings = {**MODELS[name], "lags": 0, "positions": knows and name != "minimum norm"}
                label = "places known" if knows else "places not known"
                recorder.run("place", seed, label, name, lambda s=settings, f=compute: f(s))


def decoder():
    """Make the classifier of EEG and of MEG: principal components, common spatial patterns, linear discriminant."""
    from mne.decoding import UnsupervisedSpatialFilter

    return make_pipeline(UnsupervisedSpatialFilter(PCA(14)), CSP(6), LinearDiscriminantAnalysis())


def accuracy(Z, labels, groups):
    """Share of right trials, one group left out at a time."""
    Z, right = np.asarray(Z, dtype=np.float64), []
    for group in np.unique(groups):
        held = groups == group
        right.append(decoder().fit(Z[~held], labels[~held]).score(Z[held], labels[held]))
    return float(np.mean(right))


def compare_decoding(recorder):
    """Classes of the simulation, from EEG, from virtual MEG, and from the true MEG."""
    for seed in SEEDS:
        for sources in ("gaussian", "bursting"):
            simulation = MEGSimulation(sources=sources, seed=seed, classes=0.4)
            X, Y, _ = runs(simulation, range(6), 40)
            Xt, Yt, labels = runs(simulation, range(20, 24), 40)
            groups, info = np.repeat(np.arange(4), 40), simulation.info()
            arms = {"EEG": lambda Xt=Xt: Xt, "true MEG": lambda Yt=Yt: Yt / Yt.std(axis=(0, 2), keepdims=True)}
            for name in ("ridge", "minimum norm"):
                arms[f"virtual MEG, {name}"] = lambda s=MODELS[name], X=X, Y=Y, info=info, Xt=Xt: (
                    EEGToMEG(**s).fit(X, Y, geometry=info).transform(Xt)
                )
            for name, make in arms.items():
                recorder.run(
                    "decode", seed, sources, name,
                    lambda f=make, y=labels, g=groups: {"accuracy": (accuracy(f(), y, g), np.nan)},
                )  # fmt: skip


def compare_imagery(recorder):
    """Send recorded imagery through maps learned on a simulation with the same cap; leave one run out."""
    from skeeg.datasets import GraspImagery

    X, labels = GraspImagery(subjects=range(2, 8)).arrays(fmin=8, fmax=30, tmin=0.5, tmax=4.0, resample=128)
    X = X.like(np.asarray(X) - np.asarray(X).mean(axis=1, keepdims=True))
    simulation = MEGSimulation(seed=0, ch_names=X.ch_names, sfreq=128.0, n_times=448)
    E, M, _ = runs(simulation, range(6), 15)
    band = BandPass(8, 30, sfreq=128.0)
    E, M = E.like(np.asarray(band.fit_transform(E))), np.asarray(band.fit_transform(M * 1e12)) * 1e-12
    arms = {"EEG": lambda: X}
    for name in ("ridge", "minimum norm"):
        arms[f"virtual MEG, {name}"] = lambda s=MODELS[name]: (
            EEGToMEG(**s).fit(E, M, geometry=simulation.info()).transform(X)
        )
    for name, make in arms.items():
        Z = None
        for subject in np.unique(X.domains["subject"]):
            own = X.domains["subject"] == subject

            def compute(own=own, make=make):
                nonlocal Z
                Z = np.asarray(make()) if Z is None else Z
                return {"accuracy": (accuracy(Z[own], labels[own], X.domains["run"][own]), np.nan)}

            recorder.run("imagery", subject, "ds003810", name, compute)


def measure_memory(recorder, n_windows=27_500):
    """Train on memory maps of ten gigabytes, most of it holes in the file, and tell the largest resident memory."""
    simulation = MEGSimulation(n_times=275, sfreq=220.0)
    X, Y, _ = simulation.trials(n_trials=40)
    with tempfile.TemporaryDirectory() as folder:
        maps = []
        for name, data, n in (("eeg", X, 32), ("meg", Y, 306)):
            shape = (n_windows, n, 275)
            mapped = np.lib.format.open_memmap(Path(folder) / f"{name}.npy", "w+", np.float32, shape)
            mapped[:40] = data
            del mapped  # writes it
            maps.append([np.load(Path(folder) / f"{name}.npy", mmap_mode="r")])
        size = sum(one.nbytes for (one,) in maps) / 1e9
        for name, settings in MEMORY.items():
            start = time.monotonic()
            EEGToMEG(**settings, validation="block", sfreq=220.0, device="cpu", random_state=0).fit_runs(*maps)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
            print(f"{time.monotonic() - start:.0f} s elapsed")
            recorder.run("memory", 0, f"{size:.2f} GB", name, lambda p=peak: {"peak GB": (p, np.nan)})


def draw_picture(recorder):
    """Draw the evoked fields of the two classes, true beside predicted, for both types of sensors."""
    import matplotlib
    import mne

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    simulation = MEGSimulation(seed=0)
    X, Y, _ = runs(simulation, range(6), 60)
    info = simulation.info()
    virtual = EEGToMEG(**MODELS["ridge"]).fit(X, Y, geometry=info)
    Xt, Yt, _ = simulation.trials(0, 9, 60)
    figure, axes = plt.subplots(2, 4, figsize=(10, 5), layout="constrained")
    moments = [20, 70]
    for row, kind in enumerate(("mag", "grad")):
        for column, (name, data) in enumerate((("true", Yt), ("predicted", virtual.predict(Xt)))):
            evoked = mne.EvokedArray(data[7], virtual.info_meg_, verbose="error")
            for i, sample in enumerate(moments):
                axis = axes[row, 2 * i + column]
                evoked.plot_topomap(sample / 100, ch_type=kind, axes=axis, colorbar=False, show=False)
                axis.set_title(f"{kind}, {name}, {sample * 10} ms")
    path = RESULTS.with_name("eeg2meg_topomaps.png")
    figure.savefig(path, dpi=80)
    print(path.name)


def table(rows, conditions, kinds, metric):
    """Rows of a Markdown table: mean and spread over seeds."""
    models = dict.fromkeys(row["model"] for row in rows)
    for model in models:
        cells = [model]
        for condition in conditions:
            for kind in kinds:
                mine = [
                    row for row in rows if (row["model"], row["condition"], row["type"]) == (model, condition, kind)
                ]
                values = [float(row[metric]) for row in mine]
                cells.append(f"{np.mean(values):.3f} ± {np.std(values):.3f} ({len(values)})" if values else "")
        yield f"| {' | '.join(cells)} |"


def report(recorder):
    """Print the tables of what is there."""
    rows = rows_of()
    for part, conditions, kinds, metrics in (
        ("map", ("gaussian", "bursting"), ("mag", "grad"), ("r", "r2")),
        ("place", ("places not known", "places known"), ("mag", "grad"), ("r", "r2")),
        ("decode", ("gaussian", "bursting"), ("accuracy",), ("r",)),
        ("imagery", ("ds003810",), ("accuracy",), ("r",)),
    ):
        for metric in metrics:
            heads = [f"{condition}, {kind}" for condition in conditions for kind in kinds]
            print(f"\n{part}, {metric if kinds[0] != 'accuracy' else 'accuracy'}\n\n| model | {' | '.join(heads)} |")
            print("|---" * (len(heads) + 1) + "|")
            print("\n".join(table([row for row in rows if row["part"] == part], conditions, kinds, metric)))


PARTS = {
    "map": compare_models,
    "place": compare_places,
    "decode": compare_decoding,
    "imagery": compare_imagery,
    "memory": measure_memory,
    "picture": draw_picture,
    "report": report,
}


def main():
    """Run one part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--minutes", type=float, default=9.0, help="start nothing new after so many minutes")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    PARTS[arguments.part](Recorder(arguments.minutes))


if __name__ == "__main__":
    main()
