"""BEIRA as a scikit-learn regressor."""

import inspect
import warnings

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from ...base import draw_seed
from ...covariance import inverse_sqrt
from ...networks.seeding import seeded
from ...regression import CrossProducts, moments
from ...training import NetworkEstimator, load_checkpoint, train
from ...training.net import Trials
from ...training.network import tensors_of
from ...training.recipe import resolve_device
from .network import BEIRA, BEIRAManyToOne, SharedBEIRA
from .patterns import branch_importance, read_patterns
from .readout import Inference, LaggedReadout
from .recordings import RecordingRegressor, Windows, choose_window, hold_out, mirror, padded
from .strategies import ValidationCorrelation, choose_recipe, make_loss, prune_branches, start_as_averages

NETWORKS = {"independent": BEIRA, "shared": SharedBEIRA, "lstm": BEIRAManyToOne}
_NO_SIZES = {"n_chans", "n_outputs", "n_times", "chs_info", "input_window_seconds", "sfreq", "activation"}
_EIGENVALUE_FLOOR = 1e-6  # an average reference leaves a direction that holds nothing but rounding
_ENOUGH_MINUTES = 10  # of EEG for a network: a rule of thumb
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
    network_params : dict or None
        Sizes of the network that differ from the recipe's, such as ``{"n_branches": 5}``; see `BEIRA`, `SharedBEIRA`
        and `BEIRAManyToOne`.
    recipe : {"default", "published"}
        How the network is trained and read out, with its sizes. ``"default"`` is for recordings of half an hour:
        whitened EEG, six small networks, and the mean of their decoders and of ridge regressions on their envelopes at
        lags of seconds. ``"published"`` has the published sizes, random start and decoder alone, and takes hours.
    recipe_params : dict or None
        Settings of the recipe to change, such as ``{"readout": "decoder"}``; see
        `skeeg.methods.beira.strategies.BEIRARecipe`.
    n_restarts : int or None
        Trainings from other random weights, whose predictions are averaged; None is the recipe's. Those that diverged
        are left out. Filters, patterns, importance, ``module_`` and what `transform` gives are those of the one of
        least validation loss.
    loss : {"mse", "correlation", "mixed", "covariance"}, tuple of 3 float or None
        See `skeeg.methods.beira.strategies.make_loss`; None is the recipe's.
    window : int or None
        Samples of a training window; None is the recipe's, or the shortest recording where that is shorter.
    max_epochs : int or None
        Passes over as many windows as the recipe draws; None is the recipe's.
    learning_rate : float or None
        Highest learning rate; None is the recipe's.
    precision : {"float32", "bf16", "float64"}
        Arithmetic of the training.
    validation : {"block", None}
        Hold out the end of each recording to keep the best weights by, and to rank restarts and prune; or nothing.
    validation_gap : float
        Seconds before the held-out end that are not used at all.
    checkpoint : str or None
        Weights to start from, in the layout of the published code; ``recipe="published"`` has its rectifier. Sizes come
        from the file, but strides, which no shape tells, from `network_params` or the recipe.
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
    readout_ : {"both", "lagged", "decoder"}
        How BOLD is made of the envelopes.
    readouts_ : list of LaggedReadout
        Regressions on the envelopes of ``module_`` and of each of ``averaged_``; none with the readout ``"decoder"``.
    eeg_mean_ : ndarray, shape (n_channels,)
        What the EEG is centred on.
    standardiser_ : ndarray, shape (n_channels, n_channels)
        What it is multiplied by then: a whitening matrix, or a diagonal one.
    target_mean_, target_scale_ : ndarray, shape (n_regions,)
        Mean and standard deviation of the training targets.
    region_names_ : tuple of str
        Names of the regions.
    module_, net_, history_, n_iter_, n_features_in_, n_times_in_, ch_names_in_, sfreq_in_
        As in `skeeg.NetworkRegressor`.

    Notes
    -----
    The target at a sample belongs to the EEG around that sample: the haemodynamic delay is the business of
    `BOLDAligner`, which holds this regressor. Means and scales come from the part of the data that is trained on. The
    ridge regression on the envelopes is fitted to the held-out part too.

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
    >>> beira = BEIRARegressor(max_epochs=1, n_restarts=1, window=512, network_params={"n_branches": 2})
    >>> beira.fit(X, Y).predict(X).shape, beira.spatial_patterns_.shape
    ((2, 3, 3000), (3, 2, 8))
    """

    _may_be_infinite = ("restart_losses_",)

    def __init__(
        self,
        network="independent",
        network_params=None,
        recipe="default",
        recipe_params=None,
        n_restarts=None,
        loss=None,
        window=None,
        max_epochs=None,
        learning_rate=None,
        precision="float32",
        validation="block",
        validation_gap=10.0,
        checkpoint=None,
        region_names=None,
        ch_names=None,
        sfreq=None,
        device="auto",
        random_state=None,
        verbose=0,
        skorch_callbacks=None,
    ):
        self.network = network
        self.network_params = network_params
        self.recipe = recipe
        self.recipe_params = recipe_params
        self.n_restarts = n_restarts
        self.loss = loss
        self.window = window
        self.max_epochs = max_epochs
        self.learning_rate = learning_rate
        self.precision = precision
        self.validation = validation
        self.validation_gap = validation_gap
        self.checkpoint = checkpoint
        self.region_names = region_names
        self.ch_names = ch_names
        self.sfreq = sfreq
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.skorch_callbacks = skorch_callbacks

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
        self._warn_of_few(eeg)
        recipe = self._recipe()
        with seeded(draw_seed(self.random_state)):
            self._describe_network(eeg[0].shape[1], recipe)
            training, held = self._divide([(np.asarray(x), t) for x, t in zip(eeg, targets, strict=True)], recipe)
            self._learn_statistics(training, recipe.normalize)
            training, held = self._tensors(training), self._tensors(held)
            data, watched = self._cut(training, held, recipe)
            kept = self._train_several(data, watched, recipe)
            if recipe.prune and watched is not None:
                for module in kept:
                    prune_branches(module, self._criterion(), self._examples(training), watched)
            self.readout_ = recipe.readout if self._is_signal else "decoder"
            targets = [target.double().numpy() for _, target in training + held]
            self.readouts_ = []
            for network in map(self._predict_by, kept if self.readout_ != "decoder" else ()):
                envelopes = (network.envelopes(eeg) for eeg, _ in training + held)  # many times the recording
                self.readouts_.append(LaggedReadout.fit(envelopes, targets, self._rate()))
            self.averaged_ = kept[1:]
            self._read_weights(training)
        return self

    def _warn_of_few(self, eeg):
        """Say where a linear baseline is the better choice."""
        minutes = sum(array.shape[0] * array.shape[2] for array in eeg) / self._rate() / 60
        if self._is_signal and minutes < _ENOUGH_MINUTES:
            warnings.warn(
                f"X: {minutes:.1f} minutes of EEG may be too few for a network (rule of thumb: {_ENOUGH_MINUTES}); "
                "compare it with BandPowerRidge, which takes seconds.",
                stacklevel=4,
            )

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
        return self._like_input([output * scale + mean for output in outputs], X)

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

    def _recipe(self):
        overrides = ("n_restarts", "loss", "max_epochs", "learning_rate", "precision")
        return choose_recipe(self.recipe, self.recipe_params, **{name: getattr(self, name) for name in overrides})

    def _network_parameters(self):
        """Sizes of the network: those asked for, those of the checkpoint, those of the recipe, the published ones."""
        known = set(inspect.signature(self._network_class(self.network)).parameters) - _NO_SIZES
        unknown = set(self.network_params or {}) - known
        if unknown:
            raise ValueError(
                f"network_params: {', '.join(sorted(unknown))} unknown; there are {', '.join(sorted(known))}."
            )
        sizes = {name: value for name, value in self._recipe().network_params.items() if name in known}
        return self._settle_sizes(dict(self.network_params or {}), sizes)

    def _criterion(self):
        return make_loss(self._recipe().loss, self.n_window_ - 1)

    def _padded(self, n_times):
        return padded(n_times, self.decimation_)

    def _predict_by(self, module):
        return Inference(module, self.n_window_, resolve_device(self.device))

    def _divide(self, pairs, recipe):
        """Training part and held-out part of pairs (EEG, targets), each (n_trials, ...)."""
        if self.validation is None:
            return pairs, []
        if self.validation != "block":
            raise ValueError(f"validation: got {self.validation!r}, expected 'block' or None.")
        return hold_out(pairs, recipe.validation_size, round(self.validation_gap * self._rate()))

    def _learn_statistics(self, training, normalize):
        """Mean and scale of EEG and targets, of the training part only."""
        (mean, scale), (self.target_mean_, target_scale) = moments(training)
        self.target_scale_ = np.where(target_scale > 0, target_scale, 1.0)
        if normalize == "global":  # one scale for all, about zero
            scale, mean = np.full_like(scale, np.sqrt(np.mean(scale**2) + np.var(mean))), np.zeros_like(mean)
        self.eeg_mean_, self.standardiser_ = mean, np.diag(1 / np.where(scale > 0, scale, 1.0))
        if normalize == "whiten":
            products = CrossProducts((eeg - mean[:, None], eeg[:, :1]) for pair in training for eeg in [pair[0]])
            self.standardiser_ = inverse_sqrt(products.xx / products.n, _EIGENVALUE_FLOOR)

    def _standardise(self, X):
        """EEG as the network takes it, as a tensor."""
        dtype = np.float64 if self._dtype() == torch.float64 else np.float32
        X = np.asarray(X, dtype=dtype) - self.eeg_mean_.astype(dtype)[:, None]
        return torch.from_numpy(self.standardiser_.astype(dtype) @ X)

    def _tensors(self, pairs):
        """Standardised EEG and targets as pairs of tensors."""
        tensors = []
        for eeg, target in pairs:
            shape = (1, -1, 1) if target.ndim == 3 else (1, -1)
            target = (target - self.target_mean_.reshape(shape)) / self.target_scale_.reshape(shape)
            tensors.append((self._standardise(eeg), torch.from_numpy(target).to(self._dtype())))
        return tensors

    def _cut(self, training, held, recipe):
        """Training and validation windows; sets the length of a window."""
        if not self._is_signal:
            self.n_window_ = training[0][0].shape[2]
            pad = self._padded(self.n_window_)
            data, *watched = [Trials(mirror(eeg, pad), target) for eeg, target in (*training, *held)]
            return data, watched[0] if watched else None
        shortest = min(eeg.shape[2] for eeg, _ in training)
        self.n_window_ = choose_window(self.window, recipe.window, shortest, self.decimation_)
        watched = None
        if held:
            shortest = min(self.n_window_, *(eeg.shape[2] for eeg, _ in held))
            watched = self._windows(held, shortest, None)
        return self._windows(training, self.n_window_, recipe.windows_per_epoch), watched

    def _windows(self, pairs, window, n_windows):
        eeg, bold = ([one for pair in pairs for one in pair[part]] for part in (0, 1))
        return Windows(eeg, bold, window, n_windows, self._padded(window), self.network == "lstm")

    def _describe_network(self, n_chans, recipe):
        """Describe the network for its building; sets the multiple to which it wants its input."""
        self.network_spec_ = {
            "network": self.network,
            "parameters": self._network_parameters(),
            "n_chans": n_chans,
            "n_outputs": self.n_regions_,
        }
        self.decimation_ = self._build_network().decimation

    def _start(self, recipe):
        """Build the network, and initialise it or load the checkpoint into it."""
        self.module_ = self._build_network()
        self.checkpoint_report_ = None
        if self.checkpoint is not None:
            self.checkpoint_report_ = str(load_checkpoint(self.module_, self.checkpoint, keep_head=True))
        elif recipe.start == "average":
            start_as_averages(self.module_)

    def _build_network(self):
        """Network as ``network_spec_`` describes it, newly initialised."""
        spec = dict(self.network_spec_)
        return self._network_class(spec.pop("network"))(**spec.pop("parameters"), **spec).to(self._dtype()).eval()

    def _train_several(self, data, watched, recipe):
        """Train from several starts; gives the networks to average, that of least validation loss first."""
        fitted, losses = [], []
        for _ in range(recipe.n_restarts):
            self._start(recipe)
            self._train_on(data, watched, recipe)
            fitted.append((self.module_, self.net_, self.history_))
            losses.append(self._watched_loss(recipe))
            if self.net_.interrupted_:
                break
        self.restart_losses_, order = np.array(losses), np.argsort(losses, kind="stable")
        self.module_, self.net_, self.history_ = fitted[order[0]]
        self.n_iter_ = max(len(self.history_), 1)
        return [fitted[i][0] for i in order if i == order[0] or np.isfinite(losses[i])]

    def _watched_loss(self, recipe):
        """Tell the validation loss of the weights that were kept; without a validation, the training loss."""
        if self.net_.diverged_:
            return np.inf
        name = "valid_loss" if self.validation is not None else "train_loss"
        losses = [row[name] for row in self.history_ if np.isfinite(row.get(name, np.nan))]
        return (
            float(min(losses) if recipe.patience is not None and self.validation else losses[-1]) if losses else np.inf
        )

    def _train_on(self, data, watched, recipe):
        """Train ``module_``; fills ``net_`` and the history."""
        own = [] if watched is None else [ValidationCorrelation()]
        self.net_ = train(
            self.module_,
            data,
            None,
            recipe,
            loss=self._criterion(),
            validation=None if watched is None else (watched,),
            device=self.device,
            callbacks=[*own, *(self.skorch_callbacks or ())],
            verbose=self.verbose,
        )
        self.history_ = [{k: v for k, v in row.items() if k != "batches"} for row in self.net_.history]

    def _read_weights(self, training):
        """Read filters, patterns and importance of the branches."""
        recordings = [one.numpy() for eeg, _ in training for one in eeg]
        vars(self).update(read_patterns(self.module_, recordings, self._rate(), self.standardiser_))
        self.branch_importance_ = branch_importance(self.module_, self._examples(training))

    def _examples(self, training):
        """Pick training windows, spread over all."""
        if not self._is_signal:
            eeg = mirror(training[0][0], self._padded(self.n_window_))
            return eeg[torch.linspace(0, len(eeg) - 1, min(len(eeg), _N_EXAMPLES)).long()]
        windows = self._windows(training, self.n_window_, None)
        return windows.take(torch.linspace(0, len(windows) - 1, min(len(windows), _N_EXAMPLES)).long())[0]
