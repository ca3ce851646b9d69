"""Patterns of spatial filters: topographies of the sources that a decoder extracts.

The weights of a filter do not show its source, for they also suppress noise. The pattern, the covariance of the data
with the output of the filter, does [1]_.

References
----------
.. [1] Haufe, S., et al. (2014). On the interpretation of weight vectors of linear models in multivariate neuroimaging.
   NeuroImage, 87, 96-110.
"""

from dataclasses import dataclass

import numpy as np
import torch

from ..covariance import filter_patterns
from ..filtering import FilterBank
from .linear_maps import LinearMap, fitted_network, identity_map, input_map, read_trials, split_pipeline, step_map
from .plots import plot_topomap


@dataclass(frozen=True)
class Patterns:
    """Patterns of filters.

    Attributes
    ----------
    spatial : ndarray, shape (n_filters, n_channels)
        At the electrodes of the trials as they enter the pipeline.
    temporal : ndarray, shape (n_filters, n_lags), or None
        Time course of each pattern, for filters that reach over time.
    strength : ndarray, shape (n_filters,)
        Share of each filter in the data (variance of its output), or for the tangent space the logarithm of the factor
        by which the power of the source changes towards the second class.
    ch_names : tuple of str or None
        Electrodes.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.explain import Patterns
    >>> Patterns(np.eye(2), None, np.ones(2), ("C3", "C4")).spatial.shape
    (2, 2)
    """

    spatial: np.ndarray
    temporal: np.ndarray | None
    strength: np.ndarray
    ch_names: tuple | None = None

    def __repr__(self):
        """Show counts, not the values."""
        n_filters, n_channels = self.spatial.shape
        return f"Patterns({n_filters} patterns, {n_channels} channels)"

    def plot(self, n_patterns=None, names=None):
        """Draw scalp maps of the first patterns, or of all, and give the figure; names as in `plot_topomap`."""
        return plot_topomap(self.spatial[:n_patterns], self.ch_names, names, unit="pattern")


def haufe_patterns(data, filters):
    r"""Patterns of linear filters.

    .. math:: A = \Sigma_x W (W^T \Sigma_x W)^{-1}

    Parameters
    ----------
    data : ndarray, shape (n_samples, n_features)
        What the filters are applied to: samples of channels, or features of trials.
    filters : ndarray, shape (n_filters, n_features)
        One filter a row, such as ``coef_`` of a linear discriminant analysis; gives one pattern a row.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.explain import haufe_patterns
    >>> source, noise = np.random.default_rng(0).normal(size=(2, 5000))
    >>> data = np.stack([source + noise, noise], axis=1)
    >>> haufe_patterns(data, np.array([[1.0, -1.0]])).round(1).tolist()  # the source is in the first channel alone
    [[1.0, 0.0]]
    """
    data = np.asarray(data, dtype=np.float64)
    centred = data - data.mean(axis=0)
    return filter_patterns(centred.T @ centred / len(centred), filters)


def spatial_patterns(estimator, X):
    """Patterns of the spatial filters inside a fitted estimator or pipeline, at the channels of X.

    Parameters
    ----------
    estimator : estimator or Pipeline
        One that holds `CSP` (skeeg's or MNE's, or one for each band of a `FilterBank`), a tangent space with a linear
        classifier behind it, or a network that starts with a temporal and a spatial convolution (EEGNet,
        ShallowFBCSPNet, Deep4Net, EEGConformer, CTAdaptTLNet, MIRepNet, ...), or with one over both (the U-Net of
        `EEGToMEG`).
    X : anything `as_eeg` accepts, shape (n_trials, n_channels, n_times)
        Trials as they enter it.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg import baseline
    >>> from skeeg.explain import spatial_patterns
    >>> X, y = np.random.default_rng(0).normal(size=(20, 3, 100)), np.repeat([0, 1], 10)
    >>> X[10:, 1] *= 3
    >>> abs(spatial_patterns(baseline("CSP+LDA").fit(X, y), X).spatial[0]).argmax()
    np.int64(1)
    """
    from pyriemann.tangentspace import TangentSpace

    X = read_trials(estimator, X)
    steps, final = split_pipeline(estimator)
    step, trials = identity_map(X), X
    for place, (name, one) in enumerate(steps):
        if (found := _of_filters(one, X, step)) is not None:
            return found
        if isinstance(one, TangentSpace):
            if place + 1 < len(steps):
                raise ValueError(f"estimator: {steps[-1][0]} is between the tangent space and the classifier.")
            return _tangent([step for _, step in steps], final, X)
        if not type(one).__name__.endswith("Covariances"):
            found, trials = step_map(one, trials, name)
            step = step.then(found)
    if (found := _of_filters(final, X, step)) is not None:
        return found
    if fitted_network(final) is not None:
        return _network(final, X, trials, step)
    raise ValueError(f"estimator: {type(final).__name__} has no spatial filters.")


def _of_filters(one, X, step):
    """Patterns of the spatial filters of a transformer, behind a linear step, or None if it has none."""
    if isinstance(one, FilterBank) and one.estimators_ and _spatial_filters(one.estimators_[0]) is not None:
        bands = one._each_band(X.like(_stacked(X, step), ch_names=None))
        each = [_spatial(band, _spatial_filters(csp), X) for csp, band in zip(one.estimators_, bands, strict=True)]
        spatial, strength = ([vars(one)[part] for one in each] for part in ("spatial", "strength"))
        return Patterns(np.concatenate(spatial), None, np.concatenate(strength), X.ch_names)
    filters = _spatial_filters(one)
    return None if filters is None else _spatial(_stacked(X, step), filters, X)


def _spatial_filters(estimator):
    """Spatial filters in use, shape (n_filters, n_channels), or None; MNE's classes call them ``filters_``."""
    filters = vars(estimator).get("spatial_filters_", vars(estimator).get("filters_"))
    return filters[: estimator.n_components] if isinstance(filters, np.ndarray) and filters.ndim == 2 else None


def _filtered(X, step):
    """Trials after the temporal map, at the channels of the input; and at the input of the filters."""
    filtered = step.filter(np.asarray(X))
    return filtered, step.spatial @ filtered


def _stacked(X, step):
    """Channels of the input followed by those at the filters, which may have their own matrix for each trial."""
    return np.concatenate(_filtered(X, step), axis=1)


def _spatial(both, filters, X):
    n_channels = X.shape[1]
    covariance = np.cov(np.asarray(both).transpose(1, 0, 2).reshape(both.shape[1], -1))
    beside = np.concatenate([np.zeros((len(filters), n_channels)), filters], axis=1)
    strength = np.diag(beside @ covariance @ beside.T)
    return Patterns(filter_patterns(covariance, beside)[:, :n_channels], None, strength, X.ch_names)


def _tangent(steps, classifier, X):
    r"""Patterns of a linear classifier on the tangent space: sources whose power follows its output [2]_.

    The pattern :math:`a` of the classifier in the tangent space is a point :math:`C^{1/2} \exp(a) C^{1/2}` among the
    covariances; its generalised eigenvectors with the reference C are the sources.

    .. [2] Kobler, R. J., et al. (2021). On the interpretation of linear Riemannian tangent space model parameters in
       M/EEG. EMBC, 5909-5913.
    """
    from pyriemann.geometry.tangentspace import untangent_space
    from scipy.linalg import eigh

    features = X
    for one in steps:
        features = one.transform(features)
    reference = np.asarray(steps[-1].reference_)
    if not hasattr(classifier, "coef_"):
        raise ValueError(f"estimator: {type(classifier).__name__} is not linear (it has no coef_).")
    change = haufe_patterns(features, np.atleast_2d(classifier.coef_)[-1:])[0]
    factors, filters = eigh(untangent_space(change[None], reference)[0], reference)
    order = np.argsort(-np.abs(np.log(factors)))
    return Patterns((reference @ filters).T[order], None, np.log(factors)[order], X.ch_names)


def _network(final, X, trials, step):
    scale = vars(final).get("eeg_scale_")
    if scale is None:
        found = input_map(final, trials)[0]
    else:  # of EEGToMEG, which also removes means, to which patterns are invariant
        found = LinearMap(np.diag(1 / scale)[None], None)
    filtered, arriving = _filtered(X, step.then(found))
    kernels = first_kernels(fitted_network(final), arriving.shape[1])
    n_lags = kernels.shape[2]
    n_out = filtered.shape[2] - n_lags + 1
    spatial, temporal, strength = [], [], []
    for kernel in kernels:
        output = sum(np.einsum("c,nct->nt", kernel[:, k], arriving[:, :, k : k + n_out]) for k in range(n_lags))
        output = output - output.mean()
        lagged = [np.einsum("nt,nct->c", output, filtered[:, :, k : k + n_out]) for k in range(n_lags)]
        lagged = np.stack(lagged, axis=1) / max((output**2).sum(), 1e-300)
        left, size, right = np.linalg.svd(lagged, full_matrices=False)
        sign = np.sign(left[np.abs(left[:, 0]).argmax(), 0])
        spatial.append(sign * size[0] * left[:, 0])
        temporal.append(sign * right[0])
        strength.append(output.var())
    return Patterns(np.stack(spatial), np.stack(temporal), np.array(strength), X.ch_names)


def first_kernels(module, n_channels):
    """Kernels (n_filters, n_channels, n_lags) of a network that starts with convolutions over space and time.

    Of the first convolution, or of the first two, a temporal and a spatial one, as one.
    """
    convolutions = [layer for layer in module.modules() if isinstance(layer, torch.nn.Conv2d)]
    first = convolutions[0] if convolutions else None
    if first is not None and first.in_channels == 1 and first.kernel_size[0] == n_channels > 1:
        return first.weight.detach().double()[:, 0].numpy()
    for time, space in zip(convolutions[:-1], convolutions[1:], strict=True):
        covers = n_channels in space.kernel_size and min(space.kernel_size) == 1 and n_channels > 1
        if time.in_channels == 1 and min(time.kernel_size) == 1 and max(time.kernel_size) > 1 and covers:
            h = time.weight.detach().double().flatten(1).numpy()
            w = space.weight.detach().double().flatten(2).numpy()
            if space.groups > 1:  # each spatial filter follows one temporal filter
                return np.einsum("fc,fk->fck", w[:, 0], np.repeat(h, len(w) // len(h), axis=0))
            return np.einsum("fmc,mk->fck", w, h)
    raise ValueError(f"estimator: {type(module).__name__} does not start with a temporal and a spatial convolution.")
