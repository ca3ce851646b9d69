"""The whole way from a person's raw trials to labels, as one scikit-learn pipeline."""

from sklearn.pipeline import Pipeline

from ...filtering import BandPass
from .estimator import MIRepNetClassifier


def mirepnet_pipeline(checkpoint=None, band=(8.0, 30.0), strategy="full", align="own", random_state=None):
    """Band-pass, then `MIRepNetClassifier`, which resamples, aligns and brings trials to the template by itself.

    `mirepnet_preprocessing` gives the same steps singly.

    Parameters
    ----------
    checkpoint, strategy, align, random_state
        See `MIRepNetClassifier`; its other parameters can be set as ``mirepnet__max_epochs=...``.
    band : tuple of two floats or None
        Edges of the band-pass in hertz; None for trials that were filtered already.

    Returns
    -------
    pipeline : sklearn.pipeline.Pipeline
        Unfitted, with the steps ``bandpass`` and ``mirepnet``.

    Examples
    --------
    >>> from skeeg.methods.mirepnet import mirepnet_pipeline
    >>> list(mirepnet_pipeline(random_state=0).set_params(mirepnet__max_epochs=2).named_steps)
    ['bandpass', 'mirepnet']
    """
    steps = [] if band is None else [("bandpass", BandPass(*band))]
    settings = {"strategy": strategy, "align": align, "random_state": random_state}
    return Pipeline([*steps, ("mirepnet", MIRepNetClassifier(checkpoint, **settings))])
