"""The network that an estimator holds: its description, its module, its training, and how it is stored."""

import contextlib
import copy
from operator import attrgetter

import numpy as np
import torch
from sklearn.base import TransformerMixin

from ..base import warn
from ..networks import accelerate, build_network, channel_info, fold, minimum_times
from ..networks.registry import required_signals
from ..networks.seeding import seeded
from ..storage import Storable
from .checkpoints import load_checkpoint, read_weights
from .device import resolve_device
from .inference import head_features, run_batches
from .net import make_loss, make_net
from .sizes import build_within, class_of, read_sizes, settle_sizes
from .strategies import replace_head


class NetworkState(Storable):
    """Network of an estimator, which pickles, copies and is saved as its description and its tensors.

    An estimator makes one in ``fit`` and keeps it as ``network_``. A subclass overrides `build` where
    `skeeg.networks.build_network` does not build the network.

    Parameters
    ----------
    network : str, class or torch.nn.Module
        Network of the registry, a class, or an instance to copy.
    parameters : dict or None
        Arguments of its constructor.
    n_chans, n_times, n_outputs, sfreq, ch_names
        As of `skeeg.networks.build_network`. Electrodes without a standard position are left out where the network does
        not need positions.
    precision, kernels
        As in `skeeg.NetworkClassifier`.
    head : str
        Name of the last layer.

    Attributes
    ----------
    spec : dict
        Description that `build` reads: the parameters up to ``ch_names``, and ``probe_features``.
    module, net, history, report
        The network, on the CPU, in evaluation mode; the skorch net that trained it; one record an epoch; what the
        checkpoint brought.

    Examples
    --------
    >>> import numpy as np, pickle
    >>> from skeeg.training import NetworkState, Recipe, train
    >>> state = NetworkState("EEGNet", n_chans=3, n_times=128, n_outputs=2).start()
    >>> X, y = np.random.default_rng(0).normal(size=(8, 3, 128)).astype("float32"), np.arange(8) % 2
    >>> len(state.keep(train(state.module, X, y, Recipe(max_epochs=2))).history)
    2
    >>> state.forward(X).equal(pickle.loads(pickle.dumps(state)).forward(X))
    True
    """

    def __init__(
        self, network, parameters=None, *, n_chans=None, n_times=None, n_outputs=None, sfreq=None, ch_names=None,
        precision="float32", kernels="auto", head="final_layer",
    ):  # fmt: skip
        self.spec = {
            "network": network,
            "parameters": dict(parameters or {}),
            "n_chans": n_chans,
            "n_times": n_times,
            "n_outputs": n_outputs,
            "sfreq": sfreq,
            "ch_names": None if ch_names is None else _with_positions(network, ch_names),
            "probe_features": None,
        }
        self.precision, self.kernels, self.head = precision, kernels, head
        self.module = self.net = self.report = self.folded = None
        self.history = []

    @property
    def dtype(self):
        """Type of the weights and of the input, of torch."""
        return torch.float64 if self.precision == "float64" else torch.float32

    @property
    def float_type(self):
        """Type of the input, of NumPy."""
        return np.float64 if self.precision == "float64" else np.float32

    # Building

    def build(self):
        """Give a new module, as ``spec`` describes it."""
        spec = dict(self.spec)
        probe, network = spec.pop("probe_features"), spec.pop("network")
        is_instance = isinstance(network, torch.nn.Module)
        if is_instance and spec["parameters"]:
            raise ValueError(f"network_params: got {spec['parameters']}, but network is an instance, already built.")
        module = copy.deepcopy(network) if is_instance else build_network(network, **spec)
        if probe is not None:
            replace_head(module, torch.nn.Linear(probe, spec["n_outputs"]), self.head)
        return accelerate(module.to(self.dtype).eval(), self.kernels)

    def start(self):
        """Build the module; trials shorter than it accepts will be padded, with a warning; gives self."""
        try:
            self.module = self.build()
            with torch.no_grad():  # not inference_mode: what a network keeps from a call is used in training later
                outputs = self.module(torch.randn(2, self.spec["n_chans"], self.spec["n_times"]).to(self.dtype))
            if isinstance(self.spec["network"], torch.nn.Module) and outputs.shape[1] != self.spec["n_outputs"]:
                raise ValueError(f"it has {outputs.shape[1]} outputs for {self.spec['n_outputs']} classes or targets")
        except Exception as error:  # every network has errors of its own for trials that are too short
            self.spec["n_times"] = self._shortest(error)
            self.module = self.build()
        return self

    def _shortest(self, error):
        """Fewest samples that the network accepts, or its error where their number is not what is wrong."""
        n_chans, n_times, network = (self.spec[name] for name in ("n_chans", "n_times", "network"))
        cls, shortest = class_of(network), None
        if isinstance(network, str | type):
            wanted = {name: self.spec[name] for name in ("n_chans", "n_outputs", "sfreq", "parameters")}
            names = self.spec["ch_names"] if "chs_info" in required_signals(cls) else None
            with contextlib.suppress(ValueError):  # no length is accepted
                shortest = minimum_times(cls, ch_names=names, **wanted)
            if shortest is None and isinstance(error, ValueError):
                raise error
        if shortest is None or shortest <= n_times:
            what = f"trials of {n_chans} channels and {n_times} samples"
            raise ValueError(f"network: the {cls.__name__} does not suit {what}: {error}") from error
        warn(f"{cls.__name__} needs at least {shortest} samples a trial: {n_times} are padded with zeros.")
        return shortest

    def load(self, checkpoint, **how):
        """Load a checkpoint into the module and keep the report; arguments as of `load_checkpoint`."""
        self.report = str(load_checkpoint(self.module, checkpoint, head=self.head, **how))

    def rebuild(self, tensors):
        """Give a module of this description with these weights, as `tensors_of` gives them."""
        module = build_within(self.build, self.spec, tensors)
        state = {name: torch.as_tensor(np.asarray(value)) for name, value in tensors.items()}
        torch.nn.Module.load_state_dict(module, state)
        return module

    def copy(self):
        """Give a state whose training leaves this one as it is."""
        twin = object.__new__(type(self))
        vars(twin).update(vars(self), module=copy.deepcopy(self.module), spec=dict(self.spec), folded=None)
        return twin

    # Training

    def keep(self, net):
        """Take over a net that `train` made of the module, and its history."""
        self.net, self.folded = net, None
        if net.probe_features_ is not None:
            self.spec["probe_features"] = net.probe_features_
        self.history = [*self.history, *({k: v for k, v in row.items() if k != "batches"} for row in net.history)]
        return self

    # Running

    def pad(self, data):
        """Trials of the type and the length that the module takes."""
        data = np.asarray(data, dtype=self.float_type)
        missing = self.spec["n_times"] - data.shape[2]
        return np.pad(data, ((0, 0), (0, 0), (0, missing))) if missing > 0 else np.ascontiguousarray(data)

    def forward(self, data, *inputs, batch_size=None, device="auto"):
        """Compute the outputs for trials, and for tensors that the network takes beside them; nothing changes.

        Shapes: ``data`` (n_trials, n_channels, n_times); gives Tensor (n_trials, n_outputs), on the CPU: the mean over
        windows where the network has outputs for several.
        """
        module = self.module if self.folded is None else self.folded
        outputs = run_batches(module, data, batch_size or 64, resolve_device(device), inputs).to(self.dtype)
        return outputs.mean(-1) if outputs.ndim == 3 else outputs

    def features(self, data, *inputs, batch_size=None, device="auto"):
        """Compute what the network gives to its last layer, ndarray (n_trials, n_features); parameters as `forward`."""
        return head_features(self.module, data, batch_size or 64, self.head, resolve_device(device), inputs)

    def fold(self):
        """Make `forward` use a folded copy of the module, see `skeeg.networks.fold`."""
        self.folded = fold(self.module)

    # Storing

    def __getstate__(self):
        """Tensors in place of the module and the net."""
        state = {name: value for name, value in vars(self).items() if name not in ("module", "net", "folded")}
        return state | {"tensors": None if self.module is None else tensors_of(self.module)}

    def __setstate__(self, state):
        """Build the module again from its tensors."""
        state = dict(state)
        tensors = state.pop("tensors")
        vars(self).update(state, module=None, net=None, folded=None)
        if tensors is not None:
            with seeded(0):  # the initial weights are overwritten; the caller's random state must not move
                self.module = self.rebuild(tensors)


def holds_network(cls):
    """Give a class of estimators that keep a `NetworkState` as ``network_`` the attributes of a network."""
    cls.module_ = property(attrgetter("network_.module"), doc="Trained network, on the CPU, in evaluation mode.")
    cls.net_ = property(_net, doc="Skorch net that trained the network; a new one around it after loading.")
    cls.network_spec_ = property(attrgetter("network_.spec"), doc="Description of the network.")
    cls.history_ = property(attrgetter("network_.history"), doc="One record an epoch.")
    cls.n_iter_ = property(lambda self: max(len(self.history_), 1), doc="Epochs run; 1 where none was needed.")
    cls.checkpoint_report_ = property(attrgetter("network_.report"), doc="What the checkpoint brought, or None.")
    cls._preserves_dtype = ("float32",)  # of what the network computes
    cls.fit_transform = TransformerMixin.fit_transform
    return cls


def _net(self):
    if self.network_.net is None:
        net = make_net(self.network_.module, self._recipe(), make_loss(self._criterion())).initialize()
        net.history.extend(self.network_.history)
        self.network_.net = net
    return self.network_.net


def choose_sizes(network, network_params, checkpoint, preset=None):
    """Arguments of a network: ``network_params``, else those of the checkpoint, else preset ones."""
    given = dict(network_params or {})
    if checkpoint is None or isinstance(network, torch.nn.Module):
        return {**(preset or {}), **given}
    found = read_sizes(class_of(network), *read_weights(checkpoint), checkpoint)
    return settle_sizes(given, found, preset or {})


def tensors_of(module):
    """Weights of a network as arrays, for pickles and files."""
    return {name: value.detach().cpu().numpy() for name, value in module.state_dict().items()}


def _with_positions(network, ch_names):
    """Electrode names for a network; one that can do without positions does not get half of them."""
    infos = channel_info(ch_names)
    unknown = [name for name, info in zip(ch_names, infos, strict=True) if not np.isfinite(info["loc"][:3]).all()]
    cls = class_of(network)
    if unknown and "chs_info" in required_signals(cls):
        raise ValueError(f"ch_names: {cls.__name__} needs positions; {', '.join(unknown)} have no standard one.")
    return None if unknown else tuple(ch_names)
