import matplotlib
import numpy as np
import pandas as pd
import pytest
from moabb.datasets.fake import FakeDataset
from moabb.paradigms import LeftRightImagery
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skeeg import EEGArray, baseline
from skeeg.datasets import SimulatedMotorImagery
from skeeg.evaluations import FewshotEvaluation, FewshotSplitter, plot_fewshot

matplotlib.use("agg")


def make_metadata(n_subjects=2, n_sessions=2, n_trials=30, seed=0):
    rows = [(s, str(t)) for s in range(1, n_subjects + 1) for t in range(n_sessions) for _ in range(n_trials)]
    rng = np.random.default_rng(seed)
    y = np.concatenate([rng.permutation(np.resize(["l", "r"], n_trials)) for _ in range(n_subjects * n_sessions)])
    return y, pd.DataFrame(rows, columns=["subject", "session"])


@pytest.mark.parametrize("n_draws", [None, 3])
@pytest.mark.parametrize("others", [False, True])
def test_split_is_clean(n_draws, others):
    y, metadata = make_metadata()
    splitter = FewshotSplitter((2, 5), n_draws, others, random_state=0)
    tests, last, n_folds = {}, {}, 0
    for *sources, train, test in splitter.split(y, metadata):
        told = splitter.get_metadata()
        key = (metadata["subject"][test[0]], metadata["session"][test[0]], told["draw"])
        assert len(metadata.iloc[np.concatenate([train, test])][["subject", "session"]].drop_duplicates()) == 1
        assert not set(train) & set(test)
        assert (y[train] == "l").sum() == (y[train] == "r").sum() == told["n_per_class"]
        # a learning curve is comparable: one test set, and training sets that grow
        assert tests.setdefault(key, tuple(test)) == tuple(test) and len(test) == 20
        assert set(last.get(key, ())) <= set(train)
        last[key] = train
        if others:
            assert set(metadata["subject"][sources[0]]) == {1, 2} - {key[0]} and len(sources[0]) == 60
        n_folds += 1
    assert n_folds == 4 * 2 * (n_draws or 1)


def test_first_trials_are_taken_in_the_order_of_recording():
    metadata = pd.DataFrame({"subject": 1, "session": ["0"] * 8})
    train, test = next(FewshotSplitter((2,)).split(np.array(list("llllrrrr")), metadata))
    assert train.tolist() == [0, 1, 4, 5] and test.tolist() == [2, 3, 6, 7]


def test_draws_differ_and_are_reproducible():
    y, metadata = make_metadata(1, 1)
    folds = [
        [tuple(f[0]) for f in FewshotSplitter((4,), n_draws=4, random_state=s).split(y, metadata)] for s in (0, 0, 1)
    ]
    assert folds[0] == folds[1] != folds[2] and len(set(folds[0])) == 4


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"n_per_class": (0,)}, "n_per_class: expected"),
        ({"n_per_class": ()}, "n_per_class: expected"),
        ({"n_per_class": (3, 3)}, "n_per_class: expected"),
        ({"n_draws": -1}, "n_draws: got -1"),
        ({"n_per_class": (16,)}, "n_per_class: session 0 of subject 1 has 15 of l, 15 of r"),
        ({"n_per_class": (15,)}, "n_per_class: session 0 of subject 1 has 15 of l"),
    ],
)
def test_errors_name_the_argument(params, match):
    y, metadata = make_metadata()
    with pytest.raises(ValueError, match=match):
        list(FewshotSplitter(**params).split(y, metadata))


def test_others_need_others():
    y, metadata = make_metadata(1)
    with pytest.raises(ValueError, match="others: subject 1 is the only one"):
        list(FewshotSplitter((2,), others=True).split(y, metadata))


class Recorder(ClassifierMixin, BaseEstimator):
    """Remembers what the evaluation hands over."""

    __metadata_request__fit = {"X_target_labeled": True, "y_target_labeled": True}
    seen = []

    def fit(self, X, y, X_target_labeled=None, y_target_labeled=None):
        n_target = 0 if X_target_labeled is None else len(X_target_labeled)
        Recorder.seen.append((type(X), X.ch_names, len(X), n_target))
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        return np.full((len(X), 2), 0.5)

    def predict(self, X):
        return np.zeros(len(X), dtype=int)


def make_fake():
    return FakeDataset(["left_hand", "right_hand"], n_subjects=2, n_sessions=1, n_runs=1, n_events=16, seed=0)


FLAT = make_pipeline(FunctionTransformer(np.mean, kw_args={"axis": -1}), LogisticRegression())


def test_any_pipeline_gets_a_curve_and_knows_its_electrodes(tmp_path):
    Recorder.seen = []
    options = {"hdf5_path": str(tmp_path), "overwrite": True}
    paradigm = LeftRightImagery(scorer="accuracy")
    results = FewshotEvaluation(paradigm, make_fake(), FewshotSplitter((2, 5)), **options).process(
        {"names": Recorder(), "flat": FLAT}
    )
    assert len(results) == 2 * 2 * 2 and set(results["n_per_class"].astype(int)) == {2, 5}
    assert results["score"].between(0, 1).all()
    assert {(kind, n, m) for kind, _, n, m in Recorder.seen} == {(EEGArray, 4, 0), (EEGArray, 10, 0)}
    assert all(names == ("C3", "Cz", "C4") for _, names, *_ in Recorder.seen)


def test_others_come_as_source_and_own_trials_as_target(tmp_path):
    Recorder.seen = []
    splitter = FewshotSplitter((3,), others=True)
    evaluation = FewshotEvaluation(LeftRightImagery(), make_fake(), splitter, hdf5_path=str(tmp_path))
    results = evaluation.process({"asks": Recorder(), "not": FLAT})
    n_each = len(LeftRightImagery().get_data(make_fake(), [1])[1])
    assert len(results) == 4 and {(n, m) for _, _, n, m in Recorder.seen} == {(n_each, 6)}
    other = FewshotEvaluation(LeftRightImagery(), make_fake(), FewshotSplitter((3,)), hdf5_path=str(tmp_path))
    assert other.results.filepath != evaluation.results.filepath  # results of another protocol must not be mixed in


def test_more_trials_help(tmp_path):
    dataset = SimulatedMotorImagery(n_subjects=3, n_sessions=1, n_trials=50, ch_names=("C3", "Cz", "C4"), strength=1.5)
    paradigm = LeftRightImagery(scorer="accuracy")
    evaluation = FewshotEvaluation(paradigm, dataset, FewshotSplitter((2, 25)), hdf5_path=str(tmp_path))
    scores = evaluation.process({"TS+LR": baseline("TS+LR")}).groupby("n_per_class")["score"].mean()
    assert scores.loc[25] > scores.loc[2] + 0.03


def test_plot_has_a_line_a_pipeline_and_chance():
    rows = [(p, s, n, s / 10 + n / 100, 2) for p in ("a", "b") for s in (1, 2, 3) for n in (30, 5, 10)]
    results = pd.DataFrame(rows, columns=["pipeline", "subject", "n_per_class", "score", "n_classes"])
    ax = plot_fewshot(results)
    first, second, chance = ax.get_lines()
    assert [first.get_label(), second.get_label()] == ["a", "b"]
    np.testing.assert_array_equal(first.get_xdata(), [5, 10, 30])
    np.testing.assert_allclose(first.get_ydata(), [0.25, 0.3, 0.5])
    assert chance.get_ydata()[0] == 0.5 and plot_fewshot(results, ax) is ax
