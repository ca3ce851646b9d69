"""The 130 names whose order is Gram's spatial code, and how electrodes are found among them."""

import re

import numpy as np

from ...montage import TEMPLATES, find_electrodes

COLLECTION = tuple(name.upper() for name in TEMPLATES["gram130"])
"""114 electrodes and 16 bipolar derivations, as published."""

_MODERN = {"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8"}
_TUH = re.compile(r"^EEG .*|.*-(REF|LE)$", re.IGNORECASE)


def channel_indices(ch_names, old_names="auto", argument="ch_names"):
    """Find electrodes in the collection.

    The collection has T3, T4, T5 and T6 beside T7, T8, P7 and P8, with codes of their own: recordings that the
    published weights were trained on use either. Those of the Temple University Hospital were renamed.

    Parameters
    ----------
    ch_names : sequence of str
        Electrodes, or bipolar derivations such as "F7-T7". Case, padding dots and the "EEG ...-REF" of the Temple
        University Hospital do not matter.
    old_names : {"auto", "keep", "rename"}
        What T3, T4, T5 and T6 mean: themselves (``"keep"``), T7, T8, P7 and P8 (``"rename"``), or the latter where a
        name is written as in Temple's files (``"auto"``). Within a derivation they are always renamed.
    argument : str
        What an error calls the electrodes.

    Returns
    -------
    indices : ndarray of int64, shape (n_electrodes,)
        Positions in `COLLECTION`.

    Examples
    --------
    >>> from skeeg.methods.gram.collection import channel_indices
    >>> channel_indices(["Fp1", "T3", "EEG T3-REF", "f7-t3"]).tolist()
    [0, 88, 37, 115]
    """
    if old_names not in ("auto", "keep", "rename"):
        raise ValueError(f"old_names: got {old_names!r}, expected 'auto', 'keep' or 'rename'.")
    names = [_as_published(str(name), old_names) for name in ch_names]
    hint = f" Gram knows {len(COLLECTION)} electrodes and derivations; drop or rename the others."
    indices = np.array(find_electrodes(names, COLLECTION, argument, hint), dtype=np.int64)
    if len(set(indices.tolist())) < len(indices):
        found = indices.tolist()
        twice = [name for name, place in zip(ch_names, found, strict=True) if found.count(place) > 1]
        raise ValueError(f"{argument}: {', '.join(map(str, twice))} are the same electrode of the collection.")
    return indices


def _as_published(name, old_names):
    """Rename the old names of the temporal electrodes where they stand for the new ones."""
    bare = re.sub(r"-(REF|LE|AR)$", "", name.strip().upper().removeprefix("EEG ")).rstrip(".")
    if "-" in bare:
        return "-".join(_MODERN.get(part, part) for part in bare.split("-"))
    rename = old_names == "rename" or (old_names == "auto" and _TUH.match(name.strip()))
    return _MODERN.get(bare, bare) if rename else bare
