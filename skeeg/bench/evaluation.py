"""Evaluations of MOABB and of skeeg, computed one job at a time.

MOABB computes everything and then writes the results file once, so a stopped run loses all. The classes made here are
MOABB's own, with additions: a job (one pipeline on one subject) can be computed and stored alone, trials reach the
pipelines as `EEGArray`, and predictions are kept. Paths, keys and rows of the results file are MOABB's.
"""

import contextlib
import functools
import os
import shutil
import tempfile

import h5py
from moabb.analysis.results import get_pipeline_digest
from sklearn import config_context
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.utils.metadata_routing import get_routing_for_object

from ..base import params_named
from ..evaluations.adaptation import PooledTarget, takes_target
from ..evaluations.base import NamedTrials, ProtocolEvaluation, with_seed
from . import predictions
from .folder import FREE_SPACE

_NAME_CLASSES = ("checkpoint_classes", "mirror_classes", "frequencies")  # parameters that name classes
_LOADED = {}  # the trials this process loaded last: jobs that need the same ones follow each other


class _InJobs(NamedTrials):
    """Mixed into one of MOABB's evaluations by `evaluation_class`."""

    run_key = process_pipeline = None  # key of the run on the workers of a cluster, where objects are copies

    def load(self, job):
        """Load the trials that `compute` needs, so that failures of data are not counted as failures of pipelines."""
        subjects = None if self._needs_all_subjects else [job.subject]
        return self._load_data(self.datasets[0], {job.name: job.pipeline}, self.process_pipeline, None, subjects)

    def compute(self, job):
        """Evaluate one pipeline on one subject; give MOABB's rows and the predictions of the folds."""
        pipeline, param_grid = self._with_target(job.pipeline, job.grid)
        _, y, _ = self.load(job)
        self._classes, self._predictions = sorted(set(y)), []
        self._keep_names = bool(params_named(pipeline, *_NAME_CLASSES))
        with tempfile.TemporaryDirectory() as memory:
            pipelines = {job.name: _with_memory(pipeline, memory)}
            rows = self._evaluate_parallel_dataset(
                self.datasets[0], pipelines, {job.name: param_grid} if param_grid else None, self.process_pipeline,
                work_plan={job.subject: pipelines},
            )  # fmt: skip
        for row in rows:  # with codecarbon, MOABB adds emissions of zero, though none are measured
            row.pop("carbon_emission", None), row.pop("codecarbon_task_name", None)
        return rows, self._predictions + self._take_predictions(rows)

    def _build_eval_config(self, param_grid):
        """Record predictions beside the scores, not emissions; scores of single trials are MOABB's own.

        Labels keep their names for pipelines whose parameters name classes; others get MOABB's numbers.
        """
        config = super()._build_eval_config(param_grid)
        config["codecarbon_config"] = None  # without a connection, codecarbon waits in every fold
        config["mne_labels"] = config["mne_labels"] or self._keep_names
        scoring = [config["scoring"]] if isinstance(config["scoring"], str) else config["scoring"]
        if not config["trialwise"] and isinstance(scoring, list | dict):
            scorers = scoring if isinstance(scoring, dict) else dict(zip(scoring, scoring, strict=True))
            config["scoring"] = scorers | {predictions.KEY: predictions.record}
        return config

    def _aggregate_fold_results(self, fold_results):
        """Take the predictions out before MOABB averages over folds."""
        self._predictions = self._take_predictions(fold_results)
        return super()._aggregate_fold_results(fold_results)

    def _take_predictions(self, rows):
        """Take the predictions out of MOABB's rows, with the columns of the protocol."""
        return predictions.take(rows, self._classes, getattr(self.cv_class, "metadata_columns", ()))

    def _with_target(self, pipeline, param_grid):
        """Let a pipeline use target trials, which MOABB passes, untransformed, only to steps that request them."""
        if isinstance(self, ProtocolEvaluation) and not takes_target(pipeline):
            return PooledTarget(pipeline), {f"estimator__{key}": values for key, values in (param_grid or {}).items()}
        if isinstance(pipeline, Pipeline) and pipeline.transform_input is None:
            with config_context(enable_metadata_routing=True):
                requested = get_routing_for_object(pipeline).consumes("fit", {"X_target_labeled", "X_target_unlabeled"})
            if requested:  # the steps before the one that requests them transform target trials like the others
                pipeline = clone(pipeline).set_params(transform_input=sorted(requested))
        return pipeline, param_grid

    def store(self, result):
        """Write rows and predictions to MOABB's results file; a crash in between leaves the file as it was."""
        job = result.job
        with _replacing(self.results):
            self.results.add({job.name: result.rows}, {job.name: job.pipeline}, self.process_pipeline)
            with h5py.File(self.results.filepath, "r+") as file:
                predictions.write(file[self.place_of(job.pipeline)], job.subject, result.predictions)

    def place_of(self, pipeline):
        """Group of MOABB's results file that holds the rows of a pipeline."""
        return f"{get_pipeline_digest(self.process_pipeline, pipeline)}/{self.datasets[0].code}"

    def forget(self, place):
        """Take the rows of a pipeline on a dataset out of MOABB's results file."""
        with h5py.File(self.results.filepath, "r+") as file:
            if place in file:
                del file[place]

    def read_predictions(self, place):
        """Read the predictions of a pipeline on a dataset, a table for each subject."""
        with h5py.File(self.results.filepath) as file:
            return predictions.read(file.get(place, {}))

    def _load_data(self, dataset, run_pipes, process_pipeline, postprocess_pipeline, subjects=None):
        """Load trials once for all pipelines."""
        key = (self.run_key, dataset.code, tuple(subjects or dataset.subject_list))
        if _LOADED.get("key") != key:
            _LOADED.clear()
            loaded = super()._load_data(dataset, run_pipes, process_pipeline, postprocess_pipeline, list(key[2]))
            _LOADED.update(key=key, loaded=loaded)
        return _LOADED["loaded"]


@functools.cache
def evaluation_class(name):
    """One of the evaluations of `moabb.evaluations` or `skeeg.evaluations`, able to compute jobs.

    It keeps its class name, from which MOABB makes the paths of results.
    """
    from moabb import evaluations

    from .. import evaluations as own

    cls = getattr(own if name in own.__all__ else evaluations, name)
    return type(name, (_InJobs, cls), {"__module__": __name__})


@contextlib.contextmanager
def _replacing(results):
    """Let MOABB write into a copy of the results file that then takes its place in one step.

    The copy has a free end to write into, which closing takes off: HDF5 may end the process where a disk is full.
    """
    path = results.filepath
    results.filepath = f"{path}.new"
    try:
        shutil.copyfile(path, results.filepath)
        with open(results.filepath, "ab") as file:
            file.write(bytes(FREE_SPACE))
        yield
        os.replace(results.filepath, path)
    finally:
        for leftover in (results.filepath, f"{results.filepath}.lock"):
            with contextlib.suppress(OSError):
                os.remove(leftover)
        results.filepath = path


def _with_memory(pipeline, folder):
    """Copy of a pipeline whose classifiers keep source networks, which numbers of labelled trials then share."""
    params = {"": pipeline} | pipeline.get_params()
    places = [key for key, value in params_named(pipeline, "memory").items() if value is None]
    places = [key for key in places if not isinstance(params[key.rpartition("__")[0]], Pipeline)]
    return clone(pipeline).set_params(**dict.fromkeys(places, folder))


def set_seed_and_device(pipeline, seed, device):
    """Copy of a pipeline with every open ``random_state`` set, and every ``device`` unless it is None."""
    pipeline = with_seed(pipeline, seed)
    if device is not None:
        pipeline.set_params(**dict.fromkeys(params_named(pipeline, "device"), device))
    return pipeline
