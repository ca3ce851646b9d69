"""The evaluations of MOABB and of this package, run one piece at a time.

MOABB computes everything and then writes the results file once, so a run that is stopped loses all. The classes made
here are MOABB's own, with two things added: a piece (one pipeline on one subject, or on a few) can be computed and
stored alone, and trials reach the pipelines as `EEGArray`, which carries channel names, rate and domains. Paths,
keys and rows of the results file are MOABB's.
"""

import contextlib
import functools
import os
import shutil

import numpy as np
from sklearn import config_context
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.utils.metadata_routing import get_routing_for_object

from ..evaluations.base import NamedTrials, with_seed
from ..evaluations.pooling import PooledTarget, takes_target
from .folder import ROOM

_LOADED = {}  # the trials this process loaded last: pieces that need the same ones follow each other


class _InPieces(NamedTrials):
    """Mixed into one of MOABB's evaluations by `evaluation_class`."""

    run_key = None  # names the run, also on the workers of a cluster, where objects are copies

    def load(self, dataset, subjects, name, pipeline, process_pipeline):
        """Load the trials that `compute` will need, so that trouble with data is told from trouble with a pipeline.

        Parameters
        ----------
        dataset, subjects, name, pipeline, process_pipeline
            As in `compute`.

        Returns
        -------
        X : EEGArray or ndarray
            Trials.
        y : ndarray
            Labels.
        metadata : DataFrame
            Subject, session and run of each trial.
        """
        wanted = dataset.subject_list if self._needs_all_subjects else subjects
        return self._load_data(dataset, {name: pipeline}, process_pipeline, None, wanted)

    def compute(self, dataset, subjects, name, pipeline, process_pipeline, param_grid):
        """Evaluate one pipeline on some subjects.

        Parameters
        ----------
        dataset : moabb.datasets.base.BaseDataset
            Dataset; in cross-subject evaluation all its subjects train.
        subjects : list
            Subjects to be tested.
        name : str
            Name of the pipeline.
        pipeline : estimator
            Unfitted pipeline.
        process_pipeline : Pipeline
            MOABB's preprocessing, part of the key of the results.
        param_grid : dict or None
            Grid of this pipeline.

        Returns
        -------
        results : list of dict
            Rows in MOABB's form.
        """
        pipeline, param_grid = self._with_target(pipeline, param_grid)
        return self._evaluate_parallel_dataset(
            dataset=dataset,
            pipelines={name: pipeline},
            param_grid={name: param_grid} if param_grid else None,
            process_pipeline=process_pipeline,
            work_plan={subject: {name: pipeline} for subject in subjects},
        )

    def _with_target(self, pipeline, param_grid):
        """Let a pipeline use target trials, which MOABB hands, untransformed, only to steps that ask for them."""
        from ..evaluations.base import ProtocolEvaluation

        if isinstance(self, ProtocolEvaluation) and not takes_target(pipeline):
            return PooledTarget(pipeline), {f"estimator__{key}": values for key, values in (param_grid or {}).items()}
        if isinstance(pipeline, Pipeline) and pipeline.transform_input is None:
            with config_context(enable_metadata_routing=True):
                asked = get_routing_for_object(pipeline).consumes("fit", {"X_target_labeled", "X_target_unlabeled"})
            if asked:  # the steps before the one that asks transform target trials like the others
                pipeline = clone(pipeline).set_params(transform_input=sorted(asked))
        return pipeline, param_grid

    def store(self, results, name, pipeline, process_pipeline):
        """Write rows to MOABB's results file; a crash in between leaves the file as it was."""
        with _replacing(self.results):
            self.results.add({name: results}, pipelines={name: pipeline}, process_pipeline=process_pipeline)

    def _load_data(self, dataset, run_pipes, process_pipeline, postprocess_pipeline, subjects=None):
        """Load trials once for all pipelines."""
        key = (self.run_key, dataset.code, tuple(subjects or dataset.subject_list))
        if _LOADED.get("key") != key:
            _LOADED.clear()
            loaded = super()._load_data(dataset, run_pipes, process_pipeline, postprocess_pipeline, list(key[2]))
            _LOADED.update(key=key, loaded=loaded)
        return _LOADED["loaded"]


@contextlib.contextmanager
def trials_kept():
    """Keep the trials loaded last while a run lasts, and no longer."""
    try:
        yield
    finally:
        _LOADED.clear()


@functools.cache
def evaluation_class(name):
    """One of the evaluations, able to run in pieces.

    Parameters
    ----------
    name : str
        Class name in `moabb.evaluations` or `skeeg.evaluations`, which the new class keeps since MOABB's results paths
        are made of it.

    Returns
    -------
    cls : type
        Subclass of the evaluation.

    Examples
    --------
    >>> from skeeg.bench.evaluation import evaluation_class
    >>> evaluation_class("CrossSessionEvaluation").__mro__[3].__module__
    'moabb.evaluations.evaluations'
    """
    from moabb import evaluations

    from .. import evaluations as own

    cls = getattr(own if name in own.__all__ else evaluations, name)
    return type(name, (_InPieces, cls), {"__module__": __name__})


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
            file.write(bytes(ROOM))
        yield
        os.replace(results.filepath, path)
    finally:
        for leftover in (results.filepath, f"{results.filepath}.lock"):
            with contextlib.suppress(OSError):
                os.remove(leftover)
        results.filepath = path


def set_seed_and_device(pipeline, seed, device):
    """Copy of a pipeline with seed and device set wherever a step has them.

    Parameters
    ----------
    pipeline : estimator
        Pipeline; a ``random_state`` it already sets is kept.
    seed : int
        Seed.
    device : str or None
        Device; None keeps what the steps say.

    Returns
    -------
    pipeline : estimator
        Unfitted copy.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skeeg.bench.evaluation import set_seed_and_device
    >>> set_seed_and_device(LogisticRegression(), 3, None).random_state
    3
    """
    pipeline = with_seed(pipeline, seed)
    if device is not None:
        places = [name for name in pipeline.get_params() if name.rsplit("__", 1)[-1] == "device"]
        pipeline.set_params(**dict.fromkeys(places, device))
    return pipeline


def count_parameters(pipeline, X, y):
    """Count the trained parameters of the network in a pipeline.

    Parameters
    ----------
    pipeline : estimator
        Pipeline whose last step has epochs to train and, once fitted, ``module_``.
    X : EEGArray, shape (n_trials, n_channels, n_times)
        Trials; a few of each class are used to build the network.
    y : ndarray, shape (n_trials,)
        Labels.

    Returns
    -------
    n_parameters : int or None
        None where no network is in the pipeline.
    """
    epochs = {key: value for key, value in pipeline.get_params().items() if key.endswith("epochs")}
    if not epochs:
        return None
    changes = {key: 1 for key, value in epochs.items() if value is not None}
    few = np.concatenate([np.flatnonzero(y == label)[:4] for label in np.unique(y)])
    fitted = clone(pipeline).set_params(**changes).fit(X[few], y[few])
    module = getattr(fitted[-1] if hasattr(fitted, "steps") else fitted, "module_", None)
    if module is None:
        return None
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
