"""Amplitude: what brings recordings of different people, amplifiers and units to one scale."""

import numpy as np

from ...covariance import inverse_sqrt, mean_covariances

SCALES = ("ea", "zscore", None)


def scale_by_subject(X, subjects, scale):
    r"""Scale the trials of every subject by that subject's own mean covariance.

    .. math:: \tilde X = R_s^{-1/2} X, \quad R_s = \frac{1}{n_s} \sum_{i \in s} \mathrm{cov}(X_i)

    with all of :math:`R_s` for ``"ea"`` [1]_, its diagonal for ``"zscore"``.

    Parameters
    ----------
    X : ndarray of float32 or float64, shape (n_trials, n_channels, n_times)
        Trials.
    subjects : array-like, shape (n_trials,), or None
        Subject of each trial; None takes all for one subject.
    scale : {"ea", "zscore", None}
        None gives the trials back as they are.

    Returns
    -------
    X : ndarray, shape (n_trials, n_channels, n_times)
        Scaled trials, of the same type.
    whitener : ndarray, shape (n_channels, n_channels), or None
        What scales trials of somebody else: by the mean of the subjects' references.

    References
    ----------
    .. [1] He, H., & Wu, D. (2020). Transfer learning for brain-computer interfaces: A Euclidean space data alignment
       approach. IEEE Transactions on Biomedical Engineering, 67(2), 399-410.
       https://doi.org/10.1109/TBME.2019.2913914

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.methods.ct_adapttl.scaling import scale_by_subject
    >>> X = np.random.default_rng(0).normal(size=(10, 2, 500))
    >>> scaled, _ = scale_by_subject(X * np.repeat([1, 40], 5)[:, None, None], np.repeat(["a", "b"], 5), "ea")
    >>> scaled[:5].std().round(1), scaled[5:].std().round(1)
    (np.float64(1.0), np.float64(1.0))
    """
    if scale is None:
        return X, None
    names, groups = np.unique(np.zeros(len(X)) if subjects is None else subjects, return_inverse=True)
    references = _references(X, groups, len(names), scale)
    whiteners = inverse_sqrt(references).astype(X.dtype)
    scaled = np.empty_like(X)
    for group, whitener in enumerate(whiteners):
        scaled[groups == group] = whitener @ X[groups == group]
    return scaled, inverse_sqrt(references.mean(axis=0))


def whitener_of(X, scale):
    """Matrix that scales trials of one person by the reference of these trials.

    Parameters
    ----------
    X : ndarray, shape (n_trials, n_channels, n_times)
        Trials of the person.
    scale : {"ea", "zscore"}
        See `scale_by_subject`.

    Returns
    -------
    whitener : ndarray, shape (n_channels, n_channels)
        Symmetric.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.methods.ct_adapttl.scaling import whitener_of
    >>> whitener_of(np.array([[[3.0, -3.0, 3.0, -3.0]]]), "zscore").round(3)
    array([[0.289]])
    """
    return inverse_sqrt(_references(np.asarray(X), np.zeros(len(X), dtype=np.intp), 1, scale)[0])


def _references(X, groups, n_groups, scale):
    """Mean covariance of each group, or its diagonal."""
    references = mean_covariances(X, groups, n_groups)
    return references if scale == "ea" else references * np.eye(X.shape[1])
