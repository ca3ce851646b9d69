"""Exact fast forms of layers, put in place and taken out again without a change of the weights."""

import functools
import inspect

from torch import nn

from .dropout import attend_by_heads, drop, has_attention_form, has_dropout_form
from .front_end import find_runs, merged_conv, run_sequential
from .layers import average_pool, convolve, has_average_form, has_convolution_form
from .private_names import is_braindecode, set_one_channel

_KERNELS = ("auto", "fast", "plain")


def accelerate(module, kernels="auto"):
    """Put exact fast forms in place of a module's slow layers, or take them out again; gives the module.

    The forms compute the same numbers in less time, and with right gradients where PyTorch's are wrong (see
    :func:`skeeg.networks.exact_convolutions`). Parameters, buffers, state dict, training dynamics, the values that
    dropout drops and ``isinstance`` stay as they are; for ``torch.jit.script`` take the forms out again.

    Parameters
    ----------
    module : torch.nn.Module
        Any network, changed in place. A submodule that brings its own fast form, as a method ``skeeg_fast_forward``
        beside ``forward``, uses it.
    kernels : {"auto", "fast", "plain"}
        ``"auto"`` uses a fast form where it is faster for the given shape, ``"fast"`` wherever there is one,
        ``"plain"`` restores the module's own layers.

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
        for name in ("forward", "_skeeg_form", "_skeeg_runs", "_skeeg_kernels") if "_skeeg_form" in vars(layer) else ():
            vars(layer).pop(name, None)
        form = next((name for name, (has_form, _) in _FORMS.items() if has_form(layer)), None)
        # The merged layer of braindecode cannot run with one electrode, so there the fast form is the only one.
        if form is None or kernels == "plain" and not _has_one_electrode(layer):
            continue
        if form == "sequential":
            layer._skeeg_runs, layer._skeeg_kernels = find_runs(layer), kernels
        forward = functools.partial(_forward, layer)
        forward.__signature__ = inspect.signature(layer.forward)  # torch.export reads the names of the inputs
        layer._skeeg_form, layer.forward = form, forward
    return module


def _forward(layer, *inputs, **named):
    """Output of a layer by its fast form, or by its own forward pass where that is better."""
    y = _FORMS[layer._skeeg_form][1](layer, *inputs, **named)
    return type(layer).forward(layer, *inputs, **named) if y is None else y


def _has_one_electrode(layer):
    return is_braindecode(layer, "CombinedConv") and layer.conv_spat.kernel_size[1] == 1


def _compute_combined(layer, x):
    """Output (batch, filters, times', 1) of a ``CombinedConv`` for (batch, 1, times, electrodes)."""
    time, space = layer.conv_time, layer.conv_spat
    x = x[:, 0].transpose(1, 2)
    return merged_conv(x, time.weight, time.bias, space.weight, space.bias).unsqueeze(-1)


def _holds_runs(layer):
    return isinstance(layer, nn.Sequential) and type(layer).forward is nn.Sequential.forward and bool(find_runs(layer))


# By name: whether a plain layer has the form, and its output by the form, or None where the layer's own is better.
_FORMS = {
    "own": (lambda layer: hasattr(layer, "skeeg_fast_forward"), lambda layer, *x: layer.skeeg_fast_forward(*x)),
    "combined": (lambda layer: is_braindecode(layer, "CombinedConv"), _compute_combined),
    "sequential": (_holds_runs, lambda layer, x: run_sequential(layer, layer._skeeg_runs, x, layer._skeeg_kernels)),
    "convolution": (has_convolution_form, convolve),
    "average": (has_average_form, average_pool),
    "dropout": (has_dropout_form, drop),
    "attention": (has_attention_form, attend_by_heads),
}


def one_electrode(cls, arguments):
    """Build braindecode's ``ShallowFBCSPNet`` or ``Deep4Net`` for one electrode, which their own layer cannot run.

    Its first layer has its fast form. ``arguments`` are those of the constructor.
    """
    module = cls(**{**arguments, "n_chans": 2, "chs_info": None})
    old = module.conv_time_spat.conv_spat
    new = nn.Conv2d(old.in_channels, old.out_channels, (1, 1), bias=old.bias is not None)
    nn.init.xavier_uniform_(new.weight)
    if new.bias is not None:
        nn.init.zeros_(new.bias)
    module.conv_time_spat.conv_spat = new
    set_one_channel(module, arguments.get("chs_info"))
    return accelerate(module)
