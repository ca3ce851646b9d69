"""Linear share of the decoder: regularised logistic regression on filter-bank tangent vectors of the same trials."""

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from ...storage import Storable
from ...tangentspace import FilterBankTangentSpace

PENALTY = 0.1  # chosen with NETWORK_WEIGHT on ds003810 2-5, simulated subjects, EEGMMIDB 49-64 and BNCI2014004 1-2
NETWORK_WEIGHT = 0.2  # of its logits, which are some ten times as large after fine-tuning on few trials


class TangentReadout(Storable):
    """Logistic regression on `FilterBankTangentSpace`; `partial_fit` adapts it to a target subject.

    Shapes: ``X`` (n_trials, n_channels, n_times), ``targets`` (n_trials,).
    """

    def __init__(self, align, domain):
        self.align, self.domain = align, domain

    def fit(self, X, targets, n_classes, subjects=None, target=None):
        """Fit tangent space and regression."""
        bands = [band for band in FilterBankTangentSpace().bands if band[1] < X.sfreq / 2]
        self.space = FilterBankTangentSpace(tuple(bands), self.domain, self.align or "source")
        X, subjects = self._trials(X, subjects)
        features = self.space.fit_transform(X, subjects=subjects, X_target_unlabeled=target)
        start = np.zeros((features.shape[1] + 1, n_classes))
        self.weights = fit_logistic(features, targets, start, PENALTY)
        return self

    def partial_fit(self, X, targets):
        """Fit the regression to trials of a target, its weights drawn to those it has."""
        X = self._trials(X)[0]
        if self.align is not None:
            self.space.calibrate(X)
        self.weights = fit_logistic(self.space.transform(X), targets, self.weights, PENALTY)

    def logits(self, X):
        """Logarithm of the probability of each class, but for a constant; (n_trials, n_classes)."""
        return self.space.transform(self._trials(X)[0]) @ self.weights[:-1] + self.weights[-1]

    def _trials(self, X, subjects=None):
        """Without alignment all trials belong to one domain, whose mean is that of the training trials."""
        return (X, subjects) if self.align is not None else (X.like(np.asarray(X), domains=None), None)


def fit_logistic(features, targets, start, penalty):
    r"""Weights of a multinomial logistic regression that are drawn to those of an earlier one.

    .. math:: \min_W \frac{1}{n} \sum_i -\log p_W(y_i | x_i) + \frac{\lambda}{2} \lVert W - W_0 \rVert^2

    The last row, the intercepts, is not penalised. Shapes: ``features`` (n, d), ``start`` (d + 1, n_classes).
    """
    observed = np.eye(start.shape[1])[targets]

    def loss(change):
        change = change.reshape(start.shape)
        logits = features @ (start[:-1] + change[:-1]) + start[-1] + change[-1]
        error = (softmax(logits, axis=1) - observed) / len(targets)
        gradient = np.vstack([features.T @ error + penalty * change[:-1], error.sum(axis=0)])
        entropy = -(observed * log_softmax(logits, axis=1)).sum() / len(targets)
        return entropy + 0.5 * penalty * np.square(change[:-1]).sum(), gradient.ravel()

    found = minimize(loss, np.zeros(start.size), jac=True, method="L-BFGS-B")
    return start + found.x.reshape(start.shape)
