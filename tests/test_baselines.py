import warnings

import mne
import numpy as np
import pytest
import yaml
from baseline_table import BASELINE_NETWORKS
from moabb.datasets.fake import FakeDataset
from moabb.paradigms import LeftRightImagery
from moabb.pipelines.utils import create_pipeline_from_config
from sklearn.base import clone
from sklearn.cross_decomposition import CCA
from sklearn.utils.estimator_checks import parametrize_with_checks

import skeeg.bench
from skeeg.array import EEGArray, make_domains
from skeeg.base import AsEEG
from skeeg.baselines import PIPELINE_FOLDER, baseline, baseline_names, baseline_recipe, pipeline_files
from skeeg.baselines.cca import SteadyStateCCA
from skeeg.covariance import TrialCovariances
from skeeg.filtering import PadToMultiple
from skeeg.spatial import FilterBankCSP

NAMES = ("C3", "C4", "FC3", "FC4")
# The large networks, small enough for a test: the pipeline around them is what is tested here.
SMALL = {
    "BIOT": {"embed_dim": 16, "num_heads": 2, "num_layers": 1},
    "BENDR": {"encoder_h": 16, "contextualizer_hidden": 32, "transformer_layers": 1, "transformer_heads": 2},
    "LaBraM": {"embed_dim": 40, "num_heads": 2, "num_layers": 1},
    "CBraMod": {"n_layer": 1},
    "EEGPT": {"embed_dim": 32, "depth": 1, "num_heads": 2},
}


CLASSICAL = [name for name in baseline_names() if "max_epochs" not in str(list(baseline(name).get_params()))]
PRETRAINED = ("BIOT", "BENDR", "LaBraM", "CBraMod", "EEGPT")
METHODS = ("MIRepNet", "MIRepNet, pre-trained", "MIRepNet, fine-tuned", "CT-adaptTL", "Gram", "EEGNet, fine-tuned")
NETWORKS = [name for name in baseline_names() if name not in (*CLASSICAL, *METHODS)]
ANY_LABELS = [name for name in baseline_names() if name != "CCA"]  # whose labels are frequencies


def quick(name, **changes):
    """Baseline that trains for one epoch, reproducibly."""
    pipeline, short = baseline(name), {"max_epochs": 1, "device": "cpu", "random_state": 0, "n_updates": 1} | changes
    params = pipeline.get_params()
    found = {key: short[key.rsplit("__", 1)[-1]] for key in params if key.rsplit("__", 1)[-1] in short}
    if name in SMALL:
        found["networkclassifier__network_params"] = (pipeline[-1].network_params or {}) | SMALL[name]
    return pipeline.set_params(**found)


@pytest.fixture(scope="module")
def trials():
    rng = np.random.default_rng(0)
    y = np.repeat(["left", "right"], 8)
    X = rng.standard_normal((16, 4, 250)) * 10
    X[y == "left", 0] *= 3
    return EEGArray(X, NAMES, 250.0, make_domains(16, subject=7)), y


def test_the_names_are_those_of_the_comparison_and_of_the_methods():
    assert set(NETWORKS) == set(BASELINE_NETWORKS)
    assert set(CLASSICAL) == {"CSP+LDA", "FBCSP+LDA", "TS+LR", "FBTS+LR", "MDM", "ERP+LDA", "XDAWN+TS+LR", "CCA"}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_networks_are_those_of_the_table(name):
    entry, last = BASELINE_NETWORKS[name], baseline(name)[-1]
    assert (last.network, last.network_params or {}) == (entry.network, dict(entry.parameters))
    rates = [step.sfreq_out for _, step in baseline(name).steps if type(step).__name__ == "Resample"]
    assert rates == ([] if entry.sfreq is None else [entry.sfreq])


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", ANY_LABELS)
def test_every_baseline_takes_whatever_holds_eeg(name, trials):
    X, y = trials
    info = mne.create_info(list(NAMES), 250.0, "eeg")
    epochs = mne.EpochsArray(np.asarray(X) * 1e-6, info, verbose="error")
    fitted = quick(name).fit(X, y)
    expected = fitted.predict(X)
    assert set(expected) <= {"left", "right"}
    np.testing.assert_array_equal(fitted.predict(epochs), expected)
    np.testing.assert_array_equal(fitted.predict([epochs[i] for i in range(len(epochs))]), expected)
    if "LeftRightImagery" in pipeline_files()[name]["paradigms"] and name in CLASSICAL:  # a network sees one epoch
        assert np.mean(expected == y) > 0.8


@pytest.mark.parametrize("name", ["FBCSP+LDA", "MDM"])
def test_plain_arrays_are_told_their_rate(name, trials):
    X, y = trials
    plain = np.asarray(X)
    expected = baseline(name).fit(X, y).predict(X)
    np.testing.assert_array_equal(baseline(name, sfreq=250).fit(plain, y).predict(plain), expected)
    np.testing.assert_array_equal(baseline(name).fit(plain, y).predict(plain), expected)


def test_alignment_comes_first_and_sees_the_subjects(trials):
    X, y = trials
    pipeline = baseline("FBCSP+LDA", align=True)
    assert [name for name, _ in pipeline.steps][:2] == ["aseeg", "euclideanalignment"]
    aligned = pipeline.fit(X, y)[:2].transform(X)
    mean = np.mean([x @ x.T / x.shape[1] for x in np.asarray(aligned) - np.asarray(aligned).mean(2, keepdims=True)], 0)
    np.testing.assert_allclose(mean, np.eye(4), atol=0.01)


def test_networks_see_the_rate_they_are_made_for(trials):
    X, y = trials
    slow = EEGArray(np.asarray(X), NAMES, 125.0)
    fitted = quick("DeepConv").fit(slow, y)
    assert fitted[-1].n_times_in_ == 500 and fitted[-1].sfreq_in_ == 250


def test_networks_that_take_any_rate_get_that_of_the_data(trials):
    X, y = trials
    slow = EEGArray(np.asarray(X), NAMES, 125.0)
    fitted = quick("EEGNet").fit(slow, y)
    assert fitted[-1].sfreq_in_ == 125 and fitted[-1].module_.kernel_length == 62
    assert quick("EEGNet").fit(X, y)[-1].module_.kernel_length == 125


@pytest.mark.parametrize("name", [name for name in BASELINE_NETWORKS if name not in PRETRAINED])
def test_parameter_counts_of_the_comparison(name):
    rng = np.random.default_rng(0)
    X, y = EEGArray(rng.standard_normal((4, 16, 1000)), sfreq=250.0), np.arange(4) % 2
    module = quick(name).fit(X, y)[-1].module_
    count = sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
    entry = BASELINE_NETWORKS[name]
    assert count == entry.trainable
    if entry.reproduced:  # the others differ, or have no published count
        assert round(count / 1000, 1) == pytest.approx(entry.published / 1000, abs=0.051)


@pytest.mark.parametrize("name", PRETRAINED)
def test_networks_with_published_weights_say_when_they_start_without(name, trials):
    with pytest.warns(UserWarning, match="starts from scratch, without its published weights"):
        quick(name).fit(*trials)


def test_a_checkpoint_is_for_networks(tmp_path):
    (tmp_path / "biot.pt").touch()
    assert baseline("BIOT", checkpoint=tmp_path / "biot.pt")[-1].checkpoint == str(tmp_path / "biot.pt")
    assert baseline("MIRepNet", checkpoint="skeeg:mirepnet-small")[-1].checkpoint == "skeeg:mirepnet-small"
    with pytest.raises(ValueError, match="MDM takes none"):
        baseline("MDM", checkpoint="skeeg:mirepnet-small")
    with pytest.raises(ValueError, match="there is no file nowhere.pt for BIOT"):
        baseline("BIOT", checkpoint="nowhere.pt")


def test_settings_reach_the_network():
    tuned = baseline("EEGNet, fine-tuned", recipe="default", random_state=3)
    assert (tuned.estimator[-1].recipe, tuned.estimator[-1].random_state) == ("default", 3)
    assert baseline_recipe("EEGNet").n_updates == 600 and baseline_recipe("MDM") is None
    assert [type(step).__name__ for _, step in baseline("EEGNet", align=False).steps] == ["AsEEG", "NetworkClassifier"]


def test_a_rate_that_is_not_known_is_taken_with_a_warning():
    X, y = np.random.default_rng(0).normal(size=(20, 3, 500)), np.arange(20) % 2
    with pytest.warns(UserWarning, match="sfreq: X carries no sampling rate, taken to be 250 Hz"):
        assumed = baseline("FBTS+LR").fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        told = baseline("FBTS+LR", sfreq=250).fit(X, y)
    np.testing.assert_array_equal(assumed.predict_proba(X), told.predict_proba(X))


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(ValueError, match="'EEGnet' is not known. Did you mean 'EEGNet'"):
        baseline("EEGnet")
    with pytest.raises(ValueError, match=r"Did you mean 'CSP\+LDA'"):
        baseline("csp-lda")


# YAML


@pytest.mark.parametrize("name", baseline_names())
def test_moabb_reads_the_files(name):
    content = pipeline_files()[name]
    built = create_pipeline_from_config(content["pipeline"])
    made = baseline(name)
    assert str(built.get_params()) == str((made if hasattr(made, "steps") else made.estimator).get_params())
    assert content["description"] and content["citations"] and content["paradigms"]


def test_yaml_parameters_are_plain_and_not_those_moabb_takes_for_keras():
    for path in PIPELINE_FOLDER.glob("*.yml"):
        for step in yaml.safe_load(path.read_text())["pipeline"]:
            assert not {"optimizer", "callbacks"} & set(step.get("parameters", {})), path.name


# All baselines through all evaluations


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ANY_LABELS)
def test_every_baseline_through_every_evaluation(name, tmp_path):
    for evaluation in ("within-session", "within-subject", "cross-session", "cross-subject"):
        dataset = FakeDataset(
            ["left_hand", "right_hand"], n_subjects=2, n_sessions=1 + (evaluation == "cross-session"), n_runs=1, seed=3,
            duration=26, n_events=12, sfreq=100, channels=("C3", "Cz", "C4", "CPz"),
        )  # fmt: skip
        table = skeeg.bench.run(
            dataset, evaluation, {name: clone(quick(name))}, out=tmp_path, progress=False, jobs=0,
            subjects=None if evaluation == "cross-subject" else [1], paradigm=LeftRightImagery(tmin=0, tmax=1.1),
        )  # fmt: skip
        assert table.score.notna().all() and len(table) >= 1


# Steps


@parametrize_with_checks([AsEEG(), PadToMultiple(), TrialCovariances(), FilterBankCSP(((8, 12),), sfreq=250.0)])
def test_steps_pass_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


def test_filter_bank_csp_is_csp_on_each_band(trials):
    from skeeg.filtering import BandPass
    from skeeg.spatial import CSP

    X, y = trials
    bands = ((8, 12), (20, 28))
    parts = [CSP(n_components=2).fit_transform(BandPass(*band).fit_transform(X), y) for band in bands]
    features = FilterBankCSP(bands, n_components=2).fit(X, y).transform(X)
    np.testing.assert_allclose(features, np.concatenate(parts, axis=1), rtol=1e-9)


def test_steady_state_responses_are_told_apart_by_their_frequency():
    rng = np.random.default_rng(0)
    y, times = np.resize(["9.25", "11.25", "13.0"], 30), np.arange(500) / 250
    X = rng.normal(size=(30, 8, 500)) + 0.2 * np.sin(2 * np.pi * y.astype(float)[:, None, None] * times)
    X = EEGArray(X, sfreq=250.0)
    fitted = baseline("CCA").fit(X, y)
    assert fitted.score(X, y) == 1 and fitted[-1].frequencies_.tolist() == [11.25, 13.0, 9.25]
    phases = 2 * np.pi * 13.0 * times[:, None] * np.arange(1, 4)
    reference, other = np.hstack([np.sin(phases), np.cos(phases)]), CCA(1, max_iter=5000, tol=1e-12)
    one, two = other.fit(np.asarray(X[0]).T, reference).transform(np.asarray(X[0]).T, reference)
    correlation = np.corrcoef(one[:, 0], two[:, 0])[0, 1]
    assert fitted.decision_function(X)[0, 1] == pytest.approx(correlation, rel=1e-6)
    with pytest.raises(ValueError, match="frequencies: expected one in hertz for each label of"):
        baseline("CCA").fit(X, np.resize(["left", "right"], 30))
    named = SteadyStateCCA({"left": 9.25, "right": 13.0}).fit(X[y != "11.25"], np.resize(["left", "right"], 20))
    assert named.score(X[y != "11.25"], np.resize(["left", "right"], 20)) == 1


def test_canonical_correlation_takes_dependent_channels():
    """An average reference leaves one channel that the others determine."""
    X, y = np.random.default_rng(0).normal(size=(8, 5, 250)), np.resize(["8", "13"], 8)
    X -= X.mean(axis=1, keepdims=True)
    scores = [SteadyStateCCA(sfreq=250).fit(one, y).decision_function(one) for one in (X, X[:, :4])]
    np.testing.assert_allclose(*scores, atol=1e-8)
    for wrong in ({"frequencies": [8, 13]}, {"n_harmonics": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            SteadyStateCCA(sfreq=250, **wrong).fit(X, y)
