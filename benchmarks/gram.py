"""Gram on recordings: restoration of missing samples, and classification by its features.

- ``restore``: seconds, electrodes and patches of test recordings are masked, 10 to 75 % of them, and restored by
  a tiny Gram that was pre-trained here, by spherical splines, by lines in time, and by low-rank completion;
- ``decode``: classes of trials by the same Gram, its features under a closed-form layer ("probe"), fine-tuned, and
  fine-tuned without any pre-training, beside EEGNet and tangent space + logistic regression.

Two recordings, found through ``SKEEG_DATA``: ``eegmmidb``, subject 1 of PhysioNet's motor database, trained on runs 3
to 12, restored in runs 13, 14, 1 and 2; both fists are classified against both feet, trained on runs 5, 6, 9 and 10,
scored on 13 and 14. ``grasp``, six subjects of OpenNeuro ds003810, two of them held out in each of three folds;
imagined grasping is classified against rest. Pre-training never sees a recording that anything is scored on, nor any
label. As published, recordings are referenced to the average of all electrodes, those that are masked later included,
which helps every method that uses other channels.

Both stages are pre-trained in the minutes that one core allows (`PRETRAINING`), on the tiny size; the published one had
7000 hours and eight GPUs. Run ``python benchmarks/gram.py restore|decode [--data ...] [--folds ...]``: scores are added
to ``benchmarks/results/gram_restore.csv`` and ``gram_decode.csv`` as they come, what is there is not computed again,
and ``gram.md`` is written from both. ``pretrain`` does nothing else. Weights are kept in ``--folder``.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import functools
import importlib.metadata
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

RATE = 200.0
SHARES = (0.1, 0.25, 0.5, 0.75)
WINDOW = {"eegmmidb": 4.0, "grasp": 16.0}  # seconds of which 64 and 15 electrodes make about 256 patches, as published
N_WINDOWS = 60  # test windows of a fold at most
SUBJECTS = ((2, 3), (4, 5), (6, 7))
TOKENIZER = {"size": "tiny", "max_epochs": 4, "batch_size": 2, "recipe_params": {"warm_epochs": 1}}
PRETRAINING = {"size": "tiny", "max_epochs": 18, "batch_size": 4}
N_TRAINING = 300  # training windows at most
FINETUNING = {"size": "tiny", "batch_size": 16}
FINETUNING_EPOCHS = {"eegmmidb": 20, "grasp": 8}  # of 60 and of about 620 trials
EEGNET = {"batch_norm_momentum": 0.1}
EEGNET_EPOCHS = {"eegmmidb": 100, "grasp": 30}
SEEDS = (0, 1)


# Recordings


def prepare(raw, notch):
    """Bring a recording to the form of the publication: average reference, 200 Hz, 0.1-75 Hz, no mains."""
    raw = raw.copy().load_data(verbose="error").pick("eeg", verbose="error")
    raw.set_eeg_reference("average", verbose="error")
    raw.resample(RATE, verbose="error")
    return raw.filter(0.1, 75.0, verbose="error").notch_filter(notch, verbose="error")


def cut_windows(raw, seconds, subject, run):
    """Windows of a recording, one after the other, in microvolts."""
    from skeeg.array import EEGArray, make_domains

    data, length = raw.get_data(verbose="error") * 1e6, int(seconds * RATE)
    n = data.shape[1] // length
    windows = data[:, : n * length].reshape(len(data), n, length).transpose(1, 0, 2).astype(np.float32)
    return EEGArray(windows, raw.ch_names, RATE, make_domains(n, subject, "0", run))


def data_folder():
    """Folder of the recordings."""
    folder = os.environ.get("SKEEG_DATA")
    if not folder:
        raise SystemExit("Say where the recordings are: SKEEG_DATA=... python benchmarks/gram.py")
    return Path(folder)


def read_physionet(run):
    """Read one run of subject 1."""
    import mne

    raw = mne.io.read_raw_edf(data_folder() / f"eegmmidb/S001/S001R{run:02d}.edf", verbose="error")
    mne.datasets.eegbci.standardize(raw)
    return prepare(raw, 60.0)


@functools.cache
def windows_of(data, fold):
    """Training windows and windows to restore."""
    if data == "eegmmidb":
        parts = [
            np.concatenate([cut_windows(read_physionet(run), WINDOW[data], 1, run) for run in runs])
            for runs in (range(3, 13), (13, 14, 1, 2))
        ]
    else:
        parts = [
            np.concatenate([windows for subject in subjects for windows in windows_of_subject(subject)])
            for subjects in (sorted({2, 3, 4, 5, 6, 7} - set(SUBJECTS[fold])), SUBJECTS[fold])
        ]
    rng = np.random.default_rng(0)
    rows = [np.sort(rng.permutation(len(part))[:n]) for part, n in zip(parts, (N_TRAINING, N_WINDOWS), strict=True)]
    return parts[0][rows[0]], parts[1][rows[1]]


@functools.cache
def windows_of_subject(subject):
    """Windows of all runs of one subject of the grasping set, executed and imagined."""
    from skeeg.datasets import GraspImagery

    found = []
    for task in ("execution", "imagery"):
        dataset = GraspImagery(task=task, subjects=[subject])
        for run, raw in dataset.get_data([subject])[subject]["0"].items():
            found.append(cut_windows(prepare(raw, (31.25, 50.0)), WINDOW["grasp"], subject, f"{task}{run}"))
    return found


@functools.cache
def trials_of(data, band):
    """Trials in a band, their classes, and which subject and run each is of."""
    from skeeg.datasets import GraspImagery, PhysionetMotor

    if data == "grasp":
        sets = [GraspImagery(task="imagery")]
    else:
        sets = [PhysionetMotor(task=task, classes=("hands", "feet"), subjects=[1]) for task in ("execution", "imagery")]
    read = [one.arrays(fmin=band[0], fmax=band[1], tmin=0.0, tmax=4.0, resample=RATE) for one in sets]
    X, y = (np.concatenate([one[i] for one in read]) for i in range(2))
    X = X - np.asarray(X).mean(axis=1, keepdims=True)
    return X.astype(np.float32), y


def split_of(data, fold, X):
    """Training trials and trials to score."""
    test = np.isin(X.domains["subject"], [str(subject) for subject in SUBJECTS[fold]])
    if data == "eegmmidb":
        test = np.isin(X.domains["run"], ["13", "14"])
    return np.flatnonzero(~test), np.flatnonzero(test)


# Models


def pretrain(data, fold, folder, epochs=None):
    """Pre-train both stages on the windows of a fold, once; gives the file of the weights."""
    from skeeg import GramPretrainer, GramTokenizer

    file = folder / f"gram-{data}-{fold}.safetensors"
    if not file.is_file():
        start, X = time.perf_counter(), windows_of(data, fold)[0]
        short = {} if epochs is None else {"max_epochs": epochs}
        tokenizer = GramTokenizer(random_state=0, device="cpu", verbose=1, **TOKENIZER | short)
        pretrainer = GramPretrainer(
            tokenizer, run_file=str(file.with_suffix(".run")), random_state=0, device="cpu", verbose=1,
            **PRETRAINING | short,
        ).fit(X)  # fmt: skip
        pretrainer.save_checkpoint(file)
        codes = len(np.unique(pretrainer.module_.vqgan.encode(torch_of(X[:20]), indices_of(X))))
        seconds = time.perf_counter() - start
        print(f"pre-trained for {data}, fold {fold}, in {seconds:.0f} s; {codes} classes in 20 windows")
        for name, history in (("tokenizer", pretrainer.tokenizer_history_), ("both", pretrainer.history_)):
            for row in history:
                print(name, {k: round(float(v), 3) for k, v in row.items() if isinstance(v, float)}, flush=True)
    return str(file)


def torch_of(X):
    """Trials in the unit of the networks."""
    import torch

    return torch.from_numpy(np.asarray(X, dtype=np.float32) / 100)


def indices_of(X):
    """Positions of the electrodes in Gram's collection."""
    from skeeg.methods.gram import channel_indices

    return channel_indices(X.ch_names)


def restorers(data, fold, checkpoint):
    """Fitted ways of restoring by name."""
    from skeeg import GramRestorer
    from skeeg.restoration import LowRankCompletion, SplineInterpolation, TimeInterpolation

    training = windows_of(data, fold)[0]
    ways = {
        "Gram": GramRestorer(checkpoint, random_state=0, device="cpu"),
        "Gram, least squares": GramRestorer(checkpoint, amplitude="least_squares", random_state=0, device="cpu"),
        "splines": SplineInterpolation(),
        "lines in time": TimeInterpolation(),
        "low rank": LowRankCompletion(n_components=0.99),
    }
    return {name: way.fit(training) for name, way in ways.items()}


def restore(data, fold, done, folder, epochs, losses):
    """Scores of every way, loss and share that are not known yet."""
    from skeeg.restoration import draw_mask, restoration_scores

    ways = None
    X = windows_of(data, fold)[1]
    for loss in losses:
        for share in SHARES:
            mask = draw_mask(X.shape, RATE, loss, share, random_state=0)
            names = ways or ["Gram", "Gram, least squares", "splines", "lines in time", "low rank"]
            wanted = [name for name in names if (data, fold, loss, share, name) not in done]
            if wanted and ways is None:
                ways = restorers(data, fold, pretrain(data, fold, folder, epochs))
            for name in wanted:
                scores = restoration_scores(X, ways[name].transform(X, mask=mask), mask, RATE)
                yield {"data": data, "fold": fold, "loss": loss, "share": share, "method": name} | {
                    key: round(value, 4) for key, value in scores.items()
                }


def pipelines(data, checkpoint):
    """Unfitted pipelines by name: band, and a maker that takes the seed."""
    from sklearn.pipeline import make_pipeline

    from skeeg import EuclideanAlignment, GramClassifier, NetworkClassifier, baseline

    def gram(strategy, checkpoint):
        def make(seed):
            settings = FINETUNING | {"max_epochs": FINETUNING_EPOCHS[data]} if strategy == "full" else {"size": "tiny"}
            return GramClassifier(checkpoint, strategy=strategy, random_state=seed, device="cpu", **settings)

        return make

    def eegnet(seed):
        return NetworkClassifier(
            "EEGNet", EEGNET, max_epochs=EEGNET_EPOCHS[data], batch_size=16, random_state=seed, device="cpu"
        )

    wide, narrow, motor = (0.1, 75.0), (4.0, 38.0), (8.0, 30.0)
    return {
        "TS+LR": (motor, lambda seed: baseline("TS+LR")),
        "EA+TS+LR": (motor, lambda seed: make_pipeline(EuclideanAlignment(), baseline("TS+LR"))),
        "EEGNet": (narrow, eegnet),
        "EA+EEGNet": (narrow, lambda seed: make_pipeline(EuclideanAlignment(), eegnet(seed))),
        "Gram, probe": (wide, gram("probe", checkpoint)),
        "Gram, fine-tuned": (wide, gram("full", checkpoint)),
        "Gram, from scratch": (wide, gram("full", None)),
    }


def decode(data, fold, done, folder, epochs):
    """Accuracy of every pipeline and seed that is not known yet."""
    for name, (band, make) in pipelines(data, pretrain(data, fold, folder, epochs)).items():
        if data == "grasp" and band[1] > 60:
            band = (0.1, 60.0)  # the recordings have 125 Hz
        for seed in SEEDS if "LR" not in name and "probe" not in name else SEEDS[:1]:
            if (data, fold, name, seed) in done:
                continue
            X, y = trials_of(data, band)
            train, test = split_of(data, fold, X)
            start = time.perf_counter()
            model = make(seed).fit(X[train], y[train])
            right = model.predict(X[test]) == y[test]
            subjects = X.domains["subject"][test]
            for subject in dict.fromkeys(subjects):
                yield {
                    "data": data, "fold": fold, "pipeline": name, "seed": seed, "subject": subject,
                    "accuracy": round(float(right[subjects == subject].mean()), 4),
                    "n_test": int((subjects == subject).sum()),
                    "seconds": round(time.perf_counter() - start, 1),
                }  # fmt: skip


# Tables


def to_markdown(table, index):
    """Table as Markdown."""
    rows = [[index, *map(str, table.columns)], ["---"] * (len(table.columns) + 1)]
    rows += [[str(name), *row] for name, row in zip(table.index, table.to_numpy().tolist(), strict=True)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def report(restored, decoded):
    """Markdown of all scores."""
    packages = ("torch", "braindecode", "skorch", "mne", "scikit-learn", "numpy", "pyriemann")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    text = ["# Gram: restoration and decoding", "", "Written by `python benchmarks/gram.py`; " + versions + ".", ""]
    text += [f"Pre-training, on one CPU core: at most {N_TRAINING} windows; tokenizer"]
    text += [
        f"{TOKENIZER}; masked autoencoder {PRETRAINING}. Fine-tuning: {FINETUNING}, passes: {FINETUNING_EPOCHS}.",
        "",
    ]
    for data in dict.fromkeys(restored["data"] if len(restored) else []):
        for score, title in (
            ("error", "error relative to the missing samples: 0 is perfect, 1 is what zeros get"),
            ("correlation", "correlation with the missing samples"),
            ("band_power_error", "error in the power of five bands: 0 is perfect, 1 is what zeros get"),
        ):
            part = restored[restored["data"] == data]
            text += [f"## {data}: {title}", ""]
            part = part.assign(column=[f"{loss} {share:.0%}" for loss, share in part[["loss", "share"]].to_numpy()])
            order = list(dict.fromkeys(part.sort_values(["loss", "share"])["column"]))
            table = part.pivot_table(index="method", columns="column", values=score, sort=False)[order]
            text += [to_markdown(table.map("{:.2f}".format), "method"), ""]
    for data in dict.fromkeys(decoded["data"] if len(decoded) else []):
        part = decoded[decoded["data"] == data]
        counts = part.drop_duplicates(["pipeline", "subject"]).groupby("pipeline")["n_test"].sum().astype(str)
        by_subject = part.groupby(["pipeline", "subject"], sort=False)["accuracy"].mean().unstack("subject")
        table = pd.DataFrame({
            "accuracy": by_subject.mean(axis=1).map("{:.3f}".format),
            "sd over subjects": by_subject.std(axis=1).map(lambda v: "one subject" if np.isnan(v) else f"{v:.3f}"),
            "test trials": counts.reindex(by_subject.index),
        })  # fmt: skip
        text += [f"## {data}: accuracy", "", to_markdown(table, "pipeline"), ""]
    return "\n".join(line for line in text)


def read_table(results, name):
    """Scores so far."""
    file = results / f"gram_{name}.csv"
    return pd.read_csv(file, dtype={"subject": str}) if file.is_file() else pd.DataFrame()


def main():
    """Run the parts asked for and write what they found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", default=["restore", "decode"])
    parser.add_argument("--data", nargs="+", default=["eegmmidb", "grasp"])
    parser.add_argument("--folds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--losses", nargs="+", default=["electrodes", "seconds", "patches"])
    parser.add_argument("--folder", default=Path(tempfile.gettempdir()) / "skeeg-gram", type=Path)
    parser.add_argument("--minutes", type=float, default=1e6, help="start nothing new after so long")
    parser.add_argument("--results", default=Path(__file__).parent / "results", type=Path)
    parser.add_argument("--epochs", type=int, help="passes of every pre-training, to try the script out")
    parser.add_argument("--windows", type=int, help="windows to train on and to restore, to try the script out")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    options.folder.mkdir(parents=True, exist_ok=True)
    options.results.mkdir(parents=True, exist_ok=True)
    if options.windows:
        globals().update(N_TRAINING=options.windows, N_WINDOWS=options.windows)
    stop = time.monotonic() + 60 * options.minutes
    keys = {"restore": ["data", "fold", "loss", "share", "method"], "decode": ["data", "fold", "pipeline", "seed"]}
    if "pretrain" in options.parts:
        for data in options.data:
            for fold in options.folds if data == "grasp" else [0]:
                pretrain(data, fold, options.folder, options.epochs)
    for part in [one for one in options.parts if one != "pretrain"]:
        table = read_table(options.results, part)
        for data in options.data:
            for fold in options.folds if data == "grasp" else [0]:
                done = set(zip(*(table[key] for key in keys[part]), strict=True)) if len(table) else set()
                common = (data, fold, done, options.folder, options.epochs)
                for row in restore(*common, options.losses) if part == "restore" else decode(*common):
                    table = (
                        pd.concat([table, pd.DataFrame([row])], ignore_index=True)
                        if len(table)
                        else pd.DataFrame([row])
                    )
                    table.to_csv(options.results / f"gram_{part}.csv", index=False)
                    print(row, flush=True)
                    if time.monotonic() > stop:
                        print("stopped early; run it again to go on")
                        return
    text = report(*(read_table(options.results, name) for name in ("restore", "decode")))
    notes = options.results / "gram_notes.md"
    text += notes.read_text() if notes.is_file() else ""
    (options.results / "gram.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
