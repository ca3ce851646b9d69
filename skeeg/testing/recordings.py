"""What estimators are checked on: small instances of the public ones, simulated recordings, comparison of outputs."""

import dataclasses

import numpy as np
from sklearn.base import clone
from sklearn.utils import check_random_state, get_tags

from ..array import EEGArray
from ..base import EEGEstimator, params_named

METHODS = ("predict", "predict_proba", "decision_function", "transform")
SPARE_NAMES = ("C3", "Cz", "C4", "Pz", "Fz", "CP1", "CP2", "FC1", "FC2", "P3", "P4", "F3", "F4")


@dataclasses.dataclass(frozen=True)
class Recording:
    """Description of the simulated recordings that an estimator is checked on.

    Parameters
    ----------
    ch_names, sfreq, n_times, n_trials
        Electrodes, sampling rate in hertz, samples a trial, and trials of a recording.

    Examples
    --------
    >>> from skeeg.testing import Recording
    >>> Recording(n_times=64).eeg().shape
    (24, 4, 64)
    """

    ch_names: tuple = SPARE_NAMES[:4]
    sfreq: float = 128.0
    n_times: int = 128
    n_trials: int = 24

    @classmethod
    def suited_to(cls, estimator):
        """Take the channels and the rate that the parameters of the estimator, or of a step of it, require."""
        names, rates = (params_named(estimator, part).values() for part in ("ch_names", "sfreq"))
        names = [tuple(one) for one in names if one is not None and len(one) > 2]  # fewer leave nothing to take away
        rates = [float(one) for one in rates if one is not None]
        return cls(next(iter(names), cls.ch_names), next(iter(rates), cls.sfreq))

    def other(self):
        """Make a recording of another montage and another length, at the same rate."""
        names = [*(name for name in SPARE_NAMES if name not in self.ch_names), *self.ch_names]
        return dataclasses.replace(self, ch_names=tuple(names[: len(self.ch_names) + 2]), n_times=self.n_times + 32)

    def indices(self, n_classes=2):
        """Class index of each trial."""
        return np.arange(self.n_trials) % n_classes

    def eeg(self, n_classes=2, seed=0):
        """Noise with a rhythm and an offset on another electrode for each class, an `EEGArray`.

        The values are exact in float32, so that a network sees the same numbers in every form of the data.
        """
        rng = check_random_state(seed)
        X = 10 * rng.standard_normal((self.n_trials, len(self.ch_names), self.n_times))
        time = np.arange(self.n_times) / self.sfreq
        for trial, label in enumerate(self.indices(n_classes)):
            rhythm = np.sin(2 * np.pi * (10 * time + rng.random_sample()))
            X[trial, label % len(self.ch_names)] += 30 * rhythm + 10 * label + 5
        return EEGArray(X.astype(np.float32).astype(np.float64), self.ch_names, self.sfreq)

    def epochs(self, X):
        """Make `mne.Epochs`, in volts, of trials in microvolts."""
        return EEGArray(X, self.ch_names, self.sfreq).to_epochs()


def kind_of(estimator):
    """Kind of an estimator: ``"classifier"``, ``"regressor"`` or ``"transformer"``."""
    kind = get_tags(estimator).estimator_type
    return kind if kind in ("classifier", "regressor") else "transformer"


def has(estimator, *names):
    """Whether an estimator, of whatever library, has these methods or attributes."""
    return all(hasattr(estimator, name) for name in names)


def methods_of(estimator):
    """Methods of an estimator that give something for trials, by name."""
    return {name: getattr(estimator, name) for name in METHODS if has(estimator, name)}


def takes_any_montage(estimator):
    """Whether trials of another montage than at fit are accepted."""
    return isinstance(estimator, EEGEstimator) and estimator._any_montage


def reads_eeg_array(estimator):
    """Whether the estimator, or a part of it, reads the names, rate and domains of an EEGArray."""
    return any(isinstance(part, EEGEstimator) for part in [estimator, *estimator.get_params().values()])


def fresh(estimator):
    """Copy of an estimator, not fitted, with every seed fixed."""
    return clone(estimator).set_params(**dict.fromkeys(params_named(estimator, "random_state"), 0))


def configured_for(estimator, recording):
    """Copy of an estimator with the names and the rate of the recording as parameters, for plain trials."""
    names = dict.fromkeys(params_named(estimator, "ch_names"), recording.ch_names)
    rates = dict.fromkeys(params_named(estimator, "sfreq"), recording.sfreq)
    return fresh(estimator).set_params(**names, **rates)


def data_for(estimator, recording, n_classes=2, seed=0):
    """Trials and targets as this estimator takes them.

    Gives ``X`` (n_trials, n_channels, n_times), ``y`` (n_trials,).
    """
    X = recording.eeg(n_classes, seed)
    X = X if reads_eeg_array(estimator) else np.asarray(X)
    y = recording.indices(n_classes)
    if kind_of(estimator) == "regressor":
        y = np.asarray(X).mean(axis=(1, 2)) + y
    return X, y


def outputs(estimator, X):
    """Results of every method that gives something for trials."""
    return {name: np.asarray(method(X)) for name, method in methods_of(estimator).items()}


def fitted_on(estimator, recording):
    """Trials and targets, a fitted copy of an estimator, and its results."""
    X, y = data_for(estimator, recording)
    fitted = fresh(estimator).fit(X, y)
    return X, y, fitted, outputs(fitted, X)


def assert_same_outputs(actual, wanted, what, rtol=None):
    """Compare two results of `outputs`: to the bit, or relative to the largest value."""
    for name, expected in wanted.items():
        if rtol is None or expected.dtype.kind not in "fc":
            np.testing.assert_array_equal(actual[name], expected, err_msg=f"{name}: {what}")
        else:
            atol = rtol * np.abs(expected).max(initial=0)
            np.testing.assert_allclose(actual[name], expected, rtol=0, atol=atol, err_msg=f"{name}: {what}")
