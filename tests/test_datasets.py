"""Datasets in MOABB and as plain arrays, on made-up folders everywhere and on the recordings where they are."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from moabb.evaluations import (
    CrossSessionEvaluation,
    CrossSubjectEvaluation,
    WithinSessionEvaluation,
    WithinSubjectEvaluation,
)
from moabb.paradigms import LeftRightImagery, MotorImagery
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.pipeline import make_pipeline

from skeeg.datasets import (
    GraspImagery,
    PhysionetMotor,
    SimulatedMotorExecution,
    SimulatedMotorImagery,
    load_arrays,
)

DATA = Path(os.environ.get("SKEEG_DATA", Path(__file__).parents[1] / ".." / "shared" / "data"))
needs_grasp = pytest.mark.skipif(not (DATA / "ds003810").is_dir(), reason="SKEEG_DATA holds no ds003810")
needs_physionet = pytest.mark.skipif(
    not (DATA / "eegmmidb/S001/S001R06.edf").is_file(), reason="SKEEG_DATA holds no original eegmmidb"
)


class LogPower(TransformerMixin, BaseEstimator):
    """Log power of each channel."""

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return np.log(np.var(X, axis=-1))

    def __sklearn_is_fitted__(self):
        return True


def small(dataset=SimulatedMotorImagery, **options):
    """Small simulated set."""
    return dataset(**{"n_subjects": 2, "n_runs": 1, "n_trials": 10, "ch_names": ("C3", "Cz", "C4")} | options)


def write_edf(path, data, rate, names, events, unit):
    """Write an EDF file: data in any unit, annotations as (second, seconds, name)."""
    import edfio

    signals = [
        edfio.EdfSignal(one, rate, label=name, physical_dimension=unit) for one, name in zip(data, names, strict=True)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    edfio.Edf(signals, annotations=[edfio.EdfAnnotation(*event) for event in events]).write(path)


@pytest.fixture(scope="module")
def grasp_folder(tmp_path_factory):
    """Folder in the layout of ds003810 with one subject; values say microvolts, the unit is blank."""
    folder = tmp_path_factory.mktemp("grasp") / "ds003810"
    names = ["Pz", "Cz", "T6", "T4", "F8", "P4", "C4", "F4", "Fz", "T5", "T3", "F7", "P3", "C3", "F3"]
    for run in range(5):
        data = np.random.default_rng(run).standard_normal((15, 125 * 30)) * 20
        kinds = ["OVTK_GDF_Right", "OVTK_GDF_Tongue", "OVTK_GDF_Right"]
        events = [(0.5, 0, "OVTK_GDF_Start_Of_Trial")] + [(3 + 8 * i, 0, kind) for i, kind in enumerate(kinds)]
        write_edf(folder / f"sub-04/eeg/sub-04_task-MIvsRest_run-{run}_eeg.edf", data, 125, names, events, "")
    return folder


@pytest.fixture(scope="module")
def physionet_folder(tmp_path_factory):
    """Folder in the layout of EEGMMIDB with two subjects."""
    folder = tmp_path_factory.mktemp("physionet") / "eegmmidb"
    for subject in (1, 2):
        for run in range(3, 15):
            data = np.random.default_rng(run).standard_normal((3, 160 * 30)) * 20
            events = [(5 * i, 4.1, kind) for i, kind in enumerate(["T0", "T1", "T0", "T2", "T0"])]
            write_edf(
                folder / f"S{subject:03d}/S{subject:03d}R{run:02d}.edf",
                data,
                160,
                ["C3..", "Cz..", "C4.."],
                events,
                "uV",
            )
    return folder


def test_moabb_reads_what_arrays_gives():
    dataset = small()
    X, y, metadata = LeftRightImagery(fmin=None, fmax=None).get_data(dataset)
    plain, labels = dataset.arrays()
    assert X.shape == (40, 3, 513) and plain.shape == (40, 3, 512)
    np.testing.assert_allclose(X[..., :512], plain, rtol=1e-9, atol=1e-9)
    assert labels.tolist() == list(y)
    for field in ("subject", "session", "run"):
        assert plain.domains[field].tolist() == metadata[field].astype(str).tolist()
    assert plain.ch_names == ("C3", "Cz", "C4") and plain.sfreq == 128.0


def test_arrays_are_the_simulation():
    dataset = small(n_subjects=3, subjects=[3], sessions=[1])
    data, onsets, labels = dataset.simulation.run(3, 1, 0)
    X, y = dataset.arrays(tmin=0.5, tmax=2.0)
    start = int(round((onsets[4] + 0.5) * 128))
    assert X.shape == (10, 3, 192) and y.tolist() == labels.tolist() and set(X.domains["session"]) == {"1"}
    np.testing.assert_allclose(X[4], data[:, start : start + 192], atol=1e-9)


def test_a_subject_does_not_depend_on_how_many_there_are():
    np.testing.assert_array_equal(small().arrays(subjects=[2])[0], small(n_subjects=5).arrays(subjects=[2])[0])


def test_filter_and_resampling():
    X, _ = small().arrays(fmin=8, fmax=30, resample=100, subjects=[1])
    assert X.shape[-1] == 400 and X.sfreq == 100
    spectrum = np.abs(np.fft.rfft(X, axis=-1)).mean(axis=(0, 1))
    assert spectrum[4 * 15] > 20 * spectrum[4 * 45] and spectrum[4 * 12] > 5 * spectrum[4 * 3]


@pytest.mark.parametrize(
    "evaluation", [WithinSessionEvaluation, CrossSessionEvaluation, CrossSubjectEvaluation, WithinSubjectEvaluation]
)
def test_every_evaluation_runs(evaluation, tmp_path):
    pipeline = make_pipeline(LogPower(), LinearDiscriminantAnalysis())
    run = evaluation(LeftRightImagery(), [small(n_trials=20)], hdf5_path=str(tmp_path), overwrite=True)
    results = run.process({"power": pipeline})
    assert set(results["subject"].astype(str)) == {"1", "2"} and results["score"].between(0, 1).all()


def test_four_classes_fit_motor_imagery():
    dataset = small(SimulatedMotorExecution, classes=("left_hand", "right_hand", "feet", "rest"), n_trials=8)
    X, y, _ = MotorImagery(n_classes=4, events=list(dataset.event_id)).get_data(dataset, [1])
    assert sorted(set(y)) == ["feet", "left_hand", "rest", "right_hand"] and len(X) == 16
    only, labels = dataset.arrays(classes=("feet", "rest"), subjects=[1])
    assert len(only) == 8 and set(labels) == {"feet", "rest"}


def test_code_follows_every_argument_that_shapes_the_data():
    options = [{}, {"n_sessions": 1}, {"n_runs": 1}, {"n_trials": 6}]
    options += [{"classes": ("feet", "rest")}, {"ch_names": ("C3",)}, {"sfreq": 250}]
    options += [{"strength": 0.5}, {"noise": 2}, {"line_freq": 60}, {"seed": 1}]
    codes = [SimulatedMotorImagery(**one).code for one in options]
    assert len(set(codes)) == len(codes)
    assert codes[0] == repr(SimulatedMotorImagery(n_subjects=20, subjects=[3])) == "SimulatedMotorImagery-v1"
    assert SimulatedMotorImagery(sfreq=128, seed=np.int64(0)).code == codes[0]
    assert SimulatedMotorExecution().code == "SimulatedMotorExecution-v1"


def test_execution_has_the_subjects_of_imagery():
    imagery, execution = small(), small(SimulatedMotorExecution)
    np.testing.assert_array_equal(imagery.truth(1).patterns["M1_left"], execution.truth(1).patterns["M1_left"])


def test_recordings_are_in_volts_with_places_and_mains():
    raw = small(line_freq=60).get_data([1])[1]["0"]["0"]
    assert 1e-6 < raw.get_data().std() < 1e-4 and raw.info["line_freq"] == 60
    assert raw.get_montage() is not None and np.abs(raw.info["chs"][0]["loc"][:3]).max() > 0.01


@pytest.mark.parametrize(
    ("options", "message"),
    [({"n_subjects": 0}, "n_subjects"), ({"n_runs": 0}, "n_runs"), ({"subjects": [9]}, "[Ii]nvalid subjects")],
)
def test_wrong_sizes_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        small(**options)


def test_load_arrays_refuses_what_it_cannot_give():
    with pytest.raises(ValueError, match="classes: .* has no elbow; it has left_hand, right_hand"):
        load_arrays(small(), classes=["elbow"])
    with pytest.raises(ValueError, match="tmin, tmax: got 3 to 2"):
        load_arrays(small(), tmin=3, tmax=2)


def test_load_arrays_names_the_recording_that_differs():
    class Odd(SimulatedMotorImagery):
        def _get_single_subject_data(self, subject):
            data = super()._get_single_subject_data(subject)
            data["1"]["0"].drop_channels("Cz")
            return data

    with pytest.raises(ValueError, match="subject 1, session 1, run 0: its channels differ .*'Cz'"):
        Odd(n_subjects=1, n_runs=1, n_trials=4, ch_names=("C3", "Cz", "C4")).arrays()


def test_bad_channels_of_a_recording_are_missing():
    class Bad(SimulatedMotorImagery):
        def _get_single_subject_data(self, subject):
            data = super()._get_single_subject_data(subject)
            data["1"]["0"].info["bads"] = ["Cz"]
            return data

    X, _ = Bad(n_subjects=1, n_runs=1, n_trials=4, ch_names=("C3", "Cz", "C4")).arrays(fmin=8)
    runs = X.domains["session"] == "1"
    assert X.ch_names == ("C3", "Cz", "C4") and X[runs].bads == ("Cz",) and X[~runs].bads == ()


def test_a_moabb_dataset_with_triggers_is_read_too():
    from moabb.datasets.fake import FakeDataset

    dataset = FakeDataset(["left_hand", "right_hand"], n_subjects=1, n_sessions=1, n_runs=1, seed=0, n_events=10)
    X, y = load_arrays(dataset)
    assert X.shape == (10, 3, 384) and sorted(set(y)) == ["left_hand", "right_hand"] and 10 < X.std() < 30


def test_nothing_heavy_is_imported_before_it_is_needed():
    code = (
        "import sys, skeeg.datasets as d; d.RecordingStore; sys.exit('moabb' in sys.modules or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_grasp_puts_units_labels_and_names_right(grasp_folder):
    dataset = GraspImagery(grasp_folder, notch=None)
    X, y = dataset.arrays()
    assert dataset.subject_list == [4] and X.shape == (12, 15, 500)
    assert 19 < X.std() < 21
    assert y.tolist() == ["right_hand", "rest", "right_hand"] * 4
    assert {"T7", "T8", "P7", "P8"} < set(X.ch_names) and not {"T3", "T4", "T5", "T6"} & set(X.ch_names)
    original = np.random.default_rng(2).standard_normal((15, 125 * 30)) * 20
    np.testing.assert_allclose(X[3], original[:, 375:875], atol=0.02)
    assert set(X.domains["run"]) == {"1", "2", "3", "4"}


def test_grasp_execution_and_sessions(grasp_folder):
    assert len(GraspImagery(grasp_folder, task="execution").arrays()[0]) == 3
    dataset = GraspImagery(grasp_folder, runs_as_sessions=True)
    assert dataset.n_sessions == 4 and set(dataset.get_data([4])[4]) == {"1", "2", "3", "4"}
    assert (
        len(
            {
                GraspImagery(task=task, runs_as_sessions=runs).code
                for task in ("imagery", "execution")
                for runs in (0, 1)
            }
        )
        == 4
    )


def test_grasp_notch_removes_the_tone(grasp_folder):
    X, _ = GraspImagery(grasp_folder).arrays()
    spectrum = np.abs(np.fft.rfft(X, axis=-1)).mean(axis=(0, 1))
    assert spectrum[125] < 0.3 * spectrum[100]  # 31.25 Hz


def test_published_datasets_can_be_listed_without_their_data(monkeypatch):
    monkeypatch.delenv("SKEEG_DATA", raising=False)
    assert len(GraspImagery().subject_list) == 10 and len(PhysionetMotor().subject_list) == 109
    with pytest.raises(ValueError, match="SKEEG_DATA"):
        GraspImagery().get_data([2])


@pytest.mark.parametrize("dataset", [GraspImagery, PhysionetMotor])
def test_published_datasets_refuse_wrong_folders_and_tasks(dataset, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        dataset(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="task: got 'dream'"):
        dataset(task="dream")


def test_a_missing_or_eventless_file_is_named(grasp_folder, physionet_folder, tmp_path):
    file = "sub-02_task-MIvsRest_run-0_eeg.edf"
    (tmp_path / "sub-02").mkdir()
    dataset = GraspImagery(tmp_path, task="execution")
    with pytest.raises(FileNotFoundError, match=file):
        dataset.get_data()
    write_edf(
        tmp_path / "sub-02" / "eeg" / file, np.random.default_rng(0).standard_normal((1, 1250)), 125, ["Cz"], [], ""
    )
    with pytest.raises(ValueError, match=f"{file}: no trial of rest, right_hand"):
        dataset.get_data()
    with pytest.raises(ValueError, match="holds no subject"):
        PhysionetMotor(tmp_path)
    with pytest.raises(ValueError, match="classes"):
        PhysionetMotor(physionet_folder, classes=("rest",))


@pytest.mark.parametrize(
    ("task", "classes", "runs"),
    [
        ("imagery", ("left_hand", "right_hand"), {"4", "8", "12"}),
        ("imagery", ("hands", "feet"), {"6", "10", "14"}),
        ("execution", ("left_hand", "right_hand"), {"3", "7", "11"}),
        ("execution", ("feet", "rest"), {"5", "9", "13"}),
    ],
)
def test_physionet_runs_by_task(physionet_folder, task, classes, runs):
    dataset = PhysionetMotor(physionet_folder, task=task, classes=classes)
    X, y = dataset.arrays(subjects=[2])
    assert dataset.subject_list == [1, 2] and set(X.domains["run"]) == runs
    assert set(y) == set(classes) and X.ch_names == ("C3", "Cz", "C4") and 19 < X.std() < 21
    original = np.random.default_rng(min(map(int, runs))).standard_normal((3, 160 * 30)) * 20
    start = {"left_hand": 5, "hands": 5, "feet": 15, "rest": 0, "right_hand": 15}[y[0]] * 160
    np.testing.assert_allclose(X[0], original[:, start : start + 640], atol=0.02)


def test_physionet_through_moabb(physionet_folder, monkeypatch):
    """Without a folder MOABB is asked for the files, and only the runs of the task are taken."""
    from moabb.datasets import PhysionetMI

    monkeypatch.delenv("SKEEG_DATA", raising=False)
    paths = [str(physionet_folder / "S001" / f"S001R{run:02d}.edf") for run in range(3, 15)]
    monkeypatch.setattr(PhysionetMI, "data_path", lambda self, subject: paths)
    X, _ = PhysionetMotor(task="execution").arrays(subjects=[1])
    np.testing.assert_array_equal(X, PhysionetMotor(physionet_folder, task="execution").arrays(subjects=[1])[0])


@needs_grasp
def test_recorded_grasping():
    X, y = GraspImagery(DATA / "ds003810", subjects=[2]).arrays(fmin=8, fmax=30)
    assert X.shape == (150, 15, 500) and 1 < X.std() < 20
    assert np.unique(y, return_counts=True)[1].tolist() == [75, 75]
    X, y = GraspImagery(DATA / "ds003810", task="execution", subjects=[3]).arrays(fmin=8, fmax=30)
    assert len(X) == 10 and (y == "rest").sum() == 5


@needs_physionet
def test_recorded_fists_and_feet():
    tasks = ("imagery", "execution")
    datasets = [PhysionetMotor(DATA / "eegmmidb", task=task, classes=("hands", "feet"), subjects=[1]) for task in tasks]
    for dataset in datasets:
        X, y = dataset.arrays(fmin=8, fmax=30)
        assert X.shape == (45, 64, 640) and 1 < X.std() < 40 and set(y) == {"hands", "feet"}
    assert len({dataset.code for dataset in datasets}) == 2
