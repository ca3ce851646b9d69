"""Reference pipelines by name, read from the YAML files in this folder, in MOABB's layout.

`baseline` gives an unfitted pipeline, `baseline_names` the names. A file may have two keys that MOABB does not read:
``fine_tune`` trains its pipeline on source subjects and fine-tunes it on labelled target trials
(`skeeg.FineTunedClassifier`), ``pooled_target`` chooses the trials it learns from (`skeeg.evaluations.PooledTarget`).
"""

import difflib
import importlib
from functools import cache
from pathlib import Path

PIPELINE_FOLDER = Path(__file__).parent
_MANY = 30  # so many names are not listed in an error


def baseline_names():
    """Names that `baseline` knows: classical pipelines, networks from scratch or with published weights, methods.

    Examples
    --------
    >>> from skeeg.baselines import baseline_names
    >>> baseline_names()[:3]
    ('CSP+LDA', 'FBCSP+LDA', 'TS+LR')
    """
    return tuple(pipeline_files())


def baseline(name, *, align=None, recipe=None, sfreq=None, ch_names=None, checkpoint=None, random_state=None):
    """Give a reference pipeline by its name.

    Parameters
    ----------
    name : str
        One of `baseline_names`.
    align : bool or None
        Whether to start with Euclidean alignment of each subject. None aligns for the networks that are trained
        from scratch, as their comparison does.
    recipe : str, dict or None
        How a network is trained, see `NetworkClassifier`: ``"imagery"``, ``"default"`` for other paradigms, or
        ``"mirepnet-fork"``, 10 epochs of batches of 8, which are too few for most networks to learn. None is the
        pipeline's own.
    sfreq : float or None
        Sampling rate in hertz of trials that do not carry theirs. None takes them to be at the rate in the file, 250 Hz
        for most, where the pipeline needs to know, and warns.
    ch_names : tuple of str or None
        Electrode names of trials that do not carry theirs.
    checkpoint : str or None
        Weights for a network: a file, ``"skeeg:NAME"`` or ``"hub:owner/repository/file"``. None takes the pipeline's
        own; where there are published ones and none are given, fit warns.
    random_state : int or None
        Seed of the network.

    Returns
    -------
    pipeline : sklearn.pipeline.Pipeline or estimator
        Unfitted, takes all that `as_eeg` takes.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.baselines import baseline
    >>> X, y = np.random.default_rng(0).normal(size=(20, 4, 200)), np.repeat(["left", "right"], 10)
    >>> baseline("TS+LR").fit(X, y).predict(X).shape
    (20,)
    """
    files = pipeline_files()
    if name not in files:
        raise nearest("name", name, files)
    steps = _steps(files[name])
    is_aligned = [type(step).__name__ == "EuclideanAlignment" for step in steps]
    if align is False:
        steps = [step for step, aligns in zip(steps, is_aligned, strict=True) if not aligns]
    given = {key: value for key, value in {"sfreq": sfreq, "ch_names": ch_names}.items() if value is not None}
    if given and type(steps[0]).__name__ != "AsEEG":
        steps.insert(0, _class({"name": "AsEEG", "from": "skeeg.base"})())
    if given:
        steps[0].set_params(**given)
    if align and not any(is_aligned):
        aligner = _class({"name": "EuclideanAlignment", "from": "skeeg.alignment"})()
        steps.insert(type(steps[0]).__name__ == "AsEEG", aligner)
    pipeline = _wrap(steps, files[name])
    set_where(pipeline, "recipe", recipe)
    if checkpoint is not None:
        set_checkpoint(pipeline, checkpoint, name)
    return set_where(pipeline, "random_state", random_state)


def nearest(what, name, known, problem="not known"):
    """Error for an unknown name, with the nearest known ones, to be raised by the caller."""
    by_lower = {one.lower(): one for one in known}
    cutoff = 0.4 if len(by_lower) <= _MANY else 0.0  # of many names the nearest, however far
    close = [by_lower[one] for one in difflib.get_close_matches(str(name).lower(), by_lower, n=3, cutoff=cutoff)]
    hint = f"Did you mean {' or '.join(map(repr, close))}?" if close else f"Known: {', '.join(sorted(known))}."
    return ValueError(f"{what}: {name!r} is {problem}. {hint} `skeeg list` shows all names.")


def baseline_recipe(name):
    """Recipe, a `skeeg.training.Recipe`, of a baseline; None if it does not end with a `NetworkClassifier`.

    Examples
    --------
    >>> from skeeg.baselines import baseline_recipe
    >>> baseline_recipe("EEGNet").n_updates, baseline_recipe("MDM")
    (600, None)
    """
    from sklearn.pipeline import Pipeline

    from ..training import NetworkClassifier

    last = baseline(name)
    last = last[-1] if isinstance(last, Pipeline) else last
    return last._recipe() if isinstance(last, NetworkClassifier) else None


@cache
def pipeline_files():
    """Content of the files of the named pipelines, by name and in the order to show them in."""
    contents = [read_pipeline_file(path) for path in sorted(PIPELINE_FOLDER.glob("*.yml"))]
    return {content["name"]: content for content in sorted(contents, key=lambda one: one["order"])}


def read_pipeline_file(path):
    """Content of a pipeline file, in MOABB's layout."""
    content = read_mapping(path)
    missing = [key for key in ("name", "pipeline") if key not in content]
    if missing:
        raise ValueError(f"{path}: a pipeline file needs {' and '.join(missing)}.")
    return content


def read_mapping(path):
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


def build_pipeline(content, source):
    """Unfitted pipeline of a file's content; an error names the source.

    Only classes with ``fit`` are called. MOABB's own builder calls whatever a file names, ``subprocess.Popen`` too.
    """
    try:
        return _wrap(_steps(content), content)
    except Exception as error:  # whatever a step's import or constructor raises, the user can correct the file
        raise ValueError(f"{source}: the pipeline cannot be built: {error}") from error


def _steps(content):
    """Build the steps of a pipeline file."""
    return [_class(step)(**(step.get("parameters") or {})) for step in content["pipeline"]]


def _class(step):
    """Class of a step of a pipeline file."""
    found = getattr(importlib.import_module(step["from"]), step["name"])
    if not (isinstance(found, type) and callable(getattr(found, "fit", None))):
        raise TypeError(f"{step['from']}.{step['name']} is not an estimator: it is no class with a fit method.")
    return found


def _wrap(steps, content):
    """Join steps to a pipeline, in the meta-estimator that its file asks for."""
    from sklearn.pipeline import make_pipeline

    pipeline = make_pipeline(*steps)
    for key, step in _WRAPPERS.items():
        if key in content:
            return _class(step)(pipeline, **(content[key] or {}))
    return pipeline


_WRAPPERS = {
    "fine_tune": {"name": "FineTunedClassifier", "from": "skeeg.training"},
    "pooled_target": {"name": "PooledTarget", "from": "skeeg.evaluations"},
}


def set_where(pipeline, name, value):
    """Set the parameter `name` of every step that has it and leaves it None or, for a recipe, names another."""
    params = pipeline.get_params()
    places = [key for key in params if key.rsplit("__", 1)[-1] == name and (params[key] is None or name == "recipe")]
    return pipeline if value is None else pipeline.set_params(**dict.fromkeys(places, value))


def takes_checkpoint(pipeline):
    """Names of the ``checkpoint`` parameters of a pipeline."""
    return [key for key in pipeline.get_params() if key.rsplit("__", 1)[-1] == "checkpoint"]


def set_checkpoint(pipeline, weights, name):
    """Give a pipeline the weights to start from; a size that they decide is left to them."""
    places = takes_checkpoint(pipeline)
    if not places:
        raise ValueError(f"checkpoint: {name} takes none.")
    if not str(weights).startswith(("skeeg:", "hub:")) and not Path(weights).is_file():
        raise ValueError(f"checkpoint: there is no file {weights} for {name}.")
    known, sizes = pipeline.get_params(), [key.removesuffix("checkpoint") + "size" for key in places]
    changes = dict.fromkeys([key for key in sizes if key in known])
    return pipeline.set_params(**changes, **dict.fromkeys(places, str(weights)))
