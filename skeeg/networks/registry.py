"""Networks by name, and what each of them needs to be built.

A network is named as braindecode names it (``"EEGNet"``, ``"ShallowFBCSPNet"``, ...), as skeeg names its own
(``"ADFCNN"``), or given as a class. braindecode is heavy and is imported only when a name is looked up.
"""

import bisect
import contextlib
import difflib
import functools
import importlib
import inspect
import re
import warnings

import torch
from torch import nn

from ..positions import standard_montage
from .seeding import seeded

_SIGNALS = ("n_chans", "n_times", "n_outputs", "sfreq", "chs_info")
# Modules of skeeg's own networks, imported on request.
_OWN = {
    "ADFCNN": "skeeg.networks.adfcnn",
    "BEIRA": "skeeg.methods.beira.network",
    "BEIRAManyToOne": "skeeg.methods.beira.network",
    "CTAdaptTLNet": "skeeg.methods.ct_adapttl.network",
    "Gram": "skeeg.methods.gram.network",
    "MIRepNet": "skeeg.methods.mirepnet.network",
    "SharedBEIRA": "skeeg.methods.beira.network",
}

_DURATION = re.compile(r"(\d*\.?\d+) ?s")

# BENDR has a montage of its own and refuses any other description of the channels, though it takes any number of them.
_REFUSE_MONTAGE = frozenset({"BENDR"})
_HINTS = {
    "Labram": "It takes LaBraM's own 128 electrodes only; 'InterpolatedLaBraM' takes any montage.",
    "REVE": "It downloads electrode positions from the hub when it is built.",
    "BENDR": "'InterpolatedBENDR' maps any montage to BENDR's own.",
    "AttnSleep": "Its d_model must be the number of steps its feature extractor gives; set d_model to that number.",
}
# Lengths that minimum_times tries: powers of two, and multiples of 200 for the networks that cut seconds at 200 Hz.
_LENGTHS = tuple(sorted({2**k for k in range(16)} | {200 * 2**k for k in range(8)}))


@contextlib.contextmanager
def _quiet():
    """Suppress braindecode's warnings about its own changes and about sizes it adapts."""
    import mne

    with warnings.catch_warnings(), mne.use_log_level("error"):
        warnings.simplefilter("ignore")
        yield


@functools.cache
def _braindecode_networks():
    with _quiet():
        from braindecode.models.util import interpolated_models_dict, models_dict

        importlib.import_module("braindecode.models")
    return {**models_dict, **interpolated_models_dict}


def network_names():
    """Names of all networks that :func:`get_network` knows, sorted: braindecode's, its interpolating variants, skeeg's.

    Examples
    --------
    >>> "EEGNet" in network_names() and "ADFCNN" in network_names()
    True
    """
    return tuple(sorted({*_braindecode_networks(), *_OWN}))


def get_network(network):
    """Class of a network given by name, one of :func:`network_names`, or as a subclass of torch.nn.Module.

    Examples
    --------
    >>> get_network("EEGNet").__name__
    'EEGNet'
    """
    if isinstance(network, type) and issubclass(network, nn.Module):
        return network
    if not isinstance(network, str):
        raise TypeError(f"network must be a name or a torch.nn.Module class, got {type(network).__name__}: {network!r}")
    if network in _OWN:
        return vars(importlib.import_module(_OWN[network]))[network]
    known = _braindecode_networks()
    if network in known:
        return known[network]
    lower = {name.lower(): name for name in network_names()}
    near = difflib.get_close_matches(network.lower(), lower, n=5, cutoff=0.5)
    offer = ", ".join(repr(lower[name]) for name in near) or "see skeeg.networks.network_names()"
    raise ValueError(f"network: {network!r} is not known; nearest names: {offer}")


def register_with_braindecode(*networks):
    """Let braindecode find networks by name, as in ``EEGClassifier("ADFCNN")``; not called at import.

    Parameters
    ----------
    *networks : subclass of braindecode.models.base.EEGModuleMixin
        Classes to add beside skeeg's own.

    Examples
    --------
    >>> register_with_braindecode()
    ('ADFCNN', 'BEIRA', 'BEIRAManyToOne', 'CTAdaptTLNet', 'Gram', 'MIRepNet', 'SharedBEIRA')
    """
    _braindecode_networks()
    from braindecode.models.util import models_dict

    classes = {name: get_network(name) for name in _OWN} | {cls.__name__: cls for cls in networks}
    for name, cls in classes.items():
        if models_dict.get(name, cls) is not cls:
            raise ValueError(f"braindecode already has another network named {name!r}: {models_dict[name]}")
        models_dict[name] = cls
    return tuple(classes)


def channel_info(ch_names):
    """Describe channels by name as ``mne.Info["chs"]`` does, with positions of MNE's ``standard_1005``.

    Names may be in any case ("FP1" is "Fp1"). ``loc[:3]`` of a description is the position in metres, in the head
    frame; NaN where ``standard_1005`` lacks the name.

    Examples
    --------
    >>> info = channel_info(["FP1", "Cz"])
    >>> info[0]["ch_name"], info[1]["loc"].shape
    ('Fp1', (12,))
    """
    import mne

    known, described = _standard_channels(), []
    for name in ch_names:
        channel = known.get(name.lower()) or mne.create_info([name], 1.0, "eeg", verbose="error")["chs"][0]
        described.append({**channel, "loc": channel["loc"].copy()})
    return described


@functools.cache
def _standard_channels():
    """Descriptions of all electrodes of MNE's largest standard montage, by name in lower case."""
    import mne

    montage = standard_montage()
    info = mne.create_info(montage.ch_names, 1.0, "eeg", verbose="error")
    info.set_montage(montage, verbose="error")
    return {channel["ch_name"].lower(): channel for channel in info["chs"]}


def required_signals(network):
    """Signal parameters that a network cannot be built without, tuple of str.

    Those without a default, or that braindecode calls mandatory: some of ``n_chans``, ``n_times``, ``n_outputs``,
    ``sfreq`` and ``chs_info``.
    """
    cls = get_network(network)
    parameters = inspect.signature(cls.__init__).parameters
    needed = {name for name in _SIGNALS if name in parameters and parameters[name].default is inspect.Parameter.empty}
    if _braindecode_networks().get(cls.__name__) is cls:
        from braindecode.models.util import models_mandatory_parameters

        needed.update(*(required for name, required, _ in models_mandatory_parameters if name == cls.__name__))
    return tuple(name for name in _SIGNALS if name in needed)


def signal_kwargs(network, **given):
    """Signal parameters for a network's constructor, dict: those that it takes and that are known."""
    cls = get_network(network)
    wish = {"sfreq": "the sampling rate, sfreq", "chs_info": "the electrode names, ch_names"}
    missing = [wish.get(name, name) for name in required_signals(cls) if given.get(name) is None]
    if missing:
        raise ValueError(f"{cls.__name__} needs {' and '.join(missing)}; none was given and the data carry none")
    if cls.__name__ in _REFUSE_MONTAGE:
        given["chs_info"] = None
    parameters = inspect.signature(cls.__init__).parameters
    return {name: value for name, value in given.items() if value is not None and name in parameters}


def _in_samples(name, value, sfreq):
    """Turn a duration such as ``"0.5 s"`` into samples, at least one; anything else stays."""
    duration = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if duration is None:
        return value
    if sfreq is None:
        raise ValueError(f"{name}: {value!r} needs the sampling rate, sfreq; none was given and the data carry none")
    return max(1, round(float(duration[1]) * sfreq))


def build_network(network, *, n_chans, n_times, n_outputs, sfreq=None, ch_names=None, parameters=None):
    """Build a network for given signals, initialised from torch's global random state, in training mode.

    ``network`` is a name or a class; ``ch_names`` are for the networks that use positions. ``parameters`` are further
    arguments of the constructor; a duration, ``{"kernel_length": "0.5 s"}``, becomes samples at ``sfreq``.

    Examples
    --------
    >>> build_network("EEGNet", n_chans=3, n_times=500, n_outputs=2, parameters={"F1": 4}).F1
    4
    """
    cls = get_network(network)
    parameters = {name: _in_samples(name, value, sfreq) for name, value in (parameters or {}).items()}
    _check_parameters(cls, parameters)
    chs_info = None
    if ch_names is not None and "chs_info" in inspect.signature(cls.__init__).parameters:
        chs_info = channel_info(ch_names)
    signals = signal_kwargs(cls, n_chans=n_chans, n_times=n_times, n_outputs=n_outputs, sfreq=sfreq, chs_info=chs_info)
    with _quiet():
        try:
            return _construct(cls, signals | parameters).train()
        except Exception as error:
            if cls.__name__ in _HINTS:
                error.add_note(_HINTS[cls.__name__])
            raise


def _check_parameters(cls, parameters):
    """Refuse a constructor argument that the network does not have, offering the nearest."""
    own = inspect.signature(cls.__init__).parameters
    known = set(own)
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in own.values()):
        if _braindecode_networks().get(cls.__name__) is not cls:
            return
        # The interpolating variants pass the rest to the network they inherit from.
        known.update(*(inspect.signature(base.__init__).parameters for base in cls.__mro__[1:-1]))
    for name in parameters:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3) or sorted(known - {"self", "args", "kwargs", *_SIGNALS})
            raise ValueError(f"{cls.__name__} has no parameter {name!r}; it has {', '.join(near)}")


def _construct(cls, arguments):
    """Build the class, also where braindecode's merged front layer cannot take one electrode."""
    if arguments.get("n_chans") == 1 and cls.__name__ in {"ShallowFBCSPNet", "Deep4Net"}:
        from .fast.accelerate import one_electrode

        return one_electrode(cls, arguments)
    return cls(**arguments)


def minimum_times(network, *, n_chans, n_outputs=2, sfreq=None, ch_names=None, parameters=None):
    """Smallest number of samples that a network accepts; parameters as of :func:`build_network`.

    The network is run on noise at growing lengths until one is accepted, then by bisection. A length is accepted if the
    output is finite in training and in evaluation. Results are cached; torch's global random state is left as it was. A
    `ValueError` says so if no length up to 32768 samples is accepted.

    Examples
    --------
    >>> minimum_times("EEGNet", n_chans=3)
    27
    """
    signals = {"n_chans": n_chans, "n_outputs": n_outputs, "sfreq": sfreq}
    signals |= {"ch_names": ch_names, "parameters": parameters}
    key = get_network(network), repr(signals)
    if key not in _found_times:
        _found_times[key] = _search_times(key[0], signals)
    return _found_times[key]


_found_times = {}


def _search_times(cls, signals):
    low = 0
    for high in _LENGTHS:
        error = _refusal(cls, high, signals)
        if error is None:
            break
        low = high
    else:
        n_chans = signals["n_chans"]
        raise ValueError(f"{cls.__name__} accepts no length up to {low} samples at {n_chans} channels") from error
    return bisect.bisect_left(range(high), True, low + 1, key=lambda n_times: _refusal(cls, n_times, signals) is None)


def _refusal(cls, n_times, signals):
    """Error that a network raises at a length, or None where it works."""
    with seeded(0), torch.no_grad(), _quiet():
        try:
            module = build_network(cls, n_times=n_times, **signals)
            x = torch.randn(2, signals["n_chans"], n_times)
            finite = all(bool(torch.isfinite(module.train(mode)(x)).all()) for mode in (True, False))
        except Exception as error:  # noqa: BLE001 - a network may refuse a length in any way it likes
            return error
    return None if finite else ValueError(f"{cls.__name__} gives values that are not finite at {n_times} samples")
