import pytest
import torch
from torch import nn

from skeeg.networks import accelerate
from skeeg.networks import dropout as rooms
from skeeg.networks.dropout import Dropout, drop, has_dropout_form, keep_as_torch


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


LAYOUTS = {
    "contiguous": torch.ones(90, 1001),
    "of a few blocks to the value": torch.ones(3 * 2**16),
    "transposed": torch.ones(40, 30, 50).permute(2, 0, 1),
    "with gaps": torch.ones(70, 400)[:, ::3],
    "expanded": torch.ones(1, 300).expand(50, 300),
    "double": torch.ones(90, 100, dtype=torch.float64),
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
    assert drop(layer, x) is not None
    assert torch.equal(ours, plain) and ours.stride() == plain.stride()
    assert torch.equal(after_ours, after)


def test_its_gradients_are_those_of_torch():
    x = torch.randn(100, 100, requires_grad=True)
    found = []
    for layer in (nn.Dropout(0.3), accelerate(nn.Dropout(0.3))):
        torch.manual_seed(0)
        found.append(torch.autograd.grad(layer(x).square().sum(), x)[0])
    assert torch.equal(*found)


def test_where_torch_draws_otherwise_it_is_asked(monkeypatch):
    asked = []
    monkeypatch.setattr(rooms, "_torch_compares_words", lambda: False)
    monkeypatch.setattr(rooms, "_compare_words", lambda *_: asked.append(True))
    x = torch.zeros(100, 100)
    torch.manual_seed(0)
    kept = keep_as_torch(x, 0.3)
    torch.manual_seed(0)
    assert torch.equal(kept.float(), torch.empty(100, 100).bernoulli_(0.7)) and not asked


def test_what_is_left_to_torch():
    x = torch.ones(100, 100)
    layer = nn.Dropout(0.5)
    assert has_dropout_form(layer)
    assert not any(has_dropout_form(other) for other in (nn.Dropout(0.5, inplace=True), nn.Dropout2d(), Dropout(0.5)))
    assert drop(layer, x) is not None
    assert drop(layer, x[:10, :10]) is None and drop(layer, x.bfloat16()) is None
    assert all(drop(nn.Dropout(p), x) is None for p in (0.0, 1.0)) and drop(nn.Dropout(0.5).eval(), x) is None
    seen = []
    torch.func.vmap(lambda part: seen.append(drop(layer, part)) or part)(torch.ones(2, 100, 100))
    assert seen == [None]


def test_compiles_to_torchs_own():
    layer = accelerate(nn.Dropout(0.5))
    graphs = []

    def backend(graph, _):
        graphs.append(graph.code)
        return graph.forward

    torch.compile(layer, backend=backend, fullgraph=True)(torch.ones(100, 100))
    assert "dropout(" in graphs[0] and "random" not in graphs[0]
    torch._dynamo.reset()
