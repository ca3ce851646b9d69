"""The baseline networks: which network each name means, and its size.

A published motor-imagery comparison of thirteen networks states parameter counts for 16 electrodes, 1000 samples at
250 Hz and two classes. A network of the registry reproduces a count where it is the published network; otherwise the
note gives the difference.
"""

import dataclasses
from types import MappingProxyType


@dataclasses.dataclass(frozen=True)
class BaselineNetwork:
    """One network of the comparison.

    Attributes
    ----------
    network : str
        Its name in the registry.
    published : int or None
        Parameters that the comparison states; None for a network that it does not have.
    trainable : int
        Trainable parameters of this network at 16 electrodes, 1000 samples and two classes.
    parameters : dict
        Arguments of its constructor; braindecode's defaults where empty.
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
    parameters: dict = dataclasses.field(default_factory=dict)
    note: str = ""
    sfreq: float | None = 250.0
    multiple: int = 1

    @property
    def reproduced(self):
        """Whether both counts agree, to the digits stated."""
        return self.published is not None and abs(self.trainable - self.published) <= 0.015 * self.published + 50


_EEGNET = {"batch_norm_momentum": 0.1, "drop_prob": 0.5}
# 25, 75 and 15 samples at 250 Hz
_POOLING = {"filter_time_length": "0.1 s", "pool_time_length": "0.3 s", "pool_time_stride": "0.06 s"}

_TABLE = {
    "ShallowConv": BaselineNetwork(
        "ShallowFBCSPNet", 31_600, 31_602, _POOLING, sfreq=None,
        note="The published file has 40 more: a spatial bias, which the batch norm after it removes.",
    ),
    "DeepConv": BaselineNetwork(
        "Deep4Net", 27_700, 276_327,
        note="The published file has 276,702, so 27.7 K is a slip by a factor of ten. The 375 between are biases that "
        "the batch norm after them removes. The published network also drops out before the classifier.",
    ),
    "EEGNet": BaselineNetwork(
        "EEGNet", None, 2_842, _EEGNET | {"F1": 8, "D": 2, "F2": 16, "kernel_length": "0.5 s"}, sfreq=None,
        note="EEGNet-8,2 with temporal kernels of half a second, and the dropout of training within subjects and the "
        "batch-norm momentum as published: at braindecode's .01 the statistics lag behind after few updates.",
    ),
    "EEGNet-4,2": BaselineNetwork(
        "EEGNet", 1_900, 1_858, _EEGNET | {"F1": 4, "D": 2, "F2": 8, "kernel_length": "1 s"}, sfreq=None,
        note="What the comparison calls EEGNet.",
    ),
    "IFNet": BaselineNetwork("IFNet", 9_900, 9_858, {"stride_factor": 10}),
    "ADFCNN": BaselineNetwork("ADFCNN", 3_900, 3_890),
    "Conformer": BaselineNetwork(
        "EEGConformer", 146_800, 779_906, _POOLING, sfreq=None,
        note="The comparison averages the tokens before one linear layer; the original network, which braindecode "
        "follows, flattens them into a head of three layers.",
    ),
    "FBCNet": BaselineNetwork("FBCNet", 1_500, 1_474, {"n_bands": 2, "stride_factor": 2}, sfreq=None),
    "EDPNet": BaselineNetwork(
        "SSTDPN", 30_600, 12_460,
        note="The published file takes the variance over the windows where the samples of a window are meant, which "
        "makes its feature vector longer. braindecode has the intended network, with an equal encoder.",
    ),
    "BIOT": BaselineNetwork("BIOT", 3_200_000, 3_193_090, sfreq=200.0),
    "BENDR": BaselineNetwork(
        "BENDR", 4_000_000, 157_135_931, sfreq=256.0,
        note="The stated size is that of the convolutional encoder alone (3,965,952); braindecode's class holds the "
        "contextualiser too.",
    ),
    "LaBraM": BaselineNetwork(
        "InterpolatedLaBraM", 5_800_000, 5_818_338, sfreq=200.0, multiple=200,
        note="The interpolating variant takes any montage; the interpolation has no parameters.",
    ),
    "CBraMod": BaselineNetwork(
        "CBraMod", 4_000_000, 4_955_802, sfreq=200.0, multiple=200,
        note="4.0 M is the figure of the network's paper; the backbone itself has 4,924,000.",
    ),
    "EEGPT": BaselineNetwork("EEGPT", 25_000_000, 25_321_269, note="25.3 M, stated as 25.0 M.", sfreq=256.0),
}  # fmt: skip
BASELINE_NETWORKS = MappingProxyType(_TABLE)
"""Each baseline network by its name."""
