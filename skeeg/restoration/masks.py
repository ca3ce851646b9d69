"""What is lost of each trial: drawn, or told by NaN and a mask."""

import numpy as np
from sklearn.utils import check_random_state

LOSSES = ("electrodes", "seconds", "patches")


def draw_mask(shape, sfreq, loss="patches", share=0.3, seconds=1.0, random_state=None):
    """Draw what is lost of each trial.

    Parameters
    ----------
    shape : tuple of int, (n_trials, n_channels, n_times)
        Shape of the trials.
    sfreq : float
        Sampling rate in hertz.
    loss : "electrodes" | "seconds" | "patches"
        Whole electrodes; stretches of all electrodes; or stretches of single electrodes.
    share : float
        Share that is lost, between 0 and 1; at least one unit is lost and at least one stays.
    seconds : float
        Length of a stretch; what is left over at the end belongs to the last one.
    random_state : int, RandomState or None
        Seed of the draw.

    Returns
    -------
    mask : ndarray of bool, shape (n_trials, n_channels, n_times)
        True where the signal is lost; every trial loses equally much.

    Examples
    --------
    >>> from skeeg.restoration import draw_mask
    >>> mask = draw_mask((3, 8, 800), sfreq=200, loss="electrodes", share=0.25, random_state=0)
    >>> mask.mean(), mask.all(axis=2).sum(axis=1).tolist()
    (np.float64(0.25), [2, 2, 2])
    """
    n_trials, n_channels, n_times = shape
    if loss not in LOSSES:
        raise ValueError(f"loss: got {loss!r}, expected one of {', '.join(LOSSES)}.")
    if not 0 < share < 1:
        raise ValueError(f"share: got {share}, expected a share between 0 and 1.")
    length = max(int(round(seconds * sfreq)), 1)
    n_stretches = max(n_times // length, 1)
    n_units = {"electrodes": n_channels, "seconds": n_stretches, "patches": n_channels * n_stretches}[loss]
    if n_units < 2:
        raise ValueError(f"loss: trials of shape {tuple(shape)} have only one of the {loss}, so none of them can stay.")
    n_lost = int(np.clip(round(share * n_units), 1, n_units - 1))
    rng = check_random_state(random_state)
    lost = np.array([rng.permutation(n_units) < n_lost for _ in range(n_trials)])
    grid = {"electrodes": (n_channels, 1), "seconds": (1, n_stretches), "patches": (n_channels, n_stretches)}[loss]
    units = np.broadcast_to(lost.reshape(n_trials, *grid), (n_trials, n_channels, n_stretches))
    return units[:, :, np.minimum(np.arange(n_times) // length, n_stretches - 1)]


def find_lost(X, mask=None):
    """Tell which samples are lost: those that are NaN, and those under the mask.

    Parameters
    ----------
    X : ndarray, shape (n_trials, n_channels, n_times)
        Trials.
    mask : array-like of bool, shape (n_trials, n_channels, n_times or n_stretches), or None
        True where the signal is lost, for each sample or for each of equally long stretches.

    Returns
    -------
    lost : ndarray of bool, shape (n_trials, n_channels, n_times)
        True where the signal is lost.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.restoration import find_lost
    >>> find_lost(np.array([[[1.0, np.nan, 3.0, 4.0]]]), mask=[[[False, True]]]).tolist()
    [[[False, True, True, True]]]
    """
    data = np.asarray(X)
    lost = np.isnan(data)
    if mask is None:
        return lost
    mask = np.asarray(mask)
    if mask.dtype != bool:
        raise TypeError(f"mask: expected booleans, True where the signal is lost, got {mask.dtype}.")
    n_times = data.shape[2]
    if mask.ndim != 3 or mask.shape[:2] != data.shape[:2] or not mask.shape[2] or n_times % mask.shape[2]:
        raise ValueError(
            f"mask: got shape {mask.shape} for trials of shape {data.shape}, expected one value for each sample or for "
            "each of equally long stretches."
        )
    return lost | np.repeat(mask, n_times // mask.shape[2], axis=2)
