"""Sphinx configuration: builds without a network."""

import skeeg

project = "skeeg"
author = "The skeeg developers"
copyright = "2026, the skeeg developers"
release = version = skeeg.__version__
extensions = ["sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc", "sphinx_gallery.gen_gallery"]
autosummary_generate = True
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
templates_path = ["_templates"]
exclude_patterns = ["_build", "sg_execution_times.rst"]
html_theme = "furo"
html_title = f"skeeg {version}"
# Each example is run, in about a minute; `-D plot_gallery=0` shows them without their pictures.
sphinx_gallery_conf = {"examples_dirs": "../examples", "gallery_dirs": "auto_examples", "filename_pattern": "plot_"}
