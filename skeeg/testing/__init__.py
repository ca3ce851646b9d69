"""A test kit for EEG estimators, skeeg's and anybody's.

`check_eeg_estimator` runs every check in one call, `eeg_checks` lists them for pytest, `instance` builds small
instances of skeeg's own estimators, `public_estimators` lists these, and `hostile_checkpoints` writes files that no
reader may trust.
"""

from .checks import GROUPS, EEGCheck, check_eeg_estimator, eeg_checks
from .instances import instance, public_estimators
from .recordings import Recording

__all__ = [
    "GROUPS",
    "EEGCheck",
    "Recording",
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
