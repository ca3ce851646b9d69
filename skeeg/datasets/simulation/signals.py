"""Random signals with a given spectrum."""

import numpy as np
from scipy.fft import irfft, next_fast_len


def coloured(rng, n_signals, n_times, sfreq, shape):
    r"""Draw stationary Gaussian noise with a given amplitude spectrum and unit variance.

    Notes
    -----
    With amplitudes :math:`a_k` and complex Gaussian :math:`z_k`, the inverse Fourier transform of :math:`a_k z_k` over
    n points has the variance :math:`4 / n^2 \sum_k a_k^2`, by which it is divided.
    """
    n = next_fast_len(n_times, real=True)
    amplitudes = np.asarray(shape(np.fft.rfftfreq(n, 1 / sfreq)), dtype=float)
    amplitudes[0] = 0.0  # zero mean
    amplitudes *= n / (2 * np.sqrt(np.sum(amplitudes**2)))
    used = np.flatnonzero(amplitudes > 1e-6 * amplitudes.max())  # a rhythm fills few of the bins: draw only those
    spectra = np.zeros((n_signals, amplitudes.size), dtype=complex)
    spectra[:, used] = rng.standard_normal((n_signals, used.size, 2)).view(complex)[..., 0] * amplitudes[used]
    return irfft(spectra, n, axis=1)[:, :n_times]


def rhythm(rate, width):
    """Spectrum of a narrow-band oscillation: centre and standard deviation of the power spectrum in hertz."""
    return lambda frequencies: np.exp(-0.25 * ((frequencies - rate) / width) ** 2)


def one_over_f(frequencies):
    """Spectrum of background activity: power falls with the 1.5th power of the frequency from 1 Hz on."""
    return np.maximum(frequencies, 1.0) ** -0.75


def broadband(frequencies):
    """Spectrum that is flat from 8 to 30 Hz and falls off smoothly outside."""
    return 1 / ((1 + np.exp(-(frequencies - 8.0) / 0.5)) * (1 + np.exp((frequencies - 30.0) / 1.0)))


def wander(rng, n_signals, n_times, sfreq, spread=0.3):
    """Slow changes of amplitude, over seconds to a minute, about 1, shape (n_signals, n_times).

    ``spread`` is the standard deviation of their logarithm.
    """
    slow = coloured(rng, n_signals, n_times, sfreq, lambda frequencies: np.exp(-frequencies / 0.05))
    return np.exp(spread * slow)
