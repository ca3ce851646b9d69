"""How well MEG is predicted: by sensor, by type, by band, and as a map."""

import numpy as np
from sklearn.utils.validation import check_is_fitted

BANDS = (("delta", 1.0, 4.0), ("theta", 4.0, 8.0), ("alpha", 8.0, 13.0), ("beta", 13.0, 30.0), ("gamma", 30.0, 45.0))


def sensor_correlations(truth, prediction):
    """Pearson correlation of each sensor, all trials end to end.

    Parameters
    ----------
    truth, prediction : ndarray, shape (n_trials, n_sensors, n_times)
        Signals.

    Returns
    -------
    r : ndarray, shape (n_sensors,)
        0 where one of the two never changes.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.methods.eeg2meg import sensor_correlations
    >>> x = np.random.default_rng(0).normal(size=(2, 3, 40))
    >>> sensor_correlations(x, -x).round(3).tolist()
    [-1.0, -1.0, -1.0]
    """
    a, b = (_end_to_end(one) for one in (truth, prediction))
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.divide((a * b).sum(axis=1), norm, out=np.zeros(len(a)), where=norm > 0)


def sensor_r2(truth, prediction):
    """Share of each sensor's variance that is explained, all trials end to end.

    Parameters
    ----------
    truth, prediction : ndarray, shape (n_trials, n_sensors, n_times)
        Signals.

    Returns
    -------
    r2 : ndarray, shape (n_sensors,)
        1 at best; 0 for the mean; 0 where the truth never changes.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.methods.eeg2meg import sensor_r2
    >>> x = np.random.default_rng(0).normal(size=(2, 3, 40))
    >>> sensor_r2(x, x).tolist()
    [1.0, 1.0, 1.0]
    """
    a, b = (_end_to_end(one) for one in (truth, prediction))
    total = np.square(a - a.mean(axis=1, keepdims=True)).sum(axis=1)
    error = np.square(a - b).sum(axis=1)
    return 1 - np.divide(error, total, out=np.ones(len(a)), where=total > 0)


def topography_correlation(truth, prediction):
    """Correlation over sensors of the true and the predicted evoked field, averaged over time.

    Parameters
    ----------
    truth, prediction : ndarray, shape (n_trials, n_sensors, n_times)
        Signals of sensors of one type; trials are averaged first.

    Returns
    -------
    r : float
        Samples count by the variance of the true field over sensors.

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
    """Scores of an estimator whose ``predict`` gives MEG."""

    def score(self, X, y, geometry=None):
        """Mean Pearson correlation over sensors.

        Parameters
        ----------
        X, y
            EEG and MEG as at fit.
        geometry : mne.Info, sequence of them, or None
            As in `predict`.

        Returns
        -------
        r : float
            Mean of `score_per_sensor`.
        """
        return float(self.score_per_sensor(X, y, geometry=geometry).mean())

    def score_per_sensor(self, X, y, metric="r", geometry=None):
        """Pearson correlation, or explained variance, of each sensor.

        Parameters
        ----------
        X, y
            EEG and MEG as at fit.
        metric : {"r", "r2"}
            Which.
        geometry : mne.Info, sequence of them, or None
            As in `predict`.

        Returns
        -------
        values : ndarray, shape (n_sensors,)
            For ``model="wavelet_unet"``, of each band and sensor.
        """
        if metric not in ("r", "r2"):
            raise ValueError(f"metric: got {metric!r}, expected 'r' or 'r2'.")
        return (sensor_correlations if metric == "r" else sensor_r2)(*self._compared(X, y, geometry))

    def score_per_type(self, X, y, metric="r", geometry=None):
        """Mean of `score_per_sensor` over the sensors of each type.

        Parameters
        ----------
        X, y, metric, geometry
            As in `score_per_sensor`.

        Returns
        -------
        values : dict of str to float
            ``"mag"`` and ``"grad"``, or ``"meg"`` where types are not known.
        """
        values = self.score_per_sensor(X, y, metric, geometry)
        types = np.resize(np.array(self.meg_types_), len(values))
        return {kind: float(values[types == kind].mean()) for kind in dict.fromkeys(self.meg_types_)}

    def score_per_band(self, X, y, bands=BANDS, geometry=None):
        """Mean Pearson correlation over sensors of signals filtered to each band.

        Parameters
        ----------
        X, y, geometry
            As in `score_per_sensor`.
        bands : tuple of (str, float, float)
            Names and edges in hertz; those above half the sampling rate are left out.

        Returns
        -------
        values : dict of str to float
            By name.
        """
        from ...filtering import BandPass

        truth, prediction = self._compared(X, y, geometry)
        if self.sfreq_in_ is None:
            raise ValueError("sfreq: bands need the sampling rate; give it to the estimator or to X.")
        values = {}
        for name, low, high in bands:
            if high < self.sfreq_in_ / 2:
                band = BandPass(low, high, method="iir", sfreq=self.sfreq_in_)
                parts = (np.asarray(band.fit_transform(one / (one.std() or 1.0))) for one in (truth, prediction))
                values[name] = float(sensor_correlations(*parts).mean())
        return values

    def score_topography(self, X, y, geometry=None):
        """Correlation over the sensors of each type of the true and the predicted evoked field.

        Parameters
        ----------
        X, y, geometry
            As in `score_per_sensor`; trials are averaged.

        Returns
        -------
        values : dict of str to float
            By type.
        """
        truth, prediction = self._compared(X, y, geometry)
        types = np.resize(np.array(self.meg_types_), truth.shape[1])
        kinds = dict.fromkeys(self.meg_types_)
        return {k: topography_correlation(truth[:, types == k], prediction[:, types == k]) for k in kinds}

    def _compared(self, X, y, geometry):
        """Truth and prediction, both (n_trials, n_sensors, n_times)."""
        check_is_fitted(self)
        prediction = np.asarray(self.predict(X, geometry=geometry))
        truth = np.asarray(self.targets(y), dtype=np.float64)
        if truth.shape != prediction.shape:
            raise ValueError(f"y: got shape {truth.shape}, expected {prediction.shape}.")
        shape = (len(truth), -1, 1) if truth.ndim < 3 else truth.shape
        return truth.reshape(shape), prediction.reshape(shape)


def _end_to_end(signals):
    signals = np.asarray(signals, dtype=np.float64)
    return signals.transpose(1, 0, 2).reshape(signals.shape[1], -1)
