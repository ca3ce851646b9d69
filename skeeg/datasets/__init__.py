"""Datasets: published, local and simulated recordings, as MOABB datasets and as plain arrays.

Every dataset gives plain arrays by its method ``arrays`` and, except the corpora with a published split
(`HMCSleep`, `SHUMotorImagery`, `SeedVEmotions`, `TUHEvents`), goes into MOABB's paradigms and evaluations. Data
are read or downloaded lazily.
"""

from .._lazy import attach

_PUBLIC = {
    "GraspImagery": "movements",
    "HMCSleep": "corpora",
    "LocalDataset": "local",
    "MotorSimulation": "simulation.motor",
    "PhysionetMotor": "movements",
    "RecordingStore": "store",
    "SHUMotorImagery": "corpora",
    "SeedVEmotions": "corpora",
    "SimulatedMotorExecution": "simulation.moabb_datasets",
    "SimulatedMotorImagery": "simulation.moabb_datasets",
    "TUHEvents": "corpora",
    "Truth": "simulation.motor",
    "load_arrays": "base",
}

__all__, __getattr__, __dir__ = attach(__name__, _PUBLIC)
