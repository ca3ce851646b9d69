"""The baseline networks: which network each name means, and its size.

Their motor-imagery comparison of thirteen networks states parameter counts. They belong to 16 electrodes, 1000 samples
at 250 Hz and two classes; a network of the registry reproduces a count where it is the published network, and the note
says why where it does not.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["BASELINE_NETWORKS", "BaselineNetwork", "baseline_network"]


@dataclasses.dataclass(frozen=True)
class BaselineNetwork:
    """One network of the comparison.

    Attributes
    ----------
    network : str
        Its name in the registry.
    parameters : mapping
        Arguments of its constructor; those of braindecode where empty.
    published : int or None
        Parameters that the comparison states; None for a network that it does not have.
    trainable : int
        Trainable parameters of this network at 16 electrodes, 1000 samples and two classes.
    reproduced : bool
        Whether both agree, to the digits stated.
    note : str
        How the network differs from the published one.
    sfreq : float or None
        Sampling rate its kernels or its pretrained weights are made for; None where it takes any.
    multiple : int
        The number of samples must be a multiple of this.
    """

    network: str
    published: int | None
    trainable: int
    reproduced: bool
    parameters: Mapping[str, object] = dataclasses.field(default_factory=lambda: MappingProxyType({}))
    note: str = ""
    sfreq: float | None = 250.0
    multiple: int = 1


_EEGNET = MappingProxyType({"batch_norm_momentum": 0.1, "drop_prob": 0.5})
_POOLING = MappingProxyType(
    {"filter_time_length": "0.1 s", "pool_time_length": "0.3 s", "pool_time_stride": "0.06 s"}  # 25, 75, 15 at 250 Hz
)

BASELINE_NETWORKS: Mapping[str, BaselineNetwork] = MappingProxyType(
    {
        "ShallowConv": BaselineNetwork(
            "ShallowFBCSPNet",
            31_600,
            31_602,
            True,
            _POOLING,
            sfreq=None,
            note="The published file has 40 more: a spatial bias, which the batch norm after it removes.",
        ),
        "DeepConv": BaselineNetwork(
            "Deep4Net",
            27_700,
            276_327,
            False,
            note="The published file has 276,702, so 27.7 K is a slip by a factor of ten. The 375 between are biases "
            "that the batch norm after them removes. The published network also drops out before the classifier.",
        ),
        "EEGNet": BaselineNetwork(
            "EEGNet",
            None,
            2_842,
            False,
            _EEGNET | {"F1": 8, "D": 2, "F2": 16, "kernel_length": "0.5 s"},
            note="EEGNet-8,2 with temporal kernels of half a second and the dropout of training within subjects, as "
            "published, as is the batch-norm momentum: "
            "at braindecode's .01 the statistics lag behind after few updates.",
            sfreq=None,
        ),
        "EEGNet-4,2": BaselineNetwork(
            "EEGNet",
            1_900,
            1_858,
            True,
            _EEGNET | {"F1": 4, "D": 2, "F2": 8, "kernel_length": "1 s"},
            note="What the comparison calls EEGNet.",
            sfreq=None,
        ),
        "IFNet": BaselineNetwork("IFNet", 9_900, 9_858, True, MappingProxyType({"stride_factor": 10})),
        "ADFCNN": BaselineNetwork("ADFCNN", 3_900, 3_890, True),
        "Conformer": BaselineNetwork(
            "EEGConformer",
            146_800,
            779_906,
            False,
            _POOLING,
            sfreq=None,
            note="The comparison averages the tokens before one linear layer; the original network, which braindecode "
            "follows, flattens them into a head of three layers.",
        ),
        "FBCNet": BaselineNetwork(
            "FBCNet",
            1_500,
            1_474,
            True,
            MappingProxyType({"n_bands": 2, "stride_factor": 2}),
            sfreq=None,
        ),
        "EDPNet": BaselineNetwork(
            "SSTDPN",
            30_600,
            12_460,
            False,
            note="The published file takes the variance over the windows where the samples of a window are meant, "
            "which makes its feature vector longer. braindecode has the intended network, with an equal encoder.",
        ),
        "BIOT": BaselineNetwork("BIOT", 3_200_000, 3_193_090, True, sfreq=200.0),
        "BENDR": BaselineNetwork(
            "BENDR",
            4_000_000,
            157_135_931,
            False,
            note="The stated size is that of the convolutional encoder alone (3,965,952); braindecode's class holds "
            "the contextualiser too.",
            sfreq=256.0,
        ),
        "LaBraM": BaselineNetwork(
            "InterpolatedLaBraM",
            5_800_000,
            5_818_338,
            True,
            note="The interpolating form takes any montage; the interpolation has no parameters.",
            sfreq=200.0,
            multiple=200,
        ),
        "CBraMod": BaselineNetwork(
            "CBraMod",
            4_000_000,
            4_955_802,
            False,
            note="4.0 M is the figure of the network's paper; the backbone itself has 4,924,000.",
            sfreq=200.0,
            multiple=200,
        ),
        "EEGPT": BaselineNetwork("EEGPT", 25_000_000, 25_321_269, True, note="25.3 M, stated as 25.0 M.", sfreq=256.0),
    }
)


def baseline_network(name: str) -> BaselineNetwork:
    """Look up a baseline network.

    Parameters
    ----------
    name : str
        One of `BASELINE_NETWORKS`, most of which the comparison names so.

    Returns
    -------
    BaselineNetwork
        Its entry.

    Examples
    --------
    >>> entry = baseline_network("ShallowConv")
    >>> entry.network, entry.trainable
    ('ShallowFBCSPNet', 31602)
    """
    if name not in BASELINE_NETWORKS:
        near = difflib.get_close_matches(name, BASELINE_NETWORKS, n=3, cutoff=0.4) or list(BASELINE_NETWORKS)
        raise ValueError(f"unknown baseline network {name!r}; nearest names: {', '.join(near)}")
    return BASELINE_NETWORKS[name]
