"""Corpora with published splits, on made-up folders in the same formats, and how they are scored."""

import shutil

import numpy as np
import pandas as pd
import pytest
from scipy.io import savemat
from sklearn import metrics
from sklearn.dummy import DummyClassifier

from skeeg.datasets import HMCSleep, SeedVEmotions, SHUMotorImagery, TUHEvents, corpora
from skeeg.evaluations import classification_scores, run_corpus

TUH = "FP1 FP2 F3 F4 C3 C4 P3 P4 O1 O2 F7 F8 T3 T4 T5 T6 A1 A2 FZ CZ PZ".split()


def write_edf(path, data, rate, labels, events=()):
    """Write microvolts; events are (second, seconds, name)."""
    import edfio

    signals = [
        edfio.EdfSignal(one, rate, label=label, physical_dimension="uV", physical_range=(-500, 500))
        for one, label in zip(data, labels, strict=True)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    edfio.Edf(signals, annotations=[edfio.EdfAnnotation(*event) for event in events]).write(path)


def rhythms(n_channels, rate, seconds):
    """A rhythm of its own for each channel, 20 microvolts: 5 Hz, 6 Hz, ..."""
    times = np.arange(int(rate * seconds)) / rate
    return 20 * np.sin(2 * np.pi * (5 + np.arange(n_channels)[:, None]) * times)


def peak(window, sfreq=200.0):
    """Frequency of the largest line of each channel."""
    return np.fft.rfftfreq(window.shape[-1], 1 / sfreq)[np.abs(np.fft.rfft(window)).argmax(axis=-1)]


# TUEV


@pytest.fixture(scope="module")
def tuev(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuev")
    people = [f"train/aaaaaaa{letter}" for letter in "abcde"] + ["eval/000"]
    for person in people:
        stem = folder / "edf" / person / f"{person.split('/')[1]}_00000001"
        channels = [f"EEG {name}-REF" for name in TUH] + ["PHOTIC-REF"]
        write_edf(stem.with_suffix(".edf"), rhythms(22, 250, 20), 250, channels)
        stem.with_suffix(".rec").write_text("2,10.0,11.0,6\n3,10.0,11.0,6\n0,0.2,1.2,1\n\n5,19.0,20.0,4\n")
    return folder


def test_tuev_is_split_backwards_by_person(tuev):
    corpus = TUHEvents(tuev)
    assert corpus.subjects("train") == [f"train/aaaaaaa{letter}" for letter in "edcb"]
    assert corpus.subjects("valid") == ["train/aaaaaaaa"]
    assert corpus.subjects("test") == ["eval/000"]


def test_tuev_windows_lie_around_their_events(tuev):
    X, y = TUHEvents(tuev).arrays("test")
    assert X.shape == (4, 19, 1000)
    assert X.dtype == np.float32
    assert X.sfreq == 200
    assert X.ch_names[12:16] == ("T7", "T8", "P7", "P8")
    assert y.tolist() == ["bckg", "bckg", "spsw", "eyem"]
    assert (X[0] == X[1]).all()
    assert set(X.domains["subject"]) == {"eval/000"}
    # T3, the thirteenth channel of the file, has 17 Hz; the average of 19 rhythms takes a nineteenth away
    assert peak(X[0])[12] == 17
    assert 0.9 < np.abs(X[0, 12]).max() / 20 < 1.4
    times = 8 + np.arange(1000) / 200
    wanted = np.sin(2 * np.pi * 17 * times)
    assert np.corrcoef(X[0, 12], wanted)[0, 1] > 0.9
    assert np.corrcoef(X[2, 12], np.sin(2 * np.pi * 17 * (times - 8)))[0, 1] > 0.9  # shifted to the start


@pytest.mark.parametrize(
    ("text", "words"), [("1,2,3", "line 1: expected channel"), ("0,1.0,2.0,7\n", "code from 1 to 6")]
)
def test_tuev_events_that_cannot_be_read_are_told_with_their_file(tuev, tmp_path, text, words):
    source = tuev / "edf/eval/000/000_00000001.edf"
    target = tmp_path / "eval/000/x.edf"
    target.parent.mkdir(parents=True)
    shutil.copy(source, target)
    with pytest.raises(FileNotFoundError, match="x.rec"):
        TUHEvents(tmp_path).arrays("test")
    target.with_suffix(".rec").write_text(text)
    with pytest.raises(ValueError, match=rf"x\.rec, {words}" if words.startswith("line") else words):
        TUHEvents(tmp_path).arrays("test")


def test_missing_electrodes_and_broken_files_are_told(tmp_path):
    file = tmp_path / "eval/000/x.edf"
    write_edf(file, rhythms(2, 250, 10), 250, ["EEG FP1-REF", "EEG FP2-REF"])
    file.with_suffix(".rec").write_text("0,1,2,6\n")
    with pytest.raises(ValueError, match=r"x\.edf: electrodes F3, F4, .* are missing"):
        TUHEvents(tmp_path).arrays("test")
    file.write_text("nothing")
    with pytest.raises(ValueError, match=r"x\.edf: cannot be read"):
        TUHEvents(tmp_path).arrays("test")


# HMC


@pytest.fixture(scope="module")
def hmc(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hmc")
    channels = ["EEG F4-M1", "EEG C4-M1", "EEG O2-M1", "EEG C3-M2", "EMG chin"]
    stages = ["N1", "W", "N2", "R", "N1"]
    for person in range(1, 7):
        write_edf(folder / f"recordings/SN{person:03d}.edf", rhythms(5, 256, 150), 256, channels)
        stem = folder / f"recordings/SN{person:03d}_sleepscoring"
        events = [(30 * i, 30, f"Sleep stage {s}") for i, s in enumerate(stages)]
        events += [(30, 0, "Lights off@@EEG F4-M1"), (120, 0, "Lights on@@EEG F4-M1")]
        write_edf(stem.with_suffix(".edf"), np.zeros((1, 150)), 1, ["EMG"], events)
    return folder


def test_hmc_epochs_become_two_windows(hmc):
    corpus = HMCSleep(hmc)
    assert [corpus.subjects(part) for part in ("valid", "test")] == [["SN001"], ["SN002"]]
    for part in ("valid", "test"):
        X, y = corpus.arrays(part)
        assert X.shape == (6, 4, 3000)
        assert y.tolist() == ["W", "W", "N2", "N2", "R", "R"]
        assert peak(X[2]).round(6).tolist() == [5, 6, 7, 8]
    assert len(corpus.arrays("train", subjects=["SN004"])[1]) == 6


def test_a_recording_of_hmc_without_its_scoring_is_told(hmc, tmp_path):
    shutil.copy(hmc / "recordings/SN001.edf", tmp_path / "SN001.edf")
    with pytest.raises(FileNotFoundError, match="SN001_sleepscoring.edf: no such file"):
        HMCSleep(tmp_path).arrays("train")


# SEED-V


def write_cnt(path, data, rate, names):
    """Write a Neuroscan file: a header of 900 bytes, 75 for each electrode, then microvolts as 32-bit integers."""
    header = bytearray(900)
    header[225:235], header[235:247] = b"01/02/18  ", b"10:00:00".ljust(12)
    header[370:372] = np.uint16(len(data)).tobytes()
    header[376:378] = np.uint16(rate).tobytes()
    header[864:868] = np.int32(data.shape[1]).tobytes()
    body = np.round(data.T * 204.8 / 20).astype("<i4").tobytes()
    start = 900 + 75 * len(data)
    header[886:890] = np.int32(start + len(body)).tobytes()
    blocks = []
    for i, name in enumerate(names):
        block = bytearray(75)
        block[: len(name)] = name.encode()
        angle = 2 * np.pi * i / len(names)
        block[19:27] = np.array([np.cos(angle), np.sin(angle)], "<f4").tobytes()
        block[59:63], block[71:75] = np.float32(20).tobytes(), np.float32(1).tobytes()
        blocks.append(bytes(block))
    event = np.array([1], "<u2").tobytes() + bytes(2) + np.int32(start).tobytes()
    table = bytes([1]) + np.int32(len(event)).tobytes() + np.int32(0).tobytes() + event
    path.write_bytes(bytes(header) + b"".join(blocks) + body + table)


@pytest.fixture
def seed_folder(tmp_path, monkeypatch):
    clips = pd.DataFrame({"start": [2, 12], "stop": [9, 19], "emotion": ["happy", "disgust"]})
    monkeypatch.setattr(corpora, "_read_clips", lambda session: clips)
    names = [*corpora._SEED_NAMES[:30], "M1", "VEO", *corpora._SEED_NAMES[30:], "HEO"]
    data = np.tile(rhythms(5, 500, 21), (13, 1))
    for person in range(1, 6):
        write_cnt(tmp_path / f"{person}_1_20180804.cnt", data, 500, names)
    return tmp_path


def test_seed_v_clips_are_cut_into_windows(seed_folder):
    corpus = SeedVEmotions(seed_folder)
    assert [corpus.subjects(part) for part in ("test", "valid", "train")] == [["1"], ["2"], ["3", "4", "5"]]
    X, y = corpus.arrays("test")
    assert y.tolist() == ["happy", "happy", "disgust", "disgust"]
    assert X.shape == (4, 62, 800)
    assert X.ch_names == corpora._SEED_NAMES
    assert np.abs(np.asarray(X).mean(axis=1)).max() < 1e-3
    assert peak(X[0])[:5].tolist() == [5, 6, 7, 8, 9]
    assert peak(X[0])[30] == 5 + 32 % 5  # the channels of mastoids and eyes are left out
    assert 10 < np.abs(X[0, 0, 100:700]).max() < 40


def test_seed_v_errors_name_the_file(seed_folder, monkeypatch):
    clips = pd.DataFrame({"start": [2], "stop": [60], "emotion": ["happy"]})
    monkeypatch.setattr(corpora, "_read_clips", lambda session: clips)
    with pytest.raises(ValueError, match=r"1_1_20180804\.cnt: it lasts 21 s, but its last clip ends at 60 s"):
        SeedVEmotions(seed_folder).arrays("test")
    (seed_folder / "notes.cnt").write_text("")
    with pytest.raises(ValueError, match=r"notes\.cnt: expected a name with subject"):
        SeedVEmotions(seed_folder).subjects()


def test_the_clips_of_seed_v_follow_each_other():
    for session in (1, 2, 3):
        clips = corpora._read_clips(session)
        assert (np.diff(clips[["start", "stop"]].to_numpy().ravel()) > 0).all()
        assert sorted(clips["emotion"]) == sorted(SeedVEmotions.classes * 3)


# SHU


@pytest.fixture(scope="module")
def shu(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shu")
    for person in range(1, 6):
        for day in (1, 2):
            data = np.array([rhythms(32, 250, 4)] * 3) / 20
            name = f"sub-{person:03d}_ses-{day:02d}_task_motorimagery_eeg.mat"
            savemat(folder / name, {"data": data, "labels": np.array([[1, 2, 1]])})
    return folder


def test_shu_trials_are_resampled_and_nothing_else(shu):
    corpus = SHUMotorImagery(shu)
    X, y = corpus.arrays("test")
    assert X.shape == (6, 32, 800)
    assert y.tolist() == ["left_hand", "right_hand", "left_hand"] * 2
    assert set(X.domains["session"]) == {"01", "02"}
    assert np.abs(X[0, :, 50:750] - rhythms(32, 200, 4)[:, 50:750] / 20).max() < 0.02
    people = [set(corpus.subjects(part)) for part in ("train", "test", "valid")]
    assert [len(one) for one in people] == [3, 1, 1]
    assert len(set.union(*people)) == 5


def test_shu_errors_name_the_file(tmp_path):
    file = tmp_path / "sub-001_ses-01_task_motorimagery_eeg.mat"
    for held, words in (
        ({"data": np.zeros((3, 32, 1000))}, "KeyError 'labels'"),
        ({"data": np.zeros((3, 30, 1000)), "labels": [1, 2, 1]}, r"data of shape \(3, 30, 1000\)"),
        ({"data": np.zeros((3, 32, 1000)), "labels": [1, 2, 3]}, "KeyError 3"),
    ):
        savemat(file, held)
        with pytest.raises(ValueError, match=rf"{file.name}: .*{words}"):
            SHUMotorImagery(tmp_path).arrays("valid")


def test_the_split_of_shu_is_the_published_one():
    split = SHUMotorImagery()._split([f"sub-{number:03d}" for number in range(1, 26)])
    assert sorted(split["test"]) == ["sub-002", "sub-008", "sub-015", "sub-018", "sub-022"]
    assert [len(split[part]) for part in ("train", "valid", "test")] == [15, 5, 5]


# All of them


@pytest.mark.parametrize("Corpus", [TUHEvents, HMCSleep, SeedVEmotions, SHUMotorImagery])
def test_folders_without_recordings_are_told(Corpus, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="no recording of"):
        Corpus(tmp_path).arrays()
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        Corpus(tmp_path / "none").arrays()
    with pytest.raises(ValueError, match="part: got 'dev'"):
        Corpus(tmp_path).arrays("dev")
    monkeypatch.delenv("SKEEG_DATA", raising=False)
    with pytest.raises(ValueError, match="set the environment variable SKEEG_DATA"):
        Corpus().arrays()


def test_people_of_another_part_are_refused(shu):
    with pytest.raises(ValueError, match="subjects: sub-099 not in part 'test'"):
        SHUMotorImagery(shu).arrays("test", subjects=["sub-099"])


# Scores


def test_scores_of_many_classes_are_those_of_all_windows():
    rng = np.random.default_rng(0)
    y, probabilities = rng.integers(0, 3, 200), rng.dirichlet(np.ones(3), 200)
    scores = classification_scores(y, probabilities, [0, 1, 2])
    predicted = probabilities.argmax(axis=1)
    assert scores["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(y, predicted))
    assert scores["kappa"] == pytest.approx(metrics.cohen_kappa_score(y, predicted))
    assert set(scores) == {"accuracy", "balanced_accuracy", "kappa", "weighted_f1"}
    halves = [classification_scores(y[part], probabilities[part], [0, 1, 2]) for part in (slice(7), slice(7, None))]
    assert scores["kappa"] != pytest.approx(np.mean([half["kappa"] for half in halves]), abs=1e-3)


def test_scores_refuse_what_does_not_fit():
    with pytest.raises(ValueError, match="probabilities: got shape"):
        classification_scores([0, 1], [[1.0, 0.0]], [0, 1])
    with pytest.raises(ValueError, match="probabilities: got NaN"):
        classification_scores([0, 1], [[1.0, 0.0], [np.nan, 1.0]], [0, 1])
    with pytest.raises(ValueError, match="y: class 2"):
        classification_scores([0, 2], [[1.0, 0.0]] * 2, [0, 1])
    with pytest.raises(ValueError, match="classes: expected two or more, got 0"):
        classification_scores([0, 0], [[1.0]] * 2, [0])


def test_balanced_accuracy_is_over_the_classes_that_are_there():
    scores = classification_scores([0, 0, 1, 1], np.eye(3)[[0, 0, 1, 2]], [0, 1, 2])
    assert scores["balanced_accuracy"] == 0.75


def test_a_corpus_is_run_with_every_seed(shu):
    class Flat(DummyClassifier):
        def fit(self, X, y):
            return super().fit(np.zeros((len(X), 1)), y)

        def predict_proba(self, X):
            return super().predict_proba(np.zeros((len(X), 1)))

    results = run_corpus({"prior": Flat(strategy="prior")}, SHUMotorImagery(shu), seeds=(0, 10))
    assert results[["seed", "n_train", "n_test"]].to_numpy().tolist() == [[0, 18, 6], [10, 18, 6]]
    assert results["accuracy"].tolist() == pytest.approx([2 / 3] * 2)
    assert results["roc_auc"].tolist() == [0.5, 0.5]


class Chooses(DummyClassifier):
    """Remembers what it was given, and on whom it was to choose."""

    seen = []

    def __init__(self, strategy="prior", validation=None):
        super().__init__(strategy=strategy)
        self.validation = validation

    def fit(self, X, y):
        self.seen.append((self.validation, sorted(set(X.domains["subject"]))))
        return super().fit(np.zeros((len(X), 1)), y)

    def predict_proba(self, X):
        return super().predict_proba(np.zeros((len(X), 1)))


def test_a_corpus_lets_networks_choose_on_its_validation_subjects(shu):
    corpus, Chooses.seen = SHUMotorImagery(shu), []
    pipelines = {"chooses": Chooses(validation="trial"), "does not": Chooses()}
    results = run_corpus(pipelines, corpus, seeds=(0,), validation="valid")
    train, valid = corpus.subjects("train"), corpus.subjects("valid")
    assert Chooses.seen == [(tuple(valid), sorted(train + valid)), (None, sorted(train))]
    assert results["n_train"].tolist() == [18, 18]
    with pytest.raises(ValueError, match="validation: got 'test'"):
        run_corpus(pipelines, corpus, validation="test")
