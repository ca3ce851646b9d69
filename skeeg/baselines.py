"""The reference pipelines by name: five classical ones, and thirteen networks of a motor-imagery comparison.

`baseline` gives an unfitted pipeline; `baseline_names` lists the names.
"""

import difflib

from sklearn.pipeline import make_pipeline

from .base import AsEEG
from .covariance import TrialCovariances
from .filtering import PadToMultiple, Resample
from .spatial import CSP, FilterBankCSP
from .tangentspace import FilterBankTangentSpace

DEFAULT_RATE = 250.0
"""Sampling rate in hertz that trials are taken to have where a pipeline needs one and nobody says it."""
CLASSICAL = ("CSP+LDA", "FBCSP+LDA", "TS+LR", "FBTS+LR", "MDM")
PRETRAINED = ("BIOT", "BENDR", "LaBraM", "CBraMod", "EEGPT")
SPECIALISTS = ("ShallowConv", "DeepConv", "EEGNet", "IFNet", "ADFCNN", "Conformer", "FBCNet", "EDPNet")
VARIANTS = ("EEGNet-4,2",)  # what the comparison calls EEGNet
_ANY_RATE = ("CSP+LDA", "TS+LR", "MDM")


def baseline_names():
    """Names that `baseline` knows.

    Returns
    -------
    names : tuple of str
        Classical pipelines, networks trained from scratch, networks with published weights.

    Examples
    --------
    >>> from skeeg.baselines import baseline_names
    >>> baseline_names()[:3], len(baseline_names())
    (('CSP+LDA', 'FBCSP+LDA', 'TS+LR'), 19)
    """
    return CLASSICAL + SPECIALISTS + VARIANTS + PRETRAINED


def baseline_recipe(name):
    """Tell how a baseline is trained.

    Parameters
    ----------
    name : str
        One of `baseline_names`.

    Returns
    -------
    recipe : skeeg.training.Recipe or None
        None for the classical pipelines.

    Examples
    --------
    >>> from skeeg.baselines import baseline_recipe
    >>> baseline_recipe("EEGNet").n_updates, baseline_recipe("MDM")
    (600, None)
    """
    return None if name in CLASSICAL else baseline(name)[-1]._recipe()


def baseline(name, *, align=None, recipe="imagery", sfreq=None, ch_names=None, checkpoint=None, random_state=None):
    """Give a reference pipeline by its name.

    Parameters
    ----------
    name : str
        One of `baseline_names`.
    align : bool or None
        Whether to start with Euclidean alignment of each subject. None aligns for the networks that are trained
        from scratch, as their comparison does.
    recipe : str or dict
        How a network is trained, see `NetworkClassifier`: ``"imagery"``, ``"default"`` for other paradigms, or
        ``"mirepnet-fork"``, 10 epochs of batches of 8, which are too few for most networks to learn. Networks with
        published weights have a recipe of their own.
    sfreq : float or None
        Sampling rate in hertz of trials that do not carry theirs. None takes them to be at 250 Hz where the pipeline
        needs to know.
    ch_names : tuple of str or None
        Electrode names of trials that do not carry theirs.
    checkpoint : str or None
        Weights for a network with published ones: a file, or ``"hub:owner/repository/file"``. None starts from scratch,
        and fit says so.
    random_state : int or None
        Seed of the network.

    Returns
    -------
    pipeline : sklearn.pipeline.Pipeline
        Unfitted pipeline, which takes all that `as_eeg` takes.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.baselines import baseline
    >>> X, y = np.random.default_rng(0).normal(size=(20, 4, 200)), np.repeat(["left", "right"], 10)
    >>> baseline("TS+LR").fit(X, y).predict(X).shape
    (20,)
    """
    if name not in baseline_names():
        near = difflib.get_close_matches(name, baseline_names(), n=3, cutoff=0.3) or baseline_names()
        raise ValueError(f"name: {name!r} is no baseline. Nearest: {', '.join(near)}.")
    if checkpoint is not None and name not in PRETRAINED:
        raise ValueError(f"checkpoint: {name} has no published weights; only {', '.join(PRETRAINED)} have.")
    if name in CLASSICAL:
        steps = _classical(name)
    else:
        steps = _network(name, recipe, checkpoint, random_state)
    if name in SPECIALISTS + VARIANTS if align is None else align:
        from .alignment import EuclideanAlignment

        steps.insert(0, EuclideanAlignment())
    rate = DEFAULT_RATE if sfreq is None and name not in _ANY_RATE else sfreq
    if rate is not None or ch_names is not None:
        steps.insert(0, AsEEG(rate, ch_names))
    return make_pipeline(*steps)


def _classical(name):
    """List the steps of a classical pipeline."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.feature_selection import SelectKBest
    from sklearn.linear_model import LogisticRegression

    if name == "CSP+LDA":
        return [CSP(n_components=10), LinearDiscriminantAnalysis()]
    if name == "FBCSP+LDA":
        return [FilterBankCSP(), SelectKBest(k=10), LinearDiscriminantAnalysis()]
    if name == "FBTS+LR":
        return [FilterBankTangentSpace(), LogisticRegression(C=0.1, max_iter=1000)]
    if name == "TS+LR":
        from pyriemann.tangentspace import TangentSpace

        return [TrialCovariances(), TangentSpace(), LogisticRegression(max_iter=1000)]
    from pyriemann.classification import MDM

    return [TrialCovariances(), MDM()]


def _network(name, recipe, checkpoint, random_state):
    """List the steps of a network: trials at its rate, of a length it takes, the network itself."""
    from .networks import baseline_network
    from .training import NetworkClassifier

    entry = baseline_network(name)
    steps = []
    if entry.sfreq is not None:
        steps.append(Resample(entry.sfreq))
    if entry.multiple > 1:
        steps.append(PadToMultiple(entry.multiple))
    settings = {"network": entry.network, "network_params": dict(entry.parameters) or None}
    recipe = "pretrained" if recipe == "imagery" and name in PRETRAINED else recipe
    return [*steps, NetworkClassifier(**settings, recipe=recipe, checkpoint=checkpoint, random_state=random_state)]
