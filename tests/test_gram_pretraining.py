import pickle

import numpy as np
import pytest
import torch
from test_gram_tokenizer import NAMES, assert_same_weights, make_tokenizer, make_trials, nest, weights_of
from test_mirepnet_pretraining import StopAt

from skeeg import GramPretrainer, GramTokenizer
from skeeg.methods.gram import Gram, GramPretrainingNetwork, read_tokenizer
from skeeg.methods.gram.checkpoint import read_weights
from skeeg.methods.gram.layers import Sizes
from skeeg.methods.gram.network import draw_hidden, draw_mixed
from skeeg.methods.gram.pretrainer import PretrainingRecipe
from skeeg.networks.seeding import seeded
from skeeg.training import Recipe, load_checkpoint
from skeeg.training.checkpoints import published_state
from skeeg.training.data import Batches, Trials
from skeeg.training.pretraining import fingerprint

SMALL = {
    "size": "tiny", "n_filters": 8, "n_layers": 2, "n_heads": 4, "decoder_dim": 16, "decoder_layers": 1,
    "max_epochs": 3, "batch_size": 8, "learning_rate": 5e-3, "random_state": 0, "device": "cpu",
}  # fmt: skip


def make_pretrainer(**params):
    epochs = params.pop("tokenizer_epochs", 1)
    if "checkpoint" not in params:
        shared = {"n_layers": 2, "decoder_layers": 2, "learning_rate": None, "drop_prob": 0.1, "max_epochs": epochs}
        held = {name: params[name] for name in ("validation", "validation_size") if name in params}
        params.setdefault("tokenizer", make_tokenizer(**shared, **held, random_state=None))
    return GramPretrainer(**nest({**SMALL, **params}, Sizes, PretrainingRecipe))


def make_recordings():
    return [make_trials(12), make_trials(9, ("O1", "O2"), 100, 1), make_trials(5, (*NAMES, "Fz"), 48, 2)]


# Batches by shape


def make_groups(mixed=True):
    groups = [{"x": torch.arange(7.0)[:, None].expand(7, 3)}, {"x": 100 + torch.arange(4.0)[:, None].expand(4, 5)}]
    return Trials(groups, None, [{"place": torch.tensor([1])}, {"place": torch.tensor([2, 3])}], mixed)


@pytest.mark.parametrize("mixed", [True, False])
def test_a_batch_has_one_shape_and_a_pass_has_every_trial_once(mixed):
    orders = set()
    for seed in range(12):
        with seeded(seed):
            batches = [x for x, _ in Batches(make_groups(mixed), 2, shuffle=True)]
        values = torch.cat([x["x"][:, 0] for x in batches])
        assert sorted(values.tolist()) == [*range(7), *range(100, 104)]
        for x in batches:
            assert x["x"].shape[1] == (3 if x["x"][0, 0] < 100 else 5)
            assert x["place"].tolist() == [[1] if x["x"][0, 0] < 100 else [2, 3]] * len(x["x"])
        orders.add(tuple(int(x["x"][0, 0] >= 100) for x in batches))
    assert (len(orders) > 1) == mixed and (mixed or orders == {(0, 0, 0, 0, 1, 1)})


def test_part_of_groups():
    part = make_groups().subset([8, 2, 0])
    assert len(part) == 3 and part.groups[0]["x"][:, 0].tolist() == [2, 0] and part.groups[1]["x"][0, 0] == 101
    assert len(make_groups().subset([9, 10]).groups) == 1


def test_rate_by_the_update():
    recipe = Recipe(max_epochs=10, warmup_share=0.2, lowest=0.1, by_step=True)
    assert [recipe.rate(t) for t in (0, 0.5, 2, 6, 10)] == pytest.approx([0, 0.25, 1, 0.55, 0.1])
    assert Recipe(max_epochs=10, lowest=0.2).rate(10) == pytest.approx(0.2)


# What is hidden


def test_mixed_masks_are_whole_channels_seconds_or_patches():
    torch.manual_seed(0)
    kinds = set()
    for _ in range(60):
        hidden = draw_mixed(3, 4, 6)
        assert len(set(hidden.flatten(1).sum(dim=1).tolist())) == 1 and 0 < hidden[0].sum() < 24
        channels, seconds = hidden[0].all(dim=0).sum(), hidden[0].all(dim=1).sum()
        whole = {"channels": channels * 4 == hidden[0].sum(), "seconds": seconds * 6 == hidden[0].sum()}
        kinds.add(next((kind for kind, found in whole.items() if found), "patches"))
    assert kinds == {"channels", "seconds", "patches"}
    assert draw_mixed(2, 1, 1).shape == (2, 1, 1)


def test_hidden_share_and_its_limits():
    assert draw_hidden(3, 3, 17, 0.5).flatten(1).sum(dim=1).tolist() == [26] * 3
    assert draw_hidden(2, 1, 49, 0.999).flatten(1).sum(dim=1).tolist() == [48] * 2
    assert draw_hidden(2, 1, 49, 0.001).flatten(1).sum(dim=1).tolist() == [1] * 2
    assert not draw_hidden(2, 1, 1, 0.5).any()
    before = torch.get_rng_state()
    assert torch.equal(draw_hidden(2, 4, 5, 0.5, anew=False), draw_hidden(2, 4, 5, 0.5, anew=False))
    assert torch.equal(torch.get_rng_state(), before)


# The pre-trainer


def test_both_losses_fall():
    pretrainer = make_pretrainer(max_epochs=15, tokenizer_epochs=5, drop_prob=0.0, drop_path=0.0)
    pretrainer.fit([make_trials(24), make_trials(16, ("O1", "O2"), 64, 1)])
    first, last = pretrainer.history_[0], pretrainer.history_[-1]
    assert last["train_cls_loss"] < 0.97 * first["train_cls_loss"]
    assert last["train_mimic_loss"] < 0.8 * first["train_mimic_loss"]
    assert last["train_mlm_acc"] > first["train_mlm_acc"]
    expected = 0.5 * last["train_cls_loss"] + 0.5 * last["train_mimic_loss"]
    assert last["train_loss"] == pytest.approx(expected, rel=1e-4)
    assert len(pretrainer.tokenizer_history_) == 5 and pretrainer.throughput_ > 0
    assert pretrainer.layer_weights_.sum() == pytest.approx(1)
    X = make_trials(3, ("F3", "F4", "T7"), 70)
    found = {name: pretrainer.set_params(readout=name).transform(X) for name in ("class", "channels", "power")}
    assert found["class"].shape == (3, 16) and found["channels"].shape == (3, 48) and found["power"].shape == (3, 24)


def test_tokenizer_is_not_touched():
    tokenizer = make_tokenizer(max_epochs=1).fit(make_trials())
    pretrainer = make_pretrainer(tokenizer=tokenizer, max_epochs=2).fit(make_recordings())
    for name, value in weights_of(tokenizer).items():
        np.testing.assert_array_equal(weights_of(pretrainer)[f"vqgan.{name}"], value, err_msg=name)
    assert pretrainer.tokenizer_history_ == []
    drifting = make_pretrainer(tokenizer=tokenizer, max_epochs=2, tokenizer_trains=True).fit(make_recordings())
    name = "quantize.embedding.weight"
    assert not np.array_equal(weights_of(drifting)[f"vqgan.{name}"], weights_of(tokenizer)[name])  # as published


def test_targets_found_once_are_those_of_every_batch():
    pretrainer = make_pretrainer(max_epochs=1).fit(make_trials())
    pool = pretrainer._with_targets(pretrainer._pool(make_recordings(), None, pretrainer.module_.sizes))
    objective = pretrainer.module_
    for inputs, _ in Batches(pool.trials, 4):
        bare = {name: value for name, value in inputs.items() if name != "codes"}
        torch.testing.assert_close(objective(**inputs), objective(**bare))


def test_validation_by_subject():
    X = make_trials(16)
    pretrainer = make_pretrainer(validation="subject", validation_size=0.5, random_state=4)
    pretrainer.fit(X, subjects=np.repeat(list("abcd"), 4))
    for row in pretrainer.history_:
        assert len(row["valid_by_subject"]) == 2
        mean = np.mean([one["cls_loss"] for one in row["valid_by_subject"].values()])
        assert mean == pytest.approx(row["valid_cls_loss"], rel=1e-5)
    held, held_before = (rows[-1]["valid_by_subject"] for rows in (pretrainer.history_, pretrainer.tokenizer_history_))
    assert set(held) == set(held_before)  # the tokenizer has not learned from them either


def test_broken_off_and_resumed_is_never_broken_off(tmp_path):
    X, file = make_recordings(), {"run_file": str(tmp_path / "run")}
    whole = make_pretrainer().fit(X)
    for step in (7, 4):  # in its second epoch, and again
        with pytest.raises(RuntimeError, match="killed"):
            make_pretrainer(**file, skorch_callbacks=[StopAt(step)]).fit(X)
    resumed = make_pretrainer(**file).fit(X)
    assert_same_weights(resumed, whole)
    assert [row["train_loss"] for row in resumed.history_] == [row["train_loss"] for row in whole.history_]
    assert_same_weights(make_pretrainer(**file).fit(X), whole)  # finished: nothing is trained


def test_weights_come_back(tmp_path):
    X = make_trials()
    pretrainer = make_pretrainer(max_epochs=1).fit(X)
    for name in ("weights.safetensors", "weights.pth"):
        path = str(tmp_path / name)
        pretrainer.save_checkpoint(path)
        again = make_pretrainer(checkpoint=path, max_epochs=0).fit(X)
        assert_same_weights(again, pretrainer)
        assert again.module_.sizes == pretrainer.module_.sizes and not again.module_.training
        codes = GramTokenizer(checkpoint=path, max_epochs=0, device="cpu").fit(X).transform(X)
        x = torch.tensor(np.asarray(X, dtype=np.float32) * np.float32(0.01))
        assert np.array_equal(codes, read_tokenizer(path).encode(x, [39, 41, 43, 63]))
        with pytest.raises(ValueError, match="n_layers: got 1, the checkpoint has 2"):
            make_tokenizer(checkpoint=path).fit(X)
    with pytest.raises(ValueError, match="n_layers: got 3, the checkpoint has 2"):
        make_pretrainer(checkpoint=path, n_layers=3).fit(X)
    with pytest.raises(ValueError, match="tokenizer: the checkpoint has its own"):
        make_pretrainer(checkpoint=path, tokenizer=path).fit(X)
    pickled = pickle.loads(pickle.dumps(pretrainer))
    np.testing.assert_array_equal(pickled.transform(X), pretrainer.transform(X))


def test_a_tokenizer_fitted_again_is_the_same_run():
    keys = [
        fingerprint(make_pretrainer(run_file="run", tokenizer=make_tokenizer(**params).fit(make_trials())), 0)
        for params in ({"max_epochs": 1}, {"max_epochs": 1}, {"max_epochs": 1, "random_state": 1})
    ]
    assert keys[0] == keys[1] != keys[2]  # times do not count, weights do


class Config(dict):
    """Configuration object of a library that is not there when the file is read."""


class Bomb:
    def __reduce__(self):
        return (exec, ("import pathlib; pathlib.Path('exploded').touch()",))


def test_published_files_are_read_and_not_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    network = GramPretrainingNetwork(size="tiny")
    state = {f"module.{name}": value for name, value in published_state(network).items()}
    config = Config(n_head=5, layer_scale_init_values=0.1, nested=Config(rate=[1, 2]))
    config["n_layer"] = 4
    torch.save({"model": state, "optimizer": {"steps": [Bomb()]}, "epoch": 3, "cf": config}, "published.pth")
    found, told = read_weights("published.pth")
    assert not (tmp_path / "exploded").exists()
    assert told["n_head"] == 5 and told["n_layer"] == 4 and len(found) == len(state)
    classifier = Gram(2, 2, n_times=400, channels=(1, 2), size="tiny")
    for other in (GramPretrainingNetwork(size="tiny"), classifier):
        assert not set(load_checkpoint(other, "published.pth").missing) - {"final_layer.weight", "final_layer.bias"}
    assert read_tokenizer("published.pth").sizes == network.vqgan.sizes
    again = GramPretrainer(checkpoint="published.pth", max_epochs=0, device="cpu").fit(make_trials(4, n_times=400))
    assert again.module_.sizes == network.sizes
    assert torch.equal(again.module_.mimic_head.weight, network.mimic_head.weight)
    with pytest.raises(ValueError, match="checkpoint: published.pth does not fit Gram .*reshaped"):
        load_checkpoint(Gram(2, 2, n_times=400, channels=(1, 2)), "published.pth")
    (tmp_path / "text.pth").write_text("none of ours")
    with pytest.raises(ValueError, match="checkpoint: text.pth could not be read"):
        read_weights("text.pth")
    make_tokenizer(max_epochs=0).fit(make_trials()).save_checkpoint("tokenizer.pth")
    with pytest.raises(ValueError, match="is not one of the second stage"):
        make_pretrainer(checkpoint="tokenizer.pth").fit(make_trials())


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"mask_ratio": 1.0}, "mask_ratio: got 1.0"),
        ({"readout": "mean"}, "readout: got 'mean'"),
        ({"cls_weight": 0, "mimic_weight": 0}, "cls_weight, mimic_weight: both are 0"),
        ({"masks": "none"}, "masks: got 'none'"),
        ({"hidden_token": "none"}, "hidden_token: got 'none'"),
        ({"size": "small"}, "size: got 'small'"),
        ({"n_heads": 3}, "n_heads: an embedding of 16"),
        ({"n_filters": 0}, "n_filters: got 0"),
        ({"drop_path": 1.0}, "drop_path: got 1.0"),
        ({"tokenizer_epochs": -1}, "max_epochs: got -1"),
        ({"tokenizer": 3}, "tokenizer: got int"),
        ({"tokenizer": make_tokenizer(scale=1.0), "scale": 100.0}, "tokenizer: its scale is 1.0, the autoencoder"),
        ({"run_file": "nowhere/run"}, "run_file: there is no folder nowhere"),
    ],
)
def test_settings_that_are_refused(params, match):
    with pytest.raises((ValueError, TypeError, FileNotFoundError), match=match):
        make_pretrainer(**params).fit(make_trials())
