"""EEG to MEG as a scikit-learn regressor and a step of pipelines."""

import dataclasses
import warnings

import numpy as np
from sklearn.base import TransformerMixin
from sklearn.utils.validation import check_is_fitted

from ...array import make_eeg
from ...base import BaseEEGRegressor, draw_seed, refuse_flat
from ...filtering import BandPass
from ...networks.seeding import seeded
from ...regression import lagged, moments
from ...training import Recipe, train
from ...training.base import NetworkEstimator
from ...training.inference import resolve_device
from .forward import apply_by_place, minimum_norm, read_geometry
from .model import (
    MODELS,
    NETWORKS,
    SIZES,
    EnvelopeCodes,
    MomentCodes,
    Selection,
    SensorNetwork,
    SignalCodes,
    Windows,
    best_weight,
    fit_ridge,
    split_windows,
)
from .sensors import (
    build_info,
    check_microvolts,
    check_same_unit,
    check_si,
    describe,
    name_sensors,
    predict_overlapping,
    read_eeg,
    read_recordings,
    sensor_correlations,
    sensor_r2,
    topography_correlation,
)

BANDS = (("delta", 1.0, 4.0), ("theta", 4.0, 8.0), ("alpha", 8.0, 13.0), ("beta", 13.0, 30.0), ("gamma", 30.0, 45.0))
_TRAINING = {"batch_size": 32, "learning_rate": 1e-3, "patience": 8, "validation_size": 0.2}
_WORTH_IT = 0.02  # weight of the network below which ridge regression is enough


class GeometryUnknownError(ValueError, AttributeError):
    """The sensors are unknown: a wrong call of a method, and an attribute that does not exist."""


class EEGToMEG(TransformerMixin, BaseEEGRegressor):
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
        which is not trained and needs the positions of all sensors. ``"wavelet_unet"`` predicts band envelopes
        (`skeeg.WaveletBands`) in place of signals.
    network_params : dict or None
        Sizes of the network, such as ``{"n_filters": 48}``; see `SensorUNet` and `SensorTransformer`.
    positions : bool or tuple of 2 int
        Whether to give the model the positions of electrodes, MEG sensors and head, so that one model serves other
        montages and head positions; fit and predict then need ``geometry``. Two numbers are the highest degree of the
        harmonics of the EEG and of the moments of the MEG; True is (5, 7).
    meg : {True, "mag", "grad"}
        Which sensors to take from recordings.
    meg_types : tuple of str or None
        ``"mag"`` or ``"grad"`` for each sensor, where no geometry is given.
    scale : {"channel", "type"}
        Divide each sensor by its own standard deviation, or by that of its type.
    lags : int or None
        Samples before and after the present one that are inputs of ridge regression; None uses the network alone.
    alpha : "auto" or float
        Penalty of ridge regression, in units of the mean variance; "auto" takes the best on the held-out windows. For
        the minimum norm the power of the noise relative to the signal, 1 / 9 with "auto".
    joined : bool
        Whether the trials of each run follow each other without a gap; see `skeeg.WaveletBands`.
    window : float
        Seconds of the windows that recordings are cut into.
    max_epochs : int
        Passes over the training windows, for networks.
    recipe_params : dict or None
        Other settings of their training, such as ``{"learning_rate": 3e-3}``; see `skeeg.training.Recipe`. Defaults are
        a batch size of 32, a patience of 8 epochs, and a share of .2 to hold out (``"validation_size"``).
    validation : {"auto", "subject", "run", "block", "trial", None}
        What to hold out: subjects where there are two, else runs, else the last windows; see `split_windows`.
    checkpoint : str or None
        Weights that the network starts from, with their sizes; see `skeeg.NetworkRegressor`.
    ch_names, sfreq, device, random_state, verbose, skorch_callbacks
        As in `skeeg.NetworkRegressor`.

    Attributes
    ----------
    eeg_mean_, eeg_scale_ : ndarray, shape (n_channels,)
        Of the training windows, in microvolts.
    meg_mean_, meg_scale_ : ndarray, shape (n_meg,)
        Of the training windows, in tesla and tesla per metre.
    meg_names_, meg_types_ : tuple of str
        Sensors.
    steps_ : Pipeline
        Fitted preprocessing of the EEG, or, with `positions`, of its harmonics.
    coef_ : ndarray or None
        Ridge weights of standardised signals.
    alpha_ : float or None
        Penalty used.
    network_weight_ : float
        :math:`\gamma`.
    geometries_ : tuple of dict
        Sensors at fit, see `skeeg.methods.eeg2meg.sensors.describe`.
    info_eeg_, info_meg_ : mne.Info
        Sensors of the EEG at fit, and of predictions.
    module_, net_, history_, n_iter_, n_features_in_, n_times_in_, ch_names_in_, sfreq_in_
        As in `skeeg.NetworkRegressor`; the first four with networks only.

    Notes
    -----
    X is in microvolts, as everywhere (`mne.Epochs` and `mne.io.Raw` are converted); Y is in tesla and tesla per metre.
    Targets without an axis of time are one value a trial: the inputs of ridge regression are then all samples of the
    trial, and the outputs of a network are averaged over them.

    As a step of a pipeline put the fitted estimator into `sklearn.frozen.FrozenEstimator`, as labels are not MEG.

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

    linear_map_ = "space"
    _may_be_infinite = ("geometries_",)  # unknown positions are NaN in MNE

    module_, network_spec_, net_ = NetworkEstimator.module_, NetworkEstimator.network_spec_, NetworkEstimator.net_
    history_, n_iter_, checkpoint_report_ = (
        NetworkEstimator.history_, NetworkEstimator.n_iter_, NetworkEstimator.checkpoint_report_
    )  # fmt: skip
    _sizes = NetworkEstimator._sizes

    def __init__(
        self,
        model="ridge",
        network_params=None,
        positions=False,
        meg=True,
        meg_types=None,
        scale="channel",
        lags=8,
        alpha="auto",
        joined=False,
        window=1.25,
        max_epochs=30,
        recipe_params=None,
        validation="auto",
        checkpoint=None,
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
        self.checkpoint = checkpoint
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
        return bool(self.positions)

    @property
    def _is_signal(self):
        return len(vars(self).get("target_shape_", (0, 0))) == 2

    @property
    def _has_bands(self):
        return self.model == "wavelet_unet"

    @property
    def _has_geometry(self):
        return bool(self.positions) or self.model == "minimum_norm"

    @property
    def steps_(self):
        """Fitted preprocessing as a pipeline."""
        return self.codes_.pipeline

    # Learning

    def fit(self, X, y, subjects=None, geometry=None):
        """Learn the map.

        Parameters
        ----------
        X : anything `as_eeg` accepts, shape (n_trials, n_channels, n_times)
            EEG in microvolts, or Epochs.
        y : array-like, shape (n_trials, n_meg, n_times), (n_trials, n_meg) or (n_trials,)
            MEG of the same samples in tesla and tesla per metre.
        subjects : array-like, shape (n_trials,), or None
            Subject of each trial, where X carries no domains.
        geometry : mne.Info, sequence of mne.Info, length n_trials, or None
            EEG and MEG sensors with their positions, for all trials or for each.

        Returns
        -------
        self : EEGToMEG
            The fitted estimator.
        """
        X, targets = self._check_eeg_and_targets(X, y, dtype=np.float64)
        refuse_flat(X)
        targets = self._as_signals(targets, X)
        domains = X.domains
        subjects = domains["subject"] if domains is not None else subjects
        runs = None if domains is None else np.array(["\0".join((d["session"], d["run"])) for d in domains])
        self.geometries_, places = read_geometry(geometry, len(X), self.meg)
        subjects = None if subjects is None else np.asarray(subjects)
        return self._learn(Windows([np.asarray(X)], [targets], places, subjects, runs), domains)

    def fit_runs(self, X, y, subjects=None, geometry=None):
        """Learn from runs that may be memory maps, of which a few windows are held in memory at a time.

        Parameters
        ----------
        X : sequence of ndarray or numpy.memmap, shape (n_windows, n_channels, n_times)
            EEG of each run in microvolts, such as ``numpy.load("eeg.npy", mmap_mode="r")``.
        y : sequence of ndarray or numpy.memmap, shape (n_windows, n_meg, n_times)
            MEG of the same samples in tesla and tesla per metre.
        subjects : sequence of str, length n_runs, or None
            Subject of each run.
        geometry : mne.Info, sequence of mne.Info, length n_runs, or None
            EEG and MEG sensors with their positions, of all runs or of each.

        Returns
        -------
        self : EEGToMEG
            The fitted estimator.
        """
        _check_runs(X, y, subjects)
        self._check_eeg(make_eeg(np.asarray(X[0][:1]), self.ch_names, self.sfreq), reset=True)
        self.target_shape_ = y[0].shape[1:]
        self.geometries_, places = read_geometry(geometry, len(X), self.meg)
        counts, numbers = [len(run) for run in X], np.arange(len(X))
        subjects = None if subjects is None else np.repeat(np.asarray(subjects, dtype=str), counts)
        return self._learn(Windows(X, y, np.repeat(places, counts), subjects, np.repeat(numbers, counts)), None)

    def fit_raw(self, raws, subjects=None):
        """Learn from continuous recordings that hold EEG and MEG.

        Parameters
        ----------
        raws : mne.io.Raw or list of them
            Cut into windows of ``window`` seconds, without those that overlap an annotation called bad. Each is a run
            of its own.
        subjects : sequence of str, length n_raws, or None
            Subject of each.
        """
        X, Y, geometry = read_recordings(raws, subjects, self._kind, self.window)
        return self.fit(X, Y, geometry=geometry)

    def fit_epochs(self, epochs, subjects=None):
        """Learn from epochs that hold EEG and MEG; `mne.Epochs` or a list of them, as in `fit_raw`."""
        return self.fit_raw(epochs, subjects)

    def _check_parameters(self):
        super()._check_parameters()
        resolve_device(self.device)
        if self.model not in MODELS:
            raise ValueError(f"model: got {self.model!r}, expected one of {', '.join(map(repr, MODELS))}.")
        if self.scale not in ("channel", "type"):
            raise ValueError(f"scale: got {self.scale!r}, expected 'channel' or 'type'.")
        if self.meg not in (True, "mag", "grad"):
            raise ValueError(f"meg: got {self.meg!r}, expected True, 'mag' or 'grad'.")
        by_network = self.lags is None and self.model in NETWORKS
        if not by_network and not (isinstance(self.lags, int | np.integer) and self.lags >= 0):
            raise ValueError(f"lags: got {self.lags!r}, expected a number of samples from 0, or None for networks.")
        if self.model in NETWORKS:
            self._network_sizes(), self._recipe().check()
        elif self.checkpoint is not None:
            raise ValueError(f"checkpoint: got {self.checkpoint!r}, but model={self.model!r} has no network for it.")
        if self.positions and self.model == "wavelet_unet":
            raise ValueError("positions: envelopes have no multipole moments; use another model than 'wavelet_unet'.")

    @property
    def _kind(self):
        return "meg" if self.meg is True else self.meg

    def _as_signals(self, targets, X):
        """Targets (n_trials, n_outputs, n_times), of one sample where they have no axis of time."""
        if not self._is_signal:
            if self.model in ("wavelet_unet", "minimum_norm") or self.positions:
                raise ValueError(f"y: model={self.model!r} needs signals, (n_trials, n_meg, n_times).")
            return targets[:, :, None]
        if self.target_shape_[1] != X.shape[2]:
            raise ValueError(
                f"X has {X.shape[2]} samples a trial and y {self.target_shape_[1]}: EEG and MEG must be of the same "
                "samples; resample one of them."
            )
        return targets.reshape(len(X), *self.target_shape_)

    def _learn(self, source, domains):
        """Learn from windows."""
        with seeded(seed := draw_seed(self.random_state)):
            rows, held = split_windows(source, self.validation, self._recipe().validation_size, seed)
            self._learn_scales(Selection(source, rows), source.in_memory)
            self.codes_ = self._make_codes()
            self.network_ = self.coef_ = self.alpha_ = None
            if self.model == "minimum_norm":
                return self
            code, codes = self._coder(source, domains), ()
            if source.in_memory:  # coded once; what is on disk is coded batch by batch
                every = np.arange(len(source))
                source = Windows(*([one] for one in code(*source.read(every), every)))
            else:
                codes = (code,)
            parts = [Selection(source, part, codes) for part in (rows, held)]
            if self.positions or self._has_bands:
                self.codes_.learn(parts[0])
                parts = [part.then(self.codes_.rescale) for part in parts]
            refitted = None
            if self.lags is not None:
                self.coef_, refitted, self.alpha_ = fit_ridge(*parts, self._ridge_inputs, self.alpha)
            if self.model in NETWORKS:
                self._fit_residual(*[part.then(lambda x, y, rows: (x, y - self._linear(x))) for part in parts])
            self.coef_ = refitted
        return self

    def _coder(self, source, domains):
        """Make the function of windows and their rows that gives inputs and targets of the model."""

        def code(x, y, rows):
            where = source.places[rows], None if domains is None else domains[rows]
            return self.codes_.encode(x, *where), self.codes_.encode_targets(y, *where)

        return code

    def _learn_scales(self, training, in_memory):
        """Means and scales of EEG and MEG, units, and names of the sensors."""
        (self.eeg_mean_, eeg_scale), (self.meg_mean_, scale) = moments(training.chunks())
        for name, found in (("X", eeg_scale), ("y", scale)):
            if not np.isfinite(found).all():
                raise ValueError(f"{name}: contains NaN or infinity.")
        flat = np.flatnonzero(eeg_scale == 0)
        if not in_memory and len(flat):
            raise ValueError(f"X: channel {', '.join(map(str, flat[:5]))} never changes; drop it before fit.")
        self.eeg_scale_ = np.where(eeg_scale > 0, eeg_scale, 1.0)
        n_sensors = self.n_features_in_, len(scale)
        self.meg_names_, self.meg_types_ = name_sensors(self.geometries_, self.meg_types, *n_sensors)
        if self.geometries_ or self.meg_types is not None:
            check_si(scale, self.meg_types_)
            check_microvolts(eeg_scale)
        self.type_scale_ = np.ones(len(scale))
        for own in self._of_types(len(scale)).values():
            self.type_scale_[own] = np.sqrt(np.mean(scale[own] ** 2)) or 1.0
        chosen = scale if self.scale == "channel" else self.type_scale_
        self.meg_scale_ = np.where(chosen > 0, chosen, 1.0)

    def _prepare(self, X):
        """Refuse attributions: `skeeg.explain` explains networks with one output a trial."""
        raise TypeError(f"estimator: {type(self).__name__} predicts signals, which have no attributions.")

    def _make_codes(self):
        """Codes of EEG and MEG, and the matrices of the minimum norm."""
        self.inverses_ = ()
        if self._has_geometry and not self.geometries_:
            what = "positions=True" if self.positions else "model='minimum_norm'"
            raise ValueError(f"geometry: {what} needs the positions of the sensors; pass fit(..., geometry=info).")
        if self.model == "minimum_norm":
            self.inverses_ = self._matrices_of(self.geometries_)
        elif self.positions:
            orders = (5, 7) if self.positions is True else self.positions
            return MomentCodes(self.geometries_, self.type_scale_, self.sfreq_in_, orders)
        scales = (self.eeg_mean_, self.eeg_scale_), (self.meg_mean_, self.meg_scale_), self.sfreq_in_
        return EnvelopeCodes(*scales, self.joined) if self._has_bands else SignalCodes(*scales)

    def _matrices_of(self, geometries):
        if self.model != "minimum_norm":
            return self.codes_.matrices_of(geometries)
        noise = 1 / 9 if self.alpha == "auto" else self.alpha
        return tuple(minimum_norm(one["eeg"], one["meg"], noise) * 1e-6 for one in geometries)

    def _ridge_inputs(self, z):
        """Compute inputs of ridge regression: lags, or all samples where a trial has one value."""
        z = np.asarray(z, dtype=np.float64)
        if not self._is_signal:
            return z.reshape(len(z), -1, 1)
        lags = range(self.lags, -self.lags - 1, -1)
        return lagged(z, lags, edge="zero").reshape(len(z), -1, z.shape[2]) if self.lags else z

    def _linear(self, z):
        return 0.0 if self.coef_ is None else self.coef_ @ self._ridge_inputs(z)

    def _fit_residual(self, training, held):
        """Train the network on the residual of ridge regression, and weigh it by the held-out windows."""
        (x, y), recipe = training.read(np.arange(1)), self._recipe()
        state = SensorNetwork(
            self.model, self._network_sizes(), n_chans=x.shape[1], n_outputs=y.shape[1], precision=recipe.precision
        )
        state.spec["averaged"] = not self._is_signal
        state.module = state.build()
        if self.checkpoint is not None:
            state.load(self.checkpoint, keep_head=True)
        watched = (held.trials(state.dtype),) if len(held) else None
        net = train(
            state.module, training.trials(state.dtype), None, recipe, loss=self._criterion(), validation=watched,
            device=self.device, callbacks=self.skorch_callbacks or (), verbose=self.verbose,
        )  # fmt: skip
        self.network_, self.network_weight_ = state.keep(net), 1.0
        if watched is not None and self.lags is not None:
            self.network_weight_ = best_weight(self._run, held)
        if self.network_weight_ < _WORTH_IT:
            warnings.warn(
                f"model: {self.model!r} adds nothing to ridge regression on the held-out windows (network_weight_ is "
                f"{self.network_weight_:.2f}); model='ridge' gives the same map in seconds.",
                stacklevel=4,
            )

    def _run(self, z):
        return self.network_.run(z, self._recipe().batch_size, self.device)

    def _network_sizes(self):
        cls = NETWORKS[self.model]
        unknown = set(self.network_params or {}) - set(SIZES[cls])
        if unknown:
            raise ValueError(
                f"network_params: {', '.join(sorted(unknown))} unknown; there are {', '.join(SIZES[cls])}."
            )
        return self._sizes(cls, {"dropout": 0.1})

    def _criterion(self):
        return "mse"

    def _recipe(self):
        names = {field.name for field in dataclasses.fields(Recipe)} - {"max_epochs"}
        unknown = set(self.recipe_params or {}) - names
        if unknown:
            raise ValueError(
                f"recipe_params: {', '.join(sorted(unknown))} unknown; there are {', '.join(sorted(names))}."
            )
        return Recipe(max_epochs=self.max_epochs, **_TRAINING | dict(self.recipe_params or {}))

    # Predicting

    def predict(self, X, geometry=None):
        """Predict MEG.

        Parameters
        ----------
        X : anything `as_eeg` accepts, shape (n_trials, n_channels, n_times)
            EEG in microvolts, or Epochs; of any length, where the targets of fit were signals.
        geometry : mne.Info, sequence of mne.Info, length n_trials, or None
            Sensors and head position, for models that take them; None takes the first of fit.

        Returns
        -------
        y : ndarray of float64, shape (n_trials, n_meg, n_times), or as the targets of fit
            Tesla and tesla per metre; for ``"wavelet_unet"`` envelopes (n_trials, n_bands * n_meg, n_times) of signals
            in units of each sensor's standard deviation.
        """
        check_is_fitted(self)
        X = self._check_eeg(X, reset=False, dtype=np.float64)
        data, matrices, places = np.asarray(X), None, np.zeros(len(X), dtype=int)
        if geometry is not None and self._has_geometry:
            geometries, places = read_geometry(geometry, len(X), self.meg)
            matrices = self._matrices_of(geometries)
        if data.shape[1] == len(self.eeg_scale_) and self._is_signal:
            check_same_unit(data.std(axis=(0, 2)), self.eeg_scale_)
        if self.model == "minimum_norm":
            return apply_by_place(matrices or self.inverses_, data, places)
        z = self.codes_.inputs(data, places, X.domains, matrices)
        outputs = self._linear(z)
        if self.network_ is not None:
            outputs = outputs + self.network_weight_ * self._run(z)
        outputs = self.codes_.decode(outputs, places, matrices)
        return outputs if self._is_signal else self._shape_like_targets(outputs[:, :, 0])

    def targets(self, y):
        """Targets that ``predict`` is compared with: the MEG itself, or its envelopes for ``"wavelet_unet"``.

        Parameters
        ----------
        y : array-like
            MEG as at fit.

        Returns
        -------
        targets : ndarray
            Of the shape of the predictions.
        """
        check_is_fitted(self)
        y = np.asarray(y, dtype=np.float64)
        return self.codes_.encode_targets(y) if self._has_bands else y

    def transform(self, X, geometry=None):
        """Virtual MEG as trials for the next step of a pipeline, in units of each sensor's standard deviation.

        Parameters
        ----------
        X, geometry
            As in `predict`.

        Returns
        -------
        Z : EEGArray of float32, shape (n_trials, n_meg, n_times)
            With the names of the sensors; an array (n_trials, n_outputs) where targets have no axis of time.
        """
        check_is_fitted(self)
        prediction = self.predict(X, geometry)
        if not self._is_signal:
            flat = np.asarray(prediction).reshape(len(prediction), -1)
            return ((flat - self.meg_mean_) / self.meg_scale_).astype(np.float32)
        X = self._check_eeg(X, reset=False, dtype=np.float64)
        if self._has_bands:
            return X.like(prediction.astype(np.float32), ch_names=None)
        standard = (prediction - self.meg_mean_[:, None]) / self.meg_scale_[:, None]
        return X.like(standard.astype(np.float32), ch_names=self.meg_names_)

    # Recordings

    @property
    def info_eeg_(self):
        """Sensors of the EEG at fit."""
        return self._first_info("eeg")

    @property
    def info_meg_(self):
        """Sensors of predictions."""
        return self._first_info("meg")

    def _first_info(self, kind):
        check_is_fitted(self)
        if not self.geometries_:
            raise GeometryUnknownError("geometry: not known; fit with fit_raw, fit_epochs or fit(..., geometry=info).")
        return build_info(self.geometries_[0][kind], sfreq=self.sfreq_in_ or 1.0)

    def predict_raw(self, raw):
        """Predict the MEG of a continuous recording.

        Parameters
        ----------
        raw : mne.io.Raw
            EEG, with the channels of fit.

        Returns
        -------
        meg : mne.io.RawArray
            Same times and annotations. Windows of the length at fit overlap by half and are cross-faded.
        """
        import mne

        X, geometry, info = self._read(raw)
        signals = predict_overlapping(lambda x: self.predict(x, geometry), X, min(self.n_times_in_, X.shape[2]))
        out = mne.io.RawArray(signals, info, first_samp=raw.first_samp, verbose="error")
        out.set_meas_date(raw.info["meas_date"])
        return out.set_annotations(raw.annotations, verbose="error")

    def predict_epochs(self, epochs):
        """Predict the MEG of epochs.

        Returns
        -------
        meg : mne.EpochsArray
            Same events, times and metadata.
        """
        import mne

        X, geometry, info = self._read(epochs)
        return mne.EpochsArray(
            self.predict(X, geometry), info, events=epochs.events, tmin=epochs.tmin, event_id=epochs.event_id,
            metadata=epochs.metadata, baseline=None, verbose="error",
        )  # fmt: skip

    def predict_evoked(self, evoked):
        """Predict the MEG of an average.

        Networks are not linear: the MEG of an average is not the average MEG.

        Returns
        -------
        meg : mne.EvokedArray
            Same times and comment.
        """
        import mne

        X, geometry, info = self._read(evoked)
        return mne.EvokedArray(
            self.predict(X, geometry)[0], info, tmin=evoked.times[0], comment=evoked.comment, nave=evoked.nave,
            kind=evoked.kind, baseline=None, verbose="error",
        )  # fmt: skip

    def _read(self, recording):
        """EEG of a recording, its geometry for `predict`, and the Info of predictions."""
        check_is_fitted(self)
        if self._has_bands:
            raise ValueError("model: 'wavelet_unet' predicts envelopes, not MEG signals; use predict.")
        if not self._is_signal:
            raise ValueError("y: fit has seen one value a trial; signals need targets (n_trials, n_meg, n_times).")
        X, rate = read_eeg(recording, None if self._any_montage else self.ch_names_in_), recording.info["sfreq"]
        self.info_meg_  # noqa: B018, refuses unknown sensors
        meg, geometry = self.geometries_[0]["meg"], None
        if self._has_geometry:
            if set(recording.get_channel_types()) & {"mag", "grad"}:
                meg = describe(recording.info, self._kind)
            geometry = build_info(describe(recording.info, "eeg"), meg, sfreq=rate)
        return X, geometry, build_info(meg, sfreq=rate)

    # Scores

    def score(self, X, y, geometry=None):
        """Mean Pearson correlation over sensors.

        Parameters
        ----------
        X, y
            EEG and MEG as at fit.
        geometry : mne.Info, sequence of them, or None
            As in `predict`.

        Returns
        -------
        r : float
            Mean of `score_per_sensor`.
        """
        return float(self.score_per_sensor(X, y, geometry=geometry).mean())

    def score_per_sensor(self, X, y, metric="r", geometry=None):
        """Pearson correlation, or explained variance, of each sensor.

        Parameters
        ----------
        X, y, geometry
            As in `score`.
        metric : {"r", "r2"}
            Correlation or explained variance.

        Returns
        -------
        values : ndarray, shape (n_sensors,)
            For ``model="wavelet_unet"``, of each band and sensor.
        """
        if metric not in ("r", "r2"):
            raise ValueError(f"metric: got {metric!r}, expected 'r' or 'r2'.")
        return (sensor_correlations if metric == "r" else sensor_r2)(*self._compared(X, y, geometry))

    def score_per_type(self, X, y, metric="r", geometry=None):
        """Mean of `score_per_sensor` over the sensors of each type.

        Returns
        -------
        values : dict of str to float
            ``"mag"`` and ``"grad"``, or ``"meg"`` where types are unknown.
        """
        values = self.score_per_sensor(X, y, metric, geometry)
        return {kind: float(values[own].mean()) for kind, own in self._of_types(len(values)).items()}

    def score_per_band(self, X, y, bands=BANDS, geometry=None):
        """Mean Pearson correlation over sensors of signals filtered to each band.

        Parameters
        ----------
        X, y, geometry
            As in `score`.
        bands : tuple of (str, float, float)
            Names and edges in hertz; those above half the sampling rate are left out.

        Returns
        -------
        values : dict of str to float
            By name.
        """
        truth, prediction = self._compared(X, y, geometry)
        if self.sfreq_in_ is None:
            raise ValueError("sfreq: bands need the sampling rate; give it to the estimator or to X.")
        values = {}
        for name, low, high in bands:
            if high < self.sfreq_in_ / 2:
                band = BandPass(low, high, method="iir", sfreq=self.sfreq_in_)
                parts = (np.asarray(band.fit_transform(one / (one.std() or 1.0))) for one in (truth, prediction))
                values[name] = float(sensor_correlations(*parts).mean())
        return values

    def score_topography(self, X, y, geometry=None):
        """Correlation over the sensors of each type of the true and the predicted evoked field.

        Returns
        -------
        values : dict of str to float
            By type; trials are averaged.
        """
        truth, prediction = self._compared(X, y, geometry)
        kinds = self._of_types(truth.shape[1])
        return {kind: topography_correlation(truth[:, own], prediction[:, own]) for kind, own in kinds.items()}

    def _of_types(self, n):
        """Mask of the outputs of each sensor type."""
        types = np.resize(np.array(self.meg_types_), n)
        return {kind: types == kind for kind in dict.fromkeys(self.meg_types_)}

    def _compared(self, X, y, geometry):
        """Truth and prediction, both (n_trials, n_sensors, n_times)."""
        check_is_fitted(self)
        prediction = np.asarray(self.predict(X, geometry=geometry))
        truth = np.asarray(self.targets(y), dtype=np.float64)
        if truth.shape != prediction.shape:
            raise ValueError(f"y: got shape {truth.shape}, expected {prediction.shape}.")
        shape = (len(truth), -1, 1) if truth.ndim < 3 else truth.shape
        return truth.reshape(shape), prediction.reshape(shape)

    def __sklearn_tags__(self):
        """Declare that virtual MEG is float32."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def __sklearn_is_fitted__(self):
        """Fitted once the map is there."""
        return "coef_" in vars(self)


def _check_runs(X, y, subjects):
    """Refuse runs that are not pairs of windows of one size."""
    if not len(X) or not len(X[0]):
        raise ValueError("X: at least one window is needed, got 0.")
    if len(y) != len(X) or (subjects is not None and len(subjects) != len(X)):
        raise ValueError(f"y, subjects: expected one entry for each of the {len(X)} runs.")
    (_, n_eeg, n_times), n_meg = X[0].shape, y[0].shape[1]
    for run, (eeg, meg) in enumerate(zip(X, y, strict=True)):
        for name, one, n in (("X", eeg, n_eeg), ("y", meg, n_meg)):
            if one.shape != (len(eeg), n, n_times):
                raise ValueError(f"{name}: run {run} has shape {one.shape}, expected {(len(eeg), n, n_times)}.")
