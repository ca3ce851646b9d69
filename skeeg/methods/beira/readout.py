"""A linear readout of the envelopes: the BOLD signal as a weighted sum of what the branches heard before."""

import dataclasses

import numpy as np

from ...regression import choose_alpha, lagged, ridge_weights

_LAGS = tuple(range(-6, 26))  # seconds by which an envelope precedes its target, which may have been advanced by six
_STEP = 1.0  # seconds
_GAP = 10.0  # seconds left out on either side of a block that the penalty is tried on
_OUTLYING = 0.02  # share of the values on either side that are held at the limit: artefacts are large


@dataclasses.dataclass(frozen=True)
class LaggedReadout:
    r"""Ridge regression of each region's BOLD on the envelopes of its branches at lags of whole seconds.

    .. math:: \hat y_r(t) = b_r + \sum_m \sum_l a_{rml}\, \tilde e_{rm}(t - l)

    with :math:`\tilde e` the mean of an envelope over a second, held between the quantiles of .02 and .98 that it had
    in training. The haemodynamic response is learnt with the weights.

    Attributes
    ----------
    step : int
        Samples of a second.
    limits : ndarray, shape (2, n_fronts, n_branches)
        Least and largest value of each envelope.
    weights : ndarray, shape (n_regions, n_lags, n_branches)
        Weights a.
    offsets : ndarray, shape (n_regions,)
        Constants b.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.methods.beira.readout import LaggedReadout
    >>> envelopes = np.random.default_rng(0).random((1, 1, 2, 4000)).repeat(10, axis=3)
    >>> readout = LaggedReadout.fit([envelopes], [envelopes[:, :, 0]], 10.0)
    >>> readout.weights.shape, readout.predict(envelopes).shape
    ((1, 32, 2), (1, 1, 40000))
    """

    step: int
    limits: np.ndarray
    weights: np.ndarray
    offsets: np.ndarray

    @classmethod
    def fit(cls, envelopes, targets, rate):
        """Fit the weights, with a penalty chosen over blocks of time for each region.

        Parameters
        ----------
        envelopes : iterable of ndarray, shape (n_trials, n_fronts, n_branches, n_times)
            Of each recording; one front end, or one for each region.
        targets : list of ndarray, shape (n_trials, n_regions, n_times)
            BOLD.
        rate : float
            Sampling rate of both in hertz.

        Returns
        -------
        readout : LaggedReadout
            Fitted.
        """
        step = max(round(_STEP * rate), 1)
        means = [step_means(one, step) for one in envelopes]
        if not all(np.isfinite(one).all() for one in means):
            raise ValueError(
                "learning_rate: the training diverged, which leaves nothing to read out; try a smaller one."
            )
        rows = np.concatenate([step_means(one, step).transpose(0, 2, 1).reshape(-1, one.shape[1]) for one in targets])
        every = np.concatenate([one.transpose(1, 2, 0, 3).reshape(*one.shape[1:3], -1) for one in means], axis=2)
        limits = np.quantile(every, (_OUTLYING, 1 - _OUTLYING), axis=2)
        means, fits = [np.clip(one, *limits[..., None]) for one in means], []
        for region, target in enumerate(rows.T):
            features = [_features(one[:, min(region, one.shape[1] - 1)]) for one in means]
            fits.append(_fit_region(np.concatenate([one.reshape(-1, *one.shape[2:]) for one in features]), target))
        weights = np.stack([weight for weight, _ in fits])
        return cls(step, limits, weights, np.array([offset for _, offset in fits]))

    def predict(self, envelopes):
        """Give the weighted sums, interpolated between seconds.

        Parameters
        ----------
        envelopes : ndarray, shape (n_trials, n_fronts, n_branches, n_times)
            Of one recording.

        Returns
        -------
        bold : ndarray, shape (n_trials, n_regions, n_times)
            Signals.
        """
        means = np.clip(step_means(envelopes, self.step), *self.limits[..., None])
        n_fronts, n_times = envelopes.shape[1], envelopes.shape[3]
        grid, middles = np.arange(n_times), _middles(n_times, self.step)
        bold = np.empty((len(means), len(self.weights), n_times))
        for region, (weights, offset) in enumerate(zip(self.weights, self.offsets, strict=True)):
            trials = _features(means[:, min(region, n_fronts - 1)])
            bold[:, region] = [np.interp(grid, middles, np.tensordot(one, weights, 2) + offset) for one in trials]
        return bold


def fit_readout(network, pairs, rate):
    """Fit a readout to what a trained network hears.

    Parameters
    ----------
    network : Prediction
        Trained network.
    pairs : list of (Tensor, Tensor)
        Standardised EEG (n_trials, n_channels, n_times) and BOLD (n_trials, n_regions, n_times) of each recording.
    rate : float
        Sampling rate in hertz.

    Returns
    -------
    readout : LaggedReadout
        Fitted.
    """
    envelopes = (network.envelopes(eeg) for eeg, _ in pairs)  # one at a time: they may be many times the recording
    return LaggedReadout.fit(envelopes, [target.double().numpy() for _, target in pairs], rate)


def step_means(signals, step):
    """Mean over steps of time; the last may be shorter.

    Parameters
    ----------
    signals : ndarray, shape (..., n_times)
        Signals.
    step : int
        Samples.

    Returns
    -------
    means : ndarray of float64, shape (..., n_steps)
        Means.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.methods.beira.readout import step_means
    >>> step_means(np.arange(5), 2).tolist()
    [0.5, 2.5, 4.0]
    """
    starts = np.arange(0, signals.shape[-1], step)
    return np.add.reduceat(signals, starts, axis=-1, dtype=np.float64) / np.diff(starts, append=signals.shape[-1])


def _features(means):
    """Envelopes (n_trials, n_branches, n_steps) with lags, (n_trials, n_steps, n_lags, n_branches)."""
    return np.moveaxis(lagged(means, [round(lag / _STEP) for lag in _LAGS]), -1, 1)


def _fit_region(features, target):
    """Weights (n_lags, n_branches) and constant of one region, of features (n_rows, n_lags, n_branches)."""
    shape, features = features.shape[1:], features.reshape(len(features), -1)
    mean, scale = features.mean(axis=0), features.std(axis=0)
    scale, level = np.where(scale > 0, scale, 1.0), target.mean()
    standard, centred = (features - mean) / scale, (target - level)[:, None]
    alpha = choose_alpha(standard, centred, round(_GAP / _STEP))
    weights = ridge_weights(standard, centred, [alpha])[0][:, 0] / scale
    return weights.reshape(shape), level - mean @ weights


def _middles(n_times, step):
    """Sample in the middle of each step."""
    starts = np.arange(0, n_times, step)
    return (starts + np.minimum(starts + step, n_times) - 1) / 2
