"""Names of a package that are imported the first time they are used."""

import importlib
import sys


def attach(package, public):
    """Make the module functions that import public names when they are asked for.

    Parameters
    ----------
    package : str
        ``__name__`` of the package.
    public : dict of str to str
        Module of each name, below the package.

    Returns
    -------
    names, getter, lister
        For ``__all__``, ``__getattr__`` and ``__dir__`` of the package.

    Examples
    --------
    >>> from skeeg._lazy import attach
    >>> names, getter, _ = attach("skeeg", {"as_eeg": "array"})
    >>> names, getter("as_eeg").__module__
    (['as_eeg'], 'skeeg.array')
    """
    namespace = vars(sys.modules[package])

    def getter(name):
        if name not in public:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        namespace[name] = getattr(importlib.import_module(f"{package}.{public[name]}"), name)
        return namespace[name]

    def lister():
        return sorted({*namespace, *public})

    return sorted(public), getter, lister
