"""Checks of an estimator inside GridSearchCV, cross-validation, MOABB's YAML files and MOABB's evaluations."""

import contextlib
import functools
import inspect
import io
import tempfile

import numpy as np
from sklearn import config_context
from sklearn.base import clone
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score, cross_validate
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.metadata_routing import get_routing_for_object

from ..array import EEGArray, make_domains
from ..base import params_named
from .recordings import assert_same_outputs, configured_for, data_for, fitted_on, fresh, kind_of, outputs


def as_predictor(estimator):
    """Add a classifier to a transformer; return everything else as it is."""
    if kind_of(estimator) != "transformer":
        return estimator
    return make_pipeline(estimator, FunctionTransformer(flatten), RidgeClassifier())


def flatten(X):
    """Features in one row a trial."""
    return np.asarray(X).reshape(len(X), -1)


def check_grid_search_two_jobs(estimator, recording):
    """Check that GridSearchCV works with two processes; its best estimator predicts what one fitted here does."""
    X, y = data_for(estimator, recording)
    predictor = as_predictor(fresh(estimator))
    seeds = list(params_named(predictor, "random_state"))
    grid = {seeds[0]: [0, 1]} if seeds else {}
    search = GridSearchCV(predictor, grid, cv=2, n_jobs=2, error_score="raise").fit(X, y)
    scores = search.cv_results_["mean_test_score"]
    if not np.isfinite(scores).all():
        raise AssertionError(f"GridSearchCV with two jobs gives the scores {scores}.")
    alone = clone(predictor).set_params(**search.best_params_).fit(X, y)
    np.testing.assert_array_equal(search.predict(X), alone.predict(X))


def check_cross_validation_of_epochs(estimator, recording):
    """Check that cross_val_score of Epochs, which it turns into lists of Epochs, gives the scores that arrays give."""
    X, y = data_for(estimator, recording)
    predictor = as_predictor(fresh(estimator))
    wanted = cross_val_score(predictor, X, y, cv=3, error_score="raise")
    found = cross_val_score(predictor, recording.epochs(X), y, cv=3, error_score="raise")
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-6)


def wants_subjects(estimator):
    """Whether the estimator asks for the subject of each trial."""
    with config_context(enable_metadata_routing=True):
        return bool(get_routing_for_object(estimator).consumes("fit", {"subjects"}))


def check_subjects_routed(estimator, recording):
    """Check that subjects reach fit through cross-validation, and mean what domains in the trials mean."""
    X, y = data_for(estimator, recording)
    subjects = np.repeat(["a", "b", "c", "d"], -(-len(X) // 4))[: len(X)]
    predictor, folds = as_predictor(fresh(estimator)), GroupKFold(2)
    with config_context(enable_metadata_routing=True):
        routed = cross_validate(
            predictor, X, y, cv=folds, params={"subjects": subjects, "groups": subjects},
            error_score="raise",
        )  # fmt: skip
    if not np.isfinite(routed["test_score"]).all():
        raise AssertionError("cross-validation with routed subjects gives scores that are not finite.")
    named = EEGArray(X, recording.ch_names, recording.sfreq, make_domains(len(X), subject=subjects))
    wanted = outputs(fresh(estimator).fit(named, y), named)
    plain = EEGArray(X, recording.ch_names, recording.sfreq)
    found = outputs(fresh(estimator).fit(plain, y, subjects=subjects), named)
    assert_same_outputs(found, wanted, "subjects against domains", rtol=1e-6)


def check_yaml(estimator, recording):
    """Check that the parameters survive a YAML file read by MOABB, and fit to the same results."""
    import yaml
    from moabb.pipelines.utils import create_pipeline_from_config

    steps = [step for _, step in estimator.steps] if isinstance(estimator, Pipeline) else [estimator]
    config = [
        {"name": type(step).__name__, "from": type(step).__module__, "parameters": _changed_params(step)}
        for step in map(fresh, steps)
    ]
    again = create_pipeline_from_config(yaml.safe_load(yaml.safe_dump(config)))
    X, y, _, wanted = fitted_on(estimator, recording)
    assert_same_outputs(outputs(again.fit(X, y), X), wanted, "made of a YAML file", rtol=1e-6)


def _changed_params(step):
    defaults = {name: p.default for name, p in inspect.signature(type(step)).parameters.items()}
    params = step.get_params(deep=False)
    return {name: value for name, value in params.items() if value is not defaults.get(name, inspect.Parameter.empty)}


def moabb_checks():
    """MOABB's four evaluations, every `CrossSubjectMode`, and Epochs in place of arrays, as named checks."""
    from moabb.evaluations import CrossSubjectMode

    for name in ("within_session", "cross_session", "within_subject"):
        evaluation = f"{name.title().replace('_', '')}Evaluation"
        yield f"check_moabb_{name}", functools.partial(_check_moabb, evaluation=evaluation)
    for mode in CrossSubjectMode:
        yield f"check_moabb_cross_subject_{mode.value}", functools.partial(_check_moabb, mode=mode.value)
    within = {"evaluation": "WithinSessionEvaluation", "return_epochs": True}
    yield "check_moabb_within_session_epochs", functools.partial(_check_moabb, **within)
    trialwise = {"mode": "train_trialwise", "return_epochs": True}
    yield "check_moabb_cross_subject_train_trialwise_epochs", functools.partial(_check_moabb, **trialwise)


def _check_moabb(estimator, recording, evaluation="CrossSubjectEvaluation", mode=None, return_epochs=False):
    """Check that an evaluation of MOABB's, on two simulated subjects with two sessions, gives each a finite score."""
    import mne
    from moabb import evaluations

    predictor = as_predictor(configured_for(estimator, recording))
    dataset, paradigm = _fake_imagery(recording)
    settings = {"paradigm": paradigm, "datasets": [dataset], "random_state": 0, "return_epochs": return_epochs}
    if mode is not None:
        settings["cs_mode"] = mode
    elif evaluation == "WithinSessionEvaluation":
        settings["n_splits"] = 2
    with tempfile.TemporaryDirectory() as folder, mne.use_log_level("error"), _quiet():
        run = vars(evaluations)[evaluation](hdf5_path=folder, overwrite=True, verbose="ERROR", **settings)
        results = run.process({"checked": make_pipeline(predictor)})
    if len(results) != 4 or not np.isfinite(results["score"]).all():
        scores = results["score"].tolist()
        raise AssertionError(f"{evaluation} of 2 subjects with 2 sessions gives the scores {scores}.")


@contextlib.contextmanager
def _quiet():
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        yield


@functools.lru_cache(maxsize=4)
def _fake_imagery(recording):
    """MOABB's fake dataset, two subjects with two sessions, and a paradigm that loads it only once."""
    from moabb.datasets.fake import FakeDataset
    from moabb.paradigms import LeftRightImagery

    class CachedImagery(LeftRightImagery):
        """Left against right, its data read once: filtering takes longer than the evaluation of a fast estimator."""

        loaded = {}

        def get_data(self, dataset, subjects=None, return_epochs=False, **settings):
            key = (tuple(subjects or ()), return_epochs)
            if key not in self.loaded:
                before = np.random.get_state()  # noqa: NPY002, the fake dataset draws from the global state
                self.loaded[key] = super().get_data(dataset, subjects, return_epochs, **settings)
                np.random.set_state(before)  # noqa: NPY002
            X, y, metadata = self.loaded[key]
            return X.copy(), y.copy(), metadata.copy()

    seconds = recording.n_times / recording.sfreq
    dataset = FakeDataset(
        event_list=("left_hand", "right_hand"), n_subjects=2, n_sessions=2, n_runs=1, n_events=12, seed=0,
        duration=16 + int(seconds), sfreq=recording.sfreq, channels=recording.ch_names,
    )  # fmt: skip
    top = min(30.0, 0.4 * recording.sfreq)
    return dataset, CachedImagery(fmin=4, fmax=top, tmin=0, tmax=(recording.n_times - 1) / recording.sfreq)
