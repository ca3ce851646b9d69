import numpy as np
import pytest

from skeeg import WaveletBands
from skeeg.array import EEGArray, make_domains
from skeeg.wavelets import morlet

# Sum, first eight and every 412th value of the published features, (channels, bands, times, windows), of two channels
# and three windows of 275 samples drawn from RandomState(15).
TOTAL = 1919.997520275414
FIRST = (0.339769, 0.2923788, 0.2175138, 0.3478793, 0.2983917, 0.2280456, 0.3689357, 0.3068919)
STRIDED = (0.339769, 0.438227, 0.4554804, 0.3077841, 0.2703391, 0.3188121, 0.3693574, 0.3491977, 0.3562263, 0.2136263,
           0.206426, 0.5967283)  # fmt: skip


def test_bands_are_the_published_ones():
    drawn = np.random.RandomState(15).standard_normal((2, 275, 3)).astype(np.float32).astype(float)  # noqa: NPY002
    bands = WaveletBands(scale=None, sfreq=275).fit_transform(drawn.transpose(2, 0, 1))
    published = np.asarray(bands).reshape(3, 3, 2, 275).transpose(2, 1, 3, 0)
    assert published.sum() == pytest.approx(TOTAL, rel=1e-6)
    np.testing.assert_allclose(published.ravel()[:8], FIRST, atol=1e-6)
    np.testing.assert_allclose(published.ravel()[::412][:12], STRIDED, atol=1e-6)


def test_coefficients_are_those_of_a_morlet_wavelet():
    """Far from the coarse end, summing the wavelet over samples is sampling it: MNE's wavelet, but for its norm."""
    from mne.time_frequency import morlet as mne_morlet

    ours, theirs = morlet(0.02), mne_morlet(100.0, [2.0], n_cycles=2 * np.pi * np.sqrt(0.75))[0]
    middle, half = len(ours) // 2, len(theirs) // 2
    ours = ours[middle - half : middle + half + 1]
    assert abs(np.vdot(ours, theirs)) / np.linalg.norm(ours) / np.linalg.norm(theirs) > 0.99


@pytest.mark.parametrize(("hertz", "band"), [(10, 0), (20, 1), (60, 2)])
def test_a_sine_shows_in_its_own_band_at_its_true_rate(hertz, band):
    t = np.arange(1000) / 250.0
    values = WaveletBands(scale=None, sfreq=250).fit_transform(np.sin(2 * np.pi * hertz * t)[None, None])
    assert values[0, :, 300:700].mean(axis=1).argmax() == band


def test_extremes_come_from_the_training_trials_only():
    X = np.random.default_rng(0).normal(size=(6, 2, 300))
    bands = WaveletBands(sfreq=250).fit(X[:4])
    training, other = bands.transform(X[:4]), bands.transform(10 * X[4:])
    assert training.min() == 0 and training.max() == pytest.approx(1)
    assert other.max() > 1.5
    np.testing.assert_array_equal(bands.transform(X), np.concatenate([training, bands.transform(X[4:])]))


def test_joined_windows_have_no_edges_within_a_run():
    recording = np.random.default_rng(0).normal(size=(2, 1200))
    windows = recording.reshape(2, 6, 200).transpose(1, 0, 2)
    runs = EEGArray(windows, ["Cz", "Pz"], 250.0, make_domains(6, run=["a"] * 3 + ["b"] * 3))
    joined = WaveletBands(scale=None, joined=True).fit_transform(runs)
    for rows, part in ((slice(3), slice(600)), (slice(3, 6), slice(600, None))):
        whole = WaveletBands(scale=None, sfreq=250).fit_transform(recording[None, :, part])[0]
        np.testing.assert_allclose(joined[rows].transpose(1, 0, 2).reshape(6, 600), whole, atol=1e-12)
    alone = WaveletBands(scale=None).fit_transform(runs)
    assert np.abs(alone - joined)[1].max() > 0.05  # what the edges of each window do
    assert joined.ch_names[3] == "Pz 13-30 Hz"


@pytest.mark.parametrize("bands", [(), ((8,),), (8, 12), "x", 5])
def test_what_is_no_band_is_refused(bands):
    with pytest.raises(ValueError, match="bands: expected pairs of frequencies"):
        WaveletBands(bands=bands, sfreq=250).fit(np.random.default_rng(0).normal(size=(2, 3, 250)))


def test_an_open_band_reaches_to_the_last_frequency():
    X = np.random.default_rng(0).normal(size=(2, 3, 500))
    both = [WaveletBands(bands=bands, sfreq=250).fit_transform(X) for bands in (((30, None),), ((30, 100),))]
    np.testing.assert_array_equal(*both)
    named = WaveletBands(bands=((30, None), (None, 8))).fit_transform(EEGArray(X, ["C3", "Cz", "C4"], 250.0))
    assert named.ch_names[::3] == ("C3 above 30 Hz", "C3 below 8 Hz")


def test_bands_beyond_the_rate_are_refused():
    with pytest.raises(ValueError, match="bands: none of the 60 frequencies.*below 25 Hz"):
        WaveletBands(sfreq=50).fit(np.ones((2, 1, 40)))
    with pytest.raises(ValueError, match="scale: got 'std'"):
        WaveletBands(scale="std").fit(np.ones((2, 1, 40)))
