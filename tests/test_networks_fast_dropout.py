import pytest
import torch
import torch.fx.experimental.proxy_tensor
import torch.nn.functional as F
from braindecode.modules import MultiHeadAttention
from torch import nn

from skeeg.networks import accelerate
from skeeg.networks.fast import dropout
from skeeg.networks.fast.dropout import (
    Dropout,
    attend,
    attend_by_heads,
    drop,
    has_attention_form,
    has_dropout_form,
    keep_as_torch,
)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dropout_drops_its_share_anywhere(p, dtype):
    torch.manual_seed(0)
    x = torch.randn(300, 1001, dtype=dtype, requires_grad=True)
    y = Dropout(p)(x)
    dropped = y == 0
    spread = (p * (1 - p)) ** 0.5
    for axis, n in ((None, x.numel()), (0, 300), (1, 1001)):
        share = dropped.double().mean() if axis is None else dropped.double().mean(dim=axis)
        assert (share - p).abs().max() < 5.5 * spread / n**0.5
    torch.testing.assert_close(y, torch.where(dropped, 0.0, x / (1 - p)))
    y.sum().backward()
    torch.testing.assert_close(x.grad, torch.where(dropped, 0.0, torch.full_like(x, 1 / (1 - p))))
    neighbours = (dropped[:, :-1] & dropped[:, 1:]).double().mean() - p**2
    assert neighbours.abs() < 0.005  # several of them share a random word
    assert torch.equal(Dropout(p).eval()(x), x) and torch.equal(Dropout(0.0)(x), x)
    assert not Dropout(1.0)(x).any()


LAYOUTS = {
    "contiguous": torch.ones(90, 1001),
    "of a few blocks to the value": torch.ones(3 * 2**16),
    "transposed": torch.ones(40, 30, 50).permute(2, 0, 1),
    "with gaps": torch.ones(400, 400)[:, ::3],
    "expanded": torch.ones(1, 300).expand(200, 300),
    "double": torch.ones(600, 100, dtype=torch.float64),
}


@pytest.mark.parametrize("p", [0.1, 0.25, 0.5, 1 / 3, 1e-9, 1 - 1e-9])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_accelerated_layer_drops_the_very_values_that_torch_drops(layout, p):
    x, found = LAYOUTS[layout], []
    for layer in (nn.Dropout(p), accelerate(nn.Dropout(p))):
        torch.manual_seed(3)
        torch.rand(5)  # from within a block of the generator
        found.append((layer(x), torch.rand(3)))
    (plain, after), (ours, after_ours) = found
    assert layer._skeeg_form == "dropout" and drop(layer, x) is not None
    assert torch.equal(ours, plain) and ours.stride() == plain.stride()
    assert torch.equal(after_ours, after)


def test_its_gradients_are_those_of_torch():
    x = torch.randn(300, 300, requires_grad=True)
    found = []
    for layer in (nn.Dropout(0.3), accelerate(nn.Dropout(0.3))):
        torch.manual_seed(0)
        found.append(torch.autograd.grad(layer(x).square().sum(), x)[0])
    assert torch.equal(*found)


def test_where_torch_draws_otherwise_it_is_asked(monkeypatch):
    asked = []
    monkeypatch.setattr(dropout, "_torch_compares_integers", lambda: False)
    monkeypatch.setattr(dropout, "_compare_integers", lambda *_: asked.append(True))
    for x in (torch.zeros(100, 100), torch.zeros(40, 30, 50, dtype=torch.float64).permute(2, 0, 1)):
        torch.manual_seed(0)
        kept = keep_as_torch(x, 0.3)
        torch.manual_seed(0)
        assert torch.equal(kept.to(x.dtype), torch.empty_like(x).bernoulli_(0.7)) and not asked


def test_what_is_left_to_torch():
    x = torch.ones(300, 300)
    layer = nn.Dropout(0.5)
    assert has_dropout_form(layer)
    assert not any(has_dropout_form(other) for other in (nn.Dropout1d(), nn.Dropout2d(), Dropout(0.5)))
    assert drop(layer, x) is not None
    assert drop(layer, x[:10, :10]) is None and drop(nn.Dropout(inplace=True), x) is None
    assert drop(layer, x.to("meta")) is None and drop(layer, x.to_sparse()) is None
    assert all(drop(nn.Dropout(p), x) is None for p in (0.0, 1.0)) and drop(nn.Dropout(0.5).eval(), x) is None
    seen = []
    torch.func.vmap(lambda part: seen.append(drop(layer, part)) or part)(torch.ones(2, 300, 300))
    assert seen == [None]


def test_the_words_are_drawn_but_where_intels_library_is():
    try:
        intel = "GenuineIntel" in open("/proc/cpuinfo").read()
    except OSError:
        pytest.skip("cannot tell whose processor this is")
    assert intel or dropout._torch_compares_integers()


@pytest.mark.parametrize("share", [0.1, 0.3, 1 / 3, 0.5, 0.7])
def test_the_bound_is_that_of_the_fraction(monkeypatch, share):
    for word in (int(share * 2**53) + step for step in (-1, 0, 1)):
        monkeypatch.setattr(torch.Tensor, "random_", lambda self, *_, value=word, **__: self.fill_(value))
        kept = dropout._compare_integers(torch.empty(1, dtype=torch.bool), share)
        assert kept.item() == (word * 2.0**-53 < share)


def test_whoever_follows_it_sees_torchs_own():
    layer, x = accelerate(nn.Dropout(0.5)), torch.ones(300, 300)
    graphs = []

    def backend(graph, _):
        graphs.append(graph.code)
        return graph.forward

    torch.compile(layer, backend=backend, fullgraph=True, dynamic=True)(x)
    torch._dynamo.reset()
    for trace in (torch.jit.trace, torch.fx.experimental.proxy_tensor.make_fx):
        options = {"check_trace": False} if trace is torch.jit.trace else {}
        graphs.append(trace(layer, x, **options).code if options else trace(layer)(x).code)
    batch = torch.export.Dim("batch", min=2, max=4096)
    exported = torch.export.export(layer, (x,), dynamic_shapes=({0: batch},), strict=False)
    graphs.append(exported.graph_module.code)
    assert not any("random" in code for code in graphs)
    assert all("dropout" in code or "bernoulli" in code for code in graphs)
    assert exported.module()(torch.ones(400, 300)).shape == (400, 300)
    with torch.device("meta"):  # what is made meanwhile without a word is made elsewhere
        assert 0.4 < (layer(x) == 0).double().mean() < 0.6 and 0.4 < (Dropout(0.5)(x) == 0).double().mean() < 0.6


# Attention


def gradients(function, inputs, seed=0):
    """What a function gives and its gradients, from a random state; and what is drawn next."""
    torch.manual_seed(seed)
    y = function(*inputs)
    rest = torch.rand(3)
    weight = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
    return y, rest, *torch.autograd.grad((y * weight).sum(), inputs)


@pytest.mark.parametrize("drop_prob", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("shape", [(8, 5, 41, 37, 4, 6), (1, 1, 240, 230, 16, 3), (1, 2, 3, 4, 5, 6)])
def test_equals_torch_from_the_same_random_state(shape, drop_prob):
    batch, heads, n, m, d, e = shape
    torch.manual_seed(1)
    inputs = [
        torch.randn(batch, rows, heads, columns, dtype=torch.float64).transpose(1, 2).requires_grad_()
        for rows, columns in ((n, d), (m, d), (m, e))
    ]
    ours = gradients(lambda q, k, v: attend(q, k, v, drop_prob), inputs)
    plain = gradients(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, dropout_p=drop_prob), inputs)
    for a, b in zip(ours, plain, strict=True):
        torch.testing.assert_close(a, b)


def test_steep_scores_in_float32():
    torch.manual_seed(0)
    q = 30 * torch.randn(2, 4, 90, 8)
    q.requires_grad_()
    ours = gradients(lambda x: attend(x, x, x, 0.3), [q])
    plain = gradients(lambda x: F.scaled_dot_product_attention(x, x, x, dropout_p=0.3), [q])
    for a, b in zip(ours, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("training", [True, False])
def test_braindecodes_layer(training):
    torch.manual_seed(0)
    layer = MultiHeadAttention(40, 10, 0.5).double().train(training)
    x = torch.randn(6, 30, 40, dtype=torch.float64, requires_grad=True)
    inputs = [x, *layer.parameters()]
    before = gradients(lambda *_: layer(x), inputs)
    names = list(layer.state_dict())
    assert has_attention_form(layer) and attend_by_heads(layer, x) is not None
    after = gradients(lambda *_: accelerate(layer)(x), inputs)
    for a, b in zip(after, before, strict=True):
        torch.testing.assert_close(a, b)
    assert list(layer.state_dict()) == names and isinstance(layer, MultiHeadAttention)
    assert layer._skeeg_form == "attention"


def test_an_export_takes_any_batch():
    layer, x = accelerate(MultiHeadAttention(8, 2, 0.5)), torch.randn(16, 70, 8)
    batch = torch.export.Dim("batch", min=2, max=64)
    for module in (layer.train(), layer.eval()):
        exported = torch.export.export(module, (x,), dynamic_shapes=({0: batch},), strict=False).module()
        assert exported(torch.randn(20, 70, 8)).shape == (20, 70, 8)
    torch.testing.assert_close(exported(x[:5]), layer(x[:5]))


def test_masks_other_shapes_and_listeners_get_braindecodes_own():
    layer = accelerate(MultiHeadAttention(8, 2).eval())
    x = torch.randn(2, 5, 8)
    mask = torch.zeros(5, 5).index_fill_(1, torch.tensor([0]), float("-inf"))
    assert attend_by_heads(layer, x, mask) is None and attend_by_heads(layer, x[None]) is None
    masked = layer(x, mask)
    assert not torch.allclose(masked, layer(x))
    changed = x.clone()
    changed[:, 0] += 1  # nobody looks at the first token
    torch.testing.assert_close(layer(changed, mask)[:, 1:], masked[:, 1:])
    heard = []
    handle = layer.rearrange_stack.register_forward_hook(lambda *_: heard.append(True))
    whole = layer(x)
    handle.remove()
    assert len(heard) == 3
    torch.testing.assert_close(layer(x), whole)
    assert not has_attention_form(nn.MultiheadAttention(8, 2))


def test_attention_in_transforms_and_lower_precision_is_torchs(monkeypatch):
    used = []
    monkeypatch.setattr(dropout, "drop_values", lambda x, *_: used.append(True) or x)
    q = torch.randn(2, 4, 90, 8)
    attend(q, q, q, 0.5)
    assert used == [True]
    attend(q.bfloat16(), q.bfloat16(), q.bfloat16(), 0.5)
    attend(q[:, :, :5], q, q, 0.5)
    torch.func.vmap(lambda part: attend(part, part, part, 0.5), randomness="different")(q)
    assert used == [True]
