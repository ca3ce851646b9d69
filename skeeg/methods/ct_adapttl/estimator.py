"""The CT-adaptTL classifier: pre-train on one task, adapt to a target subject's trials of another."""

import inspect

import numpy as np
import torch
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from ...array import make_domains
from ...base import BaseEEGClassifier, draw_seed, refuse_flat
from ...calibration import Calibration
from ...networks.seeding import seeded
from ...training import NetworkState, split_validation, train
from ...training.base import NetworkEstimator
from ...training.checkpoints import describe, write_weights
from .finetuning import (
    check_adaptation,
    check_layers,
    interpolate_weights,
    layer_rates,
    only_trainable,
    reestimate_norm,
)
from .initialization import Start, Target, find_subjects, load_start, read_start
from .network import CTAdaptTLNet
from .preprocessing import ALIGNMENTS, add_mirrored, find_mirror, make_alignment
from .pretraining import pool_sources, remember, split_folds, train_folds
from .recipes import PHASES, count_epochs, network_settings, phase_settings

_CHOICES = {
    "mode": ("adaptive", "independent", "specific"),
    "alignment": tuple(ALIGNMENTS),
    "on_unseen": ("calibration", "own"),
}


class CTAdaptTLClassifier(NetworkEstimator, BaseEEGClassifier):
    """Cross-task adaptive transfer learning [1]_: learn from movement execution, adapt to a subject's imagery.

    The network is pre-trained on the source task and then fine-tuned on labelled trials of the target subject. Source
    trials come in one of three ways:

    - `pretrain` takes them, of any number of subjects, and `fit` then takes the trials of the target subject;
    - `fit` takes them as X and y, with ``subjects``, and the target trials as ``X_target_labeled`` and
      ``y_target_labeled``: this is what MOABB's `CrossSubjectEvaluation` with a labelled calibration slice, and
      `skeeg.evaluations.CrossTaskEvaluation`, do by themselves;
    - ``checkpoint`` holds a network trained earlier, by `save_checkpoint` or published, and `fit` takes the trials of
      the target subject. Given source trials too, it is pre-trained on these first.

    Parameters
    ----------
    mode : {"adaptive", "independent", "specific"}
        Fine-tune the pre-trained network on the labelled target trials; use it as it is; or train a new network on
        the target trials alone. Without any, ``"adaptive"`` is ``"independent"``.
    checkpoint : str or None
        Weights to start from: a file (``.safetensors``, ``.pt``), or ``"skeeg:ct-adapttl-executed"`` (`skeeg.weights`).
        The published ones expect ``recipe="published"`` and ``alignment=None``.
    checkpoint_classes : tuple or None
        Label of each output of the checkpoint; of the published ones ``("right_hand", "left_hand")``. None takes what
        the file says; where it says nothing, its last layer is not used.
    recipe : {"default", "published"}
        Sizes of the network and settings of the three phases, see Notes.
    alignment : {"euclidean", "riemannian", None}
        Alignment of the trials by subject (`skeeg.EuclideanAlignment`, `skeeg.RiemannianAlignment`), or microvolts as
        they are, which is how the published networks were trained.
    on_unseen : {"calibration", "own"}
        Reference of the trials to predict: that of the target trials given to fit (else the mean of the sources), so
        that each trial is predicted alike alone and among others; or, from 8 trials on, those trials themselves.
    mirror_classes : tuple of two labels or None
        Labels that exchanging left and right electrodes exchanges, for training on mirrored trials too. Without these
        labels, or without the names of electrodes that have their opposites, there are no mirrored trials.
    memory : str or None
        Folder to cache pre-trained networks in: the same source, settings and seed are then trained once, whatever is
        adapted to. A learning curve in MOABB pre-trains anew for every point without it.
    max_epochs : int or None
        Limit to the epochs of every phase, for quick trials.
    network_params : dict or None
        Arguments of `CTAdaptTLNet` that differ from the recipe, such as ``{"n_filters": 8}``.
    pretrain_params, adapt_params, specific_params : dict or None
        Settings of a phase that differ from the recipe: fields of `skeeg.training.Recipe`, and those under Notes.
    precision : {"float32", "bf16", "float64"}
        Arithmetic of every phase, see `skeeg.training.Recipe`.
    ch_names, sfreq, device, random_state, verbose, skorch_callbacks
        As in `skeeg.NetworkClassifier`.

    Attributes
    ----------
    classes_ : ndarray, shape (n_classes,)
        Labels.
    steps_ : Pipeline
        Fitted preprocessing: what trials pass before the network.
    alignment_ : EuclideanAlignment, RiemannianAlignment or None
        Its only step.
    best_fold_ : int
        Fold of the pre-training with the lowest validation loss; -1 without pre-training.
    fold_losses_ : ndarray, shape (n_folds,)
        Lowest validation loss of each fold; NaN where nothing was held out.
    fold_histories_ : list of list of dict
        One record an epoch, for each fold.
    checkpoint_report_ : str or None
        What the checkpoint brought.
    module_, net_, history_, n_iter_, n_features_in_, n_times_in_
        As in `skeeg.NetworkClassifier`; the history is that of the last phase.

    Notes
    -----
    Settings of the phases beside those of `skeeg.training.Recipe`:

    - ``mirror`` (all phases): whether to train on mirrored trials too;
    - ``n_updates`` (all phases): fewest updates; where trials are few, there are more epochs than ``max_epochs``;
    - ``n_folds`` (pretrain): networks, each with a fold held out for early stopping, of which the best is kept; 1 holds
      out a fifth, 0 nothing. ``validation``: ``"subject"`` or ``"trial"``, what the folds hold out;
    - ``layers`` (adapt): what is fine-tuned, ``"all"`` or some of ``"temporal"``, ``"spatial"``, ``"norm"``,
      ``"hidden"`` and ``"final_layer"``; ``layer_decay``: factor on the rate from each layer to the one before;
    - ``norm`` (adapt): statistics of the batch normalisation, ``"train"``: moved on by the fine-tuning, ``"source"``:
      kept, ``"target"``: re-estimated on all target trials, labelled or not, and then kept;
    - ``share`` (adapt): weight interpolation [2]_ between the network before (0) and after (1) the fine-tuning;
    - ``validation_size`` (adapt): share of the labelled target trials to hold out for early stopping.

    All are searchable as ``adapt_params__share`` and so on. ``recipe="published"`` has the published sizes (in samples,
    for 500 Hz), solvers, rates and epochs; published are also ``alignment=None`` and ``validation="trial"``, where
    early stopping sees subjects it trains on. ``"default"`` pools over the whole trial and trains few epochs by
    AdamW on mirrored trials: better on the recordings measured, and hundreds of times faster.

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

    batch_size = 64  # trials at a time in prediction

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
        recipe="default",
        alignment="euclidean",
        on_unseen="calibration",
        mirror_classes=("left_hand", "right_hand"),
        memory=None,
        max_epochs=None,
        network_params=None,
        pretrain_params=None,
        adapt_params=None,
        specific_params=None,
        precision="float32",
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
        self.recipe = recipe
        self.alignment = alignment
        self.on_unseen = on_unseen
        self.mirror_classes = mirror_classes
        self.memory = memory
        self.max_epochs = max_epochs
        self.network_params = network_params
        self.pretrain_params = pretrain_params
        self.adapt_params = adapt_params
        self.specific_params = specific_params
        self.precision = precision
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
            subjects = find_subjects(X, subjects)
            data = self._fit_steps(X, subjects)
            start = self._learn_source(X, data, y, subjects, self._read_checkpoint(), self.classes_, seed)
            self._build(X, self.classes_, start)
        self.network_.history = list(self.fold_histories_[self.best_fold_])
        self.pretrained_ = {name: value.numpy() for name, value in start.state.items()}
        self.pretrained_classes_ = self.classes_
        return self

    def fit(self, X, y, subjects=None, X_target_unlabeled=None, X_target_labeled=None, y_target_labeled=None):
        """Learn to decode the target subject.

        With ``X_target_labeled`` or ``X_target_unlabeled``, or where there is neither a checkpoint nor an earlier call
        of `pretrain`, X and y are the source. Otherwise they are the target trials to adapt to.
        ``mode="specific"`` trains on ``X_target_labeled`` where given, else on X.

        Parameters
        ----------
        X : anything `as_eeg` accepts, shape (n_trials, n_channels, n_times)
            Trials of the source, or of the target subject.
        y : array-like, shape (n_trials,)
            Labels of any kind.
        subjects : array-like, shape (n_trials,), or None
            Subject of each trial of X, where X carries no domains.
        X_target_unlabeled : Calibration, anything `as_eeg` accepts, or None
            Target trials without labels, for the alignment and for ``norm="target"``.
        X_target_labeled : Calibration, anything `as_eeg` accepts, or None
            Target trials to adapt to.
        y_target_labeled : array-like, shape (n_target_trials,), or None
            Their labels.

        Returns
        -------
        self : CTAdaptTLClassifier
            Fitted.
        """
        X, y = self._check_source(X, y)
        source_classes = self.classes_
        target = self._check_target(len(X), X_target_unlabeled, X_target_labeled, y_target_labeled)
        subjects = find_subjects(X, subjects)
        seed = draw_seed(self.random_state)
        start = None if self.mode == "specific" else self._known_start()
        if target is None and (start is not None or self.mode == "specific"):
            target, data = Target([X], y), [self._fit_steps(X, subjects)]
        else:
            source = self._fit_steps(X, subjects, target)
            data = [] if target is None else [self._align(block) for block in target.blocks]
            if self.mode != "specific":
                with seeded(seed):
                    start = self._learn_source(X, source, y, subjects, start, source_classes, seed)
        with seeded(seed):  # anew: adapting in the same call or in a later one comes to the same
            self._learn_target(X, target, data, start, seed)
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

    def _fit_steps(self, X, subjects, target=None):
        """Fit the preprocessing to trials, and to those of a target subject beside them; give the trials aligned."""
        blocks = {} if target is None else dict(zip(target.names, target.blocks, strict=True))
        self.alignment_ = make_alignment(self.alignment, self.on_unseen, bool(blocks))
        data = self._in_precision(X)
        if self.alignment_ is None:
            return np.asarray(data)
        if blocks and subjects is not None:  # the target may be among the sources: its source task is another domain
            data = data.like(data, domains=make_domains(len(X), subject=[f"source {name}" for name in subjects]))
        blocks = {name: Calibration(self._in_precision(block)) for name, block in blocks.items()}
        return np.asarray(self.alignment_.fit_transform(data, subjects=subjects, **blocks))

    @property
    def steps_(self):
        """Fitted preprocessing as a pipeline."""
        check_is_fitted(self)
        return Pipeline([("alignment", "passthrough" if self.alignment_ is None else self.alignment_)])

    def _in_precision(self, X):
        return X.like(np.asarray(X, dtype=np.float64 if self.precision == "float64" else np.float32))

    def _align(self, X):
        """Trials after the preprocessing."""
        data = self._in_precision(X)
        return np.asarray(data if self.alignment_ is None else self.alignment_.transform(data))

    def _learn_source(self, X, data, y, subjects, start, classes, seed):
        """Pre-train on the source; give the weights of the best fold."""

        def build():
            self._build(X, classes, start)
            return self.module_

        build()  # first: it says how long trials must be
        recipe, own = self._phase("pretrain")
        mirror = find_mirror(X.ch_names, classes, self.mirror_classes) if own["mirror"] else None
        folds = split_folds(y, subjects, own["n_folds"], own["validation"], seed)
        data = self.network_.pad(data)
        before = None if start is None else {name: np.asarray(value) for name, value in start.state.items()}
        n_trials = len(folds[0][0]) * (1 if mirror is None else 2)
        recipe = count_epochs(recipe, own["n_updates"], n_trials, self.max_epochs)
        what = (data, y, folds, recipe, mirror, self._network_parameters(), before, seed)
        found = remember(
            self.memory, what, lambda: train_folds(build, data, y, folds, recipe, mirror, **self._settings())
        )
        self.best_fold_, self.fold_losses_, self.fold_histories_ = found.best, found.losses, found.histories
        return Start(found.state, tuple(classes))

    def _learn_target(self, X, target, data, start, seed):
        """Adapt to the target subject, or train on it alone, or take the network as it is."""
        self._build(X, self.classes_, start)
        history = None
        if self.mode == "specific":
            history = self._train_target("specific", target, data, seed)
        elif self.mode == "adaptive" and target is not None:
            history = self._adapt(target, data, start, seed)
        elif self.mode == "independent" and not start.knows(self.classes_):
            raise ValueError(
                "mode='independent' uses the last layer of the weights it starts from: name their labels by "
                f"checkpoint_classes; they must hold {', '.join(map(str, self.classes_))}."
            )
        if history is None:
            self.network_.history = list(self.fold_histories_[self.best_fold_] if self.best_fold_ >= 0 else [])

    def _adapt(self, target, data, start, seed):
        """Fine-tune ``module_``; give the history, or None without labels."""
        own = self._phase("adapt")[1]
        if own["norm"] == "target":
            reestimate_norm(self.module_, self.network_.pad(np.concatenate(data)))
        if target.y is None:
            return None
        before = {name: value.clone() for name, value in self.module_.state_dict().items()}
        history = self._train_target("adapt", target, data, seed)
        if start.knows(self.classes_):  # else the last layer is a new one: there is nothing to go back to
            interpolate_weights(self.module_, before, own["share"])
        return history

    def _train_target(self, phase, target, data, seed):
        """Train ``module_`` on the labelled target trials; give the history."""
        if target is None or target.y is None:
            raise ValueError("mode='specific' needs labelled trials of the target subject: pass X_target_labeled.")
        recipe, own = self._phase(phase)
        own = {"layers": "all", "layer_decay": 1.0, "norm": "train", "validation_size": None} | own
        data, y, share = self.network_.pad(data[0]), target.y, own["validation_size"]
        rows, held = split_validation(y, None if share is None else "trial", share, seed=seed)
        watched = None if held is None else (data[held], y[held])
        mirror = find_mirror(self.ch_names_in_, self.classes_, self.mirror_classes) if own["mirror"] else None
        trials, y = add_mirrored(data[rows], y[rows], mirror)
        recipe = count_epochs(recipe, own["n_updates"], len(y), self.max_epochs)
        layers = check_layers(own["layers"])
        with only_trainable(self.module_, layers, own["norm"] != "train"):
            net = train(
                self.module_,
                trials,
                y,
                recipe,
                validation=watched,
                parameter_groups=layer_rates(layers, recipe.learning_rate, own["layer_decay"]),
                **self._settings(),
            )
        return self.network_.keep(net).history

    def _settings(self):
        """Arguments of every training; what becomes of the norm's statistics is for ``norm`` to say."""
        callbacks = self.skorch_callbacks or ()
        return {"device": self.device, "verbose": self.verbose, "callbacks": callbacks, "settle": False}

    def _build(self, X, classes, start):
        """Build ``module_`` with one output a class, and load the weights it starts from."""
        earlier = self.checkpoint_report_ if self.__sklearn_is_fitted__() else None
        self.network_ = NetworkState(
            "CTAdaptTLNet", self._network_parameters(), n_chans=X.shape[1], n_times=X.shape[2], n_outputs=len(classes),
            sfreq=X.sfreq, precision=self.precision,
        ).start()  # fmt: skip
        if start is not None:
            report = load_start(self.module_, start, classes)
            if self.checkpoint is not None:
                self.network_.report = earlier or str(report)

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
        for phase in PHASES:
            self._phase(phase)
        y = self._check_labels(y)
        refuse_flat(X)
        vars(self).pop("network_", None)  # the report is that of the first network that the checkpoint is loaded into
        self.best_fold_, self.fold_losses_, self.fold_histories_ = -1, np.empty(0), []
        return X, y

    def _check_target(self, n_trials, unlabeled, labeled, y):
        """Check the target trials; None where there are none. New labels become the classes."""
        y = y.X if isinstance(y, Calibration) else y
        blocks = {}
        for name, given in {"X_target_labeled": labeled, "X_target_unlabeled": unlabeled}.items():
            given = Calibration.unwrap(given, name, n_trials)
            if given is not None and len(given):
                blocks[name] = self._check_block(given, name)
        if not blocks:
            return None
        if "X_target_labeled" not in blocks:
            return Target(list(blocks.values()), None, tuple(blocks))
        n_labeled = len(blocks["X_target_labeled"])
        if y is None or len(y) != n_labeled:
            n_labels = "no labels" if y is None else f"{len(y)} labels"
            raise ValueError(f"y_target_labeled: got {n_labels} for {n_labeled} trials in X_target_labeled.")
        y = np.asarray(y)
        known = np.isin(y, self.classes_).all()
        y = np.searchsorted(self.classes_, y).astype(np.int64) if known else self._check_labels(y)
        return Target(list(blocks.values()), y, tuple(blocks))

    def _check_block(self, block, name):
        """Check target trials as `predict` would."""
        try:
            block = self._check_eeg(block, reset=False, dtype=np.float32)
            refuse_flat(block)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        return block

    # What the base asks for

    def _network_parameters(self):
        defaults = {name: one.default for name, one in inspect.signature(CTAdaptTLNet).parameters.items()}
        sizes = {name: defaults[name] for name in ("n_filters", "pool_stride", "n_hidden", "drop_prob")}
        preset = sizes | network_settings(self.recipe, None, self.sfreq_in_)
        return self._sizes("CTAdaptTLNet", preset)

    def _phase(self, phase):
        """Recipe and other settings of a phase, checked."""
        changes = getattr(self, f"{phase}_params")
        training, own = phase_settings(self.recipe, phase, changes, self.precision)
        if phase == "adapt":
            check_adaptation(own)
        return training, own

    def _recipe(self):
        return self._phase("adapt")[0]

    def _preprocess(self, X):
        return self._align(X)
