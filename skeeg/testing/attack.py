"""Attack on the package: hostile files, bad input and random calls. ``python -m skeeg.testing.attack`` runs all of it.

It prints what became of every call, and ends with exit code 1 where anything was executed, hung, answered what is no
answer, raised something else than a ValueError or TypeError, or left an estimator otherwise than it found it.
"""

import argparse
import contextlib
import pathlib
import shutil
import sys
import tempfile
import time
import warnings

from .corpus import bad_inputs, bad_parameters
from .fuzz import fuzz_call
from .instances import instance, public_estimators
from .judging import CLEAR, FATAL, Table, argument_names, attack, judge, same_attributes
from .recordings import Recording, data_for, fresh


def attack_files():
    """Give every hostile file to every estimator that reads weights, and to `skeeg.load`.

    Returns
    -------
    table : Table
        Outcomes by entry.
    """
    from ..storage import load

    table = Table("Hostile files")
    entries = {"load": (load, [])}
    for cls in public_estimators():
        estimator = fresh(instance(cls))
        if hasattr(cls, "load"):  # meta-estimators have none
            entries[f"{cls.__name__}.load"] = cls.load, []
        if "checkpoint" in estimator.get_params(deep=False):
            entries[cls.__name__] = _fit_from_file(estimator), argument_names(estimator)
    with tempfile.TemporaryDirectory() as folder:
        paths = _hostile_checkpoints(folder)
        there = _content(folder)
        for entry, (read, names) in entries.items():
            for name, path in paths.items():
                outcome, told = judge(lambda read=read, path=path: read(path) and None, names, must_name=str(path))
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

    def fit(path):
        return fresh(estimator).set_params(checkpoint=path).fit(X, y)

    return fit


def _hostile_checkpoints(folder):
    """Write the corpus of files."""
    try:
        from .hostile import hostile_checkpoints
    except ModuleNotFoundError:
        return {}
    return hostile_checkpoints(folder)


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
        for name, value in _parameters_of(estimator):
            one = fresh(estimator).set_params(**{name: value})
            before = dict(vars(one))
            outcome, told = judge(lambda one=one, X=X, y=y: one.fit(X, y) and None, [name])
            outcome = "silent" if outcome == "right answer" else outcome
            if outcome == CLEAR and not same_attributes(one, before):
                outcome = "changed state"
            table.add(row, f"{name}={value!r}", outcome, told)
    return table


def _parameters_of(estimator):
    """Bad values of the parameters that an estimator has, by name."""
    params = estimator.get_params(deep=False)
    for name, values in bad_parameters().items():
        if name in params:
            for value in values:
                yield name, value


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
    parser.add_argument("--only", choices=("files", "inputs", "calls"), help="one of the three parts")
    chosen = parser.parse_args(argv)
    parts = {
        "files": attack_files,
        "inputs": attack_inputs,
        "calls": lambda: attack_at_random(chosen.calls, chosen.seed),
    }
    fatal = 0
    for name, part in parts.items():
        if chosen.only in (None, name):
            start = time.perf_counter()
            table = part()
            print(f"{table}\n({time.perf_counter() - start:.0f} s)\n", flush=True)
            fatal += table.count(FATAL)
    print(f"{fatal} calls were executed, silent, hung, changed the state or raised a wrong type of error.")
    return int(fatal > 0)


if __name__ == "__main__":
    _bound_memory()
    sys.exit(main())
