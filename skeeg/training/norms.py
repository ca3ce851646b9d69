"""Statistics of batch normalisation that a short training leaves half-way, brought to where they belong."""

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from .net import Batches

_LEFT = 0.01  # share of where the statistics began, before the first update, that may be left in them


def count_norm_updates(module):
    """Count the updates that each batch normalisation has seen.

    Parameters
    ----------
    module : torch.nn.Module
        Network.

    Returns
    -------
    counts : dict of str to int
        By name of the layer.

    Examples
    --------
    >>> import torch
    >>> from skeeg.training.norms import count_norm_updates
    >>> count_norm_updates(torch.nn.Sequential(torch.nn.BatchNorm1d(2)))
    {'0': 0}
    """
    norms = {name: layer for name, layer in module.named_modules() if isinstance(layer, _BatchNorm)}
    return {name: int(layer.num_batches_tracked) for name, layer in norms.items() if layer.track_running_stats}


@torch.no_grad()
def settle_norms(module, trials, batch_size, before, batches=Batches):
    r"""Estimate running means and variances anew where training moved them too few times.

    After :math:`n` updates a running statistic with momentum :math:`m` still holds :math:`(1 - m)^n` of the zeros and
    ones it began with: more than half after 60 updates at braindecode's .01 for EEGNet, which then predicts one class.
    Where more than a hundredth is left, the statistics become the mean over the batches of one pass through the
    training trials, without dropout. Weights stay as they are.

    Parameters
    ----------
    module : torch.nn.Module
        Trained network, changed in place and left in evaluation mode.
    trials : Trials
        Training trials.
    batch_size : int
        Trials a batch.
    before : dict of str to int
        What `count_norm_updates` gave before the training; layers that saw no update since are left alone.
    batches : class
        `Batches` or one derived from it.

    Examples
    --------
    >>> import torch
    >>> from skeeg.training.net import Trials
    >>> from skeeg.training.norms import count_norm_updates, settle_norms
    >>> module, X = torch.nn.BatchNorm1d(2, momentum=0.01), 5 + torch.randn(40, 2)
    >>> before = count_norm_updates(module)
    >>> _ = module(X)
    >>> settle_norms(module, Trials(X, torch.zeros(40)), 20, before)
    >>> torch.allclose(module.running_mean, X.mean(0), atol=1e-5)
    True
    """
    now = count_norm_updates(module)
    norms = [module.get_submodule(name) for name in now if now[name] > before.get(name, 0)]
    slow = [layer for layer in norms if layer.momentum and (1 - layer.momentum) ** layer.num_batches_tracked > _LEFT]
    module.eval()
    if not slow:
        return
    kept = [(layer.momentum, layer.num_batches_tracked.clone()) for layer in slow]
    for layer in slow:
        layer.reset_running_stats()
        layer.momentum = None  # the plain mean over batches
        layer.train()
    device = slow[0].running_mean.device
    for X, _ in batches(trials, batch_size, shuffle=True):
        module(X.to(device))
    for layer, (momentum, count) in zip(slow, kept, strict=True):
        layer.momentum = momentum
        layer.num_batches_tracked.copy_(count)
    module.eval()
