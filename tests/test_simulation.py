"""The simulation: what it promises about its truth is measured in its signals."""

import numpy as np
import pytest
from mne.channels import make_standard_montage
from scipy.signal import butter, sosfiltfilt, welch
from scipy.stats import spearmanr
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline

from skeeg.datasets import MotorSimulation
from skeeg.datasets.simulation import motor
from skeeg.datasets.simulation.head import electrode_directions, leadfield
from skeeg.datasets.simulation.motor import CAP_22, TRIAL_SECONDS
from skeeg.datasets.simulation.signals import broadband, coloured, one_over_f, rhythm, wander
from skeeg.spatial import CSP

MOTOR = ("FC3", "C3", "CP3", "Cz", "FC4", "C4", "CP4")


def band_power(data, sfreq, band):
    """Log power in a band, over the last axis."""
    frequencies, power = welch(data, sfreq, nperseg=min(data.shape[-1], int(2 * sfreq)))
    inside = (frequencies >= band[0]) & (frequencies <= band[1])
    return np.log(power[..., inside].mean(axis=-1))


def trials(simulation, subject, start, stop, n_runs=1):
    """Trials (n, channels, times) from start to stop seconds after the cue, and their labels."""
    cut, labels = [], []
    for run in range(n_runs):
        data, onsets, names = simulation.run(subject, 0, run)
        length = int((stop - start) * simulation.sfreq)
        first = np.round((onsets + start) * simulation.sfreq).astype(int)
        cut += [data[:, i : i + length] for i in first]
        labels += list(names)
    return np.array(cut), np.array(labels)


def able_subject(simulation, n=12):
    """Subject with the deepest desynchronisation of the first few."""
    return max(range(1, n), key=lambda subject: simulation.truth(subject).depth)


def t_value(power, labels):
    """Right-hand minus left-hand trials, in standard errors."""
    right, left = power[labels == "right_hand"], power[labels == "left_hand"]
    return (right.mean(0) - left.mean(0)) / np.sqrt(right.var(0) / len(right) + left.var(0) / len(left))


def test_same_seed_same_bits_other_seed_other_data():
    simulation = MotorSimulation(n_trials=4, ch_names=MOTOR)
    data, onsets, labels = simulation.run(3, 1, 0)
    motor.session_state.cache_clear()
    again, onsets_again, labels_again = MotorSimulation(n_trials=4, ch_names=MOTOR).run(3, 1, 0)
    assert data.tobytes() == again.tobytes()
    assert onsets.tobytes() == onsets_again.tobytes() and labels.tolist() == labels_again.tolist()
    other, _, _ = MotorSimulation(n_trials=4, ch_names=MOTOR, seed=1).run(3, 1, 0)
    assert not np.array_equal(data[:, :500], other[:, :500])


@pytest.mark.parametrize("which", [(2, 0, 0), (1, 1, 0), (1, 0, 1)])
def test_subjects_sessions_and_runs_differ(which):
    simulation = MotorSimulation(n_trials=2, ch_names=MOTOR)
    assert not np.array_equal(simulation.run(1, 0, 0)[0][:, :500], simulation.run(*which)[0][:, :500])


def test_labels_are_balanced_and_trials_apart():
    data, onsets, labels = MotorSimulation(n_trials=9, classes=("left_hand", "feet", "rest"), ch_names=("Cz",)).run(
        1, 0, 0
    )
    assert np.unique(labels, return_counts=True)[1].tolist() == [3, 3, 3]
    assert np.diff(onsets).min() > TRIAL_SECONDS + 2
    assert onsets[0] > 2 and data.shape[1] / 128 > onsets[-1] + TRIAL_SECONDS + 1.9


def test_microvolts_with_the_spectrum_of_eeg():
    data, _, _ = MotorSimulation(n_trials=16).run(2, 0, 0)
    assert 8 < np.median(data.std(axis=1)) < 60
    slow, fast = band_power(data, 128.0, (2, 4)), band_power(data, 128.0, (32, 45))
    assert ((slow - fast) > np.log(4)).all()
    assert np.abs(data / 0.01 - np.round(data / 0.01)).max() < 1e-6  # the converter's steps


@pytest.mark.parametrize("task", ["imagery", "execution"])
def test_rhythms_weaken_opposite_the_hand_in_the_true_band_and_window(task):
    simulation = MotorSimulation(task=task, n_trials=40, ch_names=MOTOR, noise=0.5)
    subject = able_subject(simulation)
    truth = simulation.truth(subject)
    inside, labels = trials(simulation, subject, truth.window[0] + 0.3, truth.window[1], n_runs=2)
    band = max(truth.bands.items(), key=lambda item: np.ptp(t_value(band_power(inside, 128.0, item[1]), labels)))[1]
    t = dict(zip(MOTOR, t_value(band_power(inside, 128.0, band), labels), strict=True))
    assert t["C3"] < -4 and t["C4"] > 4  # the right hand weakens the left side
    before, _ = trials(simulation, subject, -1.5, 0, n_runs=2)
    assert np.abs(t_value(band_power(before, 128.0, band), labels)).max() < 3.5
    assert np.abs(t_value(band_power(inside, 128.0, (36, 46)), labels)).max() < 3.5


def test_execution_is_stronger_and_broader_in_the_same_subjects():
    imagery, execution = MotorSimulation(n_trials=20), MotorSimulation(task="execution", n_trials=20)
    depths = np.array([[one.truth(k).depth for one in (imagery, execution)] for k in range(1, 9)])
    assert depths[:, 1].mean() > depths[:, 0].mean() and depths[:, 1].min() > 0.15
    a, b = imagery.truth(2), execution.truth(2)
    assert set(a.patterns) < set(b.patterns) and set(a.bands) < set(b.bands) and b.window[0] < a.window[0]
    np.testing.assert_array_equal(a.patterns["M1_left"], b.patterns["M1_left"])  # same head, same cap


def test_difficulty_follows_the_subject():
    """Large effects are decoded well, absent ones not at all."""
    simulation = MotorSimulation(n_trials=40)
    accuracy = {}
    for subject in (4, 5):
        X, labels = trials(simulation, subject, 0.0, 4.0, n_runs=2)
        X = sosfiltfilt(butter(4, (8, 32), "bandpass", fs=128.0, output="sos"), X)
        pipeline = make_pipeline(CSP(n_components=6), LinearDiscriminantAnalysis())
        accuracy[subject] = cross_val_score(
            pipeline, X, labels, cv=StratifiedKFold(5, shuffle=True, random_state=0)
        ).mean()
    assert simulation.truth(4).depth < 0.1 and simulation.truth(5).depth > 0.6
    assert 0.35 < accuracy[4] < 0.65 and 0.75 < accuracy[5] < 1


def test_subjects_range_from_unable_to_able():
    depths = np.array([MotorSimulation(ch_names=("Cz",), seed=5).truth(k).depth for k in range(1, 21)])
    assert depths.min() < 0.05 and depths.max() > 0.8
    assert np.histogram(depths, bins=3, range=(0, 0.9))[0].min() >= 4  # evenly in between, whatever the seed


def test_strength_zero_leaves_nothing_of_the_label():
    options = {"n_trials": 6, "ch_names": MOTOR, "strength": 0}
    hands = MotorSimulation(classes=("left_hand", "right_hand"), **options).run(2, 0, 0)[0]
    others = MotorSimulation(classes=("feet", "rest"), **options).run(2, 0, 0)[0]
    np.testing.assert_array_equal(hands, others)
    assert MotorSimulation(**options).truth(2).electrodes == ()


def test_feet_weaken_the_vertex():
    simulation = MotorSimulation(
        classes=("feet", "rest"), n_trials=30, ch_names=("C3", "Cz", "C4"), noise=0.5, strength=1.5
    )
    subject = able_subject(simulation)
    X, labels = trials(simulation, subject, 1.0, 4.0)
    power = band_power(X, 128.0, (8, 30))
    change = power[labels == "feet"].mean(0) - power[labels == "rest"].mean(0)
    assert change[1] < -0.2 and change[1] == change.min()


def test_truth_names_the_electrodes_that_differ():
    simulation = MotorSimulation(n_trials=40, noise=0.3, strength=1.2)
    ranks, inside, outside = [], [], []
    for subject in (2, 3, 5, 8):  # able ones
        truth = simulation.truth(subject)
        X, labels = trials(simulation, subject, 1.0, 4.0)
        effect = np.max([np.abs(t_value(band_power(X, 128.0, band), labels)) for band in truth.bands.values()], axis=0)
        informative = np.isin(CAP_22, truth.electrodes)
        assert 2 <= informative.sum() < len(CAP_22) and truth.weights.max() == 1 and truth.weights.min() >= 0
        ranks.append(spearmanr(truth.weights, effect).statistic)
        inside.append(effect[informative].mean())
        outside.append(effect[~informative].mean())
    assert np.mean(ranks) > 0.5 and np.mean(inside) > 1.5 * np.mean(outside)


def test_blinks_are_frontal_and_large():
    data, _, _ = MotorSimulation(n_trials=20, ch_names=("Fp1", "Cz", "Oz")).run(1, 0, 0)
    peaks = data.max(axis=1) - np.median(data, axis=1)
    assert peaks[0] > 80 and peaks[0] > 1.5 * peaks[1]


@pytest.mark.parametrize("line_freq", [50.0, 60.0, 0.0])
def test_mains_hum(line_freq):
    data, _, _ = MotorSimulation(n_trials=4, ch_names=MOTOR, line_freq=line_freq, sfreq=256.0).run(1, 0, 0)
    for rate in (50.0, 60.0):
        peak = band_power(data, 256.0, (rate - 0.5, rate + 0.5)) - band_power(data, 256.0, (rate + 2, rate + 5))
        assert (peak.mean() > 1) == (rate == line_freq)


def test_an_electrode_reads_the_same_under_any_cap():
    few = MotorSimulation(n_trials=2, ch_names=("C4", "C3"), noise=0).run(2, 0, 0)[0]
    many = MotorSimulation(n_trials=2, noise=0).run(2, 0, 0)[0]
    np.testing.assert_allclose(few, many[[CAP_22.index("C4"), CAP_22.index("C3")]], atol=0.0101)


@pytest.mark.parametrize(("ch_names", "sfreq"), [(("C3", "Cz", "C4", "Oz"), 512.0), (("T3", "m1"), 100.0)])
def test_any_electrodes_and_rate(ch_names, sfreq):
    data, onsets, _ = MotorSimulation(n_trials=2, ch_names=ch_names, sfreq=sfreq).run(1, 0, 0)
    assert len(data) == len(ch_names) and np.isfinite(data).all() and data.std(axis=1).min() > 1
    assert data.shape[1] == round((onsets[-1] + TRIAL_SECONDS + 2) * sfreq)


def test_sessions_drift_but_stay_the_same_subject():
    names = tuple(CAP_22)
    first, second, other = (
        motor.session_state(0, *one, names).gains["areas"][:, 0] for one in [(1, 0), (1, 1), (2, 0)]
    )
    assert not np.allclose(first, second)
    assert np.corrcoef(first, second)[0, 1] > np.corrcoef(first, other)[0, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "dream"}, "task: got 'dream'"),
        ({"classes": ("left_hand",)}, "classes"),
        ({"classes": ("left_hand", "left_hand")}, "classes"),
        ({"classes": ("left_hand", "elbow")}, "classes"),
        ({"n_trials": 1}, "n_trials"),
        ({"sfreq": 50.0}, "sfreq"),
        ({"sfreq": float("nan")}, "sfreq"),
        ({"strength": -1.0}, "strength"),
        ({"ch_names": ()}, "ch_names"),
        ({"ch_names": ("C3", "C3")}, "ch_names"),
        ({"ch_names": ("C3", "Zz")}, "no electrode Zz"),
    ],
)
def test_what_cannot_be_simulated_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MotorSimulation(**options)


def test_leadfield_mirrors_and_peaks_above_the_source():
    names = ["C3", "C4", "Fz", "Pz", "Oz", "F3", "F4"]
    electrodes = electrode_directions(names)
    mirror = np.array([-1.0, 1.0, 1.0])
    place, moment = np.array([[0.4, 0.1, 0.6]]), np.array([[0.5, 0.5, 0.7]])
    gain = leadfield(electrodes, place, moment)
    np.testing.assert_allclose(leadfield(electrodes * mirror, place * mirror, moment * mirror), gain, atol=1e-9)
    np.testing.assert_allclose(leadfield(electrodes, place, -moment), -gain, rtol=1e-6, atol=1e-12)
    above = leadfield(electrodes, 0.75 * electrodes, electrodes)
    assert (np.argmax(above, axis=0) == np.arange(len(names))).all()


def test_electrodes_sit_where_a_cap_has_them():
    cap = make_standard_montage("biosemi64").get_positions()["ch_pos"]  # on a sphere about zero
    for name in ("C3", "Cz", "C4", "Fz", "Pz", "Oz", "T7"):
        ideal = cap[name] / np.linalg.norm(cap[name])
        assert electrode_directions([name])[0] @ ideal > np.cos(np.radians(15))


@pytest.mark.parametrize("shape", [one_over_f, broadband, rhythm(10.0, 1.0)])
def test_coloured_noise_has_unit_variance_and_its_spectrum(shape):
    x = coloured(np.random.default_rng(0), 20, 12_000, 100.0, shape)
    assert x.var() == pytest.approx(1, rel=0.1)
    frequencies, power = welch(x, 100.0, nperseg=1000)
    wanted = shape(frequencies) ** 2
    inside = (wanted > 0.05 * wanted.max()) & (frequencies > 1)
    ratio = power.mean(axis=0)[inside] / wanted[inside]
    assert ratio.std() / ratio.mean() < 0.15


def test_wander_is_slow_and_positive():
    factors = wander(np.random.default_rng(0), 5, 20_000, 100.0)
    assert factors.min() > 0 and np.log(factors).std() == pytest.approx(0.3, rel=0.3)
    assert np.abs(np.diff(np.log(factors), axis=1)).max() < 0.02
