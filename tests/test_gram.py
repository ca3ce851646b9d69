import numpy as np
import pytest
import torch
from sklearn.model_selection import cross_val_score
from test_gram_pretraining import make_pretrainer
from test_gram_tokenizer import NAMES, make_tokenizer, make_trials, nest

from skeeg import EEGArray, GramClassifier
from skeeg.array import make_domains
from skeeg.explain.linear_maps import Explained
from skeeg.methods.gram import Gram, gram_preprocessing
from skeeg.methods.gram.estimator import FinetuningRecipe
from skeeg.methods.gram.layers import Sizes
from skeeg.methods.gram.network import decays, layer_rate, param_groups
from skeeg.methods.gram.preprocessing import cut_windows, window_length
from skeeg.networks import fold
from skeeg.training.callbacks import WeightAverage

SMALL = {
    "size": "tiny", "n_filters": 8, "n_layers": 2, "n_heads": 4, "patch_length": 16, "max_epochs": 4, "batch_size": 8,
    "learning_rate": 5e-3, "random_state": 0, "device": "cpu",
}  # fmt: skip


def make_clf(**params):
    return GramClassifier(**nest({**SMALL, **params}, Sizes, FinetuningRecipe))


def make_task(n=24, names=NAMES, n_times=64, seed=0, rate=200.0, subject=""):
    """A rhythm on another electrode for each class."""
    rng, time = np.random.default_rng(seed), np.arange(n_times) / rate
    y = np.arange(n) % 2
    X = 5 * rng.standard_normal((n, len(names), n_times))
    for trial, label in enumerate(y):
        X[trial, label] += 40 * np.sin(2 * np.pi * (25 * time + rng.random()))
    return EEGArray(X, names, rate, make_domains(n, subject=subject)), np.where(y, "right", "left")


def weights_of(clf):
    return {name: value.detach().numpy() for name, value in clf.module_.state_dict().items()}


def test_learns_a_task_and_says_how():
    X, y = make_task(32)
    clf = make_clf(max_epochs=20, layer_decay=1.0, drop_path=0.0).fit(X, y)
    assert clf.score(*make_task(24, seed=3)) > 0.9
    assert clf.classes_.tolist() == ["left", "right"] and clf.transform(X).shape == (32, 16)
    assert clf.layer_weights_.shape == (2,) and clf.layer_weights_.sum() == pytest.approx(1)
    np.testing.assert_allclose(clf.predict_proba(X).sum(axis=1), 1)


def test_other_electrodes_length_and_rate_than_at_fit():
    clf = make_clf(max_epochs=1).fit(*make_task())
    X, _ = make_task(5, (*NAMES, "O1"), 90, rate=100.0)
    found = clf.predict_proba(X)
    other = Gram(2, 5, n_times=176, channels=(39, 41, 43, 63, 80), size=clf.module_.sizes).eval()
    other.load_state_dict(clf.module_.state_dict())
    x = torch.tensor(clf._prepare(X)[0])
    np.testing.assert_allclose(found, other(x).softmax(dim=1).detach(), rtol=1e-4)
    before = clf.predict_proba(make_task()[0])
    clf.predict(X)
    np.testing.assert_array_equal(clf.predict_proba(make_task()[0]), before)  # back to the electrodes of fit
    assert clf.transform(X).shape == (5, 16)


def test_another_montage_is_an_input_of_the_network_folded_too():
    clf, (X, _) = make_clf(max_epochs=1).fit(*make_task()), make_task(5, NAMES[::-1])
    wanted, own = clf.predict_proba(X), clf.module_.channels
    data, channels = clf._prepare(X)
    folded = fold(clf.module_)(torch.tensor(data), channels)
    np.testing.assert_allclose(folded.softmax(dim=1), wanted, rtol=1e-4)
    assert clf.module_.channels == own and len(clf._prepare(make_task()[0])) == 1
    np.testing.assert_allclose(
        Explained(clf, X, "probability").outputs(np.zeros(5, int), X), wanted, rtol=1e-3
    )  # and explained with its own electrodes


def test_long_trials_are_windowed():
    clf, (X, y) = make_clf(max_epochs=1), make_task(8, n_times=40 * 16)
    features = clf.fit(X, y).transform(X)
    parts = [clf.transform(X[:, :, start * 16 : (start + 14) * 16]) for start in (0, 13, 26)]
    np.testing.assert_allclose(features, np.mean(parts, axis=0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("strategy", ["head", "probe", "lora"])
def test_strategies_leave_the_rest_alone(tmp_path, strategy):
    path = str(tmp_path / "weights.safetensors")
    pretrainer = make_pretrainer(max_epochs=1).fit(make_trials())
    pretrainer.save_checkpoint(path)
    clf = make_clf(checkpoint=path, strategy=strategy, n_heads=4).fit(*make_task())
    loaded = {name: value.numpy() for name, value in pretrainer.module_.state_dict().items()}
    same = [name for name, value in weights_of(clf).items() if name in loaded and np.array_equal(value, loaded[name])]
    body = [name for name in weights_of(clf) if not name.startswith("final_layer")]
    assert (len(same) == len(body)) == (strategy != "lora")
    assert "ch_emb" in same and f"{len(body)} tensors matched" in clf.checkpoint_report_
    if strategy == "probe":
        X, _ = make_task()
        wanted = pretrainer.set_params(readout="class+power").transform(X)
        assert wanted.shape == (24, 16 + 4 * 8)
        np.testing.assert_allclose(clf.transform(X), wanted, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("rates", [1, 3])
def test_the_probe_centres_each_subject(rates):
    """Subjects of very different power: their mean features say nothing of the classes."""
    parts = [make_task(24, seed=seed, subject=str(seed)) for seed in range(5)]
    gains = np.random.default_rng(0).uniform(0.2, 5, (5, len(NAMES), 1))
    X = np.concatenate([gain * trials for gain, (trials, _) in zip(gains, parts, strict=True)])
    y = np.concatenate([labels for _, labels in parts])
    y = y if rates == 1 else np.where(np.arange(len(y)) % 6 == 0, "rest", y)
    clf, alone = (make_clf(strategy="probe", center=center).fit(X[:72], y[:72]) for center in (True, False))
    assert clf.score(X[72:], y[72:]) > alone.score(X[72:], y[72:]) and len(clf.offset_) == len(clf.classes_)
    together = clf.predict_proba(X[72:])
    np.testing.assert_allclose(clf.predict_proba(X[72:][::-1])[::-1], together, rtol=1e-4)
    np.testing.assert_allclose(clf.predict_proba(X[72:96]), together[:24], rtol=1e-4)  # of each subject by itself
    few = clf.predict_proba(X[72:75])
    np.testing.assert_allclose(few, np.concatenate([clf.predict_proba(trial[None]) for trial in X[72:75]]), rtol=1e-4)
    assert not np.allclose(few, together[:3], rtol=1e-2) and alone.offset_ is None
    plain = EEGArray(X[:72], NAMES, 200.0)
    same = make_clf(strategy="probe").fit(
        EEGArray(np.asarray(plain), NAMES, 200.0), y[:72], subjects=np.repeat(list("abc"), 24)
    )
    np.testing.assert_allclose(same.offset_, clf.offset_, rtol=1e-4)


def test_the_probe_takes_other_electrodes():
    X, y = make_task(24)
    clf = make_clf(strategy="probe").fit(X, y)
    np.testing.assert_allclose(
        clf.predict_proba(X.like(X[:, ::-1], ch_names=NAMES[::-1])), clf.predict_proba(X), rtol=1e-4
    )
    assert clf.predict_proba(make_task(5, (*NAMES, "O1"))[0]).shape == (5, 2)
    assert clf.predict_proba(make_task(5, NAMES[:3])[0]).shape == (5, 2)


def test_checkpoints_of_another_size(tmp_path):
    path = str(tmp_path / "weights.safetensors")
    make_pretrainer(max_epochs=1).fit(make_trials()).save_checkpoint(path)
    with pytest.raises(ValueError, match="n_layers: got 3, the checkpoint has 2"):
        make_clf(checkpoint=path, n_layers=3).fit(*make_task())
    with pytest.raises(FileNotFoundError, match="checkpoint: there is no file"):
        make_clf(checkpoint="nowhere.pth").fit(*make_task())
    first = str(tmp_path / "tokenizer.safetensors")
    make_tokenizer(max_epochs=0).fit(make_trials()).save_checkpoint(first)
    with pytest.raises(ValueError, match=f"checkpoint: {first} is not one of the second stage"):
        make_clf(checkpoint=first).fit(*make_task())
    clf = make_clf(checkpoint=path, max_epochs=1).fit(*make_task())
    clf.save_checkpoint(tmp_path / "tuned.pth")
    again = make_clf(checkpoint=str(tmp_path / "tuned.pth"), strategy="probe").fit(*make_task())
    np.testing.assert_allclose(again.transform(make_task()[0])[:, :16], clf.transform(make_task()[0]), rtol=1e-5)


def test_layer_decay_by_the_formula():
    net = Gram(2, 3, n_times=400, channels=(1, 2, 3), size="base")
    groups = param_groups(net, 2e-3, 0.65)
    shares = {id(p): group["lr"] / 2e-3 for group in groups for p in group["params"]}
    named = {name: shares[id(p)] for name, p in net.named_parameters() if p.requires_grad}
    assert len(named) == sum(len(group["params"]) for group in groups)
    assert named["cls_token"] == named["tconv.norm3.bias"] == pytest.approx(0.65**13)
    assert named["blocks.0.gamma_1"] == pytest.approx(0.65**12)
    assert named["blocks.11.mlp.fc2.weight"] == pytest.approx(0.65)
    assert {named[name] for name in ("proj_weights", "norm.bias", "final_layer.weight", "proj_layers.0.bias")} == {1.0}
    assert layer_rate("tconv.conv1.weight", 12, 0.65, patches=False) == 1.0  # as published


def test_what_decays():
    net = Gram(2, 3, n_times=400, channels=(1, 2, 3), size="tiny")
    fading = {name for name, p in net.named_parameters() if p.requires_grad and decays(name, p)}
    assert {"proj_weights", "tconv.conv1.weight", "blocks.0.attn.key.weight"} < fading
    assert not any(part in name for name in fading for part in ("bias", "gamma", "ln", "norm", "token", "emb"))
    first, second = param_groups(net)
    assert len(first["params"]) == len(fading) and second["weight_decay"] == 0


def test_average_starts_with_the_loaded_weights():
    X, y = make_task()
    start, end = (
        make_clf(max_epochs=1, batch_size=24, warmup_share=0.0, learning_rate=rate).fit(X, y) for rate in (0, 5e-3)
    )
    mean = make_clf(max_epochs=1, batch_size=24, warmup_share=0.0, average=0.999).fit(X, y)
    for name, value in weights_of(mean).items():  # after one update
        wanted = 2 / 11 * weights_of(start)[name] + 9 / 11 * weights_of(end)[name]
        np.testing.assert_allclose(value, wanted, atol=1e-6, err_msg=name)
    assert not np.array_equal(weights_of(mean)["final_layer.bias"], weights_of(end)["final_layer.bias"])
    net = torch.nn.Linear(1, 1, bias=False)
    net.weight.data.fill_(1.0)
    average, holder = WeightAverage(0.5), type("Net", (), {"module_": net})
    average.on_train_begin(holder)
    net.weight.data.fill_(3.0)
    average.on_batch_end(holder, training=True)  # decay 2/11 at the first update
    average.on_train_end(holder)
    assert net.weight.item() == pytest.approx(2 / 11 * 1 + 9 / 11 * 3)


def test_label_smoothing_and_clipping_are_used():
    X, y = make_task()
    changes = ({}, {"label_smoothing": 0.0}, {"clip": 1e-4})
    weights = [weights_of(make_clf(max_epochs=2, **change).fit(X, y)) for change in changes]
    assert not np.array_equal(weights[0]["final_layer.weight"], weights[1]["final_layer.weight"])
    assert not np.array_equal(weights[0]["final_layer.weight"], weights[2]["final_layer.weight"])


def test_subjects_are_held_out():
    X, y = make_task(24, subject=np.repeat(["a", "b", "c"], 8))
    clf = make_clf(validation="subject", validation_size=0.34, max_epochs=2).fit(X, y)
    assert "valid_acc" in clf.history_[0]
    assert cross_val_score(make_clf(max_epochs=1), X, y, cv=2).shape == (2,)


def test_preprocessing():
    rng, time = np.random.default_rng(0), np.arange(25600) / 256
    hum = 20 * np.sin(2 * np.pi * 50 * time)
    X = EEGArray(10 * rng.standard_normal((1, 3, 25600)) + hum + 500, ("C3", "Cz", "C4"), 256)
    Y = gram_preprocessing(reference=None).fit_transform(X)
    assert Y.shape == (1, 3, 20000) and Y.sfreq == 200
    spectrum = np.abs(np.fft.rfft(np.asarray(Y)[0, 0, 4000:16000]))
    frequencies = np.fft.rfftfreq(12000, 1 / 200)
    assert spectrum[0] / 12000 < 1 and spectrum[np.argmin(np.abs(frequencies - 50))] < np.median(spectrum) * 2
    assert spectrum[frequencies > 95].max() < np.median(spectrum) / 10
    assert list(gram_preprocessing().named_steps) == ["reference", "resample", "bandpass", "notch"]
    assert len(gram_preprocessing(None, None, None).steps) == 1
    with pytest.raises(ValueError, match="reference: got 'Cz'"):
        gram_preprocessing(reference="Cz")


@pytest.mark.parametrize(
    ("n_channels", "n_patches", "wanted"), [(64, 30, 4), (32, 30, 8), (19, 30, 13), (4, 30, 16), (64, 2, 2)]
)
def test_window_length(n_channels, n_patches, wanted):
    assert window_length(n_channels, n_patches) == wanted


def test_windows_hold_what_they_were_cut_from():
    data = np.arange(2 * 3 * 70).reshape(2, 3, 70)
    windows, starts = cut_windows(data, 10, 3)
    assert windows.shape == (2, 3, 3, 30)
    for i, start in enumerate(starts):
        np.testing.assert_array_equal(windows[:, i], data[:, :, 10 * start : 10 * start + 30])


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"layer_decay": 1.5}, "layer_decay: got 1.5"),
        ({"label_smoothing": -0.1}, "label_smoothing: got -0.1"),
        ({"size": "huge"}, "size: got 'huge'"),
        ({"strategy": "none"}, "strategy: got 'none'"),
        ({"ch_names": None, "patch_length": 200}, "X: 64 sample"),
    ],
)
def test_settings_that_are_refused(params, match):
    with pytest.raises(ValueError, match=match):
        make_clf(**params).fit(*make_task())


def test_trials_without_names_are_refused():
    X, y = make_task()
    with pytest.raises(ValueError, match="ch_names: X carries no channel names"):
        make_clf().fit(np.asarray(X), y)
    with pytest.raises(ValueError, match="ch_names: unknown electrode 'XY'"):
        make_clf().fit(X.like(X, ch_names=("C3", "Cz", "C4", "XY")), y)
