"""The MIRepNet paper's benchmark on recordings at hand: BNCI2014004, subjects 1-5, session 4, beside its table.

30 % of the session (48 trials; subject 2: 36) to learn from, 70 % to score, seeds 666 to 668, 8-30 Hz, 250 Hz, trials
of 3.5 s; the paper's have 4 s. The recordings are found through ``SKEEG_DATA`` (``bciciv2b``, one folder per subject).
Recipes were chosen on subjects 1 and 2 (``benchmarks/recipes.py``), so subjects 3 to 5 stand apart.

Run ``python benchmarks/downstream.py --pipelines EEGNet ShallowConv``; scores go to
``benchmarks/results/downstream.csv``, which a second run completes, and the table to ``downstream.md``. An hour of one
core for all eight networks.
"""

import argparse
import os
import pathlib
import tempfile

import pandas as pd

CHOSEN_ON = (1, 2)
# Accuracy in percent of subjects 1 to 5, arXiv 2507.20254v1.
PAPER = {
    "CSP+LDA": (82.14, 50.40, 53.87, 97.32, 82.74),
    "ShallowConv": (83.04, 59.52, 51.49, 98.51, 90.48),
    "DeepConv": (77.08, 53.57, 52.68, 98.51, 87.20),
    "EEGNet": (74.70, 55.95, 52.68, 97.92, 83.04),
    "IFNet": (81.55, 51.98, 51.19, 97.62, 88.10),
    "ADFCNN": (75.89, 57.54, 55.06, 98.21, 89.88),
    "Conformer": (81.25, 57.14, 51.49, 98.21, 92.56),
    "FBCNet": (79.46, 50.00, 51.49, 98.51, 87.20),
    "EDPNet": (68.45, 55.16, 53.57, 98.21, 85.71),
}


def score(name, folder, recipe):
    """Accuracy of one pipeline, a row for each subject and seed."""
    import skeeg.bench
    from skeeg.datasets import LocalDataset

    dataset, pipeline = LocalDataset(folder, sessions=["3ses4"]), skeeg.baseline(name, recipe=recipe)
    with tempfile.TemporaryDirectory() as out:
        found = skeeg.bench.run(dataset, "downstream", {name: pipeline}, out=out)
    return found.assign(recipe=recipe or "")[["pipeline", "recipe", "subject", "seed", "score"]]


def report(scores):
    """Markdown table: ours beside the paper's, subjects apart that the recipes were chosen on."""
    rows = [
        "| accuracy in percent | recipe | subjects 1-2 (chosen on) | subjects 3-5 | subjects 1-5 | ± over seeds "
        "| paper 1-2 | 3-5 | 1-5 | difference |",
        "|---" * 10 + "|",
    ]
    for (name, recipe), part in scores.groupby(["pipeline", "recipe"], sort=False):
        by_subject = 100 * part.groupby("subject").score.mean()
        chosen = by_subject.index.astype(int).isin(CHOSEN_ON)
        spread = 100 * part.groupby("seed").score.mean().std()
        own = [by_subject[chosen].mean(), by_subject[~chosen].mean(), by_subject.mean()]
        paper = pd.Series(PAPER.get(name, [float("nan")] * 5))
        published = [paper[:2].mean(), paper[2:].mean(), paper.mean()]
        cells = [*(f"{one:.1f}" for one in own), f"{spread:.1f}", *(f"{one:.1f}" for one in published)]
        recipe = recipe or ("-" if name == "CSP+LDA" else "imagery")
        rows.append(f"| {name} | {recipe} | " + " | ".join(cells) + f" | {own[2] - published[2]:+.1f} |")
    return "\n".join(rows) + "\n"


def main():
    """Score what is missing and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pipelines", nargs="+", default=list(PAPER))
    parser.add_argument("--recipe", default=None, help="another recipe than the pipelines' own")
    parser.add_argument("--out", default=str(pathlib.Path(__file__).parent / "results"))
    args = parser.parse_args()
    folder = pathlib.Path(os.environ.get("SKEEG_DATA", "../shared/data")) / "bciciv2b"
    if not folder.is_dir():
        raise SystemExit(f"{folder} does not exist; SKEEG_DATA names the folder of the recordings.")
    out = pathlib.Path(args.out)
    out.mkdir(exist_ok=True)
    table = out / "downstream.csv"
    for name in args.pipelines:
        scores = pd.read_csv(table, keep_default_na=False) if table.is_file() else pd.DataFrame()
        if len(scores) and ((scores.pipeline == name) & (scores.recipe == (args.recipe or ""))).any():
            continue
        scores = pd.concat([scores, score(name, folder, args.recipe)])
        scores.to_csv(table, index=False)
        (out / "downstream.md").write_text(report(scores.astype({"score": float})))
        print(report(scores.astype({"score": float})), flush=True)


if __name__ == "__main__":
    main()
