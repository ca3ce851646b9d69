"""Check on one GPU, in under ten minutes, what the tests check on the CPU, and measure the throughput of pre-training.

    python benchmarks/gpu.py                              everything, on cuda
    python benchmarks/gpu.py --networks EEGNet --quick    some networks, small sizes
    python benchmarks/gpu.py --device cpu --quick         the same script without a GPU (the tests run this form)

Every network of the registry: outputs and gradients on the device against float64 on the CPU, in its own layers and in
the fast forms, and folded. Estimators: a fit on the device, predictions there and on the CPU, bf16. Pre-training:
trials a second of MIRepNet, own layers and fast forms, float32 and bf16. Two GPUs: the losses of two nccl processes
against those of one. One line a check, ``ok`` or ``WRONG``; ``--output`` writes them as CSV; the exit status is 1
if one is wrong.
"""

import argparse
import copy
import csv
import os
import pathlib
import re
import subprocess
import sys
import time
import warnings

import numpy as np
import torch

from skeeg import EEGArray, NetworkClassifier
from skeeg.networks import accelerate, build_network, fold, network_names

ELECTRODES = "Fz FC3 FC1 FCz FC2 FC4 C5 C3 C1 Cz C2 C4 C6 CP3 CP1 CPz CP2 CP4 P1 Pz P2 POz".split()
TOLERANCE = {torch.float32: 2e-3, torch.bfloat16: 0.1}
SMALL = {"embed_dim": 64, "n_layers": 2, "n_heads": 4}


class Report:
    """Lines of (check, what, value, verdict), printed as they come."""

    def __init__(self):
        self.rows = []

    def add(self, check, what, value, right=True):
        """Print a line and keep it."""
        self.rows.append((check, what, value, "ok" if right else "WRONG"))
        print("{:<14} {:<44} {:>14} {}".format(*self.rows[-1]), flush=True)

    def attempt(self, check, what, function, *args):
        """Call a function that adds lines; an exception is a wrong one."""
        try:
            function(self, what, *args)
        except Exception as error:  # one network's error must not hide the others' results
            self.add(check, what, f"{type(error).__name__}: {str(error)[:200]}", right=False)


def main(arguments=None):
    """Run the checks; give the number of wrong ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--networks", nargs="+", default=None, help="default: every network of the registry")
    parser.add_argument("--quick", action="store_true", help="small sizes, few updates")
    parser.add_argument("--minutes", type=float, default=9, help="networks that come later are left out, and said so")
    parser.add_argument("--output", type=pathlib.Path, default=None, help="CSV file of the lines")
    args = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("torch finds no CUDA device; --device cpu runs the same checks without one.")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    end, report = time.monotonic() + 60 * args.minutes, Report()
    report.add("machine", _machine(args.device), f"torch {torch.__version__}")
    for name in ("EEGNet", "ShallowFBCSPNet", "EEGConformer"):
        report.attempt("estimator", name, check_estimator, args)
    for kernels in ("plain", "auto"):
        for precision in ("float32", "bf16"):
            report.attempt("throughput", f"MIRepNet {kernels} {precision}", throughput, kernels, precision, args)
    if torch.cuda.device_count() > 1 and args.device == "cuda":
        report.attempt("nccl", "two processes against one", check_processes)
    for name in args.networks or network_names():
        if time.monotonic() > end:
            report.add("network", name, "left out: no time", right=False)
            continue
        report.attempt("network", name, check_network, args)
    if args.output is not None:
        with open(args.output, "w", newline="") as file:
            csv.writer(file).writerows([("check", "what", "value", "verdict"), *report.rows])
    wrong = sum(row[3] == "WRONG" for row in report.rows)
    print(f"{len(report.rows)} lines, {wrong} wrong")
    return wrong


def _machine(device):
    return torch.cuda.get_device_name() if device.startswith("cuda") else "CPU"


def check_network(report, name, args):
    """Compare outputs and gradients on the device, in three forms, with float64 on the CPU."""
    n_chans, n_times = (8, 256) if args.quick else (22, 1000)
    torch.manual_seed(0)
    signals = {"n_chans": n_chans, "n_times": n_times, "n_outputs": 4, "sfreq": 250.0}
    try:
        module = build_network(name, **signals, ch_names=ELECTRODES[:n_chans]).eval()
        x = torch.randn(4, n_chans, n_times)
        with torch.no_grad():
            module(x)
    except Exception as error:
        return report.add("network", name, f"not for these trials ({str(error).splitlines()[0][:60]})")
    try:
        exact = _outputs_and_gradients(copy.deepcopy(module).double(), x.double())
    except Exception:  # networks that make float32 tensors of their own
        exact = _outputs_and_gradients(copy.deepcopy(module), x)
    forms = {"own layers": module, "fast forms": accelerate(copy.deepcopy(module), "fast"), "folded": fold(module)}
    for form, network in forms.items():
        found = _outputs_and_gradients(copy.deepcopy(network).to(args.device), x.to(args.device), form != "folded")
        apart = max(map(_apart, found, exact))
        report.add("network", f"{name}, {form}", f"{apart:.1e}", apart < TOLERANCE[torch.float32])


def _outputs_and_gradients(module, x, gradients=True):
    """Compute the outputs and the gradient of their mean square with regard to all weights."""
    outputs = module(x)
    outputs = outputs[0] if isinstance(outputs, tuple) else outputs
    if not gradients:
        return [outputs.detach()]
    outputs.square().mean().backward()
    weights = [p.grad.flatten() for p in module.parameters() if p.grad is not None]
    return [outputs.detach(), torch.cat(weights)]


def _apart(found, exact):
    """Largest difference over the largest value."""
    return float((found.cpu().double() - exact.double()).abs().max() / exact.double().abs().max().clamp_min(1e-12))


def make_trials(n_trials, n_chans, n_times, sfreq=250):
    """Noise, in whose first channel a 10 Hz rhythm tells two classes apart."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(n_trials, n_chans, n_times)), np.resize(["left", "right"], n_trials)
    X[y == "left", 0] += 2 * np.sin(2 * np.pi * 10 * np.arange(n_times) / sfreq)
    return EEGArray(10 * X, ELECTRODES[:n_chans], sfreq), y


def check_estimator(report, name, args):
    """Fit on the device, in float32 and bf16; predict there and on the CPU."""
    X, y = make_trials(40 if args.quick else 200, 8 if args.quick else 22, 500)
    half = len(X) // 2
    for precision in ("float32", "bf16"):
        clf = NetworkClassifier(
            name, device=args.device, precision=precision, random_state=0, max_epochs=2 if args.quick else None
        )
        start = time.perf_counter()
        clf.fit(X[:half], y[:half])
        seconds, score = time.perf_counter() - start, clf.score(X[half:], y[half:])
        report.add("estimator", f"{name} {precision}: fit", f"{seconds:.1f} s, {score:.2f}", args.quick or score > 0.8)
        there = clf.predict_proba(X[half:])
        here = clf.set_params(device="cpu").predict_proba(X[half:])
        apart, allowed = (
            np.abs(there - here).max(),
            TOLERANCE[torch.float32 if precision == "float32" else torch.bfloat16],
        )
        report.add("estimator", f"{name} {precision}: predict there and here", f"{apart:.1e}", apart < allowed)


def throughput(report, what, kernels, precision, args):
    """Trials a second in an epoch of MIRepNet, own layers and fast forms, after a first fit that warms up."""
    X, y = make_trials(64 if args.quick else 2048, 8 if args.quick else 22, 1000)
    sizes, settings = SMALL if args.quick else {}, {"device": args.device, "batch_size": 64, "max_epochs": 1}
    clf = NetworkClassifier("MIRepNet", sizes, kernels=kernels, precision=precision, random_state=0, **settings)
    for _ in range(2):
        start = time.perf_counter()
        clf.fit(X, y)
        seconds = time.perf_counter() - start
    report.add("throughput", what, f"{len(X) / seconds:.0f} trials/s")


def check_processes(report, what):
    """Compare the losses of two processes on two GPUs with those of one."""
    script = pathlib.Path(__file__).with_name("pretraining_ranks.py")
    settings = {"env": os.environ | {"DEVICE": "cuda"}, "capture_output": True, "text": True, "timeout": 240}
    output = subprocess.run([sys.executable, str(script)], check=True, **settings).stdout
    for name, apart in re.findall(r"^(\w+): .*largest relative difference (\S+)", output, re.MULTILINE):
        report.add("nccl", f"{what}: {name}", apart, float(apart) < TOLERANCE[torch.float32])


if __name__ == "__main__":
    sys.exit(min(main(), 1))
