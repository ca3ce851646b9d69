import functools
import warnings

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression

from skeeg import EuclideanAlignment, load
from skeeg.array import EEGArray, make_domains
from skeeg.explain import attribute
from skeeg.methods.mirepnet import MIRepNet, MIRepNetClassifier, mirepnet_pipeline, mirepnet_preprocessing
from skeeg.methods.mirepnet.estimator import NETWORK_WEIGHT, START_WEIGHT
from skeeg.tangentspace import PENALTY, TangentReadout, fit_logistic
from skeeg.training import FineTunedClassifier, load_checkpoint
from skeeg.training.checkpoints import save_weights

NAMES, RATE, TIMES = ("C3", "Cz", "C4", "Pz"), 250.0, 150
SIZES = {
    "embed_dim": 16, "n_layers": 1, "n_heads": 2, "n_filters_time": 4, "n_filters": 8, "filter_length": 9,
    "pool_length": 30, "pool_stride": 15, "drop_prob": 0.0,
}  # fmt: skip
SMALL = {"network_params": SIZES, "max_epochs": 6, "learning_rate": 5e-3, "random_state": 0, "device": "cpu"}


def make_task(n_trials=24, seed=0, names=NAMES, subject="a", rate=RATE, mixing=0.0):
    """Trials whose class is the power of the first electrode against the last."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.resize(["left", "right"], n_trials))
    X = rng.normal(size=(n_trials, len(names), round(TIMES * rate / RATE)))
    X[y == "left", 0] *= 2.5
    X[y == "right", -1] *= 2.5
    head = np.eye(len(names)) + mixing * rng.normal(size=(len(names), len(names)))
    return EEGArray((head @ X).astype("float32"), names, rate, make_domains(n_trials, subject=subject)), y


def make_clf(**params):
    return MIRepNetClassifier(**{**SMALL, **params})


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    X, y = make_task(60, seed=9)
    make_clf(max_epochs=12).fit(X, np.where(y == "left", "left", "right")).save_checkpoint(path)
    return str(path)


def test_defaults_are_the_published_fine_tuning():
    recipe = MIRepNetClassifier()._recipe()
    assert (recipe.solver, recipe.learning_rate, recipe.weight_decay) == ("adam", 1e-3, 1e-6)
    assert (recipe.max_epochs, recipe.batch_size, recipe.schedule, recipe.warmup_share) == (10, 8, "cosine", 0)
    module, x = torch.nn.Linear(1, 1), torch.optim.lr_scheduler.CosineAnnealingLR
    optimizer = torch.optim.Adam(module.parameters(), lr=1.0)
    schedule = x(optimizer, T_max=10)
    for epoch in range(10):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(recipe.rate(epoch))
        optimizer.step()
        schedule.step()


def test_a_network_without_weights_knows_nothing_before_it_is_trained():
    X, y = make_task(12)
    clf = make_clf(checkpoint_classes=tuple(np.unique(y)), readout="both", max_epochs=1, sfreq=100).fit(X, y)
    assert clf.pretrained_ is None


def test_learns_and_gives_features():
    (X, y), (X_test, y_test) = make_task(60), make_task(40, seed=1)
    clf = make_clf(max_epochs=12).fit(X, y)
    assert clf.score(X_test, y_test) > 0.85
    assert clf.transform(X_test).shape == (40, 16) and clf.module_.n_chans == 45
    np.testing.assert_allclose(clf.predict_proba(X_test).sum(axis=1), 1)


def test_pretrained_head_is_kept_only_on_request(checkpoint, tmp_path):
    X, y = make_task(12, seed=2)
    source = MIRepNet(2, 45, n_times=TIMES, **SIZES)
    load_checkpoint(source, checkpoint, classes=("left", "right"))
    frozen = {"checkpoint": checkpoint, "strategy": "head", "learning_rate": 0.0}
    nameless = str(tmp_path / "weights.pth")  # it does not say what its outputs are
    save_weights(source, nameless, {})
    dropped = make_clf(**frozen | {"checkpoint": nameless}).fit(X, y)
    assert not torch.equal(dropped.module_.final_layer.weight, source.final_layer.weight)
    torch.testing.assert_close(dropped.module_.embedding.conv2.weight, source.embedding.conv2.weight)
    assert dropped.checkpoint_report_.endswith("2 missing: final_layer.weight, final_layer.bias")
    for asked in (frozen, frozen | {"checkpoint": nameless, "checkpoint_classes": ("left", "right")}):
        asked = make_clf(**asked).fit(X, y)
        torch.testing.assert_close(asked.module_.final_layer.weight, source.final_layer.weight)
        assert asked.score(*make_task(40, seed=5)) > 0.8  # without any training here
    with pytest.raises(ValueError, match="checkpoint_classes: got 3 labels"):
        make_clf(**frozen, checkpoint_classes=("a", "b", "c")).fit(X, y)
    with pytest.raises(ValueError, match="n_layers: got 2, the checkpoint has 1"):
        make_clf(checkpoint=checkpoint, network_params={"n_layers": 2}).fit(X, y)


@pytest.mark.parametrize("strategy", ["head", "probe", "lora", "full"])
def test_strategies_change_what_they_should(checkpoint, strategy):
    (X, y), (X_test, y_test) = make_task(24, seed=3), make_task(40, seed=4)
    clf = make_clf(checkpoint=checkpoint, strategy=strategy, max_epochs=10, learning_rate=0.01).fit(X, y)
    assert clf.score(X_test, y_test) > 0.75
    start = MIRepNet(2, 45, n_times=TIMES, **SIZES)
    load_checkpoint(start, checkpoint)
    same = {name: torch.equal(value, clf.module_.state_dict()[name]) for name, value in start.named_parameters()
            if not name.startswith("final_layer") and "chan_embed" not in name}  # fmt: skip
    assert all(same.values()) == (strategy in ("head", "probe"))
    assert same["transformer.0.0.fn.0.weight"] == (strategy != "full")
    assert clf.transform(X_test).shape == (40, 16)


def test_any_montage_and_rate_by_name():
    for names, rate in ((("C3", "C4"), 250), (("fc3", "FC4", "T3", "Cz", "O1", "Fp1"), 125), (NAMES, 500)):
        X, y = make_task(16, names=names, rate=rate)
        clf = make_clf(max_epochs=1).fit(X, y)
        assert clf.module_.n_chans == 45 and clf.network_spec_["n_times"] == TIMES
        assert clf.predict(X).shape == (16,)
    clf = make_clf(max_epochs=1, template=None).fit(X, y)
    assert clf.module_.n_chans == 4
    with pytest.raises(ValueError, match="ch_names: X carries no channel names"):
        make_clf().fit(np.asarray(X), y)
    with pytest.raises(ValueError, match="unknown electrode 'Q7'"):
        make_clf().fit(EEGArray(np.asarray(X), ("C3", "Cz", "C4", "Q7")), y)


def test_weights_without_a_rate_of_the_trials_warn(checkpoint):
    X, y = make_task(16)
    with pytest.warns(UserWarning, match="sfreq: the rate is unknown"):
        make_clf(checkpoint=checkpoint, max_epochs=1).fit(X.like(X, sfreq=None), y)


def test_classifier_does_what_the_single_steps_do():
    X, y = make_task(16, rate=125, mixing=0.5)
    whole = mirepnet_pipeline(random_state=0).set_params(**{f"mirepnet__{k}": v for k, v in SMALL.items()})
    singly = mirepnet_preprocessing()
    alone = make_clf(align=None, template=None, resample=None).fit(singly.fit_transform(X), y)
    np.testing.assert_allclose(whole.fit(X, y).predict_proba(X), alone.predict_proba(singly.transform(X)), atol=1e-5)
    other, _ = make_task(16, seed=7, subject="b", rate=125, mixing=0.5)
    np.testing.assert_allclose(whole.predict_proba(other), alone.predict_proba(singly.transform(other)), atol=1e-5)


def test_alignment_helps_a_new_subject():
    X = np.concatenate([make_task(24, seed=i, subject=str(i), mixing=0.4)[0] for i in range(4)])
    y = np.concatenate([make_task(24, seed=i)[1] for i in range(4)])
    new, labels = make_task(60, seed=10, subject="new", mixing=0.4)
    clf = make_clf(max_epochs=12).fit(X, y)
    by_block, one_by_one = (
        clf.predict_proba(new),
        np.concatenate([clf.predict_proba(new[i : i + 1]) for i in range(60)]),
    )
    assert np.mean(clf.classes_[by_block.argmax(1)] == labels) > 0.75
    assert not np.allclose(by_block, one_by_one)  # too few for a reference of their own
    calibrated = clone(clf).set_params(align="calibration").fit(X, y, X_target_unlabeled=new)
    np.testing.assert_allclose(calibrated.predict_proba(new), by_block, atol=1e-4)
    np.testing.assert_allclose(calibrated.predict_proba(new[3:4]), by_block[3:4], atol=1e-4)


def test_single_trials_online():
    (X, y), (new, _) = make_task(24, subject="old"), make_task(12, seed=10, subject="new", mixing=0.6)
    clf = make_clf(align="running", max_epochs=1).fit(X, y)
    at_once = clf.predict_proba(new)
    one_by_one = []
    for i in range(12):
        one_by_one.append(clf.predict_proba(new[i : i + 1]))
        clf.update(new[i : i + 1])
    np.testing.assert_allclose(np.concatenate(one_by_one), at_once, atol=1e-5)
    with pytest.raises(ValueError, match="align: got 'own', update"):
        make_clf(max_epochs=1).fit(X, y).update(X)


def test_block_alignment_is_the_published_one():
    X, y = make_task(24, mixing=0.6)
    clf = make_clf(align="block", max_epochs=2).fit(X[:12], y[:12])
    wanted = make_clf(align=None, max_epochs=2).fit(EuclideanAlignment().fit_transform(X[:12]), y[:12])
    np.testing.assert_allclose(
        clf.predict_proba(X[12:]), wanted.predict_proba(EuclideanAlignment().fit_transform(X[12:])), atol=1e-5
    )
    known = clone(clf).set_params(align="own").fit(X[:12], y[:12])
    np.testing.assert_allclose(clf.predict_proba(X[12:14]), known.predict_proba(X[12:14]), atol=1e-6)


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"align": "always"}, "align: got 'always'"),
        ({"resample": -1}, "resample: got -1"),
        ({"template": "mirepnet46"}, "template: expected one of"),
        ({"strategy": "all"}, "strategy: got 'all'"),
        ({"checkpoint": "nowhere.pth"}, "checkpoint: there is no file"),
        ({"readout": "both", "resample": None}, "sfreq: readout='both' .* pass sfreq="),
        ({"readout": "pretrained"}, "readout: 'pretrained' needs a checkpoint that knows all of"),
        ({"sfreq": 14}, "sfreq: got 14 Hz, expected hertz above 24"),
    ],
)
def test_errors_name_the_argument(params, match):
    X, y = make_task(8)
    X = X.like(X, sfreq=params.get("sfreq", X.sfreq))
    X = X.like(np.asarray(X), sfreq=None) if "resample" in params else X
    with pytest.raises((ValueError, FileNotFoundError), match=match):
        make_clf(**params).fit(X, y)


def test_target_of_another_montage_is_named():
    (X, y), (other, _) = make_task(8), make_task(4, names=("C3", "Cz"))
    with pytest.raises(ValueError, match="X_target_unlabeled: .* features"):
        make_clf().fit(X, y, X_target_unlabeled=other)


def test_saved_and_loaded(tmp_path):
    X, y = make_task(12)
    clf = make_clf(max_epochs=1).fit(X, y)
    clf.save(tmp_path / "clf.safetensors")
    np.testing.assert_array_equal(load(tmp_path / "clf.safetensors").predict_proba(X), clf.predict_proba(X))


def test_both_readouts_add_their_logits(checkpoint, tmp_path):
    names = ("C3", "Cz", "C4", "P3")  # P3 is alone: nothing is mirrored
    (X, y), (X_test, _) = make_task(30, names=names), make_task(20, seed=1, names=names, subject="b", mixing=0.4)
    both = make_clf(checkpoint=checkpoint).fit(X, y)
    network = make_clf(checkpoint=checkpoint, readout="network").fit(X, y)
    assert network.readout_ is None and make_clf(max_epochs=1).fit(X, y).readout_ is None  # published without weights
    with pytest.warns(UserWarning, match="explained is the network"):
        shown = attribute(both, X_test[:2], X_test[2:4], method="integrated_gradients", on_error="ignore")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same = attribute(
            both.set_params(readout="network"),
            X_test[:2],
            X_test[2:4],
            method="integrated_gradients",
            on_error="ignore",
        )
    np.testing.assert_allclose(shown.values, same.values)
    both.set_params(readout="both")
    before = clone(network).set_params(strategy="head", learning_rate=0.0).fit(X, y)
    logits = NETWORK_WEIGHT * np.log(network.predict_proba(X_test)) + both.readout_.logits(X_test)
    logits += START_WEIGHT * np.log(before.predict_proba(X_test))
    np.testing.assert_allclose(both.predict_proba(X_test), softmax(logits, axis=1), atol=1e-5)
    both.save(tmp_path / "clf.safetensors")
    np.testing.assert_array_equal(load(tmp_path / "clf.safetensors").predict_proba(X_test), both.predict_proba(X_test))


def test_a_mirror_image_is_of_the_other_side(checkpoint, tmp_path, monkeypatch):
    names, sides = ("C3", "C4", "Cz", "P4", "P3"), [1, 0, 2, 4, 3]
    (X, y), (own, labels) = (make_task(24, seed=seed, names=names, mixing=0.1) for seed in (0, 1))
    symmetric = functools.partial(TangentReadout, penalties=(PENALTY, None))  # as it is, a regression drawn to it
    monkeypatch.setattr("skeeg.methods.mirepnet.estimator.TangentReadout", symmetric)
    clf = make_clf(checkpoint=checkpoint, align="block", max_epochs=2).fit(X, y)
    for _ in range(2):
        found, mirrored = (clf.predict_proba(own.like(np.asarray(own)[:, order])) for order in (range(5), sides))
        np.testing.assert_allclose(mirrored[:, ::-1], found, atol=0.03)
        assert np.ptp(found[:, 0]) > 0.3
        clf.partial_fit(own, labels)
    clf.save(tmp_path / "clf.safetensors")
    np.testing.assert_array_equal(load(tmp_path / "clf.safetensors").predict_proba(own), clf.predict_proba(own))


@pytest.mark.parametrize(
    ("params", "names", "classes"),
    [
        ({}, ("C3", "Cz", "C4", "P3"), ("left", "right")),
        ({}, NAMES, ("feet", "rest")),
        ({"readout": "network"}, NAMES, ("left", "right")),  # as published
    ],
)
def test_nothing_is_mirrored_without_counterparts(checkpoint, params, names, classes):
    X, y = make_task(12, names=names)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        clf = make_clf(checkpoint=checkpoint, max_epochs=1, **params).fit(X, np.where(y == "left", *classes))
    assert clf.augmentation is None and (params or clf.mirror_ is None)
    assert clf.readout_ is None or clf.readout_.mirror is None


def test_rows_of_the_weights_follow_the_electrodes():
    names, sides = ("C3", "C4", "Cz", "P4", "P3"), [1, 0, 2, 4, 3]
    X, y = make_task(24, names=names, mixing=0.1)
    readout = TangentReadout("block", "subject", (np.array(sides), np.array([1, 0])))
    readout.fit(X, np.arange(24) % 2, np.zeros((24, 2)))
    found, mirrored = (readout._transform(X.like(np.asarray(X)[:, order])) for order in (range(5), sides))
    rows = readout._mirror_weights()[0]
    assert rows[-1] == found.shape[1]
    assert np.corrcoef(found[:, rows[:-1]].ravel(), mirrored.ravel())[0, 1] > 0.99
    assert np.corrcoef(found.ravel(), mirrored.ravel())[0, 1] < 0.9


def test_readout_tells_the_halves_of_a_trial_apart():
    rng, y = np.random.default_rng(0), np.resize(["feet", "rest"], 80)
    X = EEGArray(rng.normal(size=(80, len(NAMES), 500)).astype("float32"), NAMES, 125.0)
    X[y == "feet", 0, :250] *= 2.5
    X[y == "rest", 0, 250:] *= 2.5
    clf = make_clf(readout="both", max_epochs=1).fit(X[:40], y[:40])
    assert np.mean(clf.classes_[clf.readout_.logits(X[40:]).argmax(axis=1)] == y[40:]) > 0.9


@pytest.mark.parametrize("align", ["own", "block", "calibration", "source", "running", None])
def test_readout_follows_the_alignment(checkpoint, align):
    (X, y), (new, _) = make_task(24), make_task(12, seed=10, subject="new", mixing=0.6)
    clf = make_clf(checkpoint=checkpoint, align=align, max_epochs=1).fit(X, y, X_target_unlabeled=new)
    at_once, one_by_one = clf.readout_.logits(new), []
    for i in range(12):
        one_by_one.append(clf.readout_.logits(new[i : i + 1]))
        if align == "running":
            clf.update(new[i : i + 1])
    np.testing.assert_allclose(np.concatenate(one_by_one), at_once, atol=1e-4)


def test_regression_is_that_of_scikit_learn_and_is_drawn_to_its_start():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 5)), rng.integers(0, 2, 40)
    plain = {"penalty": 0.1, "intercept": 0.0}
    weights = fit_logistic(X, y, np.zeros((6, 2)), **plain)
    wanted = LogisticRegression(C=2 / (0.1 * 40), tol=1e-8).fit(X, y)
    np.testing.assert_allclose(weights[:-1, 1] - weights[:-1, 0], wanted.coef_[0], atol=1e-3)
    np.testing.assert_allclose(weights[-1, 1] - weights[-1, 0], wanted.intercept_[0], atol=1e-3)
    start = rng.normal(size=(6, 2))
    np.testing.assert_allclose(fit_logistic(X, y, start, penalty=1e6)[:-1], start[:-1], atol=1e-4)
    by_offset = fit_logistic(X, y, np.zeros((6, 2)), X @ start[:-1], **plain)
    np.testing.assert_allclose(by_offset[:-1] + start[:-1], fit_logistic(X, y, start, **plain)[:-1], atol=1e-3)
    assert abs(fit_logistic(X, y * 0, np.zeros((6, 2)), penalty=1e6, intercept=1e6)).max() < 1e-3


def test_regression_is_drawn_to_symmetry(monkeypatch):
    rng, rows = np.random.default_rng(0), np.array([1, 0, 2, 4, 3, 5])  # the last is the intercept
    X, y = rng.normal(size=(40, 5)), rng.integers(0, 2, 40)
    mirror, asymmetry = (rows, np.array([1, 0])), []
    for penalty in (PENALTY, 0.1, None):
        weights = fit_logistic(X, y, np.zeros((6, 2)), mirror=mirror, apart=penalty)
        asymmetry.append(abs(weights - weights[rows][:, ::-1]).max())
    assert asymmetry[0] > asymmetry[1] > 0.01 > 1e-3 > asymmetry[2]
    both, labels = np.concatenate([X, X[:, rows[:-1]]]), np.concatenate([y, 1 - y])  # as with mirror images
    np.testing.assert_allclose(weights, fit_logistic(both, labels, np.zeros((6, 2))), atol=2e-3)


def test_the_network_as_pretrained_needs_no_label(checkpoint, tmp_path):
    names = ("C3", "Cz", "C4")
    (X, y), (own, labels) = make_task(24, names=names), make_task(24, seed=1, names=names, subject="b", mixing=0.2)
    clf = make_clf(checkpoint=checkpoint, readout="pretrained").fit(X, y)
    found = clf.predict_proba(own)
    assert clf.score(own, labels) > 0.7 and clf.history_ == []
    wrong = make_clf(checkpoint=checkpoint, readout="pretrained").fit(X, np.where(y == "left", "right", "left"))
    np.testing.assert_array_equal(wrong.predict_proba(own), found)
    np.testing.assert_array_equal(wrong.partial_fit(X, y).predict_proba(own), found)
    for readout in ("both", "network"):
        later = make_clf(checkpoint=checkpoint, max_epochs=1, readout=readout).fit(X, y)
        np.testing.assert_array_equal(later.set_params(readout="pretrained").predict_proba(own), found)
    clf.save(tmp_path / "clf.safetensors")
    np.testing.assert_array_equal(load(tmp_path / "clf.safetensors").predict_proba(own), found)
    with pytest.warns(UserWarning, match="'feet' start at random"), pytest.raises(ValueError, match="it knows .'left'"):
        make_clf(checkpoint=checkpoint, readout="pretrained").fit(X, np.where(y == "left", "feet", y))


def test_weights_that_lack_a_class_count_by_their_fine_tuning_alone(checkpoint):
    X, y = make_task(24)
    with pytest.warns(UserWarning, match="those for 'feet' start at random"):
        both = make_clf(checkpoint=checkpoint, max_epochs=1).fit(X, np.where(y == "left", "feet", y))
    assert both.pretrained_ is None and both.predict_proba(X).shape == (24, 2)


def test_fine_tuned_on_a_target_subject(checkpoint):
    (X, y), (own, labels), (rest, wanted) = (make_task(30, seed=i, subject=s) for i, s in enumerate("abb"))
    swapped = np.where(labels == "left", "right", "left")
    model = FineTunedClassifier(make_clf(checkpoint=checkpoint, max_epochs=12), n_updates=40, learning_rate=1.0)
    model.fit(X, y, X_target_labeled=own, y_target_labeled=swapped)
    assert model.score(rest, wanted) < 0.3
    both = model.estimator_
    aligners = [both.steps_.named_steps["align"], *(one for space in both.readout_.spaces for one in space.alignments_)]
    assert all([n_trials for *_, n_trials in one.calibration_] == [30] for one in aligners)
    assert np.mean(both.classes_[both.readout_.logits(rest).argmax(axis=1)] == wanted) < 0.4
    with pytest.raises(ValueError, match="y: .'feet'. are not among the classes at fit"):
        both.partial_fit(own, np.full(30, "feet"))


def test_a_failed_partial_fit_changes_nothing(checkpoint):
    (X, y), (own, labels) = (make_task(24, seed=i, subject=s) for i, s in enumerate("ab"))
    clf = make_clf(checkpoint=checkpoint, align="calibration", max_epochs=1).fit(X, y, X_target_unlabeled=own[:8])
    before, flat = clf.predict_proba(own), np.asarray(own).copy()
    flat[:, 1] = 1.0
    with pytest.raises(ValueError, match="channel Cz never changes"):
        clf.partial_fit(own.like(flat), labels)
    np.testing.assert_array_equal(clf.predict_proba(own), before)
