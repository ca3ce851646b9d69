"""A clear error where torchaudio, which braindecode needs, cannot work beside the installed torch.

The build tags are read from the two packages' version files, so neither package is imported.
"""

import importlib.util
import pathlib
import re


def check_torchaudio():
    """Raise an ImportError where torchaudio was built for a CUDA that the installed torch does not have."""
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
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    version = pathlib.Path(spec.origin).with_name("version.py")
    if not version.is_file():
        return None
    found = re.search(r"__version__ = '[^'+]*\+((?:cu|cpu)\w*)'", version.read_text())
    return found.group(1) if found else None
