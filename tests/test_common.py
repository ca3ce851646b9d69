"""Every check of the test kit on a small instance of every public estimator, one test a check."""

import pytest

from skeeg.testing import eeg_checks, instance, public_estimators

# {class name: {check name: reason}}
EXPECTED_FAILURES = {}


def _cases():
    for estimator in public_estimators():
        expected = EXPECTED_FAILURES.get(estimator.__name__, {})
        for check in eeg_checks(instance(estimator)):
            reason = expected.get(check.name)
            marks = [] if reason is None else [pytest.mark.xfail(reason=reason, strict=True)]
            yield pytest.param(estimator, check, id=f"{estimator.__name__}-{check.name}", marks=marks)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("estimator", "check"), _cases())
def test_public_estimator(estimator, check):
    check(instance(estimator))


def test_expected_failures_name_checks_that_exist():
    known = {cls.__name__: {check.name for check in eeg_checks(instance(cls))} for cls in public_estimators()}
    for estimator, checks in EXPECTED_FAILURES.items():
        assert set(checks) <= known[estimator]
