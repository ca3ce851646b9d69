"""EEG decoding methods and their baselines as scikit-learn estimators.

Everything public is reachable from here and is imported lazily, so ``import skeeg`` is quick.
"""

import lazy_loader

__version__ = "0.1.0"

_PUBLIC = {
    "alignment": ["Calibration", "EuclideanAlignment", "RiemannianAlignment"],
    "array": ["EEGArray", "as_eeg"],
    "baselines": ["baseline", "baseline_names"],
    "evaluations": ["BalancedTarget", "PooledTarget"],
    "filtering": ["BandPass", "FilterBank", "Notch", "Resample"],
    "methods.beira": ["BEIRARegressor", "BOLDAligner"],
    "methods.ct_adapttl": ["CTAdaptTLClassifier", "Harmonise"],
    "methods.eeg2meg": ["EEGToMEG"],
    "methods.gram": ["GramClassifier", "GramPretrainer", "GramTokenizer"],
    "methods.gram.restorer": ["GramRestorer"],
    "methods.mirepnet": ["MIRepNetClassifier", "MIRepNetPretrainer"],
    "model_selection": ["BlockedSplit", "null_scores", "screen_subjects"],
    "montage": ["ChannelTemplate"],
    "spatial": ["CSP", "AverageReference"],
    "storage": ["load", "save"],
    "tangentspace": ["FilterBankTangentSpace"],
    "training": ["FineTunedClassifier", "NetworkClassifier", "NetworkRegressor"],
    "wavelets": ["WaveletBands"],
}

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=_PUBLIC)


def _check_torchaudio():
    """Raise a clear error if torchaudio, which braindecode imports, was built for another CUDA than torch.

    Major versions count: cu130 and cu132 go together. The tags are read from the version files, so that nothing is
    imported.
    """
    torch, audio = _build_tag("torch"), _build_tag("torchaudio")
    if torch is None or audio is None or not audio.startswith("cu") or torch[:-1] == audio[:-1]:
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
