"""Classifiers that adapt to the target subject or task by its trials, labelled or not."""

import numpy as np
from scipy.special import softmax
from sklearn import config_context
from sklearn.base import ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.utils import get_tags
from sklearn.utils.metadata_routing import get_routing_for_object
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from ..alignment import Calibration
from ..array import DOMAIN_FIELDS, as_eeg, is_epochs
from ..base import EEGEstimator, check_class_labels

_USES = ("source", "target", "prefer_target", "both")


class _WithTarget(MetaEstimatorMixin, ClassifierMixin, EEGEstimator):
    """What the wrappers share: the classifier that they fit, and its input."""

    def _fit_estimator(self, X, y, subjects, target):
        """Fit a copy of the classifier, with what its steps request."""
        extra = {"subjects": subjects, "X_target_unlabeled": target}
        fitted = clone(self.estimator)
        with config_context(enable_metadata_routing=True):
            wanted = get_routing_for_object(fitted).consumes("fit", set(extra))
            return fitted.fit(X, y, **{k: v for k, v in extra.items() if k in wanted and v is not None})

    def _keep(self, fitted, classes):
        """Set the fitted attributes."""
        self.estimator_, self.classes_ = fitted, classes
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(fitted, name):
                setattr(self, name, getattr(fitted, name))
        return self

    def __sklearn_tags__(self):
        """Accept the inputs of the classifier."""
        tags, inner = super().__sklearn_tags__(), get_tags(self.estimator)
        tags.input_tags, tags.classifier_tags = inner.input_tags, inner.classifier_tags
        return tags


class PooledTarget(_WithTarget):
    """Train a classifier on source trials, on labelled target trials, or on both together.

    MOABB passes labelled target trials (``CrossSubjectMode.TRAIN_AND_TARGET_LABELED_20P``, `CrossTaskEvaluation`) only
    to pipelines that request them. This class requests them for any pipeline, and so gives the three usual baselines of
    transfer learning.

    Parameters
    ----------
    estimator : classifier
        Any classifier or pipeline.
    use : {"both", "source", "target", "prefer_target"}
        Trials to train on; ``"prefer_target"`` takes the target trials where there are some of two classes, else the
        source trials.

    Attributes
    ----------
    estimator_ : classifier
        Fitted classifier.
    classes_ : ndarray, shape (n_classes,)
        Labels.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skeeg.evaluations import PooledTarget
    >>> X, y = np.array([[0.0], [1.0]] * 4), np.array(["a", "b"] * 4)
    >>> model = PooledTarget(LogisticRegression(), use="target")
    >>> model.fit(X, y, X_target_labeled=-X, y_target_labeled=y).predict([[-1.0]])
    array(['b'], dtype='<U1')
    """

    __metadata_request__fit = {"subjects": True, "X_target_labeled": True, "y_target_labeled": True}

    def __init__(self, estimator, use="both"):
        self.estimator = estimator
        self.use = use

    def fit(self, X, y, subjects=None, X_target_labeled=None, y_target_labeled=None):
        """Train on source trials (n_trials, ...) and target trials (n_target_trials, ...), with their labels.

        ``subjects`` (n_trials,) go to steps that request them; there target trials have the subject ``"target"``.
        Steps that request ``X_target_unlabeled`` get the target trials too.
        """
        if y is None:
            raise ValueError("y: PooledTarget requires y to be passed, but the target y is None.")
        if self.use not in _USES:
            raise ValueError(f"use: got {self.use!r}, expected one of {', '.join(map(repr, _USES))}.")
        has_target = X_target_labeled is not None and len(X_target_labeled) > 0
        if self.use == "target" and not has_target:
            raise ValueError("X_target_labeled: got no trials, but use='target' trains on them.")
        on_target = self.use == "target" or (
            self.use == "prefer_target" and has_target and len(np.unique(y_target_labeled)) > 1
        )
        parts = [] if on_target else [(X, y, subjects)]
        if has_target and (on_target or self.use == "both"):
            parts += [(X_target_labeled, y_target_labeled, None)]
        trials, labels, subjects = _pool(parts)
        target = X_target_labeled if has_target else None
        fitted = self._fit_estimator(trials, labels, subjects, Calibration(target) if on_target else target)
        return self._keep(fitted, np.unique(np.asarray(labels)))

    def predict(self, X):
        """Label of each trial."""
        check_is_fitted(self)
        return self.estimator_.predict(X)

    @available_if(lambda self: hasattr(self.estimator, "predict_proba"))
    def predict_proba(self, X):
        """Probability of each class, shape (n_trials, n_classes), in the order of ``classes_``."""
        check_is_fitted(self)
        return self.estimator_.predict_proba(X)

    @available_if(lambda self: hasattr(self.estimator, "decision_function"))
    def decision_function(self, X):
        """Confidence scores, shape (n_trials,) or (n_trials, n_classes)."""
        check_is_fitted(self)
        return self.estimator_.decision_function(X)


class BalancedTarget(_WithTarget):
    r"""Move the decision of any classifier to the target, by unlabelled trials of it.

    A classifier of source subjects may rank the trials of a target subject well and still give most of them the same
    label. Each class gets an offset, so that the probabilities of the target trials given to `fit` have the means
    :math:`\pi_c`, the shares of the classes among the source trials:

    .. math:: q_c(x) = \frac{p_c(x) e^{b_c}}{\sum_k p_k(x) e^{b_k}}, \qquad \frac{1}{n} \sum_i q_c(x_i) = \pi_c

    Right where the target performs the classes as often as the sources do, as in a cued experiment; wrong where not.
    Without target trials nothing moves.

    Parameters
    ----------
    estimator : classifier
        Any classifier or pipeline with `predict_proba`. Steps that request ``X_target_unlabeled``, as alignments do,
        get the target trials too.
    domain : {"subject", "session", "run"}
        Trials that share offsets: those of a subject, of one of its sessions, or of one of its runs, as `EEGArray`
        says. Trials of another domain than those given to `fit`, or without one, get ``offset_``.

    Attributes
    ----------
    estimator_ : classifier
        Fitted classifier.
    classes_ : ndarray, shape (n_classes,)
        Labels.
    offset_ : ndarray, shape (n_classes,)
        :math:`b_c` of all target trials together, of mean zero.
    offsets_ : dict of tuple to ndarray, shape (n_classes,)
        :math:`b_c` of each domain of the target, by its names down to the level of ``domain``.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skeeg.evaluations import BalancedTarget
    >>> X, y = np.array([[-1.0], [1.0]] * 4), np.array(["a", "b"] * 4)
    >>> model = BalancedTarget(LogisticRegression()).fit(X, y, X_target_unlabeled=X[:4] + 10)
    >>> model.predict([[9.0], [11.0]]).tolist()
    ['a', 'b']
    """

    __metadata_request__fit = {"subjects": True, "X_target_unlabeled": True}

    def __init__(self, estimator, domain="subject"):
        self.estimator = estimator
        self.domain = domain

    def fit(self, X, y, subjects=None, X_target_unlabeled=None):
        """Train on source trials (n_trials, ...), then find the offsets by target trials (n_target_trials, ...).

        ``subjects`` (n_trials,) and the target trials go to the steps that request them.
        """
        if y is None:
            raise ValueError("y: BalancedTarget requires y to be passed, but the target y is None.")
        if self.domain not in DOMAIN_FIELDS:
            raise ValueError(f"domain: got {self.domain!r}, expected one of {DOMAIN_FIELDS}.")
        check_class_labels(y)
        target = Calibration.unwrap(X_target_unlabeled, "X_target_unlabeled", len(np.asarray(y)))
        target = target if target is not None and len(target) else None
        fitted = self._fit_estimator(X, y, subjects, target)
        classes, counts = np.unique(np.asarray(y), return_counts=True)
        self.offset_, self.offsets_ = np.zeros(len(classes)), {}
        if target is not None:
            probabilities, domains = fitted.predict_proba(target), self._domains(target)
            self.offset_ = _balance(probabilities, counts / counts.sum())
            for one in set(domains):
                own = probabilities[[domain == one for domain in domains]]
                self.offsets_[one] = _balance(own, counts / counts.sum())
        return self._keep(fitted, classes)

    def _domains(self, X):
        """Domain of each trial, as tuples; an empty list where X has none."""
        X = as_eeg(X) if is_epochs(X) else X
        domains = getattr(X, "domains", None)
        fields = DOMAIN_FIELDS[: DOMAIN_FIELDS.index(self.domain) + 1]
        return [] if domains is None else [tuple(str(one[field]) for field in fields) for one in domains]

    def predict(self, X):
        """Label of each trial."""
        check_is_fitted(self)
        return self.classes_[self.predict_proba(X).argmax(1)]

    def predict_proba(self, X):
        """Probability of each class, shape (n_trials, n_classes), in the order of ``classes_``."""
        check_is_fitted(self)
        probabilities, domains = self.estimator_.predict_proba(X), self._domains(X)
        offsets = [self.offsets_.get(one, self.offset_) for one in domains] or self.offset_
        return softmax(_log(probabilities) + offsets, axis=1)


def _balance(probabilities, shares, n_iter=1000):
    """Offsets of the classes with which the probabilities have these shares as means (Sinkhorn's iteration)."""
    logs, offset = _log(probabilities), np.zeros(len(shares))
    for _ in range(n_iter):
        step = np.log(shares) - np.log(softmax(logs + offset, axis=1).mean(0))
        offset += step
        if np.abs(step).max() < 1e-9:
            break
    return offset - offset.mean()


def _log(probabilities):
    """Logarithms that are finite."""
    return np.log(np.maximum(probabilities, 1e-12))


def _pool(parts):
    """Trials, labels and subjects of several parts as one."""
    if len(parts) == 1 and parts[0][2] is None:  # the classifier checks its input itself
        return as_eeg(parts[0][0]) if is_epochs(parts[0][0]) else parts[0][0], parts[0][1], None
    trials = [as_eeg(X) if is_epochs(X) else np.asanyarray(X) for X, _, _ in parts]
    labels = np.concatenate([np.asarray(y) for _, y, _ in parts])
    subjects = np.concatenate(
        [
            np.full(len(X), "target", dtype=object) if names is None else np.asarray(names, dtype=object).astype(str)
            for X, _, names in parts
        ]
    )
    return trials[0] if len(trials) == 1 else np.concatenate(trials), labels, subjects


def takes_target(pipeline):
    """Whether a pipeline trains on labelled target trials; an alignment requests them without labels.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skeeg.evaluations.adaptation import PooledTarget, takes_target
    >>> takes_target(LogisticRegression()), takes_target(PooledTarget(LogisticRegression()))
    (False, True)
    """
    with config_context(enable_metadata_routing=True):
        return bool(get_routing_for_object(pipeline).consumes("fit", {"y_target_labeled"}))
