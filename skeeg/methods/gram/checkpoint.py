"""Weights of Gram: read without executing anything, and written in the published layout."""

import dataclasses

import torch

from ...networks.seeding import seeded
from ...training import checkpoints, load_checkpoint
from ...training.checkpoints import published_state
from ...training.sizes import build_within, check_sizes, count_blocks
from .layers import SIZES, TOKENIZER_SIZES, Sizes, TokenizerSizes, choose_sizes
from .network import GramPretrainingNetwork
from .tokenizer_network import GramTokenizerNetwork

TOKENIZER = "vqgan."
"""Prefix of the names of the tokenizer's tensors in checkpoints of the second stage."""
_OWN = {  # names of sizes here, and in a published configuration
    "n_filters": "out_chans", "n_layers": "n_layer", "n_heads": "n_head", "fused": "out_indices",
    "layer_scale": "layer_scale_init_values", "decoder_dim": "decoder_n_embd", "decoder_layers": "decoder_n_layer",
    "decoder_heads": "decoder_n_head", "drop_prob": "resid_pdrop", "drop_path": "drop_path_rate",
}  # fmt: skip


def read_weights(path):
    """Tensors and configuration (or {}) of a checkpoint of either kind; upstream's objects are read as plain values."""
    state, description = checkpoints.read_weights(path)
    config = _plain(description.get("cf", description.get("network_params")))
    check_sizes(config, state)
    return state, config


def read_tokenizer(source):
    """Tokenizer of a checkpoint of either stage, a `GramTokenizerNetwork` in evaluation mode."""
    state, config = read_weights(source)
    inside = {name[len(TOKENIZER) :]: value for name, value in state.items() if name.startswith(TOKENIZER)}
    state = inside or state
    if "quantize.embedding.weight" not in state:
        raise ValueError(f"checkpoint: {source} holds no tokenizer.")
    told = config.get("tokenizer")
    sizes = _tokenizer_sizes(state) if told is None else _sizes_told(TOKENIZER_SIZES, told, file=source)
    with seeded(0):  # the initial weights are overwritten; the caller's random state must not move
        network = build_within(lambda: GramTokenizerNetwork(sizes), vars(sizes), state)
    load_checkpoint(network, state, file=source)
    return network.eval()


def read_sizes(state, config, file="it"):
    """`Sizes` of a checkpoint of the second stage: its own, else the named ones with its filters and blocks."""
    if "tconv.conv1.bias" not in state:
        raise ValueError(f"checkpoint: {file} is not one of the second stage, with an encoder.")
    if "sizes" in config:
        return _sizes_told(SIZES, config["sizes"], file=file)
    told = {ours: config[theirs] for ours, theirs in _OWN.items() if theirs in config}
    told |= {"hidden_token": "learned"} if "mask_token" in state else {}
    found = {"n_filters": len(state["tconv.conv1.bias"]), "n_layers": count_blocks(state, "blocks.")}
    for name, sizes in SIZES.items():
        if found == {"n_filters": sizes.n_filters, "n_layers": sizes.n_layers}:
            return _sizes_told(SIZES, name, told, file)
    raise ValueError(f"checkpoint: {file} is of no published size ({found}), and says nothing of its own.")


def _tokenizer_sizes(state):
    """Sizes of a tokenizer whose file has none; heads are those published."""
    n_codes, code_dim = state["quantize.embedding.weight"].shape
    parts = {"n_layers": "encoder.blocks.", "decoder_layers": "decoder.blocks."}
    layers = {name: count_blocks(state, prefix) for name, prefix in parts.items()}
    return choose_sizes(TOKENIZER_SIZES, "base", {"n_codes": n_codes, "code_dim": code_dim, **layers})


def _sizes_told(table, size, changes=None, file="it"):
    """Sizes by a file, where they mean anything."""
    try:
        return choose_sizes(table, size, changes)
    except (TypeError, ValueError) as error:
        raise ValueError(f"checkpoint: the sizes of {file} mean nothing ({error})") from error


def save_weights(module, path):
    """Write the weights of a network in the published layout, and its sizes: ``.safetensors``, or ``.pth``.

    Examples
    --------
    >>> import os, tempfile
    >>> from skeeg.methods.gram import GramTokenizerNetwork
    >>> from skeeg.methods.gram.checkpoint import read_tokenizer, save_weights
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_weights(GramTokenizerNetwork("tiny"), os.path.join(folder, "weights.pth"))
    ...     read_tokenizer(os.path.join(folder, "weights.pth")).sizes.n_codes
    512
    """
    is_tokenizer = isinstance(module, GramTokenizerNetwork)
    config = {"tokenizer" if is_tokenizer else "sizes": dataclasses.asdict(module.sizes)}
    if isinstance(module, GramPretrainingNetwork):
        config["tokenizer"] = dataclasses.asdict(module.vqgan.sizes)
    if str(path).endswith(".safetensors"):
        description = {"network": type(module).__name__, "network_params": config}
        checkpoints.write_weights(path, published_state(module), description)
    else:
        torch.save({"model": published_state(module), "cf": config}, path)


def _plain(config):
    """Give a configuration as plain values, without sizes that are not known."""
    config = {str(name): value for name, value in config.items()} if isinstance(config, dict) else {}
    for kind, cls in (("sizes", Sizes), ("tokenizer", TokenizerSizes)):
        if isinstance(config.get(kind), dict):
            known = {field.name for field in dataclasses.fields(cls)}
            config[kind] = {name: value for name, value in config[kind].items() if name in known}
    return config
