"""Networks that have published weights: one's own file, a file of the hub, or none, and then saying so."""

import warnings

from .training import NetworkClassifier

_HUB = "hub:"


class PretrainedNetworkClassifier(NetworkClassifier):
    """Classifier around a network that is meant to start from published weights.

    It is `NetworkClassifier` with two additions: ``checkpoint`` may be a file of the Hugging Face hub,
    ``"hub:owner/repository/file"``, and without a checkpoint fit warns that the network starts from scratch. Its
    parameters are those of `NetworkClassifier`.

    Examples
    --------
    >>> from skeeg.pretrained import PretrainedNetworkClassifier
    >>> PretrainedNetworkClassifier("BIOT", checkpoint="biot.safetensors").checkpoint
    'biot.safetensors'
    """

    def _checkpoint_source(self):
        """File of the weights; a file of the hub is fetched when fit needs it."""
        if self.checkpoint is None:
            warnings.warn(
                f"{self.network} starts from scratch, without its published weights; checkpoint= takes a file or "
                f"{_HUB}owner/repository/file.",
                stacklevel=6,
            )
            return None
        return fetch(self.checkpoint) if str(self.checkpoint).startswith(_HUB) else self.checkpoint


def fetch(reference):
    """Local copy of a file of the Hugging Face hub.

    Parameters
    ----------
    reference : str
        ``"hub:owner/repository/file"``.

    Returns
    -------
    path : str
        File in the hub's cache, fetched where it is not there yet.
    """
    owner, _, rest = reference.removeprefix(_HUB).partition("/")
    repository, _, file = rest.partition("/")
    if not (owner and repository and file):
        raise ValueError(f"checkpoint: expected '{_HUB}owner/repository/file', got {reference!r}.")
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise ImportError("checkpoint: files of the hub need huggingface_hub: pip install skeeg[hub].") from error
    return hf_hub_download(f"{owner}/{repository}", file)
