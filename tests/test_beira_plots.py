import numpy as np
import pytest
from matplotlib.figure import Figure

from skeeg.array import EEGArray
from skeeg.methods.beira import (
    BEIRARegressor,
    plot_branches,
    plot_region_scores,
    plot_traces,
    top_branches,
)
from skeeg.model_selection import NullScores

NAMES = ("Oz", "Fz", "Cz", "Pz", "C3", "C4")  # not in the order of any montage


def fitted(n_regions=3, ch_names=NAMES, shared=False):
    random = np.random.default_rng(0)
    X = EEGArray(random.normal(size=(1, len(NAMES), 400)), ch_names, 100.0)
    beira = BEIRARegressor(
        network="shared" if shared else "independent", max_epochs=1, window=64, validation=None, random_state=0,
        network_params={"channels": (8, 8), "kernel_sizes": (3,), "strides": (8,)}, n_restarts=1,
    )  # fmt: skip
    beira.fit(X, random.normal(size=(1, n_regions, 400)))
    beira.branch_importance_ = random.permuted(np.tile([0.1, 0.7, 0.2], (n_regions, 1)), axis=1)
    return beira


@pytest.fixture
def drawn(monkeypatch):
    """Topographies that are handed to MNE."""
    import mne

    calls = []
    plot_topomap = mne.viz.plot_topomap
    monkeypatch.setattr(
        mne.viz,
        "plot_topomap",
        lambda data, info, **options: calls.append((data, info)) or plot_topomap(data, info, **options),
    )
    return calls


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("n_regions", [1, 3, 8])
def test_maps_and_curves_are_of_the_same_branches(n_regions, shared, drawn):
    beira = fitted(n_regions, shared=shared)
    figure = plot_branches(beira, n_branches=2)
    assert isinstance(figure, Figure)
    assert len(figure.axes) == 3 * n_regions
    branches = top_branches(beira, 2)
    assert (np.take_along_axis(beira.branch_importance_, branches, 1) == [[0.7, 0.2]]).all()
    for region in range(n_regions):
        row = 0 if shared else region
        curves = figure.axes[3 * region + 2].lines
        for place in range(2):
            branch = branches[region, place]
            map_, info = drawn[2 * region + place]
            assert tuple(info.ch_names) == NAMES
            pattern = beira.spatial_patterns_[row, branch]
            assert abs(np.corrcoef(map_, pattern)[0, 1]) == pytest.approx(1)
            assert map_.max() == pytest.approx(1)  # the largest value is made positive
            curve = beira.frequency_patterns_[row, branch]
            np.testing.assert_allclose(curves[place].get_ydata(), curve / curve.max())
            assert curves[place].get_color() == figure.axes[3 * region + place].title.get_color()


def test_electrodes_are_drawn_where_they_are(drawn):
    beira = fitted(1)
    beira.spatial_patterns_[:] = np.eye(len(NAMES))[0]  # Oz alone
    plot_branches(beira, n_branches=1)
    data, info = drawn[0]
    loudest = info["chs"][int(data.argmax())]
    assert loudest["ch_name"] == "Oz"
    assert loudest["loc"][1] < -0.08  # at the back of the head


def test_electrodes_without_a_standard_position_are_left_out(drawn):
    plot_branches(fitted(1, ch_names=(*NAMES[:5], "X99")), n_branches=1)
    data, info = drawn[0]
    assert len(data) == 5 and tuple(info["ch_names"]) == NAMES[:5]


@pytest.mark.parametrize("n_regions", [1, 2, 5])
def test_other_figures_take_any_number_of_regions(n_regions):
    beira = fitted(n_regions)
    Y = np.random.default_rng(0).normal(size=(2, n_regions, 40))
    assert len(plot_traces(Y, Y + 1, 0.5).axes) == n_regions
    assert plot_branches(beira, fmax=30).axes[3].lines[0].get_xdata().max() == 30
    assert len(plot_region_scores(np.full(n_regions, 0.3)).axes[0].patches) == n_regions


def test_sides_of_a_structure_stand_together():
    names = ["Left A", "Left B", "Right B", "Right A"]
    axis = plot_region_scores([0.1, 0.2, 0.3, 0.4], names).axes[0]
    heights = [[bar.get_height() for bar in bars] for bars in axis.containers]
    assert heights == [[0.1, 0.2], [0.4, 0.3]]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["A", "B"]
    Y = np.random.default_rng(0).normal(size=(1, 4, 40))
    titles = [axis.get_title(loc="left").split(",")[0] for axis in plot_traces(Y, Y, 1.0, names).axes]
    assert titles == ["Left A", "Right A", "Left B", "Right B"]
    lone = plot_traces(Y[:, :3], Y[:, :3], 1.0, names[:3]).axes
    assert [axis.get_title(loc="left").split(",")[0] for axis in lone] == names[:3]


def test_the_level_of_chance_is_marked():
    null = NullScores(0.5, np.zeros(3), np.array([0.5, 0.6]), np.linspace(0, 0.2, 6).reshape(3, 2))
    axis = plot_region_scores(null, ["a", "b"]).axes[0]
    assert [bar.get_height() for bar in axis.patches] == [0.5, 0.6]
    levels = [segment[0][1] for segment in axis.collections[0].get_segments()]
    np.testing.assert_allclose(levels, np.quantile(null.scores_per_region, 0.95, axis=0))


def test_recordings_of_several_lengths_are_laid_end_to_end():
    Y = [np.random.default_rng(i).normal(size=(2, n)) for i, n in enumerate((30, 50))]
    assert len(plot_traces(Y, Y).axes[0].lines[0].get_xdata()) == 80


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="region_names: got 1 names for 2 regions"):
        plot_region_scores([0.1, 0.2], ["a"])
    with pytest.raises(ValueError, match="info: the EEG had no electrode names"):
        plot_branches(fitted(1, ch_names=None))
    import sklearn.exceptions

    with pytest.raises(sklearn.exceptions.NotFittedError):
        plot_branches(BEIRARegressor())
