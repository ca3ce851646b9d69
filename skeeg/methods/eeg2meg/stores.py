"""Windows on a disk: two plain files that training reads from, a batch at a time."""

import json
from pathlib import Path

import numpy as np

_PARTS = ("eeg", "meg")


class WindowStore:
    """Pairs of windows in a folder, read when they are needed and never held.

    Parameters
    ----------
    folder : path
        Made by `create`: ``eeg.f32`` and ``meg.f32``, windows of little-endian float32 one after the other, and
        ``windows.json``.

    Attributes
    ----------
    shape : tuple of int
        n_eeg, n_meg, n_times.
    subjects, runs : ndarray of str, shape (n_windows,)
        Who, and which run.
    sfreq : float or None
        Sampling rate in hertz.

    Notes
    -----
    Files are read by position, not mapped: mapped pages would count as the memory of the process until it ends.

    Examples
    --------
    >>> import numpy as np
    >>> from tempfile import mkdtemp
    >>> from skeeg.methods.eeg2meg import WindowStore
    >>> store = WindowStore.create(mkdtemp(), n_eeg=4, n_meg=6, n_times=50, sfreq=100)
    >>> store.append(np.ones((3, 4, 50)), np.ones((3, 6, 50)), subject="01", run="1")
    >>> len(store), store.take([2])[1].shape
    (3, (1, 6, 50))
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        if not (self.folder / "windows.json").is_file():
            raise FileNotFoundError(f"folder: {folder} holds no windows.json; WindowStore.create makes one.")
        self._read_index()
        self.places = None

    @classmethod
    def create(cls, folder, n_eeg, n_meg, n_times, sfreq=None):
        """Start an empty store.

        Parameters
        ----------
        folder : path
            Made where it does not exist; one that holds a store is refused.
        n_eeg, n_meg, n_times : int
            Size of a window.
        sfreq : float or None
            Sampling rate in hertz.

        Returns
        -------
        store : WindowStore
            To `append` to.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / "windows.json").exists():
            raise FileExistsError(f"folder: {folder} holds a store already.")
        index = {"shape": [n_eeg, n_meg, n_times], "sfreq": sfreq, "stretches": []}
        for part in _PARTS:
            (folder / f"{part}.f32").touch()
        (folder / "windows.json").write_text(json.dumps(index))
        return cls(folder)

    def append(self, eeg, meg, subject="", run=""):
        """Add windows at the end.

        Parameters
        ----------
        eeg : ndarray, shape (n_windows, n_eeg, n_times)
            Microvolts.
        meg : ndarray, shape (n_windows, n_meg, n_times)
            Tesla, and tesla per metre.
        subject, run : str
            Whose windows these are.
        """
        n_eeg, n_meg, n_times = self.shape
        for name, data, n in (("eeg", eeg, n_eeg), ("meg", meg, n_meg)):
            if np.ndim(data) != 3 or np.shape(data)[1:] != (n, n_times) or len(data) != len(eeg):
                raise ValueError(f"{name}: got shape {np.shape(data)}, expected ({len(eeg)}, {n}, {n_times}).")
            if not np.isfinite(data).all():
                raise ValueError(f"{name}: contains NaN or infinity.")
        for part, data in zip(_PARTS, (eeg, meg), strict=True):
            with open(self.folder / f"{part}.f32", "ab") as file:
                np.asarray(data, dtype="<f4").tofile(file)
        index = json.loads((self.folder / "windows.json").read_text())
        index["stretches"].append([len(eeg), str(subject), str(run)])
        (self.folder / "windows.json").write_text(json.dumps(index))
        self._read_index()

    def __len__(self):
        """Count the windows."""
        return len(self.runs)

    def take(self, rows):
        """Read some windows.

        Parameters
        ----------
        rows : array-like of int
            Which.

        Returns
        -------
        eeg, meg : ndarray of float32, shape (n_rows, n_eeg or n_meg, n_times)
            Windows.
        """
        rows = np.asarray(rows)
        order = np.argsort(rows, kind="stable")
        n_eeg, n_meg, n_times = self.shape
        return tuple(
            self._read(part, rows, order, (n, n_times)) for part, n in zip(_PARTS, (n_eeg, n_meg), strict=True)
        )

    def _read(self, part, rows, order, shape):
        out = np.empty((len(rows), *shape), dtype="<f4")
        size = out[0].nbytes if len(rows) else 0
        with open(self.folder / f"{part}.f32", "rb", buffering=0) as file:
            for i in order:  # in the order of the file
                file.seek(int(rows[i]) * size)
                out[i] = np.fromfile(file, dtype="<f4", count=size // 4).reshape(shape)
        return out

    def _read_index(self):
        index = json.loads((self.folder / "windows.json").read_text())
        self.shape, self.sfreq = tuple(index["shape"]), index["sfreq"]
        counts = [count for count, _, _ in index["stretches"]]
        self.subjects = np.repeat(np.array([subject for _, subject, _ in index["stretches"]], dtype=str), counts)
        self.runs = np.repeat(np.array([run for _, _, run in index["stretches"]], dtype=str), counts)
