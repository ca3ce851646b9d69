"""Fitted estimators on disk: tensors as safetensors, everything else as JSON in the same file's header.

Reading builds only skeeg's own public classes (or the class the caller names) from plain values; nothing is executed.
"""

import json

import numpy as np

_HEADER = "skeeg"


def save(estimator, path):
    """Write a fitted estimator.

    Parameters
    ----------
    estimator : EEGEstimator
        Fitted estimator.
    path : str or path-like
        File to write.
    """
    from safetensors.numpy import save_file

    from . import __version__

    tensors = {}
    document = {"version": __version__, **_encode_estimator(estimator, tensors, "")}
    save_file(tensors, path, metadata={_HEADER: json.dumps(document)})


def load(path, params=None, cls=None):
    """Read an estimator written by `save`.

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
    estimator : EEGEstimator
        The fitted estimator.
    """
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        header = (file.metadata() or {}).get(_HEADER)
        if header is None:
            raise ValueError(f"path: {path} holds tensors but no skeeg estimator.")
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, the file is no dict
    return _decode_estimator(json.loads(header), tensors, params or {}, cls)


def _encode_estimator(estimator, tensors, prefix):
    """JSON form of an estimator; its arrays go into `tensors`."""
    params = estimator.get_params(deep=False)
    state = estimator.__getstate__()
    fitted = {name: value for name, value in state.items() if name not in params and name != "_sklearn_version"}
    return {
        "class": type(estimator).__name__,
        "params": {name: _encode(value, tensors, f"{prefix}params.{name}") for name, value in params.items()},
        "fitted": {name: _encode(value, tensors, f"{prefix}{name}") for name, value in fitted.items()},
    }


def _decode_estimator(document, tensors, params=None, cls=None):
    """Estimator of its JSON form."""
    cls = _resolve_class(document["class"], cls)
    values = {name: _decode(value, tensors) for name, value in document["params"].items()} | (params or {})
    missing = [name for name, value in values.items() if isinstance(value, _Named)]
    if missing:
        raise ValueError(f"params: give {', '.join(missing)}, which a file cannot hold ({values[missing[0]].name}).")
    estimator = cls(**values)
    estimator.__setstate__({**values, **{name: _decode(value, tensors) for name, value in document["fitted"].items()}})
    return estimator


def _resolve_class(name, cls):
    """Class of this name: the caller's, or one of the package's public ones."""
    import skeeg

    from .base import EEGEstimator

    if cls is not None and cls.__name__ == name:
        return cls
    found = getattr(skeeg, name, None) if name in skeeg.__all__ else None
    wanted = EEGEstimator if cls is None else cls
    if not (isinstance(found, type) and issubclass(found, wanted)):
        raise ValueError(f"path: the file holds a {name}, which is not a {wanted.__name__} of skeeg.")
    return found


class _Named:
    """Stand-in for a value that only its owner can bring back, such as a class."""

    def __init__(self, name):
        self.name = name


def _encode(value, tensors, key):
    """JSON form of one value."""
    if isinstance(value, np.ndarray) or hasattr(value, "detach"):
        return _encode_array(value, tensors, key)
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        items = [_encode(one, tensors, f"{key}.{i}") for i, one in enumerate(value)]
        return items if isinstance(value, list) else {"tuple": items}
    if isinstance(value, dict):
        pairs = [[_encode(k, tensors, key), _encode(v, tensors, f"{key}.{k}")] for k, v in value.items()]
        return {"dict": pairs}
    if hasattr(value, "get_params") and hasattr(value, "_check_eeg") and not isinstance(value, type):
        return {"estimator": _encode_estimator(value, tensors, f"{key}.")}
    return {"named": f"{key}: {getattr(value, '__qualname__', type(value).__qualname__)}"}


def _encode_array(value, tensors, key):
    """Numbers go into `tensors`, strings and objects into the JSON."""
    value = value.detach().cpu().numpy() if hasattr(value, "detach") else np.asarray(value)
    if value.dtype.kind in "biuf":
        tensors[key] = np.ascontiguousarray(value)
        return {"tensor": key, "shape": list(value.shape)}
    if value.dtype.kind in "US":
        return {"strings": value.tolist(), "dtype": value.dtype.str}
    return {"objects": [_encode(one, tensors, f"{key}.{i}") for i, one in enumerate(value.tolist())]}


def _decode(value, tensors):
    """Value of its JSON form."""
    if isinstance(value, list):
        return [_decode(one, tensors) for one in value]
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return tensors[value["tensor"]].reshape(value["shape"])
    if "strings" in value:
        return np.array(value["strings"], dtype=value["dtype"])
    if "objects" in value:
        items = [_decode(one, tensors) for one in value["objects"]]
        result = np.empty(len(items), dtype=object)
        result[:] = items
        return result
    if "tuple" in value:
        return tuple(_decode(one, tensors) for one in value["tuple"])
    if "dict" in value:
        return {_decode(k, tensors): _decode(v, tensors) for k, v in value["dict"]}
    if "estimator" in value:
        return _decode_estimator(value["estimator"], tensors)
    return _Named(value["named"])
