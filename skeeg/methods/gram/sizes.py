"""The sizes Gram is published in, and a small one for a laptop."""

import dataclasses
import math

PATCH_LENGTH = 200
"""Samples of a patch: one second at 200 Hz."""
MAX_SECONDS = 16
"""Patches of one electrode that the temporal code has places for."""
STRIDE = 8
"""Samples between the columns of a patch's convolution."""


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Sizes of the masked autoencoder and of the classifier made of its encoder.

    Parameters
    ----------
    n_filters : int
        Filters of a patch's convolution; an embedding has one value for each of them and each column.
    n_layers, n_heads : int
        Transformer blocks of the encoder, and heads of each.
    fused : tuple of int
        Blocks, from 0, whose outputs are fused; the last is the last block.
    layer_scale : float
        Start of the factors that each block's branches are multiplied by.
    decoder_dim, decoder_layers, decoder_heads : int
        The same of the decoder.
    patch_length : int
        Samples of a patch.
    drop_prob, drop_path : float
        Dropout, and the share of trials that skip the last block; it rises linearly from block to block.
    max_seconds : int
        Patches of one electrode in a window.

    Examples
    --------
    >>> from skeeg.methods.gram.sizes import SIZES
    >>> {name: size.dim for name, size in SIZES.items()}
    {'tiny': 100, 'base': 200, 'medium': 400, 'large': 800}
    """

    n_filters: int = 8
    n_layers: int = 12
    n_heads: int = 10
    fused: tuple = (0, 2, 4, 6, 8, 11)
    layer_scale: float = 0.1
    decoder_dim: int = 200
    decoder_layers: int = 8
    decoder_heads: int = 10
    patch_length: int = PATCH_LENGTH
    drop_prob: float = 0.05
    drop_path: float = 0.1
    max_seconds: int = MAX_SECONDS

    def __post_init__(self):
        """Take a list for a tuple, as files have it."""
        object.__setattr__(self, "fused", tuple(self.fused))

    @property
    def dim(self):
        """Size of an embedding."""
        return self.n_filters * math.ceil(self.patch_length / STRIDE)


@dataclasses.dataclass(frozen=True)
class TokenizerSizes:
    """Sizes of the tokenizer.

    Parameters
    ----------
    n_codes, code_dim : int
        Base classes, and numbers of each.
    n_layers, n_heads, decoder_layers, decoder_heads : int
        Transformer blocks and heads of the encoder and of the decoder.
    patch_length, drop_prob, max_seconds
        See `Sizes`.
    """

    n_codes: int = 8196
    code_dim: int = 32
    n_layers: int = 12
    n_heads: int = 10
    decoder_layers: int = 12
    decoder_heads: int = 10
    patch_length: int = PATCH_LENGTH
    drop_prob: float = 0.1
    max_seconds: int = MAX_SECONDS

    n_filters = 8  # with 200 samples a patch an embedding then is as long as a patch, which the decoder needs

    @property
    def dim(self):
        """Size of an embedding."""
        return self.n_filters * math.ceil(self.patch_length / STRIDE)


SIZES = {
    "tiny": Sizes(
        n_filters=4, n_layers=4, n_heads=5, fused=(0, 1, 2, 3), decoder_dim=100, decoder_layers=2, decoder_heads=5
    ),
    "base": Sizes(),
    "medium": Sizes(16, 24, 16, (0, 4, 8, 12, 16, 20, 23), 1e-5),
    "large": Sizes(32, 32, 16, (0, 4, 8, 12, 16, 20, 24, 28, 31), 1e-5),
}
TOKENIZER_SIZES = {
    "tiny": TokenizerSizes(n_codes=512, n_layers=2, decoder_layers=2),
    "base": TokenizerSizes(),
    "medium": TokenizerSizes(),
    "large": TokenizerSizes(),
}


def choose(table, size, changes=None):
    """Sizes by name, some of them changed.

    Parameters
    ----------
    table : dict
        `SIZES` or `TOKENIZER_SIZES`.
    size : str, Sizes, TokenizerSizes or dict
        Name, or the sizes themselves.
    changes : dict or None
        Fields to change; those that are None stay. Without ``fused``, another number of blocks fuses six of them,
        evenly spread, or all; heads that do not divide an embedding of another size become fewer.

    Returns
    -------
    sizes : Sizes or TokenizerSizes
        Checked.

    Examples
    --------
    >>> from skeeg.methods.gram.sizes import SIZES, choose
    >>> choose(SIZES, "base", {"n_layers": 3}).fused
    (0, 1, 2)
    """
    if isinstance(size, str) and size not in table:
        raise ValueError(f"size: got {size!r}, expected one of {', '.join(map(repr, table))}.")
    sizes = table[size] if isinstance(size, str) else type(table["base"])(**size) if isinstance(size, dict) else size
    given = {name: value for name, value in (changes or {}).items() if value is not None}
    if given.get("n_layers", sizes.n_layers) != sizes.n_layers and hasattr(sizes, "fused"):
        last, kept = given["n_layers"] - 1, min(given["n_layers"], 6)
        spread = [round(i * last / max(kept - 1, 1)) for i in range(kept)] if last else [0]
        given.setdefault("fused", tuple(spread))
    sizes = dataclasses.replace(sizes, **given)
    if given:
        dims = {"n_heads": sizes.dim, "decoder_heads": getattr(sizes, "decoder_dim", sizes.dim)}
        fitting = {name: _fewer(dim, getattr(sizes, name)) for name, dim in dims.items() if name not in given}
        sizes = dataclasses.replace(sizes, **fitting)
    _check(sizes)
    return sizes


_TRAINED_WITH = ("drop_prob", "drop_path")  # what a checkpoint was trained with is no size of it


def settle(table, size, changes, found=None, names=None):
    """Sizes of a network that may start from a checkpoint.

    Parameters
    ----------
    table, size, changes
        As for `choose`; None as size is the checkpoint's, else ``"base"``.
    found : Sizes, TokenizerSizes or None
        Sizes of the checkpoint. One that was asked for and differs is an error that names both.
    names : tuple of str or None
        Sizes that matter; None takes all.

    Returns
    -------
    sizes : Sizes or TokenizerSizes
        Checked.
    """
    asked = choose(table, size or "base", changes)
    if found is None:
        return asked
    given = [name for name, value in changes.items() if value is not None] if size is None else vars(asked)
    for name in given:
        wanted, has = getattr(asked, name), getattr(found, name)
        if wanted != has and name not in (*_TRAINED_WITH, "layer_scale") and name in (names or vars(asked)):
            raise ValueError(f"{name}: got {wanted!r} (size={size!r}), the checkpoint has {has!r}; None takes that.")
    return dataclasses.replace(found, **{name: getattr(asked, name) for name in _TRAINED_WITH if hasattr(found, name)})


def is_tiny(estimator):
    """Whether an estimator's network is for a laptop: by its name, or by the depth of its checkpoint."""
    if estimator.size is not None or estimator.checkpoint is None:
        return estimator.size == "tiny"
    spec = getattr(estimator, "network_spec_", None)
    return spec is not None and spec["parameters"]["size"]["n_layers"] <= SIZES["tiny"].n_layers


def _fewer(dim, heads):
    """Largest number of heads, up to a number, that divides an embedding."""
    return max(count for count in range(1, max(heads, 1) + 1) if dim % count == 0)


def _check(sizes):
    """Raise a ValueError for sizes that do not go together."""
    for name, lowest in (("patch_length", 1), ("n_layers", 1), ("decoder_layers", 0), ("n_codes", 1), ("code_dim", 1)):
        if getattr(sizes, name, lowest) < lowest:
            raise ValueError(f"{name}: got {getattr(sizes, name)}, expected {lowest} or more.")
    if sizes.n_filters < 4 or sizes.n_filters % 4:
        raise ValueError(f"n_filters: got {sizes.n_filters}, expected a multiple of the 4 groups of the normalisation.")
    for name in ("drop_prob", "drop_path"):
        if not 0 <= getattr(sizes, name, 0) < 1:
            raise ValueError(f"{name}: got {getattr(sizes, name)}, expected 0 or more and less than 1.")
    decoder_dim = getattr(sizes, "decoder_dim", sizes.dim)
    for dim, heads, name in (
        (sizes.dim, sizes.n_heads, "n_heads"),
        (decoder_dim, sizes.decoder_heads, "decoder_heads"),
    ):
        if heads < 1 or dim % heads:
            raise ValueError(f"{name}: an embedding of {dim} cannot be split into {heads} heads of equal size.")
    fused = getattr(sizes, "fused", (sizes.n_layers - 1,))
    if not fused or list(fused) != sorted(set(fused)) or fused[-1] != sizes.n_layers - 1 or fused[0] < 0:
        raise ValueError(f"fused: got {fused}, expected rising blocks that end with the last, {sizes.n_layers - 1}.")
