"""How many times faster the filters are than mne's, with equal results.

Both sides run alternately in one process on one thread; each line gives the ratio of the medians and the largest
difference relative to the largest value. Of 1001 samples mne's resampled trials are up to half a new sample late, and
differ. Run: ``python benchmarks/filtering.py [--repeats 5] [--quick]``.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import time

import mne
import numpy as np

from skeeg.filtering import BandPass, FilterBank, Resample

SIZES = {"288x22x1001": (288, 22, 1001, 250.0), "1000x64x640": (1000, 64, 640, 160.0)}


def alternate(repeats, **sides):
    """Median seconds of each side, run in turns, and each side's result."""
    seconds, results = {name: [] for name in sides}, {}
    for _ in range(repeats):
        for name, run in sides.items():
            start = time.perf_counter()
            results[name] = run()
            seconds[name].append(time.perf_counter() - start)
    return {name: float(np.median(values)) for name, values in seconds.items()}, results


def report(title, repeats, reference, double, single):
    """Print both ratios and both errors of one comparison."""
    seconds, results = alternate(repeats, mne=reference, float64=double, float32=single)
    scale = np.abs(results["mne"]).max()
    for name in ("float64", "float32"):
        error = np.abs(np.asarray(results[name]) - results["mne"]).max() / scale
        ratio = seconds["mne"] / seconds[name]
        print(
            f"{title:32s} {name}: {ratio:5.1f} times faster than mne ({seconds['mne'] * 1e3:.0f} ms / "
            f"{seconds[name] * 1e3:.0f} ms), difference {error:.1e}",
            flush=True,
        )


def compare(size, repeats):
    """Compare every filter at one size."""
    n_trials, n_channels, n_times, sfreq = SIZES[size]
    X = np.random.default_rng(0).standard_normal((n_trials, n_channels, n_times)) * 10
    X32 = X.astype(np.float32)
    bands = ((4, 8), (8, 12), (12, 16))

    def stacked():
        return np.concatenate([mne.filter.filter_data(X, sfreq, *band) for band in bands], axis=1)

    steps = {
        "FIR 8-30 Hz": (BandPass(8, 30, sfreq=sfreq), lambda: mne.filter.filter_data(X, sfreq, 8, 30)),
        "IIR 8-30 Hz": (
            BandPass(8, 30, method="iir", sfreq=sfreq),
            lambda: mne.filter.filter_data(X, sfreq, 8, 30, method="iir"),
        ),
        "filter bank, 3 bands": (FilterBank(bands, sfreq=sfreq), stacked),
        "resample to 128 Hz": (Resample(128, sfreq=sfreq), lambda: mne.filter.resample(X, 128, sfreq)),
    }
    for name, (step, reference) in steps.items():
        step.fit(X)
        report(
            f"{size} {name}",
            repeats,
            reference,
            lambda step=step: step.transform(X),
            lambda step=step: step.transform(X32),
        )


def main():
    """Run the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="only the smaller size")
    args = parser.parse_args()
    mne.set_log_level("error")
    for size in list(SIZES)[: 1 if args.quick else None]:
        compare(size, args.repeats)


if __name__ == "__main__":
    main()
