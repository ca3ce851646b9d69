import dataclasses
import hashlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from skeeg.methods.gram import COLLECTION, Gram, GramPretrainingNetwork, GramTokenizerNetwork, channel_indices
from skeeg.methods.gram.layers import (
    SIZES,
    TOKENIZER_SIZES,
    GramAttention,
    choose_sizes,
    electrode_positions,
    geometry_table,
    sincos_table,
    to_patches,
)
from skeeg.methods.gram.preprocessing import window_starts

NAMES = "FP1 FP2 F3 F4 C3 C4 P3 P4 O1 O2 F7 F8 T7 T8 P7 P8 CZ".split()
TINY_CODES = choose_sizes(
    TOKENIZER_SIZES,
    "tiny",
    {"n_layers": 1, "decoder_layers": 1, "n_heads": 4, "decoder_heads": 4, "patch_length": 16},
)
TINY = choose_sizes(SIZES, "tiny", {"patch_length": 16, "n_filters": 8, "n_heads": 4})

# What the published code gives: sum, sum of absolute values, first eight values, step and twelve strided values, for
# weights by `fill` and the input of `published_input`.
ANCHORS = {
    "vectors": (
        -256.5772871207446, 960.8809245629236,
        (-0.7959869, -0.3386692, 0.2002815, 0.0063878, -0.9433167, 0.3068351, 0.2747385, -0.4348873),
        272,
        (-0.7959869, 0.4467833, -0.5639138, 0.539597, -0.575852, 0.4195914, -0.7050612, 0.3705586, -0.2313851, 0.408702,
         -0.5790437, 0.2201981),
    ),
    "reconstruction": (
        86.73775104090964, 14742.66355793866,
        (-0.3829503, 0.1411765, 1.6165781, -0.5283729, -0.6990322, 0.7354203, -0.0986094, -0.6829769),
        1700,
        (-0.3829503, -0.6271787, -0.3792507, -0.6184027, -0.3893385, -0.6090418, -0.3880085, -0.6235403, -0.3925951,
         -0.6123708, -0.388769, -0.6173196),
    ),
    "tokens": (
        -71.19897451298311, 8285.357601354888,
        (-0.2548037, 0.1553686, 0.9434232, 0.3380972, -0.8048654, -1.1048731, -1.181107, -0.8848545),
        866,
        (-0.2548037, -0.0858814, 0.3003388, -0.4860489, 0.3415357, 0.4036014, -1.1762072, 0.0886374, -0.6568968,
         0.3403292, 0.0860912, 0.5414402),
    ),
    "logits": (
        66.11853649205295, 471636.8020483008,
        (0.1053038, -0.5802963, 0.7137795, -1.3987679, -0.2782317, -0.9093528, -0.2259656, -0.4203433),
        69666,
        (0.1053038, -0.5061927, -0.4503741, 0.0683959, -0.4829217, -0.9507837, -0.4990023, -0.1365258, -0.3812509,
         0.0502243, -0.008507, -0.0561632),
    ),
    "restored": (
        87.68407537399617, 14723.407277817998,
        (-0.3838184, 0.2246558, 1.6579852, -0.5517948, -0.7080296, 0.8132021, -0.0531699, -0.6808728),
        1700,
        (-0.3838184, -0.6757423, -0.3741158, -0.6619396, -0.3830542, -0.6257855, -0.3771324, -0.6756673, -0.3921804,
         -0.6632637, -0.3911296, -0.6570699),
    ),
}  # fmt: skip
FIRST_CODES = [
    5646, 6382, 2007, 7860, 1511, 2007, 8124, 4479, 5447, 1640, 3297, 2119, 8124, 5186, 8124, 432, 4777, 5646, 6711,
    4218, 8124, 8124, 5582, 5186,
]  # fmt: skip
LAYER_WEIGHTS = [0.1700165, 0.1795072, 0.1703233, 0.1664387, 0.1549645, 0.1587499]
CLASS_SCORES = [
    [0.5649850368499756, -0.059621065855026245, -0.9489343762397766, -0.7920839786529541, 0.06525957584381104,
     0.25166428089141846],
    [0.5566343069076538, -0.19093674421310425, -0.9486368894577026, -0.7624821662902832, 0.032710764557123184,
     0.3190552592277527],
]  # fmt: skip
# Tensors of the published state dicts: how many, and a digest of their sorted names and shapes.
PUBLISHED_KEYS = {
    "tokenizer": (429, "b8b2d8848b353b16"),
    "pretraining base": (826, "2dcb014624ed8469"),
    "classifier base": (675, "fbe33a993bab0e16"),
    "pretraining medium": (615, "eaa1a802b9950f4f"),
    "classifier medium": (464, "907edd03f1caff99"),
    "pretraining large": (763, "1e29218d89bbf31a"),
    "classifier large": (612, "f957b10ab26dee97"),
}
# Parameters of the masked autoencoder and of a classifier of six classes, without tokenizer: all, and trainable ones.
N_PARAMETERS = {
    "base": (11640582, 11582182, 6028588, 5999388),
    "medium": (52941127, 52853527, 47250333, 47191933),
    "large": (257249721, 257103721, 251401327, 251284527),
}


@torch.no_grad()
def fill(net, constant):
    state = {name.replace("final_layer", "cls_head"): value for name, value in net.state_dict().items()}
    for i, name in enumerate(sorted(name for name in state if not name.startswith("vqgan."))):
        value = state[name]
        if name.endswith(constant):
            continue
        drawn = np.random.RandomState(1000 + i).standard_normal(value.numel()).reshape(value.shape) * 0.05
        if value.ndim == 1 and name.endswith(".weight"):
            drawn = 1 + drawn
        if name == "quantize.embedding.weight":
            drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
        if name.endswith("initted"):
            drawn = np.ones(1)
        value.copy_(torch.tensor(drawn))
    return net.eval()


@pytest.fixture(scope="module")
def tokenizer():
    return fill(GramTokenizerNetwork(), ("ch_emb", "cluster_size", "embed_avg"))


@pytest.fixture(scope="module")
def autoencoder(tokenizer):
    return fill(GramPretrainingNetwork(tokenizer), ("ch_emb", "time_emb"))


@pytest.fixture(scope="module")
def published_input():
    sequence = torch.tensor((np.random.RandomState(21).standard_normal((2, 51, 200)) * 0.3).astype("float32"))
    return sequence.view(2, 3, 17, 200).transpose(1, 2).flatten(2), channel_indices(NAMES)


def assert_published(name, found):
    total, absolute, first, step, strided = ANCHORS[name]
    values = found.detach().double().numpy().ravel()
    np.testing.assert_allclose(values[:8], first, rtol=0, atol=5e-6)
    np.testing.assert_allclose(values[::step][:12], strided, rtol=0, atol=5e-6)
    assert values.sum() == pytest.approx(total, abs=1e-2)
    assert np.abs(values).sum() == pytest.approx(absolute, rel=1e-6)


def test_published_codes_and_reconstruction(tokenizer, published_input):
    x, channels = published_input
    with torch.no_grad():
        assert_published("vectors", tokenizer.vectors(x, channels))
        codes = tokenizer.encode(x, channels)
        assert codes.flatten().tolist()[:24] == FIRST_CODES and codes.sum().item() == 415132
        assert_published("reconstruction", tokenizer.decode(codes, channels))
        rec, quant = tokenizer(x, channels).mean(dim=0).tolist()
    assert (rec, quant) == pytest.approx((1.0044844150543213, 0.04888526722788811), abs=1e-6)


def test_published_autoencoder(autoencoder, tokenizer, published_input):
    x, channels = published_input
    order = torch.tensor(np.random.RandomState(22).rand(2, 51).astype("float32")).argsort(dim=1)[:, :25]
    hidden = torch.ones(2, 51, dtype=torch.bool).scatter_(1, order, False)
    with torch.no_grad():
        parts = autoencoder(x, channels, hidden.view(2, 3, 17)).mean(dim=0)
        tokens, _ = autoencoder.visible(x, hidden.view(2, 3, 17), channels)
        logits = autoencoder.decoder_pred(autoencoder.decode(tokens, hidden.view(2, 3, 17), channels))
        codes = autoencoder.restore_codes(x, hidden.view(2, 3, 17), channels)
        assert_published("restored", tokenizer.decode(codes, channels))
    visible = (
        (~hidden).nonzero()[:, 1].view(2, 25)
    )  # tokens come in the order of place, the published ones in drawn order
    rank = (visible[:, None] == order[..., None]).int().argmax(dim=2)
    assert_published("tokens", torch.cat([tokens[:, :1], torch.take_along_dim(tokens[:, 1:], rank[..., None], 1)], 1))
    assert_published("logits", logits)
    assert parts.tolist() == pytest.approx([9.263826370239258, 2.006389856338501, 0, 0], abs=1e-5)
    np.testing.assert_allclose(autoencoder.layer_weights().detach(), LAYER_WEIGHTS, atol=1e-6)


def test_published_classifier(published_input):
    x, channels = published_input
    net = fill(Gram(6, 17, n_times=600, channels=tuple(channels)), ("ch_emb", "time_emb"))
    np.testing.assert_allclose(net(x).detach(), CLASS_SCORES, rtol=0, atol=5e-6)
    named = Gram(6, chs_info=[{"ch_name": name} for name in NAMES], n_times=600)
    assert named.channels == net.channels


def test_published_position_codes():
    table = sincos_table(130, 200)[0]
    first = [0.841471, 0.5403023, 0.8035612, 0.5952221, 0.7649499, 0.6440898, 0.7262359, 0.6874456]
    last = [-0.1934734, -0.9811055, 0.8464508, 0.5324669, -0.6765242, 0.7364205, -0.9255853, -0.378539]
    np.testing.assert_allclose(table[1, :8], first, atol=1e-6)
    np.testing.assert_allclose(table[129, :8], last, atol=1e-6)
    np.testing.assert_allclose(table[15, -4:], [0.0172215, 0.9998517, 0.0160721, 0.9998708], atol=1e-6)


def digest(state):
    lines = sorted(f"{name.replace('final_layer', 'cls_head')} {list(value.shape)}" for name, value in state.items())
    return len(lines), hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def counted(net):
    own = [value for name, value in net.named_parameters() if not name.startswith("vqgan.")]
    return tuple(sum(p.numel() for p in own if p.requires_grad or not trainable) for trainable in (False, True))


@pytest.mark.parametrize("size", ["base", "medium", "large"])
def test_published_keys_and_parameters(size):
    with torch.device("meta"):
        autoencoder, classifier = (
            GramPretrainingNetwork(size=size),
            Gram(6, 4, n_times=400, channels=range(4), size=size),
        )
    state, head = autoencoder.state_dict(), classifier.state_dict()
    tokenizer = {name: value for name, value in state.items() if name.startswith("vqgan.")}
    bare = {name.removeprefix("vqgan."): value for name, value in tokenizer.items()}
    assert digest(bare) == PUBLISHED_KEYS["tokenizer"]
    if size == "base":
        assert sum(p.numel() for p in autoencoder.vqgan.parameters()) == 12229124
        head = head | tokenizer
    else:
        state = {name: value for name, value in state.items() if name not in tokenizer}
    assert digest(state) == PUBLISHED_KEYS[f"pretraining {size}"]
    assert digest(head) == PUBLISHED_KEYS[f"classifier {size}"]
    assert (*counted(autoencoder), *counted(classifier)) == N_PARAMETERS[size]


def test_trainable_parameters_of_the_tokenizer():
    with torch.device("meta"):
        net = GramTokenizerNetwork()
    assert sum(p.numel() for p in net.parameters() if p.requires_grad) == 11644384


def make_tiny(seed=0, sizes=TINY, **options):
    torch.manual_seed(seed)
    return GramPretrainingNetwork(GramTokenizerNetwork(TINY_CODES), sizes, **options).eval()


def test_attention_is_the_plain_formula():
    torch.manual_seed(0)
    attention, x = GramAttention(16, 4, 0.1).eval().double(), torch.randn(2, 9, 16, dtype=torch.float64)
    q, k, v = (part(x).view(2, 9, 4, 4).transpose(1, 2) for part in (attention.query, attention.key, attention.value))
    plain = attention.proj(((q @ k.mT / 2).softmax(-1) @ v).transpose(1, 2).reshape(2, 9, 16))
    torch.testing.assert_close(attention(x), plain)
    attention.drop.p = 1e-9  # of training with dropout the formula is another
    torch.testing.assert_close(attention.train()(x), plain)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31 - 1), st.integers(1, 11), st.sampled_from([np.nan, np.inf, 1e6, 0.0]))
def test_what_lies_under_the_mask_is_never_read(seed, n_hidden, value):
    net, rng = make_tiny(), np.random.default_rng(seed)
    x, channels = torch.tensor(rng.normal(size=(2, 4, 48)), dtype=torch.float32), [3, 41, 7, 120]
    hidden = torch.zeros(2, 12, dtype=torch.bool)
    for row in hidden:
        row[rng.permutation(12)[:n_hidden]] = True
    hidden = hidden.view(2, 3, 4)
    other = torch.where(hidden.transpose(1, 2).repeat_interleave(16, dim=2), torch.tensor(value).float(), x)
    codes = net.restore_codes(x, hidden, channels)
    assert torch.equal(net.restore_codes(other, hidden, channels), codes)
    tokens = net.visible(x, hidden, channels)[0]
    assert torch.equal(net.visible(other, hidden, channels)[0], tokens)
    seen = torch.where(hidden.transpose(1, 2).repeat_interleave(16, dim=2), x, x + 1)
    assert not torch.equal(net.visible(seen, hidden, channels)[0], tokens)  # and what is visible is


def test_hidden_is_obeyed_to_the_patch():
    net, x = make_tiny(), torch.randn(1, 2, 48)
    hidden = torch.tensor([[[True, False], [False, False], [False, True]]])
    with torch.no_grad():
        logits = net.decoder_pred(net.decode(net.visible(x, hidden, [0, 5])[0], hidden, [0, 5]))
        wanted = F.cross_entropy(logits[0, [0, 5]], net.vqgan.encode(x, [0, 5]).flatten()[[0, 5]])
        assert net(x, [0, 5], hidden)[0, 0].item() == pytest.approx(wanted.item(), rel=1e-6)
    uneven = torch.tensor([[[True, False]], [[True, True]]])
    with pytest.raises(ValueError, match="hidden: every trial of a batch must have equally many"):
        net.restore_codes(torch.zeros(2, 2, 16), uneven, [0, 5])


def test_codes_do_not_depend_on_the_batch():
    net, x = GramTokenizerNetwork(TINY_CODES).double().eval(), torch.randn(6, 3, 64, dtype=torch.float64)
    codes = net.encode(x, [1, 2, 3])
    assert torch.equal(torch.cat([net.encode(one[None], [1, 2, 3]) for one in x.flip(0)]).flip(0), codes)
    assert len(codes.unique()) > 10


def test_tokenizer_stays_in_evaluation_mode_within_the_autoencoder():
    x, hidden = torch.randn(4, 2, 32), torch.tensor([[[True, False], [False, True]]] * 4)
    for option, moves in ((False, False), (True, True)):
        net = make_tiny(tokenizer_trains=option)
        net.vqgan.quantize.embedding.initted.fill_(1)
        before = net.vqgan.quantize.codebook.clone()
        net.train()
        assert net.vqgan.training == moves and net.training
        net(x, [3, 4], hidden)
        assert torch.equal(net.vqgan.quantize.codebook, before) != moves
        assert not any(p.requires_grad for p in net.vqgan.parameters())
    assert not net.eval().vqgan.training


def test_flat_patches_give_no_nan():
    x = torch.randn(2, 3, 32)
    x[:, 1] = 0
    x[:, 2, :16] = 7
    net = make_tiny().train()
    hidden = torch.tensor([[[True, False, False], [False, False, True]]] * 2)
    losses = torch.cat([net(x, [1, 2, 3], hidden), net.vqgan.train()(x, [1, 2, 3])], dim=1)
    assert torch.isfinite(losses).all()
    losses.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)


def test_given_base_classes_are_those_of_the_tokenizer():
    net, x, hidden = make_tiny(), torch.randn(2, 2, 32), torch.tensor([[[True, False], [False, True]]] * 2)
    codes = net.vqgan.encode(x, [3, 4])
    torch.testing.assert_close(net(x, [3, 4], hidden, codes), net(x, [3, 4], hidden))


def test_learned_token_for_hidden_patches():
    sizes = dataclasses.replace(TINY, hidden_token="learned")
    assert "mask_token" in make_tiny(sizes=sizes).state_dict()
    net, hidden = make_tiny(sizes=sizes), torch.tensor([[[True, False], [False, True]]])
    tokens, _ = net.visible(torch.randn(1, 2, 32), hidden, [3, 4])
    before = net.decode(tokens, hidden, [3, 4])
    net.mask_token.data[..., 0] += 1
    assert not torch.allclose(net.decode(tokens, hidden, [3, 4]), before)
    with pytest.raises(ValueError, match="hidden_token: got 'zero'"):
        choose_sizes(SIZES, "tiny", {"hidden_token": "zero"})


def test_samples_of_masked_patches_are_predicted_from_visible_ones():
    torch.manual_seed(0)
    net, x = make_tiny(sizes=dataclasses.replace(TINY, wave_head=True)), torch.randn(2, 3, 32)
    hidden = torch.tensor([[[True, False, False], [False, False, True]]] * 2)
    patches = net.restore_waves(x, hidden, [1, 2, 3])
    assert patches.shape == (2, 2, 3, 16)
    torch.testing.assert_close(net.restore_waves(10 * x, hidden, [1, 2, 3]), 10 * patches, rtol=1e-3, atol=1e-4)
    other = torch.where(hidden.transpose(1, 2).repeat_interleave(16, dim=2), torch.nan, x)
    assert torch.equal(net.restore_waves(other, hidden, [1, 2, 3]), patches)
    loss = net(x, [1, 2, 3], hidden)[:, 2]
    scale = to_patches(x, 16)[~hidden].view(2, -1).square().mean(dim=1)[:, None, None]
    truth, found = (one[hidden].view(2, 2, 16) / scale.sqrt() for one in (to_patches(x, 16), patches))
    wanted = (found - truth).square().mean(dim=2) / (0.3 + truth.square().mean(dim=2))
    torch.testing.assert_close(loss, wanted.mean(dim=1))
    assert (make_tiny()(x, [1, 2, 3], hidden)[:, 2] == 0).all()


def test_geometric_encoding_follows_the_distance_of_electrodes():
    code = geometry_table(400)[0].double()
    points = electrode_positions()[:114]
    points = points / np.linalg.norm(points, axis=1, keepdims=True)
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    found = (code[:114] @ code[:114].T / 200).numpy()
    np.testing.assert_allclose(found, np.exp(-(distance**2) / 0.5), atol=0.3)
    torch.testing.assert_close(code[114], code[0] - code[15])  # FP1-F7
    assert torch.equal(geometry_table(400), geometry_table(400))


@given(st.integers(1, 200), st.integers(1, 20))
def test_windows_cover_a_trial(n_seconds, longest):
    starts, length = window_starts(n_seconds, longest)
    assert length <= longest and starts[0] == 0 and starts[-1] + length == n_seconds
    assert len(starts) == -(-n_seconds // longest)
    assert all(second - first <= length for first, second in zip(starts, starts[1:], strict=False))


def test_long_trials_are_windowed_and_averaged():
    torch.manual_seed(0)
    net, x = Gram(2, 3, n_times=32 * 16, channels=(1, 2, 3), size=TINY).eval(), torch.randn(2, 3, 32 * 16)
    halves = torch.stack([net.features(x[..., :256]), net.features(x[..., 256:])]).mean(dim=0)
    torch.testing.assert_close(net.features(x), halves)
    torch.testing.assert_close(net(x), net.final_layer(halves))


def test_the_order_of_electrodes_does_not_matter():
    torch.manual_seed(0)
    net, x = Gram(2, 4, n_times=64, channels=(1, 20, 3, 90), size=TINY).eval(), torch.randn(2, 4, 64)
    for value in net.blocks.parameters():  # as drawn, a class token hardly sees the others
        value.data += 0.3 * torch.randn_like(value)
    other = Gram(2, 4, n_times=64, channels=(90, 3, 1, 20), size=TINY).eval()
    other.load_state_dict(net.state_dict())
    torch.testing.assert_close(net(x), other(x[:, [3, 2, 0, 1]]), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(net(x), other(x), atol=1e-4)


def test_electrodes_of_the_collection():
    assert len(COLLECTION) == len(set(COLLECTION)) == 130
    assert channel_indices(COLLECTION).tolist() == list(range(130))
    assert channel_indices(["Fc5.", "cz", "M1"]).tolist() == [27, 41, 92]
    assert channel_indices(["T3", "T7"]).tolist() == [88, 37]
    assert channel_indices(["EEG T3-REF", "EEG T6-LE"]).tolist() == [37, 67]
    assert channel_indices(["FP1-F7", "T3-T5"]).tolist() == [114, 116]


@pytest.mark.parametrize(
    ("names", "match"),
    [
        (["Cz", "C11"], r"ch_names: unknown electrode 'C11' \(nearest: .*C1"),
        (["Cz", "CZ"], "ch_names: Cz, CZ are the same electrode"),
        (["EOG left"], "ch_names: unknown electrode"),
    ],
)
def test_electrodes_outside_the_collection(names, match):
    with pytest.raises(ValueError, match=match):
        channel_indices(names)


@pytest.mark.parametrize(
    ("size", "changes", "match"),
    [
        ("huge", {}, "size: got 'huge'"),
        ("base", {"n_heads": 3}, "n_heads: an embedding of 200 cannot be split into 3"),
        ("base", {"n_filters": 6}, "n_filters: got 6"),
        ("base", {"fused": (0, 1)}, "fused: got"),
        ("base", {"patch_length": 0}, "patch_length"),
    ],
)
def test_sizes_that_do_not_go_together(size, changes, match):
    with pytest.raises(ValueError, match=match):
        choose_sizes(SIZES, size, changes)


def test_windows_the_networks_refuse():
    net = GramTokenizerNetwork(TINY_CODES).eval()
    with pytest.raises(ValueError, match="X: 9 sample"):
        net.encode(torch.zeros(1, 1, 9), [0])
    with pytest.raises(ValueError, match="a window may have 16 patches"):
        net.encode(torch.zeros(1, 1, 17 * 16), [0])
    with pytest.raises(ValueError, match="channels: got 2 positions for 1"):
        net.encode(torch.zeros(1, 1, 16), [0, 1])
