import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from instances import CtrlC
from skorch.callbacks import Callback
from test_mirepnet import SIZES, make_clf, make_task

from skeeg.methods.mirepnet import MIRepNet, MIRepNetPretrainer
from skeeg.methods.mirepnet.network import HybridLoss, MaskedModel
from skeeg.training.checkpoints import published_state
from skeeg.training.pretraining import draw_mask, list_recordings

SMALL = {
    "network_params": {**SIZES, "decoder_layers": 1}, "max_epochs": 3, "batch_size": 8, "learning_rate": 2e-3,
    "random_state": 0, "device": "cpu",
}  # fmt: skip

DROPPING = {**SMALL["network_params"], "drop_prob": 0.3}


def make_pretrainer(**params):
    return MIRepNetPretrainer(**{**SMALL, **params})


def make_subjects(n=3, **options):
    tasks = [make_task(16, seed=i, subject=str(i), **options) for i in range(n)]
    return np.concatenate([X for X, _ in tasks]), np.concatenate([y for _, y in tasks])


def weights_of(pretrainer):
    return {name: value.numpy() for name, value in pretrainer.module_.state_dict().items()}


def assert_same_weights(one, other):
    for name, value in weights_of(one).items():
        np.testing.assert_array_equal(value, weights_of(other)[name], err_msg=name)


@pytest.mark.parametrize(("ratio", "kept"), [(0.1, 54), (0.25, 45), (0.5, 30), (0.75, 15), (0.9, 6), (1.0, 0)])
def test_published_numbers_of_tokens(ratio, kept):
    masked = draw_mask(5, 61, ratio)
    assert (~masked).sum(dim=1).tolist() == [kept] * 5
    assert kept == 0 or len({tuple(row) for row in masked.tolist()}) == 5  # drawn for each trial


@given(st.floats(0.0, 1.0), st.sampled_from(["masked", "all"]), st.integers(0, 2**31 - 1))
def test_loss_is_the_formula(rec_weight, reconstruct, seed):
    rng = np.random.default_rng(seed)
    logits, tokens, reconstructed = rng.normal(size=(4, 3)), rng.normal(size=(4, 5, 6)), rng.normal(size=(4, 5, 6))
    masked, y = rng.random((4, 5)).argsort(axis=1) < rng.integers(1, 6), np.array([0, -1, 2, 1])  # equally many
    model = MaskedModel(torch.nn.Identity(), 0.5, True, reconstruct)
    errors = model._errors(*map(torch.tensor, (tokens, reconstructed, masked)))
    outputs = torch.column_stack([errors, torch.tensor(logits)])
    squares = [((reconstructed - tokens)[i, j] ** 2).sum() for i, j in np.argwhere(masked | (reconstruct == "all"))]
    entropies = [np.log(np.exp(logits[i]).sum()) - logits[i, y[i]] for i in (0, 2, 3)]
    found = HybridLoss(rec_weight, 2.0)(outputs, torch.tensor(y))
    assert found.item() == pytest.approx(rec_weight * np.mean(squares) + 2 * np.mean(entropies), rel=1e-5)


@pytest.mark.parametrize("detach", [True, False])
def test_target_is_given_or_learned_too(detach):
    torch.manual_seed(0)
    network = MIRepNet(2, 3, n_times=150, decoder_layers=1, **SIZES)
    model = MaskedModel(network, 1.0, detach).train()  # all tokens hidden: only the target depends on the tokenizer
    HybridLoss(1.0, 0.0)(model(torch.randn(4, 3, 150)), torch.zeros(4, dtype=torch.long)).backward()
    gradient = network.embedding.conv2.weight.grad
    assert (gradient is None or not gradient.any()) == detach


def test_in_evaluation_the_same_tokens_are_hidden():
    model = MaskedModel(MIRepNet(2, 3, n_times=150, decoder_layers=1, **SIZES), 0.5, True).eval()
    x, before = torch.randn(4, 3, 150), torch.get_rng_state()
    first, second = model(x), model(x)
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)


def test_pretraining_reconstructs_and_classifies():
    X, y = make_subjects(4)
    pretrainer = make_pretrainer(max_epochs=15).fit(X, y)
    first, last = pretrainer.history_[0], pretrainer.history_[-1]
    assert last["train_rec_loss"] < 0.9 * first["train_rec_loss"] and last["train_acc"] > 0.8
    alone = make_pretrainer(max_epochs=10).fit(X)
    assert alone.history_[-1]["train_rec_loss"] < 0.9 * alone.history_[0]["train_rec_loss"]
    assert "train_cls_loss" not in alone.history_[0] and len(alone.classes_) == 0
    supervised = make_pretrainer(recipe={"rec_weight": 0}).fit(X, y)
    assert "train_rec_loss" not in supervised.history_[0] and "train_cls_loss" in supervised.history_[0]
    assert pretrainer.transform(X).shape == (64, 16)


def test_recordings_of_any_montage_rate_window_and_classes():
    first, y1 = make_task(12, subject="a")
    second, y2 = make_task(10, seed=1, names=("FC3", "Cz", "FC4"), rate=125, subject="a")
    third, _ = make_task(8, seed=2, names=("C3", "C4"), rate=500)
    y2 = np.where(y2 == "left", "feet", "left")
    pretrainer = make_pretrainer(max_epochs=1).fit([first, second[:, :, :60], third], [y1, y2, None])
    assert pretrainer.classes_.tolist() == ["feet", "left", "right"] and pretrainer.module_.n_outputs == 3
    assert pretrainer.network_spec_["n_times"] == 150 and len(pretrainer.steps_) == 3
    for X in (first, second, third, make_task(6, names=("P3", "Pz", "P4"))[0]):
        assert pretrainer.transform(X).shape == (len(X), 16)
    cut = make_pretrainer(max_epochs=1, recipe={"n_times": 120}).fit([first, third], [y1, None])
    assert cut.network_spec_["n_times"] == 120


def test_one_recording_or_a_list():
    X, y = np.zeros((4, 3, 9)), ["a", "b", "a", "b"]
    assert len(list_recordings(X.tolist(), y)) == len(list_recordings(X.tolist())) == 1
    assert [len(part[0]) for part in list_recordings([X, X[:2]], [y, y[:2]], ["p", "q"])] == [4, 2]
    assert len(list_recordings([X, X], [None, y])) == 2
    with pytest.raises(ValueError, match="y: got 1 entries for 2 recordings"):
        list_recordings([X, X], [y])


def test_one_list_entry_is_the_recording_itself():
    X, y = make_subjects(2)
    assert_same_weights(make_pretrainer().fit(X, y), make_pretrainer().fit([X], [y]))


def test_validation_curve_by_subject():
    X, y = make_subjects(4)
    pretrainer = make_pretrainer(validation="subject", recipe={"validation_size": 0.5}).fit(X, y)
    curves = [row["valid_by_subject"] for row in pretrainer.history_]
    held = set(curves[0])
    assert len(held) == 2 and held < set("0123") and all(set(curve) == held for curve in curves)
    for row, curve in zip(pretrainer.history_, curves, strict=True):
        assert all(set(one) == {"rec_loss", "cls_loss", "acc"} for one in curve.values())
        assert np.mean([one["acc"] for one in curve.values()]) == pytest.approx(row["valid_acc"])
        expected = row["valid_rec_loss"] + row["valid_cls_loss"]
        assert row["valid_loss"] == pytest.approx(expected, rel=1e-4)


def test_screening_leaves_out_subjects_at_chance():
    X, y = make_subjects(3)
    noise = X[:16].like(np.random.default_rng(0).normal(size=(16, 4, 150)).astype("float32"))
    pretrainer = make_pretrainer(max_epochs=1, recipe={"screen": 0.75}).fit(
        [X, noise], [y, np.resize(["left", "right"], 16)], [None, "noise"]
    )
    assert set(pretrainer.screening_) == {"0/0", "0/1", "0/2", "1/0"}
    assert [name for name, score in pretrainer.screening_.items() if score < 0.75] == ["1/0"]
    assert len(pretrainer.steps_) == 1
    with pytest.raises(ValueError, match="screen: none of 3 subjects"):
        make_pretrainer(recipe={"screen": 1.0}).fit(np.random.default_rng(0).normal(size=X.shape) + 0 * X, y)
    with pytest.raises(ValueError, match="screen: recording 0 has no labels"):
        make_pretrainer(recipe={"screen": 0.5}).fit(X)


class StopAt(Callback):
    """Dies in the middle of an epoch."""

    def __init__(self, step):
        self.step = step

    def on_batch_end(self, net, training=False, **kwargs):
        self.step -= training
        if not self.step:
            raise RuntimeError("killed")


@pytest.mark.parametrize("schedule", [None, "cosine"])
def test_broken_off_and_resumed_is_never_broken_off(tmp_path, schedule):
    X, y = make_subjects(3)
    step = int(np.random.default_rng().integers(1, 24))  # any will do
    settings = {"max_epochs": 4, "network_params": DROPPING, "validation": "subject", "recipe": {"schedule": schedule}}
    whole = make_pretrainer(**settings).fit(X, y)
    file = {"run_file": str(tmp_path / "run.safetensors")}
    for stop in (step, max(step // 2, 1)):  # twice
        with pytest.raises(RuntimeError, match="killed"):
            make_pretrainer(**settings, **file, skorch_callbacks=[StopAt(stop)]).fit(X, y)
            raise RuntimeError("killed")  # where the second run had fewer steps left
    resumed = make_pretrainer(**settings, **file).fit(X, y)
    assert_same_weights(resumed, whole)
    assert len(resumed.history_) == 4
    for one, other in zip(resumed.history_, whole.history_, strict=True):
        assert one["train_loss"] == other["train_loss"] and one["valid_by_subject"] == other["valid_by_subject"]
    again = make_pretrainer(**settings, **file).fit(X, y)  # finished: nothing is trained
    assert_same_weights(again, whole)


def test_killed_and_resumed_is_never_killed(tmp_path):
    file = tmp_path / "run.safetensors"
    step = int(np.random.default_rng().integers(5, 19))
    script = f"""
    import os, signal, sys
    sys.path.insert(0, {str(__file__).rsplit("/", 1)[0]!r})
    from test_mirepnet_pretraining import StopAt, make_subjects, make_pretrainer

    class KillAt(StopAt):
        def on_batch_end(self, net, training=False, **kwargs):
            self.step -= training
            if not self.step:
                os.kill(os.getpid(), signal.SIGKILL)

    settings = {{"max_epochs": 4, "network_params": {DROPPING}, "run_file": {str(file)!r}}}
    make_pretrainer(**settings, skorch_callbacks=[KillAt({step})]).fit(*make_subjects(3))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    settings = {"max_epochs": 4, "network_params": DROPPING}
    resumed = make_pretrainer(**settings, run_file=str(file)).fit(*make_subjects(3))
    assert_same_weights(resumed, make_pretrainer(**settings).fit(*make_subjects(3)))


def test_a_run_of_something_else_is_refused(tmp_path):
    (X, y), file = make_subjects(2), str(tmp_path / "run.safetensors")
    make_pretrainer(run_file=file, max_epochs=1).fit(X, y)
    for change in ({"learning_rate": 1e-4}, {"random_state": 1}, {"recipe": {"mask_ratio": 0.6}}):
        with pytest.raises(ValueError, match="run_file: .* holds a run on other trials or with other settings"):
            make_pretrainer(run_file=file, **{"max_epochs": 1, **change}).fit(X, y)
    with pytest.raises(ValueError, match="run_file: .* holds a run on other"):
        make_pretrainer(run_file=file, max_epochs=1).fit(X[:-1], y[:-1])
    make_pretrainer(max_epochs=1).fit(X, y).save_checkpoint(tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match="run_file: .* is not the state of a run"):
        make_pretrainer(run_file=str(tmp_path / "weights.safetensors")).fit(X, y)
    (tmp_path / "text").write_text("none of ours")
    with pytest.raises(ValueError, match="run_file: .*text could not be read as plain tensors"):
        make_pretrainer(run_file=str(tmp_path / "text")).fit(X, y)


def test_without_a_seed_a_run_keeps_its_own(tmp_path):
    (X, y), file = make_subjects(2), str(tmp_path / "run.safetensors")
    first = make_pretrainer(
        run_file=file, random_state=None, validation="subject", recipe={"validation_size": 0.5}
    ).fit(X, y)
    again = make_pretrainer(
        run_file=file, random_state=None, validation="subject", recipe={"validation_size": 0.5}
    ).fit(X, y)
    assert_same_weights(first, again)


def test_weights_go_on_to_the_classifier_and_to_more_pretraining(tmp_path):
    (X, y), path = make_subjects(3), str(tmp_path / "weights.pth")
    pretrainer = make_pretrainer(max_epochs=2).fit(X, y)
    pretrainer.save_checkpoint(path)
    clf = make_clf(checkpoint=path, max_epochs=1).fit(*make_task(12, seed=8, subject="new"))
    assert clf.checkpoint_report_.endswith("; 2 missing: final_layer.weight, final_layer.bias")
    more = make_pretrainer(checkpoint=path, learning_rate=0.0, max_epochs=1).fit(X, y)
    for name in ("mask_token", "decoder.transformer.0.0.fn.1.keys.weight", "embedding.conv1.weight"):
        np.testing.assert_array_equal(
            weights_of(more)[name], weights_of(pretrainer)[name]
        )  # upstream loses two of these
    full = MIRepNetPretrainer(max_epochs=1, batch_size=8, random_state=0, device="cpu")
    assert len(published_state(full.fit(X[:8], y[:8]).module_)) == 143


def test_weights_without_a_decoder_start_a_fresh_one():
    X, y = make_subjects(2)
    changes = {"checkpoint": "skeeg:mirepnet-small", "network_params": None, "learning_rate": 0.0, "max_epochs": 1}
    with pytest.warns(UserWarning, match="checkpoint: skeeg:mirepnet-small has no decoder and no mask token"):
        pretrainer = make_pretrainer(**changes).fit(X, y)
    assert len(pretrainer.module_.decoder.transformer) == 2
    assert pretrainer.net_.module_ is pretrainer.module_ and len(pretrainer.net_.history) == pretrainer.n_iter_ == 1


def test_throughput_is_printed(capsys):
    X, y = make_subjects(2)
    pretrainer = make_pretrainer(max_epochs=1, verbose=1).fit(X, y)
    assert f"{pretrainer.throughput_:.0f} trials/s on cpu" in capsys.readouterr().out
    assert pretrainer.throughput_ > 0


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"recipe": {"mask_ratio": 0}}, "mask_ratio: got 0"),
        ({"recipe": {"reconstruct": "some"}}, "reconstruct: got 'some'"),
        ({"recipe": {"rec_weight": 0, "cls_weight": 0}}, "rec_weight, cls_weight: both are 0"),
        ({"network_params": {"decoder_layers": 0}}, "network_params: got decoder_layers=0"),
        ({"align": "maybe"}, "align: got 'maybe'"),
        ({"recipe": {"n_times": 0}}, "n_times: got 0"),
        ({"recipe": {"name": "montages"}, "template": None}, "montages: got 24 with template=None"),
        ({"recipe": "montage"}, "recipe: got 'montage'; nearest: 'montages'"),
        ({"recipe": {"mask_ration": 1}}, "recipe: got 'mask_ration'; nearest: 'mask_ratio'"),
    ],
)
def test_errors_name_the_argument(params, match):
    with pytest.raises(ValueError, match=match):
        make_pretrainer(**params).fit(*make_subjects(2))


def test_no_labels_and_no_reconstruction_is_refused():
    with pytest.raises(ValueError, match="rec_weight: 0 leaves no loss"):
        make_pretrainer(recipe={"rec_weight": 0}).fit(make_subjects(2)[0])
    with pytest.raises(ValueError, match="y: got shape"):
        make_pretrainer().fit(make_subjects(2)[0], ["left"])


@pytest.mark.parametrize("epoch", [1, 2])
def test_ctrl_c_keeps_what_was_learnt_so_far(epoch):
    X, y = make_subjects()
    pretrainer = make_pretrainer(max_epochs=9, skorch_callbacks=[CtrlC(epoch)]).fit(X, y)
    assert pretrainer.n_iter_ == epoch and np.isfinite(pretrainer.transform(X)).all()
    assert np.isnan(pretrainer.throughput_) == (epoch == 1)
