"""Sanity checks of explanations: deletion and insertion, randomised networks, stability over seeds."""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import spearmanr
from sklearn.base import clone

from ..array import EEGArray
from ..base import params_named
from ..networks.seeding import seeded
from .attribution import attribute, choose_background
from .attribution_methods import choose_targets
from .linear_maps import Explained, split_pipeline


@dataclass(frozen=True)
class Curves:
    """Output of a network while samples are deleted, or inserted, in the order of their attribution.

    Attributes
    ----------
    share : ndarray, shape (n_steps + 1,)
        Fraction of the samples that are replaced.
    deletion, insertion, random : ndarray, shape (n_steps + 1,)
        Mean output over the trials: deletion and insertion of the samples with the largest attribution first; deletion
        in random order.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.explain import Curves
    >>> Curves(np.array([0, 1]), np.array([1, 0]), np.array([0, 1]), np.array([1, 0])).areas["deletion"]
    0.5
    """

    share: np.ndarray
    deletion: np.ndarray
    insertion: np.ndarray
    random: np.ndarray

    @property
    def areas(self):
        """Mean height of each curve. Good attributions make that of deletion low and that of insertion high."""
        names = ("deletion", "insertion", "random")
        return {name: float(np.trapezoid(vars(self)[name], self.share)) for name in names}


def deletion_insertion(
    estimator, attribution, background=None, n_steps=10, output="probability", random_state=0, by="sample"
):
    """Test an attribution by deletion and insertion [1]_; gives `Curves`.

    Samples are replaced by those of the mean background trial, in the order of their attribution.

    Parameters
    ----------
    estimator, attribution
        What was explained, and its `Attribution`.
    background : anything `as_eeg` accepts, or None
        Trials whose mean replaces what is deleted; None takes the explained trials.
    n_steps, output, random_state
        Points of the curves, less one; see `attribute`; seed of the random order.
    by : {"sample", "channel"}
        What is replaced at a time. Both make trials outside the training distribution: steps in slow waves, or
        electrodes without the correlation of neighbours, which an alignment amplifies. Flat, equal curves indicate it.

    References
    ----------
    .. [1] Petsiuk, V., Das, A., & Saenko, K. (2018). RISE: randomized input sampling for explanation of black-box
       models. BMVC.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg import NetworkClassifier
    >>> from skeeg.explain import attribute, deletion_insertion
    >>> X, y = np.random.default_rng(0).normal(size=(20, 3, 128)), np.repeat(["left", "right"], 10)
    >>> clf = NetworkClassifier("EEGNet", max_epochs=2, random_state=0).fit(X, y)
    >>> deletion_insertion(clf, attribute(clf, X[:2], X[2:6]), n_steps=4).share.tolist()
    [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    if by not in ("sample", "channel"):
        raise ValueError(f"by: got {by!r}, expected 'sample' or 'channel'.")
    X = EEGArray(attribution.data, attribution.ch_names, attribution.sfreq, attribution.domains)
    background, chosen = choose_background(X, background, len(X) if background is None else len(background))
    explained = Explained(estimator, X, output)
    rng, shape = np.random.default_rng(random_state), X.shape[1:]
    size = 1 if by == "sample" else shape[1]  # samples that are replaced together
    cuts = size * np.linspace(0, shape[0] * shape[1] // size, n_steps + 1).round().astype(int)
    columns = choose_targets(explained.outputs(range(len(X)), X), explained.classes, attribution.target)
    curves = np.zeros((3, n_steps + 1))
    for i, trial in enumerate(np.asarray(X)):
        empty = np.asarray(background)[chosen[i]].mean(axis=0).ravel()
        order = np.argsort(-attribution.values[i].reshape(-1, size).sum(axis=1), kind="stable")
        orders = [(part[:, None] * size + np.arange(size)).ravel() for part in (order, rng.permutation(len(order)))]
        full = trial.ravel()
        plans = ((full, empty, orders[0]), (empty, full, orders[0]), (full, empty, orders[1]))
        for curve, (before, after, turn) in zip(curves, plans, strict=True):
            states = np.repeat(before[None], n_steps + 1, axis=0)
            for state, cut in zip(states, cuts, strict=True):
                state[turn[:cut]] = after[turn[:cut]]
            scores = explained.outputs([i] * len(states), states.reshape(-1, *shape))
            curve += scores[:, columns[i]] / len(X)
    return Curves(cuts / cuts[-1], *curves)


def cascading_randomisation(estimator, X, background=None, random_state=0, settings=None):
    """Attribution of a network whose layers are randomised one after the other, from the last one on [1]_.

    The weights of a layer are shuffled. An explanation that does not change does not depend on the network.

    Parameters
    ----------
    estimator : estimator or Pipeline
        Fitted, with a network at its end. It is left as it is.
    X, background
        See `attribute`.
    random_state, settings
        Seed of the new weights, and further arguments of `attribute`.

    Returns
    -------
    layers, similarity : list of str, and ndarray, shape (n_layers,)
        Layers in the order of randomisation, the first ``""``, none, and Spearman's correlation of the mean absolute
        attribution with that before.

    References
    ----------
    .. [1] Adebayo, J., et al. (2018). Sanity checks for saliency maps. NeurIPS, 31.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg import NetworkClassifier
    >>> from skeeg.explain import cascading_randomisation
    >>> X, y = np.random.default_rng(0).normal(size=(20, 3, 128)), np.repeat(["left", "right"], 10)
    >>> clf = NetworkClassifier("EEGNet", max_epochs=2, random_state=0).fit(X, y)
    >>> float(cascading_randomisation(clf, X[:1], X[2:3], settings={"tolerance": 0.1})[1][0])
    1.0
    """
    found = attribute(estimator, X, background, **(settings or {}))
    settings, first = (settings or {}) | {"target": found.target}, found.importance("both").ravel()
    twin = copy.deepcopy(estimator)
    module = split_pipeline(twin)[1].module_
    layers, similarity = [""], [1.0]
    with seeded(random_state):
        for name, parameters in reversed(_layers(module).items()):
            for parameter in parameters:
                places = torch.randperm(parameter.numel())
                parameter.data = parameter.data.flatten()[places].view_as(parameter)
            found = attribute(twin, X, background, **settings).importance("both").ravel()
            layers.append(name)
            similarity.append(float(spearmanr(first, found).statistic))
    return layers, np.array(similarity)


def _layers(module):
    """Parameters of each layer that has some, from the first to the last."""
    layers = {}
    for name, layer in module.named_modules():
        own = list(layer.parameters(recurse=False))
        if own:
            layers.setdefault(name.split(".parametrizations")[0], []).extend(own)
    return layers


def stability(estimator, X, y, seeds=(0, 1, 2), X_explain=None, axis="channel", settings=None):
    """Agreement of attributions of networks trained from different seeds: Spearman's correlations (n_seeds, n_seeds).

    Parameters
    ----------
    estimator : estimator or Pipeline
        To be fitted to X and y anew with each seed.
    X, y, seeds
        Training trials and labels, and two seeds or more.
    X_explain : anything `as_eeg` accepts, or None
        Trials to explain; None takes X.
    axis, settings
        See `Attribution.importance`, and further arguments of `attribute`.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg import NetworkClassifier
    >>> from skeeg.explain import stability
    >>> X, y = np.random.default_rng(0).normal(size=(20, 4, 128)), np.repeat(["left", "right"], 10)
    >>> stability(NetworkClassifier("EEGNet", max_epochs=1), X, y, (0, 1), X[:2]).shape
    (2, 2)
    """
    if len(seeds) < 2:
        raise ValueError(f"seeds: got {len(seeds)}, expected two or more.")
    found = []
    for seed in seeds:
        fresh = clone(estimator).set_params(**dict.fromkeys(params_named(estimator, "random_state"), seed)).fit(X, y)
        explained = attribute(fresh, X if X_explain is None else X_explain, **(settings or {}))
        found.append(explained.importance(axis).ravel())
    return np.array([[float(spearmanr(a, b).statistic) for a in found] for b in found])
