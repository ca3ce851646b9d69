"""Recordings to decode: simulated, published and your own, as MOABB datasets and as plain arrays.

Every dataset gives plain arrays by its method ``arrays`` and, but for the corpora with a split of their own
(`HMCSleep`, `SHUMotorImagery`, `SeedVEmotions`, `TUHEvents`), goes into MOABB's paradigms and evaluations. Nothing is
read or downloaded before data are asked for.
"""

import importlib

_PUBLIC = {
    "GraspImagery": "grasp",
    "HMCSleep": "hmc_sleep",
    "LocalDataset": "local",
    "MotorSimulation": "simulation",
    "PhysionetMotor": "physionet",
    "RecordingStore": "store",
    "SHUMotorImagery": "shu_motor",
    "SeedVEmotions": "seed_v",
    "SimulatedMotorExecution": "simulated",
    "SimulatedMotorImagery": "simulated",
    "TUHEvents": "tuh_events",
    "Truth": "simulation",
    "load_arrays": "arrays",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name):
    """Import a dataset the first time it is used: MOABB takes seconds to import."""
    if name in _PUBLIC:
        value = getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    """List the public names."""
    return sorted([*globals(), *_PUBLIC])
