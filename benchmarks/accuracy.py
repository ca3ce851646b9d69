"""Whether the fast forms, and bfloat16, change what is decoded: accuracy on recorded data with them and without.

OpenNeuro ds003810, grasp imagery of subjects 2 and 3, one run left out, 4 to 38 Hz. Every seed is trained in each way
with the same batches and starting weights; rounding differs, and grows over the updates. The difference from the own
layers of a network is set beside the spread that another seed makes. Nothing is tuned here: every parameter is fixed in
this file.

Run: ``python benchmarks/accuracy.py``; with ``--ways "fast forms" bfloat16`` for the arithmetic, which takes long where
the processor has no instructions for it. The recordings are looked for in ``$SKEEG_DATA/ds003810``.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse

import numpy as np
import torch
from real_recordings import find_folder, folds

from skeeg import NetworkClassifier
from skeeg.datasets import GraspImagery

NETWORKS = ("EEGNet", "ShallowFBCSPNet")
SEEDS = (0, 1, 2)
WAYS = {"own layers": {"kernels": "plain"}, "fast forms": {}, "bfloat16": {"precision": "bf16"}}


def accuracy(network, way, seed, X, y):
    """Mean accuracy over runs and subjects."""
    clf = NetworkClassifier(network, **way, max_epochs=30, random_state=seed, device="cpu")
    splits = folds("leave one run out", X)
    return np.mean([clf.fit(X[train], y[train]).score(X[test], y[test]) for _, train, test in splits])


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", help="folder of ds003810")
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--ways", nargs="+", default=["own layers", "fast forms"], choices=WAYS)
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--subjects", nargs="+", type=int, default=(2, 3))
    arguments = parser.parse_args()
    folder = arguments.folder or find_folder()
    if folder is None:
        print("ds003810 is not here: set SKEEG_DATA to the folder that holds it, or give --folder.")
        return
    torch.set_num_threads(1)
    data = GraspImagery(folder, subjects=arguments.subjects)
    X, y = data.arrays(fmin=4, fmax=38, tmin=0.5, tmax=4.0, resample=128)
    for network in arguments.networks:
        first = None
        for name in arguments.ways:
            found = np.array([accuracy(network, WAYS[name], seed, X, y) for seed in arguments.seeds])
            told = f"standard deviation over seeds {np.std(found):.3f}"
            if first is None:
                first = found
            else:
                told += f", from the first of each seed {', '.join(f'{gap:+.3f}' for gap in found - first)}"
            print(f"{network:16} {name:10} {found.mean():.3f}, {told}", flush=True)


if __name__ == "__main__":
    main()
