import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from skorch.callbacks import Callback

from skeeg import CTAdaptTLClassifier
from skeeg.array import EEGArray, make_domains
from skeeg.methods.ct_adapttl.network import UPSTREAM_KEYS, CTAdaptTLNet
from skeeg.methods.ct_adapttl.training import (
    Folds,
    Start,
    pool_sources,
    remember,
    split_folds,
    train_folds,
)
from skeeg.training import Recipe

Y = np.tile([0, 1], 24)
SUBJECTS = np.repeat(np.arange(8), 6)


def test_by_subject_no_subject_is_in_both_parts():
    folds = split_folds(Y, SUBJECTS, 6, "subject", 0)
    assert len(folds) == 6
    for training, held in folds:
        assert not set(SUBJECTS[training]) & set(SUBJECTS[held])
    assert sorted(np.concatenate([held for _, held in folds])) == list(range(48))


def test_by_trial_each_subject_is_in_both_parts():
    for training, held in split_folds(Y, SUBJECTS, 6, "trial", 0):
        assert not set(training) & set(held) and len(held) == 8
        assert (np.bincount(Y[held]) == 4).all()


@pytest.mark.parametrize("subjects", [None, np.zeros(48)])
def test_one_subject_is_split_by_trial(subjects):
    assert len(split_folds(Y, subjects, 6, "subject", 0)) == 6


def test_too_few_trials_hold_nothing_out():
    ((training, held),) = split_folds(np.array([0, 0, 0, 1]), None, 6, "subject", 0)
    assert held is None and len(training) == 4


def test_one_fold_holds_out_a_fifth():
    ((training, held),) = split_folds(Y, SUBJECTS, 1, "subject", 0)
    assert len(set(SUBJECTS[held])) == 2 and not set(SUBJECTS[training]) & set(SUBJECTS[held])


def test_no_folds_hold_nothing_out():
    ((training, held),) = split_folds(Y, SUBJECTS, 0, "subject", 0)
    assert held is None and len(training) == len(Y)


def test_seeds():
    one, same, other = (split_folds(Y, SUBJECTS, 4, "trial", seed)[0][1].tolist() for seed in (0, 0, 1))
    assert one == same != other


def test_the_best_fold_is_kept():
    rng = np.random.default_rng(0)
    data = rng.normal(size=(48, 2, 60)).astype("float32")
    data[Y == 1, 0] *= 3
    built = []

    def build():
        built.append(CTAdaptTLNet(2, 2, n_times=60, n_filters=4, filter_length=5, pool_length=20, n_hidden=8))
        return built[-1]

    found = train_folds(
        build,
        data,
        Y,
        split_folds(Y, SUBJECTS, 3, "subject", 0),
        Recipe(max_epochs=4, learning_rate=1e-2),
        device="cpu",
    )
    assert found.best == np.argmin(found.losses) and [len(history) for history in found.histories] == [4, 4, 4]
    assert found.losses[1] == min(row["valid_loss"] for row in found.histories[1])
    own = built[found.best].state_dict()
    assert all((own[name] == value).all() for name, value in found.state.items())


class Diverge(Callback):
    """Spoil the first training from an epoch on."""

    def __init__(self, epoch):
        self.epoch, self.n_trainings = epoch, 0

    def on_train_begin(self, net, **kwargs):
        self.n_trainings += 1

    def on_epoch_begin(self, net, **kwargs):
        if self.n_trainings == 1 and len(net.history) == self.epoch:
            torch.nn.init.constant_(next(net.module_.parameters()), torch.nan)


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_fold_that_diverged_is_not_kept(epoch):
    data = np.random.default_rng(0).normal(size=(len(Y), 2, 99)).astype(np.float32)
    folds = split_folds(Y, SUBJECTS, 3, "subject", 0)
    with pytest.warns(ConvergenceWarning, match="the training diverged"):
        found = train_folds(
            lambda: CTAdaptTLNet(2, 2, n_times=99, n_filters=2, n_hidden=3), data, Y, folds, Recipe(max_epochs=2),
            device="cpu", callbacks=[Diverge(epoch)],
        )  # fmt: skip
    assert np.isnan(found.losses).tolist() == [True, False, False]
    assert found.best == np.nanargmin(found.losses)
    assert all(np.isfinite(value).all() for value in found.state.values())


class CtrlC(Callback):
    """Stop the second training in its second epoch."""

    n_trainings = 0

    def on_train_begin(self, net, **kwargs):
        self.n_trainings += 1

    def on_batch_begin(self, net, **kwargs):
        if self.n_trainings == 2 and len(net.history) == 2:
            raise KeyboardInterrupt


def test_ctrl_c_ends_all_folds_and_nothing_half_done_is_kept(tmp_path):
    data = np.random.default_rng(0).normal(size=(len(Y), 2, 99)).astype(np.float32)
    key = CtrlC()

    def compute():
        return train_folds(
            lambda: CTAdaptTLNet(2, 2, n_times=99, n_filters=2, n_hidden=3), data, Y,
            split_folds(Y, SUBJECTS, 3, "subject", 0), Recipe(max_epochs=4), device="cpu", callbacks=[key],
        )  # fmt: skip

    found = remember(tmp_path, ("what",), compute)
    assert key.n_trainings == 2 and not found.complete and not list(tmp_path.iterdir())
    assert np.isfinite(found.losses).all() and len(found.histories[0]) == 4
    assert remember(tmp_path, ("what",), compute).complete and len(list(tmp_path.iterdir())) == 1


def test_remember_asks_once(tmp_path, monkeypatch):
    calls = []

    def compute():
        calls.append(1)
        state = CTAdaptTLNet(2, 2, n_times=99, n_filters=2, n_hidden=3).state_dict()
        return Folds(1, np.array([np.nan, 0.5]), [[{"epoch": 1}], []], state)

    first, second = (remember(tmp_path, ("what", np.arange(3)), compute) for _ in range(2))
    assert len(calls) == 1 and first.best == second.best and first.histories == second.histories
    np.testing.assert_array_equal(first.losses, second.losses)
    assert all((first.state[name] == value).all() for name, value in second.state.items())
    remember(tmp_path, ("what", np.arange(4)), compute)
    remember(None, ("what", np.arange(4)), compute)
    assert len(calls) == 3 and len(list(tmp_path.iterdir())) == 2
    monkeypatch.setattr("skeeg.methods.ct_adapttl.training.__version__", "of tomorrow")
    remember(tmp_path, ("what", np.arange(4)), compute)
    assert len(calls) == 4 and len(list(tmp_path.iterdir())) == 3


def test_pool_sources_takes_names_from_wherever_they_are():
    X, y = np.zeros((2, 3, 9)), ["a", "b"]
    assert pool_sources(X, y)[2] is None and pool_sources(X, y, [5, 6])[2] == [5, 6]
    carried = EEGArray(X, domains=make_domains(2, subject=["p", "q"]))
    for Xs, given, wanted in (
        ([X, X], None, ["0", "0", "1", "1"]),
        ([X, X], ["anna", "ben"], ["anna", "anna", "ben", "ben"]),
        ([carried, X], None, ["p", "q", "1", "1"]),
    ):
        assert pool_sources(Xs, [y, y], given)[0].domains["subject"].tolist() == wanted


def make_net():
    return CTAdaptTLNet(2, 3, n_times=120, n_filters=4, n_hidden=5, pool_length=None)


def make_trials(n_chans=3):
    return np.random.default_rng(0).normal(size=(len(Y), n_chans, 120))


def make_clf(**params):
    return CTAdaptTLClassifier(max_epochs=1, device="cpu", random_state=0, **params)


def test_published_names_are_read(tmp_path):
    theirs = {old: make_net().state_dict()[new] for old, new in UPSTREAM_KEYS.items()}
    torch.save(theirs, tmp_path / "net.pt")
    path = str(tmp_path / "net.pt")
    clf = make_clf(checkpoint=path, checkpoint_classes=("r", "l")).fit(make_trials(), Y)
    assert clf.checkpoint_report_ == "12 tensors matched"
    with pytest.raises(ValueError, match="checkpoint_classes: got 3 labels for a checkpoint with 2 outputs"):
        make_clf(checkpoint=path, checkpoint_classes=("r", "l", "x")).fit(make_trials(), Y)


def test_a_file_that_runs_code_is_refused(tmp_path):
    torch.save({"conv1.weight": make_net()}, tmp_path / "bad.pt")
    with pytest.raises(ValueError, match="could not be read as plain tensors"):
        make_clf(checkpoint=str(tmp_path / "bad.pt")).fit(make_trials(), Y)


def test_known_labels():
    assert Start({}, ("a", "b", "c")).has(["c", "a"]) and not Start({}, ("a", "b", "c")).has(["c", "new"])
    assert not Start({}, None).has(["a"])


def test_another_shape_is_an_error_not_half_a_network():
    clf = make_clf().pretrain(make_trials(), Y)
    with pytest.raises(ValueError, match=r"X: 4 channels of 120 samples do not fit: .*spatial.weight"):
        clf.fit(make_trials(4), Y)


def test_a_pretraining_that_fails_leaves_the_estimator_as_it_was():
    X = np.random.default_rng(0).normal(size=(len(Y), 2, 99))
    clf = make_clf().pretrain(X, Y)
    before = clf.predict_proba(X)
    with pytest.raises(ValueError, match="never changes"):
        clf.pretrain(0 * X, Y)
    np.testing.assert_array_equal(clf.predict_proba(X), before)
