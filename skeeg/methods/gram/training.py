"""Training of both stages: its settings, the windows of all recordings, and the base of the two estimators."""

import dataclasses
import functools

import numpy as np
import torch
from sklearn.base import TransformerMixin
from sklearn.utils.validation import check_is_fitted
from skorch.callbacks import GradientNormClipping

from ...array import EEGArray
from ...base import EEGEstimator, refuse_flat
from ...datasets.store import StoredWindows
from ...training import NetworkState, Recipe, distributed, split_validation
from ...training.data import StreamedTensor, Trials
from ...training.inference import run_batches
from ...training.net import make_net, resolve_device
from ...training.pretraining import list_recordings, median_speed, name_subjects, pretrain
from ...training.sizes import refuse_unknown
from ...training.state import HasNetwork
from .checkpoint import save_weights
from .layers import SIZES
from .network import GramPretrainingNetwork, param_groups
from .preprocessing import MAX_SECONDS, RATE, channels_of, cut_windows, network_input, window_length
from .tokenizer_network import GramTokenizerNetwork


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of a training that ``recipe_params`` may change; the defaults are the published ones."""

    weight_decay: float = 5e-4
    warmup: float = 0.1
    lowest: float = 0.025
    clip: float | None = 1.0
    validation_size: float = 0.2

    @classmethod
    def of(cls, estimator):
        """Give the settings of an estimator, checked."""
        refuse_unknown("recipe_params", estimator.recipe_params, [field.name for field in dataclasses.fields(cls)])
        settings = cls(**estimator.recipe_params or {})
        settings.check()
        return settings

    def check(self):
        """Raise a ValueError for a value out of range."""
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup: got {self.warmup}, expected a share of the epochs, 0 or more and less than 1.")

    def recipe(self, estimator, rate):
        """Recipe of an estimator with these settings: warm-up and cosine by the update."""
        return Recipe(
            max_epochs=estimator.max_epochs, batch_size=estimator.batch_size, learning_rate=rate, by_step=True,
            weight_decay=self.weight_decay, warmup=self.warmup * estimator.max_epochs, lowest=self.lowest,
            precision=estimator.precision, validation_size=self.validation_size,
        )  # fmt: skip

    def callbacks(self, estimator):
        """User's callbacks, and the clipping of the gradient."""
        return [
            *(estimator.skorch_callbacks or ()), *([] if self.clip is None else [GradientNormClipping(self.clip)])
        ]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class StageSettings(Settings):
    """What both stages have in addition."""

    accumulate: int = 1
    mixed: bool = True


class GramState(NetworkState):
    """One of Gram's three networks."""

    def build(self):
        """Give a new module, as ``spec`` describes it."""
        given = self.spec["parameters"]
        if self.spec["network"] == "Gram":
            return super().build()
        if self.spec["network"] == "GramTokenizerNetwork":
            module = GramTokenizerNetwork(given["size"], given["decay"])
        else:
            tokenizer = GramTokenizerNetwork(given["tokenizer"], given["decay"])
            module = GramPretrainingNetwork(tokenizer, given["size"], given["tokenizer_trains"])
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
        """Give what differs between pools, for a fingerprint."""
        arrays = [_content(value) for group in self.trials.groups for value in group.values()]
        common = [value.numpy() for shared in self.trials.shared for value in shared.values()]
        return arrays, common, self.subjects.tolist()

    @property
    def n_samples(self):
        """Samples of all windows and channels."""
        return sum(group["x"].numel() for group in self.trials.groups)


class GramEstimator:
    """Mixin of the classifier and the two trainers, which hold a `GramState` as ``network_``."""

    _any_length = True
    _any_montage = True
    __metadata_request__fit = {"subjects": True}

    @property
    def _any_rate(self):
        return (self.network_params or {}).get("sfreq", RATE) is not None

    @property
    def _settings(self):
        return self._settings_class.of(self)

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


class GramStage(GramEstimator, HasNetwork, TransformerMixin, EEGEstimator):
    """Base of the two trainers; a subclass has `_settings_class`, `_objective` and `_criterion`."""

    _published_rate = 4e-5  # with 1024 windows a batch

    def _check_parameters(self):
        """Refuse settings that mean nothing, by name."""
        super()._check_parameters()
        resolve_device(self.device)
        if self.max_epochs < 0:
            raise ValueError(f"max_epochs: got {self.max_epochs}, expected 0 or more.")
        self._recipe().check()

    # Windows

    def _pool(self, X, subjects, sizes, first=True):
        """Check recordings and cut them into windows; the first one gives the fitted attributes."""
        if isinstance(X, list) and X and isinstance(X[0], StoredWindows):
            return self._stored_pool(X, sizes, first)
        recordings, parts = list_recordings(X, None, subjects), {}
        for number, (trials, _, whose) in enumerate(recordings):
            trials = self._check_eeg(trials, reset=first and not number, dtype=np.float32)
            refuse_flat(trials)
            names, _ = name_subjects(trials, whose, number if len(recordings) > 1 else None)
            windows, starts, channels = self._cut(trials, sizes)
            found = parts.setdefault((*channels.tolist(), windows.shape[3]), ([], []))
            found[0].append(windows.reshape(-1, *windows.shape[2:]))
            found[1].append(np.repeat(names, len(starts)))
        groups = [{"x": torch.from_numpy(np.concatenate(windows))} for windows, _ in parts.values()]
        shared = [{"channels": torch.tensor(key[:-1])} for key in parts]
        whose = np.concatenate([name for _, names in parts.values() for name in names])
        return Pool(Trials(groups, None, shared, self._settings.mixed), whose)

    def _cut(self, X, sizes):
        """Windows (n_trials, n_windows, n_channels, n_times) of trials, the first patch of each, channel indices."""
        channels, data = channels_of(X, self.old_names), self._input(X, sizes)
        longest = window_length(len(channels), data.shape[2] // sizes.patch_length, self.window)
        return *cut_windows(data, sizes.patch_length, longest), channels

    def _input(self, X, sizes):
        return np.asarray(network_input(sizes).transform(X), dtype=self._float_type())

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
                    f"X: windows of {group.shape[2]} samples at {group.sfreq:g} Hz; staying on the disk, they must "
                    f"have the network's rate of {sizes.sfreq} Hz (add recordings to the store with "
                    f"prepare=gram_preprocessing()) and 1 to {MAX_SECONDS} times {sizes.patch_length} samples."
                )
            read = functools.partial(_read_units, group, sizes.scale, self._float_type())
            windows = StreamedTensor(read, np.arange(len(group)), group.shape[1:], group.identity)
            groups.append({"x": windows})
            shared.append({"channels": torch.from_numpy(channels_of(one, self.old_names))})
        trials = Trials(groups, None, shared, self._settings.mixed)
        return Pool(trials, np.concatenate([group.subjects for group in stored]))

    # Training

    def _recipe(self):
        settings, rate = self._settings, self.learning_rate
        if rate is None:
            published = self._published_rate * distributed.update_size(self.batch_size, settings.accumulate) / 1024
            rate = 1e-3 if is_small(self) else published
        recipe = settings.recipe(self, rate)
        return dataclasses.replace(recipe, max_epochs=max(self.max_epochs, 1), accumulate=settings.accumulate)

    def _learn(self, pool, run, recipe, callbacks=()):
        """Train the network on a pool, or go on with it; give the history, one record an epoch."""
        settings, validation = self._settings, None
        rows, held = split_validation(
            np.zeros(len(pool.subjects)), self.validation, settings.validation_size, pool.subjects, run.seed
        )
        trials, subjects = pool.trials, None
        if held is not None:
            held = np.sort(held)
            trials, validation, subjects = trials.subset(rows), trials.subset(held), pool.subjects[held]
        history = pretrain(
            self._objective(), trials, recipe, self._criterion(), run, validation=validation, subjects=subjects,
            device=self.device, verbose=self.verbose, callbacks=[*settings.callbacks(self), *callbacks],
            parameter_groups=param_groups,
        )  # fmt: skip
        self.module_.eval()
        return history

    def _finish(self, pool, history):
        """Fill the fitted attributes of a training."""
        self.network_.history, self.network_.net = history, None
        per_window = pool.n_samples / self.module_.sizes.patch_length / len(pool.trials)
        self.throughput_ = median_speed(history) * per_window
        if self.verbose and history and distributed.is_first():
            name, device = type(self).__name__, resolve_device(self.device)
            print(f"{name}: {self.throughput_:.0f} patches/s on {device}")

    def _by_batch(self, function, data, channels):
        """Results of a function of (network, batch, channels), batch by batch, on the device."""
        inputs = (torch.as_tensor(channels),)
        return run_batches(self.module_, data, self.batch_size, resolve_device(self.device), inputs, function)

    # Fitted attributes

    @property
    def net_(self):
        """Skorch net around the network."""
        if self.network_.net is None:
            self.network_.net = make_net(self._objective(), self._recipe(), self._criterion()).initialize()
            self.network_.net.history.extend(self.network_.history)
        return self.network_.net

    def __sklearn_is_fitted__(self):
        """Fitted once it has a network."""
        return "network_" in vars(self)


def _read_units(group, scale, dtype, rows):
    """Windows of a store in the units of the network."""
    return group.take(rows).astype(dtype) * dtype(1 / scale)


def _content(values):
    """Give what differs between windows: themselves, or what the store knows of them."""
    return values.identity if isinstance(values, StreamedTensor) else values.numpy()
