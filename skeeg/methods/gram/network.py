"""Gram's networks: the tokenizer, the masked autoencoder, and the classifier made of its encoder."""

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from braindecode.models.base import EEGModuleMixin
from torch import nn

from ...networks.heads import ReplaceableHead
from .collection import COLLECTION, channel_indices
from .layers import PatchConv, blocks, initialise, table, to_patches, token
from .sizes import SIZES, choose
from .tokenizer_network import GramTokenizerNetwork, as_channels, check_window

__all__ = ["Gram", "GramOutputs", "GramPretrainingNetwork", "GramTokenizerNetwork"]

UPSTREAM_KEYS = {"cls_head.weight": "final_layer.weight", "cls_head.bias": "final_layer.bias"}
PRETRAINING_PARTS = (
    "vqgan", "mask_token", "mimic_head", "decoder_ch_emb", "decoder_time_emb", "decoder_embed", "decoder_blocks",
    "decoder_norm", "decoder_pred",
)  # fmt: skip
"""Parts of a checkpoint of the second stage that the classifier has no use for."""


class _Encoder(nn.Module):
    """Patches to tokens, transformer blocks, and the fusion of what several of them give."""

    def _build_encoder(self, sizes, activation=nn.GELU):
        dim = sizes.dim
        self.sizes = sizes
        self.ch_emb, self.time_emb = table(len(COLLECTION), dim), table(sizes.max_seconds, dim)
        self.cls_token = token(1, 1, dim)
        self.tconv = PatchConv(sizes.n_filters, activation)
        drops = sizes.drop_prob, sizes.layer_scale, sizes.drop_path
        self.blocks = blocks(sizes.n_layers, dim, sizes.n_heads, *drops, activation)
        self.proj_layers = nn.ModuleList(nn.Linear(dim, dim) for _ in sizes.fused[:-1])
        self.proj_weights = nn.Parameter(torch.ones(len(sizes.fused), 1, 1, 1))
        self.norm = nn.LayerNorm(dim)

    def layer_weights(self):
        """Share of each fused block.

        Returns
        -------
        weights : Tensor, shape (n_fused,)
            They sum to one.
        """
        return self.proj_weights.flatten().softmax(dim=0)

    def encode(self, patches, places):
        """Fused tokens of some patches, the class token first.

        Parameters
        ----------
        patches : Tensor, shape (batch, n_patches, patch_length)
            Patches; the others of the window are not looked at.
        places : Tensor, shape (batch, n_patches, dim) or (1, n_patches, dim)
            Codes of their time and place.

        Returns
        -------
        tokens : Tensor, shape (batch, 1 + n_patches, dim)
            Normalised.
        """
        if patches.shape[1]:
            tokens = self.tconv(patches)
            tokens = tokens + places.to(tokens.dtype)
        else:  # nothing is visible
            tokens = places.to(self.norm.weight.dtype)
        x = torch.cat([self.cls_token.to(tokens.dtype).expand(len(tokens), -1, -1), tokens], dim=1)
        weights, fused, last = self.layer_weights(), 0.0, len(self.sizes.fused) - 1
        for depth, block in enumerate(self.blocks):
            x = block(x)
            if depth in self.sizes.fused:
                k = self.sizes.fused.index(depth)
                fused = fused + weights[k] * (x if k == last else self.proj_layers[k](x))
        return self.norm(fused)

    def _places(self, n_seconds, channels, time_emb, ch_emb):
        """Codes of the time and place of every patch of a window, shape (1, n_patches, dim)."""
        return (time_emb[:, :n_seconds, None] + ch_emb[:, None, channels]).flatten(1, 2)


class GramOutputs(NamedTuple):
    """What the masked autoencoder computes, as the published code gives it.

    Attributes
    ----------
    cls_loss : Tensor, shape ()
        Cross-entropy of the base classes of the hidden patches.
    mimic_loss : Tensor, shape ()
        Squared error of the standardised spectra of the visible ones.
    accuracy : Tensor, shape ()
        Share of the hidden patches whose base class was found.
    logits : Tensor, shape (batch, n_patches, n_codes)
        Scores of the base classes of all patches.
    hidden : Tensor of bool, shape (batch, n_patches)
        Patches that were hidden.
    layer_weights : Tensor, shape (n_fused,)
        Share of each fused block.
    """

    cls_loss: torch.Tensor
    mimic_loss: torch.Tensor
    accuracy: torch.Tensor
    logits: torch.Tensor
    hidden: torch.Tensor
    layer_weights: torch.Tensor


class GramPretrainingNetwork(_Encoder):
    r"""Masked autoencoder of Gram [1]_, its tokenizer inside.

    Of each window some patches are hidden before anything is computed of it. The encoder sees the others; from their
    tokens it guesses their amplitude spectra, and the decoder guesses the base classes of the hidden ones. Hidden is
    what ``hidden`` says: nothing under it is ever read.

    Parameters
    ----------
    tokenizer : GramTokenizerNetwork or None
        Tokenizer; None makes an untrained one of the same size.
    size : str or Sizes
        Name in `SIZES`, or the sizes.
    hidden_token : {"class", "learned"}
        What stands for hidden patches in the decoder: the encoded class token, as published, or a token of its own.
    tokenizer_trains : bool
        Whether `train` puts the tokenizer into training mode too, as in the published code: there the base classes to
        guess are drawn with dropout and the codebook drifts, although nothing is meant to train it. False holds it in
        evaluation mode.

    References
    ----------
    .. [1] Li, Z., Zheng, W.-L., Lu, B.-L. (2025). Gram: a large-scale general EEG model for raw data classification and
       restoration tasks. ICASSP.

    Examples
    --------
    >>> import torch
    >>> from skeeg.methods.gram.network import GramPretrainingNetwork, GramTokenizerNetwork
    >>> net = GramPretrainingNetwork(GramTokenizerNetwork("tiny"), "tiny").eval()
    >>> x, hidden = torch.randn(2, 3, 400), torch.tensor([[[True, False, False], [False, True, False]]] * 2)
    >>> net.restore_codes(x, hidden, [39, 41, 43]).shape
    torch.Size([2, 2, 3])
    """

    def __init__(self, tokenizer=None, size="base", hidden_token="class", tokenizer_trains=False):
        super().__init__()
        if hidden_token not in ("class", "learned"):
            raise ValueError(f"hidden_token: got {hidden_token!r}, expected 'class' or 'learned'.")
        sizes = choose(SIZES, size)
        self._build_encoder(sizes)
        dim, length = sizes.decoder_dim, sizes.patch_length
        vqgan = GramTokenizerNetwork(size if isinstance(size, str) else "base") if tokenizer is None else tokenizer
        if (vqgan.sizes.patch_length, vqgan.sizes.max_seconds) != (length, sizes.max_seconds):
            raise ValueError(f"tokenizer: it takes patches of {vqgan.sizes.patch_length} samples, this one {length}.")
        self.mimic_head, self.decoder_embed = nn.Linear(sizes.dim, length), nn.Linear(sizes.dim, dim)
        self.decoder_ch_emb, self.decoder_time_emb = table(len(COLLECTION), dim), table(sizes.max_seconds, dim)
        self.decoder_blocks = blocks(
            sizes.decoder_layers, dim, sizes.decoder_heads, sizes.drop_prob, sizes.layer_scale, sizes.drop_path
        )
        self.decoder_norm = nn.LayerNorm(dim)
        self.decoder_pred = nn.Linear(dim, vqgan.sizes.n_codes, bias=False)
        if hidden_token == "learned":
            self.mask_token = token(1, 1, dim)
        self.tokenizer_trains = tokenizer_trains
        initialise(self, bound=0.02, convolutions=True)
        self.vqgan = vqgan.requires_grad_(False)
        self.vqgan.train(self.training and tokenizer_trains)

    def train(self, mode=True):
        """Switch to training, the tokenizer left in evaluation mode.

        Parameters
        ----------
        mode : bool
            Whether to train.

        Returns
        -------
        self : GramPretrainingNetwork
            The network.
        """
        super().train(mode)
        self.vqgan.train(mode and self.tokenizer_trains)
        return self

    def visible(self, x, hidden, channels):
        """Encode the visible patches.

        Parameters
        ----------
        x : Tensor, shape (batch, n_chans, n_times)
            Trials.
        hidden : Tensor of bool, shape (batch, n_seconds, n_chans)
            Patches that are not looked at, equally many of each trial.
        channels : sequence of int or Tensor, shape (n_chans,)
            Positions of the electrodes in the collection.

        Returns
        -------
        tokens : Tensor, shape (batch, 1 + n_visible, dim)
            The class token, then the visible patches in the order of time and electrode.
        seen : Tensor, shape (batch, n_visible, patch_length)
            The visible patches.
        """
        patches, channels = to_patches(x, self.sizes.patch_length), as_channels(channels, x.device)
        check_window(patches, channels, self.sizes.max_seconds)
        at = _indices(~hidden.flatten(1))
        seen = torch.take_along_dim(patches.flatten(1, 2), at[..., None], dim=1)
        places = self._places(patches.shape[1], channels, self.time_emb, self.ch_emb)[0][at]
        return self.encode(seen, places), seen

    def decode(self, tokens, hidden, channels):
        """Decode all patches of a window from its visible ones.

        Parameters
        ----------
        tokens, hidden, channels
            As in `visible`.

        Returns
        -------
        decoded : Tensor, shape (batch, n_seconds * n_chans, decoder_dim)
            What the base classes are read from.
        """
        embedded, n_seconds = self.decoder_embed(tokens), hidden.shape[1]
        channels, hidden = as_channels(channels, tokens.device), hidden.flatten(1)
        filler = self.mask_token.to(embedded.dtype) if hasattr(self, "mask_token") else embedded[:, :1]
        whole = filler.expand(len(embedded), hidden.shape[1], -1)
        at = _indices(~hidden)[..., None].expand(-1, -1, embedded.shape[2])
        whole = whole.scatter(1, at, embedded[:, 1:])
        places = self._places(n_seconds, channels, self.decoder_time_emb, self.decoder_ch_emb)
        x = torch.cat([embedded[:, :1], whole + places.to(whole.dtype)], dim=1)
        for block in self.decoder_blocks:
            x = block(x)
        return self.decoder_norm(x)[:, 1:]

    def losses(self, x, hidden, channels, codes=None):
        """Both losses of each trial, and how many base classes were found.

        Parameters
        ----------
        x, hidden, channels
            As in `visible`.
        codes : Tensor of int64, shape (batch, n_seconds, n_chans), or None
            Base classes of the patches; None asks the tokenizer.

        Returns
        -------
        losses : Tensor, shape (batch, 3)
            Cross-entropy of the hidden base classes, squared error of the visible spectra, share found.
        """
        if codes is None:
            codes = self._targets(x, channels)
        tokens, seen = self.visible(x, hidden, channels)
        mimic = self._mimic(tokens, seen)
        at = _indices(hidden.flatten(1))
        decoded = torch.take_along_dim(self.decode(tokens, hidden, channels), at[..., None], dim=1)
        logits = self.decoder_pred(decoded)
        wanted = codes.flatten(1).gather(1, at)
        entropy = F.cross_entropy(_single(logits).flatten(0, 1), wanted.flatten(), reduction="none").view(at.shape)
        found, n_hidden = (logits.argmax(dim=-1) == wanted).to(mimic.dtype), max(at.shape[1], 1)
        return torch.stack([entropy.sum(dim=1).to(mimic.dtype) / n_hidden, mimic, found.sum(dim=1) / n_hidden], dim=1)

    def forward(self, x, hidden, channels):
        """Losses and scores of a batch.

        Parameters
        ----------
        x, hidden, channels
            As in `visible`.

        Returns
        -------
        outputs : GramOutputs
            Losses, scores of all patches, and what was hidden.
        """
        tokens, seen = self.visible(x, hidden, channels)
        logits, wanted = self.decoder_pred(self.decode(tokens, hidden, channels)), self._targets(x, channels)
        flat = hidden.flatten(1)
        scores, classes = _single(logits)[flat], wanted.flatten(1)[flat]
        accuracy = (scores.argmax(dim=-1) == classes).float().mean()
        mimic = self._mimic(tokens, seen).mean()
        return GramOutputs(F.cross_entropy(scores, classes), mimic, accuracy, logits, flat, self.layer_weights())

    @torch.no_grad()
    def restore_codes(self, x, hidden, channels):
        """Guess the base classes of all patches from the visible ones; the tokenizer's decoder makes signal of them.

        Parameters
        ----------
        x : Tensor, shape (batch, n_chans, n_times)
            Trials; what lies under ``hidden`` is never read and may be NaN.
        hidden : Tensor of bool, shape (batch, n_seconds, n_chans)
            Patches to do without, equally many of each trial.
        channels : sequence of int or Tensor, shape (n_chans,)
            Positions of the electrodes in the collection.

        Returns
        -------
        codes : Tensor of int64, shape (batch, n_seconds, n_chans)
            Base classes.
        """
        tokens, _ = self.visible(x, hidden, channels)
        logits = self.decoder_pred(self.decode(tokens, hidden, channels))
        return logits.argmax(dim=-1).view(hidden.shape)

    def features(self, x, channels):
        """Fused class token of windows of which nothing is hidden.

        Parameters
        ----------
        x : Tensor, shape (batch, n_chans, n_times)
            Trials of any length; see `Gram`.
        channels : sequence of int or Tensor, shape (n_chans,)
            Positions of the electrodes in the collection.

        Returns
        -------
        features : Tensor, shape (batch, dim)
            Mean over the windows of a trial.
        """
        return _window_features(self, x, channels)

    def _targets(self, x, channels):
        """Tell the base classes of the patches, without gradient: nothing of the tokenizer wants one."""
        with torch.autocast(x.device.type, enabled=False):
            if self.vqgan.training:  # as published: with dropout, and the codebook moves
                z = self.vqgan.vectors(x, channels)
                return self.vqgan.quantize(z)[1].unflatten(1, (-1, x.shape[1]))
            return self.vqgan.encode(x, channels)

    def _mimic(self, tokens, seen):
        """Squared error of the standardised amplitude spectra, for each trial."""
        guessed = _single(self.mimic_head(tokens[:, 1:]))
        with torch.autocast(seen.device.type, enabled=False):
            half = torch.fft.rfft(seen.to(guessed.dtype)).abs()
            mirrored = half[..., 1 : (seen.shape[-1] + 1) // 2].flip(-1)
            return (_standard(guessed) - _standard(torch.cat([half, mirrored], -1))).square().mean(dim=(1, 2))


class Gram(ReplaceableHead, EEGModuleMixin, _Encoder):
    """Gram's encoder with a linear layer on its class token.

    Trials of more than 16 patches an electrode are cut into windows of equal length, as few as possible, that overlap
    where they must; their class tokens are averaged.

    Parameters
    ----------
    n_outputs, n_chans, chs_info, n_times, input_window_seconds, sfreq
        The six signal parameters of every braindecode network.
    channels : tuple of int or None
        Positions of the electrodes in the collection, where the forward pass is given no others; None finds them by
        the names in ``chs_info``.
    size : str or Sizes
        Name in `SIZES`, or the sizes.
    drop_prob : float or None
        Dropout; None takes that of the size.
    activation : type of nn.Module
        Nonlinearity of the patches' convolutions and of the blocks.

    Examples
    --------
    >>> import torch
    >>> from skeeg.methods.gram import Gram
    >>> net = Gram(2, 3, n_times=400, channels=(39, 41, 43), size="tiny")
    >>> net(torch.zeros(2, 3, 400)).shape, net(torch.zeros(2, 3, 6000)).shape
    (torch.Size([2, 2]), torch.Size([2, 2]))
    """

    def __init__(
        self,
        n_outputs=None,
        n_chans=None,
        chs_info=None,
        n_times=None,
        input_window_seconds=None,
        sfreq=None,
        channels=None,
        size="base",
        drop_prob=None,
        activation: type[nn.Module] = nn.GELU,
    ):
        super().__init__(
            n_outputs=n_outputs,
            n_chans=n_chans,
            chs_info=chs_info,
            n_times=n_times,
            input_window_seconds=input_window_seconds,
            sfreq=sfreq,
        )
        del n_outputs, n_chans, chs_info, n_times, input_window_seconds, sfreq
        self.mapping, self.ignorable_parts = dict(UPSTREAM_KEYS), PRETRAINING_PARTS
        if channels is None:
            channels = channel_indices([info["ch_name"] for info in self.chs_info]).tolist()
        self.channels = tuple(int(place) for place in channels)
        if len(self.channels) != self.n_chans:
            raise ValueError(f"channels: got {len(self.channels)} positions for {self.n_chans} electrodes.")
        self._build_encoder(choose(SIZES, size, {"drop_prob": drop_prob}), activation)
        self.final_layer = nn.Linear(self.sizes.dim, self.n_outputs)
        initialise(self, bound=0.02, convolutions=True)

    def forward(self, x, channels=None):
        """Score the classes of each trial.

        Parameters
        ----------
        x : Tensor, shape (batch, n_chans, n_times)
            Trials, in units of 0.1 mV at 200 Hz.
        channels : sequence of int or Tensor, shape (n_chans,), or None
            Positions of the electrodes in the collection, which may be others, and more or fewer, than those that the
            network was built for; None takes those.

        Returns
        -------
        logits : Tensor, shape (batch, n_outputs)
            Class scores.
        """
        return self.final_layer(self.features(x, channels))

    def features(self, x, channels=None):
        """Fused class token, averaged over the windows of a trial.

        Parameters
        ----------
        x, channels
            As in `forward`.

        Returns
        -------
        features : Tensor, shape (batch, dim)
            What is classified.
        """
        return _window_features(self, x, self.channels if channels is None else channels)


def window_starts(n_seconds, max_seconds):
    """Cut a trial into windows of equal length, as few as possible.

    Parameters
    ----------
    n_seconds, max_seconds : int
        Patches of an electrode, and of a window at the most.

    Returns
    -------
    starts : list of int
        First patch of each window.
    length : int
        Patches of a window.

    Examples
    --------
    >>> from skeeg.methods.gram.network import window_starts
    >>> window_starts(16, 16), window_starts(30, 16), window_starts(33, 16)
    (([0], 16), ([0, 15], 15), ([0, 11, 22], 11))
    """
    n_windows = math.ceil(n_seconds / max_seconds)
    length = math.ceil(n_seconds / n_windows)
    return np.linspace(0, n_seconds - length, n_windows).round().astype(int).tolist(), length


def _window_features(network, x, channels):
    """Class token of each window, averaged over the windows of a trial."""
    patches, channels = to_patches(x, network.sizes.patch_length), as_channels(channels, x.device)
    starts, length = window_starts(patches.shape[1], network.sizes.max_seconds)
    windows = torch.stack([patches[:, start : start + length] for start in starts], dim=1).flatten(0, 1)
    check_window(windows, channels, network.sizes.max_seconds)
    places = network._places(length, channels, network.time_emb, network.ch_emb)
    return network.encode(windows.flatten(1, 2), places)[:, 0].unflatten(0, (-1, len(starts))).mean(dim=1)


def _indices(chosen):
    """Positions of the True of each row; all rows have equally many."""
    counts = chosen.sum(dim=1)
    if len(counts) and bool((counts != counts[0]).any()):
        raise ValueError("hidden: every trial of a batch must have equally many hidden patches.")
    return chosen.nonzero()[:, 1].view(len(chosen), -1)


def _single(x):
    """At least single precision."""
    return x if x.dtype == torch.float64 else x.float()


def _standard(x):
    """Standardise the last axis; one value alone becomes zero."""
    if x.shape[-1] == 1:
        return x - x
    return (x - x.mean(dim=-1, keepdim=True)) / (x.std(dim=-1, keepdim=True) + 1e-5)
