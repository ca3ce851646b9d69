"""All speed ratios in one process, beside what the machine can do: writes ``benchmarks/SPEED.md``.

Every part is a script of its own in this folder, which alternates its two sides and prints medians; here they run one
after the other on one thread, after the limits of the machine: the rate of a matrix product and of a copy. On a machine
with CUDA the networks are timed there as well. ``python benchmarks/speed.py [PART ...]``; parts that are not asked for
keep their text in SPEED.md, and so does its last section, written by hand.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import contextlib
import datetime
import importlib
import importlib.metadata
import io
import platform
import re
import statistics
import sys
import time
from pathlib import Path

PAGE = Path(__file__).with_name("SPEED.md")
PARTS = (
    "limits", "alignment", "csp", "filtering", "interpolation", "kernels", "registry", "training", "evaluation",
    "accuracy", "memory_kept", "declined", "cuda",
)  # fmt: skip
PACKAGES = ("skeeg", "torch", "braindecode", "skorch", "mne", "pyriemann", "moabb", "numpy")


class Tee(io.StringIO):
    """Keeps what is printed and shows it too."""

    def write(self, text):
        """Write to both."""
        sys.__stdout__.write(text)
        sys.__stdout__.flush()
        return super().write(text)


def median_seconds(run, repeats=7):
    """Median time of a function, after one warm-up."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def limits():
    """Print the rate of matrix products and of copies, the bounds of all that follows."""
    import numpy as np
    import torch

    torch.set_num_threads(1)
    for name, dtype in (("float32", np.float32), ("float64", np.float64)):
        a = np.random.default_rng(0).standard_normal((1500, 1500)).astype(dtype)
        rate = 2 * 1500**3 / median_seconds(lambda a=a: a @ a) / 1e9
        print(f"matrix product, 1500 x 1500, {name}: {rate:.0f} GFLOP/s")
    source = np.ones(64 << 20, dtype=np.uint8)
    target = source.copy()
    print(f"copy of 64 MB: {2 * source.nbytes / median_seconds(lambda: np.copyto(target, source)) / 1e9:.1f} GB/s")


def cuda():
    """Print updates a second of each network on the GPU: plain, fast, and fast in bf16."""
    import torch

    if not torch.cuda.is_available():
        print("No GPU here.")
        return
    from kernels import NETWORKS, build, update

    from skeeg.networks import accelerate

    x, y = torch.randn(64, 22, 1001, device="cuda"), torch.randint(0, 4, (64,), device="cuda")
    for name in NETWORKS:
        cells = []
        for kernels, half in (("plain", False), ("auto", False), ("auto", True)):
            module = accelerate(build(name, 22, 1001).cuda(), kernels)
            step = update(module, torch.optim.Adam(module.parameters(), 1e-4), x, y)

            def run(step=step, half=half):
                with torch.autocast("cuda", torch.bfloat16, enabled=half):
                    step()
                torch.cuda.synchronize()

            cells.append(f"{1e3 * median_seconds(run, 20):.2f} ms")
        print(f"{name:20} plain {cells[0]}, fast {cells[1]}, fast in bf16 {cells[2]}")


def run_part(part):
    """Text that a part prints."""
    shown = Tee()
    script, *options = {"registry": ("kernels", "--all")}.get(part, (part,))
    arguments, sys.argv = sys.argv, [script, *options]  # the parts read their own options
    try:
        with contextlib.redirect_stdout(shown):
            {"limits": limits, "cuda": cuda}.get(script, lambda: importlib.import_module(script).main())()
    finally:
        sys.argv = arguments
    return shown.getvalue().strip()


def read_page():
    """Text of each part in the page there is."""
    if not PAGE.is_file():
        return {}
    found = re.findall(r"^## (\w+)\n\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.S | re.M)
    return {name: text.strip() for name, text in found}


def main():
    """Run the parts and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", default=PARTS, help=", ".join(PARTS))
    wanted = parser.parse_args().parts
    sys.path.insert(0, str(PAGE.parent))
    texts = read_page()
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    for part in wanted:
        print(f"\n## {part}\n")
        when = f"{datetime.date.today()}, {platform.machine()}, load {os.getloadavg()[0]:.1f}; {versions}"
        text = run_part(part)
        body = text if text.startswith("|") else f"```\n{text}\n```"
        texts[part] = f"{body}\n\n{when}"
        sections = "\n\n".join(f"## {name}\n\n{texts[name]}" for name in [*PARTS, "alone", "notes"] if name in texts)
        PAGE.write_text(f"# Speed\n\n{__doc__.split(': writes')[0]}. Made by `speed.py`, one thread.\n\n{sections}\n")


if __name__ == "__main__":
    main()
