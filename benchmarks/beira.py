"""What is claimed of BEIRA, measured: ``python benchmarks/beira.py speed``, ``memory``, ``simulation --seeds 10 11``.

Each part adds its rows to ``benchmarks/results/beira/*.jsonl`` and makes ``benchmarks/results/beira.md`` anew of all.

- ``speed``: eight regions with their fast forms against torch's layers, in turn in one process on one thread.
- ``memory``: peak resident memory of training and prediction on 20 minutes, each case in a process of its own.
- ``simulation``: `BEIRARegressor` without arguments against ridge, the null, shuffled BOLD, and what its weights say of
  the truth, also by the published pattern code. The defaults were chosen on seeds 100 to 109.
- ``minutes``: the same against ridge after training on 4, 8, 12 and 20 minutes.
"""

import argparse
import copy
import datetime
import json
import pathlib
import platform
import resource
import statistics
import subprocess
import sys
import time
import warnings

import numpy as np
import torch
import torch.nn.functional as F
from scipy import signal
from scipy.stats import wilcoxon

from skeeg.covariance import filter_patterns
from skeeg.methods.beira import BEIRA, BandPowerRidge, BEIRARegressor, BOLDAligner, simulate_bold
from skeeg.methods.beira.network import RECTIFIERS
from skeeg.model_selection import null_scores, surrogate
from skeeg.positions import standard_montage

RESULTS = pathlib.Path(__file__).parent / "results"
CASES = ((1, 2048, 15), (4, 2048, 7), (16, 2048, 3))  # windows, samples, repeats; a regressor takes 4 at a time
MINUTES, RATE, DELAY = 25, 100, 5.0
LENGTHS = (4, 8, 12, 20)  # minutes to train on
MEMORY_CASES = ((RATE, 16), (RATE, 4), (10 * RATE, 4))  # sampling rate, windows at a time


def add_row(part, row):
    """Add a row to the results of a part, with when it was measured."""
    folder = RESULTS / "beira"
    folder.mkdir(parents=True, exist_ok=True)
    row = {"date": datetime.date.today().isoformat(), **row}
    with open(folder / f"{part}.jsonl", "a") as file:
        file.write(json.dumps(row) + "\n")
    print(json.dumps(row), flush=True)


def run_layers(network, x):
    """Run a network region by region and layer by layer, by torch's own layers."""
    outputs = []
    for model, last in network.pairs():
        front = model.artur_block
        y = front.norm(front.band_pass(front.unmixed_channels_batchnorm(front.unmixing_layer(x))))
        y = run_block(model.spatial_reduce, front.low_pass(RECTIFIERS[front.rectifier](y)))
        for block in model.downsample_blocks:
            y = run_block(block, y)
        for block, scale in zip(model.upsample_blocks, model.scales, strict=True):
            y = F.interpolate(run_block(block["conv_block"], y), scale_factor=float(scale), mode="linear")
        outputs.append(last(y))
    return torch.cat(outputs, dim=1)


def run_block(block, x):
    """Convolution, normalisation, activation, dropout and maximum of (batch, channels, times)."""
    n_taps = block.conv1d.kernel_size[0]
    x = block.conv1d(F.pad(x, ((n_taps - 1) // 2, n_taps // 2)))
    x = F.dropout(block.activation(block.norm(x.mT).mT), block.drop.p, block.training)
    return F.max_pool1d(x, block.stride)


FORMS = (run_layers, lambda network, x: network(x))


def run(form, network, x, training):
    """One prediction, or one forward and backward pass."""
    if training:
        form(network, x).square().mean().backward()
        network.zero_grad()
        return
    with torch.no_grad():
        form(network, x)


def seconds_of(network, x, training, n_repeats):
    """Processor and elapsed seconds of torch's layers and of the fast forms: [(processor, elapsed), ...] of each."""
    seconds = [], []
    for repeat in range(n_repeats + 1):
        for form, found in zip(FORMS, seconds, strict=True):
            processor, elapsed = time.process_time(), time.perf_counter()
            run(form, network, x, training)
            if repeat:  # the first pass warms up
                found.append((time.process_time() - processor, time.perf_counter() - elapsed))
    return seconds


def measure_speed():
    """Rows of medians, their ratios, and the largest difference of the outputs."""
    torch.manual_seed(0)
    network = BEIRA(n_chans=64, n_outputs=8)
    for batch, n_times, n_repeats in CASES:
        x = torch.randn(batch, 64, n_times)
        for training in (False, True):
            seconds = seconds_of(network.train(training), x, training, n_repeats)
            row = {"trials": batch, "samples": n_times, "pass": "training" if training else "prediction"}
            for i, clock in enumerate(("processor", "elapsed")):
                apart, together = ([one[i] for one in form] for form in seconds)
                ratios = [a / b for a, b in zip(apart, together, strict=True)]
                row[clock] = [statistics.median(apart), statistics.median(together)]
                row[f"{clock}_ratio"] = [row[clock][0] / row[clock][1], min(ratios), max(ratios)]
            if not training:
                row["difference"] = largest_difference(network, x)
            add_row("speed", row)


def largest_difference(network, x):
    """Largest difference between the outputs of the two forms."""
    with torch.no_grad():
        apart, together = (form(network, x) for form in FORMS)
    return float((apart - together).abs().max())


def measure_memory(rate, batch_size):
    """Peak resident memory of the whole way: training, patterns, prediction, score."""
    random = np.random.default_rng(0)
    n_times, own = 20 * 60 * rate, rate == RATE
    X = random.standard_normal((1, 64, n_times), dtype=np.float32)
    Y = random.normal(size=(1, 8, n_times if own else 600)).cumsum(axis=2)
    regressor = BEIRARegressor(
        recipe="published",
        recipe_params={"windows_per_epoch": 32, "batch_size": batch_size, "accumulate": 16 // batch_size},
        max_epochs=1,
        random_state=0,
        sfreq=float(RATE),
    )
    model = (
        regressor if own else BOLDAligner(regressor.set_params(sfreq=None), tr=2.0, rate=float(RATE), sfreq=float(rate))
    )
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model.fit(X, Y)
    fitted = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    r = model.score(X, Y)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    row = {"rate": rate, "batch": batch_size, "data_MB": start / 1024, "fit_MB": fitted / 1024, "peak_MB": peak / 1024}
    add_row("memory", {**row, "r": r, "updates": 2})


def measure_simulation(seed, n_shuffles):
    """One recording: its last fifth is the test, half a minute before it is left out."""
    simulated, train, test = divide(seed, MINUTES)
    started = time.process_time()
    beira = BOLDAligner(BEIRARegressor(random_state=seed), delay=DELAY).fit(*train)
    seconds = time.process_time() - started
    null = null_scores(beira, *test, n=999, random_state=seed)
    row = {"seed": seed, "beira": null.score, "p": null.p_value, "seconds": seconds}
    row["best_alone"] = changed(beira, networks_=beira.regressor_.networks_[:1]).score(*test)
    row["decoders"] = changed(beira, readouts_=[]).score(*test)
    row["ridge"] = BandPowerRidge().fit(*train).score(*test)
    row.update(compare_patterns(beira.regressor_, simulated, train[0]))
    row["restart_losses"] = beira.regressor_.restart_losses_.tolist()
    row["shuffled"] = [score_shuffled(train, test, seed, shift) for shift in range(n_shuffles)]
    add_row("simulation", row)


def divide(seed, minutes):
    """One recording, the EEG and BOLD to train on, and those to test on."""
    simulated = simulate_bold(duration=60 * minutes, random_state=seed)
    cut = round(0.8 * simulated.eeg.shape[2])
    train = simulated.eeg[..., :cut], simulated.bold[..., :cut]
    return simulated, train, tuple(signals[..., cut + 30 * RATE :] for signals in (simulated.eeg, simulated.bold))


def measure_minutes(seed):
    """BEIRA and ridge on the beginnings of one recording, tested on the same five minutes."""
    simulated = simulate_bold(duration=60 * (max(LENGTHS) + 5.5), random_state=seed)
    pair, end = (simulated.eeg, simulated.bold), round(60 * RATE * max(LENGTHS))
    test = tuple(one[..., end + 30 * RATE :] for one in pair)
    for minutes in LENGTHS:
        train = tuple(one[..., end - round(60 * RATE * minutes) : end] for one in pair)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            beira = BOLDAligner(BEIRARegressor(random_state=seed), delay=DELAY).fit(*train)
        ridge = BandPowerRidge().fit(*train).score(*test)
        add_row("minutes", {"seed": seed, "minutes": minutes, "beira": beira.score(*test), "ridge": ridge})


def changed(beira, **attributes):
    """Give the same model with other fitted attributes of the regressor."""
    beira = copy.deepcopy(beira)
    vars(beira.regressor_).update(attributes)
    return beira


def score_shuffled(train, test, seed, shift):
    """Correlation on the test after training on BOLD that was shifted in a circle."""
    regressor = BEIRARegressor(random_state=seed, n_restarts=1)
    shifted = surrogate(train[1], "shift", random_state=100 * seed + shift)
    return BOLDAligner(regressor, delay=DELAY).fit(train[0], shifted).score(*test)


def compare_patterns(beira, simulated, eeg):
    """Correlation of the top branch's topography with the truth, and the peak of its rhythm; ours and as published."""
    truth, rows = simulated.patterns[0], {}

    def likeness(pattern):
        return float(abs(np.corrcoef(pattern, truth)[0, 1]))

    top = int(beira.branch_importance_[0].argmax())
    rows["ours"] = {
        "topography": likeness(beira.spatial_patterns_[0, top]),
        "peak": float(beira.freqs_[beira.frequency_patterns_[0, top].argmax()]),
        "weights_alone": likeness(beira.spatial_filters_[0, top]),
        "share": (beira.branch_importance_[0] / beira.branch_importance_[0].sum()).tolist(),
    }
    x = np.asarray(eeg[0], dtype=np.float64)
    w, h = beira.spatial_filters_[0], beira.temporal_filters_[0]
    standard = torch.from_numpy(np.asarray(beira.steps_.transform(eeg[:, :, : 16 * 4096])))[0]
    windows = torch.stack(list(standard.split(4096, dim=1))).float()
    gradient = gradient_importance(beira.module_, windows)[0]
    ranked = int(gradient.argmax())
    frequencies = np.arange(25) * RATE / 51
    pattern = published_frequency_pattern(x[:, : 54 * RATE], w, h)
    rows["published"] = {
        "ranks_another_branch": ranked != top,
        "topography": likeness(filtered_covariance_pattern(x[:, : 54 * RATE], w, h)[ranked]),
        "peak": float(frequencies[pattern[ranked].argmax()]),
        "peak_beside_it": float(frequencies[pattern[0].argmax()]),  # the curve of branch 0 is drawn with every map
        "montage_order": likeness(in_montage_order(beira.spatial_patterns_[0, top], simulated.eeg.ch_names)),
    }
    return rows


def filtered_covariance_pattern(eeg, spatial_filters, temporal_filters):
    """Spatial patterns ``cov(h * x) w`` of the data actually filtered, as published, (n_branches, n_channels).

    Slower than `branch_patterns` and exact at the edges. Shapes: ``eeg`` (n_channels, n_times), filters
    (n_branches, n_channels) and (n_branches, n_taps).
    """
    eeg = np.asarray(eeg, dtype=np.float64)
    patterns = []
    for w, h in zip(spatial_filters, np.asarray(temporal_filters, dtype=np.float64), strict=True):
        filtered = signal.fftconvolve(eeg, h[None, ::-1], mode="full", axes=1)
        left = len(h) // 2
        covariance = np.atleast_2d(np.cov(filtered[:, left : left + eeg.shape[1]]))
        patterns.append(filter_patterns(covariance, w[None], apart=False)[0])
    return np.stack(patterns)


def published_frequency_pattern(eeg, spatial_filters, temporal_filters):
    """Frequency patterns of the published notebooks, for comparison with `branch_patterns`, (n_branches, n_taps // 2).

    One bin in about a hundred of the raw periodogram stands for the spectrum, at ``arange(n_taps // 2) / n_taps`` times
    the sampling rate.
    """
    z = np.asarray(spatial_filters) @ np.asarray(eeg)
    n_times, n_taps = z.shape[1], np.shape(temporal_filters)[1]
    amplitude = np.abs(np.fft.rfft(z, axis=1))[:, : n_times // 2] / n_times
    response = np.abs(np.fft.rfft(temporal_filters, axis=1))[:, : n_taps // 2] / n_taps
    nearest = np.arange(n_taps // 2) * amplitude.shape[1] // (n_taps // 2)
    return amplitude[:, nearest] * response


def gradient_importance(module, windows, n_targets=8):
    """Mean of ``|gradient x envelope|`` over some output samples: the published importance, (n_regions, n_branches)."""
    with torch.no_grad():
        envelopes = module.envelopes(windows)
    envelopes.requires_grad_()
    with torch.enable_grad():
        outputs = module.decode(envelopes)
        if outputs.ndim == 2:
            outputs = outputs.unsqueeze(-1)
        n_steps = outputs.shape[-1]
        samples = sorted({(2 * i + 1) * n_steps // (2 * n_targets) for i in range(n_targets)})
        shared = envelopes.shape[1] != outputs.shape[1]
        regions = [[region] for region in range(outputs.shape[1])] if shared else [list(range(outputs.shape[1]))]
        rows = []
        for chosen in regions:  # separate networks do not depend on each other's outputs: one pass for all
            total = 0.0
            for sample in samples:
                target = outputs[:, chosen, sample].sum()
                (gradient,) = torch.autograd.grad(target, envelopes, retain_graph=True)
                total = total + (gradient * envelopes).detach().abs().mean(dim=(0, 3))
            rows.append(total / len(samples))
    return torch.cat(rows).numpy()


def in_montage_order(pattern, ch_names):
    """Where the values of a pattern end up when the electrodes are taken to be in the order of MNE's montage."""
    order = [name for name in standard_montage("standard_1020").ch_names if name in ch_names]
    places = [order.index(name) for name in ch_names]  # the value at place i is drawn at the i-th name of the montage
    return np.asarray(pattern)[places]


def read_rows(part):
    """Rows of a part, the last of each case."""
    path = RESULTS / "beira" / f"{part}.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return list(
        {
            tuple(row.get(key) for key in ("trials", "samples", "pass", "rate", "batch", "seed", "minutes")): row
            for row in rows
        }.values()
    )


def report():
    """Write the page."""
    parts = (heading(), speed_table(), simulation_table(), minutes_table(), memory_table(), short_table())
    lines = ["# BEIRA: what was measured", *(line for part in parts if part for line in ("", *part))]
    (RESULTS / "beira.md").write_text("\n".join(lines) + "\n")


def short_table():
    """List what misses the aims: 2 times faster, above ridge, shuffled within .05 of 0, below 2 GiB."""
    speed, memory = read_rows("speed"), read_rows("memory")
    rows = sorted(read_rows("simulation"), key=lambda row: row["seed"])
    slow = [f"{row['trials']} x {row['samples']} {row['pass']}" for row in speed if row["processor_ratio"][0] < 2]
    below = [str(row["seed"]) for row in rows if row["beira"] <= row["ridge"]]
    large = [f"{row['rate']} Hz in batches of {row['batch']}" for row in memory if row["peak_MB"] >= 2048]
    lines = ["## What falls short", ""]
    lines += [f"- Less than 2 times faster: {', '.join(slow)}."] if slow else []
    lines += [f"- Not above ridge: seeds {', '.join(below)}."] if below else []
    shuffled = [np.mean(row["shuffled"]) for row in rows if row["shuffled"]]
    lines += [f"- Shuffled BOLD: mean r {np.mean(shuffled):.3f}."] if shuffled and abs(np.mean(shuffled)) > 0.05 else []
    lines += [f"- 2 GiB of memory or more: {', '.join(large)}."] if large else []
    return lines


def heading():
    """When, where, with what."""
    import mne
    import sklearn

    dates = sorted({row["date"] for part in ("speed", "simulation", "memory") for row in read_rows(part)})
    return [
        f"Measured {', '.join(dates)} by `benchmarks/beira.py` on one thread of {processor()}, which other "
        f"jobs shared: "
        f"Python {platform.python_version()}, torch {torch.__version__}, MNE {mne.__version__}, "
        f"scikit-learn {sklearn.__version__}."
    ]


def processor():
    """Name of the processor."""
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines() if pathlib.Path("/proc/cpuinfo").exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def speed_table():
    """Ratios of torch's layers to fast forms."""
    rows = read_rows("speed")
    lines = [
        "## Fast forms against torch's layers", "",
        "Published sizes, 8 regions, 64 electrodes, dropout as published in training. Both sides in turn "
        "in one process; "
        "medians, and the ratio's smallest and largest value over the repeats.", "",
        "| trials x samples | pass | torch's, CPU s | fast, CPU s | ratio, CPU | ratio, elapsed | difference |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for row in rows:
        ratios = [f"{m:.2f} ({a:.2f} to {b:.2f})" for m, a, b in (row["processor_ratio"], row["wall_ratio"])]
        difference = f"{row['difference']:.1e}" if "difference" in row else ""
        apart, together = row["processor"]
        case = f"| {row['trials']} x {row['samples']} | {row['pass']} | {apart:.3f} | {together:.3f} "
        lines.append(f"{case}| {ratios[0]} | {ratios[1]} | {difference} |")
    return lines


def simulation_table():
    """Scores and patterns of each seed."""
    rows = sorted(read_rows("simulation"), key=lambda row: row["seed"])
    lines = [
        "## Simulation", "",
        f"{MINUTES} minutes, 30 electrodes, blinks and movements, one region that follows a 10 Hz source "
        f"beside another of the "
        "same rhythm; the last fifth is the test. `BEIRARegressor()` without arguments; its defaults were chosen on "
        "seeds 100 to 109. "
        f"Null: 999 circular shifts. Shuffled: mean and standard deviation over trainings, each on BOLD "
        "shifted in a circle by another random time.", "",
        "| seed | r BEIRA | p | its decoders alone | its best network alone | r ridge | r shuffled "
        "| top branch: topography | peak, Hz | its weights alone | CPU s |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for row in rows:
        ours, shuffled = row["ours"], row["shuffled"]
        lines.append(
            f"| {row['seed']} | {row['beira']:.3f} | {row['p']:.3f} | {row['decoders']:.3f} | "
            f"{row['best_alone']:.3f} | {row['ridge']:.3f} | "
            f"{f'{np.mean(shuffled):.3f} ± {np.std(shuffled):.3f}' if shuffled else 'not run'} | "
            f"{ours['topography']:.3f} | {ours['peak']:.2f} | {ours['weights_alone']:.2f} | {row['seconds']:.0f} |"
        )
    if rows:
        r, ridge = (np.array([row[name] for row in rows]) for name in ("beira", "ridge"))
        lines += [
            "",
            f"Mean and standard deviation over seeds: BEIRA {r.mean():.3f} ± {r.std():.3f}, "
            f"ridge {ridge.mean():.3f} ± {ridge.std():.3f}. BEIRA is above ridge in {int((r > ridge).sum())} of "
            f"{len(rows)} (p = {wilcoxon(r, ridge, alternative='greater').pvalue:.3f}, Wilcoxon, one-sided).",
        ]
    return [*lines, "", *published_table(rows)]


def published_table(rows):
    """Tell what the published pattern code makes of the same networks."""
    lines = [
        "The same networks by the published pattern code: branches ranked by gradient x activation, "
        "patterns of 54 s, one bin "
        "of the raw periodogram for each of 25 frequencies, the curve of branch 0 beside the map of the "
        "top branch, and the "
        "electrodes taken to be in the order of the montage.", "",
        "| seed | ranks another first | topography | peak, Hz | peak of the curve beside it | ours in montage order |",
        "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for row in rows:
        one = row["published"]
        lines.append(
            f"| {row['seed']} | {'yes' if one['ranks_another_branch'] else 'no'} | {one['topography']:.3f} | "
            f"{one['peak']:.1f} | {one['peak_beside_it']:.1f} | {one['montage_order']:.3f} |"
        )
    return lines


def minutes_table():
    """Scores by the length of the recording."""
    rows = read_rows("minutes")
    if not rows:
        return []
    seeds = sorted({row["seed"] for row in rows})
    lines = [
        "## Length of the recording", "",
        f"The same simulation, seeds {', '.join(map(str, seeds))}: mean r on the five minutes after the training.", "",
        "| minutes to train on | r BEIRA | r ridge | above ridge in |", "|---|---|---|---|",
    ]  # fmt: skip
    for minutes in sorted({row["minutes"] for row in rows}):
        r = np.array([(row["beira"], row["ridge"]) for row in rows if row["minutes"] == minutes])
        above = f"{int((r[:, 0] > r[:, 1]).sum())} of {len(r)}"
        lines.append(f"| {minutes} | {r[:, 0].mean():.3f} | {r[:, 1].mean():.3f} | {above} |")
    return lines


def memory_table():
    """Peak memory."""
    lines = [
        "## Memory", "",
        "20 minutes, 64 electrodes, 8 regions, published sizes, windows of 2048 samples: two updates of 16 windows, "
        "validation, patterns, prediction of the whole recording and score. Peak resident size of the process so far, "
        "with Python, torch and the recording. EEG of 1000 Hz goes through `BOLDAligner`.", "",
        "| rate of the EEG, Hz | windows at a time | before fit, MB | after fit, MB | after predict and score, MB |",
        "|---|---|---|---|---|",
    ]  # fmt: skip
    for row in read_rows("memory"):
        sizes = " | ".join(f"{row[name]:.0f}" if name in row else "" for name in ("data_MB", "fit_MB", "peak_MB"))
        lines.append(f"| {row['rate']} | {row['batch']} | {sizes} |")
    return lines


def main():
    """Run one part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("speed", "memory", "memory-of", "simulation", "minutes", "report"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[10, 11, 12, 13, 14])
    parser.add_argument("--shuffles", type=int, default=8)  # one says little: BOLD is slow, and by chance follows EEG
    parser.add_argument("--rate", type=int, default=RATE)
    parser.add_argument("--batch", type=int, default=16)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.part == "speed":
        measure_speed()
    elif arguments.part == "memory":
        for rate, batch_size in MEMORY_CASES:
            case = ["--rate", str(rate), "--batch", str(batch_size)]
            subprocess.run([sys.executable, __file__, "memory-of", *case], check=True)
    elif arguments.part == "memory-of":
        measure_memory(arguments.rate, arguments.batch)
    elif arguments.part in ("simulation", "minutes"):
        for seed in arguments.seeds:
            measure_minutes(seed) if arguments.part == "minutes" else measure_simulation(seed, arguments.shuffles)
    report()


if __name__ == "__main__":
    main()
