import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skeeg.methods.eeg2meg import SensorTransformer, SensorUNet, SequenceTransformer, UNet
from skeeg.methods.eeg2meg.networks import SharedProjectionAttention
from skeeg.training import load_checkpoint

DEMO = {"embed_size": 128, "n_layers": 2, "n_heads": 4, "forward_expansion": 2, "dropout": 0.1, "max_length": 1000}
SMALL = {"embed_size": 16, "n_layers": 2, "n_heads": 4, "forward_expansion": 2}

# Sum, sum of absolute values, first eight values, step and twelve strided values of outputs of the published code, with
# weights and inputs drawn by `fill` and `draw`.
ANCHORS = {
    "transformer": (
        -781.5912971359212, 16625.312216738006,
        (-0.5763534, 0.0722644, -0.7482469, -0.0787329, 0.9497239, -0.2342486, 1.0219252, -0.3278067), 3060,
        (-0.5763534, -0.1364809, -0.4299083, 0.1737301, 0.4201515, 0.2734357, -0.9871932, -0.1279627, 0.8051983,
         0.0476565, -0.0350493, 0.0774832),
    ),
    "padded": (
        -774.7445090287365, 16626.91498453496,
        (-0.5809542, 0.0638373, -0.7464243, -0.0724997, 0.9549061, -0.2323506, 1.0147079, -0.3259808), 3060,
        (-0.5809542, -0.1412233, -0.4402985, 0.1659428, 0.4142802, 0.26691, -1.0057817, -0.1393157, 0.7928007,
         0.0322179, -0.0479305, 0.0620806),
    ),
    "unet": (
        -262.4116163131598, 2192.6485813751765,
        (-0.0512736, -0.0580118, -0.0540854, -0.0561228, -0.0576932, -0.053019, -0.0526391, -0.0537178), 4675,
        (-0.0512736, -0.0450848, 0.0152659, 0.0097792, 0.0568419, 0.0566158, -0.0509087, -0.0485928, 0.010973,
         0.0131113, 0.0497798, 0.0480127),
    ),
    "wavelet_unet": (
        -102.43802725151181, 102.43802725151181,
        (-0.0527581, -0.0554597, -0.0543592, -0.0550511, -0.0555552, -0.0563444, -0.0551127, -0.0544765), 137,
        (-0.0527581, -0.055379, -0.0529028, -0.036892, -0.0349973, -0.095212, -0.0947916, -0.0548723, -0.0555688,
         -0.0350035, -0.0355966, -0.0956884),
    ),
}  # fmt: skip


def fill(network):
    """Draw every tensor from its place among the sorted names, as for the anchors."""
    state = network.state_dict()
    for i, name in enumerate(sorted(state)):
        drawn = np.random.RandomState(1000 + i).standard_normal(state[name].numel())  # noqa: NPY002, as drawn then
        drawn = drawn.reshape(tuple(state[name].shape)) * 0.05
        scale = state[name].ndim == 1 and name.endswith(".weight")
        state[name] = torch.as_tensor((1 + drawn if scale else drawn).astype(np.float32))
    network.load_state_dict(state)
    return network.eval()


def draw(seed, *shape):
    return torch.as_tensor(np.random.RandomState(seed).standard_normal(shape).astype(np.float32))  # noqa: NPY002


def assert_is_anchor(name, output):
    total, absolute, first, step, strided = ANCHORS[name]
    flat = output.detach().double().numpy().ravel()
    assert flat.sum() == pytest.approx(total, rel=1e-5, abs=1e-3)
    assert np.abs(flat).sum() == pytest.approx(absolute, rel=1e-6)
    np.testing.assert_allclose(flat[:8], first, atol=1e-5)
    np.testing.assert_allclose(flat[::step][:12], strided, atol=1e-5)


def test_published_transformer():
    network = fill(SequenceTransformer(**DEMO, shift=False))
    eeg, meg = draw(11, 2, 60, 74), draw(12, 2, 60, 306)
    assert_is_anchor("transformer", network(eeg, meg))
    eeg[:, 50:] = 0
    assert_is_anchor("padded", network(eeg, meg))


def test_published_unets():
    assert_is_anchor("unet", fill(UNet(n_times_out=275))(draw(13, 2, 74, 275)))
    assert_is_anchor("wavelet_unet", fill(UNet(3, 3, planes=True))(draw(14, 2, 3, 275)))


BLOCK = {
    **{f"attention.{role}.weight": ("d", "d") for role in ("values", "keys", "queries")},
    "attention.fc_out.weight": ("E", "E"), "attention.fc_out.bias": ("E",),
    "norm1.weight": ("E",), "norm1.bias": ("E",), "norm2.weight": ("E",), "norm2.bias": ("E",),
    "feed_forward.0.weight": ("W", "E"), "feed_forward.0.bias": ("W",),
    "feed_forward.2.weight": ("E", "W"), "feed_forward.2.bias": ("E",),
}  # fmt: skip
UNET = {
    "e11": (32, 1, 74, 3), "e12": (32, 32, 1, 3), "e21": (64, 32, 1, 3), "e22": (64, 64, 1, 3),
    "lstm_out_projection": (64, 32, 1), "upconv1": (64, 64, 1, 2), "d11": (64, 128, 1, 3), "d12": (64, 64, 1, 3),
    "upconv2": (64, 32, 1, 2), "d21": (32, 64, 1, 3), "d22": (32, 32, 1, 3), "outconv": (102, 32, 1, 1),
}  # fmt: skip


def published_transformer_keys(E, n_layers, n_heads, expansion):  # noqa: N803, as in the formulas
    sizes = {"E": E, "d": E // n_heads, "W": expansion * E, "i": 74, "o": 306, "m": 1000}
    keys = {"decoder.fc_out.weight": ("o", "E"), "decoder.fc_out.bias": ("o",)}
    for part, n in (("encoder", "i"), ("decoder", "o")):
        keys |= {f"{part}.timepoint_embedding.weight": ("E", n), f"{part}.timepoint_embedding.bias": ("E",)}
        keys[f"{part}.position_embedding.weight"] = ("m", "E")
    for layer in range(n_layers):
        keys |= {f"encoder.layers.{layer}.{name}": shape for name, shape in BLOCK.items()}
        keys |= {f"decoder.layers.{layer}.transformer_block.{name}": shape for name, shape in BLOCK.items()}
        for name, shape in BLOCK.items():
            if name.startswith("attention"):
                keys[f"decoder.layers.{layer}.{name}"] = shape
        keys |= {f"decoder.layers.{layer}.norm.{part}": ("E",) for part in ("weight", "bias")}
    return {name: tuple(sizes[one] for one in shape) for name, shape in keys.items()}


def published_unet_keys(**changes):
    shapes = UNET | changes
    keys = {f"{name}.weight": shape for name, shape in shapes.items()}
    keys |= {f"{name}.bias": (shape[1] if name.startswith("upconv") else shape[0],) for name, shape in shapes.items()}
    lstm = {"weight_ih_l0": (128, 64), "weight_hh_l0": (128, 32), "bias_ih_l0": (128,), "bias_hh_l0": (128,)}
    return keys | {f"lstm.{name}": shape for name, shape in lstm.items()}


@pytest.mark.parametrize(
    ("network", "keys", "n_keys", "n_parameters"),
    [
        (SequenceTransformer(), published_transformer_keys(256, 6, 8, 4), 206, 8_250_162),
        (SequenceTransformer(**DEMO), published_transformer_keys(128, 2, 4, 2), 74, 728_114),
        (UNet(), published_unet_keys(), 28, 105_478),
        (UNet(3, 3, planes=True), published_unet_keys(e11=(32, 3, 1, 3), outconv=(3, 32, 1, 1)), 28, 95_395),
    ],
)
def test_state_dicts_have_the_published_layout(network, keys, n_keys, n_parameters):
    state = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert state == keys and len(state) == n_keys
    assert sum(p.numel() for p in network.parameters()) == n_parameters


def test_a_published_checkpoint_loads_whole(tmp_path):
    source = fill(UNet())
    torch.save(source.state_dict(), tmp_path / "model.pth")
    report = load_checkpoint(UNet(), tmp_path / "model.pth", keep_head=True)
    assert len(report.matched) == 28 and not (report.missing or report.unexpected or report.reshaped)


def first_change(network, eeg, meg, t):
    """First sample of the prediction that moves when the MEG changes from sample t on."""
    changed = meg.clone()
    changed[:, t:] += 1.0
    moved = (network(eeg, meg) - network(eeg, changed)).abs().amax(dim=(0, 2)) > 0
    return int(moved.float().argmax()) if moved.any() else None


@pytest.mark.parametrize("t", [0, 7, 19])
def test_the_target_at_and_after_a_sample_does_not_reach_the_prediction_there(t):
    eeg, meg = draw(0, 2, 20, 5), draw(1, 2, 20, 7)
    leaking = fill(SequenceTransformer(5, 7, **SMALL, shift=False))
    assert first_change(leaking, eeg, meg, t) == t  # the published form
    closed = fill(SequenceTransformer(5, 7, **SMALL))
    assert first_change(closed, eeg, meg, t) == (t + 1 if t < 19 else None)


def test_generation_is_what_the_decoder_says_about_its_own_past():
    network = fill(SequenceTransformer(5, 7, **SMALL))
    eeg = draw(0, 2, 12, 5)
    generated = network.generate(eeg)
    torch.testing.assert_close(network(eeg, generated), generated, atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match="shift"):
        SequenceTransformer(5, 7, **SMALL, shift=False).generate(eeg)


def plain_attention(layer, v, k, q, mask):
    """Attention written out as published: scores of minus 1e20 where masked, divided by the root of the embedding."""
    n, size = v.shape[0], v.shape[2]
    v, k, q = (x.reshape(n, x.shape[1], layer.n_heads, -1) for x in (v, k, q))
    v, k, q = layer.values(v), layer.keys(k), layer.queries(q)
    scores = torch.einsum("nqhd,nkhd->nhqk", q, k).masked_fill(~mask, -1e20)
    weights = torch.softmax(scores / size**0.5, dim=3)
    return layer.fc_out(torch.einsum("nhqk,nkhd->nqhd", weights, v).reshape(n, -1, size))


def test_attention_is_the_published_formula():
    torch.manual_seed(0)
    layer, x = SharedProjectionAttention(12, 3), draw(0, 2, 9, 12)
    mask = torch.ones(9, 9, dtype=torch.bool).tril()
    torch.testing.assert_close(layer(x, x, x, mask), plain_attention(layer, x, x, x, mask))
    usual = SharedProjectionAttention(12, 3, "head")
    usual.load_state_dict(layer.state_dict())
    assert usual.scale == pytest.approx(layer.scale * 3**0.5)


def test_windows_of_padding_only_stay_finite():
    network = fill(SequenceTransformer(5, 7, **SMALL, shift=False))
    assert torch.isfinite(network(torch.zeros(1, 6, 5), draw(0, 1, 6, 7))).all()


@settings(max_examples=15)
@given(n_times=st.integers(1, 61), n_chans=st.integers(1, 9), n_outputs=st.integers(1, 11))
def test_any_length_any_cap_any_helmet(n_times, n_chans, n_outputs):
    x = torch.ones(2, n_chans, n_times)
    for network in (SensorUNet(n_chans, n_outputs, 4, 4), SensorTransformer(n_chans, n_outputs, **SMALL)):
        assert network.eval()(x).shape == (2, n_outputs, n_times)


def test_networks_start_at_zero_and_every_weight_is_reached():
    x = draw(0, 3, 5, 24)
    for network in (SensorUNet(5, 7, 4, 4), SensorTransformer(5, 7, **SMALL)):
        assert not network.eval()(x).any()
        fill(network)(x).square().sum().backward()
        assert all(p.grad is not None and p.grad.any() for p in network.parameters())


def test_errors_say_what_is_wrong():
    with pytest.raises(ValueError, match=re.escape("embed_size: got 10, which 4 heads do not divide")):
        SharedProjectionAttention(10, 4)
    with pytest.raises(ValueError, match="max_length"):
        SequenceTransformer(5, 7, **SMALL, max_length=10)(draw(0, 1, 11, 5), draw(0, 1, 11, 7))
