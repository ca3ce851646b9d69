"""Transformer blocks in the layout of the published state dict."""

import torch.nn.functional as F
from torch import nn

from ...networks.fast.dropout import Dropout


class Attention(nn.Module):
    r"""Multi-head attention whose scores are divided by the square root of the whole embedding.

    .. math:: A = \mathrm{softmax}(Q K^\top / \sqrt{E}) V

    braindecode's and torch's own divide by the square root of the size of a head; weights trained with one form do not
    work in the other.

    Parameters
    ----------
    embed_dim : int
        Size of a token, :math:`E`.
    n_heads : int
        Heads.
    drop_prob : float
        Dropout of the attention weights.

    Examples
    --------
    >>> import torch
    >>> from skeeg.methods.mirepnet.blocks import Attention
    >>> Attention(16, 4, 0.5)(torch.zeros(2, 9, 16)).shape
    torch.Size([2, 9, 16])
    """

    def __init__(self, embed_dim, n_heads, drop_prob):
        super().__init__()
        self.n_heads, self.drop = n_heads, Dropout(drop_prob)
        self.keys = nn.Linear(embed_dim, embed_dim)
        self.queries = nn.Linear(embed_dim, embed_dim)
        self.values = nn.Linear(embed_dim, embed_dim)
        self.projection = nn.Linear(embed_dim, embed_dim)

    def forward(self, x):
        """Let every token look at every other.

        Parameters
        ----------
        x : Tensor, shape (batch, n_tokens, embed_dim)
            Tokens.

        Returns
        -------
        attended : Tensor, shape (batch, n_tokens, embed_dim)
            Tokens.
        """
        scale = x.shape[-1] ** -0.5
        q, k, v = (part(x).unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for part in self._parts())
        if self.training and self.drop.p and x.device.type == "cpu":  # there torch does the same, with its own dropout
            attended = self.drop((q @ k.transpose(2, 3) * scale).softmax(dim=-1)) @ v
        else:
            drop_prob = self.drop.p if self.training else 0.0
            attended = F.scaled_dot_product_attention(q, k, v, dropout_p=drop_prob, scale=scale)
        return self.projection(attended.transpose(1, 2).flatten(2))

    def _parts(self):
        return self.queries, self.keys, self.values


class Residual(nn.Module):
    """Add to the input what a function makes of it.

    Parameters
    ----------
    fn : nn.Module
        The function.
    """

    def __init__(self, fn):
        super().__init__()
        self.fn = fn

    def forward(self, x):
        """Give the sum."""
        return x + self.fn(x)


def transformer(n_layers, embed_dim, n_heads, drop_prob):
    """Pre-norm transformer blocks, without positional embedding and without a last normalisation.

    Parameters
    ----------
    n_layers : int
        Blocks.
    embed_dim, n_heads, drop_prob
        See `Attention`; the dropout is also that of the feed-forward part and of both residual branches.

    Returns
    -------
    blocks : nn.Sequential
        (batch, n_tokens, embed_dim) to the same.

    Examples
    --------
    >>> from skeeg.methods.mirepnet.blocks import transformer
    >>> sum(p.numel() for p in transformer(1, 256, 8, 0.5).parameters())
    789760
    """
    return nn.Sequential(*(_block(embed_dim, n_heads, drop_prob) for _ in range(n_layers)))


def _block(embed_dim, n_heads, drop_prob):
    """One block: attention, then two linear layers on each token."""
    wide = 4 * embed_dim
    feed_forward = nn.Sequential(nn.Linear(embed_dim, wide), nn.GELU(), Dropout(drop_prob), nn.Linear(wide, embed_dim))
    return nn.Sequential(
        *(
            Residual(nn.Sequential(nn.LayerNorm(embed_dim), part, Dropout(drop_prob)))
            for part in (Attention(embed_dim, n_heads, drop_prob), feed_forward)
        )
    )
