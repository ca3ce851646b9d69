"""Sphinx extension: the directive ``model-zoo`` lists the weights that ship with skeeg."""

import dataclasses

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList

FIELDS = {
    "Data": "data",
    "Training": "recipe",
    "Licence": "licence",
    "Classes": "classes",
    "Sampling rate": "sfreq",
    "Band": "band",
    "Network": "network_params",
    "Fine-tuning": "finetuning",
    "Date": "date",
    "SHA-256": "sha256",
}
UNITS = {"sfreq": "Hz", "band": "Hz"}


def entries():
    """Give the registered weights as dictionaries; an empty list if this version has none."""
    try:
        from skeeg.weights import find_weights, weights_names
    except ImportError:
        return []
    return [dataclasses.asdict(find_weights(name)) for name in weights_names()]


def card(entry):
    """Lines of reStructuredText that describe one file of weights."""
    name, method = entry["name"], entry["method"]
    variable, data = ("restorer", "X") if method.endswith("Restorer") else ("clf", "X, y")
    use = f'{variable} = {method}(checkpoint="skeeg:{name}").fit({data})'
    lines = [
        name,
        "-" * len(name),
        "",
        f"For `skeeg.{method}`:",
        "",
        ".. code-block:: python",
        "",
        f"   from skeeg import {method}",
    ]
    lines += ["", f"   {use}", "", ".. list-table::", "   :widths: 20 80", "   :class: weights", ""]
    rows = [(title, text(entry[key], UNITS.get(key))) for title, key in FIELDS.items() if entry.get(key)]
    for title, value in rows:
        lines += [f"   * - {title}", f"     - {value}"]
    scores = [f"- {what}: **{score}**" for what, score in entry.get("scores", {}).items()]
    for i, score in enumerate(scores):
        lines += ["   * - Scores", f"     - {score}"] if i == 0 else [f"       {score}"]
    return [*lines, ""]


def text(value, unit=None):
    """One line for a value of the registry."""
    if isinstance(value, dict):
        shown = ", ".join(f"``{key}={one}``" for key, one in value.items())
    elif isinstance(value, tuple | list):
        shown = ("–" if unit else ", ").join(f"{one:g}" if isinstance(one, float) else str(one) for one in value)
    else:
        shown = f"{value:g}" if isinstance(value, float) else str(value)
    return f"{shown} {unit}" if unit else shown


class ModelZoo(Directive):
    """One section for each file of weights."""

    def run(self):
        """Give the sections."""
        lines = [line for entry in entries() for line in card(entry)]
        if not lines:
            lines = ["This version of skeeg contains no weights.", ""]
        parent = nodes.section()
        parent.document = self.state.document
        self.state.nested_parse(StringList(lines, "model-zoo"), 0, parent, match_titles=1)
        return parent.children


def setup(app):
    """Add the directive."""
    app.add_directive("model-zoo", ModelZoo)
    return {"parallel_read_safe": True}
