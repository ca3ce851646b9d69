"""A training run that can be stopped anywhere and goes on to the same weights, to the bit."""

import dataclasses
import os
import pathlib

import joblib
import torch
from sklearn.base import BaseEstimator
from skorch.callbacks import Callback

from ...base import draw_seed
from ..checkpoints import read_weights, write_weights
from ..recipe import Recipe
from . import ranks


@dataclasses.dataclass(frozen=True)
class Remaining(Recipe):
    """What is left of a recipe; its schedule goes on where it stood.

    Parameters
    ----------
    done : int
        Epochs done before; ``max_epochs`` are still to be done.

    Examples
    --------
    >>> from skeeg.training.pretraining.resume import Remaining
    >>> from skeeg.training import Recipe
    >>> Remaining(max_epochs=6, done=4).rate(2) == Recipe(max_epochs=10).rate(6)
    True
    """

    done: int = 0

    def rate(self, epoch):
        """Share of the highest learning rate in this epoch, counted from the first that is left."""
        return self._whole().rate(epoch + self.done)

    def rate_at(self, step, n_steps):
        """Share of the highest learning rate at an update, counted from the first that is left."""
        return self._whole().rate_at(step + self.done * n_steps, n_steps)  # to the bit what it would have been

    def _whole(self):
        """Give the recipe that this is the rest of."""
        settings = {field.name: getattr(self, field.name) for field in dataclasses.fields(Recipe)}
        return Recipe(**settings | {"max_epochs": self.max_epochs + self.done})


@dataclasses.dataclass
class Run:
    """State of a run at the end of an epoch.

    Attributes
    ----------
    tensors : dict of str to Tensor
        Weights, state of the optimiser and of the random generators.
    key : str
        Fingerprint of data and settings.
    seed : int
        Seed of the run.
    history : list of dict
        One record an epoch.
    groups : list of dict
        Settings of the optimiser.
    """

    tensors: dict
    key: str
    seed: int
    history: list
    groups: list

    def part(self, name):
        """Tensors whose names begin with ``name``, by the rest of their names."""
        return {one.removeprefix(name): value for one, value in self.tensors.items() if one.startswith(name)}

    def restore(self, net):
        """Put optimiser and random generators of a net into this state."""
        state = {}
        for name, value in self.part("optimizer.").items():
            index, _, what = name.partition(".")
            state.setdefault(int(index), {})[what] = value
        net.optimizer_.load_state_dict({"state": state, "param_groups": self.groups})
        ranks.set_random_state(self.tensors["random.cpu"])
        if "random.cuda" in self.tensors and torch.device(net.device).type == "cuda":
            torch.cuda.set_rng_state(self.tensors["random.cuda"], net.device)


@dataclasses.dataclass(frozen=True)
class RunFile:
    """Where the state of a run is kept, and what is there of it already.

    Parameters
    ----------
    path : str, path-like or None
        Its file; None keeps nothing.
    key : str
        Fingerprint of data and settings.
    seed : int
        Seed of the run.
    earlier : Run or None
        State that is there.
    """

    path: str | os.PathLike | None = None
    key: str = ""
    seed: int = 0
    earlier: Run | None = None

    @property
    def history(self):
        """Records of the epochs done before."""
        return [] if self.earlier is None else list(self.earlier.history)


def open_run(path, key, random_state):
    """Look for a run that was kept, and tell the seed to go on with.

    Of processes that train together the first one looks, and all get what it found.

    Parameters
    ----------
    path : str, path-like or None
        Its file.
    key : str
        See `fingerprint`.
    random_state : int, RandomState or None
        Source of the seed; without it an earlier run keeps its own.

    Returns
    -------
    run : RunFile
        The file and what is in it.
    """
    ranks.start()
    return ranks.of_first(lambda: _open(path, key, random_state))


def _open(path, key, random_state):
    earlier = read_run(path, key)
    seed = draw_seed(random_state) if earlier is None or random_state is not None else earlier.seed
    return RunFile(path, key, seed, earlier)


def fingerprint(estimator, data):
    """Tell runs on other trials or with other settings apart.

    Parameters
    ----------
    estimator : estimator
        Its parameters count, but for those that do not change the result, and those of the size of a batch: a run may
        go on where there is more or less memory, or with more or fewer processes.
    data : object
        Anything that `joblib.hash` can read.

    Returns
    -------
    key : str
        Empty where no ``run_file`` is kept.
    """
    if estimator.run_file is None:
        return ""
    seed = estimator.random_state if isinstance(estimator.random_state, int) else None
    return joblib.hash((data, _settings(estimator), seed))


def _settings(estimator):
    """Parameters that count; of those that are estimators theirs, and their weights, as the rest holds times."""
    free = ("run_file", "device", "verbose", "skorch_callbacks", "random_state", "batch_size", "accumulate")
    settings = {name: value for name, value in estimator.get_params(deep=False).items() if name not in free}
    for name, value in settings.items():
        if isinstance(value, BaseEstimator):
            module = getattr(value, "module_", None)
            weights = {} if module is None else {key: one.numpy() for key, one in module.state_dict().items()}
            settings[name] = (type(value).__name__, _settings(value), weights)
    return sorted(settings.items())


def read_run(path, key):
    """Read a run that was kept, or None where there is none.

    Parameters
    ----------
    path : str, path-like or None
        Its file.
    key : str
        Fingerprint of the data and the settings at hand; a file of another one is refused.

    Returns
    -------
    run : Run or None
        The run.
    """
    if path is None:
        return None
    if not pathlib.Path(path).parent.is_dir():
        raise FileNotFoundError(f"run_file: there is no folder {pathlib.Path(path).parent}.")
    if not pathlib.Path(path).is_file():
        return None
    tensors, header = read_weights(path, "run_file", checked=True)
    if set(header) != {"key", "seed", "history", "groups", "names"}:
        raise ValueError(f"run_file: {path} is not the state of a run.")
    if absent := sorted(set(header.pop("names")) - tensors.keys()):
        raise ValueError(f"run_file: {path} lacks {absent[0]}, so the run cannot go on from it.")
    run = Run(tensors, **header)
    if run.key != key:
        raise ValueError(f"run_file: {path} holds a run on other trials or with other settings; name another file.")
    return run


class KeepRun(Callback):
    """Keep the state of a run after every epoch, and start from a kept one; of several processes the first one writes.

    Parameters
    ----------
    path : str or path-like
        File; it is replaced in one step, so that a crash leaves the state before.
    key, seed : str, int
        See `Run`.
    earlier : Run or None
        State to start from.
    """

    def __init__(self, path, key, seed, earlier=None):
        self.path, self.key, self.seed, self.earlier = path, key, seed, earlier

    def on_train_begin(self, net, **kwargs):
        """Go back to where the earlier run stood."""
        if self.earlier is not None:
            self.earlier.restore(net)

    def on_epoch_end(self, net, **kwargs):
        """Write the state."""
        if ranks.is_first():
            self._write(net)
        ranks.barrier()  # nobody is an epoch ahead of what is kept

    def _write(self, net):
        tensors = {f"weights.{name}": value for name, value in net.module_.state_dict().items()}
        optimizer = net.optimizer_.state_dict()
        for index, state in optimizer["state"].items():
            tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
        tensors["random.cpu"] = ranks.random_state()
        if torch.device(net.device).type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(net.device)
        rows = [*(self.earlier.history if self.earlier else []), *plain_rows(net.history)]
        header = {"key": self.key, "seed": self.seed, "history": rows, "groups": optimizer["param_groups"],
                  "names": sorted(tensors)}  # fmt: skip
        write_weights(self.path, tensors, header)


def plain_rows(history):
    """Give the records of the epochs without those of their batches and without the marks that callbacks leave."""
    return [{name: v for name, v in row.items() if name != "batches" and not name.endswith("_best")} for row in history]
