"""Every network trains on right gradients at every number of electrodes, also on machines where PyTorch's are wrong."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from skeeg.networks import accelerate, build_network, exact_convolutions, network_names
from skeeg.networks.registry import _standard_channels

COUNTS = (*range(1, 25), 32, 62, 64)
FAULTY = range(14, 20)


@dataclasses.dataclass(frozen=True)
class Case:
    """A network made small: what it is built with, and the numbers of electrodes that it takes."""

    n_times: int = 64
    parameters: dict = dataclasses.field(default_factory=dict)
    sfreq: float = 100.0
    takes: Callable[[int], bool] = lambda n_chans: True
    single: bool = False  # makes float32 tensors of its own, so that float64 cannot be had


_BENDR = {"encoder_h": 16, "contextualizer_hidden": 16, "transformer_layers": 1, "transformer_heads": 2}
_CODEBRAIN = {
    **dict.fromkeys(("res_channels", "skip_channels"), 40),
    **dict.fromkeys(("codebook_size_t", "codebook_size_f"), 8),
    **{"num_res_layers": 1, "s4_d_state": 4, "s4_lmax": 64, "conv_out_chans": 5, "conv_groups": 1},
}
_SLEEP = {
    **dict.fromkeys(("small_n_filters_1", "large_n_filters_1"), 4),
    **dict.fromkeys(("small_n_filters_2", "large_n_filters_2"), 8),
}
_BEIRA = {"n_branches": 2, "channels": (4, 4), "kernel_sizes": (3,), "strides": (4,), "decoder_reduce": 2}
_JEPA = {"transformer__num_encoder_layers": 1, "transformer__num_decoder_layers": 1}
CASES = {
    "ADFCNN": Case(80, {"kernel_length_1": 25, "kernel_length_2": 10}),
    "ATCNet": Case(64, {"conv_block_kernel_length_1": 16, "n_windows": 2, "tcn_depth": 1}),
    "AttentionBaseNet": Case(),
    "AttnSleep": Case(600, {"n_tce": 1, "d_model": 18, "d_ff": 8, "n_attn_heads": 2}, takes=lambda n: n == 1),
    "BDTCN": Case(),
    "BEIRA": Case(64, _BEIRA),
    "BEIRAManyToOne": Case(64, {"n_branches": 3, "hidden_size": 4}),
    "BENDR": Case(128, _BENDR),
    "BIOT": Case(100, {"embed_dim": 16, "num_heads": 2, "num_layers": 1, "hop_length": 50}),
    "BrainModule": Case(64, {"hidden_dim": 16, "depth": 2}),
    "CBraMod": Case(200, {"n_layer": 1, "dim_feedforward": 16, "nhead": 4}),
    "CTAdaptTLNet": Case(128, {"n_filters": 4, "n_hidden": 8}),
    "CTNet": Case(64, {"kernel_size": 16}),
    "CodeBrain": Case(200, _CODEBRAIN, single=True),
    "ContraWR": Case(100, {"emb_size": 8, "res_channels": [4, 8]}),
    "DGCNN": Case(16, {"n_filters": 8, "mlp_dims": (8,)}, takes=lambda n: n > 1),
    "Deep4Net": Case(450, {"n_filters_2": 8, "n_filters_3": 8, "n_filters_4": 8}),
    "DeepSleepNet": Case(200, {**_SLEEP, "bilstm_hidden_size": 4, "bilstm_num_layers": 1}),
    "EEGConformer": Case(128, {"num_layers": 1, "n_filters_time": 10, "num_heads": 2}),
    "EEGDINO": Case(200, {"n_layer": 1, "dim_feedforward": 16, "nhead": 4, "n_channel_embeddings": 64}),
    "EEGITNet": Case(),
    "EEGInceptionERP": Case(),
    "EEGInceptionMI": Case(64, {"n_convs": 2, "n_filters": 4}),
    "EEGMiner": Case(),
    "EEGNeX": Case(64, {"filter_1": 4, "filter_2": 8, "kernel_block_1_2": 16}),
    "EEGNet": Case(),
    "EEGPT": Case(64, {"embed_dim": 16, "depth": 1, "num_heads": 2}),
    "EEGSimpleConv": Case(64, {"feature_maps": 8}),
    "EEGSym": Case(64, {"scales_time": (60, 40, 20)}),
    "EEGTCNet": Case(64, {"kern_length": 16, "depth": 1}),
    "EMG2QwertyNet": Case(
        1200, {"mlp_features": (8,), "block_channels": (2,), "kernel_width": 4}, takes=lambda n: n == 32
    ),
    "FBCNet": Case(64, {"n_bands": 2, "n_filters_spat": 4}),
    "FBLightConvNet": Case(64, {"n_bands": 2, "n_filters_spat": 8, "win_len": 16}),
    "FBMSNet": Case(64, {"n_filters_spat": 8, "dilatability": 2}),
    "Gram": Case(64, {"size": {"n_filters": 4, "n_layers": 1, "n_heads": 1, "fused": (0,), "patch_length": 64}}),
    "IFNet": Case(64, {"n_filters_spat": 8, "kernel_sizes": (15, 7)}),
    "InterpolatedBENDR": Case(128, _BENDR, takes=lambda n: n > 4),
    "InterpolatedBIOT": Case(100, {"embed_dim": 16, "num_heads": 2, "num_layers": 1}, takes=lambda n: n > 4),
    "InterpolatedEEGPT": Case(64, {"embed_dim": 16, "depth": 1, "num_heads": 2}, takes=lambda n: n > 4),
    "InterpolatedLaBraM": Case(200, {"num_layers": 1, "num_heads": 2, "mlp_ratio": 0.1}, takes=lambda n: n > 4),
    "InterpolatedSignalJEPA": Case(160, _JEPA, takes=lambda n: n > 4),
    "LUNA": Case(80, {"embed_dim": 16, "depth": 1}),
    "MEDFormer": Case(64, {"embed_dim": 16, "num_heads": 2, "num_layers": 1, "dim_feedforward": 8}),
    "MIRepNet": Case(128, {"embed_dim": 8, "n_layers": 1, "n_heads": 2, "n_filters_time": 4, "n_filters": 8}),
    "MSVTNet": Case(64, {"n_filters_list": (2, 2), "conv1_kernels_size": (5, 9), "num_heads": 2, "num_layers": 1}),
    "MVPFormer": Case(64, {"d_model": 16, "n_layers": 1, "n_heads": 2, "n_head_kv": 1, "d_inner": 8}),
    "NeuroPose": Case(
        320,
        {"encoder_channels": (2, 4, 4), "decoder_channels": (4, 2, 1), "n_res_blocks": 1},
        takes=lambda n: n > 15,
    ),
    "PBT": Case(64, {"d_input": 16, "embed_dim": 16, "num_layers": 1, "num_heads": 2}),
    "SCCNet": Case(),
    "SPARCNet": Case(64, {"block_layers": 1, "growth_rate": 4, "bottleneck_size": 4}),
    "SSTDPN": Case(256, {"n_fused_filters": 6, "temporal_conv_kernel_size": 15}),
    "STEEGFormer": Case(64, {"embed_dim": 16, "depth": 1, "num_heads": 2}),
    "SensingDynamics": Case(
        168,
        {"temporal_channels": 8, "mid_channels": 4, "spatial_channels": 4, "mlp_hidden": 8},
        takes=lambda n: n == 16,
    ),
    "ShallowFBCSPNet": Case(128, {"n_filters_time": 4, "n_filters_spat": 4}),
    "SharedBEIRA": Case(64, _BEIRA),
    "SignalJEPA": Case(160, _JEPA),
    "SignalJEPA_Contextual": Case(160, _JEPA),
    "SignalJEPA_PostLocal": Case(160),
    "SignalJEPA_PreLocal": Case(160),
    "SincShallowNet": Case(),
    "SleepStagerBlanco2020": Case(800, {"n_conv_chans": 4}, takes=lambda n: n % 2 == 0),
    "SleepStagerChambon2018": Case(200, {"n_conv_chs": 2}),
    "SyncNet": Case(single=True),
    "TCFormer": Case(
        64, {"n_filters_time": 4, "temp_kernel_lengths": (5, 9), "group_dim": 4, "n_transformer_layers": 1}
    ),
    "TIDNet": Case(64, {"t_filters": 4, "s_growth": 4}),
    "TSception": Case(64, {"hidden_size": 8}),
    "USleep": Case(64, {"depth": 3, "ensure_odd_conv_size": True}),
}
EXCLUDED = {
    "DANCE": "gives sequences of boxes for object detection, no output that the estimators train on",
    "Labram": "takes its own 128 electrodes only; InterpolatedLaBraM is the same network behind an interpolation",
    "MetaNeuromotorHand": "gives character sequences of wristband muscle signals at 2000 Hz",
    "REVE": "downloads electrode positions when it is built",
    "VEMG2Pose": "gives hand poses, frame by frame, of wristband muscle signals; needs 1791 samples at least",
    "ZUNA": "172 million parameters at its smallest head; a generator of signals, trained elsewhere",
}


class WrongGradients(TorchFunctionMode):
    """Give `conv2d` its fault of AVX-512 machines: wrong weight gradients where the kernel spans 14-19 columns."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.conv2d and _is_faulty(*args, **kwargs):
            args = (args[0], _Garble.apply(args[1]), *args[2:]) if len(args) > 1 else args
            if "weight" in kwargs:
                kwargs = {**kwargs, "weight": _Garble.apply(kwargs["weight"])}
        return func(*args, **kwargs)


def _is_faulty(input, weight, *args, groups=1, **kwargs):
    spans = weight.shape[3] == input.shape[3] and input.shape[3] in FAULTY
    return spans and input.shape[1] <= 3 and input.dtype == torch.float32


class _Garble(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weight):
        return weight.clone()

    @staticmethod
    def backward(ctx, grad):
        return -grad.flip(-1)


@functools.cache
def has_fault():
    """Whether this machine computes the weight gradient wrongly itself."""
    x, grad = torch.randn(8, 1, 100, 16), torch.randn(8, 16, 91, 1)
    single, double = (
        torch.nn.grad.conv2d_weight(x.to(dtype), (16, 1, 10, 16), grad.to(dtype)).double()
        for dtype in (torch.float32, torch.float64)
    )
    return bool((single - double).norm() > 0.1 * double.norm())


def build(name, n_chans):
    case = CASES[name]
    torch.manual_seed(n_chans)
    return build_network(
        name,
        n_chans=n_chans,
        n_times=case.n_times,
        n_outputs=3,
        sfreq=case.sfreq,
        ch_names=ELECTRODES[:n_chans],
        parameters=case.parameters,
    )


ELECTRODES = [channel["ch_name"] for channel in list(_standard_channels().values())[:64]]


def gradients(module, x):
    """Gradients by parameter of a fixed function of the output; batch norm trains, dropout does not."""
    module.eval().zero_grad()
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.train()
    out = module(x)
    out = out[0] if isinstance(out, tuple) else out
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).cos().view(out.shape)
    (out * weights).sum().backward()
    return {name: p.grad.double().clone() for name, p in module.named_parameters() if p.grad is not None}


def largest_error(module, case, guard, kernels="auto"):
    """Largest error of a parameter's float32 gradient, against plain kernels in float64."""
    x = torch.randn(3, module.n_chans, case.n_times, generator=torch.Generator().manual_seed(1))
    with guard:
        grads = gradients(accelerate(module, kernels), x)
    accelerate(module, "plain")
    if case.single:
        with torch.backends.mkldnn.flags(enabled=False):
            truth = gradients(module, x)
    else:
        truth = gradients(module.double(), x.double())
    whole = torch.stack([grad.norm() for grad in truth.values()]).norm()
    assert grads.keys() == truth.keys() and whole > 0
    return max(float((grads[k] - truth[k]).norm() / (truth[k].norm() + 0.01 * whole)) for k in truth)


@contextlib.contextmanager
def guarded():
    """Guard a machine that has the fault, or acts as if it had."""
    with WrongGradients(), exact_convolutions():
        yield


def test_every_network_is_covered_or_excluded_with_a_reason():
    assert set(CASES).isdisjoint(EXCLUDED)
    assert set(CASES) | set(EXCLUDED) == set(network_names())
    assert all(len(reason) > 20 for reason in EXCLUDED.values())


@pytest.mark.parametrize("name", sorted(CASES))
def test_gradients_are_right_at_every_number_of_electrodes(name):
    case = CASES[name]
    errors = {n: largest_error(build(name, n), case, guarded()) for n in COUNTS if case.takes(n)}
    assert errors and max(errors.values()) < 1e-2, {n: error for n, error in errors.items() if error >= 1e-2}


@pytest.mark.parametrize("name", sorted(name for name, case in CASES.items() if not all(map(case.takes, COUNTS))))
def test_only_refused_numbers_of_electrodes_are_left_out(name):
    case = CASES[name]
    refused = [n for n in COUNTS if not case.takes(n)]
    for n_chans in (refused[0], refused[-1]):
        with pytest.raises(Exception, match=r"\w"):
            build(name, n_chans)(torch.zeros(2, n_chans, case.n_times))


@pytest.mark.parametrize("name", ["ShallowFBCSPNet", "Deep4Net"])
@pytest.mark.parametrize("n_chans", [*FAULTY, 20])
def test_plain_kernels_are_wrong_where_the_fault_is_and_either_cure_is_right(name, n_chans):
    case = CASES[name]
    plain = largest_error(build(name, n_chans), case, WrongGradients(), "plain")
    assert plain > 0.3 if n_chans in FAULTY else plain < 1e-2
    assert largest_error(build(name, n_chans), case, guarded(), "plain") < 1e-2
    assert largest_error(build(name, n_chans), case, WrongGradients(), "auto") < 1e-2


@pytest.mark.skipif(not has_fault(), reason="this machine's conv2d has right weight gradients")
@pytest.mark.parametrize("name", ["ShallowFBCSPNet", "Deep4Net"])
def test_plain_kernels_of_this_machine_are_wrong_and_guarded_ones_right(name):
    for n_chans in FAULTY:
        assert largest_error(build(name, n_chans), CASES[name], contextlib.nullcontext(), "plain") > 0.3
        assert largest_error(build(name, n_chans), CASES[name], exact_convolutions(), "plain") < 1e-2
        assert largest_error(build(name, n_chans), CASES[name], contextlib.nullcontext(), "auto") < 1e-2


class HomeMade(nn.Module):
    """A user's network that calls the function instead of a layer."""

    def __init__(self, n_chans):
        super().__init__()
        self.n_chans = n_chans
        self.filters = nn.Parameter(torch.randn(4, 1, 10, n_chans))

    def forward(self, x):
        return F.conv2d(x.transpose(1, 2).unsqueeze(1), self.filters).square().mean((2, 3))


@pytest.mark.parametrize("n_chans", [8, 16])
def test_the_guard_covers_a_network_of_the_user(n_chans):
    case = Case(64)
    plain = largest_error(HomeMade(n_chans), case, WrongGradients(), "plain")
    assert plain > 0.3 if n_chans in FAULTY else plain < 1e-2
    assert largest_error(HomeMade(n_chans), case, guarded()) < 1e-2
