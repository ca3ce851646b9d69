"""Augmentation of the training batches: the transforms of braindecode, mirrored hemispheres, shifts in time."""

import copy
import inspect

import numpy as np
import torch
from sklearn.utils import check_random_state
from skorch.callbacks import Callback

from ..base import refuse_unknown
from ..montage import mirror_classes, mirror_electrodes

NAMES = (
    "TimeReverse", "SignFlip", "FTSurrogate", "ChannelsShuffle", "ChannelsDropout", "GaussianNoise", "ChannelsSymmetry",
    "SmoothTimeMask", "BandstopFilter", "FrequencyShift", "SensorsZRotation", "SensorsYRotation", "SensorsXRotation",
    "Mixup", "SegmentationReconstruction", "MaskEncoding", "AmplitudeScale", "ChannelsReref", "Mirror",
)  # fmt: skip
"""Transforms that need no more than a name; all but ``"Mirror"`` are in `braindecode.augmentation`."""
_PROBABILITY, _ALPHA = 0.5, 0.2


class Mirror:
    """Exchange the left and the right hemisphere of some trials, and the classes named left and right with them."""

    def __init__(self, probability, ordered_ch_names, classes, random_state=None):
        self.probability = probability
        try:
            channels, classes = mirror_electrodes(ordered_ch_names), mirror_classes(classes)
        except ValueError as error:
            raise ValueError(f"augmentation: Mirror exchanges left and right; {error}") from error
        self.channels, self.classes = torch.from_numpy(channels), torch.from_numpy(classes)
        self.rng = check_random_state(random_state)

    def __call__(self, X, y):
        """Mirror some trials of a batch."""
        chosen = torch.from_numpy(self.rng.uniform(size=len(X)) < self.probability).to(X.device)
        X = torch.where(chosen[:, None, None], X[:, self.channels.to(X.device)], X)
        classes = self.classes.to(y.device)
        if y.ndim == 1:
            return X, torch.where(chosen, classes[y], y)
        return X, torch.where(chosen[:, None], y[:, classes], y)  # shares of mixed trials


class TimeShift(Callback):
    """Move every training trial in time, what leaves at one end entering at the other; drawn anew at each update.

    The power of each channel and frequency and all covariances stay as they are, so the classes of motor imagery do;
    responses that are locked to a stimulus do not.
    """

    def __init__(self, share):
        self.share = share

    @torch.no_grad()
    def on_batch_begin(self, net, batch=None, training=False, **kwargs):
        """Shift a batch in place: it was gathered for this update alone."""
        if training:
            X, n_times = batch[0], batch[0].shape[-1]
            most = int(self.share * n_times)
            lags = torch.randint(-most, most + 1, (len(X), 1, 1))  # drawn on the CPU: a seed means the same everywhere
            index = (torch.arange(n_times) + lags) % n_times
            X.copy_(X.gather(-1, index.to(X.device).expand_as(X)))


def make_augmentation(augmentation, *, sfreq=None, ch_names=None, classes=None, seed=0):
    """Give the function (X, y) -> (X, y) that augments a batch."""
    listed = list(augmentation) if isinstance(augmentation, list | tuple) else [augmentation]
    names = None if ch_names is None else list(ch_names)
    known = {"sfreq": sfreq, "ordered_ch_names": names, "classes": classes, "probability": _PROBABILITY}
    known |= {"alpha": _ALPHA}
    seeds = np.random.SeedSequence(seed).generate_state(len(listed))
    transforms = [_make(one, known | {"random_state": int(own)}) for one, own in zip(listed, seeds, strict=True)]

    def augment(X, y):
        kind = X.dtype
        for transform in transforms:
            X, y = transform(X, y)
            y = _shares(*y, classes) if isinstance(y, tuple) else y
        return X.to(kind), y

    return augment


def _make(one, known):
    """Transform of a name, or a copy of the transform."""
    if callable(one) and not isinstance(one, type):
        return copy.deepcopy(one)
    refuse_unknown("augmentation", [one], NAMES)
    cls = Mirror
    if one != "Mirror":
        import braindecode.augmentation

        cls = vars(braindecode.augmentation)[one]
    wanted = inspect.signature(cls).parameters
    arguments = {name: value for name, value in known.items() if name in wanted}
    missing = [name for name, value in arguments.items() if value is None]
    if missing:
        what = {"sfreq": "the sampling rate", "ordered_ch_names": "electrode names", "classes": "classes"}[missing[0]]
        raise ValueError(f"augmentation: {one} needs {what}, which the trials do not carry.")
    return cls(**arguments)


def _shares(first, second, share, classes):
    """Mixed targets: numbers in between, or shares of the classes."""
    if classes is not None and first.ndim == 1:
        first, second = (torch.nn.functional.one_hot(one, len(classes)) for one in (first, second))
    share = share.reshape(-1, *[1] * (first.ndim - 1))
    return share * first + (1 - share) * second
