"""From recordings of any montage and rate to the trials that the network takes, for one decoder or a pre-training."""

import dataclasses

import numpy as np
import torch
from sklearn.pipeline import Pipeline

from ...alignment import Calibration, EuclideanAlignment
from ...array import EEGArray
from ...filtering import BandPass, Resample
from ...model_selection import screen_subjects
from ...montage import ChannelTemplate, montage_matrices
from ...training.data import Trials, draw_rows
from ...training.pretraining import name_subjects

RATE = 250.0
ALIGN = ("own", "block", "calibration", "source", "running")
UNLABELLED = -1
"""Class index of a trial without label."""


def mirepnet_preprocessing(band=(8.0, 30.0), sfreq_out=RATE, on_unseen="own", domain="subject", template="mirepnet45"):
    """Make the preprocessing of MIRepNet: band-pass, resampling, Euclidean alignment, template of electrodes.

    Alignment precedes the template: the covariance of interpolated electrodes is singular. `MIRepNetClassifier` and
    `MIRepNetPretrainer` hold these steps, without the band-pass, as ``steps_``. None leaves a step out.

    Parameters
    ----------
    band : tuple of two floats or None
        Edges of the band-pass in hertz. The publication names 8-30 and 8-32 Hz.
    sfreq_out : float or None
        Sampling rate of the network in hertz.
    on_unseen, domain : str
        See `skeeg.EuclideanAlignment`.
    template : str, tuple of str or None
        See `skeeg.ChannelTemplate`; inverse distances, as for the published weights.

    Returns
    -------
    steps : sklearn.pipeline.Pipeline
        Unfitted; ``"passthrough"`` in place of what is left out. A classifier after it takes
        ``align=None, template=None``.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.array import EEGArray
    >>> from skeeg.methods.mirepnet import mirepnet_preprocessing
    >>> X = EEGArray(np.random.default_rng(0).normal(size=(6, 3, 512)), ("C3", "Cz", "C4"), 128)
    >>> X = mirepnet_preprocessing().fit_transform(X)
    >>> X.shape, X.sfreq, X.ch_names[20]
    ((6, 45, 1000), 250.0, 'C3')
    """
    steps = {
        "bandpass": None if band is None else BandPass(*band),
        "resample": None if sfreq_out is None else Resample(sfreq_out),
        "align": None if on_unseen is None else EuclideanAlignment(domain=domain, on_unseen=on_unseen),
        "template": None if template is None else ChannelTemplate(template, "inverse_distance"),
    }
    return Pipeline([(name, "passthrough" if step is None else step) for name, step in steps.items()])


def fit_steps(steps, X, target=None):
    """Fit the preprocessing to training trials, and to unlabelled trials of a target; return the training trials.

    Shapes: ``X, target`` (n_trials, n_channels, n_times).
    """
    for name, step in steps.steps:
        if step == "passthrough":
            continue
        if name == "align":
            given = None if target is None else Calibration(target)
            X, target = step.fit_transform(X, X_target_unlabeled=given), None
        else:
            X, target = step.fit_transform(X), None if target is None else step.transform(target)
    return X


# Pre-training


@dataclasses.dataclass
class Pool:
    """Trials of all recordings of a pre-training.

    ``data`` (n_trials, n_template, n_times) is on the template; with montage augmentation as recorded, padded with
    zeros to the most electrodes. ``y`` holds class indices, ``recordings`` the index of the recording of each trial;
    ``ch_names`` and ``steps`` (the fitted preprocessing) have an entry for each recording.
    """

    data: np.ndarray = None
    y: np.ndarray = None
    subjects: np.ndarray = None
    recordings: np.ndarray = None
    classes: np.ndarray = None
    ch_names: list = dataclasses.field(default_factory=list)
    steps: list = dataclasses.field(default_factory=list)
    scores: dict = dataclasses.field(default_factory=dict)  # screening score of each subject

    def training_trials(self, rows, n_times, template, recipe, seed):
        """Trials that draw a montage and a crop of ``n_times`` samples for each trial of each batch."""
        groups = self._groups(rows)
        matrices = self._matrices(rows, groups, recipe.montages, template, seed)
        weights = balanced_weights(self.y[rows], groups) if recipe.balance else None
        return MontageTrials(self.data[rows], self.y[rows], groups, matrices, n_times, weights)

    def validation_trials(self, rows, n_times, template, recipe):
        """Trials with all electrodes, the middle ``n_times`` samples of each."""
        groups = self._groups(rows)
        matrices = self._matrices(rows, groups, recipe.montages and 1, template, 0)
        start = (self.data.shape[2] - n_times) // 2
        data = self.data[rows, :, start : start + n_times]
        return Trials(data if matrices is None else np.matmul(matrices[groups, 0], data), self.y[rows])

    def _groups(self, rows):
        return np.unique(self.subjects[rows].astype(str), return_inverse=True)[1]

    def _matrices(self, rows, groups, n_montages, template, seed):
        """Matrices of all subjects, with columns of zeros for the electrodes that a recording lacks."""
        if n_montages is None:
            return None
        rng, made = np.random.default_rng(seed), [None] * (groups.max() + 1)
        for number in np.unique(self.recordings[rows]):
            here, names = self.recordings[rows] == number, self.ch_names[number]
            subjects, own = np.unique(groups[here], return_inverse=True)
            X = EEGArray(self.data[rows[here], : len(names)], names)
            missing = self.data.shape[1] - len(names)
            for subject, matrices in zip(subjects, montage_matrices(X, own, n_montages, template, rng), strict=True):
                made[subject] = np.pad(matrices, ((0, 0), (0, 0), (0, missing)))
        return np.stack(made)


def pool_recordings(recordings, make_steps, recipe):
    """Preprocess each recording by itself, and pool the trials in a `Pool`.

    Trials longer than ``recipe.n_times`` are cut, unless crops are drawn from them; shorter ones are extended by
    reflection.
    """
    parts, labels, names, pool = [], [], [], Pool()
    for number, (X, y) in enumerate(recordings):
        unique = name_subjects(X, number if len(recordings) > 1 else None)
        steps = make_steps(X)
        X = steps[:2].fit_transform(X)  # the alignment follows the screening
        if recipe.screen is not None:
            if y is None:
                raise ValueError(f"screen: recording {number} has no labels, which screening needs.")
            found = screen_subjects(X, y, unique.astype(str), threshold=recipe.screen)
            pool.scores |= dict(zip(found.subjects.tolist(), found.scores.tolist(), strict=True))
            X, y, unique = X[found.mask], y[found.mask], unique[found.mask]
        if len(X):
            on_template = fit_steps(steps[2:], X)
            parts.append(np.asarray(on_template if recipe.montages is None else X, dtype=np.float32))
            pool.ch_names.append(X.ch_names)
            pool.steps.append(steps)
            names.append(unique)
            labels.append([None] * len(X) if y is None else list(y))
    if not parts:
        raise ValueError(f"screen: none of {len(pool.scores)} subjects reaches the accuracy: {pool.scores}.")
    pool.data = _stack(parts, None if recipe.crops else recipe.n_times, recipe.montages is not None)
    pool.y, pool.classes = _unite(labels)
    pool.subjects = np.concatenate(names)
    pool.recordings = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return pool


def _stack(parts, n_times, as_recorded):
    """Stack trials of any length, cut or extended to ``n_times`` or the longest, of any number of channels."""
    wanted = max(part.shape[2] for part in parts) if n_times is None else n_times
    most = max(part.shape[1] for part in parts)
    if not as_recorded and any(part.shape[1] != most for part in parts):
        raise ValueError("template: None keeps the electrodes of each recording, and these differ in their number.")
    shaped = []
    for part in parts:
        part = np.pad(part[:, :, :wanted], ((0, 0), (0, most - part.shape[1]), (0, 0)))
        mode = "reflect" if part.shape[2] > 1 else "constant"
        shaped.append(np.pad(part, ((0, 0), (0, 0), (0, wanted - part.shape[2])), mode=mode))
    return np.concatenate(shaped)


def _unite(labels):
    """Class indices over the union of all labels."""
    flat = [label.item() if isinstance(label, np.generic) else label for one in labels for label in one]
    known = [label for label in flat if label is not None]
    classes = np.unique(known) if known else np.array([])
    index = {label: i for i, label in enumerate(classes.tolist())}
    same = str if classes.dtype.kind == "U" else (lambda label: label)  # recordings may name classes by other types
    return np.array([UNLABELLED if label is None else index[same(label)] for label in flat]), classes


class MontageTrials(Trials):
    """Trials that are brought to the template by a montage drawn anew for each trial of each batch.

    Shapes: ``X`` (n_trials, n_channels, n_times), ``y`` (n_trials,), ``groups`` (n_trials,), ``matrices``
    (n_subjects, n_montages, n_template, n_channels), ``weights`` (n_trials,).
    """

    def __init__(self, X, y, groups, matrices, n_times, weights=None):
        super().__init__(X, y)
        self.groups, self.n_times = torch.as_tensor(groups), n_times
        self.matrices = None if matrices is None else torch.as_tensor(matrices)
        self.weights = None if weights is None else torch.as_tensor(weights)

    def take(self, index):
        """Crops of the trials at these indices, each in its own montage."""
        n_starts = self.X.shape[2] - self.n_times + 1
        if self.matrices is None and n_starts == 1:  # no random number is drawn: others are drawn after these
            return super().take(index)
        drawn = draw_rows(len(index), lambda n: torch.rand(n, 2)).to(self.device)
        start = (drawn[:, 1] * n_starts).long()
        samples = start[:, None, None] + torch.arange(self.n_times, device=self.device)
        crops, y = self.X.index_select(0, index), self.y.index_select(0, index)
        crops = crops.gather(2, samples.expand(-1, crops.shape[1], -1))
        if self.matrices is None:
            return crops, y
        montage = (drawn[:, 0] * self.matrices.shape[1]).long()
        return torch.bmm(self.matrices[self.groups[index], montage], crops), y

    def draw(self, batch_size, shuffle=False):
        """Draw the batches of one pass; with ``weights`` as many trials, with replacement."""
        if self.weights is None or not shuffle:
            return super().draw(batch_size, shuffle)
        order = torch.multinomial(self.weights, len(self), replacement=True).to(self.device)
        return [chunk for chunk in order.split(batch_size) if len(chunk) > 1 or len(self) == 1]

    def to(self, device):
        """Copy the trials to another device."""
        arrays = (one if one is None else one.to(device) for one in (self.X, self.y, self.groups, self.matrices))
        return MontageTrials(*arrays, self.n_times, self.weights)


def balanced_weights(y, groups):
    """Probability of each trial to be drawn, such that each class of each subject is drawn equally often."""
    _, cells, counts = np.unique(np.c_[groups, y], axis=0, return_inverse=True, return_counts=True)
    return 1 / (len(counts) * counts[cells.ravel()])
