"""Datasets: published, local and simulated recordings, as MOABB datasets and as plain arrays.

Every dataset gives plain arrays by its method ``arrays`` and, except the corpora with a published split
(`HMCSleep`, `SHUMotorImagery`, `SeedVEmotions`, `TUHEvents`), goes into MOABB's paradigms and evaluations. Data
are read or downloaded lazily.
"""

from .._lazy import attach

_PUBLIC = {
    "GraspImagery": "grasp",
    "HMCSleep": "hmc_sleep",
    "LocalDataset": "local",
    "MotorSimulation": "simulation.motor",
    "PhysionetMotor": "physionet",
    "RecordingStore": "store",
    "SHUMotorImagery": "shu_motor",
    "SeedVEmotions": "seed_v",
    "SimulatedMotorExecution": "simulation.moabb_datasets",
    "SimulatedMotorImagery": "simulation.moabb_datasets",
    "TUHEvents": "tuh_events",
    "Truth": "simulation.motor",
    "load_arrays": "base",
}

__all__, __getattr__, __dir__ = attach(__name__, _PUBLIC)
