"""Colours and axis styles of report figures."""

import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex

from flipjax.metrics.inputs.classes import Background, is_foreground
from flipjax.page.document import visible

# CORRECT, FLIP, MISS and SPILL are pairwise at least 30 apart in CIELAB, for normal vision and under protanopia,
# deuteranopia and tritanopia. So are the first two classes, which are also 45 apart from all outcomes for normal vision
# (tests/page/test_colours.py).
CORRECT = "#3BA3EE"
FLIP = "#C4160A"
MISS = "#737373"
SPILL = "#F3C20C"
EMPTY = "#F2F2F2"
COMMON = "#8C939B"
RARE = "#9A5FE0"
REPAIRED = "#1B9E77"
WHOLE = "#222222"
CLASSES = (EMPTY, "#7B3FA0", "#1B7F3B", "#DE77AE", "#882255", "#44AA99", "#DDCC77", "#332288")
IGNORED = "#7A7A7A"
INK = "#222222"
FAINT = "#6B6B6B"
PAPER = "#FFFFFF"
# Text on coloured areas keeps its colour in light and dark mode.
DARK = "#111111"
LIGHT = "#FEFEFE"
OUTCOMES = {"background": EMPTY, "correct": CORRECT, "flip": FLIP, "miss": MISS, "spill": SPILL}
# Ordered levels have equal lightness, to be visible on white and on black.
LEVELS = ("#3F74D6", "#8E62B8", "#C2527F", "#D4672F")
CROWDED = 40
"""Letters of labels beside each other above which they are turned."""
CLOSE = 0.12
"""The part of an axis below which two ticks are close."""
SHEET = Path(__file__).with_name("charts.mplstyle")
"""The style sheet of all charts."""


def class_colours(classes: int, *, background: Background = 0) -> list[str]:
    """Returns a colour for each class, as CSS writes it: EMPTY for background, then CLASSES, or as many other hues.

    Example:
        >>> class_colours(3, background=1)
        ['#7B3FA0', '#F2F2F2', '#1B7F3B']
    """
    inside = is_foreground(classes, background)
    F = int(inside.sum())
    if len(CLASSES) > F:
        of_foreground = CLASSES[1 : F + 1]
    else:
        # Golden-ratio steps keep hues apart.
        steps = np.arange(F) * 0.618034 % 1
        of_foreground = [to_hex(colour) for colour in matplotlib.colormaps["turbo"](0.03 + 0.94 * steps)]
    colours = np.full(classes, EMPTY, object)
    colours[inside] = of_foreground
    return colours.tolist()


def shades(count: int) -> list[tuple[float, float, float, float]]:
    """Returns a colour for each level of an ordered axis, blue to orange; one level is blue."""
    colours = LinearSegmentedColormap.from_list("levels", LEVELS)(np.linspace(0, 1, count))
    return [(red, green, blue, alpha) for red, green, blue, alpha in colours.tolist()]


def plain(text: str, *, characters: int = 56) -> str:
    r"""Returns a name for figures, with control marks escaped and at most so many characters.

    Example:
        >>> plain("a $b$\u202e")
        'a $b$\\u202e'
    """
    text = visible(text)
    if len(text) > characters:
        return f"{text[: characters - 3]}..."
    return text


def dress(axes: Axes, *, title: str, x: str, y: str, ticks: Sequence[float] = (), labels: Sequence[str] = ()) -> None:
    """Sets the names of axes, and their ticks if given; labels that would overlap are turned."""
    axes.set_title(plain(title))
    axes.set(xlabel=x, ylabel=y)
    if not len(ticks):
        return
    axes.set_xticks(ticks, [plain(label, characters=24) for label in labels])
    letters = sum(len(label.split("\n")[0]) for label in labels)
    gaps = np.diff(np.sort(np.array(ticks, np.float64)))
    close = len(gaps) > 0 and gaps.min() < CLOSE * np.ptp(ticks) and max(map(len, labels)) > 2
    if letters > CROWDED or close:
        axes.tick_params(axis="x", rotation=45)


def legend(axes: Axes, *, columns: int) -> None:
    """Draws a legend between title and axes, where it hides no mark."""
    drawn = axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=columns)
    # The raised title makes room for it, so the layout must not narrow the panel.
    drawn.set_in_layout(False)
    axes.set_title(axes.get_title("left") or " ", pad=6 + 15 * math.ceil(len(drawn.get_texts()) / columns))
