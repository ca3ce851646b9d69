"""The first stage as a transformer: patches to tokens, and back."""

import dataclasses
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from ...array import EEGArray
from ...base import draw_seed
from ...networks.seeding import seeded
from ...training import distributed
from ...training.data import Batches
from ...training.pretraining import PartsLoss, RunFile, fingerprint, open_run
from .checkpoint import read_tokenizer
from .layers import TOKENIZER_SIZES, settle_sizes, to_patches, to_trials
from .preprocessing import channel_indices, window_length, window_starts
from .tokenizer_network import GramTokenizerNetwork
from .training import GramRecipe, GramStage, GramState, is_small


@dataclasses.dataclass(frozen=True)
class TokenizerRecipe(GramRecipe):
    """How `GramTokenizer` is trained; fields that `GramRecipe` does not have are the following.

    ``codebook_decay`` is that of the running means; ``warm_epochs`` are epochs before the others, without the codebook:
    None is a tenth of ``max_epochs`` for a network of at most four blocks, and else none, as published.
    """

    codebook_decay: float = 0.99
    warm_epochs: int | None = None

    constraints = GramRecipe.constraints | {
        "codebook_decay": [Interval(Real, 0, 1, closed="both")],
        "warm_epochs": [Interval(Integral, 0, None, closed="left"), None],
    }


class GramTokenizer(GramStage):
    """Gram's tokenizer [1]_: each second of each channel becomes one of a few thousand tokens.

    An autoencoder over all patches of a window, of which only a code of 32 dimensions, the nearest of a codebook,
    reaches the decoder. It learns the shape of patches, not their amplitude; the mean amplitude of each token at fit is
    kept. Recordings may differ in montage and length, at fit and after.

    Parameters
    ----------
    size : {"tiny", "base", "medium", "large"} or None
        ``"base"``, the only published size (of the others the second stage differs), or ``"tiny"``: two blocks instead
        of twelve, 512 tokens instead of 8196. None takes that of the checkpoint, else ``"base"``.
    checkpoint : str or None
        Weights to start from, of either stage; with ``max_epochs=0`` they stay as they are.
    network_params : dict or None
        Fields of `TokenizerSizes` that differ from ``size``, such as ``n_codes``, or the rate ``sfreq`` and the unit
        ``scale`` of the network's input.
    run_file : str or None
        File to keep the state of the training in after every epoch. Where it is there already, from the same trials
        and settings, the training continues from it and ends with the weights, to the bit, that it would have had
        without the interruption.
    max_epochs, batch_size : int
        Epochs, and windows a batch. 0 epochs only load the checkpoint.
    learning_rate : float or None
        Highest learning rate; None takes 1e-3 for a network of at most four blocks, and else the published 4e-5 for
        1024 windows an update, in proportion.
    recipe_params : dict or None
        Other settings of the training, see `TokenizerRecipe`.
    precision : {"float32", "bf16", "float64"}
        See `skeeg.training.Recipe`.
    validation
        As in `skeeg.NetworkClassifier`; nothing is stopped or chosen by it.
    ch_names, sfreq, device, random_state, verbose, skorch_callbacks
        As in `skeeg.NetworkClassifier`.

    Attributes
    ----------
    steps_ : Pipeline
        Preprocessing of trials for the network.
    usage_ : ndarray of int, shape (n_codes,)
        Patches of fit of each token.
    code_scale_ : ndarray, shape (n_codes,)
        Root mean square, in microvolts, of the patches of each token; of all patches where a token had none.
    history_ : list of dict
        One record an epoch: loss of the reconstruction and of the codebook, the same for validation subjects together
        and each, windows a second.
    throughput_ : float
        Median of the patches a second.
    module_, net_, n_iter_, checkpoint_report_
        As in `skeeg.NetworkClassifier`.

    References
    ----------
    .. [1] Li, Z., Zheng, W.-L., Lu, B.-L. (2025). Gram: a large-scale general EEG model for raw data classification and
       restoration tasks. ICASSP.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg import GramTokenizer, EEGArray
    >>> X = EEGArray(np.random.default_rng(0).normal(size=(4, 3, 600)) * 20, ("C3", "Cz", "C4"), 200)
    >>> tokenizer = GramTokenizer("tiny", max_epochs=1, random_state=0).fit(X)
    >>> codes = tokenizer.transform(X)
    >>> codes.shape, tokenizer.inverse_transform(codes).shape
    ((4, 3, 3), (4, 3, 600))
    """

    _published = TokenizerRecipe()

    def fit(self, X, y=None, subjects=None):
        """Learn the tokens of trials (n_trials, n_channels, n_times) with channel names, or of a list of recordings.

        `StoredWindows` of a `skeeg.datasets.RecordingStore`, at the rate of the network, stay on the disk until a batch
        needs them. ``subjects`` (n_trials,), or a list of such, are for trials without domains; None takes each
        recording for one subject.
        """
        sizes, loaded = self._read_start()
        pool = self._pool(X, subjects, sizes)
        run = open_run(self.run_file, fingerprint(self, pool.content()), self.random_state)
        with seeded(run.seed):
            self._start_network(sizes, loaded)
            self._fit_pool(pool, run)
        return self

    def partial_fit(self, X, y=None, subjects=None):
        """Go once over more trials, at the whole learning rate.

        The codebook goes on where the last call left it, the optimiser starts anew.
        """
        first = not self.__sklearn_is_fitted__()
        sizes, loaded = self._read_start() if first else (self.module_.sizes, None)
        pool = self._pool(X, subjects, sizes, first)
        seed = distributed.of_first(lambda: draw_seed(self.random_state)) + (0 if first else self.n_iter_)
        with seeded(seed):
            if not first:
                self.network_ = self.network_.copy()  # should this training fail, the old network is kept
            else:
                self._start_network(sizes, loaded)
                if not self.module_.quantize.started:
                    self._start_codebook(pool.trials)
            recipe = dataclasses.replace(self._recipe(), max_epochs=1, schedule=None, warmup_share=0.0)
            history = self._learn(pool, RunFile(seed=seed), recipe)
        self._note_usage(pool.trials, None if first else (self.usage_, self.code_scale_))
        self._finish(pool, history if first else [*self.history_, *history])
        return self

    def transform(self, X):
        """Give the token of each second and channel, rows of ``codebook_``, int64 (n_trials, n_seconds, n_channels).

        Trials (n_trials, n_channels, n_times) may have any montage within the collection; samples beyond the last whole
        second are left out.
        """
        check_is_fitted(self)
        windows, starts, channels = self._cut(self._check_eeg(X, reset=False, dtype=np.float32), self.module_.sizes)
        codes = self._by_batch(
            GramTokenizerNetwork.encode, torch.from_numpy(windows).to(self.network_.dtype).flatten(0, 1), channels
        )
        return _joined(codes.unflatten(0, (-1, len(starts))).numpy(), starts)

    def inverse_transform(self, codes, ch_names=None, scale=None):
        """Give the signal, microvolts (n_trials, n_channels, n_times), of tokens (n_trials, n_seconds, n_channels).

        ``ch_names`` are those of fit if None. ``scale``, which is broadcast to ``codes``, is the root mean square of
        each patch in microvolts, which tokens do not hold; None takes for each the mean of its token at fit
        (``code_scale_``).
        """
        check_is_fitted(self)
        codes, names = self._check_codes(codes, ch_names)
        channels, n_patches = channel_indices(names), codes.shape[1]
        starts, length = window_starts(n_patches, window_length(len(names), n_patches))
        cut = np.stack([codes[:, start : start + length] for start in starts], axis=1).reshape(-1, length, len(names))
        patches = self._by_batch(GramTokenizerNetwork.decode, torch.from_numpy(cut), channels)
        patches = _joined(patches.unflatten(0, (-1, len(starts))).numpy(), starts)
        patches = patches / np.maximum(np.sqrt(np.square(patches).mean(axis=-1, keepdims=True)), 1e-12)
        scale = self.code_scale_[codes] if scale is None else np.broadcast_to(np.asarray(scale, float), codes.shape)
        data = to_trials(torch.from_numpy(patches * scale[..., None])).numpy()
        return EEGArray(data.astype(self._float_type()), names, self.module_.sizes.sfreq)

    @property
    def codebook_(self):
        """Codes of the tokens, ndarray of shape (n_codes, code_dim)."""
        check_is_fitted(self)
        return self.module_.quantize.codebook.detach().cpu().numpy()

    # Steps of fit

    def _read_start(self):
        """Sizes of the network, and the tokenizer that it starts from or None."""
        loaded = None if self.checkpoint is None else read_tokenizer(self.checkpoint)
        found = None if loaded is None else loaded.sizes
        return settle_sizes(TOKENIZER_SIZES, self.size, self.network_params, found), loaded

    def _fit_pool(self, pool, run):
        """Train the new network on a pool, within `seeded`; `GramPretrainer` calls it with its own."""
        if not run.kept and not self.module_.quantize.started:
            self._warm_up(pool, run.seed)
            self._start_codebook(pool.trials)
        history = self._learn(pool, run, self._recipe()) if self.max_epochs else []
        self._note_usage(pool.trials)
        self._finish(pool, history)

    def _start_network(self, sizes, loaded=None):
        """Build the network, and load a tokenizer into it."""
        parameters = {"size": dataclasses.asdict(sizes), "decay": self._recipe().codebook_decay}
        self.network_ = GramState("GramTokenizerNetwork", parameters, precision=self.precision)
        self.network_.module = self.network_.build()
        if loaded is not None:
            self.network_.load(loaded.state_dict())
            self.module_.quantize.embedding.initted.fill_(1)

    def _warm_up(self, pool, seed):
        """Train without the codebook."""
        epochs = self._recipe().warm_epochs
        if epochs is None:
            epochs = max(1, round(self.max_epochs / 10)) if is_small(self) and self.max_epochs else 0
        if not epochs:
            return
        self.module_.without_codes = True
        try:
            recipe = dataclasses.replace(self._recipe(), max_epochs=epochs, schedule=None, warmup_share=0.0)
            self._learn(pool, RunFile(seed=seed), recipe)
        finally:
            self.module_.without_codes = False

    def _start_codebook(self, trials):
        """Place the codes by k-means on four windows' patches a code, or on all there are."""
        network, found = self.module_, []
        size, wanted = distributed.update_size(self.batch_size, self._recipe().accumulate), 4 * network.sizes.n_codes
        with torch.no_grad():
            for inputs, _ in Batches(trials, size, shuffle=True):
                found.append(network.vectors(inputs["x"], inputs["channels"]).flatten(0, 1))
                if sum(map(len, found)) >= wanted:
                    break
        network.quantize.start(torch.cat(found))

    def _note_usage(self, trials, before=None):
        """Count the patches of each token and average their power, in addition to earlier ones."""
        n_codes = self.module_.sizes.n_codes
        counts, power = np.zeros(n_codes, dtype=np.int64), np.zeros(n_codes)
        if before is not None:
            counts, power = before[0].copy(), before[0] * before[1] ** 2
        for group, shared in zip(trials.groups, trials.shared, strict=True):
            found = self._by_batch(self._codes_and_squares, group["x"], shared["channels"]).numpy()
            codes, squares = found[:, 0].astype(np.int64), found[:, 1]
            counts += np.bincount(codes, minlength=n_codes)
            power += np.bincount(codes, squares * self.module_.sizes.scale**2, minlength=n_codes)
        overall = power.sum() / max(counts.sum(), 1)
        self.usage_ = counts
        self.code_scale_ = np.sqrt(np.where(counts > 0, power / np.maximum(counts, 1), overall))

    def _codes_and_squares(self, network, x, channels):
        """Token and mean square of each patch of some windows, shape (n_patches, 2), in double precision."""
        codes = network.encode(x, channels).flatten()
        squares = to_patches(x, network.sizes.patch_length).square().mean(dim=-1).flatten()
        return torch.stack([codes.double(), squares.double()], dim=1)

    def _check_codes(self, codes, ch_names):
        """Codes as integers within the codebook, and the names of their channels."""
        codes, n_codes = np.asarray(codes), self.module_.sizes.n_codes
        sound = codes.ndim == 3 and codes.dtype.kind in "iu" and codes.size
        if not sound or codes.min() < 0 or codes.max() >= n_codes:
            raise ValueError(
                f"codes: got {codes.dtype} of shape {codes.shape}, expected integers from 0 to {n_codes - 1} of shape "
                "(n_trials, n_seconds, n_channels)."
            )
        names = self.ch_names_in_ if ch_names is None else tuple(ch_names)
        if len(names) != codes.shape[2]:
            raise ValueError(f"ch_names: got {len(names)} names for codes of {codes.shape[2]} electrodes.")
        return codes.astype(np.int64), names

    def _criterion(self):
        return PartsLoss(("rec_loss", "quant_loss"), (1.0, 1.0))

    def __sklearn_tags__(self):
        """Declare that codes have a type of their own."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []
        return tags


def _joined(windows, starts):
    """Windows (n_trials, n_windows, length, ...) one after the other; where they overlap the earlier one counts."""
    length = windows.shape[2]
    whole = np.empty((windows.shape[0], starts[-1] + length, *windows.shape[3:]), dtype=windows.dtype)
    for i in reversed(range(len(starts))):
        whole[:, starts[i] : starts[i] + length] = windows[:, i]
    return whole
