"""Pre-training of MIRepNet: guess hidden tokens and tell classes apart, on as many people as there are."""

import dataclasses

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from ...filtering import at_rate
from ...montage import template_names
from ...networks.seeding import seeded
from ...training import NetworkEstimator, load_checkpoint, split_validation
from ...training.checkpoints import describe
from ...training.pretraining import fingerprint, open_run, pretrain, ranks
from ...training.recipe import make_net, resolve_device
from .checkpoint import read_start, save_weights
from .form import RATE, apply_alignment, check_form, fit_alignment, on_template, padded
from .network import MIRepNet
from .objective import HybridLoss, MaskedModel
from .recordings import list_recordings, pool_recordings, read_labels


class MIRepNetPretrainer(NetworkEstimator):
    """Pre-train MIRepNet [1]_ on recordings of other people; upstream never published how.

    Half of the tokens of each trial are hidden. The network guesses them from the others (mean squared length of the
    error over the hidden tokens) and tells the classes apart at once (cross-entropy), both with equal weight.
    Recordings may differ in montage, rate, window and classes: each is aligned by person and interpolated to 45
    electrodes, and classes of the same name are the same class. Trials without labels take part in the guessing only.

    Parameters
    ----------
    network_params : dict or None
        Sizes of the network that differ from the published ones; see `MIRepNet`. The decoder has two blocks.
    mask_ratio : float
        Share of the tokens to hide.
    rec_weight, cls_weight : float
        Weights of the two terms. Without the first nothing is hidden, and the training is supervised only; without the
        second, or without y, it is self-supervised.
    reconstruct : {"masked", "all"}
        Tokens whose error counts.
    detach_target : bool
        Whether the tokens to guess are taken as given. False, as in the published network's forward pass, lets the
        tokenizer learn to be guessed.
    screen : {None, "significant"} or float
        Leave out people whose classes a simple decoder cannot tell apart: the ``threshold`` of
        `skeeg.screen_subjects`. The published threshold is not known.
    align, domain, template, resample
        As in `MIRepNetClassifier`.
    n_times : int or None
        Samples of a trial, 1000 as published; longer ones are cut, shorter ones go on backwards. None takes the
        longest.
    montages : int or None
        Montages that each subject is seen in, all electrodes and random subsets of them, common headsets among these;
        each trial of each batch is aligned and interpolated in one of them, drawn anew. Weights that have seen one
        montage alone do not serve others. None uses the electrodes as recorded.
    crops : bool
        Whether a trial that is longer than ``n_times`` begins at a random sample, drawn anew for each batch; otherwise
        its end is cut.
    balance : bool
        Whether each class of each subject is drawn as often as any other; otherwise each trial is used once an epoch.
    checkpoint : str or None
        Weights to start from, decoder and mask token included where it has them.
    run_file : str or None
        File to keep the state of the training in after every epoch. Where it is there already, from the same trials
        and settings, the training goes on from it and ends with the weights, to the bit, that it would have had
        without the interruption. It may go on with more or fewer processes, see Notes.
    accumulate : int
        Batches an update, for a GPU that cannot hold a larger batch; see `skeeg.training.Recipe`.
    max_epochs, batch_size, learning_rate, weight_decay, solver, schedule, warmup, precision
        See `skeeg.training.Recipe`; the defaults are the published ones where these are known. The rate moves with
        every update.
    validation, validation_size
        As in `skeeg.NetworkClassifier`: ``"subject"`` holds people out and notes the curve of each of them in
        ``history_``; nothing is stopped or chosen by it.
    ch_names, sfreq, device, random_state, verbose, skorch_callbacks
        As in `skeeg.NetworkClassifier`; ``verbose`` also prints the trials a second.

    Attributes
    ----------
    classes_ : ndarray, shape (n_classes,)
        Labels of all recordings; empty without any.
    history_ : list of dict
        One record an epoch: both parts of the loss, the accuracy, the same for the validation people together and
        each (``valid_by_subject``), trials a second.
    throughput_ : float
        Median of the trials a second.
    screening_ : dict of str to float
        Accuracy of each person where they were screened.
    aligners_ : list of EuclideanAlignment or None
        References of the people of each recording.
    module_, net_, n_iter_, checkpoint_report_
        As in `skeeg.NetworkClassifier`.

    Notes
    -----
    A script that fits this, started by ``torchrun --nproc_per_node=N`` or ``accelerate launch``, trains on N GPUs or in
    N processes. Each process fits the same trials and takes its part of every update, ``N * batch_size * accumulate``
    trials. While that product stays the same, so does the loss of every update, to rounding, and a run that is broken
    off goes on along the same curve with another number of processes. These differ: dropout, which every process draws
    for itself, and the statistics of batch normalisation, which are those of ``N * batch_size`` trials. Another product
    is another training from there on: as many epochs, but of more or fewer updates. The first process writes
    ``run_file`` and prints; in the end all have the same network and ``history_``.

    References
    ----------
    .. [1] Liu, D., et al. (2026). MIRepNet: a pipeline and pre-trained model for EEG-based motor imagery
       classification. Knowledge-Based Systems, 343, 115966. https://doi.org/10.1016/j.knosys.2026.115966

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg import MIRepNetPretrainer, make_eeg
    >>> rng = np.random.default_rng(0)
    >>> first = make_eeg(rng.normal(size=(6, 3, 250)), ("C3", "Cz", "C4"), 250)
    >>> second = make_eeg(rng.normal(size=(4, 2, 192)), ("C3", "C4"), 128)
    >>> sizes = {"n_layers": 1, "embed_dim": 16}
    >>> pretrainer = MIRepNetPretrainer(network_params=sizes, max_epochs=1, random_state=0)
    >>> pretrainer.fit([first, second], [["left", "right"] * 3, ["feet", "left"] * 2]).classes_.tolist()
    ['feet', 'left', 'right']
    """

    _any_length = True
    _any_montage = True
    _any_rate = True
    __metadata_request__fit = {"subjects": True}

    def __init__(
        self,
        network_params=None,
        mask_ratio=0.5,
        rec_weight=1.0,
        cls_weight=1.0,
        reconstruct="masked",
        detach_target=True,
        screen=None,
        align="own",
        domain="subject",
        template="mirepnet45",
        resample=RATE,
        n_times=None,
        montages=None,
        crops=False,
        balance=False,
        checkpoint=None,
        run_file=None,
        max_epochs=100,
        batch_size=64,
        accumulate=1,
        learning_rate=1e-3,
        weight_decay=0.0,
        solver="adam",
        schedule=None,
        warmup=0.0,
        precision="float32",
        validation=None,
        validation_size=0.2,
        ch_names=None,
        sfreq=None,
        device="auto",
        random_state=None,
        verbose=0,
        skorch_callbacks=None,
    ):
        self.network_params = network_params
        self.mask_ratio = mask_ratio
        self.rec_weight = rec_weight
        self.cls_weight = cls_weight
        self.reconstruct = reconstruct
        self.detach_target = detach_target
        self.screen = screen
        self.align = align
        self.domain = domain
        self.template = template
        self.resample = resample
        self.n_times = n_times
        self.montages = montages
        self.crops = crops
        self.balance = balance
        self.checkpoint = checkpoint
        self.run_file = run_file
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.accumulate = accumulate
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.solver = solver
        self.schedule = schedule
        self.warmup = warmup
        self.precision = precision
        self.validation = validation
        self.validation_size = validation_size
        self.ch_names = ch_names
        self.sfreq = sfreq
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.skorch_callbacks = skorch_callbacks

    def fit(self, X, y=None, subjects=None):
        """Pre-train.

        Parameters
        ----------
        X : anything `as_eeg` accepts, shape (n_trials, n_channels, n_times), or list of such
            Trials; a list holds one recording an entry.
        y : array-like, shape (n_trials,), list with one entry (or None) a recording, or None
            Labels.
        subjects : array-like, shape (n_trials,), list with one entry a recording, or None
            Who it is, where trials carry no domains; None takes each recording for one person.

        Returns
        -------
        self : MIRepNetPretrainer
            Fitted.
        """
        recordings = list_recordings(X, y, subjects)
        checked = [self._check_recording(*recording, first=not i) for i, recording in enumerate(recordings)]
        self._check_settings()
        pool = pool_recordings(checked, self)
        if not self.rec_weight and not len(pool.classes):
            raise ValueError("rec_weight: 0 leaves nothing to learn from trials without labels.")
        self.classes_, self.aligners_, self.screening_ = pool.classes, pool.aligners, pool.scores
        key = fingerprint(self, (pool.data, pool.y, pool.subjects.tolist()))
        run = open_run(self.run_file, key, self.random_state)
        with seeded(run.seed):
            self._start_network(pool)
            self._run(pool, run)
        return self

    def save_checkpoint(self, path):
        """Write the weights in the published layout, to be the ``checkpoint`` of a `MIRepNetClassifier`.

        Parameters
        ----------
        path : str or path-like
            A ``.safetensors`` file, or a ``.pth`` file as upstream's own script reads it.
        """
        check_is_fitted(self)
        save_weights(self.module_, path, describe(self, self.template))

    # Steps of fit

    def _check_recording(self, X, y, subjects, first):
        """Check one recording; the first one gives the fitted attributes."""
        X = self._check_eeg(X, reset=first, dtype=np.float32)
        self._refuse_flat(X)
        return X, read_labels(y, len(X)), subjects

    def _check_settings(self):
        """Refuse parameters that mean nothing, by name."""
        check_form(self)
        if not 0 < self.mask_ratio <= 1:
            raise ValueError(f"mask_ratio: got {self.mask_ratio}, expected a share above 0 and up to 1.")
        if self.reconstruct not in ("masked", "all"):
            raise ValueError(f"reconstruct: got {self.reconstruct!r}, expected 'masked' or 'all'.")
        if min(self.rec_weight, self.cls_weight) < 0 or self.rec_weight == self.cls_weight == 0:
            given = (self.rec_weight, self.cls_weight)
            raise ValueError(f"rec_weight, cls_weight: got {given}, expected 0 or more, and one of them above 0.")
        if self.montages is not None and (self.montages < 1 or self.template is None or self.align is None):
            raise ValueError(
                f"montages: got {self.montages}, expected None, or 1 or more with a template and an alignment; these "
                f"are {self.template!r} and {self.align!r}."
            )
        if self.crops and self.n_times is None:
            raise ValueError("crops: the length of a crop is n_times, which is None.")
        n_layers = (self.network_params or {}).get("decoder_layers")
        if n_layers is not None and n_layers < 1:
            raise ValueError(f"network_params: got decoder_layers={n_layers}, expected 1 or more.")

    def _start_network(self, pool):
        """Build the network for the pooled trials, and load the checkpoint into it."""
        state, _, sizes = read_start(self.checkpoint, {"decoder_layers": None} | dict(self.network_params or {}))
        self.network_spec_ = {
            "network": "MIRepNet",
            "parameters": sizes,
            "n_chans": pool.data.shape[1] if self.montages is None else len(template_names(self.template)),
            "n_times": min(self.n_times, pool.data.shape[2]) if self.crops else pool.data.shape[2],
            "n_outputs": max(len(pool.classes), 1),
            "sfreq": self.resample,
            "ch_names": None,
            "probe_features": None,
        }
        self.module_ = self._build_long_enough()
        self.checkpoint_report_ = None
        if state:
            self.checkpoint_report_ = str(load_checkpoint(self.module_, state, file=self.checkpoint))

    def _run(self, pool, run):
        """Train, or go on with an earlier training."""
        n_times = self.network_spec_["n_times"]
        pool.data = padded(pool.data.astype(self._numbers(), copy=False), n_times)
        rows, held = split_validation(pool.y, self.validation, self.validation_size, pool.subjects, run.seed)
        model, validation, subjects = self._wrap(), None, None
        if held is not None:
            validation, subjects = pool.validation_trials(held, n_times, self), pool.subjects[held]
        self.history_ = pretrain(
            model, pool.training_trials(rows, n_times, self, run.seed), self._recipe(), self._criterion(), run,
            validation=validation, subjects=subjects, device=self.device, verbose=self.verbose,
            callbacks=self._callbacks(),
        )  # fmt: skip
        self.module_, self.n_iter_ = model.network.eval(), max(len(self.history_), 1)
        self.throughput_ = float(np.median([row["trials_per_s"] for row in self.history_]))
        self.net_ = self._make_net()
        self.net_.history.extend(self.history_)
        if self.verbose and ranks.is_first():
            print(f"MIRepNetPretrainer: {self.throughput_:.0f} trials/s on {resolve_device(self.device)}")

    def _recipe(self):
        return dataclasses.replace(super()._recipe(), by_step=True)

    def _wrap(self):
        return MaskedModel(self.module_, self.mask_ratio if self.rec_weight else None, self.detach_target)

    def _numbers(self):
        return np.float64 if self._dtype() == torch.float64 else np.float32

    # What the base asks for

    def _network_class(self, name):
        return MIRepNet

    def _criterion(self):
        return HybridLoss(self.rec_weight, self.cls_weight, self.reconstruct)

    def _make_net(self):
        return make_net(self._wrap(), self._recipe(), self._criterion()).initialize()

    def _prepare(self, X, fit=False):
        """Trials as the network takes them, by the references of the recording with the same electrodes."""
        X = at_rate(X, self.resample)
        aligner = self._find_aligner(X)
        if self.align is not None and aligner is None:
            _, X = fit_alignment(X, self.align, self.domain)
        else:
            X = apply_alignment(aligner, X, self.align)
        data = np.asarray(on_template(X, self.template), dtype=self._numbers())
        return padded(data, max(data.shape[2], self.module_.shortest))

    def _find_aligner(self, X):
        """Find the references of the first recording with these electrodes, or None."""
        for aligner in self.aligners_:
            if aligner is not None and aligner.n_features_in_ == X.shape[1] and aligner.ch_names_in_ == X.ch_names:
                return aligner
        return None
