"""The CT-adaptTL classifier: pre-train on one task, adapt to a target subject's trials of another."""

import copy

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted

from ...alignment import Calibration, check_targets
from ...array import as_eeg
from ...base import draw_seed, refuse_flat
from ...montage import canonical_name, find_mirror
from ...networks.seeding import seeded
from ...tangentspace import TangentReadout
from ...training import NetworkState, split_validation, train
from ...training.base import NetworkEstimator
from ...training.checkpoints import describe, read_weights, save_weights
from ...training.state import choose_sizes
from .preprocessing import ALIGNMENTS, MIN_TRIALS, add_mirrored, as_source, fit_steps
from .training import (
    PHASES,
    Start,
    check_layers,
    count_epochs,
    interpolate_weights,
    layer_rates,
    network_settings,
    only_trainable,
    phase_recipe,
    pool_sources,
    reestimate_norm,
    remember,
    split_folds,
    train_folds,
)

_PENALTIES = 0.15, None  # of the regression, which is symmetric
_LOWEST_RATE = 24.0  # hertz, twice the upper edge of its lowest band


class CTAdaptTLClassifier(ClassifierMixin, NetworkEstimator):
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
        The published ones need ``recipe="published"`` and ``alignment=None``.
    checkpoint_classes : tuple or None
        Label of each output of the checkpoint; of the published ones ``("right_hand", "left_hand")``. None takes those
        of the file; without any its last layer is not used.
    recipe : {"default", "published"}
        Sizes of the network and settings of the three phases, see Notes.
    alignment : {"euclidean", "riemannian", None}
        Alignment of the trials by subject, or none, as for the published networks.
    on_unseen : {"calibration", "own"}
        Reference of the trials to predict: that of the target trials given to fit (else the mean of the sources), so
        that each trial is predicted alike alone and among others; or, from 8 trials on, those trials themselves.
    mirror_classes : tuple of two labels or None
        Labels that are exchanged with left and right electrodes, for training on mirrored trials too. Without these
        labels, or without names of electrodes in pairs, there are no mirrored trials.
    memory : str or None
        Folder to cache pre-trained networks in: the same source, settings and seed are then trained once, for all
        targets, but for the regression. Without it, a learning curve in MOABB pre-trains anew for every point.
    max_epochs : int or None
        Limit to the epochs of every phase, for quick trials.
    network_params : dict or None
        Arguments of `CTAdaptTLNet` that differ from the recipe.
    pretrain_params, adapt_params, specific_params : dict or None
        Settings of a phase that differ from the recipe: fields of `skeeg.training.Recipe`, and those under Notes.
    precision, ch_names, sfreq, device, random_state, verbose, skorch_callbacks
        As in `skeeg.NetworkClassifier`.

    Attributes
    ----------
    classes_ : ndarray, shape (n_classes,)
        Labels.
    steps_ : Pipeline
        Fitted preprocessing, the alignment.
    fold_losses_, fold_histories_ : ndarray, shape (n_folds,), and list of list of dict
        Lowest validation loss of each fold of the pre-training, NaN where nothing was held out; one record an epoch.
    best_fold_ : int
        Fold with the lowest; -1 without pre-training.
    readout_ : TangentReadout or None
        Fitted regression beside the network.
    module_, net_, history_, n_iter_, checkpoint_report_
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
    - ``regression`` (adapt): whether a logistic regression on filter-bank tangent vectors of the source trials, then
      drawn from these weights to the labelled target trials, decides beside the network: its logits are added. It
      needs source trials, given to `fit` or `pretrain` (a checkpoint has none), of known rate, and the same electrodes
      and labels in the target; else the network decides alone. ``class_weight`` does not concern it;
    - ``share`` (adapt): weight interpolation [2]_ between the network before (0) and after (1) the fine-tuning;
    - ``validation_size`` (adapt): share of the labelled target trials to hold out for early stopping.

    ``recipe="published"`` has the published sizes (in samples, for 500 Hz), solvers, rates and epochs; published are
    also ``alignment=None`` and ``validation="trial"``, where early stopping sees subjects it trains on. ``"default"``
    pools over the whole trial and trains few epochs by AdamW on mirrored trials, and has the regression.
    `skeeg.explain` explains the network alone.

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
    _parameter_constraints = {
        "mode": [StrOptions({"adaptive", "independent", "specific"})],
        "alignment": [StrOptions(set(ALIGNMENTS)), None],
        "on_unseen": [StrOptions({"calibration", "own"})],
        "recipe": [str],
    }

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
        """Train on the source task; `fit` then starts from these weights, and `predict` uses them.

        ``Xs`` (n_trials, n_channels, n_times) and ``ys`` (n_trials,) may be lists with a recording an entry.
        ``subjects`` None takes those that the trials carry, else each recording of a list for one.
        """
        X, y, subjects = pool_sources(Xs, ys, subjects)
        X, y = self._check_source(X, y, subjects)
        seed = draw_seed(self.random_state)
        with seeded(seed):
            data = self._fit_steps(X)
            start = self._learn_source(X, data, y, self._find_start(earlier=False), self.classes_, seed)
            self._build(X, self.classes_, start)
        self.network_.history = list(self.fold_histories_[self.best_fold_])
        self.pretrained_ = {name: value.numpy() for name, value in start.state.items()}
        self.pretrained_classes_ = self.classes_
        self.readout_, self.pretrained_readout_ = None, self._fit_readout(X, y)
        return self

    def fit(self, X, y, subjects=None, X_target_unlabeled=None, X_target_labeled=None, y_target_labeled=None):
        """Train for the target subject.

        With ``X_target_labeled`` or ``X_target_unlabeled``, or where there is neither a checkpoint nor an earlier call
        of `pretrain`, X and y are the source. Otherwise they are the target trials to adapt to. ``mode="specific"``
        trains on ``X_target_labeled`` where given, else on X. All trials are (n_trials, n_channels, n_times); those
        without labels are for the alignment and for ``norm="target"``. ``subjects`` (n_trials,) are for trials X
        without domains.
        """
        X, y = self._check_source(X, y, subjects)
        source_classes, self.readout_ = self.classes_, None
        targets, y_target = self._check_target(len(X), X_target_unlabeled, X_target_labeled, y_target_labeled)
        seed = draw_seed(self.random_state)
        start = None if self.mode == "specific" else self._find_start()
        if not targets and (start is not None or self.mode == "specific"):  # X is of the target subject
            data, y_target = [self._fit_steps(X)], y
            labeled, readout = X, vars(self).get("pretrained_readout_")
            source_classes = vars(self).get("pretrained_classes_")
        else:
            labeled, adapts = targets.get("X_target_labeled"), y_target is not None and self.mode == "adaptive"
            same = np.array_equal(source_classes, self.classes_)
            readout = self._fit_readout(X, y) if adapts and same else None
            source = self._fit_steps(X, targets)
            data = [np.asarray(self.steps_.transform(block)) for block in targets.values()]
            if self.mode != "specific":
                with seeded(seed):
                    start = self._learn_source(X, source, y, start, source_classes, seed)
        with seeded(seed):  # anew: adapting in the same call or in a later one gives the same network
            self._build(X, self.classes_, start)
            self._learn_target(data, y_target, start, seed)
        if readout is not None and np.array_equal(source_classes, self.classes_):
            self._adapt_readout(readout, labeled, y_target, list(targets.values()))
        return self

    def save_checkpoint(self, path):
        """Write the weights in the published layout, ``.safetensors`` or ``.pth``, as a ``checkpoint``."""
        check_is_fitted(self)
        save_weights(self.module_, path, describe(self))

    # Phases

    def _fit_steps(self, X, targets=None):
        self.steps_, X = fit_steps(self.alignment, self.on_unseen, X, targets)
        return np.asarray(X)

    def _fit_readout(self, X, y):
        """Fit the regression beside the network to the source; None where there is none."""
        recipe = self._phase("adapt")
        if not recipe.regression or (X.sfreq or 0) <= _LOWEST_RATE:
            return None
        mirror = self._find_mirror(X.ch_names, self.classes_, recipe)
        readout = TangentReadout(self._readout_align(), "subject", mirror, _PENALTIES)
        return readout.fit(as_source(X), y, np.zeros((len(X), len(self.classes_))))

    def _adapt_readout(self, readout, labeled, y, blocks):
        """Draw a regression of the source to the target, if this is what the settings of now ask for."""
        align = self._readout_align()
        wanted = self.mode == "adaptive" and self._phase("adapt").regression and y is not None
        if not wanted or (readout.align is None) != (align is None):
            return
        if not _are_same(labeled.ch_names, readout.ch_names):
            return
        readout = copy.deepcopy(readout)
        readout.set_rule(align, MIN_TRIALS)
        reference = np.concatenate([np.asarray(block) for block in blocks or [labeled]])
        readout.partial_fit(labeled, y, 0.0, labeled.like(reference, domains=None))
        self.readout_ = readout

    def _readout_align(self):
        return None if self.alignment is None else self.on_unseen

    def _learn_source(self, X, data, y, start, classes, seed):
        """Pre-train on the source; return the weights of the best fold."""

        def build():
            self._build(X, classes, start)
            return self.module_

        build()  # first: it may need longer trials
        recipe = self._weighted(self._phase("pretrain"), classes)
        mirror = self._find_mirror(X.ch_names, classes, recipe)
        subjects = None if X.domains is None else X.domains["subject"]
        folds = split_folds(y, subjects, recipe.n_folds, recipe.validation, seed)
        data = self.network_.pad(data)
        before = None if start is None else {name: np.asarray(value) for name, value in start.state.items()}
        n_trials = len(folds[0][0]) * (1 if mirror is None else 2)
        recipe = count_epochs(recipe, n_trials, self.max_epochs)
        what = (data, y, folds, recipe, mirror, self._network_parameters(), before, seed)
        found = remember(
            self.memory, what, lambda: train_folds(build, data, y, folds, recipe, mirror, **self._settings())
        )
        self.best_fold_, self.fold_losses_, self.fold_histories_ = found.best, found.losses, found.histories
        return Start(found.state, tuple(classes))

    def _find_mirror(self, ch_names, classes, recipe):
        """Electrodes and classes after left and right are exchanged, where a phase of this recipe mirrors."""
        if not recipe.mirror or self.mirror_classes is None:
            return None
        return find_mirror(ch_names, classes, self.mirror_classes)

    def _learn_target(self, data, y, start, seed):
        """Adapt to the target subject, or train on it alone, or keep the network."""
        data = [self.network_.pad(block) for block in data]
        if self.mode == "specific":
            if y is None:
                raise ValueError("mode='specific' needs labelled trials of the target subject: pass X_target_labeled.")
            self._train_target("specific", data[0], y, seed)
            return
        if self.mode == "independent" and not start.has(self.classes_):
            raise ValueError(f"checkpoint_classes: mode='independent' needs all of {self.classes_.tolist()}.")
        recipe = self._phase("adapt")
        if self.mode == "adaptive" and data and recipe.norm == "target":
            reestimate_norm(self.module_, np.concatenate(data))
        if self.mode == "independent" or y is None:
            self.network_.history = list(self.fold_histories_[self.best_fold_]) if self.best_fold_ >= 0 else []
            return
        before = {name: value.clone() for name, value in self.module_.state_dict().items()}
        self._train_target("adapt", data[0], y, seed)
        if start.has(self.classes_):  # else the last layer is new: there is nothing to interpolate with
            interpolate_weights(self.module_, before, recipe.share)

    def _train_target(self, phase, data, y, seed):
        """Train ``module_`` on labelled target trials."""
        recipe = self._weighted(self._phase(phase))
        share = recipe.validation_size
        rows, held = split_validation(y, None if share is None else "trial", share, seed=seed)
        watched = None if held is None else (data[held], y[held])
        mirror = self._find_mirror(self.ch_names_in_, self.classes_, recipe)
        trials, y = add_mirrored(data[rows], y[rows], mirror)
        recipe = count_epochs(recipe, len(y), self.max_epochs)
        layers = check_layers(recipe.layers)
        groups = layer_rates(layers, recipe.learning_rate, recipe.layer_decay)
        with only_trainable(self.module_, layers, recipe.norm != "train"):
            net = train(
                self.module_, trials, y, recipe, validation=watched, parameter_groups=groups, **self._settings()
            )
        self.network_.keep(net)

    def _settings(self):
        """Arguments of every training; the statistics of the normalisation follow ``norm``."""
        return {
            "device": self.device, "verbose": self.verbose, "callbacks": self._callbacks(), "settle": False,
            "n_outputs": self.network_.spec["n_outputs"],
        }  # fmt: skip

    def _build(self, X, classes, start):
        """Build ``module_`` with one output a class, and load the weights it starts from."""
        earlier = self.checkpoint_report_ if self.__sklearn_is_fitted__() else None
        self.network_ = NetworkState(
            "CTAdaptTLNet", self._network_parameters(), n_chans=X.shape[1], n_times=X.shape[2], n_outputs=len(classes),
            sfreq=X.sfreq, precision=self.precision,
        ).start()  # fmt: skip
        if start is not None:
            try:
                self.network_.load(start.state, classes=start.classes, wanted=classes)
            except ValueError as error:
                if "reshaped" not in str(error):
                    raise
                raise ValueError(f"X: {X.shape[1]} channels of {X.shape[2]} samples do not fit: {error}") from error
            self.network_.report = None if self.checkpoint is None else earlier or self.network_.report

    def _find_start(self, earlier=True):
        """Weights of an earlier `pretrain`, else of the checkpoint."""
        if earlier and "pretrained_" in vars(self):
            state = {name: torch.as_tensor(np.array(value)) for name, value in self.pretrained_.items()}
            return Start(state, tuple(self.pretrained_classes_))
        if self.checkpoint is None:
            return None
        state, description = read_weights(self.checkpoint)
        classes = description.get("classes") if self.checkpoint_classes is None else self.checkpoint_classes
        return Start(state, None if classes is None else tuple(classes))

    # Checks

    def _check_parameters(self):
        super()._check_parameters()
        for phase in PHASES:
            self._phase(phase)

    def _check_source(self, X, y, subjects):
        """Check trials and labels; return the trials in the precision of the network, and class indices."""
        X, y = self._check_eeg(X, y, reset=True, dtype=np.float32)
        y = self._check_labels(y)
        refuse_flat(X)
        vars(self).pop("network_", None)  # the report is that of the first network that the checkpoint is loaded into
        self.best_fold_, self.fold_losses_, self.fold_histories_ = -1, np.empty(0), []
        return as_eeg(self._in_precision(X), subjects=subjects), y

    def _check_target(self, n_trials, unlabeled, labeled, y):
        """Check the target trials as `predict` does; return them by name, and class indices or None.

        New labels become the classes.
        """
        y = y.X if isinstance(y, Calibration) else y
        given = {"X_target_labeled": labeled, "X_target_unlabeled": unlabeled}
        targets = check_targets(self, given, n_trials, may_be_empty=True, dtype=np.float32)
        for name, block in targets.items():
            refuse_flat(block, name)
            targets[name] = self._in_precision(block)
        if "X_target_labeled" not in targets:
            return targets, None
        n_labeled = len(targets["X_target_labeled"])
        if y is None or len(y) != n_labeled:
            n_labels = "no labels" if y is None else f"{len(y)} labels"
            raise ValueError(f"y_target_labeled: got {n_labels} for {n_labeled} trials in X_target_labeled.")
        known = np.isin(y, self.classes_).all()
        return targets, np.searchsorted(self.classes_, y) if known else self._check_labels(np.asarray(y))

    # Hooks of the base

    def _network_parameters(self):
        preset = network_settings(self.recipe, self.sfreq_in_)
        return choose_sizes("CTAdaptTLNet", self.network_params, self.checkpoint, preset)

    def _phase(self, phase):
        """Recipe of a phase."""
        changes = {"pretrain": self.pretrain_params, "adapt": self.adapt_params, "specific": self.specific_params}
        return phase_recipe(self.recipe, phase, changes[phase], self.precision)

    def _recipe(self):
        return self._phase("adapt")

    def _in_precision(self, X):
        return X.like(np.asarray(X, dtype=np.float64 if self.precision == "float64" else np.float32))

    def _preprocess(self, X):
        return self.steps_.transform(self._in_precision(X))

    @property
    def _network_alone(self):
        return self.readout_ is None

    def _forward(self, X):
        logits = super()._forward(X)
        if self.readout_ is None:
            return logits
        X = self._check_eeg(X, reset=False, dtype=np.float32)
        return logits + torch.from_numpy(self.readout_.logits(X))


def _are_same(ch_names, others):
    """Whether two montages are the same but for how their names are spelled."""
    return [*map(canonical_name, ch_names or ())] == [*map(canonical_name, others or ())]
