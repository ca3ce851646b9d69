"""The web page of a report: one file, hand-written SVG, no script and no network."""

from html import escape
from pathlib import Path

from .statistics import SCORES, p_text, subject_scores

_STRIP_HEIGHT = 34
_MANY_SUBJECTS = 40  # beyond, the table of subjects is folded away
_EVALUATIONS = {
    "within-session": "within session",
    "within-subject": "within subject",
    "cross-session": "across sessions",
    "cross-subject": "across subjects",
}


def page(sections):
    """Web page of all comparisons in a folder.

    Parameters
    ----------
    sections : list of dict
        Entry, rows, chance level and statistics of each comparison.

    Returns
    -------
    html : str
        The page.
    """
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    body = "\n".join(f'<section class="run">{_section(section)}</section>' for section in sections)
    title = escape(_title(sections[0]["entry"]))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{style}</style></head>\n<body><main>{body}</main></body></html>\n"
    )


def _section(section):
    """One comparison."""
    entry = section["entry"]
    parts = [f"<h1>{escape(_title(entry))}</h1>", f'<p class="soft">{escape(_setting(entry))}</p>']
    if "summary" in section:
        parts += [_lead(section), _notices(entry), _scores(section), _subjects(section), _pairs(section)]
    else:
        parts += [_notices(entry), "<p>No score yet.</p>"]
    return "\n".join([*parts, _provenance(entry)])


def _title(entry):
    """Dataset and evaluation in words."""
    name, _, mode = entry["evaluation"].partition(":")
    words = _EVALUATIONS[name] + (f" ({mode.replace('_', ' ')})" if mode else "")
    return f"{entry['name']}, {words}"


def _setting(entry):
    """One line on data and protocol."""
    classes = " / ".join(one.replace("_", " ") for one in entry["classes"])
    n_subjects, n_sessions = len(entry["subjects"]), entry.get("n_sessions", 1)
    people = f"{n_subjects} subject{'s' if n_subjects > 1 else ''}"
    sessions = f", {n_sessions} sessions each" if n_sessions > 1 else ""
    parts = [entry["about"].rstrip("."), people + sessions, classes]
    if "n_channels" in entry:
        rate = f" at {entry['sfreq']:g} Hz" if entry.get("sfreq") else ""
        parts.append(f"{entry['n_channels']} channels{rate}")
    parts.append(", ".join(f"{low:g}–{high:g} Hz" for low, high in entry["bands"]))
    seeds = entry["seeds"]
    parts.append(f"{len(seeds)} seeds" if len(seeds) > 1 else f"seed {seeds[0]}")
    return " · ".join(part for part in parts if part)


def _lead(section):
    """Say the answer in one sentence, with how sure it is."""
    summary, comparisons = section["summary"], section["comparisons"]
    score = SCORES.get(section["entry"]["scoring"], "score")
    best = summary.iloc[0]
    n = f"{best['n_subjects']:.0f} subject{'s' if best['n_subjects'] > 1 else ''}"
    mean = f"<b>{best['mean']:.3f}</b>{_plus_minus(best['sd'])}"
    text = f"<b>{escape(summary.index[0])}</b> has the highest mean {score}, {mean} over {n}"
    if comparisons["p"] is None or summary.index[0] not in comparisons["pipelines"]:
        return f'<p class="lead">{text}.</p>'
    first, second = summary.index[0], next(one for one in comparisons["pipelines"] if one != summary.index[0])
    p = comparisons["p"].loc[first, second]
    verdict = f"is {'beyond' if p < 0.05 else 'within'} what chance among subjects explains"
    gap = _signed(comparisons["difference"].loc[first, second])
    return f'<p class="lead">{text}. Its lead over {escape(second)} ({gap}) {verdict} (one-sided p {_equals(p)}).</p>'


def _plus_minus(sd):
    """Spread behind a mean; nothing where one subject has none."""
    return "" if sd != sd else f" ± {sd:.3f}"


def _signed(value):
    """Difference with its sign, a real minus where it is negative."""
    return f"{value:+.3f}".replace("-", "−")


def _equals(p):
    """P-value with its sign of relation."""
    text = p_text(p)
    return text if text.startswith("<") else f"= {text}"


def _notices(entry):
    """Tell what is missing or mixed, before the figures."""
    items = []
    grouped = {}
    for failure in entry.get("failures", []):
        grouped.setdefault((failure["pipeline"], failure["error"]), []).extend(failure["subjects"])
    for (name, error), subjects in grouped.items():
        items.append(f"<b>{escape(name)}</b> failed on subject {escape(', '.join(subjects))}: {escape(error)}")
    if entry["done"] < entry["planned"] and not grouped:
        why = "The run was stopped" if entry.get("interrupted") else "The run is not finished"
        items.append(
            f"{why}: {entry['done']} of {entry['planned']} results are there. The same command goes on from here."
        )
    if entry.get("older_versions"):
        old = ", ".join(f"{name} {version}" for name, version in entry["older_versions"].items())
        items.append(
            f"Some results were computed earlier, with {escape(old)}. <code>--overwrite</code> computes them again."
        )
    if not items:
        return ""
    return '<div class="notice"><ul>' + "".join(f"<li>{item}</li>" for item in items) + "</ul></div>"


def _scores(section):
    """Table of scores with every subject as a dot."""
    entry, summary, chance = section["entry"], section["summary"], section["chance"]
    score = SCORES.get(entry["scoring"], "score")
    scores = subject_scores(section["rows"])
    low, high = _axis(scores, chance)
    rows = "\n".join(
        _score_row(name, one, scores[name], entry["pipelines"].get(name, {}), (low, high, chance))
        for name, one in summary.iterrows()
    )
    seeds = ""
    if len(entry["seeds"]) > 1:
        widest = summary["seed_sd"].max()
        seeds = (
            f" Over the {len(entry['seeds'])} seeds the means differ by a standard deviation of {widest:.3f} or less."
        )
    line = f" The dashed line is chance, {chance:.3g}." if chance is not None else ""
    return (
        f'<h2>Scores</h2><table class="scores"><thead><tr><th>Pipeline</th><th class="strip">{_labels(low, high)}</th>'
        f'<th class="number">Mean ± SD</th><th class="number">Range</th><th class="number">Fit, s</th>'
        f'<th class="number">Parameters</th></tr></thead><tbody>{rows}</tbody></table>'
        f'<p class="soft">{score} of each subject (dots; a subject keeps its height from row to row), its mean (bar) '
        f"and standard deviation over subjects (line).{line} A subject's score is the mean over its sessions"
        f"{' and seeds' if seeds else ''}.{seeds} Fit is the mean time of one training; parameters are those a network "
        "trains.</p>"
    )


def _score_row(name, one, scores, notes, axis):
    """One pipeline of the table of scores."""
    size = notes.get("n_parameters")
    seconds = f"{one['time']:.2f}" if one["time"] < 9.995 else f"{one['time']:.0f}"
    n = "" if one["n_subjects"] == len(scores) else f' <span class="sd">({one["n_subjects"]:.0f} subjects)</span>'
    return (
        f'<tr><th title="{escape(notes.get("estimator", ""))}">{escape(name)}{n}</th>'
        f'<td class="strip">{_strip(scores, one, axis)}</td>'
        f'<td class="number mean">{one["mean"]:.3f}<span class="sd">{_plus_minus(one["sd"])}</span></td>'
        f'<td class="number extra range" data-label="range">{one["min"]:.2f}–{one["max"]:.2f}</td>'
        f'<td class="number extra cost" data-label="fit, s">{seconds}</td>'
        f'<td class="number extra size{"" if size else " none"}" data-label="parameters">'
        f"{f'{size:,}' if size else '–'}</td></tr>"
    )


def _axis(scores, chance):
    """Find the ends of the score axis: tenths that hold all subjects and chance."""
    lowest = min([scores.min().min()] + ([] if chance is None else [chance]))
    return max(0.0, int(lowest * 10 - 1e-9) / 10), 1.0


def _at(value, low, high):
    """Place on the axis in percent."""
    return f"{100 * (value - low) / (high - low):.2f}%"


def _ticks(low, high):
    """Scores that are marked on the axis."""
    step = 0.1 if high - low <= 0.62 else 0.2
    return [low + step * i for i in range(int((high - low) / step + 1.001))]


def _labels(low, high):
    """Labels of the score axis."""
    labels = "".join(
        f'<text x="{_at(tick, low, high)}" y="12" text-anchor="middle">{tick:.1f}</text>' for tick in _ticks(low, high)
    )
    return f'<svg height="16" role="presentation">{labels}</svg>'


def _strip(scores, one, axis):
    """Every subject of one pipeline on the score axis; x in percent, so that it fits any screen."""
    low, high, chance = axis
    middle = _STRIP_HEIGHT / 2
    parts = [
        f'<line x1="{x}" x2="{x}" y1="0" y2="{_STRIP_HEIGHT}" stroke="#e9edf1"/>'
        for x in (_at(tick, low, high) for tick in _ticks(low, high))
    ]
    if chance is not None:
        x = _at(chance, low, high)
        parts.append(f'<line x1="{x}" x2="{x}" y1="0" y2="{_STRIP_HEIGHT}" stroke="#b0413e" stroke-dasharray="3 3"/>')
    if one["sd"] == one["sd"]:
        left, right = max(low, one["mean"] - one["sd"]), min(high, one["mean"] + one["sd"])
        parts.append(
            f'<line x1="{_at(left, low, high)}" x2="{_at(right, low, high)}" y1="{middle}" y2="{middle}" '
            'stroke="#1d2733" stroke-width="1.5"/>'
        )
    for i, (subject, value) in enumerate(scores.items()):
        if value == value:
            y = 5 + (_STRIP_HEIGHT - 10) * ((i * 0.618034) % 1)  # golden steps: neighbours apart, no two alike
            parts.append(
                f'<circle cx="{_at(value, low, high)}" cy="{y:.1f}" r="3.6" fill="#2463a8" fill-opacity=".55">'
                f"<title>subject {escape(str(subject))}: {value:.3f}</title></circle>"
            )
    x = _at(one["mean"], low, high)
    parts.append(f'<line x1="{x}" x2="{x}" y1="6" y2="{_STRIP_HEIGHT - 6}" stroke="#1d2733" stroke-width="3"/>')
    label = f"mean {one['mean']:.3f}, {one['n_subjects']:.0f} subjects"
    return f'<svg height="{_STRIP_HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _subjects(section):
    """Table of every subject's score, tinted."""
    scores = subject_scores(section["rows"])[list(section["summary"].index)]
    floor = section["chance"] if section["chance"] is not None else float(scores.min().min())
    head = "".join(f"<th>{escape(name)}</th>" for name in scores.columns)
    body = "".join(
        f"<tr><th>{escape(str(subject))}</th>{''.join(_tinted(value, floor) for value in row)}</tr>"
        for subject, row in zip(scores.index, scores.to_numpy(), strict=True)
    )
    head = f"<thead><tr><th>Subject</th>{head}</tr></thead>"
    table = f'<div class="scroll"><table class="grid">{head}<tbody>{body}</tbody></table></div>'
    if len(scores) > _MANY_SUBJECTS:
        table = f"<details><summary>Show all {len(scores)} subjects</summary>{table}</details>"
    note = "Best pipeline on the left. The darker, the further above chance."
    return f'<h2>Every subject</h2>{table}<p class="soft">{note}</p>'


def _tinted(value, floor):
    """Cell of a score: white at chance, blue at one."""
    if value != value:
        return '<td class="soft">–</td>'
    share = min(1.0, max(0.0, (value - floor) / (1 - floor)))
    red, green, blue = (round(255 + (full - 255) * share) for full in (36, 99, 168))
    ink = "#fff" if share > 0.62 else "#1d2733"
    return f'<td style="background:rgb({red},{green},{blue});color:{ink}">{value:.2f}</td>'


def _pairs(section):
    """Matrix of paired comparisons."""
    comparisons = section["comparisons"]
    if comparisons["p"] is None:
        return '<h2>Paired comparisons</h2><p class="soft">They need two pipelines and two subjects.</p>'
    names, p, difference = comparisons["pipelines"], comparisons["p"], comparisons["difference"]
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join(
        f"<tr><th>{escape(row)}</th>"
        + "".join(_pair(difference.loc[row, column], p.loc[row, column], row == column) for column in names)
        + "</tr>"
        for row in names
    )
    n = comparisons["n_subjects"]
    left = (
        f" Left out, with too few subjects: {escape(', '.join(comparisons['left_out']))}."
        if comparisons["left_out"]
        else ""
    )
    test = f"an exact permutation test; the smallest value {n} subjects allow is {2.0**-n:.2g}" if n <= 13 else (
        "a permutation test" if n < 20 else "Wilcoxon's signed-rank test")  # fmt: skip
    return (
        '<h2>Paired comparisons</h2><div class="scroll"><table class="grid pairs">'
        f"<thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        '<p class="soft">Is the row better than the column? Difference of the means, and MOABB\'s one-sided p-value '
        f"over the same {n} subjects ({test}). Green where p is below 0.05; not corrected for "
        f"{len(names) * (len(names) - 1) // 2} comparisons.{left}</p>"
    )


def _pair(difference, p, same):
    """Cell of a paired comparison."""
    if same:
        return '<td class="self"></td>'
    return f'<td class="{"better" if p < 0.05 else ""}">{_signed(difference)}<small>p {_equals(p)}</small></td>'


def _provenance(entry):
    """Command, versions, machine."""
    versions = ", ".join(f"{name} {version}" for name, version in entry["versions"].items())
    pipelines = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(notes.get('estimator', ''))}</dd>"
        for name, notes in entry["pipelines"].items()
    )
    facts = {
        "Made": f"{entry['date']}" + (f", {entry['seconds']:.0f} s" if "seconds" in entry else "")
        + (f", {entry['reused']} of {entry['planned']} results from earlier runs" if entry["reused"] else ""),
        "Evaluation": f"MOABB {entry['evaluation']}, paradigm {entry['paradigm']}",
        "Dataset code": entry["dataset"],
        "Seeds": ", ".join(map(str, entry["seeds"])),
        "Versions": versions,
        "Machine": entry["machine"] + f", {entry['jobs']} job{'s' if entry['jobs'] != 1 else ''}",
    }  # fmt: skip
    rows = "".join(f"<dt>{name}</dt><dd>{escape(value)}</dd>" for name, value in facts.items())
    return (
        f"<h2>How this was made</h2><pre>{escape(entry['command'])}</pre><dl>{rows}</dl>"
        f"<details><summary>Pipelines in full</summary><dl>{pipelines}</dl></details>"
    )
