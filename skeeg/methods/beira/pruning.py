"""Silencing the branches of a trained network that have learnt nothing that holds on other data."""

from numbers import Integral

import torch

from .patterns import branch_importance


def prune_branches(module, criterion, examples, watched):
    """Hold branches at their mean envelope where the validation loss does not rise by it, the least important first.

    The smoothing filter of such a branch becomes zero and its bias the mean, so the network keeps its form. The most
    important branch of each front end is kept.

    Parameters
    ----------
    module : BEIRA or SharedBEIRA
        Trained network, in evaluation mode; changed in place.
    criterion : torch.nn.Module
        Loss of (outputs, targets).
    examples : Tensor, shape (n_windows, n_chans, n_times)
        Training data, which give the means and the order.
    watched : Dataset
        Validation windows and targets, by index.

    Returns
    -------
    kept : ndarray of bool, shape (n_fronts, n_branches)
        Whether a branch was left as it was.

    Examples
    --------
    >>> import torch
    >>> from skeeg.methods.beira import BEIRA
    >>> from skeeg.methods.beira.pruning import prune_branches
    >>> network = BEIRA(4, 1, n_branches=3, channels=(8, 8), kernel_sizes=(3,), strides=(4,)).eval()
    >>> watched = torch.utils.data.TensorDataset(torch.randn(2, 4, 64), torch.randn(2, 1, 64))
    >>> prune_branches(network, torch.nn.MSELoss(), torch.randn(2, 4, 64), watched).shape
    (1, 3)
    """
    importance = torch.from_numpy(branch_importance(module, examples))
    fronts = module.front_ends()
    importance = importance if len(fronts) == len(importance) else importance.sum(0, keepdim=True)
    with torch.inference_mode():
        means = sum(module.envelopes(one).mean((0, 3)) for one in examples.split(1)) / len(examples)
    kept = torch.ones(len(fronts), means.shape[1], dtype=torch.bool)
    least = _loss(module, criterion, watched)
    for region, front in enumerate(fronts):
        for branch in importance[region].argsort()[:-1].tolist():
            before = front.low_pass.weight[branch].clone(), front.low_pass.bias[branch].clone()
            _set(front.low_pass, branch, torch.zeros_like(before[0]), means[region, branch])
            loss = _loss(module, criterion, watched)
            if loss <= least:
                least, kept[region, branch] = loss, False
            else:
                _set(front.low_pass, branch, *before)
    return kept.numpy()


def check_choices(n_restarts, prune, network, watched):
    """Refuse to choose where there is nothing to choose by."""
    if not isinstance(n_restarts, Integral) or n_restarts < 1:
        raise ValueError(f"n_restarts: got {n_restarts!r}, expected a whole number, at least 1.")
    if watched is None and (n_restarts > 1 or prune):
        raise ValueError("validation: n_restarts and prune choose by the validation loss, but validation is None.")
    if prune and network == "lstm":
        raise ValueError("prune: the network 'lstm' cannot be pruned.")


def _set(layer, branch, weight, bias):
    with torch.no_grad():
        layer.weight[branch] = weight
        layer.bias[branch] = bias


def _loss(module, criterion, watched):
    """Mean loss of the windows."""
    total = 0.0
    with torch.inference_mode():
        for i in range(len(watched)):
            x, y = watched[i]
            total += float(criterion(module(x[None]), y[None]))
    return total / len(watched)
