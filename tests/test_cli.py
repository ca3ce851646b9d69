import configparser
import json
import os
import pathlib
import platform
import signal
import subprocess
import sys
import time

import pytest

import skeeg
from skeeg import cli
from skeeg.bench.catalogue import DATASETS, EVALUATIONS, pipeline_files

ROOT = pathlib.Path(skeeg.__file__).parent.parent
TINY = ["bench", "--dataset", "FakeDataset", "--subjects", "1", "--jobs", "0", "--quiet", "--resample", "80"]


def bench(folder, *arguments):
    return cli.main([*TINY, "--out", str(folder), *arguments])


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
@pytest.mark.parametrize("decided", [False, True])
def test_the_command_keeps_freed_memory_unless_told_otherwise(decided):
    code = """
import os, resource, sys
from skeeg import cli
cli.keep_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytes(1) + b"x" * (64 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults(), os.environ.get("MALLOC_TRIM_THRESHOLD_"))
"""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    environ |= {"MALLOC_MMAP_MAX_": "65536"} if decided else {}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    faults, threshold = done.stdout.split()
    assert (int(faults) > 10_000, threshold == "None") == (decided, decided)


def test_the_command_is_installed():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert "skeeg = skeeg.cli:start" in setup["options.entry_points"]["console_scripts"]
    assert "bench/pipelines/*.yml" in setup["options.package_data"]["skeeg"]
    assert "bench/page.html" in setup["options.package_data"]["skeeg"]


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
        (line,) = [line for line in lines if line.split()[:1] == [name]]
        assert len(line.split()) > 2, line


def test_bench_prints_a_table_and_writes_a_report(tmp_path, capsys):
    assert bench(tmp_path, "--pipelines", "MDM", "CSP+LDA", "--seeds", "3") == cli.DONE
    out = capsys.readouterr().out
    assert "MDM" in out and "CSP+LDA" in out and str(tmp_path / "report.html") in out
    (entry,) = json.loads((tmp_path / "runs.json").read_text()).values()
    assert entry["command"].startswith("skeeg bench --dataset FakeDataset") and "--seeds 3" in entry["command"]
    assert entry["command"] in (tmp_path / "report.html").read_text()

    (tmp_path / "report.html").unlink()
    assert cli.main(["report", str(tmp_path)]) == cli.DONE
    assert (tmp_path / "report.html").is_file()


def test_a_failing_pipeline_is_told_of_in_the_end(tmp_path, capsys):
    bad = tmp_path / "bad.yml"
    bad.write_text(
        "name: Bad\npipeline:\n  - name: FilterBankCSP\n    from: skeeg.baselines\n"
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
        (["--dataset", "simulate"], "Did you mean 'simulated'"),
        (["--classes", "left_hand"], "at least two"),
        (["--param-grid", "nowhere.yml"], "there is no such file"),
    ],
)
def test_wrong_arguments_are_told_apart(arguments, message, tmp_path, capsys):
    assert bench(tmp_path / "out", *arguments) == cli.WRONG
    error = capsys.readouterr().err
    assert error.startswith("skeeg: ") and message in error and "Traceback" not in error


def test_report_of_another_folder_is_an_error(tmp_path, capsys):
    assert cli.main(["report", str(tmp_path)]) == cli.WRONG
    assert "no benchmark in" in capsys.readouterr().err


def test_ctrl_c_keeps_what_is_done(tmp_path):
    command = [sys.executable, "-m", "skeeg.cli", *TINY, "--out", str(tmp_path), "--subjects", "1-3"]
    command += ["--pipelines", "MDM", "--seeds", *map(str, range(60))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    results = tmp_path / "results" / "LeftRightImagery" / "WithinSessionEvaluation" / "results_seed1.hdf5"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if results.is_file() and results.stat().st_size > 5000:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=120)
    assert process.returncode == cli.INTERRUPTED, error
    assert "the same command goes on from here" in out
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
