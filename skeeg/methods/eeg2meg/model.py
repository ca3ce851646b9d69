"""The map itself: ridge regression, and a network that learns what it leaves over."""

import dataclasses
import warnings

import numpy as np
import torch

from ...regression import CrossProducts, lagged, moments, ridge_from_products
from ...training import Recipe, load_checkpoint, split_validation, train
from ...training.inference import run_batches
from ...training.net import Trials
from ...training.recipe import resolve_device
from .transformer import SensorTransformer
from .unet import SensorUNet

NETWORKS = {"transformer": SensorTransformer, "unet": SensorUNet, "wavelet_unet": SensorUNet}
MODELS = (*NETWORKS, "ridge", "minimum_norm")
_SIZES = {
    SensorTransformer: ("embed_size", "n_layers", "n_heads", "forward_expansion", "dropout"),
    SensorUNet: ("n_filters", "lstm_hidden", "dropout"),
}
_AT_ONCE = 2**24  # values of one chunk, which bounds the memory
_TRAINING = {"batch_size": 32, "learning_rate": 1e-3, "patience": 8, "validation_size": 0.2}
_WORTH_IT = 0.02  # weight of the network below which it is said that ridge regression is enough


class Averaged(torch.nn.Module):
    """A network whose signals are averaged over time, for targets of one value a trial."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        """Map (n, n_chans, n_times) to (n, n_outputs, 1)."""
        return self.network(x).mean(-1, keepdim=True)


class Windows:
    """EEG and MEG of one or several runs, in memory or mapped from a disk, as a source of windows.

    Parameters
    ----------
    X : sequence of ndarray, shape (n_windows, n_inputs, n_times)
        EEG of each run, or what it is coded as.
    Y : sequence of ndarray, shape (n_windows, n_outputs, n_times)
        MEG.
    places : ndarray of int, shape (n_windows,), or None
        Which geometry each window was measured in.
    subjects, runs : ndarray, shape (n_windows,), or None
        Subject and run of each window.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.methods.eeg2meg.model import Windows
    >>> windows = Windows([np.zeros((2, 1, 5)), np.ones((3, 1, 5))], [np.zeros((2, 4, 5)), np.ones((3, 4, 5))])
    >>> len(windows), windows.take(np.array([3, 0]))[0][:, 0, 0].tolist()
    (5, [1.0, 0.0])
    """

    def __init__(self, X, Y, places=None, subjects=None, runs=None):
        self.X, self.Y, self.subjects, self.runs = list(X), list(Y), subjects, runs
        self.starts = np.concatenate([[0], np.cumsum([len(one) for one in self.X])])
        self.places = np.zeros(len(self), dtype=int) if places is None else places

    def __len__(self):
        """Count the windows."""
        return int(self.starts[-1])

    @property
    def in_memory(self):
        """Whether all windows are in memory."""
        return not any(isinstance(one, np.memmap) for one in self.X + self.Y)

    def take(self, rows):
        """EEG and MEG of some windows."""
        if len(self.X) == 1:
            return np.asarray(self.X[0][rows]), np.asarray(self.Y[0][rows])
        whose, parts = np.searchsorted(self.starts, rows, side="right") - 1, []
        for runs in (self.X, self.Y):
            out = np.empty((len(rows), *runs[0].shape[1:]), dtype=runs[0].dtype)
            for run in np.unique(whose):
                mine = whose == run
                out[mine] = runs[run][rows[mine] - self.starts[run]]
            parts.append(out)
        return tuple(parts)


class View:
    """Some windows of a source, as inputs and targets of a model.

    Parameters
    ----------
    source : Windows
        Where the windows are.
    rows : ndarray of int
        Which.
    code : callable
        Function of (X, Y, rows) that gives inputs and targets.
    """

    def __init__(self, source, rows, code):
        self.source, self.rows, self.code = source, rows, code

    def __len__(self):
        """Count the windows."""
        return len(self.rows)

    def take(self, index):
        """Take inputs and targets at these positions of ``rows``."""
        rows = self.rows[index]
        return self.code(*self.source.take(rows), rows)

    def chunks(self):
        """All inputs and targets, a bounded number at a time."""
        if not len(self):
            return
        x, y = self.take(np.arange(1))
        step = int(np.clip(_AT_ONCE // (x.size + y.size), 1, len(self)))
        for start in range(0, len(self), step):
            yield self.take(np.arange(start, min(start + step, len(self))))

    def then(self, code):
        """View of the same windows with another coding on top."""
        return View(self.source, self.rows, lambda x, y, rows: code(*self.code(x, y, rows)))


class StreamedTrials(Trials):
    """Trials for the training loop that are read when they are needed.

    Parameters
    ----------
    view : View
        Gives inputs and targets.
    dtype : torch.dtype
        Type of both.
    """

    def __init__(self, view, dtype):
        self.view, self.dtype = view, dtype

    def __len__(self):
        """Count the trials."""
        return len(self.view)

    def __getitem__(self, index):
        """One trial and its target."""
        x, y = self.take(torch.tensor([index]))
        return x[0], y[0]

    @property
    def device(self):
        """Where indices are wanted."""
        return torch.device("cpu")

    def take(self, index):
        """Read inputs and targets at these indices, as one batch."""
        x, y = self.view.take(index.numpy())
        return torch.as_tensor(x, dtype=self.dtype), torch.as_tensor(y, dtype=self.dtype)

    def to(self, device):
        """Stay on the disk: each batch is moved by the training loop."""
        return self


def split_windows(source, validation, size, seed):
    """Rows to train on and rows to watch.

    Parameters
    ----------
    source : Windows
        With ``subjects`` and ``runs``, which may be None.
    validation : {"auto", "subject", "run", "block", "trial", None}
        "auto" holds out subjects where there are two, else runs where there are two, else the last windows. "trial"
        draws windows, whose neighbours in time are then trained on.
    size : float
        Share to hold out.
    seed : int
        Seed of the draw.

    Returns
    -------
    training, held : ndarray of int
        The second is empty where nothing is held out.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.methods.eeg2meg.model import Windows, split_windows
    >>> source = Windows([np.zeros((4, 1, 1))], [np.zeros((4, 1, 1))], runs=np.array(["a", "a", "b", "b"]))
    >>> training, held = split_windows(source, "auto", 0.5, 0)
    >>> set(source.runs[training]) & set(source.runs[held])
    set()
    """
    options = ("auto", "subject", "run", "block", "trial", None)
    if validation not in options:
        raise ValueError(f"validation: got {validation!r}, expected one of {', '.join(map(repr, options))}.")
    if not 0 < size < 1:
        raise ValueError(f"validation_size: got {size}, expected a share between 0 and 1.")
    rows, none = np.arange(len(source)), np.arange(0)
    groups = {"subject": source.subjects, "run": _runs(source)}
    if validation == "auto":
        several = [name for name, one in groups.items() if one is not None and len(np.unique(one)) > 1]
        validation = several[0] if several else "block"
    if validation is None:
        return rows, none
    if validation == "block":
        n_held = int(len(rows) * size)
        return rows[: len(rows) - n_held], rows[len(rows) - n_held :]
    if validation in groups and (groups[validation] is None or len(np.unique(groups[validation])) < 2):
        raise ValueError(
            f"validation={validation!r} needs the {validation} of each window, and two of them at least: pass "
            "fit(..., subjects=...), trials that carry domains, or a list of recordings."
        )
    kind = "trial" if validation == "trial" else "subject"
    return split_validation(np.zeros(len(rows)), kind, size, groups.get(validation), seed)


def _runs(source):
    """Tell runs apart from other subjects' runs of the same name."""
    if source.runs is None or source.subjects is None:
        return source.runs
    return np.array([f"{subject}\0{run}" for subject, run in zip(source.subjects, source.runs, strict=True)])


class LinearAndNetwork:
    """Part of `EEGToMEG` that maps standardised signals: learning and applying."""

    def _learn_codes(self, training):
        """Means and scales of what is modelled; a common scale where codes have a meaning together."""
        if not self.positions and self.model != "wavelet_unet":  # signals, which have been standardised already
            n_inputs, n_outputs = len(self.eeg_scale_), len(self.meg_scale_)
            self.input_mean_, self.input_scale_ = np.zeros(n_inputs), np.ones(n_inputs)
            self.output_mean_, self.output_scale_ = np.zeros(n_outputs), np.ones(n_outputs)
            return
        (self.input_mean_, scale), (self.output_mean_, out) = moments(training.chunks())
        self.input_scale_ = np.where(scale > 0, scale, 1.0)
        if self.positions:
            out = np.full_like(out, np.sqrt(np.mean(out**2)))
        self.output_scale_ = np.where(out > 0, out, 1.0)

    def _standard(self, x, y):
        x = (x - self.input_mean_[:, None]) / self.input_scale_[:, None]
        return x, (y - self.output_mean_[:, None]) / self.output_scale_[:, None]

    def _linear_inputs(self, z):
        """Give what ridge regression sees: neighbours in time, or all samples where a trial has one value."""
        if not self._is_signal:
            return z.reshape(len(z), -1, 1)
        lags = range(self.lags, -self.lags - 1, -1)
        return lagged(z, lags, edge="zero").reshape(len(z), -1, z.shape[2]) if self.lags else z

    def _fit_linear(self, training, held):
        """Ridge regression on the training windows; gives the cross-products of both parts."""
        self.coef_ = self.alpha_ = None
        if self.lags is None:
            return None
        products = [CrossProducts((self._linear_inputs(x), y) for x, y in part.chunks()) for part in (training, held)]
        self.coef_, self.alpha_ = ridge_from_products(*products, self.alpha)
        return products

    def _refit_linear(self, products):
        """Repeat the ridge regression on all windows, once nothing is chosen by the held-out ones any more."""
        if products is not None and products[1].n:
            self.coef_, _ = ridge_from_products(products[0] + products[1], products[1], self.alpha_)

    def _linear(self, z):
        if self.coef_ is None:
            return 0.0
        return self.coef_ @ self._linear_inputs(np.asarray(z, dtype=np.float64))

    def _residual(self, x, y):
        return x, y - self._linear(x)

    def _fit_residual(self, training, held, in_memory):
        """Train the network on what ridge regression leaves over."""
        parts = [view.then(self._residual) for view in (training, held)]
        x, y = parts[0].take(np.arange(1))
        self.network_spec_ = {
            "network": self.model,
            "parameters": self._network_parameters(),
            "n_chans": x.shape[1],
            "n_outputs": y.shape[1],
            "averaged": not self._is_signal,
        }
        self.module_ = self._build_network()
        self.checkpoint_report_ = None
        if self.checkpoint is not None:
            network = self.module_.network if not self._is_signal else self.module_
            self.checkpoint_report_ = str(load_checkpoint(network, self.checkpoint, keep_head=True))
        trials, watched = (self._trials(view, in_memory) if len(view) else None for view in parts)
        self.net_ = train(
            self.module_, trials, None, self._recipe(), loss="mse", validation=None if watched is None else (watched,),
            device=self.device, callbacks=self.skorch_callbacks or (), verbose=self.verbose,
        )  # fmt: skip
        self.history_ = [{k: v for k, v in row.items() if k != "batches"} for row in self.net_.history]
        self.n_iter_ = max(len(self.history_), 1)
        self.network_weight_ = 1.0 if watched is None or self.lags is None else self._weigh(parts[1])
        if self.network_weight_ < _WORTH_IT:
            warnings.warn(
                f"model: {self.model!r} adds nothing to ridge regression on the held-out windows (network_weight_ is "
                f"{self.network_weight_:.2f}); model='ridge' gives the same map in seconds.",
                stacklevel=4,
            )

    def _trials(self, view, in_memory):
        streamed = StreamedTrials(view, self._dtype())
        if not in_memory:
            return streamed
        return Trials(*streamed.take(torch.arange(len(view))))

    def _weigh(self, held):
        """Factor on the network, 0 to 1, that fits the held-out windows best."""
        product = power = 0.0
        for x, y in held.chunks():
            output = self._run(x)
            product, power = product + float(np.sum(output * y)), power + float(np.sum(output * output))
        return float(np.clip(product / power, 0.0, 1.0)) if power > 0 else 0.0

    def _run(self, z):
        """Network outputs of standardised inputs, float64."""
        z, size = torch.as_tensor(z, dtype=self._dtype()), self._recipe().batch_size
        return run_batches(self.module_, z, size, resolve_device(self.device)).double().numpy()

    def _network_class(self, name):
        return NETWORKS[name or self.model]

    def _network_parameters(self):
        names = _SIZES[self._network_class(self.model)]
        unknown = set(self.network_params or {}) - set(names)
        if unknown:
            raise ValueError(f"network_params: {', '.join(sorted(unknown))} unknown; there are {', '.join(names)}.")
        return self._settle_sizes(dict(self.network_params or {}), {"dropout": 0.1})

    def _criterion(self):
        return "mse"

    def _settings(self):
        """Give the settings of the training: the defaults with those asked for."""
        names = {field.name for field in dataclasses.fields(Recipe)} - {"max_epochs"} | {"validation_size"}
        unknown = set(self.recipe_params or {}) - names
        if unknown:
            raise ValueError(
                f"recipe_params: {', '.join(sorted(unknown))} unknown; there are {', '.join(sorted(names))}."
            )
        return _TRAINING | dict(self.recipe_params or {})

    def _recipe(self):
        settings = self._settings()
        settings.pop("validation_size")
        return Recipe(max_epochs=self.max_epochs, **settings)

    def _dtype(self):
        return torch.float64 if self._recipe().precision == "float64" else torch.float32

    def _build_network(self):
        """Network as ``network_spec_`` describes it, newly initialised."""
        spec = dict(self.network_spec_)
        averaged = spec.pop("averaged")
        network = self._network_class(spec.pop("network"))(**spec.pop("parameters"), **spec)
        return (Averaged(network) if averaged else network).to(self._dtype()).eval()
