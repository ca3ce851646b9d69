"""The report's figures: scores of every subject, learning curves and meta-analyses, for the page and for a paper."""

import io
import textwrap

import pandas as pd
from matplotlib.figure import Figure

from .statistics import subject_scores

STYLE = {
    "font.size": 8, "axes.spines.top": False, "axes.spines.right": False, "legend.fontsize": 7, "savefig.dpi": 300,
    "text.parse_math": False, "pdf.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "skeeg",  # text stays text
}  # fmt: skip
_WIDTH = 3.5  # inches: one column of a paper, and a phone


def draw(section):
    """Figures of a comparison by name: its scores and, with several numbers of labelled trials, the learning curve."""
    return {"scores": _scores(section)} | ({} if section["curve"] is None else {"curve": _curve(section)})


def as_svg(figure):
    """Figure as an element of a web page."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return text.getvalue()[text.getvalue().index("<svg") :]


def draw_meta_analysis(combined):
    """MOABB's plot of the best pipeline against the next on every dataset."""
    from moabb.analysis.meta_analysis import compute_dataset_statistics
    from moabb.analysis.plotting import meta_analysis_plot

    rows, names = pd.concat([section["rows"] for section in combined["sections"]]), combined["pipelines"]
    statistics = compute_dataset_statistics(rows[rows["pipeline"].isin(names)])
    return meta_analysis_plot(statistics, *names[:2])


def _scores(section):
    """Score of every subject, mean and standard deviation of each pipeline."""
    summary, scores = section["summary"], subject_scores(section["rows"])
    figure, ax = _axes(0.7 + 0.28 * len(summary))
    for place, (name, one) in enumerate(summary.iterrows()):
        heights = [place + 0.5 * ((i * 0.618034) % 1 - 0.5) for i in range(len(scores))]  # neighbours apart
        ax.scatter(scores[name], heights, s=9, alpha=0.55, linewidth=0, color="#2463a8")
        ax.errorbar(one["mean"], place, xerr=one["sd"], color="#1d2733", marker="|", markersize=11, linewidth=1)
    if section["chance"] is not None:
        ax.axvline(section["chance"], color="0.6", linestyle=":", linewidth=1)
    names = [textwrap.fill(str(name), 24) for name in summary.index]
    ax.set(yticks=range(len(summary)), yticklabels=names, xlabel=section["score"])
    ax.set_ylim(len(summary) - 0.5, -0.5)
    return figure


def _curve(section):
    """Score against the number of labelled target trials."""
    from ..evaluations import plot_fewshot

    figure, ax = _axes(2.6)
    plot_fewshot(section["rows"].assign(n_per_class=section["rows"][section["curve"].index.names[1]]), ax=ax)
    ax.set(xlabel=curve_label(section["curve"]), ylabel=section["score"])
    return figure


def curve_label(curve):
    """Say what a learning curve counts."""
    return f"Labelled trials of {'each class' if curve.index.names[1] == 'n_per_class' else 'the target task'}"


def _axes(height):
    """Figure one column wide, which no window needs."""
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    return figure, figure.subplots()
