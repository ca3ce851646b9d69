"""CT-adaptTL: the time of its merged front end, and what adapting across tasks is worth.

Parts, each of which can be run alone:

- ``speed``: the merged and the plain front end, same weights, forward and backward, one thread, in turns in one
  process; the memory each needs at its peak, in a process of its own;
- ``simulated``: ten simulated subjects, from executed to imagined hand movement, their own execution among the source;
- ``strangers``: from the execution of ten simulated subjects to the imagery of sixty others, as the paper has it;
- ``fists``: subject 1 of the EEG Motor Movement/Imagery Database, both fists against both feet;
- ``hands``: subjects 1-16 of it, left against right fist, from the execution of fourteen others to 10 and 20 imagined
  trials of the subject, 25 others scored; three draws, each with a source network of another seed;
- ``grasp``: six subjects of OpenNeuro ds003810, from a little execution and the others' imagery to the subject's own.

The protocol is `skeeg.evaluations.CrossTaskEvaluation`; in ``hands`` one source network serves two subjects.
All settings are the defaults of `CTAdaptTLClassifier`; trials to predict are aligned by themselves
(``on_unseen="own"``), for every pipeline.

Run: ``python benchmarks/ct_adapttl.py [PART ...]``; recordings are looked for in ``$SKEEG_DATA``. Tables go to
``benchmarks/results/ct_adapttl``.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import copy
import itertools
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

RESULTS = Path(__file__).parent / "results" / "ct_adapttl"
RATE = 80.0  # hertz; enough for 8 to 30 Hz
BAND = {"fmin": 8, "fmax": 30, "tmin": 0.5, "tmax": 3.5, "resample": RATE}
SUBJECTS = {  # of the source, of the target
    "simulated": ({"n_subjects": 10, "seed": 0}, {"n_subjects": 10, "seed": 0}),
    "strangers": ({"n_subjects": 10, "seed": 1}, {"n_subjects": 60, "seed": 2}),
}
WAYS = {
    "adaptive": {},
    "adaptive, network alone": {"adapt_params": {"regression": False}},
    "adaptive, spatial filters": {"adapt_params": {"layers": "spatial", "regression": False}},
    "adaptive, interpolated": {"adapt_params": {"share": 0.5, "regression": False}},
    "independent": {"mode": "independent"},
    "specific": {"mode": "specific"},
}


def alternate(first, second, repeats):
    """Median seconds of two functions, called in turns."""
    times = np.empty((repeats, 2))
    for row in times:
        for column, function in enumerate((first, second)):
            start = time.perf_counter()
            function()
            row[column] = time.perf_counter() - start
    return np.median(times, axis=0)


def make_front(merge, n_trials=64, n_chans=20, n_times=1500):
    """Give a function that runs the front end forward and backward, and one that does so for the whole network."""
    import torch

    from skeeg.methods.ct_adapttl import CTAdaptTLNet

    torch.set_num_threads(1)
    torch.manual_seed(0)
    net, x = CTAdaptTLNet(2, n_chans, n_times=n_times), torch.randn(n_trials, n_chans, n_times)
    if not merge:
        net.front = lambda x: net.spatial(net.temporal(x.transpose(1, 2)[:, None]))[..., 0]

    def front():
        net.zero_grad()
        out = net.front(x)
        out.backward(torch.ones_like(out))

    def whole():
        net.zero_grad()
        net(x).logsumexp(1).sum().backward()

    return front, whole


def read_status(field):
    """Kilobytes that the kernel reports for this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(field)))


def report_peak(merge):
    """Print the megabytes that one forward and backward pass of the front end adds at its peak."""
    front, _ = make_front(merge)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = read_status("VmRSS")
    front()
    print((read_status("VmHWM") - before) / 1024)


def measure_speed(repeats=15):
    """Ratios of time and of memory, plain over merged."""
    plain, merged = make_front(False), make_front(True)
    rows = []
    for what, one, other in (("front end", plain[0], merged[0]), ("whole network", plain[1], merged[1])):
        one(), other()
        slow, fast = alternate(one, other, repeats)
        rows.append({"what": what, "plain": 1e3 * slow, "merged": 1e3 * fast, "ratio": slow / fast, "unit": "ms"})
    peaks = []
    for merge in (False, True):
        call = [sys.executable, __file__, "--peak", str(int(merge))]
        peaks.append(np.median([float(subprocess.run(call, capture_output=True, check=True).stdout) for _ in range(3)]))
    rows.append({"what": "peak memory of the front end", "plain": peaks[0], "merged": peaks[1],
                 "ratio": peaks[0] / peaks[1], "unit": "MB"})  # fmt: skip
    return pd.DataFrame(rows)


def make_classifier(memory, seed=0, **way):
    """CT-adaptTL with the settings of all parts."""
    from skeeg.methods.ct_adapttl import CTAdaptTLClassifier

    return CTAdaptTLClassifier(memory=memory, on_unseen="own", random_state=seed, device="cpu", **way)


def make_baselines():
    """CSP+LDA and tangent space + logistic regression on aligned trials, trained on source, target, and both."""
    from pyriemann.estimation import Covariances
    from pyriemann.tangentspace import TangentSpace
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    from skeeg.alignment import EuclideanAlignment
    from skeeg.evaluations import PooledTarget
    from skeeg.spatial import CSP

    heads = {
        "CSP+LDA": (CSP(n_components=6), LinearDiscriminantAnalysis()),
        "TS+LR": (Covariances("oas"), TangentSpace(), LogisticRegression(max_iter=1000)),
    }
    return {
        f"{name}, {use}": PooledTarget(make_pipeline(EuclideanAlignment(on_unseen="own"), *steps), use)
        for name, steps in heads.items()
        for use in ("source", "target", "both")
    }


def make_part(part):
    """Paradigm, dataset and protocol of a part."""
    from moabb.paradigms import LeftRightImagery, MotorImagery

    from skeeg.datasets import GraspImagery, PhysionetMotor, SimulatedMotorExecution, SimulatedMotorImagery
    from skeeg.evaluations import CrossTaskDataset
    from skeeg.montage import TEMPLATES

    if part in SUBJECTS:
        learnt, tested = ({"n_sessions": 1, "n_trials": 40, **who} for who in SUBJECTS[part])
        pair = SimulatedMotorExecution(n_runs=2, **learnt), SimulatedMotorImagery(n_runs=3, **tested)
        dataset = CrossTaskDataset(*pair, same_subjects=learnt == tested)
        return LeftRightImagery(**BAND, scorer="accuracy"), dataset, {"n_target": (10, 20, 40), "source": "all"}
    if part == "grasp":
        pair = GraspImagery(task="execution"), GraspImagery(task="imagery")
        events = ["right_hand", "rest"]
        channels, protocol = None, {"n_target": (0, 30), "source": "all", "others_target": True}
    else:
        events = ["hands", "feet"]
        pair = [PhysionetMotor(task=task, classes=tuple(events), subjects=[1]) for task in ("execution", "imagery")]
        channels, protocol = list(TEMPLATES["ct_adapttl20"]), {"n_target": (0, 15, 30), "source": "own"}
    paradigm = MotorImagery(events=events, n_classes=2, channels=channels, scorer="accuracy", **BAND)
    return paradigm, CrossTaskDataset(*pair, same_subjects=True), protocol


def read_hands():
    """Left and right fists of subjects 1-16, executed and imagined: trials, labels and subjects of each task."""
    from skeeg.array import EEGArray
    from skeeg.datasets import PhysionetMotor, load_arrays
    from skeeg.montage import TEMPLATES

    names, tasks = TEMPLATES["ct_adapttl20"], []
    for task in ("execution", "imagery"):
        data = PhysionetMotor(task=task, classes=("left_hand", "right_hand"), subjects=list(range(1, 17)))
        X, y = load_arrays(data, **BAND)
        picked = np.asarray(X, dtype=np.float32)[:, [X.ch_names.index(name) for name in names]]
        tasks.append((EEGArray(picked, names, X.sfreq), y, X.domains["subject"].astype(int)))
    return tasks


def evaluate_hands(folder, seeds=(0, 1, 2), sizes=(10, 20)):
    """Table as of `evaluate`: the sources of two subjects are the same, so that one network serves both."""
    from sklearn.base import clone

    from skeeg.array import make_domains

    (Xs, ys, source), (Xt, yt, target) = read_hands()
    baselines, rows = make_baselines(), []
    for first in range(1, 9):
        learnt = ~np.isin(source, (first, first + 8))
        given = Xs[learnt], ys[learnt], source[learnt]
        ready = {name: clone(one).fit(*given) for name, one in baselines.items() if one.use == "source"}
        for seed, subject in itertools.product(seeds, (first, first + 8)):
            network = make_classifier(str(Path(folder) / "networks"), seed).pretrain(*given)
            X, y = Xt[target == subject], yt[target == subject]
            order = np.random.default_rng([subject, seed]).permutation(len(y))
            order = order[np.argsort(pd.Series(y[order]).groupby(y[order]).cumcount(), kind="stable")]  # balanced
            test = np.sort(order[max(sizes) :])
            scored = X[test].like(X[test], domains=make_domains(len(test), subject="tested"))
            for k in sizes:
                few = np.sort(order[:k])
                fitted = {f"CT-adaptTL, {name}": copy.deepcopy(network).set_params(**way).fit(X[few], y[few])
                          for name, way in WAYS.items()} | ready  # fmt: skip
                for name in baselines.keys() - ready.keys():
                    labelled = {"X_target_labeled": X[few], "y_target_labeled": y[few]}
                    fitted[name] = clone(baselines[name]).fit(*given, **labelled)
                rows += [{"pipeline": name, "subject": subject, "n_target": float(k), "draw": seed,
                          "score": one.score(scored, y[test]), "samples_test": len(test)}
                         for name, one in fitted.items()]  # fmt: skip
    return pd.DataFrame(rows).sort_values(["pipeline", "subject", "n_target", "draw"], ignore_index=True)


def evaluate(part, n_draws, folder):
    """Table with one row for each subject, pipeline, k and draw."""
    from skeeg.evaluations import CrossTaskEvaluation, CrossTaskSplitter

    paradigm, dataset, protocol = make_part(part)
    memory = str(Path(folder) / "networks")
    pipelines = {f"CT-adaptTL, {name}": make_classifier(memory, **way) for name, way in WAYS.items()} | make_baselines()
    tables = []
    for alone in (False, True):  # those that learn from the target alone need some of it; test trials are the same
        chosen = {name: one for name, one in pipelines.items() if alone == name.endswith(("specific", "target"))}
        sizes = tuple(k for k in protocol["n_target"] if k or not alone)
        splitter = CrossTaskSplitter(n_draws=n_draws, random_state=0, **protocol | {"n_target": sizes})
        evaluation = CrossTaskEvaluation(paradigm, dataset, splitter, hdf5_path=str(folder))
        tables.append(evaluation.process(chosen))
    columns = ["pipeline", "subject", "n_target", "draw", "score", "samples_test", "time"]
    table = pd.concat(tables)[columns]
    return table.sort_values(
        columns[:4], key=lambda c: c if c.name == "pipeline" else c.astype(float), ignore_index=True
    )


def summarise(table):
    """Mean accuracy, its standard deviation over subjects (over draws where there is one subject), for each k."""
    by = ["pipeline", "n_target", "subject"]
    scores = (
        table.groupby(by, sort=False)["score"].mean()
        if table["subject"].nunique() > 1
        else table.set_index(by)["score"]
    )
    groups = scores.groupby(level=[0, 1], sort=False)
    text = groups.mean().map("{:.3f}".format) + groups.std().map(lambda sd: f" ({sd:.3f})" if sd == sd else "")
    return text.unstack().fillna("")


def compare(table):
    """Both adaptations against every other pipeline at each k: mean difference and Wilcoxon's test over subjects."""
    from scipy.stats import wilcoxon

    scores = table.groupby(["n_target", "pipeline", "subject"])["score"].mean().unstack()
    ours = [name for name in scores.index.unique("pipeline") if name.startswith("CT-adaptTL, adaptive")]
    rows = []
    for k, one in scores.groupby(level=0):
        one = one.droplevel(0)
        for way, other in itertools.product(ours, one.index.drop(ours)):
            gap = one.loc[way] - one.loc[other]
            p = wilcoxon(gap).pvalue if gap.any() else 1.0
            rows.append({"k": int(k), "way": way.removeprefix("CT-adaptTL, "), "against": other,
                         "difference": f"{gap.mean():+.3f}", "better in": f"{(gap > 0).sum()} of {len(gap)}",
                         "p (two-sided)": f"{p:.3f}"})  # fmt: skip
    return pd.DataFrame(rows)


def to_markdown(table, index=False):
    """Table as Markdown."""
    frame = table.reset_index() if index else table
    rows = [list(map(str, frame.columns)), ["---"] * len(frame.columns), *frame.astype(str).to_numpy().tolist()]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def run_part(part, n_draws, folder):
    """Text of a part; its scores go to a file."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    if part == "speed":
        table = measure_speed()
        table[["plain", "merged", "ratio"]] = table[["plain", "merged", "ratio"]].round(1)
        return to_markdown(table)
    table = evaluate_hands(folder) if part == "hands" else evaluate(part, n_draws, folder)
    name = part if n_draws is None else f"{part}_{n_draws}draws"
    table.round(4).to_csv(RESULTS / f"{name}.csv", index=False)
    text = to_markdown(summarise(table), index=True)
    return text + ("\n\n" + to_markdown(compare(table)) if table["subject"].nunique() > 5 else "")


def main():
    """Run the parts asked for and write what they found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", default=["speed", *SUBJECTS, "fists", "hands", "grasp"])
    parser.add_argument("--draws", type=int, help="so many random draws of the k trials, not the first k as recorded")
    parser.add_argument("--folder", help="where intermediate results are kept")
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak is not None:
        report_peak(bool(options.peak))
        return
    warnings.simplefilter("ignore")
    folder = options.folder or tempfile.mkdtemp()
    for part in options.parts:
        start = time.perf_counter()
        text = run_part(part, options.draws, folder)
        drawn = "" if options.draws is None else f", {options.draws} random draws"
        heading = f"## {part}{drawn}"
        print(f"{heading}\n\n{text}\n\n({time.perf_counter() - start:.0f} s)\n", flush=True)
        name = part if options.draws is None else f"{part}_{options.draws}draws"
        (RESULTS / f"{name}.md").write_text(f"{heading}\n\n{text}\n")


if __name__ == "__main__":
    main()
