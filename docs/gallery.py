"""Pictures for the gallery: skeeg's plots give figures that pyplot does not know of."""

import functools

from matplotlib.figure import Figure

made = []
"""Figures made since the last block of an example."""


def noting(init, figures):
    """Let a constructor note what it makes.

    Parameters
    ----------
    init : callable
        ``Figure.__init__``.
    figures : list
        Where each new figure is noted.

    Returns
    -------
    init : callable
        To take its place.
    """

    @functools.wraps(init)
    def noted(figure, *args, **options):
        init(figure, *args, **options)
        figures.append(figure)

    return noted


def watch():
    """Note all figures from now on."""
    if not hasattr(Figure.__init__, "__wrapped__"):
        Figure.__init__ = noting(Figure.__init__, made)


def tutorials_first(file):
    """Sort key of the files of the gallery."""
    return not file.startswith("tutorial"), file


def scrape(block, block_vars, gallery_conf):
    """Save the figures that a block of an example has made; see sphinx-gallery on image scrapers.

    Parameters
    ----------
    block : tuple
        The block; not used.
    block_vars : dict
        Names of the example, and paths for its images.
    gallery_conf : dict
        Settings of the gallery.

    Returns
    -------
    rst : str
        What shows the images; those of pyplot are left to sphinx-gallery.
    """
    from sphinx_gallery.scrapers import figure_rst

    shown = []
    for figure in made:
        if figure.canvas.manager is None:
            path = next(block_vars["image_path_iterator"])
            figure.savefig(path, dpi=100)
            shown.append(figure_rst([path], gallery_conf["src_dir"]))
    made.clear()
    return "\n".join(shown)
