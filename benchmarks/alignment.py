"""How many times faster alignment is than the same by pyRiemann, and what memory each takes.

The reference is pyRiemann's ``Covariances("scm")``, mean, inverse square root, and the product with the trials. Both
sides run alternately in one process on one thread; each line gives the ratio of the medians, the largest difference
relative to the largest value, and the memory beyond the input as a multiple of the output. With the same divisor
(``ddof=0``) both compute the same. Run: ``python benchmarks/alignment.py [--repeats 5] [--quick]``.
"""

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import time
import tracemalloc

import numpy as np
from pyriemann.estimation import Covariances
from pyriemann.geometry.base import invsqrtm
from pyriemann.geometry.mean import gmean

from skeeg.alignment import EuclideanAlignment, RiemannianAlignment

SIZES = {"288x22x1001": (288, 22, 1001), "5000x64x640": (5000, 64, 640)}


def pyriemann_align(X, metric):
    """Whiten by the mean covariance, with pyRiemann's parts."""
    return invsqrtm(gmean(Covariances("scm").transform(X), metric=metric)) @ X


def alternate(repeats, **sides):
    """Median seconds of each side, run in turns, and the largest relative difference of their results."""
    seconds, results = {name: [] for name in sides}, {}
    for _ in range(repeats):
        for name, run in sides.items():
            results.pop(name, None)
            start = time.perf_counter()
            results[name] = run()
            seconds[name].append(time.perf_counter() - start)
    first, second = (np.asarray(result) for result in results.values())
    error = max(np.abs(a - b).max() for a, b in zip(first, second, strict=True)) / np.abs(first).max()
    return {name: float(np.median(values)) for name, values in seconds.items()}, error


def memory(run, n_bytes):
    """Peak memory of a run, in units of `n_bytes`."""
    tracemalloc.start()
    run()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / n_bytes


def compare(size, Alignment, metric, dtype, repeats):
    """Compare one alignment at one size and type."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal(SIZES[size], dtype=np.float32).astype(dtype, copy=False)
    sides = {
        "pyriemann": lambda: pyriemann_align(X, metric),
        "skeeg": lambda: Alignment(ddof=0).fit_transform(X),
    }
    seconds, error = alternate(repeats, **sides)
    used = {name: memory(run, X.nbytes) for name, run in sides.items()}
    ratio = seconds["pyriemann"] / seconds["skeeg"]
    print(
        f"{size} {Alignment.__name__} {np.dtype(dtype)}: {ratio:5.1f} times faster than pyriemann "
        f"({seconds['pyriemann'] * 1e3:.0f} ms / {seconds['skeeg'] * 1e3:.0f} ms), difference {error:.1e}, "
        f"memory {used['pyriemann']:.2f} / {used['skeeg']:.2f} outputs",
        flush=True,
    )


def main():
    """Run the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="only the small size")
    arguments = parser.parse_args()
    sizes = list(SIZES)[: 1 if arguments.quick else None]
    for size in sizes:
        for dtype in (np.float32, np.float64):
            if size == "5000x64x640" and dtype is np.float64:
                continue  # pyriemann alone would take ten gigabytes
            compare(size, EuclideanAlignment, "euclid", dtype, arguments.repeats)
    compare("288x22x1001", RiemannianAlignment, "riemann", np.float64, arguments.repeats)


if __name__ == "__main__":
    main()
