"""What can be compared: datasets, paradigms, pipelines, evaluations and scores by name, from `catalogue.yml` beside it.

A wrong name is answered with the nearest right ones. Nothing heavy is imported until an object is asked for, so that
``skeeg list`` and ``skeeg --help`` are quick.
"""

import hashlib
import importlib
import inspect
from pathlib import Path

from ..baselines import (
    build_pipeline,
    nearest,
    pipeline_files,
    read_mapping,
    read_pipeline_file,
    set_checkpoint,
    takes_checkpoint,
)

_CATALOGUE = read_mapping(Path(__file__).with_suffix(".yml"))
DATASETS, EVALUATIONS, DEFAULTS, SCORES = (
    _CATALOGUE[group] for group in ("datasets", "evaluations", "defaults", "scores")
)
_PARADIGMS = _CATALOGUE["paradigms"]


def is_folder(dataset):
    """Whether a dataset is a folder with recordings and not a name."""
    return isinstance(dataset, str | Path) and str(dataset) not in DATASETS and Path(dataset).is_dir()


def get_dataset(dataset, **options):
    """MOABB dataset from its name; one that is given is given back."""
    if not isinstance(dataset, str | Path):
        return dataset
    name = str(dataset)
    if name in DATASETS:
        return _make(DATASETS[name]["class"], DATASETS[name].get("arguments", {}) | options)
    if is_folder(dataset):
        return _make("LocalDataset", {"folder": dataset} | options)
    from moabb.datasets import utils

    known = {one.__name__: one for one in utils.dataset_list} | {"FakeDataset": _fake_dataset}
    if Path(name).name != name:
        raise ValueError(f"dataset: there is no folder {name}.")
    if name.replace("-", "_") not in known:
        raise nearest("dataset", name, [*DATASETS, *known], "neither a folder nor a known dataset")
    _refuse(options, name)
    return known[name.replace("-", "_")]()


def get_tasks(dataset, tasks=(), **options):
    """Join executed and imagined movements of the same subjects into a `CrossTaskDataset`, which is given back itself.

    `dataset` is a name in `DATASETS` that has an execution beside it, or a folder with recordings, whose executed and
    imagined task `tasks` names; options are those of `get_dataset`.
    """
    from ..evaluations import CrossTaskDataset

    if isinstance(dataset, CrossTaskDataset):
        return dataset
    imagined = str(dataset).removesuffix("-execution")
    if f"{imagined}-execution" in DATASETS:
        parts = [get_dataset(name, **options) for name in (f"{imagined}-execution", imagined)]
    elif is_folder(dataset) and len(tasks) == 2:
        parts = [get_dataset(dataset, task=task, **options) for task in tasks]
    else:
        pairs = ", ".join(name.removesuffix("-execution") for name in DATASETS if name.endswith("-execution"))
        raise ValueError(
            f"dataset: cross-task needs executed and imagined movements of the same subjects, and "
            f"{getattr(dataset, 'code', dataset)} has no executed ones. There are {pairs}, folders with "
            "--task EXECUTED IMAGINED, and skeeg.evaluations.CrossTaskDataset."
        )
    return CrossTaskDataset(*parts, True)


def _make(class_name, options):
    """Dataset of `skeeg.datasets` from its class name and arguments."""
    cls = getattr(importlib.import_module("skeeg.datasets"), class_name)
    _refuse(options.keys() - inspect.signature(cls).parameters.keys(), class_name)
    return cls(**options)


def _refuse(options, name):
    """Raise an error for an option that a dataset does not have."""
    for option in sorted(options):
        raise ValueError(f"{option}: {name} does not know it; it is for recordings in folders.")


def _fake_dataset():
    """Noise in the shape of a dataset, of MOABB, the same every time."""
    from moabb.datasets.fake import FakeDataset

    return FakeDataset(["left_hand", "right_hand"], n_subjects=3, n_sessions=2, n_runs=1, seed=0)


def get_paradigm(
    dataset, classes=None, band=None, resample=None, interval=None, channels=None, scoring=None, evaluation=""
):
    """Paradigm of MOABB that fits a dataset; `LeftRightImagery` where the classes are left and right hand."""
    import moabb.paradigms

    if dataset.paradigm not in _PARADIGMS:
        raise ValueError(
            f"dataset: {dataset.code} is of the paradigm {dataset.paradigm}; there are pipelines for "
            f"{', '.join(_PARADIGMS)}."
        )
    if evaluation == "downstream":
        task = find_task(dataset, classes)
        end, length = task.get("tmax"), dataset.interval[1] - dataset.interval[0]
        classes, interval = classes or task.get("events"), interval or ((0.0, end) if end and length > end else None)
        band, resample, scoring = band or (8.0, 30.0), resample or 250.0, scoring or ["accuracy"]
    for name in classes or []:
        if name not in dataset.event_id:
            raise nearest("classes", name, dataset.event_id)
    events = sorted(set(classes or dataset.event_id))
    if len(events) < 2:
        raise ValueError(f"classes: at least two are needed, got {events}.")
    if dataset.paradigm == "p300" and not {"Target", "NonTarget"} <= set(events):  # MOABB takes both or none
        raise ValueError(f"classes: p300 data have Target and NonTarget, got {events}.")
    options = {"resample": resample, "channels": channels} | ({"fmin": band[0], "fmax": band[1]} if band else {})
    if dataset.paradigm == "rstate":  # MOABB's interval is 10 to 50 s and its rate 128 Hz, whatever the dataset's
        options |= {"tmin": 0.0, "tmax": None, "events": events, "resample": resample or 128}
    options |= {"tmin": interval[0], "tmax": interval[1]} if interval else {}
    options |= {"scorer": get_scorers(scoring, len(events))} if scoring else {}
    name = _PARADIGMS[dataset.paradigm]
    if events == ["left_hand", "right_hand"] and name == "MotorImagery":
        name = "LeftRightImagery"
    if name in ("MotorImagery", "SSVEP"):
        options |= {"n_classes": len(events), "events": events}
    return getattr(moabb.paradigms, name)(**options)


def find_task(dataset, classes=None):
    """Task of the MIRepNet paper that a dataset is by its name; empty where it is none."""
    from ..evaluations.published import DOWNSTREAM, find_task

    return DOWNSTREAM.get(find_task(shown_name(dataset), classes), {})


def shown_name(dataset):
    """Name of a dataset in a report: a folder of recordings by its own name."""
    from ..datasets import LocalDataset

    dataset = getattr(dataset, "target", dataset)  # of two tasks the one that is decoded
    return dataset.folder.resolve().name if isinstance(dataset, LocalDataset) else type(dataset).__name__


def get_scorers(names, n_classes):
    """Scorers by name, as MOABB's paradigms take them; the first decides, F1 is the mean over classes."""
    from sklearn.metrics import cohen_kappa_score, make_scorer

    for name in names:
        if name not in SCORES:
            raise nearest("scoring", name, SCORES)
    if len(set(names)) < len(names):
        raise ValueError(f"scoring: expected different names, got {', '.join(names)}.")
    if "roc_auc" in names and n_classes > 2:
        raise ValueError(
            f"scoring: roc_auc is defined for two classes, and there are {n_classes}. For more there are "
            f"{', '.join(list(SCORES)[1:])}."
        )
    special = {"kappa": make_scorer(cohen_kappa_score), "f1": "f1_macro"}
    return {name: special.get(name, name) for name in names}


def resolve_evaluation(evaluation):
    """Key of `EVALUATIONS` for a name; hyphens and underscores are the same."""
    known = {name.replace("_", "-"): name for name in EVALUATIONS} | {"cross-subject:train": "cross-subject"}
    wanted = str(evaluation).strip().lower().replace("_", "-")
    if wanted not in known:
        raise nearest("evaluation", evaluation, EVALUATIONS)
    return known[wanted]


def default_pipelines(evaluation, paradigm):
    """Names of the pipelines that are compared where none are named: those that serve the paradigm."""
    kind = type(paradigm).__name__
    for names in (EVALUATIONS[evaluation].get("pipelines", DEFAULTS["pipelines"]), DEFAULTS["other_paradigms"]):
        serving = [name for name in names if kind in pipeline_files()[name]["paradigms"]]
        if len(serving) > 1:
            return serving
    raise ValueError(f"paradigm: no named pipeline is made for {kind}; name pipelines.")


def check_paradigms(names, paradigm, code):
    """Refuse named pipelines that are made for other paradigms; pipelines of no file are let pass."""
    kind, files = type(paradigm).__name__, pipeline_files()
    serving = [name for name, content in files.items() if kind in content["paradigms"]]
    for name in names:
        if serving and name in files and name not in serving:
            raise ValueError(
                f"pipelines: {name} is made for {', '.join(files[name]['paradigms'])}, and {code} needs {kind}, which "
                f"{', '.join(serving)} are made for."
            )


def describe(name, pipeline):
    """Describe a named pipeline; one that only has its name is not described."""
    file = pipeline_files().get(name)
    return file["description"] if file and repr(build_pipeline(file, name)) == repr(pipeline) else ""


def set_default_recipes(pipelines):
    """Train networks without the augmentation of motor imagery, such as time shifts, which blur evoked responses."""
    for pipeline in pipelines.values():
        places = [key for key, value in pipeline.get_params().items() if key.endswith("recipe") and value == "imagery"]
        pipeline.set_params(**dict.fromkeys(places, "default"))


def get_pipelines(pipelines):
    """Estimators by name, and the parameter grids that YAML files carry."""
    if isinstance(pipelines, dict):
        return dict(pipelines), {}
    named = pipeline_files()
    contents = []
    for one in [pipelines] if isinstance(pipelines, str | Path) else pipelines:
        path = Path(one)
        if str(one) in named:
            contents.append((named[str(one)], f"pipeline {one}"))
        elif path.is_dir():
            files = sorted({*path.glob("*.yml"), *path.glob("*.yaml")})
            if not files:
                raise ValueError(f"pipelines: no .yml file in the folder {path}.")
            contents += [(read_pipeline_file(file), file) for file in files]
        elif path.suffix in (".yml", ".yaml"):
            contents.append((read_pipeline_file(path), path))
        else:
            raise nearest("pipelines", str(one), named)
    estimators = {content["name"]: build_pipeline(content, source) for content, source in contents}
    if len(estimators) < len(contents):
        raise ValueError("pipelines: two of them have the same name; each needs its own.")
    return estimators, {content["name"]: content["param_grid"] for content, _ in contents if "param_grid" in content}


def set_checkpoints(pipelines, checkpoints):
    """Give pipelines the weights they start from, by name of the pipeline; see `skeeg.baseline`."""
    for name, weights in (checkpoints or {}).items():
        if name not in pipelines:
            raise nearest("checkpoint", name, pipelines)
        if not takes_checkpoint(pipelines[name]):
            some = ", ".join(one for one, pipeline in pipelines.items() if takes_checkpoint(pipeline)) or "none"
            raise ValueError(f"checkpoint: {name} takes none; of these pipelines {some} can.")
        set_checkpoint(pipelines[name], weights, name)


def checkpoint_digests(pipeline):
    """Start of the SHA-256 of each file of weights that a pipeline starts from: one name may stand for other files."""
    from ..training.checkpoints import resolve

    params = pipeline.get_params()
    files = [resolve(params[place]) for place in takes_checkpoint(pipeline) if params[place] is not None]
    return [hashlib.file_digest(file.open("rb"), "sha256").hexdigest()[:8] for file in files]


def get_grid(param_grid, pipelines):
    """Check parameter grids, ``{pipeline: {parameter: [values]}}`` or a YAML file of such a mapping."""
    grids = read_mapping(param_grid) if isinstance(param_grid, str | Path) else dict(param_grid or {})
    for name, grid in grids.items():
        if name not in pipelines:
            raise nearest("param_grid", name, pipelines)
        known = pipelines[name].get_params()
        for parameter in grid:
            if parameter not in known:
                raise nearest(f"param_grid of {name}", parameter, known)
    return grids
