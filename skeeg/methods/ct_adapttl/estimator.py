"""The CT-adaptTL classifier: pre-train on one task, adapt to a person's trials of another."""

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from ...base import BaseEEGClassifier, draw_seed
from ...calibration import Calibration
from ...networks.seeding import seeded
from ...training import NetworkEstimator, split_validation, train
from ...training.checkpoints import describe, write_weights
from .adaptation import check_layers, keep_share, layer_rates, only_trainable, reestimate_norm
from .network import CTAdaptTLNet
from .pretraining import pool_sources, remember, split_folds, train_folds
from .recipes import phase_recipe
from .scaling import SCALES, scale_by_subject, whitener_of
from .start import Person, Start, find_subjects, load_start, read_start

_CHOICES = {
    "mode": ("adaptive", "independent", "specific"),
    "scale": SCALES,
    "on_unseen": ("calibration", "own"),
    "adapt_norm": ("train", "source", "target"),
}
_FEWEST = 8  # trials from which on_unseen="own" trusts a block to be its own reference


class CTAdaptTLClassifier(NetworkEstimator, BaseEEGClassifier):
    """Cross-task adaptive transfer learning [1]_: learn from movement execution, adapt to a person's imagery.

    The network learns from the source task (six folds, the best kept) and is then fine-tuned on labelled trials of the
    person to decode. Source trials come in one of three ways:

    - `pretrain` takes them, of any number of people, and `fit` then takes the trials of the person;
    - `fit` takes them as X and y, with ``subjects``, and the person's trials as ``X_target_labeled`` and
      ``y_target_labeled``: this is what MOABB's `CrossSubjectEvaluation` with a labelled calibration slice, and
      `skeeg.evaluations.CrossTaskEvaluation`, do by themselves;
    - ``checkpoint`` holds a network trained earlier, by `save_checkpoint` or published, and `fit` takes the trials of
      the person. Given source trials too, it learns these first.

    Parameters
    ----------
    mode : {"adaptive", "independent", "specific"}
        Fine-tune the pre-trained network on the person's labelled trials; use it as it is; or train a new network on
        the person's labelled trials alone. Without any, ``"adaptive"`` is ``"independent"``.
    checkpoint : str or None
        Weights to start from (``.safetensors``, ``.pt``). The published ones expect ``scale=None``.
    checkpoint_classes : tuple or None
        Label of each output of the checkpoint; of the published ones ``("right_hand", "left_hand")``. None: the last
        layer of the checkpoint is not used.
    scale : {"ea", "zscore", None}
        Euclidean alignment by subject; every channel divided by its standard deviation over the subject's trials; or
        microvolts as they are, which is how the published networks were trained.
    on_unseen : {"calibration", "own"}
        What scales the trials to predict: the person's trials given to fit (else the mean of the sources), so that
        each trial is predicted alike alone and among others; or, from 8 trials on, those trials themselves.
    n_folds : int
        Folds of the pre-training; 1 trains one network, with a fifth held out.
    validation : {"subject", "trial"}
        What the folds hold out. By trial, as published, early stopping sees people it trains on.
    memory : str or None
        Folder to keep pre-trained networks in: the same source, settings and seed are then learned once, whatever is
        adapted to. A learning curve in MOABB pre-trains anew for every point without it.
    max_epochs : int or None
        Limit to the epochs of every phase, for quick trials.
    pretrain_epochs, pretrain_learning_rate, pretrain_batch_size : int, float, int
        Pre-training.
    pretrain_solver : {"sgd", "adamw", "adam"}
        Optimiser of the pre-training; published is ``"sgd"`` without momentum.
    patience, min_delta : int, float
        Early stopping on the held-out loss: so many epochs without a fall by so much.
    adapt_epochs, adapt_learning_rate : int, float
        Fine-tuning.
    adapt_solver : {"sgd", "adamw", "adam"}
        Optimiser of the fine-tuning; published is ``"sgd"``, with momentum 0.4.
    adapt_layers : str or tuple of str
        Layers that are fine-tuned: ``"all"``, or some of ``"temporal"``, ``"spatial"``, ``"norm"``, ``"hidden"`` and
        ``"final_layer"``.
    layer_decay : float
        Factor on the learning rate from each layer to the one before it; 1 fine-tunes all at the same rate.
    adapt_norm : {"train", "source", "target"}
        Statistics of the batch normalisation: moved on by the fine-tuning as published; kept from the source;
        re-estimated on all target trials, labelled or not, and then kept.
    adapt_share : float
        Share of the change by fine-tuning that is kept, between the weights before (0) and after it (1, as published).
        Where a person's trials are few, half of the change serves better than all of it [2]_.
    adapt_validation : float or None
        Share of the labelled target trials to hold out for early stopping of the fine-tuning; None runs all epochs.
    scratch_epochs, scratch_learning_rate : int, float
        Training of ``mode="specific"``, by AdamW.
    batch_size : int
        Trials an update in fine-tuning and in ``mode="specific"``.
    weight_decay : float
        Of pre-training and of ``mode="specific"``; fine-tuning has none.
    precision : {"float32", "bf16", "float64"}
        Arithmetic of every phase, see `skeeg.training.Recipe`.
    n_filters, filter_length, pool_length, pool_stride, n_hidden, drop_prob
        See `CTAdaptTLNet`; lengths in samples, published for 500 Hz.
    ch_names, sfreq, device, random_state, verbose, skorch_callbacks
        As in `skeeg.NetworkClassifier`.

    Attributes
    ----------
    classes_ : ndarray, shape (n_classes,)
        Labels.
    best_fold_ : int
        Fold of the pre-training with the lowest validation loss; -1 without pre-training.
    fold_losses_ : ndarray, shape (n_folds,)
        Lowest validation loss of each fold.
    fold_histories_ : list of list of dict
        One record an epoch, for each fold.
    whitener_ : ndarray, shape (n_channels, n_channels), or None
        What trials are multiplied by.
    checkpoint_report_ : str or None
        What the checkpoint brought.
    module_, net_, history_, n_iter_, n_features_in_, n_times_in_
        As in `skeeg.NetworkClassifier`; the history is that of the last phase.

    Notes
    -----
    Published settings are the defaults but for ``scale`` (published: None) and ``validation`` (published: by trial):
    the recordings of the two published tasks differ forty-fold in amplitude, and nothing there brings them together.

    References
    ----------
    .. [1] Miao, M., Yang, Z., Zeng, H., Zhang, W., Xu, B., & Hu, W. (2023). Explainable cross-task adaptive transfer
       learning for motor imagery EEG classification. Journal of Neural Engineering, 20, 066021.
       https://doi.org/10.1088/1741-2552/ad0c61
    .. [2] Wortsman, M. et al. (2022). Robust fine-tuning of zero-shot models. CVPR, 7959-7971.
       https://doi.org/10.1109/CVPR52688.2022.00780

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.methods.ct_adapttl import CTAdaptTLClassifier
    >>> rng = np.random.default_rng(0)
    >>> executed, imagined = rng.normal(size=(2, 24, 3, 200))
    >>> y, subjects = np.tile(["left", "right"], 12), np.repeat([1, 2, 3], 8)
    >>> clf = CTAdaptTLClassifier(max_epochs=2, random_state=0).pretrain(executed, y, subjects=subjects)
    >>> clf.fit(imagined[:10], y[:10]).predict_proba(imagined[10:]).shape
    (14, 2)
    """

    __metadata_request__fit = {
        "subjects": True,
        "X_target_unlabeled": True,
        "X_target_labeled": True,
        "y_target_labeled": True,
    }

    _may_be_infinite = ("fold_losses_",)

    def __init__(
        self,
        mode="adaptive",
        checkpoint=None,
        checkpoint_classes=None,
        scale="ea",
        on_unseen="calibration",
        n_folds=6,
        validation="subject",
        memory=None,
        max_epochs=None,
        pretrain_epochs=600,
        pretrain_learning_rate=1e-3,
        pretrain_batch_size=32,
        pretrain_solver="sgd",
        patience=20,
        min_delta=1e-4,
        adapt_epochs=200,
        adapt_learning_rate=1e-2,
        adapt_solver="sgd",
        adapt_layers="all",
        layer_decay=1.0,
        adapt_norm="train",
        adapt_share=1.0,
        adapt_validation=None,
        scratch_epochs=60,
        scratch_learning_rate=1e-4,
        batch_size=40,
        weight_decay=5e-4,
        precision="float32",
        n_filters=40,
        filter_length=25,
        pool_length=75,
        pool_stride=15,
        n_hidden=200,
        drop_prob=0.5,
        ch_names=None,
        sfreq=None,
        device="auto",
        random_state=None,
        verbose=0,
        skorch_callbacks=None,
    ):
        self.mode = mode
        self.checkpoint = checkpoint
        self.checkpoint_classes = checkpoint_classes
        self.scale = scale
        self.on_unseen = on_unseen
        self.n_folds = n_folds
        self.validation = validation
        self.memory = memory
        self.max_epochs = max_epochs
        self.pretrain_epochs = pretrain_epochs
        self.pretrain_learning_rate = pretrain_learning_rate
        self.pretrain_batch_size = pretrain_batch_size
        self.pretrain_solver = pretrain_solver
        self.patience = patience
        self.min_delta = min_delta
        self.adapt_epochs = adapt_epochs
        self.adapt_learning_rate = adapt_learning_rate
        self.adapt_solver = adapt_solver
        self.adapt_layers = adapt_layers
        self.layer_decay = layer_decay
        self.adapt_norm = adapt_norm
        self.adapt_share = adapt_share
        self.adapt_validation = adapt_validation
        self.scratch_epochs = scratch_epochs
        self.scratch_learning_rate = scratch_learning_rate
        self.batch_size = batch_size
        self.weight_decay = weight_decay
        self.precision = precision
        self.n_filters = n_filters
        self.filter_length = filter_length
        self.pool_length = pool_length
        self.pool_stride = pool_stride
        self.n_hidden = n_hidden
        self.drop_prob = drop_prob
        self.ch_names = ch_names
        self.sfreq = sfreq
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.skorch_callbacks = skorch_callbacks

    def pretrain(self, Xs, ys, subjects=None):
        """Learn the source task; `fit` then starts from there.

        Parameters
        ----------
        Xs : anything `as_eeg` accepts, shape (n_trials, n_channels, n_times), or list of such
            Trials of the source task; a list holds one recording an entry.
        ys : array-like, shape (n_trials,), or list of such
            Labels.
        subjects : array-like, shape (n_trials,), list with one entry a recording, or None
            Who it is; None takes what the trials carry, else each recording of a list for one person.

        Returns
        -------
        self : CTAdaptTLClassifier
            With the pre-trained network; it predicts already, as ``mode="independent"`` does.
        """
        X, y, subjects = pool_sources(Xs, ys, subjects)
        X, y = self._check_source(X, y)
        seed = draw_seed(self.random_state)
        with seeded(seed):
            start = self._learn_source(X, y, find_subjects(X, subjects), self._read_checkpoint(), self.classes_, seed)
            self._build(X, self.classes_, start)
        self._finish(self.fold_histories_[self.best_fold_])
        self.pretrained_ = {name: value.numpy() for name, value in start.state.items()}
        self.pretrained_classes_ = self.classes_
        return self

    def fit(self, X, y, subjects=None, X_target_unlabeled=None, X_target_labeled=None, y_target_labeled=None):
        """Learn to decode the person whose trials these are.

        With ``X_target_labeled`` or ``X_target_unlabeled``, or where there is neither a checkpoint nor an earlier call
        of `pretrain`, X and y are the source. Otherwise they are the person's trials to adapt to.
        ``mode="specific"`` trains on ``X_target_labeled`` where given, else on X.

        Parameters
        ----------
        X : anything `as_eeg` accepts, shape (n_trials, n_channels, n_times)
            Trials of the source, or of the person.
        y : array-like, shape (n_trials,)
            Labels of any kind.
        subjects : array-like, shape (n_trials,), or None
            Subject of each trial of X, where X carries no domains.
        X_target_unlabeled : Calibration, anything `as_eeg` accepts, or None
            Trials of the person without labels, for ``scale`` and for ``adapt_norm="target"``.
        X_target_labeled : Calibration, anything `as_eeg` accepts, or None
            Trials of the person to adapt to.
        y_target_labeled : array-like, shape (n_target_trials,), or None
            Their labels.

        Returns
        -------
        self : CTAdaptTLClassifier
            Fitted.
        """
        X, y = self._check_source(X, y)
        source_classes = self.classes_
        person = self._check_person(len(X), X_target_unlabeled, X_target_labeled, y_target_labeled)
        subjects = find_subjects(X, subjects)
        seed = draw_seed(self.random_state)
        start = None if self.mode == "specific" else self._known_start()
        if person is None and (start is not None or self.mode == "specific"):
            person = Person(np.asarray(X), y, subjects)
        elif self.mode != "specific":
            with seeded(seed):
                start = self._learn_source(X, y, subjects, start, source_classes, seed)
        with seeded(seed):  # anew: adapting in the same call or in a later one comes to the same
            self._learn_person(X, person, start, seed)
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

    def save_checkpoint(self, path):
        """Write the weights of the network, to be the ``checkpoint`` of another one.

        Parameters
        ----------
        path : str or path-like
            A ``.safetensors`` file.
        """
        check_is_fitted(self)
        write_weights(path, self.module_.state_dict(), describe(self))

    # Phases

    def _learn_source(self, X, y, subjects, start, classes, seed):
        """Pre-train on the source; give the weights of the best fold."""
        data, self.whitener_ = scale_by_subject(self._in_precision(X), subjects, self.scale)

        def build():
            self._build(X, classes, start)
            return self.module_

        build()  # first: it says how long trials must be
        folds = split_folds(y, subjects, self.n_folds, self.validation, seed)
        data, recipe = self._pad(data), self._recipe("pretrain")
        before = None if start is None else {name: np.asarray(value) for name, value in start.state.items()}
        what = (data, y, folds, recipe, self._network_parameters(), before, seed)
        found = remember(self.memory, what, lambda: train_folds(build, data, y, folds, recipe, **self._settings()))
        self.best_fold_, self.fold_losses_, self.fold_histories_ = found.best, found.losses, found.histories
        return Start(found.state, tuple(classes))

    def _learn_person(self, X, person, start, seed):
        """Adapt to the person, or train on the person alone, or take the network as it is."""
        self._build(X, self.classes_, start)
        history = data = None
        if person is not None:
            data, self.whitener_ = scale_by_subject(self._in_precision(person.X), person.subjects, self.scale)
            data = self._pad(data)
        if self.mode == "specific":
            history = self._train_phase("scratch", data, person, seed)
        elif self.mode == "adaptive" and person is not None:
            if self.adapt_norm == "target":
                reestimate_norm(self.module_, data)
            if person.y is not None:
                before = {name: value.clone() for name, value in self.module_.state_dict().items()}
                history = self._train_phase("adapt", data, person, seed)
                keep_share(self.module_, before, self.adapt_share)
        if self.mode == "independent" and not start.knows(self.classes_):
            raise ValueError(
                "mode='independent' uses the last layer of the weights it starts from: name their labels by "
                f"checkpoint_classes; they must hold {', '.join(map(str, self.classes_))}."
            )
        if history is None:
            self._finish(self.fold_histories_[self.best_fold_] if self.best_fold_ >= 0 else [])
        else:
            self.history_ = [{k: v for k, v in row.items() if k != "batches"} for row in history]
            self.n_iter_ = len(self.history_)

    def _finish(self, history):
        """Take ``module_`` as it is, and the history of how it came to be."""
        self.history_, self.n_iter_ = list(history), max(len(history), 1)
        self.net_ = self._make_net()
        self.net_.history.extend(history)

    def _train_phase(self, phase, data, person, seed):
        """Train ``module_`` on the labelled trials of the person; give the history."""
        if person is None or person.y is None:
            raise ValueError("mode='specific' needs labelled trials of the person: pass X_target_labeled.")
        data, y = data[: len(person.y)], person.y
        recipe, adapts = self._recipe(phase), phase == "adapt"
        share = self.adapt_validation if adapts else None
        rows, held = split_validation(y, None if share is None else "trial", share, seed=seed)
        watched = None if held is None else (data[held], y[held])
        layers = check_layers(self.adapt_layers if adapts else "all")
        rates = layer_rates(layers, recipe.learning_rate, self.layer_decay if adapts else 1.0)
        with only_trainable(self.module_, layers, adapts and self.adapt_norm != "train"):
            self.net_ = train(
                self.module_,
                data[rows],
                y[rows],
                recipe,
                validation=watched,
                parameter_groups=rates,
                **self._settings(),
            )
        return self.net_.history

    def _settings(self):
        """Arguments of every training; what becomes of the norm's statistics is ``adapt_norm``'s affair."""
        callbacks = self.skorch_callbacks or ()
        return {"device": self.device, "verbose": self.verbose, "callbacks": callbacks, "settle": False}

    def _build(self, X, classes, start):
        """Build ``module_`` with one output a class, and load the weights it starts from."""
        self.network_spec_ = {
            "network": "CTAdaptTLNet",
            "parameters": self._network_parameters(),
            "n_chans": X.shape[1],
            "n_times": X.shape[2],
            "n_outputs": len(classes),
            "sfreq": X.sfreq,
            "ch_names": None,  # the network does not ask where its electrodes are
            "probe_features": None,
        }
        self.module_ = self._build_long_enough()
        if start is not None:
            report = load_start(self.module_, start, classes)
            if self.checkpoint is not None and self.checkpoint_report_ is None:
                self.checkpoint_report_ = str(report)

    def _known_start(self):
        """Weights of an earlier `pretrain`, else of the checkpoint."""
        if hasattr(self, "pretrained_"):
            state = {name: torch.as_tensor(np.array(value)) for name, value in self.pretrained_.items()}
            return Start(state, tuple(self.pretrained_classes_))
        return self._read_checkpoint()

    def _read_checkpoint(self):
        return None if self.checkpoint is None else read_start(self.checkpoint, self.checkpoint_classes)

    # Checks

    def _check_source(self, X, y):
        """Check settings, trials and labels; give trials and class indices."""
        X, y = self._check_eeg(X, y, reset=True, dtype=np.float32)
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                options = ", ".join(map(repr, allowed))
                raise ValueError(f"{name}: got {getattr(self, name)!r}, expected one of {options}.")
        if not 0 <= self.adapt_share <= 1:
            raise ValueError(f"adapt_share: got {self.adapt_share}, expected a share from 0 to 1.")
        if self.layer_decay <= 0:
            raise ValueError(f"layer_decay: got {self.layer_decay}, expected a positive number.")
        check_layers(self.adapt_layers)
        y = self._check_labels(y)
        self._refuse_flat(X)
        self.whitener_ = None
        self.best_fold_, self.fold_losses_, self.fold_histories_ = -1, np.empty(0), []
        self.checkpoint_report_ = None
        return X, y

    def _check_person(self, n_trials, unlabeled, labeled, y):
        """Check the trials of the person; None where there are none. New labels become the classes."""
        unlabeled = Calibration.unwrap(unlabeled, "X_target_unlabeled", n_trials)
        labeled = Calibration.unwrap(labeled, "X_target_labeled", n_trials)
        y = y.X if isinstance(y, Calibration) else y
        given = {"X_target_labeled": labeled, "X_target_unlabeled": unlabeled}
        blocks = [self._check_block(block, name) for name, block in given.items() if block is not None and len(block)]
        if not blocks:
            return None
        if labeled is None or not len(labeled):
            return Person(np.concatenate(blocks), None, None)
        if y is None or len(y) != len(blocks[0]):
            n_labels = "no labels" if y is None else f"{len(y)} labels"
            raise ValueError(f"y_target_labeled: got {n_labels} for {len(blocks[0])} trials in X_target_labeled.")
        y = np.asarray(y)
        if not np.isin(y, self.classes_).all():
            return Person(np.concatenate(blocks), self._check_labels(y), None)
        return Person(np.concatenate(blocks), np.searchsorted(self.classes_, y).astype(np.int64), None)

    def _check_block(self, block, name):
        """Check trials of the person as `predict` would."""
        try:
            block = self._check_eeg(block, reset=False, dtype=np.float32)
            self._refuse_flat(block)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        return np.asarray(block)

    # What the base asks for

    def _network_class(self, name):
        return CTAdaptTLNet

    def _network_parameters(self):
        names = ("n_filters", "filter_length", "pool_length", "pool_stride", "n_hidden", "drop_prob")
        return self._settle_sizes(self._changed(names), {name: getattr(self, name) for name in names})

    def _criterion(self):
        return "cross_entropy"

    def _recipe(self, phase="adapt"):
        return phase_recipe(self, phase)

    def _prepare(self, X, fit=False):
        """Trials as the network takes them: of its type, scaled by the person's reference, long enough."""
        data = self._in_precision(X)
        whitener = self.whitener_
        if whitener is not None and self.on_unseen == "own" and len(data) >= _FEWEST:
            whitener = whitener_of(data, self.scale)
        return self._pad(data if whitener is None else whitener.astype(data.dtype) @ data)

    def _pad(self, data):
        missing = self.network_spec_["n_times"] - data.shape[2]
        return np.pad(data, ((0, 0), (0, 0), (0, missing))) if missing else np.ascontiguousarray(data)
