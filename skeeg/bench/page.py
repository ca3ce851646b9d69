"""What the web page of a report shows; ``page.html`` beside this file says how."""

import itertools
from pathlib import Path

from .catalogue import EVALUATIONS
from .statistics import SCORES, p_text, subject_scores

_TITLES = {
    "within-session": "within session",
    "within-subject": "within subject",
    "cross-session": "across sessions",
    "cross-subject": "across subjects",
    "few-shot:others": "few-shot with source subjects",
    "cross-task": "from executed to imagined movements",
}
_COLORS = ("#2463a8", "#c2571a", "#1f8a5b", "#8a3ffc", "#b0286c", "#7a5c00", "#0a7e8c", "#5b6876")


def page(sections):
    """Web page of all comparisons in a folder: one file without script, which needs no network.

    Parameters
    ----------
    sections : list of dict
        Entry, rows, chance level and statistics of each comparison.

    Returns
    -------
    html : str
        The page; whatever comes from a file or a name is escaped.
    """
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters |= {"signed": _signed, "p_text": p_text}
    template = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    return environment.from_string(template).render(sections=[_section(section) for section in sections])


def _section(section):
    """One comparison as the template needs it."""
    entry = section["entry"]
    shown = {
        "entry": entry,
        "title": title(entry),
        "setting": _setting(entry),
        "protocol": _protocol(entry),
        "score": SCORES.get(entry["scoring"], "score"),
        "chance": section["chance"],
        "failures": _failures(entry),
        "older_versions": _versions(entry["older_versions"]),
        "facts": _facts(entry),
        "rows": [],
    }
    return shown | _results(section) if "summary" in section else shown


def _results(section):
    """Scores and statistics of a comparison that has some."""
    entry, summary, comparisons = section["entry"], section["summary"], section["comparisons"]
    scores = subject_scores(section["rows"])[list(summary.index)]
    cells = zip(scores.index, scores.to_numpy(), strict=True)
    floor = section["chance"] if section["chance"] is not None else float(scores.min().min())
    return {
        "summary": summary,
        "comparisons": comparisons,
        "next": _next(summary, comparisons),
        "axis": _Axis(scores, section["chance"]),
        "rows": [_row(name, one, scores[name], entry["pipelines"].get(name, {})) for name, one in summary.iterrows()],
        "subjects": [(name, [_tint(one, floor) for one in row]) for name, row in cells],
        "test": _test(comparisons["n_subjects"]),
        "curve": None if section["curve"] is None else _Curve(section["curve"], list(summary.index), section["chance"]),
    }


def title(entry):
    """Dataset and evaluation in words.

    Parameters
    ----------
    entry : dict
        Settings of a run.

    Returns
    -------
    title : str
        One line.
    """
    name, _, mode = entry["evaluation"].partition(":")
    words = _TITLES.get(name, name) + (f" ({mode.replace('_', ' ')})" if mode else "")
    words = _TITLES.get(entry["evaluation"], words)
    if name == "cross-session" and entry.get("runs_as_sessions"):
        words = "leave one run out"
    return f"{entry['name']}, {words}"


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
    """Sentence on who trains and who is tested."""
    about = EVALUATIONS.get(entry["evaluation"], ("", {}, ""))[2]
    numbers = ", ".join(map(str, entry.get("n_per_class") or []))
    return f"{about[:1].upper()}{about[1:]}" + (f"; labelled trials of each class: {numbers}" if numbers else "") + "."


def _failures(entry):
    """Subjects of each failure, by pipeline and message."""
    failures = {}
    for failure in entry["failures"]:
        failures.setdefault((failure["pipeline"], failure["error"]), []).extend(failure["subjects"])
    return failures


def _facts(entry):
    """Lines on where the results come from."""
    made = [entry["date"]]
    made += [f"{entry['seconds']:.0f} s"] if entry.get("seconds") is not None else []
    made += [f"{entry['reused']} of {entry['planned']} results from earlier runs"] if entry["reused"] else []
    return {
        "Made": ", ".join(made),
        "Evaluation": f"{entry['evaluation']}, paradigm {entry['paradigm']}",
        "Dataset code": entry["dataset"],
        "Seeds": ", ".join(map(str, entry["seeds"])),
        "Versions": _versions(entry["versions"]),
        "Machine": f"{entry['machine']}, {entry['jobs']} job{'s' if entry['jobs'] != 1 else ''}",
    }


def _versions(versions):
    """Names and versions in one line."""
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _row(name, one, scores, notes):
    """One pipeline of the table of scores, with every subject as a point."""
    points = [
        (subject, value, 5 + 24 * ((i * 0.618034) % 1))  # golden steps: neighbours apart, no two alike
        for i, (subject, value) in enumerate(scores.items())
        if value == value
    ]
    row = {key: float(one[key]) for key in ("mean", "sd", "min", "max", "time")}
    size, estimator = notes.get("n_parameters"), notes.get("estimator", "")
    return row | {
        "name": name, "n_subjects": int(one["n_subjects"]), "points": points, "estimator": estimator,
        "size": size if isinstance(size, int) else None,
    }  # fmt: skip


def _next(summary, comparisons):
    """Pipeline that the best one is compared with."""
    first, names = summary.index[0], comparisons["pipelines"]
    if comparisons["p"] is None or first not in names:
        return None
    second = next(name for name in names if name != first)
    pair = {key: float(comparisons[key].loc[first, second]) for key in ("p", "difference")}
    return {"name": second} | pair


def _test(n_subjects):
    """How the p-values were found."""
    if n_subjects <= 13:
        return f"an exact permutation test; the smallest value {n_subjects} subjects allow is {2.0**-n_subjects:.2g}"
    return "a permutation test" if n_subjects < 20 else "Wilcoxon's signed-rank test"


def _signed(value):
    """Difference with its sign, a real minus where it is negative."""
    return f"{value:+.3f}".replace("-", "−")


class _Axis:
    """Axis of scores: tenths that hold all values and chance; places in percent, so that it fits any screen."""

    def __init__(self, values, chance, high=1.0):
        lowest = min([values.min().min()] + ([] if chance is None else [chance]))
        self.low, self.high = max(0.0, int(lowest * 10 - 1e-9) / 10), high
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
    """Score, ink and paper of its cell: white at chance, blue at one."""
    share = min(1.0, max(0.0, (value - floor) / (1 - floor))) if value == value and floor < 1 else 0.0
    red, green, blue = (round(255 + (full - 255) * share) for full in (36, 99, 168))
    return value, "#fff" if share > 0.62 else "#1d2733", f"rgb({red},{green},{blue})"
