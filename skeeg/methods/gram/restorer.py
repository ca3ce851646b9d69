"""Restoration of lost signal by Gram, in the manner of scikit-learn's imputers."""

import numpy as np
from scipy.optimize import nnls
from sklearn.base import clone
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted

from ...array import make_eeg
from ...base import draw_seed
from ...restoration import Imputer, TimeInterpolation, draw_mask, find_lost
from ...training.inference import on_device
from ...training.recipe import resolve_device
from .collection import COLLECTION, channel_indices
from .form import electrodes_of
from .pretrainer import GramPretrainer
from .restoring import restore_trials
from .sizes import SIZES

AMPLITUDES = ("power", "least_squares")
_N_CALIBRATION = 64  # trials that the factor of the amplitude is learned from, at most


class GramRestorer(Imputer):
    r"""Restore lost samples, stretches and electrodes by Gram [1]_.

    NaN marks what is lost, or a mask does; electrodes that were never recorded can be asked for by name. The masked
    autoencoder guesses the base class of every second of every electrode that is not complete, the tokenizer's decoder
    makes a shape of it, and the amplitude is taken from what is visible. Visible samples come back to the bit, and
    nothing that lies under the mask is ever read.

    Parameters
    ----------
    checkpoint : str or None
        Weights of a pre-trained Gram, its tokenizer inside. None trains both stages on the complete trials of fit.
    pretrainer : GramPretrainer or None
        How they are trained, or, fitted, what to restore with as it is (but scikit-learn's ``clone`` forgets that it is
        fitted; a checkpoint stays). None trains with `GramPretrainer`'s defaults. Not together with `checkpoint`.
    size : {"tiny", "base", "medium", "large"} or None
        Size of the networks where `pretrainer` does not say it; None takes that of the checkpoint, else ``"tiny"``.
    electrodes : tuple of str or None
        Electrodes that the result shall have; those that X does not hold are made anew. None keeps those of X.
    amplitude : {"power", "least_squares"}
        The networks know shapes only. ``"power"``: an electrode's restored seconds vary as much as its visible ones, so
        that its spectrum keeps its size. ``"least_squares"``: less, by the factors (``gain_``) of shape and level that
        make the squared error on the trials of fit least, half of whose patches are hidden for that; the surer the
        guesses, the nearer to one. An electrode without a visible second takes the mean amplitude of the others, nearer
        ones first.
    ch_names, sfreq
        Electrodes and sampling rate of X, for trials that do not carry them.
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
    gain_ : ndarray, shape (2,)
        Factors of the shapes and of the levels they stand on.

    Notes
    -----
    With the shape :math:`\hat s` of a hidden second, :math:`\hat x = g_1 \sigma (\hat s - \bar s) + g_2 m`, where
    :math:`\sigma^2` is the power of the electrode's visible seconds over that of their own reconstructions, both
    without their means, and :math:`m` lies on the line between the means of the visible seconds before and after; it is
    zero for electrodes of which nothing is visible. A second is hidden from the networks as a whole, however little of
    it is lost. Trials longer than a window are restored window by window, those shorter than one patch are refused.

    References
    ----------
    .. [1] Li, Z., Zheng, W.-L., Lu, B.-L. (2025). Gram: a large-scale general EEG model for raw data classification and
       restoration tasks. ICASSP.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg import GramPretrainer, GramRestorer, make_eeg
    >>> X = make_eeg(20 * np.random.default_rng(0).normal(size=(4, 3, 600)), ("C3", "Cz", "C4"), 200)
    >>> short = GramPretrainer(size="tiny", max_epochs=1)
    >>> restorer = GramRestorer(pretrainer=short, random_state=0, device="cpu").fit(X)
    >>> X[0, 1, 250:350] = np.nan
    >>> bool(np.isfinite(restorer.transform(X)).all())
    True
    """

    _any_montage = True
    _any_rate = True
    _parameter_constraints = Imputer._parameter_constraints | {"size": [StrOptions(set(SIZES)), None]}

    def __init__(
        self,
        checkpoint=None,
        pretrainer=None,
        size=None,
        electrodes=None,
        amplitude="power",
        ch_names=None,
        sfreq=None,
        batch_size=32,
        device="auto",
        random_state=None,
    ):
        self.checkpoint = checkpoint
        self.pretrainer = pretrainer
        self.size = size
        self.electrodes = electrodes
        self.amplitude = amplitude
        self.ch_names = ch_names
        self.sfreq = sfreq
        self.batch_size = batch_size
        self.device = device
        self.random_state = random_state

    def transform(self, X, mask=None):
        """Restore what is lost.

        Parameters
        ----------
        X : anything `as_eeg` accepts, shape (n_trials, n_channels, n_times)
            Trials of any montage within the collection; NaN where the signal is lost.
        mask : array-like of bool, shape (n_trials, n_channels, n_times or n_stretches), or None
            True where the signal is lost, too; whatever stands there is not looked at.

        Returns
        -------
        X : EEGArray, shape (n_trials, n_electrodes, n_times)
            Trials without NaN; samples that were not lost are the same to the bit.
        """
        check_is_fitted(self)
        X = self._check_eeg(X, reset=False)
        lost = find_lost(X, mask)
        data, names = np.where(lost, 0, np.asarray(X)).astype(X.dtype, copy=False), X.ch_names
        picks = range(X.shape[1])
        if self.electrodes is not None:
            data, lost, names, picks = self._add_electrodes(X, data, lost)
        if lost.any():
            data[lost] = self._guess(data, lost, names, X.sfreq)[lost]
        if self.electrodes is None:
            return X.like(data)
        return X.like(np.ascontiguousarray(data[:, picks]), ch_names=self.electrodes)

    def restore(self, inst):
        """Restore the bad channels of a recording, in place of mne's ``interpolate_bads``.

        Parameters
        ----------
        inst : mne.io.Raw, mne.Epochs or mne.Evoked
            Recording in volts; its bad EEG channels are restored from the others.

        Returns
        -------
        inst : of the same type
            Copy with no bad EEG channel; all other values are the same to the bit.
        """
        import mne

        check_is_fitted(self)
        if not isinstance(inst, mne.io.BaseRaw | mne.BaseEpochs | mne.Evoked):
            raise TypeError(f"inst: expected mne's Raw, Epochs or Evoked, got {type(inst).__name__}.")
        picks = mne.pick_types(inst.info, eeg=True, exclude=[])
        names = [inst.ch_names[i] for i in picks]
        bads = [name for name in names if name in inst.info["bads"]]
        inst = inst.copy()
        if not bads:
            return inst
        if not isinstance(inst, mne.Evoked):
            inst.load_data()
        values = inst.data if isinstance(inst, mne.Evoked) else inst._data
        trials = values if values.ndim == 3 else values[None]
        X = make_eeg(trials[:, picks] * 1e6, names, inst.info["sfreq"])
        X = self._check_eeg(X, reset=False)
        lost = np.isnan(np.asarray(X))
        lost[:, [names.index(name) for name in bads]] = True
        estimates = self._guess(np.where(lost, 0, np.asarray(X)), lost, names, X.sfreq)
        for name in bads:
            trials[:, inst.ch_names.index(name)] = estimates[:, names.index(name)] * 1e-6
        inst.info["bads"] = [name for name in inst.info["bads"] if name not in bads]
        return inst

    # Steps of fit

    def _check_parameters(self):
        """Refuse settings that mean nothing, those too that only the restoring needs."""
        super()._check_parameters()
        resolve_device(self.device)

    def _prepare(self, X):
        """Train the networks, or read them, and learn the factor of the amplitude."""
        if self.amplitude not in AMPLITUDES:
            raise ValueError(f"amplitude: got {self.amplitude!r}, expected one of {', '.join(AMPLITUDES)}.")
        if self.checkpoint is not None and self.pretrainer is not None:
            raise ValueError("pretrainer: the checkpoint is trained already; give one of the two.")
        if self.electrodes is not None:
            channel_indices(self.electrodes, argument="electrodes")
        X = _complete(X)
        seed = draw_seed(self.random_state)
        self.pretrainer_ = self._find_pretrainer(X, seed)
        self.gain_ = np.ones(2)
        if self.amplitude == "least_squares":
            self.gain_ = self._calibrate(X[:: -(-len(X) // _N_CALIBRATION)], seed)

    def _find_pretrainer(self, X, seed):
        """Fitted pretrainer that holds both stages."""
        given = self.pretrainer
        if given is not None and given.__sklearn_is_fitted__():
            return given
        if given is None:
            size = "tiny" if self.size is None and self.checkpoint is None else self.size
            own = {"size": size, "ch_names": self.ch_names, "sfreq": self.sfreq, "device": self.device}
            if self.checkpoint is None:
                given = GramPretrainer(**own)
            else:
                given = GramPretrainer(**own, checkpoint=self.checkpoint, max_epochs=0)
        fitted = clone(given)
        if fitted.random_state is None:
            fitted.set_params(random_state=seed)
        return fitted.fit(X)

    def _calibrate(self, X, seed):
        """Factors of shape and level that make the squared error least where half of the patches are hidden."""
        pretrainer = self.pretrainer_
        rate = self._rate(X.sfreq)
        length = max(int(round(pretrainer.patch_length * rate)), 1)
        if X.shape[1] * (X.shape[2] // length) < 2:  # nothing can be hidden and something be seen
            return np.ones(2)
        lost = draw_mask(X.shape, 1.0, "patches", 0.5, seconds=length, random_state=seed)
        data = np.where(lost, 0, np.asarray(X)).astype(X.dtype, copy=False)
        parts = [part[lost] for part in self._estimate(data, lost, X.ch_names, X.sfreq)]
        return nnls(np.stack(parts, axis=1).astype(np.float64), np.asarray(X)[lost].astype(np.float64))[0].clip(max=1.0)

    # Steps of transform

    def _guess(self, data, lost, ch_names, sfreq):
        """Estimates of what is lost; elsewhere they mean nothing."""
        waves, offsets = self._estimate(data, lost, ch_names, sfreq)
        return (self.gain_[0] * waves + self.gain_[1] * offsets).astype(data.dtype, copy=False)

    def _estimate(self, data, lost, ch_names, sfreq):
        """Waves and levels of the trials that have lost something; zeros for the others."""
        pretrainer = self.pretrainer_
        channels = electrodes_of(make_eeg(data, ch_names), pretrainer.old_names)
        blind = np.flatnonzero(lost.all(axis=(1, 2)))
        if len(blind):
            raise ValueError(f"X: nothing of trial {blind[0]} is visible, so nothing tells what was lost.")
        parts = np.zeros((2, *data.shape), dtype=data.dtype)
        rows = np.flatnonzero(lost.any(axis=(1, 2)))
        filled = np.where(lost[rows], TimeInterpolation()._fill(data[rows], lost[rows]), data[rows])
        device = resolve_device(self.device)
        parts[:, rows] = restore_trials(
            on_device(pretrainer.module_, device), filled, lost[rows], channels, rate=self._rate(sfreq),
            scale=pretrainer.scale, batch_size=self.batch_size, device=device, window=pretrainer.window,
        )  # fmt: skip
        return parts

    def _rate(self, sfreq):
        """Rate of the trials over that of the networks; trials of unknown rate are taken to have it already."""
        wanted = self.pretrainer_.resample
        return 1.0 if wanted is None or sfreq is None else sfreq / wanted

    def _add_electrodes(self, X, data, lost):
        """Put the electrodes that are asked for beside those that are there, as lost ones."""
        old_names = self.pretrainer_.old_names
        there = electrodes_of(X, old_names).tolist()
        asked = channel_indices(self.electrodes, old_names, "electrodes").tolist()
        new = [index for index in asked if index not in there]
        shape = (len(X), len(new), X.shape[2])
        data = np.concatenate([data, np.zeros(shape, dtype=data.dtype)], axis=1)
        lost = np.concatenate([lost, np.ones(shape, dtype=bool)], axis=1)
        names = (*X.ch_names, *(COLLECTION[index] for index in new))
        return data, lost, names, [(there + new).index(index) for index in asked]


def _complete(X):
    """Trials of fit without gaps, on the electrodes that are not lost in all of them."""
    gaps = np.isnan(np.asarray(X))
    if not gaps.any():
        return X
    kept = np.flatnonzero(~gaps.all(axis=(0, 2)))
    whole = np.flatnonzero(~gaps[:, kept].any(axis=(1, 2))) if len(kept) else kept
    if not len(whole):
        raise ValueError("X: no trial of fit is complete, so there is nothing to learn from; leave electrodes out.")
    return X[whole][:, kept]
