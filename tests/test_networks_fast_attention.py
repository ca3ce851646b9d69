import pytest
import torch
import torch.nn.functional as F
from braindecode.modules import MultiHeadAttention
from torch import nn

from skeeg.networks import accelerate
from skeeg.networks.fast import dropout as room
from skeeg.networks.fast.dropout import attend, attend_by_heads, has_attention_form


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


def test_transforms_and_lower_precision_go_to_torch(monkeypatch):
    used = []
    monkeypatch.setattr(room, "drop_values", lambda x, *_: used.append(True) or x)
    q = torch.randn(2, 4, 90, 8)
    attend(q, q, q, 0.5)
    assert used == [True]
    attend(q.bfloat16(), q.bfloat16(), q.bfloat16(), 0.5)
    attend(q[:, :, :5], q, q, 0.5)
    torch.func.vmap(lambda part: attend(part, part, part, 0.5), randomness="different")(q)
    assert used == [True]
