"""Fitted estimators on disk: tensors as safetensors, everything else as JSON in the same file's header.

Reading builds estimators of skeeg, scikit-learn and pyRiemann (or the class the caller names) from plain values;
nothing is executed.
"""

import importlib
import json
import types

import numpy as np
from sklearn.base import BaseEstimator, is_classifier
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

_HEADER = "skeeg"
_LIBRARIES = ("pyriemann", "skeeg", "sklearn")  # whose estimators a file may name
_DROPPED = ("memory", "run_file")  # parameters that a file sets to None: joblib reads pickles from one, fit writes one
_FUNCTIONS = ("sklearn.feature_selection", "sklearn.metrics")  # whose functions it may name
_MAX_CHARACTERS = 2**26  # of an array of strings, each as long as the longest: one that a short file cannot blow up


def save(estimator, path):
    """Write a fitted estimator to one file, which `load` reads; nothing is executed by that.

    Parameters
    ----------
    estimator : estimator
        One of skeeg, or a pipeline of steps of skeeg, scikit-learn and pyRiemann. What cannot be held, such as the
        trees of a forest, is an error that names it.
    path : str or path-like
        Where to.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import skeeg
    >>> X, y = np.random.default_rng(0).normal(size=(20, 3, 100)), np.repeat(["left", "right"], 10)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "pipeline.safetensors")
    ...     skeeg.save(skeeg.baseline("CSP+LDA").fit(X, y), path)
    ...     skeeg.load(path).predict(X).shape
    (20,)
    """
    from safetensors.numpy import save_file

    from . import __version__

    check_is_fitted(estimator)
    tensors, name = {}, type(estimator).__name__
    try:
        document = _encode_estimator(estimator, tensors, "", top=not isinstance(estimator, Pipeline))
    except _Unstorable as error:
        raise TypeError(f"{name}: {error}, which a file cannot hold.") from error
    document["version"] = __version__
    save_file(tensors, path, metadata={_HEADER: json.dumps(document)})


def load(path, params=None, cls=None):
    """Read a fitted estimator written by `save`.

    Parameters
    ----------
    path : str or path-like
        File to read.
    params : dict or None
        Constructor parameters the file could not hold, such as a network class.
    cls : class or None
        Expected class; needed where it is not one of skeeg's public classes.

    Returns
    -------
    estimator : estimator
        The fitted estimator, or pipeline.
    """
    try:
        tensors, metadata = read_tensors(path)
    except FileNotFoundError:
        raise
    except Exception as error:  # of the operating system, of safetensors, of the types it knows
        raise ValueError(f"path: {path} is not a safetensors file: {cause_of(error)}.") from error
    if _HEADER not in metadata:
        raise ValueError(f"path: {path} holds tensors but no skeeg estimator.")
    try:
        document = json.loads(metadata[_HEADER])
        estimator = _decode_estimator(document, tensors, params, cls)
        check_is_fitted(estimator)
        return estimator
    except _Refusal:
        raise
    except Exception as error:  # whatever a network's constructor makes of sizes that mean nothing
        raise ValueError(f"path: {path} does not hold a fitted estimator of `save` ({cause_of(error)}).") from error


def read_tensors(path, framework="numpy"):
    """Tensors and metadata of a safetensors file."""
    from safetensors import safe_open

    with safe_open(path, framework=framework) as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118, no dict


def cause_of(error):
    """Text of an error, with its type where the text alone may not say what happened."""
    return str(error).rstrip(".") if type(error) is ValueError else f"{type(error).__name__}: {error}"


class Storable:
    """Base of the parts of a fitted estimator that a file can hold: their state is plain values and arrays."""

    known = {}

    def __init_subclass__(cls, **kwargs):
        """Let files name the class."""
        super().__init_subclass__(**kwargs)
        Storable.known[cls.__name__] = cls

    def __setstate__(self, state):
        """All attributes."""
        vars(self).update(state)


class _Refusal(ValueError):
    """An error whose message is meant for the user as it is."""


class _Unstorable(Exception):
    """A value that a file cannot hold: the key it was found under, and what it is."""

    def __init__(self, key, value):
        name, key = value.__qualname__ if isinstance(value, type) else type(value).__qualname__, key or "it"
        super().__init__(f"{key} is a {type(value).__name__} ({name})")


def _encode_estimator(estimator, tensors, prefix, top=False):
    """JSON form of an estimator; its arrays go into `tensors`."""
    cls, params = type(estimator), estimator.get_params(deep=False)
    if not top and _library_class(cls.__module__, cls.__name__) is not cls:
        raise _Unstorable(prefix.rstrip("."), estimator)
    fitted = {name: value for name, value in estimator.__getstate__().items() if name not in params}
    encoded, owned = {}, {}
    for name, value in params.items():
        try:
            encoded[name] = None if name in _DROPPED else _encode(value, tensors, f"{prefix}params.{name}")
        except _Unstorable as error:
            if not top:
                raise
            encoded[name], owned[id(value)] = {"named": str(error)}, name
    fitted = {name: _encode(value, tensors, f"{prefix}{name}", owned) for name, value in fitted.items()}
    return {"class": cls.__name__, "module": cls.__module__, "params": encoded, "fitted": fitted}


def _decode_estimator(document, tensors, params=None, cls=None):
    """Estimator of its JSON form."""
    cls = _resolve_class(document["class"], cls, document.get("module", "skeeg"))
    params = params or {}
    encoded = {name: value for name, value in document["params"].items() if name not in params}
    missing = {name: value["named"] for name, value in encoded.items() if isinstance(value, dict) and "named" in value}
    if missing:
        raise _Refusal(f"params: give {', '.join(missing)}, which a file cannot hold ({next(iter(missing.values()))}).")
    values = {name: None if name in _DROPPED else _decode(value, tensors) for name, value in encoded.items()} | params
    estimator = cls(**values)
    fitted = {name: _decode(value, tensors, values) for name, value in document["fitted"].items()}
    if twice := set(fitted) & set(estimator.get_params(deep=False)):  # it would pass by what parameters are checked for
        raise ValueError(f"{min(twice)} is a parameter, not a fitted attribute")
    if "_may_be_infinite" in dir(cls):  # one of skeeg's
        if fitted and is_classifier(estimator) and "classes_" not in fitted:
            raise ValueError("classes_ is missing")
        for name in set(fitted) - set(cls._may_be_infinite):
            _check_finite(fitted[name], name)
    estimator.__setstate__({**values, **fitted})
    return estimator


def _check_finite(value, name):
    """Refuse arrays that are not finite, by the name of the attribute, within dicts and lists too."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, part in parts:
        _check_finite(part, f"{name}.{key}")
    if isinstance(value, np.ndarray) and value.dtype.kind == "f" and not np.isfinite(value).all():
        raise ValueError(f"{name} is not finite")


def _resolve_class(name, cls, module):
    """Class of this name: the caller's, or one of the libraries'."""
    if cls is not None and cls.__name__ == name:
        return cls
    found = _library_class(module, name)
    wanted = BaseEstimator if cls is None else cls
    if not (isinstance(found, type) and issubclass(found, wanted)):
        what = "one of skeeg's estimators" if cls is None else f"a {wanted.__name__}"
        raise ValueError(f"it holds a {name}, which is not {what}")
    return found


def _public(module, name, libraries=_LIBRARIES):
    """Find what the public module, of these libraries, that a module belongs to defines; None if it is not there."""
    public = _public_module(module)
    if not f"{public}.".startswith(tuple(f"{one}." for one in libraries)) or "tests" in public.split("."):
        return None
    try:
        found = vars(importlib.import_module(public)).get(name)
    except ImportError:
        return None
    return found if _public_module(getattr(found, "__module__", None)) == public else None  # not what it imports


def _public_module(module):
    """Name of a module without its private parts."""
    return ".".join(part for part in str(module).split(".") if not part.startswith("_"))


def _library_class(module, name):
    """Estimator class of skeeg, scikit-learn or pyRiemann; None for any other name.

    A base of another library may read a pickle in ``__setstate__``, as skorch's net does.
    """
    found = _public(module, name)
    if not (isinstance(found, type) and issubclass(found, BaseEstimator)):
        return None
    owners = {base.__module__.partition(".")[0] for base in found.__mro__}
    return found if owners <= {*_LIBRARIES, "abc", "builtins"} else None


def _encode(value, tensors, key, owned=()):
    """JSON form of one value; `owned` names the parameters that stand for objects no file can hold."""
    if id(value) in owned:
        return {"param": owned[id(value)]}
    value = value.detach().cpu().numpy() if hasattr(value, "detach") else value
    if isinstance(value, np.ndarray):
        return _encode_array(np.asarray(value), tensors, key)
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, slice):  # columns of a ColumnTransformer
        return {"slice": [value.start, value.stop, value.step]}
    if isinstance(value, list | tuple):
        items = []
        for i, one in enumerate(value):
            name = one[0] if isinstance(one, tuple) and one and isinstance(one[0], str) else i  # of a pipeline's step
            items.append(_encode(one, tensors, f"{key}.{name}", owned))
        return items if isinstance(value, list) else {"tuple": items}
    if isinstance(value, dict):
        return {
            "dict": [[_encode(k, tensors, key), _encode(v, tensors, f"{key}.{k}", owned)] for k, v in value.items()]
        }
    if isinstance(value, Storable):
        return {"part": [type(value).__name__, _encode(value.__getstate__(), tensors, key, owned)]}
    if isinstance(value, BaseEstimator):
        return {"estimator": _encode_estimator(value, tensors, f"{key}.")}
    if isinstance(value, types.FunctionType) and _public(value.__module__, value.__name__, _FUNCTIONS) is value:
        return {"function": [value.__module__, value.__name__]}
    raise _Unstorable(key, value)


def _encode_array(value, tensors, key):
    """Numbers go into `tensors`, strings and objects into the JSON."""
    if value.dtype.kind in "biuf":
        while key in tensors:  # keys 1 and "1" of a dict
            key += "'"
        tensors[key] = np.ascontiguousarray(value)
        return {"tensor": key, "shape": list(value.shape)}
    if value.dtype.kind not in "UO":
        raise _Unstorable(key, value)
    items = [_encode(one, tensors, f"{key}.{i}") for i, one in enumerate(value.ravel().tolist())]
    return {"strings" if value.dtype.kind == "U" else "objects": items, "shape": list(value.shape)}


def _decode(value, tensors, params=None):
    """Value of its JSON form."""
    if isinstance(value, list):
        return [_decode(one, tensors, params) for one in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = ((kind, content) for kind, content in value.items() if kind != "shape")
    if kind == "tuple":
        return tuple(_decode(one, tensors, params) for one in content)
    if kind == "slice":
        return slice(*content)
    if kind == "dict":
        return {_decode(k, tensors): _decode(v, tensors, params) for k, v in content}
    if kind == "estimator":
        return _decode_estimator(content, tensors)
    if kind == "function":
        found = _public(*content, _FUNCTIONS)
        if not isinstance(found, types.FunctionType):
            raise ValueError(f"it names {content[1]}, which is no function of {' or '.join(_FUNCTIONS)}")
        return found
    if kind == "part":
        return _decode_part(*content, tensors, params)
    if kind == "param":
        return params[content]
    return _decode_array(kind, content, value, tensors)


def _decode_part(name, state, tensors, params):
    """Part of an estimator of its JSON form."""
    state = _decode(state, tensors, params)
    _check_finite(state, name)
    part = object.__new__(Storable.known[name])
    part.__setstate__(state)
    return part


def _decode_array(kind, content, value, tensors):
    """Array of its JSON form."""
    if kind == "tensor":
        return tensors[content].reshape(value["shape"])
    if kind in ("strings", "objects"):
        result = np.empty(len(content), dtype=object)
        for i, one in enumerate(content):
            result[i] = _decode(one, tensors)
        if kind == "strings" and len(content) * max(map(len, result), default=0) > _MAX_CHARACTERS:
            raise ValueError(f"strings of together more than {_MAX_CHARACTERS} characters")
        result = result.reshape(value["shape"])
        return result.astype(str) if kind == "strings" else result
    raise ValueError(f"a value of the unknown kind {kind!r}")
