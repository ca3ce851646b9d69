"""Settings that every test runs under."""

import os
import signal

# One thread a process, since pytest-xdist runs several. scikit-learn checks array API input only where SciPy's
# setting allows it before its first import. With huggingface_hub installed some networks of braindecode look files up
# on the hub when they are built, and wait long where it cannot be reached.
SETTINGS = {"OMP_NUM_THREADS": "1", "MNE_LOGGING_LEVEL": "ERROR", "SCIPY_ARRAY_API": "1", "HF_HUB_OFFLINE": "1"}
for name, value in SETTINGS.items():
    os.environ.setdefault(name, value)

# A shell starts its background jobs with Ctrl-C ignored, and so would be the tests of it.
signal.signal(signal.SIGINT, signal.default_int_handler)

import hypothesis  # noqa: E402, after the settings

hypothesis.settings.register_profile("skeeg", max_examples=25, deadline=None, derandomize=True)
hypothesis.settings.load_profile("skeeg")
