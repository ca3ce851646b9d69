"""Sphinx configuration: builds without a network."""

import os
import re
import sys
import zlib
from pathlib import Path

from sphinx.ext.intersphinx import InventoryAdapter, missing_reference
from sphinx.util.nodes import make_refnode

import skeeg

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import gallery  # noqa: E402, a module of this folder
import recorded  # noqa: E402

gallery.watch()

project = "skeeg"
author = "The skeeg developers"
copyright = "2026, the skeeg developers"
release = version = skeeg.__version__
extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.viewcode",
    "matplotlib.sphinxext.plot_directive",
    "myst_parser",
    "numpydoc",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "outputs",
    "recorded",
    "zoo",
]
autosummary_generate = True
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
toc_object_entries_show_parents = "hide"
default_role = "py:obj"  # `NetworkClassifier` in a docstring is a link
templates_path = ["_templates"]
exclude_patterns = ["_build", "upstream", "generated/backreferences", "sg_execution_times.rst", "auto_examples/*.ipynb"]

# Links to other projects: the names that our pages use stand in inventories/names.txt, so a build needs no network.
_SITES = {
    "braindecode": "https://braindecode.org/stable/",
    "mne": "https://mne.tools/stable/",
    "moabb": "https://moabb.neurotechx.com/docs/",
    "numpy": "https://numpy.org/doc/stable/",
    "pyriemann": "https://pyriemann.readthedocs.io/en/latest/",
    "python": "https://docs.python.org/3/",
    "shap": "https://shap.readthedocs.io/en/latest/",
    "sklearn": "https://scikit-learn.org/stable/",
    "skorch": "https://skorch.readthedocs.io/en/stable/",
    "torch": "https://docs.pytorch.org/docs/stable/",
}


def _write_inventories(folder):
    """Write the inventory of each project; gives what intersphinx needs."""
    lines = [line.split() for line in (HERE / "inventories" / "names.txt").read_text().splitlines() if line[0] != "#"]
    folder.mkdir(parents=True, exist_ok=True)
    for project in _SITES:
        head = f"# Sphinx inventory version 2\n# Project: {project}\n# Version: \n"
        head += "# The remainder of this file is compressed using zlib.\n"
        body = "".join(
            f"{name} py:{role} 1 {page + name if page.endswith('#') else page} -\n"
            for of, name, role, page in lines
            if of == project
        )
        (folder / f"{project}.inv").write_bytes(head.encode() + zlib.compress(body.encode()))
    return {project: (site, str(folder / f"{project}.inv")) for project, site in _SITES.items()}


intersphinx_mapping = _write_inventories(HERE / "_build" / "inventories")

html_theme = "pydata_sphinx_theme"
html_title = f"skeeg {version}"
html_static_path = ["_static"]
html_css_files = ["skeeg.css"]
html_theme_options = {
    "logo": {"text": f"skeeg {version}"},
    "header_links_before_dropdown": 8,
    "navbar_persistent": ["search-button"],
    "secondary_sidebar_items": {"**": ["page-toc"], "index": []},
    "footer_start": ["copyright"],
    "footer_end": ["theme-version"],
    "show_prev_next": False,
    "navigation_with_keys": False,
}
html_sidebars = {name: [] for name in ("index", "install", "model_zoo", "benchmarks", "whats_new", "limitations")}

# An example that needs recordings is run where SKEEG_DATA has them; elsewhere its recorded output is shown.
_DATA = Path(os.environ.get("SKEEG_DATA", HERE / "no-recordings"))
_RUN = ["plot_", *(name for name, folder in recorded.EXAMPLES.items() if (_DATA / folder).is_dir())]

# Each other example is run in about a minute; `-D plot_gallery=0 -D run_guide=0` builds the site without running code.
sphinx_gallery_conf = {
    "backreferences_dir": "generated/backreferences",
    "doc_module": ("skeeg",),
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "within_subsection_order": "gallery.tutorials_first",
    "filename_pattern": "|".join(_RUN),
    "image_scrapers": ("gallery.scrape", "matplotlib"),  # the second closes the figures of pyplot
    "remove_config_comments": True,
    "download_all_examples": False,
}

# The figures of the method pages are drawn by docs/figures when the site is built.
plot_basedir = str(HERE / "figures")
plot_formats = [("png", 130)]
plot_html_show_formats = False
plot_html_show_source_link = False
plot_rcparams = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
plot_apply_rcparams = True


def _without_hub(app, what, name, obj, options, lines):
    """Remove what braindecode adds to the docstring of every network: badges, and the section on its hub."""
    lines[:] = [line for line in lines if not line.lstrip().startswith(":bdg-")]
    for i, line in enumerate(lines):
        if "Hugging Face Hub integration" in line:
            del lines[i:]
            break


def _inherited_attributes(app, what, name, obj, options, lines):
    """Show inherited attributes as text: numpydoc links them to a target that the page lacks."""
    if what == "class":
        pattern = re.compile(r":obj:`(\w+) <\.\1>`")
        lines[:] = [pattern.sub(lambda m: m[0] if m[1] in vars(obj) else f"**{m[1]}**", line) for line in lines]


def _by_last_name(app, env, node, contnode):
    """Resolve a reference by its last name, as `MIRepNet` or `GridSearchCV`, if only one object has that name."""
    if node.get("refdomain") != "py":
        return None
    last = "." + node["reftarget"]
    external = [
        name for names in InventoryAdapter(env).main_inventory.values() for name in names if name.endswith(last)
    ]
    if len(external) == 1:
        node["reftarget"] = external[0]
        return missing_reference(app, env, node, contnode)
    objects = env.domains["py"].objects.items()
    found = [(name, entry) for name, entry in objects if name.endswith(last) and not entry.aliased]
    if len(found) != 1:
        return None
    name, entry = found[0]
    return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, contnode, name)


def setup(app):
    """Connect all; the first before numpydoc, which parses the sections, the second after it."""
    app.connect("autodoc-process-docstring", _without_hub, priority=400)
    app.connect("autodoc-process-docstring", _inherited_attributes, priority=600)
    app.connect("missing-reference", _by_last_name)
