"""Learning curves: score against the number of labelled trials of the target subject, as a MOABB evaluation."""

import numpy as np
import pandas as pd
from sklearn.model_selection import BaseCrossValidator
from sklearn.utils import check_random_state

from .base import ProtocolEvaluation

__all__ = ["FewshotEvaluation", "FewshotSplitter", "plot_fewshot"]


class FewshotSplitter(BaseCrossValidator):
    """Split each session into the first trials of each class, for training, and the rest.

    The test trials are the same for every number of trials: those left by the largest number.

    Parameters
    ----------
    n_per_class : tuple of int
        Labelled trials of each class, the learning curve.
    n_draws : int or None
        None takes trials in the order of recording, as online. An integer is a number of random orders.
    others : bool
        Whether to train on the other subjects too; the trials of the target subject are then labelled target trials.
    random_state : int, RandomState or None
        Seed of the draws.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from skeeg.evaluations import FewshotSplitter
    >>> metadata = pd.DataFrame({"subject": [1] * 8, "session": "0"})
    >>> folds = FewshotSplitter(n_per_class=(1, 2)).split(np.array(list("aabbabab")), metadata)
    >>> [[part.tolist() for part in fold] for fold in folds]
    [[[0, 2], [4, 5, 6, 7]], [[0, 1, 2, 3], [4, 5, 6, 7]]]
    """

    metadata_columns = ("n_per_class", "draw")

    def __init__(self, n_per_class=(5, 10, 15, 20, 25, 30), n_draws=None, others=False, random_state=None):
        self.n_per_class = n_per_class
        self.n_draws = n_draws
        self.others = others
        self.random_state = random_state
        self._last = None

    def split(self, y, metadata):
        """Give training and test trials for each subject, session, draw and number.

        Parameters
        ----------
        y : ndarray, shape (n_trials,)
            Labels.
        metadata : DataFrame, shape (n_trials, n_columns)
            With the columns ``subject`` and ``session``.

        Yields
        ------
        train, test : ndarray of int
            Indices of the trials; with ``others``, those of the source subjects come first, as a third array.
        """
        sizes, y = self._check_sizes(), np.asarray(y)
        rng = check_random_state(self.random_state)
        subjects = metadata["subject"].to_numpy()
        for (subject, session), part in _sessions(metadata):
            rows = part.index.to_numpy()
            if self.others and len(set(subjects)) < 2:
                raise ValueError(f"others: subject {subject} is the only one, expected two or more.")
            for draw in range(self.n_draws or 1):
                order = rows if self.n_draws is None else rng.permutation(rows)
                rank = pd.Series(y[order]).groupby(y[order]).cumcount().to_numpy()
                test = np.sort(order[rank >= max(sizes)])
                _check_counts(subject, session, y[rows], y[test], sizes)
                for size in sizes:
                    self._last = {"n_per_class": size, "draw": draw}
                    train = np.sort(order[rank < size])
                    if not self.others:
                        yield train, test
                        continue
                    self._last |= {"calibration_size": len(train), "calibration_labeled": True}
                    yield np.flatnonzero(subjects != subject), train, test

    def get_n_splits(self, metadata):
        """Count the folds.

        Parameters
        ----------
        metadata : DataFrame
            As for `split`.

        Returns
        -------
        n_splits : int
            Sessions of all subjects, times draws, times numbers of trials.
        """
        return _sessions(metadata).ngroups * (self.n_draws or 1) * len(self._check_sizes())

    def get_metadata(self):
        """Give the number of trials and the draw of the last split."""
        return self._last

    def _check_sizes(self):
        """Check the numbers of trials."""
        sizes = [int(size) for size in np.atleast_1d(self.n_per_class)]
        if not sizes or min(sizes) < 1 or len(set(sizes)) < len(sizes):
            raise ValueError(f"n_per_class: expected different numbers of trials, 1 or more, got {self.n_per_class!r}.")
        if self.n_draws is not None and self.n_draws < 1:
            raise ValueError(f"n_draws: got {self.n_draws}, expected 1 or more, or None.")
        return sizes


class FewshotEvaluation(ProtocolEvaluation):
    """MOABB evaluation: train on the first few trials of each class of a session, test on the rest.

    Trials are passed to the pipelines as `EEGArray`, with names, rate and domains. The result table has the columns
    ``n_per_class`` and ``draw``; `plot_fewshot` plots it. The score is that of the paradigm: ``scorer="accuracy"``
    gives accuracy, which for two classes is not the default.

    Parameters
    ----------
    paradigm : moabb.paradigms.base.BaseParadigm
        Data to load and score to use.
    datasets : moabb.datasets.base.BaseDataset or list of them
        Recordings.
    n_per_class, n_draws, others
        The protocol, see `FewshotSplitter`. With ``others``, a pipeline that does not request ``X_target_labeled`` is
        wrapped into `PooledTarget`, which trains it on source and target trials together.
    random_state, n_jobs, overwrite, error_score, suffix, hdf5_path, return_epochs, cache_config
        As in every MOABB evaluation. The suffix of the results file is extended by the protocol.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> from moabb.paradigms import LeftRightImagery
    >>> from skeeg import baseline
    >>> from skeeg.datasets import SimulatedMotorImagery
    >>> from skeeg.evaluations import FewshotEvaluation
    >>> dataset = SimulatedMotorImagery(n_subjects=1, n_sessions=1, ch_names=("C3", "Cz", "C4"))
    >>> paradigm = LeftRightImagery(scorer="accuracy")
    >>> evaluation = FewshotEvaluation(paradigm, dataset, n_per_class=(5, 20), hdf5_path=mkdtemp())
    >>> evaluation.process({"MDM": baseline("MDM")})["n_per_class"].tolist()
    [5.0, 20.0]
    """

    _eval_type = "Fewshot"

    def __init__(
        self,
        paradigm,
        datasets,
        n_per_class=(5, 10, 15, 20, 25, 30),
        n_draws=None,
        others=False,
        random_state=None,
        n_jobs=1,
        overwrite=False,
        error_score="raise",
        suffix="",
        hdf5_path=None,
        return_epochs=False,
        cache_config=None,
    ):
        protocol = ["n" + "-".join(map(str, np.atleast_1d(n_per_class)))]
        protocol += ["with-others"] if others else []
        protocol += [] if n_draws is None else [f"draws{n_draws}-{random_state}"]
        self._needs_all_subjects = bool(others)
        super().__init__(
            paradigm,
            datasets,
            random_state=random_state,
            n_jobs=n_jobs,
            overwrite=overwrite,
            error_score=error_score,
            suffix="_".join([suffix, *protocol] if suffix else protocol),
            hdf5_path=hdf5_path,
            return_epochs=return_epochs,
            cache_config=cache_config,
            cv_class=FewshotSplitter,  # names the columns of the result table
            cv_kwargs={"n_per_class": tuple(np.atleast_1d(n_per_class).tolist()), "n_draws": n_draws, "others": others},
        )


def plot_fewshot(results, ax=None):
    """Plot the score against the number of labelled trials of each class.

    Parameters
    ----------
    results : DataFrame
        What `FewshotEvaluation` gives.
    ax : matplotlib.axes.Axes or None
        Axes to plot into; None creates a figure.

    Returns
    -------
    ax : matplotlib.axes.Axes
        One line per pipeline, the mean over subjects; its band is the standard error over subjects.

    Examples
    --------
    >>> import pandas as pd
    >>> from skeeg.evaluations import plot_fewshot
    >>> rows = [("MDM", s, n, 0.6 + 0.01 * n + 0.02 * s) for s in (1, 2) for n in (5, 10)]
    >>> ax = plot_fewshot(pd.DataFrame(rows, columns=["pipeline", "subject", "n_per_class", "score"]))
    >>> [line.get_label() for line in ax.get_lines()]
    ['MDM']
    """
    if ax is None:
        import matplotlib.pyplot as plt

        _, ax = plt.subplots(figsize=(6, 4), layout="constrained")
    table = results.astype({"n_per_class": float, "score": float})
    scores = table.groupby(["pipeline", "n_per_class", "subject"], sort=False)["score"].mean()
    for name in dict.fromkeys(table["pipeline"]):
        by_size = scores.loc[name].groupby("n_per_class")
        mean, error = by_size.mean(), by_size.sem().fillna(0.0)
        (line,) = ax.plot(mean.index, mean, marker="o", markersize=4, label=name)
        ax.fill_between(mean.index, mean - error, mean + error, color=line.get_color(), alpha=0.15, linewidth=0)
    if "n_classes" in table and table["n_classes"].nunique() == 1:
        ax.axhline(1 / float(table["n_classes"].iloc[0]), color="0.6", linestyle=":", linewidth=1)
    ax.set(xlabel="labelled trials of each class", ylabel="score", xticks=sorted(set(table["n_per_class"])))
    ax.legend(frameon=False)
    return ax


def _sessions(metadata):
    """Group the trials by session of each subject, in order."""
    return metadata.reset_index(drop=True).groupby(["subject", "session"], sort=False)


def _check_counts(subject, session, y, tested, sizes):
    """Refuse a session of one class, or with too few trials of one."""
    classes, counts = np.unique(y, return_counts=True)
    if len(classes) < 2 or counts.min() < max(sizes) or not len(tested):
        there = ", ".join(f"{count} of {label}" for label, count in zip(classes.tolist(), counts, strict=True))
        raise ValueError(
            f"n_per_class: session {session} of subject {subject} has {there}; expected two classes with {max(sizes)} "
            "training trials each, and further trials for testing."
        )
