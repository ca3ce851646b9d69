"""Exact fast forms against the networks' own layers: time ratios, and how far the numbers are apart.

    python benchmarks/kernels.py                       the networks that motor imagery is decoded with
    python benchmarks/kernels.py --all                 every network of the registry, 3 and 22 electrodes
    python benchmarks/kernels.py --networks EEGNet     some of them
    python benchmarks/kernels.py --alone               what each form brings: all forms against all but one

Both sides run alternately in one process on one thread; the ratio is the median over the pairs, and counts the time of
the processor, so that other work on the machine disturbs it little.
"""

import argparse
import copy
import statistics
import time
import warnings

import torch
from torch import nn

from skeeg.networks import accelerate, build_network, exact_convolutions, fold, network_names
from skeeg.networks.fast.accelerate import _FORMS as FORMS

NETWORKS = ("EEGNet", "ShallowFBCSPNet", "EEGConformer", "Deep4Net", "ADFCNN")
TARGETS = {"EEGNet": 5.0, "ShallowFBCSPNet": 3.0, "EEGConformer": 2.5}
ELECTRODES = "Fz FC3 FC1 FCz FC2 FC4 C5 C3 C1 Cz C2 C4 C6 CP3 CP1 CPz CP2 CP4 P1 Pz P2 POz".split()


def pairs(sides, repeats, most=60.0):
    """Time each side in turn; the first round warms up, and after ``most`` seconds two rounds are enough."""
    times, start = [], time.process_time()
    for _ in range(repeats + 1):
        if len(times) > 2 and time.process_time() - start > most:
            break
        row = []
        for side in sides:
            before = time.process_time()
            side()
            row.append(time.process_time() - before)
        times.append(row)
    return times[1:]


def summary(times):
    """Median time of each side, and median ratio of the first to each other."""
    medians = [statistics.median(column) for column in zip(*times, strict=True)]
    ratios = [statistics.median(row[0] / row[k] for row in times) for k in range(1, len(times[0]))]
    return medians, ratios


def build(name, n_chans, n_times):
    """Build a network on a fixed seed, in training mode."""
    torch.manual_seed(0)
    return build_network(
        name, n_chans=n_chans, n_times=n_times, n_outputs=4, sfreq=250.0, ch_names=ELECTRODES[:n_chans]
    ).train()


def backward(module, x, y):
    """Gradients of a loss; gives the outputs."""
    out = module(x)
    out = out[0] if isinstance(out, tuple) else out
    nn.functional.cross_entropy(out, y).backward() if out.ndim == 2 else out.square().mean().backward()
    return out


def update(module, solver, x, y):
    """One update, as a training loop makes it."""

    def step():
        solver.zero_grad()
        backward(module, x, y)
        solver.step()

    return step


def takes_no_form(modules, x, y):
    """Whether both modules compute by the same layers: numbers equal to the bit, as dropout's are in either form."""
    found = []
    if any(type(layer) is nn.Dropout and layer.p > 0 for layer in modules[0].modules()):
        return False
    for module in modules:
        torch.manual_seed(1)
        found.append([backward(module, x, y).detach(), *(p.grad for p in module.parameters() if p.grad is not None)])
    return all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def training(name, n_chans, n_times, batch, repeats):
    """Print the time of an update with plain and with fast kernels."""
    plain = build(name, n_chans, n_times)
    fast = build(name, n_chans, n_times)
    fast.load_state_dict(plain.state_dict())
    accelerate(fast)
    x, y = torch.randn(batch, n_chans, n_times), torch.randint(0, 4, (batch,))
    if takes_no_form((plain, fast), x, y):
        print(f"{name:24} {n_chans:3} electrodes  keeps its own layers", flush=True)
        return
    sides = [update(module, torch.optim.Adam(module.parameters(), 1e-4), x, y) for module in (plain, fast)]
    (before, after), (ratio,) = summary(pairs(sides, repeats))
    wanted = TARGETS.get(name, 0.98) if n_chans == 22 else 0.98
    verdict = "" if ratio >= wanted else f"   below {wanted}"
    print(
        f"{name:24} {n_chans:3} electrodes  {1e3 * before:8.1f} ms {1e3 * after:8.1f} ms  {ratio:5.2f} times{verdict}",
        flush=True,
    )


def silence_dropout(module):
    """Turn every kind of dropout off."""
    for layer in module.modules():
        for name, value in list(vars(layer).items()):
            if (
                isinstance(layer, nn.modules.dropout._DropoutNd)
                and name == "p"
                or "drop" in name
                and isinstance(value, float)
            ):
                setattr(layer, name, 0.0)
    return module


def agreement(name, n_chans, n_times, batch):
    """Print how far the losses of twenty Adam steps are apart, dropout off."""
    plain = silence_dropout(build(name, n_chans, n_times))
    fast = accelerate(copy.deepcopy(plain), "fast")
    x, y = torch.randn(batch, n_chans, n_times), torch.randint(0, 4, (batch,))
    with torch.no_grad():
        apart = float((copy.deepcopy(plain)(x) - copy.deepcopy(fast)(x)).abs().max())
    losses = []
    for module in (plain, fast):
        solver, row = torch.optim.Adam(module.parameters(), 1e-3), []
        for _ in range(20):
            solver.zero_grad()
            loss = nn.functional.cross_entropy(module(x), y)
            loss.backward()
            solver.step()
            row.append(float(loss.detach()))
        losses.append(row)
    worst = max(abs(a - b) / abs(a) for a, b in zip(*losses, strict=True))
    print(
        f"{name:24} {n_chans:3} electrodes  outputs apart {apart:.0e}; losses of 20 steps apart {worst:.0e}, relative"
    )


def latency(name, n_chans, n_times, repeats):
    """Print the time of one trial through the module, accelerated and folded."""
    module = build(name, n_chans, n_times).eval()
    forms = [module, accelerate(copy.deepcopy(module)), fold(module)]
    x = torch.randn(1, n_chans, n_times)

    def run(form):
        def side():
            for _ in range(20):
                form(x)

        return side

    with torch.inference_mode():
        medians, ratios = summary(pairs([run(form) for form in forms], repeats))
        apart = float((forms[2](x) - module(x)).abs().max())
    plain, fast, folded = (1e6 * t / 20 for t in medians)
    print(
        f"{name:24} one trial: module {plain:6.0f} us, accelerated {fast:6.0f} us ({ratios[0]:.2f} times), "
        f"folded {folded:6.0f} us ({ratios[1]:.2f} times), apart {apart:.0e}"
    )


def guard(name, n_chans, n_times, batch, repeats):
    """Print what the guard against wrong gradients costs beside accelerated layers, or gives beside plain ones."""
    module = build(name, n_chans, n_times)
    x, y = torch.randn(batch, n_chans, n_times), torch.randint(0, 4, (batch,))
    step = update(module, torch.optim.Adam(module.parameters(), 1e-4), x, y)

    def guarded():
        with exact_convolutions():
            step()

    for kernels in ("plain", "auto"):
        accelerate(module, kernels)
        _, (ratio,) = summary(pairs([step, guarded], repeats))
        print(f"{name:24} {n_chans:3} electrodes  {kernels} layers with the guard: {ratio:.2f} times as fast")


def alone(name, n_chans, n_times, batch, repeats):
    """Print how much slower an update and a one-trial prediction are without each of the forms."""
    module, x = build(name, n_chans, n_times), torch.randn(batch, n_chans, n_times)
    trial, y = torch.randn(1, n_chans, n_times), torch.randint(0, 4, (batch,))

    def sides(fast):
        still = copy.deepcopy(fast).eval().requires_grad_(False)
        return update(fast, torch.optim.Adam(fast.parameters(), 1e-4), x, y), lambda: [still(trial) for _ in range(20)]

    whole, used = accelerate(copy.deepcopy(module)), dict(FORMS)
    names = sorted({layer._skeeg_form for layer in whole.modules() if hasattr(layer, "_skeeg_form")})
    for form in names:
        del FORMS[form]
        without = accelerate(copy.deepcopy(module))
        FORMS.update(used)
        for what, pair in zip(("update", "one trial"), zip(sides(without), sides(whole), strict=True), strict=True):
            _, (ratio,) = summary(pairs(pair, repeats))
            print(f"{name:24} {n_chans:3} electrodes  {form:12} {what:10} {ratio:5.2f} times", flush=True)


def main():
    """Run the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--all", action="store_true", help="every network of the registry")
    parser.add_argument("--alone", action="store_true", help="what each form brings alone")
    parser.add_argument("--networks", nargs="+", default=NETWORKS, help="names of networks")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--times", type=int, default=1001)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    names = network_names() if options.all else options.networks
    for n_chans in (22, 3):
        for name in names:
            try:
                if options.alone:
                    alone(name, n_chans, options.times, options.batch, options.repeats)
                    continue
                training(name, n_chans, options.times, options.batch, options.repeats)
            except Exception as error:  # noqa: BLE001 - a network that does not take these sizes is passed over
                print(f"{name:24} {n_chans:3} electrodes  not built: {str(error).splitlines()[0][:70]}", flush=True)
    if options.all or options.alone:
        return
    for name in names:
        agreement(name, 22, options.times, options.batch)
        latency(name, 22, options.times, 3 * options.repeats)
    for name in names:
        guard(name, 3, options.times, options.batch, options.repeats)


if __name__ == "__main__":
    main()
