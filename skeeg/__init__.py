"""EEG decoding methods and their baselines as scikit-learn estimators.

Everything public is reachable from here and is imported lazily, so ``import skeeg`` is quick.
"""

from ._lazy import attach

__version__ = "0.1.0"

_PUBLIC = {
    "as_eeg": "array",
    "AverageReference": "filtering",
    "BalancedTarget": "evaluations",
    "BandPass": "filtering",
    "baseline": "baselines",
    "baseline_names": "baselines",
    "BEIRARegressor": "methods.beira",
    "BlockedSplit": "model_selection",
    "BOLDAligner": "methods.beira",
    "Calibration": "alignment",
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


def _check_torchaudio():
    """Raise a clear error if torchaudio, which braindecode imports, was built for another CUDA than torch.

    The build tags are read from the version files, so that neither package is imported.
    """
    torch, audio = _build_tag("torch"), _build_tag("torchaudio")
    if torch is None or audio is None or not audio.startswith("cu") or torch == audio:
        return
    raise ImportError(
        f"torchaudio (built for {audio}) cannot load beside torch (built for {torch}). Both must come from the same "
        "index: reinstall them together, for example `pip install torch torchaudio --index-url <one index>` with the "
        "CPU wheel index of PyTorch for machines without a GPU."
    )


def _build_tag(package):
    """Build tag of an installed package, such as ``"cpu"`` or ``"cu130"``; None where there is none."""
    import importlib.util
    import pathlib
    import re

    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    version = pathlib.Path(spec.origin).with_name("version.py")
    if not version.is_file():
        return None
    found = re.search(r"__version__ = '[^'+]*\+((?:cu|cpu)\w*)'", version.read_text())
    return found.group(1) if found else None


_check_torchaudio()
