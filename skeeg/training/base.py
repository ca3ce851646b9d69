"""The base of the estimators that are a network: fitting, predicting, features."""

import dataclasses

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from ..base import EEGEstimator, draw_seed, refuse_flat, warn
from ..networks.seeding import seeded
from .augmentation import make_augmentation
from .device import resolve_device
from .net import train
from .recipe import default_recipe, get_recipe
from .state import NetworkState, choose_sizes, holds_network
from .strategies import STRATEGIES
from .validation import split_validation


@holds_network
class NetworkEstimator(EEGEstimator):
    """Base of an estimator that is a network; ``network_`` holds the network (`NetworkState`).

    Its own parameters are those of `NetworkClassifier`. An estimator of one network has its own constructor, with the
    parameters that are read here, and overrides

    - ``_check_fit(X, y)``: trials, targets and the number of outputs; here those of a classifier;
    - ``_fit_preprocessing(X, subjects)``: learns the preprocessing and gives the trials preprocessed;
    - ``_start_network(X, n_outputs)``: gives the network for preprocessed trials, with its checkpoint;
    - ``_preprocess(X)``: trials as the network takes them but for their length; learns nothing;
    - ``_prepare(X)``: the arguments of the network, a tuple;
    - ``_recipe()``, ``_criterion()``, ``_callbacks()``, ``_parameter_groups()``: how the network is trained.

    An estimator with its own ``fit`` starts its network and trains it with the arguments of ``_training``, all of it
    within `seeded`; one that predicts in another way holds a `NetworkState`.
    """

    augmentation = loss = None  # for estimators of one network, whose constructor does not have all parameters
    kernels = "auto"
    linear_map_ = "space"  # of `_preprocess`, see `EEGTransformer`; zeros at the end change nothing
    _default_loss = "cross_entropy"
    __metadata_request__fit = {"subjects": True}
    _parameter_constraints = {"network": [str, type, torch.nn.Module], "strategy": [StrOptions(set(STRATEGIES))]}

    def __init__(
        self,
        network="EEGNet",
        network_params=None,
        strategy="full",
        checkpoint=None,
        recipe="default",
        max_epochs=None,
        batch_size=None,
        learning_rate=None,
        loss=None,
        validation=None,
        patience=None,
        augmentation=None,
        precision=None,
        kernels="auto",
        ch_names=None,
        sfreq=None,
        device="auto",
        random_state=None,
        verbose=0,
        skorch_callbacks=None,
    ):
        self.network = network
        self.network_params = network_params
        self.strategy = strategy
        self.checkpoint = checkpoint
        self.recipe = recipe
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.loss = loss
        self.validation = validation
        self.patience = patience
        self.augmentation = augmentation
        self.precision = precision
        self.kernels = kernels
        self.ch_names = ch_names
        self.sfreq = sfreq
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.skorch_callbacks = skorch_callbacks

    def _check_parameters(self):
        """Refuse settings that mean nothing, also those that the chosen way of training does not use."""
        super()._check_parameters()
        resolve_device(self.device)
        self._recipe().check()

    def _criterion(self):
        return self._default_loss if self.loss is None else self.loss

    def _recipe(self):
        names = ("max_epochs", "batch_size", "learning_rate", "patience", "precision")
        return get_recipe(self.recipe, self.network, **{name: vars(self)[name] for name in names})

    def _callbacks(self):
        return list(self.skorch_callbacks or ())

    def _parameter_groups(self):
        """Give a function from the module to the optimiser's groups, or None for one group."""
        return None

    def fit(self, X, y, subjects=None):
        """Build the network for trials (n_trials, n_channels, n_times) and train it on their labels or targets.

        ``subjects`` (n_trials,) are for trials without domains.
        """
        X, targets, n_outputs = self._check_fit(X, y)
        X = self._fit_preprocessing(X, subjects)
        with seeded(seed := draw_seed(self.random_state)):
            self.network_ = self._start_network(X, n_outputs)
            self.network_.keep(train(**self._training(X, targets, subjects, seed)))
        return self

    def _check_fit(self, X, y):
        """Check the input of fit; give trials, class indices and the number of outputs."""
        X, y = self._check_eeg(X, y, reset=True, dtype=np.float32)
        targets = self._check_labels(y)
        return X, targets, len(self.classes_)

    def _fit_preprocessing(self, X, subjects):
        """Learn the preprocessing; give the trials preprocessed."""
        recipe = self._recipe()
        scale = recipe.scale
        if scale == "std":
            scale = float(np.asarray(X).std(dtype=np.float64))
        self.scale_ = scale if scale == "trial" else float(scale or 1.0)
        return self._scale(X, np.float64 if recipe.precision == "float64" else np.float32)

    def _training(self, X, targets, subjects, seed):
        """Arguments of `train` for preprocessed trials: those to train on, those to watch, and how."""
        refuse_flat(X)
        subjects, recipe = subjects if X.domains is None else X.domains["subject"], self._weighted(self._recipe())
        if subjects is not None and len(subjects) != len(X):
            raise ValueError(f"subjects: got {len(subjects)} for {len(X)} trials in X.")
        data, validation = self.network_.pad(X), None
        targets = targets.astype(data.dtype) if targets.dtype.kind == "f" else targets
        rows, held = split_validation(targets, self.validation, recipe.validation_size, subjects, seed)
        if held is not None:
            validation, data, targets = (data[held], targets[held]), data[rows], targets[rows]
        return {
            "module": self.network_.module, "X": data, "y": targets, "recipe": recipe, "loss": self._criterion(),
            "validation": validation, "strategy": self.strategy, "head": self.network_.head,
            "n_outputs": self.network_.spec["n_outputs"], "device": self.device, "verbose": self.verbose,
            "callbacks": self._callbacks(), "augmentation": self._augment(),
            "parameter_groups": self._parameter_groups(),
        }  # fmt: skip

    def _weighted(self, recipe, classes=None):
        """Recipe with weights of the classes, by default those of y, by index, where it has them by label."""
        if not isinstance(recipe.class_weight, dict) or not isinstance(self, ClassifierMixin):
            return recipe
        classes = self.classes_ if classes is None else classes
        indices = {label: index for index, label in enumerate(np.asarray(classes).tolist())}
        if unknown := [label for label in recipe.class_weight if label not in indices]:
            raise ValueError(f"class_weight: {unknown} are not among the classes {list(indices)}.")
        weights = {indices[label]: weight for label, weight in recipe.class_weight.items()}
        return dataclasses.replace(recipe, class_weight=weights)

    def _start_network(self, X, n_outputs):
        """Build the network, and load the checkpoint into it."""
        state = NetworkState(
            self.network, choose_sizes(self.network, self.network_params, self.checkpoint), n_chans=X.shape[1],
            n_times=X.shape[2], n_outputs=n_outputs, sfreq=X.sfreq, ch_names=X.ch_names,
            precision=self._recipe().precision, kernels=self.kernels,
        ).start()  # fmt: skip
        if self.checkpoint is not None:
            state.load(self.checkpoint)
        elif default_recipe(type(state.module)) == "pretrained":
            name = type(state.module).__name__
            warn(f"{name} starts from scratch, without its published weights; checkpoint= takes a file of them.")
        return state

    def _augment(self):
        """Give a function that augments a batch, or None."""
        if self.augmentation is None:
            return None
        known = {name: self.network_.spec[name] for name in ("sfreq", "ch_names")}
        seed, classes = int(torch.randint(2**31, ())), self.classes_ if isinstance(self, ClassifierMixin) else None
        return make_augmentation(self.augmentation, **known, classes=classes, seed=seed)

    def _preprocess(self, X):
        """Trials as the network takes them, but for their length; nothing is learned."""
        return self._scale(X, self.network_.float_type)

    def _scale(self, X, dtype):
        """Divide the trials by what was learnt at fit."""
        data = np.asarray(X, dtype=dtype)
        if self.scale_ == "trial":
            power = np.mean(np.square(data, dtype=np.float64), axis=(1, 2), keepdims=True)
            data = data / np.sqrt(np.where(power > 0, power, 1.0)).astype(data.dtype)
        elif self.scale_ != 1.0:
            data = data * data.dtype.type(1.0 / self.scale_)
        return X.like(data)

    def _prepare(self, X):
        """Give the arguments of the network for checked trials: the trials, and tensors that it takes beside them."""
        return (self.network_.pad(self._preprocess(X)),)

    def _forward(self, X):
        """Compute the outputs of the network for trials as of `predict`, Tensor (n_trials, n_outputs)."""
        inputs = self._prepare(self._check_eeg(X, reset=False, dtype=np.float32))
        return self.network_.forward(*inputs, batch_size=self.batch_size, device=self.device)

    def predict(self, X):
        """Most probable class of each trial.

        Shapes: ``X`` (n_trials, n_channels, n_times); gives (n_trials,).
        """
        probabilities = self.predict_proba(X)  # first: it raises where the estimator is not fitted
        return self.classes_[probabilities.argmax(axis=1)]

    @available_if(lambda self: isinstance(self, ClassifierMixin))
    def predict_proba(self, X):
        """Probability of each class, in the order of ``classes_``.

        Shapes: ``X`` (n_trials, n_channels, n_times); gives (n_trials, n_classes).
        """
        return torch.softmax(self._forward(X), dim=1, dtype=torch.float64).numpy()

    def transform(self, X):
        """Features of each trial: what the network gives to its last layer, flattened.

        Shapes: ``X`` (n_trials, n_channels, n_times); gives (n_trials, n_features).
        """
        inputs = self._prepare(self._check_eeg(X, reset=False, dtype=np.float32))
        features = self.network_.features(*inputs, batch_size=self.batch_size, device=self.device)
        return features.astype(np.float32, copy=False)

    def compile_inference(self):
        """Fold the trained network (`skeeg.networks.fold`), so that predictions come sooner; gives self.

        Outputs agree to rounding. A copy, a pickle and another fit start from the network as it was trained.
        """
        check_is_fitted(self)
        self.network_.fold()
        return self

    def __sklearn_is_fitted__(self):
        """Fitted once it has a network."""
        return "network_" in vars(self)
