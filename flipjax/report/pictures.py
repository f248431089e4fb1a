"""The gallery of a run as a figure."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from flipjax.report.style import CLASSES, CORRECT, EMPTY, FLIP, INK, MISS, NOTE, SPILL, TITLE, plain
from flipjax.results.gallery import Gallery

ERRORS = {"background": EMPTY, "correct": CORRECT, "flip": FLIP, "miss": MISS, "spill": SPILL}
COLUMNS = ("image", "truth", "prediction", "errors", "flip-risk")


def gallery_figure(
    gallery: Gallery, *, class_names: Sequence[str], scene_names: Sequence[str], title: str, note: str
) -> Figure:
    """Draws a row per image: image, truth, prediction, errors, flip-risk; the riskiest left, typical ones right."""
    blocks = [(kind, np.flatnonzero(gallery.kind == kind)) for kind in ("riskiest", "typical")]
    blocks = [(kind, chosen) for kind, chosen in blocks if chosen.size]
    rows = max(chosen.size for _, chosen in blocks)
    figure = Figure(figsize=(6.0 * len(blocks), 0.92 * rows + 1.2), layout="constrained")
    figure.suptitle(title, **TITLE)
    figure.supxlabel(note, **NOTE)
    grid = figure.subplots(rows, 6 * len(blocks), squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for block, (kind, chosen) in enumerate(blocks):
        for row, index in enumerate(chosen):
            _draw_row(grid[row, 6 * block : 6 * block + 6], gallery, int(index), class_names, scene_names)
        grid[0, 6 * block].set_title(kind, fontsize=9, fontweight="bold", color=INK)
        for axes, name in zip(grid[0, 6 * block + 1 : 6 * block + 6], COLUMNS, strict=True):
            axes.set_title(name, fontsize=8, color=INK)
    patches = legend(dict(zip(class_names[1:], CLASSES[1:], strict=False)))
    figure.legend(handles=patches, loc="outside upper right", ncols=3 * len(blocks), frameon=False, fontsize=8)
    return figure


def _draw_row(
    grid: np.ndarray, gallery: Gallery, index: int, class_names: Sequence[str], scene_names: Sequence[str]
) -> None:
    label, scene = divmod(int(gallery.group[index]), 2)
    kind = "common" if label == scene else "rare"
    numbers = f"flip {gallery.flip[index]:.2f}\nrisk {gallery.flip_risk[index]:.2f}"
    caption(grid[0], f"{class_names[1 + label]} on\n{scene_names[scene]}\n({kind})\n{numbers}")
    grid[1].imshow(gallery.image[index])
    maps = (gallery.label, gallery.prediction, gallery.error_map, gallery.risk_map)
    highest, colours = math.log(len(class_names) - 1), CLASSES[: len(class_names)]
    draw_maps(grid[2:], Maps(*(values[index] for values in maps)), colours=colours, highest=highest)


def caption(axes: Axes, text: str) -> None:
    """Writes what a row of pictures shows, to its left."""
    axes.text(1, 0.5, plain(text), transform=axes.transAxes, ha="right", va="center", fontsize=7, color=INK)


class Maps(NamedTuple):
    """Of one image, each (H, W): truth and prediction, class indices; errors as of `error_map`; risk, nats or NaN."""

    truth: np.ndarray
    prediction: np.ndarray
    errors: np.ndarray
    risk: np.ndarray


def draw_maps(grid: Sequence[Axes] | np.ndarray, maps: Maps, *, colours: Sequence[Any], highest: float) -> None:
    """Draws truth, prediction, errors and risk on four axes; a class's colour is at its index, risk up to `highest`."""
    coded: dict[str, Any] = {"cmap": ListedColormap(list(colours)), "vmin": -0.5, "vmax": len(colours) - 0.5}
    errors: dict[str, Any] = {"cmap": ListedColormap(list(ERRORS.values())), "vmin": -0.5, "vmax": 4.5}
    shades = matplotlib.colormaps["magma"].with_extremes(bad=EMPTY)
    risk: dict[str, Any] = {"cmap": shades, "vmin": 0, "vmax": highest}
    for axes, values, look in zip(grid, maps, (coded, coded, errors, risk), strict=True):
        axes.imshow(values, interpolation="nearest", **look)


def legend(colours: Mapping[str, Any]) -> list[Patch]:
    """Returns the patches of a legend: classes by name, then the kinds of errors."""
    named = [*colours.items(), *((name, colour) for name, colour in ERRORS.items() if name != "background")]
    return [Patch(facecolor=colour, label=plain(name)) for name, colour in named]
