import configparser
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import skeeg
from skeeg import cli
from skeeg.baselines import pipeline_files
from skeeg.bench.catalogue import DATASETS, EVALUATIONS

ROOT = pathlib.Path(skeeg.__file__).parent.parent
TINY = ["bench", "--dataset", "FakeDataset", "--subjects", "1", "--jobs", "0", "--quiet", "--resample", "80"]


def bench(folder, *arguments):
    return cli.main([*TINY, "--out", str(folder), *arguments])


def test_the_command_is_installed():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert "skeeg = skeeg.cli:start" in setup["options.entry_points"]["console_scripts"]
    package, patterns = ROOT / "skeeg", setup["options.package_data"]["skeeg"].split()
    data = {path for path in package.rglob("*.*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert {path for pattern in patterns for path in package.glob(pattern)} == data  # all data files are installed


@pytest.mark.parametrize("arguments", [["--help"], ["list"]])
def test_help_and_list_import_nothing_heavy(arguments):
    code = (
        "import sys, skeeg.cli\ntry:\n    skeeg.cli.main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'mne', 'moabb', 'pyriemann', 'braindecode', 'sklearn', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_list_names_everything_with_a_line_each(capsys):
    assert cli.main(["list"]) == cli.DONE
    lines = capsys.readouterr().out.splitlines()
    for name in [*DATASETS, *EVALUATIONS, *pipeline_files()]:
        (line,) = [line for line in lines if line.startswith(f"  {name}  ")]
        assert len(line.split()) > 2, line


def test_bench_prints_a_table_and_writes_a_report(tmp_path, capsys):
    assert bench(tmp_path, "--pipelines", "MDM", "CSP+LDA", "--seeds", "3") == cli.DONE
    out = capsys.readouterr().out
    assert "MDM" in out and "CSP+LDA" in out and str(tmp_path / "report.html") in out
    assert "within-session" in out and "ROC AUC" in out
    (entry,) = json.loads((tmp_path / "runs.json").read_text()).values()
    assert entry["command"].startswith("skeeg bench --dataset FakeDataset") and "--seeds 3" in entry["command"]
    assert entry["command"] in (tmp_path / "report.html").read_text()

    (tmp_path / "report.html").unlink()
    assert cli.main(["report", str(tmp_path)]) == cli.DONE
    assert (tmp_path / "report.html").is_file()


def test_a_failing_pipeline_is_told_of_in_the_end(tmp_path, capsys):
    bad = tmp_path / "bad.yml"
    bad.write_text(
        "name: Bad\npipeline:\n  - name: FilterBankCSP\n    from: skeeg.spatial\n"
        "    parameters: {bands: [[8, 900]]}\n  - name: MDM\n    from: pyriemann.classification\n"
    )
    assert bench(tmp_path / "out", "--pipelines", str(bad), "MDM") == cli.FAILED
    captured = capsys.readouterr()
    assert "MDM" in captured.out and "Bad failed: ValueError: bands" in captured.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pipelines", "CSP+LAD"], "Did you mean 'CSP+LDA'"),
        (["--evaluation", "across"], "cross-"),
        (["--subjects", "44"], "subjects: '44' is not known"),
        (["--dataset", "simulate"], "neither a folder nor a known dataset. Did you mean 'simulated'"),
        (["--dataset", "data/recordings"], "--dataset: there is no folder data/recordings."),
        (["--classes", "left_hand"], "at least two"),
        (["--param-grid", "nowhere.yml"], "there is no such file"),
        (["--evaluation", "within-session", "cross-task"], "FakeDataset has no executed ones"),
        (["--evaluation", "few-shot:others"], "needs at least two subjects"),
        (["--evaluation", "few-shot", "--n-per-class", "90"], "--n-per-class: session 0 of subject 1 has"),
        (
            ["--pipelines", "MDM", "MIRepNet", "--checkpoint", "MDM=a.pt"],
            "--checkpoint: MDM takes none; of these pipelines",
        ),
        (["--pipelines", "MIRepNet", "--checkpoint", "a.pt"], "expected PIPELINE=WEIGHTS"),
    ],
)
def test_wrong_arguments_are_told_apart(arguments, message, tmp_path, capsys):
    assert bench(tmp_path / "out", *arguments) == cli.WRONG
    error = capsys.readouterr().err
    assert error.startswith("skeeg: ") and message in error and "Traceback" not in error


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Two runs of one subject, triggers 1 and 2 without a duration, in microvolts that pass for volts."""
    mne = pytest.importorskip("mne")
    folder, rng = tmp_path_factory.mktemp("mine") / "my visit", np.random.default_rng(0)
    info = mne.create_info(["C3", "Cz", "C4", "EMG"], 100.0, "eeg")
    for run in (1, 2):
        data = 20 * rng.standard_normal((4, 4500))
        raw = mne.io.RawArray(data, info, verbose="error")
        raw.set_annotations(mne.Annotations(np.arange(1, 41), 0, ["1", "2"] * 20))
        path = folder / "anna" / f"run{run}_raw.fif"
        path.parent.mkdir(parents=True, exist_ok=True)
        raw.save(path, verbose="error")
    return folder


def bench_mine(recordings, out, *arguments):
    command = ["bench", "--dataset", str(recordings), "--out", str(out), "--jobs", "0", "--quiet", "--pipelines", "MDM"]
    return cli.main([*command, *arguments])


def test_recordings_in_a_folder_need_no_python(recordings, tmp_path):
    arguments = ["--unit", "uV", "--classes", "1=left_hand", "2=right_hand", "--tmin", "0", "--tmax", "0.8", "--notch"]
    arguments += ["33", "--channels", "C3", "Cz", "C4", "--runs-as-sessions", "--evaluation", "cross-session"]
    assert bench_mine(recordings, tmp_path, *arguments) == cli.DONE
    (entry,) = json.loads((tmp_path / "runs.json").read_text()).values()
    assert entry["paradigm"] == "LeftRightImagery" and entry["n_channels"] == 3 and entry["n_times"] == 81
    assert "<h1>my visit, leave one run out</h1>" in (tmp_path / "report.html").read_text()


def test_trials_that_overlap_are_warned_of(recordings, tmp_path, recwarn):
    options = ["--unit", "uV", "--classes", "1=left_hand", "2=right_hand", "--tmin", "0", "--resample", "50", "--tmax"]
    bench_mine(recordings, tmp_path / "short", *options, "0.8")
    assert not [one for one in recwarn if "overlap" in str(one.message)]
    bench_mine(recordings, tmp_path / "long", *options, "1.5")
    (said,) = [str(one.message) for one in recwarn if "overlap" in str(one.message)]
    assert re.match(r"tmin, tmax: trials of 1\.\d+ s overlap, since some events of \S+ are closer", said)


SPAN = ("--tmin", "0", "--tmax", "0.8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "pass --tmin and --tmax"),
        (("--tmin", "1"), "--tmax: --tmin needs it"),
        (("--tmin", "1", "--tmax", "0.5"), "--tmin, --tmax: got (1.0, 0.5)"),
        ((*SPAN, "--classes", "3", "4"), "its events are 1, 2, expected 3, 4"),
        ((*SPAN, "--channels", "C3", "P3"), "channels P3 are missing"),
        (SPAN, "pass --unit uV"),
        ((*SPAN, "--task", "rest"), "--task: no file is of task 'rest'"),
        ((*SPAN, "--pattern", "x(y)"), "--pattern: 'x(y)' matches no file"),
    ],
)
def test_errors_about_a_folder_name_the_option(arguments, message, recordings, tmp_path, capsys):
    assert bench_mine(recordings, tmp_path / "out", *arguments) == cli.WRONG
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error and "=" not in error
    assert not (tmp_path / "out" / "report.html").exists()


@pytest.mark.parametrize(
    "arguments", [["--pipelines", "CSP+LAD"], ["--evaluation", "across"], ["--param-grid", "nowhere.yml"]]
)
def test_names_are_checked_before_recordings_are_read(arguments, recordings, tmp_path, monkeypatch):
    monkeypatch.setattr("skeeg.datasets.LocalDataset.__init__", lambda *_, **__: pytest.fail("read"))
    assert bench_mine(recordings, tmp_path, *arguments) == cli.WRONG


@pytest.mark.parametrize(
    ("arguments", "option"), [(["--unit", "uV"], "--unit"), (["--runs-as-sessions"], "--runs-as-sessions")]
)
def test_options_for_folders_are_refused_elsewhere(arguments, option, tmp_path, capsys):
    assert bench(tmp_path / "out", *arguments) == cli.WRONG
    assert f"skeeg: {option}: FakeDataset does not know it" in capsys.readouterr().err


def test_trials_and_channels_of_a_named_dataset_can_be_chosen(tmp_path):
    arguments = ["--pipelines", "MDM", "--tmin", "0.5", "--tmax", "1.5", "--channels", "C3", "C4"]
    assert bench(tmp_path, *arguments) == cli.DONE
    (entry,) = json.loads((tmp_path / "runs.json").read_text()).values()
    assert entry["n_channels"] == 2 and entry["n_times"] in (80, 81)


def test_messages_and_subjects_are_those_of_the_command():
    assert cli.as_options("param_grid: 'A' is not known.") == "--param-grid: 'A' is not known."
    assert cli.as_options("a.edf: try unit='uV'.") == "a.edf: try --unit uV."
    assert cli.expand_subjects(["1", "3-5", "anna"]) == ["1", "3", "4", "5", "anna"]


def test_an_unknown_dataset_is_answered_with_the_nearest_three(tmp_path, capsys):
    assert bench(tmp_path / "out", "--dataset", "zzzzzzzz") == cli.WRONG
    assert len(capsys.readouterr().err) < 200


def test_a_reader_of_the_list_may_stop():
    command = f"{sys.executable} -c 'import sys; from skeeg import cli; sys.exit(cli.start())' list | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "datasets:\n" and done.stderr == "" and done.returncode == 0


def test_report_of_another_folder_is_an_error(tmp_path, capsys):
    folder = tmp_path / "nofolder"
    assert cli.main(["report", str(folder)]) == cli.WRONG
    assert capsys.readouterr().err.startswith(f"skeeg: folder: no benchmark in {folder}: ")
    assert cli.as_options(f"path: {folder}: no") == f"path: {folder}: no"


@pytest.mark.parametrize("jobs", ["0", "2"])
def test_ctrl_c_keeps_what_is_done(jobs, tmp_path):
    command = [sys.executable, "-m", "skeeg.cli", *TINY, "--out", str(tmp_path), "--subjects", "1-3", "--jobs", jobs]
    command += ["--pipelines", "MDM", "--seeds", *map(str, range(60))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    folder = tmp_path / "results" / "LeftRightImagery" / "WithinSessionEvaluation"
    results = [folder / f"results_seed{seed}.hdf5" for seed in (0, 1)]  # either may be the first of two processes
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        if all(file.is_file() and file.stat().st_size > 5000 for file in results):
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=120)
    assert process.returncode == cli.INTERRUPTED, error
    assert "The same command continues" in out
    (entry,) = json.loads((tmp_path / "runs.json").read_text()).values()
    assert entry["interrupted"] and 2 <= entry["done"] < entry["planned"] == 180
    assert len((tmp_path / "results.csv").read_text().splitlines()) > 2
    assert "The run was stopped" in (tmp_path / "report.html").read_text()


def test_jobs_are_chosen_for_the_machine(monkeypatch):
    torch = pytest.importorskip("torch")
    parse = cli.build_parser().parse_args
    assert cli.choose_jobs(parse(["bench", "--jobs", "3"])) == 3
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert cli.choose_jobs(parse(["bench"])) == 1
    assert 1 <= cli.choose_jobs(parse(["bench", "--device", "cpu"])) <= min(4, os.cpu_count())
