"""Attributions: do they sum up, do they come back through a pipeline, do they find what is there?"""

import warnings

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

import skeeg
from skeeg import (
    AverageReference,
    BandPass,
    EEGArray,
    EuclideanAlignment,
    NetworkClassifier,
    NetworkRegressor,
    baseline,
)
from skeeg.array import as_eeg, make_domains
from skeeg.explain import Attribution, attribute, cascading_randomisation, deletion_insertion, stability
from skeeg.explain.attribution_methods import integrate
from skeeg.explain.linear_maps import Explained
from skeeg.methods.ct_adapttl.network import CTAdaptTLNet

TELLING = [2, 5, 6]
SMALL = {"n_filters": 8, "n_hidden": 12}


def bursts(seed=0, n_trials=80, n_channels=10, n_times=200):
    """Bursts of 10 Hz in the second half of a trial: by class at three electrodes, at random at the others."""
    rng = np.random.default_rng(seed)
    y = np.tile([0, 1], n_trials // 2)
    present = rng.integers(0, 2, size=(n_trials, n_channels))
    present[:, TELLING] = y[:, None]
    wave = np.sin(2 * np.pi * 10 * np.arange(n_times) / 100 + rng.uniform(0, 6.3, size=(n_trials, n_channels, 1)))
    window = np.arange(n_times) >= n_times // 2
    data = rng.normal(size=(n_trials, n_channels, n_times)) + 2 * present[..., None] * wave * window
    return EEGArray(data, [f"E{i}" for i in range(n_channels)], 100.0), y


@pytest.fixture(scope="module")
def decoded():
    """Trained networks and their trials."""
    X, y = bursts()
    settings = {"max_epochs": 12, "batch_size": 16, "learning_rate": 5e-3, "random_state": 0, "device": "cpu"}
    return {
        "shallow": NetworkClassifier("ShallowFBCSPNet", {"n_filters_time": 8, "n_filters_spat": 8}, **settings).fit(
            X, y
        ),
        "eegnet": NetworkClassifier("EEGNet", {"kernel_length": 32}, **settings | {"max_epochs": 4}).fit(X, y),
        "ct": NetworkClassifier(CTAdaptTLNet, SMALL, **settings | {"max_epochs": 4}).fit(X, y),
        "conformer": NetworkClassifier("EEGConformer", {"num_layers": 1}, **settings | {"max_epochs": 2}).fit(
            X[:32], y[:32]
        ),
    }


@pytest.mark.parametrize("name", ["shallow", "eegnet", "ct", "conformer"])
@pytest.mark.parametrize("method", ["expected_gradients", "integrated_gradients"])
def test_attributions_sum_to_the_output_less_its_mean_over_the_background(decoded, name, method):
    X, _ = bursts(1)
    found = attribute(decoded[name], X[:2], X[2:5], method=method, output="logit", tolerance=1e-5)
    assert found.error.max() <= 1e-5
    module = decoded[name].module_.double()
    scale = decoded[name].scale_
    background = X[2:5] if method == "expected_gradients" else np.asarray(X[2:5]).mean(axis=0, keepdims=True)
    with torch.no_grad():
        f, base = (module(torch.from_numpy(np.asarray(part) / scale)).numpy() for part in (X[:2], background))
    module.float()
    columns = f.argmax(axis=1)
    rise = f[[0, 1], columns] - base.mean(axis=0)[columns]
    np.testing.assert_allclose(found.values.sum(axis=(1, 2)), rise, atol=2e-5 * np.ptp(np.concatenate([f, base])))
    np.testing.assert_array_equal(found.predicted, decoded[name].predict(X[:2]))


def test_attributions_of_a_polynomial_are_those_of_the_formula():
    x = np.array([[[1.0, 2.0], [3.0, -1.0]]])

    class Product(torch.nn.Module):
        def forward(self, z):
            return (z[:, 0] * z[:, 1]).sum(1, keepdim=True)

    found = attribute(Product(), x, 0 * x, output="logit", on_error="ignore")
    np.testing.assert_allclose(found.values[0], [[1.5, -1.0], [1.5, -1.0]])  # a product from zero is shared equally


def test_quadrature_finds_a_kink():
    ends = np.full((1, 1, 1), 1.0)
    found, spent = integrate(lambda z, _: torch.relu(z - 0.337).sum((1, 2)), 0 * ends, ends, np.zeros(1, int), 1e-7)
    assert abs(found.item() - 0.663) < 1e-7
    assert spent < 400


def test_pipeline_gives_what_the_same_pipeline_as_one_module_gives():
    X, y = bursts(2, n_channels=7, n_times=120)
    X = X.like(np.asarray(X), domains=make_domains(len(X), np.repeat(["a", "b"], 40)))
    band = BandPass(5, 20, l_trans_bandwidth=4, h_trans_bandwidth=4)
    net = NetworkClassifier("EEGNet", {"kernel_length": 32}, max_epochs=3, random_state=0, device="cpu")
    pipeline = make_pipeline(band, AverageReference(), EuclideanAlignment(floor=1e-6), net)
    pipeline.fit(X, y)
    new = X[:1].like(np.asarray(X[:1]) * 1.1, domains=make_domains(1, ["b"]))
    found = attribute(pipeline, new, X[60:61], tolerance=1e-6)
    band, align, net = pipeline[0], pipeline[2], pipeline[3]
    module = Whole(band.coefficients_, align.whiteners_[1], net)
    direct = attribute(module, np.asarray(new), np.asarray(X[60:61]), tolerance=1e-6)
    np.testing.assert_allclose(found.values, direct.values, atol=1e-6 * np.abs(direct.values).max())
    np.testing.assert_allclose(found.prediction, direct.prediction, atol=1e-6)
    chances = pipeline.predict_proba(new)
    by_margin = attribute(pipeline, new, X[60:61], output="probability").prediction
    np.testing.assert_allclose(by_margin, chances.max(axis=1), atol=1e-5)


class Whole(torch.nn.Module):
    """Filter with odd reflection, average reference, whitening and network, written in torch."""

    def __init__(self, kernel, whitener, net):
        super().__init__()
        self.kernel = torch.from_numpy(kernel.copy())[None, None]
        self.whitener, self.scale, self.net = torch.from_numpy(whitener), net.scale_, net.module_

    def forward(self, x):
        reach = self.kernel.shape[2] // 2
        left = 2 * x[..., :1] - x[..., 1 : reach + 1].flip(-1)
        right = 2 * x[..., -1:] - x[..., -reach - 1 : -1].flip(-1)
        padded = torch.cat([left, x, right], dim=2)
        y = torch.nn.functional.conv1d(padded.flatten(0, 1)[:, None], self.kernel)[:, 0].reshape(x.shape)
        y = self.whitener @ (y - y.mean(dim=1, keepdim=True))
        return self.net(y / self.scale)


def test_deep_shap_is_mended_for_square_and_logarithm(decoded):
    shap = pytest.importorskip("shap")
    X, _ = bursts(4)
    net = decoded["shallow"]
    found = attribute(net, X[:3], X[3:8], method="deep_shap", output="logit")
    assert found.error.max() < 1e-5
    trials, background = (
        torch.from_numpy(np.asarray(part, dtype=np.float32) / np.float32(net.scale_)) for part in (X[:3], X[3:8])
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = shap.DeepExplainer(net.module_, background).shap_values(trials, check_additivity=False)
    with torch.no_grad():
        gap = plain.sum(axis=(1, 2)) - (net.module_(trials) - net.module_(background).mean(0)).numpy()
    assert np.abs(gap).max() > 0.01  # what shap does by itself


def test_methods_that_miss_the_output_raise_unless_asked_not_to(decoded):
    pytest.importorskip("shap")
    X, _ = bursts(4)
    given = {"method": "gradient_shap", "n_samples": 8}
    with pytest.raises(ValueError, match="gradient_shap.*of its range"):
        attribute(decoded["shallow"], X[:2], X[2:6], **given)
    with pytest.warns(UserWarning, match="of its range"):
        attribute(decoded["shallow"], X[:2], X[2:6], on_error="warn", **given)
    found = attribute(decoded["shallow"], X[:2], X[2:6], on_error="ignore", **given)
    assert found.error.max() > 1e-5


def test_occlusion_explains_a_classifier_without_a_network():
    X, y = bursts()
    found = attribute(baseline("CSP+LDA").fit(X, y), X[:6], X[6:9], method="occlusion", n_windows=2, target=y[:6])
    assert set(np.argsort(-found.importance())[:3]) == set(TELLING)
    with pytest.raises(NotFittedError):
        attribute(NetworkClassifier("EEGNet"), X[:2])
    with pytest.raises(TypeError, match="occlusion"):
        attribute(baseline("CSP+LDA").fit(X, y), X[:2])
    with pytest.raises(ValueError, match="output: got 'votes'"):
        attribute(baseline("CSP+LDA").fit(X, y), X[:2], method="occlusion", output="votes")


def test_occlusion_explains_a_network_behind_steps_that_are_not_linear():
    X, y = bursts(n_trials=20)
    steps = EuclideanAlignment(on_unseen="running"), NetworkClassifier("EEGNet", {"kernel_length": 32}, max_epochs=1)
    pipeline = make_pipeline(*steps).fit(X, y)
    unseen = X[:2].like(X[:2], domains=make_domains(2, subject="new"))
    assert attribute(pipeline, unseen, X[2:4], method="occlusion", n_windows=2).values.shape == X[:2].shape


def test_regressors_are_explained_by_output():
    X, _ = bursts(n_trials=20)
    net = NetworkRegressor("EEGNet", {"kernel_length": 32}, max_epochs=1, random_state=0).fit(
        X, np.arange(40.0).reshape(20, 2)
    )
    assert attribute(net, X[:1], X[1:3], target=1, output="logit", tolerance=1e-5).error.max() < 1e-5


def attribution(n_trials=6):
    values = np.random.default_rng(0).normal(size=(n_trials, 2, 7))
    subjects = make_domains(n_trials, np.resize(["a", "b"], n_trials))
    values[1::2] *= 100
    return Attribution(
        values, values, *np.zeros((3, n_trials)), np.resize([0, 0, 1], n_trials), sfreq=7.0, domains=subjects
    )


def test_importance_is_what_is_added_not_how_it_swings():
    values = np.stack([np.tile([1.0, -1.0], 4), np.full(8, 0.1)])[None]
    found = Attribution(values, values, *np.zeros((3, 1)), np.array([0]))
    np.testing.assert_allclose(found.importance(), [0, 0.8], atol=1e-12)
    np.testing.assert_allclose(found.importance("time"), np.tile([1.1, 0.9], 4))
    np.testing.assert_allclose(found.importance("both"), np.abs(values[0]))
    two = Attribution(*[np.concatenate([values, -values])] * 2, *np.zeros((3, 2)), np.zeros(2))
    np.testing.assert_allclose(two.importance(), [0, 0.8], atol=1e-12)  # trials do not cancel


def test_aggregation_is_what_it_says():
    found = attribution()
    np.testing.assert_allclose(found.by_class()[1], found.values[[2, 5]].mean(axis=0))
    np.testing.assert_allclose(found.by_class([0, 1] * 3)[0], found.values[::2].mean(axis=0))
    raw, fair = found.over_subjects(normalise=False), found.over_subjects()
    np.testing.assert_allclose(raw[1], (found.values[2] + found.values[5]) / 2)
    a, b = found[0::2].by_class(), found[1::2].by_class()
    scale = [np.sqrt(np.mean(np.square(list(one.values())))) for one in (a, b)]
    np.testing.assert_allclose(fair[0], (a[0] / scale[0] + b[0] / scale[1]) / 2)
    bins = found.bins(3)
    np.testing.assert_allclose(bins.values.sum(axis=2), found.per_channel())
    assert bins.values.shape == (6, 2, 3) and bins.sfreq == 3.0
    with pytest.raises(ValueError, match="n_bins"):
        found.bins(8)


def test_shap_draws_our_attributions():
    pytest.importorskip("shap")
    explanation = attribution().to_shap()
    assert explanation.shape == (6, 14)
    assert explanation.feature_names[8] == "channel 1, 0.142857 s"


def test_wrong_arguments_are_named(decoded):
    X, _ = bursts(n_trials=4)
    for given, message in (
        ({"method": "magic"}, "method: got 'magic'"),
        ({"output": "votes"}, "output: got 'votes'"),
        ({"target": 7}, r"target: unknown \[7\]"),
        ({"background": X[:, :3]}, "background: trials of shape"),
        ({"background": X[:0]}, "background: expected one trial or more"),
        ({"background": np.nan * X}, "background: expected .* without NaN"),
        ({"n_background": 0}, "n_background: got 0"),
        ({"method": "occlusion", "n_windows": 0}, "n_windows: got 0"),
        ({"bands": ((4, 9), (8, 12))}, "overlap"),
    ):
        with pytest.raises(ValueError, match=message):
            attribute(decoded["eegnet"], X[:2], **given)


def test_deletion_falls_and_insertion_rises_faster_than_chance(decoded):
    X, y = bursts(5)
    found = attribute(decoded["shallow"], X[:8], X[8:18], target=y[:8], tolerance=1e-3)
    areas = deletion_insertion(decoded["shallow"], found, X[8:18], n_steps=8).areas
    assert areas["deletion"] < areas["random"] < areas["insertion"]
    curves = deletion_insertion(decoded["shallow"], found, X[8:18], n_steps=5, by="channel")
    np.testing.assert_allclose(curves.share, [0, 0.2, 0.4, 0.6, 0.8, 1])
    assert curves.areas["deletion"] < curves.areas["random"] < curves.areas["insertion"]
    np.testing.assert_allclose(curves.deletion[[0, -1]], curves.insertion[[-1, 0]])
    with pytest.raises(ValueError, match="by: got 'trial'"):
        deletion_insertion(decoded["shallow"], found, by="trial")


def test_random_layers_change_the_attribution_and_leave_the_estimator(decoded):
    X, _ = bursts(6)
    before = {name: value.clone() for name, value in decoded["ct"].module_.state_dict().items()}
    layers, similarity = cascading_randomisation(decoded["ct"], X[:3], X[3:5], settings={"tolerance": 1e-2})
    assert layers[1:] == ["final_layer", "hidden", "norm", "spatial", "temporal"]
    assert similarity[0] == 1.0 and similarity[-1] < 0.8
    assert all(torch.equal(value, before[name]) for name, value in decoded["ct"].module_.state_dict().items())


def test_stability_compares_seeds():
    X, y = bursts(n_trials=20)
    agreement = stability(NetworkClassifier("EEGNet", {"kernel_length": 32}, max_epochs=1), X, y, (0, 1), X[:2],
                          settings={"tolerance": 1e-3, "n_background": 3})  # fmt: skip
    np.testing.assert_allclose(np.diag(agreement), 1)
    assert -1 <= agreement[0, 1] == agreement[1, 0] < 1


def test_the_room_is_reached_by_import():
    assert skeeg.explain.attribute is attribute


def test_constants_of_a_network_are_double_and_the_default_dtype_is_left_alone():
    class WithConstants(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(6, 2)
            self.defaults = set()

        def forward(self, x):
            self.defaults.add(torch.get_default_dtype())
            return self.linear(x.flatten(1)) @ torch.ones(2, 2) * torch.tensor(0.5)

    network = WithConstants()
    explained = Explained(network, as_eeg(np.ones((1, 2, 3))), "logit")
    assert explained.outputs([0], np.ones((1, 2, 3))).dtype == np.float64
    assert explained.score.module.defaults == {torch.float32}
