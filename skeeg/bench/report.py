"""The report of a results folder: a web page and a Markdown table."""

import itertools
from html import escape

from .folder import BenchFolder, write_text
from .page import page
from .statistics import SCORES, chance_level, compare, learning_curve, p_text, summarise


def write_report(folder):
    """Write ``report.html`` and ``report.md`` from what a results folder holds.

    Parameters
    ----------
    folder : path-like
        Folder that `skeeg.bench.run` wrote to.

    Returns
    -------
    path : Path
        The web page: one file that needs no network.
    """
    path, sections = read_sections(folder)
    write_text(path / "report.md", markdown(sections))
    write_text(path / "report.html", page(sections))
    return path / "report.html"


def read_sections(folder):
    """Read what a results folder holds, with statistics.

    Parameters
    ----------
    folder : path-like
        Folder that `skeeg.bench.run` wrote to.

    Returns
    -------
    path : Path
        The folder.
    sections : list of dict
        One for each comparison: settings, rows, chance level and, where there are scores, statistics.
    """
    folder = BenchFolder(folder)
    runs = folder.runs()
    if not runs:
        raise ValueError(f"folder: no benchmark in {folder.path}: there is no runs.json in it.")
    table = folder.table()
    sections = []
    for key, entry in _latest_first(runs):
        rows = table[table["run"] == key] if len(table) else table
        section = {"entry": entry, "rows": rows, "chance": chance_level(entry)}
        if len(rows):
            section |= {"summary": summarise(rows), "comparisons": compare(rows), "curve": learning_curve(rows)}
        sections.append(section)
    return folder.path, sections


def _latest_first(runs):
    """Comparisons, the latest command's first; those of one command, its panels, in its order."""
    commands = [list(panels) for _, panels in itertools.groupby(runs.items(), lambda run: run[1]["command"])]
    return itertools.chain.from_iterable(reversed(commands))


def markdown(sections):
    """Write the report as Markdown.

    Parameters
    ----------
    sections : list of dict
        One for each comparison.

    Returns
    -------
    text : str
        Markdown.
    """
    lines = "\n".join(line for section in sections for line in _section(section))
    return escape(lines, quote=False)  # Markdown lets HTML through


def score_table(section):
    """Rows of the table of scores: pipeline, score, spread, range, cost.

    Parameters
    ----------
    section : dict
        Entry and summary of one comparison.

    Returns
    -------
    rows : list of list of str
        Header first.
    """
    entry, summary = section["entry"], section["summary"]
    seeds = len(entry["seeds"]) > 1
    header = ["Pipeline", SCORES.get(entry["scoring"], "Score"), "SD", "Lowest", "Highest", "Subjects"]
    rows = [header + (["SD of seeds"] if seeds else []) + ["Fit, s", "Parameters"]]
    for name, one in summary.iterrows():
        parameters = entry["pipelines"].get(name, {}).get("n_parameters")
        row = [name, f"{one['mean']:.3f}", f"{one['sd']:.3f}", f"{one['min']:.3f}", f"{one['max']:.3f}"]
        row += [f"{one['n_subjects']:.0f}"] + ([f"{one['seed_sd']:.3f}"] if seeds else [])
        rows.append([*row, f"{one['time']:.3g}", f"{parameters:,}" if parameters else "–"])
    return rows


def _section(section):
    """Lines of one comparison."""
    entry = section["entry"]
    yield f"## {entry['dataset']}, {entry['evaluation']}\n"
    yield f"{entry['date']}\n\n    {' '.join(entry['command'].split())}\n"
    if "summary" in section:
        yield from _lines(score_table(section))
        chance = "" if section["chance"] is None else f" Chance is {section['chance']:.3g}."
        yield f"\nMean and standard deviation over subjects; each subject is the mean of its sessions.{chance}\n"
        yield from _curve(section["curve"])
        yield from _comparisons(section["comparisons"])
    for failure in entry.get("failures", []):
        yield f"- {failure['pipeline']}, subject {', '.join(failure['subjects'])}: {' '.join(failure['error'].split())}"
    if entry["done"] < entry["planned"]:
        yield f"\nCompleted {entry['done']} of {entry['planned']} results.\n"
    yield ", ".join(f"{name} {version}" for name, version in entry["versions"].items()) + f". {entry['machine']}.\n"


def _curve(curve):
    """Lines of the learning curve."""
    if curve is None:
        return
    means = curve["mean"].unstack(sort=False)
    unit = "of each class" if curve.index.names[1] == "n_per_class" else "of the target task"
    yield from _lines([[f"Labelled trials {unit}", *means]] + [[name, *(f"{one:.3f}" for one in row)]
                      for name, row in zip(means.index, means.to_numpy(), strict=True)])  # fmt: skip
    yield ""


def _comparisons(comparisons):
    """Lines of the paired comparisons."""
    if comparisons["p"] is None:
        return
    names, p, difference = comparisons["pipelines"], comparisons["p"], comparisons["difference"]
    rows = [["Row better than column", *names]]
    for row in names:
        cells = ["" if row == column else f"{difference.loc[row, column]:+.3f}, p {p_text(p.loc[row, column])}"
                 for column in names]  # fmt: skip
        rows.append([row, *cells])
    yield from _lines(rows)
    yield (
        f"\nDifference of the means and MOABB's one-sided p-value, paired over {comparisons['n_subjects']} subjects, "
        "not corrected for the number of comparisons.\n"
    )


def _lines(rows):
    """Markdown table."""
    head, *body = [" | ".join(str(cell).replace("|", "\\|") for cell in row) for row in rows]
    yield f"| {head} |"
    yield "|" + "---|" * len(rows[0])
    for line in body:
        yield f"| {line} |"
