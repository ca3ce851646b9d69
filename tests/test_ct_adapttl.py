import copy
import os
import pathlib
import warnings

import numpy as np
import pytest
import torch
from moabb.datasets.fake import FakeDataset
from moabb.evaluations import CrossSubjectEvaluation
from moabb.evaluations.protocols import CrossSubjectMode
from moabb.paradigms import LeftRightImagery
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skeeg import Calibration
from skeeg.array import EEGArray, make_domains
from skeeg.methods.ct_adapttl import CTAdaptTLClassifier
from skeeg.testing import check_eeg_estimator

DATA = pathlib.Path(os.environ.get("SKEEG_DATA", "../shared/data")) / "checkpoints" / "ct_adapttl_gist"
SMALL = {
    "network_params": {"n_filters": 8, "filter_length": 5, "pool_length": 10, "pool_stride": 5, "n_hidden": 16},
    "pretrain_params": {"n_folds": 2, "learning_rate": 5e-3, "batch_size": 32, "schedule": None, "max_epochs": 25},
    "adapt_params": {
        "learning_rate": 1e-2, "solver": "sgd", "momentum": 0.4, "batch_size": 40, "norm": "train", "share": 1.0,
        "max_epochs": 60,
    },
    "specific_params": {"learning_rate": 5e-3},
    "max_epochs": 25, "random_state": 0, "device": "cpu",
}  # fmt: skip
CHANNELS, TIMES = 4, 128


def make_task(n_subjects, n_trials=24, gain=1.0, seed=0, mixing=0.3, channel=0):
    """Trials whose class is the power of one source, mixed differently in every head."""
    rng = np.random.default_rng(seed)
    X, y = [], []
    for _ in range(n_subjects):
        labels = rng.permutation(np.resize(["left", "right"], n_trials))
        sources = rng.normal(size=(n_trials, CHANNELS, TIMES))
        sources[labels == "left", channel] *= 2.5
        head = np.eye(CHANNELS) + mixing * rng.normal(size=(CHANNELS, CHANNELS))
        X.append((gain * head @ sources).astype("float32"))
        y.append(labels)
    return X, y


def make_clf(**params):
    return CTAdaptTLClassifier(**SMALL).set_params(**params)


@pytest.fixture(scope="module")
def pretrained():
    X, y = make_task(4)
    return make_clf().pretrain(X, y)


def test_pretrained_network_decodes_new_subjects(pretrained):
    X, y = make_task(1, 60, seed=5)
    assert pretrained.score(X[0], y[0]) > 0.8
    assert len(pretrained.fold_losses_) == 2 and pretrained.best_fold_ == np.argmin(pretrained.fold_losses_)
    assert len(pretrained.fold_histories_[0]) <= 25


def test_adaptation_learns_what_differs(pretrained):
    X, y = make_task(1, 120, seed=6)
    turned = np.where(y[0] == "left", "right", "left")  # the target task is the opposite of the source
    alone = copy.deepcopy(pretrained).set_params(mode="independent").fit(X[0][:40], turned[:40])
    adapted = copy.deepcopy(pretrained).set_params(
        max_epochs=60, adapt_params__batch_size=8, adapt_params__learning_rate=0.05, adapt_params__schedule=None
    )
    adapted.fit(X[0][:40], turned[:40])
    assert alone.score(X[0][40:], turned[40:]) < 0.3
    assert adapted.score(X[0][40:], turned[40:]) > 0.7
    for name, value in adapted.pretrained_.items():  # adapting leaves the start for the next subject as it was
        np.testing.assert_array_equal(value, pretrained.pretrained_[name])


@pytest.mark.parametrize("norm", ["train", "target"])
def test_double_precision_predicts_each_trial_alike_in_any_batch(norm):
    X, y = make_task(2, seed=8)
    clf = make_clf(precision="float64", adapt_params__norm=norm, max_epochs=5).pretrain(X[:1], y[:1]).fit(X[1], y[1])
    assert {value.dtype for value in clf.module_.state_dict().values()} == {torch.float64, torch.int64}
    together = clf.predict_proba(X[0])
    order = np.random.default_rng(0).permutation(len(X[0]))
    np.testing.assert_allclose(clf.predict_proba(X[0][order]), together[order], rtol=1e-13)
    np.testing.assert_allclose(np.vstack([clf.predict_proba(trial[None]) for trial in X[0]]), together, rtol=1e-13)
    whitened = torch.from_numpy(np.asarray(clf.steps_.transform(X[0].astype(float))))
    with torch.no_grad():
        np.testing.assert_allclose(clf.module_(whitened).softmax(1), together, rtol=1e-13)
    single = make_clf(adapt_params__norm=norm, max_epochs=5).pretrain(X[:1], y[:1]).fit(X[1], y[1])
    np.testing.assert_allclose(single.predict_proba(X[0]), together, atol=1e-3)
    with pytest.raises(ValueError, match="precision: got 'half'"):
        make_clf(precision="half").fit(X[0], y[0])


def test_independent_does_not_learn_from_labels(pretrained):
    X, y = make_task(1, seed=7)
    fits = [copy.deepcopy(pretrained).set_params(mode="independent").fit(X[0], labels) for labels in (y[0], y[0][::-1])]
    np.testing.assert_array_equal(*(fit.predict_proba(X[0]) for fit in fits))
    state = fits[0].module_.state_dict()
    assert all(np.array_equal(state[name], value) for name, value in pretrained.pretrained_.items())


def test_specific_knows_nothing_of_the_source(pretrained):
    X, y = make_task(1, 60, seed=8)
    with_source = copy.deepcopy(pretrained).set_params(mode="specific").fit(X[0], y[0])
    without = make_clf(mode="specific").fit(X[0], y[0])
    np.testing.assert_array_equal(with_source.predict_proba(X[0]), without.predict_proba(X[0]))
    assert without.best_fold_ == -1 and without.score(X[0], y[0]) > 0.7


def test_fit_metadata_equals_pretrain_then_fit():
    (Xs, ys), (Xt, yt) = make_task(3), make_task(1, 20, seed=9)
    subjects = np.repeat([1, 2, 3], 24)
    by_metadata = make_clf().fit(
        np.concatenate(Xs), np.concatenate(ys), subjects=subjects, X_target_labeled=Xt[0], y_target_labeled=yt[0]
    )
    in_two_steps = make_clf().pretrain(np.concatenate(Xs), np.concatenate(ys), subjects=subjects).fit(Xt[0], yt[0])
    np.testing.assert_array_equal(by_metadata.predict_proba(Xt[0]), in_two_steps.predict_proba(Xt[0]))
    assert not hasattr(by_metadata, "pretrained_")  # the next fit is not to be mistaken for a second subject


def test_memory_spares_the_second_pretraining(tmp_path):
    (Xs, ys), (Xt, yt) = make_task(2), make_task(1, 20, seed=9)
    clf = make_clf(memory=str(tmp_path / "kept"), max_epochs=2)
    first = clone(clf).pretrain(Xs, ys).fit(Xt[0], yt[0])
    (file,) = (tmp_path / "kept").iterdir()
    written = file.stat().st_mtime_ns
    second = clone(clf).pretrain(Xs, ys).fit(Xt[0], yt[0])
    assert file.stat().st_mtime_ns == written
    np.testing.assert_array_equal(first.predict_proba(Xt[0]), second.predict_proba(Xt[0]))
    assert first.fold_histories_ == second.fold_histories_
    damaged = file.read_bytes()[:-100]
    file.write_bytes(damaged)  # a disk that was full: it is computed again
    third = clone(clf).pretrain(Xs, ys).fit(Xt[0], yt[0])
    np.testing.assert_array_equal(first.predict_proba(Xt[0]), third.predict_proba(Xt[0]))
    written = file.stat().st_mtime_ns
    clone(clf).pretrain(Xs, ys)
    assert file.stat().st_mtime_ns == written  # and what was written is whole
    for change in ({"pretrain_params__learning_rate": 1e-2}, {"random_state": 1}, {"network_params__n_filters": 4}):
        clone(clf).set_params(**change).pretrain(Xs, ys)
    clone(clf).pretrain(Xs[::-1], ys[::-1])
    assert len(list((tmp_path / "kept").iterdir())) == 5


def test_list_of_recordings_equals_subjects():
    X, y = make_task(3)
    X = [EEGArray(x, ("C3", "Cz", "C4", "Pz"), 128) for x in X]
    one = make_clf(max_epochs=2).pretrain(X, y)
    other = make_clf(max_epochs=2).pretrain(np.concatenate(X), np.concatenate(y), np.repeat(["0", "1", "2"], 24))
    np.testing.assert_array_equal(one.fold_losses_, other.fold_losses_)
    assert one.ch_names_in_ == ("C3", "Cz", "C4", "Pz")


def test_subjects_may_come_with_the_trials():
    X, y = (np.concatenate(part) for part in make_task(3))
    carried = EEGArray(X, domains=make_domains(72, subject=np.repeat([1, 2, 3], 24)))
    one = make_clf(max_epochs=2).fit(carried, y)
    other = make_clf(max_epochs=2).fit(X, y, subjects=np.repeat([1, 2, 3], 24))
    np.testing.assert_array_equal(one.fold_losses_, other.fold_losses_)


@pytest.mark.parametrize(("alignment", "invariant"), [("euclidean", True), ("riemannian", True), (None, False)])
def test_amplitude_of_the_recording(alignment, invariant):
    """Forty-fold another unit, as between the two published tasks, changes nothing unless raw is asked for."""
    (Xs, ys), (Xt, yt) = make_task(3), make_task(1, 40, seed=10)
    clf = make_clf(alignment=alignment, max_epochs=10).pretrain(Xs, ys)
    found = [copy.deepcopy(clf).fit(gain * Xt[0][:20], yt[0][:20]).predict_proba(gain * Xt[0][20:]) for gain in (1, 40)]
    assert np.allclose(*found, atol=1e-3) == invariant


def test_on_unseen_own_uses_the_block(pretrained):
    (X, _), source = make_task(1, 30, seed=11, mixing=1.0), make_task(4)
    own = make_clf(on_unseen="own").pretrain(*source)
    assert not np.allclose(own.predict_proba(X[0]), pretrained.predict_proba(X[0]))
    np.testing.assert_array_equal(own.predict_proba(X[0][:3]), pretrained.predict_proba(X[0][:3]))  # too few


def state_after(pretrained, **params):
    X, y = make_task(1, 20, seed=12, gain=3.0)
    clf = copy.deepcopy(pretrained).set_params(**params).fit(X[0], y[0])
    return {name: value.numpy() for name, value in clf.module_.state_dict().items()}, clf


def moved(pretrained, state, layer):
    return any(not np.array_equal(state[n], v) for n, v in pretrained.pretrained_.items() if n in (f"{layer}.weight",))


@pytest.mark.parametrize("layers", ["all", ("hidden", "final_layer"), "norm"])
def test_only_the_named_layers_adapt(pretrained, layers):
    state, clf = state_after(pretrained, adapt_params__layers=layers)
    names = ("temporal", "spatial", "norm", "hidden", "final_layer")
    assert [name for name in names if moved(pretrained, state, name)] == [
        name for name in names if layers == "all" or name in layers
    ]
    assert all(p.requires_grad for p in clf.module_.parameters())


def test_layer_decay_slows_the_early_layers(pretrained):
    def step(decay, layer):
        state, _ = state_after(pretrained, adapt_params__layer_decay=decay, max_epochs=1, network_params__drop_prob=0.0)
        return np.linalg.norm(state[f"{layer}.weight"] - pretrained.pretrained_[f"{layer}.weight"])

    assert step(0.1, "final_layer") == pytest.approx(step(1.0, "final_layer"), rel=1e-4)
    assert step(0.1, "hidden") == pytest.approx(0.1 * step(1.0, "hidden"), rel=1e-2)
    assert step(0.1, "spatial") == pytest.approx(1e-3 * step(1.0, "spatial"), rel=5e-2)


def test_part_of_the_change_is_kept(pretrained):
    before = pretrained.pretrained_["spatial.weight"]
    none, half, whole = (state_after(pretrained, adapt_params__share=s)[0]["spatial.weight"] for s in (0.0, 0.5, 1.0))
    np.testing.assert_array_equal(none, before)
    np.testing.assert_allclose(half, (before + whole) / 2, atol=1e-6)
    assert np.abs(whole - before).max() > 1e-4


def test_statistics_of_the_normalisation(pretrained):
    before = pretrained.pretrained_["norm.running_var"]
    states = {mode: state_after(pretrained, adapt_params__norm=mode)[0] for mode in ("train", "source", "target")}
    np.testing.assert_array_equal(states["source"]["norm.running_var"], before)
    assert not np.array_equal(states["train"]["norm.running_var"], before)
    X, y = make_task(1, 20, seed=12, gain=3.0)
    clf = copy.deepcopy(pretrained).set_params(mode="independent").fit(X[0], y[0])
    with torch.no_grad():
        filtered = clf.module_.front(torch.from_numpy(np.asarray(clf.steps_.transform(X[0]))))
    np.testing.assert_allclose(states["target"]["norm.running_mean"], filtered.mean(dim=(0, 2)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(states["target"]["norm.running_var"], filtered.var(dim=(0, 2)), rtol=1e-4)


def test_unlabelled_target_trials_serve_scaling_and_normalisation(pretrained):
    (Xs, ys), (Xt, _) = make_task(2), make_task(1, 20, seed=13, mixing=1.0)
    args = (np.concatenate(Xs), np.concatenate(ys), np.repeat([1, 2], 24))
    plain = make_clf(max_epochs=2).fit(*args)
    aware = make_clf(max_epochs=2, adapt_params__norm="target").fit(*args, X_target_unlabeled=Xt[0])
    np.testing.assert_array_equal(plain.fold_losses_, aware.fold_losses_)  # the source is learned alike
    assert not np.allclose(plain.steps_.transform(Xt[0]), aware.steps_.transform(Xt[0]))
    assert not np.array_equal(plain.module_.norm.running_var, aware.module_.norm.running_var)


def test_early_stopping_of_the_adaptation(pretrained):
    X, y = make_task(1, 40, seed=14)
    clf = copy.deepcopy(pretrained).set_params(
        max_epochs=200, adapt_params__max_epochs=200, adapt_params__validation_size=0.25, adapt_params__patience=1,
        adapt_params__min_delta=0.05
    )  # fmt: skip
    clf.fit(X[0], y[0])
    assert clf.n_iter_ < 200 and "valid_loss" in clf.history_[0]


def test_validation_by_subject_holds_subjects_out():
    X, y = make_task(3)
    by_subject, by_trial = (
        make_clf(max_epochs=1, pretrain_params__n_folds=6, pretrain_params__validation=v).pretrain(X, y)
        for v in ("subject", "trial")
    )
    assert len(by_subject.fold_losses_) == 3 and len(by_trial.fold_losses_) == 6


def test_new_labels_get_a_new_head(pretrained):
    X, y = make_task(1, 30, seed=15)
    other = np.where(y[0] == "left", "feet", "tongue")
    clf = copy.deepcopy(pretrained).fit(X[0], other)
    assert clf.classes_.tolist() == ["feet", "tongue"]
    half = copy.deepcopy(pretrained).set_params(adapt_params__share=0.5).fit(X[0], other)
    np.testing.assert_array_equal(half.predict_proba(X[0]), clf.predict_proba(X[0]))  # nothing to interpolate with
    with pytest.raises(ValueError, match="checkpoint_classes: mode='independent' needs all of"):
        copy.deepcopy(pretrained).set_params(mode="independent").fit(X[0], other)


def test_fewer_labels_keep_their_outputs():
    X, y = make_task(2, 30)
    three = [np.where(np.arange(30) % 3 == 0, "feet", labels) for labels in y]
    clf = make_clf(max_epochs=3).pretrain(X, three)
    state = clf.pretrained_["final_layer.weight"]
    two = copy.deepcopy(clf).set_params(mode="independent").fit(X[0], y[0])
    rows = [clf.classes_.tolist().index(label) for label in two.classes_]
    np.testing.assert_array_equal(two.module_.final_layer.weight.detach(), state[rows])


def test_checkpoint_of_ones_own(pretrained, tmp_path):
    path = str(tmp_path / "net.safetensors")
    pretrained.save_checkpoint(path)
    X, y = make_task(1, 20, seed=16)
    params = {"checkpoint": path, "checkpoint_classes": ("left", "right")}
    by_file, by_call = make_clf(**params).fit(X[0], y[0]), copy.deepcopy(pretrained).fit(X[0], y[0])
    np.testing.assert_array_equal(by_file.predict_proba(X[0]), by_call.predict_proba(X[0]))
    assert by_file.checkpoint_report_ == "12 tensors matched"
    by_name = make_clf(checkpoint=path).fit(X[0], y[0])  # the file says which label each output has
    np.testing.assert_array_equal(by_name.predict_proba(X[0]), by_file.predict_proba(X[0]))
    other = make_clf(checkpoint=path).fit(X[0], np.where(y[0] == "left", "feet", y[0]))
    assert other.checkpoint_report_ == "12 tensors matched" and "feet" in other.classes_
    with pytest.raises(ValueError, match="checkpoint_classes: got 3 labels for a checkpoint with 2 outputs"):
        make_clf(checkpoint=path, checkpoint_classes=("a", "b", "c")).fit(X[0], y[0])
    with pytest.raises(ValueError, match="X: 3 channels of 128 samples do not fit"):
        make_clf(**params).fit(X[0][:, :3], y[0])


@pytest.mark.parametrize("name", ["pretrained_fold3", "pretrained_fold5", "adapted_subject1", "adapted_subject3"])
def test_released_checkpoints(name):
    path = DATA / f"{name}.pt"
    if not path.is_file():
        pytest.skip(f"the released checkpoints are not at {DATA} (SKEEG_DATA)")
    b, c, t = np.ogrid[:2, :20, :1500]
    X = np.sin(0.01 * (b + 1) * (t + 1) + 0.5 * c).astype("float32")
    clf = CTAdaptTLClassifier(
        "independent", str(path), ("right_hand", "left_hand"), "published", None, device="cpu", random_state=0
    ).fit(X, ["left_hand", "right_hand"])
    assert clf.checkpoint_report_ == "12 tensors matched"
    state = torch.load(path, map_location="cpu", weights_only=True)
    assert torch.equal(clf.module_.hidden.weight, state["fc.0.weight"])
    if name == "pretrained_fold3":
        expected = [[-1.6058546304702759, -0.2240414172410965], [-2.5300545692443848, -0.08300632983446121]]
        np.testing.assert_allclose(np.log(clf.predict_proba(X))[:, ::-1], expected, rtol=0, atol=1e-5)


class Spy(CTAdaptTLClassifier):
    """Tells what an evaluation handed over."""

    seen = []

    def fit(self, X, y, subjects=None, X_target_unlabeled=None, X_target_labeled=None, y_target_labeled=None):
        super().fit(X, y, subjects, X_target_unlabeled, X_target_labeled, y_target_labeled)
        n_target = 0 if X_target_labeled is None else len(X_target_labeled)
        Spy.seen.append((len(set(subjects)), n_target, self.best_fold_ >= 0, len(self.fold_losses_)))
        return self


def test_moabb_pretrains_and_adapts_without_any_code(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = FakeDataset(
            event_list=("left_hand", "right_hand"), n_sessions=1, n_runs=1, n_subjects=3, paradigm="imagery",
            channels=("C3", "Cz", "C4"), duration=60, n_events=20,
        )  # fmt: skip
        Spy.seen = []
        evaluation = CrossSubjectEvaluation(
            LeftRightImagery(), dataset, cs_mode="train_and_target_labeled_20p", overwrite=True, hdf5_path=str(tmp_path)
        )
        pipeline = make_pipeline(Spy(**{**SMALL, "max_epochs": 2}))
        results = evaluation.process({"CT-adaptTL": pipeline})
    assert results["score"].between(0, 1).all() and len(results) == 3
    assert {(n_subjects, folds, n_folds) for n_subjects, _, folds, n_folds in Spy.seen} == {(2, True, 2)}
    assert all(n_target > 0 for _, n_target, _, _ in Spy.seen)


def test_calibration_of_the_length_of_the_source_can_be_wrapped():
    (X, y), (Xt, yt) = make_task(2), make_task(1, 48, seed=17)
    X, y = np.concatenate(X), np.concatenate(y)
    clf = make_clf(max_epochs=1)
    with pytest.warns(UserWarning, match="X_target_labeled has exactly as many trials as X"):
        plain = clone(clf).fit(X, y, None, None, Xt[0], yt[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        wrapped = clone(clf).fit(X, y, None, None, Calibration(Xt[0]), Calibration(yt[0]))
    np.testing.assert_array_equal(plain.predict_proba(Xt[0]), wrapped.predict_proba(Xt[0]))


@pytest.mark.parametrize(
    ("params", "fit", "match"),
    [
        ({"mode": "magic"}, {}, "mode: got 'magic'"),
        ({"alignment": "std"}, {}, "alignment: got 'std'"),
        ({"recipe": "x"}, {}, "recipe: got 'x', expected one of 'default', 'published'"),
        ({"on_unseen": "x"}, {}, "on_unseen: got 'x'"),
        ({"adapt_params__norm": "x"}, {}, "norm: got 'x'"),
        ({"adapt_params__layers": ("head",)}, {}, "layers: got"),
        ({"adapt_params__layer_decay": 0}, {}, "layer_decay: got 0"),
        ({"adapt_params__share": 1.5}, {}, "share: got 1.5"),
        ({"specific_params__learning_rat": 1}, {}, "specific_params: got 'learning_rat'; nearest: 'learning_rate'"),
        ({"pretrain_params__validation": None}, {}, "validation: got None"),
        ({"pretrain_params__n_folds": -1}, {}, "n_folds: got -1"),
        ({}, {"subjects": [1, 2]}, r"subjects: got shape \(2,\) for 24 trials"),
        ({}, {"X_target_labeled": np.ones((3, 4, 128))}, "X_target_labeled: .*never changes"),
        ({}, {"X_target_labeled": make_task(1)[0][0][:5]}, "y_target_labeled: got no labels for 5 trials"),
        (
            {},
            {"X_target_unlabeled": make_task(1)[0][0][:, :3]},
            "X_target_unlabeled: .*channel|X_target_unlabeled: .*feat",
        ),
        ({"mode": "specific"}, {"X_target_unlabeled": make_task(1)[0][0][:5]}, "mode='specific' needs labelled trials"),
    ],
)
def test_errors_name_the_argument(params, fit, match):
    X, y = make_task(1)
    with pytest.raises(ValueError, match=match):
        make_clf(max_epochs=1, **params).fit(X[0], y[0], **fit)


def test_recordings_that_differ_are_refused():
    X, y = make_task(2)
    with pytest.raises(ValueError, match="Xs: the recordings differ"):
        make_clf().pretrain([X[0], X[1][:, :3]], y)
    with pytest.raises(ValueError, match="y: got 2 entries for 1 recordings"):
        make_clf().pretrain(X[:1], y)


def test_every_promise_without_pretraining():  # the default mode is checked with all public estimators
    params = {
        "network_params": {
            "n_filters": 8, "filter_length": 3, "pool_length": 1, "pool_stride": 1, "n_hidden": 16, "drop_prob": 0.0,
        },
        "specific_params": {"learning_rate": 1e-2, "batch_size": 16, "schedule": None}, "max_epochs": 15,
    }  # fmt: skip
    unlabelled = [mode.value for mode in CrossSubjectMode if not mode.calibration_labeled] + ["train_trialwise_epochs"]
    reason = "what is specific to a subject needs labelled trials of it"
    expected = {f"check_moabb_cross_subject_{name}": reason for name in unlabelled}
    check_eeg_estimator(make_clf(**params, mode="specific"), expected_failed_checks=expected)


def test_the_default_sizes_follow_rate_and_length():
    X, y = make_task(2)
    short = CTAdaptTLClassifier(max_epochs=1, sfreq=64.0, device="cpu").pretrain(X, y)
    assert short.module_.temporal.kernel_size == (6, 1) and short.module_.hidden.in_features == 40
    assert short.n_iter_ == 1 and CTAdaptTLClassifier(max_epochs=30, device="cpu").pretrain(X, y).n_iter_ == 30


def test_a_target_that_is_among_the_sources_is_aligned_by_its_own_trials():
    (Xs, ys), (Xt, yt) = make_task(2), make_task(1, 20, seed=9, gain=5.0)
    X = EEGArray(np.concatenate(Xs), domains=make_domains(48, subject=np.repeat([1, 2], 24)))
    target = EEGArray(Xt[0], domains=make_domains(20, subject=1))
    clf = make_clf(max_epochs=1).fit(X, np.concatenate(ys), X_target_labeled=target, y_target_labeled=yt[0])
    aligned = clf.steps_.transform(target)
    np.testing.assert_allclose(np.mean([np.cov(trial) for trial in aligned], axis=0), np.eye(4), atol=1e-3)


def test_parameters_within_a_dict_are_searched():
    X, y = make_task(1, 24)
    clf = make_clf(max_epochs=1)
    search = GridSearchCV(make_pipeline(clf), {"ctadapttlclassifier__network_params__n_filters": [4, 6]}, cv=2)
    search.fit(X[0], y[0])
    fitted = search.best_estimator_[0]
    assert fitted.module_.spatial.out_channels == fitted.network_params["n_filters"] in (4, 6)
    assert fitted.network_params["n_hidden"] == 16 and clf.network_params["n_filters"] == 8


def test_the_published_recipe():
    clf = CTAdaptTLClassifier(recipe="published")
    assert clf._phase("pretrain").n_folds == 6
    recipe = clf._phase("adapt")
    assert (recipe.solver, recipe.momentum, recipe.learning_rate, recipe.max_epochs) == ("sgd", 0.4, 1e-2, 200)
    assert (recipe.layers, recipe.layer_decay, recipe.norm, recipe.share) == ("all", 1.0, "train", 1.0)
    assert not recipe.mirror and not recipe.regression and not recipe.n_updates and recipe.validation_size is None


def test_mirrored_trials_teach_the_other_hand():
    """A source where only the left hemisphere responds teaches the right one by its mirrored trials."""
    (X, y), (Xt, yt) = make_task(2, 60, mixing=0.1), make_task(1, 60, seed=3, mixing=0.1, channel=2)
    names = ("C3", "Cz", "C4", "Pz")
    turned = np.where(yt[0] == "left", "right", "left")  # the mirror of: left is strong at the first electrode
    scores = {}
    for mirror in (False, True):
        clf = make_clf(
            ch_names=names, on_unseen="own", pretrain_params__mirror=mirror, mirror_classes=("left", "right")
        ).pretrain(X, y)
        scores[mirror] = clf.score(Xt[0], turned)
    assert scores[True] > 0.8 > scores[False] + 0.15
    clf.set_params(mirror_classes=None)
    assert clf._find_mirror(names, ["left", "right"], clf._phase("adapt")) is None


@pytest.mark.parametrize("phase", ["pretrain", "adapt"])
def test_weights_of_classes_are_by_label(phase):
    (X, y), (Xt, yt) = make_task(2), make_task(1, seed=5)
    X, y = np.concatenate(X), np.where(np.concatenate(y) == "left", 1, 2)
    target, labels = Xt[0], np.where(yt[0] == "left", 1, 2)

    shares = []
    for weight in (0.02, 50.0):
        clf = make_clf(max_epochs=4, **{f"{phase}_params__class_weight": {1: weight}}).pretrain(X, y)
        shares.append((clf if phase == "pretrain" else clf.fit(target, labels)).predict_proba(target)[:, 0].mean())
    assert shares[0] < shares[1]
    with pytest.raises(ValueError, match="class_weight: .'left'. are not among the classes .1, 2."):
        make_clf(**{f"{phase}_params__class_weight": {"left": 2.0}}).pretrain(X, y).fit(target, labels)


def test_a_regression_decides_beside_the_adapted_network(tmp_path):
    (Xs, ys), (Xt, yt) = make_task(3), make_task(1, 20, seed=9)
    subjects, names = np.repeat([1, 2, 3], 24), ("C3", "Cz", "C4", "Pz")
    source = EEGArray(np.concatenate(Xs), names, 128.0, make_domains(72, subject=subjects))
    target, labels = EEGArray(Xt[0], names, 128.0, make_domains(20, subject=1)), yt[0]  # among the sources too
    clf = make_clf(max_epochs=2).pretrain(source, np.concatenate(ys))
    assert clf.readout_ is None
    both = np.log(clf.fit(target, labels).predict_proba(target))
    tangent = clf.readout_.logits(target)
    assert (clf.classes_[tangent.argmax(1)] == labels).mean() > 0.9
    alone = np.log(clone(clf).set_params(adapt_params={**clf.adapt_params, "regression": False}).pretrain(
        source, np.concatenate(ys)).fit(target, labels).predict_proba(target))  # fmt: skip
    np.testing.assert_allclose(np.diff(both), np.diff(alone + tangent), atol=1e-4)
    clf.save(tmp_path / "clf.safetensors")
    np.testing.assert_array_equal(
        CTAdaptTLClassifier.load(tmp_path / "clf.safetensors").readout_.logits(target), tangent
    )
    at_once = make_clf(max_epochs=2).fit(source, np.concatenate(ys), X_target_labeled=target, y_target_labeled=labels)
    np.testing.assert_allclose(at_once.readout_.logits(target), tangent, atol=1e-6)
    np.testing.assert_allclose(at_once.readout_.logits(target[:1]), tangent[:1], atol=1e-6)  # in any batch
    clf.fit(target, np.where(labels == "left", "feet", "tongue"))
    assert clf.readout_ is None  # the sources know nothing of these
    assert clf.set_params(mode="independent").fit(target, labels).readout_ is None


@pytest.fixture(scope="module")
def source():
    (Xs, ys), names = make_task(3), ("C3", "Cz", "C4", "Pz")
    domains = make_domains(72, subject=np.repeat([1, 2, 3], 24))
    return EEGArray(np.concatenate(Xs), names, 128.0, domains), np.concatenate(ys)


def target_of(n_trials, seed=9, names=("C3", "Cz", "C4", "Pz")):
    X, y = make_task(1, n_trials, seed=seed)
    return EEGArray(X[0], names, 128.0, make_domains(n_trials, subject="t")), y[0]


def test_the_regression_follows_what_is_set_after_pretraining(source):
    spelled = ("C3", "CZ", "C4", "PZ")
    (few, labels), (rest, _) = target_of(20, names=spelled), target_of(5, seed=10, names=spelled)
    clf = make_clf(max_epochs=1, mode="independent").pretrain(*source)
    assert clf.fit(few, labels).readout_ is None
    adapted = clf.set_params(mode="adaptive").fit(few, labels)  # spelled in another way
    assert adapted.readout_ is not None
    alone = np.concatenate([adapted.predict_proba(rest[i : i + 1]) for i in range(5)])
    np.testing.assert_allclose(adapted.predict_proba(rest), alone, atol=1e-5)
    own = (
        copy.deepcopy(adapted).set_params(on_unseen="own").fit(few, labels)
    )  # with fewer trials than 8 nothing changes
    alone = np.concatenate([own.predict_proba(rest[i : i + 1]) for i in range(5)])
    np.testing.assert_allclose(own.predict_proba(rest), alone, atol=1e-5)
    assert abs(own.predict_proba(few) - adapted.predict_proba(few)).max() < 1e-5  # the reference is theirs either way
    other = few.like(few, ch_names=("F3", "Fz", "F4", "Pz"))
    assert adapted.set_params(alignment=None).fit(other, labels).readout_ is None


def test_unlabelled_trials_of_the_target_are_its_reference_too(source):
    (few, labels), (more, _) = target_of(10), target_of(40, seed=10)
    given = {"X_target_labeled": few, "y_target_labeled": labels}
    without, with_more = (
        make_clf(max_epochs=1).fit(*source, **given, X_target_unlabeled=one)
        for one in (None, more.like(np.asarray(more)[:, ::-1]))
    )
    assert abs(without.readout_.logits(few) - with_more.readout_.logits(few)).max() > 0.01


def test_new_labels_of_the_target_leave_the_regression_out(source):
    few, labels = target_of(20)
    labels = np.where(labels == "left", "left", "feet")
    X, y = source
    y = np.where(np.arange(72) % 3 == 0, "rest", y)
    clf = make_clf(max_epochs=1).fit(X, y, X_target_labeled=few, y_target_labeled=labels)
    assert clf.readout_ is None and set(clf.predict(few)) <= {"left", "feet"}
