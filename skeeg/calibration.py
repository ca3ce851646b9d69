"""Calibration trials of a target subject, as an argument of `fit` that searches do not slice."""

import warnings


class Calibration:
    """Target trials for `fit`, in a container that scikit-learn's searches do not slice.

    ``GridSearchCV`` and ``cross_validate`` slice every fit parameter that has as many entries as X, so calibration
    trials would be sliced if there are as many as training trials. This container has no length, shape or index, and
    is passed on unchanged.

    Parameters
    ----------
    X : anything `as_eeg` accepts, shape (n_trials, n_channels, n_times)
        Trials of the target.

    Attributes
    ----------
    X : as given
        The trials.

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
        """Unwrap target trials; warn if a search may have sliced them.

        Parameters
        ----------
        trials : Calibration, anything `as_eeg` accepts, or None
            Argument of `fit`.
        name : str
            Name of the argument, for the warning.
        n_training : int
            Number of training trials at this fit.

        Returns
        -------
        trials : as wrapped, or None
            The trials.
        """
        if isinstance(trials, Calibration):
            return trials.X
        if trials is not None and len(trials) == n_training:
            warnings.warn(
                f"{name} has exactly as many trials as X ({n_training}). Inside GridSearchCV or cross_validate "
                f"scikit-learn cuts such an argument as it cuts X. Pass {name}=skeeg.Calibration(trials) to "
                "keep it whole.",
                UserWarning,
                stacklevel=6,
            )
        return trials
