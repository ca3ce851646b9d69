import pytest
import torch
import torch.fx.experimental.proxy_tensor
from torch import nn

from skeeg.networks import accelerate
from skeeg.networks.fast import dropout as room
from skeeg.networks.fast.dropout import Dropout, drop, has_dropout_form, keep_as_torch


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
    monkeypatch.setattr(room, "_torch_compares_words", lambda: False)
    monkeypatch.setattr(room, "_compare_words", lambda *_: asked.append(True))
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
    assert intel or room._torch_compares_words()


@pytest.mark.parametrize("share", [0.1, 0.3, 1 / 3, 0.5, 0.7])
def test_the_bound_is_that_of_the_fraction(monkeypatch, share):
    for word in (int(share * 2**53) + step for step in (-1, 0, 1)):
        monkeypatch.setattr(torch.Tensor, "random_", lambda self, *_, value=word, **__: self.fill_(value))
        kept = room._compare_words(torch.empty(1, dtype=torch.bool), share)
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
