"""Seeds of a pipeline's steps."""

from sklearn.base import clone


def with_seed(pipeline, seed):
    """Copy of a pipeline with the seed set wherever a step leaves it open.

    Parameters
    ----------
    pipeline : estimator
        Pipeline; a ``random_state`` it already sets is kept.
    seed : int
        Seed.

    Returns
    -------
    pipeline : estimator
        Unfitted copy.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skeeg.evaluations.seeding import with_seed
    >>> with_seed(LogisticRegression(), 3).random_state, with_seed(LogisticRegression(random_state=1), 3).random_state
    (3, 1)
    """
    params = pipeline.get_params()
    free = [name for name in params if name.rsplit("__", 1)[-1] == "random_state" and params[name] is None]
    return clone(pipeline).set_params(**dict.fromkeys(free, int(seed)))
