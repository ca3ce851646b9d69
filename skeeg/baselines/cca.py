"""Canonical correlation with sinusoids, the classifier of steady-state responses that needs no training."""

from numbers import Integral

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from ..base import EEGEstimator


class SteadyStateCCA(ClassifierMixin, EEGEstimator):
    r"""Classify steady-state visual responses by their canonical correlation with sinusoids [1]_.

    The reference :math:`Y_f` of a class holds sine and cosine at its frequency and at the harmonics of it:

    .. math:: \hat f = \arg\max_f \max_{w, v} \mathrm{corr}(w^\top X, v^\top Y_f)

    Parameters
    ----------
    frequencies : dict or None
        Frequency in hertz of each label; None reads the label as a number, as ``"13.0"``.
    n_harmonics : int
        Frequencies of a reference: the first is that of the class.
    sfreq : float or None
        Sampling rate in hertz, where X does not carry it.

    Attributes
    ----------
    classes_, frequencies_ : ndarray, shape (n_classes,)
        Labels and their frequencies.

    References
    ----------
    .. [1] Lin, Z., et al. (2006). Frequency recognition based on canonical correlation analysis for SSVEP-based BCIs.
       IEEE Transactions on Biomedical Engineering, 53(12), 2610-2614.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.baselines.cca import SteadyStateCCA
    >>> X = np.sin(2 * np.pi * np.array([8, 13])[:, None, None] * np.arange(250) / 250).repeat(3, axis=1)
    >>> X += np.random.default_rng(0).normal(size=X.shape)
    >>> SteadyStateCCA(sfreq=250).fit(X, ["8", "13"]).predict(X).tolist()
    ['8', '13']
    """

    _parameter_constraints = {"frequencies": [dict, None], "n_harmonics": [Interval(Integral, 1, None, closed="left")]}

    def __init__(self, frequencies=None, n_harmonics=3, sfreq=None):
        self.frequencies = frequencies
        self.n_harmonics = n_harmonics
        self.sfreq = sfreq

    def fit(self, X, y):
        """Read the frequencies of the labels; X (n_trials, n_channels, n_times), y (n_trials,)."""
        X, y = self._check_eeg(X, y, reset=True)
        self._check_labels(y)
        if X.sfreq is None:
            raise ValueError("sfreq: not known of these trials; give it to the constructor.")
        labels = self.classes_.tolist()
        try:
            frequencies = [float(label if self.frequencies is None else self.frequencies[label]) for label in labels]
        except (KeyError, ValueError) as error:
            raise ValueError(f"frequencies: expected one in hertz for each label of {labels}, {error}.") from error
        self.frequencies_ = np.array(frequencies)
        return self

    def decision_function(self, X):
        """Correlation with each class, (n_trials, n_classes); of two classes that with the second less the first."""
        check_is_fitted(self)
        X = self._check_eeg(X, reset=False)
        trials = _orthonormal(np.asarray(X, dtype=np.float64).transpose(0, 2, 1))
        times = np.arange(X.shape[2])[:, None] / X.sfreq
        scores = np.empty((len(X), len(self.classes_)))
        for place, frequency in enumerate(self.frequencies_):
            phases = 2 * np.pi * frequency * times * np.arange(1, self.n_harmonics + 1)
            reference = _orthonormal(np.hstack([np.sin(phases), np.cos(phases)]))
            scores[:, place] = np.linalg.norm(trials.transpose(0, 2, 1) @ reference, ord=2, axis=(1, 2))
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def predict(self, X):
        """Class of the largest correlation, shape (n_trials,)."""
        scores = self.decision_function(X)
        return self.classes_[(scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)]


def _orthonormal(columns):
    """Orthonormal basis of centred columns, (..., n_times, n_columns); zeros for columns that depend on others."""
    vectors, values, _ = np.linalg.svd(columns - columns.mean(axis=-2, keepdims=True), full_matrices=False)
    return vectors * (values > 1e-10 * values.max(axis=-1, keepdims=True))[..., None, :]  # as with an average reference
