import threading

import numpy as np
import pytest
import torch

from skeeg import NetworkClassifier
from skeeg.training import data
from skeeg.training.data import Batches, Trials, prefetch


def test_the_next_is_made_while_the_one_before_is_in_use():
    in_use, made = threading.Event(), []

    def make(item):
        if item == 1:
            assert in_use.wait(10)  # would time out if it were made before the first was yielded
        made.append((item, threading.current_thread()))
        return item

    items = prefetch(make, range(3))
    assert next(items) == 0
    in_use.set()
    assert list(items) == [1, 2]
    assert [item for item, _ in made] == [0, 1, 2]
    assert len({thread for _, thread in made}) == 1 and made[0][1] is not threading.current_thread()


@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_nothing_is_lost_or_made_twice(n):
    made = []
    assert list(prefetch(lambda item: made.append(item) or item, range(n))) == list(range(n)) == made


def test_errors_come_at_their_item_and_a_stop_ends_the_thread():
    items = prefetch(lambda item: 1 // item, [2, 0, 1])
    assert next(items) == 0
    with pytest.raises(ZeroDivisionError):
        next(items)
    before = threading.active_count()
    items = prefetch(str, range(100))
    assert next(items) == "0"
    items.close()
    assert threading.active_count() == before


@pytest.mark.parametrize(("device", "used"), [("cpu", False), ("cuda", True), ("cuda:1", True)])
def test_only_trials_that_stay_off_the_gpu_are_prefetched(device, used, monkeypatch):
    fetched = []
    monkeypatch.setattr(data, "prefetch", lambda take, chunks: fetched.append(True) or map(take, chunks))
    trials = Trials(np.arange(6.0), np.arange(6))
    assert [y.tolist() for _, y in Batches(trials, 4, device=device)] == [[0, 1, 2, 3], [4, 5]]
    assert fetched == [True] * used


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_trials_that_do_not_fit_train_as_those_that_do(monkeypatch):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(50, 3, 128)), np.arange(50) % 2
    clf = NetworkClassifier(max_epochs=3, random_state=0, device="cuda")
    there = clf.fit(X, y).predict_proba(X)

    def refuse(self, device):
        raise torch.cuda.OutOfMemoryError

    monkeypatch.setattr(Trials, "to", refuse)
    np.testing.assert_allclose(clf.fit(X, y).predict_proba(X), there, atol=1e-5)
