"""The map itself: ridge regression, and a network that learns what it leaves over."""

import numpy as np
import torch

from ...training import Recipe, train
from ...training.inference import run_batches
from ...training.net import Trials
from ...training.recipe import resolve_device
from .learning import Covariances, StreamedTrials, lagged, moments, ridge
from .transformer import SensorTransformer
from .unet import SensorUNet

NETWORKS = {"transformer": SensorTransformer, "unet": SensorUNet, "wavelet_unet": SensorUNet}
MODELS = (*NETWORKS, "ridge", "minimum_norm")
_PARAMETERS = {
    SensorTransformer: ("embed_size", "n_layers", "n_heads", "forward_expansion"),
    SensorUNet: ("n_filters", "lstm_hidden"),
}


class Averaged(torch.nn.Module):
    """A network whose signals are averaged over time, for targets of one value a trial."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        """Map (n, n_chans, n_times) to (n, n_outputs, 1)."""
        return self.network(x).mean(-1, keepdim=True)


class LinearAndNetwork:
    """Part of `EEGToMEG` that maps standardised signals: learning and applying."""

    def _learn_codes(self, training):
        """Means and scales of what is modelled; a common scale where codes have a meaning together."""
        if not self.positions and self.model != "wavelet_unet":  # signals, which have been standardised already
            n_inputs, n_outputs = len(self.eeg_scale_), len(self.meg_scale_)
            self.input_mean_, self.input_scale_ = np.zeros(n_inputs), np.ones(n_inputs)
            self.output_mean_, self.output_scale_ = np.zeros(n_outputs), np.ones(n_outputs)
            return
        self.input_mean_, scale, self.output_mean_, out = moments(training)
        self.input_scale_ = np.where(scale > 0, scale, 1.0)
        if self.positions:
            out = np.full_like(out, np.sqrt(np.mean(out**2)))
        self.output_scale_ = np.where(out > 0, out, 1.0)

    def _standard(self, x, y):
        x = (x - self.input_mean_[:, None]) / self.input_scale_[:, None]
        return x, (y - self.output_mean_[:, None]) / self.output_scale_[:, None]

    def _linear_inputs(self, z):
        """Give what ridge regression sees: neighbours in time, or all samples where a trial has one value."""
        return lagged(z, self.lags) if self._is_signal else z.reshape(len(z), -1, 1)

    def _fit_linear(self, training, held):
        """Ridge regression on the training windows; gives the covariances of both parts."""
        self.coef_ = self.alpha_ = None
        if self.model in NETWORKS and not self.linear_start:
            return None
        sums = [Covariances(part, self._linear_inputs) for part in (training, held)]
        self.coef_, self.alpha_ = ridge(*sums, self.alpha)
        return sums

    def _refit_linear(self, sums):
        """Repeat the ridge regression on all windows, once nothing is chosen by the held-out ones any more."""
        if sums is None or not sums[1].n:
            return
        for name in ("n", "xx", "xy"):
            setattr(sums[0], name, getattr(sums[0], name) + getattr(sums[1], name))
        self.coef_, _ = ridge(*sums, self.alpha_)

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
        trials, watched = (self._trials(view, in_memory) if len(view) else None for view in parts)
        self.net_ = train(
            self.module_, trials, None, self._recipe(), loss="mse", validation=None if watched is None else (watched,),
            device=self.device, callbacks=self.skorch_callbacks or (), verbose=self.verbose,
        )  # fmt: skip
        self.history_ = [{k: v for k, v in row.items() if k != "batches"} for row in self.net_.history]
        self.n_iter_ = max(len(self.history_), 1)
        self.network_weight_ = 1.0 if watched is None or not self.linear_start else self._weigh(parts[1])

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
        z = torch.as_tensor(z, dtype=self._dtype())
        return run_batches(self.module_, z, self.batch_size, resolve_device(self.device)).double().numpy()

    def _network_class(self, name):
        return NETWORKS[name]

    def _network_parameters(self):
        names = _PARAMETERS[self._network_class(self.model)]
        return {"dropout": self.drop_prob} | {name: getattr(self, name) for name in names}

    def _criterion(self):
        return "mse"

    def _recipe(self):
        names = Recipe.__dataclass_fields__
        return Recipe(**{name: getattr(self, name) for name in names if hasattr(self, name)})

    def _build_network(self):
        """Network as ``network_spec_`` describes it, newly initialised."""
        spec = dict(self.network_spec_)
        averaged = spec.pop("averaged")
        network = self._network_class(spec.pop("network"))(**spec.pop("parameters"), **spec)
        return (Averaged(network) if averaged else network).to(self._dtype()).eval()
