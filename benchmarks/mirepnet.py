"""MIRepNet: how much sooner the merged tokenizer is, how fast pre-training goes, and what it is worth.

Parts, each of which can be run alone:

- ``speed``: the tokenizer up to its pooling and the whole network, merged and plain, same weights, forward and
  backward, batches of 64 trials of 45 x 1000, one thread, in turns in one process; peak memory in processes of their
  own;
- ``throughput``: trials a second of the hybrid pre-training at the published size, on the device there is;
- ``simulated``, ``grasp``: from scratch, or pre-trained by classes alone, by masked tokens alone, or by both, on other
  subjects; then fine-tuned on the first 30 trials of the subject held out and scored on that subject's later runs,
  beside CSP+LDA, tangent space + logistic regression, EEGNet and Conformer on the same 30 trials. Eight simulated
  subjects are held out by four, six subjects of OpenNeuro ds003810 by two.

The network of the comparison is small so that the whole fits one core: `SIZES`, 125 Hz, and the short
`RECIPE` of pre-training. Fine-tuning is the published one. Batches of pre-training are of 16, not of 64 as published:
with so few subjects, the network was still at chance level after ten epochs on the source subjects.

Run: ``python benchmarks/mirepnet.py [PART ...]``; recordings are looked for in ``$SKEEG_DATA``. Scores are added to
``benchmarks/results/mirepnet_<part>.csv`` as they come, and what is there is not computed again; ``--minutes`` ends a
run early.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

RESULTS = Path(__file__).parent / "results"
RATE, N_LABELLED, SEEDS = 125.0, 30, (0, 1)
RECIPE = {"max_epochs": 10, "batch_size": 16}
SIZES = {
    "embed_dim": 64, "n_layers": 2, "n_heads": 4, "n_filters_time": 32, "n_filters": 64,
    "filter_length": 13, "pool_length": 40, "pool_stride": 8,
}  # fmt: skip
ARMS = {
    "from scratch": None,
    "supervised only": {"recipe": {"rec_weight": 0.0}},
    "masked only": {"recipe": {"cls_weight": 0.0}},
    "hybrid": {},
}
BASELINES = ("CSP+LDA", "TS+LR", "EEGNet", "Conformer")


# Speed


def make_passes(merge, n_trials=64):
    """Give functions that run tokenizer and whole network forward and backward."""
    import torch

    from skeeg.methods.mirepnet import MIRepNet

    torch.set_num_threads(1)
    torch.manual_seed(0)
    net, x = MIRepNet(2, 45, n_times=1000).train(), torch.randn(n_trials, 45, 1000)
    own = net.embedding
    if not merge:
        own.pooled = lambda x: own.pool(own.activation(own.bn(own.conv2(own.conv1(x[:, None])))))

    def tokenizer():
        net.zero_grad()
        out = net.embedding.pooled(x)
        out.backward(torch.ones_like(out))

    def whole():
        net.zero_grad()
        net(x).logsumexp(1).sum().backward()

    return tokenizer, whole


def read_status(field):
    """Kilobytes that the kernel reports for this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(field)))


def report_peak(merge):
    """Print the megabytes that one forward and backward pass of the tokenizer adds at its peak."""
    tokenizer, _ = make_passes(merge)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = read_status("VmRSS")
    tokenizer()
    print((read_status("VmHWM") - before) / 1024)


def alternate(first, second, repeats):
    """Median seconds of two functions, called in turns."""
    times = np.empty((repeats, 2))
    for row in times:
        for column, function in enumerate((first, second)):
            start = time.perf_counter()
            function()
            row[column] = time.perf_counter() - start
    return np.median(times, axis=0)


def measure_speed(repeats=7):
    """Ratios of time and of memory, plain over merged."""
    plain, merged = make_passes(False), make_passes(True)
    rows = []
    for what, one, other in (("tokenizer to pooling", plain[0], merged[0]), ("whole network", plain[1], merged[1])):
        one(), other()
        slow, fast = alternate(one, other, repeats)
        rows.append({"what": what, "plain": 1e3 * slow, "merged": 1e3 * fast, "ratio": slow / fast, "unit": "ms"})
    peaks = []
    for merge in (False, True):
        call = [sys.executable, __file__, "--peak", str(int(merge))]
        peaks.append(np.median([float(subprocess.run(call, capture_output=True, check=True).stdout) for _ in range(3)]))
    rows.append({"what": "peak memory of the tokenizer", "plain": peaks[0], "merged": peaks[1],
                 "ratio": peaks[0] / peaks[1], "unit": "MB"})  # fmt: skip
    return pd.DataFrame(rows).round({"plain": 0, "merged": 0, "ratio": 1})


def measure_throughput(n_batches=3):
    """Trials a second of the hybrid pre-training at the published size, by precision."""
    from skeeg import EEGArray, MIRepNetPretrainer
    from skeeg.montage import TEMPLATES

    rng = np.random.default_rng(0)
    X = EEGArray(rng.standard_normal((64 * n_batches, 45, 1000)).astype("float32"), TEMPLATES["mirepnet45"], 250.0)
    rows = []
    for precision in ("float32", "bf16"):
        pretrainer = MIRepNetPretrainer(precision=precision, max_epochs=2, random_state=0)
        pretrainer.fit(X, rng.integers(3, size=len(X)))
        best = max(row["trials_per_s"] for row in pretrainer.history_)
        rows.append({"precision": precision, "trials/s": round(best, 1), "steps/s": round(best / 64, 2)})
    return pd.DataFrame(rows)


# What pre-training is worth


def load(part):
    """Trials by subject: (X, y), and the folds of subjects."""
    from skeeg.datasets import GraspImagery, SimulatedMotorImagery
    from skeeg.datasets.base import load_arrays

    if part == "simulated":
        dataset = SimulatedMotorImagery(n_subjects=8, n_sessions=1, n_runs=3, n_trials=40, seed=0)
    else:
        dataset = GraspImagery()
    X, y = load_arrays(dataset, fmin=8.0, fmax=30.0, tmin=0.5, tmax=4.0, resample=RATE)
    whose = X.domains["subject"]
    by_subject = {name: (X[whose == name], y[whose == name]) for name in dict.fromkeys(whose.tolist())}
    size = 4 if part == "simulated" else 2
    names = list(by_subject)
    return by_subject, [names[i : i + size] for i in range(0, len(names), size)]


def split(X):
    """First trials to learn from, trials after the first run to be scored on."""
    runs = X.domains["run"]
    return np.arange(N_LABELLED), np.flatnonzero(runs != runs[0])


def pretrain(by_subject, held, settings, file):
    """Pre-train on all other subjects; return the file of weights. An interrupted run continues."""
    from skeeg import MIRepNetPretrainer

    if not file.is_file():
        sources = [one for name, one in by_subject.items() if name not in held]
        X, y = (np.concatenate([one[i] for one in sources]) for i in range(2))
        run_file = file.with_suffix(".run")
        pretrainer = MIRepNetPretrainer(
            network_params=SIZES,
            resample=RATE,
            **RECIPE,
            **settings,
            random_state=0,
            device="cpu",
            run_file=str(run_file),
        ).fit(X, y)
        pretrainer.save_checkpoint(file)
        run_file.unlink()
        last = {
            name: round(float(value), 3) for name, value in pretrainer.history_[-1].items() if isinstance(value, float)
        }
        print(f"pre-trained without {', '.join(held)}: {last}", flush=True)
    return str(file)


def make_pipelines(by_subject, held, part, folder):
    """Unfitted pipelines by name, made only when they are wanted."""
    from skeeg import MIRepNetClassifier, baseline

    def ours(settings, name):
        checkpoint = None
        if settings is not None:
            file = folder / f"{part}-{'-'.join(held)}-{name.replace(' ', '_')}.safetensors"
            checkpoint = pretrain(by_subject, held, settings, file)
        return MIRepNetClassifier(checkpoint, network_params=SIZES, resample=RATE, device="cpu")

    makers = {name: (lambda name=name: baseline(name)) for name in BASELINES}
    return makers | {
        f"MIRepNet, {name}": (lambda settings=settings, name=name: ours(settings, name))
        for name, settings in ARMS.items()
    }


def compare(part, folder, stop):
    """Score every pipeline on every subject with every seed, and write each score down at once."""
    from skeeg.bench.evaluation import set_seed_and_device

    file = RESULTS / f"mirepnet_{part}.csv"
    table = pd.read_csv(file, dtype={"subject": str}) if file.is_file() else pd.DataFrame()
    done = set() if table.empty else set(zip(table["pipeline"], table["subject"], table["seed"], strict=True))
    by_subject, folds = load(part)
    for held in folds:
        for name, make in make_pipelines(by_subject, held, part, folder).items():
            seeds = (0,) if name in ("CSP+LDA", "TS+LR") else SEEDS
            wanted = [(one, seed) for one in held for seed in seeds if (name, one, seed) not in done]
            for subject, seed in wanted:
                if time.monotonic() > stop:
                    print("stopped early; run it again to go on")
                    return table
                X, y = by_subject[subject]
                train, test = split(X)
                model = set_seed_and_device(make(), seed, "cpu").fit(X[train], y[train])
                score = float(np.mean(model.predict(X[test]) == y[test]))
                row = {"pipeline": name, "subject": subject, "seed": seed, "score": round(score, 4)}
                table = pd.concat([one for one in (table, pd.DataFrame([row])) if len(one)], ignore_index=True)
                table.to_csv(file, index=False)
    return table


def summarise(table):
    """Mean accuracy over subjects, its spread over them and over seeds, and the gain over training from scratch."""
    scores = table.groupby(["pipeline", "seed", "subject"])["score"].mean()
    by_subject = scores.groupby(["pipeline", "subject"]).mean().unstack("pipeline")
    by_seed = scores.groupby(["pipeline", "seed"]).mean().unstack("pipeline")
    rows = []
    for name in dict.fromkeys(table["pipeline"]):
        gain = by_subject[name] - by_subject["MIRepNet, from scratch"]
        rows.append({"pipeline": name, "accuracy": f"{by_subject[name].mean():.3f}",
                     "sd over subjects": f"{by_subject[name].std():.3f}",
                     "sd over seeds": f"{by_seed[name].std():.3f}" if by_seed[name].notna().sum() > 1 else "one fit",
                     "against scratch": f"{gain.mean():+.3f}",
                     "better in": f"{(gain > 0).sum()} of {gain.notna().sum()}"})  # fmt: skip
    return pd.DataFrame(rows)


def to_markdown(table):
    """Table as Markdown."""
    rows = [list(map(str, table.columns)), ["---"] * len(table.columns), *table.astype(str).to_numpy().tolist()]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main():
    """Run the parts asked for and print what they found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", default=["speed", "throughput", "simulated", "grasp"])
    parser.add_argument("--folder", default=Path(tempfile.gettempdir()) / "skeeg-mirepnet", type=Path)
    parser.add_argument("--minutes", type=float, default=1e6, help="start nothing new after so long")
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak is not None:
        report_peak(bool(options.peak))
        return
    warnings.simplefilter("ignore")
    options.folder.mkdir(parents=True, exist_ok=True)
    stop = time.monotonic() + 60 * options.minutes
    for part in options.parts:
        start = time.perf_counter()
        if part in ("speed", "throughput"):
            table = measure_speed() if part == "speed" else measure_throughput()
        else:
            table = summarise(compare(part, options.folder, stop))
        print(f"## {part}\n\n{to_markdown(table)}\n\n({time.perf_counter() - start:.0f} s)\n", flush=True)


if __name__ == "__main__":
    main()
