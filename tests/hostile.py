"""Files that execute code, hang, fill the memory or are inconsistent, and whether readers of weights refuse them."""

import contextlib
import json
import os
import pathlib
import pickle
import shutil
import signal
import struct
import tempfile
import threading
import warnings
import zipfile
from collections import Counter

import numpy as np
import torch
from instances import instance, public_estimators
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file

from skeeg.storage import load
from skeeg.testing import Recording, input_checks
from skeeg.testing.input_checks import ANSWER, CLEAR, judge
from skeeg.testing.recordings import data_for, fresh, has
from skeeg.training.checkpoints import _checksum, write_weights

WRONG = (*input_checks.WRONG, "hang", "executed")

EXECUTED = "executed"
"""Name, within the folder, of what appears where a file was executed."""
_LARGE = 60_000_000


def hostile_checkpoints(folder, only=None):
    """Write hostile files, all small, of which none may be taken for weights or for a saved estimator.

    Gives each path by what is wrong; ``only`` names some. Where one is executed, ``folder/executed`` appears.
    """
    folder = pathlib.Path(folder)
    paths = {}
    for writers, suffix in ((_PICKLED, ".pth"), (_TENSORS, ".safetensors"), (_ESTIMATORS, ".skeeg"), (_BYTES, ".pt")):
        for name, write in writers.items():
            if only is not None and name not in only:
                continue
            paths[name] = str(folder / f"{name.replace(' ', '-')}{suffix}")
            write(paths[name], str(folder / EXECUTED))
    return paths


class _Bomb:
    """Makes a directory when it is unpickled."""

    def __init__(self, fuse):
        self.fuse = fuse

    def __reduce__(self):
        return os.mkdir, (self.fuse,)


class Script(torch.nn.Module):
    """Writes a file when torch loads it."""

    def __init__(self, fuse: str):
        super().__init__()
        self.fuse = fuse

    @torch.jit.export
    def __getstate__(self):
        return self.fuse, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]):
        self.fuse, self.training = state
        torch.save(torch.zeros(1), self.fuse)

    def forward(self, x):
        """Give back what comes."""
        return x


def _write_script(path, fuse):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that scripts are deprecated
        torch.jit.script(Script(fuse)).save(path)


def _write_itself(path, fuse):
    state = {"weight": torch.ones(2)}
    state["model"] = state
    torch.save(state, path)


def _saving(content):
    """Writer of a file of `torch.save`; the content may be a function of the path to make."""
    return lambda path, fuse: torch.save(content(fuse) if callable(content) else content, path)


def _archive(pickled, **records):
    """Writer of an archive as torch makes them, around a pickle written by hand."""

    def write(path, fuse):
        with zipfile.ZipFile(path, "w") as file:
            for name, content in {"data.pkl": pickled, "byteorder": b"little", "version": b"3\n", **records}.items():
                file.writestr(f"archive/{name}", content)

    return write


def _text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


_STORAGE = b"(" + _text("storage") + b"ctorch\nFloatStorage\n" + _text("0") + _text("cpu") + b"\x8a\x06" + bytes(5)
_HUGE_STORAGE = (
    b"\x80\x02}" + _text("weight") + b"ctorch._utils\n_rebuild_tensor_v2\n(" + _STORAGE + b"\x01tQK\x00K\x01\x85K\x01"
    b"\x85\x89N" + b"tRs."
)
_PICKLED = {
    "a script": _write_script,
    "a call": _saving(lambda fuse: {"weight": torch.ones(2), "bomb": _Bomb(fuse)}),
    "a call in place of all": _saving(_Bomb),
    "a call beside a state dict": _saving(lambda fuse: {"state_dict": {"weight": torch.ones(2)}, "bomb": _Bomb(fuse)}),
    "a dict that contains itself": _write_itself,
    "dicts within dicts": _archive(
        b"\x80\x02" + (b"}" + _text("model")) * 20_000 + b"}" + b"s" * 20_000 + b".",
    ),
    "integers as names": _saving({0: torch.ones(2), 1: torch.ones(2)}),
    "tuples as names": _saving({("weight", 0): torch.ones(2)}),
    "a list": _saving([torch.ones(2)]),
    "no tensor": _saving({"weight": 1.0}),
    "nothing": _saving({}),
    "an object": _saving({"weight": torch.nn.Linear(2, 2)}),
    "another network": _saving({"some.weight": torch.ones(2), "other.bias": torch.ones(2)}),
    "nan": _saving({"weight": torch.tensor([0.0, np.nan])}),
    "a meta tensor": _saving({"weight": torch.empty(10**6, 10**6, device="meta")}),
    "an expanded tensor": _saving({"weight": torch.ones(1).expand(10**6, 10**6)}),
    "a sparse tensor": _saving(lambda fuse: {"weight": torch.zeros(3).to_sparse()}),
    "eight bits": _saving({"weight": torch.ones(2).to(torch.float8_e4m3fn)}),
    "a large index": _archive(b"\x80\x02}r" + struct.pack("<I", 2**31) + b"."),
    "a large buffer": _archive(b"\x80\x02cbuiltins\nbytearray\n\x8a\x06\x00\x00\x00\x00\x00\x01\x85R."),
    "a large storage": _archive(_HUGE_STORAGE, **{"data/0": b"1234"}),
    "no pickle": lambda path, fuse: zipfile.ZipFile(path, "w").close(),
    "an endless pickle": _archive(b"\x80\x02}"),
    "a plain pickle": lambda path, fuse: pathlib.Path(path).write_bytes(pickle.dumps(_Bomb(fuse))),
}


def _tensors(description=None, **tensors):
    return lambda path, fuse: write_weights(path, tensors or {"weight": torch.ones(2)}, description or {})


def _header(text):
    tensors = {"weight": torch.ones(2)}
    metadata = {"skeeg weights": text, "checksum": _checksum(tensors, text)}
    return lambda path, fuse: save_file(tensors, path, metadata=metadata)


_TENSORS = {
    "infinity": _tensors(weight=torch.tensor([0.0, np.inf])),
    "eight bits in safetensors": lambda path, fuse: save_file({"weight": torch.ones(2).to(torch.float8_e5m2)}, path),
    "another network in safetensors": _tensors(weight=torch.ones(2)),
    "a description of great sizes": _tensors({"network": "MIRepNet", "network_params": {"embed_dim": 10**12}}),
    "a description of text": _tensors({"network_params": "embed_dim"}),
    "a description that is none": _header("[1, 2]"),
    "a description without end": _header("[" * 100_000),
    "a wrong checksum": lambda path, fuse: save_file(
        {"weight": torch.ones(2)}, path, metadata={"skeeg weights": "{}", "checksum": "1"}
    ),
}


def _estimator(parameters=(), fitted=(), spoil=False, **spec):
    """Writer of a saved `NetworkClassifier` of which something is changed; None leaves a thing out."""

    def write(path, fuse):
        description = {
            "network": "EEGNet", "parameters": {"dict": [*map(list, parameters)]}, "n_chans": 2, "n_times": 128,
            "n_outputs": 2, "sfreq": None, "ch_names": None, "probe_features": None,
        } | spec  # fmt: skip
        weight = np.full(2, np.nan, np.float32) if spoil else np.zeros(2, np.float32)
        state = {
            "spec": {"dict": [list(pair) for pair in description.items()]}, "precision": "float32", "kernels": "auto",
            "head": "final_layer", "history": [], "report": None,
            "tensors": {"dict": [["final_layer.weight", {"tensor": "w", "shape": [2]}]]},
        }  # fmt: skip
        found = {
            "classes_": {"strings": ["a", "b"], "shape": [2]}, "n_features_in_": 2, "n_times_in_": 128, "scale_": 1.0,
            "network_": {"part": ["NetworkState", {"dict": [list(pair) for pair in state.items()]}]},
        } | dict(fitted)  # fmt: skip
        found = {name: value for name, value in found.items() if value is not None}
        document = {"version": "0", "class": "NetworkClassifier", "params": {}, "fitted": found}
        save_arrays({"w": weight}, path, metadata={"skeeg": json.dumps(document)})

    return write


_ESTIMATORS = {
    **{f"an estimator of great {name}": _estimator(**{name: _LARGE}) for name in ("n_chans", "n_times", "n_outputs")},
    "an estimator of great F1": _estimator([("F1", 10**12)]),
    "an estimator of great products": _estimator([("F1", 10**6), ("D", 10**6)]),
    "an estimator of great strings": _estimator(fitted={"classes_": {"strings": ["a"], "shape": [_LARGE]}}),
    "an estimator without classes": _estimator(fitted={"classes_": None}),
    "an estimator without network": _estimator(fitted={"network_": None}),
    "an estimator of nan": _estimator(spoil=True),
    "an estimator without weights": _estimator(),
    "an estimator of nothing": lambda path, fuse: save_arrays({}, path, metadata={"skeeg": "{}"}),
    "an estimator without end": lambda path, fuse: save_arrays({}, path, metadata={"skeeg": "[" * 100_000}),
}


def _writing(content):
    return lambda path, fuse: pathlib.Path(path).write_bytes(content)


def _cut(write):
    def writer(path, fuse):
        write(path, fuse)
        pathlib.Path(path).write_bytes(pathlib.Path(path).read_bytes()[:-40])

    return writer


_BYTES = {
    "an empty file": _writing(b""),
    "a directory": lambda path, fuse: os.mkdir(path),
    "text": _writing(b"not at all what the ending says, though long enough"),
    "a header that is too long": _writing(struct.pack("<Q", 2**60) + b"{}"),
    "a header that is cut": _writing(struct.pack("<Q", 200) + b'{"weight": '),
    "a file of torch that is cut": _cut(_saving({"weight": torch.ones(2)})),
    "a file of tensors that is cut": _cut(_tensors(weight=torch.ones(64))),
}


class _TookTooLong(BaseException):
    """Raised by the alarm; an ``except Exception`` does not catch it."""


@contextlib.contextmanager
def stopped_after(seconds):
    """Limit the time of a block, where the system has an alarm for it."""
    if "setitimer" not in dir(signal) or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_):
        raise _TookTooLong

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def judge_in_time(call, names, seconds=60):
    """Judge a call that may hang."""
    try:
        with stopped_after(seconds):
            return judge(call, names)
    except _TookTooLong:
        return "hang", f"more than {seconds} s"


class Table:
    """Counts of outcomes, one row for each attacked estimator, and the failures."""

    def __init__(self, title):
        self.title, self.rows, self.failures = title, {}, []

    def add(self, row, what, outcome, message=""):
        """Count one outcome."""
        self.rows.setdefault(row, Counter())[outcome] += 1
        if outcome in WRONG:
            self.failures.append((outcome, row, what, " ".join(message.split())[:160]))

    def count(self, outcomes):
        """Count the calls that had one of these outcomes."""
        return sum(counter[outcome] for counter in self.rows.values() for outcome in outcomes)

    def __str__(self):
        """Table, and a line for each failure."""
        columns = (ANSWER, CLEAR, *WRONG)
        width = max([len(row) for row in self.rows], default=0)
        lines = [f"{self.title}: {self.count(columns)} calls", " " * width + "".join(f"{one:>15}" for one in columns)]
        for row, counter in {**self.rows, "total": sum(self.rows.values(), Counter())}.items():
            lines.append(f"{row:{width}}" + "".join(f"{counter[one] or '':>15}" for one in columns))
        lines += [
            f"  {outcome}: {row}, {what}: {message}" for outcome, row, what, message in sorted(set(self.failures))
        ]
        return "\n".join(lines)


def readers(estimator):
    """Ways to read a file that an estimator has: its ``load``, and a fit with ``checkpoint``, by name."""
    name, found = type(estimator).__name__, {}
    if has(estimator, "load"):
        found[f"{name}.load"] = estimator.load
    if "checkpoint" in estimator.get_params(deep=False):
        X, y = data_for(estimator, Recording.suited_to(estimator))
        alone = {"pretrainer": None} if has(estimator, "pretrainer") else {}  # one of the two is given
        found[name] = lambda path: fresh(estimator).set_params(checkpoint=str(path), **alone).fit(X, y)
    return found


def attack_files(estimators=None, only=None):
    """Give every hostile file to every estimator that reads weights, and to `skeeg.load`."""
    table = Table("Hostile files")
    entries = {"load": load} if estimators is None else {}
    for estimator in [instance(cls) for cls in public_estimators()] if estimators is None else estimators:
        entries |= readers(estimator)
    with tempfile.TemporaryDirectory() as folder:
        paths = hostile_checkpoints(folder, only)
        there = _content(folder)
        for entry, read in entries.items():
            for name, path in paths.items():
                outcome, message = judge_in_time(lambda read=read, path=path: read(path) and None, [str(path)])
                if outcome == ANSWER:
                    outcome = "undetected"
                if (now := _content(folder)) != there:
                    outcome = "executed"
                    _remove(now.keys() - there.keys())
                    there = _content(folder)
                table.add(entry, name, outcome, message)
    return table


def _content(folder):
    """Size and time of everything in a folder."""
    found = {path: path.lstat() for path in pathlib.Path(folder).rglob("*")}
    return {path: (state.st_size, state.st_mtime_ns) for path, state in found.items()}


def _remove(paths):
    for path in sorted(paths, reverse=True):
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
