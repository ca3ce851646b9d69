"""Where a result comes from: versions, machine, command, keys that stay the same between processes."""

import hashlib
import inspect
import os
import platform
import re
from importlib import metadata
from pathlib import Path

_PACKAGES = ("moabb", "mne", "scikit-learn", "pyriemann", "braindecode", "torch", "numpy", "scipy")


def digest(value):
    """Eight hexadecimal digits that stand for `value`, the same in every process.

    Examples
    --------
    >>> from skeeg.bench.provenance import digest
    >>> digest(["a", 1])
    '1d809466'
    """
    text = re.sub(r"0x\w+", "0x", repr(value))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def versions():
    """Versions of Python, skeeg and what it stands on, by name.

    Examples
    --------
    >>> from skeeg.bench.provenance import versions
    >>> "moabb" in versions()
    True
    """
    from .. import __version__

    found = {"skeeg": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def machine():
    """One line on system and processor.

    Examples
    --------
    >>> from skeeg.bench.provenance import machine
    >>> "cores" in machine()
    True
    """
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*:\s*(.+)", info.read_text()) if info.is_file() else []
    processor = names[0] if names else platform.processor() or platform.machine()
    return f"{platform.system()}, {processor}, {os.cpu_count()} cores"


def call_text(function, given):
    """Python call that repeats a run, defaults left out.

    Parameters
    ----------
    function : callable
        Function that was called.
    given : dict of str to object
        Its arguments.

    Returns
    -------
    text : str
        Source code.

    Examples
    --------
    >>> from skeeg.bench.provenance import call_text
    >>> call_text(sorted, {"reverse": True})
    'sorted(reverse=True)'
    """
    defaults = {name: parameter.default for name, parameter in inspect.signature(function).parameters.items()}
    changed = {name: value for name, value in given.items() if not _same(value, defaults.get(name))}
    parts = ", ".join(f"{name}={_short(value)}" for name, value in changed.items())
    place = "" if function.__module__ == "builtins" else "skeeg.bench."
    return f"{place}{function.__name__}({parts})"


def one_line(estimator):
    """Repr of an estimator, all of it on one line."""
    from sklearn import config_context

    with config_context(print_changed_only=True):
        return re.sub(r"\s+", " ", repr(estimator) if not hasattr(estimator, "steps") else _steps(estimator))


def first_line(thing):
    """First line of the docstring of an object's class."""
    return (inspect.getdoc(type(thing)) or "").strip().split("\n")[0]


def _steps(pipeline):
    """Join the steps of a pipeline by arrows."""
    return " → ".join(one_line(step) for _, step in pipeline.steps)


def _same(value, default):
    """Whether an argument is its default."""
    try:
        return bool(value == default)
    except ValueError:  # arrays
        return False


def _short(value):
    """Source of a plain value, the name of the class of any other."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {_short(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_short, value))}]"
    if value is None or isinstance(value, str | int | float | bool):
        return repr(value)
    return f"{type(value).__name__}(...)"
