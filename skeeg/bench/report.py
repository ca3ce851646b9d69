"""The report of a results folder: a web page and a Markdown text, made from the templates beside this file."""

import itertools
import math
from html import escape
from pathlib import Path

from .catalogue import EVALUATIONS, SCORES
from .folder import BenchFolder, write_text
from .predictions import calibration_error, chosen_parameters, class_scores
from .statistics import chance_level, compare, learning_curve, meta_analysis, p_text, subject_scores, summarise

_COLORS = ("#2463a8", "#c2571a", "#1f8a5b", "#8a3ffc", "#b0286c", "#7a5c00", "#0a7e8c", "#5b6876")


def write_report(folder):
    """Write ``report.md`` and ``report.html``, one file that needs no network, into a folder of `skeeg.bench.run`.

    Give the path of the latter.
    """
    path, sections = read_sections(folder)
    shown = {"sections": [_section(section) for section in sections], "metas": list(meta_analyses(sections))}
    write_text(path / "report.html", _render("page.html", shown, autoescape=True))
    write_text(path / "report.md", escape(_render("page.md", shown), quote=False))  # Markdown lets HTML through
    return path / "report.html"


def read_sections(folder):
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


def meta_analyses(sections):
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
        "title": title(entry),
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
    return {
        "scores": scores,
        "axis": _Axis(scores, chance),
        "floor": float(scores.min().min()) if chance is None else chance,
        "table": score_table(section),
        "test": _test(section["comparisons"]["n_subjects"]),
        "others": _other_scores(section["rows"], section["entry"]),
        "curve": None if curve is None else _Curve(curve, names, chance),
    }


def _within_sentence(score):
    """Name of a score within a sentence."""
    return score if score[:2].isupper() or "Cohen" in score or score == "F1" else score.lower()


def title(entry):
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
        failures.setdefault((failure["pipeline"], failure["error"]), []).extend(failure["subjects"])
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


class _Axis:
    """Axis of scores: tenths that hold all values and chance; places in percent, so that it fits any screen."""

    def __init__(self, values, chance, high=1.0):
        lowest = min([values.min().min()] + ([] if chance is None else [chance]))
        self.low, self.high = math.floor(lowest * 10 - 1e-9) / 10, high
        step = 0.1 if self.high - self.low <= 0.62 else 0.2
        self.ticks = [self.low + step * i for i in range(int((self.high - self.low) / step + 1.001))]

    def at(self, value):
        """Place of a score, from the lowest."""
        return f"{100 * self.share(value):.2f}%"

    def share(self, value):
        """Place of a score, 0 for the lowest and 1 for the highest."""
        return (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)


class _Curve:
    """Learning curves: a line a pipeline, from places in percent to heights in pixels."""

    height = 240

    def __init__(self, curve, names, chance):
        self.unit = "each class" if curve.index.names[1] == "n_per_class" else "the target task"
        low, high = curve["mean"] - curve["sem"].fillna(0), curve["mean"] + curve["sem"].fillna(0)
        axis = _Axis(low, chance, min(1.0, int(high.max() * 10 + 1) / 10))
        self.ticks = [(tick, self._y(axis, tick)) for tick in axis.ticks]
        self.chance = None if chance is None else self._y(axis, chance)
        numbers = sorted({number for _, number in curve.index})
        places = {number: f"{8 + 88 * (number - numbers[0]) / (numbers[-1] - numbers[0]):.2f}%" for number in numbers}
        self.numbers = list(places.items())
        self.lines = []
        for name, color in zip(names, itertools.cycle(_COLORS)):
            means = curve["mean"][name].sort_index()
            points = [
                (places[n], self._y(axis, one), self._y(axis, low[name, n]), self._y(axis, high[name, n]), n, one)
                for n, one in means.items()
            ]
            self.lines.append((name, color, points))

    def _y(self, axis, value):
        """Height of a score in pixels from above."""
        return round(8 + (self.height - 40) * (1 - axis.share(value)), 1)


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
