"""The TUH EEG Events corpus: spikes, discharges, eye movements and artefacts."""

import csv

from .corpus import Corpus, Preprocessing, cut_windows, open_recording, preprocess, split_fractions

_NAMES = tuple("FP1 FP2 F3 F4 C3 C4 P3 P4 O1 O2 F7 F8 T7 T8 P7 P8 FZ CZ PZ".split())
_PRESENT = {"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8"}
_CLASSES = ("spsw", "gped", "pled", "eyem", "artf", "bckg")  # codes 1 to 6
_AROUND = 2.5  # seconds from the middle of an event to either end of its window


class TUHEvents(Corpus):
    """Six kinds of events in clinical recordings: TUEV [1]_, with the split of LaBraM, BIOT and Gram.

    Each event, a second on one electrode, gives a window of 5 s of all 19 electrodes, from 2 s before to 2 s after
    it; an event marked on several electrodes gives as many windows. Windows are shifted into the recording where an
    event lies within 2 s of an end.

    Parameters
    ----------
    folder : path or None
        Folder that holds ``edf/train`` and ``edf/eval``; None is ``$SKEEG_DATA/TUHEvents``. Ask for access at
        https://isip.piconepress.com/projects/tuh_eeg.

    Notes
    -----
    Training: the first 80 % of the subjects of the official training part, in reverse order; validation: the others;
    test: the official evaluation. Average reference, 200 Hz, 0.1-75 Hz, notch at 60 Hz.

    References
    ----------
    .. [1] Harati et al., Improved EEG event classification using differential energy, IEEE SPMB 2015.

    Examples
    --------
    >>> from skeeg.datasets import TUHEvents
    >>> TUHEvents().classes
    ('spsw', 'gped', 'pled', 'eyem', 'artf', 'bckg')
    """

    name, source = "TUEV", "The corpus is at https://isip.piconepress.com/projects/tuh_eeg."
    inner, classes = ("edf",), _CLASSES
    preprocessing = Preprocessing(_NAMES, notch=60.0)

    def _find(self, root):
        found = {}
        for part in ("train", "eval"):
            for file in sorted((root / part).glob("*/*.edf")):
                found.setdefault(f"{part}/{file.parent.name}", []).append(("0", file))
        return found

    def _split(self, subjects):
        training = sorted((one for one in subjects if one.startswith("train/")), reverse=True)
        train, valid = split_fractions(training, 0.8)
        return {"train": train, "valid": valid, "test": [one for one in subjects if one.startswith("eval/")]}

    def _read(self, file):
        raw = open_recording(file, "read_raw_edf")
        data = preprocess(raw, file, self.preprocessing, _electrode)
        events = _read_events(file.with_suffix(".rec"))
        rate, n_times = self.preprocessing.sfreq, int(2 * _AROUND * self.preprocessing.sfreq)
        if data.shape[1] < n_times:
            raise ValueError(f"{file}: {data.shape[1] / rate:g} s, shorter than one window of {2 * _AROUND:g} s.")
        last = data.shape[1] - n_times
        starts = [min(max(int(round((middle - _AROUND) * rate)), 0), last) for middle, _ in events]
        return cut_windows(data, starts, n_times), [label for _, label in events]


def _electrode(channel):
    """Name of the electrode: "EEG T3-REF" is T7."""
    name = channel.upper().removeprefix("EEG ").removesuffix("-REF").removesuffix("-LE")
    return _PRESENT.get(name, name)


def _read_events(file):
    """Middle in seconds and class of each event of a .rec file: channel, start, stop, code."""
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file; each recording needs a .rec file with its events.")
    events = []
    with open(file, newline="") as text:
        for number, row in enumerate(csv.reader(text), start=1):
            if not row:
                continue
            try:
                _, start, stop, code = (float(value) for value in row)
                if code < 1:
                    raise IndexError
                events.append(((start + stop) / 2, _CLASSES[int(code) - 1]))
            except (ValueError, IndexError) as error:
                told = f"expected channel, start, stop and a code from 1 to 6, got {','.join(row)!r}"
                raise ValueError(f"{file}, line {number}: {told}.") from error
    return events
