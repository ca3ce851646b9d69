import warnings

import mne
import numpy as np
import pytest

import skeeg
from skeeg import EEGToMEG
from skeeg.methods.eeg2meg import MEGSimulation, retype_wakeman_henson
from skeeg.methods.eeg2meg.forward import (
    harmonic_encoder,
    harmonics,
    head_sphere,
    leadfields,
    minimum_norm,
    multipoles,
    read_geometry,
)
from skeeg.methods.eeg2meg.residual import MomentCodes
from skeeg.methods.eeg2meg.sensors import build_info, describe, read_trials
from skeeg.methods.eeg2meg.simulation import neuromag_info
from skeeg.positions import standard_montage

SIMULATION = MEGSimulation(noise=0.1, n_times=50)
TINY = {"max_epochs": 1, "device": "cpu", "random_state": 0, "network_params": {"n_filters": 4, "lstm_hidden": 4}}


@pytest.fixture(scope="module")
def raw():
    return SIMULATION.raw(run=0, n_trials=20)


@pytest.fixture(scope="module")
def virtual(raw):
    return EEGToMEG("ridge", window=0.5, lags=0).fit_recordings([raw, SIMULATION.raw(run=1, n_trials=20)])


def epochs_of(raw, n=10):
    events = np.column_stack([50 * np.arange(n) + 5, np.zeros(n, int), 1 + np.arange(n) % 2])
    return mne.Epochs(raw, events, {"left": 1, "right": 2}, -0.05, 0.34, baseline=None, preload=True, verbose="error")


def assert_same_sensors(info, wanted):
    assert info["ch_names"] == wanted["ch_names"]
    assert info.get_channel_types() == wanted.get_channel_types()
    np.testing.assert_allclose([c["loc"] for c in info["chs"]], [c["loc"] for c in wanted["chs"]])
    assert [c["coil_type"] for c in info["chs"]] == [c["coil_type"] for c in wanted["chs"]]
    assert [c["unit"] for c in info["chs"]] == [c["unit"] for c in wanted["chs"]]
    np.testing.assert_allclose(info["dev_head_t"]["trans"], wanted["dev_head_t"]["trans"])


def test_raw_in_and_out(raw, virtual):
    meg = raw.copy().pick("meg")
    marked = raw.copy().set_annotations(mne.Annotations([1.0], [0.5], ["blink"]))
    found = virtual.predict_recording(marked)
    assert_same_sensors(found.info, meg.info)
    assert found.n_times == raw.n_times and list(found.annotations.description) == ["blink"]
    r = [np.corrcoef(a, b)[0, 1] for a, b in zip(found.get_data(), meg.get_data(), strict=True)]
    assert np.mean(r) > 0.5
    # an instantaneous map gives the same in overlapping windows as at once
    X = raw.get_data("eeg")[None] * 1e6
    np.testing.assert_allclose(found.get_data(), virtual.predict(X)[0], rtol=1e-6, atol=1e-20)
    assert virtual.info_eeg_["ch_names"] == list(SIMULATION.ch_names)
    assert_same_sensors(virtual.info_meg_, meg.info)


def test_epochs_in_and_out(raw):
    epochs = epochs_of(raw)
    virtual = EEGToMEG("unet", meg="mag", **TINY).fit_recordings(epochs)
    found = virtual.predict_recording(epochs.copy().pick("eeg"))
    assert_same_sensors(found.info, epochs.copy().pick("mag").info)
    np.testing.assert_array_equal(found.events, epochs.events)
    assert found.event_id == epochs.event_id and found.tmin == epochs.tmin
    evoked = virtual.predict_recording(epochs["left"].average("eeg"))
    np.testing.assert_allclose(evoked.times, epochs.times)
    assert evoked.nave == 5


def test_predictions_can_be_plotted_and_localised(raw, virtual):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    evoked = virtual.predict_recording(epochs_of(raw)["left"].average("eeg"))
    for kind in ("mag", "grad"):
        plt.close(evoked.plot_topomap(0.1, ch_type=kind, show=False))
    places = mne.setup_volume_source_space(
        pos=dict(rr=np.array([[0, 0.03, 0.05], [0.03, 0, 0.05]]), nn=np.eye(3)[:2]), verbose="error"
    )
    sphere = mne.make_sphere_model((0.0, 0.0, 0.0), 0.095, verbose="error")
    forward = mne.make_forward_solution(evoked.info, None, places, sphere, eeg=False, verbose="error")
    covariance = mne.make_ad_hoc_cov(evoked.info, verbose="error")
    inverse = mne.minimum_norm.make_inverse_operator(evoked.info, forward, covariance, verbose="error")
    estimate = mne.minimum_norm.apply_inverse(evoked, inverse, verbose="error")
    assert estimate.data.shape == (2, len(evoked.times)) and np.isfinite(estimate.data).all()


def test_windows_with_a_bad_annotation_are_left_out(raw):
    marked = raw.copy().set_annotations(mne.Annotations([1.2, 5.0], [0.1, 0.2], ["BAD muscle", "fine"]))
    windows, whole = (read_trials(one, ["Cz"], 0.5) for one in (marked, raw))
    np.testing.assert_array_equal(windows, np.delete(whole, 2, axis=0))
    with pytest.raises(ValueError, match="window: 100 s, but the recording lasts"):
        EEGToMEG("ridge", window=100).fit_recordings(raw)


def test_what_is_no_eeg_is_left_out_with_a_warning(raw):
    odd = raw.copy().rename_channels({"Fp1": "VEOG"})
    with pytest.warns(UserWarning, match="VEOG: typed as EEG, but"):
        virtual = EEGToMEG("ridge", window=0.5).fit_recordings(odd)
    assert virtual.n_features_in_ == 31
    lost = raw.copy()
    lost.info["chs"][3]["loc"][:] = np.nan
    with pytest.warns(UserWarning, match="F7|F3"):
        assert EEGToMEG("ridge", window=0.5).fit_recordings(lost).n_features_in_ == 31


def test_the_channels_of_ds000117_get_their_types():
    names = [f"EEG{i:03d}" for i in range(59, 65)]
    raw = mne.io.RawArray(np.zeros((6, 10)), mne.create_info(names, 100.0, "eeg"), verbose="error")
    assert retype_wakeman_henson(raw).get_channel_types() == ["eeg", "eeg", "eog", "eog", "ecg", "misc"]


def test_recordings_that_do_not_fit_are_named(raw, virtual):
    with pytest.raises(ValueError, match="no meg channel.*holds: eeg"):
        EEGToMEG("ridge").fit_recordings(raw.copy().pick("eeg"))
    with pytest.raises(ValueError, match="no eeg channel"):
        EEGToMEG("ridge").fit_recordings(raw.copy().pick("meg"))
    with pytest.raises(ValueError, match="number 1 has other channels"):
        EEGToMEG("ridge").fit_recordings([raw, raw.copy().drop_channels(["Cz"])])
    with pytest.raises(ValueError, match="no EEG channel Cz, which fit has seen"):
        virtual.predict_recording(raw.copy().drop_channels(["Cz"]))
    with pytest.raises(ValueError, match="subjects: got 1 for 2"):
        EEGToMEG("ridge").fit_recordings([raw, raw], subjects=["a"])
    with pytest.raises(ValueError, match="at least one"):
        EEGToMEG("ridge").fit_recordings([])
    femto = raw.copy().apply_function(lambda x: 1e15 * x, picks="mag")
    with pytest.raises(ValueError, match="mag channels deviate by .* expected about 1e-12"):
        EEGToMEG("ridge").fit_recordings(femto)
    X, Y, _ = SIMULATION.trials(n_trials=4)
    with pytest.raises(ValueError, match="geometry: not known"):
        EEGToMEG("ridge").fit(X, Y).predict_recording(raw)
    with pytest.raises(ValueError, match="geometry: 204 meg sensors, but the data have 306"):
        EEGToMEG("ridge").fit(X, Y, geometry=build_info(*(describe(raw.info, kind) for kind in ("eeg", "grad"))))
    nowhere = raw.copy()
    for channel in nowhere.info["chs"][:32]:
        channel["loc"][:] = np.nan
    with pytest.raises(ValueError, match="needs the positions of the sensors; Fp1, Fp2"):
        EEGToMEG("minimum_norm", window=0.5).fit_recordings(nowhere)


def test_a_saved_map_still_knows_its_helmet(raw, virtual, tmp_path):
    virtual.save(tmp_path / "virtual")
    again = skeeg.load(tmp_path / "virtual")
    assert_same_sensors(again.predict_recording(raw).info, raw.copy().pick("meg").info)


def test_sensors_survive_being_arrays(raw):
    again = build_info(describe(raw.info, "eeg"), describe(raw.info, "meg"), sfreq=raw.info["sfreq"])
    assert_same_sensors(again, raw.info)


# Physics


def test_harmonics_are_orthonormal():
    z, weights = np.polynomial.legendre.leggauss(12)
    turns = 2 * np.pi * np.arange(24) / 24
    z, turns = (one.ravel() for one in np.meshgrid(z, turns, indexing="ij"))
    weights = np.repeat(weights, 24) * 2 * np.pi / 24
    points = np.column_stack([np.sqrt(1 - z**2) * np.cos(turns), np.sqrt(1 - z**2) * np.sin(turns), z])
    values, degrees = harmonics(points, 5)
    np.testing.assert_allclose(values.T @ (weights[:, None] * values), np.eye(36), atol=1e-10)
    assert degrees.tolist() == [degree for degree in range(6) for _ in range(2 * degree + 1)]


def test_harmonics_of_two_caps_agree_on_a_smooth_map():
    def cap(names):
        return describe(MEGSimulation(ch_names=names).info(), "eeg")

    dense = cap(tuple(standard_montage("standard_1020").ch_names[3:80]))
    sparse = cap(SIMULATION.ch_names)

    def smooth(sensors):
        return (sensors["loc"][:, :3] / 0.095) @ [1.0, 2.0, -0.5]

    a, b = (harmonic_encoder(one, order=4) @ smooth(one) for one in (dense, sparse))
    np.testing.assert_allclose(a[:3], b[:3], rtol=0.1)
    assert np.abs(a[3:]).max() < 0.2 * np.abs(a[:3]).max()


def test_the_sphere_of_the_head():
    centre, radius = head_sphere(describe(SIMULATION.info(), "eeg"))
    np.testing.assert_allclose([*centre, radius], [0, 0, 0, 0.095], atol=1e-6)
    with pytest.raises(ValueError, match="four electrodes"):
        flat = describe(SIMULATION.info(), "eeg")
        head_sphere({**flat, "loc": flat["loc"][:3], "names": flat["names"][:3]})


def test_moments_carry_a_field_to_another_place_of_the_head():
    here, there = (describe(SIMULATION.info(i), "meg") for i in (0, 3))
    eeg = describe(SIMULATION.info(), "eeg")
    field, wanted = (leadfields(eeg, meg)[1][:, :250] for meg in (here, there))  # the deeper half, smooth outside
    carried = multipoles(there, np.zeros(3)) @ np.linalg.lstsq(multipoles(here, np.zeros(3)), field, rcond=None)[0]
    mags = np.array(here["types"]) == "mag"
    r, still = (np.corrcoef(one[mags].ravel(), wanted[mags].ravel())[0, 1] for one in (carried, field))
    assert r > 0.98 and r > still


def test_position_codes_come_back():
    info = SIMULATION.info()
    (geometry,), _ = read_geometry(info, 1)
    scale = np.where(np.array(geometry["meg"]["types"]) == "mag", 1e-13, 1e-12)
    codes = MomentCodes([geometry], scale, None)
    decoder = codes.matrices_of([geometry])[0]["decoder"]
    z = np.random.default_rng(0).normal(size=decoder.shape[1])
    np.testing.assert_allclose(codes.target_encoders[0] @ decoder @ z, z / 1.01, rtol=1e-6)


def test_minimum_norm_explains_the_eeg_and_finds_the_field():
    info = SIMULATION.info()
    eeg, meg = describe(info, "eeg"), describe(info, "meg")
    with pytest.raises(ValueError, match="alpha"):
        minimum_norm(eeg, meg, alpha=0)
    X, Y, _ = SIMULATION.trials(n_trials=20)
    virtual = EEGToMEG("minimum_norm").fit(X, Y, geometry=info)
    assert virtual.score(X, Y) > 0.1
    assert 0.2 < virtual.predict(X)[:, 2].std() / Y[:, 2].std() < 2  # tesla, of the right size
    np.testing.assert_allclose(virtual.predict(X + 7), virtual.predict(X), rtol=1e-6, atol=1e-20)  # no reference
    eeg_gain, meg_gain = leadfields(eeg, meg)
    seen = np.argsort(-np.linalg.norm(meg_gain[2::3], axis=0))[:60]  # shallow and tangential
    found = minimum_norm(eeg, meg) @ eeg_gain
    assert np.median([np.corrcoef(found[2::3, i], meg_gain[2::3, i])[0, 1] for i in seen]) > 0.3
    gram = eeg_gain @ eeg_gain.T
    plain = meg_gain @ eeg_gain.T @ np.linalg.inv(gram + np.trace(gram) / 32 / 9 * np.eye(32))
    average = np.eye(32) - 1 / 32
    np.testing.assert_allclose(minimum_norm(eeg, meg) @ average, plain @ average, atol=1e-6 * np.abs(plain).max())


def test_one_model_serves_positions_and_montages_it_has_not_seen(tmp_path):
    parts, infos = [], []
    for position in range(1, 4):
        X, Y, _ = SIMULATION.trials(run=position, n_trials=12, position=position)
        parts.append((X, Y))
        infos += [SIMULATION.info(position)] * 12
    X, Y = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    knowing = EEGToMEG("ridge", positions=True, lags=0).fit(X, Y, geometry=infos)
    blind = EEGToMEG("ridge", lags=0).fit(X, Y, geometry=infos)
    X, Y, _ = SIMULATION.trials(run=9, n_trials=12, position=8)
    there = SIMULATION.info(8)
    assert knowing.score(X, Y, geometry=there) > blind.score(X, Y)
    assert knowing.score(X, Y, geometry=there) > knowing.score(X, Y)  # at the place of the training's first trial
    half = X[:, ::2]
    eeg, meg = describe(there, "eeg"), describe(there, "meg")
    fewer = {k: v[::2] if k != "dev_head" else v for k, v in eeg.items()}
    other = build_info(fewer, meg)
    assert knowing.predict(half, geometry=other).shape == Y.shape
    knowing.save(tmp_path / "virtual")
    np.testing.assert_array_equal(skeeg.load(tmp_path / "virtual").predict(half, other), knowing.predict(half, other))


def test_the_helmet_is_that_of_mne():
    info = neuromag_info()
    assert info["ch_names"][:3] == ["MEG 0113", "MEG 0112", "MEG 0111"]
    assert info.get_channel_types()[:3] == ["grad", "grad", "mag"]
    assert {c["coil_type"] for c in info["chs"]} == {3012, 3024}


def test_no_warning_where_nothing_is_wrong(raw):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        EEGToMEG("ridge", window=0.5).fit_recordings(raw)


@pytest.mark.parametrize("model", ["ridge", "wavelet_unet", "minimum_norm"])
def test_parameters_that_are_set_after_fit_wait_for_the_next_fit(model):
    X, Y, _ = SIMULATION.trials(n_trials=8)
    sizes = TINY["network_params"] if model == "wavelet_unet" else None
    virtual = EEGToMEG(model, sizes, max_epochs=1, random_state=0).fit(X, Y, geometry=SIMULATION.info())
    there = SIMULATION.info(3)
    wanted = [virtual.predict(X), virtual.predict(X, geometry=there), np.asarray(virtual.transform(X))]
    for other in ("ridge", "unet", "wavelet_unet", "minimum_norm"):
        virtual.set_params(model=other, lags=3, alpha=2.0, scale="type", positions=other == "unet", meg="mag")
        found = [virtual.predict(X), virtual.predict(X, geometry=there), np.asarray(virtual.transform(X))]
        for one, same in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(one, same)
        assert virtual.score(X, Y) == pytest.approx(virtual.score(X, Y, geometry=SIMULATION.info()))
    refitted = virtual.set_params(meg="meg").fit(X, Y, geometry=there).predict(X)
    assert refitted.shape == Y.shape and not np.array_equal(refitted, wanted[0])
