"""Pictures for the gallery: skeeg's plots give figures that pyplot does not know of."""

from matplotlib.figure import Figure


def loose_figures(names):
    """Find the figures among the names of an example, in lists and dictionaries too.

    Parameters
    ----------
    names : dict
        Global names of the example.

    Yields
    ------
    figure : matplotlib.figure.Figure
        Each of them once; those of pyplot are left out.
    """
    seen = set()
    for value in list(names.values()):
        parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else [value]
        for part in parts:
            if isinstance(part, Figure) and not hasattr(part, "number") and id(part) not in seen:
                seen.add(id(part))
                yield part


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
        What shows the images.
    """
    from sphinx_gallery.scrapers import figure_rst

    paths = []
    for figure in loose_figures(block_vars["example_globals"]):
        if not getattr(figure, "in_gallery", False):
            figure.in_gallery = True
            paths.append(next(block_vars["image_path_iterator"]))
            figure.savefig(paths[-1], dpi=100)
    return figure_rst(paths, gallery_conf["src_dir"])
