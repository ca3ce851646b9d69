"""Every example runs with smaller sizes, and its claims hold."""

import os
import pathlib
import sys
from dataclasses import dataclass, field

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
sys.path.append(str(ROOT / "docs"))

import recorded  # noqa: E402
from gallery import noting  # noqa: E402, it records the figures


@dataclass
class Case:
    """Replacements that make an example run in seconds, and a check of its claims."""

    holds: callable
    smaller: dict = field(default_factory=dict)
    arguments: tuple = ()
    recordings: str = None


def few_shot_holds(names):
    assert names["gain"]["CSP+LDA"] > 0.05  # source subjects help most with few trials
    assert names["mean_accuracy"](names["helped"]).loc["TS+LR"].min() > 0.65


def cross_task_holds(names):
    curves = names["curves"]
    assert set(curves.index.get_level_values("pipeline")) == set(names["pipelines"])
    assert curves.loc["EA + TS + LR"].to_numpy().mean() > 0.6
    assert curves.notna().all().all()


def virtual_meg_holds(names):
    X, Y, minimum_norm = names["X"], names["Y"], names["r"]
    ridge = names["virtual"].score_per_type(X, Y)
    assert ridge["mag"] > 0.6 > minimum_norm["mag"]
    gain = names["network"].score(X, Y) - names["virtual"].score(X, Y)
    assert abs(gain) < 0.03  # Gaussian sources: no map outperforms a linear one


def eeg_to_bold_holds(names):
    assert names["ridge"].score(*names["test"]) > 0.2
    assert 0 < names["null"].p_value <= 1
    assert names["beira"].predict(names["test"][0])[0].shape == names["test"][1][0].shape
    assert set(names["figures"]) == {"traces", "scores", "branches"}


def explain_holds(names):
    found, test = names["found"], names["test"]
    assert names["pipeline"].score(names["X"][test], names["y"][test]) > 0.7
    assert found.error.max() < 1e-3
    most = found.importance().argmax()
    assert names["seen"][most] > np.median(names["seen"])  # the most important channel observes the source


def restoration_holds(names):
    test, ways, shapes = names["test"], names["ways"], names["test"].shape
    mask = names["draw_mask"](shapes, test.sfreq, "electrodes", 0.25, random_state=0)
    errors = {name: names["normalised_error"](test, way.transform(test, mask=mask), mask) for name, way in ways.items()}
    assert errors["splines"] < 0.7 and errors["splines"] < errors["Gram"]  # interpolation is best for bad channels
    kept = ~np.isnan(names["gaps"])
    assert all(np.array_equal(one[kept[0]], names["gaps"][0][kept[0]]) for one in names["restored"].values())


def tutorial_holds(names):
    scores = {protocol: table.mean() for protocol, table in names["scores"].items()}
    assert scores["within subject"].min() > 0.7
    assert scores["cross-subject"]["EA+TS+LR"] > scores["cross-subject"]["TS+LR"] + 0.1  # alignment
    assert scores["30 labelled trials"].min() > 0.55
    assert names["found"].error.max() < 1e-3


CASES = {
    "plot_restoration.py": Case(
        restoration_holds,
        {"n_trials=40": "n_trials=16", "X[:60]": "X[:24]", "X[60:]": "X[24:]", "(0.1, 0.25, 0.5, 0.75)": "(0.25, 0.75)",
         "max_epochs=5": "max_epochs=1", "max_epochs=10": "max_epochs=1"},
    ),
    "plot_explain.py": Case(
        explain_holds,
        {"n_background=10": "n_background=4", "[:20]": "[:4]", "tolerance=1e-4": "tolerance=1e-3"},
    ),
    "plot_few_shot.py": Case(
        few_shot_holds,
        {"n_subjects=5": "n_subjects=3", "n_trials=60": "n_trials=40", "(3, 6, 12, 24)": "(3, 24)",
         "max_epochs=20": "max_epochs=1"},
    ),
    "plot_cross_task_transfer.py": Case(
        cross_task_holds,
        {'"n_subjects": 3': '"n_subjects": 2', "(0, 10, 20, 40)": "(0, 20)", '"n_trials": 40': '"n_trials": 24',
         'on_unseen="own", ': 'on_unseen="own", max_epochs=2, '},
    ),
    "plot_virtual_meg.py": Case(
        virtual_meg_holds, {"range(4)": "range(2)", "n_trials=40": "n_trials=25", "max_epochs=3": "max_epochs=1"}
    ),
    "plot_eeg_to_bold.py": Case(
        eeg_to_bold_holds,
        {"duration=1500": "duration=600", "cut = 600": "cut = 220", "n=500": "n=50",
         "region_names=names": "region_names=names, max_epochs=2"},
    ),
    "tutorial_grasp.py": Case(
        tutorial_holds, {"notch=(31.25, 50)": "notch=(31.25, 50), subjects=[4, 5]", "[:20]": "[:4]"},
        recordings="ds003810",
    ),
}  # fmt: skip


def run_example(name, case, folder, monkeypatch):
    """Run an example with its replacements; return its namespace."""
    import matplotlib.pyplot as plt

    path = EXAMPLES / name
    source = path.read_text(encoding="utf-8")
    for old, new in case.smaller.items():
        assert old in source, f"{name} does not contain {old!r}: update its replacements in CASES"
        source = source.replace(old, new)
    plt.switch_backend("Agg")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", [str(path), *case.arguments])
    names = {"__name__": "__main__", "__file__": str(path)}
    exec(compile(source, path, "exec"), names)
    return names


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(CASES))
def test_the_claims_hold(name, tmp_path, monkeypatch):
    import matplotlib.pyplot as plt
    from matplotlib.figure import Figure

    case, figures = CASES[name], []
    if case.recordings and not pathlib.Path(os.environ.get("SKEEG_DATA", "nowhere"), case.recordings).is_dir():
        pytest.skip(f"needs the recordings {case.recordings} under $SKEEG_DATA")
    monkeypatch.setattr(Figure, "__init__", noting(Figure.__init__, figures))
    try:
        names = run_example(name, case, tmp_path, monkeypatch)
    finally:
        plt.close("all")
    assert figures and all(figure.axes for figure in figures)
    case.holds(names)


@pytest.mark.filterwarnings("ignore")
def test_ds000117_on_the_recordings(tmp_path, monkeypatch, capsys):
    folder = pathlib.Path(os.environ.get("SKEEG_DATA", "")) / "ds000117"
    if not (os.environ.get("SKEEG_DATA") and folder.is_dir()):
        pytest.skip("needs OpenNeuro ds000117 (tens of gigabytes) under $SKEEG_DATA")
    run_example(ROOT / "benchmarks" / "ds000117.py", Case(None, {}, ("--folder", str(folder))), tmp_path, monkeypatch)
    assert "shuffled pairs" in capsys.readouterr().out


def test_every_example_is_run():
    missing = {path.name for path in EXAMPLES.glob("*.py")} - set(CASES)
    assert not missing, f"add {', '.join(missing)} to CASES"


@pytest.mark.parametrize("name", recorded.EXAMPLES)
def test_the_recorded_output_belongs_to_the_example(name):
    code, digest = recorded.code_blocks(name)
    folder = recorded.FOLDER / name
    assert (folder / "code.sha256").read_text().strip() == digest, "run: python docs/recorded.py"
    page = recorded.insert(
        name, "Title\n=====\n\n" + "\n".join(".. code-block:: Python\n\n    1\n\nText\n" for _ in code)
    )
    files = list(folder.glob("*.txt")) + list(folder.glob("*.png"))
    assert page.count("code-block:: none") + page.count("image::") == len(files) > len(code) / 2
    assert page.count("code-block:: Python") == len(code) and recorded.NOTE in page
