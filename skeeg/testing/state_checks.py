"""Checks of fitted and global state: refits, copies, pickles, files, random states, threads."""

import contextlib
import copy
import functools
import pathlib
import pickle
import random
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import sklearn
from joblib.externals.loky import ProcessPoolExecutor
from sklearn.pipeline import make_pipeline

from .input_checks import CLEAR, judge
from .recordings import (
    METHODS,
    assert_same_outputs,
    data_for,
    fitted_on,
    fresh,
    kind_of,
    outputs,
    takes_any_montage,
)


def check_reproducible(estimator, recording):
    """Check that two fits with the same ``random_state`` give the same results to the bit, whatever the global seed."""
    X, y, _, wanted = fitted_on(estimator, recording)
    with _global_state_kept():
        np.random.seed(1234)  # noqa: NPY002, the legacy state is what must not matter
        if "torch" in sys.modules:
            sys.modules["torch"].manual_seed(1234)
        found = outputs(fresh(estimator).fit(X, y), X)
    assert_same_outputs(found, wanted, "two fits with the same random_state")


def check_refit(estimator, recording):
    """Check that a second fit on another montage, length and number of classes gives what a new estimator gives."""
    other = recording.other()
    n_classes = 3 if kind_of(estimator) == "classifier" else 2
    X, y = data_for(estimator, other, n_classes)
    if kind_of(estimator) == "classifier":
        y = np.array(["feet", "left", "right"])[y]
    wanted = outputs(fresh(estimator).fit(X, y), X)
    one = fresh(estimator).fit(*data_for(estimator, recording))
    assert_same_outputs(outputs(one.fit(X, y), X), wanted, "a second fit against a first", rtol=1e-6)


def check_deepcopy(estimator, recording):
    """Check that a deep copy predicts the same, and another fit of the copy leaves the original alone."""
    X, y, fitted, wanted = fitted_on(estimator, recording)
    twin = copy.deepcopy(fitted)
    assert_same_outputs(outputs(twin, X), wanted, "a deep copy")
    twin.fit(*data_for(estimator, recording.other(), seed=1))
    assert_same_outputs(outputs(fitted, X), wanted, "the original after another fit of its deep copy")


def check_save_load(estimator, recording):
    """Check that what `save` writes, `load` reads: the same class, the same results, refused where it is not fitted."""
    X, _, fitted, wanted = fitted_on(estimator, recording)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "estimator.safetensors"
        fitted.save(path)
        again = type(fitted).load(path)
        if judge(lambda: fresh(estimator).save(path), ["fit"])[0] != CLEAR:
            raise AssertionError("save without fit is not refused by an error that says so.")
    assert_same_outputs(outputs(again, X), wanted, "saved and loaded")
    if repr(again.get_params()) != repr(fitted.get_params()):
        raise AssertionError("an estimator that was saved and loaded has other parameters.")


def check_one_trial_equals_batch(estimator, recording):
    """Check that each trial alone gets the result that it gets among others, in any order."""
    X, y, fitted, wanted = fitted_on(estimator, recording)
    order = np.random.RandomState(0).permutation(len(X))  # noqa: NPY002, a fixed order
    shuffled = outputs(fitted, X[order])
    assert_same_outputs(shuffled, {name: value[order] for name, value in wanted.items()}, "in another order", 1e-5)
    alone = [outputs(fitted, X[i : i + 1]) for i in range(5)]
    joined = {name: np.concatenate([one[name] for one in alone]) for name in wanted}
    assert_same_outputs(joined, {name: value[:5] for name, value in wanted.items()}, "each trial alone", 1e-5)


def check_global_state(estimator, recording):
    """Check that random states, threads, and settings of scikit-learn, NumPy and torch are left as they were."""
    X, y, *_ = fitted_on(estimator, recording)  # lazy imports come first: they may set what they like
    with _global_state_kept():
        random.random(), np.random.random()  # noqa: NPY002, B018 - away from where a seed of the estimator's would put it
        if "torch" in sys.modules:
            sys.modules["torch"].rand(1)
        before = _global_state()
        outputs(fresh(estimator).fit(X, y), X)
        after = _global_state()
    changed = [name for name, value in before.items() if pickle.dumps(value) != pickle.dumps(after[name])]
    if changed:
        raise AssertionError(f"fit or predict changes the global {', '.join(changed)}.")


def _global_state():
    state = {
        "random state of Python": random.getstate(),
        "random state of NumPy": np.random.get_state(),  # noqa: NPY002, the legacy state is what others use
        "scikit-learn configuration": sklearn.get_config(),
        "NumPy error handling": np.geterr(),
    }
    torch = sys.modules.get("torch")
    if torch is not None:
        state |= {
            "random state of torch": torch.get_rng_state().numpy(),
            "number of torch threads": torch.get_num_threads(),
            "torch dtype": torch.get_default_dtype(),
            "torch gradient mode": torch.is_grad_enabled(),
            "torch deterministic mode": torch.are_deterministic_algorithms_enabled(),
        }
    return state


@contextlib.contextmanager
def _global_state_kept():
    """Put the random states of NumPy and torch back."""
    numpy, torch = np.random.get_state(), sys.modules.get("torch")  # noqa: NPY002
    state = None if torch is None else torch.get_rng_state()
    try:
        yield
    finally:
        np.random.set_state(numpy)  # noqa: NPY002
        if torch is not None:
            torch.set_rng_state(state)


def check_repr_between_processes(estimator, recording):
    """Check that the `repr` is short and the same in processes of other hash seeds: MOABB finds results by it."""
    here = _shown(fresh(estimator))
    for seed in (1, 2):
        there = _process(seed).submit(_shown, fresh(estimator)).result()
        if there != here:
            raise AssertionError(f"repr differs between processes:\n{here}\n{there}")
    shown = repr(make_pipeline(fresh(estimator)).get_params())
    if len(shown) > 10_000 or "array([" in shown or " at 0x" in shown:
        raise AssertionError(f"repr holds an array or an address, or is too long to tell settings apart: {shown[:300]}")


def _shown(estimator):
    return repr(estimator.get_params())


@functools.cache
def _process(seed):
    """Process with its own hash seed; one serves all checks, because each would import the libraries again."""
    return ProcessPoolExecutor(1, env={"PYTHONHASHSEED": str(seed)})


def check_has_output(estimator, recording):
    """Check that the estimator predicts or transforms, one result a trial, all finite."""
    X, _, _, found = fitted_on(estimator, recording)
    if not found:
        raise AssertionError(f"the estimator has none of the methods {', '.join(METHODS)}.")
    for name, value in found.items():
        if value.ndim == 0 or len(value) != len(X):
            raise AssertionError(f"{name} gives shape {value.shape} for {len(X)} trials.")
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise AssertionError(f"{name} gives values that are not finite.")


def check_threads(estimator, recording):
    """Check that two threads at once, each on its own montage where that is taken, get what one after the other gets.

    Fits with one seed, and predictions of one fitted estimator.
    """
    X, y, _, wanted = fitted_on(estimator, recording)
    for fitted in _at_once([lambda: fresh(estimator).fit(X, y)] * 2):
        assert_same_outputs(outputs(fitted, X), wanted, "fits in two threads")
    predict_in_threads(fitted, other_recordings(estimator, recording), 10)


def check_predict_changes_nothing(estimator, recording):
    """Check that predictions, on another montage too where it is taken, leave the estimator as it was, to the bit."""
    fitted = fresh(estimator).fit(*data_for(estimator, recording))
    before = pickle.dumps(fitted)
    for trials in other_recordings(estimator, recording):
        outputs(fitted, trials)
    if pickle.dumps(fitted) != before:
        raise AssertionError("a prediction changes the estimator.")


def check_compiled(estimator, recording):
    """Check that ``compile_inference`` changes results by rounding only, and that another fit ends it."""
    X, y, fitted, wanted = fitted_on(estimator, recording)
    if fitted.compile_inference() is not fitted:
        raise AssertionError("compile_inference does not return self.")
    assert_same_outputs(outputs(fitted, X), wanted, "after compile_inference", rtol=1e-4)
    assert_same_outputs(outputs(pickle.loads(pickle.dumps(fitted)), X), wanted, "a pickle after compile_inference")
    predict_in_threads(fitted, other_recordings(estimator, recording), 10)
    assert_same_outputs(outputs(fitted.fit(X, y), X), wanted, "another fit after compile_inference")


def predict_in_threads(fitted, recordings, n_predictions):
    """Compare predictions of two threads that share a fitted estimator with those of one thread, to the bit."""
    wanted = [outputs(fitted, X) for X in recordings]

    def rounds(first):
        for turn in range(first, first + n_predictions):
            which = turn % len(recordings)
            assert_same_outputs(outputs(fitted, recordings[which]), wanted[which], "two threads at once")

    _at_once([lambda first=first: rounds(first) for first in range(2)])


def _at_once(tasks):
    """Results of functions that run in threads at the same time."""
    with ThreadPoolExecutor(len(tasks)) as threads:
        return list(threads.map(lambda task: task(), tasks))


def other_recordings(estimator, recording):
    """Trials to predict: others than at fit, one alone, and another montage and length where these are accepted."""
    X, _ = data_for(estimator, recording)
    other, _ = data_for(estimator, recording, seed=1)
    found = [X, other[:1]]
    if takes_any_montage(estimator):
        found.insert(1, data_for(estimator, recording.other())[0][..., : np.shape(X)[2]])
    return found
