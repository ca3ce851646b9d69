import hashlib
import json
import shutil

import numpy as np
import pytest
import torch
from safetensors import safe_open

from skeeg import EEGArray, MIRepNetClassifier, weights
from skeeg.array import make_domains
from skeeg.cli import main
from skeeg.datasets import SimulatedMotorImagery
from skeeg.methods.mirepnet.preprocessing import MontageTrials
from skeeg.methods.mirepnet.pretraining import plot_curve
from skeeg.montage import MONTAGES as COMMON
from skeeg.montage import TEMPLATES, ChannelTemplate, draw_montages, montage_matrices
from skeeg.training.checkpoints import read_weights
from skeeg.weights import find_weights, locate, weights_names

MONTAGES = {
    3: ("C3", "Cz", "C4"),
    15: tuple("F7 F3 FZ F4 F8 T7 C3 CZ C4 T8 P7 P3 PZ P4 P8".split()),
    22: tuple(COMMON["BNCI2014001"].split()),
    64: (
        *TEMPLATES["mirepnet45"],
        *"FP1 FPZ FP2 AF7 AF3 AFZ AF4 AF8 FT9 FT10 T9 T10 PO7 PO3 POZ PO4 PO8 O1".split(),
        "OZ",
    ),
}


def make_trials(names, n_trials=12, rate=160.0, seed=0):
    """Alpha waves that are weaker over the hemisphere opposite the hand."""
    rng, times = np.random.default_rng(seed), np.arange(round(3 * rate)) / rate
    y = np.resize(["left_hand", "right_hand"], n_trials)
    X = rng.normal(size=(n_trials, len(names), len(times)))
    right = np.array([name[-1] in "02468" for name in names])
    for i, label in enumerate(y):
        weak = right if label == "left_hand" else ~right
        X[i] += np.where(weak, 0.3, 2.0)[:, None] * np.sin(2 * np.pi * 11 * times + rng.uniform(0, 6))
    return EEGArray(X.astype("float32"), names, rate, make_domains(n_trials, subject="a")), y


@pytest.mark.parametrize("name", weights_names())
def test_the_registry_says_what_the_file_says(name):
    entry = find_weights(f"skeeg:{name}")
    with safe_open(locate(name), "pt") as file:
        told = json.loads(file.metadata()["skeeg weights"])
        assert all(file.get_slice(key).get_dtype() in ("F16", "F32", "I64") for key in file.keys())  # noqa: SIM118
    assert (told["network_params"], told["sfreq"]) == (entry.network_params, entry.sfreq)
    assert told["classes"] == list(entry.classes) and told.get("finetuning", {}) == entry.finetuning
    for part in ("data", "licence", "recipe", "date", "scores"):
        assert getattr(entry, part), part
    assert "Schalk" in entry.licence and "ODC-By" in entry.licence


def test_all_files_are_small():
    assert sum(find_weights(name).path.stat().st_size for name in weights_names()) < 20e6


def test_a_name_that_is_not_there_offers_the_nearest():
    X, y = make_trials(MONTAGES[3])
    with pytest.raises(ValueError, match="checkpoint: skeeg:mirepnet-smal does not ship.*nearest is skeeg:mirepnet-sm"):
        MIRepNetClassifier("skeeg:mirepnet-smal").fit(X, y)


def test_a_file_that_was_changed_is_refused(tmp_path, monkeypatch):
    file = find_weights("mirepnet-small").file
    monkeypatch.setattr(weights, "_FOLDER", tmp_path)
    with pytest.raises(ValueError, match="install skeeg again"):
        shutil.copy(weights.__path__[0] + "/" + file, tmp_path / file)
        content = bytearray((tmp_path / file).read_bytes())
        content[-1] ^= 1
        (tmp_path / file).write_bytes(content)
        locate("mirepnet-small")
    (tmp_path / file).unlink()
    with pytest.raises(FileNotFoundError, match="missing from this installation"):
        locate("mirepnet-small")


@pytest.mark.parametrize("n_channels", MONTAGES)
def test_one_line_on_any_montage(n_channels):
    X, y = make_trials(MONTAGES[n_channels])
    assert X.shape[1] == n_channels
    clf = MIRepNetClassifier("skeeg:mirepnet-small", max_epochs=1, device="cpu", random_state=0).fit(X, y)
    assert clf.predict(X).shape == (12,) and clf.rate_ == find_weights("mirepnet-small").sfreq
    assert "missing" not in clf.checkpoint_report_


def test_known_classes_are_decoded_without_any_training():
    X, y = make_trials(MONTAGES[15], 40)
    clf = MIRepNetClassifier("skeeg:mirepnet-small", strategy="head", learning_rate=0.0, max_epochs=1, device="cpu")
    assert clf.fit(X, y).score(*make_trials(MONTAGES[15], 40, seed=1)) > 0.8


def test_what_does_not_suit_the_weights_is_said():
    X, y = make_trials(MONTAGES[3])
    quick = {"max_epochs": 1, "device": "cpu", "random_state": 0}
    with pytest.warns(UserWarning, match="the weights have outputs for .*; those for 'feet' start at random"):
        MIRepNetClassifier("skeeg:mirepnet-small", **quick).fit(X, np.where(y == "left_hand", "feet", y))
    far = EEGArray(np.asarray(X), ("O1", "O2", "Cz"), 160.0)
    with pytest.warns(UserWarning, match="ch_names: fewer than two of O1, O2, Cz lie near"):
        MIRepNetClassifier("skeeg:mirepnet-small", **quick).fit(far, y)


def test_montages_are_of_those_electrodes_and_among_them_common_ones():
    names, rng = TEMPLATES["mirepnet45"], np.random.default_rng(0)
    montages = draw_montages(names, 200, rng)
    assert len(montages[0]) == 45 and all(2 <= len(set(one)) == len(one) for one in montages)
    sizes = np.array([len(one) for one in montages])
    assert sum(tuple(names[i] for i in one) == ("C3", "Cz", "C4") for one in montages) > 5
    assert (sizes < 8).sum() > 30 and (sizes > 30).sum() > 10
    assert [len(one) for one in draw_montages(("Cz",), 3, rng)] == [1, 1, 1]


def test_each_montage_is_aligned_and_interpolated_by_itself():
    X, _ = make_trials(MONTAGES[15], 20)
    groups = np.repeat([0, 1], 10)
    matrices = montage_matrices(X, groups, 6, "mirepnet45", np.random.default_rng(1))
    assert matrices.shape == (2, 6, 45, 15)
    covariance = np.mean([np.cov(trial) for trial in np.asarray(X[:10], dtype=float)], axis=0)
    values, vectors = np.linalg.eigh(covariance)
    whitener = vectors / np.sqrt(values) @ vectors.T
    step = ChannelTemplate("mirepnet45", "inverse_distance").fit(X)
    np.testing.assert_allclose(matrices[0, 0], step.matrix_ @ whitener, rtol=1e-3, atol=1e-5)
    for matrix in matrices[1]:  # electrodes that are left out do not enter
        used = np.abs(matrix).sum(axis=0) > 0
        assert 2 <= used.sum() <= 15 and (matrix[:, used] != 0).any()


def test_crops_and_balance():
    import torch

    X = np.arange(4 * 50, dtype="float32").reshape(4, 1, 50)
    matrices = np.ones((1, 1, 2, 1), dtype="float32")
    trials = MontageTrials(X, [0, 0, 0, 1], [0, 0, 0, 0], matrices, 40, np.array([1, 1, 1, 3]) / 6)
    torch.manual_seed(0)
    batch, y = trials.take(torch.tensor([0, 3] * 30))
    assert batch.shape == (60, 2, 40) and y.tolist() == [0, 1] * 30
    assert set((batch[:, 0, 0] % 50).int().tolist()) == set(range(11))  # every start, and nothing beyond the end
    assert (batch.diff(dim=2) == 1).all()
    drawn = torch.cat([one for _ in range(200) for one in trials.draw(4, shuffle=True)])
    assert 0.4 < (drawn == 3).float().mean() < 0.6


def test_the_advice_of_the_weights_is_followed_and_can_be_overruled():
    X, y = make_trials(MONTAGES[3])
    clf = MIRepNetClassifier("skeeg:mirepnet-small", max_epochs=1, device="cpu", random_state=0).fit(X, y)
    recipe, advised = clf._recipe(), find_weights("mirepnet-small").finetuning
    assert recipe.time_shift == advised["time_shift"] > 0 and recipe.learning_rate == advised["learning_rate"]
    assert recipe.max_epochs == clf.n_iter_ == 1
    assert MIRepNetClassifier()._recipe().time_shift == 0


def test_weights_of_recordings_of_ones_own(tmp_path, capsys):
    simulated = SimulatedMotorImagery(n_subjects=2, n_sessions=1, n_runs=1, n_trials=10)
    for subject in (1, 2):
        (tmp_path / "data").mkdir(exist_ok=True)
        raw = simulated.get_data([subject])[subject]["0"]["0"]
        raw.save(tmp_path / "data" / f"s{subject}_raw.fif", verbose="error")
    out = tmp_path / "out"
    command = ["pretrain", "--data", str(tmp_path / "data"), "--out", str(out), "--device", "cpu", "--quiet"]
    assert main([*command, "--epochs", "1", "--held-out", "0.5"]) == 0
    assert "2 subjects, 20 trials: train_acc" in capsys.readouterr().out
    card = json.loads((out / "card.json").read_text())
    assert card["sha256"] == hashlib.sha256((out / "weights.safetensors").read_bytes()).hexdigest()
    assert card["classes"] == ["left_hand", "right_hand"] and set(card["scores"]) == {"train_acc", "valid_acc"}
    assert (out / "curve.png").stat().st_size > 1000
    X, y = make_trials(MONTAGES[3])
    clf = MIRepNetClassifier(str(out / "weights.safetensors"), max_epochs=1, device="cpu", random_state=0).fit(X, y)
    assert "missing" not in clf.checkpoint_report_ and clf._recipe().time_shift == card["finetuning"]["time_shift"]
    before, _ = read_weights(out / "weights.safetensors")
    assert main([*command, "--epochs", "1", "--held-out", "0.5"]) == 0  # nothing is left to train
    after, _ = read_weights(out / "weights.safetensors")  # the file's bytes differ: its header has no order
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert main([*command, "--held-out", "1.5"]) == 2 and "--held-out: got 1.5" in capsys.readouterr().err


def test_the_curve_of_an_interrupted_pretraining(tmp_path):
    whole = {"train_acc": 0.5, "valid_acc": 0.4, "valid_by_subject": {"1": {"acc": 0.4}}}
    for history in ([whole, {"train_loss": 1.0}], [{"train_loss": 1.0}]):
        plot_curve(history, tmp_path / "curve.png")
        assert (tmp_path / "curve.png").stat().st_size > 1000
