"""EEG trials that remember where they come from.

`EEGArray` is a NumPy array of shape (n_trials, n_channels, n_times) in microvolts that carries channel names, sampling
rate and one domain record (subject, session, run) per trial. Slicing trials keeps them, so the identity of a recording
survives ``cross_val_score``, ``GridSearchCV`` and MOABB; an operation that breaks the trial axis gives a plain array.
"""

import sys

import numpy as np

DOMAIN_FIELDS = ("subject", "session", "run")
_DOMAIN_DTYPE = np.dtype([(field, object) for field in DOMAIN_FIELDS])


class EEGArray(np.ndarray):
    """Trials of EEG in microvolts with the identity of their recording.

    Build one with `make_eeg` (from an array) or `as_eeg` (from anything that holds EEG).

    Attributes
    ----------
    ch_names : tuple of str, length n_channels, or None
        Electrode names.
    sfreq : float or None
        Sampling rate in hertz.
    domains : ndarray, shape (n_trials,), or None
        Structured array with the string fields ``subject``, ``session`` and ``run``.

    Notes
    -----
    What keeps the identity: slicing (``X[:10]``, ``X[mask]``, ``X[:, picks]``, ``X[..., 100:]``), ``copy``, ``astype``,
    pickling, element-wise arithmetic, `numpy.concatenate` along the trials. Everything else returns a plain array.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.array import make_eeg
    >>> X = make_eeg(np.zeros((4, 2, 100)), ch_names=("C3", "C4"), sfreq=100)
    >>> X[:2].ch_names, type(X.mean(axis=0)).__name__
    (('C3', 'C4'), 'ndarray')
    """

    ch_names = sfreq = domains = None  # a view starts so: of another order or shape, the identity would be wrong

    def like(self, data, **changes):
        """Give `data` this array's identity, with the named parts replaced.

        Parameters
        ----------
        data : ndarray, shape (n_trials, n_channels, n_times)
            New values, one trial for each of this array's.
        **changes
            Any of ``ch_names``, ``sfreq``, ``domains``.

        Returns
        -------
        X : EEGArray, shape (n_trials, n_channels, n_times)
            A view of `data`.
        """
        identity = {"ch_names": self.ch_names, "sfreq": self.sfreq, "domains": self.domains} | changes
        return make_eeg(data, **identity)

    def __getitem__(self, key):
        """Select trials, channels or a stretch of time, with their identity."""
        result = self.view(np.ndarray)[_plain(key)]
        parts = _split_key(key)
        if parts is None or not isinstance(result, np.ndarray) or result.ndim != 3:
            return result
        trials, channels, _ = parts
        names = None if self.ch_names is None else tuple(np.asarray(self.ch_names, dtype=object)[channels])
        return make_eeg(result, names, self.sfreq, None if self.domains is None else self.domains[trials])

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **kwargs):
        """Keep the identity through element-wise arithmetic; matrix products and reductions give plain arrays."""
        if out is not None:
            kwargs["out"] = tuple(_plain(one) for one in out)
        result = getattr(ufunc, method)(*map(_plain, inputs), **_plain(kwargs))
        if out is not None:
            return out[0] if len(out) == 1 else out
        if method != "__call__" or ufunc.signature is not None or getattr(result, "dtype", None) is None:
            return result
        first, *others = [one for one in inputs if isinstance(one, EEGArray)]
        keeps = result.shape == first.shape and result.dtype.kind == "f"
        return first.like(result) if keeps and all(_same_identity(first, other) for other in others) else result

    def __array_function__(self, func, types, args, kwargs):
        """Run NumPy functions on plain arrays; only joining trials knows what becomes of the identity."""
        result = func(*_plain(args), **_plain(kwargs))
        if func is np.concatenate and (args[1] if len(args) > 1 else kwargs.get("axis", 0)) == 0:
            return _join(args[0], result)
        return result

    def copy(self, order="C"):
        """Copy values and identity."""
        return self.like(self.view(np.ndarray).copy(order))

    def astype(self, dtype, order="K", casting="unsafe", subok=True, copy=True):
        """Cast the values, keep the identity."""
        data = self.view(np.ndarray).astype(dtype, order=order, casting=casting, copy=copy)
        return self.like(data) if data.ndim == 3 and subok else data

    def __copy__(self):
        """Copy values and identity."""
        return self.copy()

    def __deepcopy__(self, memo):
        """Copy values and identity."""
        return self.copy()

    def __reduce__(self):
        """Pickle the values and the identity."""
        make, args, state = super().__reduce__()
        return make, args, (state, (self.ch_names, self.sfreq, self.domains))

    def __setstate__(self, state):
        """Restore the values and the identity."""
        values, (self.ch_names, self.sfreq, self.domains) = state
        super().__setstate__(values)

    @property
    def T(self):
        """Transposed plain array."""
        return self.view(np.ndarray).T


def _give_up(name):
    """Make the ndarray method `name` work on, and return, plain arrays."""
    plain_method = getattr(np.ndarray, name)

    def method(self, *args, **kwargs):
        return plain_method(self.view(np.ndarray), *_plain(args), **_plain(kwargs))

    method.__name__, method.__doc__ = name, plain_method.__doc__
    return method


for _name in ("transpose", "swapaxes", "reshape", "ravel", "flatten", "squeeze", "take", "repeat", "dot", "diagonal",
              "argsort", "argmax", "argmin", "compress", "choose", "cumsum", "cumprod"):  # fmt: skip
    setattr(EEGArray, _name, _give_up(_name))


def make_eeg(data, ch_names=None, sfreq=None, domains=None):
    """Wrap an array as `EEGArray`, without a copy.

    Parameters
    ----------
    data : ndarray, shape (n_trials, n_channels, n_times)
        Microvolts.
    ch_names : sequence of str, length n_channels, or None
        Electrode names.
    sfreq : float or None
        Sampling rate in hertz.
    domains : ndarray, shape (n_trials,), or None
        Structured array as made by `make_domains`.

    Returns
    -------
    X : EEGArray, shape (n_trials, n_channels, n_times)
        A view of `data`.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.array import make_domains, make_eeg
    >>> X = make_eeg(np.ones((3, 1, 8)), ["Cz"], 128, make_domains(3, subject=["a", "a", "b"]))
    >>> X[[0, 2]].domains["subject"].tolist()
    ['a', 'b']
    """
    X = np.asarray(data).view(EEGArray)
    if X.ndim != 3:
        raise ValueError(f"data: expected three axes (trials, channels, times), got shape {X.shape}.")
    if ch_names is not None:
        ch_names = tuple(str(name) for name in ch_names)
        if len(ch_names) != X.shape[1]:
            raise ValueError(f"ch_names: got {len(ch_names)} names for data with {X.shape[1]} channels.")
    if domains is not None and len(domains) != X.shape[0]:
        raise ValueError(f"domains: got {len(domains)} records for data with {X.shape[0]} trials.")
    X.ch_names, X.sfreq, X.domains = ch_names, None if sfreq is None else float(sfreq), domains
    return X


def make_domains(n_trials, subject="", session="", run=""):
    """Domain records for `n_trials` trials.

    Parameters
    ----------
    n_trials : int
        Number of trials.
    subject, session, run : str, int or sequence of them, length n_trials
        One value for all trials or one for each.

    Returns
    -------
    domains : ndarray, shape (n_trials,)
        Structured array with the string fields ``subject``, ``session`` and ``run``.

    Examples
    --------
    >>> from skeeg.array import make_domains
    >>> make_domains(2, subject=7)["subject"].tolist()
    ['7', '7']
    """
    domains = np.empty(n_trials, dtype=_DOMAIN_DTYPE)
    for field, values in zip(DOMAIN_FIELDS, (subject, session, run), strict=True):
        values = np.asarray(values)
        if values.ndim and len(values) != n_trials:
            raise ValueError(f"{field}: got {len(values)} values for {n_trials} trials.")
        domains[field] = [str(value) for value in np.broadcast_to(values, n_trials)]
    return domains


def as_eeg(X, ch_names=None, sfreq=None, subjects=None):
    """Bring whatever holds EEG trials into the one form the package works on.

    Parameters
    ----------
    X : EEGArray, mne.Epochs, list of mne.Epochs, or array-like, shape (n_trials, n_channels, n_times)
        Epochs are read in microvolts, without the channels marked bad, as MNE does; arrays are taken to be in
        microvolts. A list of one-trial Epochs is what scikit-learn makes of Epochs when it slices them. Two axes
        (n, f) are read as (n, 1, f).
    ch_names : sequence of str or None
        Electrode names, where X does not carry its own.
    sfreq : float or None
        Sampling rate in hertz, where X does not carry its own.
    subjects : sequence, length n_trials, or None
        Subject of each trial, where X does not carry domains.

    Returns
    -------
    X : EEGArray, shape (n_trials, n_channels, n_times)
        Microvolts.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg import as_eeg
    >>> as_eeg(np.zeros((5, 3, 20)), sfreq=250).sfreq
    250.0
    """
    if not isinstance(X, EEGArray):
        X = _from_epochs(X) if is_epochs(X) else np.asarray(X)
        X = X if X.ndim == 3 else make_eeg(X[:, None, :] if X.ndim == 2 else X)
    names, rate, domains = (getattr(X, part, None) for part in ("ch_names", "sfreq", "domains"))
    if domains is None and subjects is not None:
        domains = make_domains(len(X), subject=subjects)
    return make_eeg(X, ch_names if names is None else names, sfreq if rate is None else rate, domains)


def is_epochs(X):
    """Whether X is an `mne.Epochs`, or a list of them as scikit-learn makes when it slices Epochs.

    Examples
    --------
    >>> from skeeg.array import is_epochs
    >>> is_epochs([1, 2])
    False
    """
    mne = sys.modules.get("mne")  # whoever holds Epochs has imported mne; nobody else should pay for it
    if mne is None or isinstance(X, np.ndarray):
        return False
    items = X if isinstance(X, list | tuple) else [X]
    return len(items) > 0 and all(isinstance(item, mne.BaseEpochs) for item in items)


def _from_epochs(X):
    """EEGArray, in microvolts, of one Epochs object or of a list of them."""
    items = list(X) if isinstance(X, list | tuple) else [X]
    arrays = [_read_epochs(item) for item in items]
    first = arrays[0]
    for other in arrays[1:]:
        if (other.ch_names, other.sfreq, other.shape[2]) != (first.ch_names, first.sfreq, first.shape[2]):
            raise ValueError("X: the Epochs in the list differ in channels, sampling rate or length.")
    return first if len(arrays) == 1 else np.concatenate(arrays)


def _read_epochs(epochs):
    """EEGArray of one Epochs object; volts become microvolts."""
    types = set(epochs.get_channel_types())
    kind = next((kind for kind in ("eeg", "seeg", "ecog", "dbs") if kind in types), None)
    if kind is None:
        raise ValueError(f"X: the Epochs hold no EEG channel, only {', '.join(sorted(types))}.")
    import mne

    picks = mne.pick_types(epochs.info, **{kind: True})
    if not len(picks):
        raise ValueError(f"X: all {kind} channels of the Epochs are marked bad.")
    data, names = epochs.get_data(picks=picks) * 1e6, [epochs.ch_names[i] for i in picks]
    metadata, domains = epochs.metadata, None
    if metadata is not None and "subject" in metadata:
        known = {field: metadata[field].to_numpy() for field in DOMAIN_FIELDS if field in metadata}
        domains = make_domains(len(data), **known)
    return make_eeg(data, names, epochs.info["sfreq"], domains)


def _plain(value):
    """Replace every EEGArray in a nest of containers by a plain view of it."""
    if isinstance(value, EEGArray):
        return value.view(np.ndarray)
    if isinstance(value, list | tuple):
        items = [_plain(one) for one in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return value


def _split_key(key):
    """Index of trials, channels and times, or None where the key does not leave three plain axes."""
    parts = key if isinstance(key, tuple) else (key,)
    if any(part is None for part in parts):
        return None
    if any(part is Ellipsis for part in parts):
        at = next(i for i, part in enumerate(parts) if part is Ellipsis)
        parts = parts[:at] + (slice(None),) * (4 - len(parts)) + parts[at + 1 :]
    parts = parts + (slice(None),) * (3 - len(parts))
    if len(parts) != 3:
        return None
    parts = tuple(part if isinstance(part, slice) else np.asarray(part) for part in parts)
    arrays = [part for part in parts if not isinstance(part, slice)]
    if len(arrays) > 1 or any(part.ndim != 1 for part in arrays):
        return None
    steady = isinstance(parts[2], slice) and parts[2].step in (None, 1)  # another step is another sampling rate
    return parts if steady else None


def _same_identity(a, b):
    """Whether two EEGArrays describe the same trials of the same recording."""
    same_domains = a.domains is b.domains or (
        a.domains is not None and b.domains is not None and np.array_equal(a.domains, b.domains)
    )
    return a.ch_names == b.ch_names and a.sfreq == b.sfreq and same_domains


def _join(arrays, result):
    """Identity of trials put one after the other: kept where channels and rate agree."""
    first = next(one for one in arrays if isinstance(one, EEGArray))
    if not all(isinstance(one, EEGArray) for one in arrays):
        return result
    if any((one.ch_names, one.sfreq) != (first.ch_names, first.sfreq) for one in arrays):
        return result
    known = all(one.domains is not None for one in arrays)
    return first.like(result, domains=np.concatenate([one.domains for one in arrays]) if known else None)
