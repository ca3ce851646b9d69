"""Simultaneous EEG and BOLD: the two public collections that BEIRA was developed on, and a simulation.

EEG is read by MNE; regional BOLD signals are extracted by nilearn, which comes with the extra ``skeeg[bold]``. In the
simulation it is known which electrodes and which rhythm drive each region.
"""

import dataclasses
import json
from pathlib import Path

import numpy as np
from scipy.signal import fftconvolve
from scipy.stats import zscore

from ...array import EEGArray, make_domains
from ...datasets.simulation.head import electrode_directions, leadfield
from ...datasets.simulation.signals import coloured, one_over_f, rhythm, wander
from .bold import canonical_hrf, convolve, match_volumes, volume_onsets

STRIATUM = ("Left Pallidum", "Left Caudate", "Left Putamen", "Left Accumbens",
            "Right Pallidum", "Right Caudate", "Right Putamen", "Right Accumbens")  # fmt: skip
"""Regions of the published networks, by their names in the Harvard-Oxford atlas, in the published order."""
ATLAS = "sub-maxprob-thr25-2mm"
_MOTION = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
_NOT_SCALP = {"EOG", "ECG", *(f"CW{wire}" for wire in range(1, 7))}
CAP_30 = ("Fp1", "Fp2", "F3", "F4", "C3", "C4", "P3", "P4", "O1", "O2", "F7", "F8", "T7", "T8", "P7", "P8",
          "Fz", "Cz", "Pz", "Oz", "FC1", "FC2", "CP1", "CP2", "FC5", "FC6", "CP5", "CP6", "TP9", "TP10")  # fmt: skip
"""Thirty electrodes as in MR-compatible caps."""
_RATES = (10.0, 6.0, 20.0, 13.0, 8.0, 25.0, 16.0, 4.5)
_DEPTH = 0.8  # of the cortex, in radii of the head


@dataclasses.dataclass(frozen=True)
class EEGfMRI:
    """A recording: EEG and the BOLD signals of regions, one value a volume.

    Attributes
    ----------
    raw : mne.io.Raw
        EEG channels alone, with an annotation at each volume.
    bold : ndarray, shape (n_regions, n_volumes)
        Signals.
    onsets : ndarray, shape (n_volumes,)
        Seconds from the first sample.
    region_names : tuple of str
        Names of the regions.
    marker : str
        Description of the annotations, for the parameter ``tr`` of `BOLDAligner`.
    """

    raw: object
    bold: np.ndarray
    onsets: np.ndarray
    region_names: tuple
    marker: str

    def split(self, test_seconds=60.0, gap=10.0, crop_start=5.0):
        """Split into a beginning to train on and an end of ``test_seconds`` to test on, each an `EEGfMRI`.

        ``gap`` seconds before the end and ``crop_start`` seconds after the first volume are left out.
        """
        start, end = self.onsets[0] + crop_start, self.onsets[-1]
        cut = end - test_seconds
        if cut - gap <= start:
            raise ValueError(f"test_seconds: {test_seconds} s after a gap of {gap} s leave nothing to train on.")
        return self._between(start, cut - gap), self._between(cut, end)

    def _between(self, start, end):
        inside = (self.onsets >= start - 1e-9) & (self.onsets <= end + 1e-9)
        first, last, step = self.onsets[inside][0], self.onsets[inside][-1], 1 / self.raw.info["sfreq"]
        # a sample more at both ends, so that rounding loses no annotation
        raw = self.raw.copy().crop(max(first - step, 0), min(last + step, self.raw.times[-1]))
        return dataclasses.replace(self, raw=raw, bold=self.bold[:, inside], onsets=volume_onsets(raw, self.marker))


def read_cwl(folder, subject="trio1", regions=STRIATUM, atlas=None, smoothing=3.0):
    """Read "eyes open, eyes closed EEG/fMRI with carbon-wire loops" [1]_, pump off, as an `EEGfMRI`.

    The recording has 30 electrodes at 1000 Hz and volumes every 1.95 s. There are three volumes more than triggers; a
    warning says so, and the first ones are paired.

    Parameters
    ----------
    folder : path
        Where the subjects' folders are.
    subject : str
        ``"trio1"`` to ``"trio4"``.
    regions : tuple of str
        Regions by their names in the atlas.
    atlas : tuple (image, names) or None
        Labelled image and the names of its labels 1, 2, ...; None lets nilearn fetch the Harvard-Oxford atlas.
    smoothing : float
        Full width at half maximum of the smoothing in millimetres.

    References
    ----------
    .. [1] van der Meer, J. N., et al. (2016). "Eyes Open - Eyes Closed" EEG/fMRI data set including dedicated "Carbon
       Wire Loop" motion detection channels. Data in Brief, 7, 990-994.
    """
    import mne

    base = Path(folder) / subject / "CWL_Data"
    name = f"{subject}_eoec_in-scan_hpump-off"
    eeg = _one(base / "eeg" / "in-scan", f"{subject}_mrcorrected_eoec_in-scan_hpump-off.set")
    image = _one(base / "mri" / "epi_normalized", f"rwa{name}.nii*")
    motion = np.loadtxt(_one(base / "mri" / "epi_motionparams", f"rp_a{name}.txt"))
    raw = mne.io.read_raw_eeglab(eeg, preload=True, verbose="error")
    raw.drop_channels([channel for channel in raw.ch_names if channel.upper() in _NOT_SCALP])
    onsets = volume_onsets(raw, "mri")
    confounds = np.column_stack([motion, global_signal(image)])
    tr = float(np.median(np.diff(onsets)))
    onsets, bold = match_volumes(onsets, region_signals(image, tr, confounds, regions, atlas, smoothing))
    return EEGfMRI(raw, bold, onsets, tuple(regions), "mri")


def read_noddi(folder, subject="32", regions=STRIATUM, atlas=None, smoothing=3.0):
    """Read the resting EEG-fMRI of Deligianni et al. [1]_ (OSF 94c5t), with derivatives of fMRIPrep, as an `EEGfMRI`.

    The electrocardiogram is regressed out of the EEG. A volume is taken to be measured ``StartTime`` after its trigger,
    the middle of its slices.

    Parameters
    ----------
    folder : path
        Folder that holds, at any depth, the exported EEG (a BrainVision or EEGLAB file with the subject's number in its
        name) and fMRIPrep's ``sub-{subject}`` with images in MNI152NLin2009cAsym, confounds and a JSON file.
    subject : str
        Number of the subject.
    regions, atlas, smoothing
        As in `read_cwl`.

    References
    ----------
    .. [1] Deligianni, F., Centeno, M., Carmichael, D. W., & Clayden, J. D. (2014). Relating resting-state fMRI and EEG
       whole-brain connectomes across frequency bands. Frontiers in Neuroscience, 8, 258.
    """
    import mne
    import pandas

    marker = "Scanner/Scan Start"
    raw = _without_heart(mne.io.read_raw(_find_eeg(folder, subject), preload=True, verbose="error"))
    stem = "*_space-MNI152NLin2009cAsym*_desc-preproc_bold"
    image = _one(folder, f"sub-{subject}{stem}.nii*")
    details = json.loads(_one(folder, f"sub-{subject}{stem}.json").read_text())
    table = pandas.read_csv(_one(folder, f"sub-{subject}_*desc-confounds_*.tsv"), sep="\t")
    missing = {"global_signal", *_MOTION} - set(table)
    if missing:
        raise ValueError(f"folder: the table of confounds has no column {', '.join(sorted(missing))}.")
    confounds = table[["global_signal", *_MOTION]].bfill().to_numpy()
    onsets = volume_onsets(raw, marker)
    tr = float(details.get("RepetitionTime", np.median(np.diff(onsets))))
    onsets, bold = match_volumes(onsets, region_signals(image, tr, confounds, regions, atlas, smoothing))
    start = float(details.get("StartTime", 0.0))
    annotations = raw.annotations.copy()
    annotations.onset[annotations.description == marker] += start
    raw.set_annotations(annotations)
    return EEGfMRI(raw, bold, onsets + start, tuple(regions), marker)


def region_signals(image, tr, confounds=None, regions=STRIATUM, atlas=None, smoothing=3.0):
    """Mean signal of each region of an atlas, (n_regions, n_volumes): smoothed, linear trend and confounds removed.

    ``image`` is a path or an image with four dimensions, in the space of the atlas; ``tr`` the repetition time in
    seconds; ``confounds`` (n_volumes, n_confounds) are regressed out. ``regions``, ``atlas``, ``smoothing`` as in
    `read_cwl`.
    """
    nilearn = _nilearn()
    if atlas is None:
        atlas = nilearn.datasets.fetch_atlas_harvard_oxford(ATLAS)
        names = [name.replace("Ventrical", "Ventricle") for name in atlas.labels if name != "Background"]  # misspelt
        atlas = atlas.maps, names
    labels, names = atlas
    unknown = [region for region in regions if region not in names]
    if unknown:
        raise ValueError(f"regions: {', '.join(unknown)} not in the atlas, which has {', '.join(names)}.")
    masker = nilearn.maskers.NiftiLabelsMasker(
        labels, detrend=True, standardize=False, t_r=tr, high_variance_confounds=False
    )
    signals = masker.fit_transform(nilearn.image.smooth_img(image, smoothing or None), confounds=confounds)
    if signals.shape[1] != len(names):
        raise ValueError(f"atlas: {len(names)} names, but the image gives signals of {signals.shape[1]} labels.")
    return signals[:, [names.index(region) for region in regions]].T.astype(np.float64)


def global_signal(image):
    """Mean over the brain of each volume, (n_volumes,)."""
    nilearn = _nilearn()
    mask = nilearn.masking.compute_epi_mask(nilearn.image.mean_img(image))
    return nilearn.masking.apply_mask(image, mask).mean(axis=1)


def _nilearn():
    """Import nilearn with the parts that are used."""
    try:
        import nilearn
        from nilearn import datasets, image, maskers, masking  # noqa: F401, become attributes of nilearn
    except ImportError as error:
        raise ImportError("Reading fMRI needs nilearn: pip install 'skeeg[bold]'.") from error
    return nilearn


def _without_heart(raw):
    """EEG with the electrocardiogram regressed out, and no other channels."""
    import mne

    heart = [name for name in raw.ch_names if name.upper() in ("ECG", "EKG")]
    if heart:
        raw.set_channel_types(dict.fromkeys(heart, "ecg"), verbose="error")
        raw.set_eeg_reference([], verbose="error")  # as recorded, against FCz
        raw, _ = mne.preprocessing.regress_artifact(raw, picks="eeg", picks_artifact="ecg", proj=False, verbose="error")
    return raw.pick("eeg")


def _find_eeg(folder, subject):
    """Header file of the exported EEG of a subject."""
    for ending in ("vhdr", "set"):
        if any(Path(folder).rglob(f"*{subject}*.{ending}")):
            return _one(folder, f"*{subject}*.{ending}")
    raise FileNotFoundError(f"folder: {folder} holds no .vhdr or .set file with {subject} in its name.")


def _one(folder, pattern):
    """Find the one file of a folder, at any depth, that matches a pattern."""
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"folder: {folder} is not a folder.")
    found = sorted(Path(folder).rglob(pattern))
    if len(found) != 1:
        names = ", ".join(str(path.relative_to(folder)) for path in found[:4]) or "none"
        raise FileNotFoundError(f"folder: expected one file {pattern} in {folder}, found {names}.")
    return found[0]


@dataclasses.dataclass(frozen=True)
class SimulatedBOLD:
    """Simulated EEG and BOLD, and the sources that drive it.

    Attributes
    ----------
    eeg : EEGArray, shape (1, n_channels, n_times)
        Microvolts, against the average of all electrodes.
    bold : ndarray, shape (1, n_regions, n_times)
        Standardised BOLD at the rate of the EEG.
    patterns : ndarray, shape (n_regions, n_channels)
        Topography of the source of each region, unit norm.
    rates : ndarray, shape (n_regions,)
        Centre of its rhythm in hertz.
    envelopes : ndarray, shape (n_regions, n_times)
        Its slow amplitude.
    """

    eeg: EEGArray
    bold: np.ndarray
    patterns: np.ndarray
    rates: np.ndarray
    envelopes: np.ndarray

    def volumes(self, tr=2.0):
        """BOLD as a scanner samples it every ``tr`` seconds, (n_regions, n_volumes), and the times (n_volumes,)."""
        n_times = self.bold.shape[2]
        times = np.arange(0, (n_times - 1) / self.eeg.sfreq + 1e-9, tr)
        grid = np.arange(n_times) / self.eeg.sfreq
        return np.stack([np.interp(times, grid, signal) for signal in self.bold[0]]), times


def simulate_bold(
    n_regions=1,
    duration=600.0,
    sfreq=100.0,
    ch_names=CAP_30,
    bold_noise=0.5,
    n_distractors=3,
    artefacts=True,
    random_state=None,
):
    """Simulate an EEG-fMRI recording, as `SimulatedBOLD`.

    Each region follows the amplitude of one cortical oscillator, through the canonical haemodynamic response. The EEG
    also holds an oscillator of the same rhythm elsewhere for each region, whose amplitude is unrelated, further
    distractors, 1/f background, amplifier noise and, if wanted, blinks and movements.

    Parameters
    ----------
    n_regions : int
        Regions, at most 8.
    duration, sfreq : float
        Seconds, and the sampling rate of the EEG in hertz.
    ch_names : tuple of str
        Electrodes of MNE's ``standard_1005``.
    bold_noise : float
        Standard deviation of the slow noise of the BOLD signal, whose own is 1.
    n_distractors : int
        Oscillators of other rhythms that drive no region.
    artefacts : bool
        Whether there are blinks and movements.
    random_state : int or None
        Seed.

    Examples
    --------
    >>> from skeeg.methods.beira import simulate_bold
    >>> simulated = simulate_bold(2, duration=60, random_state=0)
    >>> simulated.eeg.shape, simulated.bold.shape, simulated.rates.tolist()
    ((1, 30, 6000), (1, 2, 6000), [10.0, 6.0])
    """
    if not 1 <= n_regions <= len(_RATES):
        raise ValueError(f"n_regions: got {n_regions}, expected 1 to {len(_RATES)}.")
    rng = np.random.default_rng(random_state)
    n_times = round(duration * sfreq)
    electrodes = electrode_directions(ch_names)
    rates = np.array(_RATES[:n_regions])
    others = rng.uniform(5, 30, n_distractors)
    all_rates = np.concatenate([rates, rates, others])
    gains = _draw_topographies(rng, electrodes, len(all_rates))
    slow = wander(rng, len(all_rates), n_times, sfreq, spread=0.6)
    waves = np.concatenate([coloured(rng, 1, n_times, sfreq, rhythm(rate, 0.7)) for rate in all_rates])
    eeg = 5.0 * gains @ (slow * waves)
    eeg += _background(rng, electrodes, n_times, sfreq)
    if artefacts:
        eeg += _artefacts(rng, electrodes, n_times, sfreq)
    envelopes = slow[:n_regions]
    bold = zscore(convolve(envelopes, canonical_hrf(sfreq)), axis=1)
    slow_noise = coloured(rng, *bold.shape, sfreq, lambda hertz: one_over_f(30 * hertz) * (hertz < 0.2))
    bold = zscore(bold + bold_noise * slow_noise, axis=1)
    patterns = gains[:, :n_regions].T - gains[:, :n_regions].T.mean(axis=1, keepdims=True)
    eeg -= eeg.mean(axis=0)
    patterns /= np.linalg.norm(patterns, axis=1, keepdims=True)
    data = EEGArray(eeg[None], ch_names, sfreq, make_domains(1, subject="simulated"))
    return SimulatedBOLD(data, bold[None], patterns, rates, envelopes)


def _draw_topographies(rng, electrodes, n_sources):
    """Topographies (n_channels, n_sources) of radial dipoles in the upper half of the head, largest value 1."""
    places = rng.normal(size=(n_sources, 3))
    places[:, 2] = np.abs(places[:, 2])
    places /= np.linalg.norm(places, axis=1, keepdims=True)
    gains = leadfield(electrodes, _DEPTH * places, places)
    return gains / np.abs(gains).max(axis=0)


def _background(rng, electrodes, n_times, sfreq, n_sources=40):
    """Activity of many sources with a 1/f spectrum, and noise of the amplifier."""
    gains = _draw_topographies(rng, electrodes, n_sources)
    noise = 3.0 * gains @ coloured(rng, n_sources, n_times, sfreq, one_over_f) / np.sqrt(n_sources / 10)
    return noise + rng.normal(scale=1.0, size=noise.shape)


def _artefacts(rng, electrodes, n_times, sfreq):
    """Blinks at the front, and short movements that shake all electrodes."""
    blink = np.exp(-0.5 * ((np.arange(round(0.6 * sfreq)) / sfreq - 0.2) / 0.07) ** 2)
    front = np.clip(electrodes[:, 1], 0, None) ** 3
    train = np.zeros(n_times)
    train[rng.integers(n_times, size=max(n_times // round(5 * sfreq), 1))] = 80.0
    total = np.outer(front, fftconvolve(train, blink)[:n_times])
    for start in rng.integers(n_times, size=n_times // round(40 * sfreq)):
        length = min(round(rng.uniform(0.5, 2) * sfreq), n_times - start)
        burst = coloured(rng, 1, length, sfreq, one_over_f) if length > 4 else np.zeros((1, length))
        total[:, start : start + length] += rng.normal(scale=40.0, size=(len(electrodes), 1)) * burst
    return total
