"""Time BEIRA's regions computed together against separate networks: ``python benchmarks/beira.py``.

Both sides have the published sizes (30 electrodes, 8 regions) and the same weights, run in turn
on one thread, and are timed by the processor time they use; medians and their ratio are printed.
"""

import statistics
import time

import torch

from skeeg.methods.beira import BEIRA

CASES = ((1, 2048, 15), (1, 5400, 7), (16, 2048, 3))


def run(network, x, training):
    """One prediction, or one forward and backward pass."""
    if training:
        network(x).square().mean().backward()
        network.zero_grad()
        return
    with torch.no_grad():
        network(x)


def medians(network, x, training, n_repeats):
    """Seconds of the separate and of the joint form."""
    seconds = {False: [], True: []}
    for repeat in range(n_repeats + 1):
        for grouped in (False, True):
            network.grouped = grouped
            start = time.process_time()
            run(network, x, training)
            if repeat:  # the first pass warms up
                seconds[grouped].append(time.process_time() - start)
    return [statistics.median(seconds[grouped]) for grouped in (False, True)]


def main():
    """Print one row a case."""
    torch.set_num_threads(1)
    network = BEIRA(n_chans=30, n_outputs=8)
    print("| trials | samples | pass | separate, s | together, s | ratio |\n|---|---|---|---|---|---|")
    for batch, n_times, n_repeats in CASES:
        x = torch.randn(batch, 30, n_times)
        for training in (False, True):
            network.train(training)
            apart, together = medians(network, x, training, n_repeats)
            kind = "training" if training else "prediction"
            print(
                f"| {batch} | {n_times} | {kind} | {apart:.3f} | {together:.3f} | {apart / together:.2f} |", flush=True
            )


if __name__ == "__main__":
    main()
