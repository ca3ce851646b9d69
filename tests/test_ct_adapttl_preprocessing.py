import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import butter, filtfilt, lfilter, resample
from sklearn.base import clone

from skeeg.array import EEGArray, make_domains
from skeeg.methods.ct_adapttl import Harmonise, causal_highpass
from skeeg.methods.ct_adapttl.preprocessing import add_mirrored
from skeeg.montage import TEMPLATES, find_mirror
from skeeg.testing import check_eeg_estimator

TEMPLATE = TEMPLATES["ct_adapttl20"]
B, A = butter(5, (8, 30), "bandpass", fs=500)
OTHERS = ("Fp1", "Fp2", "Fz", "FCz", "Pz", "O1", "O2", "T7", "T8")


def make_trials(n_times, sfreq, extra=OTHERS, n=3, seed=0, shuffle=True):
    rng = np.random.default_rng(seed)
    names = [*TEMPLATE, *extra]
    names = [names[i] for i in rng.permutation(len(names))] if shuffle else names
    data = np.cumsum(rng.normal(size=(n, len(names), n_times)), axis=-1)
    return EEGArray(data, names, sfreq, make_domains(n, subject=[1, 1, 2]))


def pick(X):
    return np.asarray(X)[:, [X.ch_names.index(name) for name in TEMPLATE]]


def bandpass(data):
    return filtfilt(B, A, data, axis=-1)


def test_hgd_as_published():
    X = make_trials(2000, 500)
    data = pick(X)[..., :1500]
    expected = bandpass(data - data.mean(axis=1, keepdims=True))
    np.testing.assert_allclose(Harmonise(window=(0, 3)).fit_transform(X), expected, rtol=0, atol=1e-10)


def test_gist_as_published():
    X = make_trials(1537, 512)
    data = np.asarray(X)[..., :1536]
    data = EEGArray(data - data.mean(axis=1, keepdims=True), X.ch_names)
    expected = bandpass(resample(pick(data), 1500, axis=-1))
    found = Harmonise(window=(0, 3), reference="all").fit_transform(X)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


def test_openbmi_as_published():
    X = make_trials(4000, 1000)
    data = pick(X)
    expected = bandpass(resample(data - data.mean(axis=1, keepdims=True), 2000, axis=-1))
    np.testing.assert_allclose(Harmonise(window=(0, 4)).fit_transform(X), expected, rtol=0, atol=1e-10)


def test_result_carries_its_new_identity():
    X = make_trials(480, 160)
    out = Harmonise().fit_transform(X)
    assert (out.shape, out.sfreq, out.ch_names) == ((3, 20, 1500), 500.0, TEMPLATE)
    assert out.domains["subject"].tolist() == ["1", "1", "2"]


def test_missing_electrodes_are_interpolated_and_recorded_ones_copied():
    X = make_trials(600, 500, extra=(*OTHERS, "F3", "F4", "P3", "P4"), shuffle=False)
    common = np.random.default_rng(1).normal(size=(3, 1, 600))  # a smooth field: what interpolation can know
    X = X.like(common + 1e-3 * np.asarray(X))
    kept = [i for i, name in enumerate(X.ch_names) if name not in ("FC1", "CP6")]
    step = Harmonise(band=None, reference=None)
    full, fewer = step.fit_transform(X), step.fit_transform(X[:, kept])
    gone = [TEMPLATE.index("FC1"), TEMPLATE.index("CP6")]
    there = [i for i in range(20) if i not in gone]
    np.testing.assert_array_equal(fewer[:, there], full[:, there])
    assert np.abs(fewer[:, gone] - full[:, gone]).max() < 0.5 * np.abs(full[:, gone]).max()


def test_other_montage_and_rate_at_transform():
    step = Harmonise().fit(make_trials(640, 160))
    out = step.transform(make_trials(4000, 1000, extra=()))
    assert out.shape == (3, 20, 2000) and out.ch_names == TEMPLATE


def test_names_in_any_spelling():
    X = make_trials(500, 500, extra=(), shuffle=False)
    shouted = EEGArray(np.asarray(X), [f"{name.upper()}." for name in X.ch_names], 500)
    step = Harmonise()
    np.testing.assert_array_equal(step.fit_transform(shouted), step.fit_transform(X))


@settings(max_examples=15, deadline=None)
@given(
    sfreq=st.sampled_from([100, 128, 250, 512, 1000]),
    seconds=st.floats(0.5, 4),
    reference=st.sampled_from(["all", "picked"]),
)
def test_length_follows_the_rate_and_the_mean_goes(sfreq, seconds, reference):
    n_times = int(seconds * sfreq)
    X = make_trials(n_times, sfreq, extra=() if reference == "all" else OTHERS)
    out = Harmonise(reference=reference).fit_transform(X)
    assert out.shape[2] == round(n_times * 500 / sfreq)
    assert np.abs(np.asarray(out).mean(axis=1)).max() < 1e-8 * np.abs(np.asarray(X)).max()


def test_types_of_numbers_are_kept():
    X = make_trials(500, 500)
    assert Harmonise().fit_transform(X.astype(np.float32)).dtype == np.float32


def test_band_passes_mu_and_stops_the_rest():
    t = np.arange(2000) / 500
    tones = np.stack([np.sin(2 * np.pi * f * t) for f in (2, 12, 20, 48)])[:, None]
    power = Harmonise(template=None, reference=None, sfreq=500).fit_transform(tones)[..., 500:1500].std(axis=(1, 2))
    np.testing.assert_allclose(power * np.sqrt(2), [0, 1, 1, 0], atol=0.02)


def test_causal_highpass_is_a_forward_filter():
    x = np.random.default_rng(0).normal(size=(2, 900)) + 5
    np.testing.assert_allclose(causal_highpass(x, 500), lfilter(*butter(4, 0.5, "highpass", fs=500), x))
    np.testing.assert_array_equal(causal_highpass(x[:, :400], 500), causal_highpass(x, 500)[:, :400])


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"window": (0, 9)}, r"window: \(0, 9\) s is not within trials of 600 samples at 500 Hz"),
        ({"window": (2, 1)}, "window"),
        ({"band": (8, 300)}, "band: got .* half the rate"),
        ({"reference": "mean"}, "reference: got 'mean'"),
        ({"template": ("C3", "Xx7")}, "template: unknown electrode .(?i:xx7)"),
    ],
)
def test_errors_name_the_argument(params, match):
    with pytest.raises(ValueError, match=match):
        Harmonise(**params).fit(make_trials(600, 500))


def test_nameless_trials_need_the_constructor():
    data = np.random.default_rng(0).normal(size=(2, 20, 600))
    with pytest.raises(ValueError, match="ch_names: X carries no channel names"):
        Harmonise(sfreq=500).fit(data)
    with pytest.raises(ValueError, match="sfreq: .* needs the sampling rate"):
        Harmonise(ch_names=TEMPLATE).fit(data)
    step = clone(Harmonise(ch_names=TEMPLATE, sfreq=500))
    assert step.fit_transform(data).ch_names == TEMPLATE


def test_every_promise():
    check_eeg_estimator(Harmonise(template=None, sfreq=128.0, sfreq_out=128.0))


def test_mirrored_trials():
    pair = ("left_hand", "right_hand")
    mirror = find_mirror(TEMPLATE, ["left_hand", "rest", "right_hand"], pair)
    X, y = np.random.default_rng(0).normal(size=(3, 20, 5)), np.array([0, 1, 2])
    both, labels = add_mirrored(X, y, mirror)
    assert labels.tolist() == [0, 1, 2, 2, 1, 0]
    np.testing.assert_array_equal(both[3:, TEMPLATE.index("C3")], X[:, TEMPLATE.index("C4")])
    np.testing.assert_array_equal(both[3:, TEMPLATE.index("CPz")], X[:, TEMPLATE.index("CPz")])
    np.testing.assert_array_equal(add_mirrored(both[3:], labels[3:], mirror)[0][3:], X)
    assert add_mirrored(X, y, None)[0] is X
