import json

import numpy as np
import pytest
import torch
from braindecode import EEGClassifier

from skeeg.methods.mirepnet import MIRepNet
from skeeg.methods.mirepnet.network import MIRepNetAttention
from skeeg.montage import ChannelTemplate
from skeeg.networks import exact_convolutions
from skeeg.training import load_checkpoint
from skeeg.training.checkpoints import published_state, save_weights

HEAD, UNUSED = "final_layer", "embedding.chan_embed.weight"
TINY = {"embed_dim": 16, "n_layers": 1, "n_heads": 4, "n_filters_time": 4, "n_filters": 6, "drop_prob": 0.0}
# Numbers that the published code gives for weights and input made by formula.
TOKENS = [
    ((0, 0, slice(5)), [-0.006903264, -0.009889197, 0.018700805, -0.019894073, 0.039686155]),
    ((1, 60, slice(-5, None)), [-0.02739276, -0.00084063091, -0.0090640737, -0.017094074, 0.014088209]),
]
ENCODED = [-0.4778132438659668, 0.5366792678833008, 0.6398729085922241, -0.5069616436958313, 0.028328493237495422]
POOLED = [
    ((0, slice(5)), [-0.47851383686065674, 0.5375221371650696, 0.6389369368553162, -0.5059285759925842, 0.0270177349]),
    ((1, slice(-5, None)), [0.67950040102005, -0.047132741659, -0.37405309081077, 0.7143982648849, 0.4199791252613]),
]
LOGITS = [[0.0421503484249115, 0.03292624652385712], [0.042159631848335266, 0.03293861076235771]]
LOGITS_64 = [[0.04215037593770819, 0.0329262500571631], [0.04215965634920173, 0.03293862020830152]]
ATTENDED = [
    ((0, 0, slice(5)), [-0.026312295347, 0.635316491127, -0.540239572525, 0.278434872627, 0.501707673073]),
    ((1, 8, slice(-5, None)), [0.034580007195, -0.051635041833, 0.03960122168, -0.017237327993, 0.010208483785]),
]


def by_formula(shapes):
    state = {}
    for rank, name in enumerate(sorted(shapes)):
        shape = shapes[name]
        base = np.sin(0.37 * np.arange(np.prod(shape, dtype=int)) + rank)
        if name.endswith("num_batches_tracked"):
            base = np.zeros(1)
        elif name.endswith("running_var"):
            base = 1 + 0.5 * base**2
        elif len(shape) == 1:
            base = 1 + 0.1 * base if name.endswith("weight") else 0.01 * base
        else:
            base = 0.05 * base
        state[name] = torch.tensor(base.reshape(shape))
    return state


def trials_by_formula(n_trials, n_chans, n_times):
    b, c, t = np.ogrid[:n_trials, :n_chans, :n_times]
    return np.sin(0.01 * (b + 1) * (t + 1) + 0.5 * c)


def published_shapes(n_outputs=2, decoder_layers=0):
    net = MIRepNet(n_outputs, 45, n_times=1000, decoder_layers=decoder_layers)
    return {name: tuple(value.shape) for name, value in published_state(net).items()}


def make_net(*sizes, merge, **params):
    """The network, or, without ``merge``, with the two convolutions of its tokenizer one after the other."""
    net = MIRepNet(*sizes, **params)
    if not merge:
        own = net.embedding
        own.pooled = lambda x: own.pool(own.activation(own.bn(own.conv2(own.conv1(x[:, None])))))
    return net


@pytest.fixture(scope="module")
def weights():
    return by_formula(published_shapes())


@pytest.mark.parametrize("merge", [False, True])
def test_published_numbers(weights, merge):
    net, x = make_net(2, 45, n_times=1000, merge=merge).eval(), torch.tensor(trials_by_formula(2, 45, 1000))
    net.load_state_dict(weights)
    with torch.no_grad():
        tokens = net.tokens(x.float())
        encoded, pooled, logits = net.transformer(tokens), net.features(x.float()), net(x.float())
        exact = net.double()(x)
    assert tokens.shape == (2, 61, 256)
    for place, wanted in TOKENS:
        np.testing.assert_allclose(tokens[place], wanted, rtol=0, atol=1e-5)
    np.testing.assert_allclose(encoded[0, 0, :5], ENCODED, rtol=0, atol=1e-5)
    for place, wanted in POOLED:
        np.testing.assert_allclose(pooled[place], wanted, rtol=0, atol=1e-5)
    np.testing.assert_allclose(logits, LOGITS, rtol=0, atol=1e-5)
    np.testing.assert_allclose(exact, LOGITS_64, rtol=0, atol=1e-9)


def test_attention_is_scaled_by_the_embedding():
    attention = MIRepNetAttention(256, 8, 0.5).double().eval()
    for rank, (_, value) in enumerate(sorted(attention.state_dict().items())):
        k = np.arange(value.numel())
        size = 0.12 if value.ndim == 2 else 0.01
        value.copy_(torch.tensor(size * np.sin(0.9 * k + 0.0007 * k**1.5 + rank)).view_as(value))
    i, d = np.ogrid[:9, :256]
    x = np.stack([np.sin(1.3 * i + 0.7 * d + (0.2 * i * d) % 5), np.cos(0.9 * i + 0.31 * d)])
    with torch.no_grad():
        found = attention(torch.tensor(x))
    for place, wanted in ATTENDED:
        np.testing.assert_allclose(found[place], wanted, rtol=0, atol=1e-5)


def test_attention_with_dropout_is_right_on_average():
    torch.manual_seed(0)
    attention, x = MIRepNetAttention(16, 4, 0.3), torch.randn(1, 7, 16)
    with torch.no_grad():
        wanted = attention.eval()(x)
        found = attention.train()(x.expand(40000, -1, -1)).mean(dim=0)
    torch.testing.assert_close(found, wanted[0], rtol=0, atol=0.01)


def test_template_by_inverse_distance():
    X = trials_by_formula(6, 3, 200)
    b, c, t = np.ogrid[:6, :3, :200]
    from skeeg.alignment import EuclideanAlignment

    aligned = EuclideanAlignment().fit_transform(X + 0.3 * np.cos(1.7 * b + 0.9 * c**2 + 0.13 * t * (c + 1)))
    np.testing.assert_allclose(aligned[0, :, 0], [-0.03287686932957229, 0.9985490351303095, 0.4493919792048688])
    np.testing.assert_allclose(aligned[5, :, 199], [-1.6990535183191995, 0.26728496559607595, 0.7558060427434112])
    on_template = ChannelTemplate("mirepnet45", "inverse_distance", ch_names=("C3", "Cz", "C4")).fit_transform(aligned)
    wanted = [0.29602693256163876, 0.3093254157180438, 0.37587264474902865, 0.5275460422189943]
    np.testing.assert_allclose(on_template[0, :4, 0], wanted)
    np.testing.assert_allclose(on_template[0, 20, 0], -0.03287686932957229)


def test_sizes_and_names_of_the_published_layouts():
    assert sum(p.numel() for p in MIRepNet(2, 45, n_times=1000).parameters()) == 5_154_306
    assert sum(p.numel() for p in MIRepNet(4, 45, n_times=1000).parameters()) == 5_154_820
    assert sum(p.numel() for p in MIRepNet(3, 45, n_times=1000, decoder_layers=2).parameters()) == 6_734_339
    shapes = published_shapes(3, 2)
    assert len(shapes) == 143 and len(published_shapes()) == 110
    for name, shape in {
        "mask_token": (1, 1, 256), "embedding.conv1.weight": (64, 1, 1, 25), "embedding.conv2.weight": (128, 64, 45, 1),
        "embedding.bn.running_var": (128,), "embedding.bn.num_batches_tracked": (), "clshead.weight": (3, 256),
        "embedding.projection.0.weight": (256, 128, 1, 1), "embedding.chan_embed.weight": (45, 256),
        "transformer.5.0.fn.0.weight": (256,), "transformer.5.0.fn.1.queries.weight": (256, 256),
        "transformer.0.1.fn.0.bias": (256,), "transformer.0.1.fn.1.0.weight": (1024, 256),
        "transformer.0.1.fn.1.3.bias": (256,), "decoder.transformer.1.0.fn.1.projection.bias": (256,),
    }.items():  # fmt: skip
        assert shapes[name] == shape
    assert list(dict(MIRepNet(2, 45, n_times=1000).named_children()))[-1] == HEAD


def layouts():
    published = by_formula(published_shapes(3, 2))
    fine_tuned = {name: value for name, value in published.items() if not name.startswith(("mask_token", "decoder."))}
    ours = {"embedding.projection.0.": "embedding.projection.", "clshead.": "final_layer."}
    rehosted = {}
    for name, value in fine_tuned.items():
        for old, new in ours.items():
            name = name.replace(old, new)
        if name != UNUSED:
            rehosted[name] = value
    return {"143": published, "110": fine_tuned, "109": rehosted}


@pytest.mark.parametrize(("layout", "n_tensors"), [("143", 143), ("110", 110), ("109", 109)])
def test_each_layout_loads_with_a_clean_report(layout, n_tensors, tmp_path):
    state = layouts()[layout]
    assert len(state) == n_tensors
    torch.save(state, tmp_path / "MIRepNet.pth")
    net = MIRepNet(3, 45, n_times=1000)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    report = load_checkpoint(net, tmp_path / "MIRepNet.pth")
    assert report.missing == (f"{HEAD}.weight", f"{HEAD}.bias") and not (report.unexpected or report.reshaped)
    assert len(report.matched) == (107 if layout == "109" else 108)
    # three classes here as there, and still the last layer is one's own
    torch.testing.assert_close(net.final_layer.weight, before["final_layer.weight"])
    assert not torch.equal(net.embedding.conv1.weight, before["embedding.conv1.weight"])


def test_the_published_layout_round_trips(tmp_path):
    state = layouts()["143"]
    net = MIRepNet(3, 45, n_times=1000, decoder_layers=2)
    report = load_checkpoint(net, state, classes=("feet", "left_hand", "right_hand"))
    assert len(report.matched) == 143 and not (report.missing or report.unexpected)
    for file in ("a.pth", "b.safetensors"):
        save_weights(net, tmp_path / file, {})
        other = MIRepNet(3, 45, n_times=1000, decoder_layers=2)
        load_checkpoint(other, tmp_path / file, classes=("feet", "left_hand", "right_hand"))
        again = published_state(other)
        assert set(again) == set(state)
        for name, value in state.items():
            torch.testing.assert_close(again[name], value.to(again[name].dtype))


def test_last_layer_goes_by_label():
    tiny = {"n_chans": 3, "n_times": 150, **TINY}
    source, net = MIRepNet(3, **tiny), MIRepNet(2, **tiny)
    before = net.final_layer.weight.clone()
    load_checkpoint(net, source.state_dict(), classes=("feet", "left", "right"), wanted=("right", "tongue"))
    torch.testing.assert_close(net.final_layer.weight[0], source.final_layer.weight[2])
    torch.testing.assert_close(net.final_layer.weight[1], before[1])
    with pytest.raises(ValueError, match="checkpoint_classes: got 2 labels for a checkpoint with 3 outputs"):
        load_checkpoint(net, source.state_dict(), classes=("feet", "left"), wanted=("left", "right"))


def test_a_checkpoint_of_another_size_is_refused():
    tiny = {"n_chans": 3, "n_times": 150, **TINY}
    state = MIRepNet(2, **tiny).state_dict()
    for other in ({"embed_dim": 32}, {"n_layers": 2}, {"n_chans": 4}):
        with pytest.raises(ValueError, match="checkpoint: it does not fit MIRepNet"):
            load_checkpoint(MIRepNet(2, **{**tiny, **other}), state)


def gradients(merge, dtype, n_chans, n_times=130):
    torch.manual_seed(0)
    net = make_net(3, n_chans, n_times=n_times, merge=merge, **TINY).to(dtype).train()
    x = torch.randn(6, n_chans, n_times, dtype=torch.float64).to(dtype)
    with exact_convolutions():
        torch.nn.functional.cross_entropy(net(x), torch.arange(6) % 3).backward()
    # biases before a normalisation, and of the keys, have no effect and so no gradient but rounding
    unused = ("conv1.bias", "conv2.bias", "keys.bias", "chan_embed.weight")
    flat = [p.grad.double().flatten() for name, p in net.named_parameters() if not name.endswith(unused)]
    return torch.cat(flat), net.embedding.bn.running_var.double()


@pytest.mark.parametrize("n_chans", [1, 3, 14, 15, 16, 17, 18, 19, 22, 45])
def test_both_forms_train_alike_and_right(n_chans):
    exact, statistics = gradients(False, torch.float64, n_chans)
    for merge, dtype, tolerance in ((True, torch.float64, 1e-10), (True, torch.float32, 1e-3)):
        found, found_statistics = gradients(merge, dtype, n_chans)
        assert (found - exact).norm() < tolerance * exact.norm()
        torch.testing.assert_close(found_statistics, statistics, rtol=1e-4, atol=0)


def test_dead_embedding_gets_no_gradient():
    net = MIRepNet(2, 3, n_times=150, **TINY)
    net(torch.randn(4, 3, 150)).sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None] == [UNUSED]


def test_masked_tokens_do_not_enter_and_all_are_reconstructed():
    net = MIRepNet(2, 3, n_times=300, decoder_layers=2, **TINY).eval()
    tokens = net.tokens(torch.randn(4, 3, 300))
    masked = torch.rand(tokens.shape[:2]) < 0.5
    other = torch.where(masked[..., None], torch.randn_like(tokens), tokens)
    for found, wanted in zip(net.reconstruct(tokens, masked), net.reconstruct(other, masked), strict=True):
        torch.testing.assert_close(found, wanted)
    assert net.reconstruct(tokens, masked)[1].shape == tokens.shape


@pytest.mark.parametrize(("n_times", "n_tokens"), [(99, 1), (512, 28), (750, 44), (1000, 61), (1001, 61), (1250, 77)])
def test_any_length(n_times, n_tokens):
    net = MIRepNet(2, 3, n_times=99, **TINY).eval()
    with torch.no_grad():
        assert net.tokens(torch.randn(2, 3, n_times)).shape == (2, n_tokens, 16)


def test_errors_say_what_is_wanted():
    with pytest.raises(ValueError, match="n_times: .* at least 99 samples a trial, got 98"):
        MIRepNet(2, 3, n_times=98)
    with pytest.raises(ValueError, match="n_heads: embed_dim=10"):
        MIRepNet(2, 3, n_times=99, embed_dim=10)


def test_new_head_and_config():
    net = MIRepNet(2, 3, n_times=150, **TINY)
    net.reset_head(5)
    assert net(torch.randn(2, 3, 150)).shape == (2, 5) and net.n_outputs == 5
    config = json.loads(json.dumps(MIRepNet(2, 3, n_times=150, **TINY).get_config()))
    assert MIRepNet.from_config(config).final_layer.in_features == 16


def test_works_inside_braindecode():
    X, y = np.random.default_rng(0).normal(size=(12, 4, 150)).astype("float32"), np.arange(12) % 2
    settings = {f"module__{name}": value for name, value in TINY.items()}
    clf = EEGClassifier(MIRepNet, **settings, max_epochs=1, batch_size=4, train_split=None, verbose=0)
    assert clf.fit(X, y).predict(X).shape == (12,)
