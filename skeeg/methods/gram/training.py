"""Training of both stages: the recipe, the windows of all recordings, and the base of the two trainers."""

import dataclasses
import functools

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from skorch.callbacks import GradientNormClipping

from ...array import EEGArray, as_eeg
from ...base import EEGEstimator, refuse_flat
from ...datasets.store import StoredWindows
from ...training import NetworkState, Recipe, distributed, split_validation
from ...training.data import StreamedTensor, Trials
from ...training.device import resolve_device
from ...training.inference import run_batches
from ...training.pretraining import list_recordings, median_speed, name_subjects, pretrain
from ...training.recipe import change_recipe
from ...training.state import holds_network
from .checkpoint import save_weights
from .layers import SIZES
from .network import GramPretrainingNetwork, param_groups
from .preprocessing import MAX_SECONDS, RATE, channels_of, cut_windows, network_input, window_length
from .tokenizer_network import GramTokenizerNetwork


@dataclasses.dataclass(frozen=True)
class GramRecipe(Recipe):
    """How Gram is trained; the defaults are the published ones. Warm-up and cosine move with the updates.

    Fields that `skeeg.training.Recipe` does not have: ``clip`` is the largest norm of the gradient, or None; ``mixed``
    mixes the batches of recordings of different montages, or takes one recording after the other, as published.
    """

    weight_decay: float = 5e-4
    warmup_share: float = 0.1
    lowest: float = 0.025
    by_step: bool = True
    clip: float | None = 1.0
    mixed: bool = True


class GramState(NetworkState):
    """One of Gram's three networks."""

    def build(self):
        """Give a new module, as ``spec`` describes it."""
        given = dict(self.spec["parameters"])
        if self.spec["network"] == "Gram":
            return super().build()
        if self.spec["network"] == "GramTokenizerNetwork":
            module = GramTokenizerNetwork(**given)
        else:
            tokenizer = GramTokenizerNetwork(given.pop("tokenizer"), given.pop("decay"))
            module = GramPretrainingNetwork(tokenizer, **given)
        return module.to(self.dtype).eval()


def is_small(estimator):
    """Whether an estimator's network is as shallow as ``"tiny"``, by its fitted network or by its size."""
    if "network_" in vars(estimator):
        return estimator.network_.spec["parameters"]["size"]["n_layers"] <= SIZES["tiny"].n_layers
    return estimator.size == "tiny"


@dataclasses.dataclass
class Pool:
    """Windows of all recordings, grouped by channels and length, and the subject of each window."""

    trials: Trials
    subjects: np.ndarray

    def content(self):
        """Give what differs between pools, for a fingerprint: windows, or what the store knows of them."""
        inputs = [one for part in (self.trials.groups, self.trials.shared) for group in part for one in group.values()]
        known = [one.identity if isinstance(one, StreamedTensor) else one.numpy() for one in inputs]
        return known, self.subjects.tolist()


class GramEstimator:
    """Mixin of the classifier and the two trainers, which hold a `GramState` as ``network_``."""

    _any_length = True
    _any_montage = True
    __metadata_request__fit = {"subjects": True}

    @property
    def _any_rate(self):
        return (self.network_params or {}).get("sfreq", RATE) is not None

    def _callbacks(self):
        """User's callbacks, and the clipping of the gradient."""
        clip = self._recipe().clip
        return [*(self.skorch_callbacks or ()), *([] if clip is None else [GradientNormClipping(clip)])]

    @property
    def steps_(self):
        """Preprocessing of trials for the network, a fitted `sklearn.pipeline.Pipeline`."""
        return network_input(self.module_.sizes)

    @property
    def layer_weights_(self):
        """Share of each fused block, ndarray of shape (n_fused,)."""
        check_is_fitted(self)
        return self.module_.layer_weights().detach().numpy()

    def save_checkpoint(self, path):
        """Write the weights in the published layout, ``.safetensors`` or ``.pth``, as a ``checkpoint``.

        The file of a `GramPretrainer` holds its tokenizer too.
        """
        check_is_fitted(self)
        save_weights(self.module_, path)


@holds_network
class GramStage(GramEstimator, EEGEstimator):
    """Base of the two trainers; a subclass has `_published`, its recipe, and `_criterion`."""

    _published_rate = 4e-5  # with 1024 windows a batch

    def __init__(
        self,
        size=None,
        checkpoint=None,
        network_params=None,
        run_file=None,
        max_epochs=100,
        batch_size=128,
        learning_rate=None,
        recipe_params=None,
        precision="float32",
        validation=None,
        ch_names=None,
        sfreq=None,
        device="auto",
        random_state=None,
        verbose=0,
        skorch_callbacks=None,
    ):
        self.size = size
        self.checkpoint = checkpoint
        self.network_params = network_params
        self.run_file = run_file
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.recipe_params = recipe_params
        self.precision = precision
        self.validation = validation
        self.ch_names = ch_names
        self.sfreq = sfreq
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.skorch_callbacks = skorch_callbacks

    def _check_parameters(self):
        """Refuse settings that mean nothing, by name."""
        super()._check_parameters()
        resolve_device(self.device)
        self._recipe()

    # Windows

    def _pool(self, X, subjects, sizes, first=True):
        """Check recordings and cut them into windows; the first one gives the fitted attributes."""
        X = [X] if isinstance(X, StoredWindows) else X
        if isinstance(X, list) and X and isinstance(X[0], StoredWindows):
            return self._stored_pool(X, sizes, first)
        recordings, parts = list_recordings(X, None, subjects), {}
        for number, (trials, _, whose) in enumerate(recordings):
            trials = self._check_eeg(trials, reset=first and not number, dtype=np.float32)
            refuse_flat(trials)
            names = name_subjects(as_eeg(trials, subjects=whose), number if len(recordings) > 1 else None)
            windows, starts, channels = self._cut(trials, sizes)
            found = parts.setdefault((*channels.tolist(), windows.shape[3]), ([], []))
            found[0].append(windows.reshape(-1, *windows.shape[2:]))
            found[1].append(np.repeat(names, len(starts)))
        groups = [{"x": torch.from_numpy(np.concatenate(windows))} for windows, _ in parts.values()]
        shared = [{"channels": torch.tensor(key[:-1])} for key in parts]
        whose = np.concatenate([name for _, names in parts.values() for name in names])
        return Pool(Trials(groups, None, shared, self._recipe().mixed), whose)

    def _cut(self, X, sizes):
        """Windows (n_trials, n_windows, n_channels, n_times) of trials, the first patch of each, channel indices."""
        channels = channels_of(X)
        data = np.asarray(network_input(sizes).transform(X), dtype=self._float_type())
        longest = window_length(len(channels), data.shape[2] // sizes.patch_length)
        return *cut_windows(data, sizes.patch_length, longest), channels

    def _float_type(self):
        return np.float64 if self.precision == "float64" else np.float32

    def _stored_pool(self, stored, sizes, first):
        """Windows that stay on the disk; one of each kind is checked."""
        groups, shared = [], []
        for number, group in enumerate(stored):
            one = EEGArray(group.take([0]), group.ch_names, group.sfreq)
            one = self._check_eeg(one, reset=first and not number, dtype=np.float32)
            n_patches, rest = divmod(group.shape[2], sizes.patch_length)
            if rest or not 1 <= n_patches <= MAX_SECONDS or sizes.sfreq not in (None, group.sfreq):
                raise ValueError(
                    f"X: stored windows of {group.shape[2]} samples at {group.sfreq:g} Hz, expected {sizes.sfreq} Hz "
                    f"(store them with prepare=gram_preprocessing()), and 1 to {MAX_SECONDS} patches of "
                    f"{sizes.patch_length} samples."
                )
            read = functools.partial(_read_units, group, sizes.scale, self._float_type())
            windows = StreamedTensor(read, np.arange(len(group)), group.shape[1:], group.identity)
            groups.append({"x": windows})
            shared.append({"channels": torch.from_numpy(channels_of(one))})
        trials = Trials(groups, None, shared, self._recipe().mixed)
        return Pool(trials, np.concatenate([group.subjects for group in stored]))

    # Training

    def _recipe(self):
        own = {"max_epochs": max(self.max_epochs, 1), "batch_size": self.batch_size, "precision": self.precision}
        recipe = change_recipe(self._published, self.recipe_params, learning_rate=self.learning_rate, **own)
        if self.learning_rate is not None:
            return recipe
        published = self._published_rate * distributed.update_size(recipe.batch_size, recipe.accumulate) / 1024
        return dataclasses.replace(recipe, learning_rate=1e-3 if is_small(self) else published)

    def _learn(self, pool, run, recipe):
        """Train the network on a pool, or go on with it; give the history, one record an epoch."""
        rows, held = split_validation(
            np.zeros(len(pool.subjects)), self.validation, recipe.validation_size, pool.subjects, run.seed
        )
        trials, validation, subjects = pool.trials, None, None
        if held is not None:
            held = np.sort(held)
            trials, validation, subjects = trials.subset(rows), trials.subset(held), pool.subjects[held]
        history = pretrain(
            self.module_, trials, recipe, self._criterion(), run, validation=validation, subjects=subjects,
            device=self.device, verbose=self.verbose, callbacks=self._callbacks(), parameter_groups=param_groups,
        )  # fmt: skip
        self.module_.eval()
        return history

    def _finish(self, pool, history):
        """Fill the fitted attributes of a training."""
        self.network_.history, self.network_.net = history, None
        n_samples = sum(group["x"].numel() for group in pool.trials.groups)
        self.throughput_ = median_speed(history) * n_samples / self.module_.sizes.patch_length / len(pool.trials)
        if self.verbose and history and distributed.is_first():
            name, device = type(self).__name__, resolve_device(self.device)
            print(f"{name}: {self.throughput_:.0f} patches/s on {device}")

    def _by_batch(self, function, data, channels):
        """Results of a function of (network, batch, channels), batch by batch, on the device."""
        inputs = (torch.as_tensor(channels),)
        return run_batches(self.module_, data, self.batch_size, resolve_device(self.device), inputs, function)

    # Fitted attributes

    def __sklearn_is_fitted__(self):
        """Fitted once it has a network."""
        return "network_" in vars(self)


def _read_units(group, scale, dtype, rows):
    """Windows of a store in the units of the network."""
    return group.take(rows).astype(dtype) * dtype(1 / scale)
