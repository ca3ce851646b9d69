"""Attack on the package: hostile files, bad input and random calls. ``python benchmarks/attack.py`` runs all of it.

It prints the outcome of every call, and ends with exit code 1 where anything executed code, hung, gave a wrong answer,
raised something else than a ValueError or TypeError, or changed an estimator.
"""

import argparse
import contextlib
import functools
import pathlib
import sys
import time
import warnings

import numpy as np
from joblib import Parallel, delayed

from skeeg import (
    CSP,
    AverageReference,
    BandPass,
    ChannelTemplate,
    EEGArray,
    EuclideanAlignment,
    FilterBank,
    Notch,
    Resample,
    RiemannianAlignment,
    as_eeg,
)
from skeeg.array import make_domains
from skeeg.restoration import LowRankCompletion, SplineInterpolation, TimeInterpolation
from skeeg.testing import Recording, bad_inputs
from skeeg.testing.inputs import (
    ANSWER,
    CLEAR,
    argument_names,
    attack,
    attack_parameters,
    judge,
    same_attributes,
)
from skeeg.testing.recordings import data_for, fresh

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests"))

from hostile import WRONG, Table, attack_files  # noqa: E402
from instances import instance, public_estimators  # noqa: E402

NAMES = ("C3", "Cz", "C4", "Pz", "Fz", "T7")
VALUES = (None, True, 0, 1, -1, 3, 2.5, 1e9, -0.5, np.nan, np.inf, "x", "auto", "", (), (1,), (8.0, 30.0), ("C3", "C4"),
          (1, "x"), np.float32(4), np.int64(2), [8, 12], {})  # fmt: skip


def attack_inputs(estimators=None):
    """Give every bad input, and every bad parameter, to the estimators (None: every public one), and count outcomes."""
    table = Table("Bad input")
    for estimator in [instance(cls) for cls in public_estimators()] if estimators is None else estimators:
        estimator = fresh(estimator)
        row = type(estimator).__name__
        X, y = data_for(estimator, Recording.suited_to(estimator))
        fitted = _quietly(fresh(estimator).fit, X, y)
        for name, bad in bad_inputs().items():
            for stage, outcome, message in attack(estimator, fitted, X, y, bad):
                table.add(row, f"{name} at {stage}", outcome, message)
        for what, outcome, message in attack_parameters(estimator, X, y):
            table.add(row, what, outcome, message)
    return table


def attack_at_random(n_calls=10_000, seed=0):
    """Make random calls of the transformers and of EEGArray, and count the outcomes by class."""
    table = Table("Random calls")
    for i in range(n_calls):
        row, what, outcome, message = fuzz_call(seed + i)
        table.add(row, f"seed {seed + i}: {what}", outcome, message)
    return table


def transformers():
    """Make small instances of the transformers that are not trained."""
    return [
        AverageReference(), BandPass(), BandPass(method="iir"), Notch(method="iir"), Resample(64.0),
        FilterBank(((8, 12), (12, 16))), ChannelTemplate(("C3", "CP3")), EuclideanAlignment(),
        EuclideanAlignment(on_unseen="running"), RiemannianAlignment(), CSP(2), CSP(2, transform_into="csp_space"),
        SplineInterpolation(), TimeInterpolation(), LowRankCompletion(2),
    ]  # fmt: skip


def fuzz_call(seed):
    """Make one random call, determined by its seed: class, arguments, outcome and error."""
    rng = np.random.default_rng(seed)
    return _fuzz_array(rng) if rng.random() < 0.3 else _fuzz_step(rng)


def _fuzz_step(rng):
    """Fit and apply a transformer with random parameters, trials and targets; what is refused changes nothing."""
    steps = transformers()
    step = steps[rng.integers(len(steps))]
    params = [name for name in step.get_params(deep=False) if name != "estimator"]
    changes = {}
    if params and rng.random() < 0.5:
        changes = {str(name): VALUES[rng.integers(len(VALUES))] for name in rng.choice(params, rng.integers(1, 3))}
        step.set_params(**changes)
    X, what = _trials(rng)
    y = np.arange(len(X) if isinstance(X, np.ndarray) and X.ndim else 4) % 2
    before, row = dict(vars(step)), type(step).__name__
    names = argument_names(step)
    outcome, message = judge(lambda: step.fit(X, y) and None, names)
    what = f"{changes} fit {what}"
    if outcome in (CLEAR, "unclear error") and not same_attributes(step, before):
        return row, what, "changed state", message
    if outcome != ANSWER:
        return row, what, outcome, message
    before = dict(vars(step))
    Z, again = (X, "the same") if rng.random() < 0.5 else _trials(rng)
    n_trials = len(Z) if isinstance(Z, np.ndarray) and Z.ndim else None
    outcome, message = judge(lambda: [step.transform(Z)], names, n_trials)
    return row, f"{what}, transform {again}", outcome if same_attributes(step, before) else "changed state", message


def _trials(rng):
    """Trials of a random shape, two in three of them good, and their description."""
    n_trials, n_channels, n_times = rng.integers(1, 9), rng.integers(1, 5), rng.choice([1, 2, 30, 100, 300])
    data = 10.0 ** rng.integers(-3, 5) * rng.standard_normal((n_trials, n_channels, n_times))
    if rng.random() < 0.3:
        data = data.astype(np.float32)
    X = EEGArray(data, NAMES[:n_channels], rng.choice([100.0, 128.0]))
    if rng.random() < 0.4:
        X = X.like(X, domains=make_domains(n_trials, subject=np.arange(n_trials) % 2))
    if rng.random() < 2 / 3:
        return X, f"{X!r}"
    corpus = {name: bad for name, bad in bad_inputs().items() if bad.stage != "fit"}
    name = list(corpus)[rng.integers(len(corpus))]
    with contextlib.suppress(IndexError):  # there is no second trial or channel to spoil
        return corpus[name].make(X, np.arange(n_trials))[0], f"{name} of {X!r}"
    return X, f"{X!r}"


def _fuzz_array(rng):
    """Build, slice or read an EEGArray at random; names, rate and domains fit the values."""
    X, what = _trials(rng)
    kind = rng.integers(3)
    if kind == 0:
        names = ("data", "ch_names", "sfreq", "domains")
        identity = {str(name): VALUES[rng.integers(len(VALUES))] for name in rng.choice(names[1:], rng.integers(1, 4))}
        outcome, message = judge(lambda: _consistent(EEGArray(X, **identity)), names)
        return "EEGArray", f"{identity} of {what}", outcome, message
    if kind == 1 or not isinstance(X, EEGArray):
        outcome, message = judge(lambda: _consistent(as_eeg(X)), ("X",))
        return "as_eeg", what, outcome, message
    key = _key(rng, X.shape)
    try:
        wanted = np.asarray(X)[key]
    except (IndexError, ValueError):
        return "EEGArray slices", f"{key}", CLEAR, ""  # not NumPy's either
    outcome, message = judge(lambda: _consistent(X[key], wanted), ("X",))
    return "EEGArray slices", f"{key} of {what}", outcome, message


def _consistent(X, wanted=None):
    """Raise where the names or domains of an EEGArray contradict its values."""
    if wanted is not None and not np.array_equal(np.asarray(X), wanted, equal_nan=True):
        raise AssertionError("other values than NumPy's")
    if isinstance(X, EEGArray):
        if X.ch_names is not None and len(X.ch_names) != X.shape[1]:
            raise AssertionError("names and channels differ")
        if X.domains is not None and len(X.domains) != len(X):
            raise AssertionError("domains and trials differ")
        repr(X), X._repr_html_(), X.copy()


def _key(rng, shape):
    """Index of one to three axes."""
    parts = []
    for n in shape[: rng.integers(1, 4)]:
        parts.append(
            [
                slice(*(None if rng.random() < 0.5 else int(rng.integers(-n - 1, n + 2)) for _ in range(2))),
                int(rng.integers(-n, n or 1)),
                rng.integers(-n, n or 1, rng.integers(0, 4)).tolist(),
                rng.random(n) < 0.5,
                Ellipsis,
                None,
            ][rng.choice(6, p=[0.4, 0.15, 0.2, 0.15, 0.05, 0.05])]
        )
    return tuple(parts)


def _quietly(call, *args):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return call(*args)


def _timed(part):
    """Table of a part, and the seconds it took."""
    start = time.perf_counter()
    return part(), time.perf_counter() - start


def _bound_memory(n_bytes=8 * 2**30):
    """Let a call that needs too much memory fail, not the whole machine."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (n_bytes, resource.getrlimit(resource.RLIMIT_AS)[1]))


def main(argv=None):
    """Run the attack and print its tables; the result is the exit code, 1 after a fatal outcome."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
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
        fatal += table.count(WRONG[1:])  # all but unclear errors
    print(f"{fatal} calls were executed, undetected, hung, changed the state or raised a wrong type of error.")
    return int(fatal > 0)


if __name__ == "__main__":
    _bound_memory()
    sys.exit(main())
