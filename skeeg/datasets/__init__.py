"""Datasets: published, local and simulated recordings, as MOABB datasets and as plain arrays.

Every dataset gives plain arrays by its method ``arrays`` and, except the corpora with a published split
(`HMCSleep`, `SHUMotorImagery`, `SeedVEmotions`, `TUHEvents`), goes into MOABB's paradigms and evaluations. Data
are read or downloaded lazily.
"""

import lazy_loader

_PUBLIC = {
    "base": ["load_arrays"],
    "corpora": ["HMCSleep", "SHUMotorImagery", "SeedVEmotions", "TUHEvents"],
    "local": ["LocalDataset"],
    "movements": ["GraspImagery", "PhysionetMotor"],
    "simulation.motor": ["MotorSimulation", "SimulatedMotorExecution", "SimulatedMotorImagery", "Truth"],
    "store": ["RecordingStore"],
}

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=_PUBLIC)
