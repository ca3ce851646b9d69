"""README and documentation: the code runs, the commands exist, the API reference lists all public names."""

import configparser
import importlib
import pathlib
import pkgutil
import re
import shlex
import sys
import textwrap
import warnings

import joblib
import pytest
import yaml

import skeeg
from skeeg.cli import build_parser
from skeeg.networks import registry
from skeeg.testing import check_eeg_estimator

ROOT = pathlib.Path(__file__).parents[1]
DOCS = ROOT / "docs"
GENERATED = {"sg_execution_times.rst"}
GUIDE = sorted((DOCS / "guide").glob("*.rst"))
TOP = sorted(page for page in DOCS.glob("*.rst") if page.name not in GENERATED)
PAGES = [*TOP, *GUIDE, *sorted(DOCS.glob("methods/*.rst"))]
PROSE = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES]
RUNNABLE = [ROOT / "README.md", DOCS / "index.rst", *GUIDE]
MOST_UNRUN = 4

_MARK = re.compile(r"^\s*(?:\.\. no-run: (?P<rst>.+)|<!-- no-run: (?P<md>.+) -->)$")


def name_of(page):
    return str(page.relative_to(ROOT))


def blocks(page):
    """Give language, code, line number and the reason not to run it, of each code block of a page."""
    lines = page.read_text(encoding="utf-8").splitlines()
    find = _fence if page.suffix == ".md" else _directive
    reason = None
    for number, line in enumerate(lines):
        mark = _MARK.match(line)
        if mark:
            reason = mark["rst"] or mark["md"]
            continue
        found = find(lines, number)
        if found:
            language, start, stop = found
            yield language, textwrap.dedent("\n".join(lines[start:stop])) + "\n", start, reason
        if line.strip():
            reason = None


def _fence(lines, number):
    language = re.fullmatch(r"```(\w+)", lines[number])
    if language:
        return language[1], number + 1, lines.index("```", number + 1)
    return None


def _directive(lines, number):
    found = re.fullmatch(r"(\s*)\.\. code-block:: (\w+)", lines[number])
    if not found:
        return None
    indent = len(found[1]) + 1
    stop = number + 1
    while stop < len(lines) and (not lines[stop].strip() or lines[stop].startswith(" " * indent)):
        stop += 1
    start = number + 1
    while lines[start].strip():  # options of the directive
        start += 1
    return found[2], start, stop


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", RUNNABLE, ids=name_of)
def test_code_runs(page, tmp_path, monkeypatch):
    import matplotlib.pyplot as plt

    plt.switch_backend("Agg")
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "page"}
    for language, code, start, reason in blocks(page):
        if language == "python" and reason is None:
            exec(compile("\n" * start + code, page, "exec"), namespace)
    plt.close("all")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_code_that_is_not_run_is_python_at_least(page):
    for language, code, start, _ in blocks(page):
        if language == "python":
            compile("\n" * start + code, page, "exec")


def test_few_blocks_are_not_run_and_each_says_why():
    unrun = [reason for page in RUNNABLE for language, _, _, reason in blocks(page) if reason and language == "python"]
    assert len(unrun) <= MOST_UNRUN
    assert all(len(reason) > 10 for reason in unrun)


def test_blocks_are_found_and_marks_belong_to_the_next_one(tmp_path):
    page = tmp_path / "page.rst"
    page.write_text(".. no-run: hours on a GPU\n\n.. code-block:: python\n\n    a = 1\n\n    b = 2\n\nText.\n\n"
                    ".. code-block:: sh\n   :caption: c\n\n   skeeg list\n")  # fmt: skip
    assert [(language, code.split(), reason) for language, code, _, reason in blocks(page)] == [
        ("python", ["a", "=", "1", "b", "=", "2"], "hours on a GPU"),
        ("sh", ["skeeg", "list"], None),
    ]
    page = tmp_path / "page.md"
    page.write_text("```python\nc\n```\n\n<!-- no-run: needs recordings -->\n```sh\nmake test\n```\n")
    assert [reason for *_, reason in blocks(page)] == [None, "needs recordings"]


def test_no_code_hides_in_unnamed_blocks():
    for page in GUIDE:
        lines = page.read_text(encoding="utf-8").splitlines()
        hidden = [line for line in lines if line.endswith("::") and not line.lstrip().startswith("..")]
        assert not hidden, f"{name_of(page)}: name the language of each block"


# Commands


def commands(page):
    """Commands of shell blocks, and those named in the running text."""
    for language, code, _, _ in blocks(page):
        if language == "sh":
            yield from code.replace("\\\n", " ").splitlines()
    quote = r"(?<!`)`((?:skeeg|make) [^`]+)`(?!`)" if page.suffix == ".md" else r"``((?:skeeg|make) [^`]+)``"
    yield from re.findall(quote, page.read_text(encoding="utf-8"))


def check_command(line):
    """Fail where a command, option or file does not exist; give the program, None where it is nobody's here."""
    words = [word for word in shlex.split(line, comments=True) if not re.fullmatch(r"[A-Z_]+=\S*", word)]
    if not words:
        return None
    program, *arguments = words
    if program == "skeeg":
        try:
            build_parser().parse_args(arguments)
        except SystemExit as stop:
            assert not stop.code, f"{line}: the command line does not know this"
    elif program == "make":
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M)
        assert set(arguments) <= set(targets), f"{line}: the Makefile has {', '.join(targets)}"
    elif program == "python" and arguments[0].endswith(".py"):
        assert (ROOT / arguments[0]).is_file() or (ROOT / "examples" / arguments[0]).is_file(), line
    else:
        return None
    return program


@pytest.mark.parametrize("page", PROSE, ids=name_of)
def test_commands_exist(page):
    for line in commands(page):
        check_command(line)


@pytest.mark.parametrize("line", ["skeeg bench --no-such-option", "skeeg fly", "make tea", "python no_such_file.py"])
def test_a_command_that_does_not_exist_is_found(line):
    with pytest.raises(AssertionError):
        check_command(line)


def test_the_readme_is_short():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.partition("## Details")[0].split()) < 400


@pytest.mark.parametrize("page", [ROOT / "README.md", DOCS / "guide" / "decode.rst"], ids=name_of)
def test_the_number_of_baselines_is_current(page):
    found = re.search(r"(\d+) pipelines by name", page.read_text(encoding="utf-8"))
    assert int(found[1]) == len(skeeg.baseline_names())


def test_the_conda_recipe_has_the_requirements():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    required = {line for line in setup["options"]["install_requires"].splitlines() if line}
    names = {"pytorch": "torch", "mne-base": "mne"}  # conda-forge's names
    recipe = [line.split() for line in yaml.safe_load((DOCS / "recipe.yaml").read_text())["requirements"]["run"]]
    assert {names.get(name, name) + version for name, version in recipe} - {"python>=3.11"} == required


def test_the_two_commands_of_the_readme_are_there():
    named = [check_command(line) for line in commands(ROOT / "README.md")]
    assert {"skeeg", "make"} <= set(named)


# Names


def resolve(name):
    """Object of a dotted name, or None."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            found = getattr(found, part, None)
        return found
    return None


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_names_exist(page):
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r":(?:class|func|mod|obj|meth|data):`~?(skeeg[\w.]*)`", text):
        assert resolve(name) is not None, f"{name_of(page)}: there is no {name}"


def test_links_between_pages_exist():
    for page in PROSE:
        text = page.read_text(encoding="utf-8")
        pattern = r"\]\((?!http)([^)#]+)\)" if page.suffix == ".md" else r":doc:`(?:[^`]*<)?([^`>]+)>?`"
        for target in re.findall(pattern, text):
            base = DOCS if target.startswith("/") else page.parent
            path = base / target.lstrip("/")
            generated = "auto_examples" in target
            assert generated or path.exists() or path.with_suffix(".rst").exists(), f"{name_of(page)}: {target}"


def public_names():
    """Public names of the package and of its modules, as the API reference should list them."""
    modules = ["bench", "datasets", "evaluations", "explain", "networks", "testing", "training"]
    methods = [name for _, name, _ in pkgutil.iter_modules(importlib.import_module("skeeg.methods").__path__)]
    for module in [*modules, *(f"methods.{name}" for name in methods)]:
        for name in importlib.import_module(f"skeeg.{module}").__all__:
            yield f"{module}.{name}", name
    yield from ((name, name) for name in skeeg.__all__ if name != "__version__")


def test_the_reference_lists_every_public_name():
    listed = set(re.findall(r"^   ([\w.]+)$", (DOCS / "api.rst").read_text(encoding="utf-8"), re.M))
    missing = [full for full, name in public_names() if full not in listed and name not in listed]
    assert not missing, f"docs/api.rst lacks {', '.join(missing)}"
    assert not [name for name in listed if resolve(f"skeeg.{name}") is None]


def test_every_page_is_in_a_table_of_contents():
    contents = "".join((DOCS / name).read_text(encoding="utf-8") for name in ("index.rst", "guide/index.rst"))
    for page in [*TOP, *DOCS.glob("*.md")]:
        assert page.stem == "index" or f"<{page.stem}>" in contents or f"/{page.stem}\n" in contents, page.stem
    for folder in ("guide", "methods"):
        listed = (DOCS / folder / "index.rst").read_text(encoding="utf-8").split()
        for page in (DOCS / folder).glob("*.rst"):
            assert page.stem in (*listed, "index"), f"{folder}/index.rst does not name {page.stem}"


# The developer guide


def toy_network():
    """Source of the toy network, as the developer guide prints it."""
    language, code, *_ = next(one for one in blocks(DOCS / "developing.rst") if "class LogPowerNet" in one[1])
    assert language == "python"
    return code


def test_the_toy_network_is_short():
    assert len(toy_network().strip().splitlines()) < 30


@pytest.mark.filterwarnings("ignore")
def test_the_toy_network_of_the_guide_passes_every_check(tmp_path, monkeypatch):
    (tmp_path / "logpower.py").write_text(toy_network())
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(registry._OWN, "LogPowerNet", "logpower")
    estimator = skeeg.NetworkClassifier(
        "LogPowerNet", max_epochs=8, learning_rate=0.1, batch_size=256, precision="float64", random_state=0
    )
    with warnings.catch_warnings(), joblib.parallel_config("threading"):  # the entry is made in this process alone
        warnings.simplefilter("ignore")
        results = check_eeg_estimator(estimator)
    assert len(results) > 60 and {result["status"] for result in results} <= {"passed", "skipped"}
    sys.modules.pop("logpower")
