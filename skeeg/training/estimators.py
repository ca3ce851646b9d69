"""Estimators around one network: the base that every method builds on, and one for any network of the registry."""

import warnings

import numpy as np
import torch
from sklearn.base import TransformerMixin
from sklearn.utils.validation import check_is_fitted

from ..base import BaseEEGClassifier, BaseEEGRegressor, EEGEstimator, draw_seed, flat_channels
from ..networks import accelerate, build_network, get_network, minimum_times, required_signals
from .checkpoints import has_published_weights, load_checkpoint
from .recipe import Recipe, make_loss, make_net, resolve_device, seeded, train
from .strategies import check_strategy, fit_probe, head_features, replace_head, trainable_part
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

    def _network_class(self, name):
        return get_network(name)

    def _network_parameters(self):
        return dict(self.network_params or {})

    def _criterion(self):
        return self.loss

    def _recipe(self):
        names = Recipe.__dataclass_fields__
        return Recipe(**{name: getattr(self, name) for name in names if hasattr(self, name)})

    def _fit_network(self, X, targets, n_outputs, subjects=None):
        """Build the network for these trials and train it.

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
        """
        check_strategy(self.strategy)
        self._refuse_flat(X)
        seed = draw_seed(self.random_state)
        subjects = X.domains["subject"] if X.domains is not None else subjects
        with seeded(seed):
            self._start_network(X, n_outputs)
            data = self._prepare(X, fit=True)
            rows, held = split_validation(targets, self.validation, self.validation_size, subjects, seed)
            self._train(data, targets, rows, held)
        self.history_ = [{k: v for k, v in row.items() if k != "batches"} for row in self.net_.history]
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
        return accelerate(module.eval(), getattr(self, "kernels", "auto"))

    def _build_long_enough(self):
        """Build the network; trials shorter than it accepts are padded, with a warning."""
        spec = self.network_spec_
        try:
            module = self._build_network()
            with torch.inference_mode():
                module(torch.randn(2, spec["n_chans"], spec["n_times"]))
        except Exception as error:  # every network has errors of its own for trials that are too short
            cls = self._network_class(spec["network"])
            wanted = {name: spec[name] for name in ("n_chans", "n_outputs", "sfreq", "parameters")}
            names = spec["ch_names"] if "chs_info" in required_signals(cls) else None
            shortest = minimum_times(cls, ch_names=names, **wanted)
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
        """Trials as the network takes them: float32, scaled, long enough."""
        data = np.asarray(X, dtype=np.float32)
        if fit:
            self.scale_ = self._learn_scale(data)
        if self.scale_ != 1.0:
            data = data * np.float32(1.0 / self.scale_)
        missing = self.network_spec_["n_times"] - data.shape[2]
        return np.pad(data, ((0, 0), (0, 0), (0, missing))) if missing else np.ascontiguousarray(data)

    def _learn_scale(self, data):
        """One number that the trials are divided by."""
        scale = getattr(self, "scale", None)
        if scale is None:
            return 1.0
        if scale == "std":
            return float(data.std(dtype=np.float64)) or 1.0
        if isinstance(scale, int | float) and scale > 0:
            return float(scale)
        raise ValueError(f"scale: got {scale!r}, expected 'std', None or a positive number.")

    def _train(self, data, targets, rows, held):
        """Train ``module_`` by the strategy; fills ``net_``."""
        validation = None if held is None else (data[held], targets[held])
        if held is not None:
            data, targets = data[rows], targets[rows]
        if self.strategy == "probe":
            self._probe(data, targets)
            return
        settings = {"device": self.device, "verbose": self.verbose, "callbacks": self.skorch_callbacks or ()}
        with trainable_part(self.module_, self.strategy, self._head, self.lora_rank) as trained:
            self.net_ = train(
                self.module_, data, targets, self._recipe(), loss=self._criterion(), validation=validation,
                trained=trained, parameter_groups=self._parameter_groups(), **settings,
            )  # fmt: skip

    def _parameter_groups(self):
        """Give a function from the module to the optimiser's groups, or None for one group."""
        return None

    def _probe(self, data, targets):
        """Fit a linear layer on the frozen features, in closed form."""
        device = resolve_device(self.device)
        layer = fit_probe(head_features(self.module_, data, self.batch_size, self._head, device), targets)
        self.network_spec_["probe_features"] = layer.in_features
        replace_head(self.module_, layer, self._head)
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
        outputs : ndarray of float32, shape (n_trials, n_outputs)
            Logits or predictions.
        """
        check_is_fitted(self)
        data = torch.from_numpy(self._prepare(self._check_eeg(X, reset=False, dtype=np.float32)))
        device = resolve_device(self.device)
        module = self.module_ if device == "cpu" else self.module_.to(device)
        try:
            with torch.inference_mode():
                outputs = [module(batch.to(device)) for batch in data.split(self.batch_size)]
        finally:
            if device != "cpu":
                module.to("cpu")
        outputs = torch.cat(outputs).float().cpu().numpy()
        return outputs.mean(-1) if outputs.ndim == 3 else outputs  # networks with one output per window

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
        data = self._prepare(self._check_eeg(X, reset=False, dtype=np.float32))
        return head_features(self.module_, data, self.batch_size, self._head, resolve_device(self.device))

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
            tensors = state.pop("module_").state_dict()
            state["network_state_"] = {name: value.detach().cpu().numpy() for name, value in tensors.items()}
            state.pop("net_", None)
        return state

    def __setstate__(self, state):
        """Build the module and the net again from the tensors."""
        state = dict(state)
        tensors = state.pop("network_state_", None)
        super().__setstate__(state)
        if tensors is not None:
            with seeded(0):  # the initial weights are overwritten; the caller's random state must not move
                self.module_ = self._build_network()
                module_state = {name: torch.as_tensor(np.asarray(value)) for name, value in tensors.items()}
                torch.nn.Module.load_state_dict(self.module_, module_state)
                self.net_ = self._make_net()
            self.net_.history.extend(self.history_)


class NetworkClassifier(NetworkEstimator, BaseEEGClassifier):
    """Classifier around any network of braindecode, of skeeg, or of your own.

    Parameters
    ----------
    network : str or class
        Name in `skeeg.networks.network_names`, or an ``EEGModuleMixin`` / ``torch.nn.Module`` class.
    network_params : dict or None
        Arguments of the network's constructor, such as ``{"F1": 4}``.
    strategy : {"full", "head", "probe", "lora"}
        What is trained: everything, the last layer, a closed-form last layer on frozen features, or low-rank changes
        beside the last layer.
    checkpoint : str or None
        Weights to start from: a file (``.safetensors``, ``.pt``, ``.pth``) or ``"hub:owner/repository/file"``; the last
        layer of the file is not used.
    max_epochs, batch_size, learning_rate, weight_decay, solver, schedule, patience, precision
        See `skeeg.training.Recipe`.
    loss : str or torch.nn.Module
        ``"cross_entropy"``, or a module of (logits, class indices).
    validation : {None, "trial", "subject"}
        Trials held out of the training to watch the loss on, and to stop by where ``patience`` is set. ``"subject"``
        never validates on a subject it trains on.
    validation_size : float
        Share of the subjects or trials to hold out.
    scale : {"std", None} or float
        What the trials are divided by: their standard deviation at fit, nothing, or a number of microvolts.
    lora_rank : int
        Rank of the changes of ``strategy="lora"``.
    kernels : {"auto", "plain", "fast"}
        Exact fast forms of the network's layers: where they pay, never, or wherever there is one; see
        `skeeg.networks.accelerate`.
    ch_names : tuple of str or None
        Electrode names, where X does not carry them.
    sfreq : float or None
        Sampling rate in hertz, where X does not carry it.
    device : str
        ``"auto"`` takes CUDA where there is one. After fit the network rests on the CPU.
    random_state : int, RandomState or None
        Makes fit reproducible to the bit on one machine.
    verbose : int
        Whether to show a progress bar.
    skorch_callbacks : list of skorch callbacks or None
        Progress, checkpoints, TensorBoard, Weights & Biases, ...

    Attributes
    ----------
    classes_ : ndarray, shape (n_classes,)
        Labels.
    module_ : torch.nn.Module
        Trained network, on the CPU, in evaluation mode.
    net_ : skeeg.training.TrainingNet
        The skorch net that trained it.
    history_ : list of dict
        One record an epoch.
    n_iter_ : int
        Epochs run.
    checkpoint_report_ : str or None
        What the checkpoint brought.
    n_features_in_, n_times_in_ : int
        Channels and samples at fit.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg import NetworkClassifier
    >>> X, y = np.random.default_rng(0).normal(size=(20, 3, 128)), np.repeat(["left", "right"], 10)
    >>> clf = NetworkClassifier("EEGNet", max_epochs=2, random_state=0).fit(X, y)
    >>> clf.predict_proba(X).shape
    (20, 2)
    """

    __metadata_request__fit = {"subjects": True}

    def __init__(
        self,
        network="EEGNet",
        network_params=None,
        strategy="full",
        checkpoint=None,
        max_epochs=100,
        batch_size=64,
        learning_rate=1e-3,
        weight_decay=0.0,
        solver="adamw",
        schedule="cosine",
        loss="cross_entropy",
        validation=None,
        validation_size=0.2,
        patience=None,
        scale="std",
        precision="float32",
        lora_rank=4,
        kernels="auto",
        ch_names=None,
        sfreq=None,
        device="auto",
        random_state=None,
        verbose=0,
        skorch_callbacks=None,
    ):
        self.network = network
        self.network_params = network_params
        self.strategy = strategy
        self.checkpoint = checkpoint
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.solver = solver
        self.schedule = schedule
        self.loss = loss
        self.validation = validation
        self.validation_size = validation_size
        self.patience = patience
        self.scale = scale
        self.precision = precision
        self.lora_rank = lora_rank
        self.kernels = kernels
        self.ch_names = ch_names
        self.sfreq = sfreq
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.skorch_callbacks = skorch_callbacks

    def fit(self, X, y, subjects=None):
        """Build the network for these trials and train it.

        Parameters
        ----------
        X : anything `as_eeg` accepts, shape (n_trials, n_channels, n_times)
            Trials.
        y : array-like, shape (n_trials,)
            Labels of any kind.
        subjects : array-like, shape (n_trials,), or None
            Subject of each trial, for ``validation="subject"``.

        Returns
        -------
        self : NetworkClassifier
            The fitted estimator.
        """
        X, y = self._check_eeg(X, y, reset=True, dtype=np.float32)
        targets = self._check_labels(y)
        self._fit_network(X, targets, len(self.classes_), subjects)
        return self

    def predict_proba(self, X):
        """Probability of each class.

        Parameters
        ----------
        X : anything `as_eeg` accepts, shape (n_trials, n_channels, n_times)
            Trials.

        Returns
        -------
        probabilities : ndarray, shape (n_trials, n_classes)
            Columns in the order of ``classes_``.
        """
        logits = self._forward(X).astype(np.float64)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return odds / odds.sum(axis=1, keepdims=True)


class NetworkRegressor(NetworkEstimator, BaseEEGRegressor):
    """Regressor around any network of braindecode, of skeeg, or of your own.

    Targets are standardised for the training and given back in their own units and shape.

    Parameters
    ----------
    network : str or class
        Name in `skeeg.networks.network_names`, or an ``EEGModuleMixin`` / ``torch.nn.Module`` class.
    loss : str or torch.nn.Module
        ``"mse"``, ``"mae"``, ``"huber"``, or a module of (outputs, standardised targets).
    network_params, strategy, checkpoint, max_epochs, batch_size, learning_rate, weight_decay, solver, schedule
        As in `NetworkClassifier`.
    validation, validation_size, patience, scale, precision, lora_rank, kernels, ch_names, sfreq, device, random_state
        As in `NetworkClassifier`.
    verbose, skorch_callbacks
        As in `NetworkClassifier`.

    Attributes
    ----------
    target_mean_, target_scale_ : ndarray, shape (n_outputs,)
        Mean and standard deviation of each target at fit.
    module_, net_, history_, n_iter_, checkpoint_report_, n_features_in_, n_times_in_
        As in `NetworkClassifier`.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg import NetworkRegressor
    >>> X, y = np.random.default_rng(0).normal(size=(20, 3, 128)), np.arange(40.0).reshape(20, 2)
    >>> NetworkRegressor("EEGNet", max_epochs=2, random_state=0).fit(X, y).predict(X).shape
    (20, 2)
    """

    __metadata_request__fit = {"subjects": True}

    def __init__(
        self,
        network="EEGNet",
        network_params=None,
        strategy="full",
        checkpoint=None,
        max_epochs=100,
        batch_size=64,
        learning_rate=1e-3,
        weight_decay=0.0,
        solver="adamw",
        schedule="cosine",
        loss="mse",
        validation=None,
        validation_size=0.2,
        patience=None,
        scale="std",
        precision="float32",
        lora_rank=4,
        kernels="auto",
        ch_names=None,
        sfreq=None,
        device="auto",
        random_state=None,
        verbose=0,
        skorch_callbacks=None,
    ):
        self.network = network
        self.network_params = network_params
        self.strategy = strategy
        self.checkpoint = checkpoint
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.solver = solver
        self.schedule = schedule
        self.loss = loss
        self.validation = validation
        self.validation_size = validation_size
        self.patience = patience
        self.scale = scale
        self.precision = precision
        self.lora_rank = lora_rank
        self.kernels = kernels
        self.ch_names = ch_names
        self.sfreq = sfreq
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.skorch_callbacks = skorch_callbacks

    def fit(self, X, y, subjects=None):
        """Build the network for these trials and train it.

        Parameters
        ----------
        X : anything `as_eeg` accepts, shape (n_trials, n_channels, n_times)
            Trials.
        y : array-like, shape (n_trials,), (n_trials, n_targets) or (n_trials, n_targets, n_times)
            Targets.
        subjects : array-like, shape (n_trials,), or None
            Subject of each trial, for ``validation="subject"``.

        Returns
        -------
        self : NetworkRegressor
            The fitted estimator.
        """
        X, targets = self._check_eeg_and_targets(X, y)
        self.target_mean_ = targets.mean(axis=0)
        spread = targets.std(axis=0)
        self.target_scale_ = np.where(spread > 0, spread, 1.0)  # a constant target is predicted by its mean
        standard = ((targets - self.target_mean_) / self.target_scale_).astype(np.float32)
        self._fit_network(X, standard, targets.shape[1], subjects)
        return self

    def predict(self, X):
        """Targets of each trial, in the shape and units they had at fit.

        Parameters
        ----------
        X : anything `as_eeg` accepts, shape (n_trials, n_channels, n_times)
            Trials.

        Returns
        -------
        y : ndarray of float64, shape (n_trials,), (n_trials, n_targets) or (n_trials, n_targets, n_times)
            Predictions.
        """
        outputs = self._forward(X).reshape(-1, len(self.target_mean_) if hasattr(self, "target_mean_") else 1)
        return self._shape_like_targets(outputs * self.target_scale_ + self.target_mean_)


def _without_position(ch_names):
    """Electrodes that have no standard position."""
    from ..networks import channel_info

    infos = channel_info(ch_names or ())
    return [name for name, info in zip(ch_names or (), infos, strict=True) if not np.isfinite(info["loc"][:3]).all()]
