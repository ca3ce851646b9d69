"""Scores of predicted MEG: by sensor, type, band and topography."""

import numpy as np
from sklearn.metrics import r2_score
from sklearn.utils.validation import check_is_fitted

from ...filtering import BandPass
from ...model_selection import channel_correlations
from ...signals import BANDS


def topography_correlation(truth, prediction):
    """Correlation over sensors of the true and the predicted evoked field, averaged over time.

    Trials are averaged first; samples count by the variance of the true field over sensors. Shapes: ``truth`` and
    ``prediction`` (n_trials, n_sensors, n_times), of sensors of one type.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.methods.eeg2meg import topography_correlation
    >>> x = np.random.default_rng(0).normal(size=(2, 9, 40))
    >>> round(topography_correlation(x, 2 * x), 3)
    1.0
    """
    a, b = (np.asarray(one, dtype=np.float64).mean(axis=0) for one in (truth, prediction))
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    power, norm = np.square(a).sum(axis=0), np.linalg.norm(a, axis=0) * np.linalg.norm(b, axis=0)
    r = np.divide((a * b).sum(axis=0), norm, out=np.zeros(a.shape[1]), where=norm > 0)
    return float(np.sum(r * power) / power.sum()) if power.sum() > 0 else 0.0


class SensorScores:
    """Mixin of an estimator that predicts MEG: its scores.

    X and y are EEG and MEG as at fit, ``geometry`` is that of `predict`. Scores by type, of ``"mag"`` and ``"grad"``,
    or ``"meg"`` where types are unknown, or by band are dicts.
    """

    def score(self, X, y, geometry=None):
        """Mean Pearson correlation over sensors."""
        return float(self.score_per_sensor(X, y, geometry=geometry).mean())

    def score_per_sensor(self, X, y, metric="r", geometry=None):
        """Pearson correlation (``metric="r"``) or explained variance (``"r2"``) of each sensor, (n_sensors,).

        For ``model="wavelet_unet"`` of each band and sensor.
        """
        if metric not in ("r", "r2"):
            raise ValueError(f"metric: got {metric!r}, expected 'r' or 'r2'.")
        truth, prediction = self._compared(X, y, geometry)
        if metric == "r":
            return channel_correlations(truth, prediction)
        rows = (one.transpose(0, 2, 1).reshape(-1, one.shape[1]) for one in (truth, prediction))
        return r2_score(*rows, multioutput="raw_values")

    def score_per_type(self, X, y, metric="r", geometry=None):
        """Mean of `score_per_sensor` over the sensors of each type."""
        values = self.score_per_sensor(X, y, metric, geometry)
        return {kind: float(values[own].mean()) for kind, own in self._of_types(len(values)).items()}

    def score_per_band(self, X, y, geometry=None):
        """Mean Pearson correlation over sensors of signals filtered to each band, ``"delta"`` to ``"gamma"``.

        Bands above half the sampling rate are left out.
        """
        truth, prediction = self._compared(X, y, geometry)
        if self.sfreq_in_ is None:
            raise ValueError("sfreq: bands need the sampling rate; give it to the estimator or to X.")
        values = {}
        for name, (low, high) in zip(("delta", "theta", "alpha", "beta", "gamma"), BANDS, strict=True):
            if high < self.sfreq_in_ / 2:
                band = BandPass(low, high, method="iir", sfreq=self.sfreq_in_)
                parts = (np.asarray(band.fit_transform(one / (one.std() or 1.0))) for one in (truth, prediction))
                values[name] = float(channel_correlations(*parts).mean())
        return values

    def score_topography(self, X, y, geometry=None):
        """Correlation over the sensors of each type of the true and the predicted evoked field, trials averaged."""
        truth, prediction = self._compared(X, y, geometry)
        kinds = self._of_types(truth.shape[1])
        return {kind: topography_correlation(truth[:, own], prediction[:, own]) for kind, own in kinds.items()}

    def _of_types(self, n):
        """Mask of the outputs of each sensor type."""
        types = np.resize(np.array(self.meg_types_), n)
        return {kind: types == kind for kind in dict.fromkeys(self.meg_types_)}

    def _compared(self, X, y, geometry):
        """Truth and prediction, both (n_trials, n_sensors, n_times)."""
        check_is_fitted(self)
        prediction = np.asarray(self.predict(X, geometry=geometry))
        truth = np.asarray(self.targets(y), dtype=np.float64)
        if truth.shape != prediction.shape:
            raise ValueError(f"y: got shape {truth.shape}, expected {prediction.shape}.")
        shape = (len(truth), -1, 1) if truth.ndim < 3 else truth.shape
        return truth.reshape(shape), prediction.reshape(shape)
