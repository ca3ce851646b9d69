"""Patterns: the mixing comes back, from filters of every kind."""

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skeeg import (
    CSP,
    AverageReference,
    BandPass,
    EEGArray,
    EEGToMEG,
    EuclideanAlignment,
    FilterBank,
    NetworkClassifier,
    baseline,
)
from skeeg.array import make_domains
from skeeg.explain import haufe_patterns, spatial_patterns
from skeeg.explain.patterns import first_kernels
from skeeg.methods.ct_adapttl.network import CTAdaptTLNet
from skeeg.methods.eeg2meg import SensorUNet
from skeeg.methods.mirepnet import MIRepNet
from skeeg.networks import build_network

N_CHANNELS = 5


def mixed(seed=0, n_trials=40, n_times=300):
    """Five mixed sources, the first of which is stronger in the second class; the mixing is known."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(N_CHANNELS, N_CHANNELS))
    y = np.tile([0, 1], n_trials // 2)
    sources = rng.normal(size=(n_trials, N_CHANNELS, n_times))
    sources[:, 0] *= 1 + 2 * y[:, None]
    return EEGArray(mixing @ sources, [f"E{i}" for i in range(N_CHANNELS)], 100.0), y, mixing[:, 0]


def alike(a, b):
    return abs(np.corrcoef(a, b)[0, 1])


def test_patterns_of_filters_are_the_columns_of_the_mixing():
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(4, 4))
    sources = rng.normal(size=(500, 4))
    sources = np.linalg.qr(sources - sources.mean(axis=0))[0]
    filters = np.linalg.inv(mixing)
    np.testing.assert_allclose(haufe_patterns(sources @ mixing.T, filters), mixing.T, atol=1e-10)


def test_pattern_of_a_discriminant_is_the_difference_of_the_means():
    rng = np.random.default_rng(0)
    data, y = rng.normal(size=(400, 3)) @ rng.normal(size=(3, 3)), np.tile([0, 1], 200)
    data[y == 1] += [1.0, 0.0, 0.0]
    pattern = haufe_patterns(data, LinearDiscriminantAnalysis().fit(data, y).coef_)[0]
    assert alike(pattern, data[y == 1].mean(axis=0) - data[y == 0].mean(axis=0)) > 0.999


@pytest.mark.parametrize(
    "steps",
    [(), (AverageReference(),), (EuclideanAlignment(floor=1e-6),), (BandPass(2, 45, method="iir"),)],
    ids=["alone", "reference", "alignment", "filter"],
)
def test_csp_patterns_find_the_source_at_the_electrodes_of_the_input(steps):
    X, y, place = mixed()
    pipeline = make_pipeline(*steps, CSP(n_components=2), LinearDiscriminantAnalysis()).fit(X, y)
    found = spatial_patterns(pipeline, X)
    assert found.spatial.shape == (2, N_CHANNELS)
    assert alike(found.spatial[0], place) > 0.9
    if not steps:
        assert alike(found.spatial[0], pipeline[0].patterns_[0]) > 0.999


def test_tangent_space_patterns_find_the_source():
    pytest.importorskip("pyriemann")
    X, y, place = mixed()
    found = spatial_patterns(baseline("TS+LR").fit(X, y), X)
    assert alike(found.spatial[0], place) > 0.97
    assert found.strength[0] > 0  # stronger in the second class


NETWORKS = {
    "EEGNet": lambda: build_network("EEGNet", n_chans=5, n_times=200, n_outputs=2),
    "ShallowFBCSPNet": lambda: build_network("ShallowFBCSPNet", n_chans=5, n_times=200, n_outputs=2),
    "Deep4Net": lambda: build_network("Deep4Net", n_chans=5, n_times=500, n_outputs=2),
    "EEGConformer": lambda: build_network("EEGConformer", n_chans=5, n_times=200, n_outputs=2),
    "CTAdaptTLNet": lambda: CTAdaptTLNet(n_outputs=2, n_chans=5, n_times=200, n_hidden=4),
    "UNet": lambda: SensorUNet(5, 3, 4, 4),
    "MIRepNet": lambda: MIRepNet(n_outputs=2, n_chans=5, n_times=200, embed_dim=8, n_layers=1, n_heads=2),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_first_kernels_are_those_of_the_network(name):
    torch = pytest.importorskip("torch")
    module = NETWORKS[name]().double().eval()
    kernels = torch.from_numpy(first_kernels(module, 5).copy())
    heard = {}
    place = [layer for layer in module.modules() if isinstance(layer, torch.nn.Conv2d)][1]
    place = module.e11 if name == "UNet" else place
    holder = next((one for one in module.modules() if type(one).__name__ == "CombinedConv"), place)
    if name == "CTAdaptTLNet":  # the layers one after the other
        module.front = lambda x: module.spatial(module.temporal(x.transpose(1, 2)[:, None]))[..., 0]
    if name == "MIRepNet":
        own = module.embedding
        own.pooled = lambda x: own.pool(own.conv2(own.conv1(x[:, None])))
    holder.register_forward_hook(lambda layer, given, out: heard.update(out=out.flatten(2)))
    x, other = torch.randn(2, 1, 5, getattr(module, "n_times", 60), dtype=torch.float64)
    with torch.no_grad():
        module(x)
        first = heard["out"]
        module(other)
        ours = torch.nn.functional.conv1d(x - other, kernels)
    theirs = first - heard["out"]
    if name == "UNet":  # pads its input
        theirs = theirs[..., 1:-1]
    if name == "EEGNet":  # pads its input, and a batch norm is between the two
        start = (theirs.shape[2] - ours.shape[2]) // 2
        theirs = theirs[..., start : start + ours.shape[2]]
        scale = (theirs * ours).sum((0, 2)) / (ours**2).sum((0, 2))
        ours = ours * scale[None, :, None]
    torch.testing.assert_close(theirs, ours)


def test_network_patterns_find_the_source():
    X, y, place = mixed(n_trials=80)
    net = NetworkClassifier("ShallowFBCSPNet", {"n_filters_time": 4, "n_filters_spat": 4}, max_epochs=25, batch_size=16,
                            learning_rate=1e-2, random_state=0, device="cpu").fit(X, y)  # fmt: skip
    found = spatial_patterns(net, X)
    assert found.spatial.shape == (4, N_CHANNELS) and found.temporal.shape == (4, 25)
    assert max(alike(one, place) for one in found.spatial) > 0.9


def test_patterns_by_covariance_are_those_by_regression_also_where_every_person_is_aligned_apart():
    X, y, _ = mixed()
    X = X.like(
        np.asarray(X) * np.repeat([1, 30], 20)[:, None, None], domains=make_domains(40, np.repeat(["a", "b"], 20))
    )
    pipeline = make_pipeline(EuclideanAlignment(), CSP(n_components=3), LinearDiscriminantAnalysis()).fit(X, y)
    found = spatial_patterns(pipeline, X)
    heard = np.asarray(X).transpose(1, 0, 2).reshape(N_CHANNELS, -1)
    aligned = np.asarray(pipeline[0].transform(X)).transpose(1, 0, 2).reshape(N_CHANNELS, -1)
    outputs = pipeline[1].spatial_filters_[:3] @ aligned
    heard, outputs = heard - heard.mean(axis=1, keepdims=True), outputs - outputs.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(found.spatial, np.linalg.lstsq(outputs.T, heard.T, rcond=None)[0], rtol=1e-6)
    np.testing.assert_allclose(found.strength, outputs.var(axis=1, ddof=1), rtol=1e-6)


def test_u_net_patterns_are_in_the_units_of_the_eeg():
    X, _, _ = mixed(n_trials=12, n_times=60)
    X = X.like(np.asarray(X) * np.array([1, 10, 1, 1, 1])[:, None])
    meg = EEGToMEG(
        "unet", network_params={"n_filters": 2, "lstm_hidden": 2}, max_epochs=1, random_state=0, device="cpu"
    )
    meg.fit(X, np.asarray(X)[:, :2] * 1e-13)
    found = spatial_patterns(meg, X)
    assert found.spatial.shape == (2, N_CHANNELS) and found.temporal.shape == (2, 3)
    kernel = first_kernels(meg.module_, N_CHANNELS)[0] / meg.eeg_scale_[:, None]
    windows = np.lib.stride_tricks.sliding_window_view(np.asarray(X), 3, axis=2)
    output = np.einsum("nctk,ck->nt", windows, kernel)
    lagged = np.einsum("nt,nctk->ck", output - output.mean(), windows) / np.square(output - output.mean()).sum()
    left, size, right = np.linalg.svd(lagged)
    np.testing.assert_allclose(
        found.spatial[0][:, None] * found.temporal[0], size[0] * np.outer(left[:, 0], right[0]), rtol=1e-6, atol=1e-9
    )


def test_filters_are_found_inside_searches_and_inner_pipelines():
    X, y, _ = mixed()
    plain = make_pipeline(AverageReference(), CSP(n_components=2), LinearDiscriminantAnalysis()).fit(X, y)
    wanted = spatial_patterns(plain, X).spatial
    inner = make_pipeline(make_pipeline(*plain[:-1]), LinearDiscriminantAnalysis()).fit(X, y)
    search = GridSearchCV(plain, {"csp__n_components": [2]}, cv=2).fit(X, y)
    for estimator in (inner, search):
        np.testing.assert_allclose(spatial_patterns(estimator, X).spatial, wanted)


def test_each_band_of_a_filter_bank_has_patterns_of_its_own():
    X, y, place = mixed()
    pipeline = baseline("FBCSP+LDA").fit(X, y)
    found, bank = spatial_patterns(pipeline, X), next(one for _, one in pipeline.steps if isinstance(one, FilterBank))
    n_bands, n_filters = len(bank.estimators_), bank.estimators_[0].n_components
    assert found.spatial.shape == (n_bands * n_filters, N_CHANNELS) and len(found.strength) == n_bands * n_filters
    band = BandPass(*bank.bands[2]).fit_transform(X)
    wanted = spatial_patterns(CSP(n_filters).fit(band, y), band)
    rows = slice(2 * n_filters, 3 * n_filters)
    np.testing.assert_allclose(found.strength[rows], wanted.strength, rtol=1e-6)
    assert max(alike(one, place) for one in found.spatial[rows]) > 0.9


def test_a_step_between_tangent_space_and_classifier_is_refused():
    pytest.importorskip("pyriemann")
    X, y, _ = mixed()
    *before, last = (step for _, step in baseline("TS+LR").steps)
    scaled = make_pipeline(*before, StandardScaler(), last).fit(X, y)
    with pytest.raises(ValueError, match=r"standardscaler \(StandardScaler\) is between"):
        spatial_patterns(scaled, X)


def test_estimators_without_filters_say_so():
    X, y, _ = mixed()
    with pytest.raises(ValueError, match="has no spatial filters"):
        spatial_patterns(LinearDiscriminantAnalysis().fit(np.asarray(X).mean(axis=2), y), X)
    net = NetworkClassifier("FBCNet", max_epochs=1, random_state=0, sfreq=100.0).fit(X, y)
    with pytest.raises(ValueError, match="FBCNet does not start"):
        spatial_patterns(net, X)
