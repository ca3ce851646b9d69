import os
import pickle
import signal
import subprocess
import sys
import textwrap

import h5py
import mne
import numpy as np
import pytest
from sklearn.pipeline import make_pipeline

from skeeg.datasets import LocalDataset, RecordingStore, SimulatedMotorImagery
from skeeg.filtering import Resample

SIZE = {"n_sessions": 2, "n_runs": 1, "n_trials": 4}


def raw_of(n_channels=3, n_times=1000, sfreq=100.0, seed=0):
    """Noise of ten microvolts, with a trial every two seconds."""
    data = 1e-5 * np.random.default_rng(seed).standard_normal((n_channels, n_times))
    raw = mne.io.RawArray(data, mne.create_info([f"E{i}" for i in range(n_channels)], sfreq, "eeg"), verbose="error")
    return raw.set_annotations(mne.Annotations([1, 3, 5, 9.5], 0.5, ["left", "right", "left", "right"]))


@pytest.fixture
def store(tmp_path):
    return RecordingStore(tmp_path / "store")


def test_recordings_come_back_as_they_were_with_all_that_is_known_of_them(store):
    raw = raw_of()
    assert store.add(raw, subject="anna", session="1", run="2", progress=False) == 1
    (one,) = RecordingStore(store.folder).recordings
    assert (one.subject, one.session, one.run) == ("anna", "1", "2")
    assert one.ch_names == tuple(raw.ch_names) and one.sfreq == 100.0 and one.n_times == 1000
    np.testing.assert_array_equal(store.read(one), (1e6 * raw.get_data()).astype(np.float32))
    np.testing.assert_array_equal(store.read(one, 30, 20), (1e6 * raw.get_data()).astype(np.float32)[:, 30:50])
    assert one.events.tolist() == ["left", "right", "left", "right"] and one.onsets.tolist() == [1, 3, 5, 9.5]


def test_trials_of_a_dataset_are_those_that_the_dataset_gives(store):
    dataset = SimulatedMotorImagery(n_subjects=2, **SIZE)
    assert store.add(dataset, progress=False) == 4
    wanted, labels = dataset.arrays()
    interval = (dataset.interval[0], dataset.interval[1])
    X, y = store.trials(interval)
    np.testing.assert_allclose(np.concatenate(X), wanted, atol=1e-3)
    assert np.concatenate(y).tolist() == labels.tolist()
    assert len({one.domains["subject"][0] for one in X}) == 2 and len(store.trials(interval, ["left_hand"])[0][0]) == 2


def test_a_trial_that_reaches_beyond_the_recording_is_left_out(store):
    store.add(raw_of(), progress=False)
    X, y = store.trials((0.0, 1.0))
    assert len(X[0]) == 3 and y[0].tolist() == ["left", "right", "left"]


def test_a_folder_is_read_with_and_without_events(store, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    raw_of(seed=1).save(folder / "anna_raw.fif", verbose="error")
    raw_of(seed=2).set_annotations(None).save(folder / "bert_raw.fif", verbose="error")
    assert store.add(folder, progress=False) == 2
    assert {one.subject for one in store.recordings} == {"mine/anna_raw", "mine/bert_raw"}
    assert [len(one.events) for one in store.recordings] == [4, 0]
    with pytest.raises(ValueError, match="no events"):
        LocalDataset(folder, classes=("left", "right"))._read(folder / "bert_raw.fif")


def test_what_is_there_is_not_read_again_and_a_changed_file_is(store, tmp_path, monkeypatch):
    file = tmp_path / "anna_raw.fif"
    raw_of(seed=1).save(file, verbose="error")
    assert [store.add(file, progress=False) for _ in range(2)] == [1, 0]
    assert store.add(raw_of(seed=3), subject="carl", progress=False) == 1
    raw_of(n_times=2000, seed=2).save(file, overwrite=True, verbose="error")
    assert store.add(file, progress=False) == 1 and len(store) == 3


def test_objects_without_a_name_are_told_apart_by_their_data(store):
    assert store.add([raw_of(seed=1), raw_of(seed=2)], progress=False) == 2
    assert store.add([raw_of(seed=2), raw_of(seed=3)], progress=False) == 1 and len(store) == 3


def test_marks_of_missing_data_are_no_trials(store):
    marks = mne.Annotations([1, 2, 3, 4, 5], 0.5, ["left", "BAD_", "EDGE boundary", "boundary", "New Segment/"])
    store.add(raw_of().set_annotations(marks), progress=False)
    assert store.trials((0.0, 1.0))[1][0].tolist() == ["left"]
    assert store.trials((0.0, 1.0), ["boundary"])[1][0].tolist() == ["boundary"]
    with pytest.raises(ValueError, match="classes: got 'left', expected a sequence of names"):
        store.trials((0.0, 1.0), "left")


def test_every_recording_is_prepared_whole(store):
    store.add(raw_of(), prepare=make_pipeline(Resample(50.0)), progress=False)
    (one,) = store.recordings
    assert one.sfreq == 50.0 and one.n_times == 500
    assert store.trials((0.0, 1.0))[0][0].shape == (3, 3, 50)


BUILD = """
    import os, signal, sys
    from skeeg.datasets import RecordingStore, SimulatedMotorImagery
    from skeeg.datasets import store
    def stop(*args, **kwargs):
        if len(RecordingStore(sys.argv[1])) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
    replace = store.os.replace
    store.os.replace = lambda *places: (stop(), replace(*places))
    RecordingStore(sys.argv[1]).add(SimulatedMotorImagery(n_subjects=2, n_sessions=2, n_runs=1, n_trials=4))
"""


def test_a_build_that_was_killed_goes_on_where_it_stood(store, tmp_path):
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(BUILD), str(store.folder)], capture_output=True)
    assert done.returncode == -signal.SIGKILL
    assert len(RecordingStore(store.folder)) == 2 and list(store.folder.glob("*.part"))
    dataset = SimulatedMotorImagery(n_subjects=2, **SIZE)
    assert store.add(dataset, progress=False) == 2 and len(store) == 4 and not store.verify(progress=False)
    whole = RecordingStore(tmp_path / "whole")
    whole.add(dataset, progress=False)
    for one, other in zip(store.recordings, whole.recordings, strict=True):
        np.testing.assert_array_equal(store.read(one), whole.read(other))
    assert not list(store.folder.glob("*.part"))


def test_a_changed_byte_is_found(store):
    store.add(raw_of(), progress=False)
    store.add(raw_of(seed=1), subject="bert", progress=False)
    broken = store.recordings[0]
    with h5py.File(store.folder / f"{broken.key}.h5", "r+") as file:
        file["eeg"][5, 1] += 1e-3
    damaged = RecordingStore(store.folder).verify(progress=False)
    assert [one.key for one in damaged] == [broken.key]


def test_a_file_that_is_no_recording_is_named(store):
    (store.folder / "odd.h5").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="odd.h5 is no recording"):
        RecordingStore(store.folder)


def test_windows_are_those_of_the_recordings_whatever_the_order(store):
    store.add(raw_of(), subject="anna", progress=False)
    store.add(raw_of(n_times=450, seed=1), subject="bert", progress=False)
    store.add(raw_of(n_channels=2, seed=2), subject="carl", progress=False)
    windows = store.windows(2.0, stride=1.0)
    assert [group.shape for group in windows] == [(9 + 3, 3, 200), (9, 2, 200)] and len(windows[0]) == 12
    group = next(iter(windows))
    assert group.subjects.tolist() == ["anna"] * 9 + ["bert"] * 3
    anna, bert = (1e6 * raw_of(n_times=n, seed=seed).get_data() for n, seed in ((1000, 0), (450, 1)))
    wanted = [bert[:, 200:400], anna[:, :200], anna[:, 800:1000], bert[:, 200:400]]
    np.testing.assert_allclose(group.take([11, 0, 8, 11]), wanted, rtol=1e-6)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(group)).take([3]), group.take([3]))
    with pytest.raises(IndexError, match="expected 0 to 11"):
        group.take([12])
    with pytest.raises(ValueError, match="none of 3 recordings lasts 20"):
        store.windows(20.0)


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [(3, TypeError, "got int"), ("nowhere.fif", FileNotFoundError, "no file or folder nowhere.fif")],
)
def test_a_source_that_is_none_is_refused(store, source, error, message):
    with pytest.raises(error, match=message):
        store.add(source, progress=False)


def test_numbers_that_are_no_volts_are_refused(store, tmp_path):
    raw = raw_of()
    raw._data *= 1e6
    raw.save(tmp_path / "odd_raw.fif", verbose="error")
    with pytest.raises(ValueError, match="pass unit='uV'"):
        store.add(tmp_path / "odd_raw.fif", progress=False)
    assert store.add(tmp_path / "odd_raw.fif", unit="uV", progress=False) == 1
    np.testing.assert_allclose(store.read(store.recordings[0]), 1e6 * raw_of().get_data(), rtol=1e-4)
    assert os.listdir(store.folder)
