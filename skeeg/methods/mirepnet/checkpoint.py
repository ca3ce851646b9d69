"""Published weights of MIRepNet in each of their layouts: read, loaded with a report, and written again."""

import json
import os

import torch
from torch import nn

from ...training import CheckpointReport, read_state_dict
from ...training.checkpoints import rename_keys
from ...weights import PREFIX, find_weights
from .network import UPSTREAM_KEYS

HEAD = "final_layer"
PRETRAINING_ONLY = ("mask_token", "decoder.")
"""Parts of the published state dict that fine-tuning has no use for."""
UNUSED = "embedding.chan_embed.weight"
"""A tensor that is published but enters no computation."""


_HEADER = "skeeg weights"


def describe(source):
    """Read what a checkpoint says of itself.

    Parameters
    ----------
    source : str or path-like
        As for `load_weights`.

    Returns
    -------
    description : dict
        ``network_params``, ``sfreq``, ``classes``, and maybe settings for ``finetuning``; empty where it says nothing,
        as the published file does.

    Examples
    --------
    >>> from skeeg.methods.mirepnet.checkpoint import describe
    >>> describe("skeeg:mirepnet-small")["sfreq"]
    100.0
    """
    if str(source).startswith(PREFIX):
        weights = find_weights(source)
        return {name: getattr(weights, name) for name in ("network_params", "sfreq", "classes", "finetuning")}
    if not str(source).endswith(".safetensors") or not os.path.isfile(source):
        return {}
    from safetensors import safe_open

    with safe_open(source, framework="pt") as file:
        return json.loads((file.metadata() or {}).get(_HEADER, "{}"))


def describe_network(spec, classes):
    """Give what a checkpoint is to say of itself, as `describe` reads it.

    Parameters
    ----------
    spec : dict
        The ``network_spec_`` of a fitted estimator.
    classes : ndarray, shape (n_classes,)
        Label of each output.

    Returns
    -------
    metadata : dict of str to str
        Text to keep in the file.
    """
    sizes = {name: value for name, value in spec["parameters"].items() if name != "decoder_layers"}
    return {_HEADER: json.dumps({"network_params": sizes, "sfreq": spec["sfreq"], "classes": classes.tolist()})}


def load_weights(module, source, classes=None, wanted=None):
    """Load a checkpoint of any layout into a network.

    Upstream keeps the pre-trained last layer without a word wherever the number of classes happens to agree. Here it is
    left out unless the labels of its outputs are named, and then it is loaded label by label.

    Parameters
    ----------
    module : MIRepNet
        Network, changed in place.
    source : str, path-like or dict of str to Tensor
        A file (``.pth``, ``.pt``, ``.safetensors``), ``"hub:owner/repository/file"``, or tensors: the published layout
        of 143 tensors, that of the fine-tuning script (110), or braindecode's (109).
    classes : sequence or None
        Label of each output of the checkpoint; None leaves its last layer out.
    wanted : sequence or None
        Label of each output of the network. Outputs whose label the checkpoint does not know stay as they are.

    Returns
    -------
    report : CheckpointReport
        What was loaded and what was not. A checkpoint that lacks part of the network, or is of another size, is an
        error.

    Examples
    --------
    >>> from skeeg.methods.mirepnet import MIRepNet
    >>> from skeeg.methods.mirepnet.checkpoint import load_weights
    >>> tiny = {"n_chans": 3, "n_times": 200, "embed_dim": 8, "n_layers": 1}
    >>> published = MIRepNet(3, decoder_layers=2, **tiny).state_dict()
    >>> print(load_weights(MIRepNet(2, **tiny), published))
    28 tensors matched
    """
    state = rename_keys(source if isinstance(source, dict) else read_state_dict(source), UPSTREAM_KEYS)
    own = module.state_dict()
    head = {name: state.pop(name) for name in (f"{HEAD}.weight", f"{HEAD}.bias") if name in state}
    if not hasattr(module, "decoder"):
        state = {name: value for name, value in state.items() if not name.startswith(PRETRAINING_ONLY)}
    body = {name for name in own if not name.startswith(f"{HEAD}.")}
    fits = {name: value for name, value in state.items() if name in body and value.shape == own[name].shape}
    report = CheckpointReport(
        matched=tuple(fits),
        missing=tuple(name for name in body if name not in state and name != UNUSED),
        unexpected=tuple(name for name in state if name not in body),
        reshaped=tuple(name for name in state if name in body and name not in fits),
    )
    if report.missing or report.reshaped:
        raise ValueError(
            f"checkpoint: does not fit this network, whose sizes, layers and electrodes must be its own ({report})."
        )
    if classes is not None:
        fits |= _match_head(head, own, classes, wanted)
    nn.Module.load_state_dict(module, own | fits)
    return report


def _match_head(head, own, classes, wanted):
    """Last layer of the network with the rows of the checkpoint whose labels it has."""
    weight, bias = (f"{HEAD}.{part}" for part in ("weight", "bias"))
    n_outputs = len(head[bias]) if bias in head else 0
    if len(classes) != n_outputs:
        raise ValueError(f"checkpoint_classes: got {len(classes)} labels for a checkpoint with {n_outputs} outputs.")
    classes, filled = list(classes), {name: own[name].clone() for name in (weight, bias)}
    for row, label in enumerate(wanted if wanted is not None else classes):
        if label in classes:
            for name in (weight, bias):
                filled[name][row] = head[name][classes.index(label)].to(own[name].dtype)
    return filled


def published_state(module):
    """State of a network by the published names.

    Parameters
    ----------
    module : MIRepNet
        Network: 143 tensors with a decoder of two blocks, 110 without, six encoder blocks each.

    Returns
    -------
    state : dict of str to Tensor
        On the CPU.
    """
    state = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    return rename_keys(state, {new: old for old, new in UPSTREAM_KEYS.items()})


def save_weights(module, path, metadata=None):
    """Write the weights of a network in the published layout.

    Parameters
    ----------
    module : MIRepNet
        Network.
    path : str or path-like
        A ``.safetensors`` file, or a ``.pth`` file as upstream's own script reads it.
    metadata : dict of str to str or None
        Text to keep in a ``.safetensors`` file.

    Examples
    --------
    >>> import os, tempfile
    >>> from skeeg.methods.mirepnet import MIRepNet
    >>> from skeeg.methods.mirepnet.checkpoint import load_weights, save_weights
    >>> net = MIRepNet(3, 3, n_times=200, embed_dim=8, n_layers=1, decoder_layers=2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_weights(net, os.path.join(folder, "weights.pth"))
    ...     print(load_weights(net, os.path.join(folder, "weights.pth")))
    61 tensors matched
    """
    if str(path).endswith(".safetensors"):
        from safetensors.torch import save_file

        save_file(published_state(module), path, metadata=metadata)
    else:
        torch.save(published_state(module), path)
