"""Estimators around any network of the registry, or of the user's own, and their fine-tuning on a target subject."""

import hashlib
from numbers import Integral, Real

import numpy as np
from sklearn import config_context
from sklearn.base import ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.pipeline import Pipeline
from sklearn.utils import check_random_state, get_tags
from sklearn.utils._param_validation import Interval
from sklearn.utils.metadata_routing import get_routing_for_object
from sklearn.utils.validation import check_is_fitted, check_memory

from ..alignment import Calibration
from ..array import EEGArray, as_eeg, is_epochs
from ..base import BaseEEGRegressor, EEGEstimator, check_class_labels, draw_seed, warn
from ..networks.seeding import seeded
from .base import NetworkEstimator
from .checkpoints import resolve
from .net import train

_FEW_TRIALS = 30  # ds003810, 02-05, within subject: EEGNet .55, FBTS+LR .60 with 20 trials; .74, .72 with 40


class NetworkClassifier(ClassifierMixin, NetworkEstimator):
    """Classifier around any network of braindecode, of skeeg, or of your own.

    Parameters
    ----------
    network : str, class or torch.nn.Module
        Name in `skeeg.networks.network_names`, an ``EEGModuleMixin`` / ``torch.nn.Module`` class, or an instance, of
        which a copy is trained, from its weights. Not every instance pickles; a name or a class does.
    network_params : dict or None
        Arguments of the network's constructor, such as ``{"F1": 4}``, which `GridSearchCV` finds as
        ``network_params__F1``; those that the checkpoint determines may be left out.
    strategy : {"full", "head", "probe", "lora"}
        What is trained: everything, the last layer, a closed-form last layer on frozen features, or low-rank changes
        beside the last layer.
    checkpoint : str or None
        Weights to start from: a file (``.safetensors``, ``.pt``, ``.pth``) or ``"hub:owner/repository/file"``; the last
        layer of the file is not used.
    recipe : str or dict
        How to train: ``"default"``, which suits the family of the network; ``"imagery"``, the same with random shifts
        of the training trials in time, for motor imagery; another name in `skeeg.training.PRESETS`; or a dict of what
        differs from one, ``{"name": "default", "class_weight": {"left": 2.0}}``, in the terms of
        `skeeg.training.Recipe`. `GridSearchCV` finds its settings as ``recipe__weight_decay``.
    max_epochs, batch_size, learning_rate, patience, precision
        Settings of the recipe; None leaves its own. A ``max_epochs`` replaces a number of updates. ``precision`` is
        ``"float32"``, ``"bf16"`` or ``"float64"``.
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

    def _check_fit(self, X, y):
        X, targets, n_outputs = super()._check_fit(X, y)
        if self.checkpoint is None and len(X) < _FEW_TRIALS:
            better = f"below {_FEW_TRIALS} skeeg.baseline('FBTS+LR') decodes better"
            warn(f"X: {len(X)} training trials are few for a network without a checkpoint; {better}.")
        return X, targets, n_outputs

    def partial_fit(self, X, y, classes=None, subjects=None):
        """Train the fitted network further, by the recipe as it is set now; the first call is a `fit`.

        At the first call ``classes`` are all labels there will be; None takes those of y.
        """
        warm = self.__sklearn_is_fitted__()
        X, y = self._check_eeg(X, y, reset=not warm, dtype=np.float32)
        if not warm:
            self._check_labels(y if classes is None else classes)
        new = np.setdiff1d(y, self.classes_)
        if len(new):
            raise ValueError(f"y: {new.tolist()} are not among the classes at first, {self.classes_.tolist()}.")
        X = self._preprocess(X) if warm else self._fit_preprocessing(X, subjects)
        targets = np.searchsorted(self.classes_, y)
        with seeded(seed := draw_seed(self.random_state)):
            self.network_ = self.network_.copy() if warm else self._start_network(X, len(self.classes_))
            self.network_.keep(train(**self._training(X, targets, subjects, seed)))
        return self


class NetworkRegressor(BaseEEGRegressor, NetworkEstimator):
    """Regressor around any network of braindecode, of skeeg, or of your own.

    Targets are standardised for the training and given back in their own units and shape.

    Parameters
    ----------
    network : str, class or torch.nn.Module
        As in `NetworkClassifier`.
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

    def _check_fit(self, X, y):
        X, targets = self._check_eeg_and_targets(X, y)
        self.target_mean_ = targets.mean(axis=0)
        spread = targets.std(axis=0)
        self.target_scale_ = np.where(spread > 0, spread, 1.0)  # a constant target is predicted by its mean
        return X, ((targets - self.target_mean_) / self.target_scale_).astype(np.float32), targets.shape[1]

    def predict(self, X):
        """Targets of each trial, in the shape and units they had at fit.

        Shapes: ``X`` (n_trials, n_channels, n_times); gives (n_trials,), (n_trials, n_targets) or (n_trials, n_targets,
        n_times).
        """
        outputs = self._forward(X)  # first: it raises where the estimator is not fitted
        outputs = outputs.numpy().reshape(-1, len(self.target_mean_))
        return self._shape_like_targets(outputs * self.target_scale_ + self.target_mean_)


class FineTunedClassifier(MetaEstimatorMixin, ClassifierMixin, EEGEstimator):
    """Train a network on source subjects, then fine-tune it on labelled trials of the target subject.

    The steps before the network see source and target: an alignment gives the target a reference of its own. Without
    target trials the source network predicts.

    Parameters
    ----------
    estimator : NetworkClassifier, MIRepNetClassifier or Pipeline
        What is trained on the sources; a pipeline ends with the network.
    n_updates : int
        Updates of the fine-tuning.
    learning_rate : float
        Highest learning rate of the fine-tuning, as a share of that of the network's recipe.
    n_networks : int
        Networks, trained and fine-tuned from different seeds, whose probabilities are averaged. Few trials leave much
        to chance; three networks make up for some of it, at three times the cost.
    memory : str, joblib.Memory or None
        Folder that source networks are cached in: with other target trials or another fine-tuning, the same one is not
        trained again. Without ``random_state`` in the network, none is cached.

    Attributes
    ----------
    estimators_ : list of NetworkClassifier or Pipeline, length n_networks
        Fine-tuned.
    classes_ : ndarray, shape (n_classes,)
        Labels.
    n_target_trials_ : int
        Trials that the network was fine-tuned on.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg import FineTunedClassifier, baseline
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.normal(size=(20, 3, 250)), np.arange(20) % 2
    >>> model = FineTunedClassifier(baseline("EEGNet", random_state=0).set_params(networkclassifier__max_epochs=2))
    >>> model.fit(X, y, X_target_labeled=X[:8], y_target_labeled=y[:8]).n_target_trials_
    8
    """

    __metadata_request__fit = {"subjects": True, "X_target_labeled": True, "y_target_labeled": True}
    _parameter_constraints = {
        "n_updates": [Interval(Real, 0, None, closed="neither")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "n_networks": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(self, estimator, n_updates=100, learning_rate=0.2, n_networks=1, memory=None):
        self.estimator = estimator
        self.n_updates = n_updates
        self.learning_rate = learning_rate
        self.n_networks = n_networks
        self.memory = memory

    @property
    def estimator_(self):
        """First of the fine-tuned estimators."""
        return self.estimators_[0]

    def fit(self, X, y, subjects=None, X_target_labeled=None, y_target_labeled=None):
        """Train on source trials (n_trials, n_channels, n_times), then on the labelled target trials, if there are any.

        ``subjects`` (n_trials,) are for source trials without domains; target labels are among those of the sources.
        """
        if y is None:
            raise ValueError("y: FineTunedClassifier requires y to be passed, but the target y is None.")
        check_class_labels(y)
        X = as_eeg(X) if is_epochs(X) else X
        target = Calibration.unwrap(X_target_labeled, "X_target_labeled", len(np.asarray(y)))
        target = as_eeg(target) if is_epochs(target) else target
        seeds = self._seeds(_network_of(self.estimator).random_state)
        fitted = [self._fit_one(seed, X, y, subjects, target, y_target_labeled) for seed in seeds]
        self.n_target_trials_ = fitted[0][1]
        self.estimators_ = [estimator for estimator, _ in fitted]
        self.classes_ = _network_of(self.estimator_).classes_
        self.n_features_in_ = self.estimator_.n_features_in_
        return self

    def _seeds(self, random_state):
        """One ``random_state`` for each network."""
        if self.n_networks == 1:
            return [random_state]
        return check_random_state(random_state).randint(2**31 - 1, size=self.n_networks).tolist()

    def _fit_one(self, seed, X, y, subjects, target, y_target_labeled):
        """Train one network on the sources, then on the target; give it and the number of target trials."""
        fitted = clone(self.estimator)
        network = _network_of(fitted).set_params(random_state=seed)
        extra = {"subjects": subjects, "X_target_unlabeled": None if target is None else Calibration(target)}
        if isinstance(fitted, Pipeline) and len(fitted) > 1:
            steps = fitted[:-1]
            with config_context(enable_metadata_routing=True):
                X = steps.fit_transform(X, y, **_requested(steps, "fit_transform", extra))
        given = _requested(network, "fit", {"subjects": subjects})  # the same network for any target trials
        memory = None if _network_of(self.estimator).random_state is None else self.memory  # else one start for all
        what = None if memory is None else _what_counts(X, network.checkpoint)
        network = check_memory(memory).cache(_fit_network)(network, X, y, given, what)
        if isinstance(fitted, Pipeline):
            fitted.steps[-1] = (fitted.steps[-1][0], network)
        else:
            fitted = network
        return fitted, 0 if target is None else self._fine_tune(fitted, network, target, y_target_labeled)

    def _fine_tune(self, fitted, network, target, labels):
        """Train the network further on the target trials; give their number."""
        if labels is None:
            raise ValueError(f"y_target_labeled: got None for {len(target)} trials in X_target_labeled.")
        labels = np.asarray(labels)
        if len(target) != len(labels):
            raise ValueError(f"y_target_labeled: got {len(labels)} labels for {len(target)} trials.")
        if len(np.unique(labels)) < 2:
            warn(f"y_target_labeled: {len(labels)} trials of 1 class fine-tune nothing; the source network predicts.")
            return 0
        steps = fitted[:-1].transform(target) if isinstance(fitted, Pipeline) and len(fitted) > 1 else target
        rate = self.learning_rate * network._recipe().learning_rate
        changes = {"n_updates": self.n_updates, "min_epochs": 1, "max_epochs": 1000, "learning_rate": rate}
        changes = {f"recipe__{name}": value for name, value in changes.items()}
        network.set_params(**changes, max_epochs=None, learning_rate=None, validation=None)
        network.partial_fit(steps, labels)
        return len(labels)

    def _check_parameters(self):
        """Refuse what cannot be fine-tuned."""
        super()._check_parameters()
        last = _network_of(self.estimator)
        if not (isinstance(last, NetworkEstimator) and hasattr(last, "partial_fit")):
            wanted = "a NetworkClassifier, a MIRepNetClassifier or a pipeline that ends with one"
            raise TypeError(f"estimator: expected {wanted}, got {type(last).__name__}.")

    def __sklearn_tags__(self):
        """Take what the network takes."""
        tags, inner = super().__sklearn_tags__(), get_tags(self.estimator)
        tags.input_tags, tags.classifier_tags = inner.input_tags, inner.classifier_tags
        return tags

    def predict(self, X):
        """Label of each trial, (n_trials,), of ``X`` (n_trials, n_channels, n_times)."""
        check_is_fitted(self)
        return self.classes_[self.predict_proba(X).argmax(1)]

    def predict_proba(self, X):
        """Probability of each class, (n_trials, n_classes), of ``X`` (n_trials, n_channels, n_times)."""
        check_is_fitted(self)
        return np.mean([estimator.predict_proba(X) for estimator in self.estimators_], axis=0)


def _requested(estimator, method, given):
    """Those of the given metadata that an estimator requests."""
    with config_context(enable_metadata_routing=True):
        wanted = get_routing_for_object(estimator).consumes(method, set(given))
    return {name: value for name, value in given.items() if name in wanted and value is not None}


def _what_counts(X, checkpoint):
    """Give what joblib does not hash: identity of the trials, content of the checkpoint, version of skeeg."""
    from .. import __version__

    identity = (X.ch_names, X.sfreq, X.domains) if isinstance(X, EEGArray) else None
    weights = None if checkpoint is None else hashlib.sha256(resolve(checkpoint).read_bytes()).hexdigest()
    return __version__, weights, identity


def _fit_network(network, X, y, given, what):
    """Fit a network; ``what`` is for the cache."""
    return network.fit(X, y, **given)


def _network_of(estimator):
    """Last step of a pipeline; an estimator as it is."""
    return estimator[-1] if isinstance(estimator, Pipeline) else estimator
