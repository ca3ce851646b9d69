"""The Gram classifier: a pre-trained encoder, fine-tuned on labelled trials of any montage."""

import dataclasses
from numbers import Real

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.utils._param_validation import Interval

from ...array import as_eeg
from ...base import draw_seed
from ...montage import ChannelTemplate
from ...networks.seeding import seeded
from ...training.base import NetworkEstimator
from ...training.callbacks import WeightAverage
from ...training.net import train
from ...training.recipe import change_recipe
from ...training.sizes import build_within
from .checkpoint import read_sizes, read_weights
from .layers import SIZES, settle_sizes
from .network import param_groups
from .preprocessing import channels_of, network_input
from .training import GramEstimator, GramRecipe, GramState, is_small

_PROBE_C = 0.01  # chosen with the readout on EEGMMIDB 49-64, movement against rest
_MIN_TRIALS = 4  # of a subject whose features are centred by their own mean
_ENCODER = ("n_filters", "n_layers", "n_heads", "fused", "patch_length", "sfreq", "scale", "positions")


@dataclasses.dataclass(frozen=True)
class FinetuningRecipe(GramRecipe):
    """How `GramClassifier` is trained; fields that `GramRecipe` does not have are the following.

    ``layer_decay`` is the share of the learning rate from one block to the one before it, ``decay_patches`` whether the
    patches have the lowest; ``average`` the decay of `skeeg.training.callbacks.WeightAverage`, or None; ``center``
    whether a probe's features are centred by subject.
    """

    weight_decay: float = 0.05
    lowest: float = 0.002
    layer_decay: float = 0.65
    decay_patches: bool = True
    label_smoothing: float = 0.1
    average: float | None = None
    center: bool = True

    constraints = GramRecipe.constraints | dict.fromkeys(
        ("layer_decay", "label_smoothing"), [Interval(Real, 0, 1, closed="both")]
    )


class GramClassifier(GramEstimator, ClassifierMixin, NetworkEstimator):
    """Gram [1]_: a general model of EEG, pre-trained on recordings of any montage, fine-tuned on a task.

    Trials are resampled to the rate of the network, 200 Hz as published, and brought to units of 0.1 mV;
    `gram_preprocessing` has the filters. Those of more than 16 s are cut into windows whose features are averaged.
    Trials to predict may have other channels of the collection than those of fit.

    Parameters
    ----------
    checkpoint : str or None
        Weights to start from: a file that `GramPretrainer.save_checkpoint` wrote, the published ``base.pth``,
        ``"skeeg:NAME"`` or ``"hub:owner/repository/file"``. None starts from scratch.
    size : {"tiny", "base", "medium", "large"} or None
        Size of the encoder; None takes that of the checkpoint, else ``"base"``.
    network_params : dict or None
        Fields of `Sizes` that differ from ``size``.
    strategy : {"full", "head", "probe", "lora"}
        What is trained: everything, as published; the last layer; a logistic regression on frozen features, see Notes;
        or low-rank changes beside the last layer.
    max_epochs, batch_size, patience, precision
        See `skeeg.training.Recipe`; the defaults are the published ones.
    learning_rate : float or None
        Highest learning rate; None takes 1e-3 for a network of at most four blocks, and else the published 5e-4 for 256
        trials an update, in proportion.
    recipe_params : dict or None
        Other settings of the training, see `FinetuningRecipe`.
    validation, ch_names, sfreq, device, random_state, verbose, skorch_callbacks
        As in `skeeg.NetworkClassifier`.

    Attributes
    ----------
    classes_ : ndarray, shape (n_classes,)
        Labels.
    steps_ : Pipeline
        Preprocessing of trials for the network.
    layer_weights_ : ndarray, shape (n_fused,)
        Share of each fused block; they sum to one.
    checkpoint_report_ : str or None
        What the checkpoint brought.
    offset_ : ndarray, shape (n_classes,), or None
        Mean logits of each subject at fit, with ``strategy="probe"``.
    module_, net_, history_, n_iter_, n_features_in_, n_times_in_
        As in `skeeg.NetworkClassifier`.

    Notes
    -----
    `transform` gives what the last layer gets: the fused class token.

    With ``strategy="probe"`` these are the class token and the log power of the tokens of each channel and filter, from
    which the mean over each subject is subtracted, at fit and, without labels, in prediction from 4 trials of a subject
    on (transductive: it takes the classes to be about as frequent as at fit). ``recipe_params={"center": False}``
    predicts each trial by itself. Other channels than those at fit are interpolated to these (`ChannelTemplate`).

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

    linear_map_ = "both"

    def __init__(
        self,
        checkpoint=None,
        size=None,
        network_params=None,
        strategy="full",
        max_epochs=50,
        batch_size=128,
        learning_rate=None,
        recipe_params=None,
        validation=None,
        patience=None,
        precision="float32",
        ch_names=None,
        sfreq=None,
        device="auto",
        random_state=None,
        verbose=0,
        skorch_callbacks=None,
    ):
        self.checkpoint = checkpoint
        self.size = size
        self.network_params = network_params
        self.strategy = strategy
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.recipe_params = recipe_params
        self.validation = validation
        self.patience = patience
        self.precision = precision
        self.ch_names = ch_names
        self.sfreq = sfreq
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.skorch_callbacks = skorch_callbacks

    def fit(self, X, y, subjects=None):
        """Fine-tune the network, or train it from scratch, on trials (n_trials, n_channels, n_times) and labels.

        Trials have channel names, their own or ``ch_names``. ``subjects`` (n_trials,) are for trials without domains.
        """
        X, y = self._check_eeg(X, y, reset=True, dtype=np.float32)
        sizes, _ = self._read_start()
        targets, X = self._check_labels(y), network_input(sizes).transform(as_eeg(X, subjects=subjects))
        self.offset_ = None
        with seeded(seed := draw_seed(self.random_state)):
            self.network_ = self._start_network(X, len(self.classes_))
            what = self._training(X, targets, None, seed)
            if self.strategy == "probe":
                self._fit_probe(X, targets)
            else:
                self.network_.keep(train(**what))
        return self

    def _fit_probe(self, X, targets):
        """Fit the last layer to the frozen features of trials as the network takes them."""
        data = self.network_.pad(X)
        features = self.network_.features(data, batch_size=self.batch_size, device=self.device).astype(np.float64)
        mean, center = features.mean(axis=0), self._recipe().center
        centred = features - (_subject_means(features, X, mean) if center else mean)
        scale = centred.std(axis=0) + 1e-6
        model = LogisticRegression(C=_PROBE_C, max_iter=1000).fit(centred / scale, targets)
        coef, offset = model.coef_ / scale, model.intercept_
        if len(coef) == 1:  # two classes: one score; half of it for one class, minus half for the other
            coef, offset = np.vstack([-coef, coef]) / 2, np.concatenate([-offset, offset]) / 2
        self.offset_ = offset if center else None
        with torch.no_grad():
            self.module_.final_layer.weight.copy_(torch.as_tensor(coef))
            self.module_.final_layer.bias.copy_(torch.as_tensor(offset - coef @ mean))

    def _forward(self, X):
        logits = super()._forward(X)
        if self.offset_ is None:
            return logits
        X = self._check_eeg(X, reset=False, dtype=np.float32)
        return logits + torch.as_tensor(self.offset_ - _subject_means(logits.numpy(), X, self.offset_))

    def _criterion(self):
        return torch.nn.CrossEntropyLoss(label_smoothing=self._recipe().label_smoothing)

    def _recipe(self):
        rate = self.learning_rate
        if rate is None:
            rate = 1e-3 if is_small(self) else 5e-4 * self.batch_size / 256
        own = {name: vars(self)[name] for name in ("max_epochs", "batch_size", "patience", "precision")}
        return change_recipe(FinetuningRecipe(), self.recipe_params, learning_rate=rate, **own)

    def _callbacks(self):
        average = self._recipe().average
        return [*super()._callbacks(), *([] if average is None else [WeightAverage(average)])]

    def _parameter_groups(self):
        recipe = self._recipe()
        return lambda module: param_groups(module, recipe.learning_rate, recipe.layer_decay, recipe.decay_patches)

    def _read_start(self):
        """Sizes of the network, and the tensors of the checkpoint."""
        state, config = ({}, {}) if self.checkpoint is None else read_weights(self.checkpoint)
        found = read_sizes(state, config, self.checkpoint) if state else None
        return settle_sizes(SIZES, self.size, self.network_params, found, _ENCODER), state

    def _start_network(self, X, n_outputs):
        """Build the network for these channels, and load the checkpoint into it."""
        sizes, state = self._read_start()
        parameters = {"channels": tuple(channels_of(X).tolist()), "size": dataclasses.asdict(sizes)}
        if self.strategy == "probe":
            parameters["readout"] = "class+power"
        network = GramState(
            "Gram", parameters, n_chans=X.shape[1], n_times=X.shape[2], n_outputs=n_outputs, sfreq=sizes.sfreq,
            precision=self.precision,
        )  # fmt: skip
        network.module = build_within(network.build, vars(sizes), state) if state else network.build()
        if state:
            network.load(state, file=self.checkpoint)
        return network

    def _prepare(self, X):
        """Trials of any length, without padding, and the indices of the channels where they are not those of fit."""
        own = X.ch_names is None or X.ch_names == self.ch_names_in_
        if not own and self.module_.readout != "class":
            X, own = ChannelTemplate(self.ch_names_in_).fit_transform(X), True
        data = np.asarray(self.steps_.transform(X), dtype=self.network_.float_type)
        return (data,) if own else (data, torch.from_numpy(channels_of(X)))


def _subject_means(values, X, otherwise):
    """For each trial, the mean over those of its subject, or ``otherwise`` where there are too few."""
    subjects = np.zeros(len(X)) if X.domains is None else X.domains["subject"]
    _, index, counts = np.unique(subjects, return_inverse=True, return_counts=True)
    means = np.stack([values[index == i].mean(axis=0) for i in range(len(counts))])
    return np.where(counts[index, None] < _MIN_TRIALS, otherwise, means[index])
