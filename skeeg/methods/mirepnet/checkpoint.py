"""Weights that MIRepNet starts from, and the sizes of the network that takes them."""

from ...training.checkpoints import read_weights
from ...training.sizes import read_sizes, settle_sizes
from .network import MIRepNet

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
