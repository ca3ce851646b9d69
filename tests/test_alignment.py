"""Alignment: its convention against a reference, its invariances, and which reference each trial gets."""

import pickle
import tracemalloc
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from skeeg import Calibration, EuclideanAlignment, RiemannianAlignment
from skeeg.array import EEGArray, make_domains
from skeeg.base import EEGTransformer
from skeeg.spatial import CSP

BOTH = pytest.mark.parametrize("Alignment", [EuclideanAlignment, RiemannianAlignment])
MODES = ("own", "calibration", "source", "running")


def noise(n_trials=12, n_channels=4, n_times=80, seed=0, dtype=np.float64):
    """Trials of mixed sources, on a scale of tens of microvolts."""
    rng = np.random.default_rng(seed)
    mixing = 10 * rng.standard_normal((n_channels, n_channels))
    return (mixing @ rng.standard_normal((n_trials, n_channels, n_times))).astype(dtype)


def mean_cov(X):
    return np.mean([np.cov(trial) for trial in np.asarray(X)], axis=0)


def named(X, subjects, sessions="", runs=""):
    return EEGArray(X, domains=make_domains(len(X), subjects, sessions, runs))


@parametrize_with_checks(
    [EuclideanAlignment(), EuclideanAlignment(on_unseen="running", center=False), RiemannianAlignment()]
)
def test_sklearn_checks(estimator, check):
    check(estimator)


# --- convention


def test_reference_vector_of_mirepnet():
    b, c, t = np.ogrid[:6, :3, :200]
    X = np.sin(0.01 * (b + 1) * (t + 1) + 0.5 * c) + 0.3 * np.cos(1.7 * b + 0.9 * c**2 + 0.13 * t * (c + 1))
    aligned = np.asarray(EuclideanAlignment().fit_transform(X))
    first = [-0.03287686932957229, 0.9985490351303095, 0.4493919792048688]
    last = [-1.6990535183191995, 0.26728496559607595, 0.7558060427434112]
    np.testing.assert_allclose(aligned[0, :, 0], first, rtol=0, atol=1e-12)
    np.testing.assert_allclose(aligned[5, :, 199], last, rtol=0, atol=1e-12)


def test_equals_pyriemann_with_its_divisor():
    from pyriemann.estimation import Covariances
    from pyriemann.geometry.base import invsqrtm
    from pyriemann.geometry.mean import gmean

    X = noise() + 5
    covariances = Covariances("scm").transform(X)
    for Alignment, metric in ((EuclideanAlignment, "euclid"), (RiemannianAlignment, "riemann")):
        expected = invsqrtm(gmean(covariances, metric=metric)) @ X
        np.testing.assert_allclose(Alignment(ddof=0).fit_transform(X), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("metric", ["logeuclid", "wasserstein", "riemann"])
def test_riemannian_mean_becomes_identity(metric):
    from pyriemann.geometry.mean import gmean

    aligned = RiemannianAlignment(metric=metric).fit_transform(noise())
    mean = gmean(np.stack([np.cov(trial) for trial in aligned]), metric="riemann")
    if metric == "riemann":
        np.testing.assert_allclose(mean, np.eye(4), atol=1e-6)
    assert np.linalg.cond(mean) < 1.5  # other means are close to it, but not the same


@pytest.mark.parametrize(("center", "ddof"), [(True, 1), (True, 0), (False, 0), (False, 1)])
def test_mean_covariance_is_identity_in_every_convention(center, ddof):
    X = noise() + np.array([[3.0], [0], [-40], [0]])
    Z = np.asarray(EuclideanAlignment(center=center, ddof=ddof).fit_transform(X))
    Z = Z - Z.mean(axis=2, keepdims=True) if center else Z
    np.testing.assert_allclose(np.mean(Z @ Z.transpose(0, 2, 1), axis=0) / (Z.shape[2] - ddof), np.eye(4), atol=1e-12)


def test_trials_keep_their_means():
    X = noise() + 7
    estimator = EuclideanAlignment().fit(X)
    np.testing.assert_allclose(estimator.transform(X).mean(axis=2), X.mean(axis=2) @ estimator.whiteners_[0])


# --- properties


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 3))
def test_every_domain_has_identity_covariance(seed, n_channels, n_domains):
    rng = np.random.default_rng(seed)
    subjects = rng.integers(n_domains, size=15)
    X = noise(15, n_channels, 60, seed) * (1 + subjects[:, None, None])
    Z = EuclideanAlignment().fit_transform(X, subjects=subjects)
    for subject in np.unique(subjects):
        np.testing.assert_allclose(
            mean_cov(Z[subjects == subject]).reshape(n_channels, -1), np.eye(n_channels), atol=1e-8
        )


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_mixing_the_channels_only_rotates_the_result(seed):
    X = noise(seed=seed)
    mixing = np.random.default_rng(seed + 1).standard_normal((4, 4)) + 3 * np.eye(4)
    for estimator in (EuclideanAlignment(), RiemannianAlignment()):
        plain, mixed = np.asarray(estimator.fit_transform(X)), np.asarray(estimator.fit_transform(mixing @ X))
        rotation = mixed[0] @ np.linalg.pinv(plain[0])
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(4), atol=1e-5)
        np.testing.assert_allclose(rotation @ plain, mixed, atol=1e-5)


@BOTH
def test_order_of_trials_does_not_matter(Alignment):
    X, order = noise(), np.random.default_rng(1).permutation(12)
    subjects = np.arange(12) % 3
    Z = Alignment().fit_transform(X, subjects=subjects)
    np.testing.assert_allclose(Alignment().fit_transform(X[order], subjects=subjects[order]), Z[order], atol=1e-9)


@BOTH
def test_single_precision_stays_and_is_accurate(Alignment):
    X = noise(seed=3) + 1000  # an offset that single-precision sums would not survive
    single = Alignment().fit_transform(X.astype(np.float32))
    assert single.dtype == np.float32
    exact = Alignment().fit_transform(X.astype(np.float32).astype(np.float64))
    assert np.abs(single - exact).max() / np.abs(exact).max() < 1e-6


def test_not_contiguous_input():
    X = noise(n_times=160)
    for view in (X[:, :, ::2], X.transpose(2, 1, 0)[:12], X[::2, ::-1], np.asfortranarray(X)):
        plain = EuclideanAlignment().fit_transform(np.ascontiguousarray(view))
        np.testing.assert_allclose(EuclideanAlignment().fit_transform(view), plain, atol=1e-12)


def test_extra_memory_is_the_output():
    X = noise(200, 16, 500, dtype=np.float32)
    estimator = EuclideanAlignment()
    estimator.fit_transform(X[:10])
    for run in (estimator.fit_transform, estimator.transform):
        tracemalloc.start()
        run(X)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1.2 * X.nbytes


# --- singular data


@BOTH
@pytest.mark.parametrize("center", [True, False])
def test_flat_channel_does_not_blow_up(Alignment, center):
    X = noise()
    X[:, 1] = 100.0
    estimator = Alignment(center=center).fit(X)
    Z = np.asarray(estimator.transform(X))
    assert np.abs(Z).max() < 50
    others = Alignment().fit_transform(X[:, [0, 2, 3]])
    if center:
        np.testing.assert_allclose(Z[:, [0, 2, 3]], others, atol=1e-6)
    X[:, 1] = 30 * np.random.default_rng(0).standard_normal(X[:, 1].shape)  # the electrode comes back to life
    assert np.abs(np.asarray(estimator.transform(X))).max() < 50


@BOTH
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_average_reference(Alignment, dtype):
    X = noise(dtype=dtype)
    X -= X.mean(axis=1, keepdims=True)
    Z = Alignment().fit_transform(X)
    values = np.linalg.eigvalsh(mean_cov(Z))
    assert values[0] < 1e-5
    np.testing.assert_allclose(values[1:], 1, atol=0.4 if Alignment is RiemannianAlignment else 1e-5)


@BOTH
def test_more_channels_than_samples_and_silence(Alignment):
    rng = np.random.default_rng(0)
    for X in (
        rng.standard_normal((5, 8, 3)),
        np.zeros((3, 2, 10)),
        np.ones((3, 2, 10)),
        rng.standard_normal((4, 3, 1)),
    ):
        assert np.isfinite(Alignment().fit_transform(X)).all()
    X = noise()
    X[:8] = 0  # silent trials among others
    assert np.isfinite(Alignment().fit_transform(X)).all()
    np.testing.assert_array_equal(EuclideanAlignment().fit_transform(np.ones((3, 2, 10))), np.ones((3, 2, 10)))


# --- which reference


def test_known_domain_keeps_its_reference():
    X, subjects = noise(20), np.repeat(["a", "b"], 10)
    X[10:] *= 5
    for mode in MODES:
        estimator = EuclideanAlignment(on_unseen=mode).fit(named(X, subjects))
        trained = estimator.fit_transform(named(X, subjects))
        np.testing.assert_array_equal(estimator.transform(named(X, subjects)), trained)
        np.testing.assert_array_equal(estimator.transform(X, subjects=subjects), trained)
        np.testing.assert_array_equal(estimator.transform(named(X[13:14], "b")), trained[13:14])
        np.testing.assert_allclose(mean_cov(trained[10:]), np.eye(4), atol=1e-10)


def test_anonymous_trials_have_one_reference():
    X, other = noise(), 3 * noise(seed=9)
    for mode in MODES:
        estimator = EuclideanAlignment(on_unseen=mode).fit(X)
        np.testing.assert_array_equal(estimator.transform(X), estimator.fit_transform(X))
        np.testing.assert_array_equal(estimator.transform(other), estimator.whiteners_[0] @ other)


@pytest.mark.parametrize("name", [True, False])
def test_unseen_domain_own_mean(name):
    X, target = noise(20), 7 * noise(10, seed=5)
    estimator = EuclideanAlignment().fit(X, subjects=np.arange(20) % 2)
    Z = estimator.transform(named(target, "new") if name else target)
    np.testing.assert_allclose(mean_cov(Z), np.eye(4), atol=1e-10)


def test_a_block_is_its_own_reference_whatever_was_seen_at_fit():
    X = noise(20)
    step = EuclideanAlignment(on_unseen="block", min_trials=4).fit(X, subjects=["a"] * 10 + ["b"] * 10)
    aligned = step.transform(3 * X[:5], subjects=["a"] * 5)
    np.testing.assert_allclose(np.mean([np.cov(trial) for trial in aligned], axis=0), np.eye(X.shape[1]), atol=1e-8)
    np.testing.assert_allclose(step.transform(X[:3], subjects=["a"] * 3), step.whiteners_[0] @ X[:3], atol=1e-8)


def test_several_unseen_domains_each_have_their_own_mean():
    X = np.concatenate([noise(8, seed=1), 9 * noise(8, seed=2), noise(8, seed=3)])
    estimator = EuclideanAlignment().fit(named(X[:8], "a"))
    order = np.random.default_rng(0).permutation(24)
    subjects = np.repeat(["a", "b", "c"], 8)[order]
    Z = estimator.transform(named(X[order], subjects))
    for subject in "abc":
        np.testing.assert_allclose(mean_cov(Z[subjects == subject]), np.eye(4), atol=1e-10)


def test_small_blocks_fall_back_to_calibration_then_to_the_sources():
    X, target = noise(20), 7 * noise(10, seed=5)
    subjects = np.arange(20) % 2
    without = EuclideanAlignment(min_trials=4).fit(X, subjects=subjects)
    expected = EuclideanAlignment(on_unseen="source").fit(X, subjects=subjects).transform(target)
    np.testing.assert_array_equal(without.transform(target[:3]), expected[:3])
    np.testing.assert_allclose(mean_cov(without.transform(target[:4])), np.eye(4), atol=1e-10)
    np.testing.assert_allclose(without.source_reference_, without.references_.mean(axis=0))
    given = EuclideanAlignment(min_trials=4).fit(X, subjects=subjects, X_target_unlabeled=target)
    np.testing.assert_allclose(given.transform(target[:1]), EuclideanAlignment().fit_transform(target)[:1], atol=1e-12)


@BOTH
@pytest.mark.parametrize("name", ["X_target_unlabeled", "X_target_labeled"])
def test_calibration(Alignment, name):
    X, target = noise(20), 7 * noise(10, seed=5)
    for subjects in (np.arange(20) % 2, None):  # with a target given, nameless trials are the target's
        estimator = Alignment(on_unseen="calibration").fit(X, subjects=subjects, **{name: target[:6]})
        expected = Alignment().fit(target[:6]).transform(target)
        np.testing.assert_allclose(estimator.transform(target), expected, atol=1e-9)
        np.testing.assert_allclose(estimator.transform(target[8:9]), expected[8:9], atol=1e-9)
        later = Alignment(on_unseen="calibration").fit(X, subjects=subjects, **{name: X[:4]}).calibrate(target[:6])
        np.testing.assert_allclose(later.transform(target), expected, atol=1e-9)


def test_calibration_of_several_domains():
    X, target = noise(12), named(np.concatenate([noise(6, seed=2), 9 * noise(3, seed=3)]), ["b"] * 6 + ["c"] * 3)
    estimator = EuclideanAlignment(on_unseen="calibration").fit(named(X, "a"), X_target_unlabeled=target)
    for rows in (slice(0, 6), slice(6, 9)):
        np.testing.assert_allclose(mean_cov(estimator.transform(target[rows])), np.eye(4), atol=1e-10)
    pooled = EuclideanAlignment().fit(np.asarray(target))
    np.testing.assert_allclose(estimator.transform(named(X, "d")), pooled.transform(X), atol=1e-10)


def test_calibration_is_asked_for_where_it_is_missing():
    estimator = EuclideanAlignment(on_unseen="calibration").fit(noise(), subjects=np.arange(12) % 2)
    with pytest.raises(ValueError, match="X_target_unlabeled"):
        estimator.transform(noise())
    with pytest.raises(ValueError, match="X_target_unlabeled"):
        EuclideanAlignment(on_unseen="calibration").fit(noise(), X_target_unlabeled=noise()[:0])


@BOTH
def test_running_mean(Alignment):
    X, target = noise(20), named(7 * noise(10, seed=5), "new")
    estimator = Alignment(on_unseen="running").fit(X, subjects=np.arange(20) % 2)
    before = pickle.dumps(estimator)
    block = estimator.transform(target)
    assert pickle.dumps(estimator) == before
    np.testing.assert_array_equal(estimator.transform(target), block)
    np.testing.assert_allclose(estimator.transform(target[:4]), block[:4], atol=1e-12)  # the future is not used
    online = []
    for i in range(10):
        online.append(estimator.transform(target[i : i + 1])[0])
        estimator.update(target[i : i + 1])
    np.testing.assert_allclose(online, block, atol=1e-9)


def test_running_mean_is_the_weighted_mean():
    X, target = noise(20), 7 * noise(10, seed=5)
    estimator = EuclideanAlignment(on_unseen="running").fit(X, subjects=np.arange(20) % 2)
    estimator.update(target[:6]).update(target[6:])
    expected = (2 * estimator.source_reference_ + sum(np.cov(trial) for trial in target)) / 12
    ((reference, weight),) = estimator.running_.values()
    np.testing.assert_allclose(reference, expected)
    assert weight == 12
    calibrated = EuclideanAlignment(on_unseen="running").fit(X, X_target_unlabeled=target[:6]).update(target[6:7])
    np.testing.assert_allclose(calibrated.running_["",][0], (6 * mean_cov(target[:6]) + np.cov(target[6])) / 7)


def test_running_means_of_two_domains_do_not_mix():
    X, b, c = noise(), named(7 * noise(6, seed=5), "b"), named(noise(6, seed=6), "c")
    estimator = EuclideanAlignment(on_unseen="running").fit(named(X, "a"))
    both = np.concatenate([b, c])[[0, 6, 1, 7, 2, 8, 3, 9, 4, 10, 5, 11]]
    Z = estimator.transform(both)
    np.testing.assert_allclose(Z[::2], estimator.transform(b), atol=1e-12)
    np.testing.assert_allclose(Z[1::2], estimator.transform(c), atol=1e-12)
    estimator.update(both)
    assert list(estimator.running_) == [("b",), ("c",)]
    estimator.update(named(X, "a"))
    assert list(estimator.running_) == [("b",), ("c",)]


def test_sessions_and_runs():
    X = noise(24) * np.repeat([1, 4, 2, 8], 6)[:, None, None]
    eeg = named(X, np.repeat(["a", "b"], 12), np.tile(np.repeat(["0", "1"], 6), 2), np.tile(["x", "y"], 12))
    for domain, n_domains in (("subject", 2), ("session", 4), ("run", 8)):
        estimator = EuclideanAlignment(domain=domain)
        Z = estimator.fit_transform(eeg)
        assert estimator.references_.shape == (n_domains, 4, 4)
        np.testing.assert_array_equal(estimator.transform(eeg), Z)
    assert Z.domains is eeg.domains
    unseen = EuclideanAlignment(domain="session").fit(eeg[:6]).transform(eeg[6:12])
    np.testing.assert_allclose(mean_cov(unseen), np.eye(4), atol=1e-10)


def test_own_domains_win_over_subjects():
    X = named(noise(), np.repeat(["a", "b"], 6))
    assert EuclideanAlignment().fit(X, subjects=np.arange(12)).domains_.tolist() == [["a"], ["b"]]


def test_unknown_sessions_are_named():
    with pytest.warns(UserWarning, match="session"):
        EuclideanAlignment(domain="session").fit(noise(), subjects=np.arange(12) % 2)


# --- scikit-learn


def test_pipeline_routes_subjects_and_targets():
    X, y = noise(40), np.tile([0, 1], 20)
    subjects, target = np.repeat([1, 2], 20), 7 * noise(10, seed=5)
    with config_context(enable_metadata_routing=True):
        pipeline = make_pipeline(EuclideanAlignment(on_unseen="calibration"), CSP(), LinearDiscriminantAnalysis())
        pipeline.fit(X, y, subjects=subjects, X_target_unlabeled=target)
        predicted = pipeline.predict(X, subjects=subjects)
    step = pipeline[0]
    assert step.domains_.tolist() == [["1"], ["2"]]
    aligned = EuclideanAlignment().fit_transform(X, subjects=subjects)
    np.testing.assert_array_equal(
        make_pipeline(CSP(), LinearDiscriminantAnalysis()).fit(aligned, y).predict(aligned), predicted
    )
    np.testing.assert_allclose(step.transform(target), EuclideanAlignment().fit_transform(target), atol=1e-12)


def test_domains_survive_cross_validation():
    X, y = noise(40), np.tile([0, 1], 20)
    X[y == 1, 0] *= 3
    X[20:] *= 10
    eeg = named(X, np.repeat(["a", "b"], 20))
    pipeline = make_pipeline(EuclideanAlignment(), CSP(), LinearDiscriminantAnalysis())
    assert cross_val_score(pipeline, eeg, y, cv=StratifiedKFold(4)).mean() > 0.9


class Counter(ClassifierMixin, EEGTransformer):
    """Remember how many calibration trials arrive at each fit."""

    __metadata_request__fit = {"X_target_unlabeled": True}
    seen = []

    def __init__(self, step=None):
        self.step = step

    def fit(self, X, y, X_target_unlabeled=None):
        self.classes_ = np.unique(y)
        aligner = EuclideanAlignment(on_unseen="calibration").fit(X, X_target_unlabeled=X_target_unlabeled)
        Counter.seen.append(sum(n_trials for *_, n_trials in aligner.calibration_))
        return self

    def predict(self, X):
        return np.repeat(self.classes_[0], len(X))


@pytest.mark.parametrize("wrapped", [True, False])
def test_calibration_as_long_as_X_in_a_grid_search(wrapped):
    X, y, target = noise(12), np.tile([0, 1], 6), noise(12, seed=1)
    Counter.seen = []
    with config_context(enable_metadata_routing=True), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        search = GridSearchCV(Counter(), {"step": [1]}, cv=3, refit=False)
        search.fit(X, y, X_target_unlabeled=Calibration(target) if wrapped else target)
    cut = [str(one.message) for one in caught if "Calibration" in str(one.message)]
    assert Counter.seen == ([12, 12, 12] if wrapped else [8, 8, 8])  # the trap is real where it is not wrapped
    assert len(cut) == (0 if wrapped else 3)


def test_calibration_container_hides_its_length():
    target = Calibration(noise(5))
    assert not any(hasattr(target, name) for name in ("__len__", "shape", "__array__", "__getitem__", "__iter__"))
    assert "5 trials" in repr(target)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(target)).X, target.X)


@BOTH
def test_save_and_load(Alignment, tmp_path):
    X, target = noise(20), named(noise(6, seed=1), "new", "late")
    eeg = EEGArray(X, ["C3", "Cz", "C4", "Pz"], 100, make_domains(20, np.repeat(["a", "b"], 10), "first"))
    target = EEGArray(target, eeg.ch_names, 100, target.domains)
    estimator = Alignment(on_unseen="running", domain="session").fit(eeg, X_target_unlabeled=target[:2]).update(target)
    estimator.save(tmp_path / "aligner.safetensors")
    again = Alignment.load(tmp_path / "aligner.safetensors")
    for block in (eeg, target):
        np.testing.assert_array_equal(again.transform(block), estimator.transform(block))


def test_identity_is_kept():
    eeg = EEGArray(noise(), ["C3", "Cz", "C4", "Pz"], 128, make_domains(12, "a"))
    Z = EuclideanAlignment().fit_transform(eeg)
    assert (Z.ch_names, Z.sfreq, Z.domains) == (eeg.ch_names, eeg.sfreq, eeg.domains)
    assert EuclideanAlignment().fit(eeg).transform(eeg[..., :40]).shape == (12, 4, 40)


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ({"on_unseen": "other"}, "on_unseen"),
        ({"domain": "person"}, "domain"),
        ({"min_trials": 0}, "min_trials"),
        ({"floor": 1.0}, "floor"),
    ],
)
@BOTH
def test_bad_parameters_are_named(Alignment, parameters, name):
    with pytest.raises(ValueError, match=name):
        Alignment(**parameters).fit(noise())


def test_bad_input_is_named():
    X = noise()
    with pytest.raises(ValueError, match="subjects"):
        EuclideanAlignment().fit(X, subjects=[1, 2])
    with pytest.raises(ValueError, match="X_target_unlabeled"):
        EuclideanAlignment().fit(X, X_target_unlabeled=noise(n_channels=3))
    with pytest.raises(ValueError, match="X_target_labeled"):
        EuclideanAlignment().fit(X, X_target_labeled=np.full((2, 4, 10), np.nan))
    with pytest.raises(ValueError, match="on_unseen"):
        EuclideanAlignment().fit(X).update(X)
    names = EuclideanAlignment().fit(EEGArray(X, ["C3", "Cz", "C4", "Pz"]))
    with pytest.raises(ValueError, match="Oz"):
        names.transform(EEGArray(X, ["C3", "Cz", "C4", "Oz"]))


def test_clone_forgets():
    estimator = EuclideanAlignment(domain="run").fit(noise())
    assert not hasattr(clone(estimator), "references_") and isinstance(estimator, BaseEstimator)


# --- MOABB


@pytest.mark.parametrize("mode", ["own", "calibration", "source", "running"])
def test_moabb_cross_subject(mode, tmp_path):
    import moabb
    from moabb.datasets.fake import FakeDataset
    from moabb.evaluations import CrossSubjectEvaluation
    from moabb.evaluations.protocols import CrossSubjectMode
    from moabb.paradigms import MotorImagery

    moabb.set_log_level("ERROR")
    dataset = FakeDataset(["left_hand", "right_hand"], n_sessions=1, n_runs=1, n_subjects=2, seed=0)
    pipeline = make_pipeline(EuclideanAlignment(on_unseen=mode), CSP(), LinearDiscriminantAnalysis())
    modes = list(CrossSubjectMode) if mode == "own" else [CrossSubjectMode("train_and_target_unlabeled_20p")]
    for protocol in modes:
        evaluation = CrossSubjectEvaluation(
            paradigm=MotorImagery(n_classes=2), datasets=[dataset], cs_mode=protocol, overwrite=True,
            hdf5_path=str(tmp_path),
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scores = evaluation.process({"aligned": pipeline}).score
        assert len(scores) == 2 and scores.notna().all()


@pytest.mark.parametrize("metric", ["harmonic", "riemann", "kullback_sym"])
def test_a_constant_trial_takes_no_part_in_a_mean_and_constants_are_no_signal(metric):
    X = np.random.default_rng(0).standard_normal((6, 3, 40))
    wanted = RiemannianAlignment(metric=metric).fit(X)
    with_constant = RiemannianAlignment(metric=metric).fit(np.concatenate([X, np.full((1, 3, 40), 0.1)]))
    np.testing.assert_allclose(with_constant.references_, wanted.references_)
    constant = np.full((4, 3, 40), 0.1)
    np.testing.assert_allclose(RiemannianAlignment(metric=metric).fit_transform(constant), constant)
