"""What recordings are brought to before a network sees them: centred, scaled, or uncorrelated."""

import numpy as np

_NORMALISATIONS = ("global", "channel", "whiten")


def standards(arrays, normalize):
    """Find what EEG is centred on, divided by, or multiplied by.

    Parameters
    ----------
    arrays : list of ndarray, shape (n_trials, n_channels, n_times)
        EEG to train on.
    normalize : {"global", "channel", "whiten"}
        One scale for all channels, which are not centred; or each channel its own; or also a matrix that makes them
        uncorrelated.

    Returns
    -------
    mean, scale : ndarray, shape (n_channels,)
        Of each channel.
    matrix : ndarray, shape (n_channels, n_channels), or None
        Instead of the division, with "whiten".

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.methods.beira.standards import standards
    >>> [part.tolist() for part in standards([np.array([[[1.0, 3.0], [5.0, 5.0]]])], "channel")[:2]]
    [[2.0, 5.0], [1.0, 1.0]]
    """
    if normalize not in _NORMALISATIONS:
        options = ", ".join(map(repr, _NORMALISATIONS))
        raise ValueError(f"normalize: got {normalize!r}, expected one of {options}.")
    mean, scale = moments(arrays)
    if normalize == "global":
        level = np.sqrt(np.mean(scale**2) + np.var(mean))  # spread over all channels and times
        mean, scale = np.zeros_like(mean), np.full_like(scale, level)
    return mean, np.where(scale > 0, scale, 1.0), whitener(arrays, mean) if normalize == "whiten" else None


def moments(arrays):
    """Mean and standard deviation of each channel over arrays.

    Parameters
    ----------
    arrays : sequence of ndarray, shape (n_trials, n_channels, ...)
        Signals.

    Returns
    -------
    mean, scale : ndarray, shape (n_channels,)
        In float64.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.methods.beira.standards import moments
    >>> [part.tolist() for part in moments([np.array([[[1.0, 3.0]]])])]
    [[2.0], [1.0]]
    """
    axes = tuple(axis for axis in range(arrays[0].ndim) if axis != 1)
    count = sum(array.size // array.shape[1] for array in arrays)
    mean = sum(array.sum(axis=axes, dtype=np.float64) for array in arrays) / count
    shape = tuple(-1 if axis == 1 else 1 for axis in range(arrays[0].ndim))
    squares = sum(np.square(array - mean.reshape(shape), dtype=np.float64).sum(axis=axes) for array in arrays)
    return mean, np.sqrt(squares / count)


def whitener(arrays, mean, least=1e-6):
    """Symmetric matrix that makes channels uncorrelated with unit variance.

    Parameters
    ----------
    arrays : sequence of ndarray, shape (n_trials, n_channels, n_times)
        EEG.
    mean : ndarray, shape (n_channels,)
        Mean of each channel.
    least : float
        Directions whose variance is less than this share of the largest are set to zero: an average reference leaves
        one that holds nothing but rounding.

    Returns
    -------
    matrix : ndarray, shape (n_channels, n_channels)
        ``C ** -0.5`` of the covariance C.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.methods.beira.standards import whitener
    >>> x = np.random.default_rng(0).normal(size=(1, 3, 900)) * np.array([[1.0], [10.0], [100.0]])
    >>> np.allclose(np.cov(whitener([x], x.mean(axis=(0, 2))) @ x[0], bias=True), np.eye(3))
    True
    """
    total, count = 0.0, 0
    for array in arrays:
        for trial in np.asarray(array):
            total, count = total + (trial @ trial.T).astype(np.float64), count + trial.shape[1]
    values, vectors = np.linalg.eigh(total / count - np.outer(mean, mean))
    kept = values > least * values[-1]
    return (vectors[:, kept] / np.sqrt(values[kept])) @ vectors[:, kept].T
