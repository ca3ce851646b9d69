"""Checks that predicting changes nothing, so that threads can share an estimator, and of networks folded for it."""

import pickle
import threading

import numpy as np

from .recordings import assert_same_outputs, data_for, fresh, outputs


def check_threads(estimator, recording):
    """Check that two threads at once, each on its own montage where that is taken, get what one after the other gets.

    Fits with one seed, and predictions of one fitted estimator.
    """
    X, y = data_for(estimator, recording)
    wanted = outputs(fresh(estimator).fit(X, y), X)
    for fitted in _at_once([lambda: fresh(estimator).fit(X, y)] * 2):
        assert_same_outputs(outputs(fitted, X), wanted, "fits in two threads")
    predict_in_threads(fitted, recordings_for(estimator, recording), 10)


def check_predict_changes_nothing(estimator, recording):
    """Check that predictions, on another montage too where it is taken, leave the estimator as it was, to the bit."""
    X, y = data_for(estimator, recording)
    fitted = fresh(estimator).fit(X, y)
    before = pickle.dumps(fitted)
    for trials in recordings_for(estimator, recording):
        outputs(fitted, trials)
    if pickle.dumps(fitted) != before:
        raise AssertionError("a prediction changes the estimator.")


def check_compiled(estimator, recording):
    """Check that ``compile_inference`` changes results by rounding only, and that another fit ends it."""
    X, y = data_for(estimator, recording)
    fitted = fresh(estimator).fit(X, y)
    wanted = outputs(fitted, X)
    if fitted.compile_inference() is not fitted:
        raise AssertionError("compile_inference does not return self.")
    assert_same_outputs(outputs(fitted, X), wanted, "after compile_inference", rtol=1e-4)
    assert_same_outputs(outputs(pickle.loads(pickle.dumps(fitted)), X), wanted, "a pickle after compile_inference")
    predict_in_threads(fitted, recordings_for(estimator, recording), 10)
    assert_same_outputs(outputs(fitted.fit(X, y), X), wanted, "another fit after compile_inference")


def predict_in_threads(fitted, recordings, n_predictions, n_threads=2):
    """Compare predictions of threads that share a fitted estimator with those of one thread.

    Parameters
    ----------
    fitted : estimator
        Fitted; each of its methods ``predict``, ``predict_proba``, ``decision_function`` and ``transform`` is called.
    recordings : list of EEGArray
        Trials that each thread takes in turn, beginning with another.
    n_predictions : int
        Rounds of each thread.
    n_threads : int
        Threads.

    Raises
    ------
    AssertionError
        Where a result is another one, to the bit.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg import AverageReference
    >>> from skeeg.testing.threads import predict_in_threads
    >>> X = np.random.default_rng(0).normal(size=(2, 3, 50))
    >>> predict_in_threads(AverageReference().fit(X), [X, -X], 5)
    """
    wanted = [outputs(fitted, X) for X in recordings]

    def rounds(first):
        for turn in range(first, first + n_predictions):
            which = turn % len(recordings)
            assert_same_outputs(outputs(fitted, recordings[which]), wanted[which], "two threads at once")

    _at_once([lambda first=first: rounds(first) for first in range(n_threads)])


def _at_once(tasks):
    """Results of functions that run in threads at the same time; the first error of any is raised."""
    results, errors = [None] * len(tasks), []
    start = threading.Barrier(len(tasks))

    def call(place):
        try:
            start.wait()
            results[place] = tasks[place]()
        except BaseException as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    threads = [threading.Thread(target=call, args=(place,)) for place in range(len(tasks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results


def recordings_for(estimator, recording):
    """Trials to predict: other ones, one alone, and another montage and length where the estimator takes them."""
    X, _ = data_for(estimator, recording)
    other, _ = data_for(estimator, recording, seed=1)
    found = [X, other[:1]]
    if getattr(estimator, "_any_montage", False):
        found.insert(1, data_for(estimator, recording.other())[0][..., : np.shape(X)[2]])
    return found
