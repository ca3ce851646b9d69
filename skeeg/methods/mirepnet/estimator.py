"""The MIRepNet classifier: few labelled trials of a person, any headset, a pre-trained network."""

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ...base import BaseEEGClassifier
from ...calibration import Calibration
from ...filtering import at_rate
from ...training import NetworkEstimator, load_checkpoint
from ...training.checkpoints import describe
from .checkpoint import PUBLISHED, read_start, save_weights
from .form import RATE, apply_alignment, check_form, fit_alignment, on_template, padded
from .network import MIRepNet


class MIRepNetClassifier(NetworkEstimator, BaseEEGClassifier):
    """MIRepNet [1]_: a network pre-trained on other people's imagery, fine-tuned on few trials of one's own.

    Trials of any headset, in this order: resampled to the network's rate, whitened by the mean covariance of their
    person on the electrodes they were recorded with (Euclidean alignment), brought to 45 electrodes by inverse
    distances.
    Band-pass them to 8-30 Hz before, best as whole recordings; `mirepnet_pipeline` has all steps.

    Parameters
    ----------
    checkpoint : str or None
        Weights to start from: a file that `MIRepNetPretrainer.save_checkpoint` wrote, the published ``MIRepNet.pth``,
        or ``"hub:owner/repository/file"``, such as ``"hub:starself/MIRepNet/MIRepNet.pth"``. None starts from scratch.
    checkpoint_classes : tuple or None
        Label of each output of the checkpoint; its last layer is then used for the labels that y has too. None: it is
        not used, even where the number of classes agrees.
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
    resample : float or None
        Rate of the network in hertz, for trials whose own rate is known; None keeps it.
    max_epochs, batch_size, learning_rate, weight_decay, solver, schedule, patience, precision
        See `skeeg.training.Recipe`; the defaults are the published fine-tuning.
    validation, validation_size, lora_rank
        As in `skeeg.NetworkClassifier`.
    embed_dim, n_layers, n_heads, n_filters_time, n_filters, filter_length, pool_length, pool_stride
        See `MIRepNet`; None takes what the checkpoint has, else the published size.
    drop_prob, merge
        See `MIRepNet`.
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
    module_, net_, history_, n_iter_, n_features_in_, n_times_in_
        As in `skeeg.NetworkClassifier`.

    Notes
    -----
    `transform` gives the 256 features before the last layer.

    References
    ----------
    .. [1] Liu, D., et al. (2026). MIRepNet: a pipeline and pre-trained model for EEG-based motor imagery
       classification. Knowledge-Based Systems, 343, 115966. https://doi.org/10.1016/j.knosys.2026.115966

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg import MIRepNetClassifier
    >>> X, y = np.random.default_rng(0).normal(size=(12, 3, 250)), np.repeat(["left", "right"], 6)
    >>> clf = MIRepNetClassifier(ch_names=("C3", "Cz", "C4"), n_layers=1, max_epochs=1, random_state=0).fit(X, y)
    >>> clf.predict_proba(X).shape, clf.transform(X).shape
    ((12, 2), (12, 256))
    """

    __metadata_request__fit = {"subjects": True, "X_target_unlabeled": True}

    def __init__(
        self,
        checkpoint=None,
        checkpoint_classes=None,
        strategy="full",
        align="own",
        domain="subject",
        template="mirepnet45",
        resample=RATE,
        max_epochs=10,
        batch_size=8,
        learning_rate=1e-3,
        weight_decay=1e-6,
        solver="adam",
        schedule="cosine",
        validation=None,
        validation_size=0.2,
        patience=None,
        precision="float32",
        lora_rank=4,
        embed_dim=None,
        n_layers=None,
        n_heads=None,
        drop_prob=0.5,
        n_filters_time=None,
        n_filters=None,
        filter_length=None,
        pool_length=None,
        pool_stride=None,
        merge=True,
        ch_names=None,
        sfreq=None,
        device="auto",
        random_state=None,
        verbose=0,
        skorch_callbacks=None,
    ):
        self.checkpoint = checkpoint
        self.checkpoint_classes = checkpoint_classes
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
        self.embed_dim = embed_dim
        self.n_layers = n_layers
        self.n_heads = n_heads
        self.drop_prob = drop_prob
        self.n_filters_time = n_filters_time
        self.n_filters = n_filters
        self.filter_length = filter_length
        self.pool_length = pool_length
        self.pool_stride = pool_stride
        self.merge = merge
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
        self._refuse_flat(X)
        target = self._check_target(X_target_unlabeled, len(X))
        formed = at_rate(X, self.resample)
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
        self.aligner_.update(at_rate(self._check_eeg(X, reset=False, dtype=np.float32), self.resample))
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
            return at_rate(self._check_eeg(target, reset=False, dtype=np.float32), self.resample)
        except ValueError as error:
            raise ValueError(f"X_target_unlabeled: {error}") from error

    # What the base asks for

    def _network_class(self, name):
        return MIRepNet

    def _criterion(self):
        return "cross_entropy"

    def _start_network(self, X, n_outputs):
        """Build the network for trials on the template, and load the checkpoint into it."""
        given = {name: getattr(self, name) for name in PUBLISHED}
        state, sizes = read_start(self.checkpoint, given)
        self.network_spec_ = {
            "network": "MIRepNet",
            "parameters": {**sizes, "drop_prob": self.drop_prob, "merge": self.merge},
            "n_chans": X.shape[1],
            "n_times": X.shape[2],
            "n_outputs": int(n_outputs),
            "sfreq": X.sfreq,
            "ch_names": None,  # the template says where the electrodes are
            "probe_features": None,
        }
        self.module_ = self._build_long_enough()
        self.checkpoint_report_ = None
        if state:
            report = load_checkpoint(
                self.module_, state, classes=self.checkpoint_classes, wanted=self.classes_, file=self.checkpoint
            )
            self.checkpoint_report_ = str(report)

    def _prepare(self, X, fit=False):
        """Trials as the network takes them; those of fit have been brought to the template already."""
        if not fit:
            X = apply_alignment(self.aligner_, at_rate(X, self.resample), self.align)
            X = on_template(X, self.template)
        data = np.asarray(X, dtype=np.float64 if self.precision == "float64" else np.float32)
        return padded(data, self.network_spec_["n_times"])
