"""How many times faster `ChannelTemplate` is than mne's ``interpolate_to``, with equal results.

Both sides run alternately in one process on one thread. mne is timed twice: ``interpolate_to`` alone, on Epochs that
are there already, and the whole way from array to array, which is what a step in a pipeline has to do. The matrix is
made once, at fit, and is not timed (a few milliseconds). mne's share is mostly memory, so its time depends on how
quickly the machine hands out fresh pages. Run: ``python benchmarks/interpolation.py [--repeats 5] [--quick]``.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import time

import mne
import numpy as np

from skeeg.array import EEGArray
from skeeg.montage import ChannelTemplate, template_names
from skeeg.positions import standard_montage

MOTOR22 = "Fz FC3 FC1 FCz FC2 FC4 C5 C3 C1 Cz C2 C4 C6 CP3 CP1 CPz CP2 CP4 P1 Pz P2 POz".split()


def alternate(repeats, **sides):
    """Median seconds of each side, run in turns; results are dropped, so each run finds the same memory free."""
    seconds = {name: [] for name in sides}
    for _ in range(repeats):
        for name, run in sides.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {name: float(np.median(values)) for name, values in seconds.items()}


def mne_side(ch_names, template):
    """Info and target montage for mne's way."""
    system = standard_montage()
    places = system.get_positions()
    target = mne.channels.make_dig_montage(
        {name: places["ch_pos"][name] for name in template_names(template)},
        places["nasion"],
        places["lpa"],
        places["rpa"],
        coord_frame=places["coord_frame"],
    )
    return mne.create_info(list(ch_names), 160.0, "eeg").set_montage(system), target


def compare(n_trials, ch_names, n_times, repeats):
    """Compare at one size."""
    X = np.random.default_rng(0).standard_normal((n_trials, len(ch_names), n_times))
    X32 = X.astype(np.float32)
    info, target = mne_side(ch_names, "mirepnet45")
    epochs = mne.EpochsArray(X, info)
    spline = ChannelTemplate("mirepnet45").fit(EEGArray(X[:1], ch_names))
    inverse = ChannelTemplate("mirepnet45", "inverse_distance").fit(EEGArray(X[:1], ch_names))
    eeg, eeg32 = EEGArray(X, ch_names), EEGArray(X32, ch_names)
    expected = epochs[:100].interpolate_to(target, method="spline").get_data()
    error, error32 = (
        np.abs(spline.transform(one[:100]) - expected).max() / np.abs(expected).max() for one in (eeg, eeg32)
    )
    copied = sum(name in ch_names for name in template_names("mirepnet45"))
    print(f"{n_trials}x{len(ch_names)}x{n_times} to 45 electrodes, {copied} recorded: float64 off from mne's by "
          f"{error:.1e} of the largest value, float32 by {error32:.1e}")  # fmt: skip
    seconds = alternate(
        repeats,
        epochs=lambda: epochs.interpolate_to(target, method="spline"),
        arrays=lambda: mne.EpochsArray(X, info).interpolate_to(target, method="spline").get_data(copy=False),
        float64=lambda: spline.transform(eeg),
        float32=lambda: spline.transform(eeg32),
        inverse=lambda: inverse.transform(eeg),
    )
    for name, label in (("float64", "spline"), ("float32", "spline, float32"), ("inverse", "inverse distance")):
        print(
            f"  {label:18s} {seconds[name] * 1e3:6.0f} ms: {seconds['epochs'] / seconds[name]:5.1f} times faster than "
            f"interpolate_to ({seconds['epochs'] * 1e3:.0f} ms), {seconds['arrays'] / seconds[name]:5.1f} times than "
            f"mne from array to array ({seconds['arrays'] * 1e3:.0f} ms)",
            flush=True,
        )


def main():
    """Run the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="only the smaller size")
    args = parser.parse_args()
    mne.set_log_level("error")
    compare(288, MOTOR22, 1001, args.repeats)
    if not args.quick:
        compare(5000, mne.channels.make_standard_montage("biosemi64").ch_names, 640, args.repeats)


if __name__ == "__main__":
    main()
