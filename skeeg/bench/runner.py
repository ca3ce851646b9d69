"""Run comparisons: find what is missing, compute it job by job, keep what is done."""

import contextlib
import copy
import signal
import threading
import time
import uuid
import warnings
from dataclasses import dataclass
from datetime import datetime

import pandas as pd
from joblib import cpu_count

from . import catalogue
from .evaluation import evaluation_class, set_seed_and_device
from .folder import BenchFolder, call_text, concat, digest, first_line, machine, one_line, set_aside, versions
from .jobs import Job, compute_all, on_cluster, quiet, worker_pools

_COLUMNS = ["dataset", "evaluation", "pipeline", "subject", "session", "seed", "score", "time"]


def run(
    dataset=None,
    evaluation=None,
    pipelines=None,
    *,
    param_grid=None,
    checkpoints=None,
    subjects=None,
    n_per_class=None,
    scoring=None,
    seeds=None,
    jobs=1,
    device=None,
    paradigm=None,
    out="skeeg-results",
    overwrite=False,
    progress=True,
):
    """Evaluate pipelines on datasets with MOABB and write a report.

    What is already in `out` is not computed again. Ctrl-C stops the run and keeps what is done; a pipeline that fails
    is named at the end and does not stop the others. Without arguments, three protocols are compared on simulated
    subjects.

    Parameters
    ----------
    dataset : str, path, moabb.datasets.base.BaseDataset, or list of them
        Name (``skeeg list``, or of MOABB), folder with recordings, or a dataset. With several, the report has MOABB's
        meta-analysis across them.
    evaluation : str or sequence of str
        Names in ``skeeg list``; several are panels of one report.
    pipelines : sequence of str or path, or dict of str to estimator
        Names (``skeeg list``), YAML files in MOABB's layout, folders of them, or estimators by name. None takes named
        ones that fit evaluation and paradigm.
    param_grid : dict, path or None
        ``{pipeline: {parameter: [values]}}`` or a YAML file of it, searched by an inner cross-validation.
    checkpoints : dict of str to str, or None
        Weights to start from by name of the pipeline: a file, ``"skeeg:NAME"`` or ``"hub:owner/repository/file"``.
    subjects : sequence or None
        Subjects to use; None takes all.
    n_per_class : sequence of int or None
        Labelled target trials of each class in few-shot (5, 10, 20; with source subjects 5, 20) and cross-task (10)
        evaluation.
    scoring : str, sequence of str, or None
        Some of ``"roc_auc"``, ``"accuracy"``, ``"balanced_accuracy"``, ``"kappa"`` and ``"f1"`` (mean over classes);
        the first decides. None is ROC AUC for two classes and accuracy for more.
    seeds : sequence of int or None
        Each repeats everything with other folds and initial weights. None is 0, or the published ones of
        ``"downstream"``.
    jobs : int
        Processes, each one pipeline on one subject; -1 takes one for each core, 0 computes in this process.
    device : str or None
        Device of the networks; None leaves it to each pipeline.
    paradigm : moabb.paradigms.base.BaseParadigm or None
        None takes MOABB's for the dataset and its classes.
    out : path-like
        Folder of results and report.
    overwrite : bool
        Compute again what is there.
    progress : bool
        Show a progress bar.

    Returns
    -------
    table : DataFrame
        One row for each pipeline, subject, session and seed: ``score``, ``time`` (seconds of one fit) and MOABB's other
        columns.

    Examples
    --------
    >>> import skeeg.bench
    >>> table = skeeg.bench.run("simulated", pipelines=["CSP+LDA", "MDM"])  # doctest: +SKIP
    >>> table.groupby("pipeline").score.mean()  # doctest: +SKIP
    """
    given = locals()
    datasets, evaluations = plan(dataset, evaluation, pipelines)
    own = ("dataset", "evaluation", "overwrite", "progress")
    settings = {name: value for name, value in given.items() if name not in own} | {"command": call_text(run, given)}
    benchmarks = [Benchmark(one, name, **settings) for name in evaluations for one in datasets]
    outcomes = run_all(benchmarks, overwrite, progress)
    for outcome in outcomes:
        for name, message in outcome.failed().items():
            warnings.warn(f"{name} failed: {message}", stacklevel=2)
    return pd.concat([outcome.table for outcome in outcomes], ignore_index=True)


def plan(dataset, evaluation, pipelines):
    """Datasets and evaluations of a run; by default three protocols on simulated subjects."""
    if evaluation is None:
        evaluation = catalogue.DEFAULTS["evaluations"] if dataset is None and pipelines is None else "within-session"
        dataset = catalogue.DEFAULTS["dataset"] if dataset is None and pipelines is None else dataset
    datasets = dataset if isinstance(dataset, list | tuple) else ["simulated" if dataset is None else dataset]
    evaluations = [evaluation] if isinstance(evaluation, str) else list(evaluation)
    for what, names in (("dataset", datasets), ("evaluation", evaluations)):
        if not names:
            raise ValueError(f"{what}: none given.")
    return list(datasets), [catalogue.resolve_evaluation(name) for name in evaluations]


def run_all(benchmarks, overwrite=False, progress=True):
    """Run comparisons one after the other; one in which nothing can be computed is raised after the others.

    Gives the outcomes up to the first that was stopped.
    """
    outcomes, errors = [], []
    with worker_pools(benchmarks[0].jobs) as pools:
        for benchmark in benchmarks:
            try:
                outcomes.append(benchmark.run(overwrite, progress, pools))
            except RuntimeError as error:
                errors.append(error)
                continue
            if outcomes[-1].entry["interrupted"]:
                break
    if errors:
        raise errors[0]
    return outcomes


@dataclass
class Outcome:
    """What came of a run: its entry in the results folder, its scores and the path of its report."""

    entry: dict
    table: object = None
    report: object = None

    def failed(self):
        """First message of each pipeline that failed, and on how many subjects it did."""
        messages = {}
        for failure in self.entry["failures"]:
            messages.setdefault(failure["pipeline"], []).append(failure["error"])
        return {name: f"{errors[0]} ({len(errors)} times)" for name, errors in messages.items()}


class Benchmark:
    """One comparison: dataset, evaluation, pipelines, seeds and the folder it is kept in.

    Takes the parameters of `run` and checks them before anything is computed.
    """

    def __init__(self, dataset, evaluation, pipelines=None, *, param_grid=None, checkpoints=None, subjects=None,
                 n_per_class=None, scoring=None, seeds=None, jobs=1, device=None, paradigm=None, out="skeeg-results",
                 command=""):  # fmt: skip
        self.evaluation = catalogue.resolve_evaluation(evaluation)
        make = catalogue.get_tasks if self.evaluation == "cross-task" else catalogue.get_dataset
        self.dataset = _choose_subjects(make(dataset), subjects)
        self.all_subjects = subjects is None
        scoring = [scoring] if isinstance(scoring, str) else scoring
        if paradigm is None:
            paradigm = catalogue.get_paradigm(self.dataset, scoring=scoring, evaluation=self.evaluation)
        elif scoring is not None:
            raise ValueError("scoring: the paradigm that is given has a score of its own; give one of the two.")
        self.paradigm = paradigm
        self._choose_pipelines(pipelines, checkpoints, param_grid)
        about = catalogue.EVALUATIONS[self.evaluation]
        self.seeds = [int(seed) for seed in (about.get("seeds", [0]) if seeds is None else seeds)]
        if jobs != int(jobs) or jobs < -1:
            raise ValueError(f"jobs: expected a number of processes, -1 for one each core or 0 for none, got {jobs!r}.")
        self.jobs, self.device, self.command = cpu_count() if jobs == -1 else int(jobs), device, command
        self.folder = BenchFolder(out)
        self.across = self.evaluation.startswith(("cross-subject", "few-shot:others"))
        self.n_per_class = _check_n_per_class(about.get("n_per_class", ()), n_per_class)
        self.run_key = uuid.uuid4().hex  # the trials loaded last are kept under this name
        self._check()
        self.process_pipeline = self.paradigm.make_process_pipelines(self.dataset)[0]

    def _choose_pipelines(self, pipelines, checkpoints, param_grid):
        """Build the pipelines; named ones suit the paradigm."""
        if pipelines is None:
            pipelines = catalogue.default_pipelines(self.evaluation, self.paradigm)
        self.pipelines, grids = catalogue.get_pipelines(pipelines)
        if not isinstance(pipelines, dict):
            catalogue.check_paradigms(self.pipelines, self.paradigm, self.dataset.code)
            if self.dataset.paradigm != "imagery":
                catalogue.set_default_recipes(self.pipelines)
        catalogue.set_checkpoints(self.pipelines, checkpoints)
        self.grids = catalogue.get_grid(grids, self.pipelines) | catalogue.get_grid(param_grid, self.pipelines)

    def _check(self):
        """Refuse what MOABB would leave out without an error."""
        code, evaluation, subjects = self.dataset.code, self.evaluation, self.dataset.subject_list
        if not self.pipelines:
            raise ValueError("pipelines: none given.")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: expected different integers, got {self.seeds}.")
        if not self.paradigm.is_valid(self.dataset):
            raise ValueError(f"dataset: {code} does not fit the paradigm {type(self.paradigm).__name__}.")
        if evaluation == "cross-session" and self.dataset.n_sessions < 2:
            raise ValueError(f"evaluation: {evaluation} needs at least two sessions, but {code} has one.")
        if self.across and len(subjects) < 2:
            raise ValueError(f"evaluation: {evaluation} needs at least two subjects, got {subjects}.")
        if evaluation.endswith("trialwise") and not isinstance(self.paradigm.scoring, str):
            raise ValueError(f"scoring: {evaluation} has MOABB's own score, and takes no other.")

    def run(self, overwrite=False, progress=True, pools=()):
        """Compute what is missing, in `worker_pools` or this process, and write table and report; give the outcome."""
        from .report import write_report

        started = time.perf_counter()
        with self.folder.locked(), quiet():
            self._open(overwrite)
            jobs = self._missing()
            outcome = Outcome(self._describe_run(jobs))
            self._write(outcome)
            try:
                with _stopping() as stop:
                    self._compute(jobs, outcome, stop, pools, progress)
            except KeyboardInterrupt:
                outcome.entry["interrupted"] = True
            outcome.entry["seconds"] = round(time.perf_counter() - started, 1)
            self._write(outcome)
            self.folder.write_predictions(self.key, self._predictions(), self.pipelines)
            if outcome.entry["failures"] and not len(outcome.table) and not outcome.entry["interrupted"]:
                first = outcome.entry["failures"][0]
                raise RuntimeError(f"Nothing could be computed. {first['pipeline']} failed: {first['error']}")
            outcome.report = write_report(self.folder.path)
        return outcome

    def _open(self, overwrite):
        """Pair each pipeline and seed with the MOABB evaluation that keeps its results."""
        self.units, kept = {}, {}
        about = catalogue.EVALUATIONS[self.evaluation]
        arguments = about.get("arguments", {}) | self._protocol()
        for name, pipeline in self.pipelines.items():
            for seed in self.seeds:
                pipeline = set_seed_and_device(pipeline, seed, self.device)
                suffix = self._suffix(name, seed, arguments.get("cs_mode"))
                evaluation = self._open_evaluation(about["class"], random_state=seed, suffix=suffix, **arguments)
                evaluation._needs_all_subjects = self.across  # cross-task learns from the subject's own trials
                place = evaluation.place_of(pipeline)
                same = kept.setdefault((evaluation.results.filepath, place), name)
                if same != name:
                    raise ValueError(f"pipelines: {same} and {name} are the same; leave one out.")
                if overwrite:
                    evaluation.forget(place)
                self.units[name, seed] = pipeline, evaluation

    def _protocol(self):
        """Splitter of a protocol of skeeg, with its numbers of labelled target trials or its session."""
        from ..evaluations import CrossTaskSplitter, DownstreamSplitter, FewshotSplitter

        if self.evaluation == "downstream":
            sessions = type(self.dataset).__module__.startswith("moabb.")  # names of sessions are those of MOABB
            session = catalogue.find_task(self.dataset).get("session") if sessions else None
            return {"splitter": DownstreamSplitter(session)}
        if self.evaluation == "cross-task":
            n_classes = len(self.paradigm.used_events(self.dataset))
            return {"splitter": CrossTaskSplitter(tuple(n_classes * number for number in self.n_per_class))}
        if self.n_per_class:
            return {"splitter": FewshotSplitter(self.n_per_class, others=self.evaluation.endswith(":others"))}
        return {}

    def _open_evaluation(self, class_name, **options):
        """MOABB's evaluation; a results file that cannot be read is set aside first."""

        def make():
            return evaluation_class(class_name)(
                paradigm=self.paradigm, datasets=[self.dataset], hdf5_path=str(self.folder.path), **options
            )

        evaluation = make()
        try:
            evaluation.results.to_dataframe()
        except TimeoutError:  # another process holds the file
            raise
        except Exception:  # a damaged HDF5 file raises OSError, KeyError, RuntimeError or ValueError
            set_aside(evaluation.results.filepath)
            evaluation = make()
        evaluation.run_key, evaluation.process_pipeline = self.run_key, self.process_pipeline
        return evaluation

    def _suffix(self, name, seed, mode):
        """Name in the results file's name what decides a score and is not in MOABB's key."""
        parts = [mode, f"seed{seed}"]
        if self.paradigm.scorer is not None:
            parts.append(f"scoring-{digest(self.paradigm.scoring)}")
        if self.across and not self.all_subjects:
            parts.append(f"subjects-{digest(self.dataset.subject_list)}")
        if name in self.grids:
            parts.append(f"grid-{digest(sorted(self.grids[name].items()))}")
        parts += [f"weights-{one}" for one in catalogue.checkpoint_digests(self.pipelines[name])]
        return "_".join(part for part in parts if part)

    def _missing(self):
        """Jobs to be computed, those that need the same trials next to each other."""
        jobs = [
            Job(name, seed, subject, pipeline, evaluation, self.grids.get(name))
            for subject in self.dataset.subject_list
            for (name, seed), (pipeline, evaluation) in self.units.items()
            if evaluation.results.not_yet_computed({name: pipeline}, self.dataset, subject, self.process_pipeline)
        ]
        for job in jobs:  # the folds of few jobs are spread instead
            job.evaluation.n_jobs = 1 if on_cluster() else max(1, self.jobs // len(jobs))
        return jobs

    def _compute(self, jobs, outcome, stop, pools, progress):
        """Compute the jobs; each is in MOABB's file before the next is started."""
        from tqdm.auto import tqdm

        options = {"total": len(jobs), "disable": not (progress and jobs), "unit": "fold set", "dynamic_ncols": True}
        with tqdm(**options) as bar, contextlib.closing(compute_all(jobs, pools)) as computing:
            for result in computing:
                if stop.is_set():  # on Ctrl-C a network's fit ends without an error, and its score is no result
                    raise KeyboardInterrupt
                self._take(result, outcome)
                bar.set_description(f"{result.job.name}, subject {result.job.subject}")
                bar.update()
                if result.data_failed and self.across:  # every other job needs these recordings too
                    return

    def _take(self, result, outcome):
        """Store the rows of a job, or note why there are none."""
        if result.failure:
            outcome.entry["failures"].append(result.failure)
        if result.rows:
            self.units[result.job.name, result.job.seed][1].store(result)  # the job may be a copy from a process
            outcome.entry |= result.shape
            outcome.entry["pipelines"][result.job.name] |= result.notes

    def _describe_run(self, jobs):
        """Collect the settings of this run for the report."""
        from moabb.analysis.results import get_digest

        subjects = [str(subject) for subject in self.dataset.subject_list]
        identity = [self.dataset.code, self.evaluation, get_digest(self.process_pipeline), self.paradigm.scoring]
        self.key = digest([*identity, subjects, self.seeds, *self.n_per_class])
        before = self.folder.runs().get(self.key, {})
        total = len(self.units) * len(subjects)
        reused = total - len(jobs)
        scoring = self.paradigm.scoring
        scorings = [scoring] if isinstance(scoring, str) else list(scoring) if isinstance(scoring, dict) else []
        now, old = versions(), before.get("versions", {})
        return {key: before[key] for key in ("n_channels", "n_times", "sfreq") if key in before} | {
            "dataset": self.dataset.code,
            "name": catalogue.shown_name(self.dataset),
            "about": first_line(getattr(self.dataset, "target", self.dataset)),
            "evaluation": self.evaluation,
            "paradigm": type(self.paradigm).__name__,
            "scoring": scorings[0] if scorings else "custom",
            "scorings": scorings,
            "classes": sorted(self.paradigm.used_events(self.dataset)),
            "bands": [list(map(float, band)) for band in self.paradigm.filters],
            "subjects": subjects,
            "n_sessions": int(self.dataset.n_sessions),
            "runs_as_sessions": bool(getattr(self.dataset, "runs_as_sessions", False)),
            "seeds": self.seeds,
            "n_per_class": list(self.n_per_class),
            "jobs": self.jobs,
            "pipelines": before.get("pipelines", {}) | self._describe_pipelines(before.get("pipelines", {})),
            "date": datetime.now().isoformat(" ", timespec="minutes"),
            "command": self.command,
            "versions": now,
            "older_versions": {name: one for name, one in old.items() if reused and now.get(name) != one},
            "machine": machine(),
            "planned": total,
            "reused": reused,
            "failures": [],
            "interrupted": False,
        }

    def _describe_pipelines(self, before):
        """Estimator, grid and, where it is known from before, size of each pipeline."""
        notes = {}
        for name, pipeline in self.pipelines.items():
            notes[name] = {"estimator": one_line(pipeline), "about": catalogue.describe(name, pipeline)}
            if before.get(name, {}).get("estimator") == notes[name]["estimator"]:
                notes[name] = before[name] | notes[name]
            if name in self.grids:
                notes[name]["grid"] = {key: list(map(str, values)) for key, values in self.grids[name].items()}
        return notes

    def _write(self, outcome):
        """Write entry and table as they stand."""
        outcome.table = self._table()
        # Counted from what is stored: a run can be stopped between storing the rows of a job and noting it.
        outcome.entry["done"] = len(outcome.table[["pipeline", "seed", "subject"]].drop_duplicates())
        self.folder.write(self.key, outcome.entry, outcome.table, self.pipelines)

    def _table(self):
        """Rows of MOABB's results files that belong to this run, in the order of pipelines, seeds and subjects."""
        frames = []
        subjects = list(map(str, self.dataset.subject_list))
        for (name, seed), (pipeline, evaluation) in self.units.items():
            frame = evaluation.results.to_dataframe({name: pipeline}, self.process_pipeline)
            if len(frame):
                frame = frame[(frame["dataset"] == self.dataset.code) & frame["subject"].isin(subjects)]
                frame = frame.assign(pipeline=name, evaluation=self.evaluation, seed=seed)
                frame = frame.sort_values("session", kind="stable")
                frames.append(frame.sort_values("subject", key=lambda one: one.map(subjects.index), kind="stable"))
        table = concat(frames, pd.DataFrame(columns=_COLUMNS))
        return table[[*_COLUMNS, *[column for column in table.columns if column not in _COLUMNS]]]

    def _predictions(self):
        """Predictions in MOABB's results files that belong to this run."""
        tables, subjects = [], set(map(str, self.dataset.subject_list))
        for (name, seed), (pipeline, evaluation) in self.units.items():
            found = evaluation.read_predictions(evaluation.place_of(pipeline))
            kept = [one for one in found if one["subject"].iloc[0] in subjects]
            tables += [one.assign(pipeline=name, seed=seed) for one in kept]
        return concat(tables, pd.DataFrame())


def _check_n_per_class(default, n_per_class):
    """Numbers of labelled target trials; none where the evaluation takes none."""
    numbers = default if n_per_class is None else n_per_class
    if min(numbers, default=1) < 1 or len(set(numbers)) < len(numbers):
        raise ValueError(f"n_per_class: expected different numbers of trials, 1 or more, got {n_per_class}.")
    return tuple(sorted(numbers)) if default else ()


def _choose_subjects(dataset, subjects):
    """Copy of the dataset with some of its subjects."""
    if subjects is None:
        return dataset
    known = {str(subject): subject for subject in dataset.subject_list}
    for subject in subjects:
        if str(subject) not in known:
            raise catalogue.nearest("subjects", str(subject), known)
    chosen = copy.copy(dataset)
    wanted = {str(subject) for subject in subjects}
    chosen.subject_list = [subject for name, subject in known.items() if name in wanted]
    return chosen


@contextlib.contextmanager
def _stopping():
    """Give an event that is set on Ctrl-C or a request to end, since a network's fit swallows the exception."""
    stop, old = threading.Event(), {}

    def interrupt(number, frame):
        stop.set()
        raise KeyboardInterrupt

    try:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handler
            old |= {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
        yield stop
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
