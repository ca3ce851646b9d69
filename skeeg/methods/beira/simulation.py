"""Simultaneous EEG and BOLD with a known answer: which electrodes and which rhythm drive each region."""

import dataclasses

import numpy as np
from scipy.signal import fftconvolve

from ...array import EEGArray, make_domains, make_eeg
from ...datasets.simulation.head import electrode_directions, leadfield
from ...datasets.simulation.signals import coloured, one_over_f, rhythm, wander
from .bold import canonical_hrf

CAP_30 = ("Fp1", "Fp2", "F3", "F4", "C3", "C4", "P3", "P4", "O1", "O2", "F7", "F8", "T7", "T8", "P7", "P8",
          "Fz", "Cz", "Pz", "Oz", "FC1", "FC2", "CP1", "CP2", "FC5", "FC6", "CP5", "CP6", "TP9", "TP10")  # fmt: skip
"""Thirty electrodes as they are worn in a scanner."""
_RATES = (10.0, 6.0, 20.0, 13.0, 8.0, 25.0, 16.0, 4.5)
_DEPTH = 0.8  # of the cortex, in radii of the head


@dataclasses.dataclass(frozen=True)
class SimulatedBOLD:
    """EEG, BOLD, and what drives it.

    Attributes
    ----------
    eeg : EEGArray, shape (1, n_channels, n_times)
        Microvolts, against the average of all electrodes.
    bold : ndarray, shape (1, n_regions, n_times)
        Standardised BOLD at the rate of the EEG.
    patterns : ndarray, shape (n_regions, n_channels)
        Topography of the source of each region, unit norm.
    rates : ndarray, shape (n_regions,)
        Centre of its rhythm in hertz.
    envelopes : ndarray, shape (n_regions, n_times)
        Its slow amplitude.
    """

    eeg: EEGArray
    bold: np.ndarray
    patterns: np.ndarray
    rates: np.ndarray
    envelopes: np.ndarray

    def volumes(self, tr=2.0):
        """BOLD as a scanner gives it.

        Parameters
        ----------
        tr : float
            Repetition time in seconds.

        Returns
        -------
        volumes : ndarray, shape (n_regions, n_volumes)
            BOLD of each volume.
        times : ndarray, shape (n_volumes,)
            Seconds from the start of the EEG.
        """
        n_times = self.bold.shape[2]
        times = np.arange(0, (n_times - 1) / self.eeg.sfreq + 1e-9, tr)
        grid = np.arange(n_times) / self.eeg.sfreq
        return np.stack([np.interp(times, grid, signal) for signal in self.bold[0]]), times


def simulate_bold(
    n_regions=1,
    duration=600.0,
    sfreq=100.0,
    ch_names=CAP_30,
    bold_noise=0.5,
    n_distractors=3,
    artefacts=True,
    delay=6.0,
    random_state=None,
):
    """Simulate an EEG-fMRI recording.

    Each region follows the amplitude of one cortical oscillator, through the canonical haemodynamic response. The EEG
    also holds an oscillator of the same rhythm elsewhere for each region, whose amplitude is unrelated, further
    distractors, 1/f background, amplifier noise and, if wanted, blinks and movements.

    Parameters
    ----------
    n_regions : int
        Regions, at most 8.
    duration : float
        Seconds.
    sfreq : float
        Sampling rate of the EEG in hertz.
    ch_names : tuple of str
        Electrodes of MNE's ``standard_1005``.
    bold_noise : float
        Standard deviation of the slow noise of the BOLD signal, whose own is 1.
    n_distractors : int
        Oscillators of other rhythms that drive nothing.
    artefacts : bool
        Whether there are blinks and movements.
    delay : float
        Delay of the haemodynamic response in seconds, see `canonical_hrf`.
    random_state : int or None
        Seed.

    Returns
    -------
    simulated : SimulatedBOLD
        Recording and truth.

    Examples
    --------
    >>> from skeeg.methods.beira.simulation import simulate_bold
    >>> simulated = simulate_bold(2, duration=60, random_state=0)
    >>> simulated.eeg.shape, simulated.bold.shape, simulated.rates.tolist()
    ((1, 30, 6000), (1, 2, 6000), [10.0, 6.0])
    """
    if not 1 <= n_regions <= len(_RATES):
        raise ValueError(f"n_regions: got {n_regions}, expected 1 to {len(_RATES)}.")
    rng = np.random.default_rng(random_state)
    n_times = round(duration * sfreq)
    electrodes = electrode_directions(ch_names)
    rates = np.array(_RATES[:n_regions])
    others = rng.uniform(5, 30, n_distractors)
    all_rates = np.concatenate([rates, rates, others])
    gains = _draw_topographies(rng, electrodes, len(all_rates))
    slow = wander(rng, len(all_rates), n_times, sfreq, spread=0.6)
    waves = np.concatenate([coloured(rng, 1, n_times, sfreq, rhythm(rate, 0.7)) for rate in all_rates])
    eeg = 5.0 * gains @ (slow * waves)
    eeg += _background(rng, electrodes, n_times, sfreq)
    if artefacts:
        eeg += _artefacts(rng, electrodes, n_times, sfreq)
    envelopes = slow[:n_regions]
    bold = _respond(rng, envelopes, sfreq, bold_noise, delay)
    patterns = gains[:, :n_regions].T - gains[:, :n_regions].T.mean(axis=1, keepdims=True)
    eeg -= eeg.mean(axis=0)
    patterns /= np.linalg.norm(patterns, axis=1, keepdims=True)
    data = make_eeg(eeg[None], ch_names, sfreq, make_domains(1, subject="simulated"))
    return SimulatedBOLD(data, bold[None], patterns, rates, envelopes)


def _draw_topographies(rng, electrodes, n_sources):
    """Topographies (n_channels, n_sources) of radial dipoles in the upper half of the head, largest value 1."""
    places = rng.normal(size=(n_sources, 3))
    places[:, 2] = np.abs(places[:, 2])
    places /= np.linalg.norm(places, axis=1, keepdims=True)
    gains = leadfield(electrodes, _DEPTH * places, places)
    return gains / np.abs(gains).max(axis=0)


def _background(rng, electrodes, n_times, sfreq, n_sources=40):
    """Activity of many sources with a 1/f spectrum, and noise of the amplifier."""
    gains = _draw_topographies(rng, electrodes, n_sources)
    noise = 3.0 * gains @ coloured(rng, n_sources, n_times, sfreq, one_over_f) / np.sqrt(n_sources / 10)
    return noise + rng.normal(scale=1.0, size=noise.shape)


def _artefacts(rng, electrodes, n_times, sfreq):
    """Blinks at the front, and short movements that shake all electrodes."""
    blink = np.exp(-0.5 * ((np.arange(round(0.6 * sfreq)) / sfreq - 0.2) / 0.07) ** 2)
    front = np.clip(electrodes[:, 1], 0, None) ** 3
    train = np.zeros(n_times)
    train[rng.integers(n_times, size=max(n_times // round(5 * sfreq), 1))] = 80.0
    total = np.outer(front, fftconvolve(train, blink)[:n_times])
    for start in rng.integers(n_times, size=n_times // round(40 * sfreq)):
        length = min(round(rng.uniform(0.5, 2) * sfreq), n_times - start)
        burst = coloured(rng, 1, length, sfreq, one_over_f) if length > 4 else np.zeros((1, length))
        total[:, start : start + length] += rng.normal(scale=40.0, size=(len(electrodes), 1)) * burst
    return total


def _respond(rng, envelopes, sfreq, noise, delay):
    """Standardised BOLD of amplitudes, with slow noise."""
    kernel = canonical_hrf(sfreq, delay=delay)
    lead = np.repeat(envelopes[:, :1], len(kernel), axis=1)  # the amplitude before the recording began
    driven = fftconvolve(np.concatenate([lead, envelopes], axis=1), kernel[None], axes=1)
    driven = driven[:, len(kernel) : len(kernel) + envelopes.shape[1]]
    driven = (driven - driven.mean(axis=1, keepdims=True)) / driven.std(axis=1, keepdims=True)
    slow = coloured(
        rng, *envelopes.shape, sfreq, lambda frequencies: one_over_f(30 * frequencies) * (frequencies < 0.2)
    )
    bold = driven + noise * slow
    return (bold - bold.mean(axis=1, keepdims=True)) / bold.std(axis=1, keepdims=True)
