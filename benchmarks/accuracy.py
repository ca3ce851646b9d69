"""Whether the fast forms change what is decoded: accuracy on recorded data with a network's own layers and with them.

OpenNeuro ds003810, grasp imagery of subjects 2 and 3, one run left out, 4 to 38 Hz. Every seed is trained twice, with
the same batches and starting weights; rounding differs, and grows over the updates. The difference between the two is
set beside the spread that another seed makes. Nothing is tuned here: every parameter is fixed in this file.

Run: ``python benchmarks/accuracy.py``. The recordings are looked for in ``$SKEEG_DATA/ds003810``.
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


def accuracy(network, kernels, seed, X, y):
    """Mean accuracy over runs and subjects."""
    clf = NetworkClassifier(network, kernels=kernels, max_epochs=30, random_state=seed, device="cpu")
    splits = folds("leave one run out", X)
    return np.mean([clf.fit(X[train], y[train]).score(X[test], y[test]) for _, train, test in splits])


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", help="folder of ds003810")
    folder = parser.parse_args().folder or find_folder()
    if folder is None:
        print("ds003810 is not here: set SKEEG_DATA to the folder that holds it, or give --folder.")
        return
    torch.set_num_threads(1)
    X, y = GraspImagery(folder, subjects=(2, 3)).arrays(fmin=4, fmax=38, tmin=0.5, tmax=4.0, resample=128)
    for network in NETWORKS:
        plain, fast = ([accuracy(network, k, seed, X, y) for seed in SEEDS] for k in ("plain", "auto"))
        print(
            f"{network:16} own layers {np.mean(plain):.3f}, fast forms {np.mean(fast):.3f}; of each seed "
            f"{', '.join(f'{b - a:+.3f}' for a, b in zip(plain, fast, strict=True))}; another seed moves own layers by "
            f"{np.std(plain, ddof=1):.3f} (standard deviation)",
            flush=True,
        )


if __name__ == "__main__":
    main()
