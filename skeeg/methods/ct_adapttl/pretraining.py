"""Pre-training on the source task: several people's trials, several folds, the best fold kept."""

import contextlib
import dataclasses
import pathlib

import joblib
import numpy as np
from sklearn.model_selection import GroupKFold, StratifiedKFold

from ...array import as_eeg, is_epochs, make_domains
from ...training import train
from ...training.checkpoints import read_weights, write_weights
from ...training.validation import split_validation
from .preprocessing import add_mirrored


@dataclasses.dataclass
class Folds:
    """What pre-training left.

    Attributes
    ----------
    best : int
        Fold with the lowest validation loss.
    losses : ndarray, shape (n_folds,)
        Lowest validation loss of each fold; NaN where nothing was held out.
    histories : list of list of dict
        One record an epoch, for each fold.
    state : dict of str to Tensor
        Weights of the best fold.
    complete : bool
        False where Ctrl-C ended it early.
    """

    best: int
    losses: np.ndarray
    histories: list
    state: dict
    complete: bool = True


def split_folds(y, subjects, n_folds, validation, seed):
    """Folds of the source trials, by subject or by trial.

    By subject, nobody is in both parts of a fold. One subject alone, or trials of unknown subjects, are split by
    trial: there is nobody to hold out. There are never more folds than subjects, or than trials of the rarest class;
    where that leaves less than two, nothing is held out.

    Parameters
    ----------
    y : ndarray of int, shape (n_trials,)
        Class indices.
    subjects : ndarray, shape (n_trials,), or None
        Subject of each trial.
    n_folds : int
        Number of folds; 1 gives a single split that holds out a fifth, 0 one that holds out nothing.
    validation : {"subject", "trial"}
        What a fold holds out. By trial is the published way, in which every validation subject is trained on too.
    seed : int
        Seed of the split.

    Returns
    -------
    folds : list of (training, validation)
        Indices; validation is None where nothing is held out.

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
    """Train one network a fold; keep the one with the lowest validation loss. Ctrl-C ends it with what there is.

    Parameters
    ----------
    build : callable
        Gives a network to start from.
    data : ndarray, shape (n_trials, n_channels, n_times)
        Source trials.
    y : ndarray of int, shape (n_trials,)
        Class indices.
    folds : list of (training, validation)
        As `split_folds` gives them.
    recipe : skeeg.training.Recipe
        How to train.
    mirror : tuple of two ndarrays of int, or None
        Train on mirrored trials too, as `find_mirror` gives it.
    **settings
        ``device``, ``verbose`` and ``callbacks`` of `skeeg.training.train`.

    Returns
    -------
    folds : Folds
        What came of it.
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
    """Take what was computed earlier from the same, or compute it and, unless Ctrl-C ended it, keep it.

    Parameters
    ----------
    folder : str, path-like or None
        Where to keep it; None keeps nothing.
    what : tuple
        All that the result depends on.
    compute : callable
        Gives the `Folds`.

    Returns
    -------
    folds : Folds
        From the folder where it is there.
    """
    if folder is None:
        return compute()
    file = pathlib.Path(folder) / f"ct-adapttl-{joblib.hash(what)}.safetensors"
    with contextlib.suppress(FileNotFoundError, ValueError, KeyError):  # what is damaged is computed again
        state, told = read_weights(file, "memory")
        return Folds(told["best"], np.array(told["losses"], dtype=float), told["histories"], state)
    found = compute()
    if found.complete:
        file.parent.mkdir(parents=True, exist_ok=True)
        told = {"best": found.best, "losses": found.losses.tolist(), "histories": found.histories}
        write_weights(file, found.state, told)
    return found


def pool_sources(Xs, ys, subjects=None):
    """Bring recordings of several people together.

    Parameters
    ----------
    Xs : anything `as_eeg` accepts, or list of such
        Trials; a list holds one recording an entry.
    ys : array-like, shape (n_trials,), or list of such
        Labels.
    subjects : array-like, shape (n_trials,), list with one entry a recording, or None
        Who it is. None: what the trials carry, else one person a recording.

    Returns
    -------
    X : EEGArray or array-like, shape (n_trials, n_channels, n_times)
        All trials.
    y : array-like, shape (n_trials,)
        All labels.
    subjects : ndarray of str, shape (n_trials,), or None
        Subject of each trial.

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
    recordings = [as_eeg(X) if is_epochs(X) or not hasattr(X, "domains") else X for X in Xs]
    for first, other in zip(recordings[:1] * len(recordings), recordings, strict=True):
        if (other.shape[1:], other.ch_names, other.sfreq) != (first.shape[1:], first.ch_names, first.sfreq):
            raise ValueError(
                "Xs: the recordings differ in channels, length or rate; bring them to one form first (Harmonise)."
            )
    names = []
    for number, X in enumerate(recordings):
        own = number if subjects is None else subjects[number]
        if subjects is None and X.domains is not None:
            own = X.domains["subject"]
        names.append(make_domains(len(X), subject=own)["subject"])
    return np.concatenate(recordings), np.concatenate([np.asarray(y) for y in ys]), np.concatenate(names)
