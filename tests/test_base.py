import inspect
import pickle

import mne
import numpy as np
import pytest
from scipy import sparse
from sklearn import config_context
from sklearn.base import ClassifierMixin, clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import (
    check_global_output_transform_pandas,
    check_set_output_transform_pandas,
    check_transformer_get_feature_names_out,
)
from sklearn.utils.validation import check_is_fitted

import skeeg
from skeeg import CSP, EuclideanAlignment, FilterBank, FilterBankTangentSpace, NetworkClassifier
from skeeg.array import EEGArray, make_domains
from skeeg.base import AsEEG, BaseEEGRegressor, EEGEstimator, EEGTransformer, draw_seed, refuse_flat
from skeeg.filtering import BandPass
from skeeg.spatial import FilterBankCSP

NAMES = ("C3", "Cz", "C4")


class Step(EEGTransformer):
    """Gives the checked trials back as they are."""

    _any_length = False

    def __init__(self, ch_names=None, sfreq=None):
        self.ch_names = ch_names
        self.sfreq = sfreq

    def fit(self, X, y=None):
        self._check_eeg(X, reset=True)
        return self

    def transform(self, X):
        check_is_fitted(self)
        return self._check_eeg(X, reset=False)


class AnyLength(Step):
    _any_length = True


class AnyMontage(Step):
    _any_montage = True


class Majority(ClassifierMixin, EEGEstimator):
    """Probability of a class is its share at fit."""

    def fit(self, X, y):
        X, y = self._check_eeg(X, y, reset=True)
        self.shares_ = np.bincount(self._check_labels(y)) / len(y)
        return self

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    def predict_proba(self, X):
        check_is_fitted(self)
        return np.tile(self.shares_, (len(self._check_eeg(X, reset=False)), 1))


class Mean(BaseEEGRegressor):
    """Predicts the mean target."""

    def fit(self, X, y):
        X, targets = self._check_eeg_and_targets(X, y)
        self.mean_ = targets.mean(axis=0)
        return self

    def predict(self, X):
        check_is_fitted(self)
        n = len(self._check_eeg(X, reset=False, dtype=np.float32))
        return self._shape_like_targets(np.tile(self.mean_, (n, 1)))


def trials(n=6, n_times=20, names=NAMES, sfreq=100.0, dtype=float):
    X = np.random.default_rng(0).standard_normal((n, len(names), n_times)).astype(dtype)
    return EEGArray(X, names, sfreq, make_domains(n, subject=np.arange(n)))


def test_fit_remembers_what_the_trials_say():
    step = Step(ch_names=("a", "b", "c"), sfreq=1.0).fit(trials())
    assert (step.n_features_in_, step.n_times_in_) == (3, 20)
    assert (step.ch_names_in_, step.sfreq_in_) == (NAMES, 100.0)


def test_the_constructor_says_what_plain_trials_do_not():
    step = Step(ch_names=NAMES, sfreq=100).fit(np.asarray(trials()))
    assert (step.ch_names_in_, step.sfreq_in_) == (NAMES, 100.0)
    assert step.transform(np.asarray(trials())).ch_names == NAMES
    with pytest.raises(ValueError, match="ch_names: got 2 names for data with 3 channels"):
        Step(ch_names=("C3", "C4")).fit(np.asarray(trials()))


def test_a_second_fit_forgets_the_first():
    step = Step().fit(trials()).fit(np.ones((4, 7)))
    assert (step.n_features_in_, step.n_times_in_, step.ch_names_in_, step.sfreq_in_) == (7, 7, None, None)


def test_a_recording_that_is_not_cut_into_trials_is_refused():
    raw = mne.io.RawArray(np.zeros((3, 100)), mne.create_info(["C3", "Cz", "C4"], 100.0, "eeg"), verbose="error")
    with pytest.raises((TypeError, ValueError), match="X: got a RawArray, expected trials; mne.Epochs"):
        CSP().fit(raw, [0, 1])


@pytest.mark.parametrize("listed", [False, True], ids=["Epochs", "list of Epochs"])
def test_epochs_are_read_in_microvolts(listed):
    X = trials()
    epochs = mne.EpochsArray(np.asarray(X) * 1e-6, mne.create_info(list(NAMES), 100.0, "eeg"))
    result = Step().fit(X).transform([epochs[i] for i in range(6)] if listed else epochs)
    np.testing.assert_allclose(result, np.asarray(X), rtol=1e-12)
    assert (result.ch_names, result.sfreq) == (NAMES, 100.0)


def test_identity_survives_the_check():
    X = trials()
    result = Step().fit(X).transform(X[2:4])
    assert type(result) is EEGArray and result.domains["subject"].tolist() == ["2", "3"]


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (np.zeros(5), ValueError, "Expected 2D array"),
        (np.zeros((2, 3, 4, 5)), ValueError, r"expected three axes \(trials, channels, times\)"),
        (np.full((2, 3, 4), np.nan), ValueError, "NaN"),
        (np.full((2, 3, 4), np.inf), ValueError, "infinity"),
        (np.zeros((0, 3, 4)), ValueError, "0 sample"),
        (np.zeros((2, 0, 4)), ValueError, "one trial, channel and sample|0 feature"),
        (np.zeros((2, 3, 0)), ValueError, "one trial, channel and sample"),
        (np.zeros((2, 3, 4), complex), ValueError, "Complex data not supported"),
        (sparse.csr_array(np.eye(3)), TypeError, "[Ss]parse"),
        (np.full((2, 3, 4), "a"), ValueError, "could not convert|dtype='numeric'"),
    ],
    ids=["1-D", "4-D", "NaN", "inf", "no trial", "no channel", "no sample", "complex", "sparse", "strings"],
)
@pytest.mark.parametrize("fitted", [False, True], ids=["fit", "transform"])
def test_bad_trials_are_refused_by_name(X, error, message, fitted):
    step = Step()
    if fitted:
        step.fit(np.ones((2, 3, 4)))
    with pytest.raises(error, match=message):
        step.transform(X) if fitted else step.fit(X)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # of scikit-learn's own sum
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_bad_value_is_found_by_the_quick_check_of_predictions(value):
    step = Step().fit(np.ones((5, 3, 20)))
    X = np.ones((1, 3, 20))
    X[0, 1, 5] = value
    X[0, 2, 5] = -value
    with pytest.raises(ValueError, match="NaN|infinity"):
        step.transform(X)


@pytest.mark.filterwarnings("error")
def test_values_whose_sum_overflows_are_not_infinite():
    X = np.full((2, 3, 20), 3e38, dtype=np.float32)
    assert Step().fit(X).transform(X).dtype == np.float32


@pytest.mark.parametrize(
    ("dtype", "kept"), [("f8", "f8"), ("f4", "f4"), ("i4", "f8"), (">f8", "f8"), ("f2", "f8"), ("?", "f8")]
)
def test_floats_are_kept_and_the_rest_becomes_float64(dtype, kept):
    X = np.ones((4, 3, 5), dtype=dtype)
    assert Step().fit(X).transform(X).dtype == np.dtype(kept)


def test_other_trials_than_at_fit_are_refused():
    step = Step().fit(trials())
    with pytest.raises(ValueError, match="18 samples a trial, but Step was fitted on 20"):
        step.transform(trials(n_times=18))
    with pytest.raises(ValueError, match="C4 in place of Cz, Cz in place of C4"):
        step.transform(trials(names=("C3", "C4", "Cz")))
    with pytest.raises(ValueError, match="200.0 Hz, but Step was fitted on 100.0 Hz"):
        step.transform(trials(sfreq=200))
    with pytest.raises(ValueError, match="2 features, but Step is expecting 3"):
        step.transform(trials()[:, :2])
    with pytest.raises(NotFittedError):
        Step().transform(trials())


def test_what_is_not_known_is_not_compared():
    assert Step().fit(trials()).transform(np.asarray(trials())).shape == (6, 3, 20)
    assert Step().fit(np.asarray(trials())).transform(trials()).ch_names == NAMES


def test_steps_say_what_may_differ():
    assert AnyLength().fit(trials()).transform(trials(n_times=50)).shape == (6, 3, 50)
    wider = trials(names=("Fz", "Cz", "Pz", "Oz"))
    assert AnyMontage().fit(trials()).transform(wider).ch_names == wider.ch_names
    with pytest.raises(ValueError, match="4 features, but AnyMontage is expecting 3"):
        AnyMontage().fit(trials()).transform(np.asarray(wider))


@pytest.mark.parametrize(
    "labels",
    [["left", "right"], np.array(["left", "right"], dtype=object), [1, 2], [0, 5], [-1.0, 1.0], [False, True]],
    ids=repr,
)
def test_labels_of_any_kind_come_back(labels):
    y = np.array(labels)[[0, 1, 1, 0, 1, 1]]
    fitted = Majority().fit(trials(), y)
    assert list(fitted.classes_) == list(labels)
    assert set(fitted.predict(trials())) == {labels[1]}
    np.testing.assert_allclose(fitted.predict_proba(trials())[0], [1 / 3, 2 / 3])


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (["left"] * 6, "Majority needs at least two classes, got one class: .*left"),
        (np.linspace(0, 1, 6), "continuous"),
        ([0, 1, 0], "inconsistent numbers of samples"),
        ([0, 1, 0, 1, 0, np.nan], "NaN"),
        (None, "requires y to be passed"),
        (np.eye(6), "continuous-multioutput|1d array|multilabel"),
    ],
    ids=["one class", "continuous", "too few", "NaN", "None", "two axes"],
)
def test_bad_labels_are_refused_by_name(y, message):
    with pytest.raises(ValueError, match=message):
        Majority().fit(trials(), y)


@pytest.mark.parametrize("shape", [(6,), (6, 1), (6, 2), (6, 2, 5), (6, 1, 1)])
def test_targets_come_back_in_their_shape(shape):
    y = np.random.default_rng(0).standard_normal(shape)
    predicted = Mean().fit(trials(), y).predict(trials())
    assert predicted.shape == shape and predicted.dtype == np.float64
    np.testing.assert_allclose(predicted[0], y.mean(axis=0))


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.full(6, np.nan), "NaN"),
        (np.zeros((6, 2, 3, 4)), "dim|4"),
        (np.zeros(5), "inconsistent"),
        (["a"] * 6, "convert|numeric"),
        (None, "requires y to be passed"),
        (np.full((6, 2, 3), np.inf), "infinity"),
    ],
    ids=["NaN", "4-D", "too few", "strings", "None", "inf in 3-D"],
)
def test_bad_targets_are_refused(y, message):
    with pytest.raises(ValueError, match=message):
        Mean().fit(trials(), y)


def test_tags_declare_three_axes_beside_two():
    tags = Step().__sklearn_tags__()
    assert tags.input_tags.two_d_array and tags.input_tags.three_d_array
    assert tags.transformer_tags.preserves_dtype == ["float64", "float32"]
    assert Mean().__sklearn_tags__().target_tags.multi_output


def test_seeds_are_drawn_as_in_scikit_learn():
    assert draw_seed(3) == draw_seed(3) != draw_seed(4)
    state = np.random.RandomState(0)
    assert draw_seed(state) != draw_seed(state)
    assert draw_seed(np.random.RandomState(7)) == draw_seed(7)


def test_flat_channels_are_refused_by_name():
    X = trials()
    X[:, 1] = 3.5
    for flat, name in ((X, "Cz"), (EEGArray(np.asarray(X)), "1")):
        with pytest.raises(ValueError, match=f"^X: channel {name} never changes over the 6 trial"):
            refuse_flat(flat)
    X[0, 1, 0] = 0
    refuse_flat(X)


class HalfFitted(Step):
    """Learns something before it fails."""

    _parameter_constraints = Step._parameter_constraints | {"ch_names": [tuple, None]}

    def fit(self, X, y=None, subjects=None):
        """Learn the mean."""
        self.mean_ = np.asarray(self._check_eeg(X, reset=True)).mean()
        if y is not None:
            raise y
        return self

    def partial_fit(self, X, y=None):
        return HalfFitted.fit.__wrapped__(self, X, y)

    update = fit_transform = fit_runs = pretrain = partial_fit


@pytest.mark.parametrize("method", ["fit", "fit_runs", "fit_transform", "partial_fit", "pretrain", "update"])
@pytest.mark.parametrize("error", [ValueError("late"), KeyboardInterrupt()], ids=["error", "Ctrl-C"])
def test_a_method_that_learns_and_fails_leaves_the_estimator_as_it_was(method, error):
    with pytest.raises(type(error)):
        getattr(unfitted := HalfFitted(), method)(trials(), error)
    with pytest.raises(NotFittedError):
        unfitted.transform(trials())
    assert vars(unfitted) == {"ch_names": None, "sfreq": None}
    step = HalfFitted().fit(trials())
    before = vars(step).copy()
    with pytest.raises(type(error)):
        getattr(step, method)(2 * trials(n_times=5), error)
    assert vars(step).keys() == before.keys() and all(vars(step)[name] is before[name] for name in before)
    getattr(step, method)(2 * trials())
    assert step.mean_ == 2 * before["mean_"]


def test_atomic_methods_keep_their_signature_their_docstring_and_their_metadata_requests():
    assert list(inspect.signature(HalfFitted.fit).parameters) == ["self", "X", "y", "subjects"]
    assert HalfFitted.fit.__doc__ == "Learn the mean."
    with config_context(enable_metadata_routing=True):
        assert HalfFitted().set_fit_request(subjects=True).get_metadata_routing().consumes("fit", {"subjects"})
    pickle.loads(pickle.dumps(HalfFitted().fit(trials()))).transform(trials())


@pytest.mark.parametrize(
    ("params", "name"), [({"sfreq": 0}, "sfreq"), ({"sfreq": np.nan}, "sfreq"), ({"ch_names": "C3"}, "ch_names")]
)
def test_parameters_are_checked_before_anything_is_learned(params, name):
    with pytest.raises(ValueError, match=f"^{name}: got .*, expected"):
        Step(**params).fit(trials())


def test_trials_of_another_rate_do_not_go_through_the_filter_of_the_first_fit():
    fast, slow = trials(n_times=600, sfreq=250.0), trials(n_times=600, sfreq=50.0)
    step = BandPass(8, 30).fit(fast)
    wanted = step.transform(fast)
    with pytest.raises(ValueError, match="below 25 Hz"):
        step.fit(slow)
    with pytest.raises(ValueError, match="50.0 Hz, but BandPass was fitted on 250.0 Hz"):
        step.transform(slow)
    np.testing.assert_array_equal(step.transform(fast), wanted)


def test_bad_channels_are_refused_by_name_with_what_to_do():
    X = trials()
    X[:, 1] = np.nan
    wanted = "X: channel Cz is bad or missing .*SplineInterpolation, before"
    for refused in (lambda: Step().fit(X), lambda: Step().fit(trials()).transform(X), lambda: BandPass().fit(X)):
        with pytest.raises(ValueError, match=wanted):
            refused()
    with pytest.raises(ValueError, match="channel 1 is bad"):
        Step().fit(np.asarray(X))


def test_masked_samples_are_not_read_as_if_they_were_there():
    X = np.ma.masked_equal(np.asarray(trials()), np.asarray(trials())[0, 1, 3])
    with pytest.raises(ValueError, match="Input X contains NaN"):
        Step().fit(X)
    assert Step().fit(np.ma.masked_array(trials())).transform(np.ma.masked_array(trials())).shape == (6, 3, 20)


def test_errors_name_the_argument_and_what_to_do():
    step = Step().fit(trials())
    with pytest.raises(ValueError, match=r"expecting 3 features as input. One trial\? Use X\[None\]"):
        step.transform(np.asarray(trials())[0])
    for X in ([["a"]], np.zeros(5), np.zeros((2, 3, 4), complex), [[[1], [1, 2]]], None):
        with pytest.raises(ValueError, match=r"\bX\b"):
            step.transform(X)
    with pytest.raises(ValueError, match="X: values of up to 1e.200; expected microvolts"):
        step.transform(trials() * 0 + 1e200)


DICTS = [
    (cls, name)
    for cls in (getattr(skeeg, name) for name in skeeg.__all__)
    if inspect.isclass(cls) and issubclass(cls, skeeg.base.EEGEstimator)
    for name in cls._get_param_names()
    if name.endswith("_params")
]


@pytest.mark.parametrize("cls, name", DICTS)
def test_entries_of_a_dict_are_set_one_by_one(cls, name):
    estimator = cls().set_params(**{name: {"a": 1, "b": 2}})
    before = repr(estimator)
    other = clone(estimator).set_params(**{f"{name}__b": 3, f"{name}__c": 4})
    assert getattr(other, name) == {"a": 1, "b": 3, "c": 4}
    assert getattr(clone(cls()).set_params(**{f"{name}__a": 1}), name) == {"a": 1}
    assert repr(estimator) == before and getattr(estimator, name) == {"a": 1, "b": 2}
    assert repr(clone(other)) == repr(other)


def test_there_are_estimators_with_dicts():
    assert {name for _, name in DICTS} >= {"network_params", "recipe_params"}


def test_an_unknown_dict_is_an_unknown_parameter():
    with pytest.raises(ValueError, match="Invalid parameter 'other_params'"):
        skeeg.NetworkClassifier().set_params(other_params__a=1)


def test_as_eeg_keeps_the_names_and_rate_that_trials_carry():
    plain = np.zeros((2, 2, 10))
    step = AsEEG(sfreq=100.0, ch_names=("C3", "C4"))
    assert step.fit_transform(plain).ch_names == ("C3", "C4")
    own = step.fit_transform(EEGArray(plain, ("Fz", "Cz"), 256.0))
    assert own.ch_names == ("Fz", "Cz") and own.sfreq == 256


FEATURES = [
    (CSP(2), ["csp0", "csp1"]),
    (FilterBank(((8, 12), (12, 16)), CSP(1), sfreq=128), ["csp0 8-12 Hz", "csp0 12-16 Hz"]),
    (FilterBankCSP(((8, None),), 1, sfreq=128), ["csp0 above 8 Hz"]),
    (FilterBankTangentSpace(((8, 12),), sfreq=128), [f"{pair} 8-12 Hz" for pair in ("C3-C3", "C3-C4", "C4-C4")]),
]


@pytest.mark.parametrize(("step", "names"), FEATURES, ids=str)
def test_features_have_names_and_become_a_table(step, names):
    X = EEGArray(np.random.default_rng(0).normal(size=(20, 2, 500)), ("C3", "C4"), 128)
    y = np.arange(20) % 2
    plain = clone(step).fit(X, y)
    assert plain.get_feature_names_out().tolist() == names
    for table in (
        clone(step).set_output(transform="pandas").fit_transform(X, y),
        plain.set_output(transform="pandas").transform(X),
    ):
        assert table.columns.tolist() == names
        np.testing.assert_array_equal(table, plain.set_output(transform="default").transform(X))


@pytest.mark.parametrize(
    "check",
    [
        check_transformer_get_feature_names_out,
        check_set_output_transform_pandas,
        check_global_output_transform_pandas,
    ],
)
def test_tables_pass_the_checks_of_scikit_learn(check):
    check("CSP", CSP(2))


def test_trials_stay_trials_where_tables_are_asked_for():
    X = EEGArray(np.random.default_rng(0).normal(size=(20, 2, 100)), ("C3", "C4"), 128)
    y = np.arange(20) % 2
    steps = EuclideanAlignment(), FilterBank(((8, 12), (12, 16)), method="iir"), CSP(2, transform_into="csp_space")
    for step in steps:
        assert type(step.set_output(transform="pandas").fit(X, y).transform(X)) is EEGArray
        assert not hasattr(step, "get_feature_names_out")
    pipeline = make_pipeline(EuclideanAlignment(), CSP(2), LinearDiscriminantAnalysis()).set_output(transform="pandas")
    assert pipeline.fit(X, y)[:-1].transform(X).columns.tolist() == ["csp0", "csp1"]
    assert pipeline.predict(X).shape == (20,)
    with config_context(transform_output="pandas"):
        assert pipeline[:-1].transform(X).shape == (20, 2) and type(pipeline[:1].transform(X)) is EEGArray
    network = make_pipeline(EuclideanAlignment(), NetworkClassifier("EEGNet", max_epochs=1)).set_output(
        transform="pandas"
    )
    assert network.fit(X, y).predict(X).shape == (20,)
