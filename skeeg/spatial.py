"""Steps that mix channels: average reference and common spatial patterns.

The filters of `CSP` are those of `mne.decoding.CSP`, from one matrix product a trial, many times faster.
"""

from numbers import Integral, Real

import numpy as np
from scipy.linalg import eigh
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from .array import EEGArray
from .base import EEGTransformer
from .covariance import joint_diagonaliser, mean_covariances, signal_basis
from .filtering import FilterBank

_RANK_FLOOR = 1e-12  # eigenvalues of a covariance in float64 are known to about 1e-15 of the largest


def class_covariances(X, indices):
    """Covariance of each class, whose indices (n_trials,) are given, over all its samples without centring."""
    samples = np.bincount(indices) * np.shape(X)[2]
    covariances = mean_covariances(X, indices, len(samples), center=False, ddof=0)
    return covariances * (samples / np.maximum(samples - 1, 1))[:, None, None]


def csp_filters(covariances):
    r"""Spatial filters (n_filters, n_channels) whose output variance differs between classes, and eigenvalues.

    For two classes, the generalised eigenvectors :math:`C_1 w = \lambda (C_1 + C_2) w`; for more, the approximate joint
    diagonaliser. They lie in the directions that hold signal, and are fewer than the channels where these are fewer.
    """
    covariances = np.asarray(covariances, dtype=np.float64)
    basis = _signal_basis(covariances)
    inside = basis.T @ covariances @ basis
    if len(covariances) == 2:
        eigenvalues, vectors = eigh(inside[0], inside[0] + inside[1])
        best = np.argsort(np.abs(eigenvalues - 0.5))[::-1]
        return (basis @ vectors[:, best]).T, eigenvalues[best]
    vectors = joint_diagonaliser(inside).T
    vectors = vectors / np.sqrt(np.einsum("ij,ik,kj->j", vectors, inside.mean(axis=0), vectors))  # unit variance
    variances = np.einsum("ij,cik,kj->cj", vectors, inside, vectors)
    # Mutual information between the class and the source behind each vector, to the fourth order [3]_ in `CSP`.
    information = -(np.log(np.sqrt(variances)).mean(axis=0) + 3 / 16 * (variances**2 - 1).mean(axis=0) ** 2)
    best = np.argsort(information)[::-1]
    return (basis @ vectors[:, best]).T, None


class AverageReference(EEGTransformer):
    r"""Subtract the mean over the channels from every sample.

    Notes
    -----
    :math:`y_c(t) = x_c(t) - \frac{1}{C} \sum_k x_k(t)`. The mean is over the channels that arrive, so put this step
    before a choice of channels to reference to the whole cap, after it to reference to the chosen ones.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.spatial import AverageReference
    >>> AverageReference().fit_transform(np.array([[[1.0, 2.0], [3.0, 6.0]]])).tolist()
    [[[-1.0, -2.0], [1.0, 2.0]]]
    """

    linear_map_ = "space"

    def _run(self, X):
        data = np.asarray(X)
        return X.like(data - data.mean(axis=1, keepdims=True))


class CSP(EEGTransformer):
    r"""Common spatial patterns: filters whose output differs most in variance between classes.

    Filters, order and features equal those of `mne.decoding.CSP` with the same parameters [1]_, [2]_, [3]_.

    Parameters
    ----------
    n_components : int
        Number of filters used. Fewer are used where the data hold fewer directions.
    reg : float or None
        Shrinkage of the class covariances towards a multiple of the identity, from 0 to 1. None is 0.
    log : bool or None
        With ``transform_into="average_power"``: the logarithm of the power (None or True), or the power standardised
        by the training trials (False). With ``"csp_space"`` it must be None.
    transform_into : "average_power" or "csp_space"
        Give the power behind each filter, or the filtered trials.
    norm_trace : bool
        Divide each class covariance by its trace.

    Attributes
    ----------
    classes_ : ndarray, shape (n_classes,)
        Labels.
    spatial_filters_ : ndarray, shape (n_filters, n_channels)
        All filters, one in each row; the first `n_components` are used.
    patterns_ : ndarray, shape (n_filters, n_channels)
        Topography of each filter's source: the columns of the filters' inverse.
    evals_ : ndarray, shape (n_filters,), or None
        Share of the first class in the variance behind each filter; None for more than two classes.
    mean_, std_ : ndarray, shape (n_components,)
        Of the power of the training trials, with ``log=False``.

    Notes
    -----
    `mne.decoding.CSP` also takes other covariance estimators, ranks given by hand and several channel types. It judges
    the rank by the trials themselves, this one by their covariance: a direction with less than 1e-12 of the largest
    variance gets no filter. With such data and more than two classes, the two agree only as far as their joint
    diagonalisers converged.

    References
    ----------
    .. [1] Koles et al. (1990). Spatial patterns underlying population differences in the background EEG. Brain
       Topography, 2(4).
    .. [2] Blankertz et al. (2008). Optimizing spatial filters for robust EEG single-trial analysis. IEEE SPM, 25(1).
    .. [3] Grosse-Wentrup & Buss (2008). Multiclass common spatial patterns and information theoretic feature
       extraction. IEEE Transactions on Biomedical Engineering, 55(8).

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.spatial import CSP
    >>> X = np.random.default_rng(0).standard_normal((20, 3, 100))
    >>> X[10:, 1] *= 3
    >>> np.abs(CSP().fit(X, [0] * 10 + [1] * 10).patterns_[0]).argmax()
    np.int64(1)
    """

    _parameter_constraints = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "reg": [Interval(Real, 0, 1, closed="both"), None],
        "transform_into": [StrOptions({"average_power", "csp_space"})],
        "norm_trace": ["boolean"],
    }

    def __init__(self, n_components=4, reg=None, log=None, transform_into="average_power", norm_trace=False):
        self.n_components = n_components
        self.reg = reg
        self.log = log
        self.transform_into = transform_into
        self.norm_trace = norm_trace

    @property
    def linear_map_(self):
        """Axis that filtered trials mix; power is not linear."""
        return "space" if self.transform_into == "csp_space" else None

    @property
    def _feature_names(self):
        """Names of the features; filtered trials are none."""
        if self.transform_into == "csp_space":
            return None
        return lambda: [f"csp{i}" for i in range(min(self.n_components, len(self.spatial_filters_)))]

    def __sklearn_tags__(self):
        """Declare that labels are required."""
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags

    def fit(self, X, y):
        """Find the filters from trials (n_trials, n_channels, n_times) and their labels, of two classes or more."""
        if self.transform_into == "csp_space" and self.log is not None:
            raise ValueError(f"log: got {self.log!r}, expected None with transform_into='csp_space'.")
        given = X, y
        X, y = self._check_eeg(X, y, reset=True, ensure_all_finite=False)
        indices = self._check_labels(y)
        with np.errstate(invalid="ignore", over="ignore"):
            covariances = class_covariances(X, indices)
        if not np.isfinite(covariances).all():  # this shows it, and a look at all trials takes a tenth of the fit
            self._check_eeg(*given, reset=True)
        if self.reg:
            covariances = _shrink(covariances, self.reg)
        if self.norm_trace:
            traces = np.trace(covariances, axis1=1, axis2=2)
            if not traces.all():
                raise ValueError(f"X: all trials of class {self.classes_.tolist()[traces.argmin()]!r} are flat.")
            covariances /= traces[:, None, None]
        self.spatial_filters_, self.evals_ = csp_filters(covariances)
        if not np.isfinite(self.spatial_filters_).all():
            raise ValueError(
                "X: in a direction where the others have signal, one class has none (an electrode flat in its trials "
                "alone, or fewer samples than electrodes), so nothing diagonalises all covariances; set reg."
            )
        self.patterns_ = np.linalg.pinv(self.spatial_filters_.T)
        if self.transform_into == "average_power" and self.log is False:
            power = self._power(X)
            self.mean_, self.std_ = power.mean(axis=0), power.std(axis=0)
        return self

    def _run(self, X):
        if self.transform_into == "csp_space":
            filters = self.spatial_filters_[: self.n_components].astype(X.dtype)
            names = [f"CSP{i}" for i in range(len(filters))]
            return X.like(np.matmul(filters, np.asarray(X)), ch_names=names)
        power = self._power(X)
        if self.log is False:
            power = (power - self.mean_) / self.std_
        else:
            # A flat trial has no power; the smallest number keeps its logarithm finite.
            power = np.log(np.maximum(power, np.finfo(X.dtype).tiny))
        return power.astype(X.dtype)

    def plot_patterns(self, components=None):
        """Draw scalp maps of the patterns, by default those in use, by `mne.decoding.SpatialFilter`."""
        from mne.decoding import SpatialFilter

        check_is_fitted(self)
        like = EEGArray(np.zeros((1, self.n_features_in_, 1)), self.ch_names_in_, self.sfreq_in_ or 1.0)
        found = SpatialFilter(like.to_epochs().info, self.spatial_filters_, patterns=self.patterns_)
        used = np.arange(min(self.n_components, len(self.patterns_)))
        return found.plot_patterns(used if components is None else components, show=False)

    def _power(self, X):
        """Mean power behind each filter used, in float64."""
        sources = self.spatial_filters_[: self.n_components] @ np.asarray(X, dtype=np.float64)
        return np.einsum("nkt,nkt->nk", sources, sources) / X.shape[2]


class FilterBankCSP(FilterBank):
    """Features of FBCSP: a `FilterBank` of `CSP` whose parameters can be written in a YAML file.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.spatial import FilterBankCSP
    >>> X, y = np.random.default_rng(0).normal(size=(20, 3, 500)), np.arange(20) % 2
    >>> FilterBankCSP(((8, 12), (12, 20)), n_components=2, sfreq=250).fit_transform(X, y).shape
    (20, 4)
    """

    method, order = "fir", 4  # of the filters

    def __init__(self, bands=((8, 12), (12, 16), (16, 20), (20, 24), (24, 28), (28, 32)), n_components=4, sfreq=None):
        self.bands = bands
        self.n_components = n_components
        self.sfreq = sfreq

    @property
    def estimator(self):
        """Estimator fitted to each band."""
        return CSP(n_components=self.n_components)


def _signal_basis(covariances):
    """Orthonormal columns that span the signal of all classes."""
    basis = signal_basis(covariances.mean(axis=0), _RANK_FLOOR)
    if not basis.size:
        raise ValueError("X: all channels are flat, expected some variance.")
    return basis


def _shrink(covariances, amount):
    """Move covariances towards the identity times their mean variance, within the directions that hold signal."""
    basis = _signal_basis(covariances)
    identity = basis @ basis.T
    variance = np.trace(covariances, axis1=1, axis2=2) / np.trace(identity)
    return (1 - amount) * covariances + amount * variance[:, None, None] * identity
