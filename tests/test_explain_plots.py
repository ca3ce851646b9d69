"""Pictures hold what they are given."""

import numpy as np
import pytest

from skeeg import EEGArray, NetworkClassifier
from skeeg.array import make_domains
from skeeg.explain import (
    Attribution,
    Curves,
    Patterns,
    plot_adaptation,
    plot_curves,
    plot_image,
    plot_time_courses,
    plot_topomap,
)

NAMES = ("FC3", "FCz", "FC4", "C3", "Cz", "C4", "CP3", "CPz", "CP4", "Pz", "Fz")


@pytest.fixture
def found():
    values = np.random.default_rng(0).normal(size=(4, len(NAMES), 100))
    labels = np.array(["left", "right"] * 2)
    return Attribution(values, values, *np.zeros((3, 4)), labels, ch_names=NAMES, sfreq=50.0)


def test_topomap_of_each_class_on_one_scale(found):
    assert repr(found) == "Attribution(expected_gradients, 4 trials, 11 channels, 100 samples, error up to 0)"
    figure = plot_topomap(found)
    assert [axis.get_title() for axis in figure.axes[:2]] == ["left", "right"]
    limits = {axis.images[0].get_clim() for axis in figure.axes[:2]}
    assert len(limits) == 1 and next(iter(limits))[0] == -next(iter(limits))[1]
    assert {"C3", "Cz"} <= {text.get_text() for text in figure.axes[0].texts}


def test_topomap_of_patterns_and_electrodes_without_a_place():
    patterns = Patterns(np.eye(3, len(NAMES)), None, np.ones(3), NAMES)
    assert repr(patterns) == "Patterns(3 patterns, 11 channels)"
    assert [axis.get_title() for axis in patterns.plot(2).axes[:2]] == ["pattern 1", "pattern 2"]
    figure = patterns.plot()
    assert figure.axes[2].get_title() == "pattern 3"
    with pytest.raises(ValueError, match="only 0 of 3 electrodes"):
        plot_topomap(np.ones(3), ("X1", "X2", "X3"))
    with pytest.raises(ValueError, match="needs electrode names"):
        plot_topomap(np.ones(3))


def test_image_sums_over_bins(found):
    figure = plot_image(found, n_bins=20)
    drawn = figure.axes[0].images[0]
    np.testing.assert_allclose(drawn.get_array().sum(axis=1), found.by_class()["left"].sum(axis=1))
    assert drawn.get_extent()[:2] == [0, 2.0] and drawn.get_array().shape == (len(NAMES), 20)
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == list(NAMES)


def test_time_courses_of_chosen_electrodes(found):
    figure = plot_time_courses(found, picks=["C3", "C4"])
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), found.by_class()["left"][3])
    assert figure.axes[1].get_ylabel() == "C4"
    with pytest.raises(ValueError, match="unknown electrode Oz"):
        plot_time_courses(found, picks=["Oz"])


def test_curves_name_their_areas():
    figure = plot_curves(Curves(np.array([0.0, 1.0]), np.array([1.0, 0.0]), np.array([0.0, 1.0]), np.array([1.0, 0.5])))
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()][2] == "random (0.75)"


def test_adaptation_is_one_call():
    rng = np.random.default_rng(0)
    X = EEGArray(rng.normal(size=(16, 5, 64)), NAMES[:5], 64.0, make_domains(16, np.repeat(["a", "b"], 8)))
    y = np.array(["left", "right"] * 8)
    before, after = (NetworkClassifier("EEGNet", max_epochs=n, random_state=0).fit(X, y) for n in (1, 2))
    settings = {"n_background": 2, "tolerance": 1e-2}
    figure = plot_adaptation(before, after, X[::3], y=y[::3], n_bins=16, settings=settings)
    assert [axis.get_title() for axis in figure.axes[:4]] == [
        "left, before",
        "right, before",
        "left, after",
        "right, after",
    ]
    assert figure.axes[3].images[0].get_array().shape == (5, 16)
