"""Reading of the recorded results for the figures of the page on benchmarks."""

import csv
import pathlib
import re

import numpy as np

BENCHMARKS = pathlib.Path("../../benchmarks")


def rows(name):
    """Rows of a file in benchmarks/results, as dictionaries."""
    with (BENCHMARKS / "results" / name).open() as file:
        return list(csv.DictReader(file))


def means(table, score, *keys):
    """Mean and standard deviation over subjects of a score, for each combination of keys; seeds are averaged first."""
    by_subject = {}
    for row in table:
        by_subject.setdefault(tuple(row[key] for key in keys), {}).setdefault(row["subject"], []).append(
            float(row[score])
        )
    found = {}
    for key, subjects in by_subject.items():
        values = [np.mean(seeds) for seeds in subjects.values()]
        found[key] = np.mean(values), np.std(values, ddof=1) if len(values) > 1 else 0.0
    return found


def ratios():
    """Name and speed ratios of each row of the table in RESULTS.md whose aim is a ratio above 1."""
    lines = (BENCHMARKS / "RESULTS.md").read_text(encoding="utf-8").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("| what |"))
    found = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        what, _, shape, ratio, aim = (cell.strip() for cell in line.strip("|").split("|"))
        if re.fullmatch(r"[\d.]+", aim) and float(aim) > 1:
            numbers = [
                float(number) for number in re.findall(r"(?<![\w.])\d+(?:\.\d+)?", re.sub(r"\(.*?\)", "", ratio))
            ]
            found.append((what, shape, min(numbers), max(numbers), float(aim)))
    return found


def bars(ax, table, color="C0"):
    """Horizontal bars with standard deviations, the best on top."""
    names = sorted(table, key=lambda name: table[name][0])
    ax.barh(
        names, [table[name][0] for name in names], xerr=[table[name][1] for name in names], color=color, ecolor="0.5"
    )
    ax.axvline(0.5, color="0.4", ls=":", lw=1)
