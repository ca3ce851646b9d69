"""Montage augmentation: each trial is seen in a subset of its electrodes, aligned and interpolated in that subset."""

import numpy as np
import torch

from ...covariance import inverse_sqrt, trial_covariances
from ...montage import ChannelTemplate, canonical_name
from ...training.net import Trials
from ...training.pretraining import ranks

HEADSETS = {
    "3 electrodes": "C3 CZ C4",
    "Unicorn": "FZ C3 CZ C4 PZ PO7 OZ PO8",
    "8 motor electrodes": "C3 CZ C4 FC3 FC4 CP3 CP4 PZ",
    "BNCI2015001": "FC3 FCZ FC4 C5 C3 C1 CZ C2 C4 C6 CP3 CPZ CP4",
    "EPOC": "AF3 F7 F3 FC5 T7 P7 O1 O2 P8 T8 FC6 F4 F8 AF4",
    "10-20": "FP1 FP2 F7 F3 FZ F4 F8 T7 C3 CZ C4 T8 P7 P3 PZ P4 P8 O1 O2",
    "BNCI2014001": "FZ FC3 FC1 FCZ FC2 FC4 C5 C3 C1 CZ C2 C4 C6 CP3 CP1 CPZ CP2 CP4 P1 PZ P2 POZ",
    "32 electrodes": "FP1 FP2 F7 F3 FZ F4 F8 FC5 FC1 FC2 FC6 T7 C3 CZ C4 T8 CP5 CP1 CP2 CP6 P7 P3 PZ P4 P8 O1 OZ O2",
}
"""Common montages; of each, the electrodes that a recording has are used."""
_CENTRAL = frozenset("FC3 FC4 C5 C3 C1 C2 C4 C6 CP3 CP4".split())


class MontageTrials(Trials):
    """Trials as recorded, brought to the template by a montage that is drawn anew for each trial of each batch.

    Parameters
    ----------
    X : ndarray or Tensor, shape (n_trials, n_channels, n_times)
        Trials as recorded; recordings with fewer electrodes than others are filled up with zeros.
    y : ndarray or Tensor, shape (n_trials,)
        Class indices.
    groups : ndarray or Tensor of int, shape (n_trials,)
        Subject of each trial.
    matrices : ndarray or Tensor, shape (n_subjects, n_montages, n_template, n_channels), or None
        Alignment and interpolation of each subject in each montage; None for trials on the template.
    n_times : int
        Samples of a crop, which begins at a random sample of the trial.
    weights : ndarray or Tensor, shape (n_trials,), or None
        Probability of each trial to be drawn; None goes once over all trials in every epoch.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from skeeg.methods.mirepnet.montages import MontageTrials
    >>> matrices = np.ones((2, 5, 45, 3), dtype="float32")
    >>> trials = MontageTrials(np.zeros((4, 3, 120), dtype="float32"), [0, 1, 0, 1], [0, 0, 1, 1], matrices, 100)
    >>> trials.take(torch.tensor([3, 0]))[0].shape
    torch.Size([2, 45, 100])
    """

    def __init__(self, X, y, groups, matrices, n_times, weights=None):
        super().__init__(X, y)
        self.groups, self.matrices = (
            torch.as_tensor(groups),
            matrices if matrices is None else torch.as_tensor(matrices),
        )
        self.n_times, self.weights = n_times, None if weights is None else torch.as_tensor(weights)

    def take(self, index):
        """Crops of the trials at these indices, each in a montage of its own."""
        n_starts = self.X.shape[2] - self.n_times + 1
        if self.matrices is None and n_starts == 1:  # no random number is spent: others are drawn after these
            return super().take(index)
        drawn = ranks.draw_rows(len(index), lambda n: torch.rand(n, 2)).to(self.device)
        start = (drawn[:, 1] * n_starts).long()
        samples = start[:, None, None] + torch.arange(self.n_times, device=self.device)
        crops, y = self.X.index_select(0, index), self.y.index_select(0, index)
        crops = crops.gather(2, samples.expand(-1, crops.shape[1], -1))
        if self.matrices is None:
            return crops, y
        montage = (drawn[:, 0] * self.matrices.shape[1]).long()
        return torch.bmm(self.matrices[self.groups[index], montage], crops), y

    def draw(self, batch_size, shuffle=False):
        """Draw the batches of one pass; with ``weights`` as many trials, some of them more than once."""
        if self.weights is None or not shuffle:
            return super().draw(batch_size, shuffle)
        order = torch.multinomial(self.weights, len(self), replacement=True).to(self.device)
        return [chunk for chunk in order.split(batch_size) if len(chunk) > 1 or len(self) == 1]

    def to(self, device):
        """Copy the trials to another device."""
        arrays = (one if one is None else one.to(device) for one in (self.X, self.y, self.groups, self.matrices))
        return MontageTrials(*arrays, self.n_times, self.weights)


def balanced_weights(y, groups):
    """Probability of each trial to be drawn, such that each class of each subject is drawn as often as any other.

    Parameters
    ----------
    y : ndarray of int, shape (n_trials,)
        Class indices.
    groups : ndarray of int, shape (n_trials,)
        Subject of each trial.

    Returns
    -------
    weights : ndarray of float64, shape (n_trials,)
        They sum to one.

    Examples
    --------
    >>> from skeeg.methods.mirepnet.montages import balanced_weights
    >>> balanced_weights([0, 0, 1, 1], [0, 0, 0, 1]).round(3).tolist()
    [0.167, 0.167, 0.333, 0.333]
    """
    _, cells, counts = np.unique(np.c_[groups, y], axis=0, return_inverse=True, return_counts=True)
    return 1 / (len(counts) * counts[cells.ravel()])


def draw_montages(ch_names, n, rng):
    """Draw subsets of the electrodes of a recording: half of them common headsets or all, half random.

    A random subset has 2 electrodes or more, small and large ones as often (uniform in the logarithm of their number),
    two of them above the motor cortex where there are such.

    Parameters
    ----------
    ch_names : sequence of str
        Electrodes of the recording.
    n : int
        Montages.
    rng : numpy.random.Generator
        Source of the draw.

    Returns
    -------
    montages : list of ndarray of int
        Indices of electrodes, ascending; the first montage has all.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.methods.mirepnet.montages import draw_montages
    >>> [len(one) for one in draw_montages(("C3", "Cz", "C4"), 3, np.random.default_rng(0))]
    [3, 2, 3]
    """
    names = [canonical_name(name) for name in ch_names]
    headsets = [[names.index(one) for one in text.split() if one in names] for text in HEADSETS.values()]
    headsets = [*(one for one in headsets if len(one) >= 2), range(len(names))]
    central = np.flatnonzero([name in _CENTRAL for name in names])
    montages = [np.arange(len(names))]
    while len(montages) < n:
        if rng.random() < 0.5:
            montages.append(np.sort(headsets[rng.integers(len(headsets))]))
            continue
        size = round(np.exp(rng.uniform(np.log(min(2, len(names))), np.log(len(names)))))
        core = rng.permutation(central)[:2]
        rest = rng.permutation(np.setdiff1d(np.arange(len(names)), core))
        montages.append(np.sort(np.r_[core, rest][:size]).astype(int))
    return montages


def montage_matrices(X, groups, n, template, rng):
    """Alignment and interpolation of each subject in montages of its own.

    References are those of half of the trials or more, drawn for each montage, so that the network learns to bear with
    references of few trials.

    Parameters
    ----------
    X : EEGArray, shape (n_trials, n_channels, n_times)
        Trials of one recording that carry their electrodes' names.
    groups : ndarray of int, shape (n_trials,)
        Subject of each trial, counted from 0.
    n : int
        Montages of each subject; the first has all electrodes and all trials.
    template : str or tuple of str
        See `skeeg.ChannelTemplate`.
    rng : numpy.random.Generator
        Source of the draw.

    Returns
    -------
    matrices : ndarray of the type of X, shape (n_subjects, n, n_template, n_channels)
        By which trials of a subject are multiplied.
    """
    covariances, made = trial_covariances(X), []
    for subject in range(groups.max() + 1):
        rows, of_subject = np.flatnonzero(groups == subject), []
        for number, picks in enumerate(draw_montages(X.ch_names, n, rng)):
            used = rows if number == 0 else rng.permutation(rows)[: rng.integers(-(-len(rows) // 2), len(rows) + 1)]
            whitener = inverse_sqrt(covariances[used].mean(axis=0)[np.ix_(picks, picks)])
            interpolation = ChannelTemplate(template, "inverse_distance").fit(X[:1, picks]).matrix_
            matrix = np.zeros((len(interpolation), X.shape[1]), dtype=X.dtype)
            matrix[:, picks] = interpolation @ whitener
            of_subject.append(matrix)
        made.append(np.stack(of_subject))
    return np.stack(made)
