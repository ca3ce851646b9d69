"""Explanations: do they sum up, what do they cost, and do they find what is there.

Parts, each of which can be run alone:

- ``table``: completeness error and milliseconds a trial of every network of the registry that can be built small, by
  every method, beside shap's own explainers (and captum's, where it is installed), which run as they come;
- ``truth``: trials whose informative electrodes, band and time are known, the networks of the default methods, with
  right labels and with labels at random; then simulated subjects, whose sources spread over the scalp;
- ``real``: subject 1 of the EEG Motor Movement/Imagery Database, both fists against both feet.

Run: ``python benchmarks/explain.py [PART ...]``; recordings are looked for in ``$SKEEG_DATA``. Rows go to
``benchmarks/results/explain.csv`` as soon as they are known, and a run that was cut off goes on from there; the page
``explain.md`` is made from them. One thread; times are of the processor.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import csv
import importlib.util
import re
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
RESULTS = HERE / "results"
ROWS = RESULTS / "explain.csv"
FIELDS = ("part", "case", "what", "value", "ms", "note")
OURS = ("expected_gradients", "integrated_gradients", "deep_shap")
OTHERS = ("shap Deep", "shap Gradient, 200 draws")
CAPTUM = ("captum IntegratedGradients", "captum DeepLiftShap", "captum GradientShap")
TOLERANCE = 1e-5


def read_rows(part):
    """Rows of a part that are known already, by case and what."""
    if not ROWS.exists():
        return {}
    with ROWS.open(newline="") as file:
        return {(row["case"], row["what"]): row for row in csv.DictReader(file) if row["part"] == part}


def add_row(part, case, what, value, ms="", note=""):
    """Write a row down at once."""
    RESULTS.mkdir(exist_ok=True)
    new = not ROWS.exists()
    with ROWS.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if new:
            writer.writerow(FIELDS)
        writer.writerow([part, case, what, value, ms, note])
    print(f"{part}: {case}, {what}: {value} {ms} {note}", flush=True)


# --- Completeness and cost


def small_networks():
    """Every network at the smallest shape that the tests build it at, and those that are left out, with reasons."""
    path = HERE.parent / "tests" / "test_gradients.py"
    spec = importlib.util.spec_from_file_location("test_gradients", path)
    tests = sys.modules["test_gradients"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tests)
    return tests.CASES, tests.EXCLUDED, tests.ELECTRODES


def trained(name, case, electrodes, n_epochs=3):
    """Train a network a little on noise with a loud electrode: weights must have moved from where they started."""
    from skeeg import EEGArray, NetworkClassifier

    n_chans = next(n for n in (8, 16, 32, 1) if case.takes(n))
    rng = np.random.default_rng(0)
    y = np.tile([0, 1], 12)
    data = 10 * rng.normal(size=(24, n_chans, case.n_times))
    data[y == 1, n_chans // 2] *= 2
    X = EEGArray(data, electrodes[:n_chans], case.sfreq)
    settings = {"max_epochs": n_epochs, "batch_size": 8, "random_state": 0, "device": "cpu"}
    return NetworkClassifier(name, case.parameters or None, **settings).fit(X, y), X


def by_skeeg(method, net, trials, background):
    """Largest error and seconds of one of skeeg's methods."""
    from skeeg.explain import attribute

    start = time.process_time()
    found = attribute(
        net, trials, background, method, 0, TOLERANCE, output="logit", on_error="ignore", max_evaluations=1500
    )
    return found.error.max(), time.process_time() - start


def by_others(method, net, trials, background):
    """Largest error and seconds of a plain explainer on the plain network, its first output alone."""
    import torch

    class First(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = net.module_

        def forward(self, x):
            out = self.network(x)
            return (out[0] if isinstance(out, tuple) else out).reshape(len(x), -1)[:, :1]

    module = First().eval()
    x, others = (torch.from_numpy(np.array(net._prepare(part)[0])) for part in (trials, background))
    with torch.no_grad():
        f, base = module(x)[:, 0].numpy(), module(others)[:, 0].numpy()
    start = time.process_time()
    sums = np.asarray(_RUN[method](module, x, others)).reshape(len(x), -1).sum(axis=1)
    spent = time.process_time() - start
    return np.abs(sums - (f - base.mean())).max() / np.ptp(np.concatenate([f, base])), spent


def _shap_deep(module, x, others):
    import shap

    return shap.DeepExplainer(module, others).shap_values(x, check_additivity=False)


def _shap_gradient(module, x, others):
    import shap

    return shap.GradientExplainer(module, others).shap_values(x, nsamples=200, rseed=0)


def _captum(name, **settings):
    def run(module, x, others):
        import captum.attr

        method = getattr(captum.attr, name)(module)
        if name == "IntegratedGradients":  # of the mean over the background trials, as expected gradients are
            return sum(method.attribute(x, other[None], **settings) for other in others).detach() / len(others)
        return method.attribute(x, others, **settings).detach()

    return run


_RUN = {
    "shap Deep": _shap_deep,
    "shap Gradient, 200 draws": _shap_gradient,
    "captum IntegratedGradients": _captum("IntegratedGradients", n_steps=32),
    "captum DeepLiftShap": _captum("DeepLiftShap"),
    "captum GradientShap": _captum("GradientShap", n_samples=20),
}


def table(n_trials=2, n_background=3):
    """Completeness error and cost of every network by every method."""
    cases, excluded, electrodes = small_networks()
    methods = OURS + OTHERS + (CAPTUM if importlib.util.find_spec("captum") else ())
    known = read_rows("table")
    for name, case in sorted(cases.items()):
        todo = [method for method in methods if (name, method) not in known]
        if not todo:
            continue
        try:
            net, X = trained(name, case, electrodes)
        except Exception as error:  # noqa: BLE001 - a network may refuse to be trained in any way it likes
            for method in todo:
                add_row("table", name, method, "not trained", note=_first_line(error))
            continue
        for method in todo:
            run = by_skeeg if method in OURS else by_others
            try:
                error, spent = run(method, net, X[:n_trials], X[n_trials : n_trials + n_background])
                add_row("table", name, method, f"{error:.2g}", f"{1e3 * spent / n_trials:.0f}")
            except Exception as error:  # noqa: BLE001 - so may an explainer refuse a network
                add_row("table", name, method, type(error).__name__, note=_first_line(error))
    for name, reason in sorted(excluded.items()):
        if (name, "left out") not in known:
            add_row("table", name, "left out", "", note=reason)


def _first_line(error):
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]


# --- Known truth

CAP = ("Fz", "FC3", "FC1", "FCz", "FC2", "FC4", "C5", "C3", "C1", "Cz", "C2", "C4", "C6",
       "CP3", "CP1", "CPz", "CP2", "CP4", "P1", "Pz", "P2", "POz")  # fmt: skip
TELLING = ("FC1", "C3", "C6", "CP2", "P1")


def bursts(seed, n_trials=160, n_times=300, sfreq=100.0):
    """Bursts of 10 Hz in the second half of a trial: by class at the telling electrodes, at random at the others."""
    from skeeg import EEGArray

    rng = np.random.default_rng(seed)
    y = np.tile([0, 1], n_trials // 2)
    present = rng.integers(0, 2, size=(n_trials, len(CAP)))
    present[:, np.isin(CAP, TELLING)] = y[:, None]
    times = np.arange(n_times)
    wave = np.sin(2 * np.pi * 10 * times / sfreq + rng.uniform(0, 2 * np.pi, size=(n_trials, len(CAP), 1)))
    data = rng.normal(size=(n_trials, len(CAP), n_times)) + 2 * present[..., None] * wave * (times >= n_times // 2)
    return EEGArray(data, CAP, sfreq), y


def networks():
    """Networks of the default methods, made small, each with the alignment that belongs to it."""
    from sklearn.pipeline import make_pipeline

    from skeeg import CTAdaptTLClassifier, EuclideanAlignment, MIRepNetClassifier, NetworkClassifier

    common = {"batch_size": 16, "random_state": 0, "device": "cpu"}

    def aligned(name, parameters, n_epochs, learning_rate):
        settings = {"max_epochs": n_epochs, "learning_rate": learning_rate} | common
        return make_pipeline(EuclideanAlignment(), NetworkClassifier(name, parameters, **settings))

    pools = {"filter_length": 13, "pool_length": 50, "pool_stride": 10}
    small = {"embed_dim": 32, "n_layers": 1, "n_heads": 4, "n_filters_time": 16, "n_filters": 16, **pools}
    return {
        "ShallowConv": aligned("ShallowFBCSPNet", {"n_filters_time": 16, "n_filters_spat": 16}, 30, 5e-3),
        "EEGNet": aligned("EEGNet", {"kernel_length": 32}, 30, 5e-3),
        "Conformer": aligned("EEGConformer", {"num_layers": 1, "n_filters_time": 16, "num_heads": 4}, 30, 2e-3),
        "CT-adaptTL": CTAdaptTLClassifier("specific", network_params={"n_filters": 16, "n_hidden": 32, **pools},
                                          specific_params={"max_epochs": 40, "learning_rate": 2e-3, "batch_size": 16},
                                          random_state=0, device="cpu"),
        "MIRepNet": MIRepNetClassifier(template=None, resample=None, max_epochs=30, learning_rate=2e-3,
                                       network_params=small, **common),
    }  # fmt: skip


def at_random(y, seed=0):
    """Labels that know nothing of the right ones: half of each class is relabelled."""
    rng, other = np.random.default_rng(seed), np.array(y)
    for label in np.unique(y):
        rows = rng.permutation(np.flatnonzero(y == label))
        other[rows[: len(rows) // 2]] = np.unique(y)[0] if label != np.unique(y)[0] else np.unique(y)[1]
    return other


def measure(estimator, X, y, X_new, y_new, telling):
    """Accuracy on new trials, and areas under the precision-recall curve of the telling electrodes."""
    from sklearn.metrics import average_precision_score

    from skeeg.explain import attribute

    estimator.fit(X, y)
    found = attribute(estimator, X_new[:24], X[:10], tolerance=1e-3, bands=((7, 13), (13, 30)))
    samples = np.abs(found.values).mean(axis=(0, 2))  # for comparison
    areas = [average_precision_score(telling, one) for one in (found.importance(), samples)]
    bands = {name: np.abs(one).mean() for name, one in found.per_band().items()}
    halves = found.bins(2).importance("time")
    shares = bands["7-13 Hz"] / sum(bands.values()), halves[1] / halves.sum()
    return (np.mean(estimator.predict(X_new) == y_new), *areas, *shares)


def truth():
    """Electrodes, band and time that are known, with right and with random labels."""
    known = read_rows("truth")
    X, y = bursts(0)
    X_new, y_new = bursts(1, 80)
    for name, estimator in networks().items():
        for what, labels in (("right labels", y), ("random labels", at_random(y))):
            if (name, what) not in known:
                found = measure(estimator, X, labels, X_new, y_new, np.isin(CAP, TELLING))
                add_row("truth", name, what, " ".join(f"{one:.2f}" for one in found))


def simulated_subjects(subjects=(1, 3)):
    """Measure on simulated subjects, whose sources spread over the scalp."""
    from skeeg.datasets import SimulatedMotorExecution, load_arrays

    known = read_rows("subjects")
    dataset = SimulatedMotorExecution(n_subjects=8, n_sessions=1, n_runs=4)
    for subject in subjects:
        cut = {"fmin": 8, "fmax": 30, "tmin": 0.5, "tmax": 3.5, "resample": 100.0}
        X, y = load_arrays(dataset, subjects=[subject], **cut)
        telling = np.isin(X.ch_names, dataset.truth(subject).electrodes)
        half = np.arange(len(X)) % 4 < 3
        for name, estimator in networks().items():
            for what, labels in (("right labels", y), ("random labels", at_random(y))):
                if (f"{name}, subject {subject}", what) not in known:
                    found = measure(estimator, X[half], labels[half], X[~half], y[~half], telling)
                    numbers = " ".join(f"{one:.2f}" for one in (*found, telling.mean()))
                    add_row("subjects", f"{name}, subject {subject}", what, numbers)


# --- A recorded subject

SHALLOW = {"n_filters_time": 20, "n_filters_spat": 20, "filter_time_length": 13, "pool_time_length": 60,
           "pool_time_stride": 20}  # fmt: skip
CENTRAL = re.compile(r"(FC|C|CP)(\d|z)$")


def fists_and_feet():
    """Trials of both tasks as one run, not filtered, so that the explanation has to go back through the filter."""
    from skeeg.array import make_domains
    from skeeg.datasets import PhysionetMotor, load_arrays

    parts = [
        load_arrays(PhysionetMotor(task=task, classes=("hands", "feet"), subjects=[1]), tmin=0.5, tmax=3.5, resample=80)
        for task in ("execution", "imagery")
    ]
    X = np.concatenate([X for X, _ in parts])
    return X.like(np.asarray(X), domains=make_domains(len(X), "1")), np.concatenate([y for _, y in parts])


def explained_folds(X, y, align, labels=None, n_folds=3):
    """Explain every trial by a network that has not seen it; attributions, accuracy and largest error."""
    from sklearn.model_selection import StratifiedKFold
    from sklearn.pipeline import make_pipeline

    from skeeg import AverageReference, BandPass, EuclideanAlignment, NetworkClassifier
    from skeeg.explain import attribute

    labels, parts, right, worst = y if labels is None else labels, [], np.empty(len(X), dtype=bool), 0.0
    for train, test in StratifiedKFold(n_folds, shuffle=True, random_state=0).split(X, y):
        network = NetworkClassifier("ShallowFBCSPNet", SHALLOW, recipe={"name": "convolutional", "weight_decay": 0.3},
                                    max_epochs=100, learning_rate=2e-3,
                                    batch_size=16, random_state=0, device="cpu")  # fmt: skip
        steps = [AverageReference(), BandPass(8, 30, method="iir")] + (
            [EuclideanAlignment(floor=1e-3)] if align else []
        )
        pipeline = make_pipeline(*steps, network).fit(X[train], labels[train])
        right[test] = pipeline.predict(X[test]) == y[test]
        found = attribute(pipeline, X[test], X[train], n_background=8, tolerance=1e-3, target=y[test])
        parts.append((test, found))
        worst = max(worst, found.error.max())
    values = np.concatenate([found.values for _, found in parts])
    values = values[np.argsort(np.concatenate([test for test, _ in parts]))]
    return replace(found, values=values, data=np.asarray(X), target=y, domains=None), right.mean(), worst


def real():
    """Fists against feet: which electrodes carry it, by three ways to sum up; and the pictures."""
    from skeeg.explain import plot_image, plot_topomap

    X, y = fists_and_feet()
    central = [i for i, name in enumerate(X.ch_names) if CENTRAL.match(name)]
    known = read_rows("real")
    cases = {"average reference, 8-30 Hz": (False, None), "and Euclidean alignment": (True, None),
             "random labels": (False, at_random(y))}  # fmt: skip
    for case, (align, labels) in cases.items():
        if (case, "classes") in known:
            continue
        start = time.process_time()
        found, accuracy, worst = explained_folds(X, y, align, labels)
        spent = f"{1e3 * (time.process_time() - start) / len(X):.0f}"
        maps = {label: one.sum(axis=1) for label, one in found.by_class().items()}
        ways = {
            "samples": np.abs(found.values).mean(axis=(0, 2)),
            "importance": found.importance(),
            "classes": np.mean([np.abs(one) for one in maps.values()], axis=0),
        }
        for way, one in ways.items():
            top = " ".join(X.ch_names[i] for i in np.argsort(-one)[:8])
            numbers = f"{accuracy:.2f} {one[central].sum() / one.sum():.2f} {len(central) / len(one):.2f} {worst:.1e}"
            add_row("real", case, way, numbers, spent, top)
        if case == next(iter(cases)):
            title = f"EEGMMIDB S001, fists against feet, held-out accuracy {accuracy:.2f}"
            save(plot_topomap(maps, X.ch_names, unit="attribution, summed over time"), title, "topomap")
            shares = {way: ways[way] / ways[way].max() for way in ("samples", "importance")}
            save(plot_topomap(shares, X.ch_names, unit="mean size, of the largest"), title, "ways")
            courses = {label: one[central] for label, one in found.by_class().items()}
            save(plot_image(courses, [X.ch_names[i] for i in central], 3.0), title, "image")


def save(figure, title, name):
    """Write a figure with its title beside the results."""
    figure.suptitle(title, fontsize=10)
    figure.savefig(RESULTS / f"explain_{name}.png", dpi=110)


# --- The page


def render():
    """Make the page of results from the rows."""
    page = ["# Explanations", "", "Made by `python benchmarks/explain.py`; the rows are in `explain.csv`. One thread."]
    for write in (_page_table, _page_truth, _page_subjects, _page_real):
        page += write()
    (RESULTS / "explain.md").write_text("\n".join(page) + "\n")


def _grid(header, rows):
    return [
        "| " + " | ".join(header) + " |",
        "|---" * len(header) + "|",
        *("| " + " | ".join(row) + " |" for row in rows),
    ]


def _page_table():
    rows = read_rows("table")
    if not rows:
        return []
    methods = [method for method in OURS + OTHERS + CAPTUM if any(what == method for _, what in rows)]
    names = list(dict.fromkeys(case for case, what in rows if what != "left out"))
    lines, refused = [], []
    for name in names:
        cells = []
        for method in methods:
            row = rows.get((name, method))
            cells.append("" if row is None else f"{row['value']}, {row['ms']} ms" if row["ms"] else row["value"])
            if method in OURS and row and row["ms"] and float(row["value"]) > TOLERANCE:
                cells[-1] += " (raises)"
            if row and row["note"] and method == OURS[0]:
                refused.append(f"- {name}: {row['note']}")
        lines.append([name, *cells])
    errors = [error for name in names if 0 < (error := _error(rows, name, OURS[0])) < np.inf]  # 0: a constant output
    met = [error for error in errors if error <= TOLERANCE]
    other = "" if any(method in CAPTUM for method in methods) else " captum not installed."
    out = [f"- {name}: {row['note']}" for (name, what), row in rows.items() if what == "left out"]
    return [
        "", "## Completeness and cost", "",
        "Largest error of two trials against three background trials, relative to the range of the output, and",
        "milliseconds of the processor a trial, for one output of a network trained for a few updates at the smallest",
        "shape that the tests build it at. The first three columns are skeeg's (tolerance 1e-5, at most 1500",
        "gradients a line; above the tolerance `attribute` raises); shap 0.51 runs as it comes." + other, "",
        f"Expected gradients keep 1e-5 for {len(met)} of the {len(errors)} networks they run through;",
        "for the others `attribute` raises; a network whose output does not change counts with neither. Most of",
        "those have hundreds of kinks on a line (rectifiers, maxima), which cost more than 1500 gradients; why LUNA",
        "misses by so much is not known.", "",
        *_grid(("network", *methods), lines),
        *(["", "No explanation, and why:", "", *refused] if refused else []),
        *(["", "Not built:", "", *out] if out else []),
    ]  # fmt: skip


def _error(rows, name, method):
    row = rows.get((name, method))
    return float(row["value"]) if row and row["ms"] else np.inf


def _page_truth():
    rows = read_rows("truth")
    header = ("network", "labels", "accuracy on new trials", "electrodes, PR-AUC", "the same of sizes of samples",
              "share of 7-13 Hz", "share of the second half")  # fmt: skip
    return [
        "", "## Known truth", "",
        f"Bursts of 10 Hz in the second half of a trial: by class at {len(TELLING)} of {len(CAP)} electrodes,",
        "at random at the others. The whole pipeline is explained, alignment included. `importance` sums over the",
        "samples of an electrode before it takes the size; taking sizes first lets noise count (fifth column).", "",
        *_grid(header, [[name, what.split()[0], *row["value"].split()] for (name, what), row in rows.items()]),
    ] if rows else []  # fmt: skip


def _page_subjects():
    rows = read_rows("subjects")
    header = ("network", "labels", "accuracy on new trials", "electrodes, PR-AUC", "the same of sizes of samples",
              "share of 7-13 Hz", "share of the second half", "PR-AUC by chance")  # fmt: skip
    return [
        "", "## Simulated subjects", "",
        "Executed hand movements (`SimulatedMotorExecution`). Here the sources spread over the scalp; telling is what",
        "sees them at least half as well as the best electrode does. A network need not use all of them: where",
        "two electrodes tell the same, one is enough, and another may serve to take noise away.",
        "So the areas say how far a decoder's choice and the spread of the sources agree; nothing promises 1.", "",
        *_grid(header, [[name, what.split()[0], *row["value"].split()] for (name, what), row in rows.items()]),
    ] if rows else []  # fmt: skip


def _page_real():
    rows = read_rows("real")
    lines = []
    for (case, way), row in rows.items():
        accuracy, share, chance, error = row["value"].split()
        lines.append([case, way, accuracy, share, chance, error, row["ms"], row["note"].replace(" ", ", ")])
    header = ("case", "summed up", "held-out accuracy", "share of FC, C, CP", "by chance", "largest error",
              "ms a trial, training included", "electrodes")  # fmt: skip
    return [
        "", "## A recorded subject", "",
        "EEGMMIDB S001, both fists against both feet, executed and imagined together (90 trials, 64 electrodes).",
        "ShallowFBCSPNet behind average reference and 8-30 Hz; every trial is explained by a network that has not seen",
        "it (three folds), at the electrodes as recorded, unfiltered. Three ways to sum up: mean size of the samples;",
        "`importance`, mean size of the sum over a trial; size of the mean sum of each class, which is what the",
        "topomap shows with its sign. Slow waves and blinks at the forehead meet the network's 8-30 Hz gradient and",
        "cancel over a trial; only the first way counts them, the more so behind an alignment, whose matrix enlarges",
        "quiet directions.",
        "", *_grid(header, lines), "",
        "![Attribution of each class](explain_topomap.png)", "",
        "![Two ways to sum up](explain_ways.png)", "",
        "![Electrodes by time](explain_image.png)",
    ] if rows else []  # fmt: skip


PARTS = {"table": table, "truth": truth, "subjects": simulated_subjects, "real": real}


def main():
    """Run the parts."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", default=list(PARTS))
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for part in parser.parse_args().parts:
        PARTS[part]()
        render()


if __name__ == "__main__":
    main()
