"""The folder a benchmark lives in.

    runs.json       what was run: settings, versions, command, failures; one entry for each comparison
    results.csv     one row for each score
    report.html, report.md
    results/        MOABB's own results files, from which a second run knows what is missing

Every file is replaced in one step, so a crash leaves the old one whole.
"""

import contextlib
import json
import os
from datetime import datetime
from pathlib import Path

RUNS, TABLE = "runs.json", "results.csv"
ROOM = 1 << 20  # bytes that a disk must have left before anything is written

# Shape of the entry of a run: what is read from a file has it, or the file is set aside.
_FAILURE = {"pipeline": str, "error": str, "subjects": [str]}
_ENTRY = {
    "dataset": str, "name": str, "about": str, "evaluation": str, "paradigm": str, "scoring": str, "command": str,
    "date": str, "machine": str, "classes": [str], "subjects": [str], "seeds": [int], "bands": [[float]],
    "n_sessions": int, "jobs": int, "planned": int, "reused": int, "done": int, "interrupted": bool,
    "pipelines": {str: dict}, "versions": {str: str}, "older_versions": {str: str}, "failures": [_FAILURE],
}  # fmt: skip
# Not in every entry.
_LATER = {"n_per_class": [int], "seconds": float, "n_channels": int, "n_times": int, "sfreq": float}


class BenchFolder:
    """Runs and table of one results folder.

    Parameters
    ----------
    path : str or path-like
        Folder; made when it is first written to.

    Examples
    --------
    >>> import tempfile
    >>> from skeeg.bench.folder import BenchFolder
    >>> BenchFolder(tempfile.mkdtemp()).runs()
    {}
    """

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
            _check_room(self.path / ".room")
            yield
        finally:
            lock.release()

    def runs(self):
        """Read the settings of each run by its key, the latest last."""
        return _read(self.path / RUNS, _parse_runs, {})

    def table(self):
        """Read all scores; an empty frame where there are none."""
        import pandas as pd

        return _read(self.path / TABLE, _parse_table, pd.DataFrame())

    def write(self, key, entry, table):
        """Replace entry and rows of one run.

        Parameters
        ----------
        key : str
            Key of the run.
        entry : dict
            Settings, in types JSON knows.
        table : DataFrame
            Rows of this run.
        """
        import pandas as pd

        runs, old = self.runs(), self.table()
        runs.pop(key, None)
        runs[key] = entry
        kept = old[old["run"] != key] if len(old) else old
        frames = [frame for frame in (kept, table.assign(run=key)) if len(frame)]
        text = pd.concat(frames, ignore_index=True).to_csv(index=False) if frames else ""
        if text:
            write_text(self.path / TABLE, text)
        write_text(self.path / RUNS, json.dumps(runs, indent=1))


def _read(path, parse, empty):
    """Content of a file, or `empty`; one that cannot be read is set aside."""
    if not path.is_file():
        return empty
    try:
        return parse(path)
    except (ValueError, RecursionError):
        set_aside(path)
        return empty


def _parse_runs(path):
    """Entries of the runs, each of the shape that `write` gives it."""
    runs = json.loads(path.read_text(encoding="utf-8"))
    if not _has_shape(runs, {str: dict}):
        raise ValueError("expected one mapping a run.")
    for entry in runs.values():
        wanted = _ENTRY | {name: shape for name, shape in _LATER.items() if entry.get(name) is not None}
        if not all(name in entry and _has_shape(entry[name], shape) for name, shape in wanted.items()):
            raise ValueError("expected the settings of a run.")
    return runs


def _parse_table(path):
    """Scores, with the columns that a report needs."""
    import pandas as pd

    table = pd.read_csv(path, dtype={"subject": str, "session": str, "run": str})
    missing = {"run", "dataset", "pipeline", "subject", "session", "seed", "score", "time"} - set(table.columns)
    if missing or not all(pd.api.types.is_numeric_dtype(table[name]) for name in ("seed", "score", "time")):
        raise ValueError("expected the scores of runs.")
    return table


def _has_shape(value, shape):
    """Whether a value read from JSON is built of the types that a shape names."""
    if isinstance(shape, list):
        return isinstance(value, list) and all(_has_shape(one, shape[0]) for one in value)
    if isinstance(shape, dict) and str in shape:
        return isinstance(value, dict) and all(_has_shape(one, shape[str]) for one in value.values())
    if isinstance(shape, dict):
        return isinstance(value, dict) and all(key in value and _has_shape(value[key], shape[key]) for key in shape)
    if isinstance(value, bool):
        return shape is bool
    return isinstance(value, (int, float) if shape is float else shape)


def _check_room(path):
    """Raise OSError where the disk is full, before HDF5 finds out: it may then end the process."""
    try:
        path.write_bytes(bytes(ROOM))
    finally:
        path.unlink(missing_ok=True)


def write_text(path, text):
    """Write a text file in one step.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from skeeg.bench.folder import write_text
    >>> path = pathlib.Path(tempfile.mkdtemp(), "a.txt")
    >>> write_text(path, "a")
    >>> path.read_text()
    'a'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    new.write_text(text, encoding="utf-8", errors="backslashreplace")  # a message or a path may hold any bytes
    os.replace(new, path)


def set_aside(path):
    """Give a file that cannot be read another name, and say so.

    Parameters
    ----------
    path : path-like
        Unreadable file.

    Returns
    -------
    path : Path
        Its new place.
    """
    path = Path(path)
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    new = path.with_name(f"{path.stem}.unreadable-{stamp}{path.suffix}")
    os.replace(path, new)
    print(f"{path} cannot be read. It is kept as {new.name}; a new one is made.")
    return new
