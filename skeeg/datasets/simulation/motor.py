"""Simulated motor imagery and execution: recordings as arrays, and as MOABB datasets.

A recording is a sum of sources in a spherical head model: sensorimotor rhythms that desynchronise when a hand or the
feet are moved or imagined to move, rhythms unrelated to the task (posterior alpha and others), background activity
with a 1/f spectrum, blinks, line noise and amplifier noise. All of it is drawn from a seed.
"""

from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.spatial.transform import Rotation

from ...positions import standard_montage
from ..base import SkeegDataset, code_with
from .head import electrode_directions, grid_potentials, leadfield, random_directions
from .signals import broadband, coloured, one_over_f, rhythm, wander

_BANDS = ["mu", "beta", "broad"]
AREAS = pd.read_csv(Path(__file__).with_name("areas.csv"), index_col="area")
"""Sensorimotor sources: the electrode above each; its amplitude at rest in three bands, relative to the mu rhythm of
the hand area; and its desynchronisation for each task and class, as a fraction of the subject's depth. Negative values
are a synchronisation. Imagery stays close to the opposite hand area, execution recruits its neighbours and the other
side."""
_AT_REST = AREAS[_BANDS].to_numpy()

_GOLDEN = (5**0.5 - 1) / 2
_N_BACKGROUND, _N_IDLE = 40, 8
_IDLE_AT = ("O1", "O2", "Pz", "P7", "P8")  # posterior rhythms; the others are placed at random
# Microvolts, root mean square where strongest, and the spread of its logarithm over the sources of one subject.
_LEVELS = {"areas": (3.6, 0.35), "idle": (3.0, 1.0), "background": (2.4, 1.2), "eyes": (120.0, 0.0)}


@dataclass(frozen=True)
class SubjectTraits:
    """Traits that all sessions and both tasks of one subject share.

    ``depth`` is the fraction by which imagery weakens the contralateral rhythm, 0 for a subject without effect;
    ``preference`` which rhythm follows the task, 0 the beta, 1 the mu rhythm; ``latency`` seconds from the cue to half
    of the desynchronisation; ``lapses`` the fraction of trials without any; ``rates`` and ``idle_rates`` hertz;
    ``blinks`` a second; ``sources`` positions (n, 3), moments (n, 3) and microvolts (n,) by group; ``cap`` the rotation
    of the cap about three axes in radians.
    """

    depth: float
    preference: float
    latency: float
    lapses: float
    rates: tuple
    idle_rates: np.ndarray
    blinks: float
    sources: dict
    cap: np.ndarray


@dataclass(frozen=True)
class SessionState:
    """What changes from one session to the next.

    ``shift`` moves the mu and beta rhythm (hertz); ``amplitude`` and ``line_noise`` are factors; ``gains`` (n_channels,
    n_sources) are microvolts of each source, by group, at the electrodes, against linked mastoids.
    """

    shift: tuple
    amplitude: float
    line_noise: float
    gains: dict


def subject_traits(seed, subject):
    """Draw the traits of one subject; they depend on the seed of the population and the number alone."""
    rng = np.random.default_rng((seed, 1, subject))
    # Steps of the golden ratio: any few consecutive subjects cover the range of effect sizes evenly.
    rank = (np.random.default_rng((seed, 0)).random() + _GOLDEN * subject) % 1
    mu, beta = np.clip(rng.normal((10.8, 21.0), (1.1, 2.5)), (8.8, 16.0), (13.0, 26.0))
    return SubjectTraits(
        depth=0.87 * float(max(rank - 0.1, 0.0) / 0.9) ** 0.8,
        preference=rng.beta(2.0, 1.2),
        latency=rng.uniform(0.35, 0.7),
        lapses=rng.uniform(0.0, 0.2) * (1 - rank),
        rates=(float(mu), float(beta)),
        idle_rates=np.r_[mu + rng.normal(0, 0.7, len(_IDLE_AT)), rng.uniform(7, 28, _N_IDLE - len(_IDLE_AT))],
        blinks=rng.uniform(0.08, 0.3),
        sources=_sources(rng),
        cap=np.radians(rng.normal(0, 4, 3)),
    )


@lru_cache(maxsize=64)
def session_state(seed, subject, session, ch_names):
    """Draw one session of one subject; it depends on these arguments alone."""
    traits, rng = subject_traits(seed, subject), np.random.default_rng((seed, 2, subject, session))
    shift, amplitude, line_noise = rng.normal((0, 0), (0.25, 0.6)), rng.lognormal(0, 0.15), rng.lognormal(0, 0.6)
    rotation = Rotation.from_euler("xyz", traits.cap + np.radians(rng.normal(0, 2, 3))).as_matrix()
    mastoids = electrode_directions(("M1", "M2"))
    electrodes = np.vstack([electrode_directions(ch_names) @ rotation.T, mastoids])
    positions, moments, levels = (np.concatenate(part) for part in zip(*traits.sources.values(), strict=True))
    gain = leadfield(electrodes, positions, moments) * levels / np.abs(grid_potentials(positions, moments)).max(axis=0)
    gain = gain[:-2] - gain[-2:].mean(axis=0)
    ends = np.cumsum([len(levels) for _, _, levels in traits.sources.values()])
    gains = dict(zip(traits.sources, np.split(gain, ends[:-1], axis=1), strict=True))
    for group in ("idle", "background"):
        gains[group] = gains[group] * rng.lognormal(0, 0.25, gains[group].shape[1])
    return SessionState(tuple(shift), amplitude, line_noise, gains)


def _sources(rng):
    """Positions, moments and microvolts of all sources of one subject."""
    anchors = {
        "areas": electrode_directions(AREAS["electrode"]),
        "idle": np.vstack([electrode_directions(_IDLE_AT), random_directions(rng, _N_IDLE - len(_IDLE_AT))]),
        "background": random_directions(rng, _N_BACKGROUND),
        "eyes": electrode_directions(["Fp1", "Fp2"]),
    }
    groups = {}
    for group, directions in anchors.items():
        level, spread = _LEVELS[group]
        n = len(directions)
        directions = directions + rng.normal(0, 0.08 if group in ("areas", "idle") else 0.02, (n, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        deep = rng.uniform(0.4, 0.8, (n, 1)) if group == "background" else rng.uniform(0.68, 0.76, (n, 1))
        moments = directions + rng.normal(0, {"areas": 0.4, "eyes": 0.1}.get(group, 0.6), (n, 3))
        moments /= np.linalg.norm(moments, axis=1, keepdims=True)
        groups[group] = (deep * directions, moments, level * rng.lognormal(0, spread, n))
    return groups


VERSION = 1
"""Raise it whenever the same arguments give other data: MOABB caches results by the code made from it."""
TASKS = ("imagery", "execution")
CLASSES = ("left_hand", "right_hand", "feet", "rest")
CAP_22 = ("Fz", "FC3", "FC1", "FCz", "FC2", "FC4", "C5", "C3", "C1", "Cz", "C2", "C4", "C6",
          "CP3", "CP1", "CPz", "CP2", "CP4", "P1", "Pz", "P2", "POz")  # fmt: skip
"""The 22 electrodes of BCI competition IV 2a."""
TRIAL_SECONDS = 4.0
"""Duration of a trial, from its cue."""

_LEAD_IN, _FIXATION, _BREAK, _TAIL = 1.0, 1.5, (0.8, 1.8), 2.0
_STEP = 0.01  # microvolts that the converter resolves; rounding to it also hides the last bits of matrix products
_HALF = {"mu": 1.5, "beta": 3.0}  # half width of the rhythms in hertz
_AMPLIFIER, _LINE_NOISE = 0.4, 1.5  # microvolts


@dataclass(frozen=True)
class Truth:
    """Ground truth: what is informative in the recordings of one subject.

    Attributes
    ----------
    electrodes, weights : tuple of str, and ndarray, shape (n_channels,)
        Sensitivity of each channel to the informative sources, relative to the largest one, and those from 0.5 on.
    patterns : dict of str to ndarray, shape (n_channels,)
        Topography of each informative source at rest, in microvolts, in the first session.
    bands : dict of str to tuple of float
        Low and high edge in hertz of each rhythm that follows the label.
    window : tuple of float
        Start and end of the class difference, in seconds after the cue.
    depth : float
        Fraction by which the contralateral rhythm loses amplitude, 0 for a subject without desynchronisation.
    """

    electrodes: tuple
    weights: np.ndarray
    patterns: dict
    bands: dict
    window: tuple
    depth: float


@dataclass(frozen=True)
class MotorSimulation:
    """Simulated recordings of any number of subjects, sessions and runs, each drawn from the seed independently.

    Parameters
    ----------
    task : {"imagery", "execution"}
        Execution has the same subjects; its effects are stronger, earlier, and in more bands and areas.
    classes, n_trials, ch_names, sfreq, strength, noise, line_freq, seed
        As in `SimulatedMotorImagery`.

    Examples
    --------
    >>> from skeeg.datasets import MotorSimulation
    >>> data, onsets, labels = MotorSimulation(n_trials=4, ch_names=("C3", "C4"), sfreq=100.0).run(1, 0, 0)
    >>> data.shape[0], len(onsets), sorted(labels.tolist())
    (2, 4, ['left_hand', 'left_hand', 'right_hand', 'right_hand'])
    """

    task: str = "imagery"
    classes: tuple = ("left_hand", "right_hand")
    n_trials: int = 40
    ch_names: tuple = CAP_22
    sfreq: float = 128.0
    strength: float = 1.0
    noise: float = 1.0
    line_freq: float = 50.0
    seed: int = 0

    def __post_init__(self):
        """Refuse what cannot be simulated."""
        unknown = [name for name in self.classes if name not in CLASSES]
        if self.task not in TASKS:
            raise ValueError(f"task: got {self.task!r}, expected one of {', '.join(TASKS)}.")
        if unknown or len(set(self.classes)) < max(len(self.classes), 2):
            raise ValueError(f"classes: got {self.classes!r}, expected two or more different ones of {CLASSES!r}.")
        if self.n_trials < len(self.classes):
            raise ValueError(f"n_trials: got {self.n_trials}, expected at least one trial of each class.")
        if not self.sfreq >= 64:
            raise ValueError(f"sfreq: got {self.sfreq}, expected 64 Hz or more: the rhythms reach up to 30 Hz.")
        if min(self.strength, self.noise, self.line_freq) < 0:
            raise ValueError("strength, noise, line_freq: expected nothing below zero.")
        if not self.ch_names or len(set(self.ch_names)) < len(self.ch_names):
            raise ValueError(f"ch_names: expected different electrodes, got {self.ch_names!r}.")
        electrode_directions(self.ch_names)

    def run(self, subject, session, run):
        """Record one run, which does not depend on how many others there are.

        Gives microvolts against linked mastoids (n_channels, n_times), seconds from the start to each cue (n_trials,),
        and class names (n_trials,).
        """
        traits, state = subject_traits(self.seed, subject), self._session(subject, session)
        rng = np.random.default_rng((self.seed, 3, TASKS.index(self.task), subject, session, run))
        onsets, labels, n_times = self._timeline(rng)
        data = state.gains["areas"] @ self._sensorimotor(rng, traits, state, onsets, labels, n_times)
        others = state.gains["idle"] @ self._idle(rng, traits, state, n_times)
        others += state.gains["background"] @ coloured(rng, _N_BACKGROUND, n_times, self.sfreq, one_over_f)
        others += np.outer(state.gains["eyes"].sum(axis=1), self._blinks(rng, traits, n_times))
        data += self.noise * (others + self._electronics(rng, state, n_times))
        return np.round(data / _STEP) * _STEP, onsets, labels

    def truth(self, subject):
        """Give the ground truth of one subject: electrodes, sources, bands, window and depth."""
        traits, gain = subject_traits(self.seed, subject), self._session(subject, 0).gains["areas"]
        swing = (np.ptp([self._depths(traits, label) for label in self.classes], axis=0) * _AT_REST).max(axis=1)
        weights = np.abs(gain) @ swing
        weights = weights / max(weights.max(), np.finfo(float).tiny)
        bands = {name: (rate - _HALF[name], rate + _HALF[name]) for name, rate in zip(_HALF, traits.rates, strict=True)}
        return Truth(
            electrodes=tuple(name for name, weight in zip(self.ch_names, weights, strict=True) if weight >= 0.5),
            weights=weights,
            patterns={area: gain[:, i] for i, area in enumerate(AREAS.index) if swing[i] > 0.25 * swing.max()},
            bands=bands | ({"broad": (8.0, 30.0)} if self.task == "execution" else {}),
            window=(self._latency(traits), TRIAL_SECONDS),
            depth=float(self._depth(traits)),
        )

    def _session(self, subject, session):
        """Draw one session of one subject, recorded at these electrodes."""
        return session_state(self.seed, subject, session, self.ch_names)

    def _timeline(self, rng):
        """Onsets, labels and length of a run."""
        labels = rng.permutation(np.resize(np.array(self.classes), self.n_trials))
        gaps = _FIXATION + rng.uniform(*_BREAK, self.n_trials)
        onsets = _LEAD_IN + np.cumsum(gaps) + TRIAL_SECONDS * np.arange(self.n_trials)
        onsets = np.round(onsets * self.sfreq) / self.sfreq
        return onsets, labels, int(round((onsets[-1] + TRIAL_SECONDS + _TAIL) * self.sfreq))

    def _depth(self, traits):
        """Depth of desynchronisation in this task: movement has an effect even where imagery has none."""
        depth = traits.depth if self.task == "imagery" else 0.3 + 0.5 * traits.depth
        return min(self.strength * depth, 0.95)

    def _latency(self, traits):
        """Seconds from cue to half desynchronisation; it is shorter for real movement."""
        return traits.latency * (0.7 if self.task == "execution" else 1.0)

    def _depths(self, traits, label):
        """Loss of amplitude of each area in each band for one class, shape (n_areas, 3)."""
        imagined = (0.4 + 0.6 * traits.preference, 1.0 - 0.6 * traits.preference, 0.1)
        bands = imagined if self.task == "imagery" else (1.0, 0.9, 0.6)
        return self._depth(traits) * np.outer(AREAS[f"{self.task}_{label}"], bands)

    def _sensorimotor(self, rng, traits, state, onsets, labels, n_times):
        """Rhythms of the sensorimotor areas, weakened in each trial, shape (n_areas, n_times)."""
        keep = self._modulation(rng, traits, onsets, labels, n_times)
        total = np.zeros((len(AREAS), n_times))
        for band, name in enumerate(_BANDS):
            shape = rhythm(traits.rates[band] + state.shift[band], _HALF[name] / 2) if name in _HALF else broadband
            wave = coloured(rng, len(AREAS), n_times, self.sfreq, shape)
            wave *= wander(rng, len(AREAS), n_times, self.sfreq)
            total += _AT_REST[:, band, None] * keep[:, band] * wave
        return state.amplitude * total

    def _modulation(self, rng, traits, onsets, labels, n_times):
        """Amplitude of each area in each band over time, 1 at rest, shape (n_areas, 3, n_times)."""
        effort = np.clip(rng.normal(1.0, 0.3, self.n_trials), 0.0, 1.5) * (rng.random(self.n_trials) >= traits.lapses)
        hold, rebound = self._courses(traits)
        depths = {label: self._depths(traits, label)[:, :, None] for label in self.classes}
        keep = np.ones((len(AREAS), len(_BANDS), n_times))
        for onset, label, one in zip(onsets, labels, effort, strict=True):
            start = int(round(onset * self.sfreq))
            stop = start + hold.size
            keep[:, :, start:stop] -= one * depths[label] * hold
            keep[:, 1, start:stop] += one * depths[label][:, 1] * rebound
        return np.maximum(keep, 0.05)

    def _courses(self, traits):
        """Course of the desynchronisation after the cue, and of the beta rebound after its end."""
        t = np.arange(int((TRIAL_SECONDS + _TAIL) * self.sfreq)) / self.sfreq
        rise = 1 / (1 + np.exp(-(t - self._latency(traits)) / 0.1))
        fall = 1 / (1 + np.exp((t - TRIAL_SECONDS - 0.3) / 0.1))
        return rise * fall, 0.6 * np.exp(-0.5 * ((t - TRIAL_SECONDS - 1.0) / 0.3) ** 2)

    def _idle(self, rng, traits, state, n_times):
        """Rhythms unrelated to the task, shape (n_idle, n_times)."""
        rates = traits.idle_rates + state.shift[0]
        waves = np.concatenate([coloured(rng, 1, n_times, self.sfreq, rhythm(rate, 1.0)) for rate in rates])
        return waves * wander(rng, len(rates), n_times, self.sfreq)

    def _blinks(self, rng, traits, n_times):
        """Time course of the blinks, 1 at their peak, shape (n_times,)."""
        course = np.zeros(n_times)
        lid = np.hanning(max(int(0.35 * self.sfreq), 3)) ** 2
        starts = np.cumsum(0.6 + rng.exponential(1 / traits.blinks, int(2 + n_times / self.sfreq / 0.6)))
        for start in (starts * self.sfreq).astype(int):
            if start + lid.size < n_times:
                course[start : start + lid.size] += lid
        return course

    def _electronics(self, rng, state, n_times):
        """Noise of the amplifiers and the reference, and line noise, shape (n_channels, n_times)."""
        noise = _AMPLIFIER * rng.standard_normal((len(self.ch_names) + 1, n_times))
        signal = noise[:-1] - noise[-1] / np.sqrt(2)  # the reference is the mean of two electrodes
        if 0 < self.line_freq < self.sfreq / 2:
            t = np.arange(n_times) / self.sfreq
            wave = np.sin(2 * np.pi * self.line_freq * t + rng.uniform(0, 2 * np.pi))
            pickup = _LINE_NOISE * state.line_noise * rng.lognormal(0.0, 0.5, len(self.ch_names))
            signal += np.outer(pickup, wave * wander(rng, 1, n_times, self.sfreq)[0])
        return signal


class SimulatedMotorImagery(SkeegDataset):
    """Simulated motor imagery, drawn in seconds from a seed, about as hard to decode as real recordings.

    Sensorimotor rhythms desynchronise contralateral to the imagined hand, among rhythms unrelated to the task, 1/f
    background, blinks, line noise and amplifier noise. Subjects differ in the topographies and amplitudes of their
    sources, in the band that follows the task, and in the size of the effect, down to none; positions, rhythms and
    background drift between sessions. Subject n does not depend on ``n_subjects``.

    Parameters
    ----------
    n_subjects, n_sessions, n_runs, n_trials : int
        Subjects, sessions of each, runs of each session, and trials in each run.
    classes : tuple of str
        Two or more of ``left_hand``, ``right_hand``, ``feet``, ``rest``.
    ch_names : tuple of str
        Electrodes of the 10-05 system; the default are 22 over the motor cortex.
    sfreq : float
        Sampling rate in hertz, at least 64.
    strength : float
        Factor on the effect size; 0 leaves nothing to decode.
    noise : float
        Factor on all other activity.
    line_freq : float
        Line frequency in hertz, 0 for none.
    seed : int
        Another seed, another population.
    subjects, sessions : list or None
        Select some of them; None takes all.

    Attributes
    ----------
    simulation : MotorSimulation
        Gives the same recordings as arrays.

    Notes
    -----
    Difficulty, as accuracy of CSP+LDA (six filters, 8 to 32 Hz, 4 s) over eight subjects, for seeds 0, 1 and 2:

    ====================================  ==============  ==============
    protocol                              imagery         execution
    ====================================  ==============  ==============
    within session, five folds            .74, .71, .72   .88, .88, .89
    worst to best subject                 .46 to .96      .62 to .98
    cross-session                         .67, .68, .66   .81, .81, .81
    cross-subject, not aligned            .57, .56, .55   .63, .62, .60
    cross-subject, Euclidean alignment    .75, .72, .69   .87, .86, .85
    ====================================  ==============  ==============

    Examples
    --------
    >>> from skeeg.datasets import SimulatedMotorImagery
    >>> dataset = SimulatedMotorImagery(n_subjects=2, n_sessions=1, n_trials=4, ch_names=("C3", "Cz", "C4"))
    >>> X, y = dataset.arrays(subjects=[2])
    >>> X.shape, sorted(dataset.truth(2).bands)
    ((8, 3, 512), ['beta', 'mu'])
    """

    _TASK = "imagery"

    def __init__(
        self,
        n_subjects=8,
        n_sessions=2,
        n_runs=2,
        n_trials=40,
        classes=("left_hand", "right_hand"),
        ch_names=CAP_22,
        sfreq=128.0,
        strength=1.0,
        noise=1.0,
        line_freq=50.0,
        seed=0,
        subjects=None,
        sessions=None,
    ):
        for name, value in {"n_subjects": n_subjects, "n_sessions": n_sessions, "n_runs": n_runs}.items():
            if value < 1:
                raise ValueError(f"{name}: got {value}, expected 1 or more.")
        self.simulation = MotorSimulation(
            self._TASK, tuple(classes), int(n_trials), tuple(ch_names), float(sfreq),
            float(strength), float(noise), float(line_freq), int(seed),
        )  # fmt: skip
        self.n_runs = n_runs
        shape = asdict(self.simulation) | {"n_sessions": n_sessions, "n_runs": n_runs}
        standard = asdict(MotorSimulation(task=self._TASK)) | {"n_sessions": 2, "n_runs": 2}
        super().__init__(
            subjects=range(1, n_subjects + 1),
            sessions_per_subject=n_sessions,
            events={name: 1 + CLASSES.index(name) for name in self.simulation.classes},
            code=code_with(f"{type(self).__name__}-v{VERSION}", shape, standard),
            interval=[0, TRIAL_SECONDS],
            paradigm="imagery",
            selected_subjects=subjects,
            selected_sessions=sessions,
        )

    def truth(self, subject):
        """Give the informative channels, bands and times of a subject's first session; see `skeeg.datasets.Truth`."""
        return self.simulation.truth(subject)

    def _get_single_subject_data(self, subject):
        return {
            str(session): {str(run): self._record(subject, session, run) for run in range(self.n_runs)}
            for session in range(self.n_sessions)
        }

    def _record(self, subject, session, run):
        """Make one recording as MNE holds it, in volts."""
        import mne

        data, onsets, labels = self.simulation.run(subject, session, run)
        info = mne.create_info(list(self.simulation.ch_names), self.simulation.sfreq, "eeg", verbose="error")
        with info._unlock():
            info["line_freq"] = self.simulation.line_freq or None
        raw = mne.io.RawArray(data * 1e-6, info, verbose="error")
        raw.set_montage(standard_montage(), match_case=False, verbose="error")
        return raw.set_annotations(mne.Annotations(onsets, TRIAL_SECONDS, labels))


class SimulatedMotorExecution(SimulatedMotorImagery):
    """Simulated motor execution of the subjects of `SimulatedMotorImagery`: easier to decode.

    Takes the same parameters. Subject n has the same traits and sessions in both datasets.

    Examples
    --------
    >>> from skeeg.datasets import SimulatedMotorExecution, SimulatedMotorImagery
    >>> SimulatedMotorExecution().truth(3).depth > SimulatedMotorImagery().truth(3).depth
    True
    """

    _TASK = "execution"
