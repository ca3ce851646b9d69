"""Spatial and temporal filters, patterns and importance of the branches of BEIRA.

Branch m filters the data with h and projects them on w. Its weights are no pattern of its source, for they also
suppress interference. For the data y = h * x, with covariance R, the spatial pattern is ``g = R w``; for the signal
z = w' x, with spectrum S, the frequency pattern is ``S(f) |H(f)|``. Both follow from the cross-spectrum of the
recording, which is estimated once for all branches: ``R = sum_f |H(f)|^2 S_x(f)`` and ``S(f) = w' S_x(f) w``. ``R w``
itself is `skeeg.covariance.filter_patterns`, by which `skeeg.explain.spatial_patterns` reads all other weights.
"""

import numpy as np
import torch
from scipy import signal

from ...covariance import filter_patterns

_SPECTRUM_SECONDS = 4  # of a window of the cross-spectrum: a resolution of 0.25 Hz


def read_patterns(module, recordings, rate, whitening):
    """Compute filters and patterns of all branches in units of the EEG: attributes of `BEIRARegressor` by name.

    The recordings (n_channels, n_times) are EEG as the network takes it, multiplied by a whitening matrix.
    """
    n_fft = min(int(_SPECTRUM_SECONDS * rate), max(one.shape[1] for one in recordings))
    density, freqs = cross_spectrum(recordings, rate, n_fft)
    spatial, temporal = (part.numpy().astype(np.float64) for part in module.front_weights())
    patterns, frequency = branch_patterns(density, freqs, spatial, temporal, rate)
    return {
        "spatial_filters_": spatial @ whitening,
        "temporal_filters_": temporal,
        "spatial_patterns_": patterns @ np.linalg.pinv(whitening).T,
        "frequency_patterns_": frequency,
        "freqs_": freqs,
    }


def cross_spectrum(recordings, sfreq, n_fft):
    """Cross-spectral density (n_freqs, n_channels, n_channels) of recordings, and its frequencies.

    Averaged over half-overlapping Hann windows of `n_fft` samples of recordings (n_channels, n_times); shorter ones are
    padded with zeros.
    """
    window = signal.windows.hann(n_fft, sym=False)
    density, n_segments = 0.0, 0
    for recording in recordings:
        x = np.asarray(recording, dtype=np.float64)
        x = x - x.mean(axis=1, keepdims=True)
        x = np.pad(x, ((0, 0), (0, max(n_fft - x.shape[1], 0))))
        starts = range(0, x.shape[1] - n_fft + 1, max(n_fft // 2, 1))
        for first in range(0, len(starts), 64):  # bounds the memory on long recordings
            segments = np.stack([x[:, start : start + n_fft] for start in starts[first : first + 64]])
            spectra = np.fft.rfft(segments * window, axis=-1).transpose(2, 1, 0)
            density = density + spectra @ spectra.conj().transpose(0, 2, 1)
        n_segments += len(starts)
    density /= n_segments * n_fft * np.sum(window**2)
    density[1 : len(density) - (n_fft % 2 == 0)] *= 2  # the negative frequencies
    return density, np.fft.rfftfreq(n_fft, 1 / sfreq)


def branch_patterns(density, freqs, spatial_filters, temporal_filters, sfreq):
    """Spatial patterns ``R w`` (..., n_channels) and frequency patterns ``S(f) |H(f)|`` (..., n_freqs) of branches.

    Of a `cross_spectrum`, projections w (..., n_channels) and filters h (..., n_taps).
    """
    temporal_filters = np.asarray(temporal_filters, dtype=np.float64)
    phases = np.exp(-2j * np.pi * np.outer(np.arange(temporal_filters.shape[-1]), freqs) / sfreq)
    gain = np.abs(temporal_filters @ phases)
    shape = gain.shape[:-1]
    gain, w = gain.reshape(-1, len(freqs)), np.reshape(spatial_filters, (-1, density.shape[1])).astype(np.float64)
    real = density.real  # w is real, so the imaginary part, which is antisymmetric, plays no role in w' S w
    covariance = (gain**2 @ real.reshape(len(freqs), -1)).reshape(len(w), *real.shape[1:])
    spatial = filter_patterns(covariance, w[:, None], apart=False)[:, 0]
    spectrum = np.einsum("fmj,mj->mf", w @ real, w)
    return spatial.reshape(*shape, -1), (spectrum * gain).reshape(*shape, -1)


def branch_importance(module, windows):
    """Compute the importance (n_regions, n_branches): the change of the output when an envelope is held at its mean.

    A branch whose envelope is constant has none, unlike by a gradient times the envelope, as in the published
    notebooks. Shapes: ``windows`` (n_windows, n_chans, n_times).
    """
    squares = 0.0
    with torch.inference_mode():
        for window in windows.split(1):
            envelopes = module.envelopes(window)
            full, moved = module.decode(envelopes), []
            for branch in range(envelopes.shape[2]):
                held = envelopes.clone()
                held[:, :, branch] = held[:, :, branch].mean(-1, keepdim=True)
                moved.append((module.decode(held) - full).double().square().reshape(full.shape[1], -1).mean(-1))
            squares = squares + torch.stack(moved, dim=-1)
    return (squares / len(windows)).sqrt().numpy()
