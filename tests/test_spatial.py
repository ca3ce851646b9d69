"""CSP: equal to MNE's, invariant where it should be, and clear about what it cannot do."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from skeeg.array import EEGArray, make_domains
from skeeg.covariance import joint_diagonaliser
from skeeg.spatial import CSP, class_covariances, csp_filters


def classes(n_classes=2, n_trials=30, n_channels=6, n_times=90, seed=0):
    """Trials of mixed sources; each class has one source of greater variance. The classes are not of one size."""
    rng = np.random.default_rng(seed)
    sources = rng.standard_normal((n_trials, n_channels, n_times))
    y = np.arange(n_trials) % n_classes
    y[:4] = 0
    for k in range(n_classes):
        sources[y == k, k] *= 2 + k / 4
    return rng.standard_normal((n_channels, n_channels)) @ sources, y


def cosines(a, b):
    return np.abs(np.sum(a * b, axis=1)) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@parametrize_with_checks([CSP(), CSP(log=False, reg=0.1), CSP(transform_into="csp_space")])
def test_sklearn_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("n_classes", [2, 3, 4])
@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"reg": 0.2},
        {"norm_trace": True},
        {"log": False},
        {"transform_into": "csp_space"},
        {"n_components": 2},
        {"n_components": 9},
    ],
)
def test_equals_mne(n_classes, parameters):
    import mne

    X, y = classes(n_classes)
    with mne.utils.use_log_level("ERROR"):
        theirs = mne.decoding.CSP(**{"n_components": 4} | parameters).fit(X, y)
    ours = CSP(**parameters).fit(X, y)
    assert cosines(ours.spatial_filters_, theirs.filters_).min() > 1 - 1e-12
    assert cosines(ours.patterns_, theirs.patterns_).min() > 1 - 1e-12
    np.testing.assert_allclose(np.abs(ours.spatial_filters_), np.abs(theirs.filters_), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(np.abs(ours.transform(X)), np.abs(theirs.transform(X)), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("reg", [None, 0.1])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_average_reference_equals_mne(reg, n_classes):
    import mne

    X, y = classes(n_classes)
    X = X - X.mean(axis=1, keepdims=True)
    with mne.utils.use_log_level("ERROR"):
        theirs = mne.decoding.CSP(reg=reg).fit(X, y)
    ours = CSP(reg=reg).fit(X, y)
    assert ours.spatial_filters_.shape == ours.patterns_.shape == (5, 6)
    if n_classes == 2:
        assert cosines(ours.spatial_filters_, theirs.filters_).min() > 1 - 1e-9
        np.testing.assert_allclose(ours.transform(X), theirs.transform(X), atol=1e-9)
    else:  # the joint diagonaliser stops early, at a point that depends on the axes of the subspace
        np.testing.assert_allclose(ours.transform(X), theirs.transform(X), atol=0.02)


def test_single_precision_with_average_reference():
    X, y = classes()
    X = X - X.mean(axis=1, keepdims=True)
    single = CSP().fit(X.astype(np.float32), y)
    assert single.spatial_filters_.shape == (5, 6)
    features = single.transform(X.astype(np.float32))
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, CSP().fit(X, y).transform(X), atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([2, 3]))
def test_filters_diagonalise(seed, n_classes):
    X, y = classes(n_classes, seed=seed)
    covariances = class_covariances(X, y)
    filters, eigenvalues = csp_filters(covariances)
    total = filters @ covariances.sum(axis=0) @ filters.T
    if n_classes == 2:
        np.testing.assert_allclose(total, np.eye(6), atol=1e-8)
        np.testing.assert_allclose(filters @ covariances[0] @ filters.T, np.diag(eigenvalues), atol=1e-8)
        assert (np.diff(np.abs(eigenvalues - 0.5)) <= 1e-12).all()
    else:
        np.testing.assert_allclose(np.diag(total), n_classes, rtol=1e-8)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_mixing_the_channels_changes_no_feature(seed):
    X, y = classes(seed=seed)
    mixing = np.random.default_rng(seed).standard_normal((6, 6)) + 3 * np.eye(6)
    np.testing.assert_allclose(CSP().fit_transform(mixing @ X, y), CSP().fit_transform(X, y), atol=1e-6)


def test_finds_the_source():
    rng = np.random.default_rng(0)
    sources, y = rng.standard_normal((60, 5, 400)), np.arange(60) % 2
    sources[y == 1, 2] *= 3
    mixing = rng.standard_normal((5, 5))
    pattern = CSP(n_components=1).fit(mixing @ sources, y).patterns_[0]
    assert abs(np.corrcoef(pattern, mixing[:, 2])[0, 1]) > 0.99


def test_class_covariances():
    X, y = classes(3)
    covariances = class_covariances(X, y)
    for k, trials in enumerate(X[y == label] for label in range(3)):
        joined = np.concatenate(trials, axis=1)
        np.testing.assert_allclose(covariances[k], joined @ joined.T / (joined.shape[1] - 1))


def test_labels_of_any_kind():
    X, y = classes()
    expected = CSP().fit(X, y).transform(X)
    for labels in (np.array(["rest", "grasp"])[1 - y], y * 5, y + 1.0, (y == 1), y.astype(str).astype(object)):
        np.testing.assert_allclose(CSP().fit(X, labels).transform(X), expected, rtol=1e-9)


def test_decodes_and_transforms_other_lengths():
    X, y = classes(n_trials=60)
    pipeline = make_pipeline(CSP(), LinearDiscriminantAnalysis())
    assert cross_val_score(pipeline, X, y).mean() > 0.95
    assert pipeline.fit(X, y)[0].transform(X[:, :, :50]).shape == (60, 4)


def test_csp_space_keeps_the_domains():
    X, y = classes()
    eeg = EEGArray(X, [f"E{i}" for i in range(6)], 100, make_domains(30, "a"))
    filtered = CSP(transform_into="csp_space").fit(eeg, y).transform(eeg)
    assert filtered.ch_names == ("CSP0", "CSP1", "CSP2", "CSP3") and filtered.domains is eeg.domains


def test_silent_trial_has_finite_features():
    X, y = classes()
    csp = CSP().fit(X, y)
    assert np.isfinite(csp.transform(np.zeros((2, 6, 90)))).all()


def test_save_and_load(tmp_path):
    X, y = classes(3)
    csp = CSP(log=False).fit(X, np.array(["a", "b", "c"])[y])
    csp.save(tmp_path / "csp.safetensors")
    np.testing.assert_array_equal(CSP.load(tmp_path / "csp.safetensors").transform(X), csp.transform(X))


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ({"n_components": 0}, "n_components"),
        ({"reg": 2}, "reg"),
        ({"log": "yes"}, "log"),
        ({"transform_into": "power"}, "transform_into"),
        ({"transform_into": "csp_space", "log": True}, "log"),
    ],
)
def test_bad_parameters_are_named(parameters, name):
    with pytest.raises(ValueError, match=f"^{name}: got"):
        CSP(**parameters).fit(*classes())


def singular_in_one_class(kind):
    X, y = np.random.default_rng(0).standard_normal((20, 6, 50)), np.repeat([0, 1, 2, 3], 5)
    if kind == "flat electrode":
        X[:5, 2] = 0
    elif kind == "average reference":
        X[:5] -= X[:5].mean(axis=1, keepdims=True)
    else:
        X, y = X[:4, :, :1], np.arange(4)
    return X, y


@pytest.mark.parametrize("kind", ["flat electrode", "average reference", "one sample"])
def test_classes_that_have_no_joint_filters_are_told(kind):
    X, y = singular_in_one_class(kind)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match="nothing diagonalises all covariances; set reg"):
            CSP().fit(X, y)
    assert np.isfinite(CSP(reg=0.1).fit(X, y).transform(X)).all()


def test_a_flat_class_has_no_trace():
    X, y = np.random.default_rng(0).standard_normal((6, 3, 20)), np.array(["a", "b", "c"] * 2)
    X[y == "b"] = 0
    with pytest.raises(ValueError, match="all trials of class 'b' are flat"):
        CSP(norm_trace=True).fit(X, y)


def test_bad_input_is_named():
    X, y = classes()
    with pytest.raises(ValueError, match="one class"):
        CSP().fit(X, np.zeros(30))
    with pytest.raises(ValueError, match="flat"):
        CSP().fit(np.zeros_like(X), y)
    with pytest.raises(ValueError, match="continuous"):
        CSP().fit(X, y + 0.5)
    for bad in (np.nan, np.inf, -np.inf):
        broken = X.copy()
        broken[7, 2, 5] = bad
        with pytest.raises(ValueError, match="NaN|infinity"):
            CSP().fit(broken, y)
        with pytest.raises(ValueError, match="NaN|infinity"):
            CSP().fit(X, np.where(np.arange(30) == 3, bad, y))
    with pytest.raises(ValueError):
        CSP().fit(X, y[:-1])


# Joint diagonalisation


def mixed_covariances(n_matrices, n, seed=0):
    """Covariances of sources mixed alike, whose variances differ, and of a little noise."""
    rng = np.random.default_rng(seed)
    sources = rng.standard_normal((n_matrices, n, 50 * n)) * rng.uniform(0.5, 2, (n_matrices, n, 1))
    signals = rng.standard_normal((n, n)) @ sources + 0.1 * rng.standard_normal(sources.shape)
    return signals @ signals.mT / sources.shape[2]


@pytest.mark.parametrize("n_matrices, n", [(2, 2), (3, 3), (4, 7), (5, 12), (2, 1)])
@pytest.mark.parametrize("sweeps", [1, 3, 15])
def test_equals_one_pair_after_the_other(n_matrices, n, sweeps):
    from pyriemann.geometry.ajd import ajd_pham

    matrices = mixed_covariances(n_matrices, n)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Convergence not reached")
        plain, _ = ajd_pham(matrices, eps=1e-6, n_iter_max=sweeps)
    np.testing.assert_allclose(joint_diagonaliser(matrices, 1e-6, sweeps), plain, rtol=1e-7, atol=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 9), st.integers(2, 5))
def test_diagonalises_what_can_be(seed, n, n_matrices):
    rng = np.random.default_rng(seed)
    mixing = np.linalg.qr(rng.standard_normal((n, n)))[0] + 0.2 * np.eye(n)
    matrices = np.stack([mixing @ np.diag(rng.uniform(0.2, 5, n)) @ mixing.T for _ in range(n_matrices)])
    rows = joint_diagonaliser(matrices, tol=1e-12, max_sweeps=50)
    found = rows @ matrices @ rows.T
    variances = np.sqrt(np.einsum("kii->ki", found))
    correlations = found / variances[:, :, None] / variances[:, None]
    np.testing.assert_allclose(correlations, np.broadcast_to(np.eye(n), found.shape), atol=1e-4)


def test_leaves_its_input_alone():
    matrices = mixed_covariances(3, 4)
    before = matrices.copy()
    joint_diagonaliser(matrices)
    np.testing.assert_array_equal(matrices, before)


def test_patterns_are_drawn_at_the_electrodes():
    X = EEGArray(np.random.default_rng(0).normal(size=(20, 4, 100)), ("C3", "Cz", "C4", "Pz"), 128)
    csp = CSP(2).fit(X, np.arange(20) % 2)
    titles = [axis.get_title() for axis in csp.plot_patterns().axes]
    assert titles[:2] == ["Pattern0", "Pattern1"] and "Pattern2" not in titles
    assert csp.plot_patterns([3]).axes[0].get_title() == "Pattern3"
    with pytest.raises(ValueError, match="ch_names: not known"):
        CSP(2).fit(np.asarray(X), np.arange(20) % 2).plot_patterns()
