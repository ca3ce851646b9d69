"""Pre-trained weights that ship with the package: what each was trained on, how, under which licence, and its scores.

``checkpoint="skeeg:NAME"`` starts an estimator from one of them, without a network. `registry.json` beside the files is
the table; a file that differs from it by a bit is refused.
"""

import dataclasses
import difflib
import functools
import hashlib
import json
from pathlib import Path

__all__ = ["Weights", "find_weights", "locate", "weights_names"]

PREFIX = "skeeg:"
_FOLDER = Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Weights:
    """Description of a file of weights, an entry of `registry.json`.

    Attributes
    ----------
    name, file, path, sha256 : str
        What follows ``"skeeg:"``; the file, and its digest.
    method : str
        Estimator that starts from it.
    network_params, finetuning : dict
        Sizes of the network; settings of the estimator that suit few trials.
    sfreq, band, classes : float, tuple of two floats, tuple of str
        Sampling rate and band-pass, in hertz, of the trials that it was trained on; label of each output.
    data, licence, recipe, date : str
        What it was trained on, the licence of that with its attribution, how, and when.
    scores : dict of str to str
        What it reached, on subjects that it was not trained on.
    """

    name: str
    file: str
    method: str
    network_params: dict
    sfreq: float
    band: tuple
    classes: tuple
    finetuning: dict
    data: str
    licence: str
    recipe: str
    date: str
    scores: dict
    sha256: str

    @property
    def path(self):
        """Where the file is."""
        return _FOLDER / self.file


def weights_names():
    """Names of the weights that ship with the package, sorted tuple of str.

    Examples
    --------
    >>> from skeeg.weights import weights_names
    >>> "mirepnet-small" in weights_names()
    True
    """
    return tuple(sorted(_registry()))


def find_weights(name):
    """Look weights up by their name, with or without ``"skeeg:"``; an unknown name is an error that offers the nearest.

    Examples
    --------
    >>> from skeeg.weights import find_weights
    >>> find_weights("mirepnet-small").classes
    ('left_hand', 'rest', 'right_hand')
    """
    short = str(name).removeprefix(PREFIX)
    if short not in _registry():
        near = difflib.get_close_matches(short, weights_names(), n=1, cutoff=0.3)
        hint = f"the nearest is {PREFIX}{near[0]}" if near else "none is near"
        known = ", ".join(PREFIX + one for one in weights_names())
        raise ValueError(f"checkpoint: {PREFIX}{short} does not ship with skeeg; {hint} (there are {known}).")
    return _registry()[short]


def locate(name):
    """File of weights, once its digest is seen to be that of the registry."""
    weights = find_weights(name)
    if not weights.path.is_file():
        raise FileNotFoundError(f"checkpoint: {weights.path} is missing from this installation; install skeeg again.")
    digest = hashlib.sha256(weights.path.read_bytes()).hexdigest()
    if digest != weights.sha256:
        raise ValueError(f"checkpoint: {weights.path} is not the published file ({digest}); install skeeg again.")
    return weights.path


@functools.cache
def _registry():
    """Entries of registry.json by name."""
    entries = json.loads((_FOLDER / "registry.json").read_text(encoding="utf-8"))
    for entry in entries.values():
        entry |= {key: tuple(value) for key, value in entry.items() if isinstance(value, list)}
    return {name: Weights(name, **entry) for name, entry in entries.items()}
