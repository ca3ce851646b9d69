"""Trials of any headset in the form the network takes: at its rate, whitened by person, on a template of electrodes."""

import numpy as np
from sklearn.pipeline import Pipeline

from ...alignment import Calibration, EuclideanAlignment
from ...filtering import BandPass, Resample
from ...montage import ChannelTemplate

ALIGN = ("own", "calibration", "source", "running", "block", None)
RATE = 250.0


def mirepnet_preprocessing(band=(8.0, 30.0), sfreq_out=RATE, on_unseen="own", domain="subject", template="mirepnet45"):
    """Give the steps from trials to the network: band-pass, rate, Euclidean alignment, template of electrodes.

    Alignment comes before the template: on fewer than 45 recorded electrodes the covariance on the template has no
    inverse. Every step is an ordinary transformer, to be taken singly or changed; `skeeg.screen_subjects`, which
    chooses the people to pre-train on, comes after the first.

    Parameters
    ----------
    band : tuple of two floats or None
        Edges of the band-pass in hertz; None leaves it out. The published figures were made of 8-30 or 8-32 Hz, which
        of the two is not known.
    sfreq_out : float or None
        Sampling rate of the network in hertz; None leaves resampling out.
    on_unseen, domain
        See `skeeg.EuclideanAlignment`.
    template : str or tuple of str
        See `skeeg.ChannelTemplate`; inverse distances, as the published weights were trained with.

    Returns
    -------
    steps : sklearn.pipeline.Pipeline
        Unfitted. A classifier after it is given ``align=None, template=None``, for it must not do this again.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.array import make_eeg
    >>> from skeeg.methods.mirepnet import mirepnet_preprocessing
    >>> X = make_eeg(np.random.default_rng(0).normal(size=(6, 3, 512)), ("C3", "Cz", "C4"), 128)
    >>> X = mirepnet_preprocessing().fit_transform(X)
    >>> X.shape, X.sfreq, X.ch_names[20]
    ((6, 45, 1000), 250.0, 'C3')
    """
    steps = [] if band is None else [("bandpass", BandPass(*band))]
    steps += [] if sfreq_out is None else [("resample", Resample(sfreq_out))]
    steps.append(("align", EuclideanAlignment(domain=domain, on_unseen=on_unseen)))
    return Pipeline([*steps, ("template", ChannelTemplate(template, "inverse_distance"))])


def check_form(estimator):
    """Raise a ValueError for an ``align`` or ``resample`` that means nothing."""
    if estimator.align not in ALIGN:
        options = ", ".join(map(repr, ALIGN))
        raise ValueError(f"align: got {estimator.align!r}, expected one of {options}.")
    rate = estimator.resample
    if rate not in (None, "auto") and not (isinstance(rate, int | float) and rate > 0):
        raise ValueError(f"resample: got {rate!r}, expected a rate above 0 Hz, 'auto' or None.")


def fit_alignment(X, align, domain="subject", subjects=None, target=None):
    """Estimate the references of everybody in X and align each trial by its own person's.

    Parameters
    ----------
    X : EEGArray, shape (n_trials, n_channels, n_times)
        Training trials, on the electrodes they were recorded with.
    align : str or None
        One of `ALIGN`; None aligns nothing.
    domain, subjects
        See `skeeg.EuclideanAlignment`.
    target : EEGArray or None
        Trials, without labels, of the person to predict.

    Returns
    -------
    aligner : EuclideanAlignment or None
        Fitted.
    X : EEGArray, shape (n_trials, n_channels, n_times)
        Aligned trials.
    """
    if align is None:
        return None, X
    aligner = EuclideanAlignment(domain=domain, on_unseen="own" if align == "block" else align)
    target = None if target is None else Calibration(target)
    return aligner, aligner.fit_transform(X, subjects=subjects, X_target_unlabeled=target)


def apply_alignment(aligner, X, align):
    """Align trials to predict.

    Parameters
    ----------
    aligner : EuclideanAlignment or None
        Fitted.
    X : EEGArray, shape (n_trials, n_channels, n_times)
        Trials.
    align : str or None
        With ``"block"``, as published, trials are their own reference, known person or not, unless they are too few.

    Returns
    -------
    X : EEGArray, shape (n_trials, n_channels, n_times)
        Aligned trials.
    """
    if aligner is None:
        return X
    if align == "block" and _fewest(X, aligner.domain) >= aligner.min_trials:
        return EuclideanAlignment(domain=aligner.domain).fit_transform(X)
    return aligner.transform(X)


def _fewest(X, domain):
    """Count the trials of the domain that has the fewest."""
    if X.domains is None:
        return len(X)
    fields = ("subject", "session", "run")[: ("subject", "session", "run").index(domain) + 1]
    records = list(zip(*(X.domains[field].tolist() for field in fields), strict=True))
    return min(records.count(record) for record in set(records))


def on_template(X, template):
    """Trials on the electrodes of a template.

    Parameters
    ----------
    X : EEGArray, shape (n_trials, n_channels, n_times)
        Trials that carry their electrodes' names.
    template : str, tuple of str or None
        See `skeeg.ChannelTemplate`; None keeps the electrodes there are.

    Returns
    -------
    X : EEGArray, shape (n_trials, n_template, n_times)
        Trials.
    """
    if template is None:
        return X
    if X.ch_names is None:
        raise ValueError(
            "ch_names: X carries no channel names, so the places of its electrodes are unknown; pass ch_names=..., "
            "trials that carry their names, or template=None to use the electrodes as they are."
        )
    return ChannelTemplate(template, "inverse_distance").fit_transform(X)


def padded(X, n_times, mode="constant"):
    """Trials as one block of memory of a given length.

    Parameters
    ----------
    X : array-like, shape (n_trials, n_channels, n_times_in)
        Trials.
    n_times : int
        Wanted length, not less than that of X.
    mode : {"constant", "reflect"}
        Go on with zeros, or with the trial run backwards.

    Returns
    -------
    X : ndarray, shape (n_trials, n_channels, n_times)
        Trials.
    """
    data = np.asarray(X)
    missing = n_times - data.shape[2]
    if missing <= 0:
        return np.ascontiguousarray(data)
    return np.pad(data, ((0, 0), (0, 0), (0, missing)), mode=mode if data.shape[2] > 1 else "constant")
