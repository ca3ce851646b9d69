"""Published weights: read without executing anything, loaded with a report of what fitted."""

import dataclasses
import pathlib

import torch

from ..weights import PREFIX, locate

_NESTS = ("state_dict", "model_state_dict", "model", "module")
_HUB = "hub:"
_PUBLISHED = ("bendr", "biot", "cbramod", "eegpt", "labram")  # networks of little use without their published weights


@dataclasses.dataclass(frozen=True)
class CheckpointReport:
    """What a checkpoint brought.

    Attributes
    ----------
    matched : tuple of str
        Loaded tensors.
    missing : tuple of str
        Tensors of the network that the checkpoint does not hold.
    unexpected : tuple of str
        Tensors of the checkpoint that the network does not have.
    reshaped : tuple of str
        Tensors of another shape, not loaded.
    """

    matched: tuple = ()
    missing: tuple = ()
    unexpected: tuple = ()
    reshaped: tuple = ()

    def __str__(self):
        """Count what fitted and name the first of what did not."""
        lines = [f"{len(self.matched)} tensors matched"]
        for what in ("missing", "unexpected", "reshaped"):
            names = getattr(self, what)
            if names:
                lines.append(f"{len(names)} {what}: {', '.join(names[:4])}{', ...' if len(names) > 4 else ''}")
        return "; ".join(lines)


def read_state_dict(path):
    """Tensors of a ``.safetensors``, ``.pt`` or ``.pth`` file; a pickle that is more than tensors is refused.

    Parameters
    ----------
    path : str or path-like
        Checkpoint, ``"skeeg:NAME"`` for weights that ship with the package, or a file of the Hugging Face hub as
        ``"hub:owner/repository/file"``.

    Returns
    -------
    state : dict of str to Tensor
        On the CPU.
    """
    if str(path).startswith(PREFIX):
        path = locate(path)
    path = pathlib.Path(fetch(path) if str(path).startswith(_HUB) else path)
    if not path.is_file():
        raise FileNotFoundError(f"checkpoint: there is no file {path}.")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"checkpoint: {path} is not a safetensors file: {error}") from error
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler's own error types are private
        raise ValueError(f"checkpoint: {path} could not be read as plain tensors: {error}") from error
    while isinstance(state, dict) and (
        nest := next((name for name in _NESTS if isinstance(state.get(name), dict)), None)
    ):
        state = state[nest]
    if not isinstance(state, dict) or not any(isinstance(value, torch.Tensor) for value in state.values()):
        raise ValueError(f"checkpoint: {path} holds no tensors by name.")
    return {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}


def fetch(reference):
    """Fetch a file of the Hugging Face hub, once; later calls find it in the hub's cache.

    Parameters
    ----------
    reference : str
        ``"hub:owner/repository/file"``.

    Returns
    -------
    path : str
        Local file.
    """
    owner, _, rest = reference.removeprefix(_HUB).partition("/")
    repository, _, file = rest.partition("/")
    if not (owner and repository and file):
        raise ValueError(f"checkpoint: expected '{_HUB}owner/repository/file', got {reference!r}.")
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise ImportError("checkpoint: files of the hub need huggingface_hub: pip install skeeg[hub].") from error
    return hf_hub_download(f"{owner}/{repository}", file)


def has_published_weights(network):
    """Whether a network is meant to start from published weights.

    Parameters
    ----------
    network : class
        Network.

    Returns
    -------
    published : bool
        True for the generalist networks of braindecode and their interpolating variants.
    """
    return network.__name__.lower().removeprefix("interpolated") in _PUBLISHED


def load_checkpoint(module, source, *, head="final_layer", keep_head=False):
    """Load what fits of a checkpoint into a network.

    Parameters
    ----------
    module : torch.nn.Module
        Network; its class may have a ``mapping`` from the checkpoint's names to its own.
    source : str, path-like or dict of str to Tensor
        Checkpoint.
    head : str
        Name of the last layer.
    keep_head : bool
        Whether to load the last layer too; its classes are seldom one's own.

    Returns
    -------
    report : CheckpointReport
        What was loaded and what was not. Nothing loaded at all is an error.
    """
    state = source if isinstance(source, dict) else read_state_dict(source)
    state = rename_keys(state, getattr(module, "mapping", None) or {})
    own = module.state_dict()
    if not keep_head:
        state = {name: value for name, value in state.items() if not _inside(name, head)}
    fits = {name: value for name, value in state.items() if name in own and value.shape == own[name].shape}
    report = CheckpointReport(
        matched=tuple(fits),
        missing=tuple(name for name in own if name not in state),
        unexpected=tuple(name for name in state if name not in own),
        reshaped=tuple(name for name in state if name in own and name not in fits),
    )
    if not fits:
        raise ValueError(f"checkpoint: no tensor fits {type(module).__name__} ({report}).")
    torch.nn.Module.load_state_dict(module, own | fits)  # past a class's own renaming: names are ours by now
    return report


def rename_keys(state, mapping):
    """Rename tensors by whole names or by leading parts of them.

    Parameters
    ----------
    state : dict of str to Tensor
        Checkpoint.
    mapping : dict of str to str
        New name, or new leading part, of each old one.

    Returns
    -------
    renamed : dict of str to Tensor
        Same tensors.

    Examples
    --------
    >>> from skeeg.training.checkpoints import rename_keys
    >>> rename_keys({"clshead.weight": 1, "body.bias": 2}, {"clshead": "final_layer"})
    {'final_layer.weight': 1, 'body.bias': 2}
    """
    renamed = {}
    for name, value in state.items():
        old = next((old for old in sorted(mapping, key=len, reverse=True) if _inside(name, old)), None)
        renamed[name if old is None else mapping[old] + name[len(old) :]] = value
    return renamed


def _inside(name, part):
    """Whether a tensor belongs to a part of the network."""
    return name == part or name.startswith(f"{part.rstrip('.')}.")
