"""Figures (`matplotlib.figure.Figure`) of the predictions of BEIRA and of the patterns of its branches."""

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import scale
from sklearn.utils.validation import check_is_fitted

from ...model_selection import NullScores, channel_correlations
from ...positions import placed_info
from .base import name_regions
from .bold import BOLDAligner
from .estimator import BEIRARegressor

_SIDES = ("Left", "Right")
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # distinct for the colour-blind


def top_branches(estimator, n_branches=3):
    """Branches of each region in the order of their importance, the most important first, (n_regions, n_branches).

    ``estimator`` is a fitted BEIRARegressor, or a BOLDAligner or Pipeline that holds one.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.methods.beira import BEIRARegressor, top_branches
    >>> beira = BEIRARegressor()
    >>> beira.spatial_patterns_, beira.branch_importance_ = np.ones((1, 3, 4)), np.array([[0.1, 0.7, 0.2]])
    >>> top_branches(beira, 2).tolist()
    [[1, 2]]
    """
    importance = _find(estimator).branch_importance_
    return np.argsort(-importance, axis=1, kind="stable")[:, :n_branches]


def plot_traces(measured, predicted, sfreq=1.0, region_names=None):
    """Measured and predicted BOLD over time, one panel a region with its correlation.

    Parameters
    ----------
    measured, predicted : array-like, shape (n_trials, n_regions, n_times), or list of (n_regions, n_times)
        Signals; trials and recordings are drawn one after the other.
    sfreq : float
        Samples, or volumes, a second.
    region_names : sequence of str or None
        Names. Regions that differ only in ``Left`` and ``Right`` are drawn side by side.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.methods.beira import plot_traces
    >>> Y = np.random.default_rng(0).normal(size=(1, 3, 50))
    >>> len(plot_traces(Y, Y, 0.5).axes)
    3
    """
    correlations = channel_correlations(measured, predicted)
    measured, predicted = (np.concatenate(list(Y), axis=-1) for Y in (measured, predicted))
    names = name_regions(region_names, len(measured))
    rows, _ = _rows(names)
    n_columns = max(map(len, rows))
    figure, axes = _grid(len(rows), n_columns, 4.6 * n_columns + 1, 1.5, sharex=True)
    seconds = np.arange(measured.shape[-1]) / sfreq
    for line, row in zip(axes, rows, strict=True):
        for axis, region in zip(line, row, strict=False):
            for signals, label, style in ((measured, "measured", "0.6"), (predicted, "predicted", _COLOURS[0])):
                axis.plot(seconds, scale(signals[region]), color=style, lw=1.4, label=label)
            axis.set_title(f"{names[region]}, r = {correlations[region]:.2f}", fontsize="medium", loc="left")
            axis.spines[["top", "right"]].set_visible(False)
        for axis in line[len(row) :]:
            axis.set_visible(False)
    for axis in axes[-1]:
        axis.set_xlabel("time (s)")
    figure.supylabel("BOLD (standard deviations)", fontsize="medium")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, ncols=2, frameon=False, loc="outside upper right")
    return figure


def plot_region_scores(scores, region_names=None):
    """Correlation of each region as bars, with the mean in the title.

    Parameters
    ----------
    scores : array-like, shape (n_regions,), or NullScores
        Correlations; of a `NullScores` also the 95 % quantile of its surrogates, as a line on each bar.
    region_names : sequence of str or None
        Names. Where all come as ``Left`` and ``Right``, both bars of a structure are adjacent.

    Examples
    --------
    >>> from skeeg.methods.beira import plot_region_scores
    >>> plot_region_scores([0.4, 0.5], ["Left Caudate", "Right Caudate"]).axes[0].get_title(loc="left")
    'mean r = 0.45'
    """
    null = None
    if isinstance(scores, NullScores):
        null, scores = np.quantile(scores.scores_per_region, 0.95, axis=0), scores.score_per_region
    scores = np.asarray(scores, dtype=float)
    names = name_regions(region_names, len(scores))
    rows, pairs = _rows(names)
    figure, axes = _grid(1, 1, max(3.0, 0.8 * len(rows) + 1.6), 3.2)
    axis, width = axes[0, 0], 0.8 / len(rows[0])
    for side in range(len(rows[0])):
        members = [row[side] for row in rows]
        places = np.arange(len(rows)) + (side - (len(rows[0]) - 1) / 2) * width
        axis.bar(places, scores[members], 0.9 * width, color=_COLOURS[side], label=_SIDES[side] if pairs else None)
        if null is not None:
            axis.hlines(null[members], places - 0.45 * width, places + 0.45 * width, color="k", ls=":")
    labels = [names[row[0]].removeprefix("Left ") if pairs else names[row[0]] for row in rows]
    turned = {"rotation": 30, "ha": "right"} if len(rows) > 4 else {}
    axis.set_xticks(range(len(rows)), labels, **turned)
    axis.set_ylim(min(-0.2, 1.1 * scores.min()), 1)
    axis.axhline(0, color="0.3", lw=0.8)
    axis.set_ylabel("correlation r")
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_title(f"mean r = {scores.mean():.2f}", loc="left")
    if pairs:
        axis.legend(frameon=False, ncols=2, loc="upper right")
    return figure


def plot_branches(estimator, n_branches=3, fmax=None, info=None):
    """Spatial and frequency patterns of the most important branches, one row a region.

    A topography is scaled to its largest value, which is made positive, for scale and sign of a branch are arbitrary.
    Its title, the share of the importance, has the colour of the curve of the same branch, which is scaled to its
    largest value.

    Parameters
    ----------
    estimator : BEIRARegressor, BOLDAligner or Pipeline
        Fitted on EEG with electrode names.
    n_branches : int
        Branches of each region, the most important on the left.
    fmax : float or None
        Highest frequency in hertz; None draws all.
    info : mne.Info or None
        Positions of the electrodes, in the order of the data; None takes those of MNE's ``standard_1005``, and leaves
        out the others.

    Examples
    --------
    >>> from skeeg.methods.beira import BEIRARegressor, plot_branches, simulate_bold
    >>> simulated = simulate_bold(duration=60, random_state=0)
    >>> beira = BEIRARegressor(max_epochs=1, network_params={"n_branches": 2})
    >>> len(plot_branches(beira.fit(simulated.eeg, simulated.bold)).axes)
    3
    """
    import mne

    beira, branches = _find(estimator), top_branches(estimator, n_branches)
    if info is None and beira.ch_names_in_ is None:
        raise ValueError("info: the EEG had no electrode names at fit, so positions are needed to draw a head.")
    info, kept = placed_info(beira.ch_names_in_) if info is None else (info, slice(None))
    n, shown = branches.shape[1], beira.freqs_ <= (beira.freqs_[-1] if fmax is None else fmax)
    look = {"cmap": "RdBu_r", "vlim": (-1, 1), "contours": 4, "extrapolate": "head", "sensors": "k."}
    figure, axes = _grid(len(branches), n + 1, 1.7 * n + 4.2, 1.9, width_ratios=[1] * n + [2.4])
    for region, row in enumerate(branches):
        front = min(region, len(beira.spatial_patterns_) - 1)  # regions that share one front end share its patterns
        share = beira.branch_importance_[region] / max(beira.branch_importance_[region].sum(), 1e-12)
        *heads, spectra = axes[region]
        for axis, branch, colour in zip(heads, row, _COLOURS * n, strict=False):
            pattern = beira.spatial_patterns_[front, branch][kept]
            pattern = pattern / max(np.abs(pattern).max(), 1e-300) * np.sign(pattern[np.abs(pattern).argmax()] or 1)
            mne.viz.plot_topomap(pattern, info, axes=axis, show=False, **look)
            axis.set_title(f"branch {branch}, {100 * share[branch]:.0f} %", fontsize="small", color=colour)
            curve = beira.frequency_patterns_[front, branch][shown]
            spectra.plot(beira.freqs_[shown], curve / max(curve.max(), 1e-300), color=colour)
        heads[0].set_ylabel(beira.region_names_[region])
        spectra.set(xlabel="frequency (Hz)", ylabel="pattern", ylim=(0, 1.05), yticks=(0, 1))
        spectra.spines[["top", "right"]].set_visible(False)
    return figure


def _find(estimator):
    """Fitted BEIRARegressor within a pipeline, an aligner or a search."""
    if isinstance(estimator, Pipeline):
        return _find(estimator[-1])
    if isinstance(estimator, BEIRARegressor):
        check_is_fitted(estimator, "spatial_patterns_")
        return estimator
    return _find(estimator.regressor_ if isinstance(estimator, BOLDAligner) else estimator.best_estimator_)


def _grid(n_rows, n_columns, width, height, **options):
    """Figure without pyplot's global state, with axes (n_rows, n_columns)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height * n_rows + 0.5), layout="constrained")
    return figure, figure.subplots(n_rows, n_columns, squeeze=False, **options)


def _rows(names):
    """Regions (left, right) of each structure, or (region,) where not all come in pairs; and whether they do."""
    places = {name: region for region, name in enumerate(names)}
    left = [name for name in names if name.startswith("Left ")]
    pairs = [(places[name], places.get("Right" + name.removeprefix("Left"))) for name in left]
    complete = len(pairs) * 2 == len(names) and all(right is not None for _, right in pairs)
    return (pairs, True) if complete else ([(region,) for region in range(len(names))], False)
