import os
import pathlib

import numpy as np
import pytest
import torch
from braindecode import EEGClassifier

from skeeg.methods.ct_adapttl import CTAdaptTLNet
from skeeg.methods.ct_adapttl.network import UPSTREAM_KEYS

DATA = pathlib.Path(os.environ.get("SKEEG_DATA", "../shared/data")) / "checkpoints" / "ct_adapttl_gist"
SHAPES = {
    "conv1.weight": (40, 1, 25, 1), "conv1.bias": (40,), "conv1_1.weight": (40, 40, 1, 20), "bn1.weight": (40,),
    "bn1.bias": (40,), "bn1.running_mean": (40,), "bn1.running_var": (40,), "bn1.num_batches_tracked": (),
    "fc.0.weight": (200, 3760), "fc.0.bias": (200,), "conv_classifier.0.weight": (2, 200),
    "conv_classifier.0.bias": (2,),
}  # fmt: skip
# Log-probabilities that the published code gives for weights and input made by formula.
REFERENCE = {
    1500: [[-0.6767208576202393, -0.7098478674888611], [-0.6766929030418396, -0.7098766565322876]],
    2000: [[-0.6770875453948975, -0.7094689607620239], [-0.6774094700813293, -0.7091365456581116]],
}
REFERENCE_FOLD3 = [[-1.6058546304702759, -0.2240414172410965], [-2.5300545692443848, -0.08300632983446121]]


def formula_state(n_times):
    state = {}
    for rank, key in enumerate(sorted(SHAPES)):
        shape = (200, 3760 if n_times == 1500 else 5080) if key == "fc.0.weight" else SHAPES[key]
        base = np.sin(0.37 * np.arange(np.prod(shape, dtype=int)) + rank)
        if key.endswith("num_batches_tracked"):
            base = np.zeros(1)
        elif key.endswith("running_var"):
            base = 1 + 0.5 * base**2
        elif len(shape) == 1:
            base = 1 + 0.1 * base if key.endswith("weight") else 0.01 * base
        else:
            base = 0.05 * base
        dtype = torch.int64 if key.endswith("tracked") else torch.float32
        state[key] = torch.tensor(base.reshape(shape), dtype=dtype)
    return state


def make_net(*sizes, merge, **params):
    """The network, or, without ``merge``, with its two front layers one after the other."""
    net = CTAdaptTLNet(*sizes, **params)
    if not merge:
        net.front = lambda x: net.spatial(net.temporal(x.transpose(1, 2)[:, None]))[..., 0]
    return net


def formula_input(n_times):
    b, c, t = np.ogrid[:2, :20, :n_times]
    return torch.tensor(np.sin(0.01 * (b + 1) * (t + 1) + 0.5 * c), dtype=torch.float32)


@pytest.mark.parametrize("n_times", [1500, 2000])
@pytest.mark.parametrize(("merge", "tolerance"), [(False, 1e-6), (True, 1e-5)])
def test_published_numbers(n_times, merge, tolerance):
    net = make_net(2, 20, n_times=n_times, merge=merge).eval()
    net.load_state_dict(formula_state(n_times))
    with torch.no_grad():
        found = net(formula_input(n_times)).log_softmax(1)
        assert net.features(formula_input(n_times)).shape == (2, SHAPES["fc.0.weight"][1] if n_times == 1500 else 5080)
    np.testing.assert_allclose(found, REFERENCE[n_times], rtol=0, atol=tolerance)


@pytest.mark.parametrize("merge", [False, True])
def test_released_checkpoint(merge):
    path = DATA / "pretrained_fold3.pt"
    if not path.is_file():
        pytest.skip(f"the released checkpoints are not at {DATA} (SKEEG_DATA)")
    net = make_net(2, 20, n_times=1500, merge=merge).eval()
    report = net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    assert not report.missing_keys and not report.unexpected_keys
    with torch.no_grad():
        found = net(formula_input(1500)).log_softmax(1)
    np.testing.assert_allclose(found, REFERENCE_FOLD3, rtol=0, atol=1e-5)


def test_names_and_sizes_of_the_published_state():
    net = CTAdaptTLNet(2, 20, n_times=1500)
    own = {name: tuple(value.shape) for name, value in net.state_dict().items()}
    assert own == {UPSTREAM_KEYS[name]: shape for name, shape in SHAPES.items()}
    assert sum(p.numel() for p in net.parameters()) == 785722
    assert sum(p.numel() for p in CTAdaptTLNet(2, 20, n_times=2000).parameters()) == 1049722
    assert list(dict(net.named_children()))[-1] == "final_layer"


def gradients(merge, dtype, n_chans, n_times=140):
    torch.manual_seed(0)
    net = make_net(3, n_chans, n_times=n_times, merge=merge, drop_prob=0.0).to(dtype).train()
    x = torch.randn(6, n_chans, n_times, dtype=torch.float64).to(dtype)
    torch.nn.functional.cross_entropy(net(x), torch.arange(6) % 3).backward()
    flat = [p.grad.double().flatten() for name, p in net.named_parameters() if name != "temporal.bias"]
    return torch.cat(flat), net.norm.running_var.double()


@pytest.mark.parametrize("n_chans", [*range(1, 25), 32, 62, 64])
def test_both_forms_train_alike_and_right(n_chans):
    exact, statistics = gradients(False, torch.float64, n_chans)
    for merge, dtype, tolerance in ((True, torch.float64, 1e-10), (True, torch.float32, 1e-3)):
        found, found_statistics = gradients(merge, dtype, n_chans)
        assert (found - exact).norm() < tolerance * exact.norm()
        torch.testing.assert_close(found_statistics, statistics, rtol=1e-4, atol=0)


def test_plain_form_trains_right_where_torch_has_been_wrong():
    for n_chans in (14, 16, 19):
        exact, _ = gradients(False, torch.float64, n_chans)
        assert (gradients(False, torch.float32, n_chans)[0] - exact).norm() < 1e-3 * exact.norm()


@pytest.mark.parametrize(("n_chans", "n_times", "n_outputs"), [(1, 99, 1), (3, 100, 4), (64, 640, 2)])
def test_any_size(n_chans, n_times, n_outputs):
    net = CTAdaptTLNet(n_outputs, n_chans, n_times=n_times)
    assert net(torch.randn(5, n_chans, n_times)).shape == (5, n_outputs)
    assert net.hidden.in_features == 40 * ((n_times - 24 - 75) // 15 + 1)


def test_too_short_says_how_long():
    with pytest.raises(ValueError, match="n_times: .* at least 99 samples .* got 98"):
        CTAdaptTLNet(2, 3, n_times=98)


def test_one_trial_is_predicted_as_among_others():
    net, x = CTAdaptTLNet(2, 5, n_times=200).eval(), torch.randn(4, 5, 200)
    with torch.no_grad():
        torch.testing.assert_close(net(x)[2:3], net(x[2:3]), rtol=1e-5, atol=1e-6)


def test_frozen_normalisation_stays_through_training_mode():
    net = CTAdaptTLNet(2, 5, n_times=200)
    net.freeze_norm = True
    before = net.norm.running_mean.clone()
    net.train()(torch.randn(4, 5, 200))
    assert net.training and not net.norm.training
    torch.testing.assert_close(net.norm.running_mean, before)


def test_config_round_trip_and_new_head():
    net = CTAdaptTLNet(2, 5, n_times=200, n_filters=8, activation=torch.nn.ReLU)
    twin = CTAdaptTLNet.from_config(net.get_config())
    assert {k: v.shape for k, v in twin.state_dict().items()} == {k: v.shape for k, v in net.state_dict().items()}
    assert isinstance(twin.activation, torch.nn.ReLU)
    net.reset_head(7)
    assert net(torch.randn(2, 5, 200)).shape == (2, 7) and net.n_outputs == 7


def test_works_inside_braindecode():
    X, y = np.random.default_rng(0).normal(size=(12, 4, 150)).astype("float32"), np.arange(12) % 2
    clf = EEGClassifier(CTAdaptTLNet, module__n_filters=4, max_epochs=1, batch_size=4, train_split=None, verbose=0)
    assert clf.fit(X, y).predict(X).shape == (12,)
