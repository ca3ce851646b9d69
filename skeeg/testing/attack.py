"""Attack on the package: hostile files, bad input and random calls. ``python -m skeeg.testing.attack`` runs all of it.

It prints what became of every call, and ends with exit code 1 where anything was executed, hung, answered what is no
answer, raised something else than a ValueError or TypeError, or left an estimator otherwise than it found it.
"""

import argparse
import contextlib
import functools
import pathlib
import shutil
import sys
import tempfile
import time
import warnings

from joblib import Parallel, delayed

from .corpus import bad_inputs
from .fuzz import fuzz_call
from .instances import instance, public_estimators
from .judging import FATAL, Table, attack, attack_parameters, judge
from .recordings import Recording, data_for, fresh


def attack_files(estimators=None, only=None):
    """Give every hostile file to every estimator that reads weights, and to `skeeg.load`.

    Parameters
    ----------
    estimators : sequence of estimator or None
        What to attack; None takes a small instance of every public one, and `skeeg.load`.
    only : sequence of str or None
        Some of the files of `hostile_checkpoints`.

    Returns
    -------
    table : Table
        Outcomes by entry.
    """
    from ..storage import load
    from .hostile import hostile_checkpoints

    table = Table("Hostile files")
    entries = {"load": load} if estimators is None else {}
    for estimator in [instance(cls) for cls in public_estimators()] if estimators is None else estimators:
        name = type(estimator).__name__
        if hasattr(estimator, "load"):  # meta-estimators have none
            entries[f"{name}.load"] = estimator.load
        if "checkpoint" in estimator.get_params(deep=False):
            entries[name] = _fit_from_file(fresh(estimator))
    with tempfile.TemporaryDirectory() as folder:
        paths = hostile_checkpoints(folder, only)
        there = _content(folder)
        for entry, read in entries.items():
            for name, path in paths.items():
                outcome, told = judge(lambda read=read, path=path: read(path) and None, [], must_name=str(path))
                if outcome == "right answer":
                    outcome = "silent"
                if (now := _content(folder)) != there:
                    outcome = "executed"
                    _remove(now.keys() - there.keys())
                    there = _content(folder)
                table.add(entry, name, outcome, told)
    return table


def _fit_from_file(estimator):
    X, y = data_for(estimator, Recording.suited_to(estimator))
    alone = {"pretrainer": None} if hasattr(estimator, "pretrainer") else {}  # one of the two is given

    def fit(path):
        return fresh(estimator).set_params(checkpoint=path, **alone).fit(X, y)

    return fit


def _content(folder):
    """Size and time of everything in a folder."""
    found = {path: path.lstat() for path in pathlib.Path(folder).rglob("*")}
    return {path: (state.st_size, state.st_mtime_ns) for path, state in found.items()}


def _remove(paths):
    for path in sorted(paths, reverse=True):
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def attack_inputs(estimators=None):
    """Give every bad input, and every bad parameter, to every public estimator.

    Parameters
    ----------
    estimators : sequence of estimator or None
        What to attack; None takes a small instance of every public one.

    Returns
    -------
    table : Table
        Outcomes by estimator.
    """
    table = Table("Bad input")
    for estimator in [instance(cls) for cls in public_estimators()] if estimators is None else estimators:
        estimator = fresh(estimator)
        row = type(estimator).__name__
        X, y = data_for(estimator, Recording.suited_to(estimator))
        fitted = _quietly(fresh(estimator).fit, X, y)
        for name, bad in bad_inputs().items():
            for stage, outcome, told in attack(estimator, fitted, X, y, bad):
                table.add(row, f"{name} at {stage}", outcome, told)
        for what, outcome, told in attack_parameters(estimator, X, y):
            table.add(row, what, outcome, told)
    return table


def attack_at_random(n_calls=10_000, seed=0):
    """Make random calls of the transformers and of EEGArray.

    Parameters
    ----------
    n_calls : int
        How many.
    seed : int
        Call number i has the seed ``seed + i``.

    Returns
    -------
    table : Table
        Outcomes by class.
    """
    table = Table("Random calls")
    for i in range(n_calls):
        row, what, outcome, told = fuzz_call(seed + i)
        table.add(row, f"seed {seed + i}: {what}", outcome, told)
    return table


def _quietly(call, *args):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return call(*args)


def _timed(part):
    """Table of a part, and the seconds it took."""
    start = time.perf_counter()
    return part(), time.perf_counter() - start


def _bound_memory(n_bytes=8 * 2**30):
    """Make what asks for too much memory fail, in place of the whole machine."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (n_bytes, resource.getrlimit(resource.RLIMIT_AS)[1]))


def main(argv=None):
    """Run the attack and print its tables.

    Parameters
    ----------
    argv : sequence of str or None
        Arguments; None takes those of the command line.

    Returns
    -------
    code : int
        1 where anything went fatally wrong.
    """
    parser = argparse.ArgumentParser(prog="python -m skeeg.testing.attack", description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=10_000, help="random calls (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first random call")
    parser.add_argument("--only", choices=("inputs", "files", "calls"), help="one of the three parts")
    chosen = parser.parse_args(argv)
    parts = {  # the longest first: two processes share them
        "inputs": attack_inputs,
        "files": attack_files,
        "calls": functools.partial(attack_at_random, chosen.calls, chosen.seed),
    }
    if chosen.only is not None:
        tables = [_timed(parts[chosen.only])]
    else:
        tables = Parallel(n_jobs=2, return_as="generator")(delayed(_timed)(part) for part in parts.values())
    fatal = 0
    for table, seconds in tables:
        print(f"{table}\n({seconds:.0f} s)\n", flush=True)
        fatal += table.count(FATAL)
    print(f"{fatal} calls were executed, silent, hung, changed the state or raised a wrong type of error.")
    return int(fatal > 0)


if __name__ == "__main__":
    _bound_memory()
    sys.exit(main())
