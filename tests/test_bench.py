import gzip
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor

import moabb.analysis.results
import numpy as np
import pandas as pd
import pytest
from moabb import evaluations as moabb_evaluations
from moabb.analysis.meta_analysis import compute_dataset_statistics, find_significant_differences
from moabb.datasets.fake import FakeDataset
from moabb.evaluations.protocols import CrossSubjectMode
from moabb.paradigms import LeftRightImagery
from scipy import stats
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import accuracy_score, balanced_accuracy_score, cohen_kappa_score, f1_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import skeeg.bench
from skeeg import FineTunedClassifier, NetworkClassifier, baselines
from skeeg.array import EEGArray
from skeeg.baselines import baseline
from skeeg.bench import catalogue, evaluation, figures, jobs, predictions, runner
from skeeg.bench.folder import BenchFolder, digest
from skeeg.bench.predictions import calibration_error, class_scores, count_parameters
from skeeg.bench.report import write_figures, write_report
from skeeg.bench.statistics import (
    _corrected,
    chance_level,
    compare,
    learning_curve,
    meta_analysis,
    p_text,
    subject_scores,
    summarise,
)
from skeeg.covariance import TrialCovariances
from skeeg.datasets import SimulatedMotorImagery
from skeeg.evaluations import CrossTaskDataset, CrossTaskSplitter, FewshotSplitter, PooledTarget
from skeeg.evaluations.published import find_task

SCORE = ["pipeline", "subject", "session", "seed", "score"]


class LogVariance(ClassifierMixin, BaseEstimator):
    """Ridge regression on log variances; what it does in fit can be disturbed."""

    seen = []  # what fit was given, where a test looks

    def __init__(self, C=1.0, trouble=None, random_state=None):
        self.C = C
        self.trouble = trouble
        self.random_state = random_state

    def fit(self, X, y):
        type(self).seen.append(X)
        if self.trouble == "error":
            raise ValueError("no good")
        if self.trouble == "bytes":
            raise ValueError("\udce9lectrode")  # as os.fsdecode makes of what is no UTF-8
        if self.trouble == "exit":
            raise SystemExit(3)
        if self.trouble in ("SIGSEGV", "SIGKILL"):  # a crash; what the system does where memory is short
            os.kill(os.getpid(), getattr(signal, self.trouble))
        if self.trouble == "interrupt":
            raise KeyboardInterrupt
        if self.trouble == "swallow" and len(self.seen) == 3:  # as skorch does: Ctrl-C ends the training, not the run
            try:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(5)
            except KeyboardInterrupt:
                pass
        features, self.classes_ = self.features(X), np.unique(y)
        gram = features.T @ features + np.eye(features.shape[1]) / self.C
        self.weights_ = np.linalg.solve(gram, features.T @ np.where(y == self.classes_[1], 1.0, -1.0))
        return self

    def features(self, X):
        return np.column_stack([np.log(np.var(np.asarray(X), axis=2)), np.ones(len(X))])

    def decision_function(self, X):
        return self.features(X) @ self.weights_

    def predict(self, X):
        return self.classes_[(self.decision_function(X) > 0).astype(int)]


@pytest.fixture(autouse=True)
def _nothing_seen():
    LogVariance.seen = []


def make_dataset(n_subjects=3, n_sessions=1):
    return FakeDataset(
        ["left_hand", "right_hand"], n_subjects=n_subjects, n_sessions=n_sessions, n_runs=1, seed=7, duration=44,
        n_events=20, sfreq=80,
    )  # fmt: skip


def run(out, pipelines=None, dataset=None, **options):
    pipelines = {"LogVar": LogVariance(), "CSP+LDA": baseline("CSP+LDA")} if pipelines is None else pipelines
    options = {"evaluation": "within-session", "progress": False, "jobs": 0} | options
    return skeeg.bench.run(make_dataset() if dataset is None else dataset, pipelines=pipelines, out=out, **options)


def benchmark(out, pipelines, **options):
    made = runner.Benchmark(make_dataset(), "within-session", pipelines, out=out, command="x", jobs=0, **options)
    return made.run(progress=False)


# Scores


@pytest.mark.parametrize(
    "name", ["within-session", "cross-session", "cross-subject", "cross-subject:train_and_target_unlabeled_20p"]
)
def test_scores_are_those_of_moabb(name, tmp_path):
    pipelines = {"CSP+LDA": baseline("CSP+LDA"), "LogVar": LogVariance()}
    table = run(tmp_path / "ours", pipelines, make_dataset(2, 2), evaluation=name)
    about = catalogue.EVALUATIONS[name]
    theirs = getattr(moabb_evaluations, about["class"])(
        LeftRightImagery(), [make_dataset(2, 2)], random_state=0, hdf5_path=str(tmp_path / "theirs"),
        **about.get("arguments", {}),
    ).process({name: evaluation.set_seed_and_device(one, 0, None) for name, one in pipelines.items()})  # fmt: skip
    keys = ["pipeline", "subject", "session"]
    ours, theirs = (one.set_index(keys).sort_index()["score"] for one in (table, theirs))
    pd.testing.assert_series_equal(ours, theirs, rtol=1e-6)


def test_within_subject_scores_do_not_depend_on_the_other_subjects(tmp_path):
    options = {"pipelines": {"LogVar": LogVariance()}, "dataset": make_dataset(3, 2), "evaluation": "within-subject"}
    alone, together = run(tmp_path / "a", subjects=[2], **options), run(tmp_path / "b", **options)
    pd.testing.assert_frame_equal(alone[SCORE], together[together.subject == "2"][SCORE].reset_index(drop=True))


def make_tasks(n_subjects=2):
    executed, imagined = make_dataset(n_subjects), make_dataset(n_subjects)
    executed.code, imagined.code = "FakeExecuted", "FakeImagined"
    return CrossTaskDataset(executed, imagined, True)


@pytest.mark.parametrize("name", sorted(catalogue.EVALUATIONS))
def test_every_evaluation_gives_a_score_for_every_subject(name, tmp_path):
    dataset = make_tasks() if name == "cross-task" else make_dataset(2, 2)
    table = run(tmp_path, {"aligned": baseline("CSP+LDA", align=True)}, dataset, evaluation=name, n_per_class=[2, 3])
    assert sorted(table.subject.unique()) == ["1", "2"]
    assert table.score.between(0, 1).all()
    assert (table.evaluation == name).all()


def test_evaluations_name_every_protocol_of_moabb():
    modes = {one["arguments"]["cs_mode"] for one in catalogue.EVALUATIONS.values() if "arguments" in one}
    assert modes == {mode.value for mode in CrossSubjectMode}


def test_trials_reach_the_pipelines_with_their_identity(tmp_path):
    run(tmp_path, {"LogVar": LogVariance()}, subjects=[2])
    X = LogVariance.seen[0]
    assert isinstance(X, EEGArray)
    assert (X.ch_names, X.sfreq) == (("C3", "Cz", "C4"), 80.0)
    assert set(X.domains["subject"]) == {"2"}
    assert 5 < np.std(X) < 50  # microvolts: the noise is made of 20


def test_seeds_repeat_everything_with_other_folds_and_other_states(tmp_path):
    table = run(tmp_path, seeds=[0, 5])
    assert sorted(table.seed.unique()) == [0, 5]
    scores = table.pivot(index=["pipeline", "subject", "session"], columns="seed", values="score")
    assert (scores[0] != scores[5]).mean() > 0.5
    assert evaluation.set_seed_and_device(LogVariance(), 5, None).random_state == 5
    assert evaluation.set_seed_and_device(LogVariance(random_state=1), 5, None).random_state == 1
    one = run(tmp_path / "one", seeds=[5])
    pd.testing.assert_frame_equal(one[SCORE], table[table.seed == 5][SCORE].reset_index(drop=True))


def test_device_is_set_where_a_step_has_one():
    pytest.importorskip("torch")
    made = evaluation.set_seed_and_device(baseline("EEGNet"), 0, "cpu")
    assert made[-1].device == "cpu" and baseline("EEGNet")[-1].device == "auto"


@pytest.mark.parametrize("options", [{"evaluation": "within-session"}, {"evaluation": "few-shot", "n_per_class": [3]}])
def test_emissions_are_not_measured(options, tmp_path, monkeypatch):
    def tracker(**config):
        raise AssertionError("codecarbon is called")

    for module in (moabb_evaluations.base, moabb_evaluations.evaluations, moabb.analysis.results):
        monkeypatch.setattr(module, "_carbonfootprint", True)  # as where codecarbon is installed
    monkeypatch.setattr(moabb_evaluations.utils, "EmissionsTracker", tracker, raising=False)
    table = run(tmp_path, {"LogVar": LogVariance()}, **options)
    assert table["score"].notna().all() and table["carbon_emission"].isna().all()


@pytest.mark.parametrize(
    "options", [{"evaluation": "cross-subject"}, {"evaluation": "few-shot:others", "n_per_class": [3]}]
)
def test_processes_give_the_scores_of_one(options, tmp_path):
    one = run(tmp_path / "one", **options)
    two = run(tmp_path / "two", jobs=2, **options)
    pd.testing.assert_frame_equal(one[SCORE], two[SCORE])


class TargetSeen(LogVariance):
    """Remembers the target trials that it is given."""

    __metadata_request__fit = {"X_target_labeled": True, "y_target_labeled": True}

    def fit(self, X, y, X_target_labeled=None, y_target_labeled=None):
        super().fit(X, y)
        self.seen[-1] = X, X_target_labeled
        return self


@pytest.mark.parametrize("name", ["few-shot:others", "cross-subject:train_and_target_labeled_20p"])
def test_target_trials_pass_the_steps_that_training_trials_pass(name, tmp_path):
    pipelines = {"Seen": make_pipeline(FunctionTransformer(lambda X: X[:, :2]), TargetSeen())}
    run(tmp_path, pipelines, make_dataset(2), evaluation=name, n_per_class=[4])
    (X, target), *_ = TargetSeen.seen
    assert X.shape[1] == 2 and target.shape[1] == 2 and len(target) in (4, 8)


@pytest.mark.parametrize(
    ("name", "splitter"),
    [
        ("few-shot", FewshotSplitter((2, 4))),
        ("few-shot:others", FewshotSplitter((2, 4), others=True)),
        ("cross-task", CrossTaskSplitter((4, 8))),
    ],
)
def test_protocols_of_this_package_score_as_by_themselves(name, splitter, tmp_path):
    pipelines = {"LogVar": LogVariance()}
    dataset = make_tasks() if name == "cross-task" else make_dataset(2)
    class_name = catalogue.EVALUATIONS[name]["class"]
    ours = run(tmp_path / "ours", pipelines, dataset, evaluation=name, n_per_class=[2, 4])
    theirs = getattr(skeeg.evaluations, class_name)(
        LeftRightImagery(), [dataset], splitter, random_state=0, hdf5_path=str(tmp_path / "theirs")
    ).process(pipelines)
    keys = ["subject", "session", splitter.metadata_columns[0]]
    ours, theirs = (one.set_index(keys).sort_index()["score"] for one in (ours, theirs))
    pd.testing.assert_series_equal(ours, theirs, rtol=1e-6)


def test_several_evaluations_are_panels_of_one_report(tmp_path):
    names = ["within-session", "few-shot", "few-shot:others"]
    table = run(tmp_path, {"LogVar": LogVariance()}, evaluation=names, n_per_class=[2, 3])
    assert list(table.evaluation.unique()) == names
    page = (tmp_path / "report.html").read_text()
    titles = re.findall("<h1>(.*?)</h1>", page)
    assert titles == [
        f"FakeDataset, {words}" for words in ("within session", "few-shot", "few-shot with source subjects")
    ]
    assert page.count("<h2>Learning curve</h2>") == 2 and page.count('class="lead"') == 3
    assert "Labelled trials of each class" in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize("name", ["few-shot:others", "cross-task"])
def test_a_stopped_protocol_goes_on_and_a_damaged_one_is_computed_again(name, tmp_path, monkeypatch, capsys):
    dataset = make_tasks() if name == "cross-task" else make_dataset(2)
    options = {"dataset": dataset, "evaluation": name, "n_per_class": [2, 3]}
    run(tmp_path, {"LogVar": LogVariance()}, **options)
    calls = counting(monkeypatch)
    table = run(tmp_path, **options)
    assert calls == [("CSP+LDA", 1), ("CSP+LDA", 2)]
    (file,) = tmp_path.glob("results/*/*/*.hdf5")
    file.write_bytes(file.read_bytes()[:-100])
    pd.testing.assert_frame_equal(run(tmp_path, **options)[SCORE], table[SCORE])
    assert len(calls) == 6 and "cannot be read" in capsys.readouterr().out


def test_other_numbers_of_labelled_trials_are_other_results(tmp_path):
    one = run(tmp_path, {"LogVar": LogVariance()}, evaluation="few-shot", n_per_class=[2])
    two = run(tmp_path, {"LogVar": LogVariance()}, evaluation="few-shot", n_per_class=[2, 5])
    assert set(one.n_per_class) == {2} and set(two.n_per_class) == {2, 5}
    assert len(BenchFolder(tmp_path).runs()) == 2


def test_a_protocol_that_the_dataset_cannot_serve_says_what_there_is(tmp_path):
    with pytest.raises(RuntimeError, match="n_per_class: session 0 of subject 1 has 10 of"):
        run(tmp_path, {"LogVar": LogVariance()}, evaluation=["few-shot", "within-session"])
    assert "within-session" in (tmp_path / "results.csv").read_text()  # the other one is computed
    with pytest.raises(ValueError, match="FakeDataset.* has no executed ones. There are simulated, .*grasp, physionet"):
        run(tmp_path, evaluation="cross-task")
    with pytest.raises(ValueError, match="few-shot:others needs at least two subjects"):
        run(tmp_path, evaluation="few-shot:others", subjects=[1])
    with pytest.raises(ValueError, match="n_per_class: expected different numbers"):
        run(tmp_path, evaluation="few-shot", n_per_class=[0])


def test_named_tasks_are_joined():
    dataset = catalogue.get_tasks("simulated")
    assert tuple(dataset.tasks) == ("execution", "imagery") and len(dataset.subject_list) == 8
    assert catalogue.get_tasks("simulated-execution").code == dataset.code


def test_checkpoints_are_given_by_the_name_of_the_pipeline(tmp_path):
    weights = tmp_path / "weights.pt"
    weights.touch()
    made, _ = catalogue.get_pipelines(["CSP+LDA", "MIRepNet", "Gram", "CT-adaptTL"])
    catalogue.set_checkpoints(made, {"MIRepNet": "skeeg:small", "Gram": weights})
    assert made["MIRepNet"][-1].checkpoint == "skeeg:small"
    assert (made["Gram"][-1].checkpoint, made["Gram"][-1].size) == (str(weights), None)
    with pytest.raises(ValueError, match="CSP\\+LDA takes none; of these pipelines MIRepNet, Gram, CT-adaptTL can"):
        catalogue.set_checkpoints(made, {"CSP+LDA": weights})
    with pytest.raises(ValueError, match="no file nowhere.pt for MIRepNet"):
        catalogue.set_checkpoints(made, {"MIRepNet": "nowhere.pt"})
    with pytest.raises(ValueError, match="checkpoint: 'MIRepnet' is not known. Did you mean 'MIRepNet'"):
        catalogue.set_checkpoints(made, {"MIRepnet": weights})


# Scores and predictions


def test_several_scores_are_those_of_the_predictions(tmp_path):
    names = ["accuracy", "balanced_accuracy", "kappa", "f1", "roc_auc"]
    table = run(tmp_path, {"MDM": baseline("MDM"), "LogVar": LogVariance()}, evaluation="few-shot:others",
                n_per_class=[3], scoring=names)  # fmt: skip
    predictions = BenchFolder(tmp_path).predictions()
    assert set(predictions.true) == {"left_hand", "right_hand"} and set(predictions.recording) == {"0"}
    metrics = {
        "accuracy": accuracy_score, "balanced_accuracy": balanced_accuracy_score, "kappa": cohen_kappa_score,
        "f1": lambda y, p: f1_score(y, p, average="macro"),
    }  # fmt: skip
    for row in table.itertuples():
        own = predictions[(predictions.pipeline == row.pipeline) & (predictions.subject == row.subject)]
        assert len(own) == 14 and row.score == row.score_accuracy
        for name, metric in metrics.items():
            assert getattr(row, f"score_{name}") == pytest.approx(metric(own.true, own.predicted), abs=1e-6)
        column = "p_right_hand" if row.pipeline == "MDM" else "decision"
        assert row.score_roc_auc == pytest.approx(roc_auc_score(own.true == "right_hand", own[column]), abs=1e-5)
    page = (tmp_path / "report.html").read_text()
    assert "<h2>Other scores</h2>" in page and "Cohen's kappa" in page.replace("&#39;", "'")
    assert "<h2>Classes</h2>" in page and page.count("<figcaption>") == 2


def test_predictions_are_kept_with_the_results(tmp_path, monkeypatch):
    run(tmp_path, {"LogVar": LogVariance()}, subjects=[1, 2])
    first = BenchFolder(tmp_path).predictions()
    calls = counting(monkeypatch)
    (tmp_path / "predictions.csv.gz").write_bytes(b"\x1f\x8b damaged")
    run(tmp_path, {"LogVar": LogVariance()}, subjects=[1, 2])
    assert calls == [] and list(tmp_path.glob("predictions.unreadable-*.csv.gz"))
    pd.testing.assert_frame_equal(BenchFolder(tmp_path).predictions(), first)
    (tmp_path / "predictions.csv.gz").write_bytes(gzip.compress(b"subject,true,predicted\n1,a,b\n"))
    run(tmp_path, {"LogVar": LogVariance()}, subjects=[1, 2])
    pd.testing.assert_frame_equal(BenchFolder(tmp_path).predictions(), first)
    assert len(first) == 2 * 20 and set(first.fold) == {0, 1, 2, 3, 4}


def test_predictions_of_another_form_are_left_out():
    kept = {"1": np.frombuffer(b"00,not gzip", dtype=np.uint8)}
    assert predictions.read({predictions.KEY: kept}) == []


def test_long_names_leave_the_axes_their_room():
    rows = pd.DataFrame({"pipeline": "a name of a pipeline, " * 2, "subject": ["1", "2"], "score": [0.6, 0.7]})
    rows = rows.assign(dataset="d", session="0")
    summary = pd.DataFrame({"mean": [0.65], "sd": [0.05]}, index=rows.pipeline[:1])
    section = {"summary": summary, "rows": rows, "chance": 0.5, "score": "ROC AUC", "curve": None}
    figure = figures.draw(section)["scores"]
    figure.draw_without_rendering()
    assert figure.axes[0].get_position().width > 0.4


class SeesLabels(LogVariance):
    """Remembers its labels; its parameter names classes."""

    def __init__(self, mirror_classes=None):
        super().__init__()
        self.mirror_classes = mirror_classes

    def fit(self, X, y):
        super().fit(X, y)
        self.seen[-1] = y
        return self


def test_labels_keep_their_names_where_parameters_name_classes(tmp_path):
    run(tmp_path / "a", {"Sees": SeesLabels()}, subjects=[1])
    assert set(SeesLabels.seen[0]) == {"left_hand", "right_hand"}
    assert set(BenchFolder(tmp_path / "a").predictions().predicted) <= {"left_hand", "right_hand"}


@pytest.mark.parametrize(
    ("scoring", "message"),
    [
        (["auc"], "scoring: 'auc' is not known. Did you mean 'roc_auc'"),
        (["accuracy", "roc_auc"], "scoring: roc_auc is defined for two classes, and there are 3"),
        (["f1", "f1"], "scoring: expected different names"),
    ],
)
def test_scores_that_are_not_defined_are_refused(scoring, message, tmp_path):
    dataset = FakeDataset(["left_hand", "right_hand", "feet"], n_subjects=2, n_sessions=1)
    with pytest.raises(ValueError, match=message):
        run(tmp_path, dataset=dataset, scoring=scoring)
    with pytest.raises(ValueError, match="scoring: cross-subject:train_trialwise has MOABB's own score"):
        run(tmp_path, evaluation="cross-subject:train-trialwise", scoring="accuracy")


# Datasets and paradigms


def test_several_datasets_have_a_meta_analysis(tmp_path):
    other = make_dataset(4)
    other.code = "Other"
    pipelines = {"LogVar": LogVariance(), "MDM": baseline("MDM")}
    table = skeeg.bench.run([make_dataset(), other], "within-session", pipelines, out=tmp_path, jobs=0, progress=False)
    p, effect = find_significant_differences(compute_dataset_statistics(table))
    combined = meta_analysis([part for _, part in table.groupby("dataset")])
    assert combined["p"].loc["MDM", "LogVar"] == pytest.approx(p.loc["MDM", "LogVar"])
    assert combined["effect"].loc["LogVar", "MDM"] == pytest.approx(effect.loc["LogVar", "MDM"])
    page = (tmp_path / "report.html").read_text()
    assert "<h1>2 datasets, within session</h1>" in page and "<h2>Meta-analysis</h2>" in page
    assert write_figures(tmp_path, "png")[-1].name == "meta-analysis-within-session.png"


def test_comparisons_of_one_run_share_their_processes(tmp_path, monkeypatch):
    started, ended = [], []

    class Pool(ThreadPoolExecutor):
        def __init__(self, n_processes):
            super().__init__(1)
            started.append(self)

        def shutdown(self, wait=True, *, cancel_futures=False, kill_workers=False):
            ended.append(self)
            super().shutdown(wait)

    monkeypatch.setattr(jobs, "_start", Pool)
    table = run(tmp_path, {"MDM": baseline("MDM")}, evaluation=["within-session", "cross-subject"], jobs=2)
    assert set(table["evaluation"]) == {"within-session", "cross-subject"}
    assert len(started) == 2 and set(ended) == set(started)


PARADIGMS = {
    "p300": (["Target", "NonTarget"], "P300"),
    "ssvep": (["7.5", "10"], "SSVEP"),
    "rstate": (["closed", "open"], "RestingStateToP300Adapter"),
}


@pytest.mark.parametrize("paradigm", PARADIGMS)
def test_other_paradigms_have_pipelines_of_their_own(paradigm, tmp_path, monkeypatch):
    events, kind = PARADIGMS[paradigm]
    dataset = FakeDataset(events, n_subjects=2, n_sessions=1, n_runs=1, paradigm=paradigm, seed=1, sfreq=128,
                          duration=44, n_events=20)  # fmt: skip
    assert type(catalogue.get_paradigm(dataset)).__name__ == kind
    names = catalogue.default_pipelines("within-session", catalogue.get_paradigm(dataset))
    assert {"p300": "XDAWN+TS+LR", "ssvep": "CCA", "rstate": "CSP+LDA"}[paradigm] in names and "EEGNet" in names
    table = run(tmp_path, [name for name in names if name != "EEGNet"], dataset, subjects=[1])
    assert table.score.notna().all() and len(table) == len(names) - 1
    with pytest.raises(ValueError, match=f"MIRepNet is made for LeftRightImagery, MotorImagery, and .* needs {kind}"):
        run(tmp_path, ["MIRepNet"], dataset)
    made = runner.Benchmark(dataset, "within-session", ["EEGNet"], out=tmp_path)
    assert made.pipelines["EEGNet"][-1].recipe == "default"


def test_a_paradigm_without_pipelines_is_said_to_have_none(tmp_path):
    dataset = make_dataset()
    dataset.paradigm = "cvep"
    with pytest.raises(
        ValueError, match="is of the paradigm cvep; there are pipelines for imagery, p300, ssvep, rstate"
    ):
        run(tmp_path, ["MDM"], dataset)


def test_downstream_has_the_published_table(tmp_path):
    folder = tmp_path / "BNCI2014004"
    simulated = SimulatedMotorImagery(n_subjects=2, n_sessions=1, n_runs=1, n_trials=20, ch_names=("C3", "Cz", "C4"))
    for subject in (1, 2):
        (folder / f"s{subject}").mkdir(parents=True)
        raw = simulated.get_data([subject])[subject]["0"]["0"]
        raw.save(folder / f"s{subject}" / "run_raw.fif", verbose="error")
    table = run(tmp_path / "out", ["CSP+LDA"], folder, evaluation="downstream")
    assert sorted(table.seed.unique()) == [666, 667, 668] and set(table.samples_test) == {14}
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<h1>BNCI2014004, the MIRepNet paper&#39;s protocol</h1>" in page
    assert "<h2>Published scores</h2>" in page and "82.36 ± 0.10" in page
    mean = table.groupby("seed").score.mean().mean()
    assert f'<th>CSP+LDA</th><td class="number">{100 * mean:.2f} ±' in page and ">75.34</td>" in page


def test_the_default_run_has_three_panels():
    datasets, evaluations = runner.plan(None, None, None)
    assert evaluations == ["within-session", "few-shot:others", "cross-task"] and datasets == ["simulated-short"]
    assert runner.plan(None, None, ["MDM"]) == (["simulated"], ["within-session"])
    assert runner.plan("grasp", None, None) == (["grasp"], ["within-session"])


def test_the_caption_of_the_picture_names_the_pipelines_of_the_default_run():
    compared = set()
    for protocol in catalogue.DEFAULTS["evaluations"]:
        names = runner.Benchmark("simulated-short", protocol).pipelines
        assert {"CSP+LDA", "TS+LR", "FBTS+LR"} < set(names)
        compared |= set(names)
    readme = (pathlib.Path(skeeg.__file__).parents[1] / "README.md").read_text()
    (caption,) = re.findall(r"!\[([^]]*)\]\(docs/_static/report.png\)", readme)
    named = set()
    for name in sorted(baselines.baseline_names(), key=len, reverse=True):  # "EEGNet, fine-tuned" before "EEGNet"
        if re.search(rf"(?<![\w+-]){re.escape(name)}(?![\w+-])", caption):
            named.add(name)
            caption = caption.replace(name, "")
    assert named == compared


# What is computed, and what is not computed again


def counting(monkeypatch):
    calls = []
    compute = evaluation._InJobs.compute

    def count(self, job):
        calls.append((job.name, job.subject))
        return compute(self, job)

    monkeypatch.setattr(evaluation._InJobs, "compute", count)
    return calls


def test_a_second_run_computes_nothing(tmp_path, monkeypatch):
    first = run(tmp_path)
    calls = counting(monkeypatch)
    second = run(tmp_path)
    assert calls == []
    pd.testing.assert_frame_equal(first, second)


def test_only_missing_pipelines_and_subjects_are_computed(tmp_path, monkeypatch):
    run(tmp_path, {"LogVar": LogVariance()}, subjects=[1])
    calls = counting(monkeypatch)
    run(tmp_path)
    assert sorted(calls) == [("CSP+LDA", 1), ("CSP+LDA", 2), ("CSP+LDA", 3), ("LogVar", 2), ("LogVar", 3)]


def test_other_parameters_are_other_results(tmp_path, monkeypatch):
    run(tmp_path, {"LogVar": LogVariance(C=1.0)})
    calls = counting(monkeypatch)
    run(tmp_path, {"LogVar": LogVariance(C=2.0)})
    assert len(calls) == 3


@pytest.mark.parametrize(
    "change", [{"subjects": [1, 2]}, {"param_grid": {"LogVar": {"C": [0.1, 1.0]}}}, {"seeds": [1]}]
)
def test_what_moabb_leaves_out_of_its_key_is_kept_apart(change, tmp_path, monkeypatch):
    pipelines = {"LogVar": LogVariance()}
    run(tmp_path, pipelines, evaluation="cross-subject")
    calls = counting(monkeypatch)
    run(tmp_path, pipelines, evaluation="cross-subject", **change)
    assert len(calls) >= 2


class FromWeights(LogVariance):
    """Takes a file of weights."""

    def __init__(self, checkpoint=None):
        super().__init__()
        self.checkpoint = checkpoint


def test_other_weights_under_the_same_name_are_other_results(tmp_path, monkeypatch):
    weights, calls = tmp_path / "weights.pt", counting(monkeypatch)
    for content, n_calls in ((b"first", 3), (b"first", 3), (b"second", 6)):
        weights.write_bytes(content)
        run(tmp_path / "out", {"mine": FromWeights()}, checkpoints={"mine": weights})
        assert len(calls) == n_calls


def test_overwrite_computes_again_and_leaves_the_others(tmp_path, monkeypatch):
    run(tmp_path)
    calls = counting(monkeypatch)
    run(tmp_path, {"LogVar": LogVariance()}, overwrite=True)
    assert len(calls) == 3
    calls.clear()
    run(tmp_path)
    assert calls == []


def test_pipelines_of_earlier_runs_stay_in_the_report(tmp_path):
    run(tmp_path, {"LogVar": LogVariance()})
    run(tmp_path, {"CSP+LDA": baseline("CSP+LDA")})
    assert set(BenchFolder(tmp_path).table().pipeline) == {"LogVar", "CSP+LDA"}
    assert len(BenchFolder(tmp_path).runs()) == 1
    text = (tmp_path / "report.md").read_text()
    assert "LogVar" in text and "CSP+LDA" in text


def test_a_grid_is_searched(tmp_path):
    # without a penalty to speak of or with one that leaves nothing: the search has to choose
    table = run(tmp_path, {"LogVar": LogVariance()}, param_grid={"LogVar": {"C": [1e-6, 1.0]}}, subjects=[1])
    assert len(table) == 1
    assert len(LogVariance.seen) > 5 * 2 * 3
    chosen = BenchFolder(tmp_path).predictions().groupby("fold").chosen.first()
    assert len(chosen) == 5 and set(chosen) <= {"C=1e-06", "C=1.0"}
    assert "chosen by cross-validation on training data: C=1" in (tmp_path / "report.html").read_text()


def test_grids_of_a_deep_and_a_classical_pipeline(tmp_path):
    def pipelines(**deep):
        network = NetworkClassifier("EEGNet", max_epochs=2, batch_size=8, random_state=0, **deep)
        return {"deep": network, "classical": baseline("CSP+LDA")}

    grids = {"deep": {"learning_rate": [0.02]}, "classical": {"csp__n_components": [1]}}
    searched = run(tmp_path / "searched", pipelines(), param_grid=grids, subjects=[1])
    chosen = pipelines(learning_rate=0.02)
    chosen["classical"].set_params(csp__n_components=1)
    direct = run(tmp_path / "direct", chosen, subjects=[1])
    pd.testing.assert_frame_equal(searched[SCORE], direct[SCORE])


def test_the_same_pipeline_under_two_names(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="pipelines: A and B are the same"):
        run(tmp_path, {"A": LogVariance(), "B": LogVariance()}, subjects=[1])
    first = run(tmp_path, {"A": LogVariance()}, subjects=[1])
    calls = counting(monkeypatch)
    second = run(tmp_path, {"B": LogVariance()}, subjects=[1])
    assert calls == [] and second.score.to_list() == first.score.to_list() and set(second.pipeline) == {"B"}


# Trouble


def test_one_failing_pipeline_does_not_take_the_others_down(tmp_path):
    with pytest.warns(UserWarning, match="Bad failed: ValueError: no good"):
        table = run(tmp_path, {"Bad": LogVariance(trouble="error"), "Good": LogVariance()})
    assert set(table.pipeline) == {"Good"} and len(table) == 3
    page = (tmp_path / "report.html").read_text()
    assert "failed on subject 1, 2, 3: ValueError: no good" in page


def test_a_pipeline_that_ends_its_process_ends_alone(tmp_path):
    troubles = ("SIGSEGV", "exit", "SIGKILL")
    pipelines = {trouble: LogVariance(trouble=trouble) for trouble in troubles} | {"Good": LogVariance()}
    with pytest.warns(UserWarning, match="failed"):
        table = run(tmp_path, pipelines, subjects=[1, 2], jobs=1)
    pd.testing.assert_frame_equal(
        table[SCORE], run(tmp_path / "alone", {"Good": LogVariance()}, subjects=[1, 2])[SCORE]
    )
    (entry,) = BenchFolder(tmp_path).runs().values()
    errors = {failure["pipeline"]: failure["error"] for failure in entry["failures"]}
    assert len(entry["failures"]) == 6 and errors["exit"] == "SystemExit: 3"
    for trouble in ("SIGSEGV", "SIGKILL"):
        assert f"its process ended with {trouble}" in errors[trouble]


def test_processes_end_with_the_one_that_started_them():
    code = "import os, time; from skeeg.bench.jobs import _start; worker = _start(1).submit(os.getpid); "
    code += "print(worker.result(), flush=True); time.sleep(99)"
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and os.path.exists(f"/proc/{child}/exe"):
        time.sleep(0.1)
    assert not os.path.exists(f"/proc/{child}/exe")


def test_a_message_that_is_no_utf8_reaches_the_report(tmp_path):
    with pytest.warns(UserWarning, match="Bad failed"):
        run(tmp_path, {"Bad": LogVariance(trouble="bytes"), "Good": LogVariance()}, subjects=[1])
    assert r"\udce9lectrode" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_nothing_but_failures_is_an_error(tmp_path):
    with pytest.raises(RuntimeError, match="Nothing could be computed. Bad failed: ValueError: no good"):
        run(tmp_path, {"Bad": LogVariance(trouble="error")})


class Damaged(FakeDataset):
    """A dataset with one recording that cannot be read."""

    def _get_single_subject_data(self, subject):
        if subject == 2:
            raise OSError("sub-02.fif is damaged")
        return super()._get_single_subject_data(subject)


def test_one_damaged_recording_does_not_take_the_others_down(tmp_path):
    damaged = make_dataset()
    damaged.__class__ = Damaged
    with pytest.warns(UserWarning, match="The data failed: .*sub-02.fif is damaged"):
        table = run(tmp_path, dataset=damaged)
    assert set(table.subject) == {"1", "3"} and set(table.pipeline) == {"LogVar", "CSP+LDA"}
    with pytest.raises(RuntimeError, match="The data failed: .*sub-02.fif is damaged"):
        run(tmp_path, dataset=damaged, evaluation="cross-subject")


def test_an_interrupted_run_keeps_what_is_done_and_goes_on(tmp_path):
    pipelines = {"Good": LogVariance(), "Stop": LogVariance(trouble="interrupt")}
    outcome = benchmark(tmp_path, pipelines)
    assert outcome.entry["interrupted"]
    assert outcome.table[["pipeline", "subject"]].drop_duplicates().to_numpy().tolist() == [["Good", "1"]]
    assert "The run was stopped" in (tmp_path / "report.html").read_text()
    again = run(tmp_path, {"Good": LogVariance()})
    pd.testing.assert_frame_equal(again[SCORE], run(tmp_path / "fresh", {"Good": LogVariance()})[SCORE])


def test_a_result_stored_as_the_run_is_stopped_counts_as_done(tmp_path, monkeypatch):
    within = evaluation.evaluation_class("WithinSessionEvaluation")
    store = within.store

    def stopped(self, *args):
        store(self, *args)
        raise KeyboardInterrupt

    monkeypatch.setattr(within, "store", stopped)
    outcome = benchmark(tmp_path, {"LogVar": LogVariance()})
    assert outcome.entry["interrupted"] and outcome.entry["done"] == len(outcome.table) == 1 < outcome.entry["planned"]


def test_a_fit_that_swallows_the_interrupt_is_not_recorded(tmp_path):
    outcome = benchmark(tmp_path, {"Swallows": LogVariance(trouble="swallow")})
    assert outcome.entry["interrupted"] and len(outcome.table) == 0
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_corrupt_results_file_is_set_aside_and_rebuilt(tmp_path, capsys):
    first = run(tmp_path, seeds=[0, 1])
    (path,) = tmp_path.rglob("results_seed0.hdf5")
    other = next(tmp_path.rglob("results_seed1.hdf5"))
    kept = other.read_bytes()
    path.write_bytes(b"not HDF5 at all")
    second = run(tmp_path, seeds=[0, 1])
    pd.testing.assert_frame_equal(first[SCORE], second[SCORE])
    (aside,) = path.parent.glob("results_seed0.unreadable-*.hdf5")
    assert aside.read_bytes() == b"not HDF5 at all"
    assert aside.name in capsys.readouterr().out
    assert other.read_bytes() == kept


def test_a_results_file_cut_short_is_set_aside(tmp_path):
    first = run(tmp_path)
    path = next(tmp_path.rglob("results_seed0.hdf5"))
    path.write_bytes(path.read_bytes()[:-500])
    pd.testing.assert_frame_equal(first[SCORE], run(tmp_path)[SCORE])


def test_a_failed_write_leaves_the_results_file_as_it_was(tmp_path):
    run(tmp_path, {"LogVar": LogVariance()}, subjects=[1])
    path = next(tmp_path.rglob("results_seed0.hdf5"))
    before = path.read_bytes()
    results = type("Results", (), {"filepath": str(path)})()
    with pytest.raises(OSError, match="disk"), evaluation._replacing(results):
        with open(results.filepath, "ab") as file:
            file.write(b"half a row")
        raise OSError("disk full")
    assert path.read_bytes() == before and results.filepath == str(path)
    assert not list(path.parent.glob("*.new"))


def test_corrupt_settings_are_set_aside(tmp_path):
    run(tmp_path)
    (tmp_path / "runs.json").write_text("{")
    run(tmp_path)
    assert len(json.loads((tmp_path / "runs.json").read_text())) == 1
    assert len(list(tmp_path.glob("runs.unreadable-*.json"))) == 1


DAMAGE = {
    "empty": lambda text: "",
    "open quote": lambda text: text.replace("LogVar", '"LogVar', 1),
    "missing column": lambda text: text.replace("subject", "object", 1),
    "words for scores": lambda text: "\n".join([text.splitlines()[0], ",".join(["x"] * 20)]),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_table_is_set_aside_and_rebuilt(damage, tmp_path, capsys):
    first = run(tmp_path, {"LogVar": LogVariance()}, subjects=[1])
    path = tmp_path / "results.csv"
    path.write_text(DAMAGE[damage](path.read_text()))
    pd.testing.assert_frame_equal(first, run(tmp_path, {"LogVar": LogVariance()}, subjects=[1]))
    (aside,) = tmp_path.glob("results.unreadable-*.csv")
    assert aside.name in capsys.readouterr().out
    assert len(BenchFolder(tmp_path).table()) == 1


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    LogVariance.seen = []
    run(folder, {"LogVar": LogVariance(), "MDM": baseline("MDM")})
    return folder


SCRIPT = "<script>alert(1)</script>"


@pytest.mark.parametrize(
    "value", [SCRIPT, None, -1, 1.5, [], [SCRIPT], {}, {SCRIPT: SCRIPT}, [[SCRIPT]], [{SCRIPT: 1}]]
)
def test_settings_of_another_shape_never_reach_the_page(value, finished, tmp_path):
    text = (finished / "runs.json").read_text()
    (key, entry), *_ = json.loads(text).items()
    for changed in [{}, *({key: {**entry, name: value}} for name in entry), {key: value}, {SCRIPT: entry}]:
        for file in tmp_path.iterdir():
            file.unlink()
        (tmp_path / "results.csv").write_text((finished / "results.csv").read_text())
        (tmp_path / "runs.json").write_text(json.dumps(changed))
        try:
            write_report(tmp_path)
        except ValueError as error:
            assert "no benchmark in" in str(error)
            assert changed == {} or list(tmp_path.glob("runs.unreadable-*.json"))
        else:
            assert "<script" not in (tmp_path / "report.html").read_text()
            assert "<script" not in (tmp_path / "report.md").read_text()


FULL = """
    import resource, signal, sys
    import skeeg.cli

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit is an error, as on a full disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), -1))
    sys.exit(skeeg.cli.main(["bench", "--dataset", "FakeDataset", "--subjects", "1", "--jobs", "0", "--quiet",
                             "--pipelines", "MDM", "--out", sys.argv[1]]))
"""


@pytest.mark.parametrize("room", [100, 1 << 20])  # nothing at all; the results file cannot grow
def test_a_full_disk_is_an_error(room, tmp_path):
    pytest.importorskip("resource")
    command = [sys.executable, "-c", textwrap.dedent(FULL), str(tmp_path), str(room)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "skeeg: [Errno" in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("*.new"))


def test_two_runs_do_not_write_to_one_folder(tmp_path):
    with BenchFolder(tmp_path).locked(), pytest.raises(RuntimeError, match="another run is writing"):
        run(tmp_path)


KILLED = """
    import sys
    from moabb.datasets.fake import FakeDataset
    import skeeg.bench
    from skeeg.spatial import CSP
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.pipeline import make_pipeline

    dataset = FakeDataset(["left_hand", "right_hand"], n_subjects=4, n_sessions=1, n_runs=1, seed=7, duration=44,
                          n_events=20, sfreq=80)
    forest = make_pipeline(CSP(), RandomForestClassifier(n_estimators=5))  # chance decides, so the seed matters
    pipelines = {"CSP+LDA": make_pipeline(CSP(), LinearDiscriminantAnalysis()), "CSP+forest": forest}
    table = skeeg.bench.run(dataset, pipelines=pipelines, out=sys.argv[1], progress=False, jobs=0)
    table.to_csv(sys.argv[1] + "/table.csv")
"""


def test_a_process_that_ends_between_two_comparisons_is_replaced():
    from skeeg.bench import jobs as computing

    with computing.worker_pools(1) as pools:
        pid = pools[0].submit(os.getpid).result()
        os.kill(pid, signal.SIGKILL)
        while True:  # until the pool knows
            try:
                pools[0].submit(os.getpid).result()
            except RuntimeError:
                break
        (result,) = computing.compute_all([computing.Job("csp", 0, 1, None, None)], pools)
        assert result.failure["error"].startswith("AttributeError") and len(pools) == 1  # it was computed


def test_a_killed_run_resumes_to_the_same_table(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(KILLED))
    out = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, str(script), str(out)], env=os.environ | {"PYTHONHASHSEED": "1"})
    file = out / "results" / "LeftRightImagery" / "WithinSessionEvaluation" / "results_seed0.hdf5"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if file.is_file() and file.stat().st_size > 5000:  # the first piece is in, the others are not
            break
        time.sleep(0.002)
    process.kill()
    process.wait()
    assert process.returncode == -signal.SIGKILL and not (out / "table.csv").exists()
    source = textwrap.dedent(KILLED).replace("sys.argv[1]", "OUT")
    for name in ("killed", "whole"):
        (tmp_path / name).mkdir(exist_ok=True)
        exec(source, {"OUT": str(tmp_path / name)})
    killed, whole = (pd.read_csv(tmp_path / name / "table.csv") for name in ("killed", "whole"))
    pd.testing.assert_frame_equal(killed[SCORE], whole[SCORE])
    assert 0 < next(iter(BenchFolder(out).runs().values()))["reused"] < 8


# Names


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pipelines": ["CSP+LAD"]}, "pipelines: 'CSP\\+LAD' is not known. Did you mean 'CSP\\+LDA'"),
        ({"dataset": "BNCI2014_01"}, "dataset: 'BNCI2014_01' is .*known.* Did you mean .*'BNCI2014_001'"),
        ({"evaluation": "within-sesion"}, "evaluation: 'within-sesion' is not known. Did you mean 'within-session'"),
        ({"evaluation": "cross-subject:train_trialwyse"}, "Did you mean 'cross-subject:train_trialwise'"),
        ({"subjects": [1, 9]}, "subjects: '9' is not known. Known: 1, 2, 3"),
        ({"param_grid": {"LogVr": {}}}, "param_grid: 'LogVr' is not known. Did you mean 'LogVar'"),
        ({"param_grid": {"LogVar": {"c": [1]}}}, "param_grid of LogVar: 'c' is not known. Did you mean 'C'"),
        ({"param_grid": "none.yml"}, "none.yml: there is no such file"),
        ({"pipelines": {}}, "pipelines: none given"),
        ({"seeds": [1, 1]}, "seeds: expected different integers"),
    ],
)
def test_wrong_names_are_told_apart(change, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "out", **change)
    assert not (tmp_path / "out").exists()


def test_evaluations_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(ValueError, match="needs at least two sessions"):
        run(tmp_path, dataset=make_dataset(n_sessions=1), evaluation="cross-session")
    with pytest.raises(ValueError, match="needs at least two subjects"):
        run(tmp_path, evaluation="cross-subject", subjects=[1])


def test_classes_choose_the_paradigm():
    four = FakeDataset(["left_hand", "right_hand", "feet", "tongue"], n_subjects=1)
    hands = catalogue.get_paradigm(four, classes=["right_hand", "left_hand"], band=(4, 40))
    assert type(hands).__name__ == "LeftRightImagery" and hands.filters == [[4, 40]]
    everything = catalogue.get_paradigm(four)
    assert sorted(everything.used_events(four)) == sorted(four.event_id) and everything.scoring == "accuracy"
    with pytest.raises(ValueError, match="Did you mean 'feet'"):
        catalogue.get_paradigm(four, classes=["foot", "tongue"])


@pytest.mark.parametrize("name", sorted(catalogue.DATASETS))
def test_named_datasets_are_moabb_datasets(name):
    from moabb.datasets.base import BaseDataset

    try:
        dataset = catalogue.get_dataset(name)
    except FileNotFoundError as error:
        pytest.skip(f"recordings are not here: {error}")
    assert isinstance(dataset, BaseDataset)
    assert catalogue.get_paradigm(dataset).is_valid(dataset)


def test_runs_count_as_sessions_where_a_dataset_can(tmp_path):
    with pytest.raises(ValueError, match="SimulatedMotorImagery does not know it"):
        catalogue.get_dataset("simulated", runs_as_sessions=True)
    with pytest.raises(ValueError, match="BNCI2014-001 does not know it"):
        catalogue.get_dataset("BNCI2014-001", runs_as_sessions=True)


# YAML


def yaml_file(folder, name="Mine", step="TrialCovariances", more=""):
    path = folder / f"{name}.yml"
    path.write_text(
        f"name: {name}\nparadigms: [LeftRightImagery]\npipeline:\n  - name: {step}\n    from: skeeg.covariance\n"
        f"  - name: MDM\n    from: pyriemann.classification\n{more}"
    )
    return path


def test_pipelines_come_from_files_and_folders(tmp_path):
    one = yaml_file(tmp_path)
    yaml_file(tmp_path, "Other", more="param_grid:\n  mdm__metric: [riemann, logeuclid]\n")
    estimators, grids = catalogue.get_pipelines([one, "MDM"])
    assert list(estimators) == ["Mine", "MDM"] and isinstance(estimators["Mine"][0], TrialCovariances)
    estimators, grids = catalogue.get_pipelines(tmp_path)
    assert list(estimators) == ["Mine", "Other"] and set(grids) == {"Other"}


def test_every_named_pipeline_can_be_built():
    named = baselines.pipeline_files()
    estimators, _ = catalogue.get_pipelines(list(named))
    assert list(estimators) == list(named) and {"CSP+LDA", "EEGNet", "CT-adaptTL"} <= set(named)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [", "not a YAML file"),
        ("- 1", "expected a mapping"),
        ("name: A", "needs pipeline"),
        ("name: A\npipeline:\n  - name: Nothing\n    from: skeeg.baselines\n", "cannot be built"),
        ("name: A\npipeline: 3", "cannot be built"),
    ],
)
def test_a_bad_file_is_named(text, message, tmp_path):
    path = tmp_path / "bad.yml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        catalogue.get_pipelines([path])
    assert "bad.yml" in str(error.value)


@pytest.mark.parametrize(
    "step",
    [
        "{from: subprocess, name: Popen, parameters: {args: [touch, TOUCHED]}}",
        "{from: os, name: system, parameters: {command: touch TOUCHED}}",
        "{from: pyriemann.classification, name: MDM, parameters: "
        "{optimizer: [{from: subprocess, name: Popen, parameters: {args: [touch, TOUCHED]}}]}}",
        "{from: pyriemann.classification, name: MDM, parameters: "
        "{callbacks: [{from: subprocess, name: run, parameters: {args: [touch, TOUCHED]}}]}}",
    ],
)
def test_a_pipeline_file_calls_nothing_but_estimators(step, tmp_path):
    path, touched = tmp_path / "bad.yml", tmp_path / "touched"
    path.write_text("name: A\npipeline:\n  - " + step.replace("TOUCHED", str(touched)) + "\n")
    with pytest.raises(ValueError, match="bad.yml: the pipeline cannot be built"):
        catalogue.get_pipelines([path])
    time.sleep(0.05)
    assert not touched.exists()


def test_moabb_benchmark_reads_our_files(tmp_path):
    from moabb import benchmark as moabb_benchmark

    folder = tmp_path / "pipelines"
    folder.mkdir()
    for name in ("csp_lda", "mdm"):
        (folder / f"{name}.yml").write_text((baselines.PIPELINE_FOLDER / f"{name}.yml").read_text())
    table = moabb_benchmark(
        pipelines=str(folder), evaluations=["WithinSession"], paradigms=["LeftRightImagery"],
        include_datasets=[make_dataset(n_subjects=1, n_sessions=1)], results=str(tmp_path / "results"),
        output=str(tmp_path / "output"), n_jobs=1,
    )  # fmt: skip
    assert set(table.pipeline) == {"CSP+LDA", "MDM"}


# Statistics and report


def fake_table(n_subjects=8, names=("A", "B", "C"), seeds=(0,)):
    rng = np.random.default_rng(0)
    rows = [
        (name, str(s), str(session), seed, 0.6 + 0.1 * i + 0.02 * s + 0.05 * rng.standard_normal())
        for i, name in enumerate(names)
        for s in range(n_subjects)
        for session in range(2)
        for seed in seeds
    ]
    return pd.DataFrame(rows, columns=SCORE).assign(dataset="D", time=1.5, run="x")


def test_comparisons_are_those_of_moabb():
    from moabb.analysis.meta_analysis import compute_dataset_statistics

    table = fake_table()
    ours = compare(table)
    theirs = compute_dataset_statistics(table)
    for one in theirs.itertuples():
        if one.pipe1 != one.pipe2:
            assert ours["p"].loc[one.pipe1, one.pipe2] == pytest.approx(one.p)
            assert ours["effect"].loc[one.pipe1, one.pipe2] == pytest.approx(one.smd)
    assert ours["pipelines"] == ["C", "B", "A"] and ours["n_subjects"] == 8
    low, high = ours["difference_low"].loc["C", "A"], ours["difference_high"].loc["C", "A"]
    scores = subject_scores(table)
    interval = stats.ttest_rel(scores["C"], scores["A"]).confidence_interval()
    assert (low, high) == pytest.approx((interval.low, interval.high))
    assert ours["effect_low"].loc["C", "A"] < ours["effect"].loc["C", "A"] < ours["effect_high"].loc["C", "A"]


def test_corrected_p_values_keep_the_error_of_all_comparisons_at_their_level():
    table = fake_table()
    pair = table[table.pipeline.isin(["A", "B"])]
    scores = subject_scores(pair)
    flips = stats.permutation_test(
        (scores["A"] - scores["B"],), np.mean, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    )
    one, many = compare(pair)["p_corrected"].loc["B", "A"], compare(table)["p_corrected"].loc["B", "A"]
    assert one == pytest.approx(flips.pvalue) and one <= many and compare(table)["p"].loc["B", "A"] <= one
    rng, wrong = np.random.default_rng(0), 0
    for _ in range(100):
        values = rng.standard_normal((8, 5))
        wrong += (_corrected(values[:, :, None] - values[:, None]) < 0.05).any()
    assert wrong <= 11  # 5 expected; uncorrected it is about 30


def test_comparisons_of_many_subjects_repeat():
    for n_subjects in (16, 25):
        first, second = (compare(fake_table(n_subjects)) for _ in range(2))
        pd.testing.assert_frame_equal(first["p"], second["p"])


def test_spread_is_over_subjects():
    table = fake_table(seeds=(0, 1))
    scores = table[table.pipeline == "A"].groupby("subject").score.mean()
    summary = summarise(table)
    assert summary.loc["A", "mean"] == pytest.approx(scores.mean())
    assert summary.loc["A", "sd"] == pytest.approx(np.std(scores, ddof=1))
    per_seed = table[table.pipeline == "A"].groupby("seed").score.mean()
    assert summary.loc["A", "seed_sd"] == pytest.approx(np.std(per_seed, ddof=1))
    assert subject_scores(table).shape == (8, 3)


def test_pipelines_with_few_subjects_are_left_out_of_comparisons():
    table = fake_table()
    table = table[(table.pipeline != "A") | table.subject.isin(["0", "1"])]
    table = table[(table.pipeline != "B") | (table.subject != "7")]
    comparisons = compare(table)
    assert comparisons["left_out"] == ["A"] and comparisons["n_subjects"] == 7
    assert compare(table[table.pipeline == "A"])["p"] is None


def test_what_a_report_shows_of_scores_and_predictions():
    assert (p_text(0.0004), p_text(0.0312)) == ("< 0.001", "0.031")
    assert chance_level({"scoring": "accuracy", "classes": ["feet", "left_hand", "right_hand", "tongue"]}) == 0.25
    assert chance_level({"scoring": "f1", "classes": ["a", "b"]}) is None
    rows = [("A", "1", 5, 0.6), ("A", "2", 5, 0.8), ("A", "1", 10, 0.7), ("A", "2", 10, 0.9)]
    curve = learning_curve(pd.DataFrame(rows, columns=["pipeline", "subject", "n_per_class", "score"]))
    np.testing.assert_allclose(curve["mean"], [0.7, 0.8])
    table = pd.DataFrame({"true": list("aabb"), "predicted": list("abbb")})
    confusion, scores = class_scores(table, ["a", "b"])
    assert confusion.loc["a"].tolist() == [0.5, 0.5] and scores.loc["b", "recall"] == 1
    table = pd.DataFrame({"true": list("ab"), "predicted": list("aa"), "p_a": [0.8, 0.8], "p_b": [0.2, 0.2]})
    assert calibration_error(table, ["a", "b"]) == pytest.approx(0.3)
    assert calibration_error(table.drop(columns="p_a"), ["a", "b"]) is None


def test_a_pipeline_is_described_where_it_is_the_named_one():
    assert catalogue.describe("MDM", baseline("MDM")).startswith("covariances")
    assert catalogue.describe("MDM", baseline("TS+LR")) == catalogue.describe("mine", baseline("MDM")) == ""


def test_names_are_read_with_hyphens_and_underscores():
    assert catalogue.resolve_evaluation("cross_subject:train-trialwise") == "cross-subject:train_trialwise"
    assert find_task("BNCI2014_004") == "BNCI2014004"
    assert find_task("BNCI2014-001", ("feet", "left_hand", "right_hand", "tongue")) == "BNCI2014001-4"
    assert digest(["a", 1]) == "1d809466"  # the same in every process: results are found by it


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    pipelines = {"LogVar": LogVariance(), "A<b>&": LogVariance(C=2.0), "MDM": baseline("MDM")}
    run(folder, pipelines)
    return folder


def test_report_is_one_file_without_network_or_script(report):
    page = (report / "report.html").read_text()
    assert not re.findall(r"(?:src|href)\s*=(?!\"#)|@import|url\((?!#)|<script", page)  # a figure points into itself
    assert len(page) < 100_000
    assert "A&lt;b&gt;&amp;" in page and "A<b>" not in page


def test_report_shows_every_subject_and_its_origin(report):
    page = (report / "report.html").read_text()
    assert all(f"<tr><th>{subject}</th>" in page for subject in (1, 2, 3)) and page.count("<svg") == 1
    assert "skeeg.bench.run(" in page and "moabb 1." in page and "stroke-dasharray" in page
    text = (report / "report.md").read_text()
    table = BenchFolder(report).table()
    mean = subject_scores(table)["MDM"].mean()
    assert f"| MDM | {mean:.3f} |" in text
    assert "paired over 3 subjects" in text


def test_report_is_written_again_from_the_folder(report):
    before = (report / "report.html").read_text()
    (report / "report.html").unlink()
    assert write_report(report).read_text() == before


@pytest.mark.parametrize("form", ["pdf", "svg", "png"])
def test_figures_and_tables_are_files(form, report):
    paths = write_figures(report, form)
    kinds = [(path.stem.rsplit("-", 1)[1], path.suffix[1:]) for path in paths]
    assert kinds == [("scores", form), ("scores", "tex"), ("scores", "csv"), ("comparisons", "csv")]
    assert len(pd.read_csv(paths[3])) == 6 and "p_corrected" in paths[3].read_text()
    head = paths[0].read_bytes()[:8]
    assert head.startswith({"pdf": b"%PDF", "svg": b"<?xml", "png": b"\x89PNG"}[form])
    assert list(pd.read_csv(paths[2]).columns)[:2] == ["Pipeline", "ROC AUC"] and "toprule" in paths[1].read_text()
    with pytest.raises(ValueError, match="Format 'docx' is not supported"):
        write_figures(report, "docx")


def test_report_of_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no benchmark in"):
        write_report(tmp_path)


def test_parameters_of_networks_are_counted(tmp_path):
    pytest.importorskip("torch")
    network = make_pipeline(*[step for _, step in baseline("EEGNet-4,2").steps])
    network.set_params(networkclassifier__max_epochs=1)
    X, y = np.random.default_rng(0).normal(size=(10, 16, 1000)), np.arange(10) % 2
    pipelines = network, PooledTarget(network), FineTunedClassifier(network)
    for one, size in ((baseline("MDM"), None), *((one, 1858) for one in pipelines)):
        assert count_parameters(one.fit(X, y)) == size
    grids = {"net": {"max_epochs": [1, 2]}}
    run(tmp_path, {"net": NetworkClassifier("EEGNet"), "MDM": baseline("MDM")}, subjects=[1], param_grid=grids)
    (entry,) = json.loads((tmp_path / "runs.json").read_text()).values()
    assert entry["pipelines"]["net"]["n_parameters"] > 100 and entry["pipelines"]["MDM"]["n_parameters"] is None
