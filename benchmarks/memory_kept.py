"""What it brings to keep freed memory (``GLIBC_TUNABLES``): ``python benchmarks/memory_kept.py``.

An update of a network (batch of 64 trials, 22 electrodes, 1001 samples, one thread) in processes that keep freed memory
and in processes that do not, in turns; medians of processor seconds, and the peak of resident memory. EEGNet and
ShallowFBCSPNet have fast forms with small intermediates, EEGNeX and TCFormer have their own large ones.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

KEEP = "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=2147483647"
NETWORKS = ("EEGNet", "ShallowFBCSPNet", "EEGNeX", "TCFormer")


def measure(name):
    """Processor seconds of an update, and peak resident gigabytes, in this process."""
    import torch
    from kernels import build, pairs, update

    from skeeg.networks import accelerate

    torch.set_num_threads(1)
    module = accelerate(build(name, 22, 1001))
    x, y = torch.randn(64, 22, 1001), torch.randint(0, 4, (64,))
    rows = pairs([update(module, torch.optim.Adam(module.parameters(), 1e-4), x, y)], 4, most=15.0)
    lines = Path("/proc/self/status").read_text().splitlines()  # what getrusage tells begins with the parent's peak
    peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    return statistics.median(row[0] for row in rows), peak / 1e6


def in_process(name, keep):
    """Measure in a process of its own."""
    call = [sys.executable, "-W", "ignore", __file__, "--one", name]
    environ = {key: value for key, value in os.environ.items() if key != "GLIBC_TUNABLES"}
    environ |= {"GLIBC_TUNABLES": KEEP} if keep else {}
    return json.loads(subprocess.run(call, env=environ, capture_output=True, check=True).stdout)


def main():
    """Print a line for each network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one)))
        return
    for name in NETWORKS:
        pairs = [(in_process(name, False), in_process(name, True)) for _ in range(2)]
        ratio = statistics.median(given[0] / kept[0] for given, kept in pairs)
        (before, peak), (after, peak_kept) = pairs[0]
        print(
            f"{name:16} given back {1e3 * before:6.0f} ms, {peak:.2f} GB;",
            f"kept {1e3 * after:6.0f} ms, {peak_kept:.2f} GB; {ratio:.2f} times",
            flush=True,
        )


if __name__ == "__main__":
    main()
