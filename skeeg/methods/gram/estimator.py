"""The Gram classifier: a pre-trained encoder, fine-tuned on labelled trials of any montage."""

import dataclasses

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from skorch.callbacks import GradientNormClipping

from ...array import make_eeg
from ...base import BaseEEGClassifier
from ...training import NetworkState, Recipe
from ...training.averaging import WeightAverage
from ...training.base import NetworkEstimator
from ...training.sizes import build_within
from .checkpoint import load_weights, read_sizes, read_weights, save_weights
from .decay import layered_groups
from .form import RATE, SCALE, electrodes_of, whole_patches
from .sizes import PATCH_LENGTH, SIZES, is_tiny, settle

_ENCODER = ("n_filters", "n_layers", "n_heads", "fused", "patch_length")
_ARCHITECTURE = ("n_filters", "n_layers", "n_heads", "drop_prob", "drop_path", "patch_length")


class GramClassifier(NetworkEstimator, BaseEEGClassifier):
    """Gram [1]_: a general model of EEG, pre-trained on recordings of any montage, fine-tuned on one's own task.

    Trials are resampled to 200 Hz and brought to units of 0.1 mV; `gram_preprocessing` has the filters. Those of more
    than 16 s are cut into windows whose features are averaged. Trials to predict may have other electrodes of the
    collection than those of fit.

    Parameters
    ----------
    checkpoint : str or None
        Weights to start from: a file that `GramPretrainer.save_checkpoint` wrote, the published ``base.pth``, or
        ``"hub:owner/repository/file"``. None starts from scratch.
    size : {"tiny", "base", "medium", "large"} or None
        Size of the encoder; None takes that of the checkpoint, else ``"base"``.
    strategy : {"full", "head", "probe", "lora"}
        What is trained: everything, as published; the last layer; a closed-form last layer on frozen features; or
        low-rank changes beside the last layer.
    layer_decay : float
        Each block learns so much slower than the one after it.
    decay_patches : bool
        Whether the convolutions of the patches learn as slowly as the class token; False gives them the whole learning
        rate, as the published code does.
    label_smoothing : float
        Share of each label that is spread over all classes.
    average : float or None
        Decay of a mean of the weights that the network is given at the end, see `skeeg.training.averaging`; it starts
        with the loaded weights. None keeps the last, or with ``patience`` the best, weights.
    max_epochs, batch_size, weight_decay, patience, precision
        See `skeeg.training.Recipe`; the defaults are the published ones.
    learning_rate : float or None
        Highest learning rate; None takes 1e-3 for ``"tiny"``, and else the published 5e-4 for 256 trials an update, in
        proportion.
    warmup : float
        Share of the passes in which the learning rate rises from zero; after it falls along a cosine.
    lowest : float
        Share of the learning rate that the cosine ends at.
    clip : float or None
        Largest norm of the gradient.
    old_names, resample, scale
        As in `GramTokenizer`.
    n_filters, n_layers, n_heads, drop_prob, drop_path, patch_length
        Other sizes than those of ``size``, see `Sizes`; None keeps them.
    validation, validation_size, lora_rank, ch_names, sfreq, device, random_state, verbose, skorch_callbacks
        As in `skeeg.NetworkClassifier`.

    Attributes
    ----------
    classes_ : ndarray, shape (n_classes,)
        Labels.
    layer_weights_ : ndarray, shape (n_fused,)
        Share of each fused block; they sum to one.
    checkpoint_report_ : str or None
        What the checkpoint brought.
    module_, net_, history_, n_iter_, n_features_in_, n_times_in_
        As in `skeeg.NetworkClassifier`.

    Notes
    -----
    `transform` gives the fused class token, before the last layer.

    References
    ----------
    .. [1] Li, Z., Zheng, W.-L., Lu, B.-L. (2025). Gram: a large-scale general EEG model for raw data classification and
       restoration tasks. ICASSP.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg import GramClassifier
    >>> X, y = np.random.default_rng(0).normal(size=(12, 3, 400)), np.repeat(["left", "right"], 6)
    >>> clf = GramClassifier(size="tiny", ch_names=("C3", "Cz", "C4"), max_epochs=1, random_state=0).fit(X, y)
    >>> clf.predict_proba(X).shape, clf.transform(X).shape
    ((12, 2), (12, 100))
    """

    _any_length = True
    _any_montage = True
    __metadata_request__fit = {"subjects": True}

    def __init__(
        self,
        checkpoint=None,
        size=None,
        strategy="full",
        layer_decay=0.65,
        decay_patches=True,
        label_smoothing=0.1,
        average=None,
        max_epochs=50,
        batch_size=128,
        learning_rate=None,
        weight_decay=0.05,
        warmup=0.1,
        lowest=0.002,
        clip=1.0,
        validation=None,
        validation_size=0.2,
        patience=None,
        precision="float32",
        lora_rank=4,
        old_names="auto",
        resample=RATE,
        scale=SCALE,
        n_filters=None,
        n_layers=None,
        n_heads=None,
        drop_prob=None,
        drop_path=None,
        patch_length=PATCH_LENGTH,
        ch_names=None,
        sfreq=None,
        device="auto",
        random_state=None,
        verbose=0,
        skorch_callbacks=None,
    ):
        self.checkpoint = checkpoint
        self.size = size
        self.strategy = strategy
        self.layer_decay = layer_decay
        self.decay_patches = decay_patches
        self.label_smoothing = label_smoothing
        self.average = average
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.warmup = warmup
        self.lowest = lowest
        self.clip = clip
        self.validation = validation
        self.validation_size = validation_size
        self.patience = patience
        self.precision = precision
        self.lora_rank = lora_rank
        self.old_names = old_names
        self.resample = resample
        self.scale = scale
        self.n_filters = n_filters
        self.n_layers = n_layers
        self.n_heads = n_heads
        self.drop_prob = drop_prob
        self.drop_path = drop_path
        self.patch_length = patch_length
        self.ch_names = ch_names
        self.sfreq = sfreq
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.skorch_callbacks = skorch_callbacks

    def fit(self, X, y, subjects=None):
        """Fine-tune the network, or train it from scratch.

        Parameters
        ----------
        X : anything `as_eeg` accepts, shape (n_trials, n_channels, n_times)
            Trials that know their electrodes' names, or names by ``ch_names``.
        y : array-like, shape (n_trials,)
            Labels of any kind.
        subjects : array-like, shape (n_trials,), or None
            Person of each trial, for ``validation="subject"``, where X carries no domains.

        Returns
        -------
        self : GramClassifier
            Fitted.
        """
        X, y = self._check_eeg(X, y, reset=True, dtype=np.float32)
        for name, low, high in (("layer_decay", 0, 1), ("label_smoothing", 0, 1), ("warmup", 0, 1)):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name}: got {getattr(self, name)}, expected {low} to {high}.")
        self._fit_network(self._preprocess(X), self._check_labels(y), len(self.classes_), subjects)
        return self

    def predict_proba(self, X):
        """Probability of each class.

        Parameters
        ----------
        X : anything `as_eeg` accepts, shape (n_trials, n_channels, n_times)
            Trials.

        Returns
        -------
        probabilities : ndarray, shape (n_trials, n_classes)
            Columns in the order of ``classes_``.
        """
        return self._probabilities(X)

    @property
    def layer_weights_(self):
        """Share of each fused block, ndarray of shape (n_fused,)."""
        check_is_fitted(self)
        return self.module_.layer_weights().detach().numpy()

    def save_checkpoint(self, path):
        """Write the weights in the published layout, without a tokenizer.

        Parameters
        ----------
        path : str or path-like
            A ``.safetensors`` or ``.pth`` file.
        """
        check_is_fitted(self)
        save_weights(self.module_, path)

    @property
    def _any_rate(self):
        """Whether trials of any rate are brought to that of the network."""
        return self.resample is not None

    # What the base asks for

    def _criterion(self):
        return torch.nn.CrossEntropyLoss(label_smoothing=self.label_smoothing)

    def _recipe(self):
        return Recipe(
            max_epochs=self.max_epochs, batch_size=self.batch_size, learning_rate=self._rate(), by_step=True,
            weight_decay=self.weight_decay, warmup=self.warmup * self.max_epochs, lowest=self.lowest,
            patience=self.patience, precision=self.precision, validation_size=self.validation_size,
            lora_rank=self.lora_rank,
        )  # fmt: skip

    def _rate(self):
        if self.learning_rate is not None:
            return self.learning_rate
        return 1e-3 if is_tiny(self) else 5e-4 * self.batch_size / 256

    def _parameter_groups(self):
        return lambda module: layered_groups(module, self._rate(), self.layer_decay, self.decay_patches)

    def _callbacks(self):
        clip = [] if self.clip is None else [GradientNormClipping(self.clip)]
        average = [] if self.average is None else [WeightAverage(self.average)]
        return [*super()._callbacks(), *clip, *average]

    def _start_network(self, X, n_outputs):
        """Build the network for these electrodes, and load the checkpoint into it."""
        state, config = ({}, {}) if self.checkpoint is None else read_weights(self.checkpoint)
        found = read_sizes(state, config, self.checkpoint) if state else None
        sizes = settle(SIZES, self.size, {name: getattr(self, name) for name in _ARCHITECTURE}, found, _ENCODER)
        channels = tuple(electrodes_of(X, self.old_names).tolist())
        network = NetworkState(
            "Gram", {"channels": channels, "size": dataclasses.asdict(sizes)}, n_chans=X.shape[1], n_times=X.shape[2],
            n_outputs=n_outputs, sfreq=self.resample, precision=self.precision,
        )  # fmt: skip
        network.module = build_within(network.build, vars(sizes), state) if state else network.build()
        if state:
            network.report = str(load_weights(network.module, state, self.checkpoint))
        return network

    def _preprocess(self, X):
        data = whole_patches(X, self, np.float64 if self.precision == "float64" else np.float32)
        return make_eeg(data, X.ch_names, self.resample, X.domains)

    def _prepare(self, X):
        """Trials of any length, without padding, and the positions of other electrodes than those of fit."""
        return np.asarray(self._preprocess(X)), *self._inputs(X)

    def _inputs(self, X):
        """Positions of the electrodes, which may be others than those of fit."""
        own = X.ch_names is None or X.ch_names == self.ch_names_in_
        return () if own else (torch.from_numpy(electrodes_of(X, self.old_names)),)
