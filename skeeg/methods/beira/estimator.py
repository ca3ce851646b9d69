"""BEIRA as a scikit-learn regressor."""

import inspect

import numpy as np
import torch
from sklearn.pipeline import Pipeline
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted

from ...base import draw_seed, refuse_flat, refuse_unknown, warn
from ...networks.seeding import seeded
from ...regression import ChannelScaler, moments
from ...training import NetworkState, train
from ...training.device import resolve_device
from ...training.recipe import change_recipe
from ...training.state import choose_sizes, holds_network
from .base import RecordingRegressor
from .network import NETWORKS
from .patterns import branch_importance, read_patterns
from .readout import Inference, fit_readout
from .training import RECIPES, kept_loss, make_loss, prune_branches, start_as_averages
from .windows import choose_window, cut_windows, hold_out

_NO_SIZES = {"n_chans", "n_outputs", "n_times", "chs_info", "input_window_seconds", "sfreq", "activation"}
_ENOUGH_MINUTES = 10  # of EEG for a network: a rule of thumb


@holds_network
class BEIRARegressor(RecordingRegressor):
    r"""BOLD of deep structures from scalp EEG, with interpretable weights (Kovalev et al., 2022) [1]_.

    Branch m of the network computes :math:`s_m(t) = \sum_k h_m[k]\, w_m^\top x(t + k)`, rectifies and smooths it; an
    encoder and a decoder turn the envelopes of the branches into the BOLD signal. The spatial pattern of a branch is
    :math:`R_m w_m`, with :math:`R_m` the covariance of the data filtered by :math:`h_m`, its frequency pattern
    :math:`S_m(f)\,|H_m(f)|`, with :math:`S_m` the spectrum of :math:`w_m^\top x` [2]_.

    Parameters
    ----------
    network : {"independent", "shared", "lstm"}
        A complete network for each region; one network with an output for each; or the many-to-one ancestor with its
        LSTM.
    network_params : dict or None
        Sizes of the network that differ from the recipe's, such as ``{"n_branches": 5}``; see `BEIRA`, `SharedBEIRA`
        and `BEIRAManyToOne`.
    recipe : {"default", "published"}
        Sizes, training and readout. ``"default"`` is for recordings of half an hour: whitened EEG, six small networks,
        and the mean of their decoders and of ridge regressions on their envelopes at lags of seconds. ``"published"``
        has the published sizes, random start and decoder alone, and takes hours.
    recipe_params : dict or None
        Settings of the recipe to change, such as ``{"readout": "decoder"}``; see `BEIRARecipe`.
    n_restarts : int or None
        Random restarts, whose predictions are averaged. Those that diverged are left out. Filters, patterns,
        importance, ``module_`` and `transform` are of the one of least validation loss. None, here and below, is the
        recipe's own.
    loss : {"mse", "correlation", "mixed", "covariance"}, tuple of 3 float or None
        Squared error, correlation, .9 and .1 of the two, or squared error and .1 of a covariance distance; or the
        weights of the three.
    window : int or None
        Samples of a training window; None is the recipe's, or the shortest recording where that is shorter.
    max_epochs, learning_rate, precision
        As in `skeeg.training.Recipe`; an epoch is as many windows as the recipe draws.
    validation : {"block", None}
        Hold out the end of each recording to keep the best weights by, and to rank restarts and prune; or nothing.
    validation_gap : float
        Seconds before the held-out end that are not used at all.
    checkpoint : str or None
        Weights to start from, in the layout of the published code; ``recipe="published"`` has its rectifier. Sizes come
        from the file, strides from `network_params` or the recipe.
    region_names : tuple of str or None
        Names of the regions.
    ch_names : tuple of str or None
        Electrode names, where X does not carry them.
    sfreq : float or None
        Sampling rate in hertz, where X does not carry it. Unknown rates are taken to be 100 Hz.
    device, random_state, verbose, skorch_callbacks
        As in `skeeg.NetworkRegressor`.

    Attributes
    ----------
    spatial_filters_, spatial_patterns_ : ndarray, shape (n_regions, n_branches, n_channels)
        Weights, in units of the standardised EEG, and patterns. One row for all regions unless the networks are
        independent; this holds for the next two too.
    temporal_filters_ : ndarray, shape (n_regions, n_branches, filter_length)
        Impulse responses, as they are applied to the data.
    frequency_patterns_ : ndarray, shape (n_regions, n_branches, n_freqs)
        At the ``freqs_`` (n_freqs,) in hertz.
    branch_importance_ : ndarray, shape (n_regions, n_branches)
        How far the decoder's output moves, in standard deviations of the target, when a branch is held at its mean.
    restart_losses_ : ndarray, shape (n_restarts,)
        Validation loss of each restart.
    networks_ : list of NetworkState
        Networks whose predictions are averaged, the one of least validation loss first.
    readouts_ : list of LaggedReadout
        Regressions on the envelopes of each of ``networks_``; none with the readout ``"decoder"``.
    steps_ : Pipeline
        Fitted preprocessing: a `skeeg.regression.ChannelScaler`.
    target_mean_, target_scale_ : ndarray, shape (n_regions,)
        Mean and standard deviation of the training targets.
    module_, net_, history_, n_iter_
        As in `skeeg.NetworkRegressor`, of the best network.

    Notes
    -----
    The target at a sample belongs to the EEG around that sample: `BOLDAligner`, which holds this regressor, undoes the
    haemodynamic delay. The ridge regression on the envelopes is fitted to the held-out part too.

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
    >>> X, Y = np.random.default_rng(0).normal(size=(2, 2, 3, 3000))
    >>> beira = BEIRARegressor(max_epochs=1, n_restarts=1, window=512, network_params={"n_branches": 2})
    >>> beira.fit(X, Y).predict(X).shape, beira.spatial_patterns_.shape
    ((2, 3, 3000), (3, 2, 3))
    """

    linear_map_ = "both"  # so that `skeeg.explain` asks for the prepared trials
    _may_be_infinite = ("restart_losses_",)
    _parameter_constraints = {
        "network": [StrOptions(set(NETWORKS))],
        "recipe": [StrOptions(set(RECIPES))],
        "validation": [StrOptions({"block"}), None],
    }

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
        """Train on windows drawn from recordings, or on trials (n_trials, n_channels, n_times) with one value each.

        Recordings of any length come in a list, as arrays (n_channels, n_times) or `mne.io.Raw`. BOLD is (n_trials,
        n_regions, n_times) at the rate of the EEG, its value (n_trials, n_regions) or (n_trials,) at the last sample of
        each trial, or a list of arrays (n_regions, n_times).
        """
        eeg, targets = self._read_pairs(X, y)
        for array in eeg:
            refuse_flat(array)
        self._warn_of_few(eeg)
        recipe, pairs = self._recipe(), [(np.asarray(x), target) for x, target in zip(eeg, targets, strict=True)]
        with seeded(draw_seed(self.random_state)):
            n_chans = eeg[0].shape[1]
            multiple = self._start_network(recipe, n_chans).module.decimation
            training, held = pairs, []
            if self.validation is not None:
                training, held = hold_out(pairs, recipe.validation_size, round(self.validation_gap * self._rate()))
            self._fit_scales(training, recipe.normalize)
            training, held = self._standardise(training), self._standardise(held)
            shortest = min(x.shape[2] for x, _ in training)
            self.n_window_ = shortest
            if self._is_signal:
                self.n_window_ = choose_window(self.window, recipe.window, shortest, multiple)
            last_only = self.network == "lstm"
            cut = cut_windows(training, held, self.n_window_, recipe.windows_per_epoch, multiple, last_only)
            self.networks_, self.restart_losses_ = self._train_restarts(recipe, n_chans, *cut)
            self.readout_, self.readouts_ = recipe.readout if self._is_signal else "decoder", []
            if self.readout_ != "decoder":
                parts = training + held, self._rate()
                self.readouts_ = [fit_readout(self._inference(one), *parts) for one in self.networks_]
            recordings = [one.numpy() for x, _ in training for one in x]
            vars(self).update(read_patterns(self.module_, recordings, self._rate(), self.scaler_.matrix_))
            self.branch_importance_ = branch_importance(self.module_, cut[2])
        return self

    def _train_restarts(self, recipe, n_chans, training, watched, examples):
        """Train from several random weights; gives the networks to average, best first, and the loss of each."""
        loss, states, losses = self._criterion(), [], []
        for _ in range(recipe.n_restarts):
            states.append(self._start_network(recipe, n_chans))
            net = train(
                states[-1].module, training, None, recipe, loss=loss,
                validation=None if watched is None else (watched,), device=self.device, verbose=self.verbose,
                callbacks=self.skorch_callbacks or (),
            )  # fmt: skip
            losses.append(kept_loss(states[-1].keep(net), recipe, watched is not None))
            if net.interrupted_:
                break
        order = np.argsort(losses, kind="stable")
        states = [states[i] for i in order if i == order[0] or np.isfinite(losses[i])]
        if recipe.prune and watched is not None:
            for state in states:
                prune_branches(state.module, loss, examples, watched)
        return states, np.array(losses)

    def _start_network(self, recipe, n_chans):
        """Network with random weights, or those of the checkpoint."""
        sizes = self._network_sizes(recipe)
        state = NetworkState(
            NETWORKS[self.network].__name__, sizes, n_chans=n_chans, n_outputs=self.n_regions_,
            precision=recipe.precision, kernels="plain",
        )  # fmt: skip
        state.module = state.build()
        if self.checkpoint is not None:
            state.load(self.checkpoint, keep_head=True)
        elif recipe.start == "average":
            start_as_averages(state.module)
        return state

    def predict(self, X):
        """Predict BOLD from EEG of any length, in the units and the shape of the targets at fit.

        Gives signals (n_trials, n_regions, n_times) or values, or a list of (n_regions, n_times) for a list of
        recordings.
        """
        check_is_fitted(self)
        outputs = [self._outputs(self._tensor(array).to(self.network_.dtype)) for array in self._read(X, reset=False)]
        mean, scale = self._target_moments()
        return self._like_input([output * scale + mean for output in outputs], X)

    def _outputs(self, data):
        """Standardised BOLD: the mean over networks and their readouts."""
        networks, each = [self._inference(one) for one in self.networks_], []
        if self.readout_ != "lagged":
            each += [one.signals(data) if self._is_signal else one.last_values(data) for one in networks]
        each += [readout.predict(one.envelopes(data)) for one, readout in zip(networks, self.readouts_, strict=False)]
        return sum(each) / len(each)

    def transform(self, X):
        """Envelopes of the branches, region by region: float32 (n_trials, n_regions * n_branches, n_times)."""
        check_is_fitted(self)
        data = self._tensor(self._check_eeg(X, reset=False, dtype=np.float32)).to(self.network_.dtype)
        envelopes = self._inference(self.network_).envelopes(data)
        return envelopes.reshape(len(data), -1, data.shape[2]).astype(np.float32)

    @property
    def network_(self):
        """Network of least validation loss."""
        return self.networks_[0]

    @property
    def steps_(self):
        """Fitted preprocessing as a pipeline."""
        return Pipeline([("scale", self.scaler_)])

    def _check_parameters(self):
        super()._check_parameters()
        resolve_device(self.device)
        self._recipe()

    def _warn_of_few(self, eeg):
        minutes = sum(array.shape[0] * array.shape[2] for array in eeg) / self._rate() / 60
        if self._is_signal and minutes < _ENOUGH_MINUTES:
            warn(
                f"X: {minutes:.1f} minutes of EEG may be too few for a network (rule of thumb: {_ENOUGH_MINUTES}); "
                "compare it with BandPowerRidge, which takes seconds."
            )

    def _prepare(self, X):
        raise TypeError("estimator: BEIRARegressor predicts signals; its spatial_patterns_, ... explain them.")

    def _recipe(self):
        own = {name: vars(self)[name] for name in ("n_restarts", "loss", "max_epochs", "learning_rate", "precision")}
        return change_recipe(RECIPES[self.recipe], self.recipe_params, network_params=None, **own)

    def _criterion(self):
        return make_loss(self._recipe().loss, self.n_window_ - 1)

    def _network_sizes(self, recipe):
        network = NETWORKS[self.network]
        known = set(inspect.signature(network).parameters) - _NO_SIZES
        refuse_unknown("network_params", self.network_params, known)
        preset = {name: value for name, value in recipe.network_params.items() if name in known}
        return choose_sizes(network, self.network_params, self.checkpoint, preset)

    def _float_type(self):
        return np.float64 if self._recipe().precision == "float64" else np.float32

    def _inference(self, state):
        return Inference(state.module, self.n_window_, resolve_device(self.device))

    def _fit_scales(self, training, normalize):
        """Fit the scales of EEG and targets to the training part."""
        eeg = [np.concatenate(list(x), axis=-1) for x, _ in training]
        self.scaler_ = ChannelScaler(normalize).fit(np.concatenate(eeg, axis=-1)[None])
        ((self.target_mean_, deviation),) = moments((target,) for _, target in training)
        self.target_scale_ = np.where(deviation > 0, deviation, 1.0)

    def _tensor(self, X):
        """EEG as the network takes it."""
        return torch.from_numpy(np.asarray(self.scaler_.transform(np.asarray(X, dtype=self._float_type()))))

    def _standardise(self, pairs):
        """Standardised EEG and targets as pairs of tensors."""
        mean, scale = self._target_moments()
        targets = [((target - mean) / scale).astype(self._float_type()) for _, target in pairs]
        return [(self._tensor(eeg), torch.from_numpy(target)) for (eeg, _), target in zip(pairs, targets, strict=True)]

    def _target_moments(self):
        """Mean and standard deviation of the targets, along their axis of regions."""
        shape = (1, -1, 1) if self._is_signal else (1, -1)
        return self.target_mean_.reshape(shape), self.target_scale_.reshape(shape)
