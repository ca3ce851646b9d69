"""Recordings from folders: every format, every way to name files, and what is said of broken ones."""

import mne
import numpy as np
import pytest
from scipy.io import savemat

from skeeg.array import as_eeg
from skeeg.datasets import LocalDataset
from skeeg.datasets.readers import arrange_recordings, find_recordings, number_labels

RATE, NAMES = 100.0, ("C3", "Cz", "C4")
CLASSES = ("left_hand", "right_hand")


def make_raw(n_trials=4, names=NAMES, seed=0, events=CLASSES, duration=2.0):
    """Recording of noise in volts, an event every three seconds; channel i has i + 1 times ten microvolts."""
    data = np.random.default_rng(seed).standard_normal((len(names), int((3 * n_trials + 3) * RATE)))
    data *= 1e-5 * np.arange(1, len(names) + 1)[:, None]
    raw = mne.io.RawArray(data, mne.create_info(list(names), RATE, "eeg"), verbose="error")
    onsets = 1 + 3 * np.arange(n_trials)
    return raw.set_annotations(mne.Annotations(onsets, duration, [events[i % len(events)] for i in range(n_trials)]))


def make_epochs(raw, tmin=-0.5, tmax=1.5):
    """Epochs around the events of a recording."""
    events, numbers = mne.events_from_annotations(raw, verbose="error")
    return mne.Epochs(raw, events, numbers, tmin, tmax, baseline=None, preload=True, verbose="error")


def expected(raw, start=0.0, length=2.0):
    """Trials of a recording in microvolts."""
    first = np.round((raw.annotations.onset + start) * RATE).astype(int)
    return np.stack([raw.get_data()[:, i : i + int(length * RATE)] for i in first]) * 1e6


def write_set(path, data, events, trials=1):
    """Write EEGLAB's format: data (channels, times[, trials]) in microvolts, events as (sample from 1, name, epoch)."""
    names = np.array([(name,) for name in NAMES], dtype=[("labels", object)])
    fields = [("latency", object), ("type", object), ("duration", object), ("epoch", object)]
    table = np.array([(float(at), name, 2 * RATE, epoch) for at, name, epoch in events], dtype=fields)
    kinds = [("event", object), ("eventlatency", object), ("eventtype", object)]
    epoch = np.array([(i + 1, 0.0, name) for i, (_, name, _) in enumerate(events)], dtype=kinds) if trials > 1 else []
    header = {
        "setname": "x",
        "nbchan": len(NAMES),
        "pnts": data.shape[1],
        "trials": trials,
        "srate": RATE,
        "xmax": 1.49,
    }
    header |= {"xmin": -0.5 if trials > 1 else 0.0, "data": data, "chanlocs": names, "event": table, "epoch": epoch}
    savemat(path, {"EEG": header | {"icawinv": [], "icaweights": [], "icasphere": []}})


def write_gdf(path, raw, numbers):
    """Write GDF 1.25, as BCI competition IV has it: float64 samples, one second a record, an event table."""
    data = raw.get_data() * 1e6
    n, n_records = len(raw.ch_names), data.shape[1] // int(RATE)
    head = b"GDF 1.25" + b" " * 80 + b" " * 80 + b"2020010112000000" + np.int64(256 + 256 * n).tobytes() + bytes(44)
    head += np.int64(n_records).tobytes() + np.uint32([1, 1]).tobytes() + np.uint32(n).tobytes()
    head += b"".join(name.encode().ljust(16) for name in raw.ch_names) + b" " * 80 * n + b"uV      " * n
    head += np.full(n, -1e4).tobytes() + np.full(n, 1e4).tobytes()
    head += np.full(n, -10_000, np.int64).tobytes() + np.full(n, 10_000, np.int64).tobytes()
    head += (
        b" " * 80 * n + np.full(n, int(RATE), np.int32).tobytes() + np.full(n, 17, np.int32).tobytes() + bytes(32 * n)
    )
    body = data[:, : n_records * int(RATE)].reshape(n, n_records, -1).transpose(1, 0, 2).astype("<f8").tobytes()
    at = np.round(raw.annotations.onset * RATE).astype(np.uint32) + 1
    table = np.uint8([1, int(RATE), 0, 0]).tobytes() + np.uint32(len(at)).tobytes() + at.tobytes()
    path.write_bytes(head + body + table + np.uint16([numbers[name] for name in raw.annotations.description]).tobytes())


@pytest.mark.parametrize("name", ["one_raw.fif", "one.edf", "one.vhdr", "one.bdf"])
def test_continuous_files(tmp_path, name):
    raw = make_raw()
    raw.save(tmp_path / name, verbose="error") if name.endswith("fif") else mne.export.export_raw(
        tmp_path / name, raw, verbose="error"
    )
    # MNE puts the kind of a BrainVision marker before its name
    classes = {f"Comment/{one}": one for one in CLASSES} if name.endswith("vhdr") else None
    dataset = LocalDataset(tmp_path, classes)
    X, y = dataset.arrays()
    step = 20 / 2**15 if name.endswith(".edf") else 0.02  # EDF holds 16 bits
    np.testing.assert_allclose(X, expected(raw), atol=5 * step)
    assert y.tolist() == list(raw.annotations.description) and X.ch_names == NAMES and X.sfreq == RATE
    assert dataset.interval == [0.0, 2.0] and dataset.event_id == {"left_hand": 1, "right_hand": 2}


def test_epochs_file(tmp_path):
    raw = make_raw()
    make_epochs(raw).save(tmp_path / "anna-epo.fif", verbose="error")
    dataset = LocalDataset(tmp_path)
    X, y = dataset.arrays()
    assert dataset.interval == [-0.5, 1.5] and y.tolist() == list(raw.annotations.description)
    np.testing.assert_allclose(X, expected(raw, -0.5), atol=1e-3)
    later, _ = dataset.arrays(tmin=0.5, tmax=1.5)  # from the interval's start
    np.testing.assert_allclose(later, expected(raw, 0.0, 1.0), atol=1e-3)


def test_filters_do_not_cross_from_one_epoch_to_the_next(tmp_path):
    epochs = make_epochs(make_raw())
    epochs.save(tmp_path / "a-epo.fif", verbose="error")
    epochs._data[1] *= 50
    epochs.save(tmp_path / "b-epo.fif", verbose="error")
    X, _ = LocalDataset(tmp_path).arrays(fmin=8, fmax=30)
    np.testing.assert_allclose(X[4], X[0], atol=1e-2)
    np.testing.assert_allclose(X[5], 50 * X[1], rtol=1e-3, atol=0.5)


def test_eeglab_continuous_and_epochs(tmp_path):
    raw = make_raw()
    (tmp_path / "raw").mkdir(), (tmp_path / "cut").mkdir()
    names = list(raw.annotations.description)
    at = raw.annotations.onset * RATE + 1
    write_set(
        tmp_path / "raw" / "s1.set", raw.get_data() * 1e6, [(a, name, 1) for a, name in zip(at, names, strict=True)]
    )
    X, y = LocalDataset(tmp_path / "raw", interval=(0, 2)).arrays()
    np.testing.assert_allclose(X, expected(raw), atol=1e-3)
    assert y.tolist() == names
    cut = expected(raw, -0.5)
    events = [(i * 200 + 51, name, i + 1) for i, name in enumerate(names)]
    write_set(tmp_path / "cut" / "s1.set", cut.transpose(1, 2, 0), events, trials=len(names))
    dataset = LocalDataset(tmp_path / "cut")
    X, y = dataset.arrays(tmax=1.9)
    np.testing.assert_allclose(X, cut[..., :190], atol=1e-3)
    assert y.tolist() == names and dataset.interval[0] == -0.5


def test_gdf_with_competition_names(tmp_path):
    for session, seed in (("T", 1), ("E", 2)):
        write_gdf(tmp_path / f"A01{session}.gdf", make_raw(seed=seed), {"left_hand": 769, "right_hand": 770})
    dataset = LocalDataset(
        tmp_path,
        classes={"769": "left_hand", "770": "right_hand"},
        interval=(0.5, 1.5),
        pattern=r"A(?P<subject>\d+)(?P<session>[TE])",
    )
    X, y = dataset.arrays()
    assert dataset.subject_list == [1] and dataset.n_sessions == 2
    assert X.domains["session"].tolist() == ["0E"] * 4 + ["1T"] * 4 and y.tolist() == list(CLASSES) * 4
    np.testing.assert_allclose(X[:4], expected(make_raw(seed=2), 0.5, 1.0), atol=1.0)


def test_bids_with_event_tables(tmp_path):
    mne_bids = pytest.importorskip("mne_bids")
    for subject in ("01", "02"):
        for session in ("a", "b"):
            for task in ("grasp", "rest"):
                raw = make_raw(seed=int(subject))
                raw.info["line_freq"] = 50
                path = mne_bids.BIDSPath(
                    subject=subject, session=session, task=task, run="1", root=tmp_path, datatype="eeg"
                )
                mne_bids.write_raw_bids(raw, path, format="BrainVision", allow_preload=True, verbose="error")
    with pytest.raises(ValueError, match="task: .* more than one task; choose one of grasp, rest"):
        LocalDataset(tmp_path)
    dataset = LocalDataset(tmp_path, task="grasp")
    X, y = dataset.arrays(subjects=[2])
    assert dataset.subject_list == [1, 2] and set(X.domains["session"]) == {"0a", "1b"}
    np.testing.assert_allclose(X[:4], expected(make_raw(seed=2)), atol=1e-2)
    assert y.tolist() == list(CLASSES) * 4


def test_triggers_become_events(tmp_path):
    raw = make_raw()
    trigger = np.zeros((1, raw.n_times))
    trigger[0, [100, 400, 700]] = 7, 8, 7
    info = mne.create_info(["STI 014"], RATE, "stim")
    raw.add_channels([mne.io.RawArray(trigger, info, verbose="error")], force_update_info=True)
    raw.set_annotations(None).save(tmp_path / "a_raw.fif", verbose="error")
    X, y = LocalDataset(tmp_path, classes={7: "left_hand", 8: "right_hand"}, interval=(0, 1)).arrays()
    assert y.tolist() == ["left_hand", "right_hand", "left_hand"] and X.ch_names == NAMES
    np.testing.assert_allclose(X[1], raw.get_data()[:3, 400:500] * 1e6, atol=1e-3)


def test_bad_segments_leave_trials_out(tmp_path):
    raw = make_raw()
    raw.set_annotations(raw.annotations + mne.Annotations(4.5, 0.1, "BAD_jump"))
    raw.save(tmp_path / "a_raw.fif", verbose="error")
    assert LocalDataset(tmp_path).arrays()[1].tolist() == ["left_hand", "left_hand", "right_hand"]


def test_folders_for_subjects_and_sessions(tmp_path):
    for place in ("berta/day1/x_raw.fif", "berta/day2/x_raw.fif", "berta/day2/y_raw.fif", "anna/day1/x_raw.fif"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        make_raw(n_trials=2).save(tmp_path / place, verbose="error")
    dataset = LocalDataset(tmp_path)
    assert dataset.subject_names == {1: "anna", 2: "berta"} and dataset.n_sessions == 1
    data = dataset.get_data()
    assert {session: len(runs) for session, runs in data[2].items()} == {"0day1": 1, "1day2": 2}
    assert len(LocalDataset(tmp_path, runs_as_sessions=True).get_data([2])[2]) == 3
    assert [path.endswith("x_raw.fif") for path in dataset.data_path(1)] == [True]


def test_labels_become_names_that_moabb_accepts():
    assert number_labels(["10", "9"]) == {"9": "9", "10": "10"}
    assert number_labels(["01", "1"]) == {"01": "0x01", "1": "1x1"}
    assert number_labels(["post", "pre-1"]) == {"post": "0post", "pre-1": "1pre1"}


def test_split_files_hidden_files_and_derivatives_are_left_out(tmp_path):
    for name in ("a_raw.fif", "a_raw-1.fif", "b-1.fif", ".c_raw.fif", "derivatives/d_raw.fif", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    recordings, subjects = arrange_recordings(find_recordings(tmp_path))
    assert list(subjects.values()) == ["a_raw", "b-1"] and list(recordings) == [1, 2]


def test_code_follows_what_shapes_the_data(tmp_path):
    make_raw().save(tmp_path / "a_raw.fif", verbose="error")
    codes = {LocalDataset(tmp_path, **options).code for options in ({}, {"channels": ("C3",)}, {"interval": (0, 1)})}
    assert len(codes) == 3 and LocalDataset(tmp_path).code in codes
    assert repr(LocalDataset(tmp_path, subjects=[1])) == LocalDataset(tmp_path).code


def test_unknown_folder():
    with pytest.raises(FileNotFoundError, match="nowhere"):
        LocalDataset("nowhere")


def test_folder_without_recordings(tmp_path):
    with pytest.raises(ValueError, match="holds no recording"):
        LocalDataset(tmp_path)


def test_options_that_make_no_sense(tmp_path):
    make_raw(duration=0).save(tmp_path / "a_raw.fif", verbose="error")
    for options, message in [
        ({"unit": "kV"}, "unit: got 'kV'"),
        ({}, "interval: the events of .*a_raw.fif have no duration"),
        ({"interval": (1, 0)}, "interval"),
        ({"pattern": "x(?P<subject>y)"}, "pattern: .* matches no file"),
        ({"pattern": "a_raw"}, "has no group"),
        ({"task": "grasp"}, "task: no file"),
    ]:
        with pytest.raises(ValueError, match=message):
            LocalDataset(tmp_path, **options)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (make_raw(events=("feet", "rest")), "its events are feet, rest, expected left_hand, right_hand"),
        (make_raw().set_annotations(None), "there are no events"),
        (make_raw(names=("C3", "Cz", "Pz")), "channels C4 are missing; it has C3, Cz, Pz"),
    ],
)
def test_a_file_unlike_the_first_is_named(tmp_path, second, message):
    make_raw().save(tmp_path / "a_raw.fif", verbose="error")
    second.save(tmp_path / "b_raw.fif", verbose="error")
    dataset = LocalDataset(tmp_path)
    with pytest.raises(ValueError, match=f"b_raw.fif: {message}"):
        dataset.get_data([2])


def test_first_file_without_events(tmp_path):
    make_raw().set_annotations(None).save(tmp_path / "a_raw.fif", verbose="error")
    with pytest.raises(ValueError, match="a_raw.fif: there are no events"):
        LocalDataset(tmp_path)


def test_a_broken_file_is_named(tmp_path):
    (tmp_path / "a.edf").write_bytes(b"nothing of use")
    with pytest.raises(ValueError, match="a.edf: cannot be read"):
        LocalDataset(tmp_path)


def test_microvolts_taken_for_volts(tmp_path):
    raw = make_raw()
    raw._data *= 1e6
    raw.save(tmp_path / "a_raw.fif", verbose="error")
    with pytest.raises(ValueError, match="a_raw.fif: its EEG has a standard deviation of .* V.*unit='uV'"):
        LocalDataset(tmp_path).arrays()
    X, _ = LocalDataset(tmp_path, unit="uV").arrays()
    np.testing.assert_allclose(X, expected(make_raw()), rtol=1e-4, atol=1e-3)


def test_chosen_channels_in_their_order(tmp_path):
    raw = make_raw()
    raw.save(tmp_path / "a_raw.fif", verbose="error")
    X, _ = LocalDataset(tmp_path, channels=("C4", "C3")).arrays()
    assert X.ch_names == ("C4", "C3")
    np.testing.assert_allclose(X, expected(raw)[:, [2, 0]], atol=1e-3)


def test_local_recordings_go_through_a_moabb_paradigm(tmp_path):
    from moabb.paradigms import LeftRightImagery

    make_epochs(make_raw()).save(tmp_path / "a-epo.fif", verbose="error")
    dataset = LocalDataset(tmp_path)
    X, y, metadata = LeftRightImagery(fmin=None, fmax=None).get_data(dataset, [1])
    np.testing.assert_allclose(X[..., :200], dataset.arrays()[0], atol=1e-6)
    assert X.shape == (4, 3, 201) and list(y) == list(CLASSES) * 2 and set(metadata["session"]) == {"0"}


def test_bad_channels_reach_the_estimators_as_missing_through_moabb(tmp_path):
    from moabb.paradigms import LeftRightImagery

    raw = make_raw()
    raw.info["bads"] = ["Cz"]
    (tmp_path / "sub1").mkdir()
    raw.save(tmp_path / "sub1" / "run_raw.fif", verbose="error")
    dataset = LocalDataset(tmp_path)
    paradigm = LeftRightImagery(fmin=None, fmax=None, channels=list(dataset.channels))
    X = as_eeg(paradigm.get_data(dataset, return_epochs=True)[0])
    assert X.ch_names == NAMES and X.bads == ("Cz",)
