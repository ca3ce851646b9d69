"""Which parts of a trial are hidden."""

import torch

from . import ranks


def draw_mask(n_trials, n_tokens, ratio, generator=None):
    """Hide some tokens of each trial, drawn anew for each.

    Parameters
    ----------
    n_trials, n_tokens : int
        Trials, and tokens of each.
    ratio : float
        Share to hide; of ``n_tokens * (1 - ratio)`` tokens to keep the fraction is dropped.
    generator : torch.Generator or None
        Source of the draw; None is torch's own, or what processes that train together have in common.

    Returns
    -------
    masked : Tensor of bool, shape (n_trials, n_tokens)
        True where hidden.

    Examples
    --------
    >>> from skeeg.training.pretraining import draw_mask
    >>> draw_mask(2, 61, 0.5).sum(dim=1).tolist()
    [31, 31]
    """
    return hide_all_but(int(n_tokens * (1 - ratio)), n_trials, n_tokens, generator)


def hide_all_but(n_kept, n_trials, n_tokens, generator=None):
    """Hide all but a number of the tokens of each trial, drawn anew for each.

    Parameters
    ----------
    n_kept : int
        Tokens of a trial that stay.
    n_trials, n_tokens, generator
        See `draw_mask`.

    Returns
    -------
    masked : Tensor of bool, shape (n_trials, n_tokens)
        True where hidden.
    """
    order = ranks.draw_rows(n_trials, lambda n: torch.rand(n, n_tokens, generator=generator)).argsort(dim=1)
    return torch.ones(n_trials, n_tokens, dtype=torch.bool).scatter_(1, order[:, :n_kept], False)
