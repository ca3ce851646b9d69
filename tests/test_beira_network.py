import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from test_benchmarks import load_script

from skeeg.methods.beira import BEIRA, BEIRAManyToOne, SharedBEIRA
from skeeg.methods.beira.network import depthwise_conv1d, time_major_conv1d
from skeeg.methods.beira.training import BOLDLoss, covariance_distance, make_loss, pearson
from skeeg.training import load_checkpoint

CODE = load_script("beira")  # the published form of networks and patterns
PUBLISHED = {"channels": (128,) * 4, "kernel_sizes": (5, 5, 3), "strides": (8, 8, 4), "decoder_reduce": 4}
SMALL = {"n_branches": 3, "channels": (8, 12, 12), "kernel_sizes": (5, 3), "strides": (4, 2), "decoder_reduce": 2}

# Sum, sum of absolute values, first eight values, step and twelve strided values of outputs of the published code, with
# weights and inputs drawn by `fill` and `draw`.
ANCHORS = {
    "regions_2048": (
        -1863.0189886814105,
        2527.675222841489,
        (0.0276026, 0.0276026, 0.0276026, 0.0276026, 0.0257148, 0.0219393, 0.0181638, 0.0143883),
        2730,
        (0.0276026, 0.0336191, 0.0011782, -0.1211651, -0.2169714, 0.0212014, 0.0350462, 0.0364567, -0.0065339,
         -0.1054624, -0.2801984, 0.0185026),
    ),
    "regions_5400": (
        -2491.423597892802,
        3203.579818834506,
        (0.0333425, 0.0333425, 0.0333425, 0.0333425, 0.031998, 0.0293089, 0.0266198, 0.0239307),
        3584,
        (0.0333425, -0.0233868, 0.0330665, 0.129037, 0.0139031, -0.0451232, 0.0778861, -0.1318346, -0.221039, 0.0691491,
         0.0028499, -0.1216468),
    ),
    "front_end": (
        -935.0824844837043,
        2395.357260744946,
        (0.0170078,) * 8,
        5461,
        (0.0170078, -0.0154854, 0.0536979, -0.0510409, -0.0124823, -0.0025537, 0.006218, -0.0173947, 0.0443749,
         -0.0577403, -0.0320903, -0.0318964),
    ),
    "shared": (
        -50.49637541655102,
        66.44216076549492,
        (0.1070666, 0.1070666, 0.0868252, 0.0463423, 0.0058595, -0.0346233, -0.0574665, -0.0626699),
        85,
        (0.1070666, -0.0573158, -0.0812066, -0.0149255, -0.0219058, -0.0351457, -0.1145561, -0.0571478, -0.0773794,
         -0.0195387, -0.0205804, -0.0498461),
    ),
    "spatial_pattern": (
        0.04748773397295736,
        2.4496489947487134,
        (-0.0050254, -0.00273, -0.0090078, -0.0094967, -0.0007249, 0.0090373, 0.006288, -0.0120099),
        40,
        (-0.0050254, -0.0124762, -0.0053803, 0.0066862, -0.0136184, 0.0012894, 0.0041426, 0.008487, -0.0042557,
         -0.0054215, 4.04e-05, -0.0036266),
    ),
    "frequency_pattern": (
        0.008089413300709225,
        0.008089413300709225,
        (1.05e-05, 1.29e-05, 2.21e-05, 1.8e-05, 2.3e-05, 3.28e-05, 7.3e-05, 1.42e-05),
        33,
        (1.05e-05, 1.05e-05, 6.8e-06, 2.43e-05, 2.22e-05, 3.71e-05, 1.02e-05, 4.8e-06, 4.3e-06, 5.5e-06, 1.71e-05,
         1.15e-05),
    ),
}  # fmt: skip

KEYS_OF_ONE = {
    "artur_block.unmixing_layer.weight": (16, 30, 1),
    "artur_block.unmixing_layer.bias": (16,),
    "artur_block.unmixed_channels_batchnorm.running_mean": (16,),
    "artur_block.unmixed_channels_batchnorm.running_var": (16,),
    "artur_block.unmixed_channels_batchnorm.num_batches_tracked": (),
    "artur_block.band_pass.weight": (16, 1, 51),
    "artur_block.norm.running_mean": (16,),
    "artur_block.norm.running_var": (16,),
    "artur_block.norm.num_batches_tracked": (),
    "artur_block.low_pass.weight": (16, 1, 51),
    "artur_block.low_pass.bias": (16,),
    "spatial_reduce.conv1d.weight": (128, 16, 3),
    "spatial_reduce.norm.weight": (128,),
    "spatial_reduce.norm.bias": (128,),
    "downsample_blocks.0.conv1d.weight": (128, 128, 5),
    "downsample_blocks.0.norm.weight": (128,),
    "downsample_blocks.0.norm.bias": (128,),
    "downsample_blocks.1.conv1d.weight": (128, 128, 5),
    "downsample_blocks.1.norm.weight": (128,),
    "downsample_blocks.1.norm.bias": (128,),
    "downsample_blocks.2.conv1d.weight": (128, 128, 3),
    "downsample_blocks.2.norm.weight": (128,),
    "downsample_blocks.2.norm.bias": (128,),
    "upsample_blocks.0.conv_block.conv1d.weight": (32, 128, 3),
    "upsample_blocks.0.conv_block.norm.weight": (32,),
    "upsample_blocks.0.conv_block.norm.bias": (32,),
    "upsample_blocks.1.conv_block.conv1d.weight": (32, 32, 5),
    "upsample_blocks.1.conv_block.norm.weight": (32,),
    "upsample_blocks.1.conv_block.norm.bias": (32,),
    "upsample_blocks.2.conv_block.conv1d.weight": (32, 32, 5),
    "upsample_blocks.2.conv_block.norm.weight": (32,),
    "upsample_blocks.2.conv_block.norm.bias": (32,),
    "conv1x1_one.weight": (1, 32, 1),
    "conv1x1_one.bias": (1,),
}
FRONT_OF_LSTM = ("unmixing_layer.weight", "unmixing_layer.bias", "unmixed_channels_batchnorm.running_mean",
                 "unmixed_channels_batchnorm.running_var", "unmixed_channels_batchnorm.num_batches_tracked",
                 "detector.0.weight", "detector.1.running_mean", "detector.1.running_var",
                 "detector.1.num_batches_tracked", "detector.3.weight", "detector.3.bias")  # fmt: skip


def shapes(module):
    """Shapes of the tensors by their published names."""
    return {old_names(module).get(name, name): tuple(value.shape) for name, value in module.state_dict().items()}


def old_names(module):
    return {new: old for old, new in module.mapping.items()}


def fill(module):
    """Weights from the names alone, so that they are the same in any implementation."""
    state, old = module.state_dict(), old_names(module)
    for i, name in enumerate(sorted(state, key=lambda name: old.get(name, name))):
        if state[name].is_floating_point():
            draw = np.random.RandomState(1000 + i).standard_normal(state[name].numel()) * 0.05  # noqa: NPY002
            draw = draw.reshape(state[name].shape)
            if name.endswith("running_var"):
                draw = np.abs(1 + draw)
            elif state[name].ndim == 1 and name.endswith(".weight"):
                draw = 1 + draw
            state[name] = torch.tensor(draw, dtype=torch.float32)
    module.load_state_dict(state)
    return module.eval()


def draw(seed, *shape):
    return torch.tensor(np.random.RandomState(seed).standard_normal(shape).astype(np.float32))  # noqa: NPY002


def assert_anchor(name, values, atol=1e-4):
    total, absolute, first, step, strided = ANCHORS[name]
    flat = np.asarray(values, dtype=np.float64).ravel()
    np.testing.assert_allclose(flat[:8], first, rtol=0, atol=atol)
    np.testing.assert_allclose(flat[::step][:12], strided, rtol=0, atol=atol)
    np.testing.assert_allclose(flat.sum(), total, rtol=1e-5, atol=atol)
    np.testing.assert_allclose(np.abs(flat).sum(), absolute, rtol=1e-5)


@pytest.fixture(scope="module")
def published():
    return fill(BEIRA(n_chans=30, n_outputs=8))


@pytest.mark.parametrize("form", CODE.FORMS)
def test_regions_reproduce_the_published_outputs(published, form):
    with torch.no_grad():
        assert_anchor("regions_2048", form(published, draw(1, 2, 30, 2048)))
        long = form(published, draw(2, 1, 30, 5400))
        assert long.shape == (1, 8, 5376)
        assert_anchor("regions_5400", long)


def test_front_end_reproduces_the_published_envelopes(published):
    with torch.no_grad():
        assert_anchor("front_end", published.envelopes(draw(1, 2, 30, 2048))[:, 3])


@pytest.mark.parametrize("form", CODE.FORMS)
def test_shared_network_reproduces_the_published_outputs(form):
    network = fill(SharedBEIRA(n_chans=5, n_outputs=2, n_branches=3))
    with torch.no_grad():
        assert_anchor("shared", form(network, draw(3, 2, 5, 256)))


def test_patterns_reproduce_the_published_ones(published):
    eeg = draw(6, 30, 5400).numpy()
    spatial, temporal = (part[0].numpy() for part in published.front_weights())
    assert_anchor("spatial_pattern", CODE.filtered_covariance_pattern(eeg, spatial, temporal))
    assert_anchor("frequency_pattern", CODE.published_frequency_pattern(eeg, spatial, temporal), atol=1e-7)


def test_losses_reproduce_the_published_values():
    outputs, targets = draw(4, 3, 8, 256), draw(5, 3, 8, 256)
    assert BOLDLoss(1.0)(outputs, targets).item() == pytest.approx(1.9726288318634033, abs=1e-6)
    assert pearson(outputs, targets).mean().item() == pytest.approx(0.005698878318071365, abs=1e-6)
    assert make_loss("mixed")(outputs, targets).item() == pytest.approx(1.7747960608452558, abs=1e-6)


def test_state_dicts_have_the_published_names_and_shapes():
    expected = {f"models.{region}.{name}": shape for region in range(8) for name, shape in KEYS_OF_ONE.items()}
    network = BEIRA(n_chans=30, n_outputs=8)
    assert shapes(network) == expected
    old = {old_names(network).get(name, name): value for name, value in network.state_dict().items()}
    assert network.load_state_dict(old).missing_keys == []
    assert sum(p.numel() for p in network.parameters()) == 1960456
    expected = {f"models.0.{name}": shape for name, shape in KEYS_OF_ONE.items()}
    assert shapes(SharedBEIRA(n_chans=30, n_outputs=1, n_branches=16, **PUBLISHED)) == expected
    assert sum(p.numel() for p in SharedBEIRA(n_chans=30, n_outputs=21).parameters()) == 11251


def test_layout_of_the_affine_follow_up_loads_whole():
    sizes = PUBLISHED | {"kernel_sizes": (3, 3, 3), "strides": (8, 8, 8)}
    released = SharedBEIRA(n_chans=62, n_outputs=1, n_branches=16, unmixing_norm_affine=True, **sizes)
    state = released.state_dict()
    assert len(state) == 36
    assert sum(value.numel() for value in state.values()) == 176035
    assert state["models.0.artur_block.unmixed_channels_batchnorm.weight"].shape == (16,)
    ours = fill(released).state_dict()
    theirs = {old_names(released).get(name, name): value for name, value in ours.items()}
    assert all(name.startswith("models.0.") for name in theirs)
    x = draw(7, 1, 62, 2048)
    for weights in (ours, theirs, {name.removeprefix("models.0."): value for name, value in theirs.items()}):
        for kind in (BEIRA, SharedBEIRA):
            options = {} if kind is BEIRA else {"n_branches": 16}
            network = kind(n_chans=62, n_outputs=1, unmixing_norm_affine=True, **options, **sizes)
            report = load_checkpoint(network, weights, keep_head=True)
            assert len(report.matched) == 36
            assert not report.missing and not report.unexpected and not report.reshaped
            with torch.no_grad():
                torch.testing.assert_close(network.eval()(x), released(x), rtol=0, atol=1e-5)


def test_many_to_one_has_the_published_names_and_shapes():
    network = BEIRAManyToOne(n_chans=30, n_outputs=8, n_times=2048)
    state = shapes(network)
    assert tuple(list(state)[:11]) == FRONT_OF_LSTM
    assert len(state) == 37 - 5
    assert sum(p.numel() for p in network.parameters()) == 29552 - 8 * (2048 + 1)
    assert state["lstm.weight_ih_l1_reverse"] == (64, 32)
    assert state["fc_last.weight"] == (8, 32)
    unused = {"features_batchnorm.running_mean": torch.zeros(2048), "fc_layer.weight": torch.zeros(8, 2048)}
    old = {old_names(network).get(name, name): value for name, value in network.state_dict().items()}
    report = load_checkpoint(network, old | unused, keep_head=True)
    assert len(report.matched) == 32 and not (report.missing or report.reshaped)


def test_many_to_one_equals_its_layers_run_one_by_one():
    network = fill(BEIRAManyToOne(n_chans=5, n_outputs=2, n_times=320, n_branches=4))
    x = draw(0, 3, 5, 320)
    with torch.no_grad():
        envelopes = network.detector(network.unmixed_channels_batchnorm(network.unmixing_layer(x)))
        pooled = F.max_pool1d(envelopes, 32, 32).transpose(1, 2)
        expected = network.final_layer(network.bn_last(network.lstm(pooled)[0][:, -1]))
        torch.testing.assert_close(network(x), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("rectifier", ["relu", "abs"])
def test_fast_forms_equal_torchs_layers_in_training_too(rectifier, affine):
    options = {**SMALL, "rectifier": rectifier, "unmixing_norm_affine": affine, "drop_prob": 0.0}
    together, apart = BEIRA(6, 3, **options), BEIRA(6, 3, **options)
    apart.load_state_dict(fill(together).state_dict())
    x, y = draw(0, 4, 6, 90), draw(1, 4, 3, 88)
    for network, form in zip((apart, together), CODE.FORMS, strict=True):
        network.train()
        BOLDLoss()(form(network, x), y).backward()
    torch.testing.assert_close(together.state_dict(), apart.state_dict(), rtol=1e-5, atol=1e-6)  # running statistics
    for (name, one), other in zip(together.named_parameters(), apart.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize("n_chans", [*range(1, 25), 32, 62, 64])
def test_float32_gradients_are_right_at_every_number_of_electrodes(n_chans):
    network = BEIRA(n_chans, 2, drop_prob=0.0, **SMALL)
    x, y = draw(0, 3, n_chans, 64), draw(1, 3, 2, 64)
    gradients = []
    for dtype in (torch.float32, torch.float64):
        network.to(dtype).zero_grad()
        (network(x.to(dtype)) - y.to(dtype)).square().mean().backward()
        gradients.append(torch.cat([p.grad.double().flatten() for p in network.parameters()]))
    assert (gradients[0] - gradients[1]).norm() < 1e-3 * gradients[1].norm()


def test_float32_gradients_of_fast_forms_are_as_near_to_float64_as_those_of_torchs_layers():
    """Without pooling: which of two nearly equal values is the larger, rounding decides in either form."""
    errors = [], []
    for seed in range(6):
        torch.manual_seed(seed)
        sizes = {"channels": (64, 64), "kernel_sizes": (5,), "strides": (1,), "decoder_reduce": 1}
        network = BEIRA(4, 1, n_branches=2, drop_prob=0.0, **sizes)
        x, y = draw(seed, 2, 4, 300), draw(seed + 100, 2, 1, 300)

        def gradient(dtype, form, network=network, x=x, y=y):
            copied = copy.deepcopy(network).to(dtype)
            BOLDLoss()(form(copied, x.to(dtype)), y.to(dtype)).backward()
            return torch.cat([p.grad.double().flatten() for p in copied.parameters()])

        exact = gradient(torch.float64, CODE.run_layers)
        for form, found in zip(CODE.FORMS, errors, strict=True):
            found.append(((gradient(torch.float32, form) - exact).norm() / exact.norm()).item())
    apart, together = map(np.median, errors)
    assert together < 1.1 * apart < 1e-6


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 90), st.integers(1, 53), st.integers(1, 20), st.integers(1, 3))
def test_filters_in_phases_equal_filters_tap_by_tap(n_times, n_taps, n_phases, n_channels):
    x, weight = torch.randn(2, n_channels, n_times).double(), torch.randn(n_channels, 1, n_taps).double()
    plain = F.conv1d(x, weight, groups=n_channels, padding="same")
    torch.testing.assert_close(depthwise_conv1d(x, weight, n_phases), plain, rtol=0, atol=1e-11)


@pytest.mark.parametrize("n_taps", range(1, 7))
def test_time_major_convolution_and_its_gradients(n_taps):
    x = torch.randn(2, 9, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 3, n_taps, dtype=torch.float64, requires_grad=True)
    plain = F.conv1d(x.mT, weight, padding="same").mT
    torch.testing.assert_close(time_major_conv1d(x, weight), plain)
    assert torch.autograd.gradcheck(time_major_conv1d, (x, weight))


def test_covariance_distance_equals_pyriemann():
    from pyriemann.geometry.distance import distance_riemann

    a, b = draw(0, 3, 4, 60).double(), draw(1, 3, 4, 60).double()
    expected = [distance_riemann(np.cov(x), np.cov(y)) for x, y in zip(a.numpy(), b.numpy(), strict=True)]
    np.testing.assert_allclose(covariance_distance(a, b, shrinkage=0.0), expected, rtol=1e-8)


@pytest.mark.parametrize("n_times", [2, 5, 40])
def test_covariance_distance_of_few_samples_is_finite_with_its_gradient(n_times):
    a, b = draw(0, 2, 8, n_times).requires_grad_(), draw(1, 2, 8, n_times)
    covariance_distance(a, b).sum().backward()
    assert torch.isfinite(a.grad).all()


def test_loss_cuts_padding_and_ignores_the_first_and_last_sample():
    targets = torch.zeros(1, 1, 6)
    outputs = torch.tensor([[[9.0, 1, 1, 1, 1, 9, 5, 5]]])
    assert BOLDLoss(1.0)(outputs, targets).item() == 1.0
    values = BOLDLoss(1.0, sample=3)(outputs, torch.zeros(1, 1))
    assert values.item() == 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strides": (4,)}, "strides: got 1 values for 3 channels, expected 2"),
        ({"rectifier": "square"}, "rectifier: got 'square'"),
        ({"n_times": 7}, "needs at least 8"),
        ({"decoder_reduce": 9}, "decoder_reduce: got 9"),
    ],
)
def test_bad_sizes_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        BEIRA(4, 2, **(SMALL | arguments))


def test_short_input_is_refused():
    with pytest.raises(ValueError, match="got 7 samples, the network needs at least 8"):
        BEIRA(4, 2, **SMALL)(torch.zeros(1, 4, 7))


@pytest.mark.parametrize("loss", ["rmse", (1, 2), (0, 0, 0), (-1, 1, 0), None])
def test_bad_losses_are_refused(loss):
    with pytest.raises(ValueError, match="loss: got"):
        make_loss(loss)
