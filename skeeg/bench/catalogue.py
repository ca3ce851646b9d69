"""What can be compared: datasets, pipelines and evaluations by name.

A wrong name is answered with the nearest right ones. Nothing heavy is imported until an object is asked for, so that
``skeeg list`` and ``skeeg --help`` are quick.
"""

import difflib
import importlib
import inspect
from pathlib import Path

# Name, class in skeeg.datasets, its arguments, one line.
DATASETS = {
    "simulated": ("SimulatedMotorImagery", {}, "simulated imagery of hands, made from a seed, nothing to download"),
    "simulated-execution": ("SimulatedMotorExecution", {}, "the same subjects moving their hands"),
    "grasp": ("GraspImagery", {}, "OpenNeuro ds003810: imagined grasping against rest, from $SKEEG_DATA/ds003810"),
    "grasp-execution": ("GraspImagery", {"task": "execution"}, "the same subjects grasping"),
    "physionet": ("PhysionetMotor", {}, "PhysioNet EEGMMIDB: imagined fists, from $SKEEG_DATA/eegmmidb or MOABB"),
    "physionet-execution": ("PhysionetMotor", {"task": "execution"}, "the same subjects closing their fists"),
}

_MODES = {
    "train": "other subjects train, the new subject's trials are predicted as a block",
    "train_trialwise": "the same, one trial at a time",
    "train_and_target_unlabeled_20p": "the first 20 % of the new subject's trials, without labels, adapt the method",
    "train_and_target_unlabeled_50p": "the first 50 %, without labels",
    "train_and_target_unlabeled_full": "all trials of the new subject, without labels, adapt the method (transductive)",
    "train_and_target_labeled_20p": "the first 20 % of the new subject's trials with their labels",
    "train_and_target_labeled_50p": "the first 50 % with their labels",
}

# Name, class in moabb.evaluations or skeeg.evaluations, its arguments, one line.
EVALUATIONS = {
    "within-session": ("WithinSessionEvaluation", {}, "5-fold cross-validation within each session"),
    "within-subject": ("WithinSubjectEvaluation", {}, "5-fold cross-validation over all sessions of a subject"),
    "cross-session": ("CrossSessionEvaluation", {}, "each session of a subject predicted from the others"),
    "cross-subject": ("CrossSubjectEvaluation", {"cs_mode": "train"}, "each subject predicted from the others"),
    "few-shot": ("FewshotEvaluation", {}, "the first trials of a session predict its last"),
    "few-shot:others": (
        "FewshotEvaluation",
        {"others": True},
        "other subjects and a session's first trials predict its last",
    ),
    "cross-task": ("CrossTaskEvaluation", {}, "executed movements and the first imagined ones predict the rest"),
} | {
    f"cross-subject:{mode}": ("CrossSubjectEvaluation", {"cs_mode": mode}, about)
    for mode, about in _MODES.items()
    if mode != "train"  # that is plain cross-subject
}

# Labelled target trials of each class, of the protocols that take any; on the command line --n-per-class.
N_PER_CLASS = {"few-shot": (5, 10, 20), "few-shot:others": (5, 10, 20), "cross-task": (10,)}

_FEW = 30  # so many names can be listed in an error
PIPELINE_FOLDER = Path(__file__).parent / "pipelines"


def nearest(what, name, known):
    """Error for an unknown name, with the nearest known ones.

    Parameters
    ----------
    what : str
        Argument the name was given for.
    name : str
        What was given.
    known : iterable of str
        What could have been given.

    Returns
    -------
    error : ValueError
        To be raised by the caller.

    Examples
    --------
    >>> from skeeg.bench.catalogue import nearest
    >>> print(nearest("pipelines", "csp+lad", ["CSP+LDA", "MDM"]))
    pipelines: 'csp+lad' is not known. Did you mean 'CSP+LDA'? `skeeg list` shows all names.
    """
    by_lower = {one.lower(): one for one in known}
    cutoff = 0.4 if len(by_lower) <= _FEW else 0.0  # of many names the nearest, however far
    close = [by_lower[one] for one in difflib.get_close_matches(str(name).lower(), by_lower, n=3, cutoff=cutoff)]
    hint = f"Did you mean {' or '.join(map(repr, close))}?" if close else f"Known: {', '.join(sorted(known))}."
    return ValueError(f"{what}: {name!r} is not known. {hint} `skeeg list` shows all names.")


def is_folder(dataset):
    """Whether a dataset is a folder with recordings and not a name."""
    return str(dataset) not in DATASETS and Path(dataset).is_dir()


def get_dataset(dataset, **options):
    """MOABB dataset from its name.

    Parameters
    ----------
    dataset : str, path or moabb.datasets.base.BaseDataset
        Name in `DATASETS`, name or code of a dataset of MOABB, or folder with recordings.
    **options
        Arguments of `skeeg.datasets.LocalDataset`, or of the named dataset where it has them.

    Returns
    -------
    dataset : moabb.datasets.base.BaseDataset
        Dataset; one that is given is given back.
    """
    if not isinstance(dataset, str | Path):
        return dataset
    name = str(dataset)
    if name in DATASETS:
        class_name, arguments, _ = DATASETS[name]
        return _make(class_name, arguments | options)
    if is_folder(dataset):
        return _make("LocalDataset", {"folder": dataset} | options)
    from moabb.datasets import utils

    known = {one.__name__: one for one in utils.dataset_list} | {"FakeDataset": _fake_dataset}
    if name.replace("-", "_") not in known:
        raise nearest("dataset", name, [*DATASETS, *known])
    _refuse(options, name)
    return known[name.replace("-", "_")]()


def get_tasks(dataset, tasks=(), **options):
    """Join executed and imagined movements of the same subjects into one dataset, for cross-task evaluation.

    Parameters
    ----------
    dataset : str, path or moabb.datasets.base.BaseDataset
        Name in `DATASETS` that has an execution beside it, folder with recordings, or a
        `skeeg.evaluations.CrossTaskDataset`, which is given back.
    tasks : sequence of str
        Of a folder, the tasks in its BIDS names: the executed and the imagined one.
    **options
        As for `get_dataset`.

    Returns
    -------
    dataset : skeeg.evaluations.CrossTaskDataset
        Both tasks.
    """
    from ..evaluations import CrossTaskDataset

    if isinstance(dataset, CrossTaskDataset):
        return dataset
    imagined = str(dataset).removesuffix("-execution")
    if f"{imagined}-execution" in DATASETS:
        parts = [get_dataset(name, **options) for name in (f"{imagined}-execution", imagined)]
    elif isinstance(dataset, str | Path) and is_folder(dataset) and len(tasks) == 2:
        parts = [get_dataset(dataset, task=task, **options) for task in tasks]
    else:
        pairs = ", ".join(name.removesuffix("-execution") for name in DATASETS if name.endswith("-execution"))
        raise ValueError(
            f"dataset: cross-task needs executed and imagined movements of the same subjects, and {_code(dataset)} "
            f"has no executed ones. There are {pairs}, folders with --task EXECUTED IMAGINED, and "
            "skeeg.evaluations.CrossTaskDataset."
        )
    return CrossTaskDataset(*parts, True)


def _code(dataset):
    """Name of a dataset in a message."""
    return getattr(dataset, "code", str(dataset))


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


def get_paradigm(dataset, classes=None, band=None, resample=None, interval=None, channels=None):
    """Paradigm of MOABB that fits a dataset.

    Parameters
    ----------
    dataset : moabb.datasets.base.BaseDataset
        Dataset of motor imagery.
    classes : sequence of str or None
        Events to classify; None takes all.
    band : (float, float) or None
        Pass band in hertz; None is MOABB's 8 to 32 Hz.
    resample : float or None
        Sampling rate in hertz; None keeps the recording's.
    interval : (float, float or None) or None
        First and last second of a trial from the start of the dataset's interval; None takes all of it.
    channels : sequence of str or None
        Channels; None takes all.

    Returns
    -------
    paradigm : moabb.paradigms.base.BaseParadigm
        `LeftRightImagery` where the classes are left and right hand, else `MotorImagery`. The score is ROC AUC for
        two classes, accuracy for more.
    """
    from moabb.paradigms import LeftRightImagery, MotorImagery

    options = {"resample": resample, "channels": channels} | ({"fmin": band[0], "fmax": band[1]} if band else {})
    options |= {"tmin": interval[0], "tmax": interval[1]} if interval else {}
    for name in classes or []:
        if name not in dataset.event_id:
            raise nearest("classes", name, dataset.event_id)
    events = sorted(set(classes or dataset.event_id))
    if len(events) < 2:
        raise ValueError(f"classes: at least two are needed, got {events}.")
    if events == ["left_hand", "right_hand"]:
        return LeftRightImagery(**options)
    return MotorImagery(n_classes=len(events), events=events, **options)


def resolve_evaluation(evaluation):
    """Full name of an evaluation.

    Parameters
    ----------
    evaluation : str
        Name in `EVALUATIONS`; hyphens and underscores are not told apart.

    Returns
    -------
    name : str
        Key of `EVALUATIONS`.

    Examples
    --------
    >>> from skeeg.bench.catalogue import resolve_evaluation
    >>> resolve_evaluation("cross_subject:train-trialwise")
    'cross-subject:train_trialwise'
    """
    known = {name.replace("_", "-"): name for name in EVALUATIONS} | {"cross-subject:train": "cross-subject"}
    wanted = str(evaluation).strip().lower().replace("_", "-")
    if wanted not in known:
        raise nearest("evaluation", evaluation, EVALUATIONS)
    return known[wanted]


def pipeline_files():
    """YAML files of the named pipelines.

    Returns
    -------
    files : dict of str to dict
        Content of each file (``name``, ``description``, ``paradigms``, ``pipeline``) by the pipeline's name.

    Examples
    --------
    >>> from skeeg.bench.catalogue import pipeline_files
    >>> pipeline_files()["CSP+LDA"]["paradigms"]
    ['LeftRightImagery', 'MotorImagery']
    """
    contents = [_read_yaml(path) for path in sorted(PIPELINE_FOLDER.glob("*.yml"))]
    return {content["name"]: content for content in sorted(contents, key=lambda one: one.get("order", 100))}


def get_pipelines(pipelines):
    """Estimators from names, YAML files, folders of YAML files or estimators.

    Parameters
    ----------
    pipelines : str, path, sequence of them, or dict of str to estimator
        Names of `pipeline_files`, paths, or estimators by name.

    Returns
    -------
    estimators : dict of str to estimator
        Unfitted pipelines by name.
    grids : dict of str to dict
        Parameter grids that YAML files carry, by name of the pipeline.
    """
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
            contents += [(_read_yaml(file), file) for file in files]
        elif path.suffix in (".yml", ".yaml"):
            contents.append((_read_yaml(path), path))
        else:
            raise nearest("pipelines", str(one), named)
    estimators = {content["name"]: _build(content, source) for content, source in contents}
    if len(estimators) < len(contents):
        raise ValueError("pipelines: two of them have the same name; each needs its own.")
    return estimators, {content["name"]: content["param_grid"] for content, _ in contents if "param_grid" in content}


def set_checkpoints(pipelines, checkpoints):
    """Give pipelines the weights they start from.

    Parameters
    ----------
    pipelines : dict of str to estimator
        Pipelines that are run; changed in place.
    checkpoints : dict of str to str, or None
        Weights by name of the pipeline: a file, ``"skeeg:NAME"`` of the package or ``"hub:owner/repository/file"``.
    """
    takes = {
        name: [key for key in one.get_params() if key.rsplit("__", 1)[-1] == "checkpoint"]
        for name, one in pipelines.items()
    }
    for name, weights in (checkpoints or {}).items():
        if name not in pipelines:
            raise nearest("checkpoint", name, pipelines)
        if not takes[name]:
            some = ", ".join(one for one in takes if takes[one]) or "none"
            raise ValueError(f"checkpoint: {name} takes none; of these pipelines {some} can.")
        if not str(weights).startswith(("skeeg:", "hub:")) and not Path(weights).is_file():
            raise ValueError(f"checkpoint: there is no file {weights} for {name}.")
        known, sizes = pipelines[name].get_params(), [key.removesuffix("checkpoint") + "size" for key in takes[name]]
        changes = dict.fromkeys([key for key in sizes if key in known])  # the weights decide it
        pipelines[name].set_params(**changes, **dict.fromkeys(takes[name], str(weights)))


def get_grid(param_grid, pipelines):
    """Parameter grids by name of the pipeline.

    Parameters
    ----------
    param_grid : dict, path or None
        ``{pipeline: {parameter: [values]}}``, or a YAML file that says so.
    pipelines : dict of str to estimator
        Pipelines that are run.

    Returns
    -------
    grids : dict of str to dict
        Checked grids.
    """
    grids = _read_mapping(param_grid) if isinstance(param_grid, str | Path) else dict(param_grid or {})
    for name, grid in grids.items():
        if name not in pipelines:
            raise nearest("param_grid", name, pipelines)
        known = pipelines[name].get_params()
        for parameter in grid:
            if parameter not in known:
                raise nearest(f"param_grid of {name}", parameter, known)
    return grids


def _read_mapping(path):
    """Content of a YAML file that holds a mapping."""
    import yaml

    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file.")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not a YAML file ({str(error).splitlines()[0]}).") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a mapping, got {type(content).__name__}.")
    return content


def _read_yaml(path):
    """Content of a pipeline file, in MOABB's layout."""
    content = _read_mapping(path)
    missing = [key for key in ("name", "pipeline") if key not in content]
    if missing:
        raise ValueError(f"{path}: a pipeline file needs {' and '.join(missing)}.")
    return content


def _build(content, source):
    """Pipeline of a file in MOABB's layout; only classes that have ``fit`` are ever called.

    MOABB's own builder calls whatever a file names, ``subprocess.Popen`` too, before it looks at what came of it. A
    file with ``fine_tune`` trains its pipeline on source subjects and fine-tunes it on labelled target trials.
    """
    from sklearn.pipeline import make_pipeline

    try:
        steps = [_step_class(step)(**(step.get("parameters") or {})) for step in content["pipeline"]]
        if "fine_tune" not in content:
            return make_pipeline(*steps)
        from ..training import FineTunedClassifier

        return FineTunedClassifier(make_pipeline(*steps), **(content["fine_tune"] or {}))
    except Exception as error:  # whatever a step's import or constructor raises, the file is what the user can mend
        raise ValueError(f"{source}: the pipeline cannot be built: {error}") from error


def _step_class(step):
    """Class of a step of a pipeline file."""
    found = getattr(importlib.import_module(step["from"]), step["name"])
    if not (isinstance(found, type) and callable(getattr(found, "fit", None))):
        raise TypeError(f"{step['from']}.{step['name']} is not an estimator: it is no class with a fit method.")
    return found
