"""Parts of Gram's networks, named as in the published state dicts."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from ...networks.fast.dropout import Dropout
from .sizes import STRIDE


def sincos_table(n_positions, dim, base=1000.0):
    r"""Make the fixed code of positions: sines and cosines in turn.

    .. math:: e_{2i}(p) = \sin(p\,b^{-2i/D}), \quad e_{2i+1}(p) = \cos(p\,b^{-2i/D})

    Parameters
    ----------
    n_positions, dim : int
        Positions, and numbers of each, :math:`D`.
    base : float
        :math:`b`; 1000 as published, not the usual 10000.

    Returns
    -------
    table : Tensor, shape (1, n_positions, dim)
        Code.

    Examples
    --------
    >>> from skeeg.methods.gram.layers import sincos_table
    >>> [round(value, 4) for value in sincos_table(2, 200)[0, 1, :3].tolist()]
    [0.8415, 0.5403, 0.8036]
    """
    rates = base ** (-torch.arange(math.ceil(dim / 2), dtype=torch.float64) / (dim / 2))
    angles = torch.arange(n_positions, dtype=torch.float64)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[None, :, :dim].float()


class PatchConv(nn.Module):
    """Three convolutions over the samples of each patch, normalised over all patches of the trial.

    The statistics of the normalisation run over the patches, so an embedding depends on which others are there: a trial
    must never be filled up with empty ones.

    Parameters
    ----------
    n_filters : int
        Filters.
    activation : type of nn.Module
        Nonlinearity after each normalisation.

    Examples
    --------
    >>> import torch
    >>> from skeeg.methods.gram.layers import PatchConv
    >>> PatchConv(8)(torch.zeros(2, 51, 200)).shape
    torch.Size([2, 51, 200])
    """

    def __init__(self, n_filters, activation=nn.GELU):
        super().__init__()
        self.activation = activation()
        self.conv1 = nn.Conv2d(1, n_filters, (1, 15), stride=(1, STRIDE), padding=(0, 7))
        self.conv2 = nn.Conv2d(n_filters, n_filters, (1, 3), padding=(0, 1))
        self.conv3 = nn.Conv2d(n_filters, n_filters, (1, 3), padding=(0, 1))
        self.norm1, self.norm2, self.norm3 = (nn.GroupNorm(4, n_filters) for _ in range(3))

    def forward(self, patches):
        """Embed patches.

        Parameters
        ----------
        patches : Tensor, shape (batch, n_patches, patch_length)
            Patches of each trial.

        Returns
        -------
        embedded : Tensor, shape (batch, n_patches, n_filters * ceil(patch_length / 8))
            Column by column, all filters of each.
        """
        x = patches[:, None]
        for conv, norm in ((self.conv1, self.norm1), (self.conv2, self.norm2), (self.conv3, self.norm3)):
            x = self.activation(norm(conv(x)))
        return x.permute(0, 2, 3, 1).flatten(2)


class Attention(nn.Module):
    """Multi-head attention, its four layers named as published.

    It goes through torch's fused kernel but for training with dropout on a CPU, where the plain formula is sooner.

    Parameters
    ----------
    dim, n_heads : int
        Size of a token, and heads.
    drop_prob : float
        Dropout of the attention weights and of the output.
    """

    def __init__(self, dim, n_heads, drop_prob):
        super().__init__()
        self.n_heads = n_heads
        self.key, self.query, self.value, self.proj = (nn.Linear(dim, dim) for _ in range(4))
        self.drop = Dropout(drop_prob)

    def forward(self, x):
        """Let every token look at every other.

        Parameters
        ----------
        x : Tensor, shape (batch, n_tokens, dim)
            Tokens.

        Returns
        -------
        attended : Tensor, shape (batch, n_tokens, dim)
            Tokens.
        """
        q, k, v = (
            part(x).unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        if self.training and self.drop.p and x.device.type == "cpu":
            attended = self.drop((q @ k.mT * q.shape[-1] ** -0.5).softmax(dim=-1)) @ v
        else:
            attended = F.scaled_dot_product_attention(q, k, v, dropout_p=self.drop.p if self.training else 0.0)
        return self.drop(self.proj(attended.transpose(1, 2).flatten(2)))


class FeedForward(nn.Module):
    """Two linear layers on each token.

    Parameters
    ----------
    dim : int
        Size of a token; it is four times as wide between the layers.
    drop_prob : float
        Dropout of the output.
    activation : type of nn.Module
        Nonlinearity between the layers.
    """

    def __init__(self, dim, drop_prob, activation=nn.GELU):
        super().__init__()
        self.activation = activation()
        self.fc1, self.fc2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.drop = Dropout(drop_prob)

    def forward(self, x):
        """Change each token by itself.

        Parameters
        ----------
        x : Tensor, shape (..., dim)
            Tokens.

        Returns
        -------
        y : Tensor, shape (..., dim)
            Tokens.
        """
        return self.drop(self.fc2(self.activation(self.fc1(x))))


class Block(nn.Module):
    r"""Transformer block, normalised before each branch.

    .. math:: x \leftarrow x + \gamma_1 \odot A(\mathrm{LN}(x)), \quad x \leftarrow x + \gamma_2 \odot M(\mathrm{LN}(x))

    Parameters
    ----------
    dim, n_heads, drop_prob
        See `Attention`.
    layer_scale : float or None
        Start of :math:`\gamma`; None has none.
    drop_path : float
        Share of the trials, in training, that skip a branch.
    activation : type of nn.Module
        Nonlinearity of the feed-forward layers.

    Examples
    --------
    >>> import torch
    >>> from skeeg.methods.gram.layers import Block
    >>> Block(16, 4, 0.1, layer_scale=0.1)(torch.zeros(2, 9, 16)).shape
    torch.Size([2, 9, 16])
    """

    def __init__(self, dim, n_heads, drop_prob, layer_scale=None, drop_path=0.0, activation=nn.GELU):
        super().__init__()
        self.drop_path = drop_path
        self.ln1, self.ln2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn, self.mlp = Attention(dim, n_heads, drop_prob), FeedForward(dim, drop_prob, activation)
        self.gamma_1 = self.gamma_2 = None
        if layer_scale is not None:
            self.gamma_1, self.gamma_2 = (nn.Parameter(torch.full((dim,), float(layer_scale))) for _ in range(2))

    def forward(self, x):
        """Let tokens exchange and change.

        Parameters
        ----------
        x : Tensor, shape (batch, n_tokens, dim)
            Tokens.

        Returns
        -------
        x : Tensor, shape (batch, n_tokens, dim)
            Tokens.
        """
        x = x + self._branch(self.attn(self.ln1(x)), self.gamma_1)
        return x + self._branch(self.mlp(self.ln2(x)), self.gamma_2)

    def _branch(self, y, gamma):
        """Scale a branch, and leave it out for some trials."""
        y = y if gamma is None else gamma * y
        if not self.training or not self.drop_path:
            return y
        kept = torch.rand(len(y), 1, 1, device=y.device) >= self.drop_path
        return y * (kept.to(y.dtype) / (1 - self.drop_path))


def blocks(n_layers, dim, n_heads, drop_prob, layer_scale=None, drop_path=0.0, activation=nn.GELU):
    """Make transformer blocks, skipped the more often the later they come.

    Parameters
    ----------
    n_layers : int
        Blocks.
    dim, n_heads, drop_prob, layer_scale, activation
        See `Block`.
    drop_path : float
        Share of the trials that skip a branch of the last block; the first is never skipped.

    Returns
    -------
    blocks : nn.ModuleList
        Blocks.
    """
    shares = [drop_path * depth / max(n_layers - 1, 1) for depth in range(n_layers)]
    return nn.ModuleList(Block(dim, n_heads, drop_prob, layer_scale, share, activation) for share in shares)


@torch.no_grad()
def initialise(module, bound=2.0, convolutions=False):
    """Draw the weights as published: normal with a standard deviation of .02, cut off, smaller in later blocks.

    Parameters
    ----------
    module : nn.Module
        Network, changed in place.
    bound : float
        Largest absolute value: 2 in the tokenizer, .02 elsewhere.
    convolutions : bool
        Whether convolutions are drawn so too.
    """
    kinds = (nn.Linear, nn.Conv2d) if convolutions else (nn.Linear,)
    for layer in module.modules():
        if isinstance(layer, kinds):
            nn.init.trunc_normal_(layer.weight, std=0.02, a=-bound, b=bound)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    for name, stack in module.named_modules():
        if isinstance(stack, nn.ModuleList) and name.endswith("blocks"):
            for depth, block in enumerate(stack, start=1):
                block.attn.proj.weight.div_(math.sqrt(2 * depth))
                block.mlp.fc2.weight.div_(math.sqrt(2 * depth))


def token(*shape):
    """Make a learned token, drawn as published.

    Parameters
    ----------
    *shape : int
        Its axes.

    Returns
    -------
    token : nn.Parameter
        Normal with a standard deviation of .02.
    """
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(*shape), std=0.02))


def table(n_positions, dim):
    """Make a fixed code of positions that is in the state dict and is not learned.

    Parameters
    ----------
    n_positions, dim
        See `sincos_table`.

    Returns
    -------
    table : nn.Parameter, shape (1, n_positions, dim)
        Without gradient.
    """
    return nn.Parameter(sincos_table(n_positions, dim), requires_grad=False)


def to_patches(x, patch_length):
    """Cut trials into patches, second by second, all electrodes of each.

    Parameters
    ----------
    x : Tensor, shape (batch, n_chans, n_times)
        Trials; samples beyond the last whole patch are left out.
    patch_length : int
        Samples of a patch.

    Returns
    -------
    patches : Tensor, shape (batch, n_seconds, n_chans, patch_length)
        Patches.

    Examples
    --------
    >>> import torch
    >>> from skeeg.methods.gram.layers import to_patches
    >>> to_patches(torch.arange(8).view(1, 2, 4), 2).tolist()
    [[[[0, 1], [4, 5]], [[2, 3], [6, 7]]]]
    """
    n_seconds = x.shape[2] // patch_length
    if not n_seconds:
        raise ValueError(
            f"X: {x.shape[2]} sample(s), that is {x.shape[2]} feature(s), a channel at the network's rate, but one "
            f"patch takes {patch_length}."
        )
    return x[:, :, : n_seconds * patch_length].unflatten(2, (n_seconds, patch_length)).transpose(1, 2)


def to_trials(patches):
    """Join patches to trials.

    Parameters
    ----------
    patches : Tensor, shape (batch, n_seconds, n_chans, patch_length)
        Patches.

    Returns
    -------
    x : Tensor, shape (batch, n_chans, n_seconds * patch_length)
        Trials.
    """
    return patches.transpose(1, 2).flatten(2)
