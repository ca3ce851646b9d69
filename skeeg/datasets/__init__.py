"""Recordings to decode: simulated, published and your own, as MOABB datasets and as plain arrays.

Every dataset gives plain arrays by its method ``arrays`` and, but for the corpora with a split of their own
(`HMCSleep`, `SHUMotorImagery`, `SeedVEmotions`, `TUHEvents`), goes into MOABB's paradigms and evaluations. Nothing is
read or downloaded before data are asked for.
"""

from .._lazy import attach

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

__all__, __getattr__, __dir__ = attach(__name__, _PUBLIC)
