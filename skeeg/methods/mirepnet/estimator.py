"""The MIRepNet classifier: a pre-trained network, fine-tuned on few trials of any montage."""

import copy

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.pipeline import Pipeline
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted

from ...alignment import check_targets
from ...array import DOMAIN_FIELDS, as_eeg
from ...base import draw_seed, refuse_flat, warn
from ...filtering import BandPass
from ...montage import count_near, find_mirror
from ...networks.seeding import seeded
from ...tangentspace import TangentReadout
from ...training import NetworkState, get_recipe, train
from ...training.base import NetworkEstimator
from ...training.checkpoints import describe, save_weights
from .checkpoint import read_start
from .network import MIRepNet
from .preprocessing import ALIGN, RATE, fit_steps, mirepnet_preprocessing

_FINETUNING = "n_updates", "max_epochs", "batch_size", "learning_rate", "time_shift"  # what a checkpoint may advise
# Chosen on ds003810 2-5, simulated subjects, EEGMMIDB 49-64 and BNCI2014004 1-2.
START_WEIGHT, NETWORK_WEIGHT = 0.5, 0.1  # of the logits before and after fine-tuning on few trials, then far too sure


class MIRepNetClassifier(ClassifierMixin, NetworkEstimator):
    r"""MIRepNet [1]_: a network pre-trained on the imagery of source subjects, fine-tuned on few trials of the target.

    Trials of any montage are resampled to the network's rate, whitened by the mean covariance of their subject on the
    recorded electrodes (Euclidean alignment) and interpolated to 45 electrodes by inverse distances. Band-pass them to
    8-30 Hz before, best as whole recordings; `mirepnet_pipeline` has all steps.

    Parameters
    ----------
    checkpoint : str or None
        Weights to start from: ``"skeeg:mirepnet-small"``, which ship with the package (`skeeg.weights`); a file of
        ``save_checkpoint``; the published ``MIRepNet.pth``; or ``"hub:owner/repository/file"``, such as
        ``"hub:starself/MIRepNet/MIRepNet.pth"``. None starts from random weights.
    checkpoint_classes : tuple or None
        Label of each output of the checkpoint; its last layer is then used for the labels that y has too. None: those
        that the checkpoint names itself; without any its last layer is not used, even if the number of classes agrees.
    network_params : dict or None
        Sizes of the network that differ from those of the checkpoint, or from the published ones; see `MIRepNet`.
    readout : {"auto", "network", "both", "pretrained"}
        What classifies: the network, as published; or, with ``"both"``, the network before and after its fine-tuning
        and a regularised logistic regression on filter-bank tangent vectors of the same trials on the recorded
        electrodes, whose logits are added, see Notes. ``"auto"`` is ``"both"`` with a checkpoint and trials of known
        rate, else ``"network"``. ``"pretrained"`` trains nothing: the network of the checkpoint classifies, and y only
        names the classes, which the checkpoint has to know.
    strategy : {"full", "head", "probe", "lora"}
        What is trained: everything, as published; the last layer; a closed-form last layer on frozen features; or
        low-rank changes beside the last layer.
    recipe : str or dict
        How to train: ``"default"``, the fine-tuning of the checkpoint where it holds one, else the published one (10
        epochs of Adam, batches of 8, learning rate 1e-3); another name in `skeeg.training.PRESETS`; or a dict of what
        differs from one, ``{"name": "default", "weight_decay": 0.1}``, in the terms of `skeeg.training.Recipe`.
    max_epochs, batch_size, learning_rate : int, int and float, or None
        Settings of the recipe; None leaves its own.
    align : {"own", "block", "calibration", "source", "running", None}
        Reference that trials to predict are whitened by: ``on_unseen`` of `skeeg.EuclideanAlignment`. Subjects seen at
        fit keep their reference, others have the mean of their own trials, given 4 at least (``"own"``); that of
        ``X_target_unlabeled`` (``"calibration"``); that of the subjects at fit (``"source"``); or a mean updated with
        every trial, for online use (``"running"``), see `update`. ``"block"``, as published: every call of `predict`
        uses the mean of its trials (transductive). None does not align.
    domain : {"subject", "session", "run"}
        Unit with a reference of its own.
    template : str, tuple of str or None
        Electrodes of the network, see `skeeg.ChannelTemplate`; None takes those recorded, in their order.
    resample : "auto", float or None
        Rate of the network in hertz, for trials whose rate is known; None keeps it. ``"auto"`` is the rate of the
        checkpoint, or 250 Hz.
    validation : {None, "trial", "block", "subject"}
        As in `skeeg.NetworkClassifier`.
    ch_names, sfreq, device, random_state, verbose, skorch_callbacks
        As in `skeeg.NetworkClassifier`.

    Attributes
    ----------
    classes_ : ndarray, shape (n_classes,)
        Labels.
    steps_ : Pipeline
        Fitted preprocessing, see `mirepnet_preprocessing`.
    checkpoint_report_ : str or None
        Tensors of the checkpoint that were loaded.
    description_ : dict
        Description of the checkpoint: sizes, rate, classes; empty without any.
    rate_ : float or None
        Rate of the network in hertz.
    readout_ : TangentReadout or None
        Fitted regression of ``readout="both"``; ``set_params(readout="network")`` then leaves it out.
    mirror_ : tuple of two ndarrays or None
        Electrodes of the network and classes, as indices, after left and right are exchanged; None where one has no
        counterpart.
    pretrained_ : NetworkState or None
        Network before its fine-tuning; None where the checkpoint does not name every label.
    module_, net_, history_, n_iter_, n_features_in_, n_times_in_
        As in `skeeg.NetworkClassifier`.

    Notes
    -----
    With ``readout="both"`` the logits are :math:`0.1\, z_{network} + 0.5\, z_{start} + z_{tangent}`, since a network
    fine-tuned on few trials is far too sure of itself. :math:`z_{start}` are those of the network before, where the
    checkpoint names every label; the regression is fitted to what they leave.

    Where classes are named left and right and every recorded electrode has its counterpart, a trial with its electrodes
    exchanged is one of the other side. ``"both"`` and ``"pretrained"`` then take the mean of the network's logits of a
    trial and of its mirror image; the fine-tuning exchanges half of the trials of each batch, and the regression is
    drawn to symmetric weights. ``readout="network"`` exchanges nothing.

    ``benchmarks/results/pretraining.md`` has the accuracy of each alone. The tangent vectors are of whole trials, in
    the bands of `skeeg.FilterBankTangentSpace`, and of either half, in 8-12, 12-20 and 20-30 Hz: the rhythms change in
    the course of a trial. ``class_weight`` of a recipe is for the network alone. `transform` gives the features before
    the last layer of the network, 256 in the published size, and `skeeg.explain` explains the network alone.

    References
    ----------
    .. [1] Liu, D., et al. (2026). MIRepNet: a pipeline and pre-trained model for EEG-based motor imagery
       classification. Knowledge-Based Systems, 343, 115966. https://doi.org/10.1016/j.knosys.2026.115966

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg import MIRepNetClassifier
    >>> X, y = np.random.default_rng(0).normal(size=(12, 3, 250)), np.repeat(["left_hand", "right_hand"], 6)
    >>> identity = {"ch_names": ("C3", "Cz", "C4"), "sfreq": 100}  # of trials that do not carry theirs
    >>> clf = MIRepNetClassifier("skeeg:mirepnet-small", random_state=0, **identity).fit(X, y)
    >>> clf.predict_proba(X).shape, clf.transform(X).shape
    ((12, 2), (12, 64))
    """

    linear_map_ = "both"
    _parameter_constraints = {
        "align": [StrOptions(set(ALIGN)), None],
        "domain": [StrOptions(set(DOMAIN_FIELDS))],
        "readout": [StrOptions({"auto", "network", "both", "pretrained"})],
        "recipe": [str, dict],
    }
    precision = property(lambda self: self._recipe().precision)
    __metadata_request__fit = {"subjects": True, "X_target_unlabeled": True}

    def __init__(
        self,
        checkpoint=None,
        checkpoint_classes=None,
        network_params=None,
        readout="auto",
        strategy="full",
        recipe="default",
        max_epochs=None,
        batch_size=None,
        learning_rate=None,
        align="own",
        domain="subject",
        template="mirepnet45",
        resample="auto",
        validation=None,
        ch_names=None,
        sfreq=None,
        device="auto",
        random_state=None,
        verbose=0,
        skorch_callbacks=None,
    ):
        self.checkpoint = checkpoint
        self.checkpoint_classes = checkpoint_classes
        self.network_params = network_params
        self.readout = readout
        self.strategy = strategy
        self.recipe = recipe
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.align = align
        self.domain = domain
        self.template = template
        self.resample = resample
        self.validation = validation
        self.ch_names = ch_names
        self.sfreq = sfreq
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.skorch_callbacks = skorch_callbacks

    def fit(self, X, y, subjects=None, X_target_unlabeled=None):
        """Fine-tune the network, or train it from scratch, on trials (n_trials, n_channels, n_times) and labels.

        Trials have channel names, their own or ``ch_names``. ``subjects`` (n_trials,) are for trials without domains.
        ``X_target_unlabeled`` are trials of the target subject: the reference of ``align="calibration"``, and the start
        of ``"running"``.
        """
        X, y = self._check_eeg(X, y, reset=True, dtype=np.float32)
        X, targets = as_eeg(X, subjects=subjects), self._check_labels(y)
        refuse_flat(X)
        if X.sfreq is not None and X.sfreq <= 24:
            raise ValueError(f"sfreq: got {X.sfreq:g} Hz, expected hertz above 24, twice the upper edge of 8-12 Hz.")
        if self.readout == "both" and X.sfreq is None:
            raise ValueError("sfreq: readout='both' filters the trials, whose rate is unknown; pass sfreq=.")
        if self.readout == "auto" and self.checkpoint is not None and X.sfreq is None:
            warn("sfreq: the rate is unknown: trials are not resampled, and only the network classifies; pass sfreq=.")
        self._start = read_start(self.checkpoint, dict(self.network_params or {}))
        self.description_ = self._start[1]
        self._warn_of_mismatch(X.ch_names)
        self.rate_ = self.description_.get("sfreq", RATE) if self.resample == "auto" else self.resample
        rate = None if X.sfreq is None else self.rate_
        self.steps_ = mirepnet_preprocessing(None, rate, self.align, self.domain, self.template)
        given = {"X_target_unlabeled": X_target_unlabeled}
        target = check_targets(self, given, len(X), may_be_empty=True, dtype=np.float32).get("X_target_unlabeled")
        prepared = fit_steps(self.steps_, X, target)
        both = self.readout == "both" or (self.readout == "auto" and self.checkpoint is not None and rate is not None)
        mirror = find_mirror(X.ch_names, self.classes_)
        self.mirror_ = mirror and find_mirror(prepared.ch_names, self.classes_)
        self.readout_ = TangentReadout(self.align, self.domain, mirror) if both else None
        with seeded(seed := draw_seed(self.random_state)):
            self.network_ = self._start_network(prepared, len(self.classes_))
            known = set() if self.checkpoint is None else set(self._checkpoint_labels() or ())
            self.pretrained_ = self.network_.copy() if known >= set(self.classes_.tolist()) else None
            self._train(prepared, targets, seed)
        if both:
            self.readout_.fit(X, targets, self._start_logits(prepared), target)
        return self

    def partial_fit(self, X, y, classes=None, subjects=None):
        """Train the fitted decoder further on trials of a target subject, by the recipe as it is set now.

        They have the shape of those at fit, and are also the reference of ``align="calibration"``, and the start of
        ``"running"``. Labels are among those at fit; ``classes`` and ``subjects`` are ignored.
        """
        if not self.__sklearn_is_fitted__():
            return self.fit(X, y, subjects=subjects)
        X, y = self._check_eeg(X, y, reset=False, dtype=np.float32)
        new = np.setdiff1d(y, self.classes_)
        if len(new):
            raise ValueError(f"y: {new.tolist()} are not among the classes at fit, {self.classes_.tolist()}.")
        targets = np.searchsorted(self.classes_, y)
        self.steps_, self.readout_ = copy.deepcopy((self.steps_, self.readout_))  # where training fails, they stay
        if self.align is not None:
            self.steps_.named_steps["align"].calibrate(self.steps_[:2].transform(X))
        prepared = self._preprocess(X)
        with seeded(seed := draw_seed(self.random_state)):
            self.network_ = self.network_.copy()
            self._train(prepared, targets, seed, subjects)
        if self.readout_ is not None:
            self.readout_.partial_fit(X, targets, self._start_logits(prepared))
        return self

    def _train(self, prepared, targets, seed, subjects=None):
        """Fine-tune the network, unless it classifies as pre-trained."""
        if self.readout != "pretrained":
            self.network_.keep(train(**self._training(prepared, targets, subjects, seed)))
        else:
            self._check_pretrained()

    def _check_pretrained(self):
        if self.pretrained_ is None:
            raise ValueError(
                f"readout: 'pretrained' needs a checkpoint that knows all of {self.classes_.tolist()}; it knows "
                f"{list(self._checkpoint_labels() or ())}."
            )

    def update(self, X):
        """Update the reference of ``align="running"`` with trials in the order of their recording.

        For online use: predict a trial, then update with it. `predict` itself never changes the estimator.
        """
        check_is_fitted(self)
        if self.align != "running":
            raise ValueError(f"align: got {self.align!r}, update() expects 'running'.")
        X = self._check_eeg(X, reset=False, dtype=np.float32)
        self.steps_.named_steps["align"].update(self.steps_[:2].transform(X))
        if self.readout_ is not None:
            self.readout_.update(X)
        return self

    def save_checkpoint(self, path):
        """Write the weights in the published layout, ``.safetensors`` or ``.pth``, as a ``checkpoint``."""
        check_is_fitted(self)
        save_weights(self.module_, path, describe(self, self.template))

    def _checkpoint_labels(self):
        return self.description_.get("classes") if self.checkpoint_classes is None else tuple(self.checkpoint_classes)

    def _warn_of_mismatch(self, ch_names):
        """Warn of labels that the checkpoint does not have, and of electrodes far from those it was trained on."""
        if not self.description_:
            return
        known = self._checkpoint_labels() or ()
        new = [label for label in self.classes_.tolist() if label not in known]
        if known and new:
            warn(
                f"checkpoint_classes: the weights have outputs for {', '.join(map(repr, known))}; those for "
                f"{', '.join(map(repr, new))} start at random. Give the labels of y these names (in MOABB: "
                "return_epochs=True, mne_labels=True), or checkpoint_classes those of y, where they mean the same."
            )
        if self.template is not None and ch_names is not None and count_near(ch_names, self.template) < 2:
            warn(
                f"ch_names: fewer than two of {', '.join(ch_names)} lie near the electrodes that the weights were "
                "trained on; record from the motor cortex (C3, Cz, C4), or train with checkpoint=None."
            )

    # Hooks of the base

    def _recipe(self):
        settings = {"name": self.recipe} if isinstance(self.recipe, str) else {"name": "default", **self.recipe}
        if settings["name"] == "default":
            described = vars(self).get("description_", {}).get("finetuning", {})
            advised = {name: described[name] for name in _FINETUNING if name in described}
            settings = advised | settings | {"name": "mirepnet-fork"}
        return get_recipe(
            settings, MIRepNet, max_epochs=self.max_epochs, batch_size=self.batch_size,
            learning_rate=self.learning_rate,
        )  # fmt: skip

    def _start_network(self, X, n_outputs):
        """Build the network for trials on the template, and load the checkpoint into it."""
        weights, _, sizes = self._start
        del self._start
        state = NetworkState(
            "MIRepNet", sizes, n_chans=X.shape[1], n_times=X.shape[2], n_outputs=n_outputs, sfreq=X.sfreq,
            ch_names=X.ch_names, precision=self.precision,
        ).start()  # fmt: skip
        if weights:
            state.load(weights, classes=self._checkpoint_labels(), wanted=self.classes_, file=self.checkpoint)
        return state

    def _preprocess(self, X):
        return self.steps_.transform(X)

    @property
    def _network_alone(self):
        return self.readout == "network" or (self.readout_ is None and self.readout != "pretrained")

    @property
    def augmentation(self):
        """What each batch of the fine-tuning goes through."""
        return None if self.mirror_ is None or self._network_alone else "Mirror"

    def _forward(self, X):
        if not self.__sklearn_is_fitted__() or self._network_alone:
            return super()._forward(X)
        X = self._check_eeg(X, reset=False, dtype=np.float32)
        prepared = self._preprocess(X)
        if self.readout == "pretrained":
            self._check_pretrained()
            return torch.from_numpy(self._logits(self.pretrained_, prepared))
        logits = NETWORK_WEIGHT * self._logits(self.network_, prepared)
        return torch.from_numpy(logits + self._start_logits(prepared) + self.readout_.logits(X))

    def _start_logits(self, prepared):
        """Logits of the network before it was fine-tuned, weighted; zero where it does not know every class."""
        if self.pretrained_ is None:
            return np.zeros((len(prepared), len(self.classes_)))
        return START_WEIGHT * self._logits(self.pretrained_, prepared)

    def _logits(self, network, prepared):
        """Logits of a network, the mean of those of a trial and of its mirror image."""
        data = network.pad(prepared)
        given = data if self.mirror_ is None else np.concatenate([data, data[:, self.mirror_[0]]])
        logits = network.forward(given, batch_size=self.batch_size, device=self.device).double().numpy()
        if self.mirror_ is None:
            return logits
        return (logits[: len(data)] + logits[len(data) :, self.mirror_[1]]) / 2


def mirepnet_pipeline(checkpoint=None, band=(8.0, 30.0), strategy="full", align="own", random_state=None):
    """Unfitted pipeline from raw trials to labels: ``bandpass``, then a `MIRepNetClassifier` as ``mirepnet``.

    Parameters
    ----------
    checkpoint, strategy, align, random_state
        See `MIRepNetClassifier`; its other parameters are set as ``mirepnet__max_epochs=...``.
    band : tuple of two floats or None
        Edges of the band-pass in hertz; None for trials that are filtered already.

    Returns
    -------
    pipeline : sklearn.pipeline.Pipeline

    Examples
    --------
    >>> from skeeg.methods.mirepnet import mirepnet_pipeline
    >>> list(mirepnet_pipeline(random_state=0).set_params(mirepnet__max_epochs=2).named_steps)
    ['bandpass', 'mirepnet']
    """
    steps = [] if band is None else [("bandpass", BandPass(*band))]
    settings = {"strategy": strategy, "align": align, "random_state": random_state}
    return Pipeline([*steps, ("mirepnet", MIRepNetClassifier(checkpoint, **settings))])
