"""Trials of any headset in the form Gram takes: at 200 Hz, in units of 0.1 mV, windows of whole seconds."""

import numpy as np
from sklearn.pipeline import Pipeline

from ...filtering import AverageReference, BandPass, Notch, Resample, at_rate
from .collection import channel_indices
from .network import window_starts
from .sizes import MAX_SECONDS

RATE = 200.0
SCALE = 100.0
"""Microvolts of one unit."""
_PATCHES = 256  # patches of a window that upstream chooses its length by


def gram_preprocessing(band=(0.1, 75.0), notch=50.0, reference="average", sfreq_out=RATE):
    """Give the steps that upstream prepares recordings by: reference, rate, band-pass, mains hum.

    Best applied to whole recordings: the kernel of a high-pass at 0.1 Hz is longer than most trials. Gram's estimators
    bring trials to 200 Hz and to units of 0.1 mV by themselves, with or without these steps.

    Parameters
    ----------
    band : tuple of two floats or None
        Edges of the band-pass in hertz, 0.1 to 75 as upstream's guide says; its code's own default is
        ``(None, 75.0)``, no high-pass. None leaves the step out.
    notch : float, tuple of float or None
        Mains frequency in hertz, the fundamental only; None leaves the step out.
    reference : {"average", None}
        Average reference, or the one recorded with (as upstream does for HMC and SHU).
    sfreq_out : float or None
        Sampling rate of the result; None keeps that of the trials.

    Returns
    -------
    steps : sklearn.pipeline.Pipeline
        Unfitted.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.array import make_eeg
    >>> from skeeg.methods.gram import gram_preprocessing
    >>> X = make_eeg(np.random.default_rng(0).normal(size=(1, 3, 12800)), ("C3", "Cz", "C4"), 256)
    >>> gram_preprocessing().fit_transform(X).shape
    (1, 3, 10000)
    """
    if reference not in ("average", None):
        raise ValueError(f"reference: got {reference!r}, expected 'average' or None.")
    steps = [] if reference is None else [("reference", AverageReference())]
    steps += [] if sfreq_out is None else [("resample", Resample(sfreq_out))]
    steps += [] if band is None else [("bandpass", BandPass(*band))]
    steps += [] if notch is None else [("notch", Notch(notch))]
    return Pipeline(steps)


def electrodes_of(X, old_names="auto"):
    """Positions of the electrodes of trials in the collection.

    Parameters
    ----------
    X : EEGArray, shape (n_trials, n_channels, n_times)
        Trials that know their electrodes' names.
    old_names : str
        See `channel_indices`.

    Returns
    -------
    channels : ndarray of int64, shape (n_channels,)
        Positions.
    """
    if X.ch_names is None:
        raise ValueError(
            "ch_names: X carries no channel names, so the places of its electrodes are unknown; pass ch_names=... or "
            "trials that carry their names."
        )
    return channel_indices(X.ch_names, old_names)


def whole_patches(X, estimator, dtype=np.float32):
    """Trials at the network's rate, in its units, cut to whole patches.

    Parameters
    ----------
    X : EEGArray, shape (n_trials, n_channels, n_times)
        Trials in microvolts.
    estimator : estimator
        Its settings ``resample``, ``scale`` and ``patch_length``.
    dtype : numpy dtype
        Type of the result.

    Returns
    -------
    data : ndarray, shape (n_trials, n_channels, n_seconds * patch_length)
        Trials.
    """
    if not estimator.scale > 0:
        raise ValueError(f"scale: got {estimator.scale}, expected a number of microvolts above 0.")
    data, length = np.asarray(at_rate(X, estimator.resample)), estimator.patch_length
    n_patches = data.shape[2] // length
    if not n_patches:
        n = data.shape[2]
        raise ValueError(
            f"X: {n} sample(s), that is {n} feature(s), a channel at the network's rate, but one patch takes {length}."
        )
    data = data[:, :, : n_patches * length].astype(dtype)
    data *= dtype(1 / estimator.scale)
    return data


def window_length(n_channels, n_patches, window="auto"):
    """Patches of a window of training.

    Parameters
    ----------
    n_channels, n_patches : int
        Electrodes, and patches of each in a trial.
    window : int or "auto"
        Wanted; ``"auto"`` takes what makes about 256 patches of all electrodes, as upstream.

    Returns
    -------
    length : int
        At most 16, and at most what there is.
    """
    if window != "auto" and not (isinstance(window, int | np.integer) and 1 <= window <= MAX_SECONDS):
        raise ValueError(f"window: got {window!r}, expected 'auto' or 1 to {MAX_SECONDS} patches.")
    wanted = max(round(_PATCHES / n_channels), 1) if window == "auto" else int(window)
    return min(wanted, MAX_SECONDS, n_patches)


def cut_windows(data, patch_length, longest):
    """Cut trials into windows of equal length that cover them.

    Parameters
    ----------
    data : ndarray, shape (n_trials, n_channels, n_seconds * patch_length)
        Trials.
    patch_length : int
        Samples of a patch.
    longest : int
        Patches of a window at the most.

    Returns
    -------
    windows : ndarray, shape (n_trials, n_windows, n_channels, length * patch_length)
        Windows; they overlap where they must.
    starts : list of int
        First patch of each.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.methods.gram.form import cut_windows
    >>> windows, starts = cut_windows(np.zeros((2, 3, 5 * 200)), 200, 4)
    >>> windows.shape, starts
    ((2, 2, 3, 600), [0, 2])
    """
    starts, length = window_starts(data.shape[2] // patch_length, longest)
    cut = [data[:, :, start * patch_length : (start + length) * patch_length] for start in starts]
    return np.stack(cut, axis=1), starts
