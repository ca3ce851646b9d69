"""EEG to MEG as a scikit-learn regressor and a step of pipelines."""

import functools
import inspect
from numbers import Integral
from operator import attrgetter

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from ...array import EEGArray
from ...base import BaseEEGRegressor, draw_seed, refuse_flat, refuse_unknown, warn
from ...networks.seeding import seeded
from ...regression import moments
from ...training import Recipe
from ...training.device import resolve_device
from ...training.recipe import change_recipe
from ...training.state import holds_network
from .forward import read_geometry
from .networks import NETWORKS
from .residual import (
    MODELS,
    EnvelopeCodes,
    InverseCodes,
    MomentCodes,
    ResidualMap,
    SensorNetwork,
    SignalCodes,
    check_runs,
    split_windows,
    windows_of,
)
from .scores import SensorScores
from .sensors import RecordingMethods, check_same_unit, check_units, name_sensors

_RECIPE = Recipe(batch_size=32, patience=8)
_SIGNALS = {"n_chans", "n_outputs"}  # arguments of a network that follow from the data
_WORTH_IT = 0.02  # weight of the network below which ridge regression is enough


@holds_network
class EEGToMEG(SensorScores, RecordingMethods, BaseEEGRegressor):
    r"""Virtual MEG: MEG predicted from simultaneous EEG.

    The map is learned from simultaneous recordings, or, for the minimum norm, follows from a forward model. Networks
    learn the residual of ridge regression, so that they start from the best linear map:

    .. math:: \hat y = s_y \odot (W z + \gamma\, f(z)) + m_y, \qquad z = (x - m_x) / s_x

    with W from ridge regression, f the network, whose last layer starts at zero, and :math:`\gamma` between 0 and 1 the
    factor that fits the held-out windows best.

    Parameters
    ----------
    model : {"ridge", "unet", "transformer", "wavelet_unet", "minimum_norm"}
        Ridge regression with lags, which networks have not outperformed on simulations; networks; or the minimum norm,
        which needs the positions of all sensors. ``"wavelet_unet"`` predicts band envelopes (`skeeg.WaveletBands`).
    network_params : dict or None
        Sizes of the network, see `SensorUNet` and `SensorTransformer`.
    positions : bool
        Whether one model serves other montages and head positions; fit and predict then need ``geometry``. The EEG is
        coded as spherical harmonics of degrees up to 5, the MEG as multipole moments of orders up to 7.
    meg, meg_types : {"meg", "mag", "grad"}, tuple of str or None
        Which sensors to take from recordings, ``"meg"`` all; type of each, ``"mag"`` or ``"grad"``, where no geometry
        is given.
    scale : {"channel", "type"}
        Divide each sensor by its own standard deviation, or by that of its type.
    lags : int or None
        Samples before and after the present one that are inputs of ridge regression; None uses the network alone.
    alpha : "auto" or float
        Penalty of ridge regression, in units of the mean variance; "auto" takes the best on the held-out windows. Of
        the minimum norm, the power of the noise relative to the signal, 1 / 9 with "auto".
    joined : bool
        Whether the trials of each run follow each other without a gap; see `skeeg.WaveletBands`.
    window : float
        Seconds of the windows that recordings are cut into.
    max_epochs : int
        Passes over the training windows, for networks.
    recipe_params : dict or None
        Other settings of their training, see `skeeg.training.Recipe`. Defaults are a batch size of 32, a patience of 8
        epochs, and a share of .2 to hold out (``"validation_size"``).
    validation : {"auto", "subject", "run", "block", None}
        What to hold out; ``"auto"``: subjects where there are two, else runs, else the last windows (``"block"``).
    ch_names, sfreq, device, random_state, verbose, skorch_callbacks
        As in `skeeg.NetworkRegressor`.

    Attributes
    ----------
    eeg_mean_, eeg_scale_, meg_mean_, meg_scale_ : ndarray, shape (n_channels,) and (n_meg,)
        Of the training windows, in microvolts, tesla and tesla per metre.
    meg_names_, meg_types_ : tuple of str
        Sensors.
    steps_ : Pipeline
        Fitted preprocessing of the EEG, or, with `positions`, of its harmonics.
    coef_, alpha_ : ndarray, float or None
        Ridge weights of standardised signals, and the penalty used.
    network_weight_ : float
        :math:`\gamma`.
    info_eeg_, info_meg_ : mne.Info
        Sensors of the EEG at fit, and of predictions.
    module_, net_, history_, n_iter_
        As in `skeeg.NetworkRegressor`, with networks only.

    Notes
    -----
    Targets without an axis of time are one value a trial: the inputs of ridge regression are then all samples of the
    trial, and the outputs of a network are averaged over them. As a step of a pipeline put the fitted estimator into
    `sklearn.frozen.FrozenEstimator`, as labels are not MEG.

    Examples
    --------
    >>> from skeeg import EEGToMEG
    >>> from skeeg.methods.eeg2meg import MEGSimulation
    >>> simulation = MEGSimulation(noise=0.1)
    >>> X, Y, _ = simulation.trials(run=0)
    >>> virtual = EEGToMEG("ridge").fit(X, Y, geometry=simulation.info())
    >>> X, Y, _ = simulation.trials(run=1)
    >>> virtual.predict(X).shape, sorted(virtual.score_per_type(X, Y)), bool(virtual.score(X, Y) > 0.5)
    ((50, 306, 100), ['grad', 'mag'], True)
    """

    __metadata_request__fit = {"subjects": True}

    network_ = property(attrgetter("map_.network"), doc="The network, or None.")
    network_weight_ = property(attrgetter("map_.weight"), doc="Factor on the outputs of the network, or None.")
    coef_ = property(attrgetter("map_.coef"), doc="Ridge weights of standardised signals, or None.")
    alpha_ = property(attrgetter("map_.alpha"), doc="Penalty used, or None.")
    linear_map_ = "space"
    _may_be_infinite = ("geometries_",)  # unknown positions are NaN in MNE
    _parameter_constraints = {
        "model": [StrOptions(set(MODELS))],
        "scale": [StrOptions({"channel", "type"})],
        "meg": [StrOptions({"meg", "mag", "grad"})],
        "lags": [Interval(Integral, 0, None, closed="left"), None],
        "positions": ["boolean"],
        "validation": [StrOptions({"auto", "subject", "run", "block"}), None],
    }

    def __init__(
        self,
        model="ridge",
        network_params=None,
        positions=False,
        meg="meg",
        meg_types=None,
        scale="channel",
        lags=8,
        alpha="auto",
        joined=False,
        window=1.25,
        max_epochs=30,
        recipe_params=None,
        validation="auto",
        ch_names=None,
        sfreq=None,
        device="auto",
        random_state=None,
        verbose=0,
        skorch_callbacks=None,
    ):
        self.model = model
        self.network_params = network_params
        self.positions = positions
        self.meg = meg
        self.meg_types = meg_types
        self.scale = scale
        self.lags = lags
        self.alpha = alpha
        self.joined = joined
        self.window = window
        self.max_epochs = max_epochs
        self.recipe_params = recipe_params
        self.validation = validation
        self.ch_names = ch_names
        self.sfreq = sfreq
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.skorch_callbacks = skorch_callbacks

    @property
    def _any_length(self):
        """Signals may be of any length; one value a trial is made from all of its samples."""
        return self._is_signal

    @property
    def _any_montage(self):
        return "codes_" in vars(self) and self.codes_.any_montage

    @property
    def _is_signal(self):
        return len(vars(self).get("target_shape_", (0, 0))) == 2

    @property
    def steps_(self):
        """Fitted preprocessing as a pipeline."""
        return self.codes_.pipeline

    # Learning

    def fit(self, X, y, subjects=None, geometry=None):
        """Learn the map from EEG (n_trials, n_channels, n_times) in microvolts, or Epochs, to MEG of the same samples.

        MEG is (n_trials, n_meg, n_times), (n_trials, n_meg) or (n_trials,), in tesla and tesla per metre. ``geometry``,
        an `mne.Info` or one a trial, holds the positions of all sensors. ``subjects`` (n_trials,) are for trials
        without domains.
        """
        X, targets = self._check_eeg_and_targets(X, y, dtype=np.float64)
        refuse_flat(X)
        targets = self._as_signals(targets, X)
        domains = X.domains
        subjects = domains["subject"] if domains is not None else subjects
        runs = None if domains is None else np.array(["\0".join((d["session"], d["run"])) for d in domains])
        self.geometries_, places = read_geometry(geometry, len(X), self.meg)
        subjects = None if subjects is None else np.asarray(subjects)
        return self._learn(windows_of([np.asarray(X)], [targets]), places, subjects, runs, domains)

    def fit_runs(self, X, y, subjects=None, geometry=None):
        """Learn from runs that may be memory maps, of which a few windows are held in memory at a time.

        ``X`` and ``y`` are lists with an array a run, (n_windows, n_channels, n_times) and (n_windows, n_meg, n_times),
        in the units of `fit`, such as ``numpy.load("eeg.npy", mmap_mode="r")``; ``subjects`` and ``geometry`` have an
        entry a run.
        """
        check_runs(X, y, subjects)
        self._check_eeg(EEGArray(np.asarray(X[0][:1]), self.ch_names, self.sfreq), reset=True)
        self.target_shape_ = y[0].shape[1:]
        self.geometries_, places = read_geometry(geometry, len(X), self.meg)
        counts, numbers = [len(run) for run in X], np.arange(len(X))
        subjects = None if subjects is None else np.repeat(np.asarray(subjects, dtype=str), counts)
        return self._learn(windows_of(X, y), np.repeat(places, counts), subjects, np.repeat(numbers, counts))

    def _check_parameters(self):
        super()._check_parameters()
        resolve_device(self.device)
        self._recipe()
        if self.model in NETWORKS:
            self._network_sizes()
        elif self.lags is None:
            raise ValueError(f"lags: got None, but model={self.model!r} has no network; expected a number of samples.")
        if self.positions and self.model == "wavelet_unet":
            raise ValueError("positions: envelopes have no multipole moments; use another model than 'wavelet_unet'.")

    def _as_signals(self, targets, X):
        """Targets (n_trials, n_outputs, n_times), of one sample where they have no axis of time."""
        if not self._is_signal:
            if self.model in ("wavelet_unet", "minimum_norm") or self.positions:
                raise ValueError(f"y: model={self.model!r} needs signals, (n_trials, n_meg, n_times).")
            return targets[:, :, None]
        if self.target_shape_[1] != X.shape[2]:
            raise ValueError(f"X has {X.shape[2]} samples a trial and y {self.target_shape_[1]}; resample one of them.")
        return targets.reshape(len(X), *self.target_shape_)

    def _learn(self, source, places, subjects, runs, domains=None):
        """Learn from windows, and from the geometry, the subject, the run and the domains of each."""
        with seeded(seed := draw_seed(self.random_state)):
            size = self._recipe().validation_size
            rows, held = split_windows(len(source), self.validation, size, subjects, runs, seed)
            self._learn_scales(source.subset(rows))
            self.codes_ = self._make_codes()
            self.map_ = ResidualMap(self.lags, self._is_signal, self._recipe().batch_size, self.device)
            if self.model == "minimum_norm":
                return self
            source = source.then(functools.partial(self.codes_.code, places=places, domains=domains))
            if source.in_memory:  # coded once; what is on disk is coded batch by batch
                source = windows_of(*([one] for one in source.read(source.rows)))
            parts = [source.subset(part) for part in (rows, held)]
            if self.codes_.rescales:
                self.codes_.learn(parts[0])
                parts = [part.then(self.codes_.rescale) for part in parts]
            self.map_.fit(
                *parts, self.alpha, self._make_network if self.model in NETWORKS else None, recipe=self._recipe(),
                loss=self._criterion(), callbacks=self.skorch_callbacks or (), verbose=self.verbose,
            )  # fmt: skip
        if self.network_ is not None and self.network_weight_ < _WORTH_IT:
            warn(
                f"model: {self.model!r} adds nothing to ridge regression on the held-out windows (network_weight_ is "
                f"{self.network_weight_:.2f}); model='ridge' gives the same map in seconds."
            )
        return self

    def _learn_scales(self, training):
        """Means and scales of EEG and MEG, units, and names of the sensors."""
        (self.eeg_mean_, eeg_scale), (self.meg_mean_, scale) = moments(training.chunks())
        for name, found in (("X", eeg_scale), ("y", scale)):
            if not np.isfinite(found).all():
                raise ValueError(f"{name}: contains NaN or infinity.")
        flat = np.flatnonzero(eeg_scale == 0)
        if not training.in_memory and len(flat):
            raise ValueError(f"X: channel {', '.join(map(str, flat[:5]))} never changes; drop it before fit.")
        self.eeg_scale_ = np.where(eeg_scale > 0, eeg_scale, 1.0)
        n_sensors = self.n_features_in_, len(scale)
        self.meg_names_, self.meg_types_ = name_sensors(self.geometries_, self.meg_types, *n_sensors)
        if self.geometries_ or self.meg_types is not None:
            check_units(eeg_scale, scale, self.meg_types_)
        self.type_scale_ = np.ones(len(scale))
        for own in self._of_types(len(scale)).values():
            self.type_scale_[own] = np.sqrt(np.mean(scale[own] ** 2)) or 1.0
        chosen = scale if self.scale == "channel" else self.type_scale_
        self.meg_scale_ = np.where(chosen > 0, chosen, 1.0)

    def _prepare(self, X):
        raise TypeError(f"estimator: {type(self).__name__} predicts signals, which have no attributions.")

    def _make_codes(self):
        """Make the codes of the model."""
        if (self.positions or self.model == "minimum_norm") and not self.geometries_:
            what = "positions=True" if self.positions else "model='minimum_norm'"
            raise ValueError(f"geometry: {what} needs the positions of the sensors; pass fit(..., geometry=info).")
        scales = (self.eeg_mean_, self.eeg_scale_), (self.meg_mean_, self.meg_scale_), self.sfreq_in_
        if self.model == "minimum_norm":
            return InverseCodes(self.geometries_, 1 / 9 if self.alpha == "auto" else self.alpha, *scales)
        if self.positions:
            return MomentCodes(self.geometries_, self.type_scale_, self.sfreq_in_)
        return EnvelopeCodes(*scales, self.joined) if self.model == "wavelet_unet" else SignalCodes(*scales)

    def _make_network(self, n_chans, n_outputs):
        """Make the network, untrained."""
        state = SensorNetwork(
            self.model, self._network_sizes(), n_chans=n_chans, n_outputs=n_outputs, precision=self._recipe().precision
        )
        state.spec["averaged"] = not self._is_signal
        state.module = state.build()
        return state

    def _network_sizes(self):
        cls = NETWORKS[self.model]
        refuse_unknown("network_params", self.network_params, inspect.signature(cls).parameters.keys() - _SIGNALS)
        return {"dropout": 0.1, **(self.network_params or {})}

    def _criterion(self):
        return "mse"

    def _recipe(self):
        return change_recipe(_RECIPE, self.recipe_params, max_epochs=self.max_epochs)

    # Predicting

    def predict(self, X, geometry=None):
        """Predict MEG, in tesla and tesla per metre and in the shape of the targets of fit.

        EEG may have any length where the targets of fit were signals. ``geometry``, an `mne.Info` or one a trial, is
        for models that take the head position; None takes the first of fit. ``"wavelet_unet"`` gives envelopes
        (n_trials, n_bands * n_meg, n_times) of signals in units of each sensor's standard deviation.
        """
        check_is_fitted(self)
        X = self._check_eeg(X, reset=False, dtype=np.float64)
        data, matrices, places = np.asarray(X), None, np.zeros(len(X), dtype=int)
        if geometry is not None and self.codes_.takes_geometry:
            geometries, places = read_geometry(geometry, len(X), self._fitted_kind)
            matrices = self.codes_.matrices_of(geometries)
        if data.shape[1] == len(self.eeg_scale_) and self._is_signal:
            check_same_unit(data.std(axis=(0, 2)), self.eeg_scale_)
        outputs = self.codes_.predict(self.map_, data, places, X.domains, matrices)
        return outputs if self._is_signal else self._shape_like_targets(outputs[:, :, 0])

    def targets(self, y):
        """MEG as ``predict`` is compared with it: as given, or its envelopes for ``"wavelet_unet"``."""
        check_is_fitted(self)
        y = np.asarray(y, dtype=np.float64)
        return self.codes_.encode_targets(y) if self.codes_.has_bands else y

    def transform(self, X, geometry=None):
        """Virtual MEG for the next step of a pipeline, in units of each sensor's standard deviation.

        Gives an EEGArray (n_trials, n_meg, n_times) of float32 with the names of the sensors, or an array
        (n_trials, n_outputs) where targets have no axis of time.
        """
        prediction = self.predict(X, geometry)
        if not self._is_signal:
            flat = np.asarray(prediction).reshape(len(prediction), -1)
            return ((flat - self.meg_mean_) / self.meg_scale_).astype(np.float32)
        X = self._check_eeg(X, reset=False, dtype=np.float64)
        if self.codes_.has_bands:
            return X.like(prediction.astype(np.float32), ch_names=None)
        standard = (prediction - self.meg_mean_[:, None]) / self.meg_scale_[:, None]
        return X.like(standard.astype(np.float32), ch_names=self.meg_names_)
