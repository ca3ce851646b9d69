"""Weights of strangers: nothing is executed, nothing is loaded in part, nothing fills the memory."""

import pathlib

import pytest
import torch

import skeeg
from skeeg import GramClassifier, GramPretrainer, GramRestorer, GramTokenizer, make_eeg
from skeeg.training.checkpoints import read_weights

PACKAGE = pathlib.Path(skeeg.__file__).parent


class Scripted(torch.nn.Module):
    """Writes a file when it is loaded."""

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
        """Do nothing."""
        return x


@pytest.mark.filterwarnings("ignore:.*jit.*:DeprecationWarning")
def test_a_torchscript_archive_is_refused_and_not_executed(tmp_path):
    torch.jit.script(Scripted(str(tmp_path / "executed"))).save(str(tmp_path / "script.pth"))
    X, y = make_eeg(torch.randn(4, 2, 400).numpy(), ("C3", "C4"), 200), [0, 1, 0, 1]
    entries = [GramClassifier, GramTokenizer, GramPretrainer, GramRestorer]
    for entry in entries:
        with pytest.raises(ValueError, match="script.pth .*TorchScript"):
            entry(checkpoint=str(tmp_path / "script.pth"), size="tiny").fit(X, y)
    assert not (tmp_path / "executed").exists()


def test_no_file_is_unpickled_by_torch_anywhere():
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        assert "weights_only" not in text and "torch.load" not in text, path
    unpickles = {path.name for path in PACKAGE.rglob("*.py") if "Unpickler" in path.read_text()}
    assert unpickles == {"checkpoints.py"}


def test_objects_of_a_file_are_neither_imported_nor_called(tmp_path):
    torch.save({"a": torch.ones(2), "b": torch.zeros(3, 2).T}, tmp_path / "plain.pt")
    state, _ = read_weights(tmp_path / "plain.pt")
    assert state["a"].tolist() == [1, 1] and state["b"].shape == (2, 3)
