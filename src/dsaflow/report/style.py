"""Look of the report's figures, and atomic saving."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from dsaflow.fileio import atomic_file

BLUE, ORANGE, GREY, RED = "#1f5fa8", "#d9822b", "#8a8a8a", "#b3261e"


@contextmanager
def figure(path: str | os.PathLike, width: float, height: float) -> Iterator:
    """Yield a new matplotlib figure (inches); on success save it at `path`, atomically.

    As SVG where the name ends so, else as PNG.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update(
        {
            "font.size": 9,
            "axes.grid": False,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "image.origin": "lower",
            "savefig.dpi": 110,
        }
    )
    fig = plt.figure(figsize=(width, height), layout="constrained")
    try:
        yield fig
        with atomic_file(path) as temporary:
            fig.savefig(temporary, format="svg" if str(path).endswith(".svg") else "png")
    finally:
        plt.close(fig)


def note(fig, text: str) -> None:
    """Write why there is nothing to draw in the middle of the figure."""
    fig.text(0.5, 0.5, text, ha="center", va="center", wrap=True, color=RED)
