"""Imputers of missing samples and bad channels, and masks of missing samples."""

from numbers import Integral, Real

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft
from scipy.linalg import solve
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from ..base import FLOATS, EEGTransformer
from ..montage import find_electrodes, sphere_centre
from ..positions import standard_montage

LOSSES = ("electrodes", "seconds", "patches")


class Imputer(EEGTransformer):
    """Base of the imputers, which replace missing samples only.

    A subclass gives ``_fill(data, lost)``: estimates of shape (n_trials, n_channels, n_times), of which only those
    where `lost` is True are used. Missing samples are zero in `data`.
    """

    linear_map_ = "space"  # complete trials stay as they are

    def __sklearn_tags__(self):
        """Allow NaN."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def _check_eeg(self, X, y="no_validation", *, reset, dtype=FLOATS, **checks):
        """Check the input; NaN is allowed."""
        return super()._check_eeg(X, y, reset=reset, dtype=dtype, **({"ensure_all_finite": "allow-nan"} | checks))

    def transform(self, X, mask=None):
        """Replace missing samples; observed ones are unchanged.

        Parameters
        ----------
        X : anything `as_eeg` accepts, shape (n_trials, n_channels, n_times)
            Trials; NaN for missing samples.
        mask : array-like of bool, shape (n_trials, n_channels, n_times), or None
            True for missing samples, beside NaN; values under the mask are ignored.
        """
        check_is_fitted(self)
        X = self._check_eeg(X, reset=False)
        lost = find_lost(X, mask)
        data = np.where(lost, 0, np.asarray(X)).astype(X.dtype, copy=False)
        if lost.any():
            data[lost] = self._fill(data, lost)[lost]
        return X.like(data)


class SplineInterpolation(Imputer):
    r"""Interpolate channels from their neighbours at the same time, by spherical splines.

    Equal to mne's ``interpolate_bads`` where whole channels are missing; here missing channels may change over time.

    Parameters
    ----------
    reg : float
        Regularisation of the splines; mne's ``interpolate_bads`` has 1e-5.
    ch_names : tuple of str or None
        Electrodes of X, for trials that do not carry their names.

    Attributes
    ----------
    stiffness_ : ndarray, shape (n_channels, n_channels)
        Spline kernel between all pairs of electrodes.

    Notes
    -----
    With the observed channels :math:`v` and the missing ones :math:`l` at one time,
    :math:`x_l = [G_{lv}\; 1] \, C^{+} [x_v; 0]`, :math:`C = [[G_{vv} + \lambda I, 1], [1^T, 0]]`,
    :math:`G_{ij} = \sum_{n=1}^{50} \frac{2n+1}{4\pi n^4(n+1)^4} P_n(\cos\theta_{ij})` [1]_. Electrodes have the
    positions of the 10-5 system, on a sphere fitted by mne. Where no channel is observed, the estimate is zero.

    References
    ----------
    .. [1] Perrin et al. (1989), Spherical splines for scalp potential and current density mapping, EEG Clin. Neurophys.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.restoration import SplineInterpolation
    >>> X = np.ones((1, 4, 5))
    >>> X[0, 1] = np.nan
    >>> SplineInterpolation(ch_names=("Fz", "Cz", "Pz", "C3")).fit_transform(X)[0, 1].round(6).tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0]
    """

    _parameter_constraints = {"reg": [Interval(Real, 0, None, closed="left")]}

    def __init__(self, reg=1e-5, ch_names=None):
        self.reg = reg
        self.ch_names = ch_names

    def _prepare(self, X, y):
        names = X.ch_names
        if names is None and X.shape[1] > 1:
            raise ValueError("ch_names: X carries no channel names; pass SplineInterpolation(ch_names=...).")
        self.stiffness_ = np.ones((1, 1)) if names is None else _spline_kernel(names)

    def _fill(self, data, lost):
        def weights(gone):
            kernel = self.stiffness_[np.ix_(~gone, ~gone)] + self.reg * np.eye((~gone).sum())
            system = np.block([[kernel, np.ones((len(kernel), 1))], [np.ones((1, len(kernel))), np.zeros((1, 1))]])
            ends = np.column_stack([self.stiffness_[np.ix_(gone, ~gone)], np.ones(gone.sum())])
            return (ends @ np.linalg.pinv(system))[:, :-1]

        return _fill_moments(data, lost, weights)


class TimeInterpolation(Imputer):
    """Interpolate each channel over time, linearly between the last sample before a gap and the first after it.

    Before the first and after the last observed sample of a trial their values are kept. A channel that is missing for
    a whole trial becomes zero.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.restoration import TimeInterpolation
    >>> TimeInterpolation().fit_transform(np.array([[[0.0, np.nan, np.nan, 3.0]]])).tolist()
    [[[0.0, 1.0, 2.0, 3.0]]]
    """

    def _fill(self, data, lost):
        filled, times = np.zeros_like(data), np.arange(data.shape[2])
        for trial, channel in zip(*np.nonzero(lost.any(axis=2) & ~lost.all(axis=2)), strict=True):
            kept = ~lost[trial, channel]
            filled[trial, channel] = np.interp(times, times[kept], data[trial, channel, kept])
        return filled


class LowRankCompletion(Imputer):
    r"""Predict missing channels from observed ones by probabilistic PCA, learned at fit.

    Parameters
    ----------
    n_components : int or float
        Number of principal components; a float below 1 takes as many as explain this share of the variance.
    max_iter : int
        Iterations of completion and decomposition, where the trials of the fit have gaps themselves.
    tol : float
        Stop when an iteration changes the completed values by less than this share of their standard deviation.

    Attributes
    ----------
    mean_, components_, explained_variance_ : ndarray
        Shapes (n_channels,), (n_components, n_channels), (n_components,).
    noise_variance_ : float
        Mean variance of the components that are left out.

    Notes
    -----
    With the loadings :math:`V`, variances :math:`\lambda` and noise :math:`\sigma^2` of probabilistic PCA [1]_, missing
    channels get their expectation given those observed at the same time,
    :math:`x_l = \mu_l + V_l (V_v^T V_v + \sigma^2 (\Lambda - \sigma^2 I)^{-1})^{+} V_v^T (x_v - \mu_v)`. Without noise
    this is exact wherever the observed channels determine the components. Where nothing is observed, it is the mean.

    References
    ----------
    .. [1] Tipping & Bishop (1999), Probabilistic principal component analysis, J. R. Stat. Soc. B 61.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.restoration import LowRankCompletion
    >>> source = np.random.default_rng(0).standard_normal(50)
    >>> X = np.stack([source, 2 * source, -source])[None]
    >>> step, gap = LowRankCompletion(n_components=1).fit(X), X.copy()
    >>> gap[0, 1, 20:30] = np.nan
    >>> np.allclose(step.transform(gap), X)
    True
    """

    _parameter_constraints = {
        "n_components": [Interval(Integral, 1, None, closed="left"), Interval(Real, 0, 1, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(self, n_components=0.95, max_iter=50, tol=1e-6):
        self.n_components = n_components
        self.max_iter = max_iter
        self.tol = tol

    def _prepare(self, X, y):
        data = np.asarray(X, dtype=np.float64)
        lost = np.isnan(data)
        empty = lost.all(axis=(0, 2))
        if empty.any():
            names = [X.ch_names[i] if X.ch_names else str(i) for i in np.flatnonzero(empty)]
            raise ValueError(f"X: electrode {', '.join(names)} is lost in all trials of fit, expected samples of it.")
        data = np.where(lost, np.nanmean(data, axis=(0, 2), keepdims=True), data)
        spread = max(float(data.std()), np.finfo(float).tiny)
        for n_iter in range(1, self.max_iter + 1):
            self.n_iter_ = n_iter
            self._decompose(data)
            if not lost.any():
                break
            completed = self._complete(data, lost)[lost]
            change = np.sqrt(np.mean((completed - data[lost]) ** 2)) / spread
            data[lost] = completed
            if change < self.tol:
                break

    def _decompose(self, data):
        """Components and noise of complete trials."""
        n_channels = data.shape[1]
        self.mean_ = data.mean(axis=(0, 2))
        centred = data - self.mean_[:, None]
        values, vectors = np.linalg.eigh(np.einsum("nct,ndt->cd", centred, centred) / (data.size / n_channels))
        values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
        number = self.n_components
        if number > n_channels:
            raise ValueError(f"n_components: got {number}, expected 1 to {n_channels}, the number of channels.")
        if number < 1:
            share = np.cumsum(values) / max(values.sum(), np.finfo(float).tiny)
            number = min(int(np.searchsorted(share, number)) + 1, n_channels)
        rest = values[number:]
        self.noise_variance_ = float(rest.mean()) if len(rest) and rest.mean() > 1e-12 * values[0] else 0.0
        kept = values[:number] > self.noise_variance_
        self.components_ = vectors[:, :number].T[kept]
        self.explained_variance_ = values[:number][kept]

    def _fill(self, data, lost):
        return self._complete(data, lost)

    def _complete(self, data, lost):
        """Estimate missing channels from those observed at the same time."""
        V, noise = self.components_.T, self.noise_variance_
        prior = np.diag(noise / (self.explained_variance_ - noise))

        def weights(gone):
            return V[gone] @ np.linalg.pinv(V[~gone].T @ V[~gone] + prior, hermitian=True) @ V[~gone].T

        return _fill_moments(data - self.mean_[:, None], lost, weights) + self.mean_[:, None]


class WienerInterpolation(LowRankCompletion):
    r"""Restore gaps in all channels from the samples before and after them, by Wiener interpolation of sources.

    The sources are the principal components, unmixed by `pyriemann.spatialfilters.AJDC` [1]_ so that their cospectra
    vanish as far as possible; each is predicted as a stationary process. Where some channels are observed, it is
    `LowRankCompletion`.

    Parameters
    ----------
    n_components, max_iter, tol
        As in `LowRankCompletion`.
    context : int
        Samples before and after a gap that are used, and longest lag of the autocovariance.
    noise : float
        Variance of white noise relative to that of a source, which regularises the solution.

    Attributes
    ----------
    filters_, patterns_ : ndarray, shape (n_sources, n_channels) and (n_channels, n_sources)
        From channels to sources, and back.
    autocovariance_ : ndarray, shape (n_sources, n_lags)
        Autocovariance of the sources, of trials scaled to equal power; longer lags count as zero.

    Notes
    -----
    With the Toeplitz matrix :math:`R` of the autocovariance, observed samples :math:`z_v` and missing ones :math:`z_l`
    of a source, :math:`\hat z_l = R_{lv} (R_{vv} + \epsilon r_0 I)^{-1} z_v`, the best linear estimate. It fades with
    the distance from the ends of the gap. Learn it on the recording to be restored: spectra differ among subjects.

    References
    ----------
    .. [1] Congedo, Gouy-Pailler and Jutten, On the blind source separation of human electroencephalogram by approximate
       joint diagonalization of second order statistics, Clinical Neurophysiology 119, 2008.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.restoration import WienerInterpolation
    >>> time, phases = np.arange(200) / 100, np.arange(6)[:, None, None]
    >>> X = np.sin(2 * np.pi * np.array([[10.0], [7.0]]) * time + phases)  # two rhythms
    >>> step, gap = WienerInterpolation(noise=1e-6).fit(X), X.copy()
    >>> gap[0, :, 90:110] = np.nan
    >>> bool(np.abs(step.transform(gap) - X).max() < 0.1)
    True
    """

    _parameter_constraints = {
        "context": [Interval(Integral, 1, None, closed="left")],
        "noise": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(self, n_components=0.999, context=400, noise=0.01, max_iter=50, tol=1e-6):
        super().__init__(n_components, max_iter, tol)
        self.context = context
        self.noise = noise

    def _prepare(self, X, y):
        super()._prepare(X, y)
        data = np.asarray(X, dtype=np.float64)
        seen = ~np.isnan(data).any(axis=1, keepdims=True)
        data = np.where(seen, data - self.mean_[:, None], 0)
        power = np.square(data).sum(axis=(1, 2), keepdims=True) / np.maximum(seen.sum(axis=2, keepdims=True), 1)
        data = data / np.sqrt(np.where(power > 0, power, 1))
        spread = np.sqrt(np.square(np.einsum("kc,nct->nkt", self.components_, data)).mean(axis=(0, 2)))[:, None]
        whiten = self.components_ / np.where(spread > 0, spread, 1)
        unmix = _unmix(np.einsum("kc,nct->nkt", whiten, data), X.sfreq or 100.0)
        self.filters_, self.patterns_ = unmix @ whiten, (self.components_.T * spread.T) @ np.linalg.inv(unmix)
        self.autocovariance_ = _autocovariance(np.einsum("kc,nct->nkt", self.filters_, data), self.context)

    def _fill(self, data, lost):
        filled, gaps = self._complete(data, lost), lost.all(axis=1)
        return self._fill_gaps(np.where(lost, filled, data), gaps) if gaps.any() else filled

    def _fill_gaps(self, data, gaps):
        """Predict all channels of trials (n_trials, n_channels, n_times) at times ``gaps`` (n_trials, n_times)."""
        filled = data.copy()
        for gap in np.unique(gaps[gaps.any(axis=1) & ~gaps.all(axis=1)], axis=0):
            rows, times = np.flatnonzero((gaps == gap).all(axis=1)), np.flatnonzero(gap)
            sources = np.einsum("kc,nct->nkt", self.filters_, data[rows] - self.mean_[:, None])
            for missing in np.split(times, np.flatnonzero(np.diff(times) > 1) + 1):
                found = self.patterns_ @ self._predict(sources, missing, ~gap) + self.mean_[:, None]
                filled[np.ix_(rows, np.arange(data.shape[1]), missing)] = found
        return filled

    def _predict(self, sources, missing, seen):
        """Predict the samples of a gap, (n_trials, n_sources, n_missing), from those of its context."""
        first, last = missing[0] - self.context, missing[-1] + self.context
        known = np.flatnonzero(seen)
        known = known[(known >= first) & (known <= last)]
        lags = np.abs(known[:, None] - np.r_[known, missing])
        found = np.empty((*sources.shape[:2], len(missing)))
        for k, r in enumerate(self.autocovariance_):
            R = np.append(r, 0)[np.minimum(lags, len(r))]
            R[np.diag_indices(len(known))] += self.noise * r[0] + np.finfo(float).tiny
            found[:, k] = sources[:, k, known] @ solve(R[:, : len(known)], R[:, len(known) :], assume_a="pos")
        return found


def _unmix(Z, sfreq):
    """Matrix that unmixes whitened trials (n_trials, n_components, n_times) by their cospectra at 1 to 30 Hz."""
    from pyriemann.spatialfilters import AJDC

    window = min(int(sfreq), Z.shape[2])
    if Z.shape[1] < 2 or window < 16:
        return np.eye(Z.shape[1])
    band = {"fmin": sfreq / window, "fmax": min(30.0, 0.4 * sfreq), "fs": sfreq}
    model = AJDC(window=window, **band, dim_red={"n_components": Z.shape[1]}, verbose=False)
    return model.fit([[np.concatenate(Z, axis=1)]]).forward_filters_


def _autocovariance(Z, n_lags):
    """Biased autocovariance (n_sources, n_lags) of trials with zeros in gaps, times a triangle: never indefinite."""
    n_lags, size = min(n_lags, Z.shape[2]), next_fast_len(2 * Z.shape[2], real=True)
    products = irfft(np.square(np.abs(rfft(Z, size))).sum(axis=0), size)[:, :n_lags]
    return products / max(Z.shape[0] * Z.shape[2], 1) * (1 - np.arange(n_lags) / n_lags)


def _spline_kernel(ch_names):
    """Perrin's kernel between all pairs of electrodes, as mne computes it."""
    import mne

    system = standard_montage()
    found = [system.ch_names[i] for i in find_electrodes(ch_names, system.ch_names)]
    places = [tuple(system.get_positions()["ch_pos"][name]) for name in found]
    if len(set(places)) < len(places):
        raise ValueError(f"ch_names: the same electrode under more than one name among {', '.join(ch_names)}.")
    with mne.use_log_level("error"):
        info = mne.create_info(found, 1.0, "eeg").set_montage(system)
        points = np.array([channel["loc"][:3] for channel in info["chs"]]) - sphere_centre(info, system)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    n = np.arange(1, 51)
    factors = np.r_[0, (2 * n + 1) / (4 * np.pi * (n * (n + 1.0)) ** 4)]
    return np.polynomial.legendre.legval(points @ points.T, factors)


def draw_mask(shape, sfreq, loss="patches", share=0.3, seconds=1.0, random_state=None):
    """Draw a random mask of missing samples, True in as many places of every trial, of the shape of the trials.

    Parameters
    ----------
    shape, sfreq
        Shape of the trials (n_trials, n_channels, n_times), and rate in hertz.
    loss : "electrodes" | "seconds" | "patches"
        Whole channels; segments of all channels; or segments of single channels.
    share : float
        Fraction of missing samples, between 0 and 1; at least one unit is missing and at least one is observed.
    seconds, random_state
        Length of a segment, with the remainder in the last one; and seed of the draw.

    Examples
    --------
    >>> from skeeg.restoration import draw_mask
    >>> mask = draw_mask((3, 8, 800), sfreq=200, loss="electrodes", share=0.25, random_state=0)
    >>> mask.mean(), mask.all(axis=2).sum(axis=1).tolist()
    (np.float64(0.25), [2, 2, 2])
    """
    n_trials, n_channels, n_times = shape
    if loss not in LOSSES:
        raise ValueError(f"loss: got {loss!r}, expected one of {', '.join(LOSSES)}.")
    if not 0 < share < 1:
        raise ValueError(f"share: got {share}, expected a fraction between 0 and 1.")
    length = max(int(round(seconds * sfreq)), 1)
    n_segments = max(n_times // length, 1)
    grid = {"electrodes": (n_channels, 1), "seconds": (1, n_segments), "patches": (n_channels, n_segments)}[loss]
    n_units = grid[0] * grid[1]
    if n_units < 2:
        raise ValueError(f"loss: trials of shape {tuple(shape)} have a single unit of loss={loss!r}, not two or more.")
    n_lost = int(np.clip(round(share * n_units), 1, n_units - 1))
    rng = check_random_state(random_state)
    lost = np.array([rng.permutation(n_units) < n_lost for _ in range(n_trials)])
    units = np.broadcast_to(lost.reshape(n_trials, *grid), (n_trials, n_channels, n_segments))
    return units[:, :, np.minimum(np.arange(n_times) // length, n_segments - 1)]


def find_lost(X, mask=None):
    """Mask of the missing samples: NaN, or True in a mask. All have the shape (n_trials, n_channels, n_times).

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.restoration import find_lost
    >>> find_lost(np.array([[[1.0, np.nan, 3.0]]]), mask=[[[False, False, True]]]).tolist()
    [[[False, True, True]]]
    """
    data = np.asarray(X)
    lost = np.isnan(data)
    if mask is None:
        return lost
    mask = np.asarray(mask)
    if mask.dtype != bool:
        raise TypeError(f"mask: expected booleans, True for missing samples, got {mask.dtype}.")
    if mask.shape != data.shape:
        raise ValueError(f"mask: got shape {mask.shape}, expected {data.shape}, that of the trials.")
    return lost | mask


def _fill_moments(data, lost, weights):
    """Estimate missing channels by weighted sums of those observed at the same time; zeros elsewhere.

    ``weights(gone)`` is the matrix (n_missing, n_observed) for a pattern of missing channels, shape (n_channels,).
    """
    filled = np.zeros_like(data)
    trials, times = np.nonzero(lost.any(axis=1) & ~lost.all(axis=1))
    if not len(trials):
        return filled
    patterns = lost[trials, :, times]
    _, first, which = np.unique(np.packbits(patterns, axis=1), axis=0, return_index=True, return_inverse=True)
    order = np.argsort(which.ravel(), kind="stable")
    ends = np.cumsum(np.bincount(which.ravel()))
    for row, moments in zip(first, np.split(order, ends[:-1]), strict=True):
        gone = patterns[row]
        at = trials[moments][:, None], np.flatnonzero(gone), times[moments][:, None]
        seen = data[trials[moments][:, None], np.flatnonzero(~gone), times[moments][:, None]]
        filled[at] = seen @ weights(gone).T.astype(data.dtype)
    return filled
