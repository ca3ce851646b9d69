import warnings

import numpy as np
import pandas as pd
import pytest
from moabb.datasets.fake import FakeDataset
from moabb.paradigms import LeftRightImagery
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skeeg import CSP, EuclideanAlignment
from skeeg.evaluations import CrossTaskDataset, CrossTaskEvaluation, CrossTaskSplitter

EVENTS = ("left_hand", "right_hand")


def make_fake(n_subjects=2, n_sessions=1, seed=0, events=EVENTS, sfreq=128):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return FakeDataset(
            event_list=events, n_sessions=n_sessions, n_runs=1, n_subjects=n_subjects, paradigm="imagery",
            channels=("C3", "Cz", "C4"), seed=seed, sfreq=sfreq, duration=60, n_events=24,
        )  # fmt: skip


def make_metadata(n_subjects=3, n_source=6, n_target=10):
    rows = [(s, "0execution") for s in range(1, n_subjects + 1) for _ in range(n_source)]
    rows += [(s, "1imagery") for s in range(1, n_subjects + 1) for _ in range(n_target)]
    metadata = pd.DataFrame(rows, columns=["subject", "session"]).sort_values("subject", kind="stable")
    y = np.random.default_rng(0).permutation(np.resize(["l", "r"], len(metadata)))
    return y, metadata.reset_index(drop=True)


@pytest.mark.parametrize("source", ["own", "others", "all"])
@pytest.mark.parametrize("others_target", [False, True])
@pytest.mark.parametrize("n_draws", [None, 3])
def test_splits_keep_the_protocol(source, others_target, n_draws):
    y, metadata = make_metadata()
    splitter = CrossTaskSplitter((0, 2, 5), "imagery", source, others_target, n_draws=n_draws, random_state=0)
    subjects, is_target = metadata["subject"].to_numpy(), metadata["session"].str.endswith("imagery").to_numpy()
    tests, n_folds = {}, 0
    for train, labelled, test in splitter.split(y, metadata):
        told = splitter.get_metadata()
        (subject,) = np.unique(subjects[test])
        assert is_target[test].all() and is_target[labelled].all() and (subjects[labelled] == subject).all()
        assert len(labelled) == told["n_target"] and len(test) == 10 - 5
        assert not set(test) & (set(train) | set(labelled)) and not set(train) & set(labelled)
        wanted = ~is_target & {"own": subjects == subject, "others": subjects != subject, "all": subjects > 0}[source]
        if others_target:
            wanted |= is_target & (subjects != subject)
        assert set(train) == set(np.flatnonzero(wanted))
        # the curve is comparable: one test set per subject and draw, growing training sets
        assert tests.setdefault((subject, told["draw"]), tuple(test)) == tuple(test)
        n_folds += 1
    assert n_folds == 3 * 3 * (n_draws or 1)


def test_own_execution_with_the_imagery_of_others():
    y, metadata = make_metadata()
    splitter = CrossTaskSplitter((2,), "imagery", "own", others_target=True)
    train, _, test = next(splitter.split(y, metadata))
    subject = metadata["subject"][test[0]]
    kept = metadata.iloc[train]
    assert set(kept["session"][kept["subject"] == subject]) == {"0execution"}
    assert set(kept["session"][kept["subject"] != subject]) == {"1imagery"}


def test_the_first_trials_of_each_class_are_labelled():
    metadata = pd.DataFrame({"subject": 1, "session": ["0execution"] * 2 + ["1imagery"] * 8})
    (_, labelled, _) = next(CrossTaskSplitter((4,)).split(np.array(list("lr" + "llllrrrl")), metadata))
    assert labelled.tolist() == [2, 3, 6, 7]


def test_draws_differ_and_are_reproducible():
    y, metadata = make_metadata(n_subjects=1)
    folds = [
        [tuple(f[1]) for f in CrossTaskSplitter((4,), n_draws=4, random_state=s).split(y, metadata)] for s in (0, 0, 1)
    ]
    assert folds[0] == folds[1] != folds[2] and len(set(folds[0])) > 1


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"n_target": (10,)}, "n_target: subject 1 has 10 trials"),
        ({"n_target": (-1,)}, "n_target: expected"),
        ({"n_target": ()}, "n_target: expected"),
        ({"source": "mine"}, "source: got 'mine'"),
        ({"n_target": (2,), "n_draws": 0}, "n_draws: got 0"),
        ({"target": "dreaming"}, "target: no session ends with 'dreaming'"),
    ],
)
def test_split_errors_name_the_argument(params, match):
    y, metadata = make_metadata()
    with pytest.raises(ValueError, match=match):
        list(CrossTaskSplitter(**params).split(y, metadata))


def test_dataset_joins_the_same_subjects():
    dataset = CrossTaskDataset(make_fake(seed=0), make_fake(n_sessions=2, seed=1), same_subjects=True)
    X, y, metadata = LeftRightImagery().get_data(dataset)
    assert sorted(metadata["session"].unique()) == ["0execution", "1imagery", "2imagery"]
    assert sorted(metadata["subject"].unique()) == [1, 2]
    source, labels, _ = LeftRightImagery().get_data(make_fake(seed=0), subjects=[1])
    mine = (metadata["subject"] == 1) & (metadata["session"] == "0execution")
    np.testing.assert_array_equal(X[mine], source)
    np.testing.assert_array_equal(y[mine], labels)


def test_dataset_numbers_different_people_and_shared_events():
    source, target = make_fake(n_subjects=3, events=("left_hand", "right_hand", "feet")), make_fake(n_subjects=2)
    dataset = CrossTaskDataset(source, target, same_subjects=False)
    assert dataset.numbers == {
        1: {"execution": 1}, 2: {"execution": 2}, 3: {"execution": 3}, 4: {"imagery": 1}, 5: {"imagery": 2},
    }  # fmt: skip
    assert list(dataset.event_id) == ["left_hand", "right_hand"]
    _, y, metadata = LeftRightImagery().get_data(dataset)
    assert set(y) == set(EVENTS) and set(metadata["session"][metadata["subject"] > 3]) == {"0imagery"}


def test_dataset_errors():
    with pytest.raises(ValueError, match="target: .* none of the events"):
        CrossTaskDataset(make_fake(events=("left_hand", "feet")), make_fake(events=("right_hand", "rest")), True)


class Recorder(ClassifierMixin, BaseEstimator):
    """Remembers what the evaluation hands over."""

    __metadata_request__fit = {"subjects": True, "X_target_labeled": True, "y_target_labeled": True}
    seen = []

    def fit(self, X, y, subjects=None, X_target_labeled=None, y_target_labeled=None):
        n_target = 0 if X_target_labeled is None else len(X_target_labeled)
        assert n_target == (0 if y_target_labeled is None else len(y_target_labeled))
        for trials in (X, X_target_labeled) if n_target else (X,):
            assert (trials.ch_names, trials.sfreq) == (("C3", "Cz", "C4"), 128)
        Recorder.seen.append((len(X), len(set(subjects)), n_target))
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        return np.full((len(X), 2), 0.5)

    def predict(self, X):
        return np.zeros(len(X), dtype=int)


def test_evaluation_gives_a_learning_curve_for_any_pipeline(tmp_path):
    dataset = CrossTaskDataset(make_fake(seed=0), make_fake(seed=1), same_subjects=True)
    Recorder.seen = []
    splitter = CrossTaskSplitter((0, 4, 8), source="all")
    evaluation = CrossTaskEvaluation(LeftRightImagery(), dataset, splitter, overwrite=True, hdf5_path=str(tmp_path))
    flat = make_pipeline(FunctionTransformer(np.mean, kw_args={"axis": -1}), LogisticRegression())
    results = evaluation.process({"asks": Recorder(), "does not": flat})
    assert len(results) == 2 * 2 * 3
    assert set(results["n_target"]) == {0, 4, 8} and set(results["draw"]) == {0}
    assert results["score"].between(0, 1).all() and set(results["session"]) == {"1imagery"}
    assert sorted({n for _, _, n in Recorder.seen}) == [0, 4, 8]
    assert {n for _, n, _ in Recorder.seen} == {2}
    other = CrossTaskEvaluation(LeftRightImagery(), dataset, CrossTaskSplitter((0,)), hdf5_path=str(tmp_path))
    assert other.results.filepath != evaluation.results.filepath  # cached results of another curve must not be mixed in


class CountingLDA(LinearDiscriminantAnalysis):
    """Notes how many trials it learns from."""

    seen = []

    def fit(self, X, y):
        CountingLDA.seen.append(len(X))
        return super().fit(X, y)


def test_a_pipeline_that_aligns_learns_from_the_labelled_trials_too(tmp_path):
    dataset = CrossTaskDataset(make_fake(1, seed=0), make_fake(1, seed=1), same_subjects=True)
    CountingLDA.seen = []
    splitter = CrossTaskSplitter((0, 4, 8))
    evaluation = CrossTaskEvaluation(LeftRightImagery(), dataset, splitter, overwrite=True, hdf5_path=str(tmp_path))
    evaluation.process({"aligned": make_pipeline(EuclideanAlignment(), CSP(n_components=2), CountingLDA())})
    first = min(CountingLDA.seen)
    assert sorted(CountingLDA.seen) == [first, first + 4, first + 8]
