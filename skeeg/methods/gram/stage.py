"""What the trainers of both stages share: recordings as groups of windows, the recipe, the run."""

import dataclasses
import functools

import numpy as np
import torch
from skorch.callbacks import GradientNormClipping

from ...array import make_eeg
from ...datasets.store import StoredWindows
from ...training import NetworkEstimator, Recipe, split_validation
from ...training.inference import run_batches
from ...training.pretraining import GroupedTrials, StoredTensor, list_recordings, name_people, pretrain, ranks
from ...training.recipe import make_net, resolve_device
from .decay import decay_groups
from .form import cut_windows, electrodes_of, whole_patches, window_length
from .sizes import MAX_SECONDS, is_tiny


@dataclasses.dataclass
class Pool:
    """Windows of all recordings.

    Attributes
    ----------
    trials : GroupedTrials
        Windows, grouped by electrodes and length.
    subjects : ndarray of str, shape (n_windows,)
        Whose they are; people of different recordings are different people.
    """

    trials: GroupedTrials
    subjects: np.ndarray

    def content(self):
        """Give what tells this pool from others, for a fingerprint."""
        arrays = [_content(value) for group in self.trials.groups for value in group.values()]
        common = [value.numpy() for shared in self.trials.shared for value in shared.values()]
        return arrays, common, self.subjects.tolist()

    @property
    def n_samples(self):
        """Samples of all windows and electrodes."""
        return sum(group["x"].numel() for group in self.trials.groups)


class GramStage(NetworkEstimator):
    """Base of the two trainers; a subclass has the parameters that are read here, and `_objective` and `_criterion`."""

    _any_length = True
    _any_montage = True
    _published_rate = 4e-5  # with 1024 windows a batch
    __metadata_request__fit = {"subjects": True}

    @property
    def _any_rate(self):
        """Whether trials of any rate are brought to that of the network."""
        return self.resample is not None

    def _pool(self, X, subjects, first=True):
        """Check recordings and cut them into windows; the first one gives the fitted attributes.

        Parameters
        ----------
        X : anything `as_eeg` accepts, list of such, or StoredWindows
            Trials.
        subjects : array-like, list with one entry a recording, or None
            Who it is.
        first : bool
            Whether attributes are to be set.

        Returns
        -------
        pool : Pool
            Windows.
        """
        if isinstance(X, StoredWindows):
            return self._stored_pool(X, first)
        recordings, parts = list_recordings(X, None, subjects), {}
        for number, (trials, _, whose) in enumerate(recordings):
            trials = self._check_eeg(trials, reset=first and not number, dtype=np.float32)
            self._refuse_flat(trials)
            names, _ = name_people(trials, whose, number if len(recordings) > 1 else None)
            channels = electrodes_of(trials, self.old_names)
            data = whole_patches(trials, self, self._numbers())
            n_patches = data.shape[2] // self.patch_length
            windows, starts = cut_windows(data, self.patch_length, window_length(len(channels), n_patches, self.window))
            key = (*channels.tolist(), windows.shape[3])
            found = parts.setdefault(key, ([], []))
            found[0].append(windows.reshape(-1, *windows.shape[2:]))
            found[1].append(np.repeat(names, len(starts)))
        groups = [{"x": torch.from_numpy(np.concatenate(windows))} for windows, _ in parts.values()]
        shared = [{"channels": torch.tensor(key[:-1])} for key in parts]
        whose = np.concatenate([name for _, names in parts.values() for name in names])
        return Pool(GroupedTrials(groups, shared, self.mixed), whose)

    def _stored_pool(self, stored, first):
        """Windows that stay on the disk; one of each kind is looked at."""
        groups, shared = [], []
        for number, group in enumerate(stored):
            one = make_eeg(group.take([0]), group.ch_names, group.sfreq)
            one = self._check_eeg(one, reset=first and not number, dtype=np.float32)
            n_patches, rest = divmod(group.shape[2], self.patch_length)
            if rest or not 1 <= n_patches <= MAX_SECONDS or self.resample not in (None, group.sfreq):
                raise ValueError(
                    f"X: windows of {group.shape[2]} samples at {group.sfreq:g} Hz; staying on the disk, they must "
                    f"have the network's rate of {self.resample} Hz (add recordings to the store with "
                    f"prepare=gram_preprocessing()) and 1 to {MAX_SECONDS} times {self.patch_length} samples."
                )
            read = functools.partial(_read_units, group, self.scale, self._numbers())
            windows = StoredTensor(read, np.arange(len(group)), group.shape[1:], group.identity)
            groups.append({"x": windows})
            shared.append({"channels": torch.from_numpy(electrodes_of(one, self.old_names))})
        return Pool(GroupedTrials(groups, shared, self.mixed), np.concatenate([group.subjects for group in stored]))

    def _learn(self, pool, run, recipe, callbacks=()):
        """Train the objective around ``module_`` on a pool, or go on with it.

        Returns
        -------
        history : list of dict
            One record an epoch.
        """
        rows, held = split_validation(np.zeros(len(pool.subjects)), *self._split(pool.subjects, run.seed))
        validation = None if held is None else pool.trials.subset(np.sort(held))
        objective = self._objective()
        history = pretrain(
            objective, pool.trials if held is None else pool.trials.subset(rows), recipe, self._criterion(), run,
            validation=validation, subjects=None if held is None else pool.subjects[np.sort(held)],
            device=self.device, verbose=self.verbose, callbacks=[*self._callbacks(), *callbacks],
            parameter_groups=decay_groups,
        )  # fmt: skip
        self.module_ = objective.network.eval()
        return history

    def _split(self, subjects, seed):
        """Arguments of `split_validation` after the targets."""
        return self.validation, self.validation_size, subjects, seed

    def _finish(self, pool, history):
        """Fill the fitted attributes of a training."""
        self.history_, self.n_iter_ = history, max(len(history), 1)
        speeds = [row["trials_per_s"] for row in history]
        per_window = pool.n_samples / self.patch_length / len(pool.trials)
        self.throughput_ = float(np.median(speeds) * per_window) if speeds else float("nan")
        self.net_ = self._make_net()
        self.net_.history.extend(self.history_)
        if self.verbose and history and ranks.is_first():
            name, device = type(self).__name__, resolve_device(self.device)
            print(f"{name}: {self.throughput_:.0f} patches/s on {device}")

    def _recipe(self):
        """Give the published course: warm-up and cosine by the update."""
        rate = self.learning_rate
        if rate is None:
            published = self._published_rate * ranks.update_size(self.batch_size, self.accumulate) / 1024
            rate = 1e-3 if is_tiny(self) else published
        return Recipe(
            max_epochs=max(self.max_epochs, 1), batch_size=self.batch_size, learning_rate=rate, by_step=True,
            weight_decay=self.weight_decay, warmup=self.warmup * self.max_epochs, lowest=self.lowest,
            precision=self.precision, accumulate=self.accumulate,
        )  # fmt: skip

    def _callbacks(self):
        """User's callbacks, and the limit of the gradient."""
        clip = [] if self.clip is None else [GradientNormClipping(self.clip)]
        return [*super()._callbacks(), *clip]

    def _check_stage(self):
        """Refuse settings that mean nothing, by name."""
        if self.max_epochs < 0:
            raise ValueError(f"max_epochs: got {self.max_epochs}, expected 0 or more.")
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup: got {self.warmup}, expected a share of the epochs, 0 or more and less than 1.")
        self._recipe().check()

    def _numbers(self):
        return np.float64 if self._dtype() == torch.float64 else np.float32

    def _make_net(self):
        return make_net(self._objective(), self._recipe(), self._criterion()).initialize()

    def _windows_of(self, X):
        """Windows of trials to transform.

        Returns
        -------
        windows : Tensor, shape (n_trials, n_windows, n_channels, length * patch_length)
            Windows of the length that the training had.
        starts : list of int
            First patch of each.
        channels : ndarray of int64, shape (n_channels,)
            Positions in the collection.
        n_patches : int
            Patches of an electrode.
        """
        X = self._check_eeg(X, reset=False, dtype=np.float32)
        channels, data = electrodes_of(X, self.old_names), whole_patches(X, self, self._numbers())
        n_patches = data.shape[2] // self.patch_length
        longest = window_length(len(channels), n_patches, self.window)
        windows, starts = cut_windows(data, self.patch_length, longest)
        return torch.from_numpy(windows), starts, channels, n_patches

    def _by_batch(self, function, data, channels):
        """Results of a function of (network, batch, channels), batch by batch, on the device."""
        inputs = (torch.as_tensor(channels),)
        return run_batches(self.module_, data, self.batch_size, resolve_device(self.device), inputs, function)


def _read_units(group, scale, dtype, rows):
    """Windows of a store in the units of the network."""
    return group.take(rows).astype(dtype) * dtype(1 / scale)


def _content(values):
    """Give what tells windows from others: themselves, or what the store knows of them."""
    return values.identity if isinstance(values, StoredTensor) else values.numpy()
