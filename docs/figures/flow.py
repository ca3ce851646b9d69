"""Boxes and arrows for the figures of the method pages."""


def flow(ax, boxes, height=0.62):
    """Draw boxes in a row, an arrow from each to the next.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw; its frame is removed.
    boxes : list of (str, str, str)
        Title, text and colour of each.
    height : float
        Height of a box, as a share of the axes.
    """
    ax.set(xlim=(0, len(boxes)), ylim=(0, 1))
    ax.axis("off")
    for i, (title, text, color) in enumerate(boxes):
        style = {"boxstyle": "round,pad=0.02,rounding_size=0.04", "fc": color, "alpha": 0.18, "ec": "none"}
        low = (1 - height) / 2
        ax.annotate(
            "", (i + 0.06, 0.5), (i - 0.1, 0.5), arrowprops={"arrowstyle": "-|>", "color": "0.4"}
        ) if i else None
        ax.add_patch(_box(i + 0.1, low, 0.78, height, style))
        ax.text(i + 0.49, 0.5 + height * 0.26, title, ha="center", va="center", weight="bold", fontsize=9)
        ax.text(i + 0.49, 0.5 - height * 0.14, text, ha="center", va="center", fontsize=8)


def _box(x, y, width, height, style):
    from matplotlib.patches import FancyBboxPatch

    options = {name: value for name, value in style.items() if name != "boxstyle"}
    return FancyBboxPatch((x, y), width, height, boxstyle=style["boxstyle"], **options)
