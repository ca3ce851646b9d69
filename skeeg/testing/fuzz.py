"""Random calls, each fully given by its seed, of the transformers and of EEGArray."""

import contextlib

import numpy as np

from ..array import EEGArray, as_eeg, make_domains
from .corpus import bad_inputs
from .judging import ANSWER, CLEAR, argument_names, judge, same_attributes

NAMES = ("C3", "Cz", "C4", "Pz", "Fz", "T7")
VALUES = (None, True, 0, 1, -1, 3, 2.5, 1e9, -0.5, np.nan, np.inf, "x", "auto", "", (), (1,), (8.0, 30.0), ("C3", "C4"),
          (1, "x"), np.float32(4), np.int64(2), [8, 12], {})  # fmt: skip


def transformers():
    """Small instances of the transformers that take trials and give trials or features, without training.

    Returns
    -------
    steps : list of EEGTransformer
        Not fitted.

    Examples
    --------
    >>> from skeeg.testing.fuzz import transformers
    >>> len(transformers()) > 10
    True
    """
    from .. import (
        CSP,
        AverageReference,
        BandPass,
        ChannelTemplate,
        EuclideanAlignment,
        FilterBank,
        Notch,
        Resample,
        RiemannianAlignment,
    )
    from ..restoration import LowRankCompletion, SplineInterpolation, TimeInterpolation

    return [
        AverageReference(), BandPass(), BandPass(method="iir"), Notch(method="iir"), Resample(64.0),
        FilterBank(((8, 12), (12, 16))), ChannelTemplate(("C3", "CP3")), EuclideanAlignment(),
        EuclideanAlignment(on_unseen="running"), RiemannianAlignment(), CSP(2), CSP(2, transform_into="csp_space"),
        SplineInterpolation(), TimeInterpolation(), LowRankCompletion(2),
    ]  # fmt: skip


def fuzz_call(seed):
    """Make one random call.

    Parameters
    ----------
    seed : int
        What decides everything about it.

    Returns
    -------
    row, what, outcome, told : str
        Class, arguments, what became of it, and the error.

    Examples
    --------
    >>> from skeeg.testing.fuzz import fuzz_call
    >>> fuzz_call(1) == fuzz_call(1)
    True
    """
    rng = np.random.default_rng(seed)
    return _fuzz_array(rng) if rng.random() < 0.3 else _fuzz_step(rng)


def _fuzz_step(rng):
    """Fit and apply a transformer with random parameters, trials and targets; whatever is refused changes nothing."""
    steps = transformers()
    step = steps[rng.integers(len(steps))]
    names = [name for name in step.get_params(deep=False) if name != "estimator"]
    changes = {}
    if names and rng.random() < 0.5:
        changes = {str(name): VALUES[rng.integers(len(VALUES))] for name in rng.choice(names, rng.integers(1, 3))}
        step.set_params(**changes)
    X, what = _trials(rng)
    y = np.arange(len(X) if isinstance(X, np.ndarray) and X.ndim else 4) % 2
    before, row = dict(vars(step)), type(step).__name__
    told_names = argument_names(step)
    outcome, told = judge(lambda: step.fit(X, y) and None, told_names)
    what = f"{changes} fit {what}"
    if outcome in (CLEAR, "unclear error") and not same_attributes(step, before):
        return row, what, "changed state", told
    if outcome != ANSWER:
        return row, what, outcome, told
    before = dict(vars(step))
    Z, again = (X, "the same") if rng.random() < 0.5 else _trials(rng)
    n_trials = len(Z) if isinstance(Z, np.ndarray) and Z.ndim else None
    outcome, told = judge(lambda: [step.transform(Z)], told_names, n_trials)
    return row, f"{what}, transform {again}", outcome if same_attributes(step, before) else "changed state", told


def _trials(rng):
    """Trials of a random shape, two in three of them good, and what they are."""
    n_trials, n_channels, n_times = rng.integers(1, 9), rng.integers(1, 5), rng.choice([1, 2, 30, 100, 300])
    data = 10.0 ** rng.integers(-3, 5) * rng.standard_normal((n_trials, n_channels, n_times))
    if rng.random() < 0.3:
        data = data.astype(np.float32)
    X = EEGArray(data, NAMES[:n_channels], rng.choice([100.0, 128.0]))
    if rng.random() < 0.4:
        X = X.like(X, domains=make_domains(n_trials, subject=np.arange(n_trials) % 2))
    if rng.random() < 2 / 3:
        return X, f"{X!r}"
    corpus = {name: bad for name, bad in bad_inputs().items() if bad.stage != "fit"}
    name = list(corpus)[rng.integers(len(corpus))]
    with contextlib.suppress(IndexError):  # there is no second trial or channel to spoil
        return corpus[name].make(X, np.arange(n_trials))[0], f"{name} of {X!r}"
    return X, f"{X!r}"


def _fuzz_array(rng):
    """Build, slice, combine or read an EEGArray at random; what is kept of the identity fits the values."""
    X, what = _trials(rng)
    kind = rng.integers(3)
    if kind == 0:
        names = ("data", "ch_names", "sfreq", "domains")
        identity = {str(name): VALUES[rng.integers(len(VALUES))] for name in rng.choice(names[1:], rng.integers(1, 4))}
        outcome, told = judge(lambda: _consistent(EEGArray(X, **identity)), names)
        return "EEGArray", f"{identity} of {what}", outcome, told
    if kind == 1 or not isinstance(X, EEGArray):
        outcome, told = judge(lambda: _consistent(as_eeg(X)), ("X",))
        return "as_eeg", what, outcome, told
    key = _key(rng, X.shape)
    try:
        wanted = np.asarray(X)[key]
    except (IndexError, ValueError):
        return "EEGArray slices", f"{key}", CLEAR, ""  # not NumPy's either
    outcome, told = judge(lambda: _consistent(X[key], wanted), ("X",))
    return "EEGArray slices", f"{key} of {what}", outcome, told


def _consistent(X, wanted=None):
    """Raise where an EEGArray says something of itself that its values contradict."""
    if wanted is not None and not np.array_equal(np.asarray(X), wanted, equal_nan=True):
        raise AssertionError("other values than NumPy's")
    if isinstance(X, EEGArray):
        if X.ch_names is not None and len(X.ch_names) != X.shape[1]:
            raise AssertionError("names and channels differ")
        if X.domains is not None and len(X.domains) != len(X):
            raise AssertionError("domains and trials differ")
        repr(X), X._repr_html_(), X.copy()


def _key(rng, shape):
    """Index of one to three axes."""
    parts = []
    for n in shape[: rng.integers(1, 4)]:
        parts.append(
            [
                slice(*(None if rng.random() < 0.5 else int(rng.integers(-n - 1, n + 2)) for _ in range(2))),
                int(rng.integers(-n, n or 1)),
                rng.integers(-n, n or 1, rng.integers(0, 4)).tolist(),
                rng.random(n) < 0.5,
                Ellipsis,
                None,
            ][rng.choice(6, p=[0.4, 0.15, 0.2, 0.15, 0.05, 0.05])]
        )
    return tuple(parts)
