"""Settings that every test runs under."""

import os
import signal

# One thread a process, since pytest-xdist runs several. scikit-learn checks array API input only where SciPy's
# setting allows it before its first import.
for name, value in {"OMP_NUM_THREADS": "1", "MNE_LOGGING_LEVEL": "ERROR", "SCIPY_ARRAY_API": "1"}.items():
    os.environ.setdefault(name, value)

# A shell starts its background jobs with Ctrl-C ignored, and so would be the tests of it.
signal.signal(signal.SIGINT, signal.default_int_handler)

import hypothesis  # noqa: E402, after the settings

hypothesis.settings.register_profile("skeeg", max_examples=25, deadline=None, derandomize=True)
hypothesis.settings.load_profile("skeeg")
