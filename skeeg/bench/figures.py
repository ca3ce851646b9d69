"""The report's figures and tables as files, for a paper."""

import re

import pandas as pd

from .report import meta_analyses, read_sections, score_table, title
from .statistics import subject_scores

FORMATS = ("pdf", "svg", "png")
_STYLE = {
    "font.size": 8, "axes.spines.top": False, "axes.spines.right": False, "legend.fontsize": 7, "savefig.dpi": 300,
    "pdf.fonttype": 42, "svg.fonttype": "none",  # text stays text
}  # fmt: skip
_WIDTH = 3.5  # inches: one column


def write_figures(folder, fmt="pdf"):
    """Write score strips, learning curves, meta-analyses and tables of a folder that `skeeg.bench.run` wrote to.

    ``fmt`` is ``"pdf"``, ``"svg"`` or ``"png"``; the tables are LaTeX and CSV. Give the paths, in ``figures`` below the
    folder.
    """
    import matplotlib as mpl

    if fmt not in FORMATS:
        raise ValueError(f"figures: got {fmt!r}, expected one of {', '.join(FORMATS)}.")
    path, sections = read_sections(folder)
    target, written = path / "figures", []
    target.mkdir(exist_ok=True)
    for number, section in enumerate((one for one in sections if "summary" in one), start=1):
        stem = f"{number}-{_slug(title(section['entry']))}"
        with mpl.rc_context(_STYLE):
            figures = {"scores": _strip(section)} | ({} if section["curve"] is None else {"curve": _curve(section)})
            for name, figure in figures.items():
                written.append(target / f"{stem}-{name}.{fmt}")
                figure.savefig(written[-1])
        written += _tables(section, target / stem)
    for combined in meta_analyses(sections):
        written.append(target / f"meta-analysis-{_slug(combined['sections'][0]['entry']['evaluation'])}.{fmt}")
        _meta_analysis(combined).savefig(written[-1])
    return written


def _slug(words):
    """Words as a part of a file name."""
    return re.sub("[^a-z0-9]+", "-", words.lower()).strip("-")


def _meta_analysis(combined):
    """MOABB's plot of the best pipeline against the next on every dataset."""
    from moabb.analysis.meta_analysis import compute_dataset_statistics
    from moabb.analysis.plotting import meta_analysis_plot

    rows, names = pd.concat([section["rows"] for section in combined["sections"]]), combined["pipelines"]
    statistics = compute_dataset_statistics(rows[rows["pipeline"].isin(names)])
    return meta_analysis_plot(statistics, *names[:2])


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
    ax.set(yticks=range(len(summary)), yticklabels=summary.index, xlabel=section["score"])
    ax.set_ylim(len(summary) - 0.5, -0.5)
    return figure


def _curve(section):
    """Score against the number of labelled target trials."""
    from ..evaluations import plot_fewshot

    counted = section["curve"].index.names[1]
    figure, ax = _axes(2.6)
    plot_fewshot(section["rows"].assign(n_per_class=section["rows"][counted]), ax=ax)
    unit = "of each class" if counted == "n_per_class" else "of the target task"
    ax.set(xlabel=f"Labelled trials {unit}", ylabel=section["score"])
    return figure


def _axes(height):
    """Figure one column wide, which no window needs."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    return figure, figure.subplots()


def _tables(section, stem):
    """Write the table of scores as LaTeX and CSV, and the paired comparisons as CSV; give their paths."""
    header, *rows = score_table(section)
    table = pd.DataFrame(rows, columns=header)
    paths = [stem.with_name(f"{stem.name}-{name}") for name in ("scores.tex", "scores.csv", "comparisons.csv")]
    table.to_latex(paths[0], index=False, escape=True)
    table.to_csv(paths[1], index=False)
    comparisons = section["comparisons"]
    if comparisons["p"] is None:
        return paths[:2]
    matrices = {key: matrix.stack() for key, matrix in comparisons.items() if isinstance(matrix, pd.DataFrame)}
    pairs = pd.DataFrame(matrices).rename_axis(["better", "than"])
    pairs[pairs.index.get_level_values(0) != pairs.index.get_level_values(1)].to_csv(paths[2])
    return paths
