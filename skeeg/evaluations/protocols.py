"""Few-shot and cross-task protocols as MOABB evaluations: score against the number of labelled target trials.

- `FewshotEvaluation`, with `FewshotSplitter`, trains on the first trials of each class of a session, and on other
  subjects if wanted, and scores the rest;
- `CrossTaskDataset` joins two MOABB datasets (one recorded during execution, one during imagery, of the same subjects
  or of others) into one whose sessions are named after the task; `CrossTaskEvaluation`, with `CrossTaskSplitter`, fits
  on the source task, with k labelled trials of the target task, and scores the rest of the target task.
"""

import mne
import numpy as np
import pandas as pd
from moabb.datasets.base import BaseDataset
from moabb.datasets.preprocessing import SetRawAnnotations
from sklearn.utils import check_random_state

from .base import ProtocolEvaluation

_SOURCES = ("own", "others", "all")


class _CurveSplitter:
    """Base of splitters with several numbers of labelled target trials, in the order of recording or drawn."""

    _counted, _fewest = "n_per_class", 1

    def get_metadata(self):
        """Give the number of labelled trials and the draw of the last split."""
        return self._last

    def _orders(self, rows, rng):
        """Draws and their orders of the trials."""
        for draw in range(self.n_draws or 1):
            yield draw, rows if self.n_draws is None else rng.permutation(rows)

    def _check_sizes(self):
        """Check the numbers of trials and draws; give the numbers of trials."""
        given, fewest = vars(self)[self._counted], self._fewest
        sizes = [int(size) for size in np.atleast_1d(given)]
        if not sizes or min(sizes) < fewest or len(set(sizes)) < len(sizes):
            raise ValueError(f"{self._counted}: expected different numbers of trials, {fewest} or more, got {given!r}.")
        if self.n_draws is not None and self.n_draws < 1:
            raise ValueError(f"n_draws: got {self.n_draws}, expected 1 or more, or None.")
        return sizes


class FewshotSplitter(_CurveSplitter):
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
            for draw, order in self._orders(rows, rng):
                rank = pd.Series(y[order]).groupby(y[order]).cumcount().to_numpy()
                test = np.sort(order[rank >= max(sizes)])
                _check_session(subject, session, y[rows], y[test], sizes)
                for size in sizes:
                    self._last = {"n_per_class": size, "draw": draw}
                    train = np.sort(order[rank < size])
                    if not self.others:
                        yield train, test
                        continue
                    self._last |= {"calibration_size": len(train), "calibration_labeled": True}
                    yield np.flatnonzero(subjects != subject), train, test


class FewshotEvaluation(ProtocolEvaluation):
    """MOABB evaluation: train on the first few trials of each class of a session, test on the rest.

    Trials are passed to the pipelines as `EEGArray`. The result table has the columns ``n_per_class`` and ``draw``;
    `plot_fewshot` plots it. The score is that of the paradigm: ``scorer="accuracy"`` gives accuracy, which for two
    classes is not the default.

    Parameters
    ----------
    paradigm : moabb.paradigms.base.BaseParadigm
        Data to load and score to use.
    datasets : moabb.datasets.base.BaseDataset or list of them
        Recordings.
    splitter : FewshotSplitter or None
        The protocol; None takes its defaults. With its ``others``, a pipeline that does not request
        ``X_target_labeled`` is wrapped into `PooledTarget`, which trains it on source and target trials together.
    random_state, n_jobs, overwrite, error_score, suffix, hdf5_path, return_epochs, cache_config
        As in every MOABB evaluation; a ``random_state`` replaces that of the splitter.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> from moabb.paradigms import LeftRightImagery
    >>> from skeeg import baseline
    >>> from skeeg.datasets import SimulatedMotorImagery
    >>> from skeeg.evaluations import FewshotEvaluation, FewshotSplitter
    >>> dataset = SimulatedMotorImagery(n_subjects=1, n_sessions=1, ch_names=("C3", "Cz", "C4"))
    >>> paradigm = LeftRightImagery(scorer="accuracy")
    >>> evaluation = FewshotEvaluation(paradigm, dataset, FewshotSplitter((5, 20)), hdf5_path=mkdtemp())
    >>> evaluation.process({"MDM": baseline("MDM")})["n_per_class"].tolist()
    [5.0, 20.0]
    """

    _eval_type = "Fewshot"
    _splitter = FewshotSplitter


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
        ax.fill_between(mean.index, mean - error, mean + error, color=line.get_color(), alpha=0.08, linewidth=0)
    if "n_classes" in table and table["n_classes"].nunique() == 1:
        ax.axhline(1 / float(table["n_classes"].iloc[0]), color="0.6", linestyle=":", linewidth=1)
    ax.set(xlabel="labelled trials of each class", ylabel="score", xticks=sorted(set(table["n_per_class"])))
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return ax


def _sessions(metadata):
    """Group the trials by session of each subject, in order."""
    return metadata.reset_index(drop=True).groupby(["subject", "session"], sort=False)


def _check_session(subject, session, y, tested, sizes):
    """Refuse a session of one class, or with too few trials of one."""
    classes, counts = np.unique(y, return_counts=True)
    if len(classes) < 2 or counts.min() < max(sizes) or not len(tested):
        there = ", ".join(f"{count} of {label}" for label, count in zip(classes.tolist(), counts, strict=True))
        raise ValueError(
            f"n_per_class: session {session} of subject {subject} has {there}; expected two classes with {max(sizes)} "
            "training trials each, and further trials for testing."
        )


class CrossTaskDataset(BaseDataset):
    """Two MOABB datasets as one: a source task and a target task.

    Every session is named after its task, ``"0execution"``, ``"1imagery"``, ..., whatever the tasks are. Trials start
    where each dataset's own interval starts and have the shorter of the two lengths; events are those of both datasets.

    Parameters
    ----------
    source, target : moabb.datasets.base.BaseDataset
        Recordings of the source task and of the target task.
    same_subjects : bool
        Whether subject n of one is subject n of the other. Otherwise subjects are renumbered, those of `source`
        first.

    Attributes
    ----------
    numbers : dict of int to dict of str to int
        For each subject of this dataset, its number in the dataset of each of its tasks.

    Examples
    --------
    >>> from moabb.datasets import PhysionetMI
    >>> from skeeg.evaluations import CrossTaskDataset
    >>> dataset = CrossTaskDataset(PhysionetMI(imagined=False, executed=True), PhysionetMI(), same_subjects=True)
    >>> dataset.numbers[1], dataset.interval
    ({'execution': 1, 'imagery': 1}, [0, 3])
    """

    def __init__(self, source, target, same_subjects):
        self.source, self.target, self.same_subjects = source, target, same_subjects
        self.tasks = {"execution": source, "imagery": target}
        events = [event for event in source.event_id if event in target.event_id]
        if not events:
            raise ValueError(f"target: {target.code} has none of the events of {source.code}.")
        self.numbers = self._number_subjects()
        super().__init__(
            subjects=list(self.numbers),
            sessions_per_subject=source.n_sessions + target.n_sessions,
            events={event: number for number, event in enumerate(events, start=1)},
            code=self._name(),
            interval=[0, min(one.interval[1] - one.interval[0] for one in (source, target))],
            paradigm=target.paradigm,
        )

    def _number_subjects(self):
        """Give the number of each subject in each of the two datasets."""
        lists = {task: dataset.subject_list for task, dataset in self.tasks.items()}
        if self.same_subjects:
            numbers = dict.fromkeys([*self.target.subject_list, *self.source.subject_list])
            return {n: {task: n for task, subjects in lists.items() if n in subjects} for n in numbers}
        alone = [{task: number} for task, subjects in lists.items() for number in subjects]
        return dict(enumerate(alone, start=1))

    def _name(self):
        """Code from the parts: MOABB stores results by it, and requires the capitals of the class name."""
        whose = "same" if self.same_subjects else "others"
        parts = [f"{dataset.code}-{task}".lower() for task, dataset in self.tasks.items()]
        return "-".join(["CrossTaskDataset", *parts, whose])

    def _get_single_subject_data(self, subject):
        """Read the runs of both tasks of one subject."""
        sessions = {}
        for task, dataset in self.tasks.items():
            if task not in self.numbers[subject]:
                continue
            recorded = dataset.get_data(subjects=[self.numbers[subject][task]])
            for runs in recorded[self.numbers[subject][task]].values():
                sessions[f"{len(sessions)}{task}"] = {
                    name: _mark_trials(raw, dataset, self.event_id) for name, raw in runs.items()
                }
        return sessions

    def data_path(self, subject, path=None, force_update=False, update_path=None, verbose=None):
        """List the files of one subject."""
        found = []
        for task, dataset in self.tasks.items():
            if task in self.numbers[subject]:
                found += dataset.data_path(self.numbers[subject][task], path, force_update, update_path, verbose)
        return found


class CrossTaskSplitter(_CurveSplitter):
    """Split into source task, k labelled trials of the target task, and the rest of the target task.

    The k trials are the first of each class in turn. The test trials of a subject are the same for every k: those left
    by the largest k.

    Parameters
    ----------
    n_target : tuple of int
        The values of k, the learning curve.
    target : str
        Name of the target task, with which its sessions end.
    source : {"own", "others", "all"}
        Source-task trials to train on: those of the target subject, of the other subjects, or both.
    others_target : bool
        Whether to train also on target-task trials of the other subjects.
    n_draws : int or None
        None takes the k trials in the order of recording, as online. An integer is a number of random orders.
    random_state : int, RandomState or None
        Seed of the draws.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from skeeg.evaluations import CrossTaskSplitter
    >>> metadata = pd.DataFrame({"subject": 1, "session": ["0execution"] * 4 + ["1imagery"] * 6})
    >>> folds = CrossTaskSplitter(n_target=(0, 2)).split(np.array(list("abababbaba")), metadata)
    >>> [[part.tolist() for part in fold] for fold in folds]
    [[[0, 1, 2, 3], [], [6, 7, 8, 9]], [[0, 1, 2, 3], [4, 5], [6, 7, 8, 9]]]
    """

    metadata_columns = ("n_target", "draw")
    _counted, _fewest = "n_target", 0

    def __init__(
        self,
        n_target=(0, 10, 20, 40),
        target="imagery",
        source="own",
        others_target=False,
        n_draws=None,
        random_state=None,
    ):
        self.n_target = n_target
        self.target = target
        self.source = source
        self.others_target = others_target
        self.n_draws = n_draws
        self.random_state = random_state
        self._last = None

    def split(self, y, metadata):
        """Yield source, labelled and test trials for each subject, draw and k; see `FewshotSplitter.split`."""
        sizes = self._check_sizes()
        if self.source not in _SOURCES:
            raise ValueError(f"source: got {self.source!r}, expected one of {', '.join(map(repr, _SOURCES))}.")
        is_target = self._find_target(metadata)
        subjects = metadata["subject"].to_numpy()
        rng = check_random_state(self.random_state)
        y = np.asarray(y)
        for subject in dict.fromkeys(subjects[is_target]):
            train = np.flatnonzero(self._is_source(subjects == subject, is_target))
            own = np.flatnonzero((subjects == subject) & is_target)
            _check_subject(subject, train, own, sizes)
            for draw, order in self._orders(own, rng):
                order = order[np.argsort(pd.Series(y[order]).groupby(y[order]).cumcount(), kind="stable")]
                test = np.sort(order[max(sizes) :])
                for size in sizes:
                    self._last = {"n_target": size, "draw": draw, "calibration_size": size, "calibration_labeled": True}
                    yield train, np.sort(order[:size]), test

    def _find_target(self, metadata):
        """Mask of the trials of the target task."""
        found = metadata["session"].astype(str).str.endswith(self.target).to_numpy()
        if not found.any():
            sessions = ", ".join(sorted(metadata["session"].astype(str).unique()))
            raise ValueError(f"target: no session ends with {self.target!r}; there are {sessions}.")
        return found

    def _is_source(self, is_own, is_target):
        """Mask of the source trials."""
        chosen = {"own": is_own, "others": ~is_own, "all": np.ones_like(is_own)}[self.source]
        return (chosen & ~is_target) | (~is_own & is_target & self.others_target)


class CrossTaskEvaluation(ProtocolEvaluation):
    """MOABB evaluation: fit on one task, adapt to k trials of another, test on the rest of it.

    Pipelines that request ``y_target_labeled`` (class-level metadata requests, as in `CTAdaptTLClassifier`)
    get the k trials there. All others are wrapped into `PooledTarget`, which trains them on source and target trials.
    The result table has the columns ``n_target`` (k) and ``draw``.

    Parameters
    ----------
    paradigm : moabb.paradigms.base.BaseParadigm
        Data to load and score to use.
    datasets : CrossTaskDataset or list of them
        Recordings of two tasks.
    splitter : CrossTaskSplitter or None
        The protocol; None takes its defaults.
    random_state, n_jobs, overwrite, error_score, suffix, hdf5_path, return_epochs, cache_config
        As in `FewshotEvaluation`.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> from moabb.datasets import PhysionetMI
    >>> from moabb.paradigms import LeftRightImagery
    >>> from skeeg.evaluations import CrossTaskDataset, CrossTaskEvaluation, CrossTaskSplitter
    >>> dataset = CrossTaskDataset(PhysionetMI(imagined=False, executed=True), PhysionetMI(), same_subjects=True)
    >>> evaluation = CrossTaskEvaluation(LeftRightImagery(), dataset, CrossTaskSplitter((0, 20)), hdf5_path=mkdtemp())
    >>> results = evaluation.process(pipelines)  # doctest: +SKIP
    """

    _eval_type = "CrossTask"
    _score_per_session = True
    _needs_all_subjects = True
    _splitter = CrossTaskSplitter


def _mark_trials(raw, dataset, event_id):
    """Copy of a recording whose only events are annotations at the first sample of each trial."""
    raw = SetRawAnnotations(dataset.event_id, dataset.interval).transform(raw.copy().load_data(verbose=False))
    triggers = mne.pick_types(raw.info, meg=False, stim=True)
    raw.drop_channels([raw.ch_names[i] for i in triggers])
    kept = [
        i for i, name in enumerate(raw.annotations.description) if name in event_id or name.lower().startswith("bad")
    ]
    return raw.set_annotations(raw.annotations[kept])


def _check_subject(subject, train, own, sizes):
    """Refuse a subject without source trials, or with too few of the target task."""
    if not len(train):
        raise ValueError(f"source: subject {subject} has no source trials.")
    if len(own) <= max(sizes):
        raise ValueError(
            f"n_target: subject {subject} has {len(own)} trials of the target task; expected more than {max(sizes)}."
        )
