"""Recorded output of examples that need recordings: shown where the recordings are absent when the site is built.

``python docs/recorded.py`` runs these examples (with ``SKEEG_DATA``) and records their output in docs/recorded.
"""

import contextlib
import hashlib
import io
import re
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).parent
FOLDER = HERE / "recorded"
EXAMPLES = {"tutorial_grasp": "ds003810"}  # example: folder of its recordings in SKEEG_DATA
NOTE = "The output below was recorded: this site was built without the recordings."


def code_blocks(name):
    """Code blocks of an example, between the texts that sphinx-gallery finds below a line of #, and their SHA-256."""
    source = (HERE.parent / "examples" / f"{name}.py").read_text(encoding="utf-8").split('"""', 2)[2]
    blocks = re.split(r"^#{20,}\n(?:#.*\n)*", source, flags=re.MULTILINE)
    code = [block.strip() for block in blocks if block.strip()]
    return code, hashlib.sha256("\n".join(code).encode()).hexdigest()


def record(name):
    """Run an example; write the text and the figures of each code block."""
    import gallery
    import matplotlib

    matplotlib.use("Agg")
    gallery.watch()
    folder, namespace = FOLDER / name, {"__name__": "__main__"}
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    code, digest = code_blocks(name)
    for i, block in enumerate(code):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(block, f"{name}, block {i}", "exec"), namespace)
        if printed.getvalue().strip():
            (folder / f"{i}.txt").write_text(printed.getvalue(), encoding="utf-8")
        for k, figure in enumerate(figure for figure in gallery.made if figure.axes):
            figure.savefig(folder / f"{i}-{k}.png", dpi=90)
        gallery.made.clear()
    (folder / "code.sha256").write_text(f"{digest}\n", encoding="utf-8")


def insert(name, source):
    """Page of an example that was not run, with the recorded output after each code block."""
    folder = FOLDER / name
    counted = iter(range(len(source)))

    def with_output(found):
        i = next(counted)
        shown = [f".. note::\n\n   {NOTE}\n", found[0].rstrip() + "\n"] if i == 0 else [found[0].rstrip() + "\n"]
        for picture in sorted(folder.glob(f"{i}-*.png")):
            shown.append(f".. image:: /recorded/{name}/{picture.name}\n   :alt: Figure drawn by the code above.\n")
        text = folder / f"{i}.txt"
        if text.is_file():
            lines = text.read_text(encoding="utf-8").rstrip().splitlines()
            block = "\n".join(f"    {line}".rstrip() for line in lines)
            shown.append(f".. rst-class:: sphx-glr-script-out\n\n.. code-block:: none\n\n{block}\n")
        return "\n".join([*shown, "\n"])

    return re.sub(r"^\.\. code-block:: Python\n(?:\n| .*\n)+", with_output, source, flags=re.M)


def _insert(app, docname, source):
    name = docname.rpartition("/")[2]
    if docname.startswith("auto_examples/") and name in EXAMPLES and "sphx-glr-script-out" not in source[0]:
        source[0] = insert(name, source[0])


def setup(app):
    """Insert the recorded output when a page is read."""
    app.connect("source-read", _insert)
    return {"parallel_read_safe": True}


if __name__ == "__main__":
    for example in sys.argv[1:] or EXAMPLES:
        record(example)
