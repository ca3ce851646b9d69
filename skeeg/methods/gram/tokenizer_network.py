"""The network of Gram's first stage: patches to base classes, and back."""

import torch
import torch.nn.functional as F
from torch import nn

from ...networks.fast.dropout import Dropout
from .collection import COLLECTION
from .layers import PatchConv, blocks, initialise, table, to_patches, token
from .quantizer import Quantizer
from .sizes import TOKENIZER_SIZES, choose


def as_channels(channels, device):
    """Positions in the collection as a tensor.

    Parameters
    ----------
    channels : sequence of int or Tensor, shape (n_chans,) or (batch, n_chans)
        Positions; of a batch, whose trials share their electrodes, the first row is taken.
    device : torch.device
        Where to.

    Returns
    -------
    channels : Tensor of int64, shape (n_chans,)
        Positions.
    """
    channels = torch.as_tensor(channels, dtype=torch.int64, device=device)
    return channels[0] if channels.ndim == 2 else channels


def check_window(patches, channels, max_seconds):
    """Raise a ValueError where a window is too long, or has other electrodes than were named."""
    if patches.shape[1] > max_seconds:
        raise ValueError(f"X: a window may have {max_seconds} patches an electrode, got {patches.shape[1]}.")
    if patches.shape[2] != len(channels):
        raise ValueError(f"channels: got {len(channels)} positions for {patches.shape[2]} electrodes.")


class _Tower(nn.Module):
    """Transformer over patches: the encoder and, with ``code_dim``, the decoder."""

    def __init__(self, sizes, n_layers, n_heads, code_dim=None):
        super().__init__()
        dim = sizes.dim
        self.ch_emb = table(len(COLLECTION), dim)
        self.time_emb = token(1, sizes.max_seconds, dim)
        self.cls_token = token(1, 1, dim)  # in the published state dict, and in no computation
        if code_dim is not None:
            self.conv_emb = nn.ModuleDict({"proj": nn.Conv2d(code_dim, dim, (1, 1))})
        self.tconv = PatchConv(sizes.n_filters)
        self.blocks = blocks(n_layers, dim, n_heads, sizes.drop_prob)
        self.ln_f = nn.LayerNorm(dim)
        self.drop = Dropout(sizes.drop_prob)

    def placed(self, tokens, n_seconds, channels):
        """Tokens (batch, n_patches, dim) with the codes of their time and place, through the blocks."""
        place = self.time_emb[:, :n_seconds, None] + self.ch_emb[:, None, channels]
        x = self.drop(tokens + place.flatten(1, 2).to(tokens.dtype))
        for block in self.blocks:
            x = block(x)
        return x


class GramTokenizerNetwork(nn.Module):
    r"""Tokenizer of Gram [1]_: a patch of one electrode becomes one of 8196 base classes, and a class a patch.

    A transformer over all patches of a window, a code of 32 numbers for each patch, the nearest row of a codebook, and
    a transformer back. It is trained to reproduce the shape of each patch,

    .. math:: L = \frac{1}{N} \sum_i 1 - \cos(x_i, \hat x_i) + 2 \lVert z_i - e_{k_i} \rVert^2 / 32

    so that its output has no amplitude of its own. A patch that is flat has no shape, and adds a constant.

    Parameters
    ----------
    size : str or TokenizerSizes
        Name in `TOKENIZER_SIZES`, or the sizes.
    decay : float
        See `Quantizer`.

    Notes
    -----
    Trials are in units of 0.1 mV, at 200 Hz. All trials of a batch share their electrodes and their length.

    References
    ----------
    .. [1] Li, Z., Zheng, W.-L., Lu, B.-L. (2025). Gram: a large-scale general EEG model for raw data classification and
       restoration tasks. ICASSP.

    Examples
    --------
    >>> import torch
    >>> from skeeg.methods.gram.network import GramTokenizerNetwork
    >>> net = GramTokenizerNetwork("tiny").eval()
    >>> codes = net.encode(torch.randn(2, 3, 400), [39, 41, 43])
    >>> codes.shape, net.decode(codes, [39, 41, 43]).shape
    (torch.Size([2, 2, 3]), torch.Size([2, 2, 3, 200]))
    """

    def __init__(self, size="base", decay=0.99):
        super().__init__()
        self.sizes = choose(TOKENIZER_SIZES, size)
        dim, code_dim, length = self.sizes.dim, self.sizes.code_dim, self.sizes.patch_length
        self.encoder = _Tower(self.sizes, self.sizes.n_layers, self.sizes.n_heads)
        self.decoder = _Tower(self.sizes, self.sizes.decoder_layers, self.sizes.decoder_heads, code_dim)
        self.quantize = Quantizer(self.sizes.n_codes, code_dim, decay)
        self.without_codes = False  # True: the decoder gets the vectors themselves
        self.encode_task_layer = nn.Sequential(nn.Linear(dim, dim), nn.Tanh(), nn.Linear(dim, code_dim))
        self.decode_task_layer = nn.Identity() if dim == length else nn.Linear(dim, length)
        initialise(self)

    def patches(self, x):
        """Cut trials into patches.

        Parameters
        ----------
        x : Tensor, shape (batch, n_chans, n_times)
            Trials.

        Returns
        -------
        patches : Tensor, shape (batch, n_seconds, n_chans, patch_length)
            Patches.
        """
        return to_patches(x, self.sizes.patch_length)

    def vectors(self, x, channels):
        """Vector of each patch, before it is replaced by a code.

        Parameters
        ----------
        x : Tensor, shape (batch, n_chans, n_times)
            Trials.
        channels : sequence of int or Tensor, shape (n_chans,)
            Positions of the electrodes in the collection.

        Returns
        -------
        z : Tensor, shape (batch, n_seconds * n_chans, code_dim)
            Vectors, in single precision at least.
        """
        patches, channels = self.patches(x), as_channels(channels, x.device)
        check_window(patches, channels, self.sizes.max_seconds)
        embedded = self.encoder.tconv(patches.flatten(1, 2))
        encoded = self.encoder.ln_f(self.encoder.placed(embedded, patches.shape[1], channels))
        with torch.autocast(x.device.type, enabled=False):
            return self.encode_task_layer(encoded.to(self.encode_task_layer[0].weight.dtype))

    def encode(self, x, channels):
        """Tell the base class of each patch.

        Parameters
        ----------
        x : Tensor, shape (batch, n_chans, n_times)
            Trials.
        channels : sequence of int or Tensor, shape (n_chans,)
            Positions of the electrodes in the collection.

        Returns
        -------
        codes : Tensor of int64, shape (batch, n_seconds, n_chans)
            Rows of the codebook.
        """
        return self.quantize.codes(self.vectors(x, channels)).unflatten(1, (-1, x.shape[1]))

    def decode(self, codes, channels):
        """Patches of base classes, without amplitude.

        Parameters
        ----------
        codes : Tensor of int64, shape (batch, n_seconds, n_chans)
            Rows of the codebook.
        channels : sequence of int or Tensor, shape (n_chans,)
            Positions of the electrodes in the collection.

        Returns
        -------
        patches : Tensor, shape (batch, n_seconds, n_chans, patch_length)
            Patches, each with a variance near one.
        """
        channels = as_channels(channels, codes.device)
        check_window(codes, channels, self.sizes.max_seconds)
        rows = self.quantize.codebook.to(self.decoder.ln_f.weight.dtype)
        return self._decode(F.embedding(codes.flatten(1), rows), codes.shape[1], channels)

    def _decode(self, quantised, n_seconds, channels):
        """Patches of vectors (batch, n_patches, code_dim)."""
        proj = self.decoder.conv_emb["proj"]
        tokens = F.linear(quantised, proj.weight.flatten(1), proj.bias)
        decoded = self.decoder.tconv(self.decoder.placed(tokens, n_seconds, channels))
        patches = self.decode_task_layer(self.decoder.ln_f(decoded))
        return patches.unflatten(1, (n_seconds, len(channels)))

    def forward(self, x, channels):
        """Losses of each trial; in training the codebook follows.

        Parameters
        ----------
        x : Tensor, shape (batch, n_chans, n_times)
            Trials.
        channels : sequence of int or Tensor, shape (n_chans,) or (batch, n_chans)
            Positions of the electrodes in the collection.

        Returns
        -------
        losses : Tensor, shape (batch, 2)
            One minus the cosine to the reconstruction, and the distance to the codes.
        """
        channels = as_channels(channels, x.device)
        z = self.vectors(x, channels)
        if self.without_codes:
            quantised, distance = F.normalize(z, dim=-1), z.new_zeros(len(z))
        else:
            with torch.autocast(x.device.type, enabled=False):
                quantised, _, distance = self.quantize(z)
        patches = self.patches(x)
        found = self._decode(quantised, patches.shape[1], channels)
        cosine = F.cosine_similarity(patches.to(z.dtype), found.to(z.dtype), dim=-1)
        return torch.stack([1 - cosine.mean(dim=(1, 2)), distance], dim=1)
