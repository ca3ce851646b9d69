import warnings

import numpy as np
import pytest
from scipy.stats import gamma
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from skeeg.array import EEGArray
from skeeg.methods.beira import (
    BandPowerRidge,
    BEIRARegressor,
    BOLDAligner,
    canonical_hrf,
    match_volumes,
    simulate_bold,
    volume_onsets,
)
from skeeg.methods.beira.base import RecordingRegressor
from skeeg.methods.beira.bold import convolve, deconvolve
from skeeg.model_selection import BlockedSplit, null_scores


class FirstChannels(RecordingRegressor):
    """Regressor whose prediction is the EEG of the first channels: what goes in comes out, but for the alignment."""

    def __init__(self, ch_names=None, sfreq=None):
        self.ch_names = ch_names
        self.sfreq = sfreq

    def fit(self, X, y):
        self.seen_ = self._read_pairs(X, y)
        return self

    def predict(self, X):
        eeg = self._read(X, reset=False)
        return self._like_input([np.asarray(array)[:, : self.n_regions_] for array in eeg], X)


def slow(n_times, sfreq, n=2, seed=0):
    """Signals of less than 0.1 Hz."""
    random = np.random.default_rng(seed)
    t = np.arange(n_times) / sfreq
    rates, phases = random.uniform(0.01, 0.08, (n, 5)), random.uniform(0, 6, (n, 5))
    return np.sin(2 * np.pi * rates[..., None] * t + phases[..., None]).sum(axis=1)


def test_canonical_response_is_that_of_spm():
    t = np.arange(3200) / 100
    expected = gamma.pdf(t, 6) - gamma.pdf(t, 16) / 6
    np.testing.assert_allclose(canonical_hrf(100.0), expected / expected.sum())
    assert canonical_hrf(100.0, delay=3.0).argmax() == pytest.approx(250, abs=1)
    with pytest.raises(ValueError, match="delay: got 0"):
        canonical_hrf(100.0, delay=0)


def test_deconvolution_undoes_the_response():
    neural, response = slow(6000, 10.0), canonical_hrf(10.0)
    bold = convolve(neural, response)
    recovered = deconvolve(bold, response, noise=1e-3)
    inner = slice(400, -400)
    for one, other in zip(neural, recovered, strict=True):
        assert np.corrcoef(one[inner], other[inner])[0, 1] > 0.98
        assert np.corrcoef(one[inner], bold[0][inner])[0, 1] < 0.9


@pytest.mark.parametrize("tr", [None, 0.7, 2.0])
@pytest.mark.parametrize("rate", [None, 50.0])
def test_aligned_signals_belong_together_and_predictions_come_back_in_time(tr, rate):
    delay, sfreq = 5.0, 100.0
    neural = slow(12_000, sfreq)
    times = np.arange(12_000) / sfreq if tr is None else np.arange(int(120.005 / tr)) * tr
    bold = np.stack([np.interp(times - delay, np.arange(12_000) / sfreq, one) for one in neural])[None]
    aligner = BOLDAligner(FirstChannels(), delay=delay, tr=tr, rate=rate, sfreq=sfreq).fit(neural[None], bold)
    (eeg,), (target,) = aligner.regressor_.seen_
    assert eeg.sfreq == (rate or sfreq)
    assert eeg.shape == target.shape
    inner = slice(
        int(6 * eeg.sfreq), -int(eeg.sfreq)
    )  # before, the simulated BOLD has no EEG; at the end, filter edges
    np.testing.assert_allclose(np.asarray(eeg)[..., inner], target[..., inner], atol=0.02)
    predicted = aligner.predict(neural[None])
    assert predicted.shape == bold.shape
    counted = slice(aligner.n_unscored_, None)
    np.testing.assert_allclose(predicted[..., counted], bold[..., counted], atol=0.02)
    assert times[aligner.n_unscored_] >= delay > times[aligner.n_unscored_ - 1]
    assert aligner.score(neural[None], bold) > 0.999


def test_canonical_response_is_learnt_from_deconvolved_volumes():
    neural = slow(20_000, 100.0)
    bold = convolve(neural, canonical_hrf(100.0))[:, ::200]
    aligner = BOLDAligner(FirstChannels(), response="canonical", tr=2.0, sfreq=100.0)
    aligner.fit(neural[None], bold[None])
    (eeg,), (target,) = aligner.regressor_.seen_
    assert np.corrcoef(np.asarray(eeg)[0, 0, 3000:-3000], target[0, 0, 3000:-3000])[0, 1] > 0.98
    np.testing.assert_allclose(aligner.predict(neural[None])[0][:, 20:], bold[:, 20:], atol=0.02)


def test_nothing_crosses_from_one_block_to_another():
    X, Y = np.random.default_rng(0).normal(size=(4, 3, 2000)), np.random.default_rng(1).normal(size=(4, 2, 10))
    X[1:] *= 1e6
    Y[1:] *= 1e6
    together = BOLDAligner(FirstChannels(), tr=2.0, rate=50.0, sfreq=100.0).fit(X, Y).regressor_.seen_
    alone = BOLDAligner(FirstChannels(), tr=2.0, rate=50.0, sfreq=100.0).fit(X[:1], Y[:1]).regressor_.seen_
    np.testing.assert_array_equal(together[0][0][:1], alone[0][0])
    np.testing.assert_allclose(together[1][0][:1], alone[1][0])


def raw_with_triggers(neural, onsets, first_samp=0):
    import mne

    info = mne.create_info(["Fz", "Cz"], 100.0, "eeg")
    raw = mne.io.RawArray(neural * 1e-6, info, first_samp=first_samp, verbose="error")
    return raw.set_annotations(mne.Annotations(np.asarray(onsets), 0.0, "mri"))


def test_volumes_are_where_the_annotations_say():
    neural = slow(12_000, 100.0)
    onsets = 3.1 + 1.95 * np.arange(50)
    bold = np.stack([np.interp(onsets - 5.0, np.arange(12_000) / 100, one) for one in neural])
    aligner = BOLDAligner(FirstChannels(), delay=5.0, tr="mri").fit([raw_with_triggers(neural, onsets)], [bold])
    (predicted,) = aligner.predict([raw_with_triggers(neural, onsets)])
    np.testing.assert_allclose(predicted[:, 3:], bold[:, 3:], atol=0.02)
    assert aligner.score([raw_with_triggers(neural, onsets)], [bold]) > 0.999
    with pytest.raises(ValueError, match="no annotation is called 'R128'; there are: 'mri'"):
        BOLDAligner(FirstChannels(), tr="R128").fit([raw_with_triggers(neural, onsets)], [bold])
    with pytest.raises(ValueError, match="'mri' names annotations"):
        BOLDAligner(FirstChannels(), tr="mri").fit([neural], [bold])


@pytest.mark.parametrize("n_volumes", [40, 53])
def test_triggers_and_volumes_of_different_number(n_volumes):
    neural = slow(12_000, 100.0)
    onsets = 3.1 + 1.95 * np.arange(50)
    bold = slow(n_volumes, 0.5)
    message = f"{n_volumes} volumes for 50 triggers; the first {min(50, n_volumes)} of both are paired"
    with pytest.warns(UserWarning, match=message):
        aligner = BOLDAligner(FirstChannels(), tr="mri").fit([raw_with_triggers(neural, onsets)], [bold])
    assert np.isfinite(aligner.score([raw_with_triggers(neural, onsets)], [bold]))


def test_onsets_do_not_depend_on_where_a_recording_was_cut():
    import datetime

    import mne

    raw = mne.io.RawArray(np.zeros((1, 2000)), mne.create_info(["Cz"], 100.0, "eeg"), verbose="error")
    raw.set_meas_date(datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC))
    raw.set_annotations(mne.Annotations([4.0, 6.0, 8.0], 0.0, "mri", orig_time=raw.info["meas_date"]))
    assert volume_onsets(raw).tolist() == [4.0, 6.0, 8.0]
    assert volume_onsets(raw.copy().crop(3.0, 12.0)).round(6).tolist() == [1.0, 3.0, 5.0]


def test_matching_keeps_what_belongs_together():
    bold = np.arange(10.0).reshape(2, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        onsets, same = match_volumes(np.arange(5), bold)
    assert same.shape == bold.shape
    with pytest.warns(UserWarning, match="5 volumes for 3 triggers"):
        onsets, kept = match_volumes(np.arange(3), bold)
    np.testing.assert_array_equal(kept, bold[:, :3])


def test_the_right_delay_scores_best_in_a_grid_search():
    simulated = simulate_bold(1, duration=800, bold_noise=0.2, artefacts=False, random_state=0)
    volumes, _ = simulated.volumes(2.0)  # 10 trials of 40 volumes
    X, Y = (one.reshape(len(one), 10, -1).transpose(1, 0, 2) for one in (np.asarray(simulated.eeg[0]), volumes))
    ridge = BandPowerRidge(lags=(0.0,), alpha=100.0)
    search = GridSearchCV(BOLDAligner(ridge, tr=2.0), {"delay": [0.0, 5.0, 12.0]}, cv=BlockedSplit(3, gap=0.0))
    assert search.fit(EEGArray(X, sfreq=100.0), Y).best_params_ == {"delay": 5.0}
    scores = cross_val_score(search.best_estimator_, EEGArray(X, sfreq=100.0), Y, cv=BlockedSplit(3))
    assert scores.mean() > 0.4
    null = null_scores(search.best_estimator_, EEGArray(X, sfreq=100.0), Y, n=50, random_state=0)
    assert null.p_value == pytest.approx(1 / 51)


def test_simulated_bold_follows_the_source_it_should():
    simulated = simulate_bold(2, duration=300, bold_noise=0.0, random_state=1)
    for region in range(2):
        expected = convolve(simulated.envelopes[region], canonical_hrf(100.0))
        assert np.corrcoef(expected, simulated.bold[0, region])[0, 1] > 0.999
        others = np.corrcoef(simulated.envelopes[1 - region], simulated.bold[0, region])[0, 1]
        assert abs(others) < 0.7
    np.testing.assert_allclose(np.linalg.norm(simulated.patterns, axis=1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(np.asarray(simulated.eeg).mean(axis=1), 0, atol=1e-9)
    again = simulate_bold(2, duration=300, bold_noise=0.0, random_state=1)
    np.testing.assert_array_equal(again.eeg, simulated.eeg)
    with pytest.raises(ValueError, match="n_regions: got 9"):
        simulate_bold(9)


def test_values_without_time_are_handed_on():
    X, y = np.random.default_rng(0).normal(size=(12, 3, 300)), np.random.default_rng(1).normal(size=(12, 2))
    aligner = BOLDAligner(BandPowerRidge(), sfreq=100.0).fit(X, y)
    np.testing.assert_array_equal(aligner.predict(X), BandPowerRidge(sfreq=100.0).fit(X, y).predict(X))


def test_aligners_save_with_the_regressor_within(tmp_path):
    X, Y = np.random.default_rng(0).normal(size=(4, 3, 1000)), np.random.default_rng(1).normal(size=(4, 2, 1000))
    sizes = {"n_branches": 2, "channels": (4, 4), "kernel_sizes": (3,), "strides": (4,)}
    beira = BEIRARegressor(network_params=sizes, max_epochs=1, window=128, validation=None)
    aligner = BOLDAligner(beira, delay=2.0, sfreq=100.0).fit(X, Y)
    aligner.save(tmp_path / "aligner.safetensors")
    loaded = BOLDAligner.load(tmp_path / "aligner.safetensors")
    np.testing.assert_allclose(loaded.predict(X), aligner.predict(X))


@pytest.mark.parametrize(
    ("parameters", "n_volumes", "message"),
    [
        ({"delay": 30.0, "tr": 2.0}, 10, "delay: 30.0 s is too long for 10 volumes in 20.0 s"),
        ({"delay": 30.0}, 2000, "delay: 30.0 s is too long"),
        ({"delay": -1.0}, 2000, "delay: got -1.0"),
        ({"response": "gamma"}, 2000, "response: got 'gamma'"),
        ({"tr": 2.0}, 9, "y: 9 volumes, but 20.00 s of EEG hold 10 of 2.0 s"),
        ({"tr": 0.0}, 10, "tr: got 0.0"),
        ({}, 1990, "X has 2000 samples and y 1990"),
    ],
)
def test_bad_input_is_named(parameters, n_volumes, message):
    X, Y = np.random.default_rng(0).normal(size=(2, 3, 2000)), np.random.default_rng(1).normal(size=(2, 2, n_volumes))
    with pytest.raises(ValueError, match=message):
        BOLDAligner(FirstChannels(), sfreq=100.0).set_params(**parameters).fit(X, Y)


@parametrize_with_checks(
    [BOLDAligner(BandPowerRidge(bands=((0.0, 20.0), (20.0, 51.0)), lags=(0.0, 0.02), step=0.02, sfreq=100.0))]
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)
