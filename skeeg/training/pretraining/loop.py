"""One pre-training from where it stands to its end."""

import dataclasses

import torch

from ..norms import settle_norms
from ..recipe import train
from .resume import KeepRun, Remaining, plain_rows
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

    Run it within `seeded`, with the seed of the run.

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
    left = recipe.max_epochs - len(run.history)
    if run.earlier is not None:
        model.load_state_dict(run.earlier.part("weights."))
    if left <= 0:  # what `train` does after the last epoch is not in the file
        torch.set_rng_state(run.earlier.tensors["random.cpu"])
        settle_norms(model, trials, recipe.batch_size, {})
        model.eval()
        return run.history
    callbacks = [*callbacks, Watch(subjects)]
    callbacks += [] if run.path is None else [KeepRun(run.path, run.key, run.seed, run.earlier)]
    rest = Remaining(**dataclasses.asdict(recipe) | {"max_epochs": left}, done=len(run.history))
    net = train(
        model, trials, None, rest, loss=criterion, validation=None if validation is None else (validation,),
        device=device, verbose=verbose, callbacks=callbacks, parameter_groups=parameter_groups,
    )  # fmt: skip
    return [*run.history, *plain_rows(net.history)]
