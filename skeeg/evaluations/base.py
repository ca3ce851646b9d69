"""Base of the evaluations: trials with channel names, protocols as splitters, seeds of pipelines."""

import functools
import warnings

import numpy as np
from moabb.evaluations.base import BaseEvaluation
from sklearn.base import clone

from ..array import as_eeg
from ..base import params_named
from .adaptation import PooledTarget, takes_target


class NamedTrials:
    """Mixin for MOABB's evaluations that passes trials as `EEGArray`, which any pipeline accepts as an array.

    MOABB passes plain arrays without channel names, or, with ``return_epochs=True``, Epochs, which few pipelines
    accept.
    """

    def _load_data(self, dataset, run_pipes, process_pipeline, postprocess_pipeline, subjects=None):
        """Load trials with names, rate and domains; with several filters or a post-processing, as MOABB does."""
        if self.return_epochs or postprocess_pipeline is not None or len(self.paradigm.filters) > 1:
            return super()._load_data(dataset, run_pipes, process_pipeline, postprocess_pipeline, subjects)
        epochs, labels, metadata = self.paradigm.get_data(
            dataset,
            subjects=subjects or dataset.subject_list,
            return_epochs=True,
            cache_config=self.cache_config,
        )
        rate = vars(epochs).get("_raw_sfreq", epochs.info["sfreq"])  # of the events: that before resampling
        length, distance = np.ptp(epochs.times), min(np.diff(epochs.events[:, 0]), default=np.inf) / rate
        if distance < length and dataset.paradigm not in ("p300", "cvep"):  # responses to stimuli overlap by design
            _warn_of_overlap(dataset.code, length)
        return as_eeg(epochs), labels, metadata


@functools.cache  # not for every subject
def _warn_of_overlap(code, length):
    """Say that trials overlap, since a training trial then holds samples of a test trial."""
    warnings.warn(
        f"tmin, tmax: trials of {length:g} s overlap, since some events of {code} are closer. Where training and test "
        "trials are of the same run, they share samples, and scores can be too high.",
        stacklevel=3,
    )


class ProtocolEvaluation(NamedTrials, BaseEvaluation):
    """Base of MOABB evaluations whose protocol is a splitter.

    Its parameters are those of MOABB, and ``splitter``, whose parameters name the results file where they are not its
    defaults. Trials are passed to the pipelines as `EEGArray`, with names, rate and domains.
    """

    _splitter = None  # class
    _needs_all_subjects = False  # whether trials of the target are passed as labelled target trials

    def __init__(
        self,
        paradigm,
        datasets,
        splitter=None,
        random_state=None,
        n_jobs=1,
        overwrite=False,
        error_score="raise",
        suffix="",
        hdf5_path=None,
        return_epochs=False,
        cache_config=None,
    ):
        default = self._splitter()
        splitter = default if splitter is None else splitter
        if not isinstance(splitter, self._splitter):
            raise TypeError(f"splitter: got {splitter!r}, expected a {self._splitter.__name__}.")
        params = {name: value for name, value in vars(splitter).items() if not name.startswith("_")}
        if random_state is not None:
            params["random_state"] = random_state
        changed = {name: value for name, value in params.items() if value != vars(default)[name]}
        names = [f"{name}-{_in_file_name(value)}" for name, value in changed.items()]
        random_state = params.pop("random_state")
        self._needs_all_subjects = params.get("others", self._needs_all_subjects)
        super().__init__(
            paradigm,
            datasets,
            random_state,
            n_jobs,
            overwrite,
            error_score,
            suffix="_".join([suffix, *names] if suffix else names),
            hdf5_path=hdf5_path,
            return_epochs=return_epochs,
            cache_config=cache_config,
            cv_class=type(splitter),  # names the columns of the result table
            cv_kwargs=params,
        )

    def _create_splitter(self):
        """Create the splitter of the protocol."""
        return self.cv_class(**self.cv_kwargs, random_state=self.random_state)

    def process(self, pipelines, param_grid=None, postprocess_pipeline=None):
        """Run all pipelines on all datasets; in grids, parameters of a wrapped one begin with ``estimator__``."""
        if self._needs_all_subjects:  # the target subject's trials are passed as labelled target trials
            pipelines = {name: pipe if takes_target(pipe) else PooledTarget(pipe) for name, pipe in pipelines.items()}
        return super().process(pipelines, param_grid, postprocess_pipeline)

    def evaluate(self, dataset, pipelines, param_grid, process_pipeline, postprocess_pipeline=None):
        """Evaluate on one dataset; MOABB calls it."""
        yield from self._evaluate_parallel_dataset(
            dataset, pipelines, param_grid, process_pipeline, postprocess_pipeline
        )

    def is_valid(self, dataset):
        """Whether the dataset can be used; the splitter raises an error where it cannot."""
        return True


def _in_file_name(value):
    """Write a parameter as part of a file name."""
    parts = value if isinstance(value, tuple | list) else [value]
    return "-".join(getattr(part, "__name__", str(part)) for part in parts)


def with_seed(pipeline, seed):
    """Copy of a pipeline with every open ``random_state`` set; one that is set already is kept."""
    free = [name for name, value in params_named(pipeline, "random_state").items() if value is None]
    return clone(pipeline).set_params(**dict.fromkeys(free, int(seed)))
