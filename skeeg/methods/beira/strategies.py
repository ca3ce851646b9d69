"""How BEIRA is trained and read out: recipes, what the default one adds to the published training, losses, readout."""

import dataclasses
from numbers import Integral

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions

from ...regression import choose_alpha, lagged, ridge_weights
from ...storage import Storable
from ...training import Recipe
from ...training.inference import run_batches
from .network import BEIRAManyToOne
from .patterns import branch_importance
from .recordings import mirror, padded

_SMALL = {"n_branches": 3, "channels": (16, 32, 32, 32), "decoder_reduce": 2, "rectifier": "abs", "drop_prob": 0.05}
LOSSES = {
    "mse": (1.0, 0.0, 0.0),
    "correlation": (0.0, 1.0, 0.0),
    "mixed": (0.9, 0.1, 0.0),
    "covariance": (1.0, 0.0, 0.1),
}


@dataclasses.dataclass(frozen=True)
class BEIRARecipe(Recipe):
    """How a `BEIRARegressor` is trained and read out; the defaults are those of ``recipe="default"``.

    ``normalize``, ``start``, ``n_restarts``, ``prune`` and ``readout`` are the strategies that this package adds to the
    published training. Further fields are those of `skeeg.training.Recipe`.

    Parameters
    ----------
    network_params : dict
        Arguments of the network that differ from its own defaults, which are the published ones.
    normalize : {"whiten", "channel", "global"}
        Make the channels uncorrelated, which lets weak rhythms be learnt beside strong artefacts; standardise each
        channel; or divide by one standard deviation, as published. Filters and patterns are for the EEG as given.
    loss : {"mse", "correlation", "mixed", "covariance"} or tuple of 3 float
        See `BEIRARegressor`.
    window : int
        Samples of a training window.
    windows_per_epoch : int
        Windows drawn at random for each epoch.
    validation_size : float
        Share of each recording, at its end, that is held out.
    start : {"average", "random"}
        Initial smoothing filters: moving averages, by which each branch starts with its amplitude; or random ones, as
        published, which may cancel most of an envelope.
    n_restarts : int
        Random restarts, whose predictions are averaged.
    prune : bool
        Remove branches after training where the validation loss does not rise by it.
    readout : {"both", "lagged", "decoder"}
        How BOLD is predicted from the envelopes: by the decoder, as published; by ridge regression on the envelopes at
        lags of seconds; or by the mean of the two.

    Examples
    --------
    >>> from skeeg.methods.beira import RECIPES
    >>> RECIPES["default"].readout, RECIPES["published"].readout
    ('both', 'decoder')
    """

    max_epochs: int = 20
    batch_size: int = 8
    learning_rate: float = 3e-3
    weight_decay: float = 3e-4
    schedule: str | None = None
    patience: int | None = 30
    network_params: dict = dataclasses.field(default_factory=_SMALL.copy)
    normalize: str = "whiten"
    loss: str | tuple = (0.5, 0.5, 0.0)
    window: int = 4096
    windows_per_epoch: int = 64
    validation_size: float = 0.15
    start: str = "average"
    n_restarts: int = 6
    prune: bool = True
    readout: str = "both"

    constraints = Recipe.constraints | {
        "normalize": [StrOptions({"whiten", "channel", "global"})],
        "windows_per_epoch": [Interval(Integral, 1, None, closed="left")],
        "start": [StrOptions({"average", "random"})],
        "n_restarts": [Interval(Integral, 1, None, closed="left")],
        "readout": [StrOptions({"both", "lagged", "decoder"})],
    }

    def check(self):
        """Raise a ValueError that names the first setting that makes no sense."""
        make_loss(self.loss)
        return super().check()


RECIPES = {
    "default": BEIRARecipe(),
    "published": BEIRARecipe(
        max_epochs=1500, batch_size=4, accumulate=4, learning_rate=3e-4, patience=1500, network_params={},
        normalize="global", loss="mse", window=2048, windows_per_epoch=512, start="random", n_restarts=1, prune=False,
        readout="decoder",
    ),
}  # fmt: skip
"""Recipes by name. Updates of 16 windows, as published, are computed 4 at a time, in a third of the memory."""


def kept_loss(state, recipe, has_validation):
    """Loss of the weights that a training kept: of the validation where there is one; infinite where it diverged."""
    if state.net.diverged_:
        return np.inf
    name = "valid_loss" if has_validation else "train_loss"
    losses = [row[name] for row in state.history if np.isfinite(row.get(name, np.nan))]
    best = recipe.patience is not None and has_validation
    return float(min(losses) if best else losses[-1]) if losses else np.inf


def start_as_averages(module):
    """Initialise the smoothing filters of a network as moving averages, in place."""
    for _, _, low_pass in module.front_layers():
        torch.nn.init.constant_(low_pass.weight, 1 / low_pass.kernel_size[0])
        torch.nn.init.zeros_(low_pass.bias)


def prune_branches(module, criterion, examples, watched):
    """Replace branches by their mean envelope where the validation loss does not rise by it, least important first.

    The smoothing filter of such a branch becomes zero and its bias the mean. The most important branch of each front
    end is kept. Shapes: ``examples`` (n_windows, n_chans, n_times).
    """
    importance, layers = torch.from_numpy(branch_importance(module, examples)), module.front_layers()
    importance = importance if len(layers) == len(importance) else importance.sum(0, keepdim=True)
    with torch.inference_mode():
        means = sum(module.envelopes(one).mean((0, 3)) for one in examples.split(1)) / len(examples)
    least = _mean_loss(module, criterion, watched)
    for region, (_, _, low_pass) in enumerate(layers):
        for branch in importance[region].argsort()[:-1].tolist():
            before = low_pass.weight[branch].clone(), low_pass.bias[branch].clone()
            _set(low_pass, branch, torch.zeros_like(before[0]), means[region, branch])
            loss = _mean_loss(module, criterion, watched)
            if loss <= least:
                least = loss
            else:
                _set(low_pass, branch, *before)


def _set(layer, branch, weight, bias):
    with torch.no_grad():
        layer.weight[branch] = weight
        layer.bias[branch] = bias


def _mean_loss(module, criterion, watched):
    with torch.inference_mode():
        pairs = (watched[i] for i in range(len(watched)))
        return sum(float(criterion(module(x[None]), y[None])) for x, y in pairs) / len(watched)


class BOLDLoss(torch.nn.Module):
    r"""Weighted sum of squared error, correlation and covariance distance.

    .. math:: w_1 \,\mathrm{MSE} - w_2 \,\bar r + w_3 \min(d(\hat Y, Y), 100)

    The first and the last sample do not count for the squared error, as in the published loss. Terms of weight zero
    are not computed. Outputs that are longer than the targets are cut: the network pads its input.
    """

    def __init__(self, mse=1.0, correlation=0.0, covariance=0.0, sample=-1):
        super().__init__()
        self.mse, self.correlation, self.covariance, self.sample = mse, correlation, covariance, sample

    def forward(self, outputs, targets):
        """Loss of outputs (batch, n_regions, times) or (batch, n_regions) against targets of the same axes."""
        if targets.ndim == 2:  # one value a window: the signals run over the batch
            outputs = outputs[..., self.sample] if outputs.ndim == 3 else outputs
            outputs, targets = outputs.T[None], targets.T[None]
            inner = slice(None)
        else:
            outputs = outputs[..., : targets.shape[-1]]
            inner = slice(1, -1) if targets.shape[-1] > 2 else slice(None)
        total = outputs.new_zeros(())
        if self.mse:
            total = total + self.mse * (outputs[..., inner] - targets[..., inner]).square().mean()
        if self.correlation:
            total = total - self.correlation * pearson(outputs, targets).mean()
        if self.covariance:
            total = total + self.covariance * covariance_distance(outputs, targets).mean().clamp(0, 100)
        return total


def make_loss(loss, sample=-1):
    """Build the `BOLDLoss` of a name or of three weights."""
    weights = LOSSES.get(loss) if isinstance(loss, str) else loss
    good = isinstance(weights, list | tuple) and len(weights) == 3 and all(weight >= 0 for weight in weights)
    if not good or not any(weights):
        names = ", ".join(map(repr, LOSSES))
        raise ValueError(f"loss: got {loss!r}, expected {names}, or three weights of which one is positive.")
    return BOLDLoss(*weights, sample)


def pearson(a, b, dim=-1, eps=1e-8):
    """Pearson correlation of tensors along an axis; 0 where a signal is constant."""
    a, b = a - a.mean(dim, keepdim=True), b - b.mean(dim, keepdim=True)
    return torch.nan_to_num(torch.cosine_similarity(a, b, dim=dim, eps=eps))


def covariance_distance(a, b, shrinkage=1e-3):
    r"""Affine-invariant distance between the covariances of two sets of signals (..., n_regions, n_times).

    .. math:: d(A, B) = \sqrt{\sum_i \log^2 \lambda_i(A^{-1} B)}

    A share `shrinkage` of the mean variance of `b`, the measured signals, is added to both diagonals.
    """
    n_regions = a.shape[-2]
    cov_a, cov_b = _covariance(a), _covariance(b)
    level = cov_b.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None].clamp_min(1e-12)
    ridge = shrinkage * level * torch.eye(n_regions, dtype=a.dtype, device=a.device)
    factor = torch.linalg.cholesky(cov_b + ridge)
    half = torch.linalg.solve_triangular(factor, cov_a + ridge, upper=False)
    whitened = torch.linalg.solve_triangular(factor, half.mT, upper=False)
    logs = torch.linalg.eigvalsh((whitened + whitened.mT) / 2).clamp_min(1e-12).log()
    return (logs.square().sum(-1) + 1e-12).sqrt()  # the root has no gradient at zero


def _covariance(x):
    x = x - x.mean(-1, keepdim=True)
    return x @ x.mT / max(x.shape[-1] - 1, 1)


_SAMPLES_AT_ONCE = 2**15  # of all trials of a batch together, which bounds the memory of a forward pass
_SLIDE_STEP = 16  # samples between two values of the many-to-one network, which pools twice as many
_LAGS = tuple(range(-6, 26))  # seconds by which an envelope precedes its target, which may have been advanced by six
_STEP = 1.0  # seconds
_GAP = 10.0  # seconds left out on either side of a block that the penalty is tried on
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

    def apply(self, function, data, size=None):
        """Rows of a function of the network and of a batch, for all trials.

        On a CPU trials go one by one: larger batches are no faster, and rounding would depend on the other trials.
        """
        if size is None:
            size = 1 if self.device == "cpu" else max(1, _SAMPLES_AT_ONCE // data.shape[2])
        return run_batches(self.module, data, size, self.device, function=function)

    def _run(self, data, size=None, function=torch.nn.Module.__call__):
        """Compute outputs of the network for trials of any length, which are padded for it."""
        return self.apply(function, mirror(data, padded(data.shape[2], self.module.decimation)), size)

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
        outputs = torch.cat(outputs).numpy()
        return np.stack([np.interp(np.arange(n_times), ends, one) for one in outputs.T])


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
        step = max(round(_STEP * rate), 1)
        means = [step_means(one, step) for one in envelopes]
        if not all(np.isfinite(one).all() for one in means):
            raise ValueError("learning_rate: the training diverged; try a smaller one.")
        rows = np.concatenate([step_means(one, step).transpose(0, 2, 1).reshape(-1, one.shape[1]) for one in targets])
        every = np.concatenate([one.transpose(1, 2, 0, 3).reshape(*one.shape[1:3], -1) for one in means], axis=2)
        limits = np.quantile(every, (_OUTLYING, 1 - _OUTLYING), axis=2)
        means, fits = [np.clip(one, *limits[..., None]) for one in means], []
        for region, target in enumerate(rows.T):
            features = [_features(one[:, min(region, one.shape[1] - 1)]) for one in means]
            fits.append(_fit_region(np.concatenate([one.reshape(-1, *one.shape[2:]) for one in features]), target))
        weights = np.stack([weight for weight, _ in fits])
        return cls(step, limits, weights, np.array([offset for _, offset in fits]))

    def predict(self, envelopes):
        """Weighted sums of envelopes, interpolated between seconds, (n_trials, n_regions, n_times)."""
        means = np.clip(step_means(envelopes, self.step), *self.limits[..., None])
        n_fronts, n_times = envelopes.shape[1], envelopes.shape[3]
        starts = np.arange(0, n_times, self.step)
        grid, middles = np.arange(n_times), (starts + np.minimum(starts + self.step, n_times) - 1) / 2
        bold = np.empty((len(means), len(self.weights), n_times))
        for region, (weights, offset) in enumerate(zip(self.weights, self.offsets, strict=True)):
            trials = _features(means[:, min(region, n_fronts - 1)])
            bold[:, region] = [np.interp(grid, middles, np.tensordot(one, weights, 2) + offset) for one in trials]
        return bold


def fit_readout(network, pairs, rate):
    """Fit a `LaggedReadout` to pairs of standardised EEG and BOLD by an `Inference`."""
    envelopes = (network.envelopes(eeg) for eeg, _ in pairs)  # one at a time: they may be many times the recording
    return LaggedReadout.fit(envelopes, [target.double().numpy() for _, target in pairs], rate)


def step_means(signals, step):
    """Mean of signals (..., n_times) over steps of time, float64 (..., n_steps); the last step may be shorter."""
    starts = np.arange(0, signals.shape[-1], step)
    return np.add.reduceat(signals, starts, axis=-1, dtype=np.float64) / np.diff(starts, append=signals.shape[-1])


def _features(means):
    """Envelopes (n_trials, n_branches, n_steps) with lags, (n_trials, n_steps, n_lags, n_branches)."""
    return np.moveaxis(lagged(means, [round(lag / _STEP) for lag in _LAGS]), -1, 1)


def _fit_region(features, target):
    """Weights (n_lags, n_branches) and constant of one region, of features (n_rows, n_lags, n_branches)."""
    shape, features = features.shape[1:], features.reshape(len(features), -1)
    mean, scale = features.mean(axis=0), features.std(axis=0)
    scale, level = np.where(scale > 0, scale, 1.0), target.mean()
    standard, centred = (features - mean) / scale, (target - level)[:, None]
    alpha = choose_alpha(standard, centred, round(_GAP / _STEP))
    weights = ridge_weights(standard, centred, [alpha])[0][:, 0] / scale
    return weights.reshape(shape), level - mean @ weights
