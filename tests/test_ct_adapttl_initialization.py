import numpy as np
import pytest
import torch

from skeeg.array import make_domains, make_eeg
from skeeg.methods.ct_adapttl.initialization import Start, find_subjects, load_start, read_start
from skeeg.methods.ct_adapttl.network import UPSTREAM_KEYS, CTAdaptTLNet


def make_net(n_outputs=2, n_chans=3, seed=0):
    torch.manual_seed(seed)
    return CTAdaptTLNet(n_outputs, n_chans, n_times=120, n_filters=4, n_hidden=5)


def test_published_names_are_read(tmp_path):
    theirs = {old: make_net().state_dict()[new] for old, new in UPSTREAM_KEYS.items()}
    torch.save(theirs, tmp_path / "net.pt")
    start = read_start(tmp_path / "net.pt", ("r", "l"))
    report = load_start(make_net(seed=1), start, ["l", "r"])
    assert len(report.matched) == 12 and not report.missing and not report.unexpected


def test_a_file_that_runs_code_is_refused(tmp_path):
    torch.save({"conv1.weight": make_net()}, tmp_path / "bad.pt")
    with pytest.raises(ValueError, match="could not be read as plain tensors"):
        read_start(tmp_path / "bad.pt", None)


def test_outputs_follow_their_labels():
    start, fresh = Start(make_net(3).state_dict(), ("a", "b", "c")), make_net(3, seed=1)
    before = fresh.final_layer.weight.detach().clone()
    load_start(fresh, start, ["c", "new", "a"])
    weight, theirs = fresh.final_layer.weight.detach(), start.state["final_layer.weight"]
    assert torch.equal(weight[0], theirs[2]) and torch.equal(weight[2], theirs[0]) and torch.equal(weight[1], before[1])
    assert start.knows(["c", "a"]) and not start.knows(["c", "new"]) and not Start({}, None).knows(["a"])


def test_unnamed_outputs_are_not_used():
    fresh = make_net(seed=1)
    before = fresh.final_layer.weight.detach().clone()
    report = load_start(fresh, Start(make_net().state_dict(), None), ["a", "b"])
    assert torch.equal(fresh.final_layer.weight, before)
    assert report.missing == ("final_layer.weight", "final_layer.bias")


def test_another_shape_is_an_error_not_half_a_network():
    with pytest.raises(ValueError, match=r"X: 4 channels of 120 samples do not fit .*spatial.weight"):
        load_start(make_net(n_chans=4), Start(make_net().state_dict(), None), ["a", "b"])


def test_subjects():
    X = make_eeg(np.zeros((2, 1, 4)))
    assert find_subjects(X, None) is None and find_subjects(X, ["p", "q"]).tolist() == ["p", "q"]
    carried = make_eeg(X, domains=make_domains(2, subject=[8, 9]))
    assert find_subjects(carried, ["p", "q"]).tolist() == ["8", "9"]
    with pytest.raises(ValueError, match=r"subjects: got shape \(3,\) for 2 trials"):
        find_subjects(X, [1, 2, 3])
