"""The report of a results folder: a web page and a Markdown text by the templates beside this file, and its figures."""

import itertools
import re
from html import escape
from pathlib import Path

import matplotlib as mpl
import pandas as pd

from .catalogue import EVALUATIONS, SCORES
from .figures import STYLE, as_svg, curve_label, draw, draw_meta_analysis
from .folder import BenchFolder, write_text
from .predictions import calibration_error, chosen_parameters, class_scores
from .statistics import chance_level, compare, learning_curve, meta_analysis, p_text, subject_scores, summarise


def write_report(folder):
    """Write ``report.md`` and ``report.html``, one file that needs no network, into a folder of `skeeg.bench.run`.

    Give the path of the latter.
    """
    path, sections = _read_sections(folder)
    shown = {"sections": [_section(section) for section in sections], "metas": list(_meta_analyses(sections))}
    write_text(path / "report.html", _render("page.html", shown, autoescape=True))
    write_text(path / "report.md", escape(_render("page.md", shown), quote=False))  # Markdown lets HTML through
    return path / "report.html"


def write_figures(folder, fmt="pdf"):
    """Write scores, learning curves, meta-analyses and tables of a folder that `skeeg.bench.run` wrote to.

    ``fmt`` is ``"pdf"``, ``"svg"``, ``"png"`` or another format of matplotlib; the tables are LaTeX and CSV. Give the
    paths, in ``figures`` below the folder.
    """
    path, sections = _read_sections(folder)
    target, written = path / "figures", []
    target.mkdir(exist_ok=True)
    for number, section in enumerate((one for one in sections if "summary" in one), start=1):
        stem = f"{number}-{_slug(_title(section['entry']))}"
        with mpl.rc_context(STYLE):
            for name, figure in draw(section).items():
                written.append(target / f"{stem}-{name}.{fmt}")
                figure.savefig(written[-1])
        written += _tables(section, target / stem)
    for combined in _meta_analyses(sections):
        written.append(target / f"meta-analysis-{_slug(combined['sections'][0]['entry']['evaluation'])}.{fmt}")
        draw_meta_analysis(combined).savefig(written[-1])
    return written


def _read_sections(folder):
    """Path of a results folder, and settings, rows and statistics of each of its comparisons."""
    folder = BenchFolder(folder)
    runs = folder.runs()
    if not runs:
        raise ValueError(f"folder: no benchmark in {folder.path}: there is no runs.json in it.")
    table, predictions = folder.table(), folder.predictions()
    sections = []
    for key, entry in _latest_first(runs):
        rows, predicted = (one[one["run"] == key] if len(one) else one for one in (table, predictions))
        section = {"entry": entry, "rows": rows, "chance": chance_level(entry)}
        section["score"] = SCORES.get(entry["scoring"], "Score")
        if len(rows):
            section |= {"summary": summarise(rows), "comparisons": compare(rows), "curve": learning_curve(rows)}
            section |= {"classes": _class_scores(predicted, section), "published": _published(section)}
            section["chosen"] = {
                name: chosen_parameters(predicted[predicted["pipeline"] == name])
                for name in set(predicted.get("pipeline", ()))
                if "grid" in entry["pipelines"].get(name, {})
            }
        sections.append(section)
    return folder.path, sections


def _latest_first(runs):
    """Comparisons, the latest command's first; those of one command, its panels, in its order."""
    commands = [list(panels) for _, panels in itertools.groupby(runs.items(), lambda run: run[1]["command"])]
    return itertools.chain.from_iterable(reversed(commands))


def _class_scores(predicted, section):
    """Confusion matrix, scores of each class and calibration of each pipeline, with the most labelled trials."""
    names, found = sorted(section["entry"]["classes"]), {}
    for counted in ("n_per_class", "n_target"):
        if counted in predicted and predicted[counted].notna().any():
            predicted = predicted[predicted[counted] == predicted[counted].max()]
    for pipeline in section["summary"].index if len(predicted) else ():
        own = predicted[predicted["pipeline"] == pipeline]
        if len(own) and set(own["true"]) <= set(names):
            confusion, scores = class_scores(own, names)
            found[pipeline] = {"confusion": confusion, "scores": scores, "calibration": calibration_error(own, names)}
    return found


def _published(section):
    """Accuracy in percent here and in the MIRepNet paper, by pipeline; None for another protocol or dataset."""
    from ..evaluations.published import DOWNSTREAM, PUBLISHED, find_task

    entry = section["entry"]
    task = find_task(entry["name"], entry["classes"]) if entry["evaluation"] == "downstream" else None
    if task is None or entry["scoring"] != "accuracy":
        return None
    place = list(DOWNSTREAM).index(task)
    published = {name: scores.split()[place].replace("±", " ± ") for name, scores in PUBLISHED.items()}
    rows = {}
    for name, one in section["summary"].iterrows():
        spread = f" ± {100 * one['seed_sd']:.2f}" if one["seed_sd"] == one["seed_sd"] else ""
        rows[name] = [f"{100 * one['mean']:.2f}{spread}", published.pop(name, "")]
    return rows | {name: ["", score] for name, score in published.items()}


def _meta_analyses(sections):
    """MOABB's meta-analysis of each evaluation that one command made on several datasets."""
    groups = {}
    for section in sections:
        entry = section["entry"]
        if "summary" in section:
            groups.setdefault((entry["command"], entry["evaluation"], entry["scoring"]), []).append(section)
    for group in groups.values():
        combined = meta_analysis([section["rows"] for section in group])
        if combined is not None:
            yield combined | {
                "sections": group,
                "title": f"{len(group)} datasets, {_protocol_name(group[0]['entry'])}",
                "score_name": _within_sentence(group[0]["score"]),
            }


def _render(template, shown, autoescape=False):
    """Fill one of the templates beside this file."""
    import jinja2

    environment = jinja2.Environment(autoescape=autoescape, undefined=jinja2.StrictUndefined)
    environment.filters |= {
        "signed": _signed, "p_text": p_text, "tint": _tint, "number": _number, "choices": _choices,
        "spread": lambda values: "{:.3f} ± {:.3f}".format(*values),
    }  # fmt: skip
    text = Path(__file__).with_name(template).read_text(encoding="utf-8")
    return environment.from_string(text).render(shown)


def _section(section):
    """One comparison as the template needs it."""
    entry = section["entry"]
    shown = section | {
        "title": _title(entry),
        "setting": _setting(entry),
        "protocol": _protocol(entry),
        "score_name": _within_sentence(section["score"]),
        "failures": _failures(entry),
    }
    return shown | _results(section) if "summary" in section else shown


def _results(section):
    """Scores and statistics of a comparison that has some."""
    names, chance, curve = list(section["summary"].index), section["chance"], section["curve"]
    scores = subject_scores(section["rows"])[names]
    with mpl.rc_context(STYLE):
        figures = {name: as_svg(figure) for name, figure in draw(section).items()}
    return {
        "figures": figures,
        "scores": scores,
        "floor": float(scores.min().min()) if chance is None else chance,
        "table": score_table(section),
        "test": _test(section["comparisons"]["n_subjects"]),
        "others": _other_scores(section["rows"], section["entry"]),
        "curve": None if curve is None else curve["mean"].unstack().loc[names],
        "counted": "" if curve is None else curve_label(curve),
    }


def _within_sentence(score):
    """Name of a score within a sentence."""
    return score if score[:2].isupper() or "Cohen" in score or score == "F1" else score.lower()


def _title(entry):
    """Title of a run: dataset and evaluation."""
    return f"{entry['name']}, {_protocol_name(entry)}"


def _protocol_name(entry):
    """Name the protocol in a title."""
    if entry["evaluation"] == "cross-session" and entry.get("runs_as_sessions"):
        return "leave one run out"
    return EVALUATIONS.get(entry["evaluation"], {}).get("title", entry["evaluation"])


def _other_scores(rows, entry):
    """Mean and standard deviation over subjects of the scores after the first, by pipeline."""
    table = {}
    for name in (entry.get("scorings") or [])[1:]:
        if f"score_{name}" in rows:
            scores = subject_scores(rows.assign(score=rows[f"score_{name}"]))
            table[SCORES.get(name, name)] = {key: (one.mean(), one.std(ddof=1)) for key, one in scores.items()}
    return table


def _setting(entry):
    """One line on data and protocol."""
    n_subjects, n_sessions, seeds = len(entry["subjects"]), entry["n_sessions"], entry["seeds"]
    subjects = f"{n_subjects} subject{'s' if n_subjects > 1 else ''}"
    sessions = "runs" if entry.get("runs_as_sessions") else "sessions"
    parts = [
        entry["about"].rstrip("."),
        subjects + (f", {n_sessions} {sessions} each" if n_sessions > 1 else ""),
        " / ".join(one.replace("_", " ") for one in entry["classes"]),
    ]
    if entry.get("n_channels"):
        parts.append(f"{entry['n_channels']} channels" + (f" at {entry['sfreq']:g} Hz" if entry.get("sfreq") else ""))
    parts.append(", ".join("–".join(f"{edge:g}" for edge in band) + " Hz" for band in entry["bands"]))
    parts.append(f"{len(seeds)} seeds" if len(seeds) > 1 else f"seed {', '.join(map(str, seeds))}")
    return " · ".join(part for part in parts if part)


def _protocol(entry):
    """Sentence on training and test trials."""
    about = EVALUATIONS.get(entry["evaluation"], {}).get("about", "")
    numbers = ", ".join(map(str, entry.get("n_per_class") or []))
    return f"{about[:1].upper()}{about[1:]}" + (f"; labelled trials of each class: {numbers}" if numbers else "") + "."


def _failures(entry):
    """Subjects of each failure, by pipeline and message."""
    failures = {}
    for failure in entry["failures"]:
        failures.setdefault((failure["pipeline"], failure["error"]), {}).update(dict.fromkeys(failure["subjects"]))
    return failures


def _test(n_subjects):
    """How the p-values were found."""
    if n_subjects <= 13:
        return f"an exact permutation test; the smallest value {n_subjects} subjects allow is {2.0**-n_subjects:.2g}"
    return "a permutation test" if n_subjects < 20 else "Wilcoxon's signed-rank test"


def _number(value, digits=3):
    """Write a number with a real minus where it is negative."""
    return f"{value:.{digits}f}".replace("-", "−")


def _signed(value):
    """Difference with its sign, a real minus where it is negative."""
    return f"{value:+.3f}".replace("-", "−")


def _tint(value, floor):
    """Ink and paper of a score's cell: white at chance, blue at one."""
    share = min(1.0, max(0.0, (value - floor) / (1 - floor))) if value == value and floor < 1 else 0.0
    red, green, blue = (round(255 + (full - 255) * share) for full in (36, 99, 168))
    return "#fff" if share > 0.62 else "#1d2733", f"rgb({red},{green},{blue})"


def score_table(section):
    """Rows of the table of scores, header first: pipeline, score, spread, range, cost."""
    entry, summary = section["entry"], section["summary"]
    seeds = len(entry["seeds"]) > 1
    header = ["Pipeline", section["score"], "SD", "Lowest", "Highest", "Subjects"]
    rows = [header + (["SD of seeds"] if seeds else []) + ["Fit, s", "Parameters"]]
    for name, one in summary.iterrows():
        parameters = entry["pipelines"].get(name, {}).get("n_parameters")
        row = [name, f"{one['mean']:.3f}", f"{one['sd']:.3f}", f"{one['min']:.3f}", f"{one['max']:.3f}"]
        row += [f"{one['n_subjects']:.0f}"] + ([f"{one['seed_sd']:.3f}"] if seeds else [])
        rows.append([*row, f"{one['time']:.3g}", f"{parameters:,}" if parameters else "–"])
    return rows


def _choices(counts):
    """Parameters that a grid search chose, with the number of folds."""
    return "; ".join(f"{values} ({number} fold{'s' if number > 1 else ''})" for values, number in counts.items())


def _slug(words):
    """Words as a part of a file name."""
    return re.sub("[^a-z0-9]+", "-", words.lower()).strip("-")


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
