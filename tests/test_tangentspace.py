import numpy as np
import pytest
from pyriemann.estimation import Covariances
from pyriemann.geometry.tangentspace import tangent_space
from pyriemann.tangentspace import TangentSpace
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from skeeg import FilterBankTangentSpace, RiemannianAlignment
from skeeg.array import EEGArray, make_domains
from skeeg.filtering import BandPass

BANDS = ((8, 12), (16, 24))


def mixed(seed, n_trials=24, n_channels=4, n_times=500, sfreq=125.0, mixing=None):
    """Trials of two classes that differ in the power of one source at 10 Hz, through a mixing of the subject."""
    rng = np.random.default_rng(seed)
    y = np.arange(n_trials) % 2
    sources = rng.standard_normal((n_trials, n_channels, n_times))
    tone = np.sin(2 * np.pi * (10 * np.arange(n_times) / sfreq + rng.random((n_trials, 1))))
    sources[:, 0] += (1 + 2 * y)[:, None] * tone
    mixing = rng.standard_normal((n_channels, n_channels)) if mixing is None else mixing
    return EEGArray(mixing @ sources, ("C3", "Cz", "C4", "Pz"), sfreq, make_domains(n_trials, subject=seed)), y


def test_each_band_is_the_tangent_space_of_pyriemann_on_aligned_trials():
    X, _ = mixed(0)
    features = FilterBankTangentSpace(BANDS).fit_transform(X)
    for i, (low, high) in enumerate(BANDS):
        aligned = RiemannianAlignment().fit_transform(BandPass(low, high).fit_transform(X))
        wanted = TangentSpace().fit_transform(Covariances("oas").transform(np.asarray(aligned)))
        np.testing.assert_allclose(features[:, 10 * i : 10 * (i + 1)], wanted, atol=1e-6)


def test_fit_then_transform_equals_fit_transform_where_trials_name_their_subject():
    X, _ = mixed(0)
    steps = FilterBankTangentSpace(BANDS)
    together = steps.fit_transform(X)
    np.testing.assert_allclose(steps.transform(X), together, atol=1e-9)
    np.testing.assert_allclose(steps.transform(X[3:4]), together[3:4], atol=1e-9)


def test_features_do_not_depend_on_the_mixing_of_a_subject():
    X, _ = mixed(1)
    other = X.like(np.diag([1.0, 3.0, 0.2, 5.0]) @ np.asarray(X))
    distances = [
        np.linalg.norm(features[:, None] - features[None], axis=2)
        for features in (FilterBankTangentSpace(BANDS).fit_transform(one) for one in (X, other))
    ]
    np.testing.assert_allclose(distances[0], distances[1], rtol=0.05, atol=0.05)  # shrinkage alone is not invariant


def test_recentring_carries_a_classifier_to_another_subject():
    X, y = mixed(2)
    target, labels = mixed(3, mixing=np.random.default_rng(9).standard_normal((4, 4)))
    pipeline = make_pipeline(FilterBankTangentSpace(BANDS), LogisticRegression())
    assert pipeline.fit(X, y).score(X, y) == 1.0
    own = FilterBankTangentSpace(BANDS, on_unseen="own").fit(X).transform(target)
    source = FilterBankTangentSpace(BANDS, on_unseen="source").fit(X).transform(target)
    assert abs(own.mean(axis=0)).max() < 0.2 < abs(source.mean(axis=0)).max()


@pytest.mark.parametrize("n_times", [120, 250, 500])
def test_trials_of_another_length_are_shrunk_by_their_own(n_times):
    X, _ = mixed(4)
    part = X[..., :n_times]
    band, steps = BandPass(*BANDS[0]), FilterBankTangentSpace(BANDS[:1]).fit(X)
    aligned = RiemannianAlignment().fit(band.fit_transform(X)).transform(band.transform(part))
    covariances = Covariances("oas").transform(np.asarray(aligned))
    np.testing.assert_allclose(steps.transform(part), tangent_space(covariances, steps.references_[0]), atol=1e-6)


def test_calibration_trials_give_the_reference_of_the_target():
    X, _ = mixed(5)
    target, _ = mixed(6)
    steps = FilterBankTangentSpace(BANDS, on_unseen="calibration").fit(X, X_target_unlabeled=target[:12])
    later = FilterBankTangentSpace(BANDS, on_unseen="own").fit(X).transform(target[:12])
    np.testing.assert_allclose(steps.transform(target[:12]), later, atol=1e-9)


def test_a_matrix_is_one_channel():
    X = np.random.default_rng(0).standard_normal((12, 64))
    assert FilterBankTangentSpace(BANDS, sfreq=125).fit_transform(X).shape == (12, 2)
