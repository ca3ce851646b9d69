"""Readers, on small files in the formats of the two collections; nilearn is stood in for where it is absent."""

import json
import struct
import sys
import types

import numpy as np
import pytest
import scipy.io

from skeeg.methods.beira import BandPowerRidge, BOLDAligner
from skeeg.methods.beira.datasets import read_cwl, read_noddi, region_signals

TR, SFREQ, N_VOLUMES = 2.0, 100.0, 60
NAMES = ["Left Lateral Ventrical", "Left Caudate", "Right Caudate"]  # as nilearn spells them
REGIONS = ("Right Caudate", "Left Caudate")


def write_nifti(path, data):
    """Single-file NIfTI-1 of float32 with voxels of 2 mm."""
    shape = data.shape + (1,) * (7 - data.ndim)
    header = struct.pack("<i36x8h14x2hh8fffh2x", 348, data.ndim, *shape, 16, 32, 0, 1, 2, 2, 2, TR, 0, 0, 0, 352, 1, 0)
    header = header.ljust(252, b"\0") + struct.pack("<2h6f", 0, 1, *(0,) * 6)
    header += np.hstack([2 * np.eye(3), np.zeros((3, 1))]).astype("<f4").tobytes()
    path.write_bytes(header.ljust(344, b"\0") + b"n+1\0" + b"\0" * 4 + data.astype("<f4").tobytes(order="F"))


def read_nifti(path):
    blob = path.read_bytes()
    dim = struct.unpack("<8h", blob[40:56])
    return np.frombuffer(blob[352:], "<f4").reshape(dim[1 : dim[0] + 1], order="F")


def labels():
    image = np.zeros((6, 6, 6))
    image[1:3, 1:5, 1:5], image[3, 1:5, 1:5], image[4, 1:5, 1:5] = 1, 2, 3
    return image


def images(n_volumes, seed=0):
    """Volumes whose regions follow known signals."""
    random = np.random.default_rng(seed)
    signals = np.cumsum(random.normal(size=(3, n_volumes)), axis=1)
    data = 100 + 0.01 * random.normal(size=(6, 6, 6, n_volumes))
    for region in range(3):
        data[labels() == region + 1] += signals[region]
    return data, signals


class Masker:
    """What `NiftiLabelsMasker` does, for arrays."""

    def __init__(self, labels_img, detrend, standardize, t_r, high_variance_confounds):
        assert detrend and not standardize and not high_variance_confounds and t_r == TR
        self.labels_img = labels_img

    def fit_transform(self, image, confounds=None):
        rows = np.stack([image[self.labels_img == label].mean(axis=0) for label in np.unique(self.labels_img)[1:]]).T
        drift = np.column_stack([np.ones(len(rows)), np.arange(len(rows))])
        drift = drift if confounds is None else np.column_stack([drift, confounds])
        return rows - drift @ np.linalg.lstsq(drift, rows, rcond=None)[0]


@pytest.fixture
def nilearn(monkeypatch):
    """Modules with the few functions of nilearn that are called."""
    package = types.ModuleType("nilearn")
    monkeypatch.setitem(sys.modules, "nilearn", package)
    for name in ("datasets", "image", "maskers", "masking"):
        setattr(package, name, types.ModuleType(f"nilearn.{name}"))
        monkeypatch.setitem(sys.modules, f"nilearn.{name}", getattr(package, name))
    atlas = types.SimpleNamespace(maps=labels(), labels=["Background", *NAMES])
    package.datasets.fetch_atlas_harvard_oxford = {"sub-maxprob-thr25-2mm": atlas}.__getitem__
    package.image.smooth_img = lambda image, fwhm: read_nifti(image)
    package.image.mean_img = lambda image: read_nifti(image).mean(axis=3)
    package.masking.compute_epi_mask = lambda image: np.ones(image.shape, dtype=bool)
    package.masking.apply_mask = lambda image, mask: read_nifti(image)[mask].T
    package.maskers.NiftiLabelsMasker = Masker
    return package


def write_eeglab(path, names, data, onsets):
    events = np.array(
        [("mri", onset * SFREQ + 1, 0.0) for onset in onsets],
        dtype=[("type", object), ("latency", float), ("duration", float)],
    )
    places = np.array([(name,) for name in names], dtype=[("labels", object)])
    eeg = {"data": data, "nbchan": len(names), "pnts": data.shape[1], "trials": 1, "srate": SFREQ, "xmin": 0.0,
           "event": events, "chanlocs": places, "icawinv": [], "icaweights": [], "icasphere": [], "setname": "x",
           "epoch": [], "ref": "common"}  # fmt: skip
    scipy.io.savemat(path, {"EEG": eeg}, appendmat=False)


def cwl(folder, n_volumes=N_VOLUMES + 3, subject="trio2"):
    """Folder of one subject, with three volumes more than triggers."""
    base, name = folder / subject / "CWL_Data", f"{subject}_eoec_in-scan_hpump-off"
    for place in ("eeg/in-scan", "mri/epi_normalized", "mri/epi_motionparams"):
        (base / place).mkdir(parents=True)
    names = ["Fz", "Cz", "Pz", "Oz", "EOG", "ECG", *(f"CW{i}" for i in range(1, 7))]
    random = np.random.default_rng(0)
    eeg = random.normal(scale=10, size=(len(names), round((N_VOLUMES * TR + 8) * SFREQ)))
    onsets = 3 + TR * np.arange(N_VOLUMES)
    write_eeglab(base / f"eeg/in-scan/{subject}_mrcorrected_eoec_in-scan_hpump-off.set", names, eeg, onsets)
    data, signals = images(n_volumes)
    write_nifti(base / f"mri/epi_normalized/rwa{name}.nii", data)
    motion = random.normal(size=(n_volumes, 6))
    lines = ["  ".join(f"{value:.8e}" for value in row) for row in motion]
    (base / f"mri/epi_motionparams/rp_a{name}.txt").write_text("\n".join(lines))
    return eeg, data, motion, signals


def noddi(folder):
    import pybv

    random = np.random.default_rng(0)
    heart = random.normal(scale=50, size=round((N_VOLUMES * TR + 6) * SFREQ))
    eeg = random.normal(scale=5, size=(4, len(heart))) + np.array([[1.0], [0.5], [0.2], [-1.0]]) * heart
    (folder / "export").mkdir()
    events = [
        {"onset": round((1 + TR * i) * SFREQ), "duration": 1, "description": "Scan Start", "type": "Comment"}
        for i in range(N_VOLUMES)
    ]
    data = np.vstack([eeg, heart]) * 1e-6
    pybv.write_brainvision(
        data=data, sfreq=SFREQ, ch_names=["Fz", "Cz", "Pz", "Oz", "ECG"], fname_base="sub-32_rest",
        folder_out=folder / "export", events=events, unit="µV",
    )  # fmt: skip
    markers = folder / "export" / "sub-32_rest.vmrk"
    markers.write_text(markers.read_text().replace("Comment,Scan Start", "Scanner,Scan Start"))
    place = folder / "derivatives" / "sub-32" / "func"
    place.mkdir(parents=True)
    stem = "sub-32_task-rest"
    image, signals = images(N_VOLUMES)
    write_nifti(place / f"{stem}_space-MNI152NLin2009cAsym_res-2_desc-preproc_bold.nii", image)
    details = {"RepetitionTime": TR, "StartTime": 0.5}
    (place / f"{stem}_space-MNI152NLin2009cAsym_res-2_desc-preproc_bold.json").write_text(json.dumps(details))
    columns = ["global_signal", "trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z", "csf"]
    table = random.normal(size=(N_VOLUMES, len(columns)))
    rows = ["\t".join(columns), *("\t".join(map(str, row)) for row in table)]
    (place / f"{stem}_desc-confounds_timeseries.tsv").write_text("\n".join(rows))
    return heart, table, signals


def residual(signals, confounds):
    design = np.column_stack([np.ones(len(confounds)), np.arange(len(confounds)), confounds])
    return signals - (design @ np.linalg.lstsq(design, signals.T, rcond=None)[0]).T


def test_cwl_gives_scalp_electrodes_volumes_and_regions(tmp_path, nilearn):
    eeg, data, motion, signals = cwl(tmp_path)
    with pytest.warns(UserWarning, match="63 volumes for 60 triggers; the first 60 of both are paired"):
        recording = read_cwl(tmp_path, "trio2", regions=REGIONS)
    assert recording.raw.ch_names == ["Fz", "Cz", "Pz", "Oz"]
    np.testing.assert_allclose(recording.raw.get_data() * 1e6, eeg[:4], atol=1e-6)
    np.testing.assert_allclose(recording.onsets, 3 + TR * np.arange(N_VOLUMES), atol=0.011)
    confounds = np.column_stack([motion, data.reshape(-1, data.shape[3]).mean(axis=0)])
    expected = residual(signals[[2, 1]], confounds)[:, :N_VOLUMES]
    for one, other in zip(recording.bold, expected, strict=True):
        assert np.corrcoef(one, other)[0, 1] > 0.99
    assert recording.region_names == REGIONS


def test_noddi_takes_the_heart_out_of_the_eeg(tmp_path, nilearn):
    heart, table, signals = noddi(tmp_path)
    recording = read_noddi(tmp_path, "32", regions=REGIONS)
    assert recording.raw.ch_names == ["Fz", "Cz", "Pz", "Oz"]
    for channel in recording.raw.get_data():
        assert abs(np.corrcoef(channel, heart)[0, 1]) < 0.01
    np.testing.assert_allclose(recording.onsets, 1.5 + TR * np.arange(N_VOLUMES), atol=0.011)
    expected = residual(signals[[2, 1]], table[:, :7])
    for one, other in zip(recording.bold, expected, strict=True):
        assert np.corrcoef(one, other)[0, 1] > 0.99


def test_a_recording_splits_into_two_with_clocks_of_their_own(tmp_path, nilearn):
    cwl(tmp_path, N_VOLUMES)
    whole = read_cwl(tmp_path, "trio2", regions=REGIONS)
    training, test = whole.split(test_seconds=40.0, gap=10.0, crop_start=5.0)
    assert training.bold.shape[1] == 32  # volumes from 9 s to 71 s of 121 s
    assert test.bold.shape[1] == 21
    np.testing.assert_array_equal(test.bold, whole.bold[:, -21:])
    start = whole.onsets[-21]
    sample = round(start * SFREQ) - 1
    np.testing.assert_allclose(test.raw.get_data()[:, :500], whole.raw.get_data()[:, sample : sample + 500])
    np.testing.assert_allclose(test.onsets, TR * np.arange(21), atol=0.02)
    aligner = BOLDAligner(BandPowerRidge(), delay=4.0, tr=whole.marker).fit([training.raw], [training.bold])
    assert aligner.predict([test.raw])[0].shape == test.bold.shape
    assert np.isfinite(aligner.score([test.raw], [test.bold]))


def test_a_split_longer_than_the_recording_is_refused(tmp_path, nilearn):
    cwl(tmp_path, N_VOLUMES)
    recording = read_cwl(tmp_path, "trio2", regions=REGIONS)
    with pytest.raises(ValueError, match="test_seconds: 200.0 s after a gap of 10.0 s leave nothing to train on"):
        recording.split(200.0)


def test_missing_files_and_regions_are_named(tmp_path, nilearn):
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        read_cwl(tmp_path, "trio1")
    with pytest.raises(FileNotFoundError, match="no .vhdr or .set file with 32 in its name"):
        read_noddi(tmp_path)
    cwl(tmp_path, N_VOLUMES)
    with pytest.raises(
        ValueError, match="regions: Left Cortex not in the atlas, which has Left Lateral Ventricle, Left"
    ):
        read_cwl(tmp_path, "trio2", regions=("Left Cortex",))
    (tmp_path / "trio2/CWL_Data/mri/epi_normalized/rwatrio2_eoec_in-scan_hpump-off.nii").unlink()
    with pytest.raises(FileNotFoundError, match="expected one file rwatrio2_.*, found none"):
        read_cwl(tmp_path, "trio2")


def test_what_is_missing_without_nilearn_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nilearn", None)
    with pytest.raises(ImportError, match=r"pip install 'skeeg\[bold\]'"):
        region_signals(tmp_path / "image.nii", TR)


def test_nilearn_itself_gives_the_regions(tmp_path):
    pytest.importorskip("nilearn")
    import nilearn.image

    data, signals = images(N_VOLUMES)
    write_nifti(tmp_path / "image.nii", data)
    write_nifti(tmp_path / "atlas.nii", labels())
    atlas = nilearn.image.load_img(str(tmp_path / "atlas.nii")), NAMES
    bold = region_signals(str(tmp_path / "image.nii"), TR, None, REGIONS, atlas, smoothing=None)
    for one, other in zip(bold, residual(signals[[2, 1]], np.zeros((N_VOLUMES, 0))), strict=True):
        assert np.corrcoef(one, other)[0, 1] > 0.99
