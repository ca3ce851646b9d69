"""From trials with gaps to restored signal: patches, windows, the networks, and amplitude.

Everything here sees zeros, or what is interpolated from visible samples, where the signal is lost.
"""

import functools

import numpy as np
import torch

from ...montage import canonical_name
from ...networks import channel_info
from ...signals import resample_trials
from .collection import COLLECTION
from .form import window_length

HEAD_RADIUS = 0.099
"""Mean distance of the electrodes of the 10-5 system from their origin, in metres."""


def cut_patches(n_times, length):
    """First samples of the patches that cover a trial.

    Parameters
    ----------
    n_times : int
        Samples of a trial.
    length : int
        Samples of a patch.

    Returns
    -------
    starts : ndarray of int, shape (n_patches,)
        One after the other; where samples are left over at the end, a last one that overlaps the one before it.

    Examples
    --------
    >>> from skeeg.methods.gram.restoring import cut_patches
    >>> cut_patches(500, 200).tolist()
    [0, 200, 300]
    """
    starts = np.arange(0, n_times - length + 1, length)
    return starts if n_times % length == 0 else np.append(starts, n_times - length)


def hide_patches(lost, starts, length, n_times):
    """Tell which patches hold a lost sample.

    Parameters
    ----------
    lost : ndarray of bool, shape (n_trials, n_channels, n_times_in)
        True where the signal is lost, at the rate of the recording.
    starts : ndarray of int, shape (n_patches,)
        First sample of each patch, at the rate of the networks.
    length : int
        Samples of a patch.
    n_times : int
        Samples of a trial at the rate of the networks.

    Returns
    -------
    hidden : ndarray of bool, shape (n_trials, n_patches, n_channels)
        True where a patch must not be looked at.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.methods.gram.restoring import hide_patches
    >>> lost = np.zeros((1, 1, 8), bool)
    >>> lost[0, 0, 3] = True
    >>> hide_patches(lost, np.array([0, 2]), 2, 4)[0, :, 0].tolist()
    [True, False]
    """
    before = np.concatenate([np.zeros((*lost.shape[:2], 1), int), np.cumsum(lost, axis=2)], axis=2)
    scale = lost.shape[2] / n_times
    first = np.floor(starts * scale + 1e-9).astype(int)
    stop = np.minimum(np.ceil((starts + length) * scale - 1e-9).astype(int), lost.shape[2])
    return (before[..., stop] > before[..., first]).transpose(0, 2, 1)


def change_length(data, n_times):
    """Resample trials to a number of samples.

    Parameters
    ----------
    data : ndarray, shape (n_trials, n_channels, n_times_in)
        Trials.
    n_times : int
        Samples wanted.

    Returns
    -------
    resampled : ndarray, shape (n_trials, n_channels, n_times)
        Trials over the same time.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.methods.gram.restoring import change_length
    >>> change_length(np.ones((1, 1, 7)), 5).round(6).tolist()
    [[[1.0, 1.0, 1.0, 1.0, 1.0]]]
    """
    n_old = data.shape[2]
    return data if n_old == n_times else resample_trials(data, n_times / n_old, npad=min(100, n_old - 1))


@torch.no_grad()
def reconstruct(network, patches, hidden, channels, batch_size, device, window="auto"):
    """Shape of all patches, the hidden ones guessed from the visible ones of their window.

    Parameters
    ----------
    network : GramPretrainingNetwork
        Network, its tokenizer inside.
    patches : ndarray, shape (n_trials, n_patches, n_channels, length)
        Patches in units of the networks; hidden ones are taken for zero.
    hidden : ndarray of bool, shape (n_trials, n_patches, n_channels)
        Patches that are not looked at.
    channels : ndarray of int, shape (n_channels,)
        Positions of the electrodes in the collection.
    batch_size : int
        Windows at a time.
    device : torch.device or str
        Where to compute.
    window : int or "auto"
        Patches of a window.

    Returns
    -------
    shapes : ndarray, shape (n_trials, n_patches, n_channels, length)
        Patches without amplitude; zeros in windows of which nothing is visible.

    Notes
    -----
    Visible patches get the base classes that the tokenizer gives them, hidden ones those that the masked autoencoder
    guesses; the tokenizer's decoder makes shapes of all together. A trial is cut into windows of equal length, give
    or take one patch; a batch holds windows with equally many hidden patches.
    """
    n_patches, n_channels = patches.shape[1:3]
    longest = min(window_length(n_channels, n_patches, window), network.sizes.max_seconds)
    dtype = next(network.parameters()).dtype
    shapes = np.zeros(patches.shape, dtype=np.float32 if dtype == torch.float32 else np.float64)
    for part_of_time in np.array_split(np.arange(n_patches), -(-n_patches // longest)):
        covered = hidden[:, part_of_time]
        counts = covered.sum(axis=(1, 2))
        for count in np.unique(counts[counts < covered[0].size]):
            rows = np.flatnonzero(counts == count)
            for part in np.array_split(rows, -(-len(rows) // batch_size)):
                at = np.ix_(part, part_of_time)
                mask = torch.as_tensor(hidden[at], device=device)
                x = torch.as_tensor(np.where(hidden[at][..., None], 0, patches[at]), dtype=dtype, device=device)
                shapes[at] = _decode(network, x, mask, channels).cpu().numpy()
    return shapes


def _decode(network, x, hidden, channels):
    """Shapes of the patches (batch, n_seconds, n_channels, length) of one batch."""
    trials = x.permute(0, 2, 1, 3).flatten(2)
    codes = network.vqgan.encode(trials, channels)
    if hidden.any():
        codes = torch.where(hidden, network.restore_codes(trials, hidden, channels), codes)
    return network.vqgan.decode(codes, channels)


def scale_shapes(shapes, patches, hidden, nearness):
    """Give shapes the amplitude and the offset of what is visible.

    Parameters
    ----------
    shapes : ndarray, shape (n_trials, n_patches, n_channels, length)
        Patches without amplitude.
    patches : ndarray, shape (n_trials, n_patches, n_channels, length)
        Recorded patches.
    hidden : ndarray of bool, shape (n_trials, n_patches, n_channels)
        Patches that are lost.
    nearness : ndarray, shape (n_channels, n_channels)
        Weight of one electrode for another that is lost for the whole trial.

    Returns
    -------
    waves : ndarray, shape (n_trials, n_patches, n_channels, length)
        Shapes with a mean of zero and the spread of the electrode's visible patches; electrodes without any take the
        weighted mean spread of the others.
    offsets : ndarray, shape (n_trials, n_patches, n_channels)
        Mean of each patch; that of a hidden one lies on the line between the visible ones before and after it.
    """
    waves = shapes - shapes.mean(axis=3, keepdims=True)
    means = patches.mean(axis=3)
    seen = ~hidden[..., None]
    recorded = np.where(seen, patches - means[..., None], 0)
    power = np.square(recorded, dtype=np.float64).sum(axis=(1, 3))
    shaped = np.square(np.where(seen, waves, 0), dtype=np.float64).sum(axis=(1, 3))
    known = shaped > 0
    scale = np.sqrt(np.divide(power, shaped, out=np.zeros_like(power), where=known))
    weights = nearness[None] * known[:, None, :]
    total = weights.sum(axis=2)
    near = np.einsum("nij,nj->ni", weights, scale) / np.where(total > 0, total, 1)
    scale = np.where(known, scale, near)
    offsets = np.where(hidden, 0, means)
    times = np.arange(hidden.shape[1])
    for trial, channel in zip(*np.nonzero(hidden.any(axis=1) & ~hidden.all(axis=1)), strict=True):
        kept = ~hidden[trial, :, channel]
        offsets[trial, :, channel] = np.interp(times, times[kept], means[trial, kept, channel])
    return waves * scale[:, None, :, None], offsets


def near_electrodes(channels):
    """Tell how much each electrode says of the amplitude at each other.

    Parameters
    ----------
    channels : sequence of int, length n_channels
        Positions of the electrodes in the collection.

    Returns
    -------
    nearness : ndarray, shape (n_channels, n_channels)
        :math:`1 / (d^2 + 0.01)` with the distance in head radii; small and equal for derivations, which have no place.

    Examples
    --------
    >>> from skeeg.methods.gram.restoring import near_electrodes
    >>> near = near_electrodes([41, 40, 80])  # Cz, C1 and O1
    >>> bool(near[0, 1] > near[0, 2])
    True
    """
    distance = _distances()[np.ix_(channels, channels)]
    return 1 / (np.where(np.isnan(distance), 2.0, distance) ** 2 + 0.01)


@functools.cache
def _distances():
    """Distances within the collection in head radii; NaN from and to derivations."""
    points = np.array([info["loc"][:3] for info in channel_info([canonical_name(name) for name in COLLECTION])])
    return np.linalg.norm(points[:, None] - points[None], axis=2) / HEAD_RADIUS


def restore_trials(network, data, lost, channels, *, rate, scale, batch_size, device, window="auto"):
    """Restore what is lost of trials.

    Parameters
    ----------
    network : GramPretrainingNetwork
        Network in evaluation mode, its tokenizer inside.
    data : ndarray, shape (n_trials, n_channels, n_times)
        Microvolts; where the signal is lost, whatever visible samples make of it (lines between them).
    lost : ndarray of bool, shape (n_trials, n_channels, n_times)
        True where the signal is lost.
    channels : ndarray of int, shape (n_channels,)
        Positions of the electrodes in the collection.
    rate : float
        Sampling rate of `data` over that of the networks.
    scale : float
        Microvolts of one unit of the networks.
    batch_size, device, window
        See `reconstruct`.

    Returns
    -------
    waves, offsets : ndarray, shape (n_trials, n_channels, n_times)
        Estimates are their sum: what the networks make of a lost patch, and the level it stands on. In windows of which
        nothing is visible, the level is that of `data`, and nothing stands on it.
    """
    length, n_times = network.sizes.patch_length, max(int(round(data.shape[2] / rate)), 1)
    if n_times < length:
        raise ValueError(
            f"X: {n_times} sample(s), that is {n_times} feature(s), a channel at the network's rate, but one patch "
            f"takes {length}."
        )
    slow = change_length(data, n_times)
    starts = cut_patches(n_times, length)
    samples = starts[:, None] + np.arange(length)
    patches = slow[:, :, samples].transpose(0, 2, 1, 3) / scale
    hidden = hide_patches(lost, starts, length, n_times)
    shapes = reconstruct(network, patches, hidden, channels, batch_size, device, window)
    waves, offsets = scale_shapes(shapes, patches, hidden, near_electrodes(channels))
    blind = ~shapes.any(axis=(2, 3))[:, :, None, None]
    parts = np.where(blind, 0, waves), np.where(blind, patches, offsets[..., None])
    restored = np.empty((2, *slow.shape), dtype=data.dtype)
    for patch in reversed(range(len(starts))):  # the last patch overlaps the one before it, which comes first
        for part, made in zip(restored, parts, strict=True):
            part[:, :, samples[patch]] = made[:, patch] * scale
    return tuple(change_length(part, data.shape[2]) for part in restored)
