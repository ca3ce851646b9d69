"""Readers of the two public collections of simultaneous EEG and fMRI that BEIRA was developed on.

EEG is read by MNE; regional BOLD signals are extracted by nilearn, which comes with the extra ``skeeg[bold]``.
"""

import dataclasses
import json
from pathlib import Path

import numpy as np

from .bold import match_volumes, volume_onsets

STRIATUM = ("Left Pallidum", "Left Caudate", "Left Putamen", "Left Accumbens",
            "Right Pallidum", "Right Caudate", "Right Putamen", "Right Accumbens")  # fmt: skip
"""Regions of the published networks, by their names in the Harvard-Oxford atlas, in the published order."""
ATLAS = "sub-maxprob-thr25-2mm"
_MOTION = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
_NOT_SCALP = {"EOG", "ECG", *(f"CW{wire}" for wire in range(1, 7))}


@dataclasses.dataclass(frozen=True)
class EEGfMRI:
    """One recording: EEG and the BOLD signals of regions, one value a volume.

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

    def clean(self, band=(1.0, 100.0), line=50.0):
        """Filter and re-reference the EEG as published, in place: line noise, band, average of all electrodes.

        Parameters
        ----------
        band : tuple of float
            Lower and upper edge in hertz.
        line : float
            Frequency of the power line; its multiples are filtered out too.

        Returns
        -------
        recording : EEGfMRI
            The same recording.
        """
        half = self.raw.info["sfreq"] / 2
        lines = np.arange(line, half, line)
        if len(lines):
            self.raw.load_data().notch_filter(lines, verbose="error")
        self.raw.load_data().filter(band[0], min(band[1], half - 1) if band[1] < half else None, verbose="error")
        self.raw.set_eeg_reference("average", projection=False, verbose="error")
        return self

    def split(self, test_seconds=60.0, gap=10.0, crop_start=5.0):
        """Cut into a beginning to train on and an end to test on, each with its own EEG, volumes and clock.

        Parameters
        ----------
        test_seconds : float
            Length of the end.
        gap : float
            Seconds before it that belong to neither.
        crop_start : float
            Seconds after the first volume that belong to neither.

        Returns
        -------
        training, test : EEGfMRI
            Copies.
        """
        start, end = self.onsets[0] + crop_start, self.onsets[-1]
        cut = end - test_seconds
        if cut - gap <= start:
            raise ValueError(
                f"test_seconds: {test_seconds} s after a gap of {gap} s leave nothing to train on of the "
                f"{end - start:.1f} s between the first and the last volume."
            )
        return self._between(start, cut - gap), self._between(cut, end)

    def _between(self, start, end):
        inside = (self.onsets >= start - 1e-9) & (self.onsets <= end + 1e-9)
        first, last, step = self.onsets[inside][0], self.onsets[inside][-1], 1 / self.raw.info["sfreq"]
        # a sample more at both ends, so that rounding loses no annotation
        raw = self.raw.copy().crop(max(first - step, 0), min(last + step, self.raw.times[-1]))
        return dataclasses.replace(self, raw=raw, bold=self.bold[:, inside], onsets=volume_onsets(raw, self.marker))


def read_cwl(folder, subject="trio1", regions=STRIATUM, atlas=None, smoothing=3.0):
    """Read "eyes open, eyes closed EEG/fMRI with carbon-wire loops" (van der Meer et al., 2016).

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

    Returns
    -------
    recording : EEGfMRI
        The recording in the scanner with the helium pump off: 30 electrodes at 1000 Hz, volumes every 1.95 s. There are
        three volumes more than triggers; a warning says so, and the first ones are paired.

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
    """Read the resting EEG-fMRI of Deligianni et al. (OSF 94c5t), with derivatives of fMRIPrep.

    Parameters
    ----------
    folder : path
        Folder that holds, at any depth, the exported EEG (a BrainVision or EEGLAB file with the subject's number in its
        name) and fMRIPrep's ``sub-{subject}`` with images in MNI152NLin2009cAsym, confounds and a JSON file.
    subject : str
        Number of the subject.
    regions, atlas, smoothing
        As in `read_cwl`.

    Returns
    -------
    recording : EEGfMRI
        The electrocardiogram is regressed out of the EEG. A volume is taken to be measured ``StartTime`` after its
        trigger, the middle of its slices.

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
    """Mean signal of each region of an atlas: smoothed, linear trend and confounds removed.

    Parameters
    ----------
    image : path or image
        Four-dimensional, in the space of the atlas.
    tr : float
        Repetition time in seconds.
    confounds : ndarray, shape (n_volumes, n_confounds), or None
        Signals to regress out.
    regions, atlas, smoothing
        As in `read_cwl`.

    Returns
    -------
    bold : ndarray, shape (n_regions, n_volumes)
        Signals, in the order of `regions`.
    """
    nilearn = _nilearn()
    labels, names = _fetch_atlas(nilearn) if atlas is None else atlas
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
        import nilearn.datasets
        import nilearn.image
        import nilearn.maskers
        import nilearn.masking
    except ImportError as error:
        raise ImportError(
            "Reading fMRI needs nilearn, which comes with an extra of skeeg: pip install 'skeeg[bold]'."
        ) from error
    return nilearn


def _fetch_atlas(nilearn):
    """Image and names of the Harvard-Oxford atlas; nilearn misspells a ventricle."""
    atlas = nilearn.datasets.fetch_atlas_harvard_oxford(ATLAS)
    return atlas.maps, [name.replace("Ventrical", "Ventricle") for name in atlas.labels if name != "Background"]


def _without_heart(raw):
    """EEG with the electrocardiogram regressed out, and no other channels."""
    import mne

    heart = [name for name in raw.ch_names if name.upper() in ("ECG", "EKG")]
    if heart:
        raw.set_channel_types(dict.fromkeys(heart, "ecg"), verbose="error")
        raw.set_eeg_reference([], verbose="error")  # as recorded, against FCz; MNE wants to be told
        raw, _ = mne.preprocessing.regress_artifact(raw, picks="eeg", picks_artifact="ecg", proj=False, verbose="error")
    return raw.pick("eeg")


def _find_eeg(folder, subject):
    """Header file of the exported EEG of a subject."""
    for ending in ("vhdr", "set"):
        found = sorted(Path(folder).rglob(f"*{subject}*.{ending}"))
        if found:
            return _one(folder, f"*{subject}*.{ending}")
    raise FileNotFoundError(f"folder: {folder} holds no .vhdr or .set file with {subject} in its name.")


def _one(folder, pattern):
    """Find the one file of a folder, at any depth, whose name fits."""
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"folder: {folder} is not a folder.")
    found = sorted(Path(folder).rglob(pattern))
    if len(found) != 1:
        names = ", ".join(str(path.relative_to(folder)) for path in found[:4]) or "none"
        raise FileNotFoundError(f"folder: expected one file {pattern} in {folder}, found {names}.")
    return found[0]
