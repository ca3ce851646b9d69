"""The reference pipelines by name: five classical ones, and thirteen networks of a motor-imagery comparison.

`baseline` gives an unfitted pipeline; `baseline_names` says which there are. The small steps that the pipelines need
and no library has are here too.
"""

import difflib

import numpy as np
from sklearn.pipeline import make_pipeline
from sklearn.utils.validation import check_is_fitted

from .base import EEGTransformer
from .covariance import shrunk_covariances
from .filtering import FilterBank, Resample
from .spatial import CSP
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
        steps.insert(0, Recording(rate, ch_names))
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


class Recording(EEGTransformer):
    """Say of trials what they do not say themselves: sampling rate and electrode names.

    Trials that carry their own, as `EEGArray` and `mne.Epochs` do, keep it.

    Parameters
    ----------
    sfreq : float or None
        Sampling rate in hertz.
    ch_names : tuple of str or None
        Electrode names.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.baselines import Recording
    >>> X = Recording(sfreq=250).fit_transform(np.ones((2, 1, 100)))
    >>> X.sfreq
    250.0
    """

    _any_length = True

    def __init__(self, sfreq=None, ch_names=None):
        self.sfreq = sfreq
        self.ch_names = ch_names

    def fit(self, X, y=None):
        """Check the trials.

        Parameters
        ----------
        X : anything `as_eeg` accepts, shape (n_trials, n_channels, n_times)
            Trials.
        y : None
            Ignored.

        Returns
        -------
        self : Recording
            Fitted.
        """
        self._check_eeg(X, reset=True)
        return self

    def transform(self, X):
        """Add what is missing.

        Parameters
        ----------
        X : anything `as_eeg` accepts, shape (n_trials, n_channels, n_times)
            Trials.

        Returns
        -------
        X : EEGArray, shape (n_trials, n_channels, n_times)
            The same trials.
        """
        check_is_fitted(self)
        return self._check_eeg(X, reset=False)  # reading them with this step's own rate and names is all there is to do


class PadToMultiple(EEGTransformer):
    """Continue trials with zeros until their length is a multiple of `multiple` samples.

    Networks that cut a trial into patches of fixed length refuse a remainder.

    Parameters
    ----------
    multiple : int
        Samples of a patch.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.baselines import PadToMultiple
    >>> PadToMultiple(200).fit_transform(np.ones((2, 3, 701))).shape
    (2, 3, 800)
    """

    def __init__(self, multiple=200):
        self.multiple = multiple

    def fit(self, X, y=None):
        """Check the trials.

        Parameters
        ----------
        X : anything `as_eeg` accepts, shape (n_trials, n_channels, n_times)
            Trials.
        y : None
            Ignored.

        Returns
        -------
        self : PadToMultiple
            Fitted.
        """
        if not self.multiple >= 1:
            raise ValueError(f"multiple: expected a whole number from 1, got {self.multiple!r}.")
        self._check_eeg(X, reset=True)
        return self

    def transform(self, X):
        """Pad the trials.

        Parameters
        ----------
        X : anything `as_eeg` accepts, shape (n_trials, n_channels, n_times)
            Trials.

        Returns
        -------
        X : EEGArray, shape (n_trials, n_channels, n_padded)
            Trials with zeros at their end; a remainder of less than a tenth of a patch is cut off instead.
        """
        check_is_fitted(self)
        X = self._check_eeg(X, reset=False)
        n_times = X.shape[2]
        rest = n_times % self.multiple
        if rest == 0:
            return X
        if n_times > self.multiple and rest < self.multiple / 10:  # one sample too many is not worth a patch of zeros
            return X.like(np.asarray(X)[:, :, : n_times - rest])
        return X.like(np.pad(np.asarray(X), ((0, 0), (0, 0), (0, self.multiple - rest))))


class FilterBankCSP(FilterBank):
    """Common spatial patterns in each band of a filter bank: the front of FBCSP.

    It is `FilterBank` with a `CSP` as its estimator, in parameters that a YAML file can hold.

    Parameters
    ----------
    bands : tuple of (float, float)
        Pass bands in hertz; the default is that of MOABB's filter-bank paradigm.
    n_components : int
        Filters in each band.
    method, order, sfreq
        As in `FilterBank`.

    References
    ----------
    Ang et al., Filter Bank Common Spatial Pattern (FBCSP) in brain-computer interface, IJCNN 2008.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.baselines import FilterBankCSP
    >>> X, y = np.random.default_rng(0).normal(size=(20, 3, 500)), np.arange(20) % 2
    >>> FilterBankCSP(((8, 12), (12, 20)), n_components=2, sfreq=250).fit_transform(X, y).shape
    (20, 4)
    """

    def __init__(
        self,
        bands=((8, 12), (12, 16), (16, 20), (20, 24), (24, 28), (28, 32)),
        n_components=4,
        method="fir",
        order=4,
        sfreq=None,
    ):
        self.bands = bands
        self.n_components = n_components
        self.method = method
        self.order = order
        self.sfreq = sfreq

    @property
    def estimator(self):
        """What is fitted to each band."""
        return CSP(n_components=self.n_components)


class TrialCovariances(EEGTransformer):
    """Covariance of each trial, as pyRiemann estimates it, from anything that holds EEG.

    Parameters
    ----------
    estimator : str
        Estimator of `pyriemann.estimation.Covariances`, as ``"oas"``, ``"lwf"`` or ``"scm"``. The first, which is also
        the usual one, is computed for all trials at once.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.baselines import TrialCovariances
    >>> TrialCovariances().fit_transform(np.random.default_rng(0).normal(size=(5, 3, 100))).shape
    (5, 3, 3)
    """

    _any_length = True

    def __init__(self, estimator="oas"):
        self.estimator = estimator

    def fit(self, X, y=None):
        """Check the trials.

        Parameters
        ----------
        X : anything `as_eeg` accepts, shape (n_trials, n_channels, n_times)
            Trials.
        y : None
            Ignored.

        Returns
        -------
        self : TrialCovariances
            Fitted.
        """
        self._check_eeg(X, reset=True)
        return self

    def transform(self, X):
        """Estimate the covariances.

        Parameters
        ----------
        X : anything `as_eeg` accepts, shape (n_trials, n_channels, n_times)
            Trials.

        Returns
        -------
        covariances : ndarray, shape (n_trials, n_channels, n_channels)
            One matrix for each trial.
        """
        check_is_fitted(self)
        X = np.asarray(self._check_eeg(X, reset=False))
        if self.estimator == "oas":
            return shrunk_covariances(X).astype(X.dtype, copy=False)
        from pyriemann.estimation import Covariances

        return Covariances(self.estimator).transform(X).astype(X.dtype, copy=False)
