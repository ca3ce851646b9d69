"""A test kit for EEG estimators, of skeeg or not.

`check_eeg_estimator` runs every check in one call, `eeg_checks` lists them for pytest, and `bad_inputs` is a corpus of
bad trials and targets.
"""

from .checks import GROUPS, EEGCheck, check_eeg_estimator, eeg_checks
from .inputs import BadInput, bad_inputs, bad_parameters
from .recordings import Recording

__all__ = [
    "GROUPS",
    "BadInput",
    "EEGCheck",
    "Recording",
    "bad_inputs",
    "bad_parameters",
    "check_eeg_estimator",
    "eeg_checks",
]
