"""Motor imagery on five days, of Shanghai University."""

import random
import re

import numpy as np

from .corpus import Corpus, Preprocessing, split_fractions

_NAMES = tuple(
    "FP1 FP2 FZ F3 F4 F7 F8 FC1 FC2 FC5 FC6 CZ C3 C4 T3 T4 A1 A2 CP1 CP2 CP5 CP6 PZ P3 P4 T5 T6 PO3 PO4 "
    "OZ O1 O2".split()
)
_RATE, _N_TIMES = 250.0, 1000
_CLASSES = ("left_hand", "right_hand")  # codes 1 and 2


class SHUMotorImagery(Corpus):
    """Left against right hand, imagined by 25 subjects on five days: SHU [1]_, with the split of the Gram paper.

    Trials of 4 s are resampled only, as for the published scores.

    Parameters
    ----------
    folder : path or None
        Folder that holds ``sub-001_ses-01_task_motorimagery_eeg.mat`` and so on, or their folder ``mat``; None is
        ``$SKEEG_DATA/SHUMotorImagery``. The recordings are at https://doi.org/10.6084/m9.figshare.19228725.

    Notes
    -----
    Subjects sorted by name and shuffled by Python's generator with seed 214: 60 % for training, 20 % for test (2, 8,
    15, 18, 22), 20 % for validation. Values are not rescaled; electrodes keep the names of the files
    (T3, T4, T5, T6).

    References
    ----------
    .. [1] Ma et al., A large EEG dataset for studying cross-session variability in motor imagery brain-computer
       interface, Scientific Data 9, 2022.

    Examples
    --------
    >>> from skeeg.datasets import SHUMotorImagery
    >>> len(SHUMotorImagery().preprocessing.ch_names)
    32
    """

    name, source = "SHU", "The recordings are at https://doi.org/10.6084/m9.figshare.19228725."
    inner, classes = ("mat",), _CLASSES
    preprocessing = Preprocessing(_NAMES, average=False, band=None, notch=None)

    def _find(self, root):
        found = {}
        for file in sorted(root.glob("sub-*_ses-*_task_motorimagery_eeg.mat")):
            parts = re.match(r"(sub-\d+)_ses-(\d+)_", file.name)
            if parts is not None:
                found.setdefault(parts[1], []).append((parts[2], file))
        return found

    def _split(self, subjects):
        shuffled = sorted(subjects)
        random.Random(214).shuffle(shuffled)
        train, test, valid = split_fractions(shuffled, 0.6, 0.8)
        return {"train": train, "valid": valid, "test": test}

    def _read(self, file):
        from mne.filter import resample
        from scipy.io import loadmat

        try:
            held = loadmat(file)
        except Exception as error:  # whichever error a reader raises, name the file
            raise ValueError(f"{file}: cannot be read: {error}") from error
        missing = [name for name in ("data", "labels") if name not in held]
        if missing:
            raise ValueError(f"{file}: the variable {' and '.join(missing)} is missing.")
        data, codes = np.asarray(held["data"], dtype=np.float64), np.ravel(held["labels"])
        if data.ndim != 3 or data.shape[1:] != (len(_NAMES), _N_TIMES) or len(data) != len(codes):
            raise ValueError(
                f"{file}: data of shape {data.shape} and {len(codes)} labels, expected (n_trials, {len(_NAMES)}, "
                f"{_N_TIMES}) and as many labels."
            )
        odd = sorted(set(codes.tolist()) - {1, 2})
        if odd:
            raise ValueError(f"{file}: a label {odd[0]}, expected 1 (left hand) or 2 (right hand).")
        data = resample(data, self.preprocessing.sfreq, _RATE, verbose="error")
        return data.astype(np.float32), [_CLASSES[int(code) - 1] for code in codes]
