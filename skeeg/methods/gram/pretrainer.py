"""The second stage: guess hidden seconds from visible ones, on as many recordings as there are."""

import dataclasses
import os

from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from ...networks.seeding import seeded
from ...training.pretraining import GroupedTrials, fingerprint, open_run
from ...training.sizes import build_within
from .checkpoint import load_weights, read_sizes, read_tokenizer, read_weights, save_weights
from .form import RATE, SCALE
from .network import GramPretrainingNetwork, GramTokenizerNetwork
from .objective import MaskedObjective, masked_loss
from .sizes import PATCH_LENGTH, SIZES, TOKENIZER_SIZES, choose, settle
from .stage import GramStage, Pool
from .tokenizer import GramTokenizer

_ARCHITECTURE = (
    "n_filters", "n_layers", "n_heads", "decoder_dim", "decoder_layers", "decoder_heads", "drop_prob", "drop_path",
    "patch_length",
)  # fmt: skip
_OF_THE_TOKENIZER = (
    "size", "window", "mixed", "old_names", "resample", "scale", "batch_size", "accumulate", "precision",
    "patch_length", "n_codes", "validation", "validation_size", "ch_names", "sfreq", "device", "verbose",
)  # fmt: skip


class GramPretrainer(GramStage):
    """Pre-train Gram [1]_: a masked autoencoder over any montage of a collection of 130 names.

    Half of the patches of each window, a patch being a second of an electrode, are hidden. From the others the encoder
    guesses their own spectra, and the decoder the base classes of the hidden ones; both count alike. Batches are of one
    montage and length each and are mixed within a pass; nothing is filled up, since the normalisation of the patches
    would notice.

    Parameters
    ----------
    tokenizer : GramTokenizer, str, path-like or None
        What gives the base classes: a tokenizer for the same rate, unit and patches (fitted, or to be fitted on the
        same recordings), a checkpoint of either stage, or None for a tokenizer of the same size, fitted on the same
        recordings for ``tokenizer_epochs``.
    size : {"tiny", "base", "medium", "large"} or None
        Sizes of the networks; ``"tiny"`` trains on a laptop. None takes those of the checkpoint, else ``"base"``.
    checkpoint : str or None
        Weights of this stage to start from, tokenizer included; with ``max_epochs=0`` they stay as they are.
    mask_ratio : float
        Share of the patches to hide.
    cls_weight, mimic_weight : float
        Weights of the base classes and of the spectra.
    hidden_token : {"class", "learned"}
        See `GramPretrainingNetwork`.
    tokenizer_trains : bool
        True trains as the published code does, whose tokenizer drops out and drifts while it gives the targets.
    tokenizer_epochs : int or None
        Passes of the tokenizer where it is fitted here; None takes ``max_epochs``.
    tokenizer_rate : float or None
        Its learning rate; None takes that of `GramTokenizer`.
    run_file : str or None
        File to keep the state of the training in after every epoch, see `GramTokenizer`. A tokenizer that is fitted
        here keeps its own beside it.
    learning_rate : float or None
        Highest learning rate; None takes 1e-3 for ``"tiny"``, and else the published 4e-4 for 1024 windows an update,
        in proportion.
    max_epochs, batch_size, accumulate, weight_decay, warmup, lowest, clip, precision
        As in `GramTokenizer`.
    validation, validation_size, window, mixed
        As in `GramTokenizer`.
    old_names, resample, scale, ch_names, sfreq, device, random_state, verbose, skorch_callbacks
        As in `GramTokenizer`.
    n_filters, n_layers, n_heads, decoder_dim, decoder_layers, decoder_heads, drop_prob, drop_path, patch_length
        Other sizes than those of ``size``, see `Sizes`; None keeps them.
    n_codes : int or None
        Base classes of a tokenizer that is fitted here.

    Attributes
    ----------
    history_ : list of dict
        One record an epoch: ``train_cls_loss``, ``train_mimic_loss``, ``train_mlm_acc``, the same for the validation
        people together (``valid_``) and each (``valid_by_subject``), windows a second.
    tokenizer_history_ : list of dict
        The same of the tokenizer, where it was fitted here.
    layer_weights_ : ndarray, shape (n_fused,)
        Share of each fused block.
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
    >>> from skeeg import GramPretrainer, make_eeg
    >>> rng = np.random.default_rng(0)
    >>> first = make_eeg(20 * rng.normal(size=(4, 3, 600)), ("C3", "Cz", "C4"), 200)
    >>> second = make_eeg(20 * rng.normal(size=(3, 2, 512)), ("O1", "O2"), 128)
    >>> pretrainer = GramPretrainer(size="tiny", max_epochs=1, random_state=0).fit([first, second])
    >>> pretrainer.transform(second).shape
    (3, 100)
    """

    _published_rate = 4e-4

    def __init__(
        self,
        tokenizer=None,
        size=None,
        checkpoint=None,
        mask_ratio=0.5,
        cls_weight=0.5,
        mimic_weight=0.5,
        hidden_token="class",
        tokenizer_trains=False,
        tokenizer_epochs=None,
        tokenizer_rate=None,
        run_file=None,
        window="auto",
        mixed=True,
        old_names="auto",
        resample=RATE,
        scale=SCALE,
        max_epochs=50,
        batch_size=128,
        accumulate=1,
        learning_rate=None,
        weight_decay=0.05,
        warmup=0.1,
        lowest=0.025,
        clip=1.0,
        precision="float32",
        validation=None,
        validation_size=0.2,
        n_filters=None,
        n_layers=None,
        n_heads=None,
        decoder_dim=None,
        decoder_layers=None,
        decoder_heads=None,
        drop_prob=None,
        drop_path=None,
        n_codes=None,
        patch_length=PATCH_LENGTH,
        ch_names=None,
        sfreq=None,
        device="auto",
        random_state=None,
        verbose=0,
        skorch_callbacks=None,
    ):
        self.tokenizer = tokenizer
        self.size = size
        self.checkpoint = checkpoint
        self.mask_ratio = mask_ratio
        self.cls_weight = cls_weight
        self.mimic_weight = mimic_weight
        self.hidden_token = hidden_token
        self.tokenizer_trains = tokenizer_trains
        self.tokenizer_epochs = tokenizer_epochs
        self.tokenizer_rate = tokenizer_rate
        self.run_file = run_file
        self.window = window
        self.mixed = mixed
        self.old_names = old_names
        self.resample = resample
        self.scale = scale
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.accumulate = accumulate
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.warmup = warmup
        self.lowest = lowest
        self.clip = clip
        self.precision = precision
        self.validation = validation
        self.validation_size = validation_size
        self.n_filters = n_filters
        self.n_layers = n_layers
        self.n_heads = n_heads
        self.decoder_dim = decoder_dim
        self.decoder_layers = decoder_layers
        self.decoder_heads = decoder_heads
        self.drop_prob = drop_prob
        self.drop_path = drop_path
        self.n_codes = n_codes
        self.patch_length = patch_length
        self.ch_names = ch_names
        self.sfreq = sfreq
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.skorch_callbacks = skorch_callbacks

    def fit(self, X, y=None, subjects=None):
        """Pre-train.

        Parameters
        ----------
        X : anything `as_eeg` accepts, shape (n_trials, n_channels, n_times), list of such, or StoredWindows
            Trials that know their electrodes' names; a list holds one recording an entry. Windows of
            a `skeeg.datasets.RecordingStore` at the rate of the network stay on the disk until a batch needs them.
        y : object
            Ignored.
        subjects : array-like, shape (n_trials,), list with one entry a recording, or None
            Who it is, where trials carry no domains; None takes each recording for one person.

        Returns
        -------
        self : GramPretrainer
            Fitted.
        """
        self._check_stage()
        pool = self._pool(X, subjects)
        run = open_run(self.run_file, fingerprint(self, pool.content()), self.random_state)
        with seeded(run.seed):
            self._start_network(self._find_tokenizer(pool, run))
            if run.earlier is not None:  # the kept tokenizer gives the targets
                self._objective().load_state_dict(run.earlier.part("weights."))
            history = self._learn(self._with_targets(pool), run, self._recipe()) if self.max_epochs else []
        self._finish(pool, history)
        return self

    def transform(self, X):
        """Features of trials of which nothing is hidden.

        Parameters
        ----------
        X : anything `as_eeg` accepts, shape (n_trials, n_channels, n_times)
            Trials of any montage within the collection, and of any length.

        Returns
        -------
        features : ndarray of float32, shape (n_trials, dim)
            Fused class token, averaged over the windows of a trial.
        """
        check_is_fitted(self)
        windows, starts, channels, _ = self._windows_of(X)
        features = self._by_batch(GramPretrainingNetwork.features, windows.flatten(0, 1), channels)
        return features.unflatten(0, (-1, len(starts))).mean(dim=1).float().numpy()

    @property
    def layer_weights_(self):
        """Share of each fused block, ndarray of shape (n_fused,)."""
        check_is_fitted(self)
        return self.module_.layer_weights().detach().numpy()

    def save_checkpoint(self, path):
        """Write the weights in the published layout, tokenizer included, to be the ``checkpoint`` of the others.

        Parameters
        ----------
        path : str or path-like
            A ``.safetensors`` or ``.pth`` file.
        """
        check_is_fitted(self)
        save_weights(self.module_, path)

    # Steps of fit

    def _check_stage(self):
        """Refuse settings that mean nothing, by name."""
        super()._check_stage()
        if not 0 < self.mask_ratio < 1:
            raise ValueError(f"mask_ratio: got {self.mask_ratio}, expected a share above 0 and below 1.")
        if min(self.cls_weight, self.mimic_weight) < 0 or self.cls_weight == self.mimic_weight == 0:
            given = (self.cls_weight, self.mimic_weight)
            raise ValueError(f"cls_weight, mimic_weight: got {given}, expected 0 or more, and one of them above 0.")
        if self.checkpoint is not None and self.tokenizer is not None:
            raise ValueError("tokenizer: the checkpoint has its own; give one of the two.")
        if isinstance(self.tokenizer, GramTokenizer):
            for name in ("resample", "scale", "patch_length"):
                its, own = getattr(self.tokenizer, name), getattr(self, name)
                if its != own:
                    raise ValueError(f"tokenizer: its {name} is {its}, the pretrainer's {own}; give both the same.")
        elif not isinstance(self.tokenizer, str | os.PathLike | None):
            kind = type(self.tokenizer).__name__
            raise TypeError(f"tokenizer: got {kind}, expected a GramTokenizer, a file, or None.")
        choose(SIZES, self.size or "base")

    def _find_tokenizer(self, pool, run):
        """Tokenizer's network, fitted where it is to be.

        Returns
        -------
        network : GramTokenizerNetwork
            One of its own, in evaluation mode.
        """
        self.tokenizer_history_ = []
        if self.checkpoint is not None:
            return read_tokenizer(self.checkpoint)
        if isinstance(self.tokenizer, str | os.PathLike):
            return read_tokenizer(self.tokenizer)
        fitted = self.tokenizer
        if fitted is None or not fitted.__sklearn_is_fitted__():
            fitted = self._new_tokenizer() if fitted is None else clone(fitted)
            if run.earlier is None:
                self._fit_tokenizer(fitted, pool, run)
            else:  # its weights are in the run
                fitted._start_network()
        network = GramTokenizerNetwork(fitted.module_.sizes, fitted.decay)
        network.load_state_dict(fitted.module_.state_dict())
        return network

    def _fit_tokenizer(self, tokenizer, pool, run):
        """Fit the tokenizer on the same people: those that are held out here are held out there."""
        tokenizer._check_stage()
        path = None if self.run_file is None else f"{self.run_file}.tokenizer"
        own = open_run(path, f"{run.key} tokenizer", run.seed)
        with seeded(own.seed):
            tokenizer._fit_pool(pool, dataclasses.replace(own, seed=own.earlier.seed if own.earlier else run.seed))
        self.tokenizer_history_ = tokenizer.history_

    def _new_tokenizer(self):
        """Tokenizer of the same size and settings, not fitted."""
        settings = {name: getattr(self, name) for name in _OF_THE_TOKENIZER}
        epochs = self.max_epochs if self.tokenizer_epochs is None else self.tokenizer_epochs
        return GramTokenizer(**settings, max_epochs=epochs, learning_rate=self.tokenizer_rate)

    def _start_network(self, tokenizer):
        """Build the network around a tokenizer, and load the checkpoint into it."""
        state, config = ({}, {}) if self.checkpoint is None else read_weights(self.checkpoint)
        found = read_sizes(state, config, self.checkpoint) if state else None
        sizes = settle(SIZES, self.size, {name: getattr(self, name) for name in _ARCHITECTURE}, found)
        self.network_spec_ = {
            "network": "GramPretrainingNetwork",
            "parameters": {
                "size": dataclasses.asdict(sizes),
                "tokenizer": dataclasses.asdict(tokenizer.sizes),
                "decay": tokenizer.quantize.decay,
                "hidden_token": self.hidden_token,
                "tokenizer_trains": self.tokenizer_trains,
            },
        }
        self.module_ = build_within(self._build_network, vars(sizes), state) if state else self._build_network()
        self.module_.vqgan.load_state_dict(tokenizer.state_dict())
        self.checkpoint_report_ = None
        if state:
            self.checkpoint_report_ = str(load_weights(self.module_, state, self.checkpoint))

    def _with_targets(self, pool):
        """Put the base classes beside the windows: they never change, so they are found once."""
        if self.tokenizer_trains:
            return pool
        groups = []
        for group, shared in zip(pool.trials.groups, pool.trials.shared, strict=True):
            codes = self._by_batch(lambda net, x, at: net.vqgan.encode(x, at), group["x"], shared["channels"])
            groups.append({**group, "codes": codes.clone()})
        return Pool(GroupedTrials(groups, pool.trials.shared, self.mixed), pool.subjects)

    # What the base asks for

    def _objective(self):
        return MaskedObjective(self.module_, self.mask_ratio)

    def _criterion(self):
        return masked_loss(self.cls_weight, self.mimic_weight)

    def _build_network(self):
        spec = self.network_spec_["parameters"]
        tokenizer = GramTokenizerNetwork(choose(TOKENIZER_SIZES, spec["tokenizer"]), spec["decay"])
        sizes = choose(SIZES, spec["size"])
        network = GramPretrainingNetwork(tokenizer, sizes, spec["hidden_token"], spec["tokenizer_trains"])
        return network.to(self._dtype()).eval()
