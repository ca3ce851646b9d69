"""Two processes that pre-train together; this file is also the script that they run."""

import functools
import gc
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import unittest.mock

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback
from test_mirepnet import make_task
from test_mirepnet_pretraining import DROPPING, make_pretrainer, make_subjects
from torch.nn.parallel import DistributedDataParallel

from skeeg import EEGArray, GramPretrainer, GramTokenizer
from skeeg.training import Recipe, data, distributed, train
from skeeg.training.data import Trials
from skeeg.training.distributed import SharedBatches
from skeeg.training.pretraining import PartsLoss, RunFile, draw_mask, pretrain, read_run

BATCH, EPOCHS, KILL_AT = 4, 3, 9  # batches of one of two processes
# In single precision biases before a normalisation, whose gradient is 0 but for rounding, walk at random with Adam: the
# losses of the updates agree all the same, running means lag behind and validation losses differ by a thousandth.
SETTINGS = {"max_epochs": EPOCHS, "validation": "subject", "recipe": {"cls_weight": 0.5}, "precision": "float64"}
GRAM = {"size": "tiny", "max_epochs": 2, "learning_rate": 1e-3, "device": "cpu", "random_state": 0}
SIZES = {"n_layers": 2, "n_heads": 2, "decoder_layers": 1, "decoder_heads": 2, "drop_prob": 0.0, "patch_length": 20}


class Steps(Callback):
    """Note the loss of every update; die at one, together with the other process."""

    def __init__(self, kill_at=None):
        self.kill_at, self.losses = kill_at, []

    def on_batch_end(self, net, training=False, **kwargs):
        if training:
            self.losses.append(net.history[-1, "batches", -1, "train_loss"])
        if training and len(self.losses) == self.kill_at:
            for process in reversed(distributed.gather(os.getpid())):
                if distributed.is_first():
                    os.kill(process, signal.SIGKILL)
            distributed.barrier()


def make_data():
    """Trials of three people, those of one without labels, so that no two parts of a batch have equally many."""
    X, y = make_subjects(2)
    return [X, make_task(11, seed=7, subject="2")[0]], [y, None]


def make_windows():
    """Trials of two montages; the last batch of one of them is a single trial."""
    rng = np.random.default_rng(0)
    first = EEGArray(20 * rng.normal(size=(13, 3, 60)).cumsum(axis=2), ("C3", "Cz", "C4"), 200)
    return [first, EEGArray(20 * rng.normal(size=(9, 2, 40)), ("O1", "O2"), 200)]


def fit_mirepnet(batch_size, **params):
    """Pre-train without batch normalisation, which on CPUs sees the trials of one process."""
    steps = Steps(params.pop("kill_at", None))
    settings = {**SETTINGS, "batch_size": batch_size, **params}
    pretrainer = make_pretrainer(**settings, skorch_callbacks=[steps])
    with unittest.mock.patch("torch.nn.BatchNorm2d", functools.partial(torch.nn.GroupNorm, 1)):
        return pretrainer.fit(*make_data()), steps.losses


def fit_gram(tokenizer, batch_size, **params):
    steps = Steps()
    sizes = {**SIZES, "drop_path": 0.0}
    pretrainer = GramPretrainer(
        tokenizer, network_params=sizes, batch_size=batch_size, skorch_callbacks=[steps], **{**GRAM, **params}
    )
    return pretrainer.fit(make_windows()), steps.losses


def tensors_of(estimator):
    return {name: value.numpy() for name, value in estimator.module_.state_dict().items()}


def refusal(call):
    """Message of a ValueError."""
    try:
        call()
    except ValueError as error:
        return str(error)
    return None


def work(folder):
    """All that two processes are to show."""
    distributed.start()
    torch.set_num_threads(1)
    own, notes = folder / str(distributed.rank()), {}
    own.mkdir()
    gc.disable()
    pretrainer, notes["mirepnet"] = fit_mirepnet(BATCH)
    notes["left"] = sum(issubclass(type(one), DistributedDataParallel) for one in gc.get_objects())
    gc.enable()
    notes["history"] = pretrainer.history_
    np.savez(own / "mirepnet.npz", **tensors_of(pretrainer))
    pieces, _ = fit_mirepnet(BATCH // 2, accumulate=2, network_params=DROPPING, precision="bf16")
    np.savez(own / "pieces.npz", **tensors_of(pieces))
    tokenizer = GramTokenizer(batch_size=BATCH, network_params={**SIZES, "n_codes": 8}, **GRAM).fit(make_windows())
    np.save(own / "codebook.npy", tokenizer.codebook_)
    tokenizer.save_checkpoint(own / "tokenizer.safetensors")
    pretrainer, notes["gram"] = fit_gram(tokenizer, BATCH)
    np.savez(own / "gram.npz", **tensors_of(pretrainer))
    (X, _), n = make_subjects(1), 8 - distributed.rank()
    notes["others"] = refusal(lambda: make_pretrainer().fit(X[:n]))
    file = folder / "run.safetensors"
    file.write_text("none of ours")
    notes["file"] = refusal(lambda: make_pretrainer(run_file=str(file)).fit(X))
    file = folder / "killed.safetensors"
    (own / "notes.json").write_text(json.dumps(notes))
    fit_mirepnet(BATCH, run_file=str(file), kill_at=KILL_AT)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Folder where both processes have left what they found."""
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    said = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, str(folder)], env={**said, "RANK": str(i)}, stderr=subprocess.PIPE, text=True
        )
        for i in range(2)
    ]
    ends = [(process.communicate(timeout=120)[1], process.returncode) for process in processes]
    assert [code for _, code in ends] == [-signal.SIGKILL] * 2, ends[0][0] + ends[1][0]
    return folder


@pytest.fixture(scope="module")
def alone():
    """One process with the batches of two."""
    return fit_mirepnet(2 * BATCH)


def notes_of(folder, number=0):
    return json.loads((folder / str(number) / "notes.json").read_text())


def test_two_processes_make_the_updates_of_one(two, alone):
    pretrainer, losses = alone
    notes = notes_of(two)
    assert len(losses) == len(notes["mirepnet"]) == EPOCHS * 4
    np.testing.assert_allclose(notes["mirepnet"], losses, rtol=1e-6)
    found = np.load(two / "0" / "mirepnet.npz")
    for name, value in tensors_of(pretrainer).items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
    for one, other in zip(notes["history"], pretrainer.history_, strict=True):
        for name in ("train_loss", "train_rec_loss", "train_cls_loss", "train_acc", "valid_loss", "valid_rec_loss"):
            assert one[name] == pytest.approx(other[name], rel=1e-6), name
        for subject, curve in other["valid_by_subject"].items():
            assert one["valid_by_subject"][subject] == pytest.approx(curve, rel=1e-6)


@pytest.mark.parametrize("name", ["mirepnet", "pieces", "gram"])
def test_both_processes_end_with_the_same(two, name):
    first, second = (np.load(two / number / f"{name}.npz") for number in "01")
    for tensor in first:
        np.testing.assert_array_equal(first[tensor], second[tensor], err_msg=tensor)
    one, other = notes_of(two, 0), notes_of(two, 1)
    assert one["history"] == other["history"] and one["gram"] == other["gram"]


def test_nothing_exchanges_gradients_after_the_training(two):
    assert notes_of(two)["left"] == 0


def test_both_processes_have_one_codebook(two):
    first, second = (np.load(two / number / "codebook.npy") for number in "01")
    np.testing.assert_array_equal(first, second)
    assert len(np.unique(first.round(4), axis=0)) > 1


def test_two_processes_make_the_updates_of_one_in_grams_second_stage(two):
    tokenizer = str(two / "0" / "tokenizer.safetensors")
    _, losses = fit_gram(tokenizer, 2 * BATCH)
    np.testing.assert_allclose(notes_of(two)["gram"], losses, rtol=1e-4)


def test_two_killed_processes_go_on_as_one(two, alone):
    file = str(two / "killed.safetensors")
    _, kept = read_run(file, json.loads(_header(file))["key"])
    assert len(kept["history"]) == KILL_AT // 4  # no more than the epoch they were in is lost
    resumed, losses = fit_mirepnet(2 * BATCH, run_file=file)
    np.testing.assert_allclose(losses, alone[1][4 * len(kept["history"]) :], rtol=1e-4)
    whole = [row["train_loss"] for row in alone[0].history_]
    np.testing.assert_allclose([row["train_loss"] for row in resumed.history_], whole, rtol=1e-4)


def _header(file):
    size = int.from_bytes(pathlib.Path(file).read_bytes()[:8], "little")
    return json.loads(pathlib.Path(file).read_bytes()[8 : 8 + size])["__metadata__"]["skeeg weights"]


def test_errors_reach_every_process(two):
    for number in range(2):
        assert "processes have [8, 7] trials" in notes_of(two, number)["others"]
        assert "run.safetensors could not be read as plain tensors" in notes_of(two, number)["file"]


def test_accumulated_batches_are_one_batch():
    torch.manual_seed(0)
    X, y = torch.randn(22, 5), torch.randint(0, 2, (22,))
    weights = []
    for settings in ({"batch_size": 8}, {"batch_size": 4, "accumulate": 2}, {"batch_size": 3, "accumulate": 3}):
        torch.manual_seed(1)
        net = train(torch.nn.Linear(5, 2), X, y, Recipe(max_epochs=3, learning_rate=0.1, solver="sgd", **settings))
        weights.append((net.module_.weight.detach(), [row["train_loss"] for row in net.history]))
    (big, losses), (small, same), (other, _) = weights
    torch.testing.assert_close(small, big)
    assert same == pytest.approx(losses) and not torch.allclose(other, big)
    with pytest.raises(ValueError, match="accumulate: got 0, expected an int in the range"):
        Recipe(accumulate=0).check()


class Masked(torch.nn.Module):
    """Mean of what is not hidden."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(6, 6)

    def forward(self, x):
        if isinstance(x, dict):
            return self(**x)
        return (self.layer(x) * draw_mask(len(x), 6, 0.5)).square().mean(dim=1, keepdim=True)


def test_accumulated_batches_are_one_batch_in_pretraining_too():
    torch.manual_seed(0)
    trials, found = Trials([{"x": torch.randn(11, 6)}, {"x": torch.randn(6, 6)}]), []
    for settings in ({"batch_size": 8}, {"batch_size": 4, "accumulate": 2}, {"batch_size": 1, "accumulate": 8}):
        torch.manual_seed(1)
        model = Masked()
        recipe = Recipe(max_epochs=3, learning_rate=0.1, solver="sgd", by_step=True, **settings)
        history = pretrain(model, trials, recipe, PartsLoss(("loss",), (1.0,)), RunFile())
        found.append((model.layer.weight.detach(), [row["train_loss"] for row in history], torch.rand(1)))
    for weight, losses, drawn in found[1:]:
        torch.testing.assert_close(weight, found[0][0])
        assert losses == pytest.approx(found[0][1]) and drawn == found[0][2]


def test_rows_of_one_draw_are_those_of_the_whole():
    torch.manual_seed(3)
    whole = draw_mask(7, 10, 0.5)
    torch.manual_seed(3)
    with data.common_stream(torch.get_rng_state()):
        state, parts = data.random_state(), []
        for rows in (slice(0, 4), slice(4, 7), slice(7, 7)):
            torch.rand(rows.stop)  # what a process draws for itself changes nothing
            data.set_random_state(state)
            with data.computing(rows, 7):
                parts.append(draw_mask(rows.stop - rows.start, 10, 0.5))
    assert torch.equal(torch.cat(parts), whole)
    torch.manual_seed(3)
    draw_mask(7, 10, 0.5)
    expected = torch.rand(2)
    torch.manual_seed(3)
    with data.common_stream(torch.get_rng_state()), data.computing(slice(0, 2), 7):
        draw_mask(2, 10, 0.5)
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize("size", [2, 3, 5])
def test_parts_make_up_the_batches(monkeypatch, size):
    trials, found = Trials([{"x": torch.arange(7)}, {"x": torch.arange(7, 11)}]), []
    monkeypatch.setattr(distributed, "size", lambda: size)
    for number in range(size):
        monkeypatch.setattr(distributed, "rank", lambda: number)  # noqa: B023
        torch.manual_seed(0)
        found.append([(X["x"].tolist()[: len(y)], len(y)) for X, y in SharedBatches(trials, 4, shuffle=True)])
    batches = [sum((x for x, _ in parts), []) for parts in zip(*found, strict=True)]
    assert sorted(map(len, batches)) == [3, 4, 4] and sorted(sum(batches, [])) == list(range(11))
    assert all(len(x) == n for parts in found for x, n in parts)
    for parts in zip(*found, strict=True):
        assert max(n for _, n in parts) - min(n for _, n in parts) <= 1


if __name__ == "__main__":
    work(pathlib.Path(sys.argv[1]))
