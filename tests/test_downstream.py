import numpy as np
import pandas as pd
import pytest
from moabb import datasets
from moabb.paradigms import LeftRightImagery
from sklearn.base import BaseEstimator, ClassifierMixin

from skeeg.datasets import SimulatedMotorImagery
from skeeg.evaluations import DownstreamEvaluation, DownstreamSplitter
from skeeg.evaluations.published import DOWNSTREAM, PUBLISHED


@pytest.mark.parametrize(
    ("n_trials", "n_train"), [(144, 43), (200, 60), (160, 48), (120, 36), (40, 12), (288, 86)]
)  # the sizes that the published accuracies are multiples of
def test_sizes_of_the_split_are_the_published_ones(n_trials, n_train):
    metadata = pd.DataFrame({"subject": 3, "session": ["a"] * n_trials + ["b"] * 10})
    ((train, test),) = DownstreamSplitter(None, 666).split(np.zeros(n_trials + 10), metadata)
    assert len(train) == n_train and len(test) == n_trials - n_train
    assert sorted([*train, *test]) == list(range(n_trials))
    ((other, _),) = DownstreamSplitter(None, 667).split(np.zeros(n_trials + 10), metadata)
    assert set(other) != set(train)


def test_the_session_is_chosen_by_name():
    metadata = pd.DataFrame({"subject": np.repeat([1, 2], 40), "session": np.tile(np.repeat(["0a", "1b"], 20), 2)})
    folds = list(DownstreamSplitter("1b").split(np.zeros(80), metadata))
    assert len(folds) == 2
    for fold in folds:
        assert set(metadata["session"].iloc[np.concatenate(fold)]) == {"1b"}
    with pytest.raises(ValueError, match="session: subject 1 has no session '2c'; there are 0a, 1b"):
        list(DownstreamSplitter("2c").split(np.zeros(80), metadata))


def test_the_five_sets_are_moabbs():
    for task in DOWNSTREAM.values():
        dataset = getattr(datasets, task["dataset"])()
        assert set(task["events"]) <= set(dataset.event_id)
    assert DOWNSTREAM["BNCI2014004"]["session"] == "3test"  # the fourth session


def test_published_table_is_whole():
    for name, row in PUBLISHED.items():
        values = [float(cell.split("±")[0]) for cell in row.split()]
        assert len(values) == 5 and all(25 < value < 85 for value in values), name
    gains = [float(a.split("±")[0]) - float(b.split("±")[0]) for a, b in zip(
        PUBLISHED["MIRepNet"].split(), PUBLISHED["MIRepNet, from scratch"].split(), strict=True)]  # fmt: skip
    np.testing.assert_allclose(sorted(gains), [3.42, 3.61, 6.52, 6.88, 7.81], atol=1e-9)


class Seeded(ClassifierMixin, BaseEstimator):
    """Remembers its seed and what it was trained on."""

    seen = []

    def __init__(self, random_state=None):
        self.random_state = random_state

    def fit(self, X, y):
        Seeded.seen.append((self.random_state, len(X), X.shape[1:], X.ch_names))
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.zeros(len(X), dtype=int)


def test_thirty_percent_of_the_chosen_session_train(tmp_path):
    Seeded.seen = []
    dataset = SimulatedMotorImagery(n_subjects=2, n_sessions=2, n_runs=1, n_trials=40, ch_names=("C3", "Cz", "C4"))
    paradigm, files = LeftRightImagery(scorer="accuracy"), set()
    for splitter in (None, DownstreamSplitter("1"), DownstreamSplitter("1", 667)):
        evaluation = DownstreamEvaluation(paradigm, dataset, splitter, hdf5_path=str(tmp_path))
        results = evaluation.process({"seeded": Seeded()})
        assert len(results) == 2 and set(results["split_seed"].astype(int)) == {evaluation.random_state}
        files.add(evaluation.results.filepath)
    assert len(files) == 3  # results of another session or seed must not be mixed in
    assert {(n, shape[0], names) for _, n, shape, names in Seeded.seen} == {(12, 3, ("C3", "Cz", "C4"))}
