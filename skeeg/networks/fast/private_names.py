"""Private names of torch and braindecode that the fast forms use; used nowhere else in ``networks/fast``.

Known to work with torch 2.11 and braindecode 1.8. ``setup.cfg`` bounds both, for another version may rename them.
"""

import torch
from torch import nn


def in_transform():
    """Whether a transform of ``torch.func`` is active, which cannot see into backward passes written by hand."""
    return torch._C._are_functorch_transforms_active()


def is_traced(x):
    """Whether operations on x are recorded: by a transform, a dispatch mode, or because x is not a plain tensor."""
    if in_transform() or torch._C._len_torch_dispatch_stack() > 0:
        return True
    return type(x) not in (torch.Tensor, nn.Parameter) or x.layout is not torch.strided


def has_hooks(*layers):
    """Whether a hook is registered on one of these layers, so that each must run by itself."""
    return torch.nn.modules.module._has_any_global_hook() or any(
        layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks
        for layer in layers
    )


def computes_conv2d(cls):
    """Whether layers of a class compute what `torch.nn.Conv2d` does."""
    return (
        issubclass(cls, nn.Conv2d) and cls.forward is nn.Conv2d.forward and cls._conv_forward is nn.Conv2d._conv_forward
    )


def fix_parameters(layer):
    """Replace the parametrizations of a layer by the values they give."""
    values = {name: value().detach().clone() for name, value in layer.parametrizations.items()}
    # torch.nn.utils.parametrize.remove_parametrizations changes the class, which a copy shares with its original.
    layer.__class__ = type(layer).__bases__[0]
    del layer._modules["parametrizations"]
    for name, value in values.items():
        layer.register_parameter(name, nn.Parameter(value, requires_grad=False))


def is_braindecode(layer, name):
    """Whether a layer is of this class of braindecode (by name: importing braindecode takes seconds)."""
    return type(layer).__name__ == name and type(layer).__module__.startswith("braindecode.modules.")


def set_one_channel(module, chs_info):
    """Let a network of braindecode that was built for two channels say that it has one."""
    module._n_chans = module._n_chans_for_jit = 1
    module._chs_info = chs_info
    # The second is there only if huggingface_hub is installed.
    for config in (module._braindecode_init_kwargs, vars(module).get("_hub_mixin_config") or {}):
        config.update({name: value for name, value in (("n_chans", 1), ("chs_info", chs_info)) if name in config})
