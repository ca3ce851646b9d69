"""The same network, sooner: exact fast forms of layers, put in and taken out without touching the weights."""

from __future__ import annotations

import functools
from collections.abc import Callable

from torch import Tensor, nn
from torch.nn.utils import parametrize

from skeeg.networks.attention import attend_by_heads, has_attention_form
from skeeg.networks.convolutions import merged_conv
from skeeg.networks.dropout import drop, has_dropout_form
from skeeg.networks.front_ends import find_runs, run_sequential
from skeeg.networks.layer_forms import (
    average_pool,
    convolve,
    has_average_form,
    has_convolution_form,
    has_rearrangement_form,
    rearrange,
)

__all__ = ["accelerate", "one_electrode"]

_KERNELS = ("auto", "fast", "plain")


def accelerate(module: nn.Module, kernels: str = "auto") -> nn.Module:
    """Put exact fast forms in place of a module's slow layers, or take them out again.

    Layers that compute the same numbers sooner, and with right gradients where PyTorch's are wrong (see
    :func:`skeeg.networks.exact_convolutions`), take over the forward pass. Parameters, buffers, state dict, training
    dynamics, what dropout drops and ``isinstance`` stay as they are; for ``torch.jit.script`` take the forms out again.

    Parameters
    ----------
    module : torch.nn.Module
        Any network, skeeg's, braindecode's or the user's own. It is changed in place. A part that brings its own fast
        form, as a method ``skeeg_fast_forward`` beside ``forward``, uses it.
    kernels : {"auto", "fast", "plain"}
        ``"auto"`` uses a fast form where it pays at the shape at hand, ``"fast"`` wherever there is one, ``"plain"``
        restores the module's own layers.

    Returns
    -------
    torch.nn.Module
        The same object.

    Examples
    --------
    >>> import torch
    >>> from skeeg.networks import build_network
    >>> module = build_network("ShallowFBCSPNet", n_chans=16, n_times=300, n_outputs=2).eval()
    >>> x = torch.randn(4, 16, 300)
    >>> plain = module(x)
    >>> torch.allclose(accelerate(module)(x), plain, atol=1e-5)
    True
    """
    if kernels not in _KERNELS:
        raise ValueError(f"kernels must be one of {', '.join(map(repr, _KERNELS))}, got {kernels!r}")
    for layer in module.modules():
        _restore(layer)
        form = _form_of(layer)
        # The merged layer of braindecode cannot run at one electrode, so there the fast form is the only one.
        if form is not None and (kernels != "plain" or _is_single(layer)):
            _speed_up(layer, form, kernels)
    return module


class _Fast:
    """What the fast form of a layer class adds to it."""

    _skeeg_plain: type[nn.Module]
    _skeeg_form: str

    def __reduce_ex__(self, protocol):
        """Pickle by the plain class and the name of the form, since the class itself is made at run time."""
        reduced = super().__reduce_ex__(protocol)
        return (_new_fast, (self._skeeg_plain, self._skeeg_form), *reduced[2:])


def _new_fast(plain: type[nn.Module], form: str) -> nn.Module:
    cls = _fast_class(plain, form)
    return cls.__new__(cls)


@functools.cache
def _fast_class(plain: type[nn.Module], form: str) -> type[nn.Module]:
    return _make_class(plain, form, (_Fast, plain), {"__doc__": None})


def _make_class(plain: type[nn.Module], form: str, bases: tuple[type, ...], body: dict) -> type[nn.Module]:
    names = {"__module__": plain.__module__, "__qualname__": plain.__qualname__}
    ours = {"_skeeg_plain": plain, "_skeeg_form": form, "forward": _FORWARDS[form]}
    return type(plain)(plain.__name__, bases, {**body, **names, **ours})


def _speed_up(layer: nn.Module, form: str, kernels: str) -> None:
    """Give a layer the class of its fast form."""
    if form == "sequential":
        layer._skeeg_runs, layer._skeeg_kernels = find_runs(layer), kernels
    plain = type(layer)
    if not parametrize.is_parametrized(layer):
        layer.__class__ = _fast_class(plain, form)
        return
    # torch gives every parametrized layer a class of its own and takes it off again by its first base: make its like.
    body = {name: value for name, value in vars(plain).items() if name not in ("__dict__", "__weakref__")}
    layer.__class__ = _make_class(plain, form, (*plain.__bases__, _Fast), body)


def _restore(layer: nn.Module) -> None:
    if isinstance(layer, _Fast):
        layer.__class__ = layer._skeeg_plain
        for name in ("_skeeg_runs", "_skeeg_kernels"):
            vars(layer).pop(name, None)


def _form_of(layer: nn.Module) -> str | None:
    """Name of the fast form that a plain layer has."""
    if hasattr(type(layer), "skeeg_fast_forward"):
        return "own"
    if _is_combined(layer):
        return "combined"
    if isinstance(layer, nn.Sequential) and type(layer).forward is nn.Sequential.forward and find_runs(layer):
        return "sequential"
    if has_convolution_form(layer):
        return "convolution"
    if has_average_form(layer):
        return "average"
    if has_dropout_form(layer):
        return "dropout"
    if has_attention_form(layer):
        return "attention"
    return "rearrangement" if has_rearrangement_form(layer) else None


def _is_combined(layer: nn.Module) -> bool:
    """Whether a layer is braindecode's merged temporal and spatial convolution (told by name: no need to import it)."""
    return type(layer).__name__ == "CombinedConv" and type(layer).__module__.startswith("braindecode.")


def _is_single(layer: nn.Module) -> bool:
    return _is_combined(layer) and layer.conv_spat.kernel_size[1] == 1


def _combined_forward(self, x: Tensor) -> Tensor:
    """Fast form of braindecode's ``CombinedConv``: (batch, 1, times, electrodes) to (batch, filters, times', 1)."""
    time, space = self.conv_time, self.conv_spat
    x = x[:, 0].transpose(1, 2)
    return merged_conv(x, time.weight, time.bias, space.weight, space.bias).unsqueeze(-1)


def _average_forward(self, x: Tensor) -> Tensor:
    """Fast form of an ``AvgPool2d`` whose windows overlap by whole steps."""
    return average_pool(self, x) if x.device.type == "cpu" else nn.AvgPool2d.forward(self, x)


def _sequential_forward(self, x: Tensor) -> Tensor:
    """Fast form of a ``Sequential`` that holds layers which can be computed together."""
    return run_sequential(self, self._skeeg_runs, x, self._skeeg_kernels)


def _convolution_forward(self, x: Tensor) -> Tensor:
    """Fast form of a ``Conv2d``, where its shape has one."""
    y = convolve(self, x)
    return self._conv_forward(x, self.weight, self.bias) if y is None else y


def _rearrangement_forward(self, x: Tensor) -> Tensor:
    """Fast form of an einops ``Rearrange`` that only moves axes."""
    y = rearrange(self, x)
    return self._skeeg_plain.forward(self, x) if y is None else y


def _dropout_forward(self, x: Tensor) -> Tensor:
    """Fast form of a ``Dropout``, where it pays."""
    y = drop(self, x)
    return nn.Dropout.forward(self, x) if y is None else y


def _attention_forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Fast form of braindecode's ``MultiHeadAttention``."""
    y = attend_by_heads(self, x, mask)
    return self._skeeg_plain.forward(self, x, mask) if y is None else y


def _own_forward(self, *inputs):
    """Fast form that a module brings itself, as a method ``skeeg_fast_forward``."""
    return self.skeeg_fast_forward(*inputs)


_FORWARDS: dict[str, Callable] = {
    "own": _own_forward,
    "combined": _combined_forward,
    "sequential": _sequential_forward,
    "convolution": _convolution_forward,
    "average": _average_forward,
    "dropout": _dropout_forward,
    "attention": _attention_forward,
    "rearrangement": _rearrangement_forward,
}


def one_electrode(cls: type[nn.Module], arguments: dict) -> nn.Module:
    """Build braindecode's ``ShallowFBCSPNet`` or ``Deep4Net`` for one electrode, which their own layer cannot run.

    Parameters
    ----------
    cls : type
        One of the two classes.
    arguments : dict
        Arguments of the constructor, with ``n_chans=1``.

    Returns
    -------
    torch.nn.Module
        The network, with the fast form of its first layer.
    """
    module = cls(**{**arguments, "n_chans": 2, "chs_info": None})
    old = module.conv_time_spat.conv_spat
    new = nn.Conv2d(old.in_channels, old.out_channels, (1, 1), bias=old.bias is not None)
    nn.init.xavier_uniform_(new.weight)
    if new.bias is not None:
        nn.init.zeros_(new.bias)
    module.conv_time_spat.conv_spat = new
    module._n_chans = module._n_chans_for_jit = 1
    module._chs_info = arguments.get("chs_info")
    for config in (getattr(module, "_braindecode_init_kwargs", {}), getattr(module, "_hub_mixin_config", None) or {}):
        config.update({name: arguments.get(name) for name in ("n_chans", "chs_info") if name in config})
    return accelerate(module)
