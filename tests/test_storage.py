import json
import pathlib

import joblib
import numpy as np
import pytest
import torch
from instances import instance, public_estimators
from safetensors import safe_open
from safetensors.numpy import save_file
from sklearn.base import BaseEstimator, is_regressor
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC

import skeeg
from skeeg import CSP, EuclideanAlignment, NetworkClassifier, storage
from skeeg.array import EEGArray, make_domains
from skeeg.base import EEGEstimator, EEGTransformer

X = np.random.default_rng(0).standard_normal((12, 3, 64))
Y = np.array(["left", "right"] * 6)


class Keeper(EEGTransformer):
    """Keeps a given value as a fitted attribute."""

    def __init__(self, setting=None):
        self.setting = setting

    def fit(self, X, y=None, kept=None):
        self._check_eeg(X, reset=True)
        self.kept_ = kept
        return self

    def transform(self, X):
        return X


class Net(torch.nn.Module):
    def __init__(self, n_chans, n_times, n_outputs):
        super().__init__()
        self.final_layer = torch.nn.Linear(n_chans * n_times, n_outputs)

    def forward(self, x):
        return self.final_layer(x.flatten(1))


def same(a, b):
    if isinstance(a, np.ndarray):
        return type(b) is np.ndarray and a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a, b)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, float) and a != a:
        return b != b
    return type(a) is type(b) and a == b


VALUES = {
    "nothing": None,
    "numbers": [1, 2.5, True, False, -7],
    "odd numbers": [float("nan"), float("inf"), -0.0, 1e-320, 10**30],
    "text": ["", "Grüße", "a\nb", '{"tensor": "x"}'],
    "tuples": (1, ("a", (None,)), [2, ()]),
    "dicts": {"a": 1, 3: "b", (1, "c"): {"d": [1.5]}, None: ()},
    "float64": np.linspace(0, 1, 7).reshape(7, 1),
    "float32": np.ones((2, 3, 4), np.float32),
    "float16": np.ones(3, np.float16),
    "int64": np.arange(5),
    "int8": np.arange(5, dtype=np.int8),
    "uint16": np.arange(5, dtype=np.uint16),
    "bool": np.array([True, False]),
    "one number": np.array(3.5),
    "no rows": np.empty((0, 4)),
    "Fortran order": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "every second": np.arange(10.0)[::2],
    "big-endian": np.arange(3, dtype=">f8").astype("<f8"),
    "strings": np.array(["left", "right"]),
    "objects": np.array(["left", 2, None], dtype=object),
    "rows of objects": np.array([["a", None], [1, 2.5]], dtype=object),
    "array of arrays": {"list": [np.arange(2), {"deep": (np.ones(1),)}]},
}


@pytest.mark.parametrize("name", VALUES)
def test_every_kind_of_fitted_value_comes_back(tmp_path, name):
    Keeper().fit(X, kept=VALUES[name]).save(tmp_path / "kept")
    assert same(VALUES[name], Keeper.load(tmp_path / "kept").kept_)


def test_numpy_scalars_become_numbers(tmp_path):
    Keeper().fit(X, kept=[np.float32(0.5), np.int64(3), np.bool_(True), np.str_("a")]).save(tmp_path / "kept")
    assert same(Keeper.load(tmp_path / "kept").kept_, [0.5, 3, True, "a"])


@pytest.mark.parametrize("setting", [None, 3, "auto", (1, 2), (("a", 1.5),), {"F1": 4}, [1, "b"]], ids=repr)
def test_parameters_come_back(tmp_path, setting):
    Keeper(setting).fit(X).save(tmp_path / "kept")
    assert same(Keeper.load(tmp_path / "kept").setting, setting)


def test_estimators_inside_estimators_come_back(tmp_path):
    inner = CSP(n_components=2).fit(X, Y)
    Keeper().fit(X, kept={"inner": inner}).save(tmp_path / "kept")
    again = Keeper.load(tmp_path / "kept").kept_["inner"]
    assert type(again) is CSP
    np.testing.assert_array_equal(again.transform(X), inner.transform(X))


@pytest.mark.parametrize("value", [open, object(), torch.nn.ReLU(), {1, 2}, b"bytes"], ids=lambda v: type(v).__name__)
def test_a_fitted_value_that_no_file_can_hold_is_refused_when_saving(tmp_path, value):
    with pytest.raises(TypeError, match=r"Keeper: kept_\.0 is a"):
        Keeper().fit(X, kept=[value]).save(tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_a_parameter_that_no_file_can_hold_is_asked_for_when_loading(tmp_path):
    clf = NetworkClassifier(Net, max_epochs=1, random_state=0, device="cpu").fit(X, Y)
    clf.save(tmp_path / "clf")
    with pytest.raises(ValueError, match="params: give network.*Net"):
        NetworkClassifier.load(tmp_path / "clf")
    again = NetworkClassifier.load(tmp_path / "clf", params={"network": Net})
    np.testing.assert_array_equal(again.predict_proba(X), clf.predict_proba(X))
    assert type(again.module_) is Net


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "Estimator", [cls for cls in public_estimators() if issubclass(cls, EEGEstimator)], ids=lambda cls: cls.__name__
)  # what holds another estimator is not written
def test_saved_estimators_give_the_same_results_and_save_again(tmp_path, Estimator):
    trials = EEGArray(X, ("C3", "Cz", "C4"), 128.0, make_domains(12, subject=["a", "b", "b"] * 4))
    estimator = instance(Estimator)
    fitted = estimator.fit(trials, np.arange(12) % 2.0 if is_regressor(estimator) else Y)
    fitted.save(tmp_path / "one")
    again = skeeg.load(tmp_path / "one")
    again.save(tmp_path / "two")
    third = skeeg.load(tmp_path / "two")
    assert type(third) is Estimator and repr(third.get_params()) == repr(fitted.get_params())
    assert set(vars(third)) == set(vars(fitted))
    for method in {"transform", "predict", "predict_proba"} & set(dir(fitted)):
        np.testing.assert_array_equal(getattr(third, method)(trials), getattr(fitted, method)(trials))


def test_a_loaded_network_can_be_fitted_and_pickled_again(tmp_path):
    clf = instance(NetworkClassifier).fit(X, Y)
    clf.save(tmp_path / "clf")
    again = skeeg.load(tmp_path / "clf")
    assert again.history_ == clf.history_ and len(again.net_.history) == clf.n_iter_
    np.testing.assert_array_equal(again.fit(X, Y).predict_proba(X), clf.predict_proba(X))


def test_what_is_not_fitted_is_not_saved(tmp_path):
    with pytest.raises(NotFittedError):
        EuclideanAlignment().save(tmp_path / "file")


def rewrite(path, change):
    """Change the JSON document of a saved file."""
    with safe_open(path, framework="numpy") as file:
        document = json.loads(file.metadata()["skeeg"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    document = change(document) or document
    text = document if isinstance(document, str) else json.dumps(document)
    save_file(tensors, path, metadata={"skeeg": text})


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "saved.safetensors"
    EuclideanAlignment().fit(X).save(path)
    return path


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "system",
        "Keeper",
        "EEGArray",
        "load",
        "__version__",
        "LinearRegression",
        "builtins.eval",
        "",
        3,
        None,
    ],
)
def test_a_class_that_is_no_estimator_of_skeeg_is_refused(saved, name):
    rewrite(saved, lambda document: document.update({"class": name}))
    with pytest.raises(ValueError, match="is not one of skeeg's estimators"):
        skeeg.load(saved)


def test_another_class_than_asked_for_is_refused(saved):
    with pytest.raises(ValueError, match="holds a EuclideanAlignment, which is not a CSP"):
        CSP.load(saved)


@pytest.mark.parametrize(
    "change",
    [
        lambda document: "{broken",
        lambda document: "[1, 2]",
        lambda document: document.pop("class"),
        lambda document: document.pop("params"),
        lambda document: document.pop("fitted"),
        lambda document: document["params"].update({"no_such_parameter": 1}),
        lambda document: document["fitted"].update({"whiteners_": {"tensor": "nowhere", "shape": [3]}}),
        lambda document: document["fitted"].update({"whiteners_": {"tensor": "whiteners_", "shape": [7]}}),
        lambda document: document["fitted"].update({"whiteners_": {"unheard": "of"}}),
        lambda document: document["fitted"].update({"whiteners_": {"strings": ["a"], "shape": [2]}}),
    ],
)
def test_a_broken_or_tampered_header_is_a_clear_error(saved, change):
    rewrite(saved, lambda document: changed if isinstance(changed := change(document), str) else None)
    with pytest.raises(ValueError, match="saved.safetensors"):
        skeeg.load(saved)


def test_a_file_of_another_kind_is_a_clear_error(tmp_path):
    save_file({"a": np.ones(2)}, tmp_path / "tensors")
    with pytest.raises(ValueError, match="holds tensors but no skeeg estimator"):
        skeeg.load(tmp_path / "tensors")
    (tmp_path / "text").write_text("no tensors at all, but long enough to look like something")
    with pytest.raises(ValueError, match="text"):
        skeeg.load(tmp_path / "text")
    with pytest.raises(FileNotFoundError):
        skeeg.load(tmp_path / "absent")


class _Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (pathlib.Path(self.path),)


def test_nothing_in_a_file_is_executed(tmp_path):
    import pickle

    fuse = tmp_path / "executed"
    (tmp_path / "pickle").write_bytes(pickle.dumps(_Bomb(fuse)))
    torch.save(_Bomb(fuse), tmp_path / "torch")
    for name in ("pickle", "torch"):
        with pytest.raises(ValueError, match=name):
            skeeg.load(tmp_path / name)
    clf = instance(NetworkClassifier).fit(X, Y)
    clf.save(tmp_path / "clf")
    rewrite(tmp_path / "clf", lambda document: document["params"].update({"checkpoint": str(tmp_path / "torch")}))
    skeeg.load(tmp_path / "clf").predict(X)
    assert not fuse.exists()


def test_the_file_is_plain_safetensors_with_json(saved):
    with safe_open(saved, framework="numpy") as file:
        document = json.loads(file.metadata()["skeeg"])
        assert file.get_tensor("whiteners_").shape == (1, 3, 3)
    assert document["class"] == "EuclideanAlignment" and document["version"] == skeeg.__version__


@pytest.mark.parametrize("Wrapper", [skeeg.FineTunedClassifier, skeeg.PooledTarget, skeeg.BalancedTarget])
def test_an_estimator_around_another_is_saved_with_it(Wrapper, tmp_path):
    X, y = np.random.default_rng(0).normal(size=(12, 3, 64)), np.arange(12) % 2
    network = NetworkClassifier(network_params={"F1": 2, "D": 1, "kernel_length": 8}, max_epochs=1, device="cpu")
    fitted = Wrapper(make_pipeline(EuclideanAlignment(), network)).fit(X, y)
    fitted.save(tmp_path / "file")
    np.testing.assert_array_equal(skeeg.load(tmp_path / "file").predict_proba(X), fitted.predict_proba(X))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["CSP+LDA", "FBCSP+LDA", "TS+LR", "FBTS+LR", "MDM", "own", "SVM"])
def test_pipelines_of_several_libraries_come_back(name, tmp_path):
    rng = np.random.default_rng(0)
    trials = EEGArray(rng.standard_normal((24, 4, 200)), ("C3", "Cz", "C4", "Pz"), 128.0)
    network = NetworkClassifier(network_params={"F1": 2, "D": 1, "kernel_length": 8}, max_epochs=1, device="cpu")
    own = {"own": make_pipeline(EuclideanAlignment(), network), "SVM": make_pipeline(CSP(2), StandardScaler(), SVC())}
    fitted = (own[name] if name in own else skeeg.baseline(name)).fit(trials, np.repeat(["left", "right"], 12))
    skeeg.save(fitted, tmp_path / "file")
    again = skeeg.load(tmp_path / "file")
    assert repr(again) == repr(fitted)
    method = "decision_function" if name == "SVM" else "predict_proba"
    np.testing.assert_array_equal(getattr(again, method)(trials), getattr(fitted, method)(trials))


@pytest.mark.parametrize("columns", [[0, 2], slice(0, 2), np.array([True, False, True])], ids=repr)
def test_columns_of_a_pipeline_come_back(columns, tmp_path):
    split = ColumnTransformer([("scaled", StandardScaler(), columns)], remainder="passthrough")
    memory = joblib.Memory(tmp_path / "cache", verbose=0)
    fitted = make_pipeline(CSP(n_components=3), split, LogisticRegression(), memory=memory).fit(X, Y)
    skeeg.save(fitted, tmp_path / "file")
    np.testing.assert_array_equal(skeeg.load(tmp_path / "file").predict_proba(X), fitted.predict_proba(X))


def test_steps_that_no_file_can_hold_are_named_when_saving(tmp_path):
    for step, what in (
        (RandomForestClassifier(2), "randomforestclassifier.*Tree"),
        (KeeperOfCode(), "is a KeeperOfCode"),
    ):
        fitted = make_pipeline(FunctionTransformer(), step).fit(X[:, 0], Y)
        with pytest.raises(TypeError, match=f"Pipeline: params.steps.*{what}.*which a file cannot hold"):
            skeeg.save(fitted, tmp_path / "file")
    with pytest.raises(NotFittedError):
        skeeg.save(make_pipeline(CSP(2), SVC()), tmp_path / "file")
    assert not (tmp_path / "file").exists()


class KeeperOfCode(BaseEstimator):
    """An estimator of a library that files may not name."""

    def fit(self, X, y):
        self.n_features_in_ = 1
        return self


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"sklearn.svm._classes"', '"subprocess"'),
        ('"SVC"', '"check_array"'),
        ('"SVC"', '"Pipeline"'),
        ('"C": 1.0', '"memory": "/tmp", "C": 1.0'),
        ('"C": 1.0', '"C": {"function": ["os", "system"]}'),
        ('"C": 1.0', '"C": {"function": ["sklearn.datasets", "load_files"]}'),
        ('"C": 1.0', '"C": {"function": ["sklearn.metrics", "np"]}'),
    ],
)
def test_what_a_pipeline_may_not_name_is_refused(old, new, tmp_path):
    skeeg.save(make_pipeline(StandardScaler(), SVC()).fit(X[:, 0], Y), tmp_path / "file")
    rewrite(tmp_path / "file", lambda document: json.dumps(document).replace(old, new))
    with pytest.raises(ValueError, match="file does not hold a fitted estimator"):
        skeeg.load(tmp_path / "file")


def test_the_folder_of_a_memory_does_not_come_from_a_file(tmp_path):
    network = NetworkClassifier(network_params={"F1": 2, "D": 1, "kernel_length": 8}, max_epochs=1, device="cpu")
    skeeg.FineTunedClassifier(network, memory=str(tmp_path / "cache")).fit(X, Y).save(tmp_path / "file")
    assert skeeg.load(tmp_path / "file").memory is None
    assert skeeg.load(tmp_path / "file", params={"memory": "mine"}).memory == "mine"
    pretrainer = instance(skeeg.MIRepNetPretrainer).set_params(run_file=str(tmp_path / "run"))
    pretrainer.fit(skeeg.EEGArray(X, ("C3", "Cz", "C4"), 128.0), Y).save(tmp_path / "file")
    assert skeeg.load(tmp_path / "file").run_file is None  # where a later fit would write


@pytest.mark.parametrize("name", ["NeuralNet", "TrainingNet"])
def test_a_net_that_reads_pickles_is_refused(name, tmp_path):
    """Skorch's nets unpickle an attribute in `__setstate__`."""
    import pickle

    content = np.frombuffer(pickle.dumps(_Bomb(tmp_path / "executed")), dtype=np.uint8)
    fitted = {"device": "cpu", "__cuda_dependent_attributes__": {"tensor": "content", "shape": [len(content)]}}
    net = {"class": name, "module": "skeeg.training.net", "params": {"module": 1, "criterion": 2}, "fitted": fitted}
    steps = {"class": "Pipeline", "module": "sklearn.pipeline", "fitted": {}}
    steps["params"] = {"steps": [{"tuple": ["net", {"estimator": net}]}]}
    for document in (net, steps):
        save_file({"content": content}, tmp_path / "file", metadata={"skeeg": json.dumps(document)})
        with pytest.raises(ValueError, match=f"holds a {name}, which is not"):
            skeeg.load(tmp_path / "file")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("sklearn.linear_model", "BaseEstimator"),  # imported there
        ("skeeg.training.net", "NeuralNet"),
        ("sklearn.tests.test_base", "MyEstimator"),
    ],
)
def test_only_classes_that_a_library_defines_are_named(module, name):
    assert storage._library_class(module, name) is None


def test_only_functions_that_a_library_defines_are_named():
    assert storage._public("sklearn.metrics.pairwise", "check_array", storage._FUNCTIONS) is None
    found = storage._public("sklearn.metrics.pairwise", "rbf_kernel", storage._FUNCTIONS)
    assert found.__name__ == "rbf_kernel"


def test_a_parameter_is_not_set_as_a_fitted_attribute(tmp_path):
    network = NetworkClassifier(network_params={"F1": 2, "D": 1, "kernel_length": 8}, max_epochs=1, device="cpu")
    skeeg.FineTunedClassifier(network).fit(X, Y).save(tmp_path / "file")
    rewrite(tmp_path / "file", lambda document: document["fitted"].update(memory="/tmp"))
    with pytest.raises(ValueError, match="memory is a parameter, not a fitted attribute"):
        skeeg.load(tmp_path / "file")


def test_a_class_of_the_name_of_one_of_skeeg_comes_back(tmp_path):
    covariances, spatial = pytest.importorskip("pyriemann.estimation"), pytest.importorskip("pyriemann.spatialfilters")
    fitted = make_pipeline(covariances.Covariances("oas"), spatial.CSP(2)).fit(X, Y)
    skeeg.save(fitted, tmp_path / "file")
    again = skeeg.load(tmp_path / "file")
    assert type(again[-1]) is spatial.CSP
    np.testing.assert_array_equal(again.transform(X), fitted.transform(X))


def test_keys_of_one_text_keep_arrays_of_their_own(tmp_path):
    kept = {1: np.ones(2), "1": np.zeros(3), "a": {"b.c": np.ones(4)}, "a.b": {"c": np.zeros(5)}}
    Keeper().fit(X, kept=kept).save(tmp_path / "kept")
    assert same(kept, Keeper.load(tmp_path / "kept").kept_)


def test_a_pipeline_is_loaded_as_one(tmp_path):
    skeeg.save(make_pipeline(StandardScaler(), SVC()).fit(X[:, 0], Y), tmp_path / "file")
    assert type(skeeg.load(tmp_path / "file", cls=Pipeline)) is Pipeline
    with pytest.raises(ValueError, match="it holds a Pipeline, which is not a CSP"):
        CSP.load(tmp_path / "file")
    with pytest.raises(ValueError, match="svc__C"):
        skeeg.load(tmp_path / "file", params={"svc__C": 2.0})
