import mne
import numpy as np
import pytest

from skeeg import GramPretrainer, GramTokenizer
from skeeg.array import EEGArray
from skeeg.datasets import RecordingStore

SIZE = {
    "size": "tiny", "max_epochs": 2, "batch_size": 4, "learning_rate": 1e-3, "random_state": 0, "device": "cpu",
    "network_params": {"n_layers": 1, "n_heads": 2, "patch_length": 20, "sfreq": 20.0},
}  # fmt: skip


@pytest.fixture
def store(tmp_path):
    store, rng = RecordingStore(tmp_path), np.random.default_rng(0)
    for subject, names, n_times in (
        ("anna", ["C3", "Cz", "C4"], 650),
        ("bert", ["C3", "Cz", "C4"], 400),
        ("carl", ["Fz", "Pz"], 300),
    ):
        raw = mne.io.RawArray(
            2e-5 * rng.standard_normal((len(names), n_times)), mne.create_info(names, 20.0, "eeg"), verbose="error"
        )
        store.add(raw, subject=subject, progress=False)
    return store


def in_memory(windows):
    """The same windows as arrays, one for each montage, and whose they are."""
    groups = list(windows)
    X = [EEGArray(group.take(np.arange(len(group))), group.ch_names, group.sfreq) for group in groups]
    return X, [group.subjects for group in groups]


@pytest.mark.parametrize("stage", [GramTokenizer, GramPretrainer])
def test_windows_on_the_disk_train_as_windows_in_memory_do(store, stage):
    windows = store.windows(3.0, stride=2.0)
    X, subjects = in_memory(windows)
    stored = stage(**SIZE).fit(windows)
    held = stage(**SIZE).fit(X, subjects=subjects)
    assert stored.history_[-1]["train_loss"] == held.history_[-1]["train_loss"]
    for (name, one), (_, other) in zip(
        stored.module_.state_dict().items(), held.module_.state_dict().items(), strict=True
    ):
        np.testing.assert_array_equal(one.numpy(), other.numpy(), err_msg=name)


def test_subjects_of_stored_windows_are_held_out_together(store):
    fitted = GramTokenizer(**SIZE, validation="subject", recipe_params={"validation_size": 0.3}).fit(store.windows(3.0))
    assert len(fitted.history_[-1]["valid_by_subject"]) == 1


def test_a_run_on_other_windows_is_not_gone_on_with(store, tmp_path):
    settings = SIZE | {"run_file": str(tmp_path / "run")}
    GramTokenizer(**settings).fit(store.windows(3.0))
    with pytest.raises(ValueError, match="other trials"):
        GramTokenizer(**settings).fit(store.windows(2.0))


def test_windows_that_the_network_cannot_take_are_refused(store):
    with pytest.raises(ValueError, match="expected 200.0 Hz .*gram_preprocessing"):
        GramTokenizer(**SIZE | {"network_params": {"patch_length": 20}}).fit(store.windows(3.0))
    with pytest.raises(ValueError, match="50 samples at 20 Hz"):
        GramTokenizer(**SIZE).fit(store.windows(2.5))
