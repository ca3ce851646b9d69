"""Pre-training of MIRepNet: masked-token reconstruction and classification on the recordings of many subjects."""

import dataclasses
import hashlib
import json
import warnings
from datetime import date
from numbers import Integral, Real
from pathlib import Path

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from ...array import DOMAIN_FIELDS, as_eeg
from ...base import EEGEstimator, refuse_flat, refuse_unknown
from ...montage import template_names
from ...networks.seeding import seeded
from ...training import NetworkState, Recipe, split_validation
from ...training.checkpoints import describe, published_state, save_weights, write_weights
from ...training.device import resolve_device
from ...training.distributed import is_first
from ...training.pretraining import fingerprint, list_recordings, median_speed, open_run, pretrain, read_labels
from ...training.state import holds_network
from .checkpoint import PUBLISHED, read_start
from .network import HybridLoss, MaskedModel
from .preprocessing import ALIGN, RATE, fit_steps, mirepnet_preprocessing, pool_recordings

_OF_THE_RECIPE = "max_epochs", "batch_size", "learning_rate", "accumulate", "precision"  # parameters of the estimator


@dataclasses.dataclass(frozen=True)
class PretrainingRecipe(Recipe):
    """How MIRepNet is pre-trained; the defaults are the published ones where these are known."""

    solver: str = "adam"
    schedule: str | None = None
    by_step: bool = True
    mask_ratio: float = 0.5
    rec_weight: float = 1.0
    cls_weight: float = 1.0
    reconstruct: str = "masked"
    detach_target: bool = True
    screen: str | float | None = None
    n_times: int | None = None
    montages: int | None = None
    crops: bool = False
    balance: bool = False

    constraints = Recipe.constraints | {
        "mask_ratio": [Interval(Real, 0, 1, closed="right")],
        "reconstruct": [StrOptions({"masked", "all"})],
        **dict.fromkeys(("rec_weight", "cls_weight"), [Interval(Real, 0, None, closed="left")]),
        **dict.fromkeys(("n_times", "montages"), [Interval(Integral, 1, None, closed="left"), None]),
    }

    def check(self):
        """Raise a ValueError that names the first invalid setting."""
        if self.rec_weight == self.cls_weight == 0:
            raise ValueError("rec_weight, cls_weight: both are 0, expected one of them above 0.")
        if self.crops and self.n_times is None:
            raise ValueError("crops: the length of a crop is n_times, which is None.")
        return super().check()


RECIPES = {
    "published": PretrainingRecipe(),
    "montages": PretrainingRecipe(
        max_epochs=6, learning_rate=2e-3, weight_decay=1e-2, solver="adamw", schedule="cosine", warmup_share=1 / 12,
        rec_weight=0.0, montages=24, crops=True, n_times=300, balance=True,
    ),
}  # fmt: skip
"""Recipes by name; ``"montages"`` is that of the weights that ship with the package (``resample=100``)."""


@holds_network
class MIRepNetPretrainer(EEGEstimator):
    """Pre-train MIRepNet [1]_ on recordings of many subjects; rebuilt from the paper, whose code was not released.

    Half of the tokens of each trial are masked. The network reconstructs them from the others (mean squared error) and
    classifies the trial (cross-entropy), both with equal weight. Recordings may differ in montage, rate, window and
    classes: each is aligned by subject and interpolated to 45 electrodes, and classes of the same name are the same
    class. Trials without labels take part in the reconstruction only.

    Parameters
    ----------
    network_params : dict or None
        Sizes of the network that differ from the published ones, such as ``{"embed_dim": 64}``; see `MIRepNet`. The
        decoder has two blocks.
    checkpoint : str or None
        Weights to start from. Those of `pretrain_weights`, such as ``"skeeg:mirepnet-small"``, have no decoder and no
        mask token: these start at random, with a warning if they are used.
    recipe : str or dict
        How to train: ``"published"``; ``"montages"``, the recipe of the weights that ship with the package, classes
        alone in random montages; or a dict of what differs from one, ``{"name": "published", "mask_ratio": 0.75}``,
        in the terms of `skeeg.methods.mirepnet.pretraining.PretrainingRecipe`.
    max_epochs, batch_size, learning_rate : int, int and float, or None
        Settings of the recipe; None leaves its own. The learning rate changes with every update.
    accumulate : int
        Batches an update, for a GPU that cannot hold a larger batch; see `skeeg.training.Recipe`.
    align, domain, template, resample
        As in `MIRepNetClassifier`.
    validation : {None, "subject", "trial", "block"}
        As in `skeeg.NetworkClassifier`: ``"subject"`` holds out subjects and records the curve of each of them in
        ``history_``; nothing is stopped or selected by it.
    run_file : str or None
        File to keep the state of the training in after every epoch. If it exists, from the same trials and settings,
        the training resumes from it and ends with the same weights, to the bit, as without the interruption. The
        number of processes may differ, see Notes.
    precision : {"float32", "bf16", "float64"}
        Arithmetic, see `skeeg.training.Recipe`.
    ch_names, sfreq, device, random_state, verbose, skorch_callbacks
        As in `skeeg.NetworkClassifier`; ``verbose`` also prints the trials a second.

    Attributes
    ----------
    classes_ : ndarray, shape (n_classes,)
        Labels of all recordings; empty without any.
    history_ : list of dict
        One record an epoch: both losses, the accuracy, the same for the validation subjects together and each
        (``valid_by_subject``), trials a second.
    throughput_ : float
        Median of the trials a second.
    screening_ : dict of str to float
        Accuracy of each subject where they were screened.
    steps_ : list of Pipeline
        Fitted preprocessing of each recording, see `mirepnet_preprocessing`.
    module_, net_, n_iter_, checkpoint_report_
        As in `skeeg.NetworkClassifier`.

    Notes
    -----
    A script that fits this, started by ``torchrun --nproc_per_node=N`` or ``accelerate launch``, trains on N GPUs or in
    N processes. Each fits the same trials and computes its part of every update, of ``N * batch_size * accumulate``
    trials; with the same product an interrupted run resumes with another number of processes. Dropout and the
    statistics of batch normalisation differ.

    References
    ----------
    .. [1] Liu, D., et al. (2026). MIRepNet: a pipeline and pre-trained model for EEG-based motor imagery
       classification. Knowledge-Based Systems, 343, 115966. https://doi.org/10.1016/j.knosys.2026.115966

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg import MIRepNetPretrainer, EEGArray
    >>> rng = np.random.default_rng(0)
    >>> first = EEGArray(rng.normal(size=(6, 3, 250)), ("C3", "Cz", "C4"), 250)
    >>> second = EEGArray(rng.normal(size=(4, 2, 192)), ("C3", "C4"), 128)
    >>> sizes = {"n_layers": 1, "embed_dim": 16}
    >>> pretrainer = MIRepNetPretrainer(network_params=sizes, max_epochs=1, random_state=0)
    >>> pretrainer.fit([first, second], [["left", "right"] * 3, ["feet", "left"] * 2]).classes_.tolist()
    ['feet', 'left', 'right']
    """

    _any_length = True
    _any_montage = True
    _any_rate = True
    _parameter_constraints = {
        "align": [StrOptions(set(ALIGN)), None],
        "domain": [StrOptions(set(DOMAIN_FIELDS))],
        "recipe": [str, dict],
    }
    __metadata_request__fit = {"subjects": True}

    def __init__(
        self,
        network_params=None,
        checkpoint=None,
        recipe="published",
        max_epochs=None,
        batch_size=None,
        learning_rate=None,
        accumulate=1,
        align="own",
        domain="subject",
        template="mirepnet45",
        resample=RATE,
        validation=None,
        run_file=None,
        precision="float32",
        ch_names=None,
        sfreq=None,
        device="auto",
        random_state=None,
        verbose=0,
        skorch_callbacks=None,
    ):
        self.network_params = network_params
        self.checkpoint = checkpoint
        self.recipe = recipe
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.accumulate = accumulate
        self.align = align
        self.domain = domain
        self.template = template
        self.resample = resample
        self.validation = validation
        self.run_file = run_file
        self.precision = precision
        self.ch_names = ch_names
        self.sfreq = sfreq
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.skorch_callbacks = skorch_callbacks

    def fit(self, X, y=None, subjects=None):
        """Pre-train on trials (n_trials, n_channels, n_times) and labels (n_trials,) or None, or lists of recordings.

        ``subjects`` (n_trials,), or a list of such, are for trials without domains; None takes each recording for one
        subject.
        """
        recordings = list_recordings(X, y, subjects)
        checked = [self._check_recording(*recording, first=not i) for i, recording in enumerate(recordings)]
        recipe = self._recipe()
        pool = pool_recordings(checked, self._make_steps, recipe)
        if not recipe.rec_weight and not len(pool.classes):
            raise ValueError("rec_weight: 0 leaves no loss for trials without labels.")
        self.classes_, self.steps_, self.screening_ = pool.classes, pool.steps, pool.scores
        key = fingerprint(self, (pool.data, pool.y, pool.subjects.tolist()))
        run = open_run(self.run_file, key, self.random_state)
        with seeded(run.seed):
            self.network_ = self._start_network(pool, recipe)
            self._run(pool, run, recipe)
        return self

    def save_checkpoint(self, path):
        """Write the weights in the published layout, ``.safetensors`` or ``.pth``, as a ``checkpoint``."""
        check_is_fitted(self)
        save_weights(self.module_, path, describe(self, self.template))

    def transform(self, X):
        """Features of each trial of X, of any montage: float32, shape (n_trials, embed_dim), before the last layer."""
        check_is_fitted(self)
        X = self._check_eeg(X, reset=False, dtype=np.float32)
        steps = self._find_steps(X)
        data = np.asarray(fit_steps(self._make_steps(X), X) if steps is None else steps.transform(X))
        missing = max(self.module_.shortest - data.shape[2], 0)
        data = np.pad(data.astype(self.network_.float_type, copy=False), ((0, 0), (0, 0), (0, missing)))
        features = self.network_.features(data, batch_size=self.batch_size, device=self.device)
        return features.astype(np.float32, copy=False)

    def _check_parameters(self):
        super()._check_parameters()
        resolve_device(self.device)
        recipe = self._recipe().check()
        if recipe.montages is not None and (self.template is None or self.align is None):
            raise ValueError(
                f"montages: got {recipe.montages} with template={self.template!r} and align={self.align!r}; "
                "montage augmentation needs both."
            )
        n_layers = (self.network_params or {}).get("decoder_layers")
        if n_layers is not None and n_layers < 1:
            raise ValueError(f"network_params: got decoder_layers={n_layers}, expected 1 or more.")

    def _recipe(self):
        settings = {"name": self.recipe} if isinstance(self.recipe, str) else {"name": "published"} | self.recipe
        name = settings.pop("name")
        refuse_unknown("recipe", [name], RECIPES)
        refuse_unknown("recipe", settings, PretrainingRecipe.__dataclass_fields__)
        own = {one: vars(self)[one] for one in _OF_THE_RECIPE if vars(self)[one] is not None}
        return dataclasses.replace(RECIPES[name], **settings | own)

    def _check_recording(self, X, y, subjects, first):
        """Check one recording; the first one gives the fitted attributes."""
        X = self._check_eeg(X, reset=first, dtype=np.float32)
        refuse_flat(X)
        return as_eeg(X, subjects=subjects), read_labels(y, len(X))

    def _make_steps(self, X):
        rate = None if X.sfreq is None else self.resample
        return mirepnet_preprocessing(None, rate, self.align, self.domain, self.template)

    def _find_steps(self, X):
        """Preprocessing of the first recording with these electrodes, or None."""
        for steps in self.steps_:
            align = steps.named_steps["align"]
            if align != "passthrough" and align.n_features_in_ == X.shape[1] and align.ch_names_in_ == X.ch_names:
                return steps
        return None

    def _start_network(self, pool, recipe):
        """Build the network for the pooled trials, and load the checkpoint into it."""
        weights, _, sizes = read_start(self.checkpoint, {"decoder_layers": None} | dict(self.network_params or {}))
        n_times = pool.data.shape[2]
        state = NetworkState(
            "MIRepNet", sizes, sfreq=self.resample, precision=self.precision, n_outputs=max(len(pool.classes), 1),
            n_chans=pool.data.shape[1] if recipe.montages is None else len(template_names(self.template)),
            n_times=min(recipe.n_times, n_times) if recipe.crops else n_times,
        ).start()  # fmt: skip
        if weights:
            state.load(weights, file=self.checkpoint)
            if recipe.rec_weight and "mask_token" not in weights:
                warnings.warn(
                    f"checkpoint: {self.checkpoint} has no decoder and no mask token; they start at random.",
                    stacklevel=4,
                )
        return state

    def _criterion(self):
        return "cross_entropy"

    def _run(self, pool, run, recipe):
        """Train, or resume an earlier training."""
        state = self.network_
        pool.data, n_times = state.pad(pool.data), state.spec["n_times"]
        rows, held = split_validation(pool.y, self.validation, recipe.validation_size, pool.subjects, run.seed)
        validation, subjects = None, None
        if held is not None:
            validation = pool.validation_trials(held, n_times, self.template, recipe)
            subjects = pool.subjects[held]
        mask_ratio = recipe.mask_ratio if recipe.rec_weight else None
        model = MaskedModel(state.module, mask_ratio, recipe.detach_target, recipe.reconstruct)
        state.history = pretrain(
            model, pool.training_trials(rows, n_times, self.template, recipe, run.seed), recipe,
            HybridLoss(recipe.rec_weight, recipe.cls_weight), run, validation=validation,
            subjects=subjects, device=self.device, verbose=self.verbose, callbacks=self.skorch_callbacks or (),
        )  # fmt: skip
        state.module = model.network.eval()
        self.throughput_ = median_speed(state.history)
        if self.verbose and is_first():
            print(f"MIRepNetPretrainer: {self.throughput_:.0f} trials/s on {resolve_device(self.device)}")


SIZES = {
    "small": {
        "embed_dim": 64, "n_layers": 2, "n_heads": 4, "n_filters_time": 32, "n_filters": 64, "filter_length": 15,
        "pool_length": 30, "pool_stride": 6, "drop_prob": 0.25,
    },
    "published": PUBLISHED,
}  # fmt: skip
"""Network by size: ``"small"`` is that of ``skeeg:mirepnet-small``, for 100 Hz."""
RATES = {"small": 100.0, "published": 250.0}
FINETUNING = {"n_updates": 120, "max_epochs": 120, "batch_size": 64, "learning_rate": 5e-4, "time_shift": 0.5}
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
    >>> from skeeg.methods.mirepnet.pretraining import pretrain_weights
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
    history = [row for row in history if "train_acc" in row]  # without an epoch that was interrupted
    ax, epochs = figure.subplots(), range(1, len(history) + 1)
    for subject in history[0].get("valid_by_subject", {}) if history else ():
        ax.plot(epochs, [row["valid_by_subject"][subject]["acc"] for row in history], color="0.85", linewidth=0.8)
    for name, label in (("train_acc", "training"), ("valid_acc", "held-out subjects")):
        if history and name in history[0]:
            ax.plot(epochs, [row[name] for row in history], label=label)
    ax.set(xlabel="Epoch", ylabel="Accuracy")
    if history:
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
