"""Attention whose dropout costs a CPU less."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from skeeg.networks.dropout import drop_values, keep_as_torch, pays
from skeeg.networks.layer_forms import watched

__all__ = ["attend", "attend_by_heads", "has_attention_form"]


def attend(query: Tensor, key: Tensor, value: Tensor, drop_prob: float = 0.0) -> Tensor:
    r"""Attention, as :func:`torch.nn.functional.scaled_dot_product_attention`, sooner where it drops on a CPU.

    .. math:: \mathrm{dropout}\left(\mathrm{softmax}(d^{-1/2} \, q k^\top)\right) v

    With dropout torch has no fused kernel on a CPU, and its formula spends much time on drawing what is kept and on
    looking for rows that a mask has emptied, of which finite scores have none.

    Parameters
    ----------
    query : Tensor, shape (batch, heads, n, d)
        Queries.
    key : Tensor, shape (batch, heads, m, d)
        Keys.
    value : Tensor, shape (batch, heads, m, e)
        Values.
    drop_prob : float
        Share of the weights that is dropped.

    Returns
    -------
    Tensor, shape (batch, heads, n, e)
        Values, averaged.

    Examples
    --------
    >>> import torch
    >>> q = torch.randn(4, 8, 50, 16)
    >>> state = torch.get_rng_state()
    >>> y = attend(q, q, q, 0.5)
    >>> torch.set_rng_state(state)
    >>> torch.allclose(y, torch.nn.functional.scaled_dot_product_attention(q, q, q, dropout_p=0.5), atol=1e-5)
    True
    """
    if not pays(query, math.prod(query.shape[:-1]) * key.shape[-2], drop_prob):
        return F.scaled_dot_product_attention(query, key, value, dropout_p=drop_prob)
    weights = (query * query.shape[-1] ** -0.5 @ key.mT).softmax(-1)
    return drop_values(weights, drop_prob, keep_as_torch) @ value


def has_attention_form(layer: nn.Module) -> bool:
    """Whether a layer is braindecode's multi-head attention (told by name: no need to import it)."""
    return type(layer).__name__ == "MultiHeadAttention" and type(layer).__module__ == "braindecode.modules.attention"


def attend_by_heads(layer: nn.Module, x: Tensor, mask: Tensor | None = None) -> Tensor | None:
    """Output of braindecode's multi-head attention by :func:`attend`, or None where its own is to be used.

    Parameters
    ----------
    layer : braindecode.modules.MultiHeadAttention
        A layer for which :func:`has_attention_form` holds.
    x : Tensor, shape (batch, n_tokens, size)
        Its input.
    mask : Tensor or None
        Its second input.

    Returns
    -------
    Tensor or None, shape (batch, n_tokens, size)
        What the layer gives, from the same random state.
    """
    if mask is not None or x.ndim != 3 or watched(layer.rearrange_stack, layer.rearrange_unstack):
        return None
    q, k, v = (
        part(x).unflatten(2, (layer.num_heads, -1)).transpose(1, 2)
        for part in (layer.queries, layer.keys, layer.values)
    )
    attended = attend(q, k, v, layer.att_drop if layer.training else 0.0)
    return layer.projection(attended.transpose(1, 2).flatten(2))
