"""The test kit: one call that runs every check on any EEG estimator."""

import dataclasses
import functools
import warnings

from sklearn.base import BaseEstimator
from sklearn.exceptions import EstimatorCheckFailedWarning
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags
from sklearn.utils._testing import SkipTest
from sklearn.utils.estimator_checks import estimator_checks_generator

from . import input_checks, protocol_checks, state_checks
from .recordings import Recording, has, kind_of, reads_eeg_array

GROUPS = ("sklearn", "input", "state", "protocols", "moabb")


@dataclasses.dataclass(frozen=True, repr=False)
class EEGCheck:
    """One check, called with an estimator: its ``name``, and its ``group`` of `GROUPS`."""

    name: str
    group: str
    function: callable

    def __call__(self, estimator):
        """Raise where the estimator does not do what is checked."""
        self.function(estimator)

    def __repr__(self):
        """Name of the check: what pytest shows."""
        return self.name


def eeg_checks(estimator, *, groups=None, only=None, recording=None):
    """Yield the checks, each an `EEGCheck`, that concern an estimator; for `pytest.mark.parametrize`.

    ``only`` lists checks by name or part of it, ``groups`` by group: ``"sklearn"`` (scikit-learn's own), ``"input"``
    (labels, Epochs, types, bad input), ``"state"`` (refit, copies, pickles, global state), ``"protocols"``
    (searches, cross-validation, YAML), ``"moabb"`` (the slowest: its evaluations). Trials have four electrodes and 128
    samples at 128 Hz, or the ``ch_names`` and ``sfreq`` of the estimator, unless a `Recording` says otherwise.

    Examples
    --------
    >>> from skeeg.alignment import EuclideanAlignment
    >>> from skeeg.testing import eeg_checks
    >>> [check.name for check in eeg_checks(EuclideanAlignment(), only="deepcopy", groups="state")]
    ['check_deepcopy']
    """
    if not isinstance(estimator, BaseEstimator):
        raise TypeError(f"estimator: expected an instance of a scikit-learn estimator, got {estimator!r}.")
    groups = GROUPS if groups is None else (groups,) if isinstance(groups, str) else tuple(groups)
    unknown = set(groups) - set(GROUPS)
    if unknown:
        raise ValueError(f"groups: got {', '.join(sorted(unknown))}, expected some of {', '.join(GROUPS)}.")
    only = None if only is None else (only,) if isinstance(only, str) else tuple(only)
    recording = Recording.suited_to(estimator) if recording is None else recording
    for group in groups:
        checks = _sklearn_checks(estimator) if group == "sklearn" else _own_checks(estimator, group, recording)
        yield from (check for check in checks if only is None or any(part in check.name for part in only))


def check_eeg_estimator(
    estimator, *, groups=None, only=None, recording=None, expected_failed_checks=None, on_fail="raise"
):
    """Check that an estimator does all that scikit-learn, MOABB, MNE and their users expect of it.

    Runs scikit-learn's own checks, and beside them: labels of any kind; Epochs, lists of Epochs, and arrays of any
    type; refit on another montage; pickle, copy, clone, save and load; the same `repr` in every process; one trial like
    a batch; the global state left alone; GridSearchCV with two jobs; MOABB's YAML files, its evaluations and every
    `CrossSubjectMode`; clear errors for bad input.

    It works for classifiers, regressors and transformers, skeeg's or not, and for pipelines of them. A network should
    be made small and given few epochs: the checks fit it some hundred times. Scikit-learn's checks have one channel
    with two to ten samples, and ask for an accuracy of 0.83 and an R2 of 0.5 on the trials of the fit.

    Parameters
    ----------
    estimator : estimator
        Instance to check; it is never fitted itself.
    groups, only, recording
        Which checks to run, and on what; see `eeg_checks`.
    expected_failed_checks : dict of str to str, or None
        Reason for each check that may fail, by its name; that of one of scikit-learn's without its arguments is enough.
    on_fail : {"raise", "warn", None}
        What to do when a check fails that is not expected to: raise its error, warn with
        `sklearn.exceptions.EstimatorCheckFailedWarning`, or only report it in the results.

    Returns
    -------
    results : list of dict
        One for each check, with ``check_name``, ``group``, ``status`` (``"passed"``, ``"failed"``, ``"xfail"`` or
        ``"skipped"``), ``exception``, ``estimator``, ``expected_to_fail`` and ``expected_to_fail_reason``.

    Examples
    --------
    >>> from skeeg.alignment import EuclideanAlignment
    >>> from skeeg.testing import check_eeg_estimator
    >>> results = check_eeg_estimator(EuclideanAlignment(), groups=("input", "state"), on_fail=None)
    >>> {result["status"] for result in results}
    {'passed'}

    One test a check, so that they can run in parallel::

        @pytest.mark.parametrize("check", eeg_checks(MyClassifier()), ids=repr)
        def test_common(check):
            check(MyClassifier())
    """
    if on_fail not in ("raise", "warn", None):
        raise ValueError(f"on_fail: got {on_fail!r}, expected 'raise', 'warn' or None.")
    expected = expected_failed_checks or {}
    results = []
    for check in eeg_checks(estimator, groups=groups, only=only, recording=recording):
        reason = expected.get(check.name, expected.get(check.name.split("(")[0]))
        result = _run(estimator, check, reason)
        results.append(result)
        if result["status"] == "failed" and on_fail == "raise":
            error = result["exception"]
            error.add_note(f"{check.name} of {type(estimator).__name__}")
            raise error
        if result["status"] == "failed" and on_fail == "warn":
            known = {name: value for name, value in result.items() if name != "group"}
            warnings.warn(EstimatorCheckFailedWarning(**known), stacklevel=2)
    return results


def _run(estimator, check, reason):
    """Run one check and give its result in the format of scikit-learn's `check_estimator`."""
    status, exception = "passed", None
    try:
        check(estimator)
    except SkipTest as error:
        status, exception = "skipped", error
    except Exception as error:  # whatever the estimator raises is reported
        status, exception = "failed" if reason is None else "xfail", error
    return {
        "estimator": estimator,
        "check_name": check.name,
        "group": check.group,
        "exception": exception,
        "status": status,
        "expected_to_fail": reason is not None,
        "expected_to_fail_reason": reason or "Check is not expected to fail",
    }


def _sklearn_checks(estimator):
    """Scikit-learn's checks, and one that fails where they are turned off."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        generated = [check for _, check in estimator_checks_generator(estimator)]
    for check in generated:
        arguments = [name if value is True else f"{name}={value}" for name, value in check.keywords.items()]
        name = check.func.__name__ + (f"({', '.join(arguments)})" if arguments else "")
        yield EEGCheck(name, "sklearn", check)
    yield EEGCheck("check_sklearn_checks_apply", "sklearn", _check_sklearn_checks_apply)


def _check_sklearn_checks_apply(estimator):
    if not get_tags(estimator).input_tags.two_d_array:
        raise AssertionError("the tag two_d_array=False turns all of scikit-learn's checks off.")


def _own_checks(estimator, group, recording):
    """Yield the checks of a group that concern this estimator."""
    if group == "moabb":  # whose paradigms have labels
        functions = [] if kind_of(estimator) == "regressor" else protocol_checks.moabb_checks()
    else:
        module = {"input": input_checks, "state": state_checks, "protocols": protocol_checks}[group]
        known = list(vars(module).items())  # a warning in another thread adds a name
        functions = [(name, one) for name, one in known if name.startswith("check_") and _concerns(name, estimator)]
    for name, function in functions:
        yield EEGCheck(name, group, functools.partial(_quietly, function, recording))


def _quietly(function, recording, estimator):
    """Run a check without the warnings of the estimator."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        function(estimator, recording)


def _concerns(name, estimator):
    """Whether a check means something for this estimator."""
    kind = kind_of(estimator)
    is_nested = any("__" in name for name in estimator.get_params())  # of estimators, YAML can express steps only
    conditions = {
        "check_labels": kind == "classifier",
        "check_target_shapes": kind == "regressor",
        "check_identity_kept": kind == "transformer" and reads_eeg_array(estimator),
        "check_save_load": has(estimator, "save", "load"),
        "check_compiled": has(estimator, "compile_inference"),
        "check_yaml": isinstance(estimator, Pipeline) or not is_nested,
        "check_subjects_routed": name == "check_subjects_routed"
        and reads_eeg_array(estimator)
        and protocol_checks.wants_subjects(estimator),
    }
    return conditions.get(name, True)
