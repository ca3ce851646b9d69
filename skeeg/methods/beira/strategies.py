"""How BEIRA is trained: the recipes, and what the default one adds to the published training."""

import dataclasses
import difflib

import numpy as np
import torch
from scipy.ndimage import uniform_filter1d
from scipy.signal import fftconvolve, firwin

from ...covariance import trusted
from ...training import Recipe
from .patterns import branch_importance

_CENTRES = (4.0, 6.0, 8.0, 10.0, 12.0, 14.0, 17.0, 20.0, 24.0, 28.0, 33.0, 38.0)  # hertz
_N_FOLDS, _LEAST_ROWS = 4, 40  # of the comodulation, and covariances below which it is not estimated
_SMOOTHING = 5  # seconds that covariances are averaged over
_OUTLYING = 0.95  # quantile of the power above which covariances are scaled down: artefacts are large
_ALIKE = 0.8  # correlation above which two neighbouring components are the same
_SMALL = {
    "n_branches": 3,
    "channels": (16, 32, 32, 32),
    "decoder_reduce": 2,
    "rectifier": "abs",
    "drop_prob": 0.05,
}


@dataclasses.dataclass(frozen=True)
class BEIRARecipe(Recipe):
    """How a `BEIRARegressor` is trained and read out; the defaults are those of ``recipe="default"``.

    Parameters
    ----------
    max_epochs, batch_size, learning_rate, weight_decay, solver, schedule, patience, precision, accumulate
        See `skeeg.training.Recipe`.
    network_params : dict
        Arguments of the network that differ from its own defaults, which are the published ones.
    normalize : {"whiten", "channel", "global"}
        Make the channels uncorrelated, which lets weak rhythms be learnt beside strong artefacts; standardise each
        channel; or divide by one standard deviation, as published. Filters and patterns are for the EEG as it came.
    loss : {"mse", "correlation", "mixed", "covariance"} or tuple of 3 float
        See `skeeg.methods.beira.losses.make_loss`.
    window : int
        Samples of a training window.
    windows_per_epoch : int
        Windows drawn at random for each epoch.
    validation_size : float
        Share of each recording, at its end, that is held out.
    start : {"comodulation", "average", "random"}
        Initial front end: spatial and temporal filters whose power follows the BOLD signal (`comodulation`), in every
        second restart, so that not all depend on them, and moving averages that smooth the envelopes; these averages
        alone; or random weights, as published.
    n_restarts : int
        Trainings from other random weights, whose predictions are averaged.
    prune : bool
        Silence branches after training where the validation loss does not rise by it (`prune_branches`).
    readout : {"both", "lagged", "decoder"}
        What makes BOLD of the envelopes: the decoder, as published; ridge regression on the envelopes at lags of
        seconds (`skeeg.methods.beira.readout.LaggedReadout`); or the mean of the two.

    Examples
    --------
    >>> from skeeg.methods.beira.strategies import RECIPES
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
    start: str = "comodulation"
    n_restarts: int = 4
    prune: bool = True
    readout: str = "both"

    def check(self):
        """Raise a ValueError that names the first setting that makes no sense."""
        for name, allowed in (
            ("normalize", ("whiten", "channel", "global")),
            ("start", ("comodulation", "average", "random")),
            ("readout", ("both", "lagged", "decoder")),
        ):
            _check_choice(name, getattr(self, name), allowed)
        for name in ("n_restarts", "windows_per_epoch"):
            if not (isinstance(getattr(self, name), int | np.integer) and getattr(self, name) >= 1):
                raise ValueError(f"{name}: got {getattr(self, name)!r}, expected a whole number, at least 1.")
        if not 0 < self.validation_size < 1:
            raise ValueError(f"validation_size: got {self.validation_size}, expected a share between 0 and 1.")
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


def choose_recipe(name, recipe_params, **overrides):
    """Give a recipe by its name, with some settings changed.

    Parameters
    ----------
    name : {"default", "published"}
        Recipe.
    recipe_params : dict or None
        Settings of `BEIRARecipe` to change.
    **overrides
        Further settings; None keeps the recipe's own.

    Returns
    -------
    recipe : BEIRARecipe
        Checked.

    Examples
    --------
    >>> from skeeg.methods.beira.strategies import choose_recipe
    >>> choose_recipe("default", {"patience": 5}, n_restarts=None).patience
    5
    """
    _check_choice("recipe", name, tuple(RECIPES))
    fields = {field.name for field in dataclasses.fields(BEIRARecipe)} - {"network_params", *overrides}
    for one in recipe_params or {}:
        if one in overrides or one == "network_params":
            raise ValueError(f"recipe_params: {one} is a parameter of the estimator itself.")
        _check_choice("recipe_params", one, tuple(sorted(fields)))
    given = {one: value for one, value in overrides.items() if value is not None}
    return dataclasses.replace(RECIPES[name], **(recipe_params or {}), **given).check()


def _check_choice(name, value, allowed):
    if value in allowed:
        return
    near = difflib.get_close_matches(str(value), allowed, 1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"{name}: got {value!r}, expected one of {', '.join(map(repr, allowed))}.{hint}")


def comodulation(recordings, rate, n_taps, n_branches):
    r"""Spatial and temporal filters whose power follows the targets, for each target.

    In each of twelve bands, source power comodulation [1]_ finds the spatial filters w that maximise the covariance of
    :math:`w^\top C(t)\, w`, with C the covariance of the filtered EEG over seconds, and the target. Those are kept
    whose logarithmic power correlates best with the target in blocks of time that they were not estimated on.

    Parameters
    ----------
    recordings : list of (ndarray, ndarray)
        Standardised EEG (n_trials, n_channels, n_times) and targets, (n_trials, n_targets, n_times) or
        (n_trials, n_targets), of each recording.
    rate : float
        Sampling rate in hertz.
    n_taps : int
        Length of the temporal filters.
    n_branches : int
        Filters for each target.

    Returns
    -------
    spatial : ndarray, shape (n_targets, n_branches, n_channels)
        Unit norm.
    temporal : ndarray, shape (n_targets, n_branches, n_taps)
        Linear-phase band-pass filters.
    scores : ndarray, shape (n_targets, n_branches)
        Absolute correlations on blocks that were left out; -1 where there is no further filter (then zeros). Without
        enough data to estimate anything, all are.

    References
    ----------
    .. [1] Dähne, S., Meinecke, F. C., Haufe, S., Höhne, J., Tangermann, M., Müller, K.-R., & Nikulin, V. V. (2014).
       SPoC: a novel framework for relating the amplitude of neuronal oscillations to behaviorally relevant parameters.
       NeuroImage, 86, 111-122.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.methods.beira.strategies import comodulation
    >>> random = np.random.default_rng(0)
    >>> x, y = random.normal(size=(1, 4, 9000)), np.sin(np.arange(9000) / 500)[None, None]
    >>> x[0, 2] += 2 * (1 + y[0, 0]) * np.sin(2 * np.pi * 10 * np.arange(9000) / 100)
    >>> spatial, temporal, scores = comodulation([(x, y)], 100.0, 51, 1)
    >>> int(np.abs(spatial[0, 0]).argmax()), bool(scores[0, 0] > 0.9)
    (2, True)
    """
    n_chans, n_targets = recordings[0][0].shape[1], recordings[0][1].shape[1]
    step = max(round(rate), 1) if recordings[0][1].ndim == 3 else None
    targets = np.concatenate([_target_rows(y, step) for _, y in recordings])
    spatial, temporal = np.zeros((n_targets, n_branches, n_chans)), np.zeros((n_targets, n_branches, n_taps))
    scores = np.full((n_targets, n_branches), -1.0)
    centres = [centre for centre in _CENTRES if centre < 0.4 * rate]
    if len(targets) < max(_LEAST_ROWS, 2 * n_chans) or not centres:
        return spatial, temporal, scores
    found = [[] for _ in range(n_targets)]
    for centre in centres:
        width = max(1.5, 0.15 * centre)
        taps = firwin(n_taps, (centre - width, centre + width), fs=rate, pass_zero=False)
        covariances = np.concatenate([_covariance_rows(x, taps, step) for x, _ in recordings])
        power = covariances.trace(axis1=1, axis2=2)
        covariances *= np.minimum(1, np.quantile(power, _OUTLYING) / np.maximum(power, 1e-12))[:, None, None]
        for target, candidates in zip(targets.T, found, strict=True):
            candidates += [(score, centre, w, taps) for score, w in _comodulated(covariances, target)]
    for region, candidates in enumerate(found):
        for branch, (score, _, w, taps) in enumerate(_distinct(candidates, n_branches)):
            spatial[region, branch], temporal[region, branch], scores[region, branch] = w, taps, score
    return spatial, temporal, scores


def _target_rows(y, step):
    """Targets (n_rows, n_targets): means of each second, or the values of trials."""
    if step is None:
        return y
    n = y.shape[2] // step
    return y[:, :, : n * step].reshape(*y.shape[:2], n, step).mean(axis=3).transpose(0, 2, 1).reshape(-1, y.shape[1])


def _covariance_rows(x, taps, step):
    """Covariances (n_rows, n_channels, n_channels) of filtered EEG around each second, or of each trial."""
    rows = []
    for trial in x:
        filtered = fftconvolve(trial, taps[None].astype(trial.dtype), mode="same", axes=1)
        size = filtered.shape[1] if step is None else step
        n = filtered.shape[1] // size
        parts = filtered[:, : n * size].reshape(len(trial), n, size).transpose(1, 0, 2)
        covariances = (parts @ parts.transpose(0, 2, 1) / size).astype(np.float64)
        rows.append(covariances if step is None else uniform_filter1d(covariances, min(_SMOOTHING, n), axis=0))
    return np.concatenate(rows)


def _comodulated(covariances, target, n_filters=2):
    """Spatial filters of the largest comodulation, each with its correlation on blocks that were left out."""
    mean = covariances.mean(axis=0)
    values, vectors = np.linalg.eigh(mean + 1e-3 * mean.trace() / len(mean) * np.eye(len(mean)))
    alive = trusted(values, 1e-10)
    whitener = vectors[:, alive] / np.sqrt(values[alive])
    white = whitener.T @ covariances @ whitener

    def fit(rows):
        slopes, directions = np.linalg.eigh(np.tensordot(target[rows] - target[rows].mean(), white[rows], 1))
        return directions[:, np.argsort(-np.abs(slopes))[:n_filters]]

    blocks, power = np.array_split(np.arange(len(target)), _N_FOLDS), []
    for block in blocks:
        w = fit(np.setdiff1d(np.arange(len(target)), block))
        power.append(np.log(np.einsum("ck,tcd,dk->kt", w, white[block], w, optimize=True) + 1e-12))
    filters = (whitener @ fit(np.arange(len(target)))).T
    for k, w in enumerate(filters):
        r = np.mean([_correlation(part[k], target[block]) for part, block in zip(power, blocks, strict=True)])
        yield abs(r), w / max(np.linalg.norm(w), 1e-12)


def _correlation(a, b):
    a, b = a - a.mean(), b - b.mean()
    return a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12)


def _distinct(candidates, n):
    """Best candidates (score, centre, w, taps), without those that repeat a better one."""
    kept = []
    for one in sorted(candidates, key=lambda one: -one[0]):
        if all(abs(one[1] - other[1]) > 1 or abs(one[2] @ other[2]) < _ALIKE for other in kept):
            kept.append(one)
    return kept[:n]


def start_front_ends(module, start, filters=None):
    """Initialise the front ends of a network.

    Parameters
    ----------
    module : BEIRA, SharedBEIRA or BEIRAManyToOne
        Changed in place.
    start : {"comodulation", "average", "random"}
        See `BEIRARecipe`. A random smoothing filter may cancel most of an envelope; from an average, each branch starts
        with its amplitude.
    filters : tuple of ndarray or None
        What `comodulation` gave; branches that it has no filters for stay random.
    """
    if start == "random":
        return
    layers = module.front_layers()
    with torch.no_grad():
        for _, _, low_pass in layers:
            torch.nn.init.constant_(low_pass.weight, 1 / low_pass.kernel_size[0])
            torch.nn.init.zeros_(low_pass.bias)
        if start == "comodulation" and filters is not None:
            for (unmixing, band_pass, _), spatial, temporal, scores in zip(layers, *filters, strict=True):
                for branch in np.flatnonzero(scores >= 0):
                    unmixing.weight[branch, :, 0] = torch.from_numpy(spatial[branch])
                    unmixing.bias[branch] = 0.0
                    band_pass.weight[branch, 0] = torch.from_numpy(temporal[branch])


def pool_filters(filters, n_branches):
    """Best filters of all targets together, for a front end that they share; see `comodulation`."""
    spatial, temporal, scores = (part.reshape(-1, *part.shape[2:]) for part in filters)
    best = np.argsort(-scores, kind="stable")[:n_branches]
    return spatial[None, best], temporal[None, best], scores[None, best]


def prune_branches(module, criterion, examples, watched):
    """Hold branches at their mean envelope where the validation loss does not rise by it, the least important first.

    The smoothing filter of such a branch becomes zero and its bias the mean, so the network keeps its form. The most
    important branch of each front end is kept.

    Parameters
    ----------
    module : BEIRA, SharedBEIRA or BEIRAManyToOne
        Trained network, in evaluation mode; changed in place.
    criterion : torch.nn.Module
        Loss of (outputs, targets).
    examples : Tensor, shape (n_windows, n_chans, n_times)
        Training data, which give the means and the order.
    watched : Dataset
        Validation windows and targets, by index.

    Returns
    -------
    kept : ndarray of bool, shape (n_fronts, n_branches)
        Whether a branch was left as it was.

    Examples
    --------
    >>> import torch
    >>> from skeeg.methods.beira import BEIRA
    >>> from skeeg.methods.beira.strategies import prune_branches
    >>> network = BEIRA(4, 1, n_branches=3, channels=(8, 8), kernel_sizes=(3,), strides=(4,)).eval()
    >>> watched = torch.utils.data.TensorDataset(torch.randn(2, 4, 64), torch.randn(2, 1, 64))
    >>> prune_branches(network, torch.nn.MSELoss(), torch.randn(2, 4, 64), watched).shape
    (1, 3)
    """
    importance, layers = torch.from_numpy(branch_importance(module, examples)), module.front_layers()
    importance = importance if len(layers) == len(importance) else importance.sum(0, keepdim=True)
    with torch.inference_mode():
        means = sum(module.envelopes(one).mean((0, 3)) for one in examples.split(1)) / len(examples)
    kept = torch.ones(len(layers), means.shape[1], dtype=torch.bool)
    least = _mean_loss(module, criterion, watched)
    for region, (_, _, low_pass) in enumerate(layers):
        for branch in importance[region].argsort()[:-1].tolist():
            before = low_pass.weight[branch].clone(), low_pass.bias[branch].clone()
            _set(low_pass, branch, torch.zeros_like(before[0]), means[region, branch])
            loss = _mean_loss(module, criterion, watched)
            if loss <= least:
                least, kept[region, branch] = loss, False
            else:
                _set(low_pass, branch, *before)
    return kept.numpy()


def _set(layer, branch, weight, bias):
    with torch.no_grad():
        layer.weight[branch] = weight
        layer.bias[branch] = bias


def _mean_loss(module, criterion, watched):
    """Mean loss of the windows."""
    with torch.inference_mode():
        pairs = (watched[i] for i in range(len(watched)))
        return sum(float(criterion(module(x[None]), y[None])) for x, y in pairs) / len(watched)
