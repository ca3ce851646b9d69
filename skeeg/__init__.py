"""EEG decoding methods and their baselines as scikit-learn estimators.

Everything public is reachable from here and is imported only when it is asked for, so ``import skeeg`` is quick.
"""

from ._lazy import attach
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
    "BlockedSplit": "model_selection",
    "BOLDAligner": "methods.beira",
    "Calibration": "calibration",
    "ChannelTemplate": "montage",
    "CSP": "spatial",
    "CTAdaptTLClassifier": "methods.ct_adapttl",
    "EEGArray": "array",
    "EEGToMEG": "methods.eeg2meg",
    "EuclideanAlignment": "alignment",
    "FilterBank": "filtering",
    "FilterBankTangentSpace": "tangentspace",
    "FineTunedClassifier": "training",
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
    "null_scores": "model_selection",
    "PooledTarget": "evaluations",
    "Resample": "filtering",
    "RiemannianAlignment": "alignment",
    "screen_subjects": "screening",
    "WaveletBands": "wavelets",
}

__all__, __getattr__, __dir__ = attach(__name__, _PUBLIC)
