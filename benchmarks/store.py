"""How fast windows are drawn from a store that does not fit the memory, against what the disk itself gives.

A store of simulated recordings (``--gigabytes``, 10 by default) is built in a folder, and random windows of it are read
in batches, in a process of its own whose peak memory is printed. Beside it stand the rates of the files alone: read
from end to end, and in blocks of a window's size at random places, through the operating system without this package.
The operating system is asked to forget the files before each of the three, so that the disk is measured and not the
memory. Run: ``python benchmarks/store.py [--gigabytes 10] [--folder FOLDER]``; the folder is removed at the end.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import mne
import numpy as np

from skeeg.datasets import RecordingStore

N_CHANNELS, RATE, MINUTES, SECONDS = 64, 250.0, 60, 4.0
BATCH = 64


def build(folder, gigabytes):
    """Write the store."""
    size = N_CHANNELS * RATE * 60 * MINUTES * 4
    noise = 1e-5 * np.random.default_rng(0).standard_normal((N_CHANNELS, int(RATE * 60 * MINUTES))).astype(np.float32)
    info = mne.create_info([f"E{i}" for i in range(N_CHANNELS)], RATE, "eeg", verbose="error")
    store, start = RecordingStore(folder), time.perf_counter()
    for number in range(max(1, round(gigabytes * 1e9 / size))):
        raw = mne.io.RawArray(noise, info, verbose="error")
        store.add(raw, subject=f"{number:03d}", progress=False)
    seconds = time.perf_counter() - start
    total = sum(path.stat().st_size for path in Path(folder).glob("*.h5"))
    print(f"built: {len(store)} recordings, {total / 1e9:.1f} GB, {total / 1e6 / seconds:.0f} MB/s", flush=True)


def forget(folder):
    """Ask the operating system to drop its copies of the files."""
    for path in Path(folder).glob("*.h5"):
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def draw(folder, seconds):
    """Read random windows for some time."""
    forget(folder)
    (group,) = RecordingStore(folder).windows(SECONDS)
    rng, n, start = np.random.default_rng(0), 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        n += len(group.take(rng.integers(len(group), size=BATCH)))
    report("windows of the store at random", n * group.shape[1] * group.shape[2] * 4, time.perf_counter() - start, n)
    # not getrusage: its peak includes that of the process which started this one
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    print(f"peak memory of this process: {int(peak) / 1e6:.2f} GB", flush=True)


def read_blocks(folder, seconds, at_random):
    """Read the files themselves."""
    forget(folder)
    size = int(N_CHANNELS * SECONDS * RATE * 4)
    files = [open(path, "rb", buffering=0) for path in sorted(Path(folder).glob("*.h5"))]  # noqa: SIM115
    counts = [os.fstat(file.fileno()).st_size // size for file in files]
    rng, n, start = np.random.default_rng(1), 0, time.perf_counter()
    places = ((f, i) for f, count in enumerate(counts) for i in range(count))
    while time.perf_counter() - start < seconds:
        f, i = (int(rng.integers(len(files))), None) if at_random else next(places, (None, None))
        if f is None:
            break
        i = int(rng.integers(counts[f])) if i is None else i
        n += len(os.pread(files[f].fileno(), size, i * size)) // size
    name = "blocks of the files at random" if at_random else "the files from end to end"
    report(name, n * size, time.perf_counter() - start, n)


def report(name, n_bytes, seconds, n):
    """Print one line."""
    print(f"{name}: {n / seconds:.0f} windows/s, {n_bytes / seconds / 1e6:.0f} MB/s", flush=True)


def main():
    """Build, measure, remove."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=10.0)
    parser.add_argument("--folder", help="where the store is built (a temporary folder)")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        parts = {
            "draw": lambda: draw(arguments.folder, arguments.seconds),
            "random": lambda: read_blocks(arguments.folder, arguments.seconds, True),
            "end": lambda: read_blocks(arguments.folder, arguments.seconds, False),
        }
        return parts[arguments.part]()
    folder = tempfile.mkdtemp(dir=arguments.folder)
    try:
        build(folder, arguments.gigabytes)
        for part in ("draw", "random", "end"):
            command = [sys.executable, __file__, "--folder", folder, "--seconds", str(arguments.seconds)]
            subprocess.run([*command, "--part", part], check=True)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
