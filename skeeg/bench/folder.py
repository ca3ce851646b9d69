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
            yield
        finally:
            lock.release()

    def runs(self):
        """Read the settings of each run by its key, the latest last."""
        path = self.path / RUNS
        if not path.is_file():
            return {}
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            set_aside(path)
            return {}

    def table(self):
        """Read all scores; an empty frame where there are none."""
        import pandas as pd

        path = self.path / TABLE
        if not path.is_file():
            return pd.DataFrame()
        return pd.read_csv(path, dtype={"subject": str, "session": str, "run": str})

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
    new.write_text(text, encoding="utf-8")
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
