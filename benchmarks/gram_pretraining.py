"""Weights of Gram that restore channels: pre-trained on EEGMMIDB, and compared with linear imputers.

From random weights a small Gram does not learn to restore within minutes: an untrained attention averages all
channels, which is zero in average-referenced recordings. It starts instead as a local interpolator (`make_start`): the
convolution of the patches is a lapped cosine transform, the first block of the decoder attends from a masked patch to
visible patches of near channels in the same second, and the layer that predicts samples is fitted in closed form. All
weights are then trained.

Parts:

- ``train``: subjects 1-59, windows of 4 s, random montages of 8 to 45 channels, with the recorded and the average
  reference, masks of channels, seconds and patches, for ``--minutes``; the state is kept every hundred updates, and
  the same command goes on from it;
- ``score``: subjects 65-80, factors of the network and of the splines learned on subjects 60-64; gaps in all channels,
  predictors learned on other windows of the recording; and OpenNeuro ds003810, factors learned on the good channels
  of the recording itself;
- ``probe``: logistic regression on the features of the frozen network, subjects 65-80;
- ``ship``: the same weights in half precision.

Run: ``python benchmarks/gram_pretraining.py [PART ...] --folder FOLDER``; recordings are looked for in ``$SKEEG_DATA``.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import math
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

RATE, SECONDS, DIM = 100, 4, 104
RESULTS = Path(__file__).parent / "results" / "gram_channels.csv"
SHARED = {"patch_length": RATE, "sfreq": float(RATE), "drop_prob": 0.0, "positions": "geometry"}
TOKENIZER = {"n_codes": 512, "n_layers": 2, "n_heads": 8, "decoder_layers": 2, "decoder_heads": 8, **SHARED}
SIZES = {
    "n_filters": 8, "n_layers": 3, "n_heads": 8, "fused": (0, 1, 2), "layer_scale": 0.5, "decoder_dim": DIM,
    "decoder_layers": 3, "decoder_heads": 8, "drop_path": 0.0, "hidden_token": "learned", "wave_head": True, **SHARED,
}  # fmt: skip
FREE = [8 * column + 7 for column in range(13)]  # embeddings of the filter above 44 Hz, where the recordings are empty


def read_windows(subject, average=True):
    """Windows of the recordings of a subject, one after the other, in microvolts."""
    import mne

    from skeeg.array import EEGArray

    parts = []
    for file in sorted((Path(os.environ["SKEEG_DATA"]) / f"eegmmidb/S{subject:03d}").glob("*.edf")):
        raw = mne.io.read_raw_edf(file, preload=True, verbose="error").resample(RATE, verbose="error")
        data, length = raw.get_data() * 1e6, SECONDS * RATE
        data = data - data.mean(axis=0) if average else data
        n = data.shape[1] // length
        parts.append(data[:, : n * length].reshape(len(data), n, length).transpose(1, 0, 2).astype(np.float32))
    return EEGArray(np.concatenate(parts), raw.ch_names, float(RATE))


# The start


@torch.no_grad()
def make_start(tokenizer):
    """Masked autoencoder that attends to near channels from the start."""
    from skeeg.methods.gram.layers import SIZES as NAMED
    from skeeg.methods.gram.layers import choose_sizes
    from skeeg.methods.gram.network import GramPretrainingNetwork

    net = GramPretrainingNetwork(tokenizer, choose_sizes(NAMED, "tiny", SIZES))
    _start_patches(net.tconv)
    for table in (net.ch_emb, net.time_emb):
        table.mul_(0.4)
    for block in net.blocks:
        block.gamma_1.fill_(0.1)
        block.gamma_2.fill_(0.1)
    content = torch.eye(DIM)
    content[FREE] = 0
    net.decoder_embed.weight.add_(content)
    net.decoder_embed.weight[FREE] = 0
    _start_attention(net, content)
    return net


def _start_patches(tconv):
    """Lapped cosine transform of 8 filters every 8 samples, then nearly linear layers."""
    n = torch.arange(15) + 0.5
    window = torch.sin(math.pi * n / 15)
    for k in range(8):
        tconv.conv1.weight[k, 0, 0] = window * torch.cos(math.pi / 8 * (n + 4.5) * (k + 0.5)) * 0.5
    for conv in (tconv.conv2, tconv.conv3):
        conv.weight.mul_(0.3)
        for k in range(8):
            conv.weight[k, k, 0, 1] += 1
    for conv in (tconv.conv1, tconv.conv2, tconv.conv3):
        conv.bias.zero_()
    for norm, weight in ((tconv.norm1, 0.25), (tconv.norm2, 0.25), (tconv.norm3, 0.5)):
        norm.weight.fill_(weight)


def _start_attention(net, content, sharp=30.0, sharp_time=5.0, masked=10.0):
    """Encode position, time and mask in the free dimensions, as pairs of opposite sign, and attend by them."""
    points, block = _unit_positions(), net.decoder_blocks[0]
    angles, scale = torch.arange(16) * math.pi / 8, 2**-0.5
    codes, times = net.decoder_ch_emb[0].zero_(), net.decoder_time_emb[0].zero_()
    net.mask_token.zero_()
    for sign, side in ((scale, 0), (-scale, 1)):
        for axis in range(3):
            codes[:, FREE[2 * axis + side]] = sign * 6 * points[:, axis]
        times[:, FREE[6 + side]], times[:, FREE[8 + side]] = sign * 3 * angles.cos(), sign * 3 * angles.sin()
        net.mask_token[..., FREE[10 + side]] = sign * 10
    norm, root = 1.2, math.sqrt(13)  # of a token, and of the size of a head
    step = 1 - math.cos(math.pi / 8)
    gains = [math.sqrt(sharp * root) * norm / 6] * 3 + [math.sqrt(sharp_time * root / step) * norm / 3] * 2
    gains.append(math.sqrt(masked * root) * norm / 10)
    for layer, sign in ((block.attn.query, 1), (block.attn.key, -1)):
        layer.weight.mul_(0.3)
        for row in range(0, DIM, 13):
            for pair, gain in enumerate(gains):
                gain = gain * scale * (sign if pair == 5 else 1)
                layer.weight[row + pair] = 0
                layer.weight[row + pair, FREE[2 * pair]], layer.weight[row + pair, FREE[2 * pair + 1]] = gain, -gain
    block.attn.value.weight.add_(content)
    block.attn.proj.weight.add_(content)
    block.gamma_1.fill_(1.0)
    block.gamma_2.fill_(0.3)


def _unit_positions():
    """Channels of the collection on the unit sphere; derivations lie between their electrodes."""
    from skeeg.methods.gram import COLLECTION
    from skeeg.methods.gram.layers import electrode_positions

    points = electrode_positions()
    points = np.nan_to_num(points / np.linalg.norm(points, axis=1, keepdims=True))
    for i, name in enumerate(COLLECTION):
        if "-" in name:
            points[i] = np.mean([points[COLLECTION.index(part)] for part in name.split("-")], axis=0)
    return torch.from_numpy(points).float()


@torch.no_grad()
def fit_samples(net, batches, channels):
    """Fit the layer that predicts samples by ridge regression."""
    from skeeg.methods.gram.layers import to_patches

    features, targets = [], []
    for number, x in enumerate(batches):
        hidden = draw_masks(len(x), x.shape[1], (0.9, 0.9, 0.4, 0.1)[number % 4])
        tokens, seen = net.visible(x, hidden, channels)
        at = hidden.flatten(1)
        features.append(net.decode(tokens, hidden, channels)[at])
        truth = to_patches(x, RATE).flatten(1, 2) / seen.square().mean(dim=(1, 2), keepdim=True).sqrt()
        targets.append(truth[at])
    Y = torch.cat(targets).double()
    weight = (1 / (0.3 + Y.square().mean(dim=1, keepdim=True))).sqrt()
    X = torch.cat(features).double()
    X, Y = torch.cat([X, torch.ones(len(X), 1)], dim=1) * weight, Y * weight
    W = torch.linalg.solve(X.T @ X + 1e-3 * len(X) * torch.eye(X.shape[1]), X.T @ Y).float()
    net.wave_head.weight.copy_(W[:-1].T)
    net.wave_head.bias.copy_(W[-1])


# Training


def draw_masks(n, n_chans, kind=None):
    """Whole channels, whole seconds, or patches."""
    from skeeg.training.pretraining import hide_all_but

    kind = float(torch.rand(1)) if kind is None else kind
    if kind < 0.3:
        n_hidden = int(torch.randint(1, max(2, n_chans // 3), (1,)))
        return hide_all_but(n_chans - n_hidden, n, n_chans)[:, None].expand(n, SECONDS, n_chans).contiguous()
    if kind < 0.55:
        return hide_all_but(SECONDS - 1, n, SECONDS)[:, :, None].expand(n, SECONDS, n_chans).contiguous()
    kept = max(1, int(SECONDS * n_chans * (0.4 + 0.5 * float(torch.rand(1)))))
    return hide_all_but(kept, n, SECONDS * n_chans).view(n, SECONDS, n_chans)


def draw_batch(recordings, channels, rng):
    """Windows of a subject: four, in a montage and a reference drawn at random."""
    x = recordings[rng.integers(len(recordings))]
    x, names = x[torch.randperm(len(x))[:4]], channels
    if rng.random() < 0.4:
        picks = torch.from_numpy(np.sort(rng.permutation(len(channels))[: rng.integers(8, 40)]))
        x, names = x[:, picks], channels[picks]
    return (x - x.mean(dim=1, keepdim=True) if rng.random() < 0.6 else x), names


def start_training(windows, recordings, channels):
    """Train the tokenizer, and make the masked autoencoder that starts as an interpolator."""
    from skeeg import GramTokenizer

    settings = {"learning_rate": 1e-3, "batch_size": 4, "recipe_params": {"warm_epochs": 1}, "random_state": 0}
    tokenizer = GramTokenizer("tiny", network_params=TOKENIZER, max_epochs=1, device="cpu", **settings)
    tokenizer.fit([one[:23] for one in windows[::2]])
    net = make_start(tokenizer.module_).eval()
    fit_samples(net, [one[:16] - one[:16].mean(dim=1, keepdim=True) for one in recordings[::4]], channels)
    return net


def train(folder, minutes, n_subjects):
    """Train both stages; a cosine over the time there is. Its state is kept in ``run.pt``, from which it goes on."""
    from skeeg.methods.gram import GramTokenizerNetwork, channel_indices, save_weights
    from skeeg.methods.gram.layers import TOKENIZER_SIZES, choose_sizes

    torch.manual_seed(0)
    rng, windows = np.random.default_rng(0), [read_windows(i, average=False) for i in range(1, n_subjects + 1)]
    recordings = [torch.from_numpy(np.asarray(one)[rng.permutation(len(one))[:40]] / 100) for one in windows]
    channels = torch.from_numpy(channel_indices(windows[0].ch_names))
    run = folder / "run.pt"
    kept = torch.load(run, weights_only=True) if run.exists() else None
    if kept is None:
        net, step, spent = start_training(windows, recordings, channels), 0, 0.0
    else:
        net = make_start(GramTokenizerNetwork(choose_sizes(TOKENIZER_SIZES, "tiny", TOKENIZER)))
        net.load_state_dict(kept["net"])
        step, spent = kept["step"], kept["spent"]
        torch.manual_seed(step)
        rng = np.random.default_rng(step)
        print(f"continues at step {step}", flush=True)
    weights = [p for p in net.train().parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=2e-3, betas=(0.9, 0.98), weight_decay=0.01)
    if kept is not None:
        optimizer.load_state_dict(kept["optimizer"])
    start = time.time() - spent
    while (done := (time.time() - start) / (60 * minutes)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1, (step + 1) / 30) * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * done)))
        wave, mimic = update(net, weights, optimizer, *draw_batch(recordings, channels, rng), with_tokens=step % 4 == 0)
        step += 1
        if step % 100 == 0:
            print(f"step {step}: samples {wave:.3f}, spectra {mimic:.3f}", flush=True)
            state = {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
            torch.save(state | {"spent": time.time() - start}, run.with_suffix(".new"))
            run.with_suffix(".new").replace(run)
    save_weights(net.eval(), folder / "gram.safetensors")


def update(net, weights, optimizer, x, names, with_tokens):
    """Do one update; give the losses of the samples and of the spectra."""
    hidden = draw_masks(len(x), x.shape[1])
    codes = net.vqgan.encode(x, names) if with_tokens else torch.zeros(hidden.shape, dtype=torch.int64)
    tokens, mimic, wave, _ = net(x, names, hidden, codes).mean(dim=0)
    optimizer.zero_grad()
    (wave + 0.1 * mimic + (0.05 if with_tokens else 0.0) * tokens).backward()
    torch.nn.utils.clip_grad_norm_(weights, 1.0)
    optimizer.step()
    return wave, mimic


# Comparison


def restorers(file):
    """Fitted imputers by name; low-rank completion has seen complete trials of other subjects of the montage."""
    from skeeg import GramRestorer
    from skeeg.restoration import LowRankCompletion, SplineInterpolation, TimeInterpolation

    common = {"device": "cpu", "random_state": 0}
    ways = {
        "Gram, network alone": GramRestorer(file, **common),
        "Gram with splines": GramRestorer(file, amplitude="least_squares", prior="splines", **common),
        "splines": SplineInterpolation(),
        "lines in time": TimeInterpolation(),
    }
    chosen = np.concatenate([read_windows(subject)[::6] for subject in range(60, 65)])
    fitted = {name: way.fit(chosen) for name, way in ways.items()}
    training = np.concatenate([read_windows(subject)[::8] for subject in range(1, 60, 6)])
    return fitted | {"low rank, from other subjects": LowRankCompletion(0.99).fit(training)}


def score(file):
    """Correlation and error of every imputer, mask and subject."""
    from skeeg.restoration import correlation, draw_mask, normalised_error

    rows, ways = [], restorers(file)
    print("factors", ways["Gram with splines"].gain_.round(3).tolist())
    for loss, share in (
        ("electrodes", 0.1), ("patches", 0.5), ("seconds", 0.25), ("electrodes", 0.5),
    ):  # fmt: skip
        for subject in range(65, 81):
            X = read_windows(subject)[::12]
            mask = draw_mask(X.shape, RATE, loss, share, random_state=subject)
            for name, way in ways.items():
                found = way.transform(X, mask=mask)
                scores = {"correlation": correlation(X, found, mask), "error": normalised_error(X, found, mask)}
                rows.append({"loss": loss, "share": share, "subject": subject, "method": name} | scores)
        table = pd.DataFrame(rows)
        table.round(4).to_csv(RESULTS, index=False)
        print(f"{loss} {share:.0%} done", flush=True)
    means = table.groupby(["loss", "share", "method"], sort=False)[["correlation", "error"]].agg(["mean", "std"])
    print(means.round(3).to_string())


def score_seconds(file):
    """Score gaps in all channels; what is learned on the recording itself is learned on the windows not scored."""
    from skeeg import GramRestorer
    from skeeg.restoration import TimeInterpolation, WienerInterpolation, correlation, draw_mask, normalised_error

    rows, shared = [], {"device": "cpu", "random_state": 0}
    for reference in ("average", "recorded"):
        average = reference == "average"
        others = np.concatenate([read_windows(subject, average)[::8] for subject in range(1, 60, 6)])
        common = {
            "Gram, network alone": GramRestorer(file, **shared).fit(others),
            "lines in time": TimeInterpolation().fit(others),
            "Wiener, from other subjects": WienerInterpolation().fit(others),
        }
        for subject in range(65, 81):
            X = read_windows(subject, average)
            own = X[np.flatnonzero(np.arange(len(X)) % 12)]
            linear = GramRestorer(file, amplitude="least_squares", prior="linear", **shared).fit(own)
            ways = common | {"Wiener, own recording": linear.wiener_, "Gram with linear prior, own recording": linear}
            for seconds in (0.25, 0.5, 1.0):
                mask = draw_mask(X[::12].shape, RATE, "seconds", 0.25, seconds, random_state=subject)
                for name, way in ways.items():
                    found = way.transform(X[::12], mask=mask)
                    scores = {"correlation": correlation(X[::12], found, mask)}
                    scores["error"] = normalised_error(X[::12], found, mask)
                    where = {"reference": reference, "seconds": seconds, "subject": subject, "method": name}
                    rows.append(where | scores)
        table = pd.DataFrame(rows)
        table.round(4).to_csv(RESULTS.with_name("gram_seconds.csv"), index=False)
        means = table.groupby(["reference", "seconds", "method"], sort=False)[["correlation", "error"]]
        print(means.agg(["mean", "std"]).round(3).to_string(), flush=True)


def score_grasp(file):
    """Score two bad channels of each recording of ds003810, of which nothing is observed; no other subject is used."""
    from skeeg import GramRestorer
    from skeeg.datasets import GraspImagery, load_arrays
    from skeeg.restoration import SplineInterpolation, correlation, normalised_error

    X, _ = load_arrays(GraspImagery(), fmin=0.5, fmax=40.0, tmax=4.0)
    rows, own = [], {"amplitude": "least_squares", "prior": "splines"}
    for reference in ("average", "recorded"):
        shown = X.like(np.asarray(X) - np.asarray(X).mean(axis=1, keepdims=True)) if reference == "average" else X
        for subject in dict.fromkeys(X.domains["subject"]):
            truth = shown[np.flatnonzero(X.domains["subject"] == subject)][::3]
            bad = np.random.default_rng(int(subject)).permutation(15)[:2]
            mask, gaps = np.zeros(truth.shape, bool), truth.copy()
            mask[:, bad], gaps[:, bad] = True, np.nan
            for name, settings in (("Gram, network alone", {}), ("Gram with splines", own), ("splines", None)):
                if settings is None:
                    way, given = SplineInterpolation().fit(truth), truth
                else:
                    way, given = GramRestorer(file, device="cpu", random_state=0, **settings).fit(gaps), gaps
                found = way.transform(given, mask=mask)
                scores = {"correlation": correlation(truth, found, mask), "error": normalised_error(truth, found, mask)}
                rows.append({"reference": reference, "subject": subject, "method": name} | scores)
    table = pd.DataFrame(rows)
    table.round(4).to_csv(RESULTS.with_name("gram_grasp_channels.csv"), index=False)
    print(table.groupby(["reference", "method"], sort=False)[["correlation", "error"]].agg(["mean", "std"]).round(3))


def probe(file, few=range(1, 60, 5), many=(*range(1, 49, 2), *range(49, 60)), tested=range(65, 81)):
    """Logistic regression on the features of the frozen network: across subjects, and within the tested ones."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from skeeg import GramPretrainer
    from skeeg.datasets import PhysionetMotor, load_arrays

    data = PhysionetMotor(classes=("left_hand", "right_hand", "rest"))
    subjects = sorted({*few, *many, *tested})
    X, y = load_arrays(data, fmin=0.5, fmax=40.0, tmax=4.0, resample=RATE, subjects=subjects)
    X, whose = X - np.asarray(X).mean(axis=1, keepdims=True), np.asarray(X.domains["subject"]).astype(int)
    rows, halves = [], {i: np.array_split(np.flatnonzero(whose == i), 2) for i in tested}
    for readout, C in (("class", 0.01), ("channels", 1e-4), ("power", 0.01), ("class+power", 0.01)):
        step = GramPretrainer(checkpoint=file, max_epochs=0, readout=readout, device="cpu").fit(X[:2])
        given = np.concatenate([step.transform(X[np.flatnonzero(whose == i)]) for i in subjects])
        centred = given - np.stack([given[whose == i].mean(axis=0) for i in whose])
        for task in ("movement / rest", "left / right"):
            labels = np.where(y == "rest", "rest", "movement") if task.endswith("rest") else y
            used = np.ones(len(y), bool) if task.endswith("rest") else y != "rest"
            for protocol, F, training in (
                ("12 other subjects", given, few), ("12 other subjects, features centred by subject", centred, few),
                ("35 other subjects", given, many), ("35 other subjects, features centred by subject", centred, many),
                ("first half of the subject", given, None),
            ):  # fmt: skip
                for i in tested:
                    fitted, scored = halves[i] if training is None else (np.flatnonzero(np.isin(whose, training)), None)
                    scored = np.flatnonzero(whose == i) if scored is None else scored
                    fitted, scored = fitted[used[fitted]], scored[used[scored]]
                    if training is None or i == tested[0]:
                        model = LogisticRegression(C=C, class_weight="balanced", max_iter=300)
                        model = make_pipeline(StandardScaler(), model).fit(F[fitted], labels[fitted])
                    score = balanced_accuracy_score(labels[scored], model.predict(F[scored]))
                    rows.append({"task": task, "protocol": protocol, "readout": readout, "subject": i, "score": score})
    table = pd.DataFrame(rows)
    table.round(4).to_csv(RESULTS.with_name("gram_probe.csv"), index=False)
    print(table.groupby(["task", "protocol", "readout"], sort=False)["score"].agg(["mean", "std"]).round(3).to_string())


def ship(file, target):
    """Write the weights in half precision."""
    from skeeg.training.checkpoints import read_weights, write_weights

    state, description = read_weights(file)
    state = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    write_weights(target, state, description | {"sfreq": float(RATE), "classes": []})


def main():
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", default=["train", "score"])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--subjects", type=int, default=59, help="subjects to train on, from the first")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if "train" in args.parts:
        args.folder.mkdir(parents=True, exist_ok=True)
        train(args.folder, args.minutes, args.subjects)
    if "score" in args.parts:
        for part in (score, score_seconds, score_grasp):
            part(str(args.folder / "gram.safetensors"))
    if "probe" in args.parts:
        probe(str(args.folder / "gram.safetensors"))
    if "ship" in args.parts:
        ship(args.folder / "gram.safetensors", args.folder / "gram-channels.safetensors")


if __name__ == "__main__":
    main()
