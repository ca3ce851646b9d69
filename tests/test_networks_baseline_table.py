import pytest
from baseline_table import BASELINE_NETWORKS

from skeeg.networks import build_network

SPECIALISTS = "ShallowConv DeepConv EEGNet EEGNet-4,2 IFNet ADFCNN Conformer FBCNet EDPNet".split()
NAMES = [*SPECIALISTS, "BIOT", "BENDR", "LaBraM", "CBraMod", "EEGPT"]
ELECTRODES = "Fp1 Fp2 F3 Fz F4 C3 Cz C4 T7 T8 P3 Pz P4 O1 O2 Oz".split()


def test_the_thirteen_networks_and_the_larger_eegnet():
    assert list(BASELINE_NETWORKS) == NAMES


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"BENDR"}))
def test_sizes_are_as_stated(name):
    entry = BASELINE_NETWORKS[name]
    module = build_network(
        entry.network,
        n_chans=16,
        n_times=1000,
        n_outputs=2,
        sfreq=250.0,
        ch_names=ELECTRODES,
        parameters=entry.parameters,
    )
    assert sum(p.numel() for p in module.parameters() if p.requires_grad) == entry.trainable


def test_a_count_that_is_not_reproduced_is_explained():
    reproduced = {name for name, entry in BASELINE_NETWORKS.items() if entry.reproduced}
    assert reproduced == {"ShallowConv", "EEGNet-4,2", "IFNet", "ADFCNN", "FBCNet", "BIOT", "LaBraM", "EEGPT"}
    assert all(len(BASELINE_NETWORKS[name].note) > 40 for name in set(NAMES) - reproduced)


def test_kernels_last_as_long_at_every_rate():
    shape = {"n_chans": 2, "n_times": 1000, "n_outputs": 2}
    slow, fast = (
        build_network("EEGNet", sfreq=rate, parameters={"kernel_length": "0.5 s"}, **shape) for rate in (100, 256)
    )
    assert (slow.kernel_length, fast.kernel_length) == (50, 128)
    with pytest.raises(ValueError, match="kernel_length: '0.5 s' needs the sampling rate"):
        build_network("EEGNet", parameters={"kernel_length": "0.5 s"}, **shape)
