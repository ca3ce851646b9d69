"""One pre-training from where it stands to its end."""

import contextlib
import dataclasses

from ..net import TrainingNet
from ..norms import settle_norms
from ..recipe import train
from . import ranks
from .resume import KeepRun, Remaining, plain_rows
from .shared import OwnRandom, SharedNet
from .synced import synced_norms
from .watch import Watch


def pretrain(
    model,
    trials,
    recipe,
    criterion,
    run,
    *,
    validation=None,
    subjects=None,
    device="auto",
    verbose=0,
    callbacks=(),
    parameter_groups=None,
):
    """Train a network on all there is, or go on with a training that was broken off.

    Run it within `seeded`, with the seed of the run. Processes that ``torchrun`` or ``accelerate launch`` has started
    together train together: each has all trials and computes its part of every batch, ``recipe.batch_size`` trials, and
    all end with the same network and the same history. ``n`` processes with batches of ``b`` make the updates of one
    with batches of ``n * b``, and so does the same product with ``recipe.accumulate``. Dropout differs, which is each
    one's own, and so do, where batches are accumulated, the statistics that a network takes of a batch (batch
    normalisation, a codebook): they are of one batch of all processes.

    Parameters
    ----------
    model : torch.nn.Module
        Network and what it is trained for; trained in place and left on the CPU, in evaluation mode.
    trials : Trials
        Training trials.
    recipe : Recipe
        The whole training, not what is left of it.
    criterion : torch.nn.Module
        Loss of (outputs, targets), with ``parts`` and ``per_trial`` as `Watch` needs them.
    run : RunFile
        Where the state is kept after every epoch, and what was reached before.
    validation : Trials or None
        Trials to watch.
    subjects : ndarray, shape (n_valid_trials,), or None
        Subject of each of them.
    device : str
        Where to train.
    verbose : int
        Whether to show a progress bar.
    callbacks : sequence of skorch callbacks
        In addition to the loop's own.
    parameter_groups : callable or None
        See `TrainingNet`.

    Returns
    -------
    history : list of dict
        One record an epoch, those of the broken-off training included.
    """
    ranks.start()
    _check_trials(trials, validation)
    recipe, kind = dataclasses.replace(recipe, batch_size=ranks.update_size(recipe.batch_size)), TrainingNet
    left, own = recipe.max_epochs - len(run.history), []
    with contextlib.ExitStack() as stack:
        if ranks.size() > 1 or recipe.accumulate > 1:
            kind, own = SharedNet, [OwnRandom(run.seed, len(run.history))]
            stack.enter_context(ranks.split_random())
            stack.enter_context(synced_norms(model))
        if run.earlier is not None:
            model.load_state_dict(run.earlier.part("weights."))
        if left <= 0:  # what `train` does after the last epoch is not in the file
            ranks.set_random_state(run.earlier.tensors["random.cpu"])
            settle_norms(model, trials, recipe.update_size, {}, kind.batches)
            model.eval()
            return _agreed(model, run.history)
        own += [] if run.path is None else [KeepRun(run.path, run.key, run.seed, run.earlier)]
        rest = Remaining(**dataclasses.asdict(recipe) | {"max_epochs": left}, done=len(run.history))
        net = train(
            model, trials, None, rest, loss=criterion, validation=None if validation is None else (validation,),
            device=device, verbose=verbose and ranks.is_first(), callbacks=[*callbacks, Watch(subjects), *own],
            parameter_groups=parameter_groups, kind=kind,
        )  # fmt: skip
    return _agreed(model, [*run.history, *plain_rows(net.history)])


def _check_trials(*sets):
    """Refuse to train on other trials in other processes: one would wait for the others at the end, forever."""
    lengths = ranks.gather([0 if one is None else len(one) for one in sets])
    if any(one != lengths[0] for one in lengths):
        raise ValueError(
            f"X: the processes have {[sum(one) for one in lengths]} trials; fit each with the same ones: a process "
            "takes its part of every batch by itself."
        )


def _agreed(model, history):
    """Give every process the network and the history of the first; their clocks differ."""
    state, history = ranks.of_first(lambda: (model.state_dict(), history))
    if not ranks.is_first():
        model.load_state_dict(state)
    return history
