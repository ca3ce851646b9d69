"""BEIRA as a scikit-learn regressor."""

import math

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from ...base import draw_seed
from ...networks.seeding import seeded
from ...training import NetworkEstimator, load_checkpoint, train
from ...training.net import Trials
from ...training.network import tensors_of
from ...training.recipe import resolve_device
from .front_end import start_as_averages
from .losses import ValidationCorrelation, make_loss
from .many_to_one import BEIRAManyToOne
from .network import BEIRA, SharedBEIRA
from .patterns import branch_importance, branch_patterns, cross_spectrum
from .prediction import Prediction, padded
from .pruning import check_choices, prune_branches
from .readout import LaggedReadout, check_readout, fit_readout
from .recordings import RecordingRegressor
from .standards import moments, standards
from .windows import Windows, choose_window, divide_time, divide_trials, mirror

NETWORKS = {"independent": BEIRA, "shared": SharedBEIRA, "lstm": BEIRAManyToOne}
_CONVOLUTIONAL = ("channels", "kernel_sizes", "strides", "decoder_reduce", "rectifier", "unmixing_norm_affine")
_FRONT = ("n_branches", "filter_length", "envelope_length", "drop_prob")
_LSTM_STEP = 32  # samples that the many-to-one network pools
_SPECTRUM_SECONDS = 4  # of a window of the spectra that patterns are read from: a resolution of 0.25 Hz
_N_EXAMPLES = 16  # windows that the importance of the branches is taken from


class BEIRARegressor(NetworkEstimator, RecordingRegressor):
    r"""BOLD of deep structures from scalp EEG, with weights that can be read (Kovalev et al., 2022).

    Branch m of the network sees :math:`s_m(t) = \sum_k h_m[k]\, w_m^\top x(t + k)`, rectifies and smooths it; an
    encoder and a decoder turn the envelopes of the branches into the BOLD signal. What a branch listens to is read from
    the weights and the data: its spatial pattern is :math:`R_m w_m`, with :math:`R_m` the covariance of the data
    filtered by :math:`h_m`, and its frequency pattern :math:`S_m(f)\,|H_m(f)|`, with :math:`S_m` the spectrum of
    :math:`w_m^\top x`.

    Parameters
    ----------
    network : {"independent", "shared", "lstm"}
        A complete network for each region; one network with an output for each; or the many-to-one ancestor with its
        LSTM.
    n_branches, filter_length, envelope_length, channels, kernel_sizes, strides, decoder_reduce, rectifier
        See `BEIRA`.
    unmixing_norm_affine, drop_prob
        See `BEIRA`.
    window : "auto" or int
        Samples of a training window; "auto" takes 2048, or the length of the shortest stretch where that is less.
    windows_per_epoch : int
        Windows drawn at random for each epoch.
    loss : {"mse", "correlation", "mixed", "covariance"} or tuple of 3 float
        See `skeeg.methods.beira.losses.make_loss`.
    normalize : {"global", "channel", "whiten"}
        Divide the EEG by one standard deviation, as published; standardise each channel; or also make the channels
        uncorrelated (`skeeg.methods.beira.standards.whitener`), which lets weak rhythms be learnt beside strong
        artefacts. Filters and patterns are given for the EEG as it came in all three.
    max_epochs, batch_size, accumulate, learning_rate, weight_decay, solver, schedule, patience, precision
        See `skeeg.training.Recipe`. Updates of 16 windows, as published, computed 4 at a time, which takes a third of
        the memory. With a validation the best weights are kept.
    validation : {"block", None}
        Hold out the end of each recording to watch the loss on, or nothing.
    validation_size : float
        Share to hold out.
    validation_gap : float
        Seconds before the held-out end that are not used at all.
    checkpoint : str or None
        Weights to start from, in the layout of the published code.
    region_names : tuple of str or None
        Names of the regions.
    ch_names : tuple of str or None
        Electrode names, where X does not carry them.
    sfreq : float or None
        Sampling rate in hertz, where X does not carry it. Unknown rates are taken to be 100 Hz.
    device : str
        ``"auto"`` takes CUDA where there is one. After fit the network rests on the CPU.
    random_state : int, RandomState or None
        Makes fit reproducible to the bit on one machine.
    verbose : int
        Whether to show a progress bar.
    skorch_callbacks : list of skorch callbacks or None
        Progress, checkpoints, ...
    n_restarts : int
        Trainings from other starting weights, of which that of least validation loss is kept; some may never leave a
        constant output.
    average : bool
        Predict the mean of all restarts instead of the best alone, which follows BOLD closer and takes as many times
        longer. Restarts that diverged are left out. Filters, patterns, importance, ``module_`` and what `transform`
        gives are the best one's.
    prune : bool
        Silence branches after training where the validation loss does not rise by it, see
        `skeeg.methods.beira.pruning.prune_branches`. Their importance is then zero.
    smoothing_start : {"random", "average"}
        What the filters that smooth the envelopes start from: random weights, as published, or moving averages, from
        which each branch starts with the amplitude of what it hears. On simulated recordings that follows BOLD closer.
    readout : {"decoder", "lagged", "both"}
        What makes BOLD of the envelopes: the network's encoder and decoder, as published; a ridge regression on the
        envelopes at lags of seconds, fitted after the training (`skeeg.methods.beira.readout.LaggedReadout`); or the
        mean of the two, which on simulated recordings follows BOLD closer than either. The regression is fitted to
        the held-out part too. Which start is kept, pruning and the importance of branches go by the decoder.

    Attributes
    ----------
    spatial_filters_, spatial_patterns_ : ndarray, shape (n_regions, n_branches, n_channels)
        Weights, in units of the standardised EEG, and patterns. One row for all regions unless the networks are
        independent; this holds for the next two too.
    temporal_filters_ : ndarray, shape (n_regions, n_branches, filter_length)
        Impulse responses, as they are applied to the data.
    frequency_patterns_ : ndarray, shape (n_regions, n_branches, n_freqs)
        At ``freqs_``.
    freqs_ : ndarray, shape (n_freqs,)
        Hertz.
    branch_importance_ : ndarray, shape (n_regions, n_branches)
        How far the decoder's output moves, in standard deviations of the target, when a branch is held at its mean.
    restart_losses_ : ndarray, shape (n_restarts,)
        Validation loss of each training.
    averaged_ : list of torch.nn.Module
        Networks whose predictions are averaged with that of ``module_``.
    readout_ : str
        ``readout`` at fit.
    readouts_ : list of LaggedReadout
        Regressions on the envelopes of ``module_`` and of each of ``averaged_``; none with ``readout="decoder"``.
    eeg_mean_, eeg_scale_ : ndarray, shape (n_channels,)
        What the EEG is centred on and divided by.
    eeg_whitener_ : ndarray, shape (n_channels, n_channels), or None
        What it is multiplied by instead of being divided, with ``normalize="whiten"``.
    target_mean_, target_scale_ : ndarray, shape (n_regions,)
        Mean and standard deviation of the training targets.
    region_names_ : tuple of str
        Names of the regions.
    module_, net_, history_, n_iter_, n_features_in_, n_times_in_, ch_names_in_, sfreq_in_
        As in `skeeg.NetworkRegressor`.

    Notes
    -----
    The target at a sample belongs to the EEG around that sample: the haemodynamic delay is the business of
    `BOLDAligner`, which holds this regressor. Means and scales come from the part of the data that is trained on.

    References
    ----------
    .. [1] Kovalev, A., Mikheev, I., & Ossadtchi, A. (2022). fMRI from EEG is only deep learning away: the use of
       interpretable DL to unravel EEG-fMRI relationships. arXiv:2211.02024.
    .. [2] Petrosyan, A., Sinkin, M., Lebedev, M., & Ossadtchi, A. (2021). Decoding and interpreting cortical signals
       with a compact convolutional neural network. Journal of Neural Engineering, 18(2), 026019.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.methods.beira import BEIRARegressor
    >>> random = np.random.default_rng(0)
    >>> X, Y = random.normal(size=(2, 8, 3000)), random.normal(size=(2, 3, 3000))
    >>> beira = BEIRARegressor(n_branches=2, channels=(8, 8), kernel_sizes=(3,), strides=(8,), max_epochs=1, window=500)
    >>> beira.fit(X, Y).predict(X).shape, beira.spatial_patterns_.shape
    ((2, 3, 3000), (3, 2, 8))
    """

    _may_be_infinite = ("restart_losses_",)

    def __init__(
        self,
        network="independent",
        n_branches=16,
        filter_length=51,
        envelope_length=51,
        channels=(128, 128, 128, 128),
        kernel_sizes=(5, 5, 3),
        strides=(8, 8, 4),
        decoder_reduce=4,
        rectifier="relu",
        unmixing_norm_affine=False,
        drop_prob=0.3,
        window="auto",
        windows_per_epoch=512,
        loss="mse",
        normalize="global",
        max_epochs=200,
        batch_size=4,
        accumulate=4,
        learning_rate=3e-4,
        weight_decay=3e-4,
        solver="adamw",
        schedule=None,
        validation="block",
        validation_size=0.15,
        validation_gap=10.0,
        patience=30,
        precision="float32",
        checkpoint=None,
        region_names=None,
        ch_names=None,
        sfreq=None,
        device="auto",
        random_state=None,
        verbose=0,
        skorch_callbacks=None,
        n_restarts=1,
        average=False,
        prune=False,
        smoothing_start="random",
        readout="decoder",
    ):
        self.network = network
        self.n_branches = n_branches
        self.filter_length = filter_length
        self.envelope_length = envelope_length
        self.channels = channels
        self.kernel_sizes = kernel_sizes
        self.strides = strides
        self.decoder_reduce = decoder_reduce
        self.rectifier = rectifier
        self.unmixing_norm_affine = unmixing_norm_affine
        self.drop_prob = drop_prob
        self.window = window
        self.windows_per_epoch = windows_per_epoch
        self.loss = loss
        self.normalize = normalize
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.accumulate = accumulate
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.solver = solver
        self.schedule = schedule
        self.validation = validation
        self.validation_size = validation_size
        self.validation_gap = validation_gap
        self.patience = patience
        self.precision = precision
        self.checkpoint = checkpoint
        self.region_names = region_names
        self.ch_names = ch_names
        self.sfreq = sfreq
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.skorch_callbacks = skorch_callbacks
        self.n_restarts = n_restarts
        self.average = average
        self.prune = prune
        self.smoothing_start = smoothing_start
        self.readout = readout

    def fit(self, X, y):
        """Train on windows drawn from recordings, or on trials with one value each.

        Parameters
        ----------
        X : array-like, shape (n_trials, n_channels, n_times), anything else `as_eeg` accepts, or a list
            EEG; a list holds recordings of any length, as arrays (n_channels, n_times) or `mne.io.Raw`.
        y : array-like, shape (n_trials, n_regions, n_times), (n_trials, n_regions) or (n_trials,), or a list
            BOLD at the rate of the EEG, or its value at the last sample of each trial; for a list of recordings, a list
            of arrays (n_regions, n_times).

        Returns
        -------
        self : BEIRARegressor
            The fitted estimator.
        """
        eeg, targets = self._read_pairs(X, y)
        for array in eeg:
            self._refuse_flat(array)
        make_loss(self.loss)  # says what is wrong with it before anything is computed
        check_readout(self.readout, self._is_signal)
        with seeded(draw_seed(self.random_state)):
            training, held = self._divide([(np.asarray(x), t) for x, t in zip(eeg, targets, strict=True)])
            self._learn_statistics(training)
            training, held = self._tensors(training), self._tensors(held)
            data, watched = self._cut(training, held)
            kept = self._train_several(eeg[0], data, watched)
            for module in kept if self.prune else ():
                prune_branches(module, self._criterion(), self._examples(training), watched)
            read = map(self._predict_by, kept if self.readout != "decoder" else ())
            readouts = [fit_readout(network, training + held, self._rate()) for network in read]
            self.averaged_, self.readouts_, self.readout_ = kept[1:], readouts, self.readout
            self._read_weights(training)
        return self

    def predict(self, X):
        """Predict BOLD, in the units, the form and the length that was asked for.

        Parameters
        ----------
        X : anything `fit` accepts
            EEG of any length.

        Returns
        -------
        y : ndarray of float64, or list of them
            Signals (n_trials, n_regions, n_times), or values (n_trials, n_regions) or (n_trials,), as at fit; a list
            of (n_regions, n_times) for a list of recordings.
        """
        check_is_fitted(self)
        outputs = [self._outputs(self._standardise(array)) for array in self._read(X, reset=False)]
        shape = (1, -1) if not self._is_signal else (1, -1, 1)
        scale, mean = self.target_scale_.reshape(shape), self.target_mean_.reshape(shape)
        return self._give_back([output * scale + mean for output in outputs], X)

    def _outputs(self, data):
        """Standardised BOLD: the mean over networks and their readouts."""
        networks, each = [self._predict_by(module) for module in (self.module_, *self.averaged_)], []
        if self.readout_ != "lagged":
            each += [one.signals(data) if self._is_signal else one.last_values(data) for one in networks]
        each += [readout.predict(one.envelopes(data)) for one, readout in zip(networks, self.readouts_, strict=False)]
        return sum(each) / len(each)

    def transform(self, X):
        """Envelopes of the branches: what the interpretable front end gives.

        Parameters
        ----------
        X : anything `as_eeg` accepts, shape (n_trials, n_channels, n_times)
            EEG.

        Returns
        -------
        envelopes : ndarray of float32, shape (n_trials, n_regions * n_branches, n_times)
            Branches of one region follow each other.
        """
        check_is_fitted(self)
        data = self._standardise(self._check_eeg(X, reset=False, dtype=np.float32))
        network = self._predict_by(self.module_)
        return network.apply(lambda module, batch: module.envelopes(batch).flatten(1, 2), data).float().numpy()

    def __getstate__(self):
        """Tensors in place of the networks."""
        state = super().__getstate__()
        if "averaged_" in state:
            state["averaged_"] = [tensors_of(module) for module in state["averaged_"]]
            state["readouts_"] = [vars(readout) for readout in state["readouts_"]]
        return state

    def __setstate__(self, state):
        """Build the networks again from their tensors."""
        super().__setstate__(state)
        if "averaged_" in state:
            with seeded(0):
                self.averaged_ = [self._rebuild(tensors) for tensors in state["averaged_"]]
            self.readouts_ = [LaggedReadout(**fields) for fields in state["readouts_"]]

    def _prepare(self, X, fit=False):
        """Refuse to be taken for a network with one output a trial, whose trials `skeeg.explain` wants prepared."""
        raise TypeError(
            f"estimator: {type(self).__name__} predicts signals; what drives them is in spatial_patterns_, "
            "frequency_patterns_ and branch_importance_."
        )

    def _network_class(self, name):
        if name not in NETWORKS:
            raise ValueError(f"network: got {name!r}, expected one of {', '.join(map(repr, NETWORKS))}.")
        return NETWORKS[name]

    def _network_parameters(self):
        names = _FRONT if self.network == "lstm" else _FRONT + _CONVOLUTIONAL
        given = {} if self.network == "lstm" else {"strides": self.strides}  # these no shape tells
        return self._settle_sizes(self._changed(names) | given, {name: getattr(self, name) for name in names})

    def _criterion(self):
        return make_loss(self.loss, self.n_window_ - 1)

    @property
    def _decimation(self):
        """Multiple to which the networks want their input."""
        return _LSTM_STEP if self.network == "lstm" else math.prod(self.strides)

    def _padded(self, n_times):
        return padded(n_times, self._decimation)

    def _predict_by(self, module):
        return Prediction(module, self._decimation, self.n_window_, resolve_device(self.device))

    def _divide(self, pairs):
        """Training part and held-out part of pairs (EEG, targets), each (n_trials, ...)."""
        if self.validation is None:
            return pairs, []
        if self.validation != "block":
            raise ValueError(f"validation: got {self.validation!r}, expected 'block' or None.")
        if not 0 < self.validation_size < 1:
            raise ValueError(f"validation_size: got {self.validation_size}, expected a share between 0 and 1.")
        gap = round(self.validation_gap * self._rate())
        (n_trials, _, n_times), single = pairs[0][0].shape, len(pairs) == 1
        if self._is_signal and not (single and n_trials * self.validation_size >= 1):
            return divide_time(pairs, self.validation_size, gap)
        n_apart = -(-gap // n_times) if self._is_signal else 0  # trials with one value each need not touch in time
        training, held = divide_trials(pairs[0], self.validation_size, n_apart)
        return [training], [held]

    def _learn_statistics(self, training):
        """Mean and scale of EEG and targets, of the training part only."""
        eeg = [eeg for eeg, _ in training]
        self.eeg_mean_, self.eeg_scale_, self.eeg_whitener_ = standards(eeg, self.normalize)
        mean, scale = moments([target for _, target in training])
        self.target_mean_, self.target_scale_ = mean, np.where(scale > 0, scale, 1.0)

    def _standardise(self, X):
        """EEG as the network takes it, as a tensor."""
        dtype = np.float64 if self._dtype() == torch.float64 else np.float32
        mean, scale = (part.astype(dtype)[:, None] for part in (self.eeg_mean_, self.eeg_scale_))
        X = np.asarray(X, dtype=dtype) - mean
        return torch.from_numpy(X / scale if self.eeg_whitener_ is None else self.eeg_whitener_.astype(dtype) @ X)

    def _tensors(self, pairs):
        """Standardised EEG and targets as pairs of tensors."""
        tensors = []
        for eeg, target in pairs:
            shape = (1, -1, 1) if target.ndim == 3 else (1, -1)
            target = (target - self.target_mean_.reshape(shape)) / self.target_scale_.reshape(shape)
            tensors.append((self._standardise(eeg), torch.from_numpy(target).to(self._dtype())))
        return tensors

    def _cut(self, training, held):
        """Training and validation windows; sets the length of a window."""
        if not self._is_signal:
            self.n_window_ = training[0][0].shape[2]
            pad = self._padded(self.n_window_)
            data, *watched = [Trials(mirror(eeg, pad), target) for eeg, target in (*training, *held)]
            return data, watched[0] if watched else None
        self.n_window_ = choose_window(self.window, min(eeg.shape[2] for eeg, _ in training), self._decimation)
        watched = None
        if held:
            shortest = min(self.n_window_, *(eeg.shape[2] for eeg, _ in held))
            watched = self._windows(held, shortest, None)
        return self._windows(training, self.n_window_, self.windows_per_epoch), watched

    def _windows(self, pairs, window, n_windows):
        eeg, bold = ([one for pair in pairs for one in pair[part]] for part in (0, 1))
        return Windows(eeg, bold, window, n_windows, self._padded(window), self.network == "lstm")

    def _start(self, X):
        """Build the network and load the checkpoint into it."""
        self.network_spec_ = {
            "network": self.network,
            "parameters": self._network_parameters(),
            "n_chans": X.shape[1],
            "n_times": self._padded(self.n_window_),
            "n_outputs": self.n_regions_,
        }
        self.module_ = self._build_network()
        if self.smoothing_start not in ("random", "average"):
            raise ValueError(f"smoothing_start: got {self.smoothing_start!r}, expected 'random' or 'average'.")
        if self.smoothing_start == "average":
            start_as_averages(self.module_.smoothing_layers())
        self.checkpoint_report_ = None
        if self.checkpoint is not None:
            self.checkpoint_report_ = str(load_checkpoint(self.module_, self.checkpoint, keep_head=True))

    def _build_network(self):
        """Network as ``network_spec_`` describes it, newly initialised."""
        spec = dict(self.network_spec_)
        return self._network_class(spec.pop("network"))(**spec.pop("parameters"), **spec).to(self._dtype()).eval()

    def _train_several(self, X, data, watched):
        """Train from several starts; gives the networks that are kept, that of least validation loss first."""
        check_choices(self.n_restarts, self.prune, self.network, watched)
        fitted, losses = [], []
        for _ in range(self.n_restarts):
            self._start(X)
            self._train_on(data, watched)
            fitted.append((self.module_, self.net_, self.history_))
            losses.append(self._watched_loss())
            if self.net_.interrupted_:
                break
        self.restart_losses_, order = np.array(losses), np.argsort(losses, kind="stable")
        self.module_, self.net_, self.history_ = fitted[order[0]]
        self.n_iter_ = max(len(self.history_), 1)
        return [fitted[i][0] for i in order if i == order[0] or (self.average and np.isfinite(losses[i]))]

    def _watched_loss(self):
        """Tell the validation loss of the weights that were kept."""
        if self.net_.diverged_:
            return np.inf
        losses = [row["valid_loss"] for row in self.history_ if np.isfinite(row.get("valid_loss", np.nan))]
        return float(losses[-1] if self.patience is None else min(losses)) if losses else np.inf

    def _train_on(self, data, watched):
        """Train ``module_``; fills ``net_`` and the history."""
        own = [] if watched is None else [ValidationCorrelation()]
        self.net_ = train(
            self.module_,
            data,
            None,
            self._recipe(),
            loss=self._criterion(),
            validation=None if watched is None else (watched,),
            device=self.device,
            callbacks=[*own, *(self.skorch_callbacks or ())],
            verbose=self.verbose,
        )
        self.history_ = [{k: v for k, v in row.items() if k != "batches"} for row in self.net_.history]

    def _read_weights(self, training):
        """Read filters, patterns and importance of the branches."""
        rate = self._rate()
        recordings = [one.numpy() for eeg, _ in training for one in eeg]
        n_fft = min(int(_SPECTRUM_SECONDS * rate), max(one.shape[1] for one in recordings))
        density, self.freqs_ = cross_spectrum(recordings, rate, n_fft)
        spatial, temporal = (part.numpy().astype(np.float64) for part in self.module_.front_weights())
        patterns, self.frequency_patterns_ = branch_patterns(density, self.freqs_, spatial, temporal, rate)
        standardiser = np.diag(1 / self.eeg_scale_) if self.eeg_whitener_ is None else self.eeg_whitener_
        self.spatial_filters_, self.temporal_filters_ = spatial @ standardiser, temporal
        self.spatial_patterns_ = patterns @ np.linalg.pinv(standardiser).T
        self.branch_importance_ = branch_importance(self.module_, self._examples(training))

    def _examples(self, training):
        """Pick training windows, spread over all."""
        if not self._is_signal:
            eeg = mirror(training[0][0], self._padded(self.n_window_))
            return eeg[torch.linspace(0, len(eeg) - 1, min(len(eeg), _N_EXAMPLES)).long()]
        windows = self._windows(training, self.n_window_, None)
        return windows.take(torch.linspace(0, len(windows) - 1, min(len(windows), _N_EXAMPLES)).long())[0]
