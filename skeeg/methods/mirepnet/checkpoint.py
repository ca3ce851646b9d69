"""Weights of MIRepNet in each of the published layouts: sizes, names of the tensors, writing."""

import torch

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
    given = {name: value for name, value in given.items() if name in preset and value is not None}
    state, description = ({}, {}) if checkpoint is None else read_weights(checkpoint)
    found = read_sizes(MIRepNet, state, description, checkpoint) if state else {}
    found = {name: value for name, value in found.items() if name in preset}
    described = description.get("network_params", {})
    dropout = {"drop_prob": described["drop_prob"]} if "drop_prob" in described else {}
    return state, description, settle_sizes(given, found, preset) | dropout | free


def published_state(module):
    """State dict of a `MIRepNet` by the published names, on the CPU: 143 tensors with a decoder, 110 without."""
    state = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    return rename_keys(state, {new: old for old, new in UPSTREAM_KEYS.items()})


def save_weights(module, path, description=None):
    """Write the weights of a network in the published layout: ``.pth``, or ``.safetensors`` with a description.

    Examples
    --------
    >>> import os, tempfile
    >>> from skeeg.methods.mirepnet import MIRepNet, save_weights
    >>> from skeeg.training import load_checkpoint
    >>> net = MIRepNet(3, 3, n_times=200, embed_dim=8, n_layers=1, decoder_layers=2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_weights(net, os.path.join(folder, "weights.pth"))
    ...     print(load_checkpoint(net, os.path.join(folder, "weights.pth")))
    61 tensors matched; 2 missing: final_layer.weight, final_layer.bias
    """
    if str(path).endswith(".safetensors"):
        write_weights(path, published_state(module), description or {})
    else:
        torch.save(published_state(module), path)
