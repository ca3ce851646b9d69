"""Weights of MIRepNet in each of the published layouts: reading, loading with a report, writing."""

import torch

from ...training import load_checkpoint
from ...training.checkpoints import read_weights, rename_keys, write_weights
from ...training.sizes import read_sizes, settle_sizes
from .network import UPSTREAM_KEYS, MIRepNet

PUBLISHED = {
    "embed_dim": 256, "n_layers": 6, "n_heads": 8, "n_filters_time": 64, "n_filters": 128, "filter_length": 25,
    "pool_length": 75, "pool_stride": 15,
}  # fmt: skip
"""Published sizes; heads and pools do not follow from the shapes of tensors."""


def read_start(checkpoint, given):
    """Weights to start from, their description, and the sizes of the network that takes them."""
    preset = PUBLISHED | ({"decoder_layers": 2} if "decoder_layers" in given else {})
    free = {name: value for name, value in given.items() if name not in preset}  # no sizes: dropout, form of computing
    given = {name: value for name, value in given.items() if name in preset}
    state, description = ({}, {}) if checkpoint is None else read_weights(checkpoint)
    found = read_sizes(MIRepNet, state, description, checkpoint) if state else {}
    described = description.get("network_params", {})
    dropout = {"drop_prob": described["drop_prob"]} if "drop_prob" in described else {}
    return state, description, settle_sizes(given, found, preset) | dropout | free


def load_weights(module, source, classes=None, wanted=None):
    """Load a checkpoint of any layout into a network.

    The last layer is left out unless the labels of its outputs are known; then it is loaded label by label. The
    published code keeps it wherever the number of classes agrees.

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
        Label of each output of the network. Outputs of other labels are left as they are.

    Returns
    -------
    report : CheckpointReport
        Tensors that were loaded, missing, unexpected. A checkpoint that lacks part of the network, or is of another
        size, is an error.

    Examples
    --------
    >>> from skeeg.methods.mirepnet import MIRepNet
    >>> from skeeg.methods.mirepnet.checkpoint import load_weights
    >>> tiny = {"n_chans": 3, "n_times": 200, "embed_dim": 8, "n_layers": 1}
    >>> published = MIRepNet(3, decoder_layers=2, **tiny).state_dict()
    >>> print(load_weights(MIRepNet(2, **tiny), published))
    28 tensors matched; 2 missing: final_layer.weight, final_layer.bias
    """
    return load_checkpoint(module, source, classes=classes, wanted=wanted)


def published_state(module):
    """State dict of a `MIRepNet` by the published names, on the CPU: 143 tensors with a decoder, 110 without."""
    state = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    return rename_keys(state, {new: old for old, new in UPSTREAM_KEYS.items()})


def save_weights(module, path, description=None):
    """Write the weights of a network in the published layout.

    Parameters
    ----------
    module : MIRepNet
        Network.
    path : str or path-like
        A ``.safetensors`` file, or a ``.pth`` file as the published script reads it.
    description : dict or None
        Description kept in a ``.safetensors`` file, see `skeeg.training.checkpoints.write_weights`.

    Examples
    --------
    >>> import os, tempfile
    >>> from skeeg.methods.mirepnet import MIRepNet
    >>> from skeeg.methods.mirepnet.checkpoint import load_weights, save_weights
    >>> net = MIRepNet(3, 3, n_times=200, embed_dim=8, n_layers=1, decoder_layers=2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_weights(net, os.path.join(folder, "weights.pth"))
    ...     print(load_weights(net, os.path.join(folder, "weights.pth")))
    61 tensors matched; 2 missing: final_layer.weight, final_layer.bias
    """
    if str(path).endswith(".safetensors"):
        write_weights(path, published_state(module), description or {})
    else:
        torch.save(published_state(module), path)
