"""What the two stages are trained for, as the training loop wants it."""

import torch
from torch import nn

from ...training.pretraining import PartsLoss, hide_all_but
from .layers import to_patches


class TokenizerObjective(nn.Module):
    """Tokenizer whose forward pass gives its losses.

    Parameters
    ----------
    network : GramTokenizerNetwork
        Tokenizer.
    """

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x, channels=None):
        """Losses of each trial.

        Parameters
        ----------
        x : Tensor, shape (batch, n_chans, n_times), or dict of all inputs
            Trials.
        channels : Tensor of int64, shape (batch, n_chans)
            Electrodes, the same for all.

        Returns
        -------
        losses : Tensor, shape (batch, 2)
            As `GramTokenizerNetwork.forward` gives them.
        """
        if isinstance(x, dict):
            return self(**x)
        return self.network(x, channels)


class MaskedObjective(nn.Module):
    """Masked autoencoder that hides patches and gives its losses.

    In evaluation the same patches are hidden every time, so that epochs can be compared, and the random state is left
    alone.

    Parameters
    ----------
    network : GramPretrainingNetwork
        Masked autoencoder.
    mask_ratio : float
        Share of the patches to hide.
    """

    def __init__(self, network, mask_ratio):
        super().__init__()
        self.network, self.mask_ratio = network, mask_ratio

    def forward(self, x, channels=None, codes=None):
        """Hide, guess, compare.

        Parameters
        ----------
        x : Tensor, shape (batch, n_chans, n_times), or dict of all inputs
            Trials.
        channels : Tensor of int64, shape (batch, n_chans)
            Electrodes, the same for all.
        codes : Tensor of int64, shape (batch, n_seconds, n_chans), or None
            Base classes.

        Returns
        -------
        losses : Tensor, shape (batch, 3)
            As `GramPretrainingNetwork.losses` gives them.
        """
        if isinstance(x, dict):
            return self(**x)
        n_seconds, n_chans = to_patches(x, self.network.sizes.patch_length).shape[1:3]
        hidden = draw_hidden(len(x), n_seconds, n_chans, self.mask_ratio, self.training)
        return self.network.losses(x, hidden.to(x.device), channels, codes)


def draw_hidden(n_trials, n_seconds, n_chans, ratio, anew=True):
    """Draw patches to hide; one at least stays, and of two or more one at least goes.

    Parameters
    ----------
    n_trials, n_seconds, n_chans : int
        Trials, and patches of each.
    ratio : float
        Share to hide.
    anew : bool
        False draws the same every time and leaves the random state alone.

    Returns
    -------
    hidden : Tensor of bool, shape (n_trials, n_seconds, n_chans)
        Equally many of each trial.
    """
    n_patches = n_seconds * n_chans
    generator = None if anew else torch.Generator().manual_seed(0)
    kept = max(min(int(n_patches * (1 - ratio)), n_patches - 1), 1)
    return hide_all_but(kept, n_trials, n_patches, generator).view(n_trials, n_seconds, n_chans)


def tokenizer_loss():
    """Sum of both losses of the first stage."""
    return PartsLoss(("rec_loss", "quant_loss"), (1.0, 1.0))


def masked_loss(cls_weight, mimic_weight):
    """Weighted sum of the losses of the second stage; the share of base classes found is only watched."""
    return PartsLoss(("cls_loss", "mimic_loss", "mlm_acc"), (cls_weight, mimic_weight, 0.0))
