"""The test kit tells sound estimators from broken ones, and knows every estimator of the package."""

import importlib.util
import pathlib
import pkgutil
import time
import warnings

import hostile
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from instances import instance, public_estimators
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import EstimatorCheckFailedWarning
from sklearn.pipeline import make_pipeline

import skeeg
from skeeg.base import BaseEEGRegressor, EEGEstimator, EEGTransformer, refuse_flat
from skeeg.filtering import BandPass, Resample
from skeeg.montage import ChannelTemplate
from skeeg.testing import (
    GROUPS,
    Recording,
    bad_inputs,
    check_eeg_estimator,
    eeg_checks,
)
from skeeg.testing.input_checks import WRONG, judge
from skeeg.testing.recordings import kind_of

spec = importlib.util.spec_from_file_location("attack", pathlib.Path(__file__).parents[1] / "benchmarks" / "attack.py")
attack = importlib.util.module_from_spec(spec)
spec.loader.exec_module(attack)

OWN = tuple(group for group in GROUPS if group not in ("sklearn", "moabb"))


class Sound(ClassifierMixin, EEGEstimator):
    """Nearest class mean of the channels' means: all that the checks ask for, in a few lines."""

    __metadata_request__fit = {"subjects": True}

    def __init__(self, shrinkage=0.1, ch_names=None, sfreq=None, random_state=None):
        self.shrinkage = shrinkage
        self.ch_names = ch_names
        self.sfreq = sfreq
        self.random_state = random_state

    def fit(self, X, y, subjects=None):
        X, y = self._check_eeg(X, y, reset=True)
        y = self._check_labels(y)
        refuse_flat(X)
        features = self._features(X)
        self.means_ = np.stack([features[y == label].mean(axis=0) for label in range(len(self.classes_))])
        return self

    def _features(self, X):
        return np.asarray(X, dtype=np.float64).mean(axis=2)

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    def predict_proba(self, X):
        self._check_fitted()
        return self._odds(self._features(self._check_eeg(X, reset=False)))

    def _check_fitted(self):
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(self)

    def _odds(self, features):
        distances = ((features[:, None] - self.means_) ** 2).sum(axis=2) + self.shrinkage
        return (1 / distances) / (1 / distances).sum(axis=1, keepdims=True)


class WritesIntoTrials(Sound):
    def predict_proba(self, X):
        odds = super().predict_proba(X)
        X[...] = 0 if isinstance(X, np.ndarray) else X
        return odds


class PredictsIndices(Sound):
    def predict(self, X):
        return self.predict_proba(X).argmax(axis=1)


class ForgetsTheThirdClass(Sound):
    def predict_proba(self, X):
        return super().predict_proba(X)[:, :2]


class ChangesParameters(Sound):
    def fit(self, X, y, subjects=None):
        self.shrinkage = 0.2
        return super().fit(X, y)


class ReturnsNothing(Sound):
    def fit(self, X, y, subjects=None):
        super().fit(X, y)


class Unseeded(Sound):
    def fit(self, X, y, subjects=None):
        super().fit(X, y).means_ += 1e-9 * np.random.default_rng().standard_normal(self.means_.shape)
        return self


class Remembers(Sound):
    def fit(self, X, y, subjects=None):
        before = getattr(self, "means_", None)
        super().fit(X, y)
        self.means_ = self.means_ if before is None else self.means_ + before.mean()
        return self


class Unpicklable(Sound):
    def fit(self, X, y, subjects=None):
        self.function_ = lambda x: x
        return super().fit(X, y)


class SharesState(Sound):
    def __deepcopy__(self, memo):
        twin = type(self)(**self.get_params(deep=False))
        twin.__dict__ = self.__dict__
        return twin


class NotFresh(Sound):
    def __init__(self, shrinkage=0.1, ch_names=None, sfreq=None, random_state=None):
        super().__init__(shrinkage, ch_names, sfreq, random_state)
        self.count_ = 0


class LosesStateWhenSaved(Sound):
    def save(self, path):
        from copy import copy

        other = copy(self)
        other.means_ = np.round(self.means_)
        super(Sound, other).save(path)


class LoadsAnything(Sound):
    @classmethod
    def load(cls, path, params=None):
        return cls()


class LooksAtTheBatch(Sound):
    def _odds(self, features):
        return super()._odds(features - 0.01 * features.mean(axis=0))


class SeedsTheWorld(Sound):
    def fit(self, X, y, subjects=None):
        np.random.seed(0)  # noqa: NPY002, this is what is wrong with it
        return super().fit(X, y)


class TakesAnySolver(Sound):
    def __init__(self, solver="a", ch_names=None, sfreq=None, random_state=None):
        super().__init__(0.1, ch_names, sfreq, random_state)
        self.solver = solver


class HasASet(Sound):
    def __init__(self, shrinkage=0.1, names=frozenset("abcdefgh"), ch_names=None, sfreq=None, random_state=None):
        super().__init__(shrinkage, ch_names, sfreq, random_state)
        self.names = names


NUMBERS = np.ones(3)


class HasAnArray(Sound):
    def __init__(self, shrinkage=NUMBERS, ch_names=None, sfreq=None, random_state=None):
        super().__init__(shrinkage, ch_names, sfreq, random_state)

    def _odds(self, features):
        return 0.5 * np.ones((len(features), len(self.means_)))


class AcceptsAnything(Sound):
    """Checks nothing at all."""

    def fit(self, X, y, subjects=None):
        X = np.asarray(X)
        self.classes_, y = np.unique(y, return_inverse=True)
        n = min(len(X), len(y))
        self.means_ = np.stack([self._features(X[:n][y[:n] == i]).mean(axis=0) for i in range(len(self.classes_))])
        return self

    def predict_proba(self, X):
        return self._odds(self._features(np.asarray(X))[:, : self.means_.shape[1]])


class CrashesOnOtherLengths(Sound):
    _any_length = True

    def predict_proba(self, X):
        if np.shape(X)[-1] != self.n_times_in_:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
        return super().predict_proba(X)


class GivesNaN(Sound):
    def predict_proba(self, X):
        return super().predict_proba(X) * np.nan


class ReadsVolts(Sound):
    def _check_eeg(self, X, *args, **kwargs):
        return super()._check_eeg(X.get_data() if hasattr(X, "get_data") else X, *args, **kwargs)


class RefusesLists(Sound):
    def _check_eeg(self, X, *args, **kwargs):
        if isinstance(X, list):
            raise TypeError("a list")
        return super()._check_eeg(X, *args, **kwargs)


class LikesDoubles(Sound):
    def _features(self, X):
        return np.round(super()._features(X), 0 if X.dtype == np.float32 else 9)


class LikesOrder(Sound):
    def _features(self, X):
        return super()._features(X) + np.asarray(X).flags.f_contiguous


class KerasStyle(Sound):
    def __init__(self, optimizer="adam", shrinkage=0.1, ch_names=None, sfreq=None, random_state=None):
        super().__init__(shrinkage, ch_names, sfreq, random_state)
        self.optimizer = optimizer


class IgnoresSubjects(Sound):
    def fit(self, X, y, subjects=None):
        super().fit(X, y)
        self.means_ += 0 if getattr(X, "domains", None) is None else 1
        return self


class NeedsTwoTrials(Sound):
    def _features(self, X):
        return super()._features(X) / (len(X) > 1 or np.nan)


class NeedsManyTrials(Sound):
    def fit(self, X, y, subjects=None):
        if len(X) < 20:
            raise ValueError("too few trials")
        return super().fit(X, y)


class LosesIdentity(EEGTransformer):
    def fit(self, X, y=None):
        self._check_eeg(X, reset=True)
        return self

    def transform(self, X):
        return np.asarray(self._check_eeg(X, reset=False))


class KeepsTheTrials(Sound):
    def predict_proba(self, X):
        self._trials = X
        time.sleep(0.001)  # time for another thread to put its own there
        return super().predict_proba(self._trials)


class CompilesAnother(Sound):
    def compile_inference(self):
        self.means_ = self.means_[:, ::-1].copy()
        return self


class FlattensTargets(BaseEEGRegressor):
    def fit(self, X, y):
        _, targets = self._check_eeg_and_targets(X, y)
        self.mean_ = targets.mean()
        return self

    def predict(self, X):
        return np.full(len(self._check_eeg(X, reset=False, dtype=np.float32)), self.mean_)


class KeepsHalfAFit(Sound):
    def fit(self, X, y, subjects=None):
        self.__dict__.setdefault("means_", np.zeros((2, 1)))[:] = 0.0  # in place, where nothing undoes it
        return super().fit(X, y)


BROKEN = [
    (WritesIntoTrials, "check_memory_layout"),
    (PredictsIndices, "check_labels"),
    (ForgetsTheThirdClass, "check_classifiers_train"),
    (ChangesParameters, "check_estimators_overwrite_params"),
    (ReturnsNothing, "check_estimators_fit_returns_self"),
    (Unseeded, "check_reproducible"),
    (Remembers, "check_refit"),
    (Unpicklable, "check_estimators_pickle"),
    (Unpicklable, "check_save_load"),
    (SharesState, "check_deepcopy"),
    (NotFresh, "check_no_attributes_set_in_init"),
    (LosesStateWhenSaved, "check_save_load"),
    (LoadsAnything, "check_save_load"),
    (LooksAtTheBatch, "check_one_trial_equals_batch"),
    (KeepsTheTrials, "check_threads"),
    (KeepsTheTrials, "check_predict_changes_nothing"),
    (CompilesAnother, "check_compiled"),
    (SeedsTheWorld, "check_global_state"),
    (HasASet, "check_repr_between_processes"),
    (HasAnArray, "check_repr_between_processes"),
    (AcceptsAnything, "check_estimators_nan_inf"),
    (AcceptsAnything, "check_estimators_empty_data_messages"),
    (GivesNaN, "check_has_output"),
    (CrashesOnOtherLengths, "check_bad_inputs"),
    (KeepsHalfAFit, "check_bad_inputs"),
    (TakesAnySolver, "check_bad_parameters"),
    (ReadsVolts, "check_epochs_equal_array"),
    (RefusesLists, "check_cross_validation_of_epochs"),
    (LikesDoubles, "check_float32_and_float64"),
    (LikesOrder, "check_memory_layout"),
    (KerasStyle, "check_yaml"),
    (IgnoresSubjects, "check_subjects_routed"),
    (NeedsTwoTrials, "check_moabb_cross_subject_train_trialwise"),
    (NeedsManyTrials, "check_grid_search_two_jobs"),
    (LosesIdentity, "check_identity_kept"),
    (FlattensTargets, "check_target_shapes"),
]


def example(Estimator):
    """Instance with parameters that are not the defaults, so that YAML has something to say."""
    return KerasStyle(optimizer="sgd") if Estimator is KerasStyle else Estimator()


@pytest.mark.parametrize(("Estimator", "name"), BROKEN, ids=[f"{cls.__name__}-{name}" for cls, name in BROKEN])
def test_each_check_finds_what_it_looks_for(Estimator, name):
    check = next(check for check in eeg_checks(example(Estimator), only=name) if check.name == name)
    with pytest.raises(Exception):  # noqa: B017, a broken estimator may raise what it likes
        check(example(Estimator))


def test_each_check_is_tried_on_something_broken():
    """Every check of the kit's own is in the table, but for those whose failure would be the library's."""
    names = {check.name for Estimator in (Sound, LosesIdentity, FlattensTargets) for check in eeg_checks(Estimator())}
    own = {name for name in names if any(c.name == name for c in eeg_checks(Sound(), groups=OWN))}
    assert own - {name for _, name in BROKEN} == set()


def test_a_sound_estimator_passes_everything():
    results = check_eeg_estimator(Sound(), groups=OWN)
    assert {result["status"] for result in results} == {"passed"}
    names = [result["check_name"] for result in results]
    assert len(names) == len(set(names)) >= 20


def test_the_moabb_checks_pass_on_a_sound_estimator():
    results = check_eeg_estimator(Sound(), groups="moabb", on_fail=None)
    assert {result["check_name"]: result["exception"] for result in results if result["status"] != "passed"} == {}
    modes = [name for name in (result["check_name"] for result in results) if name.startswith("check_moabb_cross_sub")]
    assert len(results) == 12 and len(modes) == 8


def test_every_mode_of_moabb_is_checked():
    from moabb.evaluations import CrossSubjectMode

    names = {check.name for check in eeg_checks(Sound(), groups="moabb")}
    assert {f"check_moabb_cross_subject_{mode.value}" for mode in CrossSubjectMode} <= names


# What a failure does


def test_a_failure_is_raised_warned_of_or_told():
    with pytest.raises(AssertionError, match="scikit-learn|not finite") as caught:
        check_eeg_estimator(GivesNaN(), only="check_has_output", groups="state")
    assert "check_has_output of GivesNaN" in str(caught.value.__notes__)
    with pytest.warns(EstimatorCheckFailedWarning, match="check_has_output"):
        check_eeg_estimator(GivesNaN(), only="check_has_output", groups="state", on_fail="warn")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (result,) = check_eeg_estimator(GivesNaN(), only="has_output", groups="state", on_fail=None)
    assert (result["status"], result["group"], result["expected_to_fail"]) == ("failed", "state", False)
    assert isinstance(result["exception"], Exception)


def test_expected_failures_need_a_reason_and_do_not_stop():
    expected = {"check_has_output": "it gives NaN"}
    (result,) = check_eeg_estimator(
        GivesNaN(), only="check_has_output", groups="state", expected_failed_checks=expected
    )
    assert (result["status"], result["expected_to_fail_reason"]) == ("xfail", "it gives NaN")


def test_checks_of_scikit_learn_have_names_of_their_own():
    names = [check.name for check in eeg_checks(Sound(), groups="sklearn")]
    assert len(names) == len(set(names)) > 50
    assert "check_classifiers_train" in names and "check_classifiers_train(readonly_memmap)" in names


def test_checks_are_chosen_by_group_and_name():
    assert {check.group for check in eeg_checks(Sound())} == set(GROUPS)
    assert [repr(check) for check in eeg_checks(Sound(), only=("deepcopy", "check_yaml"))] == [
        "check_deepcopy",
        "check_yaml",
    ]
    with pytest.raises(ValueError, match="groups: got slow, expected some of sklearn"):
        list(eeg_checks(Sound(), groups=("state", "slow")))
    for wrong in (Sound, np.ones(3)):
        with pytest.raises(TypeError, match="estimator: expected an instance of a scikit-learn estimator, got"):
            list(eeg_checks(wrong))
    with pytest.raises(ValueError, match="on_fail: got 'stop'"):
        check_eeg_estimator(Sound(), on_fail="stop")


# Estimators of others


class TurnsChecksOff(Sound):
    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        return tags


def test_turning_scikit_learns_checks_off_is_a_failure():
    results = check_eeg_estimator(TurnsChecksOff(), groups="sklearn", on_fail=None)
    assert {r["check_name"]: r["status"] for r in results}["check_sklearn_checks_apply"] == "failed"


def test_pipelines_of_other_libraries_are_checked():
    from pyriemann.classification import MDM
    from pyriemann.estimation import Covariances

    pipeline = make_pipeline(Covariances("oas"), MDM())
    assert kind_of(pipeline) == "classifier"
    results = check_eeg_estimator(pipeline, groups=("input", "state"), on_fail=None)
    told = {result["check_name"]: result["status"] for result in results}
    assert told["check_labels"] == told["check_refit"] == told["check_deepcopy"] == "passed"
    assert told["check_epochs_equal_array"] == "failed"
    assert "check_save_load" not in told


def test_transformers_of_other_libraries_go_through_searches():
    from mne.decoding import Vectorizer

    results = check_eeg_estimator(Vectorizer(), only=("grid_search", "yaml"), groups="protocols", on_fail=None)
    assert [result["status"] for result in results] == ["passed", "passed"]


class Old(ClassifierMixin, BaseEstimator):
    """Reads plain arrays only."""

    def fit(self, X, y):
        assert type(X) is np.ndarray
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        assert type(X) is np.ndarray
        return np.repeat(self.classes_[:1], len(X))


def test_others_are_given_plain_arrays():
    check_eeg_estimator(Old(), only=("check_has_output", "check_reproducible"), groups="state")


# Recordings, registry, instances


def test_recordings_follow_the_parameters_of_the_estimator():
    assert Recording.suited_to(Sound()) == Recording()
    asked = Recording.suited_to(make_pipeline(Sound(ch_names=("a", "b", "c"), sfreq=64)))
    assert (asked.ch_names, asked.sfreq) == (("a", "b", "c"), 64.0)
    X = Recording(n_trials=6).eeg(n_classes=3)
    assert X.ch_names == Recording().ch_names and np.array_equal(X, np.asarray(X, dtype=np.float32))
    np.testing.assert_allclose(Recording().epochs(np.asarray(X)).get_data() * 1e6, np.asarray(X), rtol=1e-12)
    assert set(Recording().other().ch_names) - set(Recording().ch_names)


def all_estimators():
    """Every estimator class that the package defines, public or not."""
    for module in pkgutil.walk_packages(skeeg.__path__, "skeeg."):
        importlib.import_module(module.name)
    found, queue = set(), [EEGEstimator]
    while queue:
        cls = queue.pop()
        queue += cls.__subclasses__()
        if cls.__module__.startswith("skeeg.") and hasattr(cls, "fit") and not cls.__name__.startswith("_"):
            found.add(cls)
    return found


# Steps and baselines that pipelines and benchmarks are built of; their own modules export and test them.
PARTS = {
    "AsEEG",
    "BandPowerPLS",
    "BandPowerRegressor",
    "BandPowerRidge",
    "ChannelScaler",
    "EEGTransformer",
    "FilterBankCSP",
    "Imputer",
    "LowRankCompletion",
    "NetworkEstimator",
    "PadToMultiple",
    "RankOneRidge",
    "SplineInterpolation",
    "SteadyStateCCA",
    "TimeInterpolation",
    "TrialCovariances",
    "WienerInterpolation",
}


def test_every_estimator_of_the_package_is_public():
    assert {cls.__name__ for cls in all_estimators()} - {cls.__name__ for cls in public_estimators()} == PARTS


@pytest.mark.parametrize("Estimator", public_estimators(), ids=lambda cls: cls.__name__)
def test_instances_are_fresh_plain_and_fixed(Estimator):
    one, other = instance(Estimator), instance(Estimator)
    assert type(one) is Estimator and one is not other
    assert repr(one.get_params()) == repr(other.get_params())
    params = one.get_params()
    assert params.get("device", "cpu") == "cpu"
    assert params.get("max_epochs", 0) <= 20 if params.get("max_epochs") is not None else True
    if "random_state" in params:
        assert params["random_state"] is not None


# Bad input and the attack


def test_the_corpus_is_made_anew_from_good_trials_and_leaves_them_alone():
    recording = Recording()
    X, y = recording.eeg(), recording.indices()
    before = np.array(X)
    for name, bad in bad_inputs().items():
        Z, targets = bad.make(X, y)
        assert Z is not X or targets is not y, name
    np.testing.assert_array_equal(X, before)


@pytest.mark.parametrize(
    ("call", "outcome"),
    [
        (lambda: [np.ones(3)], "right answer"),
        (lambda: [np.ones(4)], "undetected"),
        (lambda: [np.array([1, np.inf, 0])], "undetected"),
        (lambda: int("X"), "clear error"),
        (lambda: int("five"), "unclear error"),
        (lambda: {}["X"], "wrong type"),
    ],
    ids=["answer", "length", "infinite", "named", "unnamed", "KeyError"],
)
def test_outcomes_are_told_apart(call, outcome):
    assert judge(call, ["X"], n_trials=3)[0] == outcome


@pytest.mark.parametrize("name", ["fewer channels", "other order", "other rate", "flat channel", "fewer targets"])
def test_an_answer_to_what_must_be_refused_is_a_failure(name):
    recording, bad = Recording(), bad_inputs()[name]
    X, y = recording.eeg(), recording.indices()
    for Estimator, wrong in ((AcceptsAnything, True), (Sound, False)):
        outcomes = attack.attack(Estimator(), Estimator().fit(X, y), X, y, bad)
        stage = "fit" if bad.stage != "apply" else "predict"
        assert ({method: outcome for method, outcome, _ in outcomes}[stage] in WRONG) == wrong


def test_what_a_transformer_or_any_montage_may_answer_is_no_failure():
    bad = bad_inputs()
    assert not bad["fewer targets"].refused(BandPass()) and not bad["flat channel"].refused(BandPass())
    assert not bad["fewer channels"].refused(ChannelTemplate()) and not bad["other rate"].refused(Resample())


def test_a_file_that_hangs_is_stopped():
    assert hostile.judge_in_time(lambda: time.sleep(5), [], seconds=0.2)[0] == "hang"


def test_the_attack_finds_what_is_wrong():
    table = attack.attack_inputs([AcceptsAnything(), KeepsHalfAFit()])
    assert table.rows["AcceptsAnything"]["undetected"] and table.rows["KeepsHalfAFit"]["changed state"]
    assert "undetected: AcceptsAnything, NaN at predict_proba" in str(table)


def test_the_attack_on_a_sound_estimator_is_in_vain():
    table = attack.attack_inputs([Sound(), BandPass()])
    assert table.count(["right answer"]) > 10 and table.count(["clear error"]) > 50
    assert table.count(WRONG) == 0, str(table)


@given(st.integers(0, 2**31))
def test_random_calls_are_answered_or_refused(seed):
    row, what, outcome, told = attack.fuzz_call(seed)
    assert outcome not in WRONG, f"{row}: {what}: {told}"


def test_the_attack_prints_a_table_and_fails_on_what_is_fatal(capsys, monkeypatch):
    assert attack.main(["--only", "calls", "--calls", "5"]) == 0
    assert "Random calls: 5 calls" in capsys.readouterr().out
    monkeypatch.setattr(attack, "fuzz_call", lambda seed: ("Step", "fit", "undetected", ""))
    assert attack.main(["--only", "calls", "--calls", "5"]) == 1


def test_files_that_execute_or_that_are_taken_for_weights_are_found(monkeypatch):
    def trusting(path):
        pathlib.Path(path).with_suffix(".executed").touch()

    def corpus(folder, only):
        path = pathlib.Path(folder) / "file.pth"
        path.write_text("no weights")
        return {"a file": str(path)}

    monkeypatch.setattr(hostile, "hostile_checkpoints", corpus)
    monkeypatch.setattr(hostile, "public_estimators", list)
    monkeypatch.setattr(hostile, "load", trusting)
    assert attack.attack_files().rows == {"load": {"executed": 1}}
    monkeypatch.setattr(hostile, "load", str)
    assert attack.attack_files().rows == {"load": {"undetected": 1}}
    monkeypatch.undo()
