import numpy as np
import pytest
import torch

from skeeg.networks import ADFCNN, accelerate

# Values of the published network at 16 electrodes, 1000 samples, two classes, with the parameters and the input below.
BACKBONE_FIRST = [
    0.020671242848038673,
    0.020733248442411423,
    0.020684855058789253,
    0.020799992606043816,
    0.24332663416862,
]
BACKBONE_LAST = [-5.4928812980651855, -5.170471668243408, -5.163754463195801, -5.448439598083496, -6.002359390258789]
LOG_PROBABILITIES = [[-1.6927575416048057e-05, -10.98951530456543], [-3.218599158572033e-05, -10.342554092407227]]


def filled(n_chans=16, n_times=1000, n_outputs=2, **parameters):
    """Fill a network by the rule of the reference values: sines by the rank of each key and the index in its tensor."""
    module = ADFCNN(n_chans=n_chans, n_outputs=n_outputs, n_times=n_times, **parameters).eval()
    upstream = {new: old for old, new in module.mapping.items()}
    state = {upstream.get(name, name): tensor for name, tensor in module.state_dict().items()}
    for rank, name in enumerate(sorted(state)):
        tensor = state[name]
        if name.endswith("num_batches_tracked"):
            state[name] = torch.zeros_like(tensor)
            continue
        base = np.sin(0.37 * np.arange(tensor.numel()) + rank)
        if name.endswith("running_var"):
            base = 1 + 0.5 * base**2
        elif tensor.ndim == 1:
            base = 1 + 0.1 * base if name.endswith("weight") else 0.01 * base
        else:
            base = 0.05 * base
        state[name] = torch.as_tensor(base.reshape(tensor.shape), dtype=tensor.dtype)
    module.load_state_dict(state)
    return module


def wave():
    b, c, t = np.ogrid[:2, :16, :1000]
    return torch.as_tensor(np.sin(0.01 * (b + 1) * (t + 1) + 0.5 * c), dtype=torch.float32)


@pytest.mark.parametrize("kernels", ["plain", "fast"])
def test_reference_values(kernels):
    module = accelerate(filled(), kernels)
    with torch.no_grad():
        features = module.backbone(wave()[:, None])
        logits = module(wave())
    assert features.shape == (2, 8, 1, 69)
    np.testing.assert_allclose(features[0, 0, 0, :5], BACKBONE_FIRST, rtol=1e-5)
    np.testing.assert_allclose(features[1, 7, 0, -5:], BACKBONE_LAST, rtol=1e-5)
    np.testing.assert_allclose(logits.log_softmax(1), LOG_PROBABILITIES, rtol=1e-4)


@pytest.mark.parametrize(
    "shape, count", [((16, 1000, 2), 3890), ((22, 1000, 2), 4322), ((22, 1000, 4), 5428), ((3, 1000, 2), 2954)]
)
def test_parameter_counts(shape, count):
    n_chans, n_times, n_outputs = shape
    module = ADFCNN(n_chans=n_chans, n_times=n_times, n_outputs=n_outputs)
    assert sum(p.numel() for p in module.parameters()) == count


def test_both_orders_of_the_attention_differ_and_the_transposed_one_attends_over_features():
    module = filled(scrambled_attention=True)
    other = filled(scrambled_attention=False)
    with torch.no_grad():
        assert (module(wave()) - other(wave())).abs().max() > 1e-3
        features = torch.randn(2, 8, 1, 69)
        tokens = features.squeeze(2).transpose(1, 2)
        other.backbone.w_v.weight.copy_(torch.eye(8))
        other.backbone.w_v.bias.zero_()
        attended = other.backbone._attend(features[..., :31], features[..., 31:]).squeeze(2).transpose(1, 2) - tokens
    # Rows of a softmax sum to one: a constant feature map comes out as itself.
    assert attended.shape == tokens.shape
    assert (attended.amax(2) <= tokens.amax(2) + 1e-5).all() and (attended.amin(2) >= tokens.amin(2) - 1e-5).all()


def test_filters_stay_within_their_norm():
    module = ADFCNN(n_chans=4, n_times=200, n_outputs=2, max_norm=0.1)
    with torch.no_grad():
        module.backbone.spatial_2[0].weight.mul_(100)
    before = module.backbone.spatial_2[0].weight.clone()
    module.eval()(torch.randn(2, 4, 200))
    assert torch.equal(before, module.backbone.spatial_2[0].weight)
    module.train()(torch.randn(2, 4, 200))
    for layer in (module.backbone.spectral_1[0], module.backbone.spatial_1[0], module.backbone.spatial_2[0]):
        assert (layer.weight.flatten(1).norm(dim=1) < 0.1001).all()


def test_head_can_be_replaced_and_short_signals_are_refused():
    module = ADFCNN(n_chans=4, n_times=200, n_outputs=2)
    module.reset_head(5)
    assert module(torch.zeros(3, 4, 200)).shape == (3, 5) and module.n_outputs == 5
    with pytest.raises(ValueError, match="averages over 75 samples, got n_times=74"):
        ADFCNN(n_chans=4, n_times=74, n_outputs=2)


def test_works_in_braindecodes_classifier():
    from braindecode import EEGClassifier

    X, y = np.random.default_rng(0).standard_normal((8, 3, 100)).astype("float32"), np.arange(8) % 2
    model = EEGClassifier(ADFCNN, max_epochs=1, batch_size=4, train_split=None, verbose=0, classes=[0, 1])
    assert model.fit(X, y).predict(X).shape == (8,)
