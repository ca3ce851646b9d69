"""Sizes of Gram's networks, and their layers, named as in the published state dicts."""

import dataclasses
import functools
import math
from numbers import Integral, Real

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.utils._param_validation import Interval, StrOptions
from torch import nn

from ...base import check_values, refuse_unknown
from ...montage import canonical_name
from ...networks import channel_info
from ...networks.fast.dropout import Dropout
from ...training import sizes as network_sizes
from .preprocessing import COLLECTION, MAX_SECONDS, RATE, SCALE, too_short

PATCH_LENGTH = 200
"""Samples of a patch: one second at 200 Hz."""
STRIDE = 8
"""Samples between the columns of a patch's convolution."""
HEAD_RADIUS = 0.099
"""Mean distance of the electrodes of the 10-5 system from their origin, in metres."""
_LENGTH_SCALE = 0.5  # of the Gaussian whose features encode the positions, in head radii


@dataclasses.dataclass(frozen=True, kw_only=True)
class _PatchSizes:
    """What the sizes of all networks have."""

    patch_length: int = PATCH_LENGTH
    sfreq: float | None = RATE
    scale: float = SCALE
    positions: str = "index"

    @property
    def dim(self):
        """Size of an embedding."""
        return self.n_filters * math.ceil(self.patch_length / STRIDE)

    @property
    def heads(self):
        """Size of the embedding that the heads of each name divide."""
        return {"n_heads": self.dim, "decoder_heads": vars(self).get("decoder_dim", self.dim)}


@dataclasses.dataclass(frozen=True)
class Sizes(_PatchSizes):
    """Sizes of the masked autoencoder, and of the classifier that has its encoder."""

    n_filters: int = 8
    n_layers: int = 12
    n_heads: int = 10
    fused: tuple = (0, 2, 4, 6, 8, 11)
    layer_scale: float = 0.1
    decoder_dim: int = 200
    decoder_layers: int = 8
    decoder_heads: int = 10
    drop_prob: float = 0.05
    drop_path: float = 0.1
    hidden_token: str = "class"
    wave_head: bool = False

    def __post_init__(self):
        """Take a list for a tuple, as files have it."""
        object.__setattr__(self, "fused", tuple(self.fused))


@dataclasses.dataclass(frozen=True)
class TokenizerSizes(_PatchSizes):
    """Sizes of the tokenizer."""

    n_codes: int = 8196
    code_dim: int = 32
    n_layers: int = 12
    n_heads: int = 10
    decoder_layers: int = 12
    decoder_heads: int = 10
    drop_prob: float = 0.1

    n_filters = 8  # with 200 samples a patch an embedding then is as long as a patch, which the decoder needs


_TINY = {"n_filters": 4, "n_layers": 4, "n_heads": 5, "fused": (0, 1, 2, 3)}
SIZES = {
    "tiny": Sizes(**_TINY, decoder_dim=100, decoder_layers=2, decoder_heads=5),
    "base": Sizes(),
    "medium": Sizes(16, 24, 16, (0, 4, 8, 12, 16, 20, 23), 1e-5),
    "large": Sizes(32, 32, 16, (0, 4, 8, 12, 16, 20, 24, 28, 31), 1e-5),
}
TOKENIZER_SIZES = {
    "tiny": TokenizerSizes(n_codes=512, n_layers=2, decoder_layers=2),
    **dict.fromkeys(("base", "medium", "large"), TokenizerSizes()),
}
SHARED = ("patch_length", "sfreq", "scale")  # sizes that both stages have alike
_TRAINED_WITH = {"drop_prob", "drop_path", "layer_scale"}  # settings of the training, not sizes of a checkpoint
_OF_A_NAME = (  # sizes that differ between the named ones
    "n_filters", "n_layers", "n_heads", "fused", "decoder_dim", "decoder_layers", "decoder_heads", "n_codes",
)  # fmt: skip


def choose_sizes(table, size, changes=None):
    """Sizes by name, some of them changed; the numbers of heads and the fused blocks follow where not given."""
    if isinstance(size, str) and size not in table:
        raise ValueError(f"size: got {size!r}, expected one of {', '.join(map(repr, table))}.")
    sizes = table[size] if isinstance(size, str) else type(table["base"])(**size) if isinstance(size, dict) else size
    given, known = dict(changes or {}), vars(sizes)
    refuse_unknown("network_params", given, known)
    if "fused" in known and given.get("n_layers", sizes.n_layers) != sizes.n_layers:
        last, kept = given["n_layers"] - 1, min(given["n_layers"], 6)
        spread = [round(i * last / max(kept - 1, 1)) for i in range(kept)] if last else [0]
        given.setdefault("fused", tuple(spread))
    sizes = dataclasses.replace(sizes, **given)
    if given:
        fitting = {name: _fewer(dim, vars(sizes)[name]) for name, dim in sizes.heads.items() if name not in given}
        sizes = dataclasses.replace(sizes, **fitting)
    _check(sizes)
    return sizes


def settle_sizes(table, size, changes, found=None, relevant=None):
    """Sizes of a network that may start from a checkpoint, whose own ones are ``found``."""
    asked = choose_sizes(table, size or "base", changes)
    if found is None:
        return asked
    names = {*(changes or {}), *(() if size is None else _OF_A_NAME)} & {*(relevant or vars(asked))}
    given = {name: value for name, value in vars(asked).items() if name in names - _TRAINED_WITH}
    kept = {name: value for name, value in vars(found).items() if name not in ("drop_prob", "drop_path")}
    return dataclasses.replace(found, **network_sizes.settle_sizes(given, kept, vars(asked)))


def check_alike(tokenizer, sizes):
    """Refuse a tokenizer whose patches, rate or unit are others than those of the masked autoencoder."""
    for name in SHARED:
        its, own = vars(tokenizer)[name], vars(sizes)[name]
        if its != own:
            raise ValueError(f"tokenizer: its {name} is {its}, the autoencoder's {own}; give both the same.")


def _fewer(dim, heads):
    """Largest number of heads, up to a number, that divides an embedding."""
    return max(count for count in range(1, max(heads, 1) + 1) if dim % count == 0)


_CONSTRAINTS = {
    **dict.fromkeys(("patch_length", "n_layers", "n_codes", "code_dim"), [Interval(Integral, 1, None, closed="left")]),
    **dict.fromkeys(("drop_prob", "drop_path"), [Interval(Real, 0, 1, closed="left")]),
    "decoder_layers": [Interval(Integral, 0, None, closed="left")],
    "scale": [Interval(Real, 0, None, closed="neither")],
    "positions": [StrOptions({"index", "geometry"})],
    "hidden_token": [StrOptions({"class", "learned"})],
}


def _check(sizes):
    """Raise a ValueError for sizes that do not go together."""
    values = vars(sizes)
    check_values(_CONSTRAINTS, values)
    if sizes.n_filters < 4 or sizes.n_filters % 4:
        raise ValueError(f"n_filters: got {sizes.n_filters}, expected a multiple of the 4 groups of the normalisation.")
    for name, dim in sizes.heads.items():
        if values[name] < 1 or dim % values[name]:
            raise ValueError(f"{name}: an embedding of {dim} cannot be split into {values[name]} heads of equal size.")
    fused = values.get("fused", (sizes.n_layers - 1,))
    if not fused or list(fused) != sorted(set(fused)) or fused[-1] != sizes.n_layers - 1 or fused[0] < 0:
        raise ValueError(f"fused: got {fused}, expected rising blocks that end with the last, {sizes.n_layers - 1}.")


# Encodings of time and channel


def sincos_table(n_positions, dim, base=1000.0):
    """Make the fixed encoding of positions (1, n_positions, dim): sines, cosines; base 1000, as published."""
    rates = base ** (-torch.arange(math.ceil(dim / 2), dtype=torch.float64) / (dim / 2))
    return _interleaved(torch.arange(n_positions, dtype=torch.float64)[:, None] * rates, dim)


def geometry_table(dim):
    """Make the fixed encoding of the collection by positions on the head: random features of a Gaussian kernel."""
    points = electrode_positions()
    points = np.nan_to_num(points / np.linalg.norm(points, axis=1, keepdims=True))
    frequencies = torch.randn(3, math.ceil(dim / 2), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    table = _interleaved(torch.from_numpy(points) @ frequencies / _LENGTH_SCALE, dim)
    for i, name in enumerate(COLLECTION):
        if "-" in name:
            first, second = (COLLECTION.index(part) for part in name.split("-"))
            table[0, i] = table[0, first] - table[0, second]
    return table


def _interleaved(angles, dim):
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[None, :, :dim].float()


@functools.cache
def electrode_positions():
    """Positions of the collection in metres, shape (130, 3); NaN for bipolar derivations."""
    return np.array([info["loc"][:3] for info in channel_info([canonical_name(name) for name in COLLECTION])])


def frozen(table):
    """Make an encoding a parameter that is in the state dict and is not learned."""
    return nn.Parameter(table, requires_grad=False)


def channel_table(sizes, dim):
    """Frozen encoding of the channels of the collection, shape (1, 130, dim)."""
    return frozen(geometry_table(dim) if sizes.positions == "geometry" else sincos_table(len(COLLECTION), dim))


def token(*shape):
    """Make a learned token of a shape, drawn as published."""
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(*shape), std=0.02))


# Layers


class PatchConv(nn.Module):
    """Three convolutions over each patch; the normalisation runs over all patches, so that none may be padding."""

    def __init__(self, n_filters, activation=nn.GELU):
        super().__init__()
        self.activation = activation()
        self.conv1 = nn.Conv2d(1, n_filters, (1, 15), stride=(1, STRIDE), padding=(0, 7))
        self.conv2 = nn.Conv2d(n_filters, n_filters, (1, 3), padding=(0, 1))
        self.conv3 = nn.Conv2d(n_filters, n_filters, (1, 3), padding=(0, 1))
        self.norm1, self.norm2, self.norm3 = (nn.GroupNorm(4, n_filters) for _ in range(3))

    def forward(self, patches):
        """Embed patches."""
        x = patches[:, None]
        for conv, norm in ((self.conv1, self.norm1), (self.conv2, self.norm2), (self.conv3, self.norm3)):
            x = self.activation(norm(conv(x)))
        return x.permute(0, 2, 3, 1).flatten(2)


class GramAttention(nn.Module):
    """Multi-head attention over tokens (batch, n_tokens, dim), its four layers named as published."""

    def __init__(self, dim, n_heads, drop_prob):
        super().__init__()
        self.n_heads = n_heads
        self.key, self.query, self.value, self.proj = (nn.Linear(dim, dim) for _ in range(4))
        self.drop = Dropout(drop_prob)

    def forward(self, x):
        """Attend from every token to all."""
        q, k, v = (
            part(x).unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        attended = F.scaled_dot_product_attention(q, k, v, dropout_p=self.drop.p if self.training else 0.0)
        return self.drop(self.proj(attended.transpose(1, 2).flatten(2)))


class FeedForward(nn.Module):
    """Two linear layers on each token, four times as wide between them."""

    def __init__(self, dim, drop_prob, activation=nn.GELU):
        super().__init__()
        self.activation = activation()
        self.fc1, self.fc2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.drop = Dropout(drop_prob)

    def forward(self, x):
        """Map each token by itself."""
        return self.drop(self.fc2(self.activation(self.fc1(x))))


class Block(nn.Module):
    """Transformer block, normalised before each branch, which `layer_scale` weights and `drop_path` skips."""

    def __init__(self, dim, n_heads, drop_prob, layer_scale=None, drop_path=0.0, activation=nn.GELU):
        super().__init__()
        self.drop_path = drop_path
        self.ln1, self.ln2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn, self.mlp = GramAttention(dim, n_heads, drop_prob), FeedForward(dim, drop_prob, activation)
        self.gamma_1 = self.gamma_2 = None
        if layer_scale is not None:
            self.gamma_1, self.gamma_2 = (nn.Parameter(torch.full((dim,), float(layer_scale))) for _ in range(2))

    def forward(self, x):
        """Attend, then map each token."""
        x = x + self._branch(self.attn(self.ln1(x)), self.gamma_1)
        return x + self._branch(self.mlp(self.ln2(x)), self.gamma_2)

    def _branch(self, y, gamma):
        """Scale a branch, and skip it for some trials."""
        y = y if gamma is None else gamma * y
        if not self.training or not self.drop_path:
            return y
        kept = torch.rand(len(y), 1, 1, device=y.device) >= self.drop_path
        return y * (kept.to(y.dtype) / (1 - self.drop_path))


def blocks(n_layers, dim, n_heads, drop_prob, layer_scale=None, drop_path=0.0, activation=nn.GELU):
    """Make transformer blocks whose stochastic depth rises from 0 to `drop_path`."""
    shares = [drop_path * depth / max(n_layers - 1, 1) for depth in range(n_layers)]
    return nn.ModuleList(Block(dim, n_heads, drop_prob, layer_scale, share, activation) for share in shares)


@torch.no_grad()
def initialise(module, bound=2.0, convolutions=False):
    """Draw the weights as published: normal with a standard deviation of .02, truncated, smaller in later blocks."""
    kinds = (nn.Linear, nn.Conv2d) if convolutions else (nn.Linear,)
    for layer in module.modules():
        if isinstance(layer, kinds):
            nn.init.trunc_normal_(layer.weight, std=0.02, a=-bound, b=bound)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    for name, stack in module.named_modules():
        if isinstance(stack, nn.ModuleList) and name.endswith("blocks"):
            for depth, block in enumerate(stack, start=1):
                block.attn.proj.weight.div_(math.sqrt(2 * depth))
                block.mlp.fc2.weight.div_(math.sqrt(2 * depth))


# Patches


def to_patches(x, patch_length):
    """Cut trials (batch, n_chans, n_times) into whole patches (batch, n_seconds, n_chans, patch_length)."""
    n_seconds = x.shape[2] // patch_length
    if not n_seconds:
        raise ValueError(too_short(x.shape[2], patch_length))
    return x[:, :, : n_seconds * patch_length].unflatten(2, (n_seconds, patch_length)).transpose(1, 2)


def to_trials(patches):
    """Join patches (batch, n_seconds, n_chans, patch_length) to trials."""
    return patches.transpose(1, 2).flatten(2)


def as_indices(channels, device):
    """Make indices of the channels a tensor (n_chans,); of a batch, whose trials share them, of the first trial."""
    channels = torch.as_tensor(channels, dtype=torch.int64, device=device)
    return channels[0] if channels.ndim == 2 else channels


def check_window(patches, channels):
    """Raise a ValueError where a window is too long, or has other channels than indices."""
    if patches.shape[1] > MAX_SECONDS:
        raise ValueError(f"X: a window may have {MAX_SECONDS} patches an electrode, got {patches.shape[1]}.")
    if patches.shape[2] != len(channels):
        raise ValueError(f"channels: got {len(channels)} positions for {patches.shape[2]} electrodes.")
