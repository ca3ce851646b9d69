"""Networks from EEG to MEG: the published U-Nets and transformer, and a U-Net and a transformer for any sensors."""

import math

import torch
from torch import nn
from torch.nn import functional

SHORTEST = 4  # samples that two poolings by two leave one of


class UNet(nn.Module):
    """U-Net over time with an LSTM between encoder and decoder; the first convolution mixes the channels.

    Maps EEG (n, n_chans, n_times) to sensors (n, n_outputs, n_times or n_times_out).

    Parameters
    ----------
    n_chans, n_outputs : int
        EEG channels and MEG sensors.
    n_filters : int
        Filters of the upper level; the lower one has twice as many.
    lstm_hidden : int
        Units of the LSTM.
    dropout : float
        Share of features left out in training.
    n_times_out : int or None
        Samples to which the output is stretched, whatever the length of the input; None keeps its length.
    planes : bool
        Whether the inputs are the planes of an image one sensor high, as in the wavelet U-Net, or its rows.
    bidirectional : bool
        Whether the LSTM also runs backwards; the published one does not.

    Examples
    --------
    The published networks are ``UNet(74, 102, n_times_out=275)`` and ``UNet(3, 3, planes=True)``.

    >>> import torch
    >>> from skeeg.methods.eeg2meg import UNet
    >>> UNet(74, 306)(torch.randn(2, 74, 101)).shape
    torch.Size([2, 306, 101])
    """

    def __init__(
        self,
        n_chans=74,
        n_outputs=102,
        n_filters=32,
        lstm_hidden=32,
        dropout=0.3,
        n_times_out=None,
        planes=False,
        bidirectional=False,
    ):
        super().__init__()
        self.planes, self.n_times_out = planes, n_times_out
        upper, lower = n_filters, 2 * n_filters
        rows, depth = (1, n_chans) if planes else (n_chans, 1)
        self.e11 = nn.Conv2d(depth, upper, (rows, 3), padding=(0, 1))
        self.e12 = nn.Conv2d(upper, upper, (1, 3), padding=(0, 1))
        self.e21 = nn.Conv2d(upper, lower, (1, 3), padding=(0, 1))
        self.e22 = nn.Conv2d(lower, lower, (1, 3), padding=(0, 1))
        self.lstm = nn.LSTM(lower, lstm_hidden, batch_first=True, bidirectional=bidirectional)
        self.lstm_out_projection = nn.Conv1d((1 + bidirectional) * lstm_hidden, lower, 1)
        self.upconv1 = nn.ConvTranspose2d(lower, lower, (1, 2), stride=(1, 2))
        self.d11 = nn.Conv2d(2 * lower, lower, (1, 3), padding=(0, 1))
        self.d12 = nn.Conv2d(lower, lower, (1, 3), padding=(0, 1))
        self.upconv2 = nn.ConvTranspose2d(lower, upper, (1, 2), stride=(1, 2))
        self.d21 = nn.Conv2d(2 * upper, upper, (1, 3), padding=(0, 1))
        self.d22 = nn.Conv2d(upper, upper, (1, 3), padding=(0, 1))
        self.outconv = nn.Conv2d(upper, n_outputs, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        """Map EEG (n, n_chans, n_times) to sensors (n, n_outputs, n_times or n_times_out)."""
        n_times = x.shape[-1]
        if n_times < SHORTEST:  # the last sample is repeated: pooling needs some samples
            x = functional.pad(x, (0, SHORTEST - n_times), mode="replicate")
        x = x[:, :, None] if self.planes else x[:, None]
        upper = _twice(x, self.e11, self.e12)
        lower = _twice(self._pool(upper), self.e21, self.e22)
        sequence, _ = self.lstm(self._pool(lower)[:, :, 0].transpose(1, 2))
        x = self.dropout(self.lstm_out_projection(sequence.transpose(1, 2)))[:, :, None]
        x = self.dropout(_twice(_join(self.upconv1(x), lower), self.d11, self.d12))
        x = self.outconv(_twice(_join(self.upconv2(x), upper), self.d21, self.d22))
        if self.n_times_out is None:
            return x[:, :, 0, :n_times]
        return functional.interpolate(x, (1, self.n_times_out), mode="bilinear", align_corners=False)[:, :, 0]

    def _pool(self, x):
        return self.dropout(functional.max_pool2d(x, (1, 2)))


class SensorUNet(UNet):
    """`UNet` for any sensors at any length: no stretching, a bidirectional LSTM, and a last layer at zero.

    Examples
    --------
    >>> import torch
    >>> from skeeg.methods.eeg2meg import SensorUNet
    >>> SensorUNet(8, 306)(torch.randn(1, 8, 3)).shape
    torch.Size([1, 306, 3])
    """

    def __init__(self, n_chans, n_outputs, n_filters=32, lstm_hidden=32, dropout=0.3):
        super().__init__(n_chans, n_outputs, n_filters, lstm_hidden, dropout, bidirectional=True)
        nn.init.zeros_(self.outconv.weight)
        nn.init.zeros_(self.outconv.bias)


def _twice(x, first, second):
    return functional.relu(second(functional.relu(first(x))))


def _join(x, skip):
    """Concatenate the decoder's features, padded to its length, and the skip connection."""
    return torch.cat([functional.pad(x, (0, skip.shape[-1] - x.shape[-1])), skip], dim=1)


class SharedProjectionAttention(nn.Module):
    r"""Attention of several heads that share their projections, as published.

    .. math:: A = \mathrm{softmax}\left(\frac{q k^\top}{\sqrt{s}}\right) v
    """

    def __init__(self, embed_size, n_heads, scale="embedding"):
        super().__init__()
        if embed_size % n_heads:
            raise ValueError(f"embed_size: got {embed_size}, which {n_heads} heads do not divide.")
        size = embed_size // n_heads
        self.n_heads = n_heads
        self.scale = (embed_size if scale == "embedding" else size) ** -0.5
        self.values = nn.Linear(size, size, bias=False)
        self.keys = nn.Linear(size, size, bias=False)
        self.queries = nn.Linear(size, size, bias=False)
        self.fc_out = nn.Linear(embed_size, embed_size)

    def forward(self, values, keys, queries, mask=None):
        """Attend to values and keys (n, n_keys, embed_size) by queries (n, n_queries, embed_size).

        The mask, broadcast to (n, n_heads, n_queries, n_keys), is False where a query must not attend.
        """
        q, k, v = (
            layer(x.unflatten(-1, (self.n_heads, -1))).transpose(1, 2)
            for layer, x in ((self.queries, queries), (self.keys, keys), (self.values, values))
        )
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=self.scale)
        return self.fc_out(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention and a feed-forward layer, each followed by layer normalisation."""

    def __init__(self, embed_size, n_heads, dropout, forward_expansion, scale="embedding"):
        super().__init__()
        self.attention = SharedProjectionAttention(embed_size, n_heads, scale)
        self.norm1 = nn.LayerNorm(embed_size)
        self.norm2 = nn.LayerNorm(embed_size)
        width = forward_expansion * embed_size
        self.feed_forward = nn.Sequential(nn.Linear(embed_size, width), nn.ReLU(), nn.Linear(width, embed_size))
        self.dropout = nn.Dropout(dropout)

    def forward(self, query, mask=None, source=None):
        """Attend to a source (n, n_keys, embed_size), None for itself, by the query (n, n_times, embed_size)."""
        source = query if source is None else source
        x = self.dropout(self.norm1(self.attention(source, source, query, mask) + query))
        return self.dropout(self.norm2(self.feed_forward(x) + x))


class DecoderBlock(nn.Module):
    """Causal attention to the target so far, then attention to the encoded EEG."""

    def __init__(self, embed_size, n_heads, dropout, forward_expansion):
        super().__init__()
        self.attention = SharedProjectionAttention(embed_size, n_heads)
        self.norm = nn.LayerNorm(embed_size)
        self.transformer_block = Block(embed_size, n_heads, dropout, forward_expansion)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x, encoded, source_mask, target_mask):
        """Apply one layer of the decoder, shape (n, n_times, embed_size)."""
        query = self.dropout(self.norm(self.attention(x, x, x, target_mask) + x))
        return self.transformer_block(query, source_mask, encoded)


class _Stack(nn.Module):
    """Samples of all channels and their positions in time as features, then layers: encoder, or decoder."""

    def __init__(self, n_channels, max_length, n_layers, block, embed_size, n_heads, dropout, forward_expansion):
        super().__init__()
        self.timepoint_embedding = nn.Linear(n_channels, embed_size)
        self.position_embedding = nn.Embedding(max_length, embed_size)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(block(embed_size, n_heads, dropout, forward_expansion) for _ in range(n_layers))

    def forward(self, x, *context):
        """Features (n, n_times, embed_size) of signals (n, n_times, n_channels)."""
        longest = self.position_embedding.num_embeddings
        if x.shape[1] > longest:
            raise ValueError(f"x: {x.shape[1]} samples, but the network has positions for {longest} (max_length).")
        places = torch.arange(x.shape[1], device=x.device)
        x = self.dropout(self.timepoint_embedding(x) + self.position_embedding(places))
        for layer in self.layers:
            x = layer(x, *context)
        return x


class SequenceTransformer(nn.Module):
    """The published encoder-decoder from EEG to MEG, layer for layer, by default without its leakage of the target.

    A sample whose first EEG channel is exactly 0 counts as padding, as published.

    Parameters
    ----------
    n_inputs, n_outputs : int
        EEG channels and MEG sensors.
    embed_size, n_layers, n_heads, forward_expansion : int
        Features, layers of encoder and of decoder, heads, and width of the feed-forward layers in features.
    dropout : float
        Share of features left out in training.
    max_length : int
        Longest signal, in samples.
    shift : bool
        Whether position t of the decoder is given the target before t only: zeros first, then the target shifted by
        one sample. False is as published: position t is given the target at t and learns to copy it.

    Examples
    --------
    >>> import torch
    >>> from skeeg.methods.eeg2meg import SequenceTransformer
    >>> network = SequenceTransformer(4, 6, embed_size=8, n_layers=1, n_heads=2).eval()
    >>> eeg = torch.randn(2, 5, 4)
    >>> network(eeg, torch.randn(2, 5, 6)).shape, network.generate(eeg).shape
    (torch.Size([2, 5, 6]), torch.Size([2, 5, 6]))
    """

    def __init__(
        self,
        n_inputs=74,
        n_outputs=306,
        embed_size=256,
        n_layers=6,
        n_heads=8,
        forward_expansion=4,
        dropout=0.0,
        max_length=1000,
        shift=True,
    ):
        super().__init__()
        sizes = (embed_size, n_heads, dropout, forward_expansion)
        self.encoder = _Stack(n_inputs, max_length, n_layers, Block, *sizes)
        self.decoder = _Stack(n_outputs, max_length, n_layers, DecoderBlock, *sizes)
        self.decoder.fc_out = nn.Linear(embed_size, n_outputs)  # part of the decoder by its published name
        self.shift = shift

    def forward(self, eeg, meg):
        """Predict MEG (n, n_times, n_outputs) from EEG (n, n_times, n_inputs) and the true MEG.

        Where ``shift`` is set, each sample is predicted from the MEG before it.
        """
        source_mask = self._source_mask(eeg)
        return self._decode(meg, self.encoder(eeg, source_mask), source_mask)

    @torch.no_grad()
    def generate(self, eeg):
        """Predict MEG (n, n_times, n_outputs) from EEG (n, n_times, n_inputs), each sample from those before it."""
        if not self.shift:
            raise ValueError("shift: generation needs shift=True; the published network needs MEG.")
        source_mask = self._source_mask(eeg)
        encoded = self.encoder(eeg, source_mask)
        meg = eeg.new_zeros(eeg.shape[0], eeg.shape[1], self.decoder.fc_out.out_features)
        for t in range(eeg.shape[1]):
            meg[:, t] = self._decode(meg[:, : t + 1], encoded, source_mask)[:, t]
        return meg

    def _source_mask(self, eeg):
        mask = (eeg[:, :, 0] != 0)[:, None, None, :]
        # A window of padding only attends to everything equally, as the published code does.
        return mask | ~mask.any(-1, keepdim=True)

    def _decode(self, meg, encoded, source_mask):
        target = functional.pad(meg[:, :-1], (0, 0, 1, 0)) if self.shift else meg
        n_times = target.shape[1]
        past = torch.ones(n_times, n_times, dtype=torch.bool, device=meg.device).tril()
        return self.decoder.fc_out(self.decoder(target, encoded, source_mask, past))


class SensorTransformer(nn.Module):
    """Encoder from EEG (n, n_chans, n_times) to sensors (n, n_outputs, n_times) of any length, without MEG as an input.

    Differences from the published network: layer normalisation comes first, scores are divided by the root of the
    head's size, a convolution of ``kernel_size`` samples embeds the EEG, positions in time are sines and cosines [1]_,
    and the last layer starts at zero. Sizes are those of `SequenceTransformer`.

    References
    ----------
    .. [1] Vaswani, A. et al. (2017). Attention is all you need. NeurIPS.

    Examples
    --------
    >>> import torch
    >>> from skeeg.methods.eeg2meg import SensorTransformer
    >>> SensorTransformer(4, 6, embed_size=8, n_layers=1, n_heads=2)(torch.randn(2, 4, 50)).shape
    torch.Size([2, 6, 50])
    """

    def __init__(
        self, n_chans, n_outputs, embed_size=128, n_layers=2, n_heads=4, forward_expansion=2, dropout=0.1, kernel_size=9
    ):
        super().__init__()
        self.embedding = nn.Conv1d(n_chans, embed_size, kernel_size, padding="same")
        self.layers = nn.ModuleList(
            _PreNormBlock(embed_size, n_heads, dropout, forward_expansion) for _ in range(n_layers)
        )
        self.norm = nn.LayerNorm(embed_size)
        self.final_layer = nn.Linear(embed_size, n_outputs)
        nn.init.zeros_(self.final_layer.weight)
        nn.init.zeros_(self.final_layer.bias)

    def forward(self, eeg):
        """Map EEG (n, n_chans, n_times) to sensors (n, n_outputs, n_times)."""
        x = self.embedding(eeg).transpose(1, 2)
        x = x + sinusoids(x.shape[1], x.shape[2], x)
        for layer in self.layers:
            x = layer(x)
        return self.final_layer(self.norm(x)).transpose(1, 2)


class _PreNormBlock(Block):
    """`Block` with the normalisation before attention and feed-forward layer, which trains without a warm-up."""

    def __init__(self, embed_size, n_heads, dropout, forward_expansion):
        super().__init__(embed_size, n_heads, dropout, forward_expansion, scale="head")

    def forward(self, x):
        """Transform features, shape (n, n_times, embed_size)."""
        normal = self.norm1(x)
        x = x + self.dropout(self.attention(normal, normal, normal))
        return x + self.dropout(self.feed_forward(self.norm2(x)))


def sinusoids(n_times, n_features, like):
    """Positions in time as sines and cosines of many periods (n_times, n_features), of the type of another tensor."""
    half = -(-n_features // 2)
    rates = torch.exp(-math.log(10_000.0) * torch.arange(half, dtype=like.dtype, device=like.device) / max(half, 1))
    angles = torch.arange(n_times, dtype=like.dtype, device=like.device)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)[:, :n_features]


NETWORKS = {"transformer": SensorTransformer, "unet": SensorUNet, "wavelet_unet": SensorUNet}
