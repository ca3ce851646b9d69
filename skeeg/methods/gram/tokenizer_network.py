"""The network of Gram's first stage: an encoder, a codebook that follows it as running means, a decoder.

Processes that train together add up what they count, and take what is drawn from the first of them.
"""

import torch
import torch.nn.functional as F
from torch import nn

from ...networks.fast.dropout import Dropout
from ...training import distributed
from .layers import (
    TOKENIZER_SIZES,
    PatchConv,
    as_indices,
    blocks,
    channel_table,
    check_window,
    choose_sizes,
    initialise,
    to_patches,
    token,
)
from .preprocessing import MAX_SECONDS

_ROWS = 4096  # patches compared with the codebook at a time


@torch.no_grad()
def nearest_codes(z, codebook):
    """Index (n,) of the row of a codebook (n_codes, code_dim) that is nearest to each vector (n, code_dim)."""
    half = codebook.square().sum(dim=1) / 2
    return torch.cat([(rows @ codebook.T).sub_(half).argmax(dim=1) for rows in z.split(_ROWS)])


@torch.no_grad()
def cosine_kmeans(z, n_codes, n_iterations=10):
    """Cluster vectors of unit length (n, code_dim) by direction; the codebook is the same on every rank."""
    start = _some_of(z, n_codes) if distributed.is_first() else z.new_zeros(n_codes, z.shape[1])
    distributed.add_up(start)
    codebook = F.normalize(start, dim=1)
    for _ in range(n_iterations):
        codebook, _ = _moved(codebook, z)
    return codebook


def _some_of(z, n):
    """Take n of the vectors; where they are too few, some of them twice and slightly off."""
    some = z[torch.randperm(len(z)).to(z.device)[:n]]
    again = n - len(some)
    if not again:
        return some
    more = z[torch.randint(len(z), (again,)).to(z.device)]
    return torch.cat([some, more + 0.1 * torch.randn(more.shape).to(more)])


def _moved(codebook, z, codes=None):
    """Mean direction of the vectors of each code, and their number, over all distributed."""
    codes = nearest_codes(z, codebook) if codes is None else codes
    counts = torch.zeros(len(codebook), dtype=z.dtype, device=z.device)
    sums = torch.zeros_like(codebook)
    counts.index_add_(0, codes, torch.ones_like(codes, dtype=z.dtype))
    sums.index_add_(0, codes, z)
    distributed.add_up(counts, sums)
    return torch.where(counts[:, None] > 0, F.normalize(sums, dim=1), codebook), counts


class _Codebook(nn.Module):
    """Rows of the codebook; two of the tensors are in the published state dict and in no computation."""

    def __init__(self, n_codes, code_dim):
        super().__init__()
        rows = F.normalize(torch.randn(n_codes, code_dim), dim=1)
        self.weight = nn.Parameter(rows, requires_grad=False)
        self.cluster_size = nn.Parameter(torch.zeros(n_codes), requires_grad=False)
        self.embed_avg = nn.Parameter(rows.clone(), requires_grad=False)
        self.register_buffer("initted", torch.zeros(1))


class Quantizer(nn.Module):
    """Replace vectors by their nearest code; codes follow the mean direction of their vectors, as running means."""

    def __init__(self, n_codes, code_dim, decay=0.99):
        super().__init__()
        self.decay = decay
        self.embedding = _Codebook(n_codes, code_dim)
        self.register_buffer("cluster_size", torch.zeros(n_codes))

    @property
    def codebook(self):
        """Codes, shape (n_codes, code_dim)."""
        return self.embedding.weight

    @property
    def started(self):
        """Whether the codes have been placed."""
        return bool(self.embedding.initted.item())

    def codes(self, z):
        """Index (...) of the nearest code of each vector (..., code_dim) of any length."""
        z = F.normalize(z, dim=-1)
        return nearest_codes(z.flatten(0, -2), self.codebook.to(z.dtype)).view(z.shape[:-1])

    @torch.no_grad()
    def start(self, z):
        """Place the codes by k-means of vectors (n, code_dim)."""
        self.codebook.copy_(cosine_kmeans(F.normalize(z, dim=1), len(self.codebook)))
        self.embedding.initted.fill_(1)

    def forward(self, z):
        """Codes for vectors (batch, n_patches, code_dim), their numbers, the loss (batch,); codes then move."""
        z = F.normalize(z, dim=-1)
        flat = z.detach().flatten(0, 1)
        learns = self.training and torch.is_grad_enabled()  # not in a mere look at what training will do
        wanted = flat[:0] if distributed.is_idle() else flat
        if learns and not self.started:
            self.start(wanted)
        codes = nearest_codes(flat, self.codebook.to(z.dtype))
        quantised = F.embedding(codes, self.codebook.to(z.dtype)).view(z.shape)
        if learns:
            self._follow(wanted, codes[: len(wanted)])
        commitment = (z - quantised).square().mean(dim=(1, 2))
        loss = commitment + commitment.detach()
        return z + (quantised - z).detach(), codes.view(z.shape[:2]), loss

    @torch.no_grad()
    def _follow(self, z, codes):
        """Move the codes of a batch towards its vectors."""
        means, counts = _moved(self.codebook.to(z.dtype), z, codes)
        self.codebook.copy_(F.normalize(self.codebook * self.decay + means * (1 - self.decay), dim=1))
        self.cluster_size.lerp_(counts.to(self.cluster_size.dtype), 1 - self.decay)


class _Tower(nn.Module):
    """Transformer over patches: the encoder and, with ``code_dim``, the decoder."""

    def __init__(self, sizes, n_layers, n_heads, code_dim=None):
        super().__init__()
        dim = sizes.dim
        self.ch_emb = channel_table(sizes, dim)
        self.time_emb = token(1, MAX_SECONDS, dim)
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
    r"""Tokenizer of Gram [1]_: a patch of one channel becomes one of 8196 tokens, and a token a patch.

    A transformer over all patches of a window, a code of 32 dimensions for each patch, the nearest row of a codebook,
    and a transformer back. It is trained to reproduce the shape of each patch,

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
    The methods take trials ``x`` (batch, n_chans, n_times) in units of 0.1 mV, at 200 Hz, and the indices ``channels``
    (n_chans,) of their channels in the collection.

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
        self.sizes = choose_sizes(TOKENIZER_SIZES, size)
        dim, code_dim, length = self.sizes.dim, self.sizes.code_dim, self.sizes.patch_length
        self.encoder = _Tower(self.sizes, self.sizes.n_layers, self.sizes.n_heads)
        self.decoder = _Tower(self.sizes, self.sizes.decoder_layers, self.sizes.decoder_heads, code_dim)
        self.quantize = Quantizer(self.sizes.n_codes, code_dim, decay)
        self.without_codes = False  # True: the decoder gets the vectors themselves
        self.encode_task_layer = nn.Sequential(nn.Linear(dim, dim), nn.Tanh(), nn.Linear(dim, code_dim))
        self.decode_task_layer = nn.Identity() if dim == length else nn.Linear(dim, length)
        initialise(self)

    def vectors(self, x, channels):
        """Vector of each patch (batch, n_seconds * n_chans, code_dim) before it is replaced by a code."""
        patches, channels = to_patches(x, self.sizes.patch_length), as_indices(channels, x.device)
        check_window(patches, channels)
        embedded = self.encoder.tconv(patches.flatten(1, 2))
        encoded = self.encoder.ln_f(self.encoder.placed(embedded, patches.shape[1], channels))
        with torch.autocast(x.device.type, enabled=False):
            return self.encode_task_layer(encoded.to(self.encode_task_layer[0].weight.dtype))

    def encode(self, x, channels):
        """Token of each patch, int64 of shape (batch, n_seconds, n_chans)."""
        return self.quantize.codes(self.vectors(x, channels)).unflatten(1, (-1, x.shape[1]))

    def decode(self, codes, channels):
        """Patches (batch, n_seconds, n_chans, patch_length) of tokens, without amplitude of their own."""
        channels = as_indices(channels, codes.device)
        check_window(codes, channels)
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
        """One minus the cosine to the reconstruction and the distance to the codes, shape (batch, 2)."""
        channels = as_indices(channels, x.device)
        z = self.vectors(x, channels)
        if self.without_codes:
            quantised, distance = F.normalize(z, dim=-1), z.new_zeros(len(z))
        else:
            with torch.autocast(x.device.type, enabled=False):
                quantised, _, distance = self.quantize(z)
        patches = to_patches(x, self.sizes.patch_length)
        found = self._decode(quantised, patches.shape[1], channels)
        cosine = F.cosine_similarity(patches.to(z.dtype), found.to(z.dtype), dim=-1)
        return torch.stack([1 - cosine.mean(dim=(1, 2)), distance], dim=1)
