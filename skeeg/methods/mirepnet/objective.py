"""What MIRepNet is pre-trained for: hidden tokens guessed, and classes told apart in spite of them."""

import torch
import torch.nn.functional as F
from torch import nn

from ...training.pretraining import draw_mask

UNLABELLED = -1
"""Class index of a trial without label."""


class MaskedModel(nn.Module):
    """A MIRepNet with its tokens partly hidden, as the training loop wants it.

    In evaluation the same tokens are hidden every time, so that losses of different epochs can be compared, and the
    random state is left alone.

    Parameters
    ----------
    network : MIRepNet
        Network with a decoder.
    mask_ratio : float or None
        Share of the tokens to hide; None hides nothing and guesses nothing.
    detach_target : bool
        Whether the tokens that are to be guessed are taken as given; False lets the tokenizer learn from being guessed.
    """

    def __init__(self, network, mask_ratio, detach_target):
        super().__init__()
        self.network, self.mask_ratio, self.detach_target = network, mask_ratio, detach_target

    def forward(self, x):
        """Hide, classify, guess.

        Parameters
        ----------
        x : Tensor, shape (batch, n_chans, n_times)
            Trials.

        Returns
        -------
        logits : Tensor, shape (batch, n_outputs)
            Class scores.
        tokens, guessed : Tensor, shape (batch, n_tokens, embed_dim), or None
            Tokens, and what the decoder made of those left.
        masked : Tensor of bool, shape (batch, n_tokens), or None
            Tokens that were hidden.
        """
        if self.mask_ratio is None:
            return self.network(x), None, None, None
        tokens = self.network.tokens(x)
        generator = None if self.training else torch.Generator().manual_seed(0)
        masked = draw_mask(*tokens.shape[:2], self.mask_ratio, generator).to(tokens.device)
        logits, guessed = self.network.reconstruct(tokens, masked)
        return logits, tokens.detach() if self.detach_target else tokens, guessed, masked


class HybridLoss(nn.Module):
    r"""Squared error of the guessed tokens plus cross-entropy of the classes.

    .. math:: L = w_{rec} \frac{1}{|M|} \sum_{i \in M} \lVert \hat t_i - t_i \rVert^2 + w_{cls} L_{CE}

    with :math:`M` the hidden tokens, or all. Trials without label count in the first term alone.

    Parameters
    ----------
    rec_weight, cls_weight : float
        :math:`w_{rec}` and :math:`w_{cls}`.
    reconstruct : {"masked", "all"}
        Tokens whose error counts.

    Examples
    --------
    >>> import torch
    >>> from skeeg.methods.mirepnet.objective import HybridLoss
    >>> tokens, masked = torch.zeros(2, 3, 4), torch.tensor([[True, False, False]] * 2)
    >>> HybridLoss()((torch.zeros(2, 2), tokens, tokens + 1, masked), torch.tensor([-1, -1])).item()
    4.0
    """

    parts = ("rec_loss", "cls_loss", "acc")

    def __init__(self, rec_weight=1.0, cls_weight=1.0, reconstruct="masked"):
        super().__init__()
        self.rec_weight, self.cls_weight, self.reconstruct = rec_weight, cls_weight, reconstruct

    def counts(self, y):
        """Count the trials and those with a label, as `skeeg.training.pretraining.SharedNet` asks for it."""
        return torch.stack([torch.ones_like(y).sum(), (y != UNLABELLED).sum()])

    def forward(self, outputs, y, counts=None):
        """Mean loss of a batch.

        Parameters
        ----------
        outputs : tuple
            What `MaskedModel` gives.
        y : Tensor of int, shape (batch,)
            Class indices; -1 where there is no label.
        counts : Tensor of int, shape (2,), or None
            What `counts` gives for the batch that these trials are some of.

        Returns
        -------
        loss : Tensor, shape ()
            The sum of both terms; of a batch that is computed in parts, the part of these trials.
        """
        logits, tokens, guessed, masked = outputs
        loss = logits.new_zeros(())
        if guessed is not None and self.rec_weight:
            error, counted = self._errors(tokens, guessed, masked)
            if counts is None:
                mean = (error * counted).sum() / counted.sum()
            else:  # of every trial as many tokens count
                mean = ((error * counted).sum(dim=1) / counted.sum(dim=1)).sum() / counts[0]
            loss = loss + self.rec_weight * mean
        if self.cls_weight:
            # nothing is read back from a GPU, which would wait for it
            n_labelled = ((y != UNLABELLED).sum() if counts is None else counts[1]).clamp(min=1)
            entropy = F.cross_entropy(logits.float(), y, ignore_index=UNLABELLED, reduction="sum")
            loss = loss + self.cls_weight * entropy / n_labelled
        return loss

    def per_trial(self, outputs, y):
        """Both parts of the loss of each trial, and whether its class was found.

        Parameters
        ----------
        outputs, y
            As in `forward`.

        Returns
        -------
        parts : Tensor, shape (batch, 3)
            Error of the hidden (or all) tokens, cross-entropy, 1 or 0; NaN where there is none.
        """
        logits, tokens, guessed, masked = outputs
        nothing = torch.full(y.shape, float("nan"), device=logits.device)
        error = nothing
        if guessed is not None:
            square, counts = self._errors(tokens, guessed, masked)
            error = (square * counts).sum(dim=1) / counts.sum(dim=1)
        has_label = y != UNLABELLED
        entropy = F.cross_entropy(logits.float(), y, ignore_index=UNLABELLED, reduction="none")
        right = (logits.argmax(dim=1) == y).float()
        return torch.stack(
            [error, torch.where(has_label, entropy, nothing), torch.where(has_label, right, nothing)], dim=1
        )

    def _errors(self, tokens, guessed, masked):
        """Give the squared error of each token, and 1 for those that count."""
        square = (guessed.float() - tokens.float()).square().sum(dim=-1)
        return square, masked.float() if self.reconstruct == "masked" else torch.ones_like(square)
