import pickle

import mne
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from skeeg.array import EEGArray, make_domains
from skeeg.montage import (
    _FLAT,
    TEMPLATES,
    ChannelTemplate,
    _interpolation_matrix,
    find_electrodes,
    find_mirror,
    template_names,
)
from skeeg.positions import standard_montage

MOTOR22 = "Fz FC3 FC1 FCz FC2 FC4 C5 C3 C1 Cz C2 C4 C6 CP3 CP1 CPz CP2 CP4 P1 Pz P2 POz".split()
ALEX16 = "FPZ F7 F3 FZ F4 F8 T7 C3 CZ C4 T8 P7 P3 PZ P4 P8".split()
BIOSEMI64 = mne.channels.make_standard_montage("biosemi64").ch_names


def trials(ch_names, n_trials=3, n_times=50, seed=0, **identity):
    data = np.random.default_rng(seed).standard_normal((n_trials, len(ch_names), n_times))
    return EEGArray(data, ch_names, **identity)


def by_mne(X, template, **options):
    """What mne makes of the same trials."""
    places = standard_montage().get_positions()
    target = mne.channels.make_dig_montage(
        {name: places["ch_pos"][name] for name in template_names(template)},
        *(places[mark] for mark in ("nasion", "lpa", "rpa")),
        coord_frame=places["coord_frame"],
    )
    info = mne.create_info(list(X.ch_names), 100.0, "eeg").set_montage(standard_montage(), match_case=False)
    epochs = mne.EpochsArray(np.asarray(X, dtype=float), info, verbose="error")
    with mne.use_log_level("error"):
        return epochs.interpolate_to(target, method="spline", **options).get_data()


@parametrize_with_checks(
    [
        ChannelTemplate(("C3", "Cz", "C4"), "spline", ch_names=("Cz",)),
        ChannelTemplate("mirepnet45", "inverse_distance", ch_names=("Cz",)),
    ]
)
def test_sklearn_checks(estimator, check):
    check(estimator)


def test_templates_are_those_of_the_papers():
    assert {name: len(set(names)) for name, names in TEMPLATES.items()} == {
        "mirepnet45": 45,
        "ct_adapttl20": 20,
        "gram130": 130,
    }
    mirepnet, gram = TEMPLATES["mirepnet45"], TEMPLATES["gram130"]
    assert (mirepnet[0], mirepnet[20], mirepnet[22], mirepnet[24], mirepnet[44]) == ("F7", "C3", "Cz", "C4", "P8")
    landmarks = {
        0: "Fp1",
        36: "T9",
        41: "Cz",
        84: "CB1",
        86: "Iz",
        88: "T3",
        91: "T6",
        92: "M1",
        113: "T2",
        129: "P4-O2",
    }
    assert {i: gram[i] for i in landmarks} == landmarks
    assert "FCz" not in TEMPLATES["ct_adapttl20"]


def test_inverse_distance_reproduces_the_published_reference():
    b, c, t = np.meshgrid(np.arange(6), np.arange(3), np.arange(200), indexing="ij")
    x = np.sin(0.01 * (b + 1) * (t + 1) + 0.5 * c) + 0.3 * np.cos(1.7 * b + 0.9 * c**2 + 0.13 * t * (c + 1))
    values, vectors = np.linalg.eigh(np.mean([np.cov(trial) for trial in x], axis=0))
    aligned = vectors / np.sqrt(values) @ vectors.T @ x  # the reference was made from Euclidean-aligned trials
    out = ChannelTemplate("mirepnet45", "inverse_distance", ch_names=("C3", "CZ", "C4")).fit_transform(aligned)
    expected = [0.29602693256163876, 0.3093254157180438, 0.37587264474902865, 0.5275460422189943]
    assert_allclose(out[0, :4, 0], expected, rtol=0, atol=1e-14)
    assert_allclose(out[0, 20, 0], -0.03287686932957229, rtol=0, atol=1e-14)
    assert_array_equal(out[:, 20], aligned[:, 0])


def test_inverse_distance_rows_worked_by_hand():
    matrix = ChannelTemplate("mirepnet45", "inverse_distance").fit(trials(["C3", "Cz", "C4"])).matrix_
    assert_allclose(matrix[0], [0.603222, 0.250475, 0.146303], atol=5e-7)
    assert_allclose(matrix[1], [0.591803, 0.264663, 0.143534], atol=5e-7)


def test_recorded_electrodes_are_copied():
    X = trials(ALEX16)
    out = ChannelTemplate("mirepnet45", "inverse_distance").fit_transform(X)
    shared = [name for name in ALEX16 if name != "FPZ"]
    wanted = find_electrodes(shared, out.ch_names)
    assert_array_equal(out[:, wanted], X[:, [ALEX16.index(name) for name in shared]])
    everything = trials(BIOSEMI64)  # nothing to interpolate: a choice of channels, by another way through the code
    out = ChannelTemplate("ct_adapttl20", "inverse_distance").fit_transform(everything)
    assert out.flags.c_contiguous
    assert_array_equal(out, everything[:, [BIOSEMI64.index(name) for name in out.ch_names]])


@settings(max_examples=30, deadline=None)
@given(st.sets(st.sampled_from(sorted(_FLAT)), min_size=1, max_size=12), st.booleans())
def test_inverse_distance_stays_between_the_recorded_values(names, typos):
    X = trials(sorted(names), n_trials=1, n_times=5)
    out = ChannelTemplate("mirepnet45", "inverse_distance", upstream_typos=typos).fit_transform(X)
    assert (out <= X.max(axis=1, keepdims=True) + 1e-12).all()
    assert (out >= X.min(axis=1, keepdims=True) - 1e-12).all()


def test_misprints_matter_only_where_their_electrodes_are():
    def matrix(names, typos):
        step = ChannelTemplate("mirepnet45", "inverse_distance", upstream_typos=typos)
        return step.fit(trials(names)).matrix_

    assert_array_equal(matrix(MOTOR22, True), matrix(MOTOR22, False))
    assert np.abs(matrix([*MOTOR22, "FT10"], True) - matrix([*MOTOR22, "FT10"], False)).max() > 0.01
    weight = matrix(["C3", "TPP8"], True)[:, 1]
    assert weight[find_electrodes(["P8"], TEMPLATES["mirepnet45"])] < 0.2  # misprinted, TPP8 lies far outside the head
    assert matrix(["C3", "TPP8"], False)[:, 1][find_electrodes(["P8"], TEMPLATES["mirepnet45"])] > 0.5


@pytest.mark.parametrize("template", ["mirepnet45", "ct_adapttl20", ("Fp1", "Oz", "TP9", "T3")])
@pytest.mark.parametrize("ch_names", [MOTOR22, ALEX16, BIOSEMI64], ids=len)
def test_splines_equal_mne(ch_names, template):
    X = trials(ch_names)
    step = ChannelTemplate(template)
    out = step.fit_transform(X)
    expected = by_mne(X, template)
    assert out.dtype == np.float64
    names = ["T7" if name == "T3" else name for name in step.ch_names_out_]
    index = {name.upper(): i for i, name in enumerate(ch_names)}
    recorded = np.array([index.get(name.upper(), -1) for name in names])
    copied = recorded >= 0  # where mne's pseudo-inverse errs by 5e-10
    assert_array_equal(out[:, copied], np.asarray(X)[:, recorded[copied]])
    assert_allclose(out[:, ~copied], expected[:, ~copied], rtol=0, atol=1e-12 * np.abs(expected).max())
    assert_allclose(out, expected, rtol=0, atol=2e-9 * np.abs(expected).max())
    single = ChannelTemplate(template).fit_transform(X.astype(np.float32))
    assert single.dtype == np.float32
    assert_allclose(single, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("ch_names", [["Cz"], ["C3", "C4"], ["C3", "Cz", "C4"], ["F9", "F10", "Fp1", "Fpz", "Fp2"]])
def test_splines_serve_montages_too_small_for_mne(ch_names):
    step = ChannelTemplate("mirepnet45").fit(trials(ch_names))
    assert_allclose(step.matrix_.sum(axis=1), 1, atol=1e-6)  # a field that is the same everywhere stays so
    shared = [name for name in ch_names if name in step.ch_names_out_]
    here = find_electrodes(shared, step.ch_names_out_)
    assert_allclose(step.matrix_[here], np.eye(len(ch_names))[[ch_names.index(name) for name in shared]], atol=1e-6)


def test_splines_recover_a_smooth_field():
    places = standard_montage().get_positions()["ch_pos"]
    field = np.random.default_rng(0).standard_normal((4, 3))  # four time points of a field linear in space

    def at(names):
        return EEGArray(np.array([[field @ places[name] for name in names]]), names)

    out = ChannelTemplate("mirepnet45").fit_transform(
        at([name for name in BIOSEMI64 if name not in ("C3", "FC4", "Pz")])
    )
    hidden = find_electrodes(["C3", "FC4", "Pz"], out.ch_names)
    expected = np.asarray(at(out.ch_names))
    assert np.abs(out[:, hidden] - expected[:, hidden]).max() < 0.03 * np.abs(expected).max()


@pytest.mark.parametrize("method", ["spline", "inverse_distance"])
def test_names_are_read_in_every_spelling(method):
    plain = ["FC5", "T7", "T8", "P7", "P8", "Cz"]
    odd = ["Fc5.", "t3", "T4", "EEG T5-REF", " eeg p8-le", "CZ.."]
    step = ChannelTemplate("mirepnet45", method)
    assert_allclose(step.fit(trials(odd)).matrix_, clone(step).fit(trials(plain)).matrix_, atol=1e-9)


def test_bipolar_derivations_are_differences():
    X = trials(BIOSEMI64)
    out = ChannelTemplate("gram130").fit_transform(X)
    assert out.shape[1] == 130
    at = {name: i for i, name in enumerate(out.ch_names)}
    for pair in ("Fp1-F7", "T8-P8", "P4-O2"):
        first, second = pair.split("-")
        assert_allclose(out[:, at[pair]], np.asarray(out)[:, at[first]] - np.asarray(out)[:, at[second]], atol=1e-12)
    assert_allclose(out[:, at["T3"]], out[:, at["T7"]])


def test_another_montage_at_transform():
    step = ChannelTemplate("ct_adapttl20").fit(trials(MOTOR22))
    other = trials(ALEX16, n_times=33)
    assert_array_equal(step.transform(other), clone(step).fit_transform(other))
    assert step.matrix_.shape == (20, 22)  # what was fitted stays
    shuffled = trials(MOTOR22)[:, ::-1]
    assert_allclose(step.transform(shuffled), step.transform(trials(MOTOR22)), atol=1e-9)


def test_matrices_are_made_once_and_cannot_be_changed():
    args = (tuple(MOTOR22), TEMPLATES["mirepnet45"], "spline", False)
    made = _interpolation_matrix(*args)
    assert _interpolation_matrix(*args) is made
    with pytest.raises(ValueError, match="read-only"):
        made[0, 0] = 1


def test_trials_without_names_have_the_channels_of_fit():
    X = trials(MOTOR22)
    step = ChannelTemplate().fit(X)
    assert_array_equal(step.transform(np.asarray(X)), step.transform(X))
    with pytest.raises(ValueError, match="expecting 22 features"):
        step.transform(np.asarray(X)[:, :5])


@pytest.mark.parametrize("template", ["ct_adapttl20", ("Cz", "Oz")])  # interpolated; copied, with most left out
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_all_values_are_checked_and_large_ones_are_finite(template, dtype):
    ch_names = (*MOTOR22, "Oz") if isinstance(template, tuple) else MOTOR22
    X = trials(ch_names, n_trials=7).astype(dtype)
    step = ChannelTemplate(template).fit(X)
    assert step.transform(X).dtype == dtype
    for place in ((6, 0, 3), (0, 5, 0)):  # in an electrode that may not be used
        spoilt = X.copy()
        spoilt[place] = np.nan
        with pytest.raises(ValueError, match="contains NaN"):
            step.transform(spoilt)
    huge = X * dtype(1e35)  # in float32 the squares overflow, the values do not
    assert np.isfinite(step.transform(huge)).all()


def test_identity_is_kept():
    X = trials(MOTOR22, n_trials=4, sfreq=250, domains=make_domains(4, subject=[1, 1, 2, 2]))
    before = np.array(X)
    out = ChannelTemplate().fit_transform(X)
    assert (out.ch_names, out.sfreq) == (TEMPLATES["mirepnet45"], 250)
    assert_array_equal(out.domains, X.domains)
    assert_array_equal(X, before)


def test_epochs_are_read():
    data = np.random.default_rng(0).standard_normal((3, 22, 40)) * 1e-5
    epochs = mne.EpochsArray(data, mne.create_info(MOTOR22, 100.0, "eeg"), verbose="error")
    out = ChannelTemplate().fit_transform(epochs)
    assert_allclose(out, ChannelTemplate(ch_names=tuple(MOTOR22)).fit_transform(data * 1e6))
    assert out.sfreq == 100


def test_pickle_and_save_keep_the_matrix(tmp_path):
    X = trials(MOTOR22)
    step = ChannelTemplate("ct_adapttl20", "inverse_distance").fit(X)
    step.save(tmp_path / "step.safetensors")
    for copy in (pickle.loads(pickle.dumps(step)), ChannelTemplate.load(tmp_path / "step.safetensors")):
        assert_array_equal(copy.transform(X), step.transform(X))
        assert copy.ch_names_out_ == step.ch_names_out_


@pytest.mark.parametrize(
    ("params", "ch_names", "message"),
    [
        ({}, ["C3", "CZZ"], r"ch_names: unknown electrode 'CZZ' \(nearest: Cz"),
        ({}, ["C3", "EOG1"], "channels that lie on the head"),
        ({}, ["T3", "Cz", "T7"], "T3, T7 are the same electrode"),
        ({"method": "inverse_distance"}, ["C3", "M1"], r'flat table is small; ChannelTemplate\(method="spline"\)'),
        ({"method": "linear"}, ["C3"], "method: got 'linear', expected"),
        ({"template": "montage12"}, ["C3"], "template: expected one of mirepnet45, ct_adapttl20, gram130"),
        ({"template": ("C3", "Qz")}, ["C3"], "template: unknown electrode 'Qz'"),
        ({"template": ()}, ["C3"], "template: at least one electrode"),
        ({}, None, "ch_names: X carries no channel names"),
    ],
)
def test_bad_input_is_named(params, ch_names, message):
    X = trials(ch_names) if ch_names else np.zeros((2, 45, 10))
    with pytest.raises(ValueError, match=message):
        ChannelTemplate(**params).fit(X)


@pytest.mark.parametrize(
    ("classes", "pair", "exchanged"),
    [
        (["left_hand", "rest", "right_hand"], None, [2, 1, 0]),
        (["left_hand", "rest", "right_hand"], ("left_hand", "right_hand"), [2, 1, 0]),
        ([0, 1, 2], (1, 2), [0, 2, 1]),
    ],
)
def test_left_and_right_are_exchanged(classes, pair, exchanged):
    channels, labels = find_mirror(("c3..", "Cz", "T3", "EEG T4-REF", "C4", "FT10", "FT9"), classes, pair)
    assert channels.tolist() == [4, 1, 3, 2, 0, 6, 5] and labels.tolist() == exchanged
    assert sorted(find_mirror(TEMPLATES["mirepnet45"], classes, pair)[0]) == list(range(45))


@pytest.mark.parametrize(
    ("ch_names", "classes", "pair"),
    [
        (None, ["left_hand", "right_hand"], None),
        (("C3", "Cz", "C4"), ["feet", "left_hand"], None),
        (("C3", "Cz", "C4"), ["feet", "left_hand"], ("left_hand", "right_hand")),
        (("C3", "Cz", "C4"), ["feet", "rest"], None),
        (("C3", "Cz", "C4"), [0, 1], None),
        (("C3", "Cz"), ["left_hand", "right_hand"], None),
        (("E12", "E11", "E13"), ["left_hand", "right_hand"], None),
    ],
)
def test_no_mirror(ch_names, classes, pair):
    assert find_mirror(ch_names, classes, pair) is None
