import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from skeeg.networks import (
    build_network,
    channel_info,
    get_network,
    minimum_times,
    network_names,
    register_with_braindecode,
)
from skeeg.networks.adfcnn import ADFCNN
from skeeg.networks.registry import required_signals, signal_kwargs


class Tiny(nn.Module):
    """A user's network that accepts even lengths of six samples and more."""

    def __init__(self, n_chans, n_times, n_outputs, width=2):
        super().__init__()
        if n_times % 2 or n_times < 6:
            raise RuntimeError("odd or short")
        self.layer = nn.Linear(n_chans * n_times, n_outputs * width // width)

    def forward(self, x):
        return self.layer(x.flatten(1))


def test_import_is_light():
    code = "import sys, skeeg.networks; print(sorted({'torch', 'mne', 'moabb', 'braindecode'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_names_hold_braindecodes_and_ours():
    from braindecode.models.util import interpolated_models_dict, models_dict

    names = network_names()
    assert {*models_dict, *interpolated_models_dict, "ADFCNN"} <= set(names)
    assert list(names) == sorted(names)


def test_classes_are_handed_back():
    assert get_network(Tiny) is Tiny
    assert get_network("ADFCNN") is ADFCNN
    assert get_network("EEGNet").__name__ == "EEGNet"


@pytest.mark.parametrize(
    "wrong, near", [("eegnet", "EEGNet"), ("ShalowFBCSPNet", "ShallowFBCSPNet"), ("zzz", "names()")]
)
def test_unknown_names_offer_the_nearest(wrong, near):
    with pytest.raises(ValueError, match=f"network: '{wrong}' is not known.*{near}"):
        get_network(wrong)


@pytest.mark.parametrize("wrong", [None, 3, nn.Linear(1, 1)])
def test_other_types_are_refused(wrong):
    with pytest.raises(TypeError, match="network must be a name or a torch.nn.Module class"):
        get_network(wrong)


def test_registering_lets_braindecode_find_our_names_and_refuses_to_replace(monkeypatch):
    from braindecode.models import util

    monkeypatch.setattr(util, "models_dict", dict(util.models_dict))
    own = ("ADFCNN", "BEIRA", "BEIRAManyToOne", "CTAdaptTLNet", "Gram", "MIRepNet", "SharedBEIRA")
    assert register_with_braindecode(Tiny) == (*own, "Tiny")
    assert util._get_model_class("ADFCNN") is ADFCNN and util._get_model_class("Tiny") is Tiny
    assert register_with_braindecode(Tiny) == (*own, "Tiny")
    with pytest.raises(ValueError, match="already has another network named 'EEGNet'"):
        register_with_braindecode(type("EEGNet", (nn.Module,), {}))


def test_channel_info_places_electrodes_as_mne_does():
    import mne

    names = ["FP1", "cz", "T3", "Nowhere"]
    info = channel_info(names)
    assert [channel["ch_name"] for channel in info] == ["Fp1", "Cz", "T3", "Nowhere"]
    montage = mne.channels.make_standard_montage("biosemi64")  # another one, on a sphere: roughly the same directions
    for channel, name in zip(info[:2], ["Fp1", "Cz"], strict=True):
        there, here = montage.get_positions()["ch_pos"][name], channel["loc"][:3]
        assert here @ there > 0.9 * np.linalg.norm(here) * np.linalg.norm(there)
    assert np.isnan(info[3]["loc"][:3]).all()
    info[0]["loc"][:] = 0
    assert channel_info(["Fp1"])[0]["loc"].any()


def test_signals_are_those_the_constructor_takes_and_needs():
    assert required_signals("EEGNet") == ("n_chans", "n_times", "n_outputs")
    assert required_signals("FBCNet") == ("n_chans", "n_times", "n_outputs", "sfreq")
    assert required_signals(Tiny) == ("n_chans", "n_times", "n_outputs")
    given = {"n_chans": 2, "n_times": 50, "n_outputs": 3, "sfreq": 100.0, "chs_info": channel_info(["C3", "C4"])}
    assert set(signal_kwargs("EEGNet", **given)) == set(given)
    assert set(signal_kwargs(Tiny, **given)) == {"n_chans", "n_times", "n_outputs"}
    assert "chs_info" not in signal_kwargs("BENDR", **given)
    with pytest.raises(ValueError, match="FBCNet needs the sampling rate, sfreq"):
        signal_kwargs("FBCNet", n_chans=2, n_times=50, n_outputs=3)
    with pytest.raises(ValueError, match="EEGSym needs .*sfreq and the electrode names, ch_names"):
        signal_kwargs("EEGSym", n_chans=2, n_times=50, n_outputs=3)


def test_parameters_reach_the_network_and_unknown_ones_are_refused():
    signals = {"n_chans": 2, "n_times": 100, "n_outputs": 3}
    assert build_network("EEGNet", **signals, parameters={"F1": 3}).F1 == 3
    for network, wrong, near in (("EEGNet", "f1", "F1"), ("ShallowFBCSPNet", "n_filters_tim", "n_filters_time")):
        with pytest.raises(ValueError, match=f"{network} has no parameter '{wrong}'; it has .*{near}"):
            build_network(network, **signals, parameters={wrong: 3})


def test_built_networks_train_and_depend_on_the_seed_alone():
    torch.manual_seed(3)
    first = build_network("EEGNet", n_chans=2, n_times=100, n_outputs=3)
    torch.manual_seed(3)
    second = build_network("EEGNet", n_chans=2, n_times=100, n_outputs=3)
    assert first.training
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


@pytest.mark.parametrize("name", ["ShallowFBCSPNet", "Deep4Net"])
def test_one_electrode(name):
    module = build_network(name, n_chans=1, n_times=600, n_outputs=2, ch_names=["Cz"])
    assert module.n_chans == 1 and module.get_config()["n_chans"] == 1
    assert [channel["ch_name"] for channel in module.chs_info] == ["Cz"]
    assert sum(p.numel() for p in module.parameters()) == _parameters_without_an_electrode(name)
    x = torch.randn(4, 1, 600)
    module(x).square().sum().backward()
    time, space = module.conv_time_spat.conv_time, module.conv_time_spat.conv_spat
    expected = space(time(x[:, :, :, None]))
    torch.testing.assert_close(module.conv_time_spat(x[:, :, :, None]), expected, atol=1e-5, rtol=1e-5)


def _parameters_without_an_electrode(name):
    """Count parameters at one electrode from those at two and at three: they grow by as many an electrode."""
    two, three = (
        sum(p.numel() for p in build_network(name, n_chans=n, n_times=600, n_outputs=2).parameters()) for n in (2, 3)
    )
    return two - (three - two)


def test_minimum_times_is_the_smallest_length():
    state = torch.random.get_rng_state()
    shortest = minimum_times("EEGNet", n_chans=2)
    assert torch.equal(state, torch.random.get_rng_state())
    build_network("EEGNet", n_chans=2, n_times=shortest, n_outputs=2)(torch.zeros(2, 2, shortest))
    with pytest.raises(Exception, match="too small|greater than|less than"):
        build_network("EEGNet", n_chans=2, n_times=shortest - 1, n_outputs=2)(torch.zeros(2, 2, shortest - 1))


def test_minimum_times_of_other_networks():
    assert minimum_times(Tiny, n_chans=2) == 6
    assert minimum_times(ADFCNN, n_chans=2) == 75
    assert minimum_times("EEGNet", n_chans=2, parameters={"pool2_kernel_size": 4}) < minimum_times("EEGNet", n_chans=2)
    assert minimum_times("CBraMod", n_chans=2, sfreq=200.0, parameters={"n_layer": 1}) == 200
    assert minimum_times("ContraWR", n_chans=2, sfreq=100.0, parameters={"res_channels": [4, 4]}) > 0


def test_minimum_times_says_so_where_there_is_none():
    with pytest.raises(ValueError, match="AttnSleep accepts no length up to 32768 samples at 1 channels") as caught:
        minimum_times("AttnSleep", n_chans=1, sfreq=100.0, parameters={"d_model": -1})
    assert caught.value.__cause__ is not None


def test_hints_are_added_to_a_networks_own_error():
    with pytest.raises(Exception) as caught:
        build_network("AttnSleep", n_chans=1, n_times=1000, n_outputs=2, sfreq=250.0)
    assert any("d_model" in note for note in caught.value.__notes__)
