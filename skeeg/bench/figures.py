"""The report's figures and tables as files, for a paper."""

import re

from .page import title
from .report import read_sections, score_table
from .statistics import SCORES, subject_scores

FORMATS = ("pdf", "svg", "png")
_STYLE = {
    "font.size": 8, "axes.spines.top": False, "axes.spines.right": False, "legend.fontsize": 7, "savefig.dpi": 300,
    "pdf.fonttype": 42, "svg.fonttype": "none",  # text stays text
}  # fmt: skip
_WIDTH = 3.5  # inches: one column


def write_figures(folder, form="pdf"):
    """Write score strips, learning curves and score tables of a results folder.

    Parameters
    ----------
    folder : path-like
        Folder that `skeeg.bench.run` wrote to.
    form : {"pdf", "svg", "png"}
        Format of the figures; the tables are LaTeX and CSV.

    Returns
    -------
    paths : list of Path
        Files in ``figures`` below the folder.
    """
    import matplotlib as mpl

    if form not in FORMATS:
        raise ValueError(f"figures: got {form!r}, expected one of {', '.join(FORMATS)}.")
    path, sections = read_sections(folder)
    target, written = path / "figures", []
    target.mkdir(exist_ok=True)
    for number, section in enumerate((one for one in sections if "summary" in one), start=1):
        stem = f"{number}-{re.sub('[^a-z0-9]+', '-', title(section['entry']).lower()).strip('-')}"
        with mpl.rc_context(_STYLE):
            figures = {"scores": _strip(section)} | ({} if section["curve"] is None else {"curve": _curve(section)})
            for name, figure in figures.items():
                written.append(target / f"{stem}-{name}.{form}")
                figure.savefig(written[-1])
        written += _tables(section, target / stem)
    return written


def _strip(section):
    """Score of every subject, mean and standard deviation of each pipeline."""
    summary, scores = section["summary"], subject_scores(section["rows"])
    figure, ax = _axes(0.7 + 0.28 * len(summary))
    for place, (name, one) in enumerate(summary.iterrows()):
        heights = [place + 0.5 * ((i * 0.618034) % 1 - 0.5) for i in range(len(scores))]  # neighbours apart
        ax.scatter(scores[name], heights, s=9, alpha=0.55, linewidth=0, color="#2463a8")
        ax.errorbar(one["mean"], place, xerr=one["sd"], color="#1d2733", marker="|", markersize=11, linewidth=1)
    if section["chance"] is not None:
        ax.axvline(section["chance"], color="0.6", linestyle=":", linewidth=1)
    ax.set(yticks=range(len(summary)), yticklabels=summary.index, xlabel=_label(section))
    ax.set_ylim(len(summary) - 0.5, -0.5)
    return figure


def _curve(section):
    """Score against the number of labelled target trials."""
    from ..evaluations import plot_fewshot

    counted = section["curve"].index.names[1]
    figure, ax = _axes(2.6)
    plot_fewshot(section["rows"].assign(n_per_class=section["rows"][counted]), ax=ax)
    unit = "of each class" if counted == "n_per_class" else "of the target task"
    ax.set(xlabel=f"Labelled trials {unit}", ylabel=_label(section))
    return figure


def _axes(height):
    """Figure one column wide, which no window needs."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    return figure, figure.subplots()


def _label(section):
    """Name of the score."""
    return SCORES.get(section["entry"]["scoring"], "Score")


def _tables(section, stem):
    """Write the table of scores as LaTeX and CSV; give their paths."""
    import pandas as pd

    header, *rows = score_table(section)
    table = pd.DataFrame(rows, columns=header)
    paths = [stem.with_name(f"{stem.name}-scores.{suffix}") for suffix in ("tex", "csv")]
    table.to_latex(paths[0], index=False, escape=True)
    table.to_csv(paths[1], index=False)
    return paths
