"""The MIRepNet network: convolutional tokens on 45 electrodes, a transformer, and a decoder for its pre-training."""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import nn

from ...networks.base import EEGModuleMixin, ReplaceableHead
from ...networks.fast.dropout import Dropout
from ...networks.fast.front_end import merged_conv
from ...training.checkpoints import rename_keys
from ...training.pretraining import draw_mask
from ...training.sizes import count_blocks
from .preprocessing import UNLABELLED

UPSTREAM_KEYS = {
    "embedding.projection.0.weight": "embedding.projection.weight",
    "embedding.projection.0.bias": "embedding.projection.bias",
    "clshead.weight": "final_layer.weight",
    "clshead.bias": "final_layer.bias",
}


class MIRepNetAttention(nn.Module):
    r"""Multi-head attention whose scores are divided by the square root of the whole embedding.

    .. math:: A = \mathrm{softmax}(Q K^\top / \sqrt{E}) V

    braindecode's and torch's divide by the square root of the size of a head; weights trained with one form do not
    work in the other.
    """

    def __init__(self, embed_dim, n_heads, drop_prob):
        super().__init__()
        self.n_heads, self.drop = n_heads, Dropout(drop_prob)
        self.keys = nn.Linear(embed_dim, embed_dim)
        self.queries = nn.Linear(embed_dim, embed_dim)
        self.values = nn.Linear(embed_dim, embed_dim)
        self.projection = nn.Linear(embed_dim, embed_dim)

    def forward(self, x):
        """Attend; x and the output are Tensors of shape (batch, n_tokens, embed_dim)."""
        scale = x.shape[-1] ** -0.5
        parts = (self.queries, self.keys, self.values)
        q, k, v = (part(x).unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for part in parts)
        if self.training and self.drop.p and x.device.type == "cpu":  # there torch does the same, with its own dropout
            attended = self.drop((q @ k.transpose(2, 3) * scale).softmax(dim=-1)) @ v
        else:
            drop_prob = self.drop.p if self.training else 0.0
            attended = F.scaled_dot_product_attention(q, k, v, dropout_p=drop_prob, scale=scale)
        return self.projection(attended.transpose(1, 2).flatten(2))


class Residual(nn.Module):
    """Residual connection around ``fn``; named as in the published state dict."""

    def __init__(self, fn):
        super().__init__()
        self.fn = fn

    def forward(self, x):
        """Add the output to the input."""
        return x + self.fn(x)


def transformer(n_layers, embed_dim, n_heads, drop_prob):
    """Pre-norm transformer blocks without positional embedding and without a last normalisation."""
    return nn.Sequential(*(_block(embed_dim, n_heads, drop_prob) for _ in range(n_layers)))


def _block(embed_dim, n_heads, drop_prob):
    wide = 4 * embed_dim
    feed_forward = nn.Sequential(nn.Linear(embed_dim, wide), nn.GELU(), Dropout(drop_prob), nn.Linear(wide, embed_dim))
    parts = (MIRepNetAttention(embed_dim, n_heads, drop_prob), feed_forward)
    normed = (nn.Sequential(nn.LayerNorm(embed_dim), part, Dropout(drop_prob)) for part in parts)
    return nn.Sequential(*map(Residual, normed))


class Tokenizer(nn.Module):
    """Temporal filters, spatial filters over all electrodes, mean pooling: one token every ``pool_stride`` samples.

    Parameters as of `MIRepNet`.
    """

    def __init__(
        self, n_chans, embed_dim, n_filters_time, n_filters, filter_length, pool_length, pool_stride, drop_prob,
        activation,
    ):  # fmt: skip
        super().__init__()
        self.conv1 = nn.Conv2d(1, n_filters_time, (1, filter_length))
        self.conv2 = nn.Conv2d(n_filters_time, n_filters, (n_chans, 1))
        self.bn = nn.BatchNorm2d(n_filters)
        self.activation = activation()
        self.pool = nn.AvgPool2d((1, pool_length), stride=(1, pool_stride))
        self.drop = Dropout(drop_prob)
        self.projection = nn.Conv2d(n_filters, embed_dim, (1, 1))
        # In the published state dict, and in no forward pass.
        self.chan_embed = nn.Embedding(n_chans, embed_dim)

    def forward(self, x):
        """Tokens (batch, n_tokens, embed_dim), in the order of time, of trials (batch, n_chans, n_times)."""
        return self.projection(self.drop(self.pooled(x)))[:, :, 0].transpose(1, 2)

    def pooled(self, x):
        """Mean activity of the filters before dropout, shape (batch, n_filters, 1, n_tokens)."""
        y = merged_conv(x, self.conv1.weight, self.conv1.bias, self.conv2.weight, self.conv2.bias)
        return self.pool(self.activation(self.bn(y.unsqueeze(2))))


class MIRepNet(ReplaceableHead, EEGModuleMixin, nn.Module):
    r"""Network of MIRepNet [1]_: a foundation model for motor imagery on a template of 45 electrodes.

    Temporal filters of ``K`` samples, spatial filters over all electrodes, batch normalisation, an exponential linear
    unit and mean pools of ``P`` samples every ``S`` make :math:`L = \lfloor (T - K - P + 1) / S \rfloor + 1` tokens;
    pre-norm transformer blocks without positional embedding follow; the mean over the tokens is classified:

    .. math::
        (B, C, T) \to (B, F, T - K + 1) \to (B, L, E) \to (B, L, E) \to (B, E) \to (B, n_{outputs})

    Attention scores are divided by the square root of the embedding ``E``, not of the size of a head.

    Parameters
    ----------
    n_outputs, n_chans, chs_info, n_times, input_window_seconds, sfreq
        The six signal parameters of every braindecode network; published weights are for 45 electrodes at 250 Hz. Any
        length of at least ``K + P - 1`` samples is accepted, whatever ``n_times`` was.
    embed_dim : int
        Size of a token, ``E``.
    n_layers, n_heads : int
        Transformer blocks, and attention heads in each.
    drop_prob : float
        Dropout of the tokens, the attention weights and both parts of every block.
    n_filters_time, n_filters : int
        Temporal filters, and spatial filters ``F``.
    filter_length, pool_length, pool_stride : int
        ``K``, ``P`` and ``S``, in samples.
    decoder_layers : int
        Blocks of the decoder of the pre-training; with 0 there is neither decoder nor mask token.
    activation : type of nn.Module
        Nonlinearity of the tokenizer.

    Notes
    -----
    Published state dicts load as they are: 143 tensors with ``decoder_layers=2``, 110 with 0, and those that
    braindecode re-hosts, whose names are the ones used here. The tensor ``embedding.chan_embed.weight`` is published
    but never used. The two linear layers of the tokenizer are computed as one convolution over electrodes: the same
    numbers, many times faster and without the ``(B, 64, C, T)`` plane between the two.

    References
    ----------
    .. [1] Liu, D., et al. (2026). MIRepNet: a pipeline and pre-trained model for EEG-based motor imagery
       classification. Knowledge-Based Systems, 343, 115966. https://doi.org/10.1016/j.knosys.2026.115966

    Examples
    --------
    >>> import torch
    >>> from skeeg.methods.mirepnet import MIRepNet
    >>> net = MIRepNet(n_outputs=2, n_chans=45, n_times=1000)
    >>> net(torch.zeros(2, 45, 1000)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 2]), 5154306)
    """

    @staticmethod
    def sizes_of(state):
        """Arguments that follow from the shapes of a state dict; heads and pools do not."""
        state = rename_keys(state, UPSTREAM_KEYS)
        found = {"n_layers": count_blocks(state, "transformer.")}
        found["n_filters_time"], _, _, found["filter_length"] = state["embedding.conv1.weight"].shape
        found["embed_dim"], found["n_filters"], _, _ = state["embedding.projection.weight"].shape
        decoder_layers = count_blocks(state, "decoder.transformer.")
        return found | ({"decoder_layers": decoder_layers} if decoder_layers else {})

    def __init__(
        self,
        n_outputs=None,
        n_chans=None,
        chs_info=None,
        n_times=None,
        input_window_seconds=None,
        sfreq=None,
        embed_dim=256,
        n_layers=6,
        n_heads=8,
        drop_prob=0.5,
        n_filters_time=64,
        n_filters=128,
        filter_length=25,
        pool_length=75,
        pool_stride=15,
        decoder_layers=0,
        activation: type[nn.Module] = nn.ELU,
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
        if embed_dim % n_heads:
            raise ValueError(f"n_heads: embed_dim={embed_dim} cannot be split into {n_heads} heads of equal size.")
        self.mapping = dict(UPSTREAM_KEYS)
        self.ignorable_parts = () if decoder_layers else ("mask_token", "decoder")
        # Weights for a decoder have no part of the pre-training alone, braindecode's file no tensor that is never used.
        self.dispensable_parts = ("embedding.chan_embed", "mask_token", "decoder")
        self.shortest = filter_length + pool_length - 1
        self._check_length(self.n_times)
        sizes = (n_filters_time, n_filters, filter_length, pool_length, pool_stride)
        self.embedding = Tokenizer(self.n_chans, embed_dim, *sizes, drop_prob, activation)
        self.transformer = transformer(n_layers, embed_dim, n_heads, drop_prob)
        if decoder_layers:
            self.mask_token = nn.Parameter(torch.randn(1, 1, embed_dim))
            blocks = transformer(decoder_layers, embed_dim, n_heads, drop_prob)
            self.decoder = nn.Sequential(OrderedDict(transformer=blocks))  # named as in the published state dict
        self.final_layer = nn.Linear(embed_dim, self.n_outputs)

    def forward(self, x):
        """Score the classes of each trial: (batch, n_chans, n_times) to (batch, n_outputs)."""
        return self.final_layer(self.features(x))

    def features(self, x):
        """Mean over the encoded tokens, which is classified: (batch, n_chans, n_times) to (batch, embed_dim)."""
        return self.transformer(self.tokens(x)).mean(dim=1)

    def tokens(self, x):
        """Tokens in the order of time: (batch, n_chans, n_times) to (batch, n_tokens, embed_dim)."""
        self._check_length(x.shape[-1])
        return self.embedding(x)

    def reconstruct(self, tokens, masked):
        """Classify trials with masked tokens, and reconstruct all tokens.

        Shapes: ``tokens`` (batch, n_tokens, embed_dim), ``masked`` (batch, n_tokens); gives (batch, n_outputs) and
        (batch, n_tokens, embed_dim).
        """
        encoded = self.transformer(torch.where(masked[..., None], self.mask_token.to(tokens.dtype), tokens))
        return self.final_layer(encoded.mean(dim=1)), self.decoder(encoded)

    def _check_length(self, n_times):
        if n_times < self.shortest:
            raise ValueError(f"n_times: MIRepNet needs at least {self.shortest} samples a trial, got {n_times}.")


class MaskedModel(nn.Module):
    """MIRepNet with a share of its tokens masked (None masks and reconstructs nothing).

    In evaluation the same tokens are masked every time, and the random state does not change.
    """

    def __init__(self, network, mask_ratio, detach_target, reconstruct="masked"):
        super().__init__()
        self.network, self.mask_ratio, self.detach_target = network, mask_ratio, detach_target
        self.reconstruct = reconstruct

    def forward(self, x):
        """Give the reconstruction error of each trial, NaN without one, and the logits: (batch, 1 + n_classes)."""
        if self.mask_ratio is None:
            return F.pad(self.network(x), (1, 0), value=float("nan"))
        tokens = self.network.tokens(x)
        generator = None if self.training else torch.Generator().manual_seed(0)
        masked = draw_mask(*tokens.shape[:2], self.mask_ratio, generator).to(tokens.device)
        logits, reconstructed = self.network.reconstruct(tokens, masked)
        target = tokens.detach() if self.detach_target else tokens
        return torch.cat([self._errors(target, reconstructed, masked)[:, None], logits], dim=1)

    def _errors(self, tokens, reconstructed, masked):
        """Squared error of each trial, the mean over its masked tokens or all; every trial has equally many."""
        square = (reconstructed.float() - tokens.float()).square().sum(dim=-1)
        counted = masked.float() if self.reconstruct == "masked" else torch.ones_like(square)
        return (square * counted).sum(dim=1) / counted.sum(dim=1)


class HybridLoss(nn.Module):
    r"""Squared reconstruction error of the masked tokens plus cross-entropy of the classes, of a `MaskedModel`.

    .. math:: L = w_{rec} \frac{1}{|M|} \sum_{i \in M} \lVert \hat t_i - t_i \rVert^2 + w_{cls} L_{CE}

    with :math:`M` the masked tokens, equally many of every trial, or all. Trials without label count in the first term
    only.
    """

    parts = ("rec_loss", "cls_loss", "acc")

    def __init__(self, rec_weight=1.0, cls_weight=1.0):
        super().__init__()
        self.rec_weight, self.cls_weight = rec_weight, cls_weight

    def counts(self, y):
        """Count the trials and those with a label, for batches that are computed in parts."""
        return torch.stack([torch.ones_like(y).sum(), (y != UNLABELLED).sum()])

    def forward(self, outputs, y, counts=None):
        """Mean loss of a batch.

        Shapes: ``outputs`` (batch, 1 + n_classes), ``y`` (batch,), ``counts`` (2,); gives ().
        """
        errors, logits = outputs[:, 0], outputs[:, 1:]
        loss, (n_trials, n_labelled) = logits.new_zeros(()), self.counts(y) if counts is None else counts
        if self.rec_weight:
            loss = loss + self.rec_weight * errors.sum() / n_trials
        if self.cls_weight:
            # nothing is read back from a GPU, which would wait for it
            entropy = F.cross_entropy(logits.float(), y, ignore_index=UNLABELLED, reduction="sum")
            loss = loss + self.cls_weight * entropy / n_labelled.clamp(min=1)
        return loss

    def per_trial(self, outputs, y):
        """Both errors of each trial, and 1 or 0 for its class, Tensor (batch, 3); NaN where there is none."""
        errors, logits = outputs[:, 0], outputs[:, 1:]
        entropy = F.cross_entropy(logits.float(), y, ignore_index=UNLABELLED, reduction="none")
        right = (logits.argmax(dim=1) == y).float()
        of_class = torch.stack([entropy, right], dim=1).masked_fill((y == UNLABELLED)[:, None], float("nan"))
        return torch.cat([errors[:, None], of_class], dim=1)
