"""Dropout that costs a CPU less: with torch's own draws, or with a quarter of them."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from skeeg.networks.layer_forms import followed

__all__ = ["Dropout", "drop", "drop_values", "has_dropout_form", "keep_as_torch", "keep_by_16_bits", "pays"]

_WORDS = 2**16  # drawn at a time: they stay in the processor's cache until they are compared
_FEW = 50_000  # values, below which torch's own is as quick: within a network a call finds the cache cold


class Dropout(nn.Dropout):
    """Dropout that draws 16 random bits a value, where torch's draws 64: on a CPU it is sooner.

    The share dropped is ``p`` to within 1/131072. On a GPU, and in evaluation, it is torch's own.

    Examples
    --------
    >>> import torch
    >>> from skeeg.networks.dropout import Dropout
    >>> sorted(Dropout(0.75)(torch.ones(1000)).unique().tolist())
    [0.0, 4.0]
    """

    def forward(self, x):
        """Drop values and scale the others up.

        Parameters
        ----------
        x : Tensor
            Any shape.

        Returns
        -------
        y : Tensor
            Same shape.
        """
        if not self.training or not 0 < self.p < 1 or x.device.type != "cpu":
            return super().forward(x)
        return drop_values(x, self.p, keep_by_16_bits)


def drop_values(x: Tensor, drop_prob: float, keep: Callable[[Tensor, float], Tensor]) -> Tensor:
    """Drop values and scale the others up, on the CPU.

    Parameters
    ----------
    x : Tensor
        Any shape.
    drop_prob : float
        Share that is dropped, more than 0 and less than 1.
    keep : callable
        Draws what is kept of a tensor, by the share dropped: :func:`keep_as_torch` or :func:`keep_by_16_bits`.

    Returns
    -------
    Tensor
        Same shape.
    """
    return x * keep(x, drop_prob).to(x.dtype).div_(1 - drop_prob)


def keep_by_16_bits(x: Tensor, drop_prob: float) -> Tensor:
    """Draw what dropout keeps by 16 random bits a value.

    Parameters
    ----------
    x : Tensor
        The values, on the CPU.
    drop_prob : float
        Share that is dropped, to within 1/131072.

    Returns
    -------
    Tensor of bool
        Same shape.

    Examples
    --------
    >>> import torch
    >>> keep_by_16_bits(torch.zeros(2, 3), 0.5).shape
    torch.Size([2, 3])
    """
    words = torch.empty(-(-x.numel() // 4), dtype=torch.int64, device=x.device).random_(-(2**63), None)
    bits = words.view(torch.int16)[: x.numel()].view(x.shape)  # uniform from -2**15 to 2**15 - 1
    return bits >= round(drop_prob * 2**16) - 2**15


def keep_as_torch(x: Tensor, drop_prob: float) -> Tensor:
    """Draw what dropout keeps, the same values as torch's own from the same random state, sooner.

    ``bernoulli_`` makes a number in double precision of 64 random bits and compares it with the share, value by value.
    Here the bits are drawn by the block and compared as integers, which takes a third of the time.

    Parameters
    ----------
    x : Tensor
        The values, on the CPU.
    drop_prob : float
        Share that is dropped.

    Returns
    -------
    Tensor of bool
        Same shape.

    Examples
    --------
    >>> import torch
    >>> state = torch.get_rng_state()
    >>> kept = keep_as_torch(torch.zeros(20, 500), 0.3)
    >>> torch.set_rng_state(state)
    >>> torch.equal(kept.float(), torch.empty(20, 500).bernoulli_(0.7))
    True
    """
    if _torch_compares_words():
        return _compare_words(torch.empty_like(x, dtype=torch.bool), 1 - drop_prob)
    return torch.empty_like(x).bernoulli_(1 - drop_prob).bool()  # other draws may depend on the type


def _compare_words(kept: Tensor, share: float, generator: torch.Generator | None = None) -> Tensor:
    """Fill, in order of memory, with whether the lowest 53 of 64 random bits, as a fraction, are below the share."""
    least, flat = math.ceil(share * 2**53), kept.as_strided((kept.numel(),), (1,))
    words = flat.new_empty(min(len(flat), _WORDS), dtype=torch.int64)
    for part in flat.split(_WORDS):
        drawn = words[: len(part)].random_(-(2**63), None, generator=generator)
        torch.lt(drawn.bitwise_and_(2**53 - 1), least, out=part)
    return kept


@functools.cache
def _torch_compares_words() -> bool:
    """Whether ``bernoulli_`` draws like :func:`_compare_words` here; on Intel's processors it asks their library."""
    found = []
    for fill, dtype in ((_compare_words, torch.bool), (Tensor.bernoulli_, torch.float32)):
        generator = torch.Generator("cpu").manual_seed(0)
        kept = fill(torch.empty(1000, dtype=dtype, device="cpu"), 0.3, generator=generator)
        found.append((kept.bool(), generator.get_state()))
    return all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def pays(x: Tensor, n_values: int, drop_prob: float) -> bool:
    """Whether so many values made of x may be dropped here, and sooner than by torch."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # sizes are not settled then
        return False
    if n_values < _FEW or not 0 < drop_prob < 1 or x.device.type != "cpu":
        return False
    # Torch widens shorter numbers within its formula of attention.
    return x.dtype in (torch.float32, torch.float64) and not followed(x)


def has_dropout_form(layer: nn.Module) -> bool:
    """Whether a layer is torch's dropout of single values."""
    return type(layer) is nn.Dropout


def drop(layer: nn.Dropout, x: Tensor) -> Tensor | None:
    """Output of a dropout layer by :func:`keep_as_torch`, or None where torch's own is to be used.

    Parameters
    ----------
    layer : torch.nn.Dropout
        A layer for which :func:`has_dropout_form` holds.
    x : Tensor
        Its input.

    Returns
    -------
    Tensor or None
        What the layer gives, from the same random state.
    """
    if not layer.training or not pays(x, x.numel(), layer.p) or layer.inplace:
        return None
    return drop_values(x, layer.p, keep_as_torch)
