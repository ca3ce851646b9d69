import warnings

import mne
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks

from skeeg import signals
from skeeg.array import EEGArray, make_domains
from skeeg.filtering import BandPass, FilterBank, Notch, PadToMultiple, Resample
from skeeg.spatial import AverageReference

SFREQ = 160.0
BANDS = [(8, 30), (None, 30), (4, None), (0.5, 45)]
KINDS = [
    ("fir", "zero"),
    ("fir", "minimum"),
    ("iir", "zero"),
    ("iir", "forward"),
]


def trials(n_times, n_trials=3, n_channels=2, offset=20.0, seed=0):
    return np.random.default_rng(seed).standard_normal((n_trials, n_channels, n_times)) * 10 + offset


def assert_equals(step, X, expected):
    """In float64 to 1e-12 of the largest value, in float32 to 1e-5."""
    scale = max(np.abs(expected).max(), 1e-3)
    for dtype, tolerance in ((np.float64, 1e-12), (np.float32, 1e-5)):
        out = step.fit(X.astype(dtype)).transform(X.astype(dtype))
        assert out.dtype == dtype
        assert out.shape == expected.shape
        assert_allclose(out, expected, rtol=0, atol=tolerance * scale)


@pytest.fixture
def short_is_fine():
    """The edge cases use trials shorter than their filter on purpose; both mne and skeeg warn of that."""
    with warnings.catch_warnings(), mne.use_log_level("error"):
        warnings.filterwarnings("ignore", message=".*will be distorted.*")
        yield


@parametrize_with_checks(
    [
        BandPass(sfreq=100.0),
        BandPass(method="iir", phase="forward", sfreq=100.0),
        Notch(20, method="iir", sfreq=100.0),
        FilterBank(((8, 12), (12, 16)), sfreq=100.0),
        Resample(64, sfreq=100.0),
        AverageReference(),
    ]
)
@pytest.mark.filterwarnings("ignore:.*will be distorted")
def test_sklearn_checks(estimator, check):
    check(estimator)


@pytest.mark.usefixtures("short_is_fine")
@pytest.mark.parametrize(("method", "phase"), KINDS)
@pytest.mark.parametrize("band", BANDS)
@pytest.mark.parametrize("n_times", [1, 5, 265, 640, 1001])
def test_band_pass_equals_mne(n_times, band, method, phase):
    X = trials(n_times)
    expected = mne.filter.filter_data(X, SFREQ, *band, method=method, phase=phase)
    assert_equals(BandPass(*band, method=method, phase=phase, sfreq=SFREQ), X, expected)


@pytest.mark.usefixtures("short_is_fine")
def test_band_pass_options_equal_mne():
    X = trials(500)
    options = {"l_trans_bandwidth": 1.5, "h_trans_bandwidth": 5.0}
    assert_equals(BandPass(8, 30, sfreq=SFREQ, **options), X, mne.filter.filter_data(X, SFREQ, 8, 30, **options))
    iir = {"order": 5, "ftype": "butter", "output": "sos"}
    expected = mne.filter.filter_data(X, SFREQ, 8, 30, method="iir", iir_params=iir)
    assert_equals(BandPass(8, 30, method="iir", order=5, sfreq=SFREQ), X, expected)


def test_float32_survives_the_offset_of_an_amplifier():
    X = trials(640, offset=20_000.0).astype(np.float32)
    expected = mne.filter.filter_data(X.astype(float), SFREQ, 8, 30, verbose="error")
    out = BandPass(8, 30, sfreq=SFREQ).fit_transform(X)
    assert np.abs(out - expected).max() < 1e-5 * np.abs(expected).max()
    resampled = Resample(128, sfreq=SFREQ).fit_transform(X)
    expected = mne.filter.resample(X.astype(float), 128, SFREQ)
    assert np.abs(resampled - expected).max() < 1e-6 * np.abs(expected).max()


@pytest.mark.usefixtures("short_is_fine")
@pytest.mark.parametrize("method", ["fir", "iir"])
@pytest.mark.parametrize(("freqs", "width"), [(50, None), ((31.25,), 2.0), ((20.0, 50.0), (1.0, 3.0))])
def test_notch_equals_mne(freqs, width, method):
    X = trials(1001)
    step = Notch(freqs, width, trans_bandwidth=2.0, method=method, sfreq=SFREQ)
    if method == "iir" and np.size(freqs) > 1:  # mne takes them only one by one, with an edge treatment each
        expected = X
        for freq, one in zip(freqs, width, strict=True):
            expected = mne.filter.notch_filter(
                expected, SFREQ, freq, notch_widths=one, trans_bandwidth=2.0, method="iir"
            )
        assert_allclose(step.fit_transform(X)[..., 300:-300], expected[..., 300:-300], atol=0.05)
        return
    width = None if width is None else np.array(width)
    expected = mne.filter.notch_filter(X, SFREQ, freqs, notch_widths=width, trans_bandwidth=2.0, method=method)
    assert_equals(step, X, expected)


@pytest.mark.parametrize(("step", "kept"), [(BandPass(8, 30, sfreq=SFREQ), 12), (Notch(50, sfreq=SFREQ), 12)])
def test_known_sines_pass_or_do_not(step, kept):
    t = np.arange(3200) / SFREQ
    X = np.stack([np.sin(2 * np.pi * freq * t) for freq in (kept, 50)])[None]
    out = step.fit_transform(X)[0, :, 600:-600]
    assert_allclose(out[0], X[0, 0, 600:-600], atol=0.01)
    assert np.abs(out[1]).max() < 0.01


@pytest.mark.usefixtures("short_is_fine")
@settings(max_examples=25, deadline=None)
@given(
    n_times=st.integers(1, 300),
    factors=st.tuples(st.floats(-5, 5), st.floats(-5, 5)),
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 99),
)
def test_filters_are_linear(n_times, factors, kind, seed):
    X, Z = trials(n_times, seed=seed), trials(n_times, seed=seed + 100)
    a, b = factors
    bank = [BandPass(8, 30, *kind, sfreq=SFREQ), Resample(100, sfreq=SFREQ), AverageReference()]
    for step in bank:
        together = step.fit_transform(a * X + b * Z)
        apart = a * np.asarray(step.transform(X)) + b * np.asarray(step.transform(Z))
        assert_allclose(together, apart, atol=1e-9)


@pytest.mark.parametrize("method", ["fir", "iir"])
def test_causal_filters_do_not_see_the_future(method):
    X = trials(640)
    other = X.copy()
    other[..., 400:] += 1000
    for phase, blind in (({"fir": "minimum", "iir": "forward"}[method], True), ("zero", False)):
        step = BandPass(8, 30, method=method, phase=phase, sfreq=SFREQ).fit(X)
        change = np.abs(step.transform(X) - step.transform(other))[..., :400].max()
        assert (change < 1e-9) == blind


@pytest.mark.usefixtures("short_is_fine")
@pytest.mark.parametrize("n_times", [80, 640, 1040])
@pytest.mark.parametrize(("rate", "npad"), [(128, 100), (128, 35), (250, 112), (200, 36), (80, 100), (16, 100)])
def test_resample_equals_mne_where_all_numbers_of_samples_are_whole(n_times, rate, npad):
    X = trials(n_times)
    assert_equals(Resample(rate, npad, sfreq=SFREQ), X, mne.filter.resample(X, rate, SFREQ, npad=npad))


@pytest.mark.parametrize(("rate", "new_rate"), [(512, 200), (250, 200), (160, 77.7), (200, 512), (1000, 128)])
@pytest.mark.parametrize("npad", [100, 37])
def test_resampled_samples_lie_where_their_time_says(rate, new_rate, npad):
    n_times = 4 * rate + 3
    X = np.sin(2 * np.pi * 10 * np.arange(n_times) / rate)[None, None]
    found = Resample(new_rate, npad, sfreq=float(rate)).fit_transform(X)[0, 0]
    assert len(found) == round(n_times * new_rate / rate)
    wanted = np.sin(2 * np.pi * 10 * np.arange(len(found)) / new_rate)
    assert_allclose(found[round(new_rate) : -round(new_rate)], wanted[round(new_rate) : -round(new_rate)], atol=2e-3)


@pytest.mark.parametrize("n_times", [1, 3, 101])
def test_the_shortest_trials_are_resampled(n_times):
    for rate in (1e-3, 16, 77.7, 250):
        out = Resample(rate, sfreq=SFREQ).fit_transform(trials(n_times))
        assert out.shape[2] == max(1, round(n_times * rate / SFREQ)) and np.isfinite(out).all()


def test_resampling_there_and_back():
    t = np.arange(800) / SFREQ
    X = EEGArray(np.sin(2 * np.pi * np.array([[5.0], [11.0]]) * t)[None], sfreq=SFREQ)
    there = Resample(240).fit_transform(X)
    assert (there.shape[2], there.sfreq) == (1200, 240)
    assert_allclose(there[0, 1, 200:-200], np.sin(2 * np.pi * 11 * np.arange(1200) / 240)[200:-200], atol=0.01)
    back = Resample(SFREQ).fit_transform(there)
    assert back.sfreq == SFREQ
    assert_allclose(back[..., 100:-100], X[..., 100:-100], atol=0.01)
    assert_array_equal(Resample(SFREQ).fit_transform(X), X)


def test_average_reference_equals_mne():
    X = trials(50, n_channels=5)
    epochs = mne.EpochsArray(X * 1e-6, mne.create_info(5, SFREQ, "eeg"), verbose="error")
    expected = epochs.set_eeg_reference("average", verbose="error").get_data() * 1e6
    assert_equals(AverageReference(), X, expected)
    assert_allclose(AverageReference().fit_transform(X).sum(axis=1), 0, atol=1e-12)


@pytest.mark.parametrize("method", ["fir", "iir"])
def test_filter_bank_is_its_band_passes_side_by_side(method):
    X = EEGArray(trials(640), ("C3", "C4"), SFREQ)
    bands = ((4, 8), (8, 12), (28, 40))
    out = FilterBank(bands, method=method).fit_transform(X)
    assert out.ch_names == ("C3 4-8 Hz", "C4 4-8 Hz", "C3 8-12 Hz", "C4 8-12 Hz", "C3 28-40 Hz", "C4 28-40 Hz")
    parted = out.reshape(3, 3, 2, 640)
    for k, band in enumerate(bands):
        assert_allclose(parted[:, k], BandPass(*band, method=method).fit_transform(X), atol=1e-12)


def test_filter_bank_fits_an_estimator_to_each_band():
    rng = np.random.default_rng(0)
    y = np.repeat(["left", "right"], 20)
    t = np.arange(320) / SFREQ
    X = rng.standard_normal((40, 2, 320))
    X[y == "left", 0] += 2 * np.sin(2 * np.pi * 10 * t)
    X[y == "right", 1] += 2 * np.sin(2 * np.pi * 22 * t)
    power = make_pipeline(FunctionTransformer(lambda Z: np.log(np.asarray(Z).var(axis=2))), PCA(2))
    bank = FilterBank(((8, 12), (20, 24)), estimator=power, sfreq=SFREQ).fit(X, y)
    features = bank.transform(X)
    assert features.shape == (40, 4)
    assert not hasattr(power[-1], "components_")  # what was handed over stays unfitted
    for k, band in enumerate(((8, 12), (20, 24))):
        filtered = BandPass(*band, sfreq=SFREQ).fit_transform(X)
        expected = power.__class__(power.steps).fit(filtered).transform(filtered)
        assert_allclose(np.abs(features[:, 2 * k : 2 * k + 2]), np.abs(expected), atol=1e-9)
    assert abs(features[y == "left", 0].mean() - features[y == "right", 0].mean()) > 1


def test_common_spatial_patterns_in_each_band_find_the_rhythm_of_each_class():
    spatial = pytest.importorskip("skeeg.spatial")
    rng = np.random.default_rng(1)
    y = np.arange(60) % 2
    t = np.arange(320) / SFREQ
    X = rng.standard_normal((60, 4, 320))
    phase = rng.uniform(0, 6.28, (60, 1))
    X[:, 2] += np.where(y, 1.5, 0.2)[:, None] * np.sin(2 * np.pi * 22 * t + phase)
    bank = FilterBank(((8, 12), (20, 24)), estimator=spatial.CSP(2), sfreq=SFREQ).fit(X[:40], y[:40])
    features = bank.transform(X[40:])
    gap = np.abs(features[y[40:] == 1].mean(axis=0) - features[y[40:] == 0].mean(axis=0))
    assert gap[2:].max() > 3 * gap[:2].max()


@pytest.mark.parametrize("step", [BandPass(), BandPass(method="iir"), Notch(), FilterBank(), Resample(100)])
def test_results_do_not_depend_on_blocks_or_company(step, monkeypatch):
    X = EEGArray(trials(1100, n_trials=5, n_channels=3), sfreq=SFREQ)
    whole = step.fit(X).transform(X)
    for trial in range(5):
        assert_allclose(step.transform(X[trial : trial + 1])[0], whole[trial], atol=1e-12)
    for block in (1, 3500, 9000):
        monkeypatch.setattr(signals, "_BLOCK", block)
        assert_allclose(step.transform(X), whole, atol=1e-12)


@pytest.mark.parametrize(
    "step", [BandPass(), BandPass(method="iir"), Notch(), Resample(64), AverageReference()], ids=repr
)
def test_identity_and_input_are_kept(step, tmp_path):
    domains = make_domains(3, subject=[1, 1, 2])
    X = EEGArray(trials(1100), ("C3", "C4"), SFREQ, domains)
    before = np.array(X)
    out = step.fit(X).transform(X)
    assert out.ch_names == ("C3", "C4")
    assert out.sfreq == (64 if isinstance(step, Resample) else SFREQ)
    assert_array_equal(out.domains, domains)
    assert_array_equal(X, before)
    step.save(tmp_path / "step.safetensors")
    assert_array_equal(type(step).load(tmp_path / "step.safetensors").transform(X), out)
    longer = EEGArray(trials(1300), ("C3", "C4"), SFREQ)
    assert step.transform(longer).shape[2] in (1300, 520)


def test_epochs_bring_their_rate():
    data = trials(1100) * 1e-6
    epochs = mne.EpochsArray(data, mne.create_info(["C3", "C4"], SFREQ, "eeg"), verbose="error")
    out = BandPass(8, 30).fit_transform(epochs)
    assert_allclose(out, mne.filter.filter_data(data * 1e6, SFREQ, 8, 30, verbose="error"), atol=1e-9)


def test_short_trials_warn_once_at_fit_and_again_when_the_length_changes():
    X = trials(100)
    step = BandPass(8, 30, sfreq=SFREQ)
    with pytest.warns(UserWarning, match="BandPass: the filter has 265 taps but the trials only 100 samples"):
        step.fit(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step.transform(X)
        step.transform(trials(300))
        BandPass(8, 30, method="iir", sfreq=SFREQ).fit_transform(X)
        BandPass(8, 30, sfreq=SFREQ).fit_transform(trials(265))
    with pytest.warns(UserWarning, match="only 50 samples"):
        step.transform(trials(50))
    with pytest.warns(UserWarning, match="FilterBank: the filter has"):
        FilterBank(sfreq=SFREQ).fit(X)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (BandPass(), r"sfreq: X carries no sampling rate; pass BandPass\(sfreq=...\)"),
        (Resample(), "sfreq: X carries no sampling rate"),
        (FilterBank(), "sfreq: X carries no sampling rate"),
        (
            BandPass(8, 80, sfreq=SFREQ),
            "l_freq, h_freq: got 8 and 80, .* below 80 Hz, half the sampling rate of 160 Hz",
        ),
        (BandPass(0, 30, sfreq=SFREQ), "got 0 and 30, expected .* above 0 Hz"),
        (BandPass(None, None, sfreq=SFREQ), "got None and None, expected one or two"),
        (BandPass(30, 8, sfreq=SFREQ), "got 30 and 8, expected .* ascending"),
        (BandPass(method="fft", sfreq=SFREQ), "method: got 'fft', expected"),
        (BandPass(phase="linear", sfreq=SFREQ), "phase: got 'linear', expected"),
        (BandPass(method="iir", order=0, sfreq=SFREQ), "order: got 0, expected"),
        (Notch(notch_widths=-1, sfreq=SFREQ), "notch_widths: got -1, expected"),
        (Notch(notch_widths=(2, -1), sfreq=SFREQ), "notch_widths: expected one or more numbers of hertz above 0"),
        (Notch(("a",), sfreq=SFREQ), "freqs: expected hertz, got"),
        (FilterBank((("a", "b"),), sfreq=SFREQ), "bands: expected pairs of frequencies"),
        (FilterBank((8, 12), sfreq=SFREQ), "bands: expected pairs of frequencies"),
        (BandPass(phase="forward", sfreq=SFREQ), "phase"),
        (Notch(80, sfreq=SFREQ), "freqs: the stop bands must lie between 0 and 80 Hz"),
        (Notch((50, 0.2), sfreq=SFREQ), "they reach from -0.3"),
        (Notch((20, 50), (1, 2, 3), sfreq=SFREQ), "notch_widths: 3 widths for 2 frequencies"),
        (FilterBank(((8, 12), (70, 90)), sfreq=SFREQ), "bands: got 70 and 90, expected"),
        (FilterBank((8, 12), sfreq=SFREQ), "bands: expected pairs"),
        (FilterBank((), sfreq=SFREQ), "bands: expected pairs"),
        (Resample(0, sfreq=SFREQ), "sfreq_out: got 0, expected"),
        (Resample(100, npad=-1, sfreq=SFREQ), "npad: got -1, expected"),
    ],
)
def test_bad_parameters_are_named(step, message):
    with pytest.raises(ValueError, match=message):
        step.fit(trials(640))


def test_contradicting_rates_are_refused():
    X = EEGArray(trials(640), sfreq=SFREQ)
    with pytest.raises(ValueError, match=r"BandPass\(sfreq=100\), but X was sampled at 160 Hz"):
        BandPass(sfreq=100).fit(X)
    step = BandPass().fit(X)
    with pytest.raises(ValueError, match="sampling rate 250.0 Hz, but BandPass was fitted on 160.0 Hz"):
        step.transform(EEGArray(trials(640), sfreq=250))


@pytest.mark.parametrize(("n_times", "n_out"), [(400, 400), (401, 400), (419, 400), (420, 600), (150, 200), (599, 600)])
def test_padding_reaches_a_multiple(n_times, n_out):
    X = EEGArray(np.random.default_rng(0).standard_normal((2, 3, n_times)), sfreq=200.0)
    out = PadToMultiple(200).fit_transform(X)
    n_kept = min(n_times, n_out)
    assert out.shape == (2, 3, n_out) and out.sfreq == 200
    np.testing.assert_array_equal(np.asarray(out)[..., :n_kept], np.asarray(X)[..., :n_kept])
    assert not np.asarray(out)[..., n_kept:].any()


def test_open_bands_have_names():
    X = EEGArray(trials(1100), ("C3", "C4"), SFREQ)
    out = FilterBank(((None, 8), (30, None))).fit_transform(X)
    assert out.ch_names == ("C3 below 8 Hz", "C4 below 8 Hz", "C3 above 30 Hz", "C4 above 30 Hz")
