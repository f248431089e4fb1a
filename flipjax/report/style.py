"""How the figures of a report look, and how they are written."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flipjax.results import replacing

# From the palettes of Okabe and Ito and of Tol, which stay apart under the common colour blindnesses.
CORRECT, FLIP, MISS, SPILL, EMPTY = "#0072B2", "#D55E00", "#ADADAD", "#F0C419", "#F2F2F2"
COMMON, RARE, WHOLE = "#8A94A0", "#4B2E83", "#333333"
CLASSES = (EMPTY, "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#44AA99", "#882255", "#DDCC77")
INK, FAINT = "#222222", "#6B6B6B"
DPI = 150
CROWDED = 60

IGNORED = "#7A7A7A"

TITLE: dict[str, Any] = {"x": 0.012, "ha": "left", "fontsize": 12, "fontweight": "bold", "color": INK}
NOTE: dict[str, Any] = {"x": 0.012, "ha": "left", "fontsize": 8, "color": FAINT}
SMALL: dict[str, Any] = {"fontsize": 9, "color": INK}


def class_colours(classes: int, *, background: int = 0) -> list[Any]:
    """Returns a colour for each class: EMPTY for the background, then CLASSES, or distinct hues where they end.

    Example:
        >>> class_colours(3, background=1)
        ['#009E73', '#F2F2F2', '#CC79A7']
    """
    colours = list(CLASSES[1:classes])
    if classes > len(CLASSES):
        # Steps of the golden ratio.
        colours = list(matplotlib.colormaps["turbo"](0.03 + 0.94 * (np.arange(classes - 1) * 0.618034 % 1)))
    return [*colours[:background], EMPTY, *colours[background:]]


def canvas(
    rows: int,
    columns: int,
    *,
    size: tuple[float, float],
    share: Literal["all", "col"],
    title: str,
    note: str,
    widths: Sequence[float] | None = None,
) -> tuple[Figure, np.ndarray]:
    """Returns a figure with a grid of axes, each of `size` (width, height) inches, a title above and a note below.

    `share` says which axes have one y scale, so that settings can be compared: all, or those of a column. `widths` are
    the columns' relative widths.
    """
    width, height = size
    figure = Figure(figsize=(width * columns, height * rows + 0.8), layout="constrained")
    figure.suptitle(title, **TITLE)
    figure.supxlabel(note, **NOTE)
    return figure, figure.subplots(rows, columns, squeeze=False, sharey=share, width_ratios=widths)


def plain(text: str) -> str:
    r"""Returns a name as matplotlib writes it out: dollar signs are no formulas.

    Example:
        >>> plain("a $b$")
        'a \\$b\\$'
    """
    return text.replace("$", r"\$")


def dress(axes: Axes, *, title: str, x: str, y: str, ticks: Sequence[float], labels: Sequence[str]) -> None:
    """Gives axes their names, ticks and a quiet grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(labelsize=8, colors=INK)
    axes.grid(axis="y", color="#E4E4E4", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_title(title, loc="left", **SMALL)
    axes.set_xlabel(x, **SMALL)
    axes.set_ylabel(y, **SMALL)
    axes.set_xticks(ticks, [plain(label) for label in labels])
    if len(labels) * max(map(len, labels)) > CROWDED:
        axes.tick_params(axis="x", rotation=25)


def save(path: str | Path, figure: Figure) -> None:
    """Writes a figure as PNG (150 dpi) or SVG, by the path's ending; equal figures give equal bytes."""
    kind = Path(path).suffix.removeprefix(".")
    metadata: dict[str, Any] = {"png": {"Software": None}, "svg": {"Date": None}}[kind]
    with replacing(path) as stream, matplotlib.rc_context({"svg.hashsalt": "flipjax"}):
        figure.savefig(stream, format=kind, dpi=DPI, metadata=metadata, facecolor="white")
