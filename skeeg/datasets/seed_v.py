"""SEED-V: five emotions, induced by film clips."""

import re

from .corpus import Corpus, Preprocessing, cut_windows, open_recording, preprocess, split_fractions

_NAMES = tuple(
    "FP1 FPZ FP2 AF3 AF4 F7 F5 F3 F1 FZ F2 F4 F6 F8 FT7 FC5 FC3 FC1 FCZ FC2 FC4 FC6 FT8 T7 C5 C3 C1 CZ C2 C4 C6 "
    "T8 TP7 CP5 CP3 CP1 CPZ CP2 CP4 CP6 TP8 P7 P5 P3 P1 PZ P2 P4 P6 P8 PO7 PO5 PO3 POZ PO4 PO6 PO8 CB1 O1 OZ "
    "O2 CB2".split()
)
# First and last second of the fifteen clips of each session, and the emotion to induce: Happiness, Fear,
# Neutral, Sadness, Disgust. The same for all subjects (notes of the corpus).
_CLIPS = {
    "1": (
        "30 132 287 555 773 982 1271 1628 1730 2025 2227 2435 2667 2932 3204",
        "102 228 524 742 920 1240 1568 1697 1994 2166 2401 2607 2901 3172 3359",
        "HFNSDHFNSDHFNSD",
    ),
    "2": (
        "30 299 548 646 836 1000 1091 1392 1657 1809 1966 2186 2333 2490 2741",
        "267 488 614 773 967 1059 1331 1622 1777 1908 2153 2302 2428 2709 2817",
        "SFNDHHDNSFNHFSD",
    ),
    "3": (
        "30 353 478 674 825 908 1200 1346 1451 1711 2055 2307 2457 2726 2888",
        "321 418 643 764 877 1147 1284 1418 1679 1996 2275 2425 2664 2857 3066",
        "SFNDHHDNSFNHFSD",
    ),
}
_CLASSES = {"H": "happy", "F": "fear", "N": "neutral", "S": "sad", "D": "disgust"}
_WINDOW = 4  # seconds


class SeedVEmotions(Corpus):
    """Five emotions of 16 subjects in three sessions: SEED-V [1]_, with the split of the Gram paper.

    Every clip is cut into windows of 4 s, one after the other.

    Parameters
    ----------
    folder : path or None
        Folder that holds the recordings, such as ``1_1_20180804.cnt`` (subject, session, date), or their folder
        ``EEG_raw``; None is ``$SKEEG_DATA/SeedVEmotions``. Ask for access at https://bcmi.sjtu.edu.cn/home/seed.

    Notes
    -----
    Subjects sorted by number: the first 20 % for test, the next 20 % for validation, the others for training. Average
    reference of the 62 electrodes (without mastoids and EOG), 200 Hz, 0.1-75 Hz, notch at 50 Hz.

    References
    ----------
    .. [1] Liu, Qiu, Zheng and Lu, Comparing recognition performance and robustness of multimodal deep learning models
       for multimodal emotion recognition, IEEE Transactions on Cognitive and Developmental Systems 14, 2022.

    Examples
    --------
    >>> from skeeg.datasets import SeedVEmotions
    >>> SeedVEmotions().classes
    ('happy', 'fear', 'neutral', 'sad', 'disgust')
    """

    name, source = "SEED-V", "The corpus is at https://bcmi.sjtu.edu.cn/home/seed."
    inner, classes = ("EEG_raw",), tuple(_CLASSES.values())
    preprocessing = Preprocessing(_NAMES)

    def _find(self, root):
        found = {}
        for file in sorted(root.glob("*.cnt")):
            parts = re.fullmatch(r"(\d+)_(\d+)_.*", file.stem)
            if parts is None or parts[2] not in _CLIPS:
                raise ValueError(f"{file}: expected a name with subject, session (1 to 3) and date, as 1_1_20180804.")
            found.setdefault(parts[1], []).append((parts[2], file))
        return dict(sorted(found.items(), key=lambda item: int(item[0])))

    def _split(self, subjects):
        test, valid, train = split_fractions(subjects, 0.2, 0.4)
        return {"train": train, "valid": valid, "test": test}

    def _read(self, file):
        starts, stops, labels = _CLIPS[file.stem.split("_")[1]]
        raw = open_recording(file, "read_raw_cnt")
        clips = list(zip(map(int, starts.split()), map(int, stops.split()), labels, strict=True))
        seconds = len(raw.times) / raw.info["sfreq"]
        if seconds < clips[-1][1]:
            raise ValueError(f"{file}: it lasts {seconds:.0f} s, but its last clip ends at {clips[-1][1]} s.")
        data = preprocess(raw, file, self.preprocessing, str.upper)
        rate = int(self.preprocessing.sfreq)
        found = [
            (second * rate, _CLASSES[label])
            for start, stop, label in clips
            for second in range(start, min(stop + 1, int(seconds)) - _WINDOW + 1, _WINDOW)  # inclusive end
        ]
        return cut_windows(data, [start for start, _ in found], _WINDOW * rate), [label for _, label in found]
