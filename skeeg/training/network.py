"""The base that every estimator around one network builds on."""

import copy
import warnings

import numpy as np
import torch
from sklearn.base import TransformerMixin
from sklearn.utils.validation import check_is_fitted

from ..base import EEGEstimator, draw_seed, flat_channels
from ..networks import accelerate, build_network, get_network, minimum_times, required_signals
from ..networks.seeding import seeded
from .augmentation import make_augmentation
from .checkpoints import has_published_weights, load_checkpoint, read_weights
from .inference import head_features, run_batches
from .recipe import Recipe, make_loss, make_net, resolve_device, train
from .sizes import build_within, read_sizes, settle_sizes
from .strategies import check_strategy, fit_probe, replace_head, trainable_part
from .validation import split_validation


class NetworkEstimator(TransformerMixin, EEGEstimator):
    """Base of every estimator around one network: building, training, predicting, pickling.

    A subclass has the constructor parameters of `NetworkClassifier` that its hooks read, and may override

    - ``_network_class(name)``: the network's class;
    - ``_network_parameters()``: arguments of its constructor;
    - ``_recipe()``: how it is trained;
    - ``_criterion()``: its loss, a name or a module.

    Its fitted state is the network's description (``network_spec_``) and its tensors, never the module object, so it
    pickles and copies whatever the network is made of.
    """

    _head = "final_layer"
    linear_map_ = "space"  # of the preprocessing: scale and zeros at the end

    def _check_parameters(self):
        """Refuse settings that mean nothing, those too that the chosen way of training does not use."""
        super()._check_parameters()
        resolve_device(self.device)
        self._recipe().check()

    def _network_class(self, name):
        return get_network(name)

    def _network_parameters(self):
        return dict(self.network_params or {})

    def _settle_sizes(self, given, preset=None):
        """Arguments of the network: those given, else those that the checkpoint tells, else the preset ones."""
        if self.checkpoint is None:
            return {**(preset or {}), **given}
        cls = self._network_class(getattr(self, "network", None))
        found = read_sizes(cls, *read_weights(self.checkpoint), self.checkpoint)
        return settle_sizes(given, found, {**(preset or {}), **found, **given})

    def _criterion(self):
        return self.loss

    def _recipe(self):
        names = Recipe.__dataclass_fields__
        return Recipe(**{name: getattr(self, name) for name in names if hasattr(self, name)})

    def _fit_network(self, X, targets, n_outputs, subjects=None, warm=False):
        """Build the network for these trials and train it, or train the one that is there further.

        Parameters
        ----------
        X : EEGArray of float32, shape (n_trials, n_channels, n_times)
            Checked trials.
        targets : ndarray, shape (n_trials,) of int, or (n_trials, n_outputs) of float32
            Class indices or targets.
        n_outputs : int
            Compute the outputs of the network.
        subjects : array-like, shape (n_trials,), or None
            Subject of each trial, where X carries no domains.
        warm : bool
            Start from the fitted network and its input scaling.
        """
        check_strategy(self.strategy)
        self._refuse_flat(X)
        seed = draw_seed(self.random_state)
        subjects = X.domains["subject"] if X.domains is not None else subjects
        with seeded(seed):
            if warm:
                self.module_ = copy.deepcopy(self.module_)  # should this training fail, the old network is kept
            else:
                self._start_network(X, n_outputs)
            data = self._prepare(X, fit=not warm)
            rows, held = split_validation(targets, self.validation, self.validation_size, subjects, seed)
            self._train(data, targets, rows, held)
        history = [{k: v for k, v in row.items() if k != "batches"} for row in self.net_.history]
        self.history_ = self.history_ + history if warm else history
        self.n_iter_ = max(len(self.history_), 1)

    def _refuse_flat(self, X):
        flat = flat_channels(X)
        if flat:
            raise ValueError(
                f"X: channel {', '.join(map(str, flat[:5]))} never changes over the {len(X)} trial(s) (1 sample, or a "
                "dead or reference electrode?); drop it before fit."
            )

    def _start_network(self, X, n_outputs):
        """Build the network, and load the checkpoint into it."""
        self.network_spec_ = {
            "network": getattr(self, "network", None),
            "parameters": self._network_parameters(),
            "n_chans": X.shape[1],
            "n_times": X.shape[2],
            "n_outputs": int(n_outputs),
            "sfreq": X.sfreq,
            "ch_names": self._names_with_positions(X.ch_names),
            "probe_features": None,
        }
        self.module_ = self._build_long_enough()
        checkpoint = getattr(self, "checkpoint", None)
        self.checkpoint_report_ = None
        if checkpoint is not None:
            self.checkpoint_report_ = str(load_checkpoint(self.module_, checkpoint, head=self._head))
        elif has_published_weights(type(self.module_)):
            warnings.warn(
                f"{type(self.module_).__name__} starts from scratch, without its published weights; checkpoint= takes "
                "a file or 'hub:owner/repository/file'.",
                stacklevel=4,
            )

    def _names_with_positions(self, ch_names):
        """Electrode names for the network; a network that can do without positions shall not get half of them."""
        unknown = _without_position(ch_names)
        cls = self._network_class(getattr(self, "network", None))
        if unknown and "chs_info" in required_signals(cls):
            raise ValueError(f"ch_names: {cls.__name__} needs positions; {', '.join(unknown)} have no standard one.")
        return None if unknown else ch_names

    def _build_network(self):
        """Network as ``network_spec_`` describes it, newly initialised."""
        spec = dict(self.network_spec_)
        cls = self._network_class(spec.pop("network"))
        probe = spec.pop("probe_features")
        module = build_network(cls, **spec)
        if probe is not None:
            replace_head(module, torch.nn.Linear(probe, spec["n_outputs"]), self._head)
        return accelerate(module.to(self._dtype()).eval(), getattr(self, "kernels", "auto"))

    def _dtype(self):
        """Type of the weights and of what the network is given."""
        return torch.float64 if getattr(self, "precision", "float32") == "float64" else torch.float32

    def _build_long_enough(self):
        """Build the network; trials shorter than it accepts are padded, with a warning."""
        spec = self.network_spec_
        try:
            module = self._build_network()
            with torch.no_grad():  # not inference_mode: what a network keeps from a call is used in training later
                module(torch.randn(2, spec["n_chans"], spec["n_times"]).to(self._dtype()))
        except Exception as error:  # every network has errors of its own for trials that are too short
            cls = self._network_class(spec["network"])
            wanted = {name: spec[name] for name in ("n_chans", "n_outputs", "sfreq", "parameters")}
            names = spec["ch_names"] if "chs_info" in required_signals(cls) else None
            try:
                shortest = minimum_times(cls, ch_names=names, **wanted)
            except ValueError:  # its length is not what is wrong
                raise (
                    error
                    if isinstance(error, ValueError)
                    else ValueError(f"network: {cls.__name__} cannot be built or run: {error}")
                ) from error
            if shortest <= spec["n_times"]:
                raise ValueError(f"X: {cls.__name__} refuses {spec['n_times']} samples a trial: {error}") from error
            warnings.warn(
                f"{cls.__name__} needs at least {shortest} samples a trial: {spec['n_times']} are padded with zeros.",
                stacklevel=5,
            )
            spec["n_times"] = shortest
            module = self._build_network()
        return module

    def _prepare(self, X, fit=False):
        """Trials as the network takes them: of its type, scaled, long enough."""
        data = self._in_precision(X)
        if fit:
            self.scale_ = self._learn_scale(data)
        if self.scale_ == "trial":
            power = np.mean(np.square(data, dtype=np.float64), axis=(1, 2), keepdims=True)
            data = data / np.sqrt(np.where(power > 0, power, 1.0)).astype(data.dtype)
        elif self.scale_ != 1.0:
            data = data * data.dtype.type(1.0 / self.scale_)
        missing = self.network_spec_["n_times"] - data.shape[2]
        return np.pad(data, ((0, 0), (0, 0), (0, missing))) if missing else np.ascontiguousarray(data)

    def _inputs(self, X):
        """Give what the network takes beside the prepared trials, as tensors."""
        return ()

    def _in_precision(self, X):
        """Trials as a plain array of the type that the network computes in."""
        return np.asarray(X, dtype=np.float64 if self._dtype() == torch.float64 else np.float32)

    def _learn_scale(self, data):
        """One number that the trials are divided by, or ``"trial"``."""
        scale = getattr(self, "scale", None)
        if scale is None:
            return 1.0
        if scale == "trial":
            return scale
        if scale == "std":
            return float(data.std(dtype=np.float64)) or 1.0
        if isinstance(scale, int | float) and scale > 0:
            return float(scale)
        raise ValueError(f"scale: got {scale!r}, expected 'std', 'trial', None or a positive number.")

    def _train(self, data, targets, rows, held):
        """Train ``module_`` by the strategy; fills ``net_``."""
        targets = targets.astype(data.dtype) if targets.dtype.kind == "f" else targets
        validation = None if held is None else (data[held], targets[held])
        if held is not None:
            data, targets = data[rows], targets[rows]
        if self.strategy == "probe":
            self._probe(data, targets)
            return
        settings = {"device": self.device, "verbose": self.verbose, "callbacks": self._callbacks()}
        settings |= {"augmentation": self._augmentation(), "parameter_groups": self._parameter_groups()}
        with trainable_part(self.module_, self.strategy, self._head, self.lora_rank) as trained:
            self.net_ = train(
                self.module_, data, targets, self._recipe(), loss=self._criterion(), validation=validation,
                trained=trained, **settings,
            )  # fmt: skip

    def _callbacks(self):
        """Give the callbacks of the training."""
        return list(self.skorch_callbacks or ())

    def _augmentation(self):
        """Give a function that augments a batch, or None."""
        if getattr(self, "augmentation", None) is None:
            return None
        known = {name: self.network_spec_[name] for name in ("sfreq", "ch_names")}
        seed = int(torch.randint(2**31, ()))
        return make_augmentation(self.augmentation, **known, classes=getattr(self, "classes_", None), seed=seed)

    def _parameter_groups(self):
        """Give a function from the module to the optimiser's groups, or None for one group."""
        return None

    def _probe(self, data, targets):
        """Fit a linear layer on the frozen features, in closed form."""
        device = resolve_device(self.device)
        layer = fit_probe(head_features(self.module_, data, self.batch_size or 64, self._head, device), targets)
        self.network_spec_["probe_features"] = layer.in_features
        replace_head(self.module_, layer.to(self._dtype()), self._head)
        self.module_.eval()
        self.net_ = self._make_net()

    def _make_net(self):
        """Skorch net around ``module_``, without any training."""
        return make_net(self.module_, self._recipe(), make_loss(self._criterion())).initialize()

    def _forward(self, X):
        """Compute the outputs of the network.

        Parameters
        ----------
        X : anything `as_eeg` accepts
            Trials.

        Returns
        -------
        outputs : Tensor of float32 (or float64, in that precision), shape (n_trials, n_outputs)
            Logits or predictions, on the CPU.
        """
        if not self.__sklearn_is_fitted__():  # the check itself takes a thirtieth of the time of one trial
            check_is_fitted(self)
        X = self._check_eeg(X, reset=False, dtype=np.float32)
        settings = self.batch_size or 64, resolve_device(self.device), self._inputs(X)
        outputs = run_batches(self._inference_network(), self._prepare(X), *settings).to(self._dtype())
        return outputs.mean(-1) if outputs.ndim == 3 else outputs  # networks with one output per window

    def _probabilities(self, X):
        """Probability of each class, float64 (n_trials, n_classes), where the outputs are logits."""
        return torch.softmax(self._forward(X), dim=1, dtype=torch.float64).numpy()

    def _inference_network(self):
        """Network that predicts; predicting changes nothing of it."""
        return self.module_

    def transform(self, X):
        """Features of each trial: what the network hands to its last layer.

        Parameters
        ----------
        X : anything `as_eeg` accepts, shape (n_trials, n_channels, n_times)
            Trials.

        Returns
        -------
        features : ndarray of float32, shape (n_trials, n_features)
            Flattened features.
        """
        check_is_fitted(self)
        X = self._check_eeg(X, reset=False, dtype=np.float32)
        settings = self.batch_size or 64, self._head, resolve_device(self.device), self._inputs(X)
        return head_features(self.module_, self._prepare(X), *settings).astype(np.float32, copy=False)

    def __sklearn_tags__(self):
        """Declare that features are float32, as the network computes them."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def __sklearn_is_fitted__(self):
        """Fitted once the network is there."""
        return hasattr(self, "module_")

    def __getstate__(self):
        """Tensors in place of the module and the net."""
        state = super().__getstate__().copy()
        if "module_" in state:
            state["network_state_"] = tensors_of(state.pop("module_"))
            state.pop("net_", None)
        return state

    def __setstate__(self, state):
        """Build the module and the net again from the tensors."""
        state = dict(state)
        tensors = state.pop("network_state_", None)
        super().__setstate__(state)
        if tensors is not None:
            with seeded(0):  # the initial weights are overwritten; the caller's random state must not move
                self.module_ = self._rebuild(tensors)
                self.net_ = self._make_net()
            self.net_.history.extend(self.history_)

    def _rebuild(self, tensors):
        """Network of these weights."""
        module = build_within(self._build_network, self.network_spec_, tensors)
        state = {name: torch.as_tensor(np.asarray(value)) for name, value in tensors.items()}
        torch.nn.Module.load_state_dict(module, state)
        return module


def tensors_of(module):
    """Weights of a network as arrays, for pickles and files.

    Examples
    --------
    >>> import torch
    >>> from skeeg.training.network import tensors_of
    >>> {name: value.shape for name, value in tensors_of(torch.nn.Linear(3, 2)).items()}
    {'weight': (2, 3), 'bias': (2,)}
    """
    return {name: value.detach().cpu().numpy() for name, value in module.state_dict().items()}


def _without_position(ch_names):
    """Electrodes that have no standard position."""
    from ..networks import channel_info

    infos = channel_info(ch_names or ())
    return [name for name, info in zip(ch_names or (), infos, strict=True) if not np.isfinite(info["loc"][:3]).all()]
