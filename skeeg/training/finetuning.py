"""Fine-tuning: a network trained on source subjects, trained further on few labelled trials of the target."""

import warnings
from numbers import Integral, Real

import numpy as np
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.pipeline import Pipeline
from sklearn.utils import check_random_state, get_tags
from sklearn.utils.metadata_routing import get_routing_for_object
from sklearn.utils.validation import check_is_fitted

from ..alignment import Calibration
from ..array import as_eeg, is_epochs
from ..base import check_class_labels


class FineTunedClassifier(MetaEstimatorMixin, ClassifierMixin, BaseEstimator):
    """Train a network on source subjects, then fine-tune it on labelled trials of the target.

    The steps before the network see source and target: an alignment gives the target a reference of its own. Without
    target trials it is the source network that predicts.

    Parameters
    ----------
    estimator : NetworkClassifier or Pipeline
        What is trained on the sources; a pipeline ends with the network.
    n_updates : int
        Updates of the fine-tuning.
    learning_rate : float
        Highest learning rate of the fine-tuning, as a share of that of the network's recipe.
    n_networks : int
        Networks, trained and fine-tuned from different seeds, whose probabilities are averaged. Few trials leave much
        to chance; three networks make up for some of it, at three times the cost.

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

    def __init__(self, estimator, n_updates=100, learning_rate=0.2, n_networks=1):
        self.estimator = estimator
        self.n_updates = n_updates
        self.learning_rate = learning_rate
        self.n_networks = n_networks

    @property
    def estimator_(self):
        """First of the fine-tuned estimators."""
        return self.estimators_[0]

    def fit(self, X, y, subjects=None, X_target_labeled=None, y_target_labeled=None):
        """Train on the sources, then on the target.

        Parameters
        ----------
        X : anything `as_eeg` accepts, shape (n_trials, n_channels, n_times)
            Source trials.
        y : array-like, shape (n_trials,)
            Labels.
        subjects : array-like, shape (n_trials,), or None
            Subject of each source trial, where X carries no domains.
        X_target_labeled : Calibration, anything `as_eeg` accepts, or None
            Target trials.
        y_target_labeled : array-like, shape (n_target_trials,), or None
            Their labels, among those of the sources.

        Returns
        -------
        self : FineTunedClassifier
            Fitted.
        """
        self._check_parameters()
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
        network = _network_of(fitted)
        network.set_params(random_state=seed)
        with config_context(enable_metadata_routing=True):
            extra = {"subjects": subjects, "X_target_unlabeled": None if target is None else Calibration(target)}
            wanted = get_routing_for_object(fitted).consumes("fit", set(extra))
            fitted.fit(X, y, **{name: value for name, value in extra.items() if name in wanted and value is not None})
        return fitted, 0 if target is None else self._fine_tune(fitted, network, target, y_target_labeled)

    def _fine_tune(self, fitted, network, target, labels):
        """Train the network further on the target trials; give their number."""
        labels = np.asarray(labels)
        if len(target) != len(labels):
            raise ValueError(f"y_target_labeled: got {len(labels)} labels for {len(target)} trials.")
        if len(np.unique(labels)) < 2:
            warnings.warn(
                f"y_target_labeled: {len(labels)} trials of {len(np.unique(labels))} class(es) fine-tune nothing; the "
                "network of the source subjects predicts. Label trials of two classes at least.",
                UserWarning,
                stacklevel=5,
            )
            return 0
        steps = fitted[:-1].transform(target) if isinstance(fitted, Pipeline) and len(fitted) > 1 else target
        own = {"name": network.recipe} if isinstance(network.recipe, str) else dict(network.recipe)
        rate = self.learning_rate * network._recipe().learning_rate
        changes = {"n_updates": self.n_updates, "min_epochs": 1, "max_epochs": 1000, "learning_rate": rate}
        network.set_params(recipe=own | changes, max_epochs=None, learning_rate=None, validation=None)
        network.partial_fit(steps, labels)
        return len(labels)

    def _check_parameters(self):
        """Refuse what cannot be fine-tuned."""
        last = _network_of(self.estimator)
        if not hasattr(last, "partial_fit") or not hasattr(last, "recipe"):
            raise TypeError(
                f"estimator: expected a NetworkClassifier or a pipeline that ends with one, got {type(last).__name__}."
            )
        for name in ("n_updates", "learning_rate"):
            if not (isinstance(getattr(self, name), Real) and getattr(self, name) > 0):
                raise ValueError(f"{name}: got {getattr(self, name)!r}, expected a positive number.")
        if not (isinstance(self.n_networks, Integral) and self.n_networks > 0):
            raise ValueError(f"n_networks: got {self.n_networks!r}, expected 1 or more.")

    def __sklearn_tags__(self):
        """Take what the network takes."""
        tags, inner = super().__sklearn_tags__(), get_tags(self.estimator)
        tags.input_tags, tags.classifier_tags = inner.input_tags, inner.classifier_tags
        return tags

    def predict(self, X):
        """Label of each trial.

        Parameters
        ----------
        X : anything `as_eeg` accepts, shape (n_trials, n_channels, n_times)
            Trials.

        Returns
        -------
        y : ndarray, shape (n_trials,)
            Labels.
        """
        check_is_fitted(self)
        return self.classes_[self.predict_proba(X).argmax(1)]

    def predict_proba(self, X):
        """Probability of each class.

        Parameters
        ----------
        X : anything `as_eeg` accepts, shape (n_trials, n_channels, n_times)
            Trials.

        Returns
        -------
        probabilities : ndarray, shape (n_trials, n_classes)
            In the order of ``classes_``.
        """
        check_is_fitted(self)
        return np.mean([estimator.predict_proba(X) for estimator in self.estimators_], axis=0)


def _network_of(estimator):
    """Last step of a pipeline; an estimator as it is."""
    return estimator[-1] if isinstance(estimator, Pipeline) else estimator
