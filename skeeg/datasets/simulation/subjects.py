"""Simulated subjects: traits that differ between subjects, and what changes between sessions."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .head import electrode_directions, leadfield

AREAS = {
    "M1_left": "C3",
    "M1_right": "C4",
    "S1_left": "CP3",
    "S1_right": "CP4",
    "PMC_left": "FC3",
    "PMC_right": "FC4",
    "foot": "Cz",
}
"""Sensorimotor sources and the electrode above each."""

_GOLDEN = (5**0.5 - 1) / 2
_N_BACKGROUND, _N_IDLE = 40, 8
_IDLE_AT = ("O1", "O2", "Pz", "P7", "P8")  # posterior rhythms; the others are placed at random
# Microvolts, root mean square where strongest, and the spread of its logarithm over the sources of one subject.
_LEVELS = {"areas": (3.6, 0.35), "idle": (3.0, 1.0), "background": (2.4, 1.2), "eyes": (120.0, 0.0)}
_GRID = ("Fp1", "Fp2", "F7", "F3", "Fz", "F4", "F8", "FC5", "FC1", "FC2", "FC6", "T7", "C3", "Cz", "C4", "T8", "CP5",
         "CP1", "CP2", "CP6", "P7", "P3", "Pz", "P4", "P8", "PO3", "PO4", "O1", "Oz", "O2", "FC3", "FC4", "CP3",
         "CP4", "C1", "C2", "C5", "C6", "FCz", "CPz")  # fmt: skip


@dataclass(frozen=True)
class SubjectTraits:
    """Traits that all sessions and both tasks of one subject share.

    Attributes
    ----------
    depth : float
        Fraction by which imagery weakens the contralateral rhythm; 0 for a subject whose imagery shows nothing.
    preference : float
        Which rhythm follows the task: 0 the beta rhythm, 1 the mu rhythm.
    latency : float
        Seconds from the cue to half of the desynchronisation.
    lapses : float
        Fraction of trials without any desynchronisation.
    rates : tuple of float
        Hertz of the mu and the beta rhythm.
    idle_rates : ndarray, shape (n_idle,)
        Hertz of the rhythms that do not follow the task.
    blinks : float
        Blinks per second.
    sources : dict of str to tuple of ndarray
        For each group of sources: positions (n, 3), moments (n, 3), microvolts (n,).
    cap : ndarray, shape (3,)
        Rotation of the cap about the three axes of the head, radians.
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

    Attributes
    ----------
    shift : tuple of float
        Hertz by which the mu and the beta rhythm move.
    amplitude : float
        Factor on the sensorimotor rhythms.
    line_noise : float
        Factor on the line noise.
    gains : dict of str to ndarray, shape (n_channels, n_sources)
        Microvolts that each source of each group leaves at the electrodes, against linked mastoids.
    """

    shift: tuple
    amplitude: float
    line_noise: float
    gains: dict


@lru_cache(maxsize=512)
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
        idle_rates=np.concatenate(
            [mu + rng.normal(0, 0.7, len(_IDLE_AT)), rng.uniform(7, 28, _N_IDLE - len(_IDLE_AT))]
        ),
        blinks=rng.uniform(0.08, 0.3),
        sources=_sources(rng),
        cap=np.radians(rng.normal(0, 4, 3)),
    )


@lru_cache(maxsize=64)
def session_state(seed, subject, session, ch_names, montage):
    """Draw one session of one subject, recorded with a montage; it depends on these arguments alone."""
    traits, rng = subject_traits(seed, subject), np.random.default_rng((seed, 2, subject, session))
    shift, amplitude, line_noise = rng.normal((0, 0), (0.25, 0.6)), rng.lognormal(0, 0.15), rng.lognormal(0, 0.6)
    rotation = _rotation(traits.cap + np.radians(rng.normal(0, 2, 3)))
    mastoids = electrode_directions(("M1", "M2"))
    electrodes = np.vstack([electrode_directions(ch_names, montage) @ rotation.T, mastoids])
    positions, moments, levels = (np.concatenate(part) for part in zip(*traits.sources.values(), strict=True))
    gain = leadfield(electrodes, positions, moments) * levels / np.abs(_grid_potentials(positions, moments)).max(axis=0)
    gain = gain[:-2] - gain[-2:].mean(axis=0)
    ends = np.cumsum([len(levels) for _, _, levels in traits.sources.values()])
    gains = dict(zip(traits.sources, np.split(gain, ends[:-1], axis=1), strict=True))
    for group in ("idle", "background"):
        gains[group] = gains[group] * rng.lognormal(0, 0.25, gains[group].shape[1])
    return SessionState(tuple(shift), amplitude, line_noise, gains)


def _sources(rng):
    """Positions, moments and microvolts of all sources of one subject."""
    anchors = {
        "areas": electrode_directions(list(AREAS.values())),
        "idle": np.vstack([electrode_directions(_IDLE_AT), _random_directions(rng, _N_IDLE - len(_IDLE_AT))]),
        "background": _random_directions(rng, _N_BACKGROUND),
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


def _random_directions(rng, n):
    """Directions over the upper part of the head, shape (n, 3)."""
    up = rng.uniform(-0.3, 1.0, n)
    round_ = rng.uniform(0, 2 * np.pi, n)
    wide = np.sqrt(1 - up**2)
    return np.column_stack([wide * np.cos(round_), wide * np.sin(round_), up])


def _grid_potentials(positions, moments):
    """Potentials at forty electrodes: the amplitude of a source is defined independently of the montage."""
    return leadfield(electrode_directions(_GRID), positions, moments)


def _rotation(angles):
    """Rotation matrix about the x, y and z axis by three angles."""
    rotation = np.eye(3)
    for axis, angle in enumerate(angles):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        step = np.eye(3)
        step[[i, i, j, j], [i, j, i, j]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
        rotation = step @ rotation
    return rotation
