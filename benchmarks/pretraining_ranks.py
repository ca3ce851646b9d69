"""Fifty updates of two processes with batches of B beside those of one with batches of 2 B, dropout off.

    python benchmarks/pretraining_ranks.py [FOLDER]

trains MIRepNet and the second stage of Gram both ways in single precision, the tokenizer of Gram's first stage in two
processes, and has the two killed at a random update of another training, which one process then goes on with. It prints
the largest relative difference of the losses, whether both processes have one codebook, and what the kill cost.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile

import numpy as np
import torch
from skorch.callbacks import Callback

from skeeg import EEGArray, GramPretrainer, GramTokenizer, MIRepNetPretrainer
from skeeg.training import distributed

BATCH, EPOCHS, PER_EPOCH = 8, 5, 10
DEVICE = os.environ.get("DEVICE", "cpu")  # cuda: two GPUs and nccl
MIREPNET = {
    "network_params": {
        "embed_dim": 64, "n_layers": 2, "decoder_layers": 1, "n_heads": 4, "n_filters_time": 16, "n_filters": 32,
        "drop_prob": 0.0,
    },
    "max_epochs": EPOCHS, "random_state": 0, "device": DEVICE,
}  # fmt: skip
GRAM = {"size": "tiny", "learning_rate": 1e-3, "max_epochs": EPOCHS, "random_state": 0, "device": DEVICE}
TOKENIZER_SIZES = {"drop_prob": 0.0, "n_codes": 64}


class Steps(Callback):
    """Note the loss of every update; at one of them, kill all processes."""

    def __init__(self, kill_at=None):
        self.kill_at, self.losses = kill_at, []

    def on_batch_end(self, net, training=False, **kwargs):
        """Note one update."""
        if not training:
            return
        self.losses.append(float(net.history[-1, "batches", -1, "train_loss"]))
        if len(self.losses) == self.kill_at:
            for process in reversed(distributed.gather(os.getpid())):
                if distributed.is_first():
                    os.kill(process, signal.SIGKILL)
            distributed.barrier()


def signals(n_trials, names, n_times, seed):
    """Noise with a spectrum that falls, and a rhythm that tells two classes apart."""
    rng = np.random.default_rng(seed)
    X = np.diff(rng.normal(size=(n_trials, len(names), n_times + 1)).cumsum(axis=2) * 0.1 + rng.normal(), axis=2)
    y = rng.permutation(np.resize(["left", "right"], n_trials))
    X[y == "left", 0] += np.sin(np.arange(n_times) * 0.3)
    return EEGArray(20 * X, names, 200), y


def train_mirepnet(batch_size, kill_at=None, run_file=None):
    """Train on 160 trials of two montages, half of them labelled."""
    steps, (first, y) = Steps(kill_at), signals(80, ("C3", "Cz", "C4", "Pz"), 400, 0)
    second, _ = signals(80, ("C3", "C4", "Fz"), 400, 1)
    pretrainer = MIRepNetPretrainer(**MIREPNET, batch_size=batch_size, run_file=run_file, skorch_callbacks=[steps])
    pretrainer.fit([first, second], [y, None])
    return steps.losses


def windows():
    """Windows of two montages, 80 of each."""
    return [signals(80, names, 600, i)[0] for i, names in enumerate((("C3", "Cz", "C4"), ("O1", "O2")))]


def train_gram(tokenizer, batch_size):
    """Train the second stage."""
    steps = Steps()
    sizes = {"drop_prob": 0.0, "drop_path": 0.0}
    GramPretrainer(
        tokenizer, network_params=sizes, batch_size=batch_size, skorch_callbacks=[steps], **GRAM
    ).fit(windows())  # fmt: skip
    return steps.losses


def work(folder, kill_at):
    """Do what each of the two processes is to do."""
    distributed.start()
    own = folder / str(distributed.rank())
    own.mkdir()
    found = {"mirepnet": train_mirepnet(BATCH)}
    tokenizer = GramTokenizer(batch_size=BATCH, network_params=TOKENIZER_SIZES, **GRAM).fit(windows())
    np.save(own / "codebook.npy", tokenizer.codebook_)
    tokenizer.save_checkpoint(own / "tokenizer.safetensors")
    found["gram"] = train_gram(tokenizer, BATCH)
    (own / "losses.json").write_text(json.dumps(found))
    train_mirepnet(BATCH, kill_at, str(folder / "run.safetensors"))


def difference(one, other):
    """Largest relative difference."""
    return float(np.max(np.abs(np.array(one) / np.array(other) - 1)))


def main(folder):
    """Start the two processes, train alone, compare."""
    kill_at = int(np.random.default_rng().integers(PER_EPOCH + 1, EPOCHS * PER_EPOCH))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    subprocess.run([*launch, __file__, str(folder), str(kill_at)], stderr=subprocess.DEVNULL)
    two = json.loads((folder / "0" / "losses.json").read_text())
    books = [np.load(folder / number / "codebook.npy") for number in "01"]
    alone = {"mirepnet": train_mirepnet(2 * BATCH)}
    alone["gram"] = train_gram(str(folder / "0" / "tokenizer.safetensors"), 2 * BATCH)
    for name, losses in alone.items():
        print(f"{name}: {len(losses)} updates, largest relative difference {difference(two[name], losses):.1e}")
        print("  first and last of one:", losses[0], losses[-1], " of two:", two[name][0], two[name][-1])
    print("codebooks of both processes equal:", bool((books[0] == books[1]).all()), books[0].shape)
    rest = train_mirepnet(2 * BATCH, run_file=str(folder / "run.safetensors"))
    kept = len(alone["mirepnet"]) - len(rest)
    print(f"killed at update {kill_at}, gone on from {kept} (an epoch has {PER_EPOCH}); largest relative difference "
          f"from there {difference(rest, alone['mirepnet'][kept:]):.1e}")  # fmt: skip


if __name__ == "__main__":
    torch.set_num_threads(1)
    if "RANK" in os.environ:
        work(pathlib.Path(sys.argv[1]), int(sys.argv[2]))
    else:
        main(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()))
