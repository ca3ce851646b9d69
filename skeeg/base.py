"""What every estimator shares: reading and checking input, labels, targets, seeds, saving.

An estimator reads its input with `EEGEstimator._check_eeg`, which accepts all that `as_eeg` accepts, applies
scikit-learn's own checks (so ``check_estimator`` passes although EEG has three axes) and compares montage and rate with
those seen at fit. Two axes (n, f), which scikit-learn's checks use, are read as (n, 1, f).
"""

import difflib
import functools
import inspect
import math
import os
import pathlib
import re
import sys
import warnings
from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin, TransformerMixin
from sklearn.preprocessing import LabelEncoder
from sklearn.utils import TransformerTags, check_random_state
from sklearn.utils._param_validation import Interval, InvalidParameterError, StrOptions, validate_parameter_constraints
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_feature_names_in, check_array, check_is_fitted, validate_data

from . import storage
from .array import EEGArray, as_eeg, as_numbers, bad_channels, is_epochs, is_windows, window_targets

FLOATS = (np.float64, np.float32)
_LARGEST = 1e140  # the square of a larger value, summed over trials, is not finite
_PACKAGE = str(pathlib.Path(__file__).parent)
_LEARNING = ("fit", "fit_runs", "fit_transform", "partial_fit", "pretrain", "update")


def _atomic(method):
    """Make a method check the parameters first, and undo what it did to the attributes when it raises.

    What an attribute holds is not copied: a method that learns binds new values and changes none in place.
    """

    @functools.wraps(method)
    def learn(self, *args, **kwargs):
        before = vars(self).copy()
        try:
            self._check_parameters()
            if is_windows(args[0] if args else kwargs.get("X")):
                args, kwargs = _read_windows(method, args, kwargs)
            return method(self, *args, **kwargs)
        except BaseException:  # Ctrl-C during a training does not come here: what it reached is kept
            vars(self).clear()
            vars(self).update(before)
            raise

    return learn


def _read_windows(method, args, kwargs):
    """Arguments of a method with the trials of braindecode's windows and, where none are given, their targets."""
    call = inspect.signature(method).bind_partial(None, *args, **kwargs)
    windows, names = call.arguments["X"], call.signature.parameters
    call.arguments["X"] = as_eeg(windows)
    if "y" in names and call.arguments.get("y") is None:
        call.arguments["y"] = window_targets(windows)
    return call.args[1:], call.kwargs


class EEGEstimator(BaseEstimator):
    """Base of all estimators: input checks, tags, saving.

    The methods that learn (``fit``, ``fit_runs``, ``fit_transform``, ``partial_fit``, ``pretrain``, ``update``) check
    the parameters first, and when they raise, the estimator is as it was before the call. Given windows of braindecode
    without ``y``, they take the targets of these.

    Class attributes for subclasses: ``_any_length`` (another number of samples than at fit is fine), ``_any_montage``
    (other channels than at fit are fine), ``_any_rate`` (another sampling rate than at fit is fine),
    ``_parameter_constraints`` (what parameters may be, in the manner of scikit-learn, beside those of the bases),
    ``_feature_names`` (method that names what `transform` gives, if these are features and no trials),
    ``_preserves_dtype`` (types of X that `transform` keeps; None without `transform`), ``_network_alone`` (whether it
    predicts by its network alone, which `skeeg.explain` explains).
    """

    _any_length = False
    _any_montage = False
    _any_rate = False
    _feature_names = _preserves_dtype = None
    _network_alone = True
    _may_be_infinite = ()  # fitted attributes that may hold NaN
    ch_names = sfreq = None  # identity of trials without their own, where the constructor has these parameters
    _parameter_constraints = {  # what parameters of these names may be, whatever the estimator
        "adapt_params": [dict, None],
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
        "ch_names": [tuple, list, np.ndarray, None],
        "checkpoint": [str, os.PathLike, None],
        "device": [str],
        "learning_rate": [Interval(Real, 0, None, closed="left"), None],
        "log": ["boolean", None],
        "max_epochs": [Interval(Integral, 0, None, closed="left"), None],
        "network": [str, type],
        "network_params": [dict, None],
        "order": [Interval(Integral, 1, None, closed="left")],
        "pretrain_params": [dict, None],
        "patience": [Interval(Integral, 1, None, closed="left"), None],
        "random_state": ["random_state"],
        "recipe_params": [dict, None],
        "resample": [Interval(Real, 0, 1e6, closed="right"), StrOptions({"auto"}), None],
        "specific_params": [dict, None],
        "sfreq": [Interval(Real, 0, None, closed="neither"), None],
        "sfreq_out": [Interval(Real, 0, 1e6, closed="right"), None],
        "template": [str, tuple, list, np.ndarray, None],
        "validation_size": [Interval(Real, 0, 1, closed="neither")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
    }

    def __init_subclass__(cls, **kwargs):
        """Inherit what parameters may be, and make the methods that learn leave no half-fitted estimator behind."""
        super().__init_subclass__(**kwargs)
        if "_parameter_constraints" in vars(cls):
            cls._parameter_constraints = super(cls, cls)._parameter_constraints | cls._parameter_constraints
        for name in _LEARNING:
            if name in vars(cls):
                setattr(cls, name, _atomic(vars(cls)[name]))

    def __sklearn_tags__(self):
        """Declare three axes beside two: with 3-D alone scikit-learn's checks would be off."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        tags.input_tags.three_d_array = True
        if self._preserves_dtype is not None:
            tags.transformer_tags = TransformerTags(preserves_dtype=list(self._preserves_dtype))
        return tags

    def set_params(self, **params):
        """Set parameters; ``network_params__n_filters=8`` sets one entry of a dict and leaves the others.

        So does ``recipe__weight_decay=0.1``, also where the recipe is a name.

        Examples
        --------
        >>> from skeeg import NetworkClassifier
        >>> clf = NetworkClassifier(network_params={"F1": 4, "D": 1})
        >>> clf.set_params(network_params__D=2).network_params
        {'F1': 4, 'D': 2}
        """
        for name in list(params):
            outer, _, inner = name.partition("__")
            if inner and (outer.endswith("_params") or outer == "recipe") and outer in self._get_param_names():
                now = params.get(outer, vars(self)[outer]) or {}
                now = now if isinstance(now, dict) else {"name": now} if isinstance(now, str) else vars(now)
                params[outer] = {**now, inner: params.pop(name)}
        return super().set_params(**params)

    def set_output(self, *, transform=None):
        """Choose the container of features that `transform` gives, as in scikit-learn; trials stay `EEGArray`."""
        if transform is not None:
            self._sklearn_output_config = {"transform": transform}
        return self

    @available_if(lambda self: self._feature_names is not None)
    def get_feature_names_out(self, input_features=None):
        """Names of the features, ndarray of str, shape (n_features_out,)."""
        check_is_fitted(self)
        _check_feature_names_in(self, input_features, generate_names=False)
        return np.array(self._feature_names(), dtype=object)

    def save(self, path):
        """Write the fitted estimator to one safetensors file, its settings as JSON inside."""
        storage.save(self, path)

    @classmethod
    def load(cls, path, params=None):
        """Read an estimator written by `save`; nothing in the file is executed."""
        return storage.load(path, params=params, cls=cls)

    def _check_parameters(self):
        """Refuse invalid parameters by name."""
        check_values(self._parameter_constraints, self.get_params(deep=False))

    def _check_eeg(self, X, y="no_validation", *, reset, dtype=FLOATS, **checks):
        """Check the input; give trials (n_trials, n_channels, n_times), with `y` given the tuple (X, y).

        ``reset`` is True in fit: channels, samples, names and rate are kept; else they are compared with those, and the
        estimator must be fitted. Types other than ``dtype`` are cast to its first. ``checks`` are
        ``ensure_all_finite``, ``multi_output`` and ``y_numeric`` of scikit-learn.
        """
        if not reset and "n_features_in_" not in vars(self):
            check_is_fitted(self)
        if is_epochs(X):
            X = as_eeg(X)
        elif isinstance(X, np.ma.MaskedArray):
            X = as_numbers(X, "X")
        identity = X if isinstance(X, EEGArray) and X.ndim == 3 else None  # a view of another shape has none
        plain = X.view(np.ndarray) if isinstance(X, EEGArray) else X
        checked, is_kept = plain, _is_kept(plain, dtype)
        if is_kept and checks.get("ensure_all_finite", True) and math.isfinite(np.vdot(plain, plain)):
            checks["ensure_all_finite"] = False  # all are: one look where scikit-learn takes several
        # For one trial the full check takes as long as an alignment or a CSP.
        is_sound = is_kept and not checks.get("ensure_all_finite", True) and plain.ndim == 3
        if reset or not _is_none(y) or not is_sound or plain.shape[1] != self.n_features_in_:
            try:
                checked = self._check_in_full(plain, identity, y, reset, dtype, checks)
            except (TypeError, ValueError) as error:
                kind = TypeError if isinstance(error, TypeError) else ValueError
                raise kind(self._explain(error, X, y, reset)) from error
        data, *rest = checked if isinstance(checked, tuple) else (checked,)
        data = as_eeg(data if identity is None else identity.like(data), self.ch_names, self.sfreq)
        if data.size == 0:  # scikit-learn looks at the second axis of matrices only
            raise ValueError(f"X: at least one trial, channel and sample are needed, got shape {data.shape}.")
        if reset:
            self.n_times_in_, self.ch_names_in_, self.sfreq_in_ = data.shape[2], data.ch_names, data.sfreq
        else:
            self._compare(data)
        return (data, *rest) if rest else data

    def _check_in_full(self, plain, identity, y, reset, dtype, checks):
        """Scikit-learn's checks of the trials and, where given, of the targets."""
        if self._any_montage and not reset and identity is not None and identity.ch_names is not None:
            # the step itself maps the names; without names the number of channels must agree
            checked = check_array(plain, dtype=dtype, allow_nd=True, estimator=self, input_name="X", **checks)
        else:
            checked = validate_data(self, plain, y, reset=reset, dtype=dtype, allow_nd=True, **checks)
        data = checked[0] if isinstance(checked, tuple) else checked
        if checks.get("ensure_all_finite", True) is True:
            largest = max(float(data.max(initial=0)), -float(data.min(initial=0)))
            if largest > _LARGEST:
                raise ValueError(f"X: values of up to {largest:.0e}; expected microvolts.")
        return checked

    def _explain(self, error, X, y, reset):
        """Message of scikit-learn's checks with the name of the argument, and with what to do about bad channels."""
        if hasattr(X, "annotations"):
            return f"X: got a {type(X).__name__}, expected trials; mne.Epochs cuts a recording into trials."
        text = str(error)
        if not re.search(r"\b[Xy]\b", text):
            text = f"X: {text}" if _is_none(y) else f"X, y: {text}"
        shape = np.shape(X) if isinstance(X, np.ndarray) else ()
        if "Input X contains NaN" in text and (bads := bad_channels(X)):
            return (
                f"X: channel {', '.join(map(str, bads))} is bad or missing (NaN): drop it, or restore it with "
                f"skeeg.restoration.SplineInterpolation, before {type(self).__name__}. Input X contains NaN."
            )
        if len(shape) == 2 and not reset and shape[0] == vars(self).get("n_features_in_"):
            return f"{text} One trial? Use X[None]."
        return text

    def _compare(self, X):
        """Refuse trials of another length, montage or rate than at fit."""
        name = type(self).__name__
        if not self._any_length and X.shape[2] != self.n_times_in_:
            raise ValueError(f"X: {X.shape[2]} samples a trial, but {name} was fitted on {self.n_times_in_}.")
        if not self._any_montage and _differ(X.ch_names, self.ch_names_in_):
            odd = [
                f"{new} in place of {old}" for new, old in zip(X.ch_names, self.ch_names_in_, strict=True) if new != old
            ]
            raise ValueError(f"X: another montage than {name} was fitted on ({', '.join(odd[:3])}).")
        if not self._any_rate and _differ(X.sfreq, self.sfreq_in_):
            raise ValueError(f"X: sampling rate {X.sfreq} Hz, but {name} was fitted on {self.sfreq_in_} Hz.")

    def _check_labels(self, y):
        """Set ``classes_``; give the index of each trial's class, int64 (n_trials,)."""
        check_class_labels(y)
        encoder = LabelEncoder()
        indices = encoder.fit_transform(y).astype(np.int64)
        if len(encoder.classes_) < 2:
            name, only = type(self).__name__, encoder.classes_.tolist()[0]
            raise ValueError(f"y: {name} needs at least two classes, got one class: {only!r}.")
        self.classes_ = encoder.classes_
        return indices


class EEGTransformer(TransformerMixin, EEGEstimator):
    """Base of the steps that turn trials into trials or into features; float32 stays float32, trials have any length.

    A subclass learns in ``_prepare(X, y)`` and gives its output in ``_run(X)``, or has its own `fit` and `transform`.

    A step that is linear declares by ``linear_map_`` that it mixes channels (``"space"``), samples (``"time"``) or
    ``"both"``, so that `skeeg.explain` explains pipelines with it; spatial filters are in ``spatial_filters_``.
    """

    _any_length = True
    _preserves_dtype = ("float64", "float32")
    linear_map_ = None
    # not those of `TransformerMixin`, which know no steps without feature names and no types of trials
    set_output, __sklearn_tags__ = EEGEstimator.set_output, EEGEstimator.__sklearn_tags__

    def fit(self, X, y=None):
        """Fit the step to trials (n_trials, n_channels, n_times), their rate and channels."""
        self._prepare(self._check_eeg(X, reset=True), y)
        return self

    def _prepare(self, X, y):
        """Learn nothing."""

    def transform(self, X):
        """Apply the step to trials; gives (n_trials, n_channels_out, n_times_out)."""
        return self._run(self._check_eeg(X, reset=False))


class BaseEEGRegressor(RegressorMixin, EEGEstimator):
    """Base of the regressors: targets of one, two or three axes, given back in the same shape."""

    def __sklearn_tags__(self):
        """Declare that several targets are fine."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _check_eeg_and_targets(self, X, y, dtype=np.float32):
        """Check trials and targets of fit; give targets (n_trials, n_outputs), which `_shape_like_targets` undoes."""
        if y is not None:
            y = as_numbers(y, "y")
            self.target_shape_ = y.shape[1:]
            y = y.reshape(len(y), -1) if y.ndim == 3 else y
        X, targets = self._check_eeg(X, y, reset=True, dtype=dtype, multi_output=True, y_numeric=True)
        return X, np.asarray(targets, dtype=np.float64).reshape(len(X), -1)

    def _shape_like_targets(self, outputs):
        """Give predictions (n_trials, n_outputs) the shape the targets had at fit."""
        return np.asarray(outputs, dtype=np.float64).reshape(len(outputs), *self.target_shape_)


def _is_kept(X, dtype):
    """Whether an array has one of the types, and so is not cast."""
    return type(X) is np.ndarray and X.size > 0 and X.dtype in (dtype if isinstance(dtype, tuple) else (dtype,))


def _is_none(y):
    """Whether no targets were given to be checked."""
    return isinstance(y, str) and y == "no_validation"


def check_class_labels(y):
    """Refuse targets that are no class labels, by name."""
    try:
        check_classification_targets(y)
    except ValueError as error:
        raise ValueError(f"y: {error}") from error


def check_values(constraints, values):
    """Refuse invalid values by name: scikit-learn's check in the format of the package's errors."""
    try:
        validate_parameter_constraints(constraints, values, "it")
    except InvalidParameterError as error:
        parts = re.fullmatch(r"The '(\w+)' parameter of \w+ must be (.*)\. Got (.*) instead\.", str(error), re.DOTALL)
        raise ValueError("{0}: got {2}, expected {1}.".format(*parts.groups()) if parts else str(error)) from None


def refuse_unknown(argument, given, known):
    """Refuse names, a list, a dict or None, that are not among the known ones; the error offers the nearest."""
    for name in given or ():
        if name not in known:
            plain = {one.lower(): one for one in sorted(known)}
            near = difflib.get_close_matches(str(name).lower(), plain, n=3, cutoff=0.4)
            offer = ", ".join(repr(plain[one]) for one in near or plain)
            raise ValueError(f"{argument}: got {name!r}; {'nearest' if near else 'there are'}: {offer}.")


def warn(message, category=UserWarning):
    """Warn at the line that called skeeg, whatever called what since."""
    frame, level, outside = sys._getframe(), 1, 1
    while frame is not None:
        level += 1
        outside = level if frame.f_code.co_filename.startswith(_PACKAGE) else outside
        frame = frame.f_back
    warnings.warn(message, category, stacklevel=outside)


def params_named(estimator, *names):
    """Parameters of an estimator and of its steps that have one of these names, by their full names."""
    return {key: value for key, value in estimator.get_params().items() if key.rpartition("__")[2] in names}


def draw_seed(random_state):
    """One integer seed from any `random_state`."""
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


def refuse_flat(X, argument="X"):
    """Refuse trials with channels that never change, by name."""
    data = np.asarray(X)
    flat = np.flatnonzero(data.max(axis=(0, 2)) == data.min(axis=(0, 2)))
    if len(flat):
        names = ", ".join(str(X.ch_names[i] if X.ch_names else i) for i in flat[:5])
        raise ValueError(
            f"{argument}: channel {names} never changes over the {len(X)} trial(s) (dead or reference?); drop it."
        )


def _differ(now, before):
    """Whether two pieces of identity are both known and not the same."""
    return now is not None and before is not None and now != before


class AsEEG(EEGTransformer):
    """Convert trials to `EEGArray`, with sampling rate and channel names for trials without their own.

    Trials that carry their own, as `EEGArray` and `mne.Epochs`, keep them. Where the rate is unknown, it is taken to be
    ``default_sfreq``, with a warning.
    """

    linear_map_ = "space"

    def __init__(self, sfreq=None, ch_names=None, default_sfreq=None):
        self.sfreq = sfreq
        self.ch_names = ch_names
        self.default_sfreq = default_sfreq

    def _prepare(self, X, y):
        if X.sfreq is None and self.default_sfreq is not None:
            taken = f"X carries no sampling rate, taken to be {self.default_sfreq:g} Hz"
            warn(f"sfreq: {taken}; pass sfreq=..., or trials that carry theirs (in MOABB: return_epochs=True).")

    def _run(self, X):
        return X if X.sfreq is not None else X.like(X, sfreq=self.default_sfreq)
