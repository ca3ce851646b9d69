"""Sizes of a network by its checkpoint, and building within what the checkpoint's tensors account for."""

import inspect
import math

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from ..base import warn
from ..networks.registry import get_network
from ..storage import cause_of

_NO_SIZES = ("drop_prob", "activation")  # of a description: training, and ways to compute
_LARGEST = 2**20  # a size that no file need account for


def class_of(network):
    """Class of a network given by name, as a class or as an instance."""
    return type(network) if isinstance(network, torch.nn.Module) else get_network(network)


def read_sizes(cls, state, description, file="it"):
    """Sizes of a network by a checkpoint: by the shapes of its tensors, and by the description in a file of skeeg."""
    own = description.get("network", cls.__name__) == cls.__name__
    described = {k: v for k, v in description.get("network_params", {}).items() if own and k not in _NO_SIZES}
    _warn_of_classes(cls, description.get("named_classes"))
    try:
        found = cls.sizes_of(state) if hasattr(cls, "sizes_of") else {}
    except (KeyError, ValueError, IndexError) as error:
        cause = f"it lacks {error.args[0]}" if isinstance(error, KeyError) else cause_of(error)
        raise ValueError(f"checkpoint: {file} holds no {cls.__name__} ({cause}).") from error
    if not found and (odd := sorted(described.keys() - inspect.signature(cls.__init__).parameters.keys())):
        raise ValueError(f"checkpoint: {file} holds no {cls.__name__} (it describes {', '.join(odd)}).")
    return {name: tuple(value) if isinstance(value, list) else value for name, value in (described | found).items()}


def _warn_of_classes(cls, named):
    """Warn of classes in a config, such as an activation, that are not the network's own: names are not imported."""
    for name, text in named.items() if isinstance(named, dict) else ():
        parameter = inspect.signature(cls.__init__).parameters.get(name)
        own = parameter and parameter.default
        if inspect.isclass(own) and text != f"{own.__module__}.{own.__qualname__}":
            warn(f"checkpoint: its {name} is {text}, which is not imported; pass it in network_params.")


def settle_sizes(given, found, preset):
    """Sizes of a network: what the checkpoint has, else what was given, which must not differ, else preset ones."""
    for name in [name for name in given if name in found]:
        wanted = tuple(given[name]) if isinstance(given[name], list) else given[name]
        if wanted is not None and wanted != found[name]:
            raise ValueError(f"{name}: got {given[name]!r}, the checkpoint has {found[name]!r}; leave it out.")
    return preset | given | found


def count_blocks(state, prefix):
    """Count the blocks of a network: the numbers that follow a prefix in the names of its tensors."""
    return len({name.removeprefix(prefix).split(".")[0] for name in state if name.startswith(prefix)})


def check_sizes(description, tensors):
    """Refuse sizes that a file's tensors cannot account for; give how many numbers these have."""
    count = sum(math.prod(value.shape) for value in tensors.values())
    for name, number in _numbers(description):
        if abs(number) > max(count, _LARGEST):
            raise ValueError(f"{name}: {number} is more than {len(tensors)} tensors of {count} numbers account for.")
    return count


def _numbers(value, name=""):
    """Integers of nested values, with the names they are found under."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield from _numbers(one, str(key))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _numbers(one, name)
    elif isinstance(value, int | float):
        yield name, value


def build_within(build, description, tensors):
    """Build the network that a file describes, unless it would be larger than the file's own tensors.

    Sizes are compared before anything is built, and each operation of the constructor runs first on torch's meta
    device, which has shapes only.
    """
    count = check_sizes(description, tensors)
    with _Limited(8 * count * 4 + 2**26, 100 * len(tensors) + 10_000):
        return build()


class _Limited(TorchDispatchMode):
    """Refuse operations whose result is larger than ``most`` bytes, and more than ``calls`` of them."""

    def __init__(self, most, calls):
        super().__init__()
        self.most, self.calls = most, calls

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs, self.calls = kwargs or {}, self.calls - 1
        if self.calls < 0 or _result_bytes(func, args, kwargs) > self.most:
            raise ValueError(f"sizes: the network takes more than the {self.most} bytes that its tensors account for.")
        return func(*args, **kwargs)


def _result_bytes(func, args, kwargs):
    """Bytes that an operation would reserve; 0 for one of which torch's meta device cannot say it."""
    if func._schema.is_mutable and "resize" not in func._schema.name:
        return 0
    if any(argument.name == "device" for argument in func._schema.arguments):
        kwargs = {**kwargs, "device": "meta"}
    try:
        args, kwargs = tree_map_only(torch.Tensor, lambda one: one.to("meta"), (args, kwargs))
        made = tree_leaves(func(*args, **kwargs))
    except Exception:  # it needs the numbers, or has no such form
        return 0
    return max((one.nbytes for one in made if isinstance(one, torch.Tensor)), default=0)
