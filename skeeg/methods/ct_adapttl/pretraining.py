"""Pre-training on the source task, in folds of which the best is kept; weights to start from."""

import contextlib
import dataclasses
import pathlib

import joblib
import numpy as np
from sklearn.model_selection import GroupKFold, StratifiedKFold

from ...array import EEGArray, as_eeg, make_domains
from ...training import load_checkpoint, train
from ...training.checkpoints import read_weights, rename_keys, write_weights
from ...training.validation import split_validation
from .network import UPSTREAM_KEYS
from .preprocessing import add_mirrored

HEAD = "final_layer"


@dataclasses.dataclass(frozen=True)
class Start:
    """Weights to start from.

    Attributes
    ----------
    state : dict of str to Tensor
        Weights, by the names of `CTAdaptTLNet`.
    classes : tuple or None
        Label of each output; None where unknown, then the last layer is not used.
    """

    state: dict
    classes: tuple | None

    def has(self, classes):
        """Whether each of these labels has an output."""
        return self.classes is not None and set(classes) <= set(self.classes)


def read_start(path, classes):
    """Read a checkpoint, published or own; ``classes`` None takes the labels of its outputs from the file."""
    state, description = read_weights(path)
    state = rename_keys(state, UPSTREAM_KEYS)
    classes = description.get("classes") if classes is None else classes
    n_outputs = len(state[f"{HEAD}.bias"]) if f"{HEAD}.bias" in state else 0
    if classes is not None and len(classes) != n_outputs:
        raise ValueError(f"checkpoint_classes: got {len(classes)} labels for a checkpoint with {n_outputs} outputs.")
    return Start(state, None if classes is None else tuple(classes))


def load_start(module, start, classes):
    """Load weights into a `CTAdaptTLNet`, its last layer label by label; give the report.

    ``classes`` are the labels of the network's outputs; those that the weights do not have are left as they are.
    """
    try:
        return load_checkpoint(
            module, start.state, classes=start.classes, wanted=None if start.classes is None else classes
        )
    except ValueError as error:
        if set(start.state) != set(module.state_dict()):  # another network's
            raise
        raise ValueError(
            f"X: {module.n_chans} channels of {module.n_times} samples do not fit the weights to start from ({error}) "
            "Preprocess the trials as those the weights were trained on, as Harmonise does."
        ) from error


@dataclasses.dataclass
class Folds:
    """Result of a pre-training: index, loss (NaN where nothing was held out) and history of the folds, best weights."""

    best: int
    losses: np.ndarray
    histories: list
    state: dict
    complete: bool = True


def split_folds(y, subjects, n_folds, validation, seed):
    """Folds of the source trials, by subject or by trial, as pairs of indices (training, validation or None).

    By subject, no subject is in both parts of a fold; a single subject, or trials of unknown subjects, are split by
    trial. There are at most as many folds as subjects, or as trials of the rarest class; if less than two, nothing is
    held out. One fold holds out a fifth, none nothing. By trial, as published, validation subjects are trained on too.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.methods.ct_adapttl.pretraining import split_folds
    >>> folds = split_folds(np.tile([0, 1], 6), np.repeat([1, 2, 3], 4), 6, "subject", seed=0)
    >>> [len(held) for _, held in folds]
    [4, 4, 4]
    """
    if validation not in ("subject", "trial"):
        raise ValueError(f"validation: got {validation!r}, expected 'subject' or 'trial'.")
    if n_folds < 0:
        raise ValueError(f"n_folds: got {n_folds}, expected 0 or more.")
    n_subjects = 1 if subjects is None else len(np.unique(subjects))
    by_subject = validation == "subject" and n_subjects > 1
    most = n_subjects if by_subject else int(np.bincount(y).min())
    if n_folds == 0 or most < 2:
        return [(np.arange(len(y)), None)]
    if n_folds == 1:
        return [split_validation(y, "subject" if by_subject else "trial", 0.2, subjects, seed)]
    if by_subject:
        return list(GroupKFold(min(n_folds, most), shuffle=True, random_state=seed).split(y, y, subjects))
    return list(StratifiedKFold(min(n_folds, most), shuffle=True, random_state=seed).split(y, y))


def train_folds(build, data, y, folds, recipe, mirror=None, **settings):
    """Train one network a fold; keep the one with the lowest validation loss. Ctrl-C ends it with those so far.

    Shapes: ``data, y`` (n_trials, n_channels, n_times).
    """
    losses, histories, best, least = [], [], None, np.inf
    for training, held in folds:
        watched = None if held is None else (data[held], y[held])
        trials = add_mirrored(data[training], y[training], mirror)
        net = train(build(), *trials, recipe, validation=watched, **settings)
        watched = [row["valid_loss"] for row in net.history if "valid_loss" in row]
        losses.append(np.nan if net.diverged_ else min(watched, default=np.nan))
        histories.append([{k: v for k, v in row.items() if k != "batches"} for row in net.history])
        if best is None or losses[-1] < least:
            best, least = (len(losses) - 1, net.module_), np.fmin(losses[-1], np.inf)
        if net.interrupted_:
            break
    state = {name: value.detach().clone() for name, value in best[1].state_dict().items()}
    return Folds(best[0], np.array(losses), histories, state, complete=not net.interrupted_)


def remember(folder, what, compute):
    """Read a result of the same ``what`` from a folder, or compute it and, unless Ctrl-C ended it, write it there."""
    if folder is None:
        return compute()
    file = pathlib.Path(folder) / f"ct-adapttl-{joblib.hash(what)}.safetensors"
    with contextlib.suppress(FileNotFoundError, ValueError, KeyError):  # a damaged file is computed again
        state, header = read_weights(file, "memory")
        return Folds(header["best"], np.array(header["losses"], dtype=float), header["histories"], state)
    found = compute()
    if found.complete:
        file.parent.mkdir(parents=True, exist_ok=True)
        header = {"best": found.best, "losses": found.losses.tolist(), "histories": found.histories}
        write_weights(file, found.state, header)
    return found


def pool_sources(Xs, ys, subjects=None):
    """Concatenate recordings: trials, labels, and the subject of each trial (the recording where unknown) or None.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.methods.ct_adapttl.pretraining import pool_sources
    >>> X, y, subjects = pool_sources([np.zeros((2, 3, 9)), np.zeros((1, 3, 9))], [["a", "b"], ["a"]])
    >>> X.shape, subjects.tolist()
    ((3, 3, 9), ['0', '0', '1'])
    """
    several = isinstance(ys, list | tuple) and len(ys) > 0 and all(np.ndim(one) == 1 for one in ys)
    if not several:
        return Xs, ys, None if subjects is None else np.asarray(subjects)
    if len(Xs) != len(ys) or (subjects is not None and len(subjects) != len(Xs)):
        raise ValueError(f"Xs: got {len(Xs)} recordings for {len(ys)} lists of labels in ys; each needs its own.")
    recordings = [as_eeg(X) if not isinstance(X, EEGArray) else X for X in Xs]
    for first, other in zip(recordings[:1] * len(recordings), recordings, strict=True):
        if (other.shape[1:], other.ch_names, other.sfreq) != (first.shape[1:], first.ch_names, first.sfreq):
            raise ValueError(
                "Xs: the recordings differ in channels, length or rate; preprocess them alike first (Harmonise)."
            )
    names = []
    for number, X in enumerate(recordings):
        own = number if subjects is None else subjects[number]
        if subjects is None and X.domains is not None:
            own = X.domains["subject"]
        names.append(make_domains(len(X), subject=own)["subject"])
    return np.concatenate(recordings), np.concatenate([np.asarray(y) for y in ys]), np.concatenate(names)
