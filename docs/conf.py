"""Sphinx configuration: builds without a network."""

import skeeg

project = "skeeg"
author = "The skeeg developers"
copyright = "2026, the skeeg developers"
release = version = skeeg.__version__
extensions = ["sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.mathjax", "numpydoc"]
autosummary_generate = True
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"skeeg {version}"
mathjax_path = ""  # formulas stay readable as TeX without a network
