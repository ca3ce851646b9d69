"""A test kit for EEG estimators, of skeeg or not.

`check_eeg_estimator` runs every check in one call, `eeg_checks` lists them for pytest, `instance` builds small
instances of skeeg's own estimators and `public_estimators` lists these. `bad_inputs` is the corpus of bad trials and
targets, `hostile_checkpoints` writes files that no reader may trust, and ``python -m skeeg.testing.attack`` tries both
and random calls on the whole package.
"""

from .bad_input import BadInput, bad_inputs, bad_parameters
from .checks import GROUPS, EEGCheck, check_eeg_estimator, eeg_checks
from .recordings import Recording, instance, public_estimators

__all__ = [
    "GROUPS",
    "BadInput",
    "EEGCheck",
    "Recording",
    "bad_inputs",
    "bad_parameters",
    "check_eeg_estimator",
    "eeg_checks",
    "hostile_checkpoints",
    "instance",
    "public_estimators",
]


def __getattr__(name):
    """Import what needs torch when it is asked for."""
    if name == "hostile_checkpoints":
        from .hostile import hostile_checkpoints

        return hostile_checkpoints
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
