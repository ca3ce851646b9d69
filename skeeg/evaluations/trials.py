"""How trials reach the pipelines of an evaluation: with their electrodes' names, rate and domains."""

from ..array import as_eeg


class NamedTrials:
    """Mixed into one of MOABB's evaluations: arrays become `EEGArray`, which any pipeline takes for an array.

    MOABB hands over plain arrays, from which nobody can tell an electrode; with ``return_epochs=True`` it hands over
    Epochs, which few pipelines take.
    """

    def _load_data(self, dataset, run_pipes, process_pipeline, postprocess_pipeline, subjects=None):
        """Load trials with their identity, where the paradigm has one filter and nothing comes after it."""
        filters = getattr(self.paradigm, "filters", [None])
        if self.return_epochs or postprocess_pipeline is not None or len(filters) > 1:
            return super()._load_data(dataset, run_pipes, process_pipeline, postprocess_pipeline, subjects)
        epochs, labels, metadata = self.paradigm.get_data(
            dataset,
            subjects=subjects or dataset.subject_list,
            return_epochs=True,
            cache_config=self.cache_config,
        )
        return as_eeg(epochs), labels, metadata
