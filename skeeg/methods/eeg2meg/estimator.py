"""EEG to MEG as a scikit-learn regressor and a step of pipelines."""

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ...array import make_eeg
from ...base import BaseEEGRegressor, draw_seed
from ...networks.seeding import seeded
from ...regression import moments
from ...training import NetworkEstimator
from ...wavelets import WaveletBands
from .forward import PositionCodes, apply_by_place, geometry_matrices, read_geometry
from .model import MODELS, NETWORKS, LinearAndNetwork, View, Windows, split_windows
from .recordings import RecordingBridge
from .scores import SensorScores
from .sensors import check_microvolts, check_same_unit, check_si


class EEGToMEG(LinearAndNetwork, SensorScores, RecordingBridge, NetworkEstimator, BaseEEGRegressor):
    r"""Virtual MEG: what a helmet would have measured at the same time as a cap.

    The map is learned from simultaneous recordings, or, for the minimum norm, taken from physics. Networks learn what
    ridge regression leaves over, so that they start from the best linear map:

    .. math:: \hat y = s_y \odot (W z + \gamma\, f(z)) + m_y, \qquad z = (x - m_x) / s_x

    with W from ridge regression, f the network, whose last layer starts at zero, and :math:`\gamma` between 0 and 1 the
    factor that fits the held-out windows best.

    Parameters
    ----------
    model : {"ridge", "unet", "transformer", "wavelet_unet", "minimum_norm"}
        Ridge regression with lags, which networks have not outperformed on simulations; networks; or the minimum norm,
        which learns nothing and needs the places of all sensors. ``"wavelet_unet"`` predicts band envelopes
        (`skeeg.WaveletBands`) in place of signals.
    network_params : dict or None
        Sizes of the network, such as ``{"n_filters": 48}``; see `SensorUNet` and `SensorTransformer`.
    positions : bool or tuple of 2 int
        Whether to give the model the places of electrodes, helmet and head, so that one model serves other caps and
        other places of the head; fit and predict then need ``geometry``. Two numbers are the highest degree of the
        harmonics of the cap and of the moments of the head; True is (5, 7).
    meg : {True, "mag", "grad"}
        Which sensors to take from recordings.
    meg_types : tuple of str or None
        ``"mag"`` or ``"grad"`` for each sensor, where no geometry tells.
    scale : {"channel", "type"}
        Divide each sensor by its own standard deviation, or by that of its type.
    lags : int or None
        Samples before and after that ridge regression sees beside the present one; None leaves everything to the
        network.
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
        Weights that the network starts from, which tell its sizes; see `skeeg.NetworkRegressor`.
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
    coef_ : ndarray or None
        Ridge weights of standardised signals.
    alpha_ : float or None
        Penalty used.
    network_weight_ : float
        :math:`\gamma`.
    geometries_ : tuple of dict
        Sensors of the training, see `skeeg.methods.eeg2meg.sensors.describe`.
    module_, net_, history_, n_iter_, n_features_in_, n_times_in_, ch_names_in_, sfreq_in_
        As in `skeeg.NetworkRegressor`; the first four with networks only.

    Notes
    -----
    X is in microvolts, as everywhere (`mne.Epochs` and `mne.io.Raw` are converted); Y is in tesla and tesla per metre.
    Targets without an axis of time are one value a trial: ridge regression then sees all samples of the trial, and the
    output of a network is averaged over them.

    As a step of a pipeline put the fitted estimator into `sklearn.frozen.FrozenEstimator`: labels are no MEG.

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

    _may_be_infinite = ("geometries_",)  # MNE marks places that are not known by NaN

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
        return len(getattr(self, "target_shape_", (0, 0))) == 2

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
            EEG and MEG sensors with their places, for all trials or for each.

        Returns
        -------
        self : EEGToMEG
            The fitted estimator.
        """
        self._check_settings()
        X, targets = self._check_eeg_and_targets(X, y, dtype=np.float64)
        self._refuse_flat(X)
        targets = self._as_signals(targets, X)
        domains = X.domains
        subjects = domains["subject"] if domains is not None else subjects
        runs = None if domains is None else np.array(["\0".join((d["session"], d["run"])) for d in domains])
        self.geometries_, places = read_geometry(geometry, len(X), self.meg)
        subjects = None if subjects is None else np.asarray(subjects)
        source = Windows([np.asarray(X)], [targets], places, subjects, runs)
        return self._learn(source, domains)

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
            EEG and MEG sensors with their places, of all runs or of each.

        Returns
        -------
        self : EEGToMEG
            The fitted estimator.
        """
        self._check_settings()
        _check_runs(X, y, subjects)
        self._check_eeg(make_eeg(np.asarray(X[0][:1]), self.ch_names, self.sfreq), reset=True)
        self.target_shape_ = y[0].shape[1:]
        self.geometries_, places = read_geometry(geometry, len(X), self.meg)
        counts, numbers = [len(run) for run in X], np.arange(len(X))
        subjects = None if subjects is None else np.repeat(np.asarray(subjects, dtype=str), counts)
        return self._learn(Windows(X, y, np.repeat(places, counts), subjects, np.repeat(numbers, counts)), None)

    def _check_settings(self):
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
            self._network_parameters(), self._recipe().check()
        elif self.checkpoint is not None:
            raise ValueError(f"checkpoint: got {self.checkpoint!r}, but model={self.model!r} has no network for it.")
        if self.positions and self.model == "wavelet_unet":
            raise ValueError("positions: envelopes have no multipole moments; use another model than 'wavelet_unet'.")

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
        """Learn from a source of windows."""
        with seeded(seed := draw_seed(self.random_state)):
            rows, held = split_windows(source, self.validation, self._settings()["validation_size"], seed)
            raw = View(source, rows, lambda x, y, rows: (x, y))
            self._learn_scales(raw, source)
            self._prepare_geometry()
            if self.model == "minimum_norm":
                return self
            code = self._coder(source, domains)
            if source.in_memory:  # coded once; what is on a disk is coded batch by batch
                rows_of_all = np.arange(len(source))
                coded = code(*source.take(rows_of_all), rows_of_all)
                source, code = Windows(*([one] for one in coded)), lambda x, y, rows: (x, y)
            coded = [View(source, part, code) for part in (rows, held)]
            self._learn_codes(coded[0])
            pairs = [view.then(self._standard) for view in coded]
            sums = self._fit_linear(*pairs)
            if self.model in NETWORKS:
                self._fit_residual(*pairs, in_memory=source.in_memory)
            self._refit_linear(sums)
        return self

    def _learn_scales(self, training, source):
        """Means and scales of EEG and MEG, units, and names of the sensors."""
        (self.eeg_mean_, eeg_scale), (self.meg_mean_, scale) = moments(training.chunks())
        for name, found in (("X", eeg_scale), ("y", scale)):
            if not np.isfinite(found).all():
                raise ValueError(f"{name}: contains NaN or infinity.")
        flat = np.flatnonzero(eeg_scale == 0)
        if not source.in_memory and len(flat):
            raise ValueError(f"X: channel {', '.join(map(str, flat[:5]))} never changes; drop it before fit.")
        self.eeg_scale_ = np.where(eeg_scale > 0, eeg_scale, 1.0)
        self._name_sensors(len(scale))
        if self.geometries_ or self.meg_types is not None:
            check_si(scale, self.meg_types_)
            check_microvolts(eeg_scale)
        types = np.array(self.meg_types_)
        self.type_scale_ = np.ones(len(scale))
        for kind in dict.fromkeys(self.meg_types_):
            self.type_scale_[types == kind] = np.sqrt(np.mean(scale[types == kind] ** 2)) or 1.0
        chosen = scale if self.scale == "channel" else self.type_scale_
        self.meg_scale_ = np.where(chosen > 0, chosen, 1.0)

    def _name_sensors(self, n_meg):
        """Names and types of the sensors, from the geometry where it is known."""
        types, names = self.meg_types, None
        for one in self.geometries_:
            for what, n in (("eeg", self.n_features_in_), ("meg", n_meg)):
                if len(one[what]["names"]) != n:
                    raise ValueError(f"geometry: {len(one[what]['names'])} {what} sensors, but the data have {n}.")
            types, names = one["meg"]["types"], one["meg"]["names"]
        if types is not None and len(types) != n_meg:
            raise ValueError(f"meg_types: got {len(types)} types for {n_meg} sensors.")
        self.meg_types_ = tuple(types) if types is not None else ("meg",) * n_meg
        self.meg_names_ = names if names is not None else tuple(f"MEG {i + 1:03d}" for i in range(n_meg))

    def _prepare_geometry(self):
        """Matrices of the training's geometries."""
        self.matrices_ = ()
        if not (self.positions or self.model == "minimum_norm"):
            return
        if not self.geometries_:
            what = "positions=True" if self.positions else "model='minimum_norm'"
            raise ValueError(f"geometry: {what} needs the places of the sensors; pass fit(..., geometry=info).")
        codes = self._position_codes()
        self.matrices_ = tuple(geometry_matrices(self.model, one, codes, self._noise) for one in self.geometries_)

    def _position_codes(self):
        if not self.positions or self.model == "minimum_norm":
            return None
        orders = (5, 7) if self.positions is True else self.positions
        return PositionCodes(self.geometries_, self.type_scale_, *orders)

    @property
    def _noise(self):
        """Power of the noise that the minimum norm assumes."""
        return 1 / 9 if self.alpha == "auto" else self.alpha

    def _coder(self, source, domains):
        """Make the function of windows and their rows that gives what is modelled."""
        codes = self._position_codes()
        encoders = [] if codes is None else [codes.target_encoder(one) for one in self.geometries_]

        def code(x, y, rows):
            places = source.places[rows]
            records = None if domains is None else domains[rows]
            x = self._code_inputs(x, places, records)
            if codes is not None:
                return x, apply_by_place(encoders, y, places)
            return x, self._envelopes((y - self.meg_mean_[:, None]) / self.meg_scale_[:, None], records)

        return code

    def _code_inputs(self, x, places, records=None, matrices=None):
        """EEG as harmonics, as standardised envelopes, or as it is."""
        if self.positions:
            matrices = self.matrices_ if matrices is None else matrices
            return apply_by_place([one["encoder"] for one in matrices], x, places)
        return self._envelopes((x - self.eeg_mean_[:, None]) / self.eeg_scale_[:, None], records)

    def _envelopes(self, z, records=None):
        if self.model != "wavelet_unet":
            return z
        bands = WaveletBands(scale=None, joined=self.joined)
        rate = self.sfreq_in_
        bands.set_params(bands=tuple(one for one in bands.bands if rate is None or one[0] < 0.45 * rate))
        return np.asarray(bands.fit_transform(make_eeg(z, None, rate, records)))

    def predict(self, X, geometry=None):
        """Predict MEG.

        Parameters
        ----------
        X : anything `as_eeg` accepts, shape (n_trials, n_channels, n_times)
            EEG in microvolts, or Epochs; of any length, where the targets of fit were signals.
        geometry : mne.Info, sequence of mne.Info, length n_trials, or None
            Where the sensors and the head are, for models that know; None takes the first of the training.

        Returns
        -------
        y : ndarray of float64, shape (n_trials, n_meg, n_times), or as the targets of fit
            Tesla and tesla per metre; for ``"wavelet_unet"`` envelopes (n_trials, n_bands * n_meg, n_times) of signals
            in units of each sensor's standard deviation.
        """
        check_is_fitted(self)
        X = self._check_eeg(X, reset=False, dtype=np.float64)
        matrices, places = self._matrices_for(geometry, len(X))
        data = np.asarray(X)
        if data.shape[1] == len(self.eeg_scale_) and self._is_signal:
            check_same_unit(data.std(axis=(0, 2)), self.eeg_scale_)
        if self.model == "minimum_norm":
            return apply_by_place([one["inverse"] for one in matrices], data, places)
        z = self._code_inputs(data, places, X.domains, matrices)
        z = (z - self.input_mean_[:, None]) / self.input_scale_[:, None]
        outputs = self._linear(z)
        if self.model in NETWORKS:
            outputs = outputs + self.network_weight_ * self._run(z)
        outputs = outputs * self.output_scale_[:, None] + self.output_mean_[:, None]
        if self.positions:
            outputs = apply_by_place([one["decoder"] for one in matrices], outputs, places)
        elif self.model != "wavelet_unet":
            outputs = outputs * self.meg_scale_[:, None] + self.meg_mean_[:, None]
        return outputs if self._is_signal else self._shape_like_targets(outputs[:, :, 0])

    def _matrices_for(self, geometry, n_trials):
        if geometry is None or not self.matrices_:
            return self.matrices_, np.zeros(n_trials, dtype=int)
        geometries, places = read_geometry(geometry, n_trials, self.meg)
        codes = self._position_codes()
        return [geometry_matrices(self.model, one, codes, self._noise) for one in geometries], places

    def targets(self, y):
        """Give what ``predict`` is compared with: the MEG itself, or its envelopes for ``"wavelet_unet"``.

        Parameters
        ----------
        y : array-like
            MEG as at fit.

        Returns
        -------
        targets : ndarray
            In the form of the predictions.
        """
        check_is_fitted(self)
        y = np.asarray(y, dtype=np.float64)
        return self._envelopes((y - self.meg_mean_[:, None]) / self.meg_scale_[:, None]) if self._has_bands else y

    @property
    def _has_bands(self):
        return self.model == "wavelet_unet"

    def transform(self, X, geometry=None):
        """Virtual MEG as trials for the next step of a pipeline, in units of each sensor's standard deviation.

        Parameters
        ----------
        X, geometry
            As in `predict`.

        Returns
        -------
        Z : EEGArray of float32, shape (n_trials, n_meg, n_times)
            Named after the sensors; an array (n_trials, n_outputs) where targets have no axis of time.
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

    def __sklearn_is_fitted__(self):
        """Fitted once the map is there."""
        return hasattr(self, "meg_scale_") and (self.model == "minimum_norm" or hasattr(self, "output_scale_"))


def _check_runs(X, y, subjects):
    """Refuse runs that are no pairs of windows of one size."""
    if not len(X) or not len(X[0]):
        raise ValueError("X: at least one window is needed, got 0.")
    if len(y) != len(X) or (subjects is not None and len(subjects) != len(X)):
        raise ValueError(f"y, subjects: expected one entry for each of the {len(X)} runs.")
    (_, n_eeg, n_times), n_meg = X[0].shape, y[0].shape[1]
    for run, (eeg, meg) in enumerate(zip(X, y, strict=True)):
        for name, one, n in (("X", eeg, n_eeg), ("y", meg, n_meg)):
            if one.shape != (len(eeg), n, n_times):
                raise ValueError(f"{name}: run {run} has shape {one.shape}, expected {(len(eeg), n, n_times)}.")
