"""Alignment of recordings: trials of every domain whitened by that domain's own mean covariance.

A domain is a subject, a session or a run. Subjects and days differ in how sources are mixed in the channels; whitening
each domain by its reference removes the linear part of that difference without labels.
"""

from numbers import Integral, Real

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from .array import DOMAIN_FIELDS, as_eeg
from .base import EEGTransformer, warn
from .covariance import inverse_sqrt, mean_covariances, metric_mean, trial_covariances

_PRIOR_TRIALS = 2  # weight of the source reference that a running mean starts from
_ON_UNSEEN = ("own", "block", "calibration", "source", "running")
_METRICS = {"riemann", "logeuclid", "logdet", "logchol", "euclid", "harmonic", "kullback_sym", "wasserstein"}


class Calibration:
    """Target trials X for `fit`, in a container that scikit-learn's searches do not slice.

    ``GridSearchCV`` and ``cross_validate`` slice every fit parameter with as many entries as X. This container has no
    length, shape or index, and is passed on unchanged.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg import Calibration
    >>> Calibration(np.zeros((8, 3, 100)))
    Calibration(<8 trials>)
    """

    def __init__(self, X):
        self.X = X

    def __repr__(self):
        """Show the number of trials."""
        return f"Calibration(<{len(self.X)} trials>)"

    @staticmethod
    def unwrap(trials, name, n_training):
        """Trials of an argument of `fit`, or None; warn if a search may have sliced them."""
        if isinstance(trials, Calibration):
            return trials.X
        if trials is not None and len(trials) == n_training:
            warn(f"{name} has exactly as many trials as X: if a search sliced it, pass skeeg.Calibration(trials).")
        return trials


def check_targets(estimator, targets, n_training, may_be_empty=False, **checks):
    """Target trials given to `fit`, by the name of their argument, each block checked as `transform` does."""
    found = {}
    for name, given in targets.items():
        given = Calibration.unwrap(given, name, n_training)
        if given is None or may_be_empty and not len(given):
            continue
        try:
            found[name] = estimator._check_eeg(given, reset=False, **checks)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    return found


class EuclideanAlignment(EEGTransformer):
    r"""Whiten the trials of each domain by the arithmetic mean of their covariances.

    .. math:: \tilde X_i = R_d^{-1/2} X_i, \qquad R_d = \frac{1}{n_d} \sum_{i \in d} C_i

    so that the mean covariance of every domain becomes the identity [1]_.

    Parameters
    ----------
    domain : {"subject", "session", "run"}
        Unit with a reference of its own.
    on_unseen : {"own", "block", "calibration", "source", "running"}
        Reference of trials whose domain was not seen at fit. ``"own"``: the mean over the trials of that domain passed
        to `transform`, labels unused (transductive); with fewer than `min_trials`, the calibration reference, or
        without one that of the sources. ``"block"``: the same for domains seen at fit too. ``"calibration"``: the mean
        over the target trials given to `fit`. ``"source"``: the mean of the references seen at fit. ``"running"``: a
        mean updated with every trial, the present one included, for online use; see `update`. It starts from the
        calibration reference or, with the weight of two trials, from that of the sources.
    min_trials : int
        Fewest trials of a domain that have a reference of their own: one from two or three trials removes much of what
        separates them.
    center : bool
        Remove each trial's channel means before its covariance. The trials themselves keep them.
    ddof : int
        Covariances are divided by T - ddof. The default is `numpy.cov`; ``center=True, ddof=0`` is pyRiemann's
        ``"scm"``; ``center=False, ddof=0`` is the form of [1]_ except for the factor T.
    floor : float
        Directions whose eigenvalue is below this fraction of the largest hold no signal (flat channel, average
        reference) and are scaled like the mean direction; see `skeeg.covariance.inverse_sqrt`.

    Attributes
    ----------
    domains_ : ndarray of str, shape (n_domains, 1 to 3)
        Subject, session and run of each domain seen at fit; one row of empty strings if unknown.
    references_, whiteners_ : ndarray, shape (n_domains, n_channels, n_channels)
        :math:`R_d` and :math:`R_d^{-1/2}`.
    source_reference_ : ndarray, shape (n_channels, n_channels)
        Mean of the references, each domain with equal weight.
    calibration_ : list of tuple
        Domain, reference and number of trials of each domain among the target trials given to `fit`.
    running_ : dict
        Reference and number of trials of each domain that `update` was called with.

    Notes
    -----
    Put it first in a pipeline: target trials reach it raw. `fit` followed by `transform` of the same trials gives what
    `fit_transform` gives only if they carry their domains, or with the same ``subjects``.

    References
    ----------
    .. [1] He & Wu (2020). Transfer learning for brain-computer interfaces: a Euclidean space data alignment approach.
       IEEE Transactions on Biomedical Engineering, 67(2), 399-410.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.alignment import EuclideanAlignment
    >>> X = np.random.default_rng(0).standard_normal((20, 3, 100)) * [[1], [5], [9]]
    >>> aligned = EuclideanAlignment().fit_transform(X, subjects=[1] * 10 + [2] * 10)
    >>> np.mean([np.cov(trial) for trial in aligned[:10]], axis=0).round(6).diagonal().tolist()
    [1.0, 1.0, 1.0]
    """

    linear_map_ = "space"
    _parameter_constraints = {
        "domain": [StrOptions(set(DOMAIN_FIELDS))],
        "on_unseen": [StrOptions(set(_ON_UNSEEN))],
        "min_trials": [Interval(Integral, 1, None, closed="left")],
        "center": ["boolean"],
        "ddof": [Interval(Integral, 0, None, closed="left")],
        "floor": [Interval(Real, 0, 1, closed="left")],
    }
    __metadata_request__fit = {"subjects": True, "X_target_unlabeled": True, "X_target_labeled": True}
    __metadata_request__transform = {"subjects": True}

    def __init__(
        self,
        domain="subject",
        on_unseen="own",
        min_trials=4,
        center=True,
        ddof=1,
        floor=1e-10,
    ):
        self.domain = domain
        self.on_unseen = on_unseen
        self.min_trials = min_trials
        self.center = center
        self.ddof = ddof
        self.floor = floor

    def fit(self, X, y=None, subjects=None, X_target_unlabeled=None, X_target_labeled=None):
        """Estimate the reference of every domain, from X (n_trials, n_channels, n_times), `subjects` (n_trials,)."""
        self._fit(X, subjects, X_target_unlabeled, X_target_labeled)
        return self

    def fit_transform(self, X, y=None, subjects=None, X_target_unlabeled=None, X_target_labeled=None):
        """Estimate the references and align every training trial by that of its own domain."""
        X, groups = self._fit(X, subjects, X_target_unlabeled, X_target_labeled)
        return X.like(self._whiten(X, self.whiteners_.astype(X.dtype)[groups]))

    def transform(self, X, subjects=None):
        """Align trials (n_trials, n_channels, n_times), each by the reference of its domain.

        A domain seen at fit keeps its reference. Trials of another domain, or of none where those at fit had one,
        follow `on_unseen`. If fitted on trials without domain and without calibration trials, trials without domain are
        taken to be of that same domain.
        """
        X = self._check_eeg(X, reset=False)
        keys, groups = self._domains(X, subjects)
        known = self._known()
        whiteners = np.empty((len(X), X.shape[1], X.shape[1]), dtype=X.dtype)
        for group, key in enumerate(keys):
            rows = np.flatnonzero(groups == group)
            if key in known and not (self.on_unseen == "block" and len(rows) >= self.min_trials):
                whiteners[rows] = self.whiteners_[known[key]]
            elif self.on_unseen == "running":
                references = [reference for reference, _ in self._run(X[rows], key)]
                whiteners[rows] = inverse_sqrt(np.stack(references), self.floor)
            else:
                whiteners[rows] = inverse_sqrt(self._unseen_reference(X, rows, key), self.floor)
        return X.like(self._whiten(X, whiteners))

    def update(self, X, subjects=None):
        """Update the running references (``on_unseen="running"``) with these trials, for later calls of `transform`.

        For online use: transform a trial, then update with it. `transform` itself never changes the estimator. Trials
        of domains seen at fit change nothing.
        """
        if self.on_unseen != "running":
            raise ValueError(f"on_unseen: got {self.on_unseen!r}, update() expects 'running'.")
        X = self._check_eeg(X, reset=False)
        keys, groups = self._domains(X, subjects)
        known = self._known()
        for group, key in enumerate(keys):
            if key not in known:
                *_, last = self._run(X[groups == group], key)
                self.running_ = self.running_ | {key: last}
        return self

    def calibrate(self, X):
        """Take trials of the target as calibration trials, in place of those given to `fit`.

        Shape: ``X`` (n_trials, n_channels, n_times).
        """
        self._fit_calibration(0, X_target_unlabeled=X)
        return self

    def _fit(self, X, subjects, X_target_unlabeled, X_target_labeled):
        """Set all references; return the checked trials and the index of each trial's domain."""
        X = self._check_eeg(X, reset=True)
        keys, groups = self._domains(X, subjects)
        self.domains_ = np.array(keys)
        self.references_ = self._references(X, groups, len(keys))
        self.whiteners_ = inverse_sqrt(self.references_, self.floor)
        self.source_reference_ = self._combine(self.references_)
        self._fit_calibration(len(X), X_target_unlabeled=X_target_unlabeled, X_target_labeled=X_target_labeled)
        self.running_ = {}
        return X, groups

    def _fit_calibration(self, n_training, **targets):
        found = []
        for X in check_targets(self, targets, n_training).values():
            keys, groups = self._domains(X, None)
            references = self._references(X, groups, len(keys))
            found += zip(keys, references, np.bincount(groups).tolist(), strict=True)
        self.calibration_ = found

    def _domains(self, X, subjects):
        """Domains as tuples of strings, empty where unknown, and the index of each trial's domain."""
        X = as_eeg(X, subjects=subjects)
        fields = DOMAIN_FIELDS[: DOMAIN_FIELDS.index(self.domain) + 1]
        if X.domains is None:
            return [("",) * len(fields)], np.zeros(len(X), dtype=np.intp)
        records = list(zip(*(X.domains[field] for field in fields), strict=True))
        if any(record[0] for record in records) and not any(record[-1] for record in records):
            warn(f"domain={self.domain!r}, but the {self.domain} is unknown: the next larger domain is used.")
        keys = list(dict.fromkeys(records))
        index = {key: i for i, key in enumerate(keys)}
        return keys, np.array([index[record] for record in records])

    def _known(self):
        """Index of each domain that `transform` recognises."""
        known = {key: i for i, key in enumerate(map(tuple, self.domains_.tolist()))}
        if self.calibration_:
            known.pop(("",) * self.domains_.shape[1], None)  # trials without domain are the target's
        return known

    def _unseen_reference(self, X, rows, key):
        """Find the reference of a block of trials whose domain was not seen at fit."""
        calibration = self._calibration_reference(key)[0]
        if self.on_unseen in ("own", "block") and len(rows) >= self.min_trials:
            block = X if len(rows) == len(X) else X[rows]  # no copy in the usual case of one domain
            return self._references(block, np.zeros(len(block), dtype=np.intp), 1)[0]
        if self.on_unseen == "source" or (self.on_unseen in ("own", "block") and calibration is None):
            return self.source_reference_
        if calibration is None:
            raise ValueError("on_unseen='calibration' needs X_target_unlabeled or X_target_labeled in fit.")
        return calibration

    def _calibration_reference(self, key):
        """Find the reference of the calibration trials of this domain, else of all, and their number."""
        chosen = [one for one in self.calibration_ if one[0] == key] or self.calibration_
        if not chosen:
            return None, 0
        _, references, counts = zip(*chosen, strict=True)
        return self._combine(np.stack(references), np.array(counts)), sum(counts)

    def _run(self, X, key):
        """Yield the running reference and its weight after each trial, in order."""
        reference, count = self.running_.get(key) or self._calibration_reference(key)
        if reference is None:
            reference, count = self.source_reference_, _PRIOR_TRIALS
        for i in range(len(X)):
            covariance = self._references(X[i : i + 1], np.zeros(1, dtype=np.intp), 1)[0]
            reference = self._combine(np.stack([reference, covariance]), np.array([count, 1.0]))
            count += 1
            yield reference, count

    @staticmethod
    def _whiten(X, whiteners):
        """Multiply each trial by its whitener."""
        return whiteners @ np.ascontiguousarray(X)

    def _references(self, X, groups, n_groups):
        return mean_covariances(X, groups, n_groups, center=self.center, ddof=self.ddof)

    def _combine(self, references, weights=None):
        return np.average(references, axis=0, weights=weights)


class RiemannianAlignment(EuclideanAlignment):
    r"""Whiten the trials of each domain by a Riemannian mean of their covariances.

    .. math:: \tilde X_i = G_d^{-1/2} X_i, \qquad G_d = \arg\min_G \sum_{i \in d} \delta^2(C_i, G)

    with :math:`\delta` the distance of `metric`, so that the domain's mean covariance in that metric becomes the
    identity [1]_. The means are pyRiemann's.

    Parameters
    ----------
    domain, on_unseen, min_trials, center, ddof, floor
        See `EuclideanAlignment`. The covariance of a trial with fewer samples than channels is singular; its
        eigenvalues are raised to `floor` times the largest, and a mean of such matrices is unreliable.
    metric : str
        Metric of `pyriemann.geometry.mean.gmean`: ``"riemann"``, ``"logeuclid"``, ``"logdet"``, ``"logchol"``,
        ``"euclid"``, ``"harmonic"``, ``"kullback_sym"`` or ``"wasserstein"``.

    References
    ----------
    .. [1] Zanini, P., et al. (2018). Transfer learning: a Riemannian geometry framework with applications to
       brain-computer interfaces. IEEE Transactions on Biomedical Engineering, 65(5), 1107-1116.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.alignment import RiemannianAlignment
    >>> X = np.random.default_rng(0).standard_normal((20, 3, 100)) * [[1], [5], [9]]
    >>> RiemannianAlignment().fit_transform(X).std(axis=(0, 2)).round(1).tolist()
    [1.0, 1.0, 1.0]
    """

    _parameter_constraints = {"metric": [StrOptions(_METRICS)]}

    def __init__(
        self,
        domain="subject",
        on_unseen="own",
        min_trials=4,
        center=True,
        ddof=1,
        floor=1e-10,
        metric="riemann",
    ):
        super().__init__(domain, on_unseen, min_trials, center, ddof, floor)
        self.metric = metric

    def _covariances(self, X):
        return trial_covariances(X, center=self.center, ddof=self.ddof)

    def _references(self, X, groups, n_groups):
        covariances = self._covariances(X)
        return np.stack([self._combine(covariances[groups == group]) for group in range(n_groups)])

    def _combine(self, references, weights=None):
        try:
            return metric_mean(references, self.metric, weights, self.floor)
        except ValueError as error:  # pyRiemann's, for trials that are too short
            raise ValueError(f"X: the covariances have no mean of metric {self.metric!r}: {error}") from error
