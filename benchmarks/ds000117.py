"""EEG to MEG on simultaneous recordings: OpenNeuro ds000117 (Wakeman and Henson, 2015).

Sixteen subjects with 70 electrodes and 306 MEG sensors, six runs each. The folder contains ``sub-01`` and so on;
nothing is downloaded::

    python benchmarks/ds000117.py --folder ds000117/derivatives/meg_derivatives --windows windows --model unet

Differences from the published recipe: EOG, ECG and the unused channel are not EEG channels; recordings keep their
sensor positions and are resampled after a low-pass filter instead of averaging five samples; a window has consecutive
samples; all statistics are computed on training subjects. Training reads batches from disk.
"""

import argparse
from pathlib import Path

import mne
import numpy as np

from skeeg import EEGToMEG
from skeeg.methods.eeg2meg import retype_wakeman_henson
from skeeg.methods.eeg2meg.sensors import describe

SFREQ, SECONDS = 220.0, 1.25


def read_run(path):
    """Read one run: corrected channel types, 0.5 to 90 Hz, 220 Hz."""
    raw = mne.io.read_raw_fif(path, preload=True, verbose="error")
    retype_wakeman_henson(raw)
    raw.pick(["meg", "eeg"], exclude="bads").set_eeg_reference("average", projection=False, verbose="error")
    return raw.filter(0.5, 90.0, verbose="error").resample(SFREQ, verbose="error")


def windows_of(raw):
    """EEG in microvolts and MEG in SI units, cut into windows."""
    epochs = mne.make_fixed_length_epochs(raw, SECONDS, proj=False, preload=True, verbose="error")
    eeg, meg = (epochs.get_data(picks=list(describe(raw.info, kind)["names"])) for kind in ("eeg", "meg"))
    return eeg * 1e6, meg


def write(folder, files):
    """Write the windows of all training runs, one run in memory at a time; give the runs and the first one's Info."""
    folder.mkdir(parents=True, exist_ok=True)
    runs, info = [], None
    for path in files:
        raw = read_run(path)
        info = raw.info if info is None else info
        if raw.ch_names != info["ch_names"]:
            print(f"{path.name}: good channels differ from those of the first run, excluded")
            continue
        run = folder / f"{subject_of(path)}_{path.stem}"
        for kind, data in zip(("eeg", "meg"), windows_of(raw), strict=True):
            np.save(f"{run}_{kind}.npy", data.astype(np.float32))
        runs.append((run, subject_of(path)))
        print(f"{path.name}: {len(data)} windows")
    return runs, info


def subject_of(path):
    """Part of the path that starts with ``sub-``."""
    return next(part for part in path.parts if part.startswith("sub-"))


def main():
    """Train on all but the last two subjects, test on these."""
    parser = argparse.ArgumentParser(description="EEG to MEG on ds000117")
    parser.add_argument("--folder", required=True, help="folder with sub-01, sub-02, ... and their .fif runs")
    parser.add_argument("--windows", default="ds000117-windows", help="folder for the windows")
    parser.add_argument("--model", default="ridge", choices=["ridge", "unet", "transformer"])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    files = sorted(Path(arguments.folder).rglob("sub-*/**/*.fif"))
    subjects = sorted({subject_of(path) for path in files})
    if len(subjects) < 4:
        raise SystemExit(f"{arguments.folder}: recordings of {len(subjects)} subjects, at least 4 are needed.")
    test = subjects[-2:]
    runs, info = write(Path(arguments.windows), [path for path in files if subject_of(path) not in test])
    virtual = EEGToMEG(
        arguments.model, sfreq=SFREQ, max_epochs=arguments.epochs, device=arguments.device, verbose=1, random_state=0
    )
    eeg, meg = ([np.load(f"{run}_{kind}.npy", mmap_mode="r") for run, _ in runs] for kind in ("eeg", "meg"))
    virtual.fit_runs(eeg, meg, [subject for _, subject in runs], geometry=info)
    virtual.save(Path(arguments.windows) / "virtual.safetensors")
    for path in (path for path in files if subject_of(path) in test):
        X, Y = windows_of(read_run(path))
        if (X.shape[1], Y.shape[1]) != (eeg[0].shape[1], meg[0].shape[1]):
            print(f"{path.name}: good channels differ from those in training, excluded")
            continue
        mixed = np.random.default_rng(0).permutation(len(Y))
        kinds = virtual.score_per_type(X, Y)
        shown = ", ".join(f"{kind} r {r:.3f}" for kind, r in kinds.items())
        print(f"{path.name}: {shown}, shuffled pairs {virtual.score(X, Y[mixed]):.3f}", flush=True)


if __name__ == "__main__":
    main()
