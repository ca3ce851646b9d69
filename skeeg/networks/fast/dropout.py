"""Dropout, and attention with dropout, in less time on a CPU: with torch's own draws, or with a quarter of them."""

import functools
import math

import torch
import torch.nn.functional as F
from torch import nn

from .private_names import has_hooks, is_braindecode, is_traced

_BLOCK = 2**16  # random integers drawn at a time: they stay in the processor's cache until they are compared
_MIN_VALUES = 20_000  # below, torch's own is as fast: within a network a call finds the cache cold


class Dropout(nn.Dropout):
    """Dropout that draws 16 random bits for each value, where torch's draws 64: on a CPU it is faster.

    The share dropped is ``p`` to within 1/131072. On a GPU, and in evaluation, it is torch's own.
    """

    def forward(self, x):
        """Drop values of x (any shape) and scale the others up."""
        if not self.training or not 0 < self.p < 1 or x.device.type != "cpu":
            return super().forward(x)
        return drop_values(x, self.p, keep_by_16_bits)


def drop_values(x, drop_prob, keep):
    """Drop values and scale the others up, on the CPU; ``keep(x, drop_prob)`` draws what is kept."""
    return x * keep(x, drop_prob).to(x.dtype).div_(1 - drop_prob)


def keep_by_16_bits(x, drop_prob):
    """Draw what dropout keeps by 16 random bits for each value: a tensor of bool like x, the share within 1/131072."""
    integers = torch.empty(-(-x.numel() // 4), dtype=torch.int64, device=x.device).random_(-(2**63), None)
    bits = integers.view(torch.int16)[: x.numel()].view(x.shape)  # uniform from -2**15 to 2**15 - 1
    return bits >= round(drop_prob * 2**16) - 2**15


def keep_as_torch(x, drop_prob):
    """Draw what dropout keeps, the same values as torch's own from the same random state, in less time.

    ``bernoulli_`` makes a number in double precision of 64 random bits and compares it with the share, value by value.
    Here the bits are drawn by the block and compared as integers, which takes a third of the time.
    """
    if _torch_compares_integers():
        return _compare_integers(torch.empty_like(x, dtype=torch.bool), 1 - drop_prob)
    return torch.empty_like(x).bernoulli_(1 - drop_prob).bool()  # other draws may depend on the type


def _compare_integers(kept, share, generator=None):
    """Fill, in order of memory, with whether the lowest 53 of 64 random bits, as a fraction, are below the share."""
    least, flat = math.ceil(share * 2**53), kept.as_strided((kept.numel(),), (1,))
    integers = flat.new_empty(min(len(flat), _BLOCK), dtype=torch.int64)
    for part in flat.split(_BLOCK):
        drawn = integers[: len(part)].random_(-(2**63), None, generator=generator)
        torch.lt(drawn.bitwise_and_(2**53 - 1), least, out=part)
    return kept


@functools.cache
def _torch_compares_integers():
    """Whether ``bernoulli_`` draws like :func:`_compare_integers` here; on Intel's processors it uses their library."""
    found = []
    for fill, dtype in ((_compare_integers, torch.bool), (torch.Tensor.bernoulli_, torch.float32)):
        generator = torch.Generator("cpu").manual_seed(0)
        kept = fill(torch.empty(1000, dtype=dtype, device="cpu"), 0.3, generator=generator)
        found.append((kept.bool(), generator.get_state()))
    return all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def pays(x, n_values, drop_prob):
    """Whether so many values made of x may be dropped here, and faster than by torch."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # sizes are not settled then
        return False
    if n_values < _MIN_VALUES or not 0 < drop_prob < 1 or x.device.type != "cpu":
        return False
    # Torch widens shorter numbers within its formula of attention.
    return x.dtype in (torch.float32, torch.float64) and not is_traced(x)


def has_dropout_form(layer):
    """Whether a layer is torch's dropout of single values."""
    return type(layer) is nn.Dropout


def drop(layer, x):
    """Output of a dropout layer by :func:`keep_as_torch`, or None where torch's own is to be used."""
    if not layer.training or not pays(x, x.numel(), layer.p) or layer.inplace:
        return None
    return drop_values(x, layer.p, keep_as_torch)


def attend(query, key, value, drop_prob=0.0):
    r"""Attention of (batch, heads, n, d) queries, as :func:`torch.nn.functional.scaled_dot_product_attention`.

    .. math:: \mathrm{dropout}\left(\mathrm{softmax}(d^{-1/2} \, q k^\top)\right) v

    With dropout torch has no fused kernel on a CPU, and its formula spends much time on random numbers and on the
    search for rows without a finite score, which only a mask can cause.
    """
    if not pays(query, math.prod(query.shape[:-1]) * key.shape[-2], drop_prob):
        return F.scaled_dot_product_attention(query, key, value, dropout_p=drop_prob)
    weights = (query * query.shape[-1] ** -0.5 @ key.mT).softmax(-1)
    return drop_values(weights, drop_prob, keep_as_torch) @ value


def has_attention_form(layer):
    """Whether a layer is braindecode's multi-head attention."""
    return is_braindecode(layer, "MultiHeadAttention")


def attend_by_heads(layer, x, mask=None):
    """Output of braindecode's multi-head attention for x (batch, n_tokens, size), or None for its own."""
    if mask is not None or x.ndim != 3 or has_hooks(layer.rearrange_stack, layer.rearrange_unstack):
        return None
    q, k, v = (
        part(x).unflatten(2, (layer.num_heads, -1)).transpose(1, 2)
        for part in (layer.queries, layer.keys, layer.values)
    )
    attended = attend(q, k, v, layer.att_drop if layer.training else 0.0)
    return layer.projection(attended.transpose(1, 2).flatten(2))
