"""Ridge regression with a network on its residual, and what both take: windows of EEG and MEG, and codes of these."""

import numpy as np
import torch
from sklearn.pipeline import Pipeline

from ...array import EEGArray
from ...regression import ChannelScaler, CrossProducts, lagged, moments, ridge_from_products
from ...storage import Storable
from ...training import NetworkState, split_validation, train
from ...training.data import Trials
from ...training.device import resolve_device
from ...training.inference import run_batches
from ...wavelets import WaveletBands
from .forward import apply_by_place, harmonic_encoder, head_sphere, minimum_norm, multipoles
from .networks import NETWORKS

MODELS = (*NETWORKS, "ridge", "minimum_norm")
_RIDGE, _SMALLEST = 1e-2, 1e-3  # of the fit of moments, and of the singular values that are kept
_AT_ONCE = 2**24  # values of one chunk, which bounds the memory


class Windows(Trials):
    """Windows of EEG and MEG: ``read_rows(rows)`` gives those at some rows as arrays, from memory or from a disk."""

    device = torch.device("cpu")  # where indices are expected

    def __init__(self, read_rows, rows, in_memory=True):
        self.read_rows, self.rows, self.in_memory = read_rows, rows, in_memory

    def __len__(self):
        """Count the windows."""
        return len(self.rows)

    def subset(self, index):
        """Give the windows at some positions."""
        return Windows(self.read_rows, self.rows[index], self.in_memory)

    def then(self, code):
        """Give what a function of EEG, MEG and their rows makes of the windows, whenever they are read."""
        return Windows(lambda rows: code(*self.read_rows(rows), rows), self.rows, self.in_memory)

    def read(self, index):
        """Read EEG and MEG at some positions, as arrays."""
        return self.read_rows(self.rows[index])

    def take(self, index):
        """Read EEG and MEG at some positions, as tensors."""
        return tuple(torch.from_numpy(one) for one in self.read(index.numpy()))

    def to(self, device):
        """Stay where the windows are: each batch is moved by the training loop."""
        return self

    def chunks(self):
        """All EEG and MEG, a bounded number of windows at a time."""
        if not len(self):
            return
        step = int(np.clip(_AT_ONCE // sum(one.size for one in self.read(np.arange(1))), 1, len(self)))
        for start in range(0, len(self), step):
            yield self.read(np.arange(start, min(start + step, len(self))))

    def trials(self, float_type):
        """Trials for the training loop: in memory where the windows are."""
        windows = self.then(lambda x, y, rows: (x.astype(float_type), y.astype(float_type)))
        return Trials(*windows.read(np.arange(len(self)))) if self.in_memory else windows


def windows_of(X, y):
    """Windows of runs (n_windows, n_channels, n_times), some or all of which may be memory maps."""
    starts = np.concatenate([[0], np.cumsum([len(run) for run in X])])

    def gather(runs, rows):
        owners = np.searchsorted(starts, rows, side="right") - 1
        return np.stack([runs[owner][row - starts[owner]] for owner, row in zip(owners, rows, strict=True)])

    in_memory = not any(isinstance(run, np.memmap) for run in (*X, *y))
    return Windows(lambda rows: (gather(X, rows), gather(y, rows)), np.arange(starts[-1]), in_memory)


def check_runs(X, y, subjects):
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


def split_windows(n_windows, validation, size, subjects, runs, seed):
    """Rows of training and validation windows; the latter are empty without validation.

    Shapes: ``subjects``, ``runs`` (n_windows,), or None.
    """
    rows = np.arange(n_windows)
    if runs is not None and subjects is not None:  # runs of two subjects may have one name
        runs = np.array([f"{subject}\0{run}" for subject, run in zip(subjects, runs, strict=True)])
    groups = {"subject": subjects, "run": runs}
    if validation == "auto":
        several = [name for name, one in groups.items() if one is not None and len(np.unique(one)) > 1]
        validation = several[0] if several else "block"
    if validation in (None, "block"):
        n_held = int(n_windows * size) if validation else 0
        return rows[: n_windows - n_held], rows[n_windows - n_held :]
    if groups[validation] is None or len(np.unique(groups[validation])) < 2:
        raise ValueError(f"validation={validation!r} needs the {validation} of each window, and two at least.")
    return split_validation(rows, "subject", size, groups[validation], seed)


class SignalCodes(Storable):
    """Inputs and targets of a model, and MEG from its outputs: standardised signals.

    Coded windows are standardised again where ``rescales`` is set, by one scale of all targets with ``common_scale``.
    """

    any_montage = has_bands = takes_geometry = rescales = common_scale = False

    def __init__(self, eeg, meg, rate):
        self.rate, self.meg, self.outputs = rate, meg, meg
        self.steps, self.scaler = (("scale", _scaler(*eeg)),), None

    @property
    def pipeline(self):
        """Preprocessing of the inputs."""
        return Pipeline([*self.steps, *(() if self.scaler is None else [("scale_codes", self.scaler)])])

    def encode(self, x, places, records=None, matrices=None):
        """Code EEG (n_trials, n_channels, n_times) of geometries with these matrices, or those of fit."""
        return np.asarray(Pipeline(list(self.steps)).transform(EEGArray(x, None, self.rate, records)))

    def encode_targets(self, y, places=None, records=None):
        """Code MEG (n_trials, n_meg, n_times)."""
        return _scale(y, *self.meg)

    def code(self, x, y, rows, places, domains):
        """Code EEG and MEG of the windows in these rows."""
        where = places[rows], None if domains is None else domains[rows]
        return self.encode(x, *where), self.encode_targets(y, *where)

    def learn(self, training):
        """Learn the scales of coded windows that are not standardised yet."""
        inputs, (mean, scale) = moments(training.chunks())
        if self.common_scale:
            scale = np.full_like(scale, np.sqrt(np.mean(scale**2)))
        self.scaler, self.outputs = _scaler(*inputs), (mean, np.where(scale > 0, scale, 1.0))

    def rescale(self, x, y, rows):
        """Scale coded windows."""
        return np.asarray(self.scaler.transform(x)), _scale(y, *self.outputs)

    def decode(self, outputs, places, matrices=None):
        """Compute predictions of outputs."""
        mean, scale = self.outputs
        return outputs * scale[:, None] + mean[:, None]

    def predict(self, model, x, places, records=None, matrices=None):
        """Predict MEG (n_trials, n_meg, n_times) of EEG by a fitted `ResidualMap`."""
        z = self.encode(x, places, records, matrices)
        z = z if self.scaler is None else np.asarray(self.scaler.transform(z))
        return self.decode(model.predict(z), places, matrices)


class InverseCodes(SignalCodes):
    """MEG by the minimum norm, of matrices in place of a model."""

    takes_geometry = True

    def __init__(self, geometries, noise, *scales):
        super().__init__(*scales)
        self.noise = noise
        self.matrices = self.matrices_of(geometries)

    def matrices_of(self, geometries):
        """Matrices of geometries, from microvolts."""
        return tuple(minimum_norm(one["eeg"], one["meg"], self.noise) * 1e-6 for one in geometries)

    def predict(self, model, x, places, records=None, matrices=None):
        """Predict MEG of EEG."""
        return apply_by_place(matrices or self.matrices, x, places)


class EnvelopeCodes(SignalCodes):
    """Envelopes of frequency bands of standardised signals; predictions are envelopes."""

    has_bands = rescales = True

    def __init__(self, eeg, meg, rate, joined):
        super().__init__(eeg, meg, rate)
        bands = WaveletBands().bands
        self.bands = tuple(one for one in bands if rate is None or one[0] < 0.45 * rate)
        self.joined = joined
        self.steps += (("bands", self._envelopes().fit(EEGArray(np.zeros((1, len(eeg[0]), 2)), sfreq=rate))),)

    def _envelopes(self):
        return WaveletBands(self.bands, scale=None, joined=self.joined)

    def encode_targets(self, y, places=None, records=None):
        """Code MEG as envelopes."""
        z = EEGArray(super().encode_targets(y), None, self.rate, records)
        return np.asarray(self._envelopes().fit_transform(z))


class MomentCodes(SignalCodes):
    r"""Codes that all montages and head positions have in common.

    EEG is coded as spherical harmonics :math:`B x`. MEG is coded as :math:`a` with :math:`y = D S_g N V \Sigma^{-1} a`:
    multipole moments, rotated and scaled so that for the mean position :math:`|a|` is the size of the field in units of
    each type's standard deviation, D. Only the matrix of the forward model, :math:`S_g`, depends on the head position.
    """

    any_montage = takes_geometry = rescales = True
    common_scale = True  # that of the field

    def __init__(self, geometries, type_scale, rate):
        self.rate, self.steps, self.scaler, self.type_scale = rate, (), None, type_scale
        self.centre = head_sphere(geometries[0]["eeg"])[0]
        mean = np.mean([self._basis(one) for one in geometries], axis=0)
        norm = np.linalg.norm(mean, axis=0)  # in SI units the moments of each order are ten times those of the last
        _, size, turn = np.linalg.svd(mean / norm, full_matrices=False)
        kept = size > _SMALLEST * size[0]
        self.turn = turn[kept].T / size[kept] / norm[:, None]
        self.matrices = self.matrices_of(geometries)
        self.target_encoders = [self._target_encoder(one) for one in geometries]

    def _basis(self, geometry):
        """Fields of the moments, in units of the sensors."""
        n_meg = len(geometry["meg"]["names"])
        if n_meg != len(self.type_scale):
            raise ValueError(f"geometry: {n_meg} MEG sensors, but the MEG of fit has {len(self.type_scale)}.")
        return multipoles(geometry["meg"], self.centre) / self.type_scale[:, None]

    def _target_encoder(self, geometry):
        """Matrix from MEG to its codes: regularised least squares."""
        basis = self._basis(geometry) @ self.turn
        gram = basis.T @ basis + _RIDGE * np.eye(basis.shape[1])
        return np.linalg.solve(gram, basis.T) / self.type_scale

    def matrices_of(self, geometries):
        """Matrices of geometries: from EEG to its codes, and from codes to MEG."""
        return tuple(
            {
                "encoder": harmonic_encoder(one["eeg"]),
                "decoder": self.type_scale[:, None] * (self._basis(one) @ self.turn),
            }
            for one in geometries
        )

    def encode(self, x, places, records=None, matrices=None):
        """Code EEG as harmonics."""
        return apply_by_place([one["encoder"] for one in matrices or self.matrices], x, places)

    def encode_targets(self, y, places=None, records=None):
        """Code MEG as moments."""
        return apply_by_place(self.target_encoders, y, places)

    def decode(self, outputs, places, matrices=None):
        """Compute the fields of moments."""
        decoders = [one["decoder"] for one in matrices or self.matrices]
        return apply_by_place(decoders, super().decode(outputs, places), places)


def _scaler(mean, scale):
    """Scaler of means and standard deviations that were learned chunk by chunk."""
    scaler = ChannelScaler().fit(np.zeros((1, len(mean), 2)))
    scaler.mean_, scaler.matrix_ = mean, np.diag(1 / np.where(scale > 0, scale, 1.0))
    return scaler


def _scale(signals, mean, scale):
    return (signals - mean[:, None]) / scale[:, None]


class ResidualMap(Storable):
    """Ridge regression with lags, and a network on its residual: ``coef @ lagged(z) + weight * network(z)``."""

    def __init__(self, lags, is_signal, batch_size, device):
        self.lags, self.is_signal, self.batch_size, self.device = lags, is_signal, batch_size, device
        self.coef = self.alpha = self.network = self.weight = None

    def fit(self, training, held, alpha, network=None, **settings):
        """Fit to windows; ``network`` makes the `SensorNetwork`, ``settings`` are those of `train`.

        The network learns the residual of ridge regression on the training windows; that regression is then fitted to
        all.
        """
        refitted = None
        if self.lags is not None:
            products = [CrossProducts((self._inputs(x), y) for x, y in part.chunks()) for part in (training, held)]
            self.coef, self.alpha = ridge_from_products(*products, alpha)
            refitted = ridge_from_products(products[0] + products[1], products[1], self.alpha)[0]
        if network is not None:
            parts = [part.then(lambda x, y, rows: (x, y - self.linear(x))) for part in (training, held)]
            self._fit_network(network, *parts, **settings)
        self.coef = refitted

    def predict(self, z):
        """Compute outputs (n_trials, n_outputs, n_times) of inputs (n_trials, n_inputs, n_times)."""
        return self.linear(z) if self.network is None else self.linear(z) + self.weight * self._run(z)

    def linear(self, z):
        """Compute outputs of ridge regression."""
        return 0.0 if self.coef is None else self.coef @ self._inputs(z)

    def _inputs(self, z):
        """Compute inputs of ridge regression: lags, or all samples where a trial has one value."""
        z = np.asarray(z, dtype=np.float64)
        if not self.is_signal:
            return z.reshape(len(z), -1, 1)
        lags = range(self.lags, -self.lags - 1, -1)
        return lagged(z, lags, edge="zero").reshape(len(z), -1, z.shape[2]) if self.lags else z

    def _fit_network(self, make, training, held, **settings):
        """Train the network, and weigh it by the held-out windows."""
        x, y = training.read(np.arange(1))
        state = make(n_chans=x.shape[1], n_outputs=y.shape[1])
        training, watched = training.trials(state.float_type), (held.trials(state.float_type),) if len(held) else None
        net = train(state.module, training, None, validation=watched, device=self.device, **settings)
        self.network, self.weight = state.keep(net), 1.0
        if watched is not None and self.lags is not None:
            self.weight = best_weight(self._run, held)

    def _run(self, z):
        """Compute outputs of the network, float64."""
        z = torch.as_tensor(z, dtype=self.network.dtype)
        return run_batches(self.network.module, z, self.batch_size, resolve_device(self.device)).double().numpy()


class SensorNetwork(NetworkState):
    """Network from standardised inputs to sensors; its ``spec`` says whether outputs are averaged over time."""

    def build(self):
        """Give a new module."""
        spec = self.spec
        network = NETWORKS[spec["network"]](spec["n_chans"], spec["n_outputs"], **spec["parameters"])
        if spec["averaged"]:  # for targets of one value a trial
            network.register_forward_hook(lambda module, inputs, outputs: outputs.mean(-1, keepdim=True))
        return network.to(self.dtype).eval()


def best_weight(run, held):
    """Factor on outputs, 0 to 1, that fits held-out windows best."""
    product = power = 0.0
    for x, y in held.chunks():
        output = run(x)
        product, power = product + float(np.sum(output * y)), power + float(np.sum(output * output))
    return float(np.clip(product / power, 0.0, 1.0)) if power > 0 else 0.0
