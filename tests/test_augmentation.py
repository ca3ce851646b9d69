"""Augmentation of training batches."""

import numpy as np
import pytest
import torch
from torch import nn

from skeeg import NetworkClassifier, NetworkRegressor, as_eeg
from skeeg.training.augmentation import NAMES, Mirror, make_augmentation

CAP = ("C3", "Cz", "C4")


class Seen(nn.Module):
    """Linear network that keeps what it was shown in training."""

    def __init__(self, n_chans, n_outputs, n_times):
        super().__init__()
        self.final_layer = nn.Linear(n_chans * n_times, n_outputs)
        self.shown = []

    def forward(self, X):
        if self.training and len(X) == 16:  # a batch, not the few trials that the network is tried on
            self.shown.append(X.detach().clone())
        return self.final_layer(X.flatten(1))


def data(n=16, n_times=64):
    rng = np.random.default_rng(0)
    X = as_eeg(rng.normal(size=(n, 3, n_times)).astype("float32"), sfreq=128.0, ch_names=CAP)
    return X, np.repeat(["left_hand", "right_hand"], n // 2)


def classifier(augmentation, **settings):
    recipe = {"name": "default", "scale": None, "time_shift": 0.0}
    return NetworkClassifier(
        Seen, recipe=recipe, max_epochs=2, augmentation=augmentation, device="cpu", random_state=0, **settings
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_name_trains(name):
    X, y = data()
    assert classifier(name).fit(X, y).predict_proba(X).shape == (16, 2)


def test_training_is_augmented_and_prediction_is_not():
    X, y = data()
    fitted = classifier("ChannelsDropout").fit(X, y)
    shown = torch.cat(fitted.module_.shown)
    dropped = (shown == 0).all(-1).float().mean()
    assert 0.02 < dropped < 0.25  # half of the trials lose a fifth of their channels
    n_shown = len(fitted.module_.shown)
    fitted.predict(X)
    assert len(fitted.module_.shown) == n_shown
    again = classifier("ChannelsDropout").fit(X, y)
    assert torch.equal(torch.cat(again.module_.shown), shown)


def test_instances_and_lists_are_taken_and_left_as_they_are():
    from braindecode.augmentation import SignFlip

    X, y = data()
    flip = SignFlip(1.0, random_state=0)
    before = flip.rng.get_state()[1].copy()
    fitted = classifier([flip, lambda X, y: (X + 1, y)]).fit(X, y)
    known = {round(float(1 - trial.sum()), 3) for trial in np.asarray(X)}
    assert {round(float(one.sum() - one.numel() + 1), 3) for batch in fitted.module_.shown for one in batch} <= known
    assert np.array_equal(flip.rng.get_state()[1], before)


def test_mirrored_trials_change_hands():
    X, y = torch.arange(6.0).reshape(2, 3, 1), torch.tensor([0, 1])
    mirror = Mirror(1.0, CAP, ["left_hand", "right_hand"])
    mirrored, labels = mirror(X, y)
    assert mirrored.flatten().tolist() == [2, 1, 0, 5, 4, 3] and labels.tolist() == [1, 0]
    _, shares = mirror(X, torch.tensor([[0.9, 0.1], [0.3, 0.7]]))
    torch.testing.assert_close(shares, torch.tensor([[0.1, 0.9], [0.7, 0.3]]))
    with pytest.raises(ValueError, match="augmentation: Mirror .* electrode 'C4' for 'C3'"):
        Mirror(1.0, ["C3"], ["left", "right"])
    with pytest.raises(ValueError, match="some named left and right"):
        Mirror(1.0, CAP, ["feet", "rest"])


def test_mixed_targets_are_shares_of_what_is_mixed():
    augment = make_augmentation("Mixup", classes=["a", "b"])
    X, y = augment(torch.eye(2)[:, :, None].expand(2, 2, 50), torch.tensor([0, 1]))
    torch.testing.assert_close(X[:, :, 0], y)  # the trials are their own labels
    X, y = data()
    fitted = NetworkRegressor(Seen, max_epochs=2, augmentation="Mixup", device="cpu").fit(X, np.arange(16.0))
    assert np.isfinite(fitted.predict(X)).all()


def test_what_cannot_augment_is_refused():
    X, y = data()
    with pytest.raises(ValueError, match="augmentation: got 'ChannelDropout'; nearest: 'ChannelsDropout'"):
        classifier("ChannelDropout").fit(X, y)
    with pytest.raises(ValueError, match="augmentation: FrequencyShift needs the sampling rate"):
        classifier("FrequencyShift").fit(np.asarray(X), y)
    with pytest.raises(ValueError, match="augmentation: Mirror needs electrode names"):
        classifier("Mirror").fit(np.asarray(X), y)
