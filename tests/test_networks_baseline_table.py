import pytest

from skeeg.networks import BASELINE_NETWORKS, baseline_network, build_network

NAMES = "ShallowConv DeepConv EEGNet IFNet ADFCNN Conformer FBCNet EDPNet BIOT BENDR LaBraM CBraMod EEGPT".split()
ELECTRODES = "Fp1 Fp2 F3 Fz F4 C3 Cz C4 T7 T8 P3 Pz P4 O1 O2 Oz".split()


def test_the_thirteen_networks():
    assert list(BASELINE_NETWORKS) == NAMES


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"BENDR"}))
def test_sizes_are_as_stated(name):
    entry = baseline_network(name)
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


@pytest.mark.parametrize("name", NAMES)
def test_reproduced_means_the_stated_digits(name):
    entry = baseline_network(name)
    agrees = abs(entry.trainable - entry.published) <= 0.015 * entry.published + 50
    assert entry.reproduced == agrees
    assert entry.reproduced or len(entry.note) > 40


def test_unknown_names_offer_the_nearest():
    with pytest.raises(ValueError, match="unknown baseline network 'Shallow'.*ShallowConv"):
        baseline_network("Shallow")
