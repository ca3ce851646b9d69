"""EEG decoding methods and their baselines as scikit-learn estimators.

Everything public is reachable from here and is imported only when it is asked for, so ``import skeeg`` is quick.
"""

import importlib

from ._torchaudio import check_torchaudio

__version__ = "0.1.0"

check_torchaudio()

_PUBLIC = {
    "as_eeg": "array",
    "AverageReference": "filtering",
    "BandPass": "filtering",
    "baseline": "baselines",
    "baseline_names": "baselines",
    "BEIRARegressor": "methods.beira",
    "BlockedSplit": "methods.beira",
    "BOLDAligner": "methods.beira",
    "Calibration": "calibration",
    "ChannelTemplate": "montage",
    "CSP": "spatial",
    "CTAdaptTLClassifier": "methods.ct_adapttl",
    "EEGArray": "array",
    "EEGToMEG": "methods.eeg2meg",
    "EuclideanAlignment": "alignment",
    "FilterBank": "filtering",
    "GramClassifier": "methods.gram",
    "GramPretrainer": "methods.gram",
    "GramRestorer": "methods.gram.restorer",
    "GramTokenizer": "methods.gram",
    "Harmonise": "methods.ct_adapttl",
    "load": "storage",
    "make_eeg": "array",
    "MIRepNetClassifier": "methods.mirepnet",
    "MIRepNetPretrainer": "methods.mirepnet",
    "NetworkClassifier": "training",
    "NetworkRegressor": "training",
    "Notch": "filtering",
    "null_scores": "methods.beira",
    "PooledTarget": "evaluations",
    "Resample": "filtering",
    "RiemannianAlignment": "alignment",
    "screen_subjects": "screening",
    "WaveletBands": "methods.eeg2meg",
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
