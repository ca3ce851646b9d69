"""Simulated EEG and MEG of dipoles in a spherical head, with the coils of a Neuromag system."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ...array import EEGArray, make_domains
from ...datasets.simulation.head import RADIUS, dipole_gains, electrode_directions, electrode_info, random_directions
from ...datasets.simulation.signals import coloured, one_over_f
from .sensors import build_info, describe

CAP_32 = ("Fp1", "Fp2", "F7", "F3", "Fz", "F4", "F8", "FC5", "FC1", "FC2", "FC6", "T7", "C3", "Cz", "C4", "T8", "CP5",
          "CP1", "CP2", "CP6", "P7", "P3", "Pz", "P4", "P8", "PO3", "PO4", "O1", "Oz", "O2", "FCz", "CPz")  # fmt: skip
"""The electrodes of the simulation."""

_REST = (0.0, 0.003, 0.0)  # metres from the centre of the sensors to that of the head
_MOMENT = 20e-9  # ampere-metres, root mean square, of a source over time
_WHITE = {"eeg": 0.4e-6, "mag": 2e-14, "grad": 2e-12}  # volts, tesla, tesla per metre
_N_SOURCES, _N_BACKGROUND = 60, 40
_BACKGROUND = 0.3  # strength of a dipole of the background, in units of a source's
_MOVE = 0.007  # largest shift of the head, in metres
_BURSTS_PER_SECOND, _BURST_SECONDS = 0.35, (0.1, 0.3)


@dataclass(frozen=True)
class MEGSimulation:
    """Simulated subjects with simultaneous EEG and MEG: known sources, real coil definitions.

    Sixty dipoles in the cortex, forty weaker ones with a 1/f spectrum anywhere in the head, and the noise of the
    sensors. Head positions are shifted by up to 7 mm from the centre and rotated by up to .14 rad about each axis.

    Parameters
    ----------
    sources : {"gaussian", "bursting"}
        Gaussian sources with a 1/f spectrum, for which no map from EEG to MEG is better than a linear one; or rhythms
        that occur in bursts, of the same power on average, for which some are.
    noise : float
        Factor on the noise of electrodes (0.4 microvolts), magnetometers (20 femtotesla) and gradiometers (20
        femtotesla per centimetre).
    ch_names, sfreq, n_times
        Electrodes, sampling rate in hertz, samples a trial.
    classes : float
        Share by which the first quarter of the sources is weaker in trials of class 1, and the second quarter in trials
        of class 0. 0 makes the classes the same.
    seed : int
        Another seed gives other subjects.

    Examples
    --------
    >>> from skeeg.methods.eeg2meg import MEGSimulation
    >>> X, Y, labels = MEGSimulation(sfreq=100).trials(subject=0, run=0, n_trials=3)
    >>> X.shape, Y.shape
    ((3, 32, 100), (3, 306, 100))
    """

    sources: str = "gaussian"
    noise: float = 1.0
    ch_names: tuple = CAP_32
    sfreq: float = 100.0
    n_times: int = 100
    classes: float = 0.0
    seed: int = 0

    def __post_init__(self):
        """Check the parameters."""
        if self.sources not in ("gaussian", "bursting"):
            raise ValueError(f"sources: got {self.sources!r}, expected 'gaussian' or 'bursting'.")
        if self.n_times < 1 or not self.sfreq >= 60 or self.noise < 0 or not 0 <= self.classes < 1:
            raise ValueError("n_times, sfreq, noise, classes: expected at least 1, 60 Hz, 0, and a share below 1.")

    def info(self, position=0):
        """Electrodes, then 306 MEG sensors, as an `mne.Info`; head position 0 is the centre."""
        groups = _sensors(self.ch_names, self.seed, position)
        return build_info(*groups, sfreq=self.sfreq)

    def trials(self, subject=0, run=0, n_trials=50, position=0):
        """Simulate consecutive trials of one subject and run, at a head position (0 is the centre).

        Returns
        -------
        X : EEGArray, shape (n_trials, n_channels, n_times)
            EEG in microvolts against the average, with subject and run.
        Y : ndarray, shape (n_trials, 306, n_times)
            MEG in tesla and tesla per metre.
        labels : ndarray of int, shape (n_trials,)
            Class of each trial.
        """
        rng = np.random.default_rng((self.seed, 2, subject, run))
        labels = rng.permutation(np.arange(n_trials) % 2)
        waves = self._waves(rng, subject, n_trials * self.n_times) * self._depth(labels)
        eeg_gain, meg_gain = _gains(self.ch_names, self.seed, position, subject)
        eeg = eeg_gain @ waves + self.noise * _WHITE["eeg"] * rng.standard_normal((len(eeg_gain), waves.shape[1]))
        types = np.array(_sensors(self.ch_names, self.seed, position)[1]["types"])
        white = np.where(types == "mag", _WHITE["mag"], _WHITE["grad"])[:, None]
        meg = meg_gain @ waves + self.noise * white * rng.standard_normal((len(meg_gain), waves.shape[1]))
        parts = (part.reshape(len(part), n_trials, -1).transpose(1, 0, 2) for part in (eeg - eeg.mean(axis=0), meg))
        X, Y = map(np.ascontiguousarray, parts)
        domains = make_domains(n_trials, subject=subject, run=run)
        return EEGArray(X * 1e6, self.ch_names, self.sfreq, domains), Y, labels

    def raw(self, subject=0, run=0, n_trials=50, position=0):
        """Simulate the trials as one continuous `mne.io.RawArray`, in volts, tesla and tesla per metre."""
        import mne

        X, Y, _ = self.trials(subject, run, n_trials, position)
        data = np.concatenate([np.asarray(X) * 1e-6, Y], axis=1).transpose(1, 0, 2).reshape(X.shape[1] + Y.shape[1], -1)
        return mne.io.RawArray(data, self.info(position), verbose="error")

    def _waves(self, rng, subject, n_times):
        """Moments of the sources and of the background over time, shape (100, n_times)."""
        if self.sources == "gaussian":
            waves = coloured(rng, _N_SOURCES, n_times, self.sfreq, one_over_f)
        else:
            rates = np.random.default_rng((self.seed, 3, subject)).uniform(6, 0.3 * self.sfreq, _N_SOURCES)
            waves = np.stack([_bursts(rng, rate, n_times, self.sfreq) for rate in rates])
        others = coloured(rng, _N_BACKGROUND, n_times, self.sfreq, one_over_f)
        return _MOMENT * np.concatenate([waves, _BACKGROUND * others])

    def _depth(self, labels):
        """Factor on each source at each sample, shape (100, n_trials * n_times)."""
        factor = np.ones((_N_SOURCES + _N_BACKGROUND, len(labels)))
        quarter = _N_SOURCES // 4
        factor[:quarter] -= self.classes * labels
        factor[quarter : 2 * quarter] -= self.classes * (1 - labels)
        return np.repeat(factor, self.n_times, axis=1)


def neuromag_info(shift=(0.0, 0.0, 0.0), turn=(0.0, 0.0, 0.0)):
    """Info of 102 magnetometers and 204 planar gradiometers around a head that has moved and rotated."""
    import mne

    info = mne.channels.read_meg_canonical_info("neuromag", verbose="error")
    dev_head = mne.transforms.translation(*(-np.array(_REST) + shift)) @ mne.transforms.rotation(*turn)
    info["dev_head_t"] = mne.transforms.Transform("meg", "head", dev_head)
    return build_info(describe(info, "meg"))


@lru_cache(maxsize=64)
def _sensors(ch_names, seed, position):
    """Electrodes and MEG sensors as `describe` gives them."""
    rng = np.random.default_rng((seed, 4, position))
    way, turn = rng.normal(size=3), 20 * _MOVE * rng.uniform(-1, 1, 3) * (position > 0)
    shift = _MOVE * rng.uniform(0.3, 1) * way / np.linalg.norm(way) * (position > 0)
    eeg = electrode_info(ch_names, electrode_directions(ch_names))
    return describe(eeg, "eeg"), describe(neuromag_info(shift, turn), "meg")


@lru_cache(maxsize=64)
def _gains(ch_names, seed, position, subject):
    """Volts, and tesla (per metre), for one ampere-metre of each source of one subject."""
    rng = np.random.default_rng((seed, 1, subject))
    n = _N_SOURCES + _N_BACKGROUND
    deep = np.concatenate([rng.uniform(0.7, 0.85, _N_SOURCES), rng.uniform(0.3, 0.85, _N_BACKGROUND)])
    out = random_directions(rng, n, -0.2)
    moments = rng.normal(size=(n, 3))
    moments /= np.linalg.norm(moments, axis=1, keepdims=True)
    sensors = map(build_info, _sensors(ch_names, seed, position))
    return [gain.astype(np.float64) for gain in dipole_gains(sensors, RADIUS * deep[:, None] * out, moments)]


def _bursts(rng, rate, n_times, sfreq):
    """Bursts of a rhythm of its own rate, variance 1 on average, shape (n_times,)."""
    wave = np.zeros(n_times)
    count = rng.poisson(_BURSTS_PER_SECOND * n_times / sfreq)
    for start in rng.uniform(0, n_times, count).astype(int):
        t = np.arange(min(int(rng.uniform(*_BURST_SECONDS) * sfreq), n_times - start)) / sfreq
        envelope = np.hanning(len(t) + 2)[1:-1]
        wave[start : start + len(t)] += rng.lognormal(0, 0.4) * envelope * np.sin(2 * np.pi * (rate * t + rng.random()))
    mean_seconds = np.mean(_BURST_SECONDS)
    power = _BURSTS_PER_SECOND * mean_seconds * (3 / 8) / 2 * np.exp(2 * 0.4**2)
    return wave / np.sqrt(power)
