"""How many times faster CSP is than `mne.decoding.CSP`, with the same filters.

Both sides run alternately in one process on one thread; each line gives the ratios of the medians, the smallest cosine
between filters and the largest difference between features.
Run: ``python benchmarks/csp.py [--repeats 15] [--quick]``.
"""

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import time

import mne
import numpy as np

from skeeg.spatial import CSP

SIZES = {
    "144x22x751, 2 classes": (144, 22, 751, 2),
    "200x64x640, 2 classes": (200, 64, 640, 2),
    "288x22x1001, 4 classes": (288, 22, 1001, 4),
}


def recording(n_trials, n_channels, n_times, n_classes):
    """Mixed sources, of which each class has a stronger one."""
    rng = np.random.default_rng(0)
    sources = rng.standard_normal((n_trials, n_channels, n_times))
    y = np.arange(n_trials) % n_classes
    for k in range(n_classes):
        sources[y == k, k] *= 1.7
    return rng.standard_normal((n_channels, n_channels)) @ sources, y


def timed(run):
    """Seconds of one run."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def compare(size, repeats):
    """Compare fit and transform at one size."""
    X, y = recording(*SIZES[size])
    theirs, ours = mne.decoding.CSP(), CSP()
    seconds = np.array(
        [
            [timed(run) for run in (lambda: theirs.fit(X, y), lambda: ours.fit(X, y))]
            + [timed(run) for run in (lambda: theirs.transform(X), lambda: ours.transform(X))]
            for _ in range(repeats)
        ]
    )
    fit_mne, fit, transform_mne, transform = np.median(seconds, axis=0) * 1e3
    a, b = theirs.filters_, ours.spatial_filters_
    cosine = (np.abs((a * b).sum(axis=1)) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min()
    print(
        f"{size}: fit {fit_mne / fit:5.1f} times faster than mne ({fit_mne:.1f} ms / {fit:.1f} ms), transform "
        f"{transform_mne / transform:.1f} times ({transform_mne:.1f} ms / {transform:.1f} ms), 1 - cosine "
        f"{1 - cosine:.0e}, features differ by {np.abs(theirs.transform(X) - ours.transform(X)).max():.0e}",
        flush=True,
    )


def main():
    """Run the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="only the small size")
    arguments = parser.parse_args()
    mne.set_log_level("ERROR")
    for size in list(SIZES)[: 1 if arguments.quick else None]:
        compare(size, arguments.repeats)


if __name__ == "__main__":
    main()
