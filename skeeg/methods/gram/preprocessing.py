"""Preprocessing of Gram: channels of the published collection, sampling rate, unit, and windows of whole seconds."""

import re

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from ...filtering import BandPass, Notch, Resample, at_rate
from ...montage import TEMPLATES, find_electrodes
from ...spatial import AverageReference

RATE = 200.0
SCALE = 100.0  # microvolts of one unit of the network
MAX_SECONDS = 16  # patches of one channel that the temporal encoding has positions for
COLLECTION = tuple(name.upper() for name in TEMPLATES["gram130"])
"""114 electrodes and 16 bipolar derivations, as published; their order is that of the channel encoding."""

_PATCHES = 256  # patches of a window by which upstream chooses its length
_MODERN = {"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8"}
_TUH = re.compile(r"^EEG .*|.*-(REF|LE)$", re.IGNORECASE)


def channel_indices(ch_names, argument="ch_names"):
    """Find channels, electrodes or bipolar derivations such as "F7-T7", in `COLLECTION`: int64 (n_channels,).

    The collection has T3, T4, T5 and T6 beside T7, T8, P7 and P8, with encodings of their own, as recordings that the
    published weights were trained on use either. Written as in the files of the Temple University Hospital,
    "EEG T3-REF", and within a derivation the old names mean the new ones. Case and padding dots do not matter.

    Examples
    --------
    >>> from skeeg.methods.gram import channel_indices
    >>> channel_indices(["Fp1", "T3", "EEG T3-REF", "f7-t3"]).tolist()
    [0, 88, 37, 115]
    """
    names = [_as_published(str(name)) for name in ch_names]
    hint = f" Gram knows {len(COLLECTION)} electrodes and derivations; drop or rename the others."
    found = find_electrodes(names, COLLECTION, argument, hint)
    twice = [str(name) for name, index in zip(ch_names, found, strict=True) if found.count(index) > 1]
    if twice:
        raise ValueError(f"{argument}: {', '.join(twice)} are the same electrode of the collection.")
    return np.array(found, dtype=np.int64)


def _as_published(name):
    """Rename the old names of the temporal electrodes where they stand for the new ones."""
    bare = re.sub(r"-(REF|LE|AR)$", "", name.strip().upper().removeprefix("EEG ")).rstrip(".")
    if "-" in bare:
        return "-".join(_MODERN.get(part, part) for part in bare.split("-"))
    return _MODERN.get(bare, bare) if _TUH.match(name.strip()) else bare


def channels_of(X):
    """Find the channels of an `EEGArray` in the collection."""
    if X.ch_names is None:
        raise ValueError("ch_names: X carries no channel names; pass ch_names=... or trials that carry their names.")
    return channel_indices(X.ch_names)


def gram_preprocessing(band=(0.1, 75.0), notch=50.0, reference="average", sfreq_out=RATE):
    """Make the published preprocessing of recordings: reference, sampling rate, band-pass, notch filter.

    Best applied to whole recordings: the kernel of a high-pass at 0.1 Hz is longer than most trials. Gram's estimators
    bring trials to the sampling rate and the unit of the network by themselves, with or without these steps.

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
    >>> from skeeg.array import EEGArray
    >>> from skeeg.methods.gram import gram_preprocessing
    >>> X = EEGArray(np.random.default_rng(0).normal(size=(1, 3, 12800)), ("C3", "Cz", "C4"), 256)
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


def network_input(sizes):
    """Make the steps from trials in microvolts to the input of a network of these sizes; nothing is learned."""
    resample = FunctionTransformer(at_rate, kw_args={"rate": sizes.sfreq})
    patches = FunctionTransformer(_scaled, kw_args={"patch_length": sizes.patch_length, "scale": sizes.scale})
    return Pipeline([("resample", resample), ("patches", patches)])


def _scaled(X, patch_length, scale):
    """Trials cut to whole patches, in the unit of the network."""
    n_times = X.shape[2]
    if n_times < patch_length:
        raise ValueError(too_short(n_times, patch_length))
    return X[:, :, : n_times // patch_length * patch_length] * np.asarray(X).dtype.type(1 / scale)


def too_short(n_times, patch_length):
    """Message of the error for trials without a whole patch."""
    return (
        f"X: {n_times} sample(s), that is {n_times} feature(s), a channel at the network's rate, but one patch takes "
        f"{patch_length}."
    )


def window_starts(n_seconds, max_seconds):
    """First patches of windows of equal length, as few as possible, that cover a trial, and that length."""
    n_windows = -(-n_seconds // max_seconds)
    length = -(-n_seconds // n_windows)
    return np.linspace(0, n_seconds - length, n_windows).round().astype(int).tolist(), length


def window_length(n_channels, n_patches):
    """Patches of a channel in a window: about 256 of all channels, at most 16, and those that a trial has."""
    return min(max(round(_PATCHES / n_channels), 1), MAX_SECONDS, n_patches)


def cut_windows(data, patch_length, longest):
    """Cut trials into overlapping windows (n_trials, n_windows, n_channels, n_times) that cover them; first patches."""
    starts, length = window_starts(data.shape[2] // patch_length, longest)
    cut = [data[:, :, start * patch_length : (start + length) * patch_length] for start in starts]
    return np.stack(cut, axis=1), starts
