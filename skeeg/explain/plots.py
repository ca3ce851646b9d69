"""Plots of attributions and patterns; each function returns its figure."""

import numpy as np

from ..positions import placed_info
from .attribution import Attribution, attribute, binned

_RED_BLUE = "RdBu_r"
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # colour-blind safe


def plot_topomap(maps, ch_names=None, names=None, unit="attribution"):
    """Draw scalp maps, by MNE, on one scale: one for each class or pattern.

    Parameters
    ----------
    maps : Attribution, dict of label to ndarray, or ndarray, shape (n_maps, n_channels)
        An attribution is summed over time and averaged by class; maps of electrodes by samples are summed over time.
    ch_names : sequence of str or None
        Electrodes, where `maps` has none. Those without a standard position are left out.
    names : bool or None
        Whether electrodes are labelled; None labels up to 32.
    unit : str
        Label of the scale.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.explain import plot_topomap
    >>> plot_topomap({"left": [0, 1, 2, 3]}, ["C3", "Cz", "C4", "Pz"]).axes[0].get_title()
    'left'
    """
    import mne

    maps, ch_names = _channel_maps(maps, ch_names)
    info, kept = placed_info(ch_names)
    names = len(kept) <= 32 if names is None else names
    n_columns = min(len(maps), 6)
    figure, axes = _grid(-(-len(maps) // n_columns), n_columns, 2.3, 2.5)
    limit = max(float(np.abs(np.asarray(one)[kept]).max()) for one in maps.values()) or 1.0
    picture = None
    for axis, (label, one) in zip(axes.ravel(), maps.items(), strict=False):
        shown = [ch_names[i] for i in kept] if names else None
        look = {"vlim": (-limit, limit), "cmap": _RED_BLUE, "contours": 0, "names": shown, "sensors": True}
        picture, _ = mne.viz.plot_topomap(np.asarray(one, dtype=float)[kept], info, axes=axis, show=False, **look)
        axis.set_title(str(label), fontsize=10)
        for text in axis.texts:
            text.set(fontsize=6, verticalalignment="bottom")  # above the dot, which would cover a letter
    for axis in axes.ravel()[len(maps) :]:
        axis.set_visible(False)
    _colorbar(figure, picture, axes, unit)
    return figure


def plot_image(maps, ch_names=None, seconds=None, n_bins=50):
    """Draw images of electrodes by bins of time, on one scale, one for each class.

    Parameters
    ----------
    maps : Attribution, or dict of label to ndarray, shape (n_channels, n_times)
        An attribution is averaged by class.
    ch_names
        See `plot_topomap`.
    seconds : float or None
        Length of a trial; None takes it from the attribution, or counts samples.
    n_bins : int
        Bins of time in which attributions are summed; 0 leaves the samples.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.explain import plot_image
    >>> len(plot_image({"left": np.eye(3, 100), "right": np.ones((3, 100))}, ["C3", "Cz", "C4"]).axes)
    3
    """
    if seconds is None and isinstance(maps, Attribution) and maps.sfreq:
        seconds = maps.values.shape[2] / maps.sfreq
    maps, ch_names = _by_class(maps, ch_names)
    maps = {label: binned(one, n_bins) if n_bins else np.asarray(one) for label, one in maps.items()}
    n_channels = next(iter(maps.values())).shape[0]
    figure, axes = _grid(1, len(maps), 3.6, max(2.2, 0.16 * n_channels + 0.8), sharey=True)
    _draw_images(figure, axes, [list(maps.items())], ch_names, seconds)
    return figure


def plot_time_courses(attribution, picks=None):
    """Time course of the attribution at some electrodes, one panel each, one line for each class.

    Parameters
    ----------
    attribution : Attribution
        It is averaged by class.
    picks : sequence of str or None
        Electrodes to show; None shows the four with the largest attributions.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.explain import Attribution, plot_time_courses
    >>> found = Attribution(np.ones((4, 2, 6)), None, *np.zeros((3, 4)), target=np.zeros(4), ch_names=("C3", "C4"))
    >>> len(plot_time_courses(found, ["C3"]).axes)
    1
    """
    maps, sfreq = attribution.by_class(), attribution.sfreq
    size = np.mean([np.abs(one).sum(axis=1) for one in maps.values()], axis=0)
    ch_names = _names(attribution.ch_names, len(size))
    unknown = [name for name in picks or () if name not in ch_names]
    if unknown:
        raise ValueError(f"picks: unknown electrode {', '.join(unknown)}.")
    rows = sorted(np.argsort(-size)[:4]) if picks is None else [ch_names.index(name) for name in picks]
    figure, axes = _grid(len(rows), 1, 5.5, 1.3, sharex=True, sharey=True)
    for axis, row in zip(axes[:, 0], rows, strict=True):
        for colour, (label, one) in zip(_COLOURS * 9, maps.items(), strict=False):
            axis.plot(np.arange(one.shape[1]) / (sfreq or 1), one[row], color=colour, linewidth=1, label=str(label))
        axis.axhline(0, color="0.7", linewidth=0.6)
        axis.set_ylabel(ch_names[row], rotation=0, ha="right", va="center")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0, 0].legend(frameon=False, fontsize="small", ncols=len(maps), loc="lower right", bbox_to_anchor=(1, 1))
    axes[-1, 0].set_xlabel("seconds" if sfreq else "samples")
    figure.supylabel("attribution", fontsize="small")
    return figure


def plot_curves(curves, ylabel="probability of the class"):
    """Plot `Curves` of deletion and insertion, with their areas in the legend.

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg.explain import Curves, plot_curves
    >>> plot_curves(Curves(*np.eye(4))).axes[0].get_ylabel()
    'probability of the class'
    """
    figure, axes = _grid(1, 1, 4.2, 3.0)
    axis = axes[0, 0]
    for colour, (name, area) in zip((*_COLOURS[:2], "0.6"), curves.areas.items(), strict=True):
        axis.plot(curves.share, vars(curves)[name], color=colour, label=f"{name} ({area:.2f})")
    axis.set(xlabel="share of the samples replaced", ylabel=ylabel)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize="small")
    return figure


def plot_adaptation(before, after, X, background=None, y=None, n_bins=50, settings=None):
    """Plot cross-task adaptation [1]_: attribution of each class (columns) before and after adaptation (rows).

    Parameters
    ----------
    before, after : estimator or Pipeline
        Pre-trained, and adapted to the subject.
    X : anything `as_eeg` accepts, shape (n_trials, n_channels, n_times)
        Trials of the target subject, or of several, whose normalised attributions are averaged.
    background : anything `as_eeg` accepts, or None
        See `attribute`; None takes X, as published.
    y : array-like, shape (n_trials,), or None
        Labels to group by; None groups by the predicted class, as published.
    n_bins : int
        Bins of time.
    settings : dict or None
        Further arguments of `attribute`; by default the log-probability is explained, as published.

    References
    ----------
    .. [1] Miao, M., et al. (2023). Explainable cross-task adaptive transfer learning for motor imagery EEG
       classification. Journal of Neural Engineering, 20, 066021. https://doi.org/10.1088/1741-2552/ad0c61

    Examples
    --------
    >>> import numpy as np
    >>> from skeeg import NetworkClassifier
    >>> from skeeg.explain import plot_adaptation
    >>> X, y = np.random.default_rng(0).normal(size=(20, 3, 128)), np.repeat(["left", "right"], 10)
    >>> before, after = (NetworkClassifier("EEGNet", max_epochs=n, random_state=0).fit(X, y) for n in (1, 3))
    >>> len(plot_adaptation(before, after, X[::7], y=y[::7], n_bins=8).axes)
    5
    """
    settings = {"output": "log_probability"} | (settings or {})
    rows, found = [], None
    for estimator in (before, after):
        found = attribute(estimator, X, background, **settings)
        several = found.domains is not None and len(set(found.domains["subject"])) > 1
        rows.append(found.over_subjects(y=y) if several else found.by_class(y))
    classes = sorted({label for maps in rows for label in maps}, key=str)
    seconds = None if found.sfreq is None else found.values.shape[2] / found.sfreq
    n_channels = found.values.shape[1]
    empty = np.full((n_channels, n_bins), np.nan)  # a class that is never predicted
    drawn = [
        [(f"{label}, {when}", binned(maps[label], n_bins) if label in maps else empty) for label in classes]
        for when, maps in zip(("before", "after"), rows, strict=True)
    ]
    figure, axes = _grid(2, len(classes), 3.6, max(2.2, 0.16 * n_channels + 0.6), sharex=True, sharey=True)
    _draw_images(figure, axes, drawn, found.ch_names, seconds)
    return figure


def _draw_images(figure, axes, rows, ch_names, seconds):
    """Draw images on one scale, electrodes on the vertical axis."""
    limit = np.nanmax([np.abs(one).max() for row in rows for _, one in row if np.isfinite(one).any()], initial=0) or 1.0
    picture = None
    for line, row in zip(axes, rows, strict=True):
        for axis, (label, one) in zip(line, row, strict=True):
            extent = (0, seconds or one.shape[1], len(one) - 0.5, -0.5)
            picture = axis.imshow(one, cmap=_RED_BLUE, vmin=-limit, vmax=limit, aspect="auto", extent=extent,
                                  interpolation="nearest")  # fmt: skip
            axis.set_title(str(label), fontsize=10)
            axis.set_yticks(range(len(one)), _names(ch_names, len(one)), fontsize=6)
    for axis in axes[-1]:
        axis.set_xlabel("seconds" if seconds else "bins of time")
    _colorbar(figure, picture, axes, "attribution")


def _colorbar(figure, picture, axes, unit):
    bar = figure.colorbar(picture, ax=axes, shrink=0.65, aspect=20, label=unit)
    bar.outline.set_visible(False)


def _by_class(maps, ch_names):
    """Give maps of each class and electrodes, those of an attribution where they are not given."""
    return (maps.by_class(), ch_names or maps.ch_names) if isinstance(maps, Attribution) else (maps, ch_names)


def _channel_maps(maps, ch_names):
    """Make a dict of label to one number for each electrode, and list the electrodes' names."""
    maps, ch_names = _by_class(maps, ch_names)
    if not isinstance(maps, dict):
        maps = {f"pattern {i + 1}": one for i, one in enumerate(np.atleast_2d(maps))}
    maps = {label: np.asarray(one).sum(axis=1) if np.ndim(one) == 2 else np.asarray(one) for label, one in maps.items()}
    if ch_names is None:
        raise ValueError("ch_names: a scalp map needs electrode names, and the data have none.")
    return maps, list(ch_names)


def _names(ch_names, n_channels):
    names = list(ch_names or (str(i) for i in range(n_channels)))
    if len(names) != n_channels:
        raise ValueError(f"ch_names: got {len(names)} names for {n_channels} channels.")
    return names


def _grid(n_rows, n_columns, width, height, **options):
    """Figure without pyplot's global state, with axes (n_rows, n_columns)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * n_columns + 0.6, height * n_rows + 0.3), layout="constrained")
    return figure, figure.subplots(n_rows, n_columns, squeeze=False, **options)
