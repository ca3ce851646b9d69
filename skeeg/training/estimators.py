"""Estimators around any network of the registry, or of the user's own."""

import warnings

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ..base import BaseEEGClassifier, BaseEEGRegressor
from .base import NetworkEstimator
from .recipe import get_recipe

_FEW_TRIALS = 30  # ds003810, 02-05, within subject: EEGNet .55, FBTS+LR .60 with 20 trials; .74, .72 with 40


class _AnyNetwork(NetworkEstimator):
    """What the two estimators around a network of one's choice share: their parameters."""

    __metadata_request__fit = {"subjects": True}

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
        precision="float32",
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

    def _recipe(self):
        names = ("max_epochs", "batch_size", "learning_rate", "patience", "precision")
        return get_recipe(self.recipe, self.network, **{name: getattr(self, name) for name in names})

    def _criterion(self):
        return self._default_loss if self.loss is None else self.loss

    def _learn_scale(self, X):
        """Set ``scale_``: what the trials are divided by, or ``"trial"``."""
        scale = self._recipe().scale
        if scale == "std":
            self.scale_ = float(np.std(X, dtype=np.float64)) or 1.0
        elif scale is None or scale == "trial":
            self.scale_ = scale or 1.0
        elif isinstance(scale, int | float) and scale > 0:
            self.scale_ = float(scale)
        else:
            raise ValueError(f"scale: got {scale!r}, expected 'std', 'trial', None or a positive number.")

    def _preprocess(self, X):
        dtype = np.float64 if self.precision == "float64" else np.float32
        data = np.asarray(X, dtype=dtype)
        if self.scale_ == "trial":
            power = np.mean(np.square(data, dtype=np.float64), axis=(1, 2), keepdims=True)
            data = data / np.sqrt(np.where(power > 0, power, 1.0)).astype(dtype)
        elif self.scale_ != 1.0:
            data = data * dtype(1.0 / self.scale_)
        return X.like(data)

    def compile_inference(self):
        """Fold the trained network, so that predictions come sooner, above all those of one trial at a time.

        Batch norms are taken into the convolutions and linear neighbours merged (`skeeg.networks.fold`); outputs agree
        to rounding. A copy, a pickle and another fit start from the network as it was trained.

        Returns
        -------
        self : NetworkClassifier or NetworkRegressor
            Predicts by the folded network.
        """
        check_is_fitted(self)
        self.network_.fold()
        return self


class NetworkClassifier(_AnyNetwork, BaseEEGClassifier):
    """Classifier around any network of braindecode, of skeeg, or of your own.

    Parameters
    ----------
    network : str or class
        Name in `skeeg.networks.network_names`, or an ``EEGModuleMixin`` / ``torch.nn.Module`` class.
    network_params : dict or None
        Arguments of the network's constructor, such as ``{"F1": 4}``, which `GridSearchCV` finds as
        ``network_params__F1``; those that the checkpoint tells may be left out.
    strategy : {"full", "head", "probe", "lora"}
        What is trained: everything, the last layer, a closed-form last layer on frozen features, or low-rank changes
        beside the last layer.
    checkpoint : str or None
        Weights to start from: a file (``.safetensors``, ``.pt``, ``.pth``) or ``"hub:owner/repository/file"``; the last
        layer of the file is not used.
    recipe : str or dict
        How to train: ``"default"``, which suits the family of the network; ``"imagery"``, the same with random shifts
        of the training trials in time, for motor imagery; another name in `skeeg.training.PRESETS`; or a dict of what
        differs from one, ``{"name": "default", "weight_decay": 0.1}``, in the terms of `skeeg.training.Recipe`.
    max_epochs, batch_size, learning_rate, patience
        Settings of the recipe; None leaves its own. A ``max_epochs`` replaces a number of updates.
    loss : str, torch.nn.Module or None
        None is cross-entropy; else a name (`skeeg.training.train`), or a module of (logits, class indices).
    validation : {None, "trial", "block", "subject"}
        Trials held out of the training to watch the loss on, and to stop by where the recipe has a ``patience``; the
        best weights are kept. ``"block"`` holds out the last trials of each class, ``"subject"`` never validates on a
        subject it trains on. A recipe with ``refit`` then trains on all trials for the updates that were best.
    augmentation : str, callable, list of them, or None
        What each training batch goes through: names in `skeeg.training.augmentation.NAMES`, which are the transforms of
        `braindecode.augmentation` with a probability of one half, ``"Mixup"``, and ``"Mirror"``, which exchanges left
        and right in electrodes and classes; or transform instances.
    precision : {"float32", "bf16", "float64"}
        Arithmetic, see `skeeg.training.Recipe`.
    kernels : {"auto", "plain", "fast"}
        Exact fast forms of the network's layers: where they pay, never, or wherever there is one; see
        `skeeg.networks.accelerate`.
    ch_names : tuple of str or None
        Electrode names, where X does not carry them.
    sfreq : float or None
        Sampling rate in hertz, where X does not carry it.
    device : str
        ``"auto"`` takes CUDA where there is one. After fit the network rests on the CPU.
    random_state : int, RandomState or None
        Makes fit reproducible to the bit on one machine.
    verbose : int
        Whether to show a progress bar.
    skorch_callbacks : list of skorch callbacks or None
        Progress, checkpoints, TensorBoard, Weights & Biases, ...

    Attributes
    ----------
    classes_ : ndarray, shape (n_classes,)
        Labels.
    module_ : torch.nn.Module
        Trained network, on the CPU, in evaluation mode.
    net_ : skeeg.training.TrainingNet
        The skorch net that trained it.
    history_ : list of dict
        One record an epoch.
    n_iter_ : int
        Epochs run.
    checkpoint_report_ : str or None
        What the checkpoint brought.
    n_features_in_, n_times_in_ : int
        Channels and samples at fit.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg import NetworkClassifier
    >>> X, y = np.random.default_rng(0).normal(size=(20, 3, 128)), np.repeat(["left", "right"], 10)
    >>> clf = NetworkClassifier("EEGNet", max_epochs=2, random_state=0).fit(X, y)
    >>> clf.predict_proba(X).shape
    (20, 2)
    """

    _default_loss = "cross_entropy"

    def fit(self, X, y, subjects=None):
        """Build the network for these trials and train it.

        Parameters
        ----------
        X : anything `as_eeg` accepts, shape (n_trials, n_channels, n_times)
            Trials.
        y : array-like, shape (n_trials,)
            Labels of any kind.
        subjects : array-like, shape (n_trials,), or None
            Subject of each trial, for ``validation="subject"``.

        Returns
        -------
        self : NetworkClassifier
            The fitted estimator.
        """
        X, y = self._check_eeg(X, y, reset=True, dtype=np.float32)
        targets = self._check_labels(y)
        if self.checkpoint is None and len(X) < _FEW_TRIALS:
            warnings.warn(
                f"X: {len(X)} training trials are few for a network without a checkpoint; below {_FEW_TRIALS} a linear "
                "pipeline such as skeeg.baseline('FBTS+LR') decodes better.",
                UserWarning,
                stacklevel=3,
            )
        self._learn_scale(X)
        self._fit_network(self._preprocess(X), targets, len(self.classes_), subjects)
        return self

    def partial_fit(self, X, y, classes=None, subjects=None):
        """Train the fitted network further, by the recipe as it is set now; the first call is a `fit`.

        Parameters
        ----------
        X : anything `as_eeg` accepts, shape (n_trials, n_channels, n_times)
            Trials.
        y : array-like, shape (n_trials,)
            Labels, known from the first call.
        classes : array-like, shape (n_classes,), or None
            At the first call: all labels there will be; None takes those of y.
        subjects : array-like, shape (n_trials,), or None
            Subject of each trial, for ``validation="subject"``.

        Returns
        -------
        self : NetworkClassifier
            The fitted estimator.
        """
        warm = self.__sklearn_is_fitted__()
        X, y = self._check_eeg(X, y, reset=not warm, dtype=np.float32)
        if not warm:
            self._check_labels(y if classes is None else classes)
            self._learn_scale(X)
        new = np.setdiff1d(y, self.classes_)
        if len(new):
            raise ValueError(
                f"y: {new.tolist()} are not among the classes of the first call, {self.classes_.tolist()}."
            )
        targets = np.searchsorted(self.classes_, y)
        self._fit_network(self._preprocess(X), targets, len(self.classes_), subjects, warm=warm)
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


class NetworkRegressor(_AnyNetwork, BaseEEGRegressor):
    """Regressor around any network of braindecode, of skeeg, or of your own.

    Targets are standardised for the training and given back in their own units and shape.

    Parameters
    ----------
    network : str or class
        Name in `skeeg.networks.network_names`, or an ``EEGModuleMixin`` / ``torch.nn.Module`` class.
    loss : str, torch.nn.Module or None
        None is the mean squared error; else ``"mae"``, ``"huber"``, or a module of (outputs, standardised targets).
    network_params, strategy, checkpoint, recipe, max_epochs, batch_size, learning_rate, patience, validation
        As in `NetworkClassifier`.
    augmentation, precision, kernels, ch_names, sfreq, device, random_state
        As in `NetworkClassifier`.
    verbose, skorch_callbacks
        As in `NetworkClassifier`.

    Attributes
    ----------
    target_mean_, target_scale_ : ndarray, shape (n_outputs,)
        Mean and standard deviation of each target at fit.
    module_, net_, history_, n_iter_, checkpoint_report_, n_features_in_, n_times_in_
        As in `NetworkClassifier`.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg import NetworkRegressor
    >>> X, y = np.random.default_rng(0).normal(size=(20, 3, 128)), np.arange(40.0).reshape(20, 2)
    >>> NetworkRegressor("EEGNet", max_epochs=2, random_state=0).fit(X, y).predict(X).shape
    (20, 2)
    """

    _default_loss = "mse"

    def fit(self, X, y, subjects=None):
        """Build the network for these trials and train it.

        Parameters
        ----------
        X : anything `as_eeg` accepts, shape (n_trials, n_channels, n_times)
            Trials.
        y : array-like, shape (n_trials,), (n_trials, n_targets) or (n_trials, n_targets, n_times)
            Targets.
        subjects : array-like, shape (n_trials,), or None
            Subject of each trial, for ``validation="subject"``.

        Returns
        -------
        self : NetworkRegressor
            The fitted estimator.
        """
        X, targets = self._check_eeg_and_targets(X, y)
        self.target_mean_ = targets.mean(axis=0)
        spread = targets.std(axis=0)
        self.target_scale_ = np.where(spread > 0, spread, 1.0)  # a constant target is predicted by its mean
        standard = ((targets - self.target_mean_) / self.target_scale_).astype(np.float32)
        self._learn_scale(X)
        self._fit_network(self._preprocess(X), standard, targets.shape[1], subjects)
        return self

    def predict(self, X):
        """Targets of each trial, in the shape and units they had at fit.

        Parameters
        ----------
        X : anything `as_eeg` accepts, shape (n_trials, n_channels, n_times)
            Trials.

        Returns
        -------
        y : ndarray of float64, shape (n_trials,), (n_trials, n_targets) or (n_trials, n_targets, n_times)
            Predictions.
        """
        outputs = self._forward(X)  # first: it raises where the estimator is not fitted
        outputs = outputs.numpy().reshape(-1, len(self.target_mean_))
        return self._shape_like_targets(outputs * self.target_scale_ + self.target_mean_)
