"""The results folder of a benchmark, and where its results come from.

    runs.json            what was run: settings, versions, command, failures; one entry for each comparison
    results.csv          one row for each score
    predictions.csv.gz   one row for each test trial
    report.html, report.md
    results/             MOABB's own results files, with predictions, from which a second run knows what is missing

Every file is replaced in one step, so a crash leaves the old one whole.
"""

import contextlib
import gzip
import hashlib
import inspect
import json
import os
import platform
import re
import zlib
from datetime import datetime
from importlib import metadata
from pathlib import Path

import pandas as pd

RUNS, TABLE, PREDICTIONS = "runs.json", "results.csv", "predictions.csv.gz"
FREE_SPACE = 1 << 20  # bytes that a disk must have left before anything is written
_PACKAGES = ("moabb", "mne", "scikit-learn", "pyriemann", "braindecode", "torch", "numpy", "scipy")

# Shape of the entry of a run: what is read from a file has it, or the file is set aside. A pair is not in every entry.
_FAILURE = {"pipeline": str, "error": str, "subjects": [str]}
_ENTRY = {
    "dataset": str, "name": str, "about": str, "evaluation": str, "paradigm": str, "scoring": str, "command": str,
    "date": str, "machine": str, "classes": [str], "subjects": [str], "seeds": [int], "bands": [[float]],
    "n_sessions": int, "jobs": int, "planned": int, "reused": int, "done": int, "interrupted": bool,
    "pipelines": {str: dict}, "versions": {str: str}, "older_versions": {str: str}, "failures": [_FAILURE],
    "n_per_class": ([int], None), "seconds": (float, None), "n_channels": (int, None), "n_times": (int, None),
    "sfreq": (float, None), "scorings": ([str], None),
}  # fmt: skip


class BenchFolder:
    """Runs, scores and predictions of one results folder, which is made when it is first written to."""

    def __init__(self, path):
        self.path = Path(path)

    @contextlib.contextmanager
    def locked(self):
        """Keep other runs out of the folder; the lock dies with the process."""
        from filelock import FileLock, Timeout

        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise RuntimeError(f"out: another run is writing to {self.path}.") from None
        try:
            _check_space(self.path / ".space")
            yield
        finally:
            lock.release()

    def runs(self):
        """Read the settings of each run by its key, the latest last."""
        return _read(self.path / RUNS, _parse_runs, {})

    def table(self):
        """Read all scores; an empty frame where there are none."""
        return _read(self.path / TABLE, _parse_table, pd.DataFrame())

    def predictions(self):
        """Read the predictions of all test trials; an empty frame where there are none."""
        return _read(self.path / PREDICTIONS, _parse_all_predictions, pd.DataFrame())

    def write(self, key, entry, table, pipelines):
        """Replace the entry of one run, and the scores of these pipelines in it."""
        table = _replaced(self.table(), key, table, pipelines)
        if len(table):
            _write_bytes(self.path / TABLE, table.to_csv(index=False).encode())
        runs = self.runs()
        runs.pop(key, None)
        write_text(self.path / RUNS, json.dumps(runs | {key: entry}, indent=1))

    def write_predictions(self, key, table, pipelines):
        """Replace the predictions of these pipelines in one run."""
        table = _replaced(self.predictions(), key, table, pipelines)
        if len(table):
            text = table.to_csv(index=False, float_format="%.6g").encode()
            _write_bytes(self.path / PREDICTIONS, gzip.compress(text, mtime=0))


def _replaced(old, key, table, pipelines):
    """Replace the rows of these pipelines in one run; those of others, of earlier commands, stay."""
    kept = old[(old["run"] != key) | ~old["pipeline"].isin(list(pipelines))] if len(old) else old
    return concat([kept, table.assign(run=key)], table)


def concat(tables, empty):
    """Rows of several tables as one, or ``empty`` where there is none."""
    tables = [table for table in tables if len(table)]
    return pd.concat(tables, ignore_index=True) if tables else empty


def _read(path, parse, empty):
    """Content of a file, or `empty`; one that cannot be read is set aside."""
    if not path.is_file():
        return empty
    try:
        return parse(path)
    except (ValueError, RecursionError, EOFError, gzip.BadGzipFile, zlib.error):
        set_aside(path)
        return empty


def _parse_runs(path):
    """Entries of the runs, each of the shape that `write` gives it."""
    runs = json.loads(path.read_text(encoding="utf-8"))
    if not _has_shape(runs, {str: _ENTRY}):
        raise ValueError("expected the settings of runs.")
    return runs


def _parse_table(path):
    """Scores, with the columns that a report needs."""
    table = pd.read_csv(path, dtype={"subject": str, "session": str, "run": str})
    missing = {"run", "dataset", "pipeline", "subject", "session", "seed", "score", "time"} - set(table.columns)
    if missing or not all(pd.api.types.is_numeric_dtype(table[name]) for name in ("seed", "score", "time")):
        raise ValueError("expected the scores of runs.")
    return table


def _parse_all_predictions(path):
    """Predictions of several runs and pipelines."""
    table = parse_predictions(path)
    if {"run", "pipeline"} - set(table.columns):
        raise ValueError("expected the predictions of runs.")
    return table


def parse_predictions(file):
    """Predictions of one pipeline, with the columns that a report needs."""
    text = dict.fromkeys(("subject", "session", "recording", "run", "true", "predicted", "chosen"), str)
    table = pd.read_csv(file, dtype=text, keep_default_na=False, na_values=[""])
    if {"subject", "true", "predicted"} - set(table.columns):
        raise ValueError("expected predictions.")
    return table


def _has_shape(value, shape):
    """Whether a value read from JSON is built of the types that a shape names."""
    if isinstance(shape, tuple):
        return value is None or _has_shape(value, shape[0])
    if isinstance(shape, list):
        return isinstance(value, list) and all(_has_shape(one, shape[0]) for one in value)
    if isinstance(shape, dict):
        shapes = dict.fromkeys(value, shape[str]) if str in shape and isinstance(value, dict) else shape
        return isinstance(value, dict) and all(_has_shape(value.get(key), one) for key, one in shapes.items())
    if isinstance(value, bool):
        return shape is bool
    return isinstance(value, (int, float) if shape is float else shape)


def _check_space(path):
    """Raise OSError where the disk is full, before HDF5 finds out: it may then end the process."""
    try:
        path.write_bytes(bytes(FREE_SPACE))
    finally:
        path.unlink(missing_ok=True)


def write_text(path, text):
    """Write a text file in one step; a message or a path in it may hold any bytes."""
    _write_bytes(path, text.encode("utf-8", errors="backslashreplace"))


def _write_bytes(path, content):
    """Write a file in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    new.write_bytes(content)
    os.replace(new, path)


def set_aside(path):
    """Rename a file that cannot be read, and print so; give its new path."""
    path = Path(path)
    stem, _, suffix = path.name.partition(".")
    new = path.with_name(f"{stem}.unreadable-{datetime.now():%Y%m%d-%H%M%S}.{suffix}")
    os.replace(path, new)
    print(f"{path} cannot be read. It is kept as {new.name}; a new one is made.")
    return new


def digest(value):
    """Eight hexadecimal digits that stand for `value`, the same in every process."""
    text = re.sub(r"0x\w+", "0x", repr(value))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def versions():
    """Versions of Python, skeeg and its main requirements, by name."""
    from .. import __version__

    found = {"skeeg": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def machine():
    """One line on system and processor."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*:\s*(.+)", info.read_text()) if info.is_file() else []
    processor = names[0] if names else platform.processor() or platform.machine()
    return f"{platform.system()}, {processor}, {os.cpu_count()} cores"


def call_text(function, given):
    """Python call that repeats a run, defaults left out."""
    defaults = {name: parameter.default for name, parameter in inspect.signature(function).parameters.items()}
    changed = {name: value for name, value in given.items() if _short(value) != _short(defaults[name])}
    return f"skeeg.bench.{function.__name__}({', '.join(f'{name}={_short(value)}' for name, value in changed.items())})"


def _short(value):
    """Source of a plain value, the name of the class of any other."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {_short(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_short, value))}]"
    if value is None or isinstance(value, str | int | float | bool):
        return repr(value)
    return f"{type(value).__name__}(...)"


def one_line(estimator):
    """Repr of an estimator on one line, the steps of a pipeline joined by arrows."""
    from sklearn import config_context
    from sklearn.pipeline import Pipeline

    with config_context(print_changed_only=True):
        steps = [step for _, step in estimator.steps] if isinstance(estimator, Pipeline) else [estimator]
        return re.sub(r"\s+", " ", " → ".join(map(repr, steps)))


def first_line(thing):
    """First line of the docstring of an object's class."""
    return (inspect.getdoc(type(thing)) or "").strip().split("\n")[0]
