"""What the evaluations of this package share."""

from moabb.evaluations.base import BaseEvaluation

from .pooling import PooledTarget, takes_target
from .trials import NamedTrials


class ProtocolEvaluation(NamedTrials, BaseEvaluation):
    """MOABB evaluation whose protocol is a splitter: the ``cv_class`` and ``cv_kwargs`` of its constructor.

    Trials reach the pipelines as `EEGArray`, with names, rate and domains.
    """

    def _create_splitter(self):
        """Build the splitter of the protocol."""
        return self.cv_class(**self.cv_kwargs, random_state=self.random_state)

    def process(self, pipelines, param_grid=None, postprocess_pipeline=None):
        """Run all pipelines on all datasets.

        Parameters
        ----------
        pipelines : dict of str to estimator
            Any scikit-learn pipelines.
        param_grid : dict or None
            Grids to search, by name of pipeline; those of a wrapped pipeline begin with ``estimator__``.
        postprocess_pipeline : Pipeline or None
            Fixed processing after the paradigm's.

        Returns
        -------
        results : DataFrame
            One row for each dataset, session, pipeline and fold of the protocol.
        """
        if self._needs_all_subjects:  # then the trials of the tested person come as labelled target trials
            pipelines = {name: pipe if takes_target(pipe) else PooledTarget(pipe) for name, pipe in pipelines.items()}
        return super().process(pipelines, param_grid, postprocess_pipeline)

    def evaluate(self, dataset, pipelines, param_grid, process_pipeline, postprocess_pipeline=None):
        """Evaluate on one dataset; MOABB calls it."""
        yield from self._evaluate_parallel_dataset(
            dataset, pipelines, param_grid, process_pipeline, postprocess_pipeline
        )

    def is_valid(self, dataset):
        """Whether the dataset can be used; the splitter says what is wrong with one that cannot."""
        return True
