"""Cost of the estimator around the network: fit against a bare PyTorch loop, predict against the bare module.

Both sides do the same updates of the same network on the same trials in one process, the two fits in turn epoch by
epoch: from one fit to the next a processor's speed wanders by more than they differ. Medians, of the ratios too, are
printed, and of the fits' the least and the largest. Run it with freed memory kept (``GLIBC_TUNABLES`` below): else what
one side leaves behind decides whether the other asks for its memory anew at every update, up to a fifth of its time.
What a fit costs once is in it: checks, building, and, in a fit of few epochs, the pass that settles the statistics of
batch norms that have seen too few updates. EEGNet's take 459, so it is given the 100 epochs that are the default; the
others' take 44, and they are given as many as time allows. Run with one thread:

    export GLIBC_TUNABLES=glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=2147483647
    OMP_NUM_THREADS=1 python benchmarks/training.py

takes half an hour.
"""

import argparse
import contextlib
import statistics
import time
import warnings

import numpy as np
import torch
from skorch.callbacks import Callback

from skeeg import NetworkClassifier
from skeeg.networks import build_network

TINY = "tiny"
EPOCHS = {"EEGNet": 100, "ShallowFBCSPNet": 30, "EEGConformer": 15}  # of a fit, by how long an epoch takes
_N_PREDICTIONS = 200


class Tiny(torch.nn.Module):
    """Next to no computation, so that what is left is the loop."""

    def __init__(self, n_chans, n_times, n_outputs):
        super().__init__()
        self.pool = torch.nn.AvgPool1d(n_times)
        self.final_layer = torch.nn.Linear(n_chans, n_outputs)

    def forward(self, x):
        """Classify channel means."""
        return self.final_layer(self.pool(x)[:, :, 0])


def bare_epochs(module, X, y, epochs, batch_size):
    """Train as one would by hand, stopping after each epoch."""
    X, y = torch.from_numpy(X), torch.from_numpy(y)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3, weight_decay=0.0)
    criterion = torch.nn.CrossEntropyLoss()
    module.train()
    for _ in range(epochs):
        for index in torch.randperm(len(X)).split(batch_size):
            optimizer.zero_grad()
            criterion(module(X.index_select(0, index)), y.index_select(0, index)).backward()
            optimizer.step()
        yield


class InTurn(Callback):
    """After each epoch of a fit, one epoch of a bare loop; ``seconds`` is what the latter took."""

    def __init__(self, epochs):
        self.epochs, self.seconds = epochs, 0.0

    def on_epoch_end(self, net, **kwargs):
        """Run the other side, without the guard that skeeg trains some networks in."""
        guarded = torch._C._len_torch_function_stack() > 0
        start = time.perf_counter()
        with torch.overrides._pop_mode_temporarily() if guarded else contextlib.nullcontext():
            next(self.epochs)
        self.seconds += time.perf_counter() - start


def time_fits(clf, build, X, y):
    """Seconds of a fit, and their ratio to those of the bare loop."""
    start = time.perf_counter()
    epochs = bare_epochs(build(), X, y, clf.max_epochs, 64)
    built = time.perf_counter() - start
    turn = InTurn(epochs)
    start = time.perf_counter()
    clf.set_params(skorch_callbacks=[turn]).fit(X, y)
    seconds = time.perf_counter() - start - turn.seconds
    return seconds, seconds / (built + turn.seconds)


def alternate(first, second, repeats):
    """Median seconds of the first of two functions called in turn, and the median of their ratios."""
    times = [], []
    for _ in range(repeats):
        for one, seconds in zip((first, second), times, strict=True):
            start = time.perf_counter()
            one()
            seconds.append(time.perf_counter() - start)
    ratios = [one / other for one, other in zip(*times, strict=True)]
    return statistics.median(times[0]), statistics.median(ratios)


# What the bare loop does: Adam without decay and schedule, trials as they are.
PLAIN = {
    "name": "mirepnet-fork",
    "solver": "adamw",
    "weight_decay": 0.0,
    "batch_size": 64,
    "schedule": None,
    "scale": None,
}


def compare(network, n, n_chans, n_times=1001, epochs=5, repeats=3, kernels="plain"):
    """Print one row for one network and shape; the bare side always runs the network's own layers."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(n, n_chans, n_times)).astype(np.float32), np.arange(n) % 2
    source = Tiny if network == TINY else network
    clf = NetworkClassifier(source, recipe=PLAIN, max_epochs=epochs, random_state=0, kernels=kernels)

    def build():
        return build_network(source, n_chans=n_chans, n_times=n_times, n_outputs=2)

    fits = [time_fits(clf, build, X, y) for _ in range(repeats)]
    fit, fit_ratio = (statistics.median(values) for values in zip(*fits, strict=True))
    least, largest = (limit(ratio for _, ratio in fits) for limit in (min, max))
    module, one = build().eval(), torch.from_numpy(X[:1])
    module.load_state_dict(clf.module_.state_dict())

    def bare_predict():
        with torch.inference_mode():
            module(one)

    predict, ratio = alternate(lambda: clf.predict_proba(X[:1]), bare_predict, _N_PREDICTIONS)
    cells = [network, kernels, f"{n} x {n_chans} x {n_times}", str(epochs), f"{fit:.2f}"]
    cells += [f"{fit_ratio:.3f} ({least:.3f} to {largest:.3f})", f"{1e3 * predict:.2f}", f"{ratio:.3f}"]
    print("|", " | ".join(cells), "|", flush=True)


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--networks", nargs="*", default=list(EPOCHS), choices=list(EPOCHS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print("| network | kernels | trials | epochs | fit, s | fit / bare | predict one trial, ms | predict / bare |")
    print("|---|---|---|---|---|---|---|---|")
    for network in arguments.networks:
        for n_chans, kernels in ((22, "plain"), (3, "plain"), (22, "auto"), (3, "auto")):
            compare(network, 288, n_chans, epochs=EPOCHS[network], repeats=arguments.repeats, kernels=kernels)
    compare(TINY, 2000, 22)


if __name__ == "__main__":
    main()
