"""Pre-training: recordings of any kind, masked batches, runs that resume where they stopped.

Processes that a launcher has started together train together (`skeeg.training.distributed`): they agree on the order of
the batches (`SharedBatches`), on what is drawn for each trial (`draw_mask`), on the gradient (`SharedNet`) and on the
state that is kept (`RunFile`).
"""

import contextlib
import dataclasses
import pathlib

import joblib
import numpy as np
import torch
from sklearn.base import BaseEstimator
from skorch.callbacks import Callback
from torch import nn

from ..array import is_epochs
from ..base import check_class_labels, draw_seed
from . import distributed
from .checkpoints import read_weights, write_weights
from .data import common_stream, draw_rows, random_state, set_random_state
from .device import resolve_device
from .distributed import SharedNet, synced_norms
from .net import TrainingNet, settle_norms, train
from .state import tensors_of


def pretrain(
    model, trials, recipe, criterion, run, *, validation=None, subjects=None, device="auto", verbose=0, callbacks=(),
    parameter_groups=None,
):  # fmt: skip
    """Train a network, or resume a run that was interrupted.

    Run it within `seeded`, with the seed of the run. Processes that ``torchrun`` or ``accelerate launch`` has started
    together train together: each has all trials and computes its part of every batch, ``recipe.batch_size`` trials, and
    all end with the same network and history. ``n`` processes with batches of ``b`` make the updates of one with
    batches of ``n * b``, and so does the same product with ``recipe.accumulate``. Dropout differs, which is each
    process's own. So do statistics of a batch where batches are accumulated (batch normalisation, a codebook), which
    are those of one batch of all processes, and batch normalisations on CPUs, which see the trials of one process.

    Shapes: ``subjects`` (n_valid_trials,).
    """
    distributed.start()
    _check_trials(trials, validation)
    whole, kind, own = distributed.update_size(recipe.batch_size), TrainingNet, []
    recipe = dataclasses.replace(recipe, batch_size=whole, epochs_done=len(run.history))
    with contextlib.ExitStack() as stack:
        if distributed.size() > 1 or recipe.accumulate > 1:
            kind, own = SharedNet, [OwnRandom(run.seed, len(run.history))]
            stack.enter_context(common_stream(distributed.of_first(torch.get_rng_state)))
            stack.enter_context(synced_norms(model, resolve_device(device)))
        if run.kept:
            model.load_state_dict(run.part("weights."))
        if recipe.epochs_done >= recipe.max_epochs:  # what `train` does after the last epoch is not in the file
            set_random_state(run.tensors["random.cpu"])
            settle_norms(model, trials, recipe.update_size, {}, kind.batches)
            model.eval()
            return _agreed(model, run.history)
        own += [] if run.path is None else [run]
        net = train(
            model, trials, None, recipe, loss=criterion, validation=None if validation is None else (validation,),
            device=device, verbose=verbose and distributed.is_first(), callbacks=[*callbacks, Watch(subjects), *own],
            parameter_groups=parameter_groups, kind=kind,
        )  # fmt: skip
    return _agreed(model, [*run.history, *plain_rows(net.history)])


def _check_trials(*sets):
    """Refuse different trials in different processes: one would wait for the others forever."""
    lengths = distributed.gather([0 if one is None else len(one) for one in sets])
    if any(one != lengths[0] for one in lengths):
        raise ValueError(f"X: the processes have {[sum(one) for one in lengths]} trials, expected the same in each.")


def _agreed(model, history):
    """Give every process the network and the history of the first; their clocks differ."""
    state, history = distributed.of_first(lambda: (model.state_dict(), history))
    if not distributed.is_first():
        model.load_state_dict(state)
    return history


class OwnRandom(Callback):
    """Seed torch for each process and epoch (dropout), the same however often the training was interrupted."""

    def __init__(self, seed, done):
        self.seed, self.done = seed, done

    def on_epoch_begin(self, net, **kwargs):
        """Seed the epoch."""
        numbers = np.random.SeedSequence([self.seed, self.done + len(net.history), distributed.rank()])
        torch.manual_seed(int(numbers.generate_state(1)[0]))


def draw_mask(n_trials, n_tokens, ratio, generator=None):
    """Hide a share of the tokens of each trial, drawn anew for each; bool (n_trials, n_tokens), True where hidden.

    Of ``n_tokens * (1 - ratio)`` tokens to keep the fraction is dropped. A ``generator`` of None is torch's own, or
    what processes that train together have in common.
    """
    return hide_all_but(int(n_tokens * (1 - ratio)), n_trials, n_tokens, generator)


def hide_all_but(n_kept, n_trials, n_tokens, generator=None):
    """Hide all but ``n_kept`` tokens of each trial; parameters as of `draw_mask`."""
    order = draw_rows(n_trials, lambda n: torch.rand(n, n_tokens, generator=generator)).argsort(dim=1)
    return torch.ones(n_trials, n_tokens, dtype=torch.bool).scatter_(1, order[:, :n_kept], False)


def open_run(path, key, random_state):
    """Look for a run that was kept, and for the seed to continue with; of several processes the first one looks."""

    def look():
        tensors, kept = read_run(path, key)
        return tensors, kept, kept["seed"] if kept and random_state is None else draw_seed(random_state)

    distributed.start()
    tensors, kept, seed = distributed.of_first(look)
    return RunFile(path, key, seed, tensors, kept)


def fingerprint(estimator, data):
    """Identify a run by its trials and settings; empty where no ``run_file`` is kept."""
    if estimator.run_file is None:
        return ""
    seed = estimator.random_state if isinstance(estimator.random_state, int) else None
    return joblib.hash((data, _settings(estimator), seed))


def _settings(estimator):
    """Parameters that count; of estimators among them theirs, and their weights."""
    free = ("run_file", "device", "verbose", "skorch_callbacks", "random_state", "batch_size", "accumulate")
    settings = {name: value for name, value in estimator.get_params(deep=False).items() if name not in free}
    for name, value in settings.items():
        if isinstance(value, BaseEstimator):
            network = vars(value).get("network_")
            settings[name] = (type(value).__name__, _settings(value), network and tensors_of(network.module))
    return sorted(settings.items())


def read_run(path, key):
    """Read the tensors of a kept run and what is beside them; one with another fingerprint than ``key`` is refused."""
    if path is None:
        return {}, {}
    if not pathlib.Path(path).parent.is_dir():
        raise FileNotFoundError(f"run_file: there is no folder {pathlib.Path(path).parent}.")
    if not pathlib.Path(path).is_file():
        return {}, {}
    tensors, header = read_weights(path, "run_file", checked=True)
    if set(header) != {"key", "seed", "history", "groups", "names"}:
        raise ValueError(f"run_file: {path} is not the state of a run.")
    if absent := sorted(set(header["names"]) - tensors.keys()):
        raise ValueError(f"run_file: {path} lacks {absent[0]}, so the run cannot resume from it.")
    if header["key"] != key:
        raise ValueError(f"run_file: {path} holds a run on other trials or with other settings; name another file.")
    return tensors, header


class RunFile(Callback):
    """File that keeps the state of a run after every epoch (path None: no file), and the state to start from.

    ``tensors`` are weights, state of the optimiser and of the random generators after an epoch of an earlier run, and
    ``kept`` what is beside them in its file. Of several processes the first one writes. The file is replaced in one
    step: a crash leaves the state before.
    """

    def __init__(self, path=None, key="", seed=0, tensors=None, kept=None):
        self.path, self.key, self.seed, self.tensors, self.kept = path, key, seed, tensors, kept or {}

    @property
    def history(self):
        """Records of the epochs done before."""
        return list(self.kept.get("history", ()))

    def part(self, name):
        """Tensors to start from whose names begin with ``name``, by the rest of their names."""
        return {one.removeprefix(name): value for one, value in self.tensors.items() if one.startswith(name)}

    def on_train_begin(self, net, **kwargs):
        """Restore the optimiser and the random generators of the earlier run."""
        if not self.kept:
            return
        state = {}
        for name, value in self.part("optimizer.").items():
            index, _, what = name.partition(".")
            state.setdefault(int(index), {})[what] = value
        net.optimizer_.load_state_dict({"state": state, "param_groups": self.kept["groups"]})
        set_random_state(self.tensors["random.cpu"])
        if "random.cuda" in self.tensors and torch.device(net.device).type == "cuda":
            torch.cuda.set_rng_state(self.tensors["random.cuda"], net.device)

    def on_epoch_end(self, net, **kwargs):
        """Write the state."""
        if distributed.is_first():
            self._write(net)
        distributed.barrier()  # no process is an epoch further than what is kept

    def _write(self, net):
        tensors = {f"weights.{name}": value for name, value in net.module_.state_dict().items()}
        optimizer = net.optimizer_.state_dict()
        for index, state in optimizer["state"].items():
            tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
        tensors["random.cpu"] = random_state()
        if torch.device(net.device).type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(net.device)
        rows, groups = [*self.history, *plain_rows(net.history)], optimizer["param_groups"]
        header = {"key": self.key, "seed": self.seed, "history": rows, "groups": groups, "names": sorted(tensors)}
        write_weights(self.path, tensors, header)


def plain_rows(history):
    """Give the records of the epochs without those of their batches and without the marks of callbacks."""
    return [{name: v for name, v in row.items() if name != "batches" and not name.endswith("_best")} for row in history]


class PartsLoss(nn.Module):
    """Weighted sum of losses that the network itself computes for each trial, in columns with the names ``parts``."""

    def __init__(self, parts, weights):
        super().__init__()
        self.parts, self.weights = tuple(parts), tuple(weights)

    def counts(self, y):
        """Count the trials, as `SharedNet` needs it."""
        return torch.tensor([len(y)], device=y.device)

    def forward(self, outputs, y, counts=None):
        """Mean over the trials of the weighted sum; ``counts`` of trials, where these are a part of them."""
        means = outputs.mean(dim=0) if counts is None else outputs.sum(dim=0) / counts[0]
        return (means * outputs.new_tensor(self.weights)).sum()

    def per_trial(self, outputs, y):
        """Losses of each trial, as they are."""
        return outputs


def median_speed(history):
    """Give the median of the trials a second; an epoch that Ctrl-C ended has none."""
    speeds = [row["trials_per_s"] for row in history if "trials_per_s" in row]
    return float(np.median(speeds)) if speeds else float("nan")


class Watch(Callback):
    """Record the parts of the loss, the validation curve of each subject, and trials a second.

    The criterion has ``parts``, the names, and ``per_trial(outputs, y)``, which gives a column for each; ``subjects``
    are those of the validation trials.
    """

    def __init__(self, subjects=None):
        self.subjects = subjects

    def on_epoch_begin(self, net, **kwargs):
        """Start anew."""
        self.parts = {True: [], False: []}

    def on_batch_end(self, net, batch=None, training=False, y_pred=None, **kwargs):
        """Note one batch."""
        self.parts[training].append(net.criterion_.per_trial(y_pred, batch[1].to(y_pred.device)))

    def on_epoch_end(self, net, **kwargs):
        """Write the means into the history."""
        for training, name in ((True, "train"), (False, "valid")):
            if not self.parts[training]:
                continue
            names, table = net.criterion_.parts, self._table(self.parts[training])
            for part, mean in _means(names, table).items():
                net.history.record(f"{name}_{part}", mean)
            if training:
                net.history.record("trials_per_s", len(table) / max(net.history[-1, "dur"], 1e-9))
            elif self.subjects is not None:
                whose = dict.fromkeys(self.subjects.tolist())
                curves = {str(one): _means(names, table[self.subjects == one]) for one in whose}
                net.history.record("valid_by_subject", curves)

    def _table(self, parts):
        """Parts of the loss of each trial, those of all processes, in the order of the batches."""
        if distributed.size() > 1:
            of_all = distributed.gather([part.cpu() for part in parts])
            parts = [part for batch in zip(*of_all, strict=True) for part in batch]
        return torch.cat(parts).cpu().numpy()


def _means(names, table):
    """Mean of each part of the loss over the trials that have it."""
    columns = zip(names, table.T, strict=True)
    return {name: float(np.nanmean(values)) for name, values in columns if not np.isnan(values).all()}


def list_recordings(X, y=None, subjects=None):
    """List (X, y, subjects) of one recording or of several."""
    is_list = isinstance(X, list | tuple) and len(X) > 0
    if y is None:
        several = is_list and all(not is_epochs(one) and np.ndim(one) == 3 for one in X)
    else:
        several = is_list and isinstance(y, list | tuple) and all(one is None or np.ndim(one) == 1 for one in y)
    if not several:
        return [(X, y, subjects)]
    ys = [None] * len(X) if y is None else list(y)
    named = [None] * len(X) if subjects is None else list(subjects)
    for name, given in (("y", ys), ("subjects", named)):
        if len(given) != len(X):
            raise ValueError(f"{name}: got {len(given)} entries for {len(X)} recordings in X.")
    return list(zip(X, ys, named, strict=True))


def name_subjects(X, number):
    """Give the subject of each trial (n_trials,), unique over recordings, whose ``number`` is None for a single one."""
    prefix = "" if number is None else f"{number}/"
    names = ["0"] * len(X) if X.domains is None else X.domains["subject"]
    return np.array([f"{prefix}{name}" for name in names], dtype=object)


def read_labels(y, n_trials):
    """Labels of one recording, checked, ndarray (n_trials,) or None."""
    if y is None:
        return None
    check_class_labels(y)
    y = np.asarray(y)
    if y.shape != (n_trials,):
        raise ValueError(f"y: got shape {y.shape} for {n_trials} trials in X.")
    return y
