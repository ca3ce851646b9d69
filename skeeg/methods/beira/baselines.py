"""Linear regressions of BOLD on lagged band powers: the baselines of BEIRA."""

import numpy as np
from sklearn.cross_decomposition import PLSRegression
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from ...regression import choose_alpha, ridge_weights
from ...signals import BANDS
from .base import RecordingRegressor
from .readout import GAP, interpolate_steps, with_lags

_LAGS = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)


class BandPowerRegressor(RecordingRegressor):
    """Base of the linear regressions on lagged band powers; ``_fit_linear`` of a subclass sets ``coef_``.

    The powers of each electrode in each band, at steps of a second and with lags that span the haemodynamic response,
    are standardised on the training data; the predicted steps are interpolated to the rate of the EEG.
    """

    def __init__(self, bands, lags, step, region_names, ch_names, sfreq):
        self.bands = bands
        self.lags = lags
        self.step = step
        self.region_names = region_names
        self.ch_names = ch_names
        self.sfreq = sfreq

    def __sklearn_tags__(self):
        """Declare that scikit-learn's example targets cannot be fitted: they depend on the sign."""
        tags = super().__sklearn_tags__()
        tags.regressor_tags.poor_score = True
        return tags

    def fit(self, X, y):
        """Fit the regression to EEG (n_trials, n_channels, n_times) and BOLD (n_trials, n_regions, n_times)."""
        eeg, targets = self._read_pairs(X, y)
        self.feature_shape_ = len(self.lags), eeg[0].shape[1], len(self.bands)
        features, rows = [], []
        for array, target in zip(eeg, targets, strict=True):
            powers, samples = self._features(array)
            target = target[:, :, samples].transpose(0, 2, 1) if self._is_signal else target
            features.append(powers.reshape(-1, powers.shape[2]))
            rows.append(target.reshape(len(features[-1]), -1))
        features, rows = np.concatenate(features), np.concatenate(rows)
        self.scaler_, self.target_scaler_ = StandardScaler().fit(features), StandardScaler().fit(rows)
        self._fit_linear(self.scaler_.transform(features), self.target_scaler_.transform(rows))
        return self

    def predict(self, X):
        """Predict BOLD."""
        check_is_fitted(self)
        outputs = []
        for array in self._read(X, reset=False):
            powers, samples = self._features(array)
            steps = self.scaler_.transform(powers.reshape(-1, powers.shape[2]))
            steps = self.target_scaler_.inverse_transform(steps @ self.coef_.reshape(self.n_regions_, -1).T)
            steps = steps.reshape(*powers.shape[:2], -1).transpose(0, 2, 1)
            outputs.append(interpolate_steps(steps, samples, array.shape[2]) if self._is_signal else steps[..., 0])
        return self._like_input(outputs, X)

    def _features(self, X):
        """Lagged powers (n_trials, n_steps, n_lags * n_channels * n_bands) and the samples of the steps.

        Targets without an axis of time belong to the last step alone.
        """
        powers, samples = band_powers(X, self._rate(), self.bands, self.step)
        powers = with_lags(powers, [round(lag / self.step) for lag in self.lags])
        powers = powers if self._is_signal else powers[:, -1:]
        return powers.reshape(*powers.shape[:2], -1), samples


class BandPowerRidge(BandPowerRegressor):
    """Ridge regression of BOLD on lagged band powers.

    Parameters
    ----------
    alpha : float or "cv"
        Penalty; "cv" takes the best of seven, from 1 to 10^6, by cross-validation in blocks of time.
    bands : tuple of (float, float)
        Lower and upper edge of each band in hertz.
    lags : tuple of float
        Seconds by which the powers precede the BOLD signal.
    step : float
        Seconds between two values of the powers.
    region_names, ch_names, sfreq
        As in `BEIRARegressor`.

    Attributes
    ----------
    coef_ : ndarray, shape (n_regions, n_lags, n_channels, n_bands)
        Weights of the standardised powers.
    alpha_ : float
        Penalty that was used.

    Examples
    --------
    >>> from skeeg.methods.beira import BandPowerRidge, simulate_bold
    >>> simulated = simulate_bold(2, duration=300, random_state=0)
    >>> ridge = BandPowerRidge().fit(simulated.eeg, simulated.bold)
    >>> ridge.coef_.shape, ridge.predict(simulated.eeg).shape
    ((2, 9, 30, 5), (1, 2, 30000))
    """

    def __init__(self, alpha="cv", bands=BANDS, lags=_LAGS, step=1.0, region_names=None, ch_names=None, sfreq=None):
        self.alpha = alpha
        super().__init__(bands, lags, step, region_names, ch_names, sfreq)

    def _fit_linear(self, features, targets):
        if self.alpha == "cv":
            self.alpha_ = choose_alpha(features, targets, round(GAP / self.step))
        else:
            self.alpha_ = float(self.alpha)
        coef = ridge_weights(features, targets, [self.alpha_])[0]
        self.coef_ = coef.T.reshape(targets.shape[1], *self.feature_shape_)


class BandPowerPLS(BandPowerRegressor):
    """Partial least squares regression of BOLD on lagged band powers; fewer components where data do not hold so many.

    Parameters
    ----------
    n_components : int
        Components.
    bands, lags, step, region_names, ch_names, sfreq
        As in `BandPowerRidge`, and so is the attribute ``coef_``.

    Examples
    --------
    >>> from skeeg.methods.beira import BandPowerPLS, simulate_bold
    >>> simulated = simulate_bold(duration=300, random_state=0)
    >>> BandPowerPLS(3).fit(simulated.eeg, simulated.bold).coef_.shape
    (1, 9, 30, 5)
    """

    def __init__(self, n_components=5, bands=BANDS, lags=_LAGS, step=1.0, region_names=None, ch_names=None, sfreq=None):
        self.n_components = n_components
        super().__init__(bands, lags, step, region_names, ch_names, sfreq)

    def _fit_linear(self, features, targets):
        if self.n_components < 1:
            raise ValueError(f"n_components: got {self.n_components}, expected at least 1.")
        used = min(self.n_components, len(features) - 1, np.linalg.matrix_rank(features) if len(features) < 50 else 50)
        pls = PLSRegression(max(used, 1), scale=False).fit(features, targets)
        self.coef_ = pls.coef_.reshape(targets.shape[1], *self.feature_shape_)


class RankOneRidge(BandPowerRegressor):
    r"""Ridge regression of BOLD on lagged band powers whose weights are one topography times one pattern of time.

    The weights of a region are :math:`u v^\top`, with u over electrodes and v over lags and bands. Each is found by a
    ridge regression with the other fixed, alternately.

    Parameters
    ----------
    alphas : tuple of (float, float)
        Penalty of u and of v.
    max_iter, tol
        Most alternations; they end when the cosine distance between the last two values of both vectors is less.
    random_state : int, RandomState or None
        Draws the first v.
    bands, lags, step, region_names, ch_names, sfreq
        As in `BandPowerRidge`.

    Attributes
    ----------
    spatial_ : ndarray, shape (n_regions, n_channels)
        Topographies u, unit norm.
    temporal_ : ndarray, shape (n_regions, n_lags, n_bands)
        Patterns v.
    coef_ : ndarray, shape (n_regions, n_lags, n_channels, n_bands)
        Their products, the weights of the standardised powers.
    n_iter_ : int
        Most alternations that a region took.

    Examples
    --------
    >>> from skeeg.methods.beira import RankOneRidge, simulate_bold
    >>> simulated = simulate_bold(duration=300, random_state=0)
    >>> RankOneRidge(random_state=0).fit(simulated.eeg, simulated.bold).spatial_.shape
    (1, 30)
    """

    def __init__(
        self,
        alphas=(0.1, 10.0),
        max_iter=50,
        tol=0.01,
        random_state=None,
        bands=BANDS,
        lags=_LAGS,
        step=1.0,
        region_names=None,
        ch_names=None,
        sfreq=None,
    ):
        self.alphas = alphas
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state
        super().__init__(bands, lags, step, region_names, ch_names, sfreq)

    def _fit_linear(self, features, targets):
        random = check_random_state(self.random_state)
        planes = self._planes(features)
        spatial, temporal, n_turns = zip(*(self._alternate(planes, one, random) for one in targets.T), strict=True)
        self.spatial_, self.n_iter_ = np.stack(spatial), max(n_turns)
        self.temporal_ = np.stack(temporal).reshape(-1, self.feature_shape_[0], self.feature_shape_[2])
        self.coef_ = np.einsum("rc,rlb->rlcb", self.spatial_, self.temporal_)

    def _planes(self, features):
        """Features (n_rows, n_channels, n_lags * n_bands)."""
        planes = np.moveaxis(features.reshape(-1, *self.feature_shape_), 2, 1)
        return planes.reshape(*planes.shape[:2], -1)

    def _alternate(self, planes, target, random):
        """Topography, pattern and number of iterations of one region."""
        spatial = np.zeros(planes.shape[1])
        temporal = random.normal(size=planes.shape[2]) * np.sqrt(2 / planes.shape[2])
        n_turns, moved = 0, True
        while moved and n_turns < self.max_iter:
            n_turns, before = n_turns + 1, (spatial, temporal)
            spatial = _ridge(planes @ temporal, target, self.alphas[0])
            spatial /= max(np.linalg.norm(spatial), 1e-12)
            temporal = _ridge(np.einsum("ncf,c->nf", planes, spatial), target, self.alphas[1])
            moved = any(_cosine_distance(*pair) >= self.tol for pair in zip(before, (spatial, temporal), strict=True))
        return spatial, temporal, n_turns


def _ridge(features, target, alpha):
    return Ridge(alpha, fit_intercept=False).fit(features, target).coef_


def _cosine_distance(a, b):
    return 1 - abs(a @ b) / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12)


def band_powers(X, sfreq, bands=BANDS, step=0.5, width=2.0):
    """Natural logarithm of the power in bands (n_trials, n_channels, n_bands, n_steps), and the samples of the steps.

    Each is of a Hann window of `width` seconds around a sample; beyond the ends the signal is mirrored. Bands above
    half the sampling rate are empty.
    """
    X = np.asarray(X, dtype=np.float64)
    n_times, n_window = X.shape[2], max(int(width * sfreq), 2)
    hop = max(round(step * sfreq), 1)
    samples = np.arange(0, n_times, hop)
    padded = np.pad(X.reshape(-1, n_times), ((0, 0), (n_window // 2, n_window)), mode="symmetric")
    window = np.hanning(n_window + 2)[1:-1]
    freqs = np.fft.rfftfreq(n_window, 1 / sfreq)
    masks = np.array([(freqs >= low) & (freqs < high) for low, high in bands], dtype=float)
    masks /= np.maximum(masks.sum(axis=1, keepdims=True), 1)
    segments = np.lib.stride_tricks.sliding_window_view(padded, n_window, axis=1)[:, :n_times:hop]
    # one channel of one trial at a time bounds the memory of the spectra
    powers = np.stack([masks @ (np.abs(np.fft.rfft(one * window, axis=1)) ** 2).T for one in segments])
    powers = powers.reshape(*X.shape[:2], *powers.shape[1:])
    return np.log(powers + 1e-12 * max(powers.mean(), 1e-12)), samples
