"""The second stage: predict masked seconds from visible ones, on as many recordings as there are."""

import dataclasses
import functools
import os
from numbers import Real

import numpy as np
import torch
from sklearn.base import clone
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from ...networks.seeding import seeded
from ...training.data import Trials
from ...training.pretraining import PartsLoss, fingerprint, open_run
from ...training.sizes import build_within
from .checkpoint import read_sizes, read_tokenizer, read_weights
from .layers import SHARED, SIZES, check_alike, settle_sizes
from .network import READOUTS, GramPretrainingNetwork
from .tokenizer import GramTokenizer
from .tokenizer_network import GramTokenizerNetwork
from .training import GramRecipe, GramStage, GramState, Pool

_OF_THE_TOKENIZER = (
    "size", "max_epochs", "batch_size", "precision", "validation", "ch_names", "sfreq", "device",
    "verbose",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class PretrainingRecipe(GramRecipe):
    """How `GramPretrainer` is trained; fields that `GramRecipe` does not have are the following.

    ``cls_weight``, ``mimic_weight`` and ``wave_weight`` are those of the losses of the masked tokens, the visible
    spectra and the masked samples; ``mask_ratio`` the share of masked patches; ``masks`` patches, or, with
    ``"mixed"``, also whole channels and seconds; ``tokenizer_trains`` see `GramPretrainingNetwork`.
    """

    weight_decay: float = 0.05
    cls_weight: float = 0.5
    mimic_weight: float = 0.5
    wave_weight: float = 1.0
    mask_ratio: float = 0.5
    masks: str = "patches"
    tokenizer_trains: bool = False

    constraints = GramRecipe.constraints | {
        **dict.fromkeys(("cls_weight", "mimic_weight", "wave_weight"), [Interval(Real, 0, None, closed="left")]),
        "mask_ratio": [Interval(Real, 0, 1, closed="neither")],
        "masks": [StrOptions({"patches", "mixed"})],
    }

    def check(self):
        """Raise a ValueError for a value out of range."""
        if self.cls_weight == self.mimic_weight == 0:
            raise ValueError("cls_weight, mimic_weight: both are 0, expected one of them above 0.")
        return super().check()


class GramPretrainer(GramStage):
    """Pre-train Gram [1]_: a masked autoencoder over any montage of a collection of 130 channels.

    Half of the patches of each window, a patch being a second of a channel, are masked. From the others the encoder
    predicts their own spectra, and the decoder the tokens of the masked ones; both losses have equal weights. Batches
    are of one montage and length each and are mixed within an epoch; nothing is padded, since that would change the
    normalisation of the patches.

    Parameters
    ----------
    tokenizer : GramTokenizer, str, path-like or None
        What gives the tokens: a tokenizer (fitted, or to be fitted on the same recordings), a checkpoint of either
        stage, or None for a tokenizer of the same size and number of epochs, fitted on the same recordings.
    size : {"tiny", "base", "medium", "large"} or None
        Sizes of the networks; ``"tiny"`` trains on a laptop. None takes those of the checkpoint, else ``"base"``.
    checkpoint : str or None
        Weights of this stage to start from, tokenizer included; with ``max_epochs=0`` they stay as they are.
    network_params : dict or None
        Fields of `Sizes` that differ from ``size``. Length, rate and unit of the patches are those of the tokenizer
        where they are left out.
    readout : {"class", "channels", "power", "class+power"}
        Features that `transform` gives: the class token; the mean token of each channel; of each channel and filter of
        the patches, the log of the mean square of the tokens' columns; or both of the class token and these, with which
        a linear classifier of movement does best.
    run_file : str or None
        File to keep the state of the training in after every epoch, see `GramTokenizer`. A tokenizer that is fitted
        here keeps its own beside it.
    learning_rate : float or None
        Highest learning rate; None takes 1e-3 for a network of at most four blocks, and else the published 4e-4 for
        1024 windows an update, in proportion.
    recipe_params : dict or None
        Other settings of the training, see `PretrainingRecipe`.
    max_epochs, batch_size, precision, validation
        As in `GramTokenizer`.
    ch_names, sfreq, device, random_state, verbose, skorch_callbacks
        As in `GramTokenizer`.

    Attributes
    ----------
    history_ : list of dict
        One record an epoch: ``train_cls_loss``, ``train_mimic_loss``, ``train_wave_loss``, ``train_mlm_acc``, the same
        for the validation subjects together (``valid_``) and each (``valid_by_subject``), windows a second.
    tokenizer_history_ : list of dict
        The same of the tokenizer, where it was fitted here.
    layer_weights_ : ndarray, shape (n_fused,)
        Share of each fused block.
    throughput_ : float
        Median of the patches a second.
    steps_, module_, net_, n_iter_, checkpoint_report_
        As in `GramTokenizer`.

    References
    ----------
    .. [1] Li, Z., Zheng, W.-L., Lu, B.-L. (2025). Gram: a large-scale general EEG model for raw data classification and
       restoration tasks. ICASSP.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg import GramPretrainer, EEGArray
    >>> rng = np.random.default_rng(0)
    >>> first = EEGArray(20 * rng.normal(size=(4, 3, 600)), ("C3", "Cz", "C4"), 200)
    >>> second = EEGArray(20 * rng.normal(size=(3, 2, 512)), ("O1", "O2"), 128)
    >>> pretrainer = GramPretrainer(size="tiny", max_epochs=1, random_state=0).fit([first, second])
    >>> pretrainer.transform(second).shape
    (3, 100)
    """

    _published = PretrainingRecipe()
    _published_rate = 4e-4
    _parameter_constraints = {"readout": [StrOptions(set(READOUTS))]}

    def __init__(
        self,
        tokenizer=None,
        size=None,
        checkpoint=None,
        network_params=None,
        readout="class",
        run_file=None,
        max_epochs=50,
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
        super().__init__(
            size, checkpoint, network_params, run_file, max_epochs, batch_size, learning_rate,
            recipe_params, precision, validation, ch_names, sfreq, device, random_state, verbose, skorch_callbacks,
        )  # fmt: skip
        self.tokenizer = tokenizer
        self.readout = readout

    def fit(self, X, y=None, subjects=None):
        """Pre-train on trials as in `GramTokenizer.fit`."""
        state, config = ({}, {}) if self.checkpoint is None else read_weights(self.checkpoint)
        found = read_sizes(state, config, self.checkpoint) if state else None
        tokenizer = self._find_tokenizer()
        its = tokenizer._read_start()[0] if isinstance(tokenizer, GramTokenizer) else tokenizer and tokenizer.sizes
        alike = {name: vars(its)[name] for name in SHARED} if its else {}
        sizes = settle_sizes(SIZES, self.size, {**alike, **(self.network_params or {})}, found)
        check_alike(its or sizes, sizes)
        pool = self._pool(X, subjects, sizes)
        run = open_run(self.run_file, fingerprint(self, pool.content()), self.random_state)
        self.tokenizer_history_ = []
        with seeded(run.seed):
            if not isinstance(tokenizer, GramTokenizerNetwork):
                tokenizer = self._fit_tokenizer(tokenizer or self._new_tokenizer(sizes), pool, run)
            self._start_network(tokenizer, sizes, state)
            if run.kept:  # the kept tokenizer gives the targets
                self.module_.load_state_dict(run.part("weights."))
            history = self._learn(self._with_targets(pool), run, self._recipe()) if self.max_epochs else []
        self._finish(pool, history)
        return self

    def transform(self, X):
        """Give features of trials of any montage within the collection, and of any length; nothing is masked.

        They are float32 (n_trials, n_features), as ``readout`` says, averaged over the windows of a trial: dim
        features, n_channels * dim, n_channels * n_filters, all of the first channel first, or dim and these.
        """
        check_is_fitted(self)
        windows, starts, channels = self._cut(self._check_eeg(X, reset=False, dtype=np.float32), self.module_.sizes)
        windows = torch.from_numpy(windows).to(self.network_.dtype).flatten(0, 1)
        function = functools.partial(GramPretrainingNetwork.features, readout=self.readout)
        features = self._by_batch(function, windows, channels)
        return features.unflatten(0, (-1, len(starts))).mean(dim=1).float().numpy()

    # Steps of fit

    def _check_parameters(self):
        """Refuse settings that mean nothing, by name."""
        super()._check_parameters()
        if self.checkpoint is not None and self.tokenizer is not None:
            raise ValueError("tokenizer: the checkpoint has its own; give one of the two.")
        if not isinstance(self.tokenizer, GramTokenizer | str | os.PathLike | None):
            kind = type(self.tokenizer).__name__
            raise TypeError(f"tokenizer: got {kind}, expected a GramTokenizer, a file, or None.")

    def _find_tokenizer(self):
        """Network of a tokenizer that is trained, a `GramTokenizer` that is to be fitted, or None."""
        given = self.tokenizer if self.checkpoint is None else self.checkpoint
        if isinstance(given, GramTokenizer):
            return given.module_ if given.__sklearn_is_fitted__() else clone(given)
        return None if given is None else read_tokenizer(given)

    def _fit_tokenizer(self, tokenizer, pool, run):
        """Fit the tokenizer on the same subjects, those held out here are held out there; give its network."""
        tokenizer._check_parameters()
        tokenizer._start_network(*tokenizer._read_start())
        if not run.kept:  # else its weights are in the run
            path = None if self.run_file is None else f"{self.run_file}.tokenizer"
            own = open_run(path, f"{run.key} tokenizer", run.seed)
            with seeded(own.seed):
                own.seed = own.kept.get("seed", run.seed)
                tokenizer._fit_pool(pool, own)
            self.tokenizer_history_ = tokenizer.history_
        return tokenizer.module_

    def _new_tokenizer(self, sizes):
        """Tokenizer of the same size and settings, not fitted."""
        alike = {name: vars(sizes)[name] for name in (*SHARED, "positions")}
        common = GramRecipe.__dataclass_fields__.keys() - {"weight_decay"}
        settings = {name: value for name, value in (self.recipe_params or {}).items() if name in common}
        own = {name: vars(self)[name] for name in _OF_THE_TOKENIZER}
        return GramTokenizer(**own, network_params=alike, recipe_params=settings)

    def _start_network(self, tokenizer, sizes, state):
        """Build the network around a tokenizer, and load the tensors of a checkpoint into it."""
        recipe = self._recipe()
        parameters = {
            "size": dataclasses.asdict(sizes), "tokenizer": dataclasses.asdict(tokenizer.sizes),
            "decay": tokenizer.quantize.decay, "tokenizer_trains": recipe.tokenizer_trains,
            "mask_ratio": recipe.mask_ratio, "masks": recipe.masks,
        }  # fmt: skip
        self.network_ = network = GramState("GramPretrainingNetwork", parameters, precision=self.precision)
        network.module = build_within(network.build, vars(sizes), state) if state else network.build()
        network.module.vqgan.load_state_dict(tokenizer.state_dict())
        if state:
            network.load(state, file=self.checkpoint)

    def _with_targets(self, pool):
        """Add the tokens to the windows: they never change, so they are computed once."""
        if self._recipe().tokenizer_trains:
            return pool
        groups = []
        for group, shared in zip(pool.trials.groups, pool.trials.shared, strict=True):
            codes = self._by_batch(lambda net, x, at: net.vqgan.encode(x, at), group["x"], shared["channels"])
            groups.append({**group, "codes": codes.clone()})
        return Pool(Trials(groups, None, pool.trials.shared, self._recipe().mixed), pool.subjects)

    def _criterion(self):
        recipe, names = self._recipe(), ("cls_loss", "mimic_loss", "wave_loss", "mlm_acc")
        wave = recipe.wave_weight if self.module_.sizes.wave_head else 0.0
        return PartsLoss(names, (recipe.cls_weight, recipe.mimic_weight, wave, 0.0))
