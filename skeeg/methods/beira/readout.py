"""BOLD from a trained network: recordings of any length, piece by piece, and the readout from envelopes at lags."""

import dataclasses

import numpy as np
import torch
from sklearn.preprocessing import StandardScaler

from ...regression import choose_alpha, lagged, ridge_weights
from ...storage import Storable
from ...training.inference import run_batches
from .network import BEIRAManyToOne
from .windows import mirror, padded

_SAMPLES_AT_ONCE = 2**15  # of all trials of a batch together, which bounds the memory of a forward pass
_SLIDE_STEP = 16  # samples between two values of the many-to-one network, which pools twice as many
_LAGS = tuple(range(-6, 26))  # seconds by which an envelope precedes its target, which may have been advanced by six
GAP = 10  # seconds left out on either side of a block that the penalty is tried on
_OUTLYING = 0.02  # share of the values on either side that are clipped: artefacts are large


@dataclasses.dataclass(frozen=True)
class Inference:
    """A trained network on the CPU applied to recordings of any length; it is not changed.

    ``window`` is the samples of a training window, the context of the many-to-one network; ``device`` where to compute.
    """

    module: torch.nn.Module
    window: int
    device: str

    def signals(self, data):
        """Compute outputs (n_trials, n_regions, n_times) as long as the EEG (n_trials, n_channels, n_times)."""
        if isinstance(self.module, BEIRAManyToOne):
            return np.stack([self._slide(recording) for recording in data])
        return self._run_pieces(data, self.module.reach)

    def last_values(self, data):
        """Compute outputs at the last sample of each trial, (n_trials, n_regions)."""
        if isinstance(self.module, BEIRAManyToOne):
            return self._run(data).numpy()
        return self._run_pieces(data, self.module.reach)[..., -1]

    def envelopes(self, data):
        """Envelopes of the branches, (n_trials, n_fronts, n_branches, n_times): one front end a region, or for all."""
        taps = sum(layer.kernel_size[0] for layer in self.module.front_layers()[0][1:])
        return self._run_pieces(data, taps, lambda module, batch: module.envelopes(batch))

    def _run(self, data, size=None, function=torch.nn.Module.__call__):
        """Compute outputs, or a function of the network and of a batch, for trials of any length, which are padded.

        On a CPU trials go one by one: larger batches are no faster, and rounding would depend on the other trials.
        """
        data = mirror(data, padded(data.shape[2], self.module.decimation))
        if size is None:
            size = 1 if self.device == "cpu" else max(1, _SAMPLES_AT_ONCE // data.shape[2])
        return run_batches(self.module, data, size, self.device, function=function)

    def _run_pieces(self, data, reach, function=torch.nn.Module.__call__):
        """Compute outputs as long as the EEG; long recordings go piece by piece, each with its context."""
        n_times, outputs = data.shape[2], []
        step, margin = padded(_SAMPLES_AT_ONCE, self.module.decimation), padded(reach, self.module.decimation)
        for start in range(0, n_times, step):
            first = max(start - margin, 0)
            output = self._run(data[:, :, first : start + step + margin], function=function)
            outputs.append(output[..., start - first : start - first + min(step, n_times - start)])
        return torch.cat(outputs, dim=-1).numpy()

    def _slide(self, recording):
        """Many-to-one network at steps over a recording (n_channels, n_times), interpolated to all samples."""
        n_times = recording.shape[1]
        past = mirror(recording[:, : self.window].flip(1), self.window).flip(1)  # what comes before the start
        signal = torch.cat([past[:, 1:], recording], dim=1)
        ends = np.unique(np.append(np.arange(0, n_times, _SLIDE_STEP), n_times - 1))
        outputs = []
        for chunk in np.array_split(ends, max(1, len(ends) * self.window // _SAMPLES_AT_ONCE)):
            windows = torch.stack([signal[:, end : end + self.window] for end in chunk])
            outputs.append(self._run(windows, len(windows)))
        return interpolate_steps(torch.cat(outputs).numpy().T[None], ends, n_times)[0]


@dataclasses.dataclass(frozen=True)
class LaggedReadout(Storable):
    r"""Ridge regression of each region's BOLD on the envelopes of its branches at lags of whole seconds.

    .. math:: \hat y_r(t) = b_r + \sum_m \sum_l a_{rml}\, \tilde e_{rm}(t - l)

    with :math:`\tilde e` the mean of an envelope over a second (``step`` samples), clipped to the quantiles of .02 and
    .98 that it had in training (``limits``, (2, n_fronts, n_branches)). The haemodynamic response is learnt with the
    ``weights`` a (n_regions, n_lags, n_branches) and ``offsets`` b (n_regions,).
    """

    step: int
    limits: np.ndarray
    weights: np.ndarray
    offsets: np.ndarray

    @classmethod
    def fit(cls, envelopes, targets, rate):
        """Fit the weights, with a penalty chosen over blocks of time for each region.

        Envelopes (n_trials, n_fronts, n_branches, n_times) and BOLD (n_trials, n_regions, n_times) are of each
        recording; there is one front end, or one for each region.
        """
        step = max(round(rate), 1)
        means = [step_means(one, step) for one in envelopes]
        if not all(np.isfinite(one).all() for one in means):
            raise ValueError("learning_rate: the training diverged; try a smaller one.")
        rows = np.concatenate([step_means(one, step).transpose(0, 2, 1).reshape(-1, one.shape[1]) for one in targets])
        every = np.concatenate([one.transpose(1, 2, 0, 3).reshape(*one.shape[1:3], -1) for one in means], axis=2)
        limits = np.quantile(every, (_OUTLYING, 1 - _OUTLYING), axis=2)
        means, fits = [np.clip(one, *limits[..., None]) for one in means], []
        for region, target in enumerate(rows.T):
            features = [with_lags(one[:, min(region, one.shape[1] - 1)], _LAGS) for one in means]
            fits.append(_fit_region(np.concatenate([one.reshape(-1, *one.shape[2:]) for one in features]), target))
        weights = np.stack([weight for weight, _ in fits])
        return cls(step, limits, weights, np.array([offset for _, offset in fits]))

    def predict(self, envelopes):
        """Weighted sums of envelopes, interpolated between seconds, (n_trials, n_regions, n_times)."""
        means = np.clip(step_means(envelopes, self.step), *self.limits[..., None])
        n_fronts, n_times = envelopes.shape[1], envelopes.shape[3]
        starts = np.arange(0, n_times, self.step)
        middles = (starts + np.minimum(starts + self.step, n_times) - 1) / 2
        features = (with_lags(means[:, min(region, n_fronts - 1)], _LAGS) for region in range(len(self.weights)))
        steps = [np.tensordot(one, weights, 2) for one, weights in zip(features, self.weights, strict=True)]
        return interpolate_steps(np.stack(steps, axis=1) + self.offsets[:, None], middles, n_times)


def fit_readout(network, pairs, rate):
    """Fit a `LaggedReadout` to pairs of standardised EEG and BOLD by an `Inference`."""
    envelopes = (network.envelopes(eeg) for eeg, _ in pairs)  # one at a time: they may be many times the recording
    return LaggedReadout.fit(envelopes, [target.double().numpy() for _, target in pairs], rate)


def step_means(signals, step):
    """Mean of signals (..., n_times) over steps of time, float64 (..., n_steps); the last step may be shorter."""
    starts = np.arange(0, signals.shape[-1], step)
    return np.add.reduceat(signals, starts, axis=-1, dtype=np.float64) / np.diff(starts, append=signals.shape[-1])


def with_lags(steps, lags):
    """Features (n_trials, ..., n_steps) with lags, in steps: (n_trials, n_steps, n_lags, ...)."""
    return np.moveaxis(lagged(steps, lags), -1, 1)


def interpolate_steps(steps, samples, n_times):
    """Signals (n_trials, n_regions, n_times) of steps (n_trials, n_regions, n_steps), which belong to samples."""
    return np.stack([[np.interp(np.arange(n_times), samples, one) for one in trial] for trial in steps])


def _fit_region(features, target):
    """Weights (n_lags, n_branches) and constant of one region, of features (n_rows, n_lags, n_branches)."""
    shape, features = features.shape[1:], features.reshape(len(features), -1)
    scaler, level = StandardScaler().fit(features), target.mean()
    standard, centred = scaler.transform(features), (target - level)[:, None]
    alpha = choose_alpha(standard, centred, GAP)
    weights = ridge_weights(standard, centred, [alpha])[0][:, 0] / scaler.scale_
    return weights.reshape(shape), level - scaler.mean_ @ weights
