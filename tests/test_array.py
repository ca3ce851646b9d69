import copy
import pickle

import mne
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from joblib import Parallel, delayed
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.utils import shuffle

from skeeg.array import EEGArray, as_eeg, is_epochs, make_domains, window_targets

NAMES = ("Fz", "C3", "Cz", "C4")
N = 12


def make(n=N, n_times=10, seed=0):
    """Trials whose first value is their number, as their domain's run is."""
    X = np.random.default_rng(seed).standard_normal((n, len(NAMES), n_times))
    X[:, 0, 0] = np.arange(n)
    domains = make_domains(n, subject=[f"s{i % 3}" for i in range(n)], session="0", run=np.arange(n))
    return EEGArray(X, NAMES, 128.0, domains)


def assert_identity(X, ch_names=NAMES, sfreq=128.0):
    assert type(X) is EEGArray
    assert (X.ch_names, X.sfreq) == (ch_names, sfreq)
    assert len(X.domains) == len(X)
    if X.shape[1] and X.ch_names[0] == "Fz":
        np.testing.assert_array_equal(X.domains["run"].astype(float), np.asarray(X)[:, 0, 0])


def assert_plain(X):
    assert type(X) is np.ndarray


def make_epochs(X=None, types="eeg", names=NAMES, metadata=None, sfreq=128.0):
    X = np.asarray(make()) if X is None else X
    info = mne.create_info(list(names), sfreq, types)
    return mne.EpochsArray(X * 1e-6, info, metadata=metadata)


trial_keys = st.one_of(
    st.slices(N),
    st.lists(st.integers(-N, N - 1), max_size=20).map(lambda rows: np.array(rows, dtype=int)),
    st.lists(st.booleans(), min_size=N, max_size=N).map(np.array),
)


@given(trial_keys)
def test_any_selection_of_trials_keeps_names_rate_and_each_trials_domain(key):
    X = make()
    chosen = X[key]
    assert_identity(chosen)
    np.testing.assert_array_equal(np.asarray(chosen), np.asarray(X)[key])
    np.testing.assert_array_equal(chosen.domains, X.domains[key])


@given(trial_keys, st.lists(st.integers(-4, 3), min_size=1, max_size=6), st.integers(0, 9))
def test_selections_after_each_other_keep_the_identity(rows, picks, start):
    X = make()
    chosen = X[rows][:, picks][..., start:]
    assert_identity(chosen, tuple(NAMES[i] for i in picks)) if picks[0] % 4 else None
    assert chosen.ch_names == tuple(NAMES[i] for i in picks)
    np.testing.assert_array_equal(np.asarray(chosen), np.asarray(X)[rows][:, picks][..., start:])
    np.testing.assert_array_equal(chosen.domains, X.domains[rows])


@pytest.mark.parametrize(
    ("key", "names"),
    [
        (slice(2, 5), NAMES),
        ([0, 3], NAMES),
        ((slice(None), slice(1, 3)), ("C3", "Cz")),
        ((slice(None), [3, 1]), ("C4", "C3")),
        ((slice(None), np.array([True, False, False, True])), ("Fz", "C4")),
        ((Ellipsis, slice(3, None)), NAMES),
        ((slice(None), Ellipsis, slice(0, 4)), NAMES),
        (Ellipsis, NAMES),
        ((), NAMES),
    ],
)
def test_slices_that_keep_three_axes_keep_the_identity(key, names):
    chosen = make()[key]
    assert type(chosen) is EEGArray
    assert (chosen.ch_names, chosen.sfreq) == (names, 128.0)


@pytest.mark.parametrize(
    "key",
    [
        0,
        np.int64(-1),
        (slice(None), 0),
        (0, 0),
        (slice(None), slice(None), 4),
        (slice(None), None),
        (None, slice(None)),
        ([0, 1], [0, 1]),
        ([0, 1], slice(None), [0, 1]),
        (slice(None), slice(None), slice(None, None, 2)),
        np.ones((N, 4, 10), bool),
        np.zeros((2, 2), int),
    ],
    ids=repr,
)
def test_selections_that_break_an_axis_are_plain(key):
    X = make()
    assert_plain(X[key])
    np.testing.assert_array_equal(X[key], np.asarray(X)[key])


def test_one_value_is_a_number():
    assert isinstance(make()[0, 0, 0], float)


def test_unknown_parts_of_the_identity_stay_unknown():
    X = EEGArray(np.zeros((3, 2, 5)))[1:, :1]
    assert (X.ch_names, X.sfreq, X.domains) == (None, None, None)


@pytest.mark.parametrize(
    "operation",
    [
        lambda X: X * 2,
        lambda X: 2 * X,
        lambda X: X - np.asarray(X).mean(axis=1, keepdims=True),
        lambda X: -X,
        lambda X: X / (1 + X * X),
        lambda X: X + X.copy(),
        lambda X: np.abs(X),
        lambda X: np.clip(np.exp(X), 0, 1) * 0 + X,
        lambda X: X.astype(np.float32),
        lambda X: X.copy(),
        copy.copy,
        copy.deepcopy,
        lambda X: X.copy().__iadd__(1),
        lambda X: np.concatenate([X[:4], X[4:]]),
        lambda X: np.concatenate((X[:4], X[4:]), axis=0),
    ],
)
def test_arithmetic_copies_and_joined_trials_keep_the_identity(operation):
    X = make()
    result = operation(X)
    assert type(result) is EEGArray
    assert (result.ch_names, result.sfreq) == (X.ch_names, X.sfreq)
    np.testing.assert_array_equal(result.domains, X.domains)


@pytest.mark.parametrize(
    "operation",
    [
        lambda X: X.mean(axis=0),
        lambda X: X.mean(axis=1, keepdims=True),
        lambda X: X.std(),
        lambda X: np.add.reduce(X, axis=2),
        lambda X: X > 0,
        lambda X: X[:1] + np.zeros((3, 1, 1)),
        lambda X: np.eye(4) @ X,
        lambda X: X @ np.ones((10, 10)),
        lambda X: np.einsum("ijk,lj->ilk", X, np.eye(4)),
        lambda X: np.linalg.inv(X[..., :4] + 9 * np.eye(4)),
        lambda X: X.T,
        lambda X: X.transpose(1, 0, 2),
        lambda X: np.swapaxes(X, 0, 1),
        lambda X: X.swapaxes(0, 1),
        lambda X: X.reshape(4, 12, 10),
        lambda X: X.reshape(12, -1),
        lambda X: X.ravel(),
        lambda X: X.flatten(),
        lambda X: np.stack([X, X]),
        lambda X: np.concatenate([X, X], axis=1),
        lambda X: np.concatenate([X, np.asarray(X)]),
        lambda X: np.repeat(X, 2, axis=0),
        lambda X: X.repeat(2, axis=0),
        lambda X: X.take([0, 1], axis=0),
        lambda X: np.sort(X, axis=0),
        lambda X: np.roll(X, 1, axis=0),
        lambda X: np.flip(X, axis=0),
        lambda X: X.cumsum(axis=2),
        lambda X: np.asarray(X),
        lambda X: np.fft.rfft(X),
        lambda X: X.squeeze(),
        lambda X: X.argsort(axis=0),
    ],
)
def test_everything_else_is_plain(operation):
    result = operation(make())
    assert not isinstance(result, EEGArray)


@pytest.mark.parametrize(
    "change",
    [
        {"ch_names": ("Fz", "C4", "Cz", "C3")},
        {"sfreq": 250.0},
        {"domains": make_domains(N, subject="other")},
        {"domains": None},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_mixes_two_identities_is_plain_or_keeps_what_both_say(change):
    X = make()
    other = X.like(X, **change)
    assert_plain(X + other)
    joined = np.concatenate([X, other])
    if "domains" not in change:
        assert_plain(joined)
    elif change["domains"] is None:
        assert joined.domains is None and joined.ch_names == NAMES
    else:
        assert joined.domains["subject"].tolist() == X.domains["subject"].tolist() + ["other"] * N


def test_results_can_be_written_into_an_array():
    X = make()
    out = np.empty_like(np.asarray(X))
    assert np.multiply(X, 3, out=out) is out
    into = X.copy()
    assert np.multiply(X, 3, out=into) is into
    np.testing.assert_array_equal(into, out)
    assert_identity(X)


def test_an_order_made_by_a_view_never_carries_a_wrong_identity():
    for odd in (np.array(make(), subok=True), make().view(), np.lib.stride_tricks.as_strided(make(), subok=True)):
        assert getattr(odd, "domains", None) is None


def test_assignment_writes_into_the_values():
    X = make()
    X[0] = 0
    X[X.domains["subject"] == "s1", 1] = 5
    assert (np.asarray(X)[0] == 0).all() and (np.asarray(X)[1::3, 1] == 5).all()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickling_keeps_values_and_identity(protocol):
    X = make()
    again = pickle.loads(pickle.dumps(X, protocol))
    assert_identity(again)
    np.testing.assert_array_equal(again, X)
    assert_identity(pickle.loads(pickle.dumps(X[3:6], protocol)))


def _identity(X):
    return type(X).__name__, X.ch_names, X.sfreq, X.domains["run"].tolist()


def test_worker_processes_see_the_identity():
    X = make()
    found = Parallel(n_jobs=2, max_nbytes=1)(delayed(_identity)(X[rows]) for rows in ([0, 5], [7]))
    assert found == [("EEGArray", NAMES, 128.0, ["0", "5"]), ("EEGArray", NAMES, 128.0, ["7"])]


class IdentityChecker(ClassifierMixin, BaseEstimator):
    """Scores 1 where trials arrive with the identity that belongs to them."""

    def __init__(self, flag=0):
        self.flag = flag

    def fit(self, X, y):
        assert_identity(X)
        self.classes_ = np.unique(y)
        np.testing.assert_array_equal(X.domains["run"].astype(int) % 2, y)
        return self

    def score(self, X, y):
        assert_identity(X)
        return float(np.array_equal(X.domains["run"].astype(int) % 2, y))


def test_cross_validation_and_grid_search_slice_identity_and_values_alike():
    X, y = make(), np.arange(N) % 2
    assert cross_val_score(IdentityChecker(), X, y, cv=3, error_score="raise").tolist() == [1, 1, 1]
    search = GridSearchCV(IdentityChecker(), {"flag": [0, 1]}, cv=2, error_score="raise").fit(X, y)
    assert search.best_score_ == 1


def test_splits_and_shuffles_of_scikit_learn_keep_the_identity():
    X = make()
    for part in (*train_test_split(X, random_state=0), shuffle(X, random_state=0)):
        assert_identity(part)


def test_like_gives_new_values_the_identity_and_replaces_what_is_named():
    X = make()
    assert_identity(X.like(np.asarray(X) * 1.0))
    wider = X.like(np.zeros((N, 2, 30)), ch_names=["a", "b"], sfreq=64)
    assert (wider.ch_names, wider.sfreq) == (("a", "b"), 64.0)
    with pytest.raises(ValueError, match="4 names for data with 2 channels"):
        X.like(np.zeros((N, 2, 30)))


def test_eegarray_shares_memory_and_refuses_what_does_not_fit():
    data = np.zeros((3, 2, 5))
    assert np.shares_memory(EEGArray(data), data)
    with pytest.raises(ValueError, match="three axes"):
        EEGArray(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="ch_names: got 1 names for data with 2 channels"):
        EEGArray(data, ["Cz"])
    with pytest.raises(ValueError, match="domains: got 2 records for data with 3 trials"):
        EEGArray(data, domains=make_domains(2))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"sfreq": 0}, ValueError, "sfreq: expected a finite rate above 0 Hz, got 0"),
        ({"sfreq": -128.0}, ValueError, "sfreq"),
        ({"sfreq": np.nan}, ValueError, "sfreq"),
        ({"sfreq": np.inf}, ValueError, "sfreq"),
        ({"sfreq": "128"}, TypeError, "sfreq: expected a number of hertz, got '128'"),
        ({"ch_names": "C3"}, TypeError, "ch_names: expected a sequence of names, got 'C3'"),
        ({"ch_names": 3}, TypeError, "ch_names: expected a sequence of names, got 3"),
        ({"domains": ["a"] * 3}, TypeError, "domains: expected records"),
        ({"data": [[["a", "b"]]]}, ValueError, "data: expected an array of numbers"),
        ({"data": [[[1], [1, 2]]]}, ValueError, "data: expected an array of numbers"),
        ({"data": None}, ValueError, "data: expected three axes"),
    ],
    ids=repr,
)
def test_what_no_recording_can_have_is_refused(changes, error, message):
    with pytest.raises(error, match=message):
        EEGArray(**{"data": np.zeros((3, 2, 5))} | changes)


def test_masked_samples_are_missing():
    data = np.ma.masked_equal(np.arange(24).reshape(2, 3, 4), 5)
    for X in (EEGArray(data), as_eeg(data), as_eeg(data.astype(np.float32))):
        assert np.isnan(X[0, 1, 1]) and np.isnan(X).sum() == 1
    assert as_eeg(data.astype(np.float32)).dtype == np.float32


def test_no_trial_and_no_channel_keep_the_identity():
    X = make()
    for empty in (X[[]], X[np.array([], int)], X[:0], X[np.zeros(N, bool)]):
        assert type(empty) is EEGArray and empty.shape == (0, 4, 10)
        assert (empty.ch_names, len(empty.domains)) == (NAMES, 0)
    assert X[:, []].ch_names == () and X[:, []].shape == (N, 0, 10)


def test_the_representations_are_short():
    X = make()
    assert repr(X) == "EEGArray(12 trials, 4 channels (Fz, C3, Cz, C4), 10 samples at 128 Hz, 3 subjects)"
    unknown_rate = EEGArray(np.zeros((2, 5, 3)), list("abcde"))
    assert repr(unknown_rate) == "EEGArray(2 trials, 5 channels (a, b, c, ...), 3 samples)"
    X[:, 1] = np.nan
    assert "bad: C3" in str(X) and "<td>bad: C3</td>" in X._repr_html_()
    assert "&lt;b&gt;" in X.like(X, ch_names=["<b>", "C3", "Cz", "C4"])._repr_html_()
    assert repr(np.lib.stride_tricks.as_strided(X, shape=(2, 2), subok=True)) == "EEGArray(shape (2, 2))"


def test_domains_are_strings_given_once_or_for_each_trial():
    domains = make_domains(3, subject=7, session=["a", "b", "c"])
    assert domains["subject"].tolist() == ["7", "7", "7"]
    assert domains["session"].tolist() == ["a", "b", "c"] and domains["run"].tolist() == ["", "", ""]
    with pytest.raises(ValueError, match="session: got 2 values for 3 trials"):
        make_domains(3, session=["a", "b"])


def test_as_eeg_takes_arrays_of_two_and_three_axes_and_lists():
    assert as_eeg(np.zeros((5, 7))).shape == (5, 1, 7)
    assert as_eeg(np.zeros((5, 2, 7)).tolist(), sfreq=100).shape == (5, 2, 7)
    with pytest.raises(ValueError, match="three axes"):
        as_eeg(np.zeros((2, 3, 4, 5)))
    with pytest.raises(ValueError, match=r"subjects: got shape \(2,\) for 5 trials"):
        as_eeg(np.zeros((5, 7)), subjects=["a", "b"])
    for missing in (None, np.nan):
        with pytest.raises(ValueError, match="subjects: got missing values"):
            as_eeg(np.zeros((2, 7)), subjects=np.array([1, missing], dtype=object))


def test_as_eeg_prefers_what_the_trials_say_over_what_it_is_told():
    X = make()
    same = as_eeg(X, ch_names=("a", "b", "c", "d"), sfreq=1, subjects=["x"] * N)
    assert_identity(same)
    assert np.shares_memory(same, X)
    named = as_eeg(np.asarray(X), ch_names=NAMES, sfreq=128, subjects=X.domains["subject"])
    assert (named.ch_names, named.sfreq) == (NAMES, 128.0)
    assert named.domains["subject"].tolist() == X.domains["subject"].tolist()


def test_as_eeg_reads_epochs_in_microvolts_with_their_domains():
    import pandas as pd

    X = make()
    metadata = pd.DataFrame({field: X.domains[field] for field in ("subject", "session", "run")})
    read = as_eeg(make_epochs(metadata=metadata))
    assert_identity(read)
    np.testing.assert_allclose(read, np.asarray(X), rtol=1e-12)
    np.testing.assert_array_equal(read.domains, X.domains)
    partly = as_eeg(make_epochs(metadata=pd.DataFrame({"subject": range(N), "other": 0})))
    assert partly.domains["subject"].tolist() == [str(i) for i in range(N)] and set(partly.domains["run"]) == {""}
    assert as_eeg(make_epochs()).domains is None


def test_as_eeg_joins_lists_of_epochs():
    import pandas as pd

    epochs = make_epochs(metadata=pd.DataFrame({"subject": [f"s{i}" for i in range(N)]}))
    read = as_eeg([epochs[i] for i in (5, 2, 9)])
    assert read.domains["subject"].tolist() == ["s5", "s2", "s9"] and read.ch_names == NAMES
    np.testing.assert_allclose(read, np.asarray(make())[[5, 2, 9]], rtol=1e-12)
    for other in (make_epochs(sfreq=64), make_epochs(names=("a", "b", "c", "d")), make_epochs(np.zeros((1, 4, 3)))):
        with pytest.raises(ValueError, match="differ in channels, sampling rate or length"):
            as_eeg([epochs[0], other[0]])


def test_as_eeg_takes_the_electrodes_among_other_channels():
    types = ["eeg", "eog", "stim", "eeg"]
    read = as_eeg(make_epochs(types=types))
    assert read.ch_names == ("Fz", "C4")
    np.testing.assert_allclose(read, np.asarray(make())[:, [0, 3]], rtol=1e-12)
    assert as_eeg(make_epochs(types=["seeg", "misc", "seeg", "seeg"])).ch_names == ("Fz", "Cz", "C4")
    with pytest.raises(ValueError, match="no EEG channel, only eog, stim"):
        as_eeg(make_epochs(types=["eog", "eog", "stim", "stim"]))


def make_windows(unit=1e-6, epoched=False, targets_from="metadata", lengths=(10, 10)):
    """Two recordings of braindecode, of subjects a and b, with six windows each."""
    import pandas as pd
    from braindecode.datasets import BaseConcatDataset, EEGWindowsDataset, RawDataset

    recordings = []
    for subject, length, X in zip("ab", lengths, np.split(np.asarray(make()), 2), strict=True):
        data = np.concatenate([*(X * unit), np.zeros((4, 10))], axis=1)  # windows of 20 samples end there
        target = np.repeat(np.arange(7.0), 10)[None]
        info = mne.create_info([*NAMES, "target"], 128.0, ["eeg"] * 4 + ["misc"])
        raw = mne.io.RawArray(np.concatenate([data, target]), info, verbose="error")
        raw.info["bads"] = ["Cz"]
        starts = np.arange(6) * 10
        trials = {"i_window_in_trial": 0, "i_start_in_trial": starts, "i_stop_in_trial": starts + length}
        metadata = pd.DataFrame(trials | {"target": [0, 1] * 3})
        about = {"subject": subject, "session": 1, "age": 30}
        if not lengths[0]:
            recordings.append(RawDataset(raw, about))
            continue
        if targets_from == "metadata":
            raw.drop_channels("target")
        recording = EEGWindowsDataset(raw, metadata, about, targets_from=targets_from)
        recordings.append(recording.to_epochs_dataset() if epoched else recording)
    return BaseConcatDataset(recordings)


@pytest.mark.filterwarnings("ignore:The provided mne.Epochs object:UserWarning")
@pytest.mark.parametrize("epoched", [False, True])
def test_as_eeg_reads_the_windows_of_braindecode(epoched):
    windows = make_windows(epoched=epoched)
    read = as_eeg(windows)
    assert (read.ch_names, read.sfreq, read.bads) == (NAMES, 128.0, ("Cz",))
    assert read.domains["subject"].tolist() == ["a"] * 6 + ["b"] * 6 and set(read.domains["session"]) == {"1"}
    np.testing.assert_allclose(read[:, [0, 1, 3]], np.asarray(make())[:, [0, 1, 3]], rtol=1e-6)
    np.testing.assert_array_equal(as_eeg(windows.datasets[1])[:, :1], read[6:, :1])
    np.testing.assert_allclose(as_eeg(make_windows(1.0, epoched))[:, :1], read[:, :1], rtol=1e-6)  # scaled before
    windows.target_transform = lambda target: "ab"[target]
    assert window_targets(windows).tolist() == ["a", "b"] * 6


def test_targets_of_windows_may_be_channels():
    windows = make_windows(targets_from="channels")
    assert as_eeg(windows).ch_names == NAMES
    np.testing.assert_array_equal(window_targets(windows)[:, 0], [*range(6)] * 2)


def test_what_cannot_be_windows_is_refused():
    uneven = make_windows().datasets[0]
    uneven.crop_inds = uneven.crop_inds + 10 * np.eye(6, 3, k=2, dtype=int)
    with pytest.raises(ValueError, match=r"X: expected windows of one length, got \[10, 20\] samples"):
        as_eeg(uneven)
    with pytest.raises(ValueError, match="X: the recordings in it differ"):
        as_eeg(make_windows(lengths=(10, 20)))
    with pytest.raises(ValueError, match="X: expected windows, got recordings; .*create_windows_from_events"):
        as_eeg(make_windows(lengths=(0, 0)))


def test_estimators_learn_from_windows_and_their_targets():
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.pipeline import make_pipeline

    from skeeg import CSP, EuclideanAlignment, NetworkClassifier

    windows = make_windows()
    for recording in windows.datasets:
        recording.raw.info["bads"] = []
    X, y = as_eeg(windows), window_targets(windows)
    for csp in (CSP(2).fit(windows), CSP(2).fit(X=windows, y=None), CSP(2).fit(windows, y)):
        np.testing.assert_array_equal(csp.transform(windows), CSP(2).fit(X, y).transform(X))
    np.testing.assert_array_equal(CSP(2).fit_transform(windows), CSP(2).fit(X, y).transform(X))
    assert CSP(2).fit(windows, np.repeat(["x", "y"], 6)).classes_.tolist() == ["x", "y"]
    assert EuclideanAlignment().fit(windows).ch_names_in_ == NAMES
    pipeline = make_pipeline(EuclideanAlignment(), CSP(2), LinearDiscriminantAnalysis())
    assert pipeline.fit(windows, y).predict(windows).shape == (12,)
    with pytest.raises(TypeError, match="missing .* 'y'"):
        pipeline.fit(windows)  # labels are given to a pipeline
    clf = NetworkClassifier(
        "ShallowFBCSPNet",
        max_epochs=1,
        random_state=0,
        network_params={"pool_time_length": 2, "pool_time_stride": 1, "filter_time_length": 3},
    )
    assert clf.fit(windows, None).predict(windows).shape == (12,)


def test_channels_that_are_marked_bad_arrive_as_missing_with_their_names():
    epochs = make_epochs()
    epochs.info["bads"] = ["C3"]
    read = as_eeg(epochs)
    assert (read.ch_names, read.bads) == (NAMES, ("C3",))
    np.testing.assert_allclose(read[:, [0, 2, 3]], np.asarray(make())[:, [0, 2, 3]], rtol=1e-12)
    assert np.isnan(read[:, 1]).all()
    epochs.info["bads"] = list(NAMES)
    with pytest.raises(ValueError, match="all eeg channels are marked bad"):
        as_eeg(epochs)


def test_bad_channels_survive_slices_and_joins():
    X, other = make(), make()
    X[:, 1], other[:, 3] = np.nan, np.nan
    for same in (
        X[2:4],
        X[:, 1:],
        (2 * X)[..., 3:],
        pickle.loads(pickle.dumps(X)),
        X.like(np.asarray(X)),
        X[[]].copy(),
    ):
        assert same.bads == (("C3",) if len(same) else ())
    assert X[:, [0, 2]].bads == () and np.concatenate([X, other]).bads == ("C3", "C4")
    assert EEGArray(np.asarray(X)).bads == (1,)
    X[1:, 1] = 0  # missing in the first trial only
    assert X.bads == ("C3",) and X[1:].bads == ()
    X[0, 1, 4] = 0  # one sample is there
    assert X.bads == () and EEGArray(np.ones((1, 2, 3), int)).bads == ()


def test_epochs_of_trials_are_read_back_as_the_same_trials():
    X = make()
    X[:, 2] = np.nan
    epochs = X.to_epochs()
    assert epochs.info["bads"] == ["Cz"] and epochs.get_montage() is not None
    again = as_eeg(epochs)
    assert_identity(again)
    np.testing.assert_allclose(again, np.asarray(X), rtol=1e-12)
    assert as_eeg(EEGArray(np.zeros((2, 1, 9)), ("Cz",), 50).to_epochs()).domains is None
    for missing, change in (("ch_names", {"ch_names": None}), ("sfreq", {"sfreq": None})):
        with pytest.raises(ValueError, match=f"{missing}: not known"):
            X.like(X, **change).to_epochs()


def test_epochs_are_told_from_everything_else():
    epochs = make_epochs()
    assert is_epochs(epochs) and is_epochs([epochs, epochs[0]])
    assert not any(is_epochs(other) for other in ([], [epochs, 1], np.zeros(3), "Fz", None))
