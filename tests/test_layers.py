"""Layers: which module may import which, read from the imports, and what importing skeeg loads."""

import ast
import contextlib
import pathlib
import subprocess
import sys

import pytest

import skeeg

ROOT = pathlib.Path(skeeg.__file__).parent
DATA = {"array", "positions"}
BASE = DATA | {"base", "storage"}
STEPS = {"alignment", "covariance", "filtering", "model_selection", "montage", "regression", "restoration", "signals",
         "spatial", "tangentspace", "wavelets"}  # fmt: skip
BELOW_METHODS = BASE | STEPS | {"datasets", "networks", "training", "weights"}
BELOW_BENCH = BELOW_METHODS | {"baselines", "evaluations", "explain", "methods", "testing"}
MAY_IMPORT = {
    "array": {"positions"},
    "positions": set(),
    "base": BASE,
    "storage": BASE,
    **{step: BASE | STEPS for step in STEPS},
    "networks": {"positions"},
    "training": BASE | {"alignment", "montage", "networks", "weights"},
    "weights": set(),
    "datasets": BASE,
    "explain": BELOW_METHODS,
    "methods": BELOW_METHODS,
    "evaluations": BASE | STEPS,
    "baselines": BELOW_METHODS | {"methods"},
    "testing": BELOW_METHODS | {"methods", "baselines", "evaluations"},
    "bench": BELOW_BENCH,
    "cli": BELOW_BENCH | {"bench"},
}
QUICK = {"array", "base", "positions", "storage", *STEPS}
HEAVY = {"torch", "mne", "moabb", "braindecode", "skorch", "pyriemann", "shap"}
FILES = sorted(ROOT.rglob("*.py"))


def parts_of(file):
    """Parts of a module's name below skeeg."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def imported(file, nodes=None):
    """Full names of the modules, and of what is taken from them, that a file imports anywhere (or in some nodes)."""
    package = ("skeeg", *file.relative_to(ROOT).parent.parts)
    for node in ast.walk(ast.parse(file.read_text())) if nodes is None else nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*start, *([node.module] if node.module else ())))
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def modules_imported(file):
    """Top-level modules of skeeg that a file imports; a method counts as ("methods", its name)."""
    for name in imported(file):
        first, *parts = name.split(".")
        if first == "skeeg" and parts and ((ROOT / parts[0]).is_dir() or (ROOT / f"{parts[0]}.py").is_file()):
            yield tuple(parts[:2]) if parts[0] == "methods" else (parts[0],)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_module_imports_only_the_layers_below_its_own(file):
    parts = parts_of(file)
    if not parts:
        return
    assert parts[0] in MAY_IMPORT, f"{parts[0]} is new: add to MAY_IMPORT what it may import"
    wrong = {module[0] for module in modules_imported(file)} - MAY_IMPORT[parts[0]] - {parts[0]}
    assert not wrong, f"{'/'.join(parts)} must not import {', '.join(sorted(wrong))}"


def test_no_two_files_import_each_other():
    names = {".".join(("skeeg", *parts_of(file))): file for file in FILES if file.name != "__init__.py"}
    wanted = {}
    for name, file in names.items():
        found = {one if one in names else one.rpartition(".")[0] for one in imported(file)}
        wanted[name] = (found & names.keys()) - {name}
    pairs = {(one, other) for one in names for other in wanted[one] if one in wanted[other]}
    assert not pairs


def test_a_method_never_imports_another_method():
    for file in FILES:
        parts = parts_of(file)
        if parts[:1] == ("methods",) and len(parts) > 1:
            others = {module[1] for module in modules_imported(file) if module[0] == "methods" and len(module) > 1} - {
                parts[1]
            }
            assert not {name for name in others if (ROOT / "methods" / name).exists()}, file


def test_networks_know_nothing_of_scikit_learn():
    for file in (ROOT / "networks").rglob("*.py"):
        libraries = {name.split(".")[0] for name in imported(file)}
        assert not libraries & {"sklearn", "skorch", "moabb"}, file


def test_private_names_of_torch_and_braindecode_are_in_one_file():
    for file in (ROOT / "networks" / "fast").glob("*.py"):
        nodes = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Attribute)]
        private = {n.attr for n in nodes if n.attr[0] == "_" and not n.attr.startswith(("__", "_skeeg_"))}
        assert bool(private) == (file.name == "private_names.py"), f"{file.name}: {private}"


@pytest.mark.parametrize("module", sorted(QUICK))
def test_data_base_and_steps_import_nothing_heavy_at_module_level(module):
    files = [file for file in FILES if parts_of(file)[:1] == (module,)]
    assert files
    for file in files:
        tops = [node for node in ast.parse(file.read_text()).body if not _is_function(node)]
        libraries = {name.split(".")[0] for name in imported(file, [n for top in tops for n in ast.walk(top)])}
        light = {"lazy_loader", "numpy", "scipy", "sklearn", "skeeg", "yaml", *sys.stdlib_module_names}
        assert libraries <= light, file


def _is_function(node):
    return isinstance(node, ast.FunctionDef | ast.ClassDef)


def loaded_by(code):
    """Heavy libraries that a new process has loaded after some code."""
    report = f"{code}\nimport sys\nprint(*sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_skeeg_loads_nothing_heavy():
    assert loaded_by("import skeeg; dir(skeeg); skeeg.__all__") == set()


def test_importing_and_using_steps_on_arrays_loads_nothing_heavy():
    code = """
import numpy as np
from skeeg import CSP, AverageReference, EuclideanAlignment, as_eeg
from skeeg.testing import Recording, eeg_checks
X = as_eeg(np.random.default_rng(0).normal(size=(8, 3, 50)), sfreq=100)
for step in (AverageReference(), EuclideanAlignment(), CSP(n_components=2)):
    step.fit(X, [0, 1] * 4).transform(X)
"""
    assert loaded_by(code) <= {"pyriemann"}


def test_importing_every_public_name_prints_nothing():
    code = "import skeeg, skeeg.networks as n\nfor one in (skeeg, n):\n    [getattr(one, name) for name in dir(one)]"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_every_public_name_exists_and_no_other_does():
    for name in skeeg.__all__:
        assert getattr(skeeg, name) is not None
        assert name in dir(skeeg)
    assert list(skeeg.__all__) == sorted(skeeg.__all__)
    with pytest.raises(AttributeError, match="NoSuchThing"):
        skeeg.NoSuchThing  # noqa: B018


@pytest.mark.parametrize(
    ("torch", "audio", "loads"),
    [("cu130", "cu132", True), ("cpu", "cpu", True), (None, "cu132", True), ("cpu", "cu132", False),
     ("cu126", "cu132", False)],
)  # fmt: skip
def test_a_torchaudio_of_another_build_is_an_error_that_says_so(torch, audio, loads, monkeypatch):
    monkeypatch.setattr(skeeg, "_build_tag", {"torch": torch, "torchaudio": audio}.get)
    with contextlib.nullcontext() if loads else pytest.raises(ImportError, match="torchaudio .* torch"):
        skeeg._check_torchaudio()
