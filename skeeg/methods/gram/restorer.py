"""Restoration of missing samples by Gram, in the manner of scikit-learn's imputers."""

import numpy as np
import torch
from scipy.optimize import nnls
from sklearn.base import clone
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted

from ...array import EEGArray
from ...base import draw_seed
from ...restoration import Imputer, SplineInterpolation, TimeInterpolation, WienerInterpolation, draw_mask, find_lost
from ...signals import resample_trials
from ...training.device import on_device, resolve_device
from .layers import HEAD_RADIUS, electrode_positions
from .preprocessing import COLLECTION, channel_indices, channels_of, too_short, window_length
from .pretrainer import GramPretrainer

_N_CALIBRATION = 64  # trials that the factors are learned from, at most


class GramRestorer(Imputer):
    r"""Restore missing samples, segments and channels by Gram [1]_.

    NaN marks missing samples, or a mask does; channels that were never recorded can be asked for by name. The masked
    autoencoder predicts every second of every channel that is not complete: its samples, where the network has a
    ``wave_head``, else its token, which the tokenizer's decoder turns into a shape with the amplitude of the observed
    samples. Observed samples are unchanged, and nothing under the mask is ever read.

    Parameters
    ----------
    checkpoint : str or None
        Weights of a pre-trained Gram, its tokenizer inside. None trains both stages on the complete trials of fit.
    pretrainer : GramPretrainer or None
        How they are trained, or, fitted, what to restore with as it is (but scikit-learn's ``clone`` forgets that it is
        fitted; a checkpoint stays). None is ``GramPretrainer(size="tiny")``. Not together with `checkpoint`.
    electrodes : tuple of str or None
        Channels that the result has; those that X does not hold are made anew. None keeps those of X.
    amplitude : {"power", "least_squares"}
        ``"power"``: the factors below are one, so that with a network of tokens the spectrum of a channel keeps its
        power. ``"least_squares"``: the factors (``gain_``) that minimise the squared error on the trials of fit, parts
        of which are masked for that.
    prior : {"splines", "linear", None}
        Linear estimate that is added with a factor of its own: spherical splines of the channels observed at the same
        time; with ``"linear"`` also, where none is, the `skeeg.restoration.WienerInterpolation` that `fit` has learned,
        for trials that have its channels and rate. It needs ``amplitude="least_squares"``.
    ch_names, sfreq
        Channel names and sampling rate of X, for trials that do not carry them.
    batch_size : int
        Windows restored at a time.
    device : str
        ``"auto"`` takes CUDA where there is one.
    random_state : int, RandomState or None
        Seed of the training, where the pretrainer leaves it open, and of the calibration.

    Attributes
    ----------
    pretrainer_ : GramPretrainer
        What holds both stages.
    wiener_ : WienerInterpolation or None
        What restores gaps in all channels, with ``prior="linear"``.
    gain_ : ndarray, shape (2, 3)
        Factors :math:`g` of the network, the level and the prior; first row where another channel is observed at the
        same time, second row where none is.

    Notes
    -----
    :math:`\hat x = g_1 w + g_2 m + g_3 s`. With a ``wave_head``, :math:`w` are the predicted samples and the level
    :math:`m` is zero. Otherwise :math:`w = \sigma (\hat s - \bar s)` with the shape :math:`\hat s` of a masked
    second, where :math:`\sigma^2` is the power of the channel's observed seconds over that of their own
    reconstructions, both without their means; a channel without an observed second takes the mean amplitude of the
    others, nearer ones first. :math:`m` lies on the line between the means of the observed seconds before and after.
    :math:`s` is the linear estimate. A second is masked as a whole, however little of it is missing. Trials longer than
    a window are restored window by window, those shorter than one patch are refused.

    References
    ----------
    .. [1] Li, Z., Zheng, W.-L., Lu, B.-L. (2025). Gram: a large-scale general EEG model for raw data classification and
       restoration tasks. ICASSP.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg import GramPretrainer, GramRestorer, EEGArray
    >>> X = EEGArray(20 * np.random.default_rng(0).normal(size=(4, 3, 600)), ("C3", "Cz", "C4"), 200)
    >>> short = GramPretrainer(size="tiny", max_epochs=1)
    >>> restorer = GramRestorer(pretrainer=short, random_state=0, device="cpu").fit(X)
    >>> X[0, 1, 250:350] = np.nan
    >>> bool(np.isfinite(restorer.transform(X)).all())
    True
    """

    _any_montage = True
    _any_rate = True
    _parameter_constraints = {
        "amplitude": [StrOptions({"power", "least_squares"})],
        "prior": [StrOptions({"splines", "linear"}), None],
    }

    def __init__(
        self,
        checkpoint=None,
        pretrainer=None,
        electrodes=None,
        amplitude="power",
        prior=None,
        ch_names=None,
        sfreq=None,
        batch_size=32,
        device="auto",
        random_state=None,
    ):
        self.checkpoint = checkpoint
        self.pretrainer = pretrainer
        self.electrodes = electrodes
        self.amplitude = amplitude
        self.prior = prior
        self.ch_names = ch_names
        self.sfreq = sfreq
        self.batch_size = batch_size
        self.device = device
        self.random_state = random_state

    def transform(self, X, mask=None):
        """Restore missing samples of trials of any montage within the collection, as `Imputer.transform`."""
        check_is_fitted(self)
        X = self._check_eeg(X, reset=False)
        lost = find_lost(X, mask)
        data, names = np.where(lost, 0, np.asarray(X)).astype(X.dtype, copy=False), X.ch_names
        picks = range(X.shape[1])
        if self.electrodes is not None:
            data, lost, names, picks = self._add_electrodes(X, data, lost)
        if lost.any():
            data[lost] = self._combine(data, lost, names, X.sfreq)[lost]
        if self.electrodes is None:
            return X.like(data)
        return X.like(np.ascontiguousarray(data[:, picks]), ch_names=self.electrodes)

    def restore(self, inst):
        """Give a copy of an `mne.io.Raw`, `mne.Epochs` or `mne.Evoked` whose bad EEG channels are restored.

        In place of mne's ``interpolate_bads``; all other values are unchanged.
        """
        import mne

        check_is_fitted(self)
        if not isinstance(inst, mne.io.BaseRaw | mne.BaseEpochs | mne.Evoked):
            raise TypeError(f"inst: expected mne's Raw, Epochs or Evoked, got {type(inst).__name__}.")
        picks = mne.pick_types(inst.info, eeg=True, exclude=[])
        names = [inst.ch_names[i] for i in picks]
        bad = np.isin(names, inst.info["bads"])
        inst = inst.copy()
        if not bad.any():
            return inst
        values = inst.data if isinstance(inst, mne.Evoked) else inst.load_data()._data
        trials = values if values.ndim == 3 else values[None]
        X = self._check_eeg(EEGArray(trials[:, picks] * 1e6, names, inst.info["sfreq"]), reset=False)
        lost = np.isnan(np.asarray(X)) | bad[:, None]
        estimates = self._combine(np.where(lost, 0, np.asarray(X)), lost, names, X.sfreq)
        trials[:, picks[bad]] = estimates[:, bad] * 1e-6
        inst.info["bads"] = [name for name in inst.info["bads"] if name not in names]
        return inst

    # Steps of fit

    def _check_parameters(self):
        """Refuse settings that mean nothing, also those that only the restoration needs."""
        super()._check_parameters()
        resolve_device(self.device)
        if self.prior is not None and self.amplitude != "least_squares":
            raise ValueError(f"prior: got {self.prior!r} with amplitude={self.amplitude!r}, expected 'least_squares'.")
        if self.checkpoint is not None and self.pretrainer is not None:
            raise ValueError("pretrainer: the checkpoint is trained already; give one of the two.")

    def _prepare(self, X, y):
        """Train the networks, or read them, and learn the factors."""
        if self.electrodes is not None:
            channel_indices(self.electrodes, argument="electrodes")
        X = _complete(X)
        seed = draw_seed(self.random_state)
        self.pretrainer_ = self._find_pretrainer(X, seed)
        self.wiener_ = WienerInterpolation().fit(X) if self.prior == "linear" else None
        self.gain_ = np.array([[1.0, 1.0, 0.0]] * 2)
        if self.amplitude == "least_squares":
            few = X[:: -(-len(X) // _N_CALIBRATION)]
            self.gain_ = np.stack([self._calibrate(few, loss, seed) for loss in ("patches", "seconds")])

    def _find_pretrainer(self, X, seed):
        """Fitted pretrainer that holds both stages."""
        given = self.pretrainer
        if given is not None and given.__sklearn_is_fitted__():
            return given
        if given is None:
            own = {"size": "tiny"} if self.checkpoint is None else {"checkpoint": self.checkpoint, "max_epochs": 0}
            given = GramPretrainer(**own, ch_names=self.ch_names, sfreq=self.sfreq, device=self.device)
        fitted = clone(given)
        if fitted.random_state is None:
            fitted.set_params(random_state=seed)
        return fitted.fit(X)

    def _calibrate(self, X, loss, seed):
        """Factors that minimise the squared error where half of the patches, or of the seconds, are masked."""
        length = max(int(round(self._sizes.patch_length * self._rate(X.sfreq))), 1)
        n_segments = max(X.shape[2] // length, 1)
        if n_segments * (1 if loss == "seconds" else X.shape[1]) < 2:  # nothing can be masked and something be seen
            return np.array([1.0, 1.0, 0.0])
        lost = draw_mask(X.shape, 1.0, loss, 0.5, seconds=length, random_state=seed)
        data = np.where(lost, 0, np.asarray(X)).astype(X.dtype, copy=False)
        parts = self._estimate(data, lost, X.ch_names, X.sfreq)[:, lost]
        return nnls(parts.T.astype(np.float64), np.asarray(X)[lost].astype(np.float64))[0]

    # Steps of transform

    @property
    def _sizes(self):
        return self.pretrainer_.module_.sizes

    def _combine(self, data, lost, ch_names, sfreq):
        """Estimates of missing samples; elsewhere they mean nothing."""
        blind = lost.all(axis=1).astype(int)  # times without an observed channel
        gains = np.moveaxis(self.gain_[blind], 2, 0)[:, :, None]
        return (gains * self._estimate(data, lost, ch_names, sfreq)).sum(axis=0).astype(data.dtype, copy=False)

    def _estimate(self, data, lost, ch_names, sfreq):
        """Network, level and prior, shape (3, n_trials, n_channels, n_times); zeros for complete trials."""
        channels = channels_of(EEGArray(data, ch_names))
        blind = np.flatnonzero(lost.all(axis=(1, 2)))
        if len(blind):
            raise ValueError(f"X: nothing of trial {blind[0]} is visible, so its missing samples cannot be restored.")
        parts = np.zeros((3, *data.shape), dtype=data.dtype)
        rows = np.flatnonzero(lost.any(axis=(1, 2)))
        data, lost = data[rows], lost[rows]
        filled = np.where(lost, TimeInterpolation()._fill(data, lost), data)
        device = resolve_device(self.device)
        parts[:2, rows] = restore_trials(
            on_device(self.pretrainer_.module_, device), filled, lost, channels, rate=self._rate(sfreq),
            batch_size=self.batch_size, device=device,
        )  # fmt: skip
        if self.prior is not None and len(rows):
            parts[2, rows] = self._linear(data, lost, tuple(ch_names), sfreq)
        return parts

    def _linear(self, data, lost, ch_names, sfreq):
        """Splines of the channels that are observed; at times when none is, the prediction from other times."""
        found, gaps = SplineInterpolation().fit(EEGArray(data, ch_names))._fill(data, lost), lost.all(axis=1)
        known = () if self.wiener_ is None else self.wiener_.ch_names_in_
        if gaps.any() and known and {*known} <= {*ch_names} and self.wiener_.sfreq_in_ == sfreq:
            picks = [ch_names.index(name) for name in known]
            found[:, picks] = self.wiener_._fill_gaps(np.where(lost, found, data)[:, picks], gaps)
        return found

    def _rate(self, sfreq):
        """Rate of the trials over that of the networks; trials of unknown rate have it already."""
        wanted = self._sizes.sfreq
        return 1.0 if wanted is None or sfreq is None else sfreq / wanted

    def _add_electrodes(self, X, data, lost):
        """Add the channels that are asked for and not recorded, as missing ones."""
        there = channels_of(X).tolist()
        asked = channel_indices(self.electrodes, "electrodes").tolist()
        new = [index for index in asked if index not in there]
        shape = (len(X), len(new), X.shape[2])
        data = np.concatenate([data, np.zeros(shape, dtype=data.dtype)], axis=1)
        lost = np.concatenate([lost, np.ones(shape, dtype=bool)], axis=1)
        names = (*X.ch_names, *(COLLECTION[index] for index in new))
        return data, lost, names, [(there + new).index(index) for index in asked]


def _complete(X):
    """Complete trials of fit, on the channels that are not missing in all of them."""
    gaps = np.isnan(np.asarray(X))
    if not gaps.any():
        return X
    kept = np.flatnonzero(~gaps.all(axis=(0, 2)))
    whole = np.flatnonzero(~gaps[:, kept].any(axis=(1, 2))) if len(kept) else kept
    if not len(whole):
        raise ValueError("X: no trial of fit is complete, so there is nothing to learn from; leave electrodes out.")
    return X[whole][:, kept]


# From trials with gaps to patches, and back


def cut_patches(n_times, length):
    """First samples of the patches of `length` samples that cover a trial; the last may overlap the one before it."""
    starts = np.arange(0, n_times - length + 1, length)
    return starts if n_times % length == 0 else np.append(starts, n_times - length)


def hide_patches(lost, starts, length, n_times):
    """Mask (n_trials, n_patches, n_channels) of the patches (`starts`, `length` of n_times) with a missing sample."""
    scale = lost.shape[2] / n_times
    firsts = np.floor(starts * scale + 1e-9).astype(int)
    stops = np.ceil((starts + length) * scale - 1e-9).astype(int)
    return np.stack([lost[:, :, i:j].any(axis=2) for i, j in zip(firsts, stops, strict=True)], axis=1)


def change_length(data, n_times):
    """Resample trials (n_trials, n_channels, n_times_in) to a number of samples over the same time."""
    n_old = data.shape[2]
    return data if n_old == n_times else resample_trials(data, n_times / n_old, npad=min(100, n_old - 1))


@torch.no_grad()
def reconstruct(network, patches, hidden, channels, batch_size, device):
    """Predict masked patches (n_trials, n_patches, n_channels, length) from the visible ones of their window."""
    n_patches, n_channels = patches.shape[1:3]
    longest = window_length(n_channels, n_patches)
    dtype = next(network.parameters()).dtype
    predicted = np.zeros(patches.shape, dtype=np.float32 if dtype == torch.float32 else np.float64)
    for part_of_time in np.array_split(np.arange(n_patches), -(-n_patches // longest)):
        covered = hidden[:, part_of_time]
        counts = covered.sum(axis=(1, 2))
        for count in np.unique(counts[counts < covered[0].size]):
            rows = np.flatnonzero(counts == count)
            for part in np.array_split(rows, -(-len(rows) // batch_size)):
                at = np.ix_(part, part_of_time)
                mask = torch.as_tensor(hidden[at], device=device)
                x = torch.as_tensor(np.where(hidden[at][..., None], 0, patches[at]), dtype=dtype, device=device)
                predicted[at] = _predict(network, x.permute(0, 2, 1, 3).flatten(2), mask, channels).cpu().numpy()
    return predicted


def _predict(network, x, hidden, channels):
    """Patches (batch, n_seconds, n_channels, length) of one batch of trials."""
    if network.wave_head is not None:
        return network.restore_waves(x, hidden, channels)
    codes = network.vqgan.encode(x, channels)
    if hidden.any():
        codes = torch.where(hidden, network.restore_codes(x, hidden, channels), codes)
    return network.vqgan.decode(codes, channels)


def scale_shapes(shapes, patches, hidden, nearness):
    """Give shapes (as `patches`) the amplitude and the level of the visible patches: waves and their offsets."""
    waves = shapes - shapes.mean(axis=3, keepdims=True)
    means = patches.mean(axis=3)
    seen = ~hidden[..., None]
    recorded = np.where(seen, patches - means[..., None], 0)
    power = np.square(recorded, dtype=np.float64).sum(axis=(1, 3))
    shaped = np.square(np.where(seen, waves, 0), dtype=np.float64).sum(axis=(1, 3))
    known = shaped > 0
    scale = np.sqrt(np.divide(power, shaped, out=np.zeros_like(power), where=known))
    weights = nearness[None] * known[:, None, :]
    total = weights.sum(axis=2)
    near = np.einsum("nij,nj->ni", weights, scale) / np.where(total > 0, total, 1)
    scale = np.where(known, scale, near)
    offsets = np.where(hidden, 0, means)
    times = np.arange(hidden.shape[1])
    for trial, channel in zip(*np.nonzero(hidden.any(axis=1) & ~hidden.all(axis=1)), strict=True):
        kept = ~hidden[trial, :, channel]
        offsets[trial, :, channel] = np.interp(times, times[kept], means[trial, kept, channel])
    return waves * scale[:, None, :, None], offsets


def near_electrodes(channels):
    """Weights 1 / (d^2 + 0.01) between channels at distance d in head radii; a derivation is far from all."""
    points = electrode_positions()[np.asarray(channels)] / HEAD_RADIUS
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    return 1 / (np.where(np.isnan(distance), 2.0, distance) ** 2 + 0.01)


def restore_trials(network, data, lost, channels, *, rate, batch_size, device):
    """Network's part and level of trials (n_trials, n_channels, n_times), at their own rate."""
    length, n_times = network.sizes.patch_length, max(int(round(data.shape[2] / rate)), 1)
    if n_times < length:
        raise ValueError(too_short(n_times, length))
    slow = change_length(data, n_times)
    starts = cut_patches(n_times, length)
    samples = starts[:, None] + np.arange(length)
    patches = slow[:, :, samples].transpose(0, 2, 1, 3) / network.sizes.scale
    hidden = hide_patches(lost, starts, length, n_times)
    waves = reconstruct(network, patches, hidden, channels, batch_size, device)
    blind, levels = ~waves.any(axis=(2, 3))[:, :, None, None], 0.0
    if network.wave_head is None:
        waves, levels = scale_shapes(waves, patches, hidden, near_electrodes(channels))
        levels = levels[..., None]
    parts = np.where(blind, 0, waves), np.where(blind, patches, levels)
    restored = np.empty((2, *slow.shape), dtype=data.dtype)
    for patch in reversed(range(len(starts))):  # the last patch overlaps the one before it, which comes first
        for part, made in zip(restored, parts, strict=True):
            part[:, :, samples[patch]] = made[:, patch] * network.sizes.scale
    return tuple(change_length(part, data.shape[2]) for part in restored)
