"""The MIRepNet classifier: few labelled trials of a person, any headset, a pre-trained network."""

import warnings

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ...base import BaseEEGClassifier, refuse_flat
from ...calibration import Calibration
from ...filtering import at_rate
from ...montage import count_near
from ...training import NetworkState, Recipe
from ...training.base import NetworkEstimator
from ...training.checkpoints import describe
from .checkpoint import read_start, save_weights
from .form import RATE, apply_alignment, check_form, fit_alignment, on_template

_FINETUNING = {"max_epochs": 10, "batch_size": 8, "learning_rate": 1e-3, "time_shift": 0.0}
_SETTINGS = ("weight_decay", "solver", "schedule", "patience", "precision", "validation_size", "lora_rank")


class MIRepNetClassifier(NetworkEstimator, BaseEEGClassifier):
    """MIRepNet [1]_: a network pre-trained on other people's imagery, fine-tuned on few trials of one's own.

    Trials of any headset, in this order: resampled to the network's rate, whitened by the mean covariance of their
    person on the electrodes they were recorded with (Euclidean alignment), brought to 45 electrodes by inverse
    distances.
    Band-pass them to 8-30 Hz before, best as whole recordings; `mirepnet_pipeline` has all steps.

    Parameters
    ----------
    checkpoint : str or None
        Weights to start from: ``"skeeg:mirepnet-small"``, which ship with the package (`skeeg.weights`); a file that
        ``save_checkpoint`` wrote; the published ``MIRepNet.pth``; or ``"hub:owner/repository/file"``, such as
        ``"hub:starself/MIRepNet/MIRepNet.pth"``. None starts from scratch.
    checkpoint_classes : tuple or None
        Label of each output of the checkpoint; its last layer is then used for the labels that y has too. None: those
        that the checkpoint names itself; without any its last layer is not used, even where the number of classes
        agrees.
    network_params : dict or None
        Sizes of the network that differ from those that the checkpoint names, or from the published ones; see
        `MIRepNet`.
    strategy : {"full", "head", "probe", "lora"}
        What is trained: everything, as published; the last layer; a closed-form last layer on frozen features; or
        low-rank changes beside the last layer.
    align : {"own", "calibration", "source", "running", "block", None}
        Reference that trials to predict are whitened by. Trials of a person seen at fit have that person's reference
        from fit, one trial alone or among others. Trials of somebody else: their own mean, given 4 trials at least
        (``"own"``); that of ``X_target_unlabeled``; that of the people at fit; or a mean that moves on with every
        trial, for use online, see `update`. ``"block"``, as published: every call of `predict` uses the mean of the
        trials it is given, labels unused (transductive). None does not align.
    domain : {"subject", "session", "run"}
        What has a reference of its own.
    template : str, tuple of str or None
        Electrodes of the network, see `skeeg.ChannelTemplate`; None takes those recorded, in their order.
    resample : "auto", float or None
        Rate of the network in hertz, for trials whose own rate is known; None keeps it. ``"auto"`` is the rate that the
        checkpoint names, or 250 Hz.
    max_epochs, batch_size, learning_rate : int, int and float, or None
        See `skeeg.training.Recipe`. None is what suits the checkpoint, where it says so, or else the published
        fine-tuning: 10, 8 and 1e-3. The checkpoint may also advise random shifts in time (``time_shift``).
    weight_decay, solver, schedule, patience, precision
        See `skeeg.training.Recipe`; the defaults are the published fine-tuning.
    validation, validation_size, lora_rank
        As in `skeeg.NetworkClassifier`.
    ch_names, sfreq, device, random_state, verbose, skorch_callbacks
        As in `skeeg.NetworkClassifier`.

    Attributes
    ----------
    classes_ : ndarray, shape (n_classes,)
        Labels.
    aligner_ : EuclideanAlignment or None
        References of the people seen at fit.
    checkpoint_report_ : str or None
        What the checkpoint brought.
    description_ : dict
        What the checkpoint says of itself: sizes, rate, classes; empty without any.
    rate_ : float or None
        Rate of the network in hertz.
    module_, net_, history_, n_iter_, n_features_in_, n_times_in_
        As in `skeeg.NetworkClassifier`.

    Notes
    -----
    `transform` gives the features before the last layer, 256 in the published size.

    References
    ----------
    .. [1] Liu, D., et al. (2026). MIRepNet: a pipeline and pre-trained model for EEG-based motor imagery
       classification. Knowledge-Based Systems, 343, 115966. https://doi.org/10.1016/j.knosys.2026.115966

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg import MIRepNetClassifier
    >>> X, y = np.random.default_rng(0).normal(size=(12, 3, 250)), np.repeat(["left_hand", "right_hand"], 6)
    >>> known = {"ch_names": ("C3", "Cz", "C4"), "sfreq": 100}  # of trials that do not carry it
    >>> clf = MIRepNetClassifier("skeeg:mirepnet-small", random_state=0, **known).fit(X, y)
    >>> clf.predict_proba(X).shape, clf.transform(X).shape
    ((12, 2), (12, 64))
    """

    linear_map_ = "both"
    __metadata_request__fit = {"subjects": True, "X_target_unlabeled": True}

    def __init__(
        self,
        checkpoint=None,
        checkpoint_classes=None,
        network_params=None,
        strategy="full",
        align="own",
        domain="subject",
        template="mirepnet45",
        resample="auto",
        max_epochs=None,
        batch_size=None,
        learning_rate=None,
        weight_decay=1e-6,
        solver="adam",
        schedule="cosine",
        validation=None,
        validation_size=0.2,
        patience=None,
        precision="float32",
        lora_rank=4,
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
        self.strategy = strategy
        self.align = align
        self.domain = domain
        self.template = template
        self.resample = resample
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.solver = solver
        self.schedule = schedule
        self.validation = validation
        self.validation_size = validation_size
        self.patience = patience
        self.precision = precision
        self.lora_rank = lora_rank
        self.ch_names = ch_names
        self.sfreq = sfreq
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.skorch_callbacks = skorch_callbacks

    def fit(self, X, y, subjects=None, X_target_unlabeled=None):
        """Fine-tune the network, or train it from scratch.

        Parameters
        ----------
        X : anything `as_eeg` accepts, shape (n_trials, n_channels, n_times)
            Trials that know their electrodes' names, or names by ``ch_names``.
        y : array-like, shape (n_trials,)
            Labels of any kind.
        subjects : array-like, shape (n_trials,), or None
            Person of each trial, where X carries no domains.
        X_target_unlabeled : Calibration, anything `as_eeg` accepts, or None
            Trials of the person to predict, without labels: the reference of ``align="calibration"``, and the start of
            ``"running"``.

        Returns
        -------
        self : MIRepNetClassifier
            Fitted.
        """
        X, y = self._check_eeg(X, y, reset=True, dtype=np.float32)
        check_form(self)
        targets = self._check_labels(y)
        refuse_flat(X)
        self._start_from(X.ch_names)
        target = self._check_target(X_target_unlabeled, len(X))
        formed = at_rate(X, self.rate_)
        self.aligner_, formed = fit_alignment(formed, self.align, self.domain, subjects, target)
        self._fit_network(on_template(formed, self.template), targets, len(self.classes_), subjects)
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
        return self._probabilities(X)

    def update(self, X):
        """Move the reference on by these trials, for the predictions to come; with ``align="running"``.

        For use online: predict a trial, then update with it. `predict` alone never changes the estimator.

        Parameters
        ----------
        X : anything `as_eeg` accepts, shape (n_trials, n_channels, n_times)
            Trials, in the order they were recorded.

        Returns
        -------
        self : MIRepNetClassifier
            With its reference moved on.
        """
        check_is_fitted(self)
        if self.align != "running":
            raise ValueError(f"align: update() serves align='running', this one has {self.align!r}.")
        self.aligner_.update(at_rate(self._check_eeg(X, reset=False, dtype=np.float32), self.rate_))
        return self

    def save_checkpoint(self, path):
        """Write the weights in the published layout, to be the ``checkpoint`` of another one.

        Parameters
        ----------
        path : str or path-like
            A ``.safetensors`` or ``.pth`` file.
        """
        check_is_fitted(self)
        save_weights(self.module_, path, describe(self, self.template))

    def _check_target(self, target, n_trials):
        """Check trials of the person to predict as `predict` would."""
        target = Calibration.unwrap(target, "X_target_unlabeled", n_trials)
        if target is None or not len(target):
            return None
        try:
            return at_rate(self._check_eeg(target, reset=False, dtype=np.float32), self.rate_)
        except ValueError as error:
            raise ValueError(f"X_target_unlabeled: {error}") from error

    # What the base asks for

    def _start_from(self, ch_names):
        """Read what the checkpoint says of itself, and say what of it does not suit the trials."""
        self._start, self.description_, self._sizes_read = read_start(self.checkpoint, dict(self.network_params or {}))
        self.rate_ = self.description_.get("sfreq", RATE) if self.resample == "auto" else self.resample
        if not self.description_:
            return
        known = self.description_.get("classes", ()) if self.checkpoint_classes is None else self.checkpoint_classes
        new = [label for label in self.classes_.tolist() if label not in known]
        if known and new:
            warnings.warn(
                f"checkpoint_classes: the weights know {', '.join(map(repr, known))}; the outputs for "
                f"{', '.join(map(repr, new))} start at random. Give the labels of y these names, or checkpoint_classes "
                "those of y, where they mean the same.",
                stacklevel=3,
            )
        if self.template is not None and ch_names is not None and count_near(ch_names, self.template) < 2:
            warnings.warn(
                f"ch_names: fewer than two of {', '.join(ch_names)} lie near the electrodes that the weights were "
                "trained on; record from the motor cortex (C3, Cz, C4), or train from scratch with checkpoint=None.",
                stacklevel=3,
            )

    def _recipe(self):
        told = getattr(self, "description_", {}).get("finetuning", {})
        advised = {name: told.get(name, value) for name, value in _FINETUNING.items()}
        own = ("max_epochs", "batch_size", "learning_rate")
        given = {name: getattr(self, name) for name in own if getattr(self, name) is not None}
        return Recipe(**advised | given, **{name: getattr(self, name) for name in _SETTINGS})

    def _start_network(self, X, n_outputs):
        """Build the network for trials on the template, and load the checkpoint into it."""
        state = NetworkState(
            "MIRepNet", self._sizes_read, n_chans=X.shape[1], n_times=X.shape[2], n_outputs=n_outputs, sfreq=X.sfreq,
            precision=self.precision,
        ).start()  # fmt: skip
        if self._start:
            known = self.description_.get("classes") if self.checkpoint_classes is None else self.checkpoint_classes
            state.load(self._start, classes=known, wanted=self.classes_, file=self.checkpoint)
        del self._start, self._sizes_read
        return state

    def _preprocess(self, X):
        X = apply_alignment(self.aligner_, at_rate(X, self.rate_), self.align)
        return on_template(X, self.template)
