"""Benchmark scripts that cannot run on the machines of the tests: here in their small form."""

import importlib.util
import pathlib

SCRIPTS = pathlib.Path(__file__).parents[1] / "benchmarks"


def load_script(name):
    """Import a script by its file."""
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_checks_of_a_gpu_run_on_the_cpu(tmp_path, capsys):
    gpu, lines = load_script("gpu"), tmp_path / "gpu.csv"
    wrong = gpu.main(["--device", "cpu", "--quick", "--networks", "EEGNet", "MIRepNet", "--output", str(lines)])
    rows = [line.split(",")[0] for line in lines.read_text().splitlines()]
    assert wrong == 0, capsys.readouterr().out
    assert {"estimator", "throughput", "network"} <= set(rows)


def test_checks_of_a_gpu_see_a_wrong_network(monkeypatch):
    gpu = load_script("gpu")
    monkeypatch.setattr(gpu, "fold", lambda module: gpu.copy.deepcopy(module).train())  # dropout stays on
    assert gpu.main(["--device", "cpu", "--quick", "--networks", "EEGNet"]) == 1
