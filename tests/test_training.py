import copy
import math
import pickle
import warnings

import numpy as np
import pytest
import skorch.callbacks
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from skeeg import NetworkClassifier, NetworkRegressor
from skeeg.array import EEGArray, make_domains
from skeeg.networks import accelerate, build_network
from skeeg.networks.seeding import seeded
from skeeg.training import PRESETS, Recipe, TrainingNet, default_recipe, get_recipe, split_validation, train
from skeeg.training.data import Batches, Trials
from skeeg.training.net import make_loss, resolve_device

EEGNET = {"F1": 2, "D": 1, "kernel_length": 8}


class Net(nn.Module):
    """One hidden layer, batch normalisation and dropout: all that makes training depend on seeds and modes."""

    def __init__(self, n_chans, n_times, n_outputs, n_hidden=4, drop_prob=0.25):
        super().__init__()
        self.body = nn.Sequential(
            nn.Flatten(), nn.Linear(n_chans * n_times, n_hidden), nn.BatchNorm1d(n_hidden), nn.Dropout(drop_prob)
        )
        self.final_layer = nn.Linear(n_hidden, n_outputs)

    def forward(self, x):
        return self.final_layer(self.body(x))


class NormlessNet(Net):
    """Without statistics that are settled after the last epoch."""

    def __init__(self, n_chans, n_times, n_outputs):
        super().__init__(n_chans, n_times, n_outputs)
        self.body[2] = nn.Identity()


PASSED = NetworkClassifier._get_param_names()


def data(n=40, n_chans=2, n_times=32, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, n_chans, n_times)).astype(np.float32)
    y = np.arange(n) % 2
    X[y == 1, 0] += 0.7
    return X, y


def classifier(network=Net, **settings):
    """Classifier with a plain recipe; settings that only a recipe has go there."""
    recipe = {"max_epochs": 3, "batch_size": 16, "scale": None}
    for name in set(settings) & set(Recipe.__dataclass_fields__) - set(PASSED):
        recipe[name] = settings.pop(name)
    return NetworkClassifier(network, **{"device": "cpu", "random_state": 0, "recipe": Recipe(**recipe), **settings})


def weights(fitted):
    return {name: value.clone() for name, value in fitted.module_.state_dict().items()}


def assert_equal_weights(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


class Spy(skorch.callbacks.Callback):
    """Keeps what training shows of itself; a list of its own, so that skorch's copies write into it too."""

    def __init__(self, seen):
        self.seen = seen

    def on_train_begin(self, net, X=None, **kwargs):
        self.seen.append(("begin", net.module_.training))

    def on_epoch_begin(self, net, dataset_train=None, dataset_valid=None, **kwargs):
        self.seen.append(("epoch", net.optimizer_.param_groups[0]["lr"], dataset_train, dataset_valid))

    def on_batch_end(self, net, batch=None, training=False, **kwargs):
        self.seen.append(("batch", training, len(batch[0])))

    def on_train_end(self, net, **kwargs):
        self.seen.append(("end",))


# Batches


@given(st.integers(1, 40), st.integers(1, 17), st.integers(0, 1000))
def test_shuffled_batches_hold_every_trial_once_and_never_one_alone(n, batch_size, seed):
    trials = Trials(np.arange(n, dtype=np.float32)[:, None], np.arange(n))
    with seeded(seed):
        batches = list(Batches(trials, batch_size, shuffle=True))
    with seeded(seed):
        order = torch.randperm(n)
    found = torch.cat([y for _, y in batches])
    assert torch.equal(found, order)
    assert all(torch.equal(X[:, 0].long(), y) for X, y in batches)
    sizes = [len(y) for _, y in batches]
    assert sizes[:-1] == [batch_size] * (len(sizes) - 1)
    if n > 1 and batch_size > 1:
        assert sizes[-1] > 1


@given(st.integers(1, 40), st.integers(1, 17))
def test_batches_in_order_are_those_of_a_data_loader(n, batch_size):
    trials = Trials(np.random.default_rng(n).standard_normal((n, 2, 3)), np.arange(n))
    ours, theirs = Batches(trials, batch_size), torch.utils.data.DataLoader(trials, batch_size)
    for (X, y), (Z, z) in zip(ours, theirs, strict=True):
        assert torch.equal(X, Z) and torch.equal(y, z)


def test_an_epoch_of_batches_trains_as_the_same_batches_of_a_data_loader():
    X, y = data()
    with seeded(0):
        order = torch.randperm(len(X)).tolist()
    results = []
    for source in ("skeeg", "torch"):
        torch.manual_seed(1)
        module = Net(2, 32, 2, drop_prob=0.0)
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        trials = Trials(X, y)
        with seeded(0):
            loader = Batches(trials, 8, shuffle=True)
            if source == "torch":
                loader = torch.utils.data.DataLoader(trials, batch_size=8, sampler=order)
            for batch, target in loader:
                optimizer.zero_grad()
                nn.functional.cross_entropy(module(batch), target).backward()
                optimizer.step()
        results.append(module.state_dict())
    assert_equal_weights(*results)


# Recipes and the loop


def test_the_schedule_is_a_warm_up_and_half_a_cosine():
    recipe = Recipe(max_epochs=10, warmup_share=0.2)
    rates = [recipe.rate(epoch) for epoch in range(10)]
    np.testing.assert_allclose(rates[:3], [1 / 3, 2 / 3, 1])
    np.testing.assert_allclose(rates[2:], [0.5 * (1 + math.cos(math.pi * i / 8)) for i in range(8)])
    assert [Recipe(max_epochs=10, schedule=None).rate(epoch) for epoch in (0, 5, 9)] == [1, 1, 1]


def test_training_follows_the_schedule():
    seen = []
    classifier(max_epochs=5, learning_rate=0.01, skorch_callbacks=[Spy(seen)]).fit(*data())
    rates = [entry[1] for entry in seen if entry[0] == "epoch"]
    np.testing.assert_allclose(rates, [0.01 * Recipe(max_epochs=5).rate(epoch) for epoch in range(5)])


def test_updates_are_counted_out_in_epochs_of_equal_batches():
    recipe = Recipe(n_updates=300, min_epochs=20, max_epochs=200, batch_size=16, warmup_share=0.1)
    counted = recipe.for_trials(50)  # four batches of 13, not three of 16 and one of 2
    assert (counted.n_updates, counted.max_epochs, counted.batch_size) == (None, 75, 13)
    assert recipe.for_trials(3200).max_epochs == 20 and recipe.for_trials(4).max_epochs == 200
    seen = []
    NetworkClassifier(Net, recipe=Recipe(n_updates=7, batch_size=16), skorch_callbacks=[Spy(seen)]).fit(*data(40))
    assert sum(entry[0] == "epoch" for entry in seen) == 3
    with pytest.raises(ValueError, match="recipe: it needs at least 50 training trials, got n_samples=40"):
        classifier(min_trials=50).fit(*data(40))


def test_a_recipe_is_a_preset_and_what_the_user_changes():
    assert get_recipe("default", "EEGConformer") == PRESETS[default_recipe("EEGConformer")]
    assert get_recipe("mirepnet-fork") == Recipe(10, 8, 1e-3, 1e-6, "adam")
    assert get_recipe("default", "EEGNet", max_epochs=5).n_updates is None  # the user counts in epochs
    assert get_recipe({"name": "mirepnet-fork", "solver": "sgd"}, batch_size=4) == Recipe(10, 4, 1e-3, 1e-6, "sgd")
    clf = NetworkClassifier("EEGNet", EEGNET, recipe="mirepnet-fork", device="cpu", random_state=0).fit(*data())
    assert clf.n_iter_ == 10
    with pytest.raises(ValueError, match="recipe: got 'mirepnet'; nearest: 'mirepnet-fork'"):
        NetworkClassifier(Net, recipe="mirepnet").fit(*data())
    with pytest.raises(ValueError, match="recipe: got 'weigth_decay'; nearest: 'weight_decay'"):
        NetworkClassifier(Net, recipe={"weigth_decay": 1}).fit(*data())


def test_trials_are_shifted_in_training_only():
    X, y = data(16)
    X += np.arange(16)[:, None, None]
    shown = []

    class Keep(skorch.callbacks.Callback):
        def on_batch_end(self, net, batch=None, training=False, **kwargs):
            shown.append((training, batch[0].clone()))

    clf = classifier(time_shift=0.5, validation="block", skorch_callbacks=[Keep()])
    clf.fit(X, y)
    plain = {round(float(row.mean()), 3): row for row in X}  # a shift keeps the mean
    for training, batch in shown:
        for trial in batch.numpy():
            own = plain[round(float(trial.mean()), 3)]
            lags = [lag for lag in range(32) if np.array_equal(np.roll(own, -lag, axis=-1), trial)]
            assert len(lags) == 1 and (training or lags == [0])
    moved = [not any(np.array_equal(trial, own) for own in X) for on, batch in shown if on for trial in batch.numpy()]
    assert np.mean(moved) > 0.8
    assert get_recipe("imagery", "EEGNet") == get_recipe({"time_shift": 0.5}, "EEGNet")


def test_classes_weigh_alike_whatever_their_share():
    loss = make_loss("cross_entropy", torch.tensor([0, 0, 0, 1]), "balanced")
    torch.testing.assert_close(loss.weight, torch.tensor([4 / 6, 2.0]))
    assert make_loss("mse", torch.tensor([0.5, 1.0]), "balanced").__class__ is nn.MSELoss
    X, y = torch.zeros(40, 1), (torch.arange(40) < 4).long()  # nothing to learn but the shares
    for how, expected in ((None, 0.1), ("balanced", 0.5)):
        module, recipe = nn.Linear(1, 2), Recipe(max_epochs=200, learning_rate=0.1, class_weight=how)
        train(module, X, y, recipe, device="cpu")
        assert module(X[:1]).softmax(1)[0, 1].item() == pytest.approx(expected, abs=0.01)


def test_refitting_takes_all_trials_for_the_updates_that_were_best():
    X, y = data(40)
    y = np.random.default_rng(0).permutation(y)  # nothing to learn, so the validation loss soon rises
    settings = {"max_epochs": 30, "learning_rate": 0.05, "batch_size": 8, "patience": 5, "validation": "block"}
    watched = classifier(**settings).fit(X, y)
    best = 1 + int(np.argmin([row["valid_loss"] for row in watched.history_]))
    seen = []
    again = classifier(**settings, refit=True, skorch_callbacks=[Spy(seen)]).fit(X, y)
    last = [entry for entry in seen if entry[0] == "epoch"][-1]
    assert "valid_loss" not in again.history_[-1] and len(last[2].X) == 40
    assert again.n_iter_ == math.ceil(best * 4 / 5)  # epochs of 32 trials in updates, in epochs of 40


@pytest.mark.parametrize("network", [Net, "EEGNet"])
def test_an_estimator_does_what_a_bare_loop_does_to_the_bit(network):
    X, y = data()
    params = EEGNET if network == "EEGNet" else {}
    settings = {"max_epochs": 4, "learning_rate": 0.01, "weight_decay": 0.1, "random_state": 5, "kernels": "plain"}
    clf = classifier(network, network_params=params, **settings).fit(X, y)
    with seeded(np.random.RandomState(5).randint(np.iinfo(np.int32).max)):
        module = build_network(network, n_chans=2, n_times=32, n_outputs=2, parameters=params)
        module.eval()(torch.randn(2, 2, 32))  # the estimator tries the network once
        optimizer = torch.optim.AdamW(module.parameters(), lr=0.01, weight_decay=0.1, fused=True)
        module.train()
        for epoch in range(4):
            for group in optimizer.param_groups:
                group["lr"] = 0.01 * 0.5 * (1 + math.cos(math.pi * epoch / 4))
            for rows in torch.randperm(len(X)).split(16):
                optimizer.zero_grad()
                nn.functional.cross_entropy(module(torch.from_numpy(X[rows])), torch.from_numpy(y[rows])).backward()
                optimizer.step()
    # buffers aside: statistics that so few updates leave half-way are settled
    found, wanted = (dict(one.named_parameters()) for one in (clf.module_, module))
    assert found.keys() == wanted.keys()
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("network", [Net, "EEGNet", "ShallowFBCSPNet"])
def test_the_same_seed_gives_the_same_weights_to_the_bit(network):
    X, y = data(n_times=200 if network == "ShallowFBCSPNet" else 32)
    first = weights(classifier(network).fit(X, y))
    torch.manual_seed(99)
    assert_equal_weights(weights(classifier(network).fit(X, y)), first)
    other = weights(classifier(network, random_state=1).fit(X, y))
    assert any(not torch.equal(other[name], first[name]) for name in first)


def test_training_leaves_the_global_random_state_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    fitted = classifier(validation="trial").fit(*data())
    pickle.loads(pickle.dumps(fitted)).predict(data()[0])
    assert torch.equal(torch.get_rng_state(), before)


def test_early_stopping_stops_and_keeps_the_best_weights():
    X, y = data(60)
    y = np.random.default_rng(1).permutation(y)  # nothing to learn: the validation loss soon rises
    seen = []
    settings = {"max_epochs": 60, "learning_rate": 0.05, "validation": "trial", "patience": 3}
    clf = classifier(NormlessNet, skorch_callbacks=[Spy(seen)], **settings).fit(X, y)
    losses = [row["valid_loss"] for row in clf.history_]
    assert clf.n_iter_ == len(losses) < 60
    assert clf.n_iter_ - 1 - int(np.argmin(losses)) == 3
    held = next(entry[3] for entry in seen if entry[0] == "epoch")
    with torch.inference_mode():
        loss = nn.functional.cross_entropy(clf.module_(held.X), held.y)
    np.testing.assert_allclose(float(loss), min(losses), rtol=1e-5)


def test_history_tells_losses_accuracy_and_time():
    clf = classifier(validation="trial").fit(*data())
    assert clf.n_iter_ == len(clf.history_) == 3
    for row in clf.history_:
        assert {"epoch", "train_loss", "valid_loss", "valid_acc", "dur"} <= row.keys()
        assert 0 <= row["valid_acc"] <= 1
    assert isinstance(clf.net_, TrainingNet) and len(clf.net_.history) == 3


class Impatient(skorch.callbacks.Callback):
    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 2:
            raise KeyboardInterrupt


def test_ctrl_c_keeps_what_was_learnt_so_far():
    X, y = data()
    clf = classifier(max_epochs=50, schedule=None, skorch_callbacks=[Impatient()]).fit(X, y)
    assert clf.n_iter_ == 2 and not clf.module_.training
    np.testing.assert_array_equal(clf.predict_proba(X), pickle.loads(pickle.dumps(clf)).predict_proba(X))
    assert_equal_weights(weights(clf), weights(classifier(max_epochs=2, schedule=None).fit(X, y)))


def test_ctrl_c_is_told_from_an_early_stop():
    X, y = data()
    early = {"validation": "trial", "patience": 1, "learning_rate": 0.0, "max_epochs": 20}
    for changes, interrupted in (({}, False), (early, False), ({"skorch_callbacks": [Impatient()]}, True)):
        assert classifier(**changes).fit(X, y).net_.interrupted_ == interrupted


def test_callbacks_handed_in_are_called_and_left_alone():
    seen = []
    spies = [Spy(seen), ("named", Spy(seen))]
    clf = classifier(skorch_callbacks=spies).fit(*data())
    assert clf.skorch_callbacks is spies and len(spies) == 2
    assert [entry[0] for entry in seen].count("end") == 2
    assert [entry[2] for entry in seen if entry[0] == "batch"][::2] == [16, 16, 8] * 3


def test_verbose_shows_a_bar(capsys):
    classifier(verbose=1).fit(*data())
    shown = capsys.readouterr()
    assert "3/3" in shown.err and shown.out == ""
    classifier().fit(*data())
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("solver", ["adamw", "adam", "sgd"])
@pytest.mark.parametrize("loss", ["cross_entropy", nn.CrossEntropyLoss(label_smoothing=0.1), nn.MultiMarginLoss()])
def test_every_solver_and_loss_learns(solver, loss):
    X, y = data()
    clf = classifier(max_epochs=30, learning_rate=0.05, solver=solver, loss=loss).fit(X, y)
    assert clf.score(X, y) > 0.9


@pytest.mark.parametrize("precision", ["bf16", "float64"])
def test_other_precisions_come_to_much_the_same(precision):
    X, y = data()
    plain = {"network_params": {"drop_prob": 0.0}}
    wanted = classifier(**plain).fit(X, y).predict_proba(X)
    clf = classifier(precision=precision, **plain).fit(X, y)
    np.testing.assert_allclose(clf.predict_proba(X), wanted, atol=0.05 if precision == "bf16" else 1e-4)
    assert clf.module_.final_layer.weight.dtype == (torch.float64 if precision == "float64" else torch.float32)
    again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(again.predict_proba(X), clf.predict_proba(X))


def test_double_precision_predicts_a_trial_alone_as_in_a_batch():
    X, y = data()
    clf = classifier("EEGNet", network_params=EEGNET, precision="float64").fit(X, y)
    alone = np.concatenate([clf.predict_proba(X[i : i + 1]) for i in range(len(X))])
    np.testing.assert_allclose(alone, clf.predict_proba(X), rtol=1e-12)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"solver": "adamx"}, "solver: got 'adamx', expected a str among {'"),
        ({"schedule": "step"}, "schedule: got 'step'"),
        ({"precision": "float8"}, "precision: got 'float8'"),
        ({"max_epochs": 0}, "max_epochs: got 0, expected an int in the range"),
        ({"batch_size": 0}, "batch_size: got 0"),
        ({"learning_rate": -1}, "learning_rate: got -1"),
        ({"learning_rate": float("nan")}, "learning_rate: got nan"),
        ({"loss": "crossentropy"}, "loss: got 'crossentropy'"),
        ({"strategy": "all"}, "strategy: got 'all'"),
        ({"scale": -2}, "scale: got -2"),
        ({"weight_decay": "much"}, "weight_decay: got 'much', expected a float"),
        ({"warmup_share": None}, "warmup_share: got None, expected a float"),
        ({"refit": "yes"}, "refit: got 'yes', expected"),
        ({"class_weight": {0: "x"}}, "class_weight: got the weight 'x'"),
        ({"validation": "fold"}, "validation: got 'fold'"),
        ({"validation": "trial", "validation_size": 1.5}, "validation_size: got 1.5"),
        ({"validation": "subject"}, "needs the subject of each trial"),
        ({"device": "gpu"}, "device: got 'gpu'"),
        ({"kernels": "quick"}, "kernels"),
        ({"network": "EEGNot"}, "network: 'EEGNot' is not known"),
        ({"network": "EEGNet", "network_params": {"F11": 2}}, "no parameter 'F11'"),
        ({"checkpoint": "nowhere.pt"}, "no file nowhere.pt"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_setting_that_makes_no_sense_is_named(settings, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        classifier(**settings).fit(*data())


def test_devices_and_losses_by_name():
    assert resolve_device("cpu") == "cpu"
    assert resolve_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
    module = nn.HuberLoss()
    assert make_loss(module) is module and isinstance(make_loss("huber"), nn.HuberLoss)


def test_train_is_free_to_use_without_an_estimator():
    X, y = data()
    module = Net(2, 32, 2)
    net = train(module, X, y, Recipe(max_epochs=2), validation=(X, y), device="cpu")
    assert net.module_ is module and not module.training
    assert [row["valid_loss"] for row in net.history] == net.history[:, "valid_loss"]


# Validation splits


@given(
    st.lists(st.integers(0, 6), min_size=8, max_size=60).filter(lambda subjects: len(set(subjects)) > 1),
    st.floats(0.05, 0.95),
    st.integers(0, 99),
)
def test_no_subject_is_on_both_sides_of_a_validation_split(subjects, size, seed):
    subjects = np.array(subjects)
    if not 0 < math.ceil(size * len(set(subjects))) < len(set(subjects)):
        return
    training, held = split_validation(np.zeros(len(subjects), int), "subject", size, subjects, seed)
    assert not set(subjects[training]) & set(subjects[held])
    assert sorted([*training, *held]) == list(range(len(subjects)))


@pytest.mark.parametrize("how", ["domains", "subjects"])
def test_networks_never_validate_on_a_subject_they_train_on(how):
    X, y = data(48)
    subjects = np.repeat(np.arange(6), 8)
    X[:, 0, 0] = subjects
    trials = EEGArray(X, domains=make_domains(48, subject=subjects)) if how == "domains" else X
    seen = []
    clf = classifier(validation="subject", validation_size=0.3, skorch_callbacks=[Spy(seen)])
    clf.fit(trials, y, **({} if how == "domains" else {"subjects": subjects}))
    _, _, training, held = next(entry for entry in seen if entry[0] == "epoch")
    sides = [set(side.X[:, 0, 0].tolist()) for side in (training, held)]
    assert sides[0] | sides[1] == set(range(6)) and not sides[0] & sides[1] and len(sides[1]) == 2


def test_trials_are_held_out_in_the_proportions_of_the_classes():
    y = np.array([0] * 30 + [1] * 10)
    training, held = split_validation(y, "trial", 0.2, seed=3)
    assert len(held) == 8 and y[held].sum() == 2 and not set(training) & set(held)
    assert len(split_validation(np.linspace(0, 1, 40), "trial", 0.25)[1]) == 10
    assert split_validation(y, None)[1] is None
    assert split_validation(y, "block", 0.2)[1].tolist() == [24, 25, 26, 27, 28, 29, 38, 39]
    with pytest.raises(ValueError, match="too few to hold out"):
        split_validation(np.array([0, 1]), "trial", 0.1)
    with pytest.raises(ValueError, match="at least two subjects"):
        split_validation(y, "subject", 0.2, np.zeros(40))


def test_validation_subjects_can_be_named():
    y, subjects = np.arange(6) % 2, np.array(["a", "b", "c"] * 2)
    training, held = split_validation(y, ("b",), 0.2, subjects)
    assert training.tolist() == [0, 2, 3, 5] and held.tolist() == [1, 4]
    for names in (("d",), ("a", "b", "c")):
        with pytest.raises(ValueError, match="either none has trials, or no other has"):
            split_validation(y, names, 0.2, subjects)


# Estimators


def test_trials_that_are_too_short_are_padded_with_a_warning():
    X, y = data(n_times=20)
    with pytest.warns(UserWarning, match=r"EEGNet needs at least \d+ samples a trial: 20 are padded"):
        clf = classifier("EEGNet").fit(X, y)
    shortest = clf.network_spec_["n_times"]
    padded = torch.from_numpy(np.pad(X, ((0, 0), (0, 0), (0, shortest - 20))))
    np.testing.assert_allclose(clf.predict_proba(X), clf.module_(padded).softmax(-1).detach(), rtol=1e-5)


def test_each_trial_is_brought_to_unit_power():
    X, y = data()
    clf = classifier(scale="trial").fit(X, y)
    gains = np.linspace(0.1, 100, len(X), dtype=np.float32)[:, None, None]
    np.testing.assert_allclose(clf.predict_proba(gains * X), clf.predict_proba(X), rtol=1e-4)
    assert np.isfinite(clf.predict_proba(np.zeros((1, 2, 32), np.float32))).all()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(clf)).predict_proba(X), clf.predict_proba(X))


@pytest.mark.parametrize(("scale", "expected"), [(None, 1.0), (20, 20.0), (0.5, 0.5), ("std", None)])
def test_trials_are_divided_by_one_number_of_the_training_trials(scale, expected):
    X, y = data()
    clf = classifier(scale=scale).fit(50 * X, y)
    assert clf.scale_ == pytest.approx((50 * X).std() if scale == "std" else expected)
    plain = classifier().fit(np.float32(50 / clf.scale_) * X, y)
    np.testing.assert_allclose(
        clf.predict_proba(50 * X), plain.predict_proba(np.float32(50 / clf.scale_) * X), rtol=1e-3
    )


def test_networks_with_an_output_for_each_window_average_them():
    class Windows(Net):
        def forward(self, x):
            return super().forward(x)[..., None] * torch.tensor([0.5, 1.0, 1.5])

    X, y = data()
    clf = classifier(Windows, loss=_MeanLoss()).fit(X, y)
    assert clf.predict_proba(X).shape == (40, 2)
    logits = clf.module_(torch.from_numpy(X)).mean(-1)
    np.testing.assert_allclose(clf.predict_proba(X), logits.softmax(-1).detach(), rtol=1e-5)


class _MeanLoss(nn.CrossEntropyLoss):
    def forward(self, outputs, targets):
        return super().forward(outputs.mean(-1), targets)


def test_features_are_what_the_last_layer_is_given():
    X, y = data()
    clf = classifier().fit(X, y)
    features = clf.transform(X)
    assert features.shape == (40, 4) and features.dtype == np.float32
    logits = clf.module_.final_layer(torch.from_numpy(features))
    np.testing.assert_allclose(clf.predict_proba(X), logits.softmax(-1).detach(), rtol=1e-5)


def test_a_fitted_network_can_be_copied_although_its_module_cannot():
    X, y = data()
    clf = classifier("EEGNet", network_params=EEGNET).fit(X, y)
    with pytest.raises(RuntimeError, match="parametrized"):
        pickle.dumps(clf.module_)
    for again in (pickle.loads(pickle.dumps(clf)), copy.deepcopy(clf)):
        np.testing.assert_array_equal(again.predict_proba(X), clf.predict_proba(X))
        assert again.history_ == clf.history_ and not again.module_.training


def test_flat_channels_are_refused_by_name():
    X, y = data()
    X[:, 1] = 7
    with pytest.raises(ValueError, match="channel Cz never changes over the 40 trial"):
        classifier().fit(EEGArray(X, ("C3", "Cz")), y)


@pytest.mark.parametrize("shape", [(40,), (40, 3), (40, 2, 5)])
def test_regressors_learn_targets_of_any_shape_in_their_own_units(shape):
    X, _ = data()
    y = (1000 + 50 * X[:, 0].mean(axis=1)).reshape(40, *[1] * (len(shape) - 1)) * np.ones(shape)
    reg = NetworkRegressor(
        Net, network_params={"drop_prob": 0.0}, max_epochs=60, batch_size=16, learning_rate=0.02, random_state=0
    ).fit(X, y)
    predicted = reg.predict(X)
    assert predicted.shape == shape and predicted.dtype == np.float64
    assert np.corrcoef(predicted.ravel(), y.ravel())[0, 1] > 0.9
    np.testing.assert_allclose(reg.target_mean_, y.reshape(40, -1).mean(axis=0))


def test_a_constant_target_is_predicted():
    X, _ = data()
    reg = NetworkRegressor(Net, max_epochs=20, learning_rate=0.05, random_state=0).fit(X, np.full(40, 7.0))
    np.testing.assert_allclose(reg.predict(X), 7, atol=0.5)


def test_compiled_inference_predicts_the_same_from_folded_layers():
    X, y = np.random.default_rng(0).normal(size=(20, 4, 200)).astype(np.float32), np.arange(20) % 2
    clf = NetworkClassifier("EEGNet", max_epochs=2, random_state=0).fit(X, y)
    expected = clf.predict_proba(X)
    clf.compile_inference()
    copied = pickle.loads(pickle.dumps(clf))
    clf.module_.forward = None  # whatever predicts now, it is not the module
    np.testing.assert_allclose(clf.predict_proba(X), expected, atol=1e-5)
    np.testing.assert_allclose(copied.predict_proba(X), expected, atol=1e-5)
    again = clf.set_params(random_state=1).fit(X, y).predict_proba(X)
    assert np.abs(again - expected).max() > 1e-3


def test_statistics_of_batch_norms_that_move_slowly_are_settled():
    rng, y = np.random.default_rng(0), np.arange(48) % 2
    X = rng.normal(size=(48, 3, 200)).astype(np.float32)
    X[y == 1, 0] *= 4
    slow = NetworkClassifier("EEGNet", max_epochs=12, batch_size=16, learning_rate=1e-2, random_state=0).fit(X, y)
    assert slow.module_.get_submodule("bnorm_temporal").momentum == 0.01  # braindecode's; after 36 updates .7 are left
    assert slow.score(X, y) > 0.9
    seen = []
    layer = accelerate(slow.module_, "plain").get_submodule("bnorm_temporal")  # fast kernels do not call the layer
    layer.register_forward_hook(lambda layer, inputs, output: seen.append(inputs[0]))
    slow.predict(X)
    torch.testing.assert_close(layer.running_mean, torch.cat(seen).mean(dim=(0, 2, 3)), atol=1e-3, rtol=1e-2)


def test_batch_norms_that_are_frozen_or_settled_stay_as_they_are():
    X, y = torch.randn(40, 3) + 2, torch.arange(40) % 2
    module = nn.Sequential(nn.BatchNorm1d(3, momentum=0.5), nn.Linear(3, 2))
    moved = nn.BatchNorm1d(3, momentum=0.5)
    recipe = Recipe(max_epochs=10, batch_size=40, learning_rate=0.0, schedule=None)
    train(module, X, y, recipe)
    for _ in range(10):
        moved(X)
    torch.testing.assert_close(module[0].running_var, moved.running_var)
    slow = nn.Sequential(nn.BatchNorm1d(3, momentum=0.01), nn.Linear(3, 2))
    train(slow, X, y, recipe)
    torch.testing.assert_close(slow[0].running_mean, X.mean(0))
    assert slow[0].momentum == 0.01 and int(slow[0].num_batches_tracked) == 10


def test_subjects_of_another_number_are_refused():
    X, y = data()
    with pytest.raises(ValueError, match=f"subjects: got 3 for {len(X)} trials"):
        classifier(validation="subject").fit(X, y, subjects=[1, 2, 3])


def test_settings_of_another_type_are_refused_by_name():
    for name, value in (("recipe", 3), ("recipe", None), ("network_params", 3)):
        with pytest.raises(ValueError, match=f"^{name}: got {value}, expected"):
            classifier(**{name: value}).fit(*data())


def test_few_trials_are_warned_of_with_the_linear_alternative():
    with pytest.warns(UserWarning, match=r"X: 20 training trials are few.*below 30.*baseline\('FBTS\+LR'\)"):
        NetworkClassifier(recipe={"max_epochs": 1}, random_state=0).fit(*data(20))
    with warnings.catch_warnings(record=True) as told:
        NetworkClassifier(recipe={"max_epochs": 1}, random_state=0).fit(*data(40))
    assert not [one for one in told if "are few" in str(one.message)]
