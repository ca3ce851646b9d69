"""Where a network starts from, weights with the label of each output, and the target trials."""

import dataclasses

import numpy as np

from ...training import load_checkpoint, read_state_dict
from ...training.checkpoints import rename_keys
from .network import UPSTREAM_KEYS

HEAD = "final_layer"


@dataclasses.dataclass(frozen=True)
class Start:
    """Weights to start from.

    Attributes
    ----------
    state : dict of str to Tensor
        Weights, by the names of `CTAdaptTLNet`.
    classes : tuple or None
        Label of each output; None: not known, the last layer is not used.
    """

    state: dict
    classes: tuple | None

    def knows(self, classes):
        """Tell whether every one of these labels has an output."""
        return self.classes is not None and set(classes) <= set(self.classes)


@dataclasses.dataclass
class Target:
    """Trials of the target subject.

    Attributes
    ----------
    blocks : list of EEGArray, shape (n_trials, n_channels, n_times)
        The labelled ones first.
    y : ndarray of int, shape (n_labeled,), or None
        Class indices of the labelled ones.
    names : tuple of str
        Arguments of `fit` that they came by; empty where they are X itself.
    """

    blocks: list
    y: np.ndarray | None
    names: tuple = ()


def find_subjects(X, subjects):
    """Subject of each trial: what the trials carry, else what was given.

    Parameters
    ----------
    X : EEGArray, shape (n_trials, n_channels, n_times)
        Trials.
    subjects : array-like, shape (n_trials,), or None
        Given to fit.

    Returns
    -------
    subjects : ndarray, shape (n_trials,), or None
        None where nobody knows.
    """
    if X.domains is not None:
        return X.domains["subject"]
    if subjects is None:
        return None
    if np.shape(subjects) != (len(X),):
        raise ValueError(f"subjects: got shape {np.shape(subjects)} for {len(X)} trials in X.")
    return np.asarray(subjects)


def read_start(path, classes):
    """Read a checkpoint, published or one's own.

    Parameters
    ----------
    path : str or path-like
        A ``.pt`` or ``.safetensors`` file; nothing in it is executed.
    classes : tuple or None
        Label of each of its outputs.

    Returns
    -------
    start : Start
        Its weights.
    """
    state = rename_keys(read_state_dict(path), UPSTREAM_KEYS)
    n_outputs = len(state[f"{HEAD}.bias"]) if f"{HEAD}.bias" in state else 0
    if classes is not None and len(classes) != n_outputs:
        raise ValueError(f"checkpoint_classes: got {len(classes)} labels for a checkpoint with {n_outputs} outputs.")
    return Start(state, None if classes is None else tuple(classes))


def load_start(module, start, classes):
    """Load weights into a network, its last layer label by label.

    Parameters
    ----------
    module : CTAdaptTLNet
        Network with one output for each of `classes`, changed in place. Outputs of labels that the weights do not know
        stay as they are.
    start : Start
        Weights.
    classes : sequence
        Label of each output of the network.

    Returns
    -------
    report : CheckpointReport
        What was loaded and what was not.
    """
    own, kept = set(module.state_dict()), None if start.classes is None else classes
    try:
        return load_checkpoint(module, start.state, classes=start.classes, wanted=kept)
    except ValueError as error:
        if set(start.state) != own:  # another network's
            raise
        raise ValueError(
            f"X: {module.n_chans} channels of {module.n_times} samples do not fit the weights to start from ({error}) "
            "Bring the trials to the form these were trained on, as Harmonise does."
        ) from error
