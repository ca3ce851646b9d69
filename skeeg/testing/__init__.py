"""A test kit for EEG estimators, of skeeg or not.

`check_eeg_estimator` runs every check in one call, `eeg_checks` lists them for pytest, and `bad_inputs` is a corpus of
bad trials and targets.
"""

import lazy_loader

_PUBLIC = {
    "check_estimator": ["GROUPS", "EEGCheck", "check_eeg_estimator", "eeg_checks"],
    "input_checks": ["BadInput", "bad_inputs", "bad_parameters"],
    "recordings": ["Recording"],
}

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=_PUBLIC)
