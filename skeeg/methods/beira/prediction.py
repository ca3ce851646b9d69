"""What a trained network says of EEG of any length."""

import dataclasses

import numpy as np
import torch

from ...training.inference import run_batches
from .many_to_one import BEIRAManyToOne
from .windows import mirror

_SAMPLES_AT_ONCE = 2**15  # of all trials of a batch together, which bounds the memory of a forward pass
_SLIDE_STEP = 16  # samples between two values of the many-to-one network, which pools twice as many


def padded(n_times, multiple):
    """Round up to a multiple.

    Examples
    --------
    >>> from skeeg.methods.beira.prediction import padded
    >>> padded(9, 8), padded(16, 8)
    (16, 16)
    """
    return -(-n_times // multiple) * multiple


def _envelopes(module, batch):
    return module.envelopes(batch)


@dataclasses.dataclass(frozen=True)
class Prediction:
    """A network with what it takes to run it.

    Attributes
    ----------
    module : BEIRA, SharedBEIRA or BEIRAManyToOne
        Trained network, on the CPU; nothing is written to it.
    multiple : int
        What the number of samples has to be a multiple of.
    window : int
        Samples of a training window: how far the many-to-one network looks back.
    device : str
        Where to compute.

    Examples
    --------
    >>> import torch
    >>> from skeeg.methods.beira import BEIRA
    >>> from skeeg.methods.beira.prediction import Prediction
    >>> network = BEIRA(4, 2, n_branches=3, channels=(8, 8), kernel_sizes=(3,), strides=(4,)).eval()
    >>> Prediction(network, 4, 64, "cpu").signals(torch.randn(1, 4, 99)).shape
    (1, 2, 99)
    """

    module: torch.nn.Module
    multiple: int
    window: int
    device: str

    def signals(self, data):
        """Give outputs as long as the EEG.

        Parameters
        ----------
        data : Tensor, shape (n_trials, n_channels, n_times)
            Standardised EEG.

        Returns
        -------
        outputs : ndarray, shape (n_trials, n_regions, n_times)
            Standardised BOLD.
        """
        if isinstance(self.module, BEIRAManyToOne):
            return np.stack([self._slide(recording) for recording in data])
        return self._run_pieces(data, self.module.reach)

    def last_values(self, data):
        """Give outputs at the last sample of each trial.

        Parameters
        ----------
        data : Tensor, shape (n_trials, n_channels, n_times)
            Standardised EEG.

        Returns
        -------
        outputs : ndarray, shape (n_trials, n_regions)
            Standardised BOLD.
        """
        if isinstance(self.module, BEIRAManyToOne):
            return self._run(data).numpy()
        return self._run_pieces(data, self.module.reach)[..., -1]

    def envelopes(self, data):
        """Give the envelopes of the branches, as long as the EEG.

        Parameters
        ----------
        data : Tensor, shape (n_trials, n_channels, n_times)
            Standardised EEG.

        Returns
        -------
        envelopes : ndarray, shape (n_trials, n_fronts, n_branches, n_times)
            One front end for each region, or one for all.
        """
        taps = self.module.front_weights()[1].shape[-1] + self.module.smoothing_layers()[0].kernel_size[0]
        return self._run_pieces(data, taps, _envelopes)

    def apply(self, function, data, size=None):
        """Apply a function of the network and of a batch to all trials.

        On a CPU trials go one by one: larger batches are no faster, and rounding would depend on their company.

        Parameters
        ----------
        function : callable
            Of the module and a Tensor, to a Tensor of one row a trial.
        data : Tensor, shape (n_trials, n_channels, n_times)
            Trials.
        size : int or None
            Trials of a batch, where it is not to be chosen here.

        Returns
        -------
        rows : Tensor
            Of all trials, on the CPU.
        """
        if size is None:
            size = 1 if self.device == "cpu" else max(1, _SAMPLES_AT_ONCE // data.shape[2])
        return run_batches(self.module, data, size, self.device, function=function)

    def _run(self, data, size=None, function=torch.nn.Module.__call__):
        """Give outputs of the network as they come, for trials of any length."""
        return self.apply(function, mirror(data, padded(data.shape[2], self.multiple)), size)

    def _run_pieces(self, data, reach, function=torch.nn.Module.__call__):
        """Give outputs as long as the EEG; long recordings go piece by piece, each with all that tells around it."""
        n_times, outputs = data.shape[2], []
        step, margin = padded(_SAMPLES_AT_ONCE, self.multiple), padded(reach, self.multiple)
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
