"""Weights of strangers: nothing is executed, nothing is loaded in part, nothing fills the memory."""

import pathlib

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import skeeg
from skeeg import (
    BEIRARegressor,
    CTAdaptTLClassifier,
    GramClassifier,
    GramPretrainer,
    GramRestorer,
    GramTokenizer,
    make_eeg,
)
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


def test_no_estimator_starts_from_part_of_a_checkpoint(tmp_path):
    random = np.random.default_rng(0)
    X, y = random.normal(size=(8, 3, 200)), np.repeat(["a", "b"], 4)
    small = {"n_branches": 2, "channels": (8, 8), "kernel_sizes": (3,), "strides": (8,), "window": 160, "max_epochs": 1}
    beira = BEIRARegressor(**small).fit(X, random.normal(size=(8, 2, 200)))
    save_file(beira.module_.state_dict(), tmp_path / "beira.safetensors")
    path = str(tmp_path / "beira.safetensors")
    with pytest.raises(ValueError, match="does not fit SharedBEIRA .*unexpected"):
        BEIRARegressor(**small, network="shared", checkpoint=path).fit(X, random.normal(size=(8, 2, 200)))
    with pytest.raises(ValueError, match="does not fit CTAdaptTLNet .*missing: temporal.weight"):
        CTAdaptTLClassifier(checkpoint=path).fit(X, y)
