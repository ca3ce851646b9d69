"""Every check of the test kit on a small instance of every public estimator, one test a check."""

import importlib
import pkgutil

import pytest
from instances import instance, public_estimators
from sklearn.base import BaseEstimator

import skeeg
from skeeg.base import EEGEstimator
from skeeg.evaluations import PooledTarget
from skeeg.testing import eeg_checks


def _cases():
    for estimator in public_estimators():
        for check in eeg_checks(instance(estimator)):
            yield pytest.param(estimator, check, id=f"{estimator.__name__}-{check.name}")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("estimator", "check"), _cases())
def test_public_estimator(estimator, check):
    check(instance(estimator))


def test_every_estimator_of_scikit_learns_base_is_checked():
    for module in pkgutil.walk_packages(skeeg.__path__, "skeeg."):
        importlib.import_module(module.name)
    seen, queue = set(), [BaseEstimator]
    while queue:
        queue += (cls := queue.pop()).__subclasses__()
        inner = cls.__module__.startswith(("skeeg.testing.", "skeeg.training."))  # skorch's nets are no steps
        if cls.__module__.startswith("skeeg.") and not inner:
            seen.add(cls)
    assert PooledTarget in seen
    assert {cls for cls in seen if not issubclass(cls, EEGEstimator)} <= set(public_estimators())
