"""Weights of MIRepNet from own recordings: pre-training, file of weights, card and validation curve."""

import hashlib
import json
from datetime import date
from pathlib import Path

from ...training.checkpoints import describe, write_weights
from .checkpoint import PUBLISHED, published_state
from .pretraining import MIRepNetPretrainer

SIZES = {
    "small": {
        "embed_dim": 64, "n_layers": 2, "n_heads": 4, "n_filters_time": 32, "n_filters": 64, "filter_length": 15,
        "pool_length": 30, "pool_stride": 6, "drop_prob": 0.25,
    },
    "published": PUBLISHED,
}  # fmt: skip
"""Network by size: ``"small"`` is that of ``skeeg:mirepnet-small``, for 100 Hz."""
RATES = {"small": 100.0, "published": 250.0}
FINETUNING = {"max_epochs": 120, "batch_size": 64, "learning_rate": 5e-4, "time_shift": 0.5}
"""Settings of `MIRepNetClassifier` for few trials, which the file of weights carries."""


def pretrain_weights(
    dataset, out, size="small", band=(8.0, 30.0), held_out=0.1, max_epochs=None, seed=0, device="auto", verbose=1
):
    """Pre-train MIRepNet on a dataset and write what a `MIRepNetClassifier` starts from.

    An interrupted training with the same trials and settings is resumed.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> from skeeg import MIRepNetClassifier
    >>> from skeeg.datasets import SimulatedMotorImagery
    >>> from skeeg.methods.mirepnet.weights import pretrain_weights
    >>> dataset, out = SimulatedMotorImagery(n_subjects=2, n_sessions=1, n_runs=1, n_trials=4), mkdtemp()
    >>> card = pretrain_weights(dataset, out, held_out=0, max_epochs=1, verbose=0)
    >>> card["classes"]
    ['left_hand', 'right_hand']
    >>> decoder = MIRepNetClassifier(f"{out}/weights.safetensors", random_state=0)
    """
    from ...datasets import load_arrays

    if size not in SIZES:
        raise ValueError(f"size: got {size!r}, expected one of {', '.join(SIZES)}.")
    if not 0 <= held_out < 1:
        raise ValueError(f"held_out: got {held_out}, expected a share of the subjects from 0 to below 1.")
    out, rate = Path(out), RATES[size]
    out.mkdir(parents=True, exist_ok=True)
    X, y = load_arrays(dataset, *band, resample=rate)
    recipe = {"name": "montages", "n_times": round(3 * rate)} | ({"validation_size": held_out} if held_out else {})
    pretrainer = MIRepNetPretrainer(
        SIZES[size], recipe=recipe, max_epochs=max_epochs, resample=rate, validation="subject" if held_out else None,
        run_file=str(out / "training.run"), random_state=seed, device=device, verbose=verbose,
    ).fit(X, y)  # fmt: skip
    plot_curve(pretrainer.history_, out / "curve.png")
    data = f"{dataset.code}, {len(set(X.domains['subject'].tolist()))} subjects, {len(X)} trials"
    return _write(pretrainer, out, {"data": data, "band": band, "recipe": recipe | {"random_state": seed}})


def plot_curve(history, path):
    """Draw the accuracy on training and held-out subjects over the epochs."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5, 3), layout="constrained")
    ax, epochs = figure.subplots(), range(1, len(history) + 1)
    for subject in history[0].get("valid_by_subject", {}):
        ax.plot(epochs, [row["valid_by_subject"][subject]["acc"] for row in history], color="0.85", linewidth=0.8)
    for name, label in (("train_acc", "training"), ("valid_acc", "held-out subjects")):
        if name in history[0]:
            ax.plot(epochs, [row[name] for row in history], label=label)
    ax.set(xlabel="Epoch", ylabel="Accuracy")
    ax.legend(frameon=False)
    figure.savefig(path, dpi=150)


def _write(pretrainer, out, about):
    """Write the weights, in half precision and without the decoder, and their card."""
    state = {
        name: value.half() if value.is_floating_point() else value
        for name, value in published_state(pretrainer.module_).items()
        if not name.startswith(("decoder.", "mask_token"))
    }
    description = describe(pretrainer, pretrainer.template)
    sizes = {name: value for name, value in description["network_params"].items() if name != "decoder_layers"}
    description |= {"network_params": sizes, "finetuning": FINETUNING}
    file, last = out / "weights.safetensors", pretrainer.history_[-1]
    write_weights(file, state, description)
    card = {"method": "MIRepNetClassifier", "file": file.name} | description | about
    card["date"] = date.today().isoformat()
    card["scores"] = {name: round(last[name], 3) for name in ("train_acc", "valid_acc") if name in last}
    card["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    (out / "card.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return card
