import copy
import dataclasses

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from instances import CtrlC
from skorch.callbacks import Callback

from skeeg import EEGArray, GramTokenizer
from skeeg.methods.gram.layers import TokenizerSizes
from skeeg.methods.gram.tokenizer import TokenizerRecipe
from skeeg.methods.gram.tokenizer_network import Quantizer, cosine_kmeans, nearest_codes

NAMES = ("C3", "Cz", "C4", "Pz")
SMALL = {
    "size": "tiny", "n_layers": 1, "decoder_layers": 1, "n_codes": 16, "patch_length": 16, "max_epochs": 2,
    "batch_size": 8, "learning_rate": 2e-3, "random_state": 0, "device": "cpu", "drop_prob": 0.1,
}  # fmt: skip


def make_trials(n=12, names=NAMES, n_times=64, seed=0, rate=200.0):
    """Rhythms of two frequencies, in microvolts, with a little noise."""
    rng, time = np.random.default_rng(seed), np.arange(n_times) / rate
    rhythm = np.where(rng.random((n, len(names), 1)) < 0.5, 12.5, 50.0)
    waves = np.sin(2 * np.pi * (rhythm * time + rng.random((n, len(names), 1))))
    return EEGArray(30 * waves + 3 * rng.standard_normal(waves.shape), names, rate)


OWN = {"sfreq", "max_epochs", "batch_size", "learning_rate", "patience", "precision"}


def nest(params, sizes, settings):
    """Parameters of an estimator; sizes and settings of the recipe go to their dicts."""
    nested = {"network_params": {}, "recipe_params": {}}
    for name, value in params.items():
        home = nested
        for outer, cls in (("network_params", sizes), ("recipe_params", settings)):
            if home is nested and name in {field.name for field in dataclasses.fields(cls)} - OWN:
                home = nested[outer]
        home[name] = value
    return nested


def make_tokenizer(**params):
    return GramTokenizer(**nest({**SMALL, **params}, TokenizerSizes, TokenizerRecipe))


def weights_of(estimator):
    return {name: value.numpy() for name, value in estimator.module_.state_dict().items()}


def assert_same_weights(one, other):
    for name, value in weights_of(one).items():
        np.testing.assert_array_equal(value, weights_of(other)[name], err_msg=name)


# The codebook


@given(st.integers(0, 2**31 - 1), st.integers(1, 40), st.integers(1, 9))
def test_nearest_code_is_the_nearest(seed, n, n_codes):
    rng = np.random.default_rng(seed)
    z, book = rng.standard_normal((n, 3)), rng.standard_normal((n_codes, 3))  # of any length
    wanted = ((z[:, None] - book[None]) ** 2).sum(-1).argmin(1)
    assert nearest_codes(torch.tensor(z), torch.tensor(book)).tolist() == wanted.tolist()


def test_kmeans_finds_the_directions_there_are():
    torch.manual_seed(0)
    centres = F.normalize(torch.randn(5, 16), dim=1)
    z = F.normalize(centres.repeat(40, 1) + 0.02 * torch.randn(200, 16), dim=1)
    book = cosine_kmeans(z, 12, 20)
    torch.testing.assert_close(book.norm(dim=1), torch.ones(12))
    assert (centres @ book.T).max(dim=1).values.min() > 0.99
    assert cosine_kmeans(z[:3], 12).isfinite().all()  # fewer vectors than codes


def test_codebook_follows_by_the_formula():
    torch.manual_seed(0)
    quantizer, z = Quantizer(6, 4, decay=0.9).train(), torch.randn(2, 7, 4)
    quantizer.embedding.initted.fill_(1)
    before, unit = quantizer.codebook.detach().clone(), F.normalize(z, dim=-1)
    quantised, codes, loss = quantizer(z)
    for code in range(6):
        own, moved = unit[codes == code], quantizer.codebook[code]
        mean = F.normalize(own.mean(dim=0), dim=0) if len(own) else before[code]
        torch.testing.assert_close(moved, F.normalize(0.9 * before[code] + 0.1 * mean, dim=0))
    torch.testing.assert_close(loss, 2 * (unit - before[codes]).square().mean(dim=(1, 2)))
    torch.testing.assert_close(quantised, before[codes])
    settled = quantizer.eval().codebook.clone()
    quantizer(z)
    assert torch.equal(quantizer.codebook, settled)  # only training moves it


def test_gradient_goes_straight_through():
    quantizer, z = Quantizer(6, 4).eval(), torch.randn(1, 3, 4, requires_grad=True)
    unit = F.normalize(z, dim=-1)
    weight = torch.randn(1, 3, 4)
    (expected,) = torch.autograd.grad((unit * weight).sum(), z)
    (found,) = torch.autograd.grad((quantizer(z)[0] * weight).sum(), z)
    torch.testing.assert_close(found, expected)


def _rank(number, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=number, world_size=2)
    torch.manual_seed(number)  # each rank draws otherwise
    z = torch.load(f"{folder}/z.pt")[number::2]
    quantizer = Quantizer(6, 4).train()
    quantizer.start(z)
    started = quantizer.codebook.detach().clone()
    quantizer(z[None])
    torch.save((started.tolist(), quantizer.codebook.tolist()), f"{folder}/answer{number}.pt")
    dist.destroy_process_group()


def test_ranks_agree_on_the_codebook(tmp_path):
    torch.manual_seed(0)
    z = torch.randn(40, 4)
    torch.save(z, tmp_path / "z.pt")
    mp.start_processes(_rank, (str(tmp_path),), nprocs=2, start_method="fork")
    answers = [torch.load(tmp_path / f"answer{number}.pt") for number in range(2)]
    assert answers[0] == answers[1]
    alone = Quantizer(6, 4).train()
    alone.codebook.data.copy_(torch.tensor(answers[0][0]))
    alone.embedding.initted.fill_(1)
    alone(z[None])  # one process that sees the vectors of both
    torch.testing.assert_close(alone.codebook, torch.tensor(answers[0][1]), rtol=1e-5, atol=1e-6)


# The transformer


def test_reconstruction_of_rhythms():
    X, other = make_trials(32), make_trials(12, seed=5)
    tokenizer = make_tokenizer(max_epochs=15, learning_rate=5e-3, drop_prob=0.0, code_dim=8).fit(X)
    first, last = tokenizer.history_[0], tokenizer.history_[-1]
    assert last["train_rec_loss"] < 0.7 * first["train_rec_loss"]
    found = tokenizer.inverse_transform(tokenizer.transform(other))
    assert found.shape == other.shape and found.ch_names == NAMES and found.sfreq == 200
    assert np.corrcoef(np.ravel(found), np.ravel(other))[0, 1] > 0.25  # of recordings it has not seen
    assert np.asarray(found).std() == pytest.approx(np.asarray(other).std(), rel=0.3)


def test_usage_and_amplitude():
    X = make_trials()
    tokenizer = make_tokenizer().fit(X)
    codes = tokenizer.transform(X)
    assert codes.shape == (12, 4, 4) and codes.dtype == np.int64
    np.testing.assert_array_equal(tokenizer.usage_, np.bincount(codes.ravel(), minlength=16))
    patches = np.asarray(X, dtype=np.float64).reshape(12, 4, 4, 16).transpose(0, 2, 1, 3)
    power = (patches**2).mean(axis=-1)
    for code in np.unique(codes):
        assert tokenizer.code_scale_[code] == pytest.approx(np.sqrt(power[codes == code].mean()), rel=1e-4)
    assert tokenizer.codebook_.shape == (16, 32)
    own = tokenizer.inverse_transform(codes, scale=np.sqrt(power))
    shaped = np.asarray(own).reshape(12, 4, 4, 16).transpose(0, 2, 1, 3)
    np.testing.assert_allclose(np.sqrt((shaped**2).mean(axis=-1)), np.sqrt(power), rtol=1e-4)


def test_another_montage_rate_and_length_than_at_fit():
    tokenizer = make_tokenizer().fit(make_trials())
    other = make_trials(3, ("O1", "EEG T3-REF"), 81, rate=100.0)
    codes = tokenizer.transform(other)
    assert codes.shape == (3, 10, 2)
    back = tokenizer.inverse_transform(codes, ch_names=("O1", "T7"))
    assert back.shape == (3, 2, 160) and back.ch_names == ("O1", "T7")
    long = make_trials(2, n_times=37 * 16)
    codes = tokenizer.transform(long)
    assert codes.shape == (2, 37, 4) and tokenizer.inverse_transform(codes).shape == long.shape


def test_recordings_of_any_montage_and_length():
    parts = [make_trials(6), make_trials(4, ("O1", "O2"), 100, 1), make_trials(3, NAMES, 64, 2)]
    tokenizer = make_tokenizer(validation="subject", validation_size=0.34).fit(parts)
    assert tokenizer.usage_.sum() == 6 * 16 + 4 * 12 + 3 * 16
    curves = tokenizer.history_[-1]["valid_by_subject"]
    assert len(curves) == 2 and set(curves) < {"0/0", "1/0", "2/0"}
    assert all(set(one) == {"rec_loss", "quant_loss"} for one in curves.values())
    assert tokenizer.throughput_ > 0


def test_partial_fit_goes_on():
    X = make_trials(24)
    tokenizer = make_tokenizer(drop_prob=0.0)
    for part in (X[:12], X[12:], X[:12]):
        tokenizer.partial_fit(part)
    assert tokenizer.n_iter_ == len(tokenizer.history_) == 3 and tokenizer.usage_.sum() == 36 * 16
    losses = [row["train_rec_loss"] for row in tokenizer.history_]
    assert losses[2] < losses[0]
    twin = copy.deepcopy(tokenizer).partial_fit(make_trials(4, ("O1", "O2")))
    assert twin.n_iter_ == 4 and tokenizer.n_iter_ == 3
    twin.partial_fit(X).set_params(network_params__n_layers=2)
    twin.fit(X).partial_fit(X)  # of the other network nothing is left
    assert twin.n_iter_ == 3


def test_partial_fit_that_fails_leaves_the_network_as_it_was():
    class Failing(Callback):
        def on_epoch_end(self, net, **kwargs):
            raise RuntimeError("no memory")

    X = make_trials(12)
    tokenizer = make_tokenizer().partial_fit(X)
    before = copy.deepcopy(tokenizer.module_.state_dict())
    tokenizer.set_params(skorch_callbacks=[Failing()])
    with pytest.raises(RuntimeError, match="no memory"):
        tokenizer.partial_fit(X)
    torch.testing.assert_close(tokenizer.module_.state_dict(), before, rtol=0, atol=0)


def test_broken_off_and_resumed_is_never_broken_off(tmp_path):
    from test_mirepnet_pretraining import StopAt

    X, file = [make_trials(20), make_trials(9, ("O1", "O2"))], {"run_file": str(tmp_path / "run")}
    whole = make_tokenizer(max_epochs=3).fit(X)
    with pytest.raises(RuntimeError, match="killed"):
        make_tokenizer(max_epochs=3, **file, skorch_callbacks=[StopAt(8)]).fit(X)
    resumed = make_tokenizer(max_epochs=3, **file).fit(X)
    assert_same_weights(resumed, whole)
    assert [row["train_loss"] for row in resumed.history_] == [row["train_loss"] for row in whole.history_]
    with pytest.raises(ValueError, match="run_file: .* holds a run on other trials"):
        make_tokenizer(max_epochs=3, n_codes=8, **file).fit(X)


def test_checkpoints_of_both_kinds(tmp_path):
    X = make_trials()
    tokenizer = make_tokenizer().fit(X)
    for name in ("weights.safetensors", "weights.pth"):
        tokenizer.save_checkpoint(tmp_path / name)
        before = torch.get_rng_state()
        again = make_tokenizer(checkpoint=str(tmp_path / name), max_epochs=0).fit(X)
        assert torch.equal(torch.get_rng_state(), before)
        assert_same_weights(again, tokenizer)
        np.testing.assert_array_equal(again.transform(X), tokenizer.transform(X))
        assert again.history_ == [] and "missing" not in again.checkpoint_report_
    with pytest.raises(ValueError, match="n_codes: got 8, the checkpoint has 16"):
        make_tokenizer(checkpoint=str(tmp_path / name), n_codes=8).fit(X)


def test_a_flat_stretch_is_no_trouble():
    X = make_trials()
    X[:4, 1] = 0.0
    tokenizer = make_tokenizer().fit(X)
    assert np.isfinite([row["train_loss"] for row in tokenizer.history_]).all()
    assert np.isfinite(np.asarray(tokenizer.inverse_transform(tokenizer.transform(X)))).all()


def make_bad(what):
    X = make_trials()
    if what == "short":
        return X[:, :, :15]
    if what == "flat":
        X[:, 2] = 1.0
    elif what == "nan":
        X[:] = np.nan
    elif what == "unknown":
        return X.like(X, ch_names=("C3", "Cz", "C4", "Q1"))
    elif what == "nameless":
        return np.asarray(X)
    return X


@pytest.mark.parametrize(
    ("what", "match"),
    [
        ("short", "X: 15 sample"),
        ("flat", "X: channel C4 never changes"),
        ("nan", "NaN"),
        ("unknown", "ch_names: unknown electrode 'Q1'"),
        ("nameless", "ch_names: X carries no channel names"),
    ],
)
def test_trials_that_are_refused(what, match):
    with pytest.raises(ValueError, match=match):
        make_tokenizer().fit(make_bad(what))


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"size": "huge"}, "size: got 'huge'"),
        ({"max_epochs": -1}, "max_epochs: got -1"),
        ({"warmup_share": 1.5}, "warmup_share: got 1.5"),
        ({"scale": 0.0}, "scale: got 0.0"),
        ({"n_codes": 0}, "n_codes: got 0"),
        ({"codebook_decay": 2.0}, "codebook_decay: got 2.0"),
        ({"network_params": {"layers": 2}}, "network_params: got 'layers'; nearest: .*'n_layers'"),
        ({"recipe_params": {"n_codes": 2}}, "recipe_params: got 'n_codes'; nearest: "),
        ({"checkpoint": "nowhere.pth"}, "checkpoint: there is no file nowhere.pth"),
    ],
)
def test_settings_that_are_refused(params, match):
    with pytest.raises((ValueError, FileNotFoundError), match=match):
        make_tokenizer(**params).fit(make_trials())


@pytest.mark.parametrize(
    ("codes", "match"),
    [
        (np.zeros((2, 3, 4)), "codes: got float64"),
        (np.zeros((2, 3), int), "codes: got int64 of shape"),
        (np.full((1, 1, 4), 16), "expected integers from 0 to 15"),
        (np.zeros((1, 1, 3), int), "ch_names: got 4 names for codes of 3"),
    ],
)
def test_codes_that_are_refused(codes, match):
    with pytest.raises(ValueError, match=match):
        make_tokenizer(max_epochs=1).fit(make_trials()).inverse_transform(codes)


def test_codes_placed_after_a_while_are_used_and_those_placed_at_once_stay_together():
    rng, t = np.random.default_rng(0), np.arange(400) / 20
    waves = np.sin(2 * np.pi * (rng.uniform(1, 8, (30, 3, 1)) * t + rng.uniform(0, 1, (30, 3, 1))))
    seconds = waves.reshape(30, 3, 4, 100).transpose(0, 2, 1, 3).reshape(120, 3, 100)
    X = EEGArray(20 * seconds, ("C3", "Cz", "C4"), 20.0)
    settings = {
        "size": "tiny", "batch_size": 4, "max_epochs": 2, "random_state": 0, "device": "cpu",
        "network_params": {
            "n_layers": 1, "n_heads": 2, "decoder_layers": 1, "decoder_heads": 2, "n_codes": 64, "patch_length": 20,
            "sfreq": 20.0,
        },
    }  # fmt: skip
    used = {}
    for epochs in (0, 3):
        used[epochs] = (GramTokenizer(**settings, recipe_params={"warm_epochs": epochs}).fit(X).usage_ > 0).sum()
    assert used[0] < 48 < 60 <= used[3], used


@pytest.mark.parametrize("epoch", [1, 2])
def test_ctrl_c_keeps_what_was_learnt_so_far(epoch):
    X = make_trials()
    tokenizer = make_tokenizer(max_epochs=9, skorch_callbacks=[CtrlC(epoch)]).fit(X)
    assert tokenizer.n_iter_ == epoch and len(tokenizer.transform(X)) == len(X)
    assert np.isnan(tokenizer.throughput_) == (epoch == 1)


def test_a_precision_that_is_set_after_fit_waits_for_the_next_fit():
    X = make_trials()
    tokenizer = make_tokenizer().fit(X)
    codes = tokenizer.transform(X)
    np.testing.assert_array_equal(tokenizer.set_params(precision="float64").transform(X), codes)
