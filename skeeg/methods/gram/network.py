"""Gram's networks: the tokenizer, the masked autoencoder, and the classifier made of its encoder."""

import torch
import torch.nn.functional as F
from torch import nn

from ...networks.base import EEGModuleMixin, ReplaceableHead
from ...training.pretraining import hide_all_but
from .layers import (
    SIZES,
    PatchConv,
    as_indices,
    blocks,
    channel_table,
    check_alike,
    check_window,
    choose_sizes,
    frozen,
    initialise,
    sincos_table,
    to_patches,
    token,
)
from .preprocessing import MAX_SECONDS, channel_indices, window_starts
from .tokenizer_network import GramTokenizerNetwork

__all__ = ["Gram", "GramPretrainingNetwork", "GramTokenizerNetwork"]

UPSTREAM_KEYS = {"cls_head.weight": "final_layer.weight", "cls_head.bias": "final_layer.bias"}
PRETRAINING_PARTS = (
    "vqgan", "mask_token", "mimic_head", "wave_head", "decoder_ch_emb", "decoder_time_emb", "decoder_embed",
    "decoder_blocks", "decoder_norm", "decoder_pred",
)  # fmt: skip
"""Parts of a checkpoint of the second stage that the classifier does not have."""
READOUTS = ("class", "channels", "power", "class+power")
_NO_DECAY = ("cls_token", "mask_token", "time_emb", "ch_emb", "quantize.")


class _Encoder(nn.Module):
    """Patches to tokens, transformer blocks, and the fusion of what several of them give."""

    def _build_encoder(self, sizes, activation=nn.GELU):
        dim = sizes.dim
        self.sizes = sizes
        self.ch_emb, self.time_emb = channel_table(sizes, dim), frozen(sincos_table(MAX_SECONDS, dim))
        self.cls_token = token(1, 1, dim)
        self.tconv = PatchConv(sizes.n_filters, activation)
        drops = sizes.drop_prob, sizes.layer_scale, sizes.drop_path
        self.blocks = blocks(sizes.n_layers, dim, sizes.n_heads, *drops, activation)
        self.proj_layers = nn.ModuleList(nn.Linear(dim, dim) for _ in sizes.fused[:-1])
        self.proj_weights = nn.Parameter(torch.ones(len(sizes.fused), 1, 1, 1))
        self.norm = nn.LayerNorm(dim)

    def layer_weights(self):
        """Share of each fused block, shape (n_fused,); they sum to one."""
        return self.proj_weights.flatten().softmax(dim=0)

    def encode(self, patches, places):
        """Tokens (batch, 1 + n, dim), the class token first, of patches (batch, n, length) at `places`."""
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
        """Encode the time and channel of every patch of a window, shape (1, n_patches, dim)."""
        return (time_emb[:, :n_seconds, None] + ch_emb[:, None, channels]).flatten(1, 2)


class GramPretrainingNetwork(_Encoder):
    r"""Masked autoencoder of Gram [1]_, its tokenizer inside.

    Of each window some patches are masked before anything is computed of it. The encoder has the others; from their
    tokens it predicts their amplitude spectra, and the decoder predicts the tokens of the masked ones. Masked is what
    ``hidden`` says: nothing under it is ever read. The methods take trials ``x`` (batch, n_chans, n_times), the masked
    patches ``hidden`` (batch, n_seconds, n_chans) of bool, equally many of each trial, and the indices ``channels``
    (n_chans,) of the channels in the collection.

    Parameters
    ----------
    tokenizer : GramTokenizerNetwork or None
        Tokenizer; None makes an untrained one of the same size.
    size : str or Sizes
        Name in `SIZES`, or the sizes.
    tokenizer_trains : bool
        Whether `train` puts the tokenizer into training mode too, as in the published code: there the target tokens are
        drawn with dropout and the codebook drifts. False holds it in evaluation mode.
    mask_ratio : float
        Share of the patches that is masked in training, and the same patches always in evaluation.
    masks : {"patches", "mixed"}
        Whether whole channels and seconds are masked too.

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

    def __init__(self, tokenizer=None, size="base", tokenizer_trains=False, mask_ratio=0.5, masks="patches"):
        super().__init__()
        sizes = choose_sizes(SIZES, size)
        self._build_encoder(sizes)
        dim, length = sizes.decoder_dim, sizes.patch_length
        vqgan = GramTokenizerNetwork(size if isinstance(size, str) else "base") if tokenizer is None else tokenizer
        check_alike(vqgan.sizes, sizes)
        self.mimic_head, self.decoder_embed = nn.Linear(sizes.dim, length), nn.Linear(sizes.dim, dim)
        self.decoder_ch_emb = channel_table(sizes, dim)
        self.decoder_time_emb = frozen(sincos_table(MAX_SECONDS, dim))
        self.decoder_blocks = blocks(
            sizes.decoder_layers, dim, sizes.decoder_heads, sizes.drop_prob, sizes.layer_scale, sizes.drop_path
        )
        self.decoder_norm = nn.LayerNorm(dim)
        self.decoder_pred = nn.Linear(dim, vqgan.sizes.n_codes, bias=False)
        self.wave_head = nn.Linear(dim, length) if sizes.wave_head else None
        self.mask_token = token(1, 1, dim) if sizes.hidden_token == "learned" else None
        self.tokenizer_trains, self.mask_ratio, self.masks = tokenizer_trains, mask_ratio, masks
        initialise(self, bound=0.02, convolutions=True)
        self.vqgan = vqgan.requires_grad_(False)
        self.vqgan.train(self.training and tokenizer_trains)

    def train(self, mode=True):
        """Switch to training, the tokenizer left in evaluation mode."""
        super().train(mode)
        self.vqgan.train(mode and self.tokenizer_trains)
        return self

    def visible(self, x, hidden, channels):
        """Class token and tokens of the visible patches (batch, 1 + n_visible, dim), and these."""
        patches, channels = to_patches(x, self.sizes.patch_length), as_indices(channels, x.device)
        check_window(patches, channels)
        at = _indices(~hidden.flatten(1))
        seen = torch.take_along_dim(patches.flatten(1, 2), at[..., None], dim=1)
        places = self._places(patches.shape[1], channels, self.time_emb, self.ch_emb)[0][at]
        return self.encode(seen, places), seen

    def decode(self, tokens, hidden, channels):
        """Decode all patches (batch, n_seconds * n_chans, decoder_dim) from the visible ones."""
        embedded, n_seconds = self.decoder_embed(tokens), hidden.shape[1]
        channels, hidden = as_indices(channels, tokens.device), hidden.flatten(1)
        filler = embedded[:, :1] if self.mask_token is None else self.mask_token.to(embedded.dtype)
        whole = filler.expand(len(embedded), hidden.shape[1], -1)
        at = _indices(~hidden)[..., None].expand(-1, -1, embedded.shape[2])
        whole = whole.scatter(1, at, embedded[:, 1:])
        places = self._places(n_seconds, channels, self.decoder_time_emb, self.decoder_ch_emb)
        x = torch.cat([embedded[:, :1], whole + places.to(whole.dtype)], dim=1)
        for block in self.decoder_blocks:
            x = block(x)
        return self.decoder_norm(x)[:, 1:]

    def forward(self, x, channels, hidden=None, codes=None):
        """Losses of each trial, shape (batch, 4); masked patches are drawn, and tokens of patches found, where None.

        Cross-entropy of the masked tokens, squared error of the visible spectra, relative squared error of the masked
        samples (0 without ``wave_head``), share of tokens predicted.
        """
        hidden = self._draw(x) if hidden is None else hidden
        codes = self._targets(x, channels) if codes is None else codes
        tokens, seen = self.visible(x, hidden, channels)
        mimic = self._mimic(tokens, seen)
        at = _indices(hidden.flatten(1))
        decoded = torch.take_along_dim(self.decode(tokens, hidden, channels), at[..., None], dim=1)
        logits = self.decoder_pred(decoded)
        wanted = codes.flatten(1).gather(1, at)
        entropy = F.cross_entropy(_single(logits).flatten(0, 1), wanted.flatten(), reduction="none").view(at.shape)
        found, n_hidden = (logits.argmax(dim=-1) == wanted).to(mimic.dtype), max(at.shape[1], 1)
        wave = torch.zeros_like(mimic) if self.wave_head is None else self._wave(decoded, x, seen, at).to(mimic.dtype)
        return torch.stack(
            [entropy.sum(dim=1).to(mimic.dtype) / n_hidden, mimic, wave, found.sum(dim=1) / n_hidden], dim=1
        )

    def _draw(self, x):
        """Draw masked patches, in evaluation always the same."""
        shape = len(x), *to_patches(x, self.sizes.patch_length).shape[1:3]
        mixed = self.training and self.masks == "mixed"
        hidden = draw_mixed(*shape) if mixed else draw_hidden(*shape, self.mask_ratio, self.training)
        return hidden.to(x.device)

    def _wave(self, decoded, x, seen, at):
        """Squared error of the masked samples, relative to their power and some of the window's, for each trial."""
        truth = torch.take_along_dim(to_patches(x, self.sizes.patch_length).flatten(1, 2), at[..., None], dim=1)
        truth = truth / _rms(seen).clamp(min=1e-6)
        error = (_single(self.wave_head(decoded)) - truth).square().mean(dim=2)
        return (error / (0.3 + truth.square().mean(dim=2))).mean(dim=1)

    @torch.no_grad()
    def restore_codes(self, x, hidden, channels):
        """Predict the tokens of all patches, int64 of shape (batch, n_seconds, n_chans)."""
        tokens, _ = self.visible(x, hidden, channels)
        return self.decoder_pred(self.decode(tokens, hidden, channels)).argmax(dim=-1).view(hidden.shape)

    @torch.no_grad()
    def restore_waves(self, x, hidden, channels):
        """Predict the samples of all patches (batch, n_seconds, n_chans, patch_length)."""
        tokens, seen = self.visible(x, hidden, channels)
        waves = self.wave_head(self.decode(tokens, hidden, channels)) * _rms(seen)
        return waves.unflatten(1, hidden.shape[1:])

    def features(self, x, channels, readout="class"):
        """Features (batch, n_features) of complete trials of any length, by `GramPretrainer`'s ``readout``."""
        return _window_features(self, x, channels, readout)

    def _targets(self, x, channels):
        """Tokens of the patches, without gradient."""
        with torch.autocast(x.device.type, enabled=False):
            if self.vqgan.training:  # as published: with dropout, and the codebook moves
                z = self.vqgan.vectors(x, channels)
                return self.vqgan.quantize(z)[1].unflatten(1, (-1, x.shape[1]))
            return self.vqgan.encode(x, channels)

    def _mimic(self, tokens, seen):
        """Squared error of the standardised amplitude spectra, for each trial."""
        predicted = _single(self.mimic_head(tokens[:, 1:]))
        with torch.autocast(seen.device.type, enabled=False):
            half = torch.fft.rfft(seen.to(predicted.dtype)).abs()
            mirrored = half[..., 1 : (seen.shape[-1] + 1) // 2].flip(-1)
            return (_standard(predicted) - _standard(torch.cat([half, mirrored], -1))).square().mean(dim=(1, 2))


def draw_hidden(n_trials, n_seconds, n_chans, ratio, anew=True):
    """Draw masked patches (n_trials, n_seconds, n_chans); one at least stays, of two or more one at least is masked."""
    n_patches = n_seconds * n_chans
    generator = None if anew else torch.Generator().manual_seed(0)
    kept = max(min(int(n_patches * (1 - ratio)), n_patches - 1), 1)
    return hide_all_but(kept, n_trials, n_patches, generator).view(n_trials, n_seconds, n_chans)


def draw_mixed(n_trials, n_seconds, n_chans):
    """Draw whole channels or seconds, up to half of them, a quarter of the times each, and else patches."""
    kind, ratio = torch.rand(2).tolist()
    n_units = {0: n_chans, 1: n_seconds}.get(int(4 * kind), 1)
    if n_units == 1:
        return draw_hidden(n_trials, n_seconds, n_chans, 0.2 + 0.5 * ratio)
    hidden = hide_all_but(n_units - 1 - int(ratio * (n_units // 2)), n_trials, n_units)
    grid = hidden[:, None] if kind < 0.25 else hidden[:, :, None]
    return grid.expand(n_trials, n_seconds, n_chans).contiguous()


class Gram(ReplaceableHead, EEGModuleMixin, _Encoder):
    """Gram's encoder with a linear layer on its class token.

    Trials of more than 16 patches an electrode are cut into windows of equal length, as few as possible, that overlap
    where they must; their class tokens are averaged.

    Parameters
    ----------
    n_outputs, n_chans, chs_info, n_times, input_window_seconds, sfreq
        The six signal parameters of every braindecode network.
    channels : tuple of int or None
        Indices of the channels in the collection, where the forward pass is given no others; None finds them by the
        names in ``chs_info``.
    size : str or Sizes
        Name in `SIZES`, or the sizes.
    drop_prob : float or None
        Dropout; None takes that of the size.
    readout : {"class", "channels", "power", "class+power"}
        Features that the last layer gets, see `GramPretrainer`. All but ``"class"`` tie it to these electrodes.
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
        readout="class",
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
            raise ValueError(f"channels: got {len(self.channels)} indices for {self.n_chans} electrodes.")
        changes = {} if drop_prob is None else {"drop_prob": drop_prob}
        self._build_encoder(choose_sizes(SIZES, size, changes), activation)
        if readout not in READOUTS:
            raise ValueError(f"readout: got {readout!r}, expected one of {', '.join(map(repr, READOUTS))}.")
        self.readout = readout
        dim, n_powers = self.sizes.dim, self.n_chans * self.sizes.n_filters
        widths = {"class": dim, "channels": self.n_chans * dim, "power": n_powers, "class+power": dim + n_powers}
        self.final_layer = nn.Linear(widths[readout], self.n_outputs)
        initialise(self, bound=0.02, convolutions=True)

    def forward(self, x, channels=None):
        """Score the classes of trials (batch, n_chans, n_times), in units of 0.1 mV at 200 Hz: (batch, n_outputs).

        ``channels`` are the indices of their channels in the collection, where these are not those of the network.
        """
        return self.final_layer(self.features(x, channels))

    def features(self, x, channels=None):
        """Features by ``readout``, averaged over the windows of a trial, shape (batch, n_features)."""
        return _window_features(self, x, self.channels if channels is None else channels, self.readout)


def _window_features(network, x, channels, readout="class"):
    """Features of each window, averaged over the windows of a trial."""
    patches, channels = to_patches(x, network.sizes.patch_length), as_indices(channels, x.device)
    starts, length = window_starts(patches.shape[1], MAX_SECONDS)
    windows = torch.stack([patches[:, start : start + length] for start in starts], dim=1).flatten(0, 1)
    check_window(windows, channels)
    places = network._places(length, channels, network.time_emb, network.ch_emb)
    tokens = network.encode(windows.flatten(1, 2), places)
    tokens = tokens.unflatten(0, (-1, len(starts)))
    one, each = tokens[:, :, 0].mean(dim=1), tokens[:, :, 1:].unflatten(2, (length, -1))
    if readout == "class":
        return one
    if readout == "channels":
        return each.mean(dim=(1, 2)).flatten(1)
    columns = each.unflatten(4, (-1, network.sizes.n_filters))  # a token holds its filters column by column
    power = columns.square().mean(dim=(1, 2, 4)).add(1e-4).log().flatten(1)
    return power if readout == "power" else torch.cat([one, power], dim=1)


def _indices(chosen):
    """Positions of the True of each row; all rows have equally many."""
    counts = chosen.sum(dim=1)
    if len(counts) and bool((counts != counts[0]).any()):
        raise ValueError("hidden: every trial of a batch must have equally many masked patches.")
    return chosen.nonzero()[:, 1].view(len(chosen), -1)


def _single(x):
    """At least single precision."""
    return x if x.dtype == torch.float64 else x.float()


def _standard(x):
    """Standardise the last axis; one value alone becomes zero."""
    if x.shape[-1] == 1:
        return x - x
    return (x - x.mean(dim=-1, keepdim=True)) / (x.std(dim=-1, keepdim=True) + 1e-5)


def _rms(seen):
    """Root mean square of the visible patches of each trial, shape (batch, 1, 1)."""
    return _single(seen).square().mean(dim=(1, 2), keepdim=True).sqrt()


# Groups of parameters


def decays(name, parameter):
    """Whether a parameter has weight decay: no bias, no vector, no token, no encoding of positions, no codebook.

    The weights of the fused blocks have four axes and do, as published.
    """
    return parameter.ndim > 1 and not any(part in name for part in _NO_DECAY)


def layer_rate(name, n_layers, decay, patches=True):
    """Share d^(L + 1 - l) of the learning rate: l = 0 for the patches, i + 1 for block i, L + 1 after the blocks."""
    if name == "cls_token" or (patches and name.startswith("tconv.")):
        return decay ** (n_layers + 1)
    return decay ** (n_layers - int(name.split(".")[1])) if name.startswith("blocks.") else 1.0


def param_groups(module, rate=None, layer_decay=1.0, patches=True):
    """Group the trainable parameters for torch's optimisers, by weight decay and by the rate of their layer."""
    found = {(1.0, True): [], (1.0, False): []}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            share = 1.0 if rate is None else layer_rate(name, module.sizes.n_layers, layer_decay, patches)
            found.setdefault((share, decays(name, parameter)), []).append(parameter)
    groups = []
    for (share, fades), parameters in found.items():
        rates = ({} if fades else {"weight_decay": 0.0}) | ({} if rate is None else {"lr": rate * share})
        groups += [{"params": parameters, **rates}] if parameters else []
    return groups
