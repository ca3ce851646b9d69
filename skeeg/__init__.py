"""EEG decoding methods and their baselines as scikit-learn estimators.

Everything public is reachable from here and is imported only when it is asked for, so ``import skeeg`` is quick.
"""

import importlib

from ._torchaudio import check_torchaudio

__version__ = "0.1.0"

check_torchaudio()

_PUBLIC = {
    "EEGArray": "array",
    "as_eeg": "array",
    "make_eeg": "array",
    "NetworkClassifier": "training",
    "NetworkRegressor": "training",
    "load": "storage",
    "AverageReference": "filtering",
    "BandPass": "filtering",
    "ChannelTemplate": "montage",
    "FilterBank": "filtering",
    "Notch": "filtering",
    "Resample": "filtering",
}

__all__ = sorted([*_PUBLIC, "__version__"])


def __getattr__(name):
    """Import a public name, or a room of the package, the first time it is used."""
    if name in _PUBLIC:
        value = getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    """List the public names."""
    return sorted([*globals(), *_PUBLIC])
