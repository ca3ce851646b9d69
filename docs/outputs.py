"""Sphinx extension: runs the code of the user guide when the site is built, and shows its output and its figures."""

import contextlib
import io
import os
import tempfile
from pathlib import Path

import gallery
import matplotlib.pyplot as plt
from docutils import nodes
from sphinx.directives.code import CodeBlock
from sphinx.util import logging

logger = logging.getLogger(__name__)
FOLDER = "_outputs"
_pages = {}  # namespace and working directory of each page


class RunBlock(CodeBlock):
    """A code block; in the user guide, Python is run unless ``.. no-run:`` precedes it."""

    def run(self):
        """Give the nodes of the block, of its output and of its figures."""
        shown = super().run()
        if self.arguments[:1] == ["python"] and self.env.docname.startswith("guide/") and int(self.config.run_guide):
            source, line = self.get_source_info()
            if not _marked(source, line):
                shown += self._output("\n".join(self.content))
        return shown

    def _output(self, code):
        try:
            text, figures = _execute(self.env.docname, code)
        except Exception as error:
            logger.warning("this block fails: %r", error, location=self.get_location())
            return []
        shown = []
        if text.strip():
            block = nodes.literal_block(text, text, language="none")
            shown.append(nodes.container("", block, classes=["output"]))
        for figure in figures:
            path = Path(
                self.env.srcdir, FOLDER, f"{self.env.docname.replace('/', '-')}-{self.env.new_serialno(FOLDER)}.png"
            )
            path.parent.mkdir(exist_ok=True)
            figure.savefig(path, dpi=100)
            shown.append(nodes.image(uri=f"/{FOLDER}/{path.name}", alt="Figure drawn by the code above."))
        plt.close("all")
        return shown


def _marked(source, line):
    """Whether the last line before the block is a no-run comment."""
    before = Path(source).read_text(encoding="utf-8").splitlines()[: line - 1]
    return next((one for one in reversed(before) if one.strip()), "").lstrip().startswith(".. no-run:")


def _execute(page, code):
    """Run one block in the namespace of its page; give the printed text and the figures."""
    namespace, folder = _pages[page]
    printed, here = io.StringIO(), os.getcwd()
    gallery.made.clear()
    os.chdir(folder.name)
    try:
        with contextlib.redirect_stdout(printed):
            exec(compile(code, page, "exec"), namespace)
    finally:
        os.chdir(here)
    figures = [figure for figure in gallery.made if figure.axes]
    gallery.made.clear()
    return printed.getvalue(), figures


def _start(app, docname, source):
    _pages[docname] = {"__name__": "page"}, tempfile.TemporaryDirectory()


def setup(app):
    """Replace ``code-block``; ``-D run_guide=0`` shows the guide without its output."""
    app.add_config_value("run_guide", 1, "", (int, str))
    plt.switch_backend("Agg")
    app.add_directive("code-block", RunBlock, override=True)
    app.connect("source-read", _start)
    return {"parallel_read_safe": False}
