"""Filter-bank tangent space: covariances of each band, recentred by domain and mapped to a tangent space.

`TangentReadout` is a regression on it that decides beside a network.
"""

import warnings

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from .alignment import Calibration, RiemannianAlignment, check_targets
from .base import EEGTransformer
from .covariance import shrink, trial_covariances
from .filtering import FilterBank, _band_names
from .signals import filter_trials
from .storage import Storable

_TRIALS = 16  # filtered at a time: their covariances are all that is kept
# Chosen on ds003810 2-5, simulated subjects, EEGMMIDB 49-64 and BNCI2014004 1-2.
PENALTY, INTERCEPT_PENALTY = 0.03, 0.3  # few trials say little of the threshold; tangent vectors are recentred
MIRROR_PENALTY = 0.1  # of what differs between a trial of one hand and the mirror image of one of the other
HALF_BANDS = (8.0, 12.0), (12.0, 20.0), (20.0, 30.0)  # of each half of a trial, which has less to tell bands apart


class FilterBankTangentSpace(EEGTransformer):
    r"""Tangent vectors of the covariances in each band of a filter bank, recentred by domain.

    In every band the trials of a domain are whitened by their Riemannian mean :math:`G_d` (recentring [1]_), and the
    shrunk covariance of each whitened trial is mapped to the tangent space at the mean :math:`M` of all of them [2]_:

    .. math:: s_i = \mathrm{upper}\left(\log\left(M^{-1/2} \tilde C_i M^{-1/2}\right)\right), \qquad
              \tilde C_i = \mathrm{cov}\left(G_d^{-1/2} X_i\right)

    Parameters
    ----------
    bands : tuple of (float, float)
        Pass bands in hertz.
    domain, on_unseen : str
        Domain of the references, and the reference of domains not seen at fit; see `EuclideanAlignment`.
    metric : str
        Metric of the means and of the tangent space, as in pyRiemann.
    sfreq : float or None
        Sampling rate in hertz, where X does not carry it.

    Attributes
    ----------
    bank_, alignments_
        Fitted `FilterBank`, and a `RiemannianAlignment` for each band.
    references_ : ndarray, shape (n_bands, n_channels, n_channels)
        Mean covariance that the tangent space of each band is taken at.

    References
    ----------
    .. [1] Zanini et al. (2018). Transfer learning: a Riemannian geometry framework. IEEE TBME, 65(5), 1107-1116.
    .. [2] Barachant et al. (2012). Multiclass BCI classification by Riemannian geometry. IEEE TBME, 59(4), 920-928.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg import FilterBankTangentSpace
    >>> X = np.random.default_rng(0).normal(size=(20, 3, 500))
    >>> FilterBankTangentSpace(((8, 12), (12, 16)), sfreq=250).fit_transform(X).shape
    (20, 12)
    """

    __metadata_request__fit = {"subjects": True, "X_target_unlabeled": True, "X_target_labeled": True}
    __metadata_request__transform = {"subjects": True}
    _preserves_dtype = ()  # features are float64

    def __init__(
        self,
        bands=((8, 12), (12, 16), (16, 20), (20, 24), (24, 28), (28, 32)),
        domain="subject",
        on_unseen="own",
        metric="riemann",
        sfreq=None,
    ):
        self.bands = bands
        self.domain = domain
        self.on_unseen = on_unseen
        self.metric = metric
        self.sfreq = sfreq

    def fit(self, X, y=None, subjects=None, X_target_unlabeled=None, X_target_labeled=None):
        """Estimate filters, references of every domain, and the point of the tangent space."""
        self.fit_transform(X, y, subjects, X_target_unlabeled, X_target_labeled)
        return self

    def fit_transform(self, X, y=None, subjects=None, X_target_unlabeled=None, X_target_labeled=None):
        """Fit, and map the training trials, each recentred by the reference of its own domain.

        Gives float64 (n_trials, n_bands * n_channels * (n_channels + 1) / 2), band after band.
        """
        from pyriemann.geometry.mean import gmean

        X = self._check_eeg(X, reset=True)
        targets = {"X_target_unlabeled": X_target_unlabeled, "X_target_labeled": X_target_labeled}
        targets = check_targets(self, targets, len(X))
        self.bank_ = FilterBank(self.bands, sfreq=self.sfreq).fit(X)
        bands, targets = self._covariances(X), {name: self._covariances(given) for name, given in targets.items()}
        self.alignments_ = [_Recentring(self.domain, self.on_unseen, metric=self.metric) for _ in bands]
        aligned = [
            one.fit_transform(band, None, subjects, **{name: Calibration(given[i]) for name, given in targets.items()})
            for i, (one, band) in enumerate(zip(self.alignments_, bands, strict=True))
        ]
        covariances = self._shrink(aligned, X)
        self.references_ = np.array([gmean(one, metric=self.metric) for one in covariances])
        return self._tangent_vectors(covariances)

    def transform(self, X, subjects=None):
        """Map trials to the tangent space, as `fit_transform`."""
        X = self._check_eeg(X, reset=False)
        pairs = zip(self.alignments_, self._covariances(X), strict=True)
        return self._tangent_vectors(self._shrink([one.transform(band, subjects) for one, band in pairs], X))

    def _feature_names(self):
        names = self.ch_names_in_ or range(self.n_features_in_)
        pairs = [f"{names[i]}-{names[j]}" for i, j in zip(*np.triu_indices(len(names)), strict=True)]
        return _band_names(pairs, self.bands)

    def calibrate(self, X):
        """Take trials of the target as calibration trials, see `EuclideanAlignment.calibrate`.

        Shape: ``X`` (n_trials, n_channels, n_times).
        """
        X = self._check_eeg(X, reset=False)
        for alignment, band in zip(self.alignments_, self._covariances(X), strict=True):
            alignment.calibrate(band)
        return self

    def update(self, X, subjects=None):
        """Update the references of ``on_unseen="running"`` with these trials, see `EuclideanAlignment.update`.

        Shapes: ``X`` (n_trials, n_channels, n_times), ``subjects`` (n_trials,).
        """
        X = self._check_eeg(X, reset=False)
        for alignment, band in zip(self.alignments_, self._covariances(X), strict=True):
            alignment.update(band, subjects)
        return self

    def _covariances(self, X):
        """Covariances of the trials in each band, each (n_trials, n_channels, n_channels)."""
        found = np.empty((len(self.bands), len(X), X.shape[1], X.shape[1]))
        for first in range(0, len(X), _TRIALS):
            rows = slice(first, first + _TRIALS)
            filtered = filter_trials(np.asarray(X)[rows], self.bank_.coefficients_, self.bank_.n_edges_)
            for i in range(len(found)):
                found[i, rows] = trial_covariances(filtered[:, i])
        return [X.like(band) for band in found]

    def _shrink(self, aligned, X):
        """Shrink the covariances of whitened trials, positive definite also without signal in the band."""
        n_times = X.shape[2]
        unbiased = max(n_times - 1, 1) / n_times
        return [shrink(unbiased * np.asarray(one), n_times) + 1e-10 * np.eye(one.shape[1]) for one in aligned]

    def _tangent_vectors(self, covariances):
        """Tangent vectors of every band, side by side."""
        from pyriemann.geometry.tangentspace import tangent_space

        pairs = zip(covariances, self.references_, strict=True)
        return np.concatenate([tangent_space(one, reference, metric=self.metric) for one, reference in pairs], axis=1)


class _Recentring(RiemannianAlignment):
    """Alignment of covariances (n_trials, n_channels, n_channels) in place of trials, with the same references."""

    def _covariances(self, X):
        return np.asarray(X)

    @staticmethod
    def _whiten(X, whiteners):
        return whiteners @ np.asarray(X) @ whiteners


class TangentReadout(Storable):
    """Logistic regression on tangent vectors of whole trials and of their halves; `partial_fit` adapts it to a target.

    ``mirror`` holds electrodes and classes after left and right are exchanged, or is None; ``penalties`` are those of
    the weights and of what changes in them under the exchange, see `fit_logistic`. Shapes: ``X`` (n_trials, n_channels,
    n_times), ``targets`` (n_trials,). Electrodes are those of ``fit``, ``ch_names``, however they are spelled later.
    """

    def __init__(self, align, domain, mirror=None, penalties=(PENALTY, MIRROR_PENALTY)):
        self.align, self.domain, self.mirror, self.penalties = align, domain, mirror, penalties

    def fit(self, X, targets, offset, target=None):
        """Fit tangent spaces and regression, which corrects other logits, ``offset`` (n_trials, n_classes)."""
        self.ch_names = X.ch_names
        X = self._trials(X)
        given = [None] * 3 if target is None else [Calibration(window) for window in _windows(target)]
        whole, self.spaces, features = FilterBankTangentSpace().bands, [], []
        for bands, window, calibration in zip((whole, HALF_BANDS, HALF_BANDS), _windows(X), given, strict=True):
            bands = tuple(band for band in bands if band[1] < X.sfreq / 2)
            space = FilterBankTangentSpace(bands, self.domain, self.align or "source")
            with warnings.catch_warnings():
                if window is not X:  # accuracy is the same if a trial is cut after the filters
                    warnings.filterwarnings("ignore", "FilterBank: the filter has")
                features.append(space.fit_transform(window, X_target_unlabeled=calibration))
            self.spaces.append(space)
        features = _side_by_side(features)
        start = np.zeros((features.shape[1] + 1, offset.shape[1]))
        self.weights = self._regress(features, targets, start, offset)
        return self

    def set_rule(self, align, min_trials):
        """Set the rule for unseen domains, and the fewest trials that are a reference of their own."""
        self.align = align
        for space in self.spaces:
            for alignment in space.alignments_:
                alignment.set_params(on_unseen=align or "source", min_trials=min_trials)

    def partial_fit(self, X, targets, offset, reference=None):
        """Fit the regression to trials of a target, its weights drawn to those it has.

        The reference of the target is that of these trials, or of others, ``reference``.
        """
        if self.align is not None:
            for space, window in self._parts(X if reference is None else reference):
                space.calibrate(window)
        self.weights = self._regress(self._transform(X), targets, self.weights, offset)

    def _regress(self, features, targets, start, offset):
        penalty, apart = self.penalties
        return fit_logistic(features, targets, start, offset, penalty, mirror=self._mirror_weights(), apart=apart)

    def update(self, X):
        """Update the references of ``align="running"``."""
        for space, window in self._parts(X):
            space.update(window)

    def logits(self, X):
        """Give what is added to the other logits, (n_trials, n_classes)."""
        return self._transform(X) @ self.weights[:-1] + self.weights[-1]

    def _trials(self, X):
        """Trials by the names of fit; without alignment of one domain, whose mean is that of the training trials."""
        return X.like(X, ch_names=self.ch_names, domains=None if self.align is None else X.domains)

    def _parts(self, X):
        return zip(self.spaces, _windows(self._trials(X)), strict=True)

    def _transform(self, X):
        return _side_by_side([space.transform(window) for space, window in self._parts(X)])

    def _mirror_weights(self):
        """Rows and columns of the weights after left and right are exchanged; None where nothing is.

        A tangent vector holds the upper triangle of a matrix of the electrodes, for each band of each window.
        """
        if self.mirror is None:
            return None
        channels, classes = self.mirror
        first, second = np.triu_indices(len(channels))
        index = np.empty((len(channels), len(channels)), dtype=int)
        index[first, second] = index[second, first] = np.arange(len(first))
        bands = np.arange(sum(len(space.bands) for space in self.spaces))[:, None] * len(first)
        rows = (bands + index[channels[first], channels[second]]).ravel()
        return np.append(rows, len(rows)), classes  # and the intercept


def _windows(X):
    """Whole trials, and their halves."""
    half = X.shape[2] // 2
    return X, X[:, :, :half], X[:, :, half:]


def _side_by_side(features):
    """Features of the windows, which together count as much as those of one."""
    return np.concatenate(features, axis=1) / np.sqrt(len(features))


def fit_logistic(
    features, targets, start, offset=0.0, penalty=PENALTY, intercept=INTERCEPT_PENALTY, mirror=None,
    apart=MIRROR_PENALTY,
):  # fmt: skip
    r"""Weights of a multinomial logistic regression that are drawn to those of an earlier one.

    .. math:: \min_W \frac{1}{n} \sum_i -\log p_W(y_i | x_i) + \frac{\lambda}{2} \lVert W - W_0 \rVert^2

    The last row holds the intercepts, which have a penalty of their own; ``offset`` is added to the logits. With
    ``mirror``, rows and columns of W after left and right are exchanged, the part of W - W_0 that changes has the
    penalty ``apart``; None allows none. Shapes: ``features`` (n, d), ``start`` (d + 1, n_classes), ``offset`` (n,
    n_classes).
    """
    observed, features = np.eye(start.shape[1])[targets], np.pad(features, ((0, 0), (0, 1)), constant_values=1.0)
    offset, penalties = offset + features @ start, np.full((len(start), 1), penalty)
    penalties[-1] = intercept

    def exchange(weights):
        return weights[mirror[0]][:, mirror[1]]

    def loss(change):
        change = change.reshape(start.shape)
        pull = penalties * change
        if mirror is not None and apart is not None:
            pull += (apart - penalty) / 2 * (change - exchange(change))
        logits = offset + features @ change
        gradient = features.T @ (softmax(logits, axis=1) - observed) / len(targets) + pull
        if mirror is not None and apart is None:
            gradient = (gradient + exchange(gradient)) / 2  # all steps are symmetric
        entropy = -(observed * log_softmax(logits, axis=1)).sum() / len(targets)
        return entropy + 0.5 * (change * pull).sum(), gradient.ravel()

    found = minimize(loss, np.zeros(start.size), jac=True, method="L-BFGS-B")
    return start + found.x.reshape(start.shape)
